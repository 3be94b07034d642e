"""Find the objects, or the class of every pixel, in an image, a folder, a video or what a camera sees: as the network was trained.

    python predict.py                        some images of the test list, with the newest trained network
    python predict.py source=street.jpg
    python predict.py source=photos save_json=True confidence=0.5
    python predict.py source=photos save_index=True
    python predict.py mode=camera
    python predict.py net=ssd300 model_path=model_data/ssd300_vgg16_coco-b556d3b4.pth source=street.jpg
"""
import utils  # noqa: F401, I001  first: it says in a sentence which package is missing
import time
from collections import Counter
from pathlib import Path

import numpy as np
from tqdm import tqdm

import nets
from utils.results import masks, media
from utils.checkpoint import newest_best
from utils.results.draw import draw_boxes
from utils.errors import UserError
from utils.evaluate import choose_input, detect, segment
from utils.system.device import choose_device
from utils.images import open_image
from utils.settings import check, find, number, optional, read_settings, shown, whole
from utils.lists import read_list
from utils.lists import read_mask_list

mode = "image"          # "image", "folder", "video" or "camera"; what source is decides where the two differ    图片、文件夹、视频、摄像头
source = ""             # a path, or the number of a camera; "" with mode image: images of the test list    路径或摄像头编号
model_path = ""         # weights that train.py saved; "" is the best of the newest run    权重文件，空为最新训练结果
net = ""                # only for official weights (.pth, .weights): which network they are of, like "ssd300"    仅官方权重：网络名称
net_options = {}        # the same: the network's own options    仅官方权重：网络选项
input_shape = None      # height, width; or with "short_side" the short side and the longest; None: as trained    输入尺寸
fit = None              # a picture in it: "letterbox", "stretch", "short_side"; None: as trained    图像放入输入的方式
device = "auto"         # "auto", "cpu", "cuda", "cuda:1"    运行设备
output = "img_out"      # folder for the results; nothing in it is ever overwritten    结果文件夹
save_json = False       # also write what was found as a .json file    保存 JSON
save_csv = False        # also write it as a .csv table    保存 CSV
count = False           # also print how many objects, or what share of the pixels, each class has in all images    统计各类数量或像素比例
show = False            # also open a window, where there is a display; Esc ends    弹窗显示

confidence = 0.3        # detection: boxes with a lower score are left out    检测：置信度阈值
nms_iou = None          # of two boxes of one class that overlap more than this, the one with the lower score goes    非极大抑制阈值
max_boxes = 100         # at most so many boxes per image, those with the highest scores    每张图最多框数
crop = False            # also save every found object as an image of its own    保存裁剪的目标

opacity = 0.6           # segmentation: of the colours over the image, 0 to 1    分割：叠加颜色的不透明度
save_index = False      # also save the class numbers as a palette .png, as masks of VOC are    保存类别索引图
save_colour = False     # also save the colours alone    保存纯色图
save_cut_out = False    # also save the image without its background    保存去除背景的图
threshold = None        # of two classes the object's score must be higher; None: as in the training    两类时的门限，空为训练时的
slide = False           # look at large images through a moving window, at their own size    滑动窗口，不缩小大图
scales = (1.0,)         # mean of the scores at these sizes, e.g. (0.75, 1.0, 1.25): slower, better    多尺度
flip = False            # mean of the scores of the image and its mirror image    翻转

LOWEST = 0.001          # boxes are asked for down to this score, to be able to say how far below `confidence` the best one was
SAMPLES = 8             # images of the test list that are taken without a source


def main(s):
    check(s, confidence=number(0, 1), nms_iou=optional(number(0, 1)), max_boxes=whole(1))
    masks.check_settings(s)
    kind, place = media.find_place(s.source, s.mode)
    path = find(media.unquote(s.model_path)) if s.model_path else newest_best()
    model, info = nets.load(path, choose_device(s.device), s.net, s.net_options)
    choose_input(s, model, info)
    size = "short side {}, at most {} long" if s.fit == "short_side" else "input {1} x {0}"
    print(f"{shown(path)}: {info['net']}, {len(info['class_names'])} classes, {size.format(*s.input_shape)}")
    if model.task == "segmentation":
        info["threshold"] = masks.choose_threshold(s.threshold, info)
    say_unused(s, model.task, info["class_names"])
    folder = media.output_folder(s.output, place)           # made when everything else is known to be right
    window = s.show and media.has_display()
    if s.show and not window:
        print("show=True: no window can be opened here (no display, or OpenCV without one), so the results are only saved.")
    if kind in ("video", "camera"):
        predict_video(s, model, info, kind, place, folder, window)
    else:
        paths, names, folder = list_sources(kind, place, folder, info, model.task)
        predict_images(s, model, info, paths, names, folder, window)


def list_sources(kind, place, folder, info, task):
    """-> paths of the images, names of their results without suffix (with the sub-folders below the source), folder for the results."""
    if place is None:
        name = info.get("settings", {}).get("test_list") or ""
        if not name:
            raise UserError(f"These weights of {info['net']} name no test list to take images from: set source to an image or a folder, "
                            "like  python predict.py source=photo.jpg")
        if not find(name).is_file():
            raise UserError(f'source = "" takes images of the test list of the training run ("{name}"), and there is no such file: '
                            "set source to an image or a folder.")
        read = read_mask_list if task == "segmentation" else read_list
        paths = [find(path) for path in read(find(name))[0][:SAMPLES]]
        print(f"source is not set: the first {len(paths)} images of {name}")
        return paths, [Path(path.stem) for path in paths], media.fresh(folder, Path(name).stem)
    if kind == "image":
        return [place], [Path(place.stem)], folder
    if folder.is_relative_to(place.resolve()):
        print(f"{shown(folder)} lies inside the source and is not read.")
    paths = media.list_images(place, leave_out=folder)
    if not paths:
        raise UserError(f"There is no image in {shown(place)} or below it (looked for {' '.join(media.SUFFIXES)}).")
    return paths, [path.relative_to(place).with_suffix("") for path in paths], media.fresh(folder, place.resolve().name or "images")


def predict_images(s, model, info, paths, names, folder, window):
    """Every image: find, draw, save, print. What cannot be read is skipped and named at the end."""
    records, skipped, total = [], [], Counter()
    look = find_regions if model.task == "segmentation" else find_objects
    try:
        for path, name in zip(paths, names):
            try:
                image = open_image(path)
            except UserError as error:
                if len(paths) == 1:
                    raise
                print(f"skipped: {error}")
                skipped.append((path, error))
                continue
            picture, found, note, labels = look(s, model, info, image)
            suffix = path.suffix if path.suffix.lower() in (".jpg", ".jpeg") else ".png"
            target = media.fresh(folder / name.parent, name.name, suffix)
            media.save_image(target, picture, path)
            records.append({"file": shown(path), "width": image.shape[1], "height": image.shape[0]} | found)
            print_record(s, shown(target), found, note)
            total += tally(found)
            if s.crop and "boxes" in found:
                media.save_crops(folder / "crops" / name.parent, name.name, image, found["boxes"])
            if labels is not None:
                masks.save_kinds(folder, name, image, labels, info, index=s.save_index, colour=s.save_colour, cut_out=s.save_cut_out)
            window = window and media.show_image(picture, 0)
    finally:
        for wanted, save in ((s.save_json, media.save_json), (s.save_csv, media.save_csv)):
            if wanted and records:                          # in "finally": also what was found before Ctrl-C
                kind = "boxes" if "boxes" in records[0] else "classes"
                written = save(folder, names[0].name if len(paths) == 1 else kind, records)
                print(f"{shown(written)}: the {kind} of {len(records)} image{'s' * (len(records) > 1)}")
    if skipped and not records:
        raise UserError(f"None of the {len(paths)} images could be read. The first: {skipped[0][1]}")
    if len(paths) > 1:
        which = ": " + ", ".join(path.name for path, _ in skipped[:10]) + (" ..." if len(skipped) > 10 else "") if skipped else ""
        print(f"{len(records)} images, {len(skipped)} skipped{which}. Results: {shown(folder)}")
        print_count(s, "all images", model.task, total)


def predict_video(s, model, info, kind, place, folder, window):
    """Every frame of a video, or what a camera sees until Ctrl-C or Esc, drawn into a new video."""
    images, fps, frames = media.frames(place)
    look = find_regions if model.task == "segmentation" else find_objects
    name = place.stem if kind == "video" else f"camera{place}" if place.isdigit() else "stream"
    video, total, number, start = media.VideoFile(folder, name, fps), Counter(), 0, time.monotonic()
    if s.save_json or s.save_csv or s.crop or s.save_index or s.save_colour or s.save_cut_out:
        print("save_json, save_csv, crop, save_index and so on are for images; here only the video is saved.")
    if kind == "camera":
        print(f"Camera or stream {place}: {'Esc in the window or ' if window else ''}Ctrl-C ends it.")
    try:
        for image in tqdm(images, total=frames or None, unit="frame", disable=None):
            picture, found, *_ = look(s, model, info, image, video=True)
            number += 1
            total += tally(found)
            late = round((time.monotonic() - start) * fps) - video.written if kind == "camera" else 1
            for _ in range(max(1, late)):                   # a camera's frames are repeated, so that its video runs at true speed
                video.write(picture)
            if window and not media.show_image(picture, 1):
                break
    except KeyboardInterrupt:
        print("\nStopped by Ctrl-C; what was seen so far is kept.")
    finally:
        images.close()
        readable = video.close()
    seconds = time.monotonic() - start
    print(f"{number} frames in {seconds:.1f} s, {number / max(seconds, 1e-6):.1f} frames per second")
    print_count(s, "all frames together", model.task, total)
    if readable != video.written:
        raise UserError(f"{shown(video.path)} holds {readable} of {video.written} frames. Is the disk full?")
    print(f"{shown(video.path)}: {readable} frames, {fps:g} per second" if number else "No frame was read, so there is no video.")


def find_objects(s, model, info, image, video=False):
    """One image through a detector.

    -> picture to show, found: {"boxes": [...]} as the .json has it, a note when there is nothing to see, None (see find_regions).
    """
    names = info["class_names"]
    every = detect(model, [image], s.input_shape, s.confidence if video else min(LOWEST, s.confidence), s.nms_iou, s.max_boxes, s.fit)[0]
    boxes, scores, labels = (every[name][every["scores"] >= s.confidence] for name in ("boxes", "scores", "labels"))
    found = [{"label": names[label], "score": round(float(score), 4), "xyxy": [round(float(edge), 2) for edge in box]}
             for box, score, label in zip(boxes, scores, labels)]
    best = f'the best was "{names[every["labels"][0]]}" with {every["scores"][0]:.3f}' if len(every["scores"]) else f"no box has even {LOWEST}"
    note = "" if found else f"nothing reaches confidence={s.confidence:g}; {best}"
    return draw_boxes(image, boxes, labels, names, scores), {"boxes": found}, note, None


def find_regions(s, model, info, image, video=False):
    """The same with a network for segmentation. -> picture, {"classes": [...]}, note, labels (h, w) uint8 of the pixels."""
    names = info["class_names"]
    (every,) = segment(model, [image], s.input_shape, info["threshold"], s.scales, s.flip, s.slide)
    labels, best = every["labels"], every["best"]
    classes, note = masks.pixel_shares(labels, names), ""
    if len(classes) == 1 and len(names) > 1:
        only = names.index(classes[0]["label"])
        other = max((i for i in range(len(names)) if i != only), key=lambda i: best[i])
        note = f'everything is "{names[only]}"; the best other class is "{names[other]}" with {best[other]:.3g} at its best pixel'
    legend = masks.legend(image.shape[1], names, None if video else classes)        # frames of a video must be of one size
    return np.vstack([masks.blend(image, labels, names, s.opacity), legend]), {"classes": classes}, note, labels


def say_unused(s, task, class_names):
    """What was asked for and has no meaning with this network."""
    if task == "segmentation":
        if s.fit != "letterbox":
            print(f'fit="{s.fit}" is for boxes; for a network that finds the class of every pixel images are letterboxed.')
        if s.crop:
            print("crop=True is for boxes; this network finds the class of every pixel: see save_cut_out.")
        if s.save_cut_out and masks.background_of(class_names) is None:
            print(f'save_cut_out=True needs a first class called "background"; here it is "{class_names[0]}", so nothing is cut out.')
    elif s.save_index or s.save_colour or s.save_cut_out:
        print("save_index, save_colour and save_cut_out are for segmentation; this network finds boxes: see crop.")


def tally(found):
    """-> Counter of objects or of pixels by class name."""
    if "boxes" in found:
        return Counter(box["label"] for box in found["boxes"])
    return Counter({row["label"]: row["pixels"] for row in found["classes"]})


def print_record(s, target, found, note):
    if "boxes" in found:
        number = len(found["boxes"])
        print(f"{target}: {number} {'box' if number == 1 else 'boxes'}")
        for box in found["boxes"]:
            print(f"    {box['label']}  {box['score']:.2f}  " + " ".join(f"{edge:.0f}" for edge in box["xyxy"]))
    else:
        print(f"{target}: " + ", ".join(f"{row['label']} {masks.percent(row['share'])}" for row in found["classes"]))
    if note:
        print(f"    {note}")
    if "boxes" in found:
        print_count(s, "here", "detection", tally(found))


def print_count(s, where, task, number):
    if not s.count:
        return
    if task == "segmentation":
        rows = [f"{label} {masks.percent(pixels / number.total())}" for label, pixels in number.most_common()]
    else:
        rows = [f"{label} {n}" for label, n in sorted(number.items())]
    print(f"    {'pixels' if task == 'segmentation' else 'count'}, {where}: " + (", ".join(rows) or "nothing"))


if __name__ == "__main__":
    main(read_settings(globals()))
