"""CPU time of the metrics, from arrays in memory.

Detection: boxes in the amount of VOC2007 test, 4952 images, 20 classes, 100 detections an image.
Segmentation: masks in the amount of VOC2012 val, 1449 of 500 x 375 with 21 classes, beside the usual way to
count them, in turn in the same run.

    python benchmarks/metrics.py
"""
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402

from utils.metrics import detection_results  # noqa: E402
from utils.miou import count_confusion, segmentation_results  # noqa: E402
from utils.settings import read_settings  # noqa: E402

images = 4952           # pictures                  图片数
classes = 20            # classes                   类别数
found = 100             # detections a picture      每张图的检测数
masks = 1449            # masks                     掩码数
mask_classes = 21       # their classes             掩码的类别数
rounds = 5              # repetitions               重复次数


def workload(s):
    """Three objects a picture, a third of the detections near one of them."""
    stream = np.random.default_rng(0)
    detections, truths = [], []
    for _ in range(s.images):
        # Objects of 20 to 200 px; each detection belongs to one of them, near it or somewhere else.
        corner = stream.uniform(0, 300, (3, 2))
        objects = np.concatenate([corner, corner + stream.uniform(20, 200, (3, 2))], 1)
        labels = stream.integers(0, s.classes, 3)
        pick = stream.integers(0, 3, s.found)
        near = stream.random(s.found) < 0.33
        boxes = objects[pick] + stream.normal(0, np.where(near, 8, 80)[:, None], (s.found, 4))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)

        # A detection near its object has the right class, another one any.
        said = np.where(near, labels[pick], stream.integers(0, s.classes, s.found))
        detections.append({"boxes": boxes, "scores": stream.random(s.found), "labels": said})
        truths.append({"boxes": objects, "labels": labels, "difficult": stream.random(3) < 0.2})
    return detections, truths


def mask_workload(s):
    """Pictures of rectangles with borders that are not labelled; a fifth of the prediction is random."""
    stream = np.random.default_rng(0)
    pairs = []
    for _ in range(s.masks):
        coarse = stream.integers(0, s.mask_classes, (8, 10), dtype=np.uint8)
        truth = np.kron(coarse, np.ones((47, 50), np.uint8))[:375]
        anything = stream.integers(0, s.mask_classes, truth.shape, np.uint8)
        labels = np.where(stream.random(truth.shape, np.float32) < 0.2, anything, truth)
        truth[::47], truth[:, ::50] = 255, 255
        pairs.append((truth, labels))
    return pairs


def usual_count(truth, labels, num_classes):
    """The confusion matrix as it is often written: pick the labelled pixels, one bincount. No checks."""
    kept = truth < num_classes
    pairs = num_classes * truth[kept].astype(int) + labels[kept]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def time_detection(s):
    detections, truths = workload(s)
    names = [str(i) for i in range(s.classes)]
    times = []
    for _ in range(s.rounds):
        began = time.process_time()
        results = detection_results(detections, truths, names)
        times.append(time.process_time() - began)
    print(f"{s.images} images, {s.classes} classes, {s.images * s.found} detections: "
          f"median {statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f}); "
          f"mAP50 {results['map50']:.4f}, mAP50_95 {results['map50_95']:.4f}")


def time_segmentation(s):
    pairs = mask_workload(s)
    names = [str(i) for i in range(s.mask_classes)]
    times = {count_confusion: [], usual_count: []}
    matrices = []

    # In turn within a round, so that what else the machine does slows both.
    for _ in range(s.rounds):
        for count, spent in times.items():
            began = time.process_time()
            matrices.append(sum(count(truth, labels, s.mask_classes) for truth, labels in pairs))
            results = segmentation_results(matrices[-1], names)
            spent.append(time.process_time() - began)

    # Only times of equal results may be compared.
    assert all(np.array_equal(matrix, matrices[0]) for matrix in matrices)
    for count, spent in times.items():
        middle = statistics.median(spent)
        print(f"{s.masks} masks of 500 x 375, {s.mask_classes} classes, {count.__name__}: "
              f"median {middle:.2f} s ({min(spent):.2f} to {max(spent):.2f}), "
              f"{1000 * middle / s.masks:.2f} ms a mask; mIoU {results['miou']:.4f}")
    ours, usual = (statistics.median(spent) for spent in times.values())
    print(f"ratio of the medians {ours / usual:.2f}")


def main(s):
    time_detection(s)
    time_segmentation(s)


if __name__ == "__main__":
    main(read_settings(globals()))
