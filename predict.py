"""Find the objects in an image, a folder, a video or what a camera sees.

    python predict.py                        some images of the test list, with the newest trained network
    python predict.py source=street.jpg
    python predict.py source=photos save_json=True confidence=0.5
    python predict.py mode=camera
"""
import utils  # noqa: F401, I001  first: it says in a sentence which package is missing
import time
from collections import Counter
from pathlib import Path

from tqdm import tqdm

import nets
from utils import media
from utils.checkpoint import newest_best
from utils.draw import draw_boxes
from utils.errors import UserError
from utils.evaluate import detect
from utils.fit import choose_device
from utils.images import open_image
from utils.settings import check, find, number, override, shown, whole
from utils.voc import read_list

mode = "image"          # "image", "folder", "video" or "camera"; what source is decides where the two differ    图片、文件夹、视频、摄像头
source = ""             # a path, or the number of a camera; "" with mode image: images of the test list    路径或摄像头编号
model_path = ""         # weights that train.py saved; "" is the best of the newest run    权重文件，空为最新训练结果
confidence = 0.3        # boxes with a lower score are left out    置信度阈值
nms_iou = 0.45          # of two boxes of one class that overlap more than this, the one with the lower score goes    非极大抑制阈值
max_boxes = 100         # at most so many boxes per image, those with the highest scores    每张图最多框数
device = "auto"         # "auto", "cpu", "cuda", "cuda:1"    运行设备
output = "img_out"      # folder for the results; nothing in it is ever overwritten    结果文件夹
save_json = False       # also write the boxes as a .json file    保存 JSON
save_csv = False        # also write the boxes as a .csv table    保存 CSV
crop = False            # also save every found object as an image of its own    保存裁剪的目标
count = False           # also print how many objects of each class there are    统计各类数量
show = False            # also open a window, where there is a display; Esc ends    弹窗显示

LOWEST = 0.001          # boxes are asked for down to this score, to be able to say how far below `confidence` the best one was
SAMPLES = 8             # images of the test list that are taken without a source


def main():
    check(globals(), confidence=number(0, 1), nms_iou=number(0, 1), max_boxes=whole(1))
    kind, place = media.find_place(source, mode)
    folder = media.output_folder(output, place)
    path = find(media.unquote(model_path)) if model_path else newest_best()
    model, info = nets.load(path, choose_device(device))
    print(f"{shown(path)}: {info['net']}, {len(info['class_names'])} classes, input {info['input_shape'][1]} x {info['input_shape'][0]}")
    window = show and media.has_display()
    if show and not window:
        print("show=True: no window can be opened here (no display, or OpenCV without one), so the results are only saved.")
    if kind in ("video", "camera"):
        predict_video(model, info, kind, place, folder, window)
    else:
        paths, names, folder = list_sources(kind, place, folder, info)
        predict_images(model, info, paths, names, folder, window)


def list_sources(kind, place, folder, info):
    """-> paths of the images, names of their results without suffix (with the sub-folders below the source), folder for the results."""
    if place is None:
        name = info.get("settings", {}).get("test_list") or ""
        if not name or not find(name).is_file():
            raise UserError(f'source = "" takes images of the test list of the training run ("{name}"), and there is no such file: '
                            "set source to an image or a folder.")
        paths = [find(path) for path in read_list(name)[0][:SAMPLES]]
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


def predict_images(model, info, paths, names, folder, window):
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
            found, best = find_objects(model, info, image, LOWEST)
            picture = draw_boxes(image, found["boxes"], found["labels"], info["class_names"], found["scores"])
            suffix = path.suffix if path.suffix.lower() in (".jpg", ".jpeg") else ".png"
            target = media.fresh(folder / name.parent, name.name, suffix)
            media.save_image(target, picture, path)
            records.append(as_record(path, image, found, info["class_names"]))
            print_record(shown(target), records[-1]["boxes"], best)
            total.update(box["label"] for box in records[-1]["boxes"])
            if crop:
                media.save_crops(folder / "crops" / name.parent, name.name, image, records[-1]["boxes"])
            window = window and media.show_image(picture, 0)
    finally:
        for wanted, save in ((save_json, media.save_json), (save_csv, media.save_csv)):
            if wanted and records:                          # in "finally": also what was found before Ctrl-C
                written = save(folder, names[0].name if len(paths) == 1 else "boxes", records)
                print(f"{shown(written)}: the boxes of {len(records)} image{'s' * (len(records) > 1)}")
    if skipped and not records:
        raise UserError(f"None of the {len(paths)} images could be read. The first: {skipped[0][1]}")
    if len(paths) > 1:
        which = ": " + ", ".join(path.name for path, _ in skipped[:10]) + (" ..." if len(skipped) > 10 else "") if skipped else ""
        print(f"{len(records)} images, {len(skipped)} skipped{which}. Results: {shown(folder)}")
        print_count("all images", total)


def predict_video(model, info, kind, place, folder, window):
    """Every frame of a video, or what a camera sees until Ctrl-C or Esc, drawn into a new video."""
    images, fps, frames = media.frames(place)
    name = place.stem if kind == "video" else f"camera{place}" if place.isdigit() else "stream"
    video, total, number, start = media.VideoFile(folder, name, fps), Counter(), 0, time.monotonic()
    if save_json or save_csv or crop:
        print("save_json, save_csv and crop are for images; here only the video is saved.")
    if kind == "camera":
        print(f"Camera or stream {place}: {'Esc in the window or ' if window else ''}Ctrl-C ends it.")
    try:
        for image in tqdm(images, total=frames or None, unit="frame", disable=None):
            found, _ = find_objects(model, info, image, confidence)
            picture = draw_boxes(image, found["boxes"], found["labels"], info["class_names"], found["scores"])
            number += 1
            total.update(info["class_names"][label] for label in found["labels"])
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
    print_count("all frames together", total)
    if readable != video.written:
        raise UserError(f"{shown(video.path)} holds {readable} of {video.written} frames. Is the disk full?")
    print(f"{shown(video.path)}: {readable} frames, {fps:g} per second" if number else "No frame was read, so there is no video.")


def find_objects(model, info, image, lowest):
    """-> found: dict boxes (P, 4) xyxy px, scores, labels of what reaches `confidence`;  best: (class, score) of all, or None."""
    every = detect(model, [image], info["input_shape"], min(lowest, confidence), nms_iou, max_boxes)[0]
    keep = every["scores"] >= confidence
    best = (info["class_names"][every["labels"][0]], float(every["scores"][0])) if len(keep) else None
    return {name: every[name][keep] for name in ("boxes", "scores", "labels")}, best


def as_record(path, image, found, class_names):
    """What is written to the .json for one image."""
    boxes = [{"label": class_names[label], "score": round(float(score), 4), "xyxy": [round(float(edge), 2) for edge in box]}
             for box, score, label in zip(found["boxes"], found["scores"], found["labels"])]
    return {"file": shown(path), "width": image.shape[1], "height": image.shape[0], "boxes": boxes}


def print_record(target, boxes, best):
    print(f"{target}: {len(boxes)} {'box' if len(boxes) == 1 else 'boxes'}")
    for box in boxes:
        print(f"    {box['label']}  {box['score']:.2f}  " + " ".join(f"{edge:.0f}" for edge in box["xyxy"]))
    if not boxes:
        below = f'the best was "{best[0]}" with {best[1]:.3f}' if best else f"no box has even {LOWEST}"
        print(f"    nothing reaches confidence={confidence:g}; {below}")
    print_count("here", Counter(box["label"] for box in boxes))


def print_count(where, number):
    if count:
        print(f"    count, {where}: " + (", ".join(f"{label} {n}" for label, n in sorted(number.items())) or "nothing"))


if __name__ == "__main__":
    override(globals())
    main()
