"""Find the objects, or the class of every pixel, in an image, a folder, a video or what a camera sees:
as the network was trained.

    python predict.py                        some images of the test list, with the newest trained network
    python predict.py source=street.jpg
    python predict.py source=photos save_json=True confidence=0.5
    python predict.py source=photos save_index=True
    python predict.py mode=camera
    python predict.py net=ssd300 model_path=model_data/ssd300_vgg16_coco-b556d3b4.pth source=street.jpg
"""
import utils  # noqa: F401, I001  first: it says in a sentence which package is missing, and answers --help
import time
from collections import Counter
from pathlib import Path

import numpy as np
from tqdm import tqdm

import nets
from utils.checkpoint import newest_best
from utils.errors import UserError
from utils.evaluate import choose_input, detect, segment
from utils.images import HUGE_PIXELS, open_image
from utils.lists import read_list, read_mask_list
from utils.results import masks, media
from utils.results.draw import draw_boxes
from utils.settings import counted
from utils.settings import check, find, number, optional, read_settings, shown, whole
from utils.system.device import choose_device

# What is looked at                                                                      来源
source = ""                 # a path, or a camera's number; "": images of the test list     路径或摄像头编号
mode = "image"              # "image", "folder", "video" or "camera"; source decides        图片、文件夹、视频、摄像头

# The network                                                                            网络
model_path = ""             # weights that train.py saved; "": best.pth of the newest run   权重文件，空为最新一次训练的最佳
net = ""                    # only for official weights: which network, like "ssd300"       仅官方权重：网络名称
net_options = {}            # only for official weights: the network's own options          仅官方权重：网络选项
input_shape = None          # height, width ("short_side": the short side, the longest)     输入尺寸，None 为训练时的
fit = None                  # "letterbox", "stretch", "short_side"; None: as trained        图像放入输入的方式
device = "auto"             # "auto", "cpu", "cuda", "cuda:1"                               设备

# What it leaves                                                                         结果
output = "img_out"          # folder for the results; nothing is ever overwritten           结果文件夹
save_json = False           # also write what was found as a .json file                     保存 JSON
save_csv = False            # also write it as a .csv table                                 保存 CSV
count = False               # also count the objects, or the pixels, of each class          统计各类数量或像素比例
show = False                # also open a window, where there is a display; Esc ends        弹窗显示

# Detection only                                                                         仅检测
confidence = 0.3            # boxes with a lower score are left out                         检测：置信度阈值
nms_iou = None              # same class, more overlap: only the better box stays           检测：非极大抑制阈值
max_boxes = 100             # boxes kept per image, the best ones                           检测：每图最多框数
crop = False                # also save every found object as an image of its own           检测：保存裁剪的目标

# Segmentation only                                                                      仅分割
opacity = 0.6               # of the colours over the image, 0 to 1                         分割：叠加颜色的不透明度
save_index = False          # also save the class numbers as a palette .png, like VOC       分割：保存类别索引图
save_colour = False         # also save the colours alone                                   分割：保存纯色图
save_cut_out = False        # also save the image without its background                    分割：保存去除背景的图
threshold = None            # two classes: least score of the object; None: the training's  两类时的阈值，空为训练时的
slide = False               # look at large images through a window, at their own size      滑动窗口，不缩小大图
scales = (1.0,)             # mean of the scores at these sizes, e.g. (0.75, 1.0, 1.25)     多尺度，更慢更好
flip = False                # mean of the scores of the image and its mirror image          翻转

LOWEST = 0.001              # boxes down to this score are asked for, to say how close the best one came
SAMPLES = 8                 # images of the test list that are taken without a source
NAMED = 10                  # skipped files that are named at the end


def main(s):
    """s: the settings above, with what a recipe or the command line changed."""
    # Every mistake in a setting or a path ends here, before anything is written.
    check(s, confidence=number(0, 1), nms_iou=optional(number(0, 1)), max_boxes=whole(1))
    masks.check_settings(s)
    kind, place = media.find_place(s.source, s.mode)
    target = media.check_output(s.output, place)
    model, info = load_model(s)
    say_unused(s, model.task, info["class_names"])

    # The folder for the results is made last: it holds something, or it is not there.
    if kind in ("video", "camera"):
        with media.output_folder(target) as folder:
            predict_video(s, model, info, kind, place, folder, open_window(s))
    else:
        paths, names, below = list_sources(kind, place, target, info, model.task)
        with media.output_folder(target) as folder:
            predict_images(s, model, info, paths, names, media.fresh(folder, below) if below else folder,
                           open_window(s))


def load_model(s):
    """-> network on the device, what was saved with it. Variables that are None get their values."""
    path = find(media.unquote(s.model_path)) if s.model_path else newest_best()
    model, info = nets.load(path, choose_device(s.device), s.net, s.net_options)
    choose_input(s, model, info)
    size = "short side {}, at most {} long" if s.fit == "short_side" else "input {1} x {0}"
    print(f"{shown(path)}: {info['net']}, {counted(len(info['class_names']), 'class')}, "
          f"{size.format(*s.input_shape)}")
    if model.task == "segmentation":
        s.threshold = masks.choose_threshold(s.threshold, info)
    return model, info


def open_window(s):
    """Whether the pictures are also shown in a window."""
    window = s.show and media.has_display()
    if s.show and not window:
        print("show=True: no window can be opened here (no display, or OpenCV without one), "
              "so the results are only saved.")
    return window


def list_sources(kind, place, target, info, task):
    """-> paths of the images, names of their results without suffix (with the sub-folders below the source),
    name of the folder below `target` for them, or "" for none."""
    if place is None:
        paths, name = samples_of_the_test_list(info, task)
        return paths, [Path(path.stem) for path in paths], name
    if kind == "image":
        return [place], [Path(place.stem)], ""

    # Results of an earlier run below the source would otherwise be looked at as well.
    if target.is_relative_to(place.resolve()):
        print(f"{shown(target)} is inside the source and is not read.")
    paths = media.list_images(place, leave_out=target)
    if not paths:
        raise UserError(f"There is no image in {shown(place)} or below it "
                        f"(looked for {' '.join(media.SUFFIXES)}).")
    names = [path.relative_to(place).with_suffix("") for path in paths]
    return paths, names, place.resolve().name or "images"


def samples_of_the_test_list(info, task):
    """Without a source: -> paths of the first images of the training's test list, name of the list."""
    name = info.get("settings", {}).get("test_list") or ""
    if not name:
        raise UserError(f"These weights of {info['net']} name no test list to take images from: "
                        "set source to an image or a folder, like  python predict.py source=photo.jpg")
    # The list may have gone with the data of that training.
    if not find(name).is_file():
        raise UserError(f'source = "" takes images of the test list of the training run ("{name}"), '
                        'and there is no such file: set source to an image or a folder.')

    read = read_mask_list if task == "segmentation" else read_list
    paths = [find(path) for path in read(find(name))[0][:SAMPLES]]
    print(f"source is not set: the first {counted(len(paths), 'image')} of {name}")
    return paths, Path(name).stem


def predict_images(s, model, info, paths, names, folder, window):
    """Every image: find, draw, save, print. What cannot be read is skipped and named at the end."""
    records, skipped, total = [], [], Counter()
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
            if image.shape[0] * image.shape[1] > HUGE_PIXELS:
                print(f"{shown(path)} has {image.shape[1]} x {image.shape[0]} pixels: it takes its time.")
            picture, found = predict_image(s, model, info, image, path, name, folder)
            records.append({"file": shown(path), "width": image.shape[1], "height": image.shape[0]} | found)
            total += tally(found)
            window = window and media.show_image(picture, 0)
    finally:
        # Also after Ctrl-C: what was found before it is kept.
        if records:
            save_records(s, folder, names[0].name if len(paths) == 1 else None, records)

    if skipped and not records:
        raise UserError(f"None of the {len(paths)} images could be read. The first: {skipped[0][1]}")
    if len(paths) > 1:
        which = ", ".join(path.name for path, _ in skipped[:NAMED]) + " ..." * (len(skipped) > NAMED)
        print(f"{counted(len(records), 'image')}, {len(skipped)} skipped{': ' + which if skipped else ''}. "
              f"Results: {shown(folder)}")
        print_count(s, "all images", model.task, total)


def predict_image(s, model, info, image, path, name, folder):
    """One image: find, draw, save, print. -> picture with the result drawn on it,
    what was found as the .json has it."""
    look_for = find_regions if model.task == "segmentation" else find_objects
    picture, found, note, labels = look_for(s, model, info, image)

    # A photo stays a .jpg; everything else is saved without loss.
    suffix = path.suffix if path.suffix.lower() in (".jpg", ".jpeg") else ".png"
    target = media.fresh(folder / name.parent, name.name, suffix)
    media.save_image(target, picture, path)
    print_record(s, shown(target), found, note)

    if s.crop and "boxes" in found:
        media.save_crops(folder / "crops" / name.parent, name.name, image, found["boxes"])
    if labels is not None:
        masks.save_kinds(folder, name, image, labels, info, index=s.save_index, colour=s.save_colour,
                         cut_out=s.save_cut_out)
    return picture, found


def save_records(s, folder, name, records):
    """The .json and .csv that were asked for. name: of the only image, None where there are several."""
    kind = "boxes" if "boxes" in records[0] else "classes"
    for wanted, save in ((s.save_json, media.save_json), (s.save_csv, media.save_csv)):
        if wanted:
            written = save(folder, name or kind, records)
            print(f"{shown(written)}: the {kind} of {counted(len(records), 'image')}")


def predict_video(s, model, info, kind, place, folder, window):
    """Every frame of a video, or what a camera sees until Ctrl-C or Esc, drawn into a new video."""
    images, fps, frames = media.frames(place)
    look_for = find_regions if model.task == "segmentation" else find_objects
    video = media.VideoFile(folder, video_name(kind, place), fps)
    total, seen, start = Counter(), 0, time.monotonic()
    if s.save_json or s.save_csv or s.crop or s.save_index or s.save_colour or s.save_cut_out:
        print("save_json, save_csv, crop, save_index and so on are for images; here only the video is saved.")
    if kind == "camera":
        print(f"Camera or stream {place}: {'Esc in the window or ' if window else ''}Ctrl-C ends it.")

    try:
        for image in tqdm(images, total=frames or None, unit="frame", disable=None):
            picture, found, *_ = look_for(s, model, info, image, video=True)
            seen += 1
            total += tally(found)
            # A camera goes on while the network computes: repeated frames keep the video at true speed.
            copies = round((time.monotonic() - start) * fps) - video.written if kind == "camera" else 1
            for _ in range(max(1, copies)):
                video.write(picture)
            if window and not media.show_image(picture, 1):
                break
    except KeyboardInterrupt:
        print("\nStopped by Ctrl-C; what was seen so far is kept.")
    finally:
        images.close()
        readable = video.close()

    # OpenCV says nothing when the disk is full, so the frames are counted once more.
    seconds = time.monotonic() - start
    print(f"{counted(seen, 'frame')} in {seconds:.1f} s, {seen / max(seconds, 1e-6):.1f} frames per second")
    print_count(s, "all frames together", model.task, total)
    if readable != video.written:
        raise UserError(f"{shown(video.path)} holds {readable} of {video.written} frames. Is the disk full?")
    print(f"{shown(video.path)}: {counted(readable, 'frame')}, {fps:g} per second" if seen
          else "No frame was read, so there is no video.")


def video_name(kind, place):
    """The name of the new video, without suffix."""
    if kind == "video":
        return place.stem
    return f"camera{place}" if place.isdigit() else "stream"


def find_objects(s, model, info, image, video=False):
    """One image through a detector.

    -> picture to show, found: {"boxes": [...]} as the .json has it, a note when there is nothing to see,
    None (see find_regions).
    """
    names = info["class_names"]
    lowest = s.confidence if video else min(LOWEST, s.confidence)
    (every,) = detect(model, [image], s.input_shape, lowest, s.nms_iou, s.max_boxes, s.fit)
    sure = every["scores"] >= s.confidence
    boxes, scores, labels = (every[name][sure] for name in ("boxes", "scores", "labels"))
    found = [{"label": names[label], "score": round(float(score), 4),
              "xyxy": [round(float(edge), 2) for edge in box]}
             for box, score, label in zip(boxes, scores, labels)]

    # How close the best box came tells whether to lower `confidence` or to train longer.
    note = ""
    if not found and len(every["scores"]):
        best, score = names[every["labels"][0]], every["scores"][0]
        note = f'nothing reaches confidence={s.confidence:g}; the best was "{best}" with {score:.3f}'
    elif not found:
        note = f"nothing reaches confidence={s.confidence:g}; no box has even {LOWEST}"
    return draw_boxes(image, boxes, labels, names, scores), {"boxes": found}, note, None


def find_regions(s, model, info, image, video=False):
    """The same with a network for segmentation. -> picture, {"classes": [...]}, note,
    labels (h, w) uint8 of the pixels."""
    names = info["class_names"]
    (every,) = segment(model, [image], s.input_shape, s.threshold, s.scales, s.flip, s.slide)
    labels, best = every["labels"], every["best"]
    classes = masks.pixel_shares(labels, names)

    # One class alone is rarely what was hoped for: how close was the next one?
    note = ""
    if len(classes) == 1 and len(names) > 1:
        only = names.index(classes[0]["label"])
        other = max((i for i in range(len(names)) if i != only), key=lambda i: best[i])
        note = f'everything is "{names[only]}"; ' \
               f'the best other class is "{names[other]}" with {best[other]:.3g} at its best pixel'

    # The legend of a picture names what is in it, that of a video every class: its frames are of one size.
    legend = masks.legend(image.shape[1], names, None if video else classes)
    picture = np.vstack([masks.blend(image, labels, names, s.opacity), legend])
    return picture, {"classes": classes}, note, labels


def say_unused(s, task, class_names):
    """What was asked for and has no effect with this network."""
    if task == "segmentation":
        if s.fit != "letterbox":
            print(f'fit="{s.fit}" is for boxes; '
                  'for a network that finds the class of every pixel images are letterboxed.')
        if s.crop:
            print("crop=True is for boxes; this network finds the class of every pixel: see save_cut_out.")
        if s.save_cut_out and masks.background_of(class_names) is None:
            print(f'save_cut_out=True needs a first class called "background"; '
                  f'here it is "{class_names[0]}", so nothing is cut out.')
    elif s.save_index or s.save_colour or s.save_cut_out:
        print("save_index, save_colour and save_cut_out are for segmentation; "
              "this network finds boxes: see crop.")


def tally(found):
    """-> Counter of objects or of pixels by class name."""
    if "boxes" in found:
        return Counter(box["label"] for box in found["boxes"])
    return Counter({row["label"]: row["pixels"] for row in found["classes"]})


def print_record(s, target, found, note):
    """What was found in one image."""
    if "classes" in found:
        shares = (f"{row['label']} {masks.percent(row['share'])}" for row in found["classes"])
        print(f"{target}: " + ", ".join(shares))
    else:
        print(f"{target}: {counted(len(found['boxes']), 'box')}")
        for box in found["boxes"]:
            corners = " ".join(f"{edge:.0f}" for edge in box["xyxy"])
            print(f"    {box['label']}  {box['score']:.2f}  {corners}")

    # What the boxes or shares alone do not say.
    if note:
        print(f"    {note}")
    if "boxes" in found:
        print_count(s, "here", "detection", tally(found))


def print_count(s, where, task, total):
    """How many objects, or what share of the pixels, each class has, if that was asked for.
    total: see `tally`."""
    if not s.count:
        return
    if task == "segmentation":
        rows = [f"{label} {masks.percent(pixels / total.total())}" for label, pixels in total.most_common()]
    else:
        rows = [f"{label} {objects}" for label, objects in sorted(total.items())]
    title = "pixels" if task == "segmentation" else "count"
    print(f"    {title}, {where}: " + (", ".join(rows) or "nothing"))


if __name__ == "__main__":
    main(read_settings(globals()))
