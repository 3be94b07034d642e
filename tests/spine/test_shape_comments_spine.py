"""The column of shape comments in the mathematics of the spine is right: boxes, losses, anchors and metrics.

Every function is called with real tensors; the checker itself is tested in tests/nets/test_shape_comments.py.
"""
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from colour_net import NAMES, ColourNet
from shape_comments import check, unreached
from slow_metrics import random_set

from utils import anchors, boxes, evaluate, losses, metrics, miou
from utils.settings import ROOT

B, K, H, W = 2, 7, 12, 17                                   # no two sizes in one call are equal


def random_boxes(*shape):
    corner = torch.rand(*shape, 2) * 80
    return torch.cat([corner, corner + 1 + torch.rand(*shape, 2) * 60], -1)


def box_runs():
    """Layouts, IoU and coding with leading dimensions and without, matching and NMS with objects and without."""
    for shape in ((9,), (B, 9), (0,)):
        one, other = random_boxes(*shape), random_boxes(*shape)
        yield {}, lambda one=one: boxes.cxcywh_to_xyxy(boxes.xyxy_to_cxcywh(one))
        yield {}, lambda one=one: boxes.clip(one, (H, W))
        yield {}, lambda one=one, other=other: boxes.complete_iou(one, other)
        yield {}, lambda one=one, other=other: boxes.generalized_iou(one, other)
        yield {}, lambda one=one, other=other: boxes.decode(boxes.encode(one, other, (10.0, 10.0, 5.0, 5.0)), other)
        yield {}, lambda one=one: boxes.pairwise_iou(one, one[..., :5, :])
    yield {}, lambda: boxes.size_iou(torch.rand(5, 2), torch.rand(9, 2))

    for count in (5, 0):
        iou = torch.rand(count, 9)
        yield {}, lambda iou=iou: boxes.match(iou, 0.7, 0.3, rescue=True)
        yield {}, lambda iou=iou: boxes.match(iou, 0.5, 0.5, rescue=False)

    for count in (0, 5, boxes.MANY + 1):
        yield {}, lambda count=count: boxes.hard_nms(random_boxes(count), torch.rand(count), torch.randint(0, 3, (count,)), 0.5)

    scores = torch.rand(B, 30, K)
    limits = {"max_candidates": 6, "per_class": 4, "parts": [18, 12]}
    for given in (random_boxes(B, 30), random_boxes(B, 30)[:, :, None].expand(-1, -1, K, -1)):
        yield {"K": K}, lambda given=given: boxes.nms(given, scores, 0.3, 0.5, 11)
        yield {"K": K}, lambda given=given: boxes.nms(given, scores, 0.3, 0.5, 11, **limits)
        yield {"K": K}, lambda given=given: boxes.nms(given, scores * 0, 0.3, 0.5, 11)
        for kind in ("soft", "diou"):
            yield {"K": K}, lambda given=given, kind=kind: boxes.nms(given, scores, 0.3, 0.5, 11, kind=kind, most_per_class=2)
            yield {"K": K}, lambda given=given, kind=kind: boxes.nms(given, scores * 0, [0.3] * K, 0.5, 11, kind=kind, agnostic=True)


def loss_runs():
    """Every part of a segmenter's loss, with weights and without, with labelled pixels and without."""
    for alpha in (0.25, None):
        yield {}, lambda alpha=alpha: losses.sigmoid_focal(torch.randn(3, 5), torch.rand(3, 5).round(), alpha)
    yield {}, lambda: losses.smooth_labels(torch.rand(3, 5).round(), 0.1)

    ignored = torch.full((B, H, W), 255)
    for masks in (torch.randint(0, K, (B, H, W)).where(torch.rand(B, H, W) < 0.7, 255), ignored):
        for weights in (None, [1.0, 2.0, 0.0, 1.0, 1.0, 1.0, 3.0]):
            loss = losses.SegmentationLoss(K, dict.fromkeys(losses.PARTS, 1.0), weights)
            targets = [{"mask": mask} for mask in masks]
            yield {"B": B, "K": K, "H": H, "W": W}, lambda loss=loss, targets=targets: loss(torch.randn(B, K, H, W), targets)
    binary = losses.SegmentationLoss(2, {"dice": 1.0}, sigmoid=True)
    targets = [{"mask": mask} for mask in torch.randint(0, 2, (B, H, W))]
    yield {"B": B, "K": 2, "H": H, "W": W}, lambda: binary(torch.randn(B, 1, H, W), targets)
    yield {"B": B, "K": K, "H": H, "W": W}, lambda: losses.class_scores(torch.randn(B, K, H, W))


def anchor_runs():
    """Anchors as numbers and from a file that was made for another input."""
    pairs = [[(10, 14), (23, 27), (37, 58)], [(81, 82), (135, 169), (344, 319)]]
    yield {}, lambda: anchors.find_anchors(pairs, (H, W), 2)
    yield {}, lambda: anchors.suitability(torch.rand(9, 2), torch.rand(5, 2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "anchors.txt"
        anchors.write_anchors(path, torch.tensor(pairs, dtype=torch.float32).view(-1, 2), (100, 200), "list.txt")
        yield {}, lambda: anchors.find_anchors(path, (H, W), 2)


def metric_runs():
    """Crowd, difficult objects and ties; no images, and images without detections or objects."""
    names = [str(c) for c in range(K)]
    for detections, truths in (random_set(3, images=9, classes=K, most=60, ties=True, crowd=0.2, difficult=0.2),
                               random_set(4, images=3, classes=1, most=300), ([], [])):
        yield {"K": K}, lambda a=detections, b=truths: metrics.detection_results(a, b, names)
        yield {"K": K}, lambda a=detections, b=truths: metrics.detection_curves(a, b, names)
        yield {"K": K}, lambda a=detections, b=truths: metrics.confusion_matrix(a, b, K)

    truth, labels = np.random.default_rng(0).integers(0, K, (2, H, W), np.uint8)
    yield {"K": K}, lambda: miou.segmentation_results(miou.count_confusion(truth, labels, K), names)


class Detector(torch.nn.Module):
    """A box around everything and one beside the picture."""

    task, stride, recipe = "detection", 8, {"nms_iou": 0.5}

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, images, targets=None):
        return images * self.scale, {}

    def decode(self, outputs):
        found = torch.tensor([[0.0, 0, 64, 48], [0, -9, 64, -3]]).expand(len(outputs), 2, 4)
        return found, torch.full((len(outputs), 2, K), 0.9)


class Masks:
    """A dataset of one image, and the loader of it."""

    task, class_names, masks = "segmentation", NAMES, ["a.png"]

    def __init__(self):
        mask = torch.randint(0, len(NAMES), (48, 64))
        target = {"index": 0, "mask": mask.to(torch.uint8), "transform": (1.0, 1.0, 0, 0), "size": (48, 64)}
        self.dataset, self.input_shape = self, (48, 64)
        self.batches = [(torch.randint(0, 255, (1, 3, 48, 64), dtype=torch.uint8), [target])]

    def __len__(self):
        return 1

    def __iter__(self):
        return iter(self.batches)

    def truth(self, index, size):
        return self.batches[0][1][0]["mask"].numpy()


def prediction_runs():
    """Images smaller and larger than the input, whole and in windows, with copies; a list of one image."""
    images = [np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8) for size in ((40, 90), (31, 33), (70, 50))]
    yield {}, lambda: evaluate.detect(Detector(), images, (48, 64))
    yield {}, lambda: evaluate.detect(Detector(), images, (48, 64), 2.0)
    for settings in ({}, {"flip": True, "scales": (1.0, 1.5)}, {"slide": True, "flip": True, "scales": (1.0, 2.0)}):
        yield {"K": len(NAMES)}, lambda settings=settings: evaluate.segment(ColourNet(len(NAMES)), images, (48, 64), **settings)
    yield {"K": len(NAMES)}, lambda: evaluate.evaluate(ColourNet(len(NAMES)), Masks(), "cpu")


FILES = {"boxes": box_runs, "evaluate": prediction_runs, "losses": loss_runs, "anchors": anchor_runs, "miou": metric_runs, "metrics": metric_runs,
         "voc_ap": metric_runs, "coco_ap": metric_runs}
LEAST = {"boxes": 60, "losses": 35, "voc_ap": 35, "coco_ap": 35}       # comments a file must have


@pytest.mark.parametrize("name", FILES)
def test_column_is_right_and_reached(name):
    torch.manual_seed(0)
    problems, checked = check([ROOT / "utils" / f"{name}.py"], FILES[name]())
    problems += unreached(checked)
    assert not problems, "\n" + "\n".join(problems)
    assert len(checked) >= LEAST.get(name, 1)
