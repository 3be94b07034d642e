"""Maps of a class: for every network, and for one whose right answer is known."""
import numpy as np
import pytest
import torch
from colour_net import COLOURS, ColourNet
from small_nets import DETECTORS, make_thin, small
from torch import nn

import nets
from utils.prediction.heat import heat_maps, hills
from utils.results.masks import heat_overlay

LARGE = ("yolov3", "yolov4", "faster_rcnn", "retinanet", "unet")             # a second or more each to build


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in nets.NETS])
def test_every_network(name, monkeypatch):
    make_thin(monkeypatch)
    model, shape = small(name)
    model.eval()
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    score, cause, best = heat_maps(model, image, shape, 1)
    for heat in (score, cause):
        assert heat.shape == (50, 70) and heat.dtype == np.float32 and heat.min() >= 0 and heat.max() <= 1 + 1e-6
    assert 0 < score.max() <= 1 and 0 < best <= 1 and cause.max() > 0
    if name in DETECTORS:
        assert score.max() <= best + 1e-6

    # It leaves no trace: no hook, no gradient.
    assert not model.backbone._forward_hooks and all(parameter.grad is None for parameter in model.parameters())


def test_a_segmenter_whose_classes_are_colours():
    """The score of a class is where its colour is, and only what is there has caused it."""
    image = np.full((90, 120, 3), COLOURS[0])
    image[20:50, 60:100] = COLOURS[2]
    inside = np.zeros((90, 120), bool)
    inside[20:50, 60:100] = True
    score, cause, best = heat_maps(ColourNet(3).eval(), image, (48, 64), 2)
    for heat in (score, cause):
        assert heat[inside].mean() > 0.8 and heat[~inside].mean() < 0.05
    assert best > 0.99
    assert heat_maps(ColourNet(3).eval(), image, (48, 64), 1)[2] < 0.01                 # a class that is not there


class SpotNet(nn.Module):
    """A detector of one class: a box of 8 px for each cell of 8 px; its score is how red the cell to the LEFT of it is."""

    task, stride = "detection", 8

    def __init__(self):
        super().__init__()
        self.backbone = nn.AvgPool2d(8)
        self.scale = nn.Parameter(torch.tensor(8.0))

    def forward(self, images, targets=None):
        red = self.backbone(images)[:, 0]
        return (self.scale * (red - 0.5)).roll(1, 2), {}

    def decode(self, outputs):
        y, x = torch.meshgrid(*(torch.arange(n) * 8.0 for n in outputs.shape[1:]), indexing="ij")
        boxes = torch.stack([x, y, x + 8, y + 8], -1).reshape(1, -1, 4)
        return boxes, outputs.sigmoid().reshape(1, -1, 1)


def test_a_detector_shows_the_place_and_its_cause():
    """They differ: the box is in the cell to the right of the red one."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[24:32, 40:48, 0] = 255
    score, cause, best = heat_maps(SpotNet().eval(), image, (64, 96), 0)
    assert best == pytest.approx(float(torch.tensor(4.0).sigmoid()), abs=1e-4)
    y, x = np.unravel_index(score.argmax(), score.shape)
    assert 24 <= y < 32 and 48 <= x < 56 and score.max() == pytest.approx(best, abs=0.07)                         # half a pixel from the middle
    y, x = np.unravel_index(cause.argmax(), cause.shape)
    assert 24 <= y < 32 and 40 <= x < 48
    assert cause[:16].max() == cause[40:].max() == cause[:, 64:].max() == 0 and cause.max() == pytest.approx(1, abs=0.02)


def test_hills():
    heat = hills(torch.tensor([[10.0, 10, 30, 20], [40, 10, 60, 20], [12, 10, 32, 20]]), torch.tensor([0.5, 0.9, 0.25]), (40, 80))
    assert heat[15, 20] == pytest.approx(0.5, abs=0.03) and heat[15, 50] == pytest.approx(0.9, abs=0.03)     # the highest, not the sum
    assert heat[10, 50] < 0.2 and heat[35, 20] < 1e-3


def test_overlay():
    image = np.full((4, 6, 3), 90, np.uint8)
    heat = np.zeros((4, 6), np.float32)
    heat[:, 3:] = 1
    picture = heat_overlay(image, heat)
    assert picture.shape == image.shape and picture.dtype == np.uint8
    assert picture[0, 5, 0] > picture[0, 5, 2] and np.abs(picture[0, 0].astype(int) - 90).max() < 25
