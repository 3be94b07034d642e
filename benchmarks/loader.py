"""CPU time per training sample: each stage of ours, the whole of ours, and Ultralytics on the same images.

    python benchmarks/loader.py [list_path=Shapes_train.txt] [size=320]

Ultralytics takes part if it is installed (pip install ultralytics). One process, one thread, mosaic always
on, the same ranges of scale, translation, colours and flip on both sides. Both sides run in turn, several
rounds; the figures are medians of CPU time (not of the clock), so other work on the machine hardly counts.
"""
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from utils import augment  # noqa: E402
from utils.dataset import DetectionData, collate  # noqa: E402
from utils.images import open_image, open_shrunken  # noqa: E402
from utils.lists import read_list  # noqa: E402
from utils.settings import find, read_settings  # noqa: E402

list_path = "Shapes_train.txt"      # a detection list                列表文件
size = 320                          # side of the network's input     输入边长
rounds = 7                          # repetitions                     重复次数
samples = 200                       # samples a round                 每轮样本数
BATCH = 16


def cpu_time(function, count):
    began = time.process_time()
    for i in range(count):
        function(i)
    return (time.process_time() - began) / count * 1e3


def ours(s, cache):
    """Our training data set, with the same augmentation ranges as theirs."""
    names = class_numbers(read_list(find(s.list_path))[1])
    return DetectionData(s.list_path, names, (s.size, s.size), train=True, scale=(0.5, 1.5), aspect=0.0,
                         translate=0.1, flip_chance=0.5, colours=(0.015, 0.7, 0.4), mosaic_chance=1.0,
                         cache=cache)


def class_numbers(boxes):
    """Names do not matter here: "0", "1" and so on, as many as the list has classes."""
    highest = max(rows[:, 4].max() for rows in boxes if len(rows))
    return [str(i) for i in range(1 + int(highest))]


def batches(s, data, epoch):
    keys = [(epoch, i % len(data)) for i in range(s.samples)]
    for start in range(0, s.samples, BATCH):
        yield collate([data[key] for key in keys[start:start + BATCH]])


def stages(s, data):
    """name -> function(i) of every stage, on real pictures of the list."""
    rng = random.Random(0)
    shape = (s.size, s.size)
    scale, colours = (0.5, 1.5), (0.015, 0.7, 0.4)
    paths = [find(p) for p in data.paths]
    pictures = [data.picture(i)[:2] for i in range(min(64, len(data)))]
    canvas, boxes = augment.mosaic(rng, shape, pictures[:4], scale, 0.0)
    batch = [data[(0, i)] for i in range(BATCH)]

    def file(i):
        return paths[i % len(paths)]

    def four(i):
        return [pictures[(i + k) % len(pictures)] for k in range(4)]

    # In the order in which a sample passes through them.
    return {
        "decode": lambda i: open_image(file(i)),
        "decode and shrink to the input": lambda i: open_shrunken(file(i), shape, exact=False),
        "take from the cache": lambda i: data.picture(i % len(pictures)),
        "mosaic of four": lambda i: augment.mosaic(rng, shape, four(i), scale, 0.0),
        "one picture, scaled and cropped":
            lambda i: augment.scale_and_crop(rng, shape, *four(i)[0], scale, 0.0, 0.1),
        "colours": lambda i: augment.change_colours(rng, canvas, colours),
        "flip": lambda i: augment.flip(canvas, boxes),
        "seeding the sample": lambda i: random.Random(f"0 0 {i}"),
        f"collate, a sample of {BATCH}": lambda i: collate(batch) if i % BATCH == 0 else None,
    }


def theirs(s, folder):
    """Ultralytics' training data set on copies of the same images, with the same augmentation ranges."""
    from ultralytics.cfg import get_cfg
    from ultralytics.data.dataset import YOLODataset

    # Theirs finds labels beside the images, one file for each.
    paths, boxes = read_list(find(s.list_path))
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for number, (path, rows) in enumerate(zip(paths, boxes)):
        shutil.copy(find(path), folder / "images" / f"{number:06d}{Path(path).suffix}")
        height, width = open_image(find(path)).shape[:2]
        (folder / "labels" / f"{number:06d}.txt").write_text("\n".join(label_lines(rows, width, height)))

    # What ours does not do at these settings is off.
    settings = get_cfg(overrides={"imgsz": s.size, "mosaic": 1.0, "scale": 0.5, "translate": 0.1,
                                  "fliplr": 0.5, "hsv_h": 0.015, "hsv_s": 0.7, "hsv_v": 0.4,
                                  "mixup": 0.0, "degrees": 0.0, "shear": 0.0, "perspective": 0.0})
    names = dict(enumerate(class_numbers(boxes)))
    return YOLODataset(img_path=str(folder / "images"), imgsz=s.size, batch_size=BATCH, augment=True,
                       hyp=settings, rect=False, cache=None, stride=32, pad=0.0, task="detect",
                       data={"names": names, "nc": len(names), "channels": 3})


def label_lines(rows, width, height):
    """The lines of a YOLO label file: class, centre, width and height as shares of the image."""
    lines = []
    for x1, y1, x2, y2, label, _ in rows:
        centre = f"{(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height}"
        lines.append(f"{int(label)} {centre} {(x2 - x1) / width} {(y2 - y1) / height}")
    return lines


def their_batches(s, data, order):
    for start in range(0, s.samples, BATCH):
        data.collate_fn([data[i] for i in order[start:start + BATCH]])


def main(s):
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    cached, uncached = ours(s, True), ours(s, False)
    for i in range(len(cached)):
        cached.picture(i)                                   # fill the cache: what the first epoch does
    print(f"{s.list_path}, {len(cached)} images, input {s.size} x {s.size}; "
          f"CPU milliseconds per sample, median of {s.rounds}\n")
    for name, function in stages(s, cached).items():
        middle = statistics.median(cpu_time(function, s.samples) for _ in range(s.rounds))
        print(f"  {name:<36}{middle:8.3f}")

    # The whole samples, with Ultralytics as third if it is here.
    runs = {"ours, images in memory": lambda r: list(batches(s, cached, r)),
            "ours, every image decoded anew": lambda r: list(batches(s, uncached, r))}
    with tempfile.TemporaryDirectory() as folder:
        try:
            other = theirs(s, Path(folder))
            import ultralytics
            stream = np.random.RandomState(0)
            runs[f"Ultralytics {ultralytics.__version__}"] = lambda r: their_batches(
                s, other, stream.randint(0, len(other), s.samples).tolist())
        except ImportError:
            print("\n(pip install ultralytics to compare)")
        times = race(s, runs)
    print("\n  whole sample, in batches of 16")
    for name, values in times.items():
        middle = statistics.median(values)
        print(f"  {name:<36}{middle:8.3f}   ({min(values):.3f} to {max(values):.3f})   "
              f"{1e3 / middle:6.0f} a second")
    if len(times) == 3:
        print_ratios(times)


def race(s, runs):
    """dict name -> function(round) that makes a round's samples -> dict name -> list of CPU ms per sample."""
    times = {name: [] for name in runs}
    for r in range(s.rounds):
        for name, run in runs.items():
            times[name].append(cpu_time(lambda _, f=run, k=r: f(k), 1) / s.samples)
    return times


def print_ratios(times):
    """The first two sides over the third, round by round: what slows a round slows all sides of it."""
    *ours, third = times
    for name in ours:
        ratios = [a / b for a, b in zip(times[name], times[third])]
        print(f"  {name} / {third}: {statistics.median(ratios):.2f}   "
              f"({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main(read_settings(globals()))
