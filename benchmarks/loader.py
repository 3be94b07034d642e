"""CPU time per training sample: each stage of ours, the whole of ours, and Ultralytics on the same images.

    python benchmarks/loader.py [list_path=Shapes_train.txt] [size=320]

Ultralytics only where it is installed (pip install ultralytics). One process, one thread, mosaic always on,
the same ranges of scale, translation, colours and flip on both sides. Both sides run in turn, several rounds;
the figures are medians of CPU time (not of the clock), so other work on the machine hardly counts.
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
from utils.augment import Augmentation  # noqa: E402
from utils.dataset import DetectionData, collate  # noqa: E402
from utils.images import open_image, open_shrunken  # noqa: E402
from utils.lists import read_list  # noqa: E402
from utils.settings import find, read_settings  # noqa: E402

list_path = "Shapes_train.txt"      # a detection list                列表文件
size = 320                          # side of the network's input     输入边长
rounds = 7                          # repetitions                     重复次数
samples = 200                       # samples a round                 每轮样本数
BATCH = 16
COLOURS, SCALE = (0.015, 0.7, 0.4), (0.5, 1.5)


def cpu_time(function, count):
    began = time.process_time()
    for i in range(count):
        function(i)
    return (time.process_time() - began) / count * 1e3


def ours(s, cache):
    class_names = class_numbers(read_list(find(s.list_path))[1])
    augmentation = Augmentation(scale=SCALE, aspect=0.0, translate=0.1, flip=0.5, colours=COLOURS, mosaic=1.0)
    return DetectionData(s.list_path, class_names, (s.size, s.size), augmentation=augmentation, cache=cache)


def class_numbers(boxes):
    """Names do not matter here: "0", "1" and so on, as many as the list has classes."""
    return [str(i) for i in range(1 + int(max(rows[:, 4].max() for rows in boxes if len(rows))))]


def batches(s, data, epoch):
    keys = [(epoch, i % len(data)) for i in range(s.samples)]
    for start in range(0, s.samples, BATCH):
        yield collate([data[key] for key in keys[start:start + BATCH]])


def stages(s, data):
    """name -> function(i) of every stage, on real pictures of the list."""
    rng = random.Random(0)
    shape = (s.size, s.size)
    paths = [find(p) for p in data.paths]
    samples = [data.load(i)[0] for i in range(min(64, len(data)))]
    mixed = augment.mosaic(rng, shape, samples[:4], SCALE, 0.0)
    batch = [data[0, i] for i in range(BATCH)]

    def pick(i):
        return samples[i % len(samples)]

    def scale_and_crop(i):
        return augment.scale_and_crop(rng, shape, pick(i), SCALE, 0.0, 0.1)

    def mosaic(i):
        return augment.mosaic(rng, shape, [pick(i + k) for k in range(4)], SCALE, 0.0)

    return {
        "decode": lambda i: open_image(paths[i % len(paths)]),
        "decode and shrink to the input": lambda i: open_shrunken(paths[i % len(paths)], shape, exact=False),
        "take from the cache": lambda i: data.load(i % len(samples)),
        "mosaic of four": mosaic,
        "one picture, scaled and cropped": scale_and_crop,
        "colours": lambda i: augment.change_colours(rng, mixed.image, COLOURS),
        "flip": lambda i: augment.flip(mixed),
        "seeding the sample": lambda i: random.Random(f"0 0 {i}"),
        f"collate, a sample of {BATCH}": lambda i: collate(batch) if i % BATCH == 0 else None,
    }


def theirs(s, folder):
    """Ultralytics' training dataset on copies of the same images, with the same augmentation ranges."""
    from ultralytics.cfg import get_cfg
    from ultralytics.data.dataset import YOLODataset

    # Copies arranged as it expects them: images/ and labels/ side by side, boxes as shares of the picture.
    paths, boxes = read_list(find(s.list_path))
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for index, (path, rows) in enumerate(zip(paths, boxes)):
        shutil.copy(find(path), folder / "images" / f"{index:06d}{Path(path).suffix}")
        height, width = open_image(find(path)).shape[:2]
        lines = []
        for x1, y1, x2, y2, label, _ in rows:
            centre = f"{(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height}"
            lines.append(f"{int(label)} {centre} {(x2 - x1) / width} {(y2 - y1) / height}")
        (folder / "labels" / f"{index:06d}.txt").write_text("\n".join(lines))

    # The ranges of `ours`, in its words.
    settings = get_cfg(overrides={
        "imgsz": s.size, "mosaic": 1.0, "scale": 0.5, "translate": 0.1, "fliplr": 0.5,
        "hsv_h": 0.015, "hsv_s": 0.7, "hsv_v": 0.4,
        "mixup": 0.0, "degrees": 0.0, "shear": 0.0, "perspective": 0.0})
    names = dict(enumerate(class_numbers(boxes)))
    return YOLODataset(img_path=str(folder / "images"), imgsz=s.size, batch_size=BATCH, augment=True,
                       hyp=settings, rect=False, cache=None, stride=32, pad=0.0, task="detect",
                       data={"names": names, "nc": len(names), "channels": 3})


def their_batches(s, data, order):
    for start in range(0, s.samples, BATCH):
        data.collate_fn([data[i] for i in order[start:start + BATCH]])


def main(s):
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    cached, uncached = ours(s, True), ours(s, False)
    for i in range(len(cached)):
        cached.load(i)                                      # fill the cache: what the first epoch does

    # Stage by stage.
    print(f"{s.list_path}, {len(cached)} images, input {s.size} x {s.size}; "
          f"CPU milliseconds per sample, median of {s.rounds}\n")
    for name, function in stages(s, cached).items():
        middle = statistics.median(cpu_time(function, s.samples) for _ in range(s.rounds))
        print(f"  {name:<36}{middle:8.3f}")

    # Whole samples, all ways in turn: other work on the machine slows all of them down.
    runs = {"ours, images in memory": lambda r: list(batches(s, cached, r)),
            "ours, every image decoded anew": lambda r: list(batches(s, uncached, r))}
    with tempfile.TemporaryDirectory() as folder:
        try:
            other = theirs(s, Path(folder))
            import ultralytics
            order = np.random.RandomState(0)
            name = f"Ultralytics {ultralytics.__version__}"
            runs[name] = lambda r: their_batches(s, other, order.randint(0, len(other), s.samples).tolist())
        except ImportError:
            print("\n(pip install ultralytics to compare)")
        times = {name: [] for name in runs}
        for r in range(s.rounds):
            for name, function in runs.items():
                times[name].append(cpu_time(lambda _, f=function, k=r: f(k), 1) / s.samples)
    show(times)


def show(times):
    """times: {way: milliseconds of each round}, of ours two, and of theirs when it is installed."""
    print("\n  whole sample, in batches of 16")
    for name, values in times.items():
        middle = statistics.median(values)
        spread = f"({min(values):.3f} to {max(values):.3f})"
        print(f"  {name:<36}{middle:8.3f}   {spread}   {1e3 / middle:6.0f} a second")
    names = list(times)
    if len(names) < 3:
        return
    for name in names[:2]:
        ratios = [a / b for a, b in zip(times[name], times[names[2]])]
        middle = statistics.median(ratios)
        print(f"  {name} / {names[2]}: {middle:.2f}   ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main(read_settings(globals()))
