"""DeepLabv3+ gives the numbers of the network whose published results it claims, and its Xception-65 those of timm's.

tests/data/deeplabv3plus.npz: outputs of VainF/DeepLabV3Plus-Pytorch (21 classes, stride 16, eval mode) for image(3, 129, 161),
normalised, every 105th value. The weights are fill(state_dict) by its names; for ResNet-50 with RESNET_FACTORS.
tests/data/xception65.npz: c2 to c5 of timm 1.0.31's xception65 at output_stride 32, 16 and 8 for image(3, 65, 97), by sub(map, 500);
the weights are fill(state_dict, factors=XCEPTION_FACTORS), which keeps the sums of twenty shortcuts from growing.
"""
import functools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from recipe import fill, image, sub
from torch import nn

from nets.backbones.mobilenet import InvertedResidual
from nets.backbones.xception import Xception65, xception65
from nets.deeplabv3plus import BACKBONES, RATES, DeepLabV3Plus
from nets.layers import normalise
from utils.errors import UserError

DATA = Path(__file__).parents[1] / "data"
RESNET_FACTORS = ((r"bn3\.weight|downsample\.1\.weight", 0.5),)
XCEPTION_FACTORS = ((r"stack\.conv3\.bn_pw\.weight", 0.5),)


def picture(height, width):
    return torch.from_numpy(image(3, height, width))[None]


def masks(count, num_classes, height, width):
    torch.manual_seed(1)
    found = torch.randint(num_classes, (count, height, width))
    found[:, :7] = 255
    return [{"mask": mask} for mask in found]


def their_name(name):
    """Our name -> the name in the repository of the reference, which cuts the MobileNet in two."""
    if name.startswith("backbone.features."):
        part = "low_level_features" if int(name.split(".")[2]) < 4 else "high_level_features"
        return name.replace("features", part, 1)
    return name


def pad_as_they_do(network):
    """The MobileNetV2 of the reference pads a block's input, in front of the 1x1 and not of the 3x3, and its stem not at all."""
    network.backbone.features[0][0].padding = (0, 0)
    for block in network.backbone.features:
        if isinstance(block, InvertedResidual):
            depthwise = next(part for part in block.modules() if isinstance(part, nn.Conv2d) and part.groups > 1)
            block.forward = functools.partial(padded_block, block, depthwise.dilation[0])
            depthwise.padding = (0, 0)


def padded_block(block, around, x):
    y = block.conv(F.pad(x, (around,) * 4))
    return x + y if block.adds else y


@pytest.mark.parametrize("backbone, count", [("mobilenet_v2", 5_225_717), ("resnet50", 39_761_845), ("resnet101", 58_753_973),
                                             ("xception65", 54_121_125)])
def test_parameters(backbone, count):
    with torch.device("meta"):
        for factor in RATES:
            assert sum(p.numel() for p in DeepLabV3Plus(21, backbone=backbone, downsample_factor=factor).parameters()) == count


@pytest.mark.parametrize("backbone, bar", [("resnet50", 1e-4), ("mobilenet_v2", 2e-3)])
@torch.no_grad()
def test_equal_to_the_reference(backbone, bar):
    """Measured: 5e-7, and 2e-6 or 1e-4 (ReLU6 passes on what threads round differently); the outputs' deviation is 0.3 and 1."""
    network = DeepLabV3Plus(21, backbone=backbone).eval()
    fill(network, rename=their_name, factors=RESNET_FACTORS if backbone == "resnet50" else ())
    if backbone == "mobilenet_v2":
        pad_as_they_do(network)
    found = sub(network(picture(129, 161))[0])[0][::5]
    expected = np.load(DATA / "deeplabv3plus.npz")[backbone]
    assert found.shape == expected.shape and np.abs(found - expected).max() < bar


@torch.no_grad()
def test_xception_is_timms():
    """The same names give the same weights, these the same maps: equal in every bit on the machine that made the file."""
    stored, tensors = np.load(DATA / "xception65.npz"), None
    for factor in (32, 16, 8):
        backbone = xception65(factor).eval()
        tensors = tensors or fill(backbone, factors=XCEPTION_FACTORS)
        backbone.load_state_dict(tensors)
        maps = backbone(picture(65, 97))
        assert [m.shape[1] for m in maps] == list(backbone.channels)
        assert [-(-65 // s) for s in backbone.strides] == [m.shape[2] for m in maps]
        for name, found in zip(("c2", "c3", "c4", "c5"), maps):
            expected = stored[f"{name}_{factor}"]
            assert np.abs(sub(found, 500)[0] - expected).max() <= 2e-3 * expected.std(), (name, factor)
    assert sum(p.numel() for p in backbone.parameters()) + 2048 * 1000 + 1000 == 39_916_312         # timm counts its classifier


@torch.no_grad()
def test_backbones_of_torchvision_fit():
    """DeepLabV3's ResNet, as torchvision dilates it, has the same c5 here at downsample_factor 8."""
    theirs = torchvision.models.segmentation.deeplabv3_resnet50(weights=None, weights_backbone=None).backbone.eval()
    fill(theirs)
    ours = DeepLabV3Plus(3, backbone="resnet50", downsample_factor=8).eval().backbone
    ours.load_state_dict(theirs.state_dict())
    x = normalise(picture(65, 49))
    assert torch.equal(ours(x)[3], theirs(x)["out"])


def test_pretrained(tmp_path, monkeypatch):
    """pretrained=True reaches the backbone; Xception-65 has no such file and says so."""
    network = torchvision.models.mobilenet_v2(weights=None)
    torch.save(network.state_dict(), tmp_path / "权重.pth")
    monkeypatch.setattr("nets.backbones.mobilenet.download", lambda url: tmp_path / "权重.pth")
    model = DeepLabV3Plus(3, pretrained=True)
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in model.backbone.state_dict().items())
    with pytest.raises(UserError, match="no ImageNet file for xception65.*pretrained=False"):
        DeepLabV3Plus(3, backbone="xception65", pretrained=True)


@pytest.mark.parametrize("factor", RATES)
@pytest.mark.parametrize("backbone", BACKBONES)
@torch.no_grad()
def test_every_backbone_runs(backbone, factor):
    """The logits are as large as the image, whatever its size; c2 and c5 have the strides that were asked for."""
    model = DeepLabV3Plus(3, backbone=backbone, downsample_factor=factor).eval()
    images = picture(65, 41)
    c2, _, _, c5 = model.backbone(images)
    assert c2.shape[2:] == (17, 11) and c5.shape[2:] == ((5, 3) if factor == 16 else (9, 6))
    logits, losses = model(images)
    assert logits.shape == (1, 3, 65, 41) and torch.isfinite(logits).all() and losses == {}
    assert [conv[0].dilation[0] for conv in model.classifier.aspp.convs[1:4]] == ([6, 12, 18] if factor == 16 else [12, 24, 36])


@pytest.mark.parametrize("count, backbone", [(1, "mobilenet_v2"), (2, "mobilenet_v2"), (1, "xception65")])
def test_training(count, backbone):
    """A finite loss and a gradient for every parameter, with a single image as well."""
    torch.manual_seed(0)
    model = DeepLabV3Plus(3, backbone=backbone)
    logits, losses = model(picture(64, 48).repeat(count, 1, 1, 1), masks(count, 3, 64, 48))
    assert logits.shape == (count, 3, 64, 48) and set(losses) == {"cross_entropy"}
    sum(losses.values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]


def test_nothing_labelled():
    model = DeepLabV3Plus(3)
    _, losses = model(picture(64, 48), [{"mask": torch.full((64, 48), 255)}])
    losses["cross_entropy"].backward()
    assert losses["cross_entropy"].item() == 0 and all(p.grad is not None for p in model.parameters())


@torch.no_grad()
def test_losses_and_large_input():
    """513 is the paper's input size and divides by nothing."""
    model = DeepLabV3Plus(3, loss={"focal": 1.0, "dice": 0.5}, class_weights=[1.0, 2.0, 3.0]).eval()
    logits, losses = model(picture(513, 33), masks(1, 3, 513, 33))
    assert logits.shape == (1, 3, 513, 33) and set(losses) == {"focal", "dice"}


@torch.no_grad()
@pytest.mark.parametrize("sigmoid", [False, True])
def test_decode(sigmoid):
    """Scores of both classes at every pixel, also when one channel stands for the two."""
    model = DeepLabV3Plus(2, sigmoid=sigmoid).eval()
    logits, _ = model(picture(64, 48))
    scores = model.decode(logits)
    assert logits.shape == (1, 1 if sigmoid else 2, 64, 48) and scores.shape == (1, 2, 64, 48)
    assert torch.allclose(scores.sum(1), torch.ones(1, 64, 48)) and scores.min() >= 0
    expected = logits[:, 0].sigmoid() if sigmoid else logits.softmax(1)[:, 1]
    assert torch.allclose(scores[:, 1], expected, atol=1e-6)


def test_wrong_requests():
    with pytest.raises(UserError, match=f'Did you mean "xception65".*{", ".join(BACKBONES)}'):
        DeepLabV3Plus(3, backbone="xception")
    with pytest.raises(UserError, match="downsample_factor=32.*16.*8"):
        DeepLabV3Plus(3, downsample_factor=32)
    with pytest.raises(UserError, match="downsample_factor=4"):
        Xception65(4)
    assert DeepLabV3Plus.task == "segmentation" and DeepLabV3Plus.stride == 16
