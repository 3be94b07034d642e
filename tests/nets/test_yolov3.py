"""YOLOv3 is the published network: parameters, darknet's outputs at two sizes, darknet's files; its loss has the published derivative."""
import math
from pathlib import Path

import darknet
import numpy as np
import pytest
import torch
from darknet import TRUTHS, iou, plain_box, random_heads, sigmoid, targets
from exports import assert_exports
from torch import nn

import nets
from nets.yolov3 import ANCHORS, AnchorYOLO, YOLOv3

DATA = Path(__file__).parents[1] / "data" / "darknet"
# what darknet's layers 105, 93, 81 (the raw heads) and 106, 94, 82 (after sigmoid) hold at 416 x 416: mean, deviation, first, middle, last
RAW_416 = [(0.051576, 0.920935, -0.001580, 0.620188, 0.158602), (-0.006408, 1.383489, -0.443442, -0.923143, -0.228553),
           (-0.054649, 1.442200, -1.680431, -2.455464, 0.040102)]
ACTIVE_416 = [(0.496926, 0.247300, 0.499605, 0.650261, 0.539568), (0.490883, 0.324079, 0.390921, 0.284318, 0.443109),
              (0.476812, 0.343581, 0.157038, 0.079040, 0.510024)]


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """The network as its official file gives it, and what goes with it."""
    return darknet.official("yolov3", tmp_path_factory.mktemp("official"))


def test_official_network(official):
    model, info = official
    assert sum(p.numel() for p in model.parameters()) == 61_949_149
    assert len(info["class_names"]) == 80 and info["class_names"][0] == "person" and info["input_shape"] == (416, 416)


def test_equals_darknet(official):
    """Heads (measured: 1.0e-4) and detections."""
    darknet.check_256(np.load(DATA / "yolov3_256x320.npz"), *darknet.run(official[0], 256, 320), 1939, 2e-4, 1e-4)


def test_another_size_equals_darknet(official):
    """At 416 x 416: the raw heads, and what decode makes of them, led back to cells."""
    model, _ = official
    darknet.check_416(model, darknet.run(model, 416, 416)[0], RAW_416, ACTIVE_416, 1e-4)


def test_official_files_end_where_they_should(official):
    """darknet53.conv.74: the first 74 layers of the cfg are 52 convolutions, the backbone."""
    convs = [conv for conv, *_ in darknet.convolutions(official[0])]
    assert convs[:52] == [m for m in official[0].backbone.modules() if isinstance(m, nn.Conv2d)] and len(convs) == 75


class OnlyHeads(YOLOv3):
    """decode, assign and loss without the network: fifty megabytes less to build."""

    def __init__(self, num_classes, assign_iou=1.0):
        AnchorYOLO.__init__(self, num_classes, (64, 96), ANCHORS, assign_iou, 1.0, 0.0, False, 0.25, 2.0)


def test_decode_by_the_formula():
    model, heads = OnlyHeads(3), random_heads(3)
    with torch.no_grad():
        boxes, scores = model.decode(heads)
    expected = []
    for head, anchors, stride in zip(heads, ANCHORS, (8, 16, 32)):
        for a, size in enumerate(anchors):
            for row in range(head.shape[2]):
                for column in range(head.shape[3]):
                    values = head[1, a * 8 + 4:a * 8 + 8, row, column].tolist()
                    expected.append((*plain_box(head, 1, 3, a, row, column, stride, size), *(sigmoid(values[0]) * sigmoid(v) for v in values[1:])))
    assert np.abs(torch.cat([boxes, scores], 2)[1].numpy() - np.array(expected)).max() < 1e-3


def test_derivative_is_prediction_minus_truth():
    """As darknet trains: the derivative of the loss by every raw number, from plain loops over truths, anchors and cells."""
    classes, heads = 3, random_heads(3, batch=3)
    with torch.no_grad():
        inside = [box for box in OnlyHeads(3).decode(heads)[0][0].tolist() if box[0] > 0 and box[1] > 0 and box[2] < 96 and box[3] < 64]
    truths = [*TRUTHS[:2], *targets([[*box, 1] for box in inside[::40]])]                # boxes that are found, by anchors that may not be the best
    truths[2], truths[0] = truths[0], truths[2]
    anchors = [(level, a, size) for level, sizes in enumerate(ANCHORS) for a, size in enumerate(sizes)]
    expected, ignored, taught = [np.zeros(h.shape) for h in heads], 0, set()
    values = [head.tolist() for head in heads]
    for image, truth in enumerate(truths):
        true_boxes = truth["boxes"].tolist()
        for level, a, size in anchors:
            for row in range(heads[level].shape[2]):
                for column in range(heads[level].shape[3]):
                    box = plain_box(heads[level], image, classes, a, row, column, 8 << level, size)
                    if max((iou(box, other) for other in true_boxes), default=0) > 0.7:
                        ignored += 1
                    else:
                        expected[level][image, a * 8 + 4, row, column] = sigmoid(values[level][image][a * 8 + 4][row][column])
        for box, label in zip(true_boxes, truth["labels"].tolist()):
            w, h = box[2] - box[0], box[3] - box[1]
            level, a, size = max(anchors, key=lambda anchor: iou((0, 0, w, h), (0, 0, *anchor[2])))
            cx, cy = (box[0] + box[2]) / 2 / (8 << level), (box[1] + box[3]) / 2 / (8 << level)
            row, column = int(cy), int(cx)
            t = heads[level][image, a * 8:a * 8 + 8, row, column].tolist()
            weight = 2 - w * h / (64 * 96)
            wanted = [cx - column, cy - row, math.log(w / size[0]), math.log(h / size[1])]
            slopes = [weight * ((sigmoid(v) if i < 2 else v) - wanted[i]) for i, v in enumerate(t[:4])]
            slopes += [sigmoid(t[4]) - 1, *(sigmoid(v) - (i == label) for i, v in enumerate(t[5:]))]
            expected[level][image, a * 8:a * 8 + 8, row, column] = slopes
            taught.add((image, level, a, row, column))
    assert len(taught) == sum(len(truth["labels"]) for truth in truths) >= 8
    assert ignored >= 3
    losses = OnlyHeads(classes).loss(heads, truths)
    sum(losses.values()).backward()
    for head, slopes in zip(heads, expected):
        assert np.abs(head.grad.numpy() - slopes / 3).max() < 1e-5


def test_assign():
    """A truth goes to the best of the nine anchors, in the cell of its centre; more of them below assign_iou."""
    model, maps = OnlyHeads(2), [(8, 12), (4, 6), (2, 3)]
    boxes = torch.tensor([[46.0, 30, 56, 43], [20, 5, 79, 124], [0, 0, 62, 45], [-10, -10, 106, 80], [91, 59, 100, 70]])
    truth, prediction = model.assign(boxes, maps)
    assert truth.tolist() == [0, 1, 2, 3, 4]
    # 10,13 at (51, 36); 59,119 at (49, 64), just below the picture; 62,45 at (31, 22); 116,90 at (48, 35); 10,13 beyond the corner
    assert prediction.tolist() == [4 * 12 + 6, 288 + 2 * 24 + 3 * 6 + 3, 288 + 1 * 24 + 1 * 6 + 1, 360 + 1 * 3 + 1, 7 * 12 + 11]
    model.assign_iou = 0.213
    several, found = model.assign(boxes, maps)
    assert len(several) > 10 and set(prediction.tolist()) <= set(found.tolist())


def test_losses_are_float32_in_half_precision():
    heads = [head.detach().bfloat16() for head in random_heads(3, batch=3)]
    model = OnlyHeads(3)
    exact = model.loss([head.float() for head in heads], TRUTHS)
    for on in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=on):
            losses = model.loss(heads, TRUTHS)
        assert all(losses[name].dtype == torch.float32 and losses[name] == exact[name] for name in exact)


def test_a_right_box_costs_nothing():
    """16,30 at (20, 36): row 4, column 2, in the middle of the cell; and at (16, 36), on its left border, nearly."""
    for cx, tx in ((20, 0.0), (16, -15.0)):
        heads = [head.detach() for head in random_heads(1)]
        heads[0].view(2, 3, 6, 8, 12)[0, 1, :4, 4, 2] = torch.tensor([tx, 0.0, 0.0, 0.0])
        box = OnlyHeads(1).loss(heads, targets([[cx - 8, 21, cx + 8, 51, 0]], []))["box"]
        assert float(box) == pytest.approx(0, abs=1e-5)


def test_a_box_of_no_size_is_no_infinity():
    losses = OnlyHeads(3).loss(random_heads(3), targets([[10, 10, 10, 10, 0]], []))
    assert all(torch.isfinite(value) for value in losses.values())


@pytest.mark.parametrize("name", ["yolov3", "yolov4", "yolov4_tiny"])
def test_exports(name, monkeypatch):
    """No decision in forward or decode depends on the data. One residual block a stage instead of 23: the same code."""
    for module in ("nets.yolov3", "nets.yolov4"):
        monkeypatch.setattr(f"{module}.STAGES", ((64, 1), (128, 1), (256, 1), (512, 1), (1024, 1)))
    assert_exports(nets.build(name, 3, (64, 96)), 64, 96, 1e-4)
