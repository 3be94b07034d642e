"""CPU time per training sample of segmentation: ours, and the usual way with a one-hot array per pixel.

    python benchmarks/mask_loader.py [list_path=Shapes_segmentation_train.txt] [size=512]

The usual way, as many published training scripts have it: decode the files with Pillow every time, resize
image and mask, paste them on a canvas, flip, jitter the colours by way of HSV, blur, rotate, divide by 255,
and spread the mask to a (H, W, K+1) array of ones and zeros for the Dice loss. One process, one thread, CPU
time, both sides in turn, medians.
"""
import random
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from loader import cpu_time  # noqa: E402
from PIL import Image  # noqa: E402

from utils.augment import Augmentation  # noqa: E402
from utils.dataset import SegmentationData, collate  # noqa: E402
from utils.images import open_image, open_mask  # noqa: E402
from utils.lists import read_mask_list  # noqa: E402
from utils.settings import find, read_settings  # noqa: E402

list_path = "Shapes_segmentation_train.txt"     # a segmentation list             列表文件
size = 512                                      # side of the network's input     输入边长
classes = 21                                    # K, for the one-hot array        类别数
rounds = 7                                      # repetitions                     重复次数
samples = 64                                    # samples a round                 每轮样本数
BATCH = 8


def usual_sample(s, rng, image_path, mask_path):
    """-> image (3, H, W) float64 0-1, mask (H, W) int64, one-hot (H, W, K+1) float64."""
    image, mask = Image.fromarray(open_image(image_path)), Image.fromarray(open_mask(mask_path))

    # Image and mask at a random scale, somewhere on a canvas.
    factor = min(s.size / image.width, s.size / image.height) * rng.uniform(0.5, 2.0)
    w, h = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    corner = round((s.size - w) * rng.random()), round((s.size - h) * rng.random())
    canvas = Image.new("RGB", (s.size, s.size), (128, 128, 128))
    labels = Image.new("L", (s.size, s.size), 0)
    canvas.paste(image.resize((w, h), Image.Resampling.BICUBIC), corner)
    labels.paste(mask.resize((w, h), Image.Resampling.NEAREST), corner)

    # Flip, blur, rotate.
    if rng.random() < 0.5:
        canvas, labels = (one.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for one in (canvas, labels))
    pixels, labels = np.array(canvas), np.array(labels)
    if rng.random() < 0.25:
        pixels = cv2.GaussianBlur(pixels, (5, 5), 0)
    if rng.random() < 0.25:
        side = (s.size, s.size)
        matrix = cv2.getRotationMatrix2D((s.size / 2, s.size / 2), rng.uniform(-10, 10), 1)
        pixels = cv2.warpAffine(pixels, matrix, side, flags=cv2.INTER_CUBIC, borderValue=(128, 128, 128))
        labels = cv2.warpAffine(labels, matrix, side, flags=cv2.INTER_NEAREST)

    # Colours by way of HSV, one table of 256 values a channel.
    hue, saturation, value = cv2.split(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV))
    gains = [1 + rng.uniform(-1, 1) * gain for gain in (0.1, 0.7, 0.3)]
    steps = np.arange(256)
    hue = cv2.LUT(hue, (steps * gains[0] % 180).astype(np.uint8))
    saturation = cv2.LUT(saturation, (steps * gains[1]).clip(0, 255).astype(np.uint8))
    value = cv2.LUT(value, (steps * gains[2]).clip(0, 255).astype(np.uint8))
    pixels = cv2.cvtColor(cv2.merge([hue, saturation, value]), cv2.COLOR_HSV2RGB)

    # Floats, and a one-hot array with one class more for what is ignored.
    labels = np.where(labels >= s.classes, s.classes, labels).astype(np.int64)
    one_hot = np.eye(s.classes + 1)[labels.reshape(-1)].reshape(s.size, s.size, -1)
    return np.transpose(pixels.astype(np.float64) / 255, (2, 0, 1)), labels, one_hot


def usual_batches(s, pairs, rng):
    for _ in range(0, s.samples, BATCH):
        samples = [usual_sample(s, rng, *rng.choice(pairs)) for _ in range(BATCH)]
        images, masks, one_hot = (np.array(part) for part in zip(*samples))
        torch.from_numpy(images).float(), torch.from_numpy(masks), torch.from_numpy(one_hot).float()


def ours(s, cache):
    names = [str(k) for k in range(s.classes)]
    augmentation = Augmentation(scale=(0.5, 2.0), aspect=0.0, translate=0.0, rotate=10.0, blur=0.25,
                                colours=(0.015, 0.7, 0.4))
    return SegmentationData(s.list_path, names, (s.size, s.size), augmentation=augmentation, cache=cache)


def our_batches(s, data, epoch):
    for start in range(0, s.samples, BATCH):
        collate([data[epoch, i % len(data)] for i in range(start, start + BATCH)])


def main(s):
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    cached, uncached = ours(s, True), ours(s, False)
    pairs = [tuple(find(path) for path in pair) for pair in zip(*read_mask_list(find(s.list_path)))]
    for index in range(s.samples):
        cached.load(index % len(cached))                    # fill the cache: what the first epoch does

    # In turn, so that other work on the machine slows all of them down.
    runs = {"ours, images in memory": lambda r: our_batches(s, cached, r),
            "ours, every image decoded anew": lambda r: our_batches(s, uncached, r),
            "the usual way, one-hot": lambda r: usual_batches(s, pairs, random.Random(r))}
    times = {name: [] for name in runs}
    for r in range(s.rounds):
        for name, run in runs.items():
            times[name].append(cpu_time(lambda _, f=run, k=r: f(k), 1) / s.samples)

    print(f"{s.list_path}, {len(cached)} images, input {s.size} x {s.size}, {s.classes} classes; "
          f"CPU milliseconds per sample, median of {s.rounds}\n")
    for name, values in times.items():
        print(f"  {name:<36}{statistics.median(values):8.2f}   ({min(values):.2f} to {max(values):.2f})")
    *our_names, usual = times
    for name in our_names:
        ratios = [a / b for a, b in zip(times[name], times[usual])]
        middle = statistics.median(ratios)
        print(f"  {name} / {usual}: {middle:.2f}   ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main(read_settings(globals()))
