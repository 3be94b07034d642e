"""PSPNet gives the numbers of its authors' network.

tests/data/pspnet.npz: output of hszhao/semseg's PSPNet-50 (21 classes, eval mode) for image(3, 145, 193), normalised: every 145th
value. The weights are fill(state_dict) by its names with FACTORS, which keeps the sums of sixteen shortcuts from growing.
"""
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from recipe import fill, image, sub

from nets.backbones.resnet import resnet
from nets.pspnet import PRETRAINED, PSPNet, PyramidPooling, named_as_published
from utils.errors import UserError

DATA = Path(__file__).parents[1] / "data"
FACTORS = ((r"bn3\.weight$|downsample\.1\.weight$", 0.5),)
STEM = {"conv1": "0", "bn1": "1", "conv2": "3", "bn2": "4", "conv3": "6", "bn3": "7"}
BACKBONES = ("resnet50", "resnet101", "mobilenet_v2")


def their_name(name):
    """Our name -> the name in semseg, where the stem is `layer0`."""
    owner, rest = name.split(".", 1)
    if owner == "backbone":
        first, end = rest.split(".", 1)
        return f"layer0.{STEM[first]}.{end}" if first in STEM else rest
    if owner == "pyramid":
        return re.sub(r"branches\.(\d)\.", r"ppm.features.\1.", rest).replace(".conv.", ".1.").replace(".norm.", ".2.")
    rest = rest.replace("gather.conv.", "0.").replace("gather.norm.", "1.").replace("classify.", "4.")
    return {"head": "cls.", "aux": "aux."}[owner] + rest


def masks(count, num_classes, height, width):
    torch.manual_seed(1)
    found = torch.randint(num_classes, (count, height, width))
    found[:, :7] = 255
    return [{"mask": mask} for mask in found]


@pytest.mark.parametrize("backbone, count, aux", [("resnet50", 46_716_373, 2_365_205), ("resnet101", 65_708_501, 2_365_205),
                                                  ("mobilenet_v2", 2_377_413, 21_309)])
def test_parameters(backbone, count, aux):
    with torch.device("meta"):
        for factor in (8, 16):
            without = PSPNet(21, backbone=backbone, downsample_factor=factor, aux=False)
            with_aux = PSPNet(21, backbone=backbone, downsample_factor=factor)
            assert sum(p.numel() for p in without.parameters()) == count
            assert sum(p.numel() for p in with_aux.parameters()) == count + aux


@torch.no_grad()
def test_equal_to_the_authors_network():
    """Measured: 7e-7. The output's deviation is 0.29."""
    model = PSPNet(21).eval()
    fill(model, rename=their_name, factors=FACTORS)
    logits, losses = model(torch.from_numpy(image(3, 145, 193))[None])
    found, expected = sub(logits)[0][::5], np.load(DATA / "pspnet.npz")["resnet50"]
    assert losses == {} and found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-4


@torch.no_grad()
def test_the_dilation_rule_matters():
    """Weights for the authors' rule fit torchvision's by name and shape; the answers differ far beyond rounding."""
    model = PSPNet(21).eval()
    fill(model, rename=their_name, factors=FACTORS)
    other = resnet("resnet50", 8, dilate_first=False, deep_stem=True).eval()
    other.load_state_dict(model.backbone.state_dict())
    x = torch.from_numpy(image(3, 65, 97))[None]
    assert (other(x)[3] - model.backbone(x)[3]).abs().max() > 0.5


@torch.no_grad()
def test_pyramid_looks_from_far_away():
    """A branch is constant over one cell of its grid: with 1 x 1 the mean of everything, seen by every pixel."""
    pyramid = PyramidPooling(8).eval()
    for branch in pyramid.branches:
        torch.nn.init.dirac_(branch.conv.weight)
    x = torch.rand(1, 8, 12, 18)
    found = pyramid(x)
    assert torch.equal(found[:, :8], x)
    mean = x.mean((2, 3))[:, :2, None, None] / (1 + 1e-5) ** 0.5                # BatchNorm's eps
    assert torch.allclose(found[:, 8:10], mean.expand(-1, -1, 12, 18), atol=1e-6)
    cells = F.avg_pool2d(x, (2, 3))[:, :2] / (1 + 1e-5) ** 0.5
    assert torch.allclose(found[:, 14:, ::11, ::17], cells[..., ::5, ::5], atol=1e-6)       # corners fall on corners


@pytest.mark.parametrize("backbone", ["resnet50", "mobilenet_v2"])
def test_one_image_trains(backbone):
    """Batch size 1: the branch of one cell has no statistics. A gradient for every parameter, both heads have their losses."""
    model = PSPNet(2, backbone=backbone, sigmoid=True, loss={"cross_entropy": 1.0, "dice": 0.5})
    before = model.pyramid.branches[0].norm.running_mean.clone()
    logits, losses = model(torch.rand(1, 3, 64, 64), masks(1, 2, 64, 64))
    assert logits.shape == (1, 1, 64, 64) and set(losses) == {"cross_entropy", "dice", "aux_cross_entropy", "aux_dice"}
    sum(losses.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert torch.equal(model.pyramid.branches[0].norm.running_mean, before)
    scores = model.decode(logits)
    assert scores.shape == (1, 2, 64, 64) and torch.allclose(scores.sum(1), torch.ones(1, 64, 64))


def test_aux_counts_two_fifths():
    """The auxiliary loss weighs 0.4: with equal logits of both heads it is 0.4 times the other."""
    model = PSPNet(3, backbone="mobilenet_v2").eval()
    for classifier in (model.head, model.aux):
        torch.nn.init.zeros_(classifier.classify.weight)
        classifier.classify.bias.data = torch.tensor([0.5, -1.0, 2.0])
    _, losses = model(torch.rand(2, 3, 32, 48), masks(2, 3, 32, 48))
    assert torch.isclose(losses["aux_cross_entropy"], 0.4 * losses["cross_entropy"])
    _, losses = PSPNet(3, backbone="mobilenet_v2", aux=False)(torch.rand(2, 3, 32, 48), masks(2, 3, 32, 48))
    assert set(losses) == {"cross_entropy"}


@pytest.mark.parametrize("options", [{}, {"backbone": "mobilenet_v2"}, {"backbone": "mobilenet_v2", "downsample_factor": 16}])
@torch.no_grad()
def test_any_size(options):
    model = PSPNet(3, **options).eval()
    for height, width in ((45, 70), (33, 32)):
        logits, losses = model(torch.rand(1, 3, height, width), masks(1, 3, height, width))
        assert logits.shape == (1, 3, height, width) and torch.isfinite(sum(losses.values()))


@pytest.mark.parametrize("name", ["resnet50", "resnet101"])
def test_pretrained_with_the_deep_stem(name, monkeypatch, tmp_path):
    """The published file (names and shapes as the timm library has them) fits; a checkpoint's options rebuild the network without it."""
    stem = {"conv1.0": (64, 3, 3, 3), "conv1.1": (64,), "conv1.3": (64, 64, 3, 3), "conv1.4": (64,),
            "conv1.6": (128, 64, 3, 3), "bn1": (128,)}
    with torch.device("meta"):
        stages = {k: t.shape for k, t in resnet(name, deep_stem=True).state_dict().items() if k.startswith("layer")}
    shapes = stages | {f"{owner}.{part}": shape for owner, shape in stem.items() for part in
                       (("weight",) if len(shape) > 1 else ("weight", "bias", "running_mean", "running_var"))} | {"fc.weight": (1000, 2048)}
    torch.save({key: torch.full(shape, 0.25) for key, shape in shapes.items()}, tmp_path / "file.pth")
    monkeypatch.setattr("nets.pspnet.download", lambda url: tmp_path / "file.pth" if url == PRETRAINED[name] else None)
    model = PSPNet(3, backbone=name, pretrained=True)
    assert all((p == 0.25).all() for p in model.backbone.parameters())
    PSPNet(3, backbone=name).load_state_dict(model.state_dict())


def test_deep_stem_has_the_published_order():
    """Three convolutions, a BatchNorm behind each, under the published names: values set there arrive where they are used."""
    backbone = resnet("resnet50", deep_stem=True).eval()
    named = named_as_published(backbone)
    fill(named)
    x = torch.from_numpy(image(3, 32, 32))[None]
    with torch.no_grad():
        expected = named["layer1"](F.max_pool2d(F.relu(named["bn1"](named["conv1"](x))), 3, 2, 1))
        assert torch.equal(backbone(x)[0], expected)


def test_plain_stem():
    """deep_stem=False is torchvision's ResNet, for its files."""
    with torch.device("meta"):
        model = PSPNet(21, aux=False, deep_stem=False)
    assert sum(p.numel() for p in model.parameters()) == 46_592_597
    assert model.backbone.conv1.weight.shape == (64, 3, 7, 7)


def test_wrong_requests():
    with pytest.raises(UserError, match='Did you mean "resnet50"'):
        PSPNet(3, backbone="resnet5")
    with pytest.raises(UserError, match="downsample_factor=32"):
        PSPNet(3, downsample_factor=32)
