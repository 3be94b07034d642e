"""LR-ASPP is torchvision's: names, outputs, losses, its official file."""
import functools

import pytest
import torch
import torch.nn.functional as F
import torchvision
from recipe import difference, fill, image

import nets
from nets.layers import normalise
from nets.lraspp import LRASPP
from utils.weights import load_weights


@functools.cache
def official():
    """torchvision's network in eval mode; its variances are small, so that a wrong eps is seen."""
    network = torchvision.models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None).eval()
    fill(network)
    return network


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("lraspp") / "权重.pth"
    torch.save(official().state_dict(), path)
    return path


def test_parameters():
    with torch.device("meta"):
        assert [sum(p.numel() for p in LRASPP(k).parameters()) for k in (19, 21)] == [3_221_198, 3_221_538]


@pytest.mark.parametrize("size", [(72, 96), (129, 65)])
@torch.no_grad()
def test_equal_to_torchvision(size, path):
    """The official file is read by name; with it the outputs are torchvision's, and so is the loss."""
    model = LRASPP(21)
    report = load_weights(model, path)
    assert report.backbone == 1.0 and not (report.different or report.missing or report.unused)
    images = torch.stack([torch.from_numpy(image(seed, *size)) for seed in (1, 2)])
    masks = torch.randint(21, (2, *size))
    masks[:, :5] = 255
    expected = official()(normalise(images))["out"]
    logits, losses = model.eval()(images, [{"mask": mask} for mask in masks])
    assert difference(logits, expected) <= 1e-5
    assert float(losses["cross_entropy"]) == pytest.approx(float(F.cross_entropy(expected, masks, ignore_index=255)), rel=1e-5)


def test_official_file_at_once_and_for_other_classes(path):
    model, info = nets.load(path, net="lraspp")
    assert info["class_names"][0] == "background" and len(info["class_names"]) == 21 and not model.training
    report = load_weights(LRASPP(5), path)
    heads = [f"classifier.{name}_classifier.{part}" for name in ("low", "high") for part in ("weight", "bias")]
    assert [name for name, *_ in report.different] == heads and not (report.missing or report.unused)


@torch.no_grad()
def test_the_image_only_scales_channels():
    """Figure 10: a factor between 0 and 1 for each channel, the same in every cell."""
    head = LRASPP(2).classifier.eval()
    scale = head.scale(torch.randn(2, 960, 3, 4))
    assert scale.shape == (2, 128, 1, 1) and (scale > 0).all() and (scale < 1).all()
