"""Find the objects, or the class of every pixel, in images, folders, videos or what a camera sees:
as the network was trained.

    python predict.py                        some images of the test list, with the newest trained network
    python predict.py source=street.jpg
    python predict.py source=photos save_json=True confidence=0.5
    python predict.py source="photos/*.jpg" classes=person,dog
    python predict.py source=photos save_index=True
    python predict.py mode=camera
    python predict.py net=ssd300 model_path=model_data/ssd300_vgg16_coco-b556d3b4.pth source=street.jpg
"""
import utils  # noqa: F401, I001  first: it says in a sentence which package is missing, and answers --help
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
from tqdm import tqdm

import nets
from utils.checkpoint import newest_best
from utils.depth import saved_range
from utils.errors import UserError
from utils.evaluate import choose_input, detect, segment
from utils.formats.sweep import range_of_set
from utils.images import HUGE_PIXELS, open_image
from utils.lists import read_list, read_mask_list
from utils.results import masks, media, sources
from utils.results.address import open_address
from utils.results.draw import draw_boxes
from utils.results.filters import check_filters, thresholds_of
from utils.results.video import VideoFile, VideoSource
from utils.settings import counted
from utils.settings import check, find, number, one_of, optional, read_settings, shown, whole
from utils.system import signals
from utils.system.device import choose_device

# What is looked at                                                                      来源
source = ""                 # path, pattern, list, address, camera; "": the test list       路径、通配符、列表、网址或摄像头
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
class_confidence = {}       # another one for some classes, like {"cat": 0.6}               检测：某些类别另用的阈值
classes = None              # only these, names or numbers, like ["cat", "dog"]; None: all  检测：只要这些类别
nms = "hard"                # "hard", "diou" (kinder to neighbours), "soft" (lowers scores) 检测：非极大抑制的方式
nms_iou = None              # more overlap than this: only the better box stays             检测：非极大抑制阈值
agnostic_nms = False        # also between boxes of different classes                       检测：不同类别之间也抑制
max_boxes = 100             # boxes kept per image, the best ones                           检测：每图最多框数
max_per_class = None        # boxes kept per image and class; None: as many as there are    检测：每图每类最多框数
line_width = None           # of the boxes in pixels; None: fits the image                  检测：框线宽度
show_labels = True          # False: boxes without name and score                           检测：显示类别与得分
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
NMS = ("hard", "diou", "soft")


def main(s):
    """s: the settings above, with what a recipe or the command line changed."""
    # Every mistake in a setting or a path ends here, before anything is written.
    check(s, confidence=number(0, 1), nms_iou=optional(number(0, 1)), max_boxes=whole(1),
          nms=one_of(NMS), max_per_class=optional(whole(1)), line_width=optional(whole(1)))
    masks.check_settings(s)
    target = media.check_output(s.output)
    texts = sources.split_sources(s.source)
    items, left_out = sources.find_items(texts, s.mode, target) if texts or s.mode != "image" else ([], [])
    model, info = load_model(s)
    if model.task == "detection":
        check_filters(s, info["class_names"])
    say_unused(s, model.task, info["class_names"])
    items = items or samples_of_the_test_list(info, model.task)

    # The folder for the results is made last: it holds something, or it is not there.
    with media.output_folder(target) as folder:
        predict_all(s, model, info, items, folder)
    sources.tell_left_out(left_out)


def predict_all(s, model, info, items, folder):
    """Images first, then videos; each group of items has a folder of its own below `folder`."""
    window = open_window(s)
    groups = dict.fromkeys(item.group for item in items)
    folders = {"": folder} | {group: media.fresh(folder, group) for group in groups if group}
    images = [item for item in items if item.kind == "image"]
    videos = [item for item in items if item.kind != "image"]
    if images:
        predict_images(s, model, info, images, folders, window)

    # A single video that cannot be read ends in its sentence, one of several is skipped.
    skipped = []
    for item in videos:
        try:
            predict_video(s, model, info, item, folders[item.group], window)
        except UserError as error:
            if len(items) == 1:
                raise
            print(f"skipped: {error}")
            skipped.append(error)
    if skipped and len(skipped) == len(items):
        raise UserError(f"None of the {len(items)} videos could be read. The first: {skipped[0]}")
    if len(videos) > 1:
        read = counted(len(videos) - len(skipped), "video")
        print(f"{read}, {len(skipped)} skipped. Results: {shown(folder)}")


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


def samples_of_the_test_list(info, task):
    """Without a source: -> items for the first images of the training's test list."""
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
    return [sources.Item("image", path, Path(name).stem, Path(path.stem)) for path in paths]


def predict_images(s, model, info, items, folders, window):
    """Every image: find, draw, save, print. What cannot be read is skipped and named at the end."""
    records, skipped, total = [], [], Counter()
    files = [item.place for item in items if isinstance(item.place, Path)]
    value_range = range_of_set(files, saved_range(info["settings"]))
    try:
        for item in items:
            try:
                image = open_item(item, value_range)
            except UserError as error:
                if len(items) == 1:
                    raise
                print(f"skipped: {error}")
                skipped.append((item, error))
                continue
            if image.shape[0] * image.shape[1] > HUGE_PIXELS:
                print(f"{title_of(item)} has {image.shape[1]} x {image.shape[0]} pixels: it takes its time.")
            picture, found = predict_image(s, model, info, image, item, folders[item.group])
            record = {"file": title_of(item), "width": image.shape[1], "height": image.shape[0]}
            records.append(record | found)
            total += tally(found)
            window = window and media.show_image(picture, 0)
    finally:
        # Also after Ctrl-C: what was found before it is kept.
        groups = {item.group for item in items}
        place = folders[items[0].group if len(groups) == 1 else ""]
        if records:
            save_records(s, place, items[0].name.name if len(items) == 1 else None, records)

    if skipped and not records:
        raise UserError(f"None of the {len(items)} images could be read. The first: {skipped[0][1]}")
    if len(items) > 1:
        names = [Path(item.place).name for item, _ in skipped]
        which = ", ".join(names[:NAMED]) + " ..." * (len(names) > NAMED)
        print(f"{counted(len(records), 'image')}, {len(skipped)} skipped{': ' + which if skipped else ''}. "
              f"Results: {shown(place)}")
        print_count(s, "all images", model.task, total)


def open_item(item, value_range=None):
    """-> the picture of an item, (h, w, 3) uint8 RGB. value_range: see utils.images.open_image."""
    if not isinstance(item.place, Path):
        return open_address(item.place)
    try:
        return open_image(item.place, value_range)
    except UserError as error:
        known = item.place.suffix.lower() in sources.SUFFIXES
        raise error if known else UserError(f"{error} If it is a video, say mode=video.") from None


def title_of(item):
    """Path or address of an item, as it is shown."""
    return shown(item.place) if isinstance(item.place, Path) else item.place


def predict_image(s, model, info, image, item, folder):
    """One image: find, draw, save, print. -> picture with the result drawn on it,
    what was found as the .json has it."""
    look_for = find_regions if model.task == "segmentation" else find_objects
    picture, found, note, labels = look_for(s, model, info, image)

    # A photo stays a .jpg; everything else is saved without loss.
    name, given = item.name, sources.suffix_of(item.place)
    suffix = given if given.lower() in (".jpg", ".jpeg") else ".png"
    target = media.fresh(folder / name.parent, name.name, suffix)
    media.save_image(target, picture, item.place if isinstance(item.place, Path) else None)
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


def predict_video(s, model, info, item, folder, window):
    """Every frame of a video, or what a camera sees until Ctrl-C or Esc, drawn into a new video."""
    source = VideoSource(item.place)
    like = item.place if item.kind == "video" else None
    video = VideoFile(folder / item.name.parent, item.name.name, source.fps, like, source.aspect)
    if s.save_json or s.save_csv or s.crop or s.save_index or s.save_colour or s.save_cut_out:
        print("save_json, save_csv, crop, save_index and so on are for images; here only the video is saved.")
    if item.kind == "camera":
        print(f"Camera or stream {item.place}: {'Esc in the window or ' if window else ''}Ctrl-C ends it.")

    # Ctrl-C is how a camera ends. Anything else that is stopped ends the program too, with what there is.
    start, stopped, total = time.monotonic(), None, Counter()
    try:
        whole_file = predict_frames(s, model, info, source, video, total, window)
    except (KeyboardInterrupt, signals.Stopped) as stop:
        stopped = stop
        print("\nStopped; what was seen so far is kept.")
    finally:
        source.close()
        readable = video.close()

    # The frame in which it was stopped is not in the video.
    seen, seconds = source.seen - (stopped is not None), time.monotonic() - start
    print(f"{counted(seen, 'frame')} in {seconds:.1f} s, {seen / max(seconds, 1e-6):.1f} frames per second")
    print_count(s, "all frames together", model.task, total)
    tell_video(video, readable, source.fps)
    if stopped is None and whole_file and source.complaint():
        print(source.complaint())
    if isinstance(stopped, signals.Stopped) and (stopped.number != signal.SIGINT or not source.live):
        raise stopped


def predict_frames(s, model, info, source, video, total, window):
    """Frame after frame: find, draw, write. total: Counter that is added to. -> False after Esc"""
    look_for = find_regions if model.task == "segmentation" else find_objects
    start, last = time.monotonic(), None
    bar = tqdm(source.frames(), total=source.count or None, unit="frame", disable=None)
    for image, moment, hole in bar:
        picture, found, *_ = look_for(s, model, info, image, video=True)
        total += tally(found)

        # A hole is filled with the frame before it, so that everything after it keeps its time.
        for _ in range(hole):
            video.write(picture if last is None else last)
        last = picture

        # A camera goes on while the network computes: repeated frames keep the video at true speed.
        if source.live:
            copies = round((time.monotonic() - start) * source.fps) - video.written
            for _ in range(max(1, copies)):
                video.write(picture)
        else:
            video.write(picture, moment)
        if window and not media.show_image(picture, 1):
            return False
    return True


def tell_video(video, readable, fps):
    """Where a video is, and what it is not. readable: frames that can be read back from it.
    Error: fewer than were written."""
    # OpenCV says nothing when the disk is full, so the frames were counted once more.
    if readable < video.written:
        raise UserError(f"{shown(video.path)} holds {readable} of {video.written} frames. Is the disk full?")
    print(f"{shown(video.path)}: {counted(readable, 'frame')}, {fps:g} per second" if readable
          else "No frame was read, so there is no video.")
    if complaint := video.complaint():
        print(complaint)


def find_objects(s, model, info, image, video=False):
    """One image through a detector.

    -> picture to show, found: {"boxes": [...]} as the .json has it, a note when there is nothing to see,
    None (see find_regions).
    """
    names = info["class_names"]
    wanted = thresholds_of(s, names)                                                # (K,)
    lowest = wanted if video else np.where(np.isfinite(wanted), np.minimum(LOWEST, wanted), wanted)
    (every,) = detect(model, [image], s.input_shape, lowest, s.nms_iou, s.max_boxes, s.fit, kind=s.nms,
                      agnostic=s.agnostic_nms, most_per_class=s.max_per_class)
    sure = every["scores"] >= wanted[every["labels"]]
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
    picture = draw_boxes(image, boxes, labels, names, scores, s.line_width, s.show_labels)
    return picture, {"boxes": found}, note, None


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
        if s.classes is not None or s.class_confidence:
            print("classes and class_confidence are for boxes; here every pixel keeps its class.")
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
    signals.run(main, read_settings(globals()))
