"""YOLOv4 is the published network: parameters, darknet's outputs at two sizes, darknet's files; its loss does what it says."""
from pathlib import Path

import darknet
import numpy as np
import pytest
import torch
from darknet import TRUTHS, iou, plain_box, random_heads, sigmoid
from torch import nn
from torchvision.ops import complete_box_iou_loss

from nets.yolov3 import AnchorYOLO
from nets.yolov4 import ANCHORS, ASSIGN_IOU, SPP, YOLOv4

DATA = Path(__file__).parents[1] / "data" / "darknet"
# what darknet's layers 138, 149, 160 (the raw heads) and 139, 150, 161 (after sigmoid) hold at 416 x 416: mean, deviation, first, middle, last
RAW_416 = [(-0.021081, 1.101478, -0.167098, 0.042269, 0.251885), (-0.019161, 0.907056, 0.341621, -0.579056, -0.128767),
           (-0.011336, 1.259705, 0.624578, -0.821336, 1.454661)]
ACTIVE_416 = [(0.483630, 0.275130, 0.449987, 0.510566, 0.562641), (0.487178, 0.229997, 0.593043, 0.359150, 0.467853),
              (0.481653, 0.329565, 0.658822, 0.305480, 0.810715)]


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """The network as its official file gives it, and what goes with it."""
    return darknet.official("yolov4", tmp_path_factory.mktemp("official"))


def test_official_network(official):
    model, info = official
    assert sum(p.numel() for p in model.parameters()) == 64_363_101
    assert len(info["class_names"]) == 80 and info["input_shape"] == (416, 416)


def test_equals_darknet(official):
    """Heads (measured: 2.9e-4) and detections."""
    darknet.check_256(np.load(DATA / "yolov4_256x320.npz"), *darknet.run(official[0], 256, 320), 2073, 6e-4, 3e-4)


def test_another_size_equals_darknet(official):
    """At 416 x 416: the raw heads, and what decode makes of them, led back to cells."""
    model, _ = official
    darknet.check_416(model, darknet.run(model, 416, 416)[0], RAW_416, ACTIVE_416, 3e-4)


def test_official_files_end_where_they_should(official):
    """yolov4.conv.137: the first 137 layers of the cfg are 92 convolutions, all before the head of the fine map; 72 are the backbone."""
    convs = [conv for conv, *_ in darknet.convolutions(official[0])]
    assert convs[:72] == [m for m in official[0].backbone.modules() if isinstance(m, nn.Conv2d)]
    assert convs[92] is official[0].head3[0].conv and len(convs) == 110


class OnlyHeads(YOLOv4):
    """decode, assign and loss without the network."""

    def __init__(self, num_classes, assign_iou=ASSIGN_IOU):
        AnchorYOLO.__init__(self, num_classes, (64, 96), ANCHORS, assign_iou, 2.0, 0.0, False, 0.25, 2.0)


def test_decode_by_the_formula():
    model, heads = OnlyHeads(3), random_heads(3)
    with torch.no_grad():
        boxes, _ = model.decode(heads)
    expected = []
    for head, anchors, stride, scale in zip(heads, ANCHORS, (8, 16, 32), (1.2, 1.1, 1.05)):
        for a, size in enumerate(anchors):
            for row in range(head.shape[2]):
                for column in range(head.shape[3]):
                    expected.append(plain_box(head, 1, 3, a, row, column, stride, size, scale))
    assert np.abs(boxes[1].numpy() - np.array(expected)).max() < 1e-3


def test_a_centre_reaches_the_border_of_its_cell():
    """Grid sensitivity: YOLOv3 would need an infinite tx for it."""
    heads = [torch.zeros(1, 24, s, s) for s in (8, 4, 2)]
    for head in heads:
        head[:, 0] = -2.944439                          # sigmoid 0.05; the stretch of the coarse head reaches the border at 0.0238
    boxes, _ = OnlyHeads(3).decode(heads)
    x = (boxes[0, :, 0] + boxes[0, :, 2]) / 2
    assert x[0] == pytest.approx(8 * (0.05 * 1.2 - 0.1), abs=1e-4) and x[0] < 0
    assert x[3 * 64] == pytest.approx(16 * (0.05 * 1.1 - 0.05), abs=1e-4) and x[-12] == pytest.approx(32 * (0.05 * 1.05 - 0.025), abs=1e-4)


def test_loss_by_plain_loops():
    """Every anchor above 0.213 and the best one; 1 - CIoU of torchvision; objectness and classes as binary cross-entropy."""
    heads, losses = random_heads(3, batch=3), {"box": 0.0, "objectness": 0.0, "class": 0.0}
    anchors = [(level, a, size) for level, sizes in enumerate(ANCHORS) for a, size in enumerate(sizes)]
    own, several = set(), 0

    def cross_entropy(logit, wanted):
        p = sigmoid(float(logit.detach()))
        return -np.log(p) if wanted else -np.log(1 - p)

    for image, truth in enumerate(TRUTHS):
        for box, label in zip(truth["boxes"].tolist(), truth["labels"].tolist()):
            w, h = box[2] - box[0], box[3] - box[1]
            fits = [iou((0, 0, w, h), (0, 0, *size)) for *_, size in anchors]
            chosen = [anchor for anchor, fit in zip(anchors, fits) if fit > 0.213 or fit == max(fits)]
            several += len(chosen) > 1
            for level, a, size in chosen:
                stride = 8 << level
                column, row = int((box[0] + box[2]) / 2 / stride), int((box[1] + box[3]) / 2 / stride)
                found = plain_box(heads[level], image, 3, a, row, column, stride, size, (1.2, 1.1, 1.05)[level])
                losses["box"] += 2 * float(complete_box_iou_loss(torch.tensor(found), torch.tensor(box)))
                for i in range(3):
                    losses["class"] += cross_entropy(heads[level][image, a * 8 + 5 + i, row, column], i == label)
                own.add((image, level, a, row, column))
        for level, a, size in anchors:
            for row in range(heads[level].shape[2]):
                for column in range(heads[level].shape[3]):
                    found = plain_box(heads[level], image, 3, a, row, column, 8 << level, size, (1.2, 1.1, 1.05)[level])
                    right = (image, level, a, row, column) in own
                    if right or max((iou(found, other) for other in truth["boxes"].tolist()), default=0) <= 0.7:
                        losses["objectness"] += cross_entropy(heads[level][image, a * 8 + 4, row, column], right)
    assert several >= 3
    ours = OnlyHeads(3).loss(heads, TRUTHS)
    assert {name: float(value.detach()) for name, value in ours.items()} == pytest.approx({k: v / 3 for k, v in losses.items()}, rel=1e-5)


def test_spp_sees_its_surroundings():
    """One bright cell of 27 x 27: joined are the pools of 13, 9, 5 cells and the map itself, in this order."""
    spp = SPP(4, 2)
    spp.before, spp.after = nn.Identity(), nn.Identity()
    x = torch.full((1, 2, 27, 27), -1.0)
    x[:, :, 13, 13] = 1.0
    bright = (spp(x) > 0).sum((0, 2, 3))
    assert bright.tolist() == [169, 169, 81, 81, 25, 25, 1, 1]
    assert spp(x)[0, 0, 0, 0] == -1.0                   # beside the picture lies nothing, not 0
