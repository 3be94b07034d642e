"""CPU time of the whole detection metric on boxes in the amount of VOC2007 test: 4952 images, 20 classes, 100 detections an image.

    python benchmarks/metrics.py
"""
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402

from utils.metrics import detection_results  # noqa: E402
from utils.settings import override  # noqa: E402

images = 4952           # pictures                  图片数
classes = 20            # classes                   类别数
found = 100             # detections a picture      每张图的检测数
rounds = 5              # repetitions               重复次数


def workload():
    """Three objects a picture, a third of the detections near one of them."""
    stream = np.random.default_rng(0)
    detections, truths = [], []
    for _ in range(images):
        corner = stream.uniform(0, 300, (3, 2))
        objects = np.concatenate([corner, corner + stream.uniform(20, 200, (3, 2))], 1)
        labels = stream.integers(0, classes, 3)
        pick = stream.integers(0, 3, found)
        near = stream.random(found) < 0.33
        boxes = objects[pick] + stream.normal(0, np.where(near, 8, 80)[:, None], (found, 4))
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        said = np.where(near, labels[pick], stream.integers(0, classes, found))
        detections.append({"boxes": boxes, "scores": stream.random(found), "labels": said})
        truths.append({"boxes": objects, "labels": labels, "difficult": stream.random(3) < 0.2})
    return detections, truths


def main():
    detections, truths = workload()
    names, times = [str(i) for i in range(classes)], []
    for _ in range(rounds):
        began = time.process_time()
        results = detection_results(detections, truths, names)
        times.append(time.process_time() - began)
    print(f"{images} images, {classes} classes, {images * found} detections: median {statistics.median(times):.2f} s "
          f"({min(times):.2f} to {max(times):.2f}); mAP50 {results['map50']:.4f}, mAP50_95 {results['map50_95']:.4f}")


if __name__ == "__main__":
    override(globals())
    main()
