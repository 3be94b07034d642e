"""U-Net has the published parameters, its way down is torchvision's, and with a backbone it gives the numbers of the widely used layout.

tests/data/unet.npz: outputs of segmentation_models_pytorch 0.6.0, Unet("vgg16") and Unet("resnet50") with 21 classes, in eval mode,
for image(0, 96, 160), normalised: every second value of sub(output, 6000). The weights are fill(state_dict) by its names with FACTORS.
"""
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from recipe import fill, image, sub

from nets.backbones.vgg import vgg16
from nets.unet import ResNetDown, UNet
from utils.errors import UserError

DATA = Path(__file__).parents[1] / "data"
FACTORS = ((r"layer.*bn3\.weight$", 0.3),)              # keeps the sums of sixteen shortcuts from growing
BLOCKS = {"up4": 0, "up3": 1, "up2": 2, "up1": 3, "top": 4}
BACKBONES = ("unet", "vgg16", "resnet50")


def their_name(name):
    """Our name -> the name in segmentation_models_pytorch."""
    owner, rest = name.split(".", 1)
    if owner == "backbone":
        return "encoder." + rest
    if owner == "head":
        return "segmentation_head.0." + rest
    rest = rest.removeprefix("convs.").replace(".conv.", ".0.").replace(".norm.", ".1.")
    if owner == "bottom":
        return "decoder.center." + rest
    return f"decoder.blocks.{BLOCKS[owner]}." + re.sub(r"^\d", lambda digit: f"conv{int(digit[0]) + 1}", rest)


def masks(count, num_classes, height, width):
    torch.manual_seed(1)
    found = torch.randint(num_classes, (count, height, width))
    found[:, :7] = 255
    return [{"mask": mask} for mask in found]


@pytest.mark.parametrize("backbone, num_classes, count", [("unet", 2, 31_037_698), ("vgg16", 21, 23_751_141), ("resnet50", 21, 32_524_005)])
def test_parameters(backbone, num_classes, count):
    with torch.device("meta"):
        assert sum(p.numel() for p in UNet(num_classes, backbone=backbone).parameters()) == count


@pytest.mark.parametrize("backbone", ["vgg16", "resnet50"])
@torch.no_grad()
def test_equal_to_the_widely_used_layout(backbone):
    """Measured: 0 on the machine that made the file; 6e-6 is the rounding of float32. The outputs' deviation is 0.3 and 0.4."""
    model = UNet(21, backbone=backbone).eval()
    fill(model, rename=their_name, factors=FACTORS)
    logits, _ = model(torch.from_numpy(image(0, 96, 160))[None])
    found, expected = sub(logits, 6000)[0][::2], np.load(DATA / "unet.npz")[backbone]
    assert found.shape == expected.shape and expected.std() > 0.3
    assert np.abs(found - expected).max() < 1e-4


@torch.no_grad()
def test_vgg_is_torchvisions():
    theirs = torchvision.models.vgg16(weights=None).features.eval()
    fill(theirs)
    ours = vgg16().eval()
    ours.load_state_dict({f"features.{name}": tensor for name, tensor in theirs.state_dict().items()})
    assert sum(p.numel() for p in ours.parameters()) == 14_714_688
    x = torch.from_numpy(image(3, 61, 95))[None]
    maps = ours(x)
    assert [tuple(m.shape[1:]) for m in maps] == [(64, 61, 95), (128, 30, 47), (256, 15, 23), (512, 7, 11), (512, 3, 5)]
    pools = [i for i, layer in enumerate(theirs) if isinstance(layer, torch.nn.MaxPool2d)]
    for found, stop in zip(maps, pools):
        assert torch.equal(found, theirs[:stop](x))


@torch.no_grad()
def test_resnet_is_torchvisions():
    theirs = torchvision.models.resnet50(weights=None).eval()
    theirs.fc = torch.nn.Identity()
    fill(theirs, factors=FACTORS)
    ours = ResNetDown((3, 4, 6, 3)).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.from_numpy(image(3, 64, 96))[None]
    maps = ours(x)
    assert [tuple(m.shape[1:]) for m in maps] == [(64, 32, 48), (256, 16, 24), (512, 8, 12), (1024, 4, 6), (2048, 2, 3)]
    assert torch.equal(maps[0], theirs.relu(theirs.bn1(theirs.conv1(x))))
    assert torch.equal(maps[4].mean((2, 3)), theirs(x))


@torch.no_grad()
def test_the_papers_network_step_by_step():
    """The U once more with nothing but torch's functions."""
    import torch.nn.functional as F
    model = UNet(3).eval()
    values = fill(model)

    def convs(x, name):
        for i in (0, 1):
            norm = [values[f"{name}.{i}.norm.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
            x = F.relu(F.batch_norm(F.conv2d(x, values[f"{name}.{i}.conv.weight"], padding=1), *norm))
        return x
    images = x = torch.from_numpy(image(1, 32, 48))[None]
    across = []
    for floor in (1, 2, 3, 4, 5):
        x = convs(F.max_pool2d(x, 2) if floor > 1 else x, f"backbone.down{floor}")
        across.append(x)
    for floor in (4, 3, 2, 1):
        x = F.conv_transpose2d(x, values[f"up{floor}.enlarge.weight"], values[f"up{floor}.enlarge.bias"], stride=2)
        x = convs(torch.cat([x, across[floor - 1]], 1), f"up{floor}.convs")
    expected = F.conv2d(x, values["head.weight"], values["head.bias"])
    assert torch.allclose(model(images)[0], expected, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("backbone", BACKBONES)
@torch.no_grad()
def test_any_size(backbone):
    model = UNet(3, backbone=backbone).eval()
    for height, width in ((45, 70), (33, 32)):
        images = torch.rand(1, 3, height, width)
        logits, losses = model(images, masks(1, 3, height, width))
        assert logits.shape == (1, 3, height, width) and torch.isfinite(losses["cross_entropy"])


@pytest.mark.parametrize("backbone", BACKBONES)
def test_one_image_trains_with_one_channel(backbone):
    """Batch size 1, sigmoid: a gradient for every parameter, and scores of two classes."""
    model = UNet(2, backbone=backbone, sigmoid=True, loss={"cross_entropy": 1.0, "dice": 0.5})
    logits, losses = model(torch.rand(1, 3, 64, 64), masks(1, 2, 64, 64))
    assert logits.shape == (1, 1, 64, 64) and set(losses) == {"cross_entropy", "dice"}
    sum(losses.values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    scores = model.decode(logits)
    assert scores.shape == (1, 2, 64, 64) and torch.allclose(scores.sum(1), torch.ones(1, 64, 64))


@pytest.mark.parametrize("backbone, gets_as_is", [("unet", True), ("vgg16", False), ("resnet50", False)])
@torch.no_grad()
def test_only_imagenet_backbones_get_normalised_images(backbone, gets_as_is):
    model, seen = UNet(2, backbone=backbone).eval(), []
    model.backbone.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    images = torch.full((1, 3, 32, 32), 0.5)
    model(images)
    assert torch.equal(seen[0], images) == gets_as_is


def test_pretrained(monkeypatch, tmp_path):
    """The file of a whole torchvision network fits the backbone; the options of a checkpoint (without pretrained) rebuild the network."""
    for name, module in (("vgg16", "nets.backbones.vgg"), ("resnet50", "nets.unet")):
        with torch.device("meta"):
            shapes = getattr(torchvision.models, name)(weights=None).state_dict()
        path = tmp_path / f"{name}.pth"
        torch.save({key: torch.full(t.shape, 0.25) for key, t in shapes.items() if not key.startswith("classifier")}, path)
        asked = []
        monkeypatch.setattr(f"{module}.download", lambda url, asked=asked, path=path: asked.append(url) or path)
        model = UNet(3, backbone=name, pretrained=True)
        assert f"/{name}-" in asked[0]
        assert all((p == 0.25).all() for p in model.backbone.parameters())
        UNet(3, backbone=name).load_state_dict(model.state_dict())


def test_wrong_requests():
    with pytest.raises(UserError, match='Did you mean "resnet50"'):
        UNet(3, backbone="resnet5")
    with pytest.raises(UserError, match="no ImageNet weights"):
        UNet(3, pretrained=True)
