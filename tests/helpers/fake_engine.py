"""Engines whose answers are known: for the page, without a network."""
import numpy as np

NAMES = ["cat", "a/b dog", "<b>人</b>"]


class Boxes:
    """Two groups of overlapping boxes of class 0, one of class 2 over the first, and a weak one; the best first, as shares of the picture."""
    task, class_names, input_shape, fit = "detection", NAMES, (64, 96), "letterbox"
    info = {"net": "fake", "settings": {}}
    rows = [(0.10, 0.20, 0.50, 0.80, 0.92, 0), (0.12, 0.22, 0.52, 0.80, 0.80, 0), (0.14, 0.20, 0.48, 0.78, 0.61, 2),
            (0.60, 0.30, 0.90, 0.70, 0.55, 0), (0.72, 0.30, 1.00, 0.70, 0.45, 0), (0.05, 0.05, 0.15, 0.15, 0.08, 1)]

    def __init__(self):
        self.asked = 0

    def detect(self, images, confidence, nms_iou, max_boxes, **rules):
        self.asked += len(images)
        found = []
        for image in images:
            height, width = image.shape[:2]
            table = np.array([row for row in self.rows if row[4] > confidence][:max_boxes])
            found.append({"boxes": (table[:, :4] * (width, height, width, height)).astype(np.float32),
                          "scores": table[:, 4].astype(np.float32), "labels": table[:, 5].astype(np.int64)})
        return found


class Regions:
    """The left half is background, the right half is split between two classes."""
    task, class_names, input_shape, fit = "segmentation", ["background", "road", "人"], (64, 96), "letterbox"
    info = {"net": "fake", "settings": {}}

    def segment(self, images, threshold, scales, flip, slide):
        found = []
        for image in images:
            labels = np.zeros(image.shape[:2], np.uint8)
            height, width = labels.shape
            labels[:, width // 2:] = 1
            labels[height // 2:, width // 2:] = 2
            found.append({"labels": labels, "best": np.ones(3, np.float32)})
        return found
