"""CPU time per training sample of segmentation: ours, and the usual way with a one-hot array per pixel.

    python benchmarks/mask_loader.py [list_path=Shapes_segmentation_train.txt] [size=512]

The usual way, as many published training scripts have it, on the same images: decode the files with Pillow
every time, resize image and mask, paste them on a canvas, flip, jitter the colours by way of HSV, blur,
rotate, divide by 255, and spread the mask to a (H, W, K+1) array of ones and zeros for the Dice loss. One
process, one thread, CPU time, both sides in turn, medians.
"""
import random
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from loader import print_ratios, race  # noqa: E402
from PIL import Image  # noqa: E402

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

    # Scaled, somewhere on a grey canvas; the mask follows the image.
    factor = min(s.size / image.width, s.size / image.height) * rng.uniform(0.5, 2.0)
    w, h = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    corner = round((s.size - w) * rng.random()), round((s.size - h) * rng.random())
    canvas = Image.new("RGB", (s.size, s.size), (128, 128, 128))
    labels = Image.new("L", (s.size, s.size), 0)
    canvas.paste(image.resize((w, h), Image.Resampling.BICUBIC), corner)
    labels.paste(mask.resize((w, h), Image.Resampling.NEAREST), corner)
    if rng.random() < 0.5:
        canvas, labels = (one.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for one in (canvas, labels))
    pixels, labels = np.array(canvas), np.array(labels)

    # A quarter is blurred, a quarter is turned a little.
    if rng.random() < 0.25:
        pixels = cv2.GaussianBlur(pixels, (5, 5), 0)
    if rng.random() < 0.25:
        matrix = cv2.getRotationMatrix2D((s.size / 2, s.size / 2), rng.uniform(-10, 10), 1)
        pixels = cv2.warpAffine(pixels, matrix, (s.size, s.size), flags=cv2.INTER_CUBIC,
                                borderValue=(128, 128, 128))
        labels = cv2.warpAffine(labels, matrix, (s.size, s.size), flags=cv2.INTER_NEAREST)
    pixels = usual_colours(rng, pixels)

    # float64 and a number for every class and pixel: this is what the usual way costs.
    labels = np.where(labels >= s.classes, s.classes, labels).astype(np.int64)
    one_hot = np.eye(s.classes + 1)[labels.reshape(-1)].reshape(s.size, s.size, -1)
    return np.transpose(pixels.astype(np.float64) / 255, (2, 0, 1)), labels, one_hot


def usual_colours(rng, pixels):
    """Hue, saturation and value times a random factor each, by tables."""
    channels = cv2.split(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV))
    hue, saturation, value = (1 + rng.uniform(-1, 1) * gain for gain in (0.1, 0.7, 0.3))
    steps = np.arange(256)
    tables = [(steps * hue % 180).astype(np.uint8)]
    tables += [(steps * gain).clip(0, 255).astype(np.uint8) for gain in (saturation, value)]
    changed = [cv2.LUT(channel, table) for channel, table in zip(channels, tables)]
    return cv2.cvtColor(cv2.merge(changed), cv2.COLOR_HSV2RGB)


def usual_batches(s, pairs, rng):
    for _ in range(0, s.samples, BATCH):
        images, masks, one_hot = zip(*(usual_sample(s, rng, *rng.choice(pairs)) for _ in range(BATCH)))
        torch.from_numpy(np.array(images)).float()
        torch.from_numpy(np.array(masks))
        torch.from_numpy(np.array(one_hot)).float()


def ours(s, cache):
    names = [str(k) for k in range(s.classes)]
    return SegmentationData(s.list_path, names, (s.size, s.size), train=True, scale=(0.5, 2.0), aspect=0.0,
                            translate=0.0, rotation=10.0, blur_chance=0.25, colours=(0.015, 0.7, 0.4),
                            cache=cache)


def our_batches(s, data, epoch):
    for start in range(0, s.samples, BATCH):
        collate([data[epoch, i % len(data)] for i in range(start, start + BATCH)])


def main(s):
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    cached, uncached = ours(s, True), ours(s, False)
    pairs = [tuple(find(path) for path in pair) for pair in zip(*read_mask_list(find(s.list_path)))]
    for index in range(s.samples):
        cached.cached(index % len(cached))                  # fill the cache: what the first epoch does

    # In turn, round by round: what else the machine does slows all of them.
    times = race(s, {"ours, images in memory": lambda r: our_batches(s, cached, r),
                     "ours, every image decoded anew": lambda r: our_batches(s, uncached, r),
                     "the usual way, one-hot": lambda r: usual_batches(s, pairs, random.Random(r))})
    print(f"{s.list_path}, {len(cached)} images, input {s.size} x {s.size}, {s.classes} classes; "
          f"CPU milliseconds per sample, median of {s.rounds}\n")
    for name, values in times.items():
        print(f"  {name:<36}{statistics.median(values):8.2f}   ({min(values):.2f} to {max(values):.2f})")
    print_ratios(times)


if __name__ == "__main__":
    main(read_settings(globals()))
