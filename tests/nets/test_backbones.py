"""The backbones are torchvision's networks: names, outputs, start values; dilation is where each author puts it."""
import math

import pytest
import torch
import torchvision
from recipe import difference, fill

from nets.backbones.mobilenet import mobilenet_v2, mobilenet_v3_large
from nets.backbones.resnet import Bottleneck, resnet
from utils.errors import UserError
from utils.weights import load_weights

FACTORS = (32, 16, 8)
SIZE = (71, 93)                                         # divides by nothing


def official(name, factor=32):
    """torchvision's network in eval mode, with statistics small enough that a wrong eps is seen."""
    dilated = {32: None, 16: [False, False, True], 8: [False, True, True]}[factor]
    options = {"mobilenet_v3_large": {"dilated": True}, "mobilenet_v2": {}}.get(name, {"replace_stride_with_dilation": dilated})
    network = getattr(torchvision.models, name)(weights=None, **options).eval()
    fill(network)
    return network


def images(height, width):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def levels(network, x):
    """c2, c3, c4, c5 of torchvision's ResNet."""
    x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
    found = []
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        x = stage(x)
        found.append(x)
    return found


def fits(backbone, network, left_out):
    """Load torchvision's tensors; only those that begin with `left_out` may be without a place."""
    lost = backbone.load_state_dict(network.state_dict(), strict=False)
    assert not lost.missing_keys and all(name.startswith(left_out) for name in lost.unexpected_keys)
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in backbone.state_dict().items())


@pytest.mark.parametrize("name, factor", [("resnet18", 32), ("resnet50", 32), ("resnet50", 16), ("resnet50", 8), ("resnet101", 8)])
@torch.no_grad()
def test_resnet_is_torchvisions(name, factor):
    theirs, ours = official(name, factor), resnet(name, factor).eval()
    fits(ours, theirs, "fc.")
    x = images(*SIZE)
    for found, expected, channels in zip(ours(x), levels(theirs, x), ours.channels, strict=True):
        assert difference(found, expected) <= 1e-6 and found.shape[1] == channels


@torch.no_grad()
def test_mobilenet_v2_is_torchvisions():
    theirs, ours = official("mobilenet_v2"), mobilenet_v2().eval()
    fits(ours, theirs, ("classifier.", "features.18."))
    x = images(*SIZE)
    for found, end in zip(ours(x), (4, 7, 14, 18), strict=True):
        assert difference(found, theirs.features[:end](x)) <= 1e-6


@torch.no_grad()
def test_mobilenet_v3_is_torchvisions():
    theirs, ours = official("mobilenet_v3_large"), mobilenet_v3_large().eval()
    ours.load_state_dict(theirs.features.state_dict())
    x = images(*SIZE)
    for found, end in zip(ours(x), (3, 5, 8, 17), strict=True):
        assert difference(found, theirs.features[:end](x)) <= 1e-6


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("backbone", [resnet, mobilenet_v2])
@torch.no_grad()
def test_shapes(backbone, factor):
    ours = (backbone("resnet50", factor) if backbone is resnet else backbone(factor)).eval()
    assert ours.strides == tuple(min(stride, factor) for stride in (4, 8, 16, 32))
    for found, channels, stride in zip(ours(images(64, 96)), ours.channels, ours.strides, strict=True):
        assert found.shape == (2, channels, 64 // stride, 96 // stride)



@pytest.mark.parametrize("factor, first, dilation3, dilation4", [
    (16, False, [1] * 6, [1, 2, 2]), (16, True, [1] * 6, [2, 2, 2]),
    (8, False, [1, 2, 2, 2, 2, 2], [2, 4, 4]), (8, True, [2] * 6, [4, 4, 4])])
def test_resnet_dilations(factor, first, dilation3, dilation4):
    blocks = [m.conv2 for m in resnet("resnet50", factor, dilate_first=first).modules() if isinstance(m, Bottleneck)]
    assert [conv.dilation[0] for conv in blocks] == [1] * 7 + dilation3 + dilation4
    assert all(conv.padding == conv.dilation for conv in blocks)


@pytest.mark.parametrize("factor, expected", [(32, [1] * 17), (16, [1] * 14 + [2] * 3), (8, [1] * 7 + [2] * 7 + [4] * 3)])
def test_mobilenet_v2_dilations(factor, expected):
    """The block that loses its stride (14; at 8 also 7) keeps the dilation before it."""
    depthwise = [m for m in mobilenet_v2(factor).modules() if isinstance(m, torch.nn.Conv2d) and m.groups > 1]
    assert [conv.dilation[0] for conv in depthwise] == expected and all(conv.padding == conv.dilation for conv in depthwise)


@pytest.mark.parametrize("factor", [16, 8])
@torch.no_grad()
def test_mobilenet_v2_dilated_sees_what_it_saw(factor):
    """Dilation in place of stride: the finer map has, at the places of the coarse one, the same values."""
    plain, fine = mobilenet_v2(32).eval(), mobilenet_v2(factor).eval()
    fill(plain)
    fine.load_state_dict(plain.state_dict())
    x = images(64, 96)
    for found, expected, stride, before in zip(fine(x), plain(x), fine.strides, plain.strides):
        step = before // stride
        assert difference(found[..., ::step, ::step], expected) <= 1e-5


@torch.no_grad()
def test_deep_stem():
    backbone = resnet("resnet50", deep_stem=True).eval()
    stem = {name: tuple(t.shape) for name, t in backbone.named_parameters() if not name.startswith("layer") and t.ndim == 4}
    assert stem == {"conv1.weight": (64, 3, 3, 3), "conv2.weight": (64, 64, 3, 3), "conv3.weight": (128, 64, 3, 3)}
    x = images(64, 96)
    relu = torch.relu
    y = relu(backbone.bn3(backbone.conv3(relu(backbone.bn2(backbone.conv2(relu(backbone.bn1(backbone.conv1(x)))))))))
    expected = backbone.layer1(torch.nn.functional.max_pool2d(y, 3, 2, 1))
    assert y.shape == (2, 128, 32, 48) and difference(backbone(x)[0], expected) <= 1e-6


@torch.no_grad()
def test_start_values():
    """Every convolution starts with the deviation of torchvision's, every BatchNorm with 1 and 0."""
    torch.manual_seed(0)
    for network, ours in (("resnet50", resnet("resnet50")), ("mobilenet_v2", mobilenet_v2())):
        theirs = dict(getattr(torchvision.models, network)(weights=None).named_parameters())
        for name, tensor in ours.named_parameters():
            if tensor.ndim == 1:
                assert torch.equal(tensor, theirs[name])
            else:
                assert float(tensor.std() / theirs[name].std()) == pytest.approx(1, abs=5 / math.sqrt(tensor.numel()))


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2", "mobilenet_v3_large"])
def test_imagenet_file(name, tmp_path, monkeypatch, capsys):
    """pretrained=True reads a file with the names of torchvision's whole network."""
    network = official(name)
    path = tmp_path / "official 权重.pth"
    torch.save(network.state_dict(), path)
    module = "resnet" if name == "resnet50" else "mobilenet"
    asked = []
    monkeypatch.setattr(f"nets.backbones.{module}.download", lambda url: asked.append(url) or path)
    backbone = {"resnet50": lambda: resnet("resnet50", 8, True), "mobilenet_v2": lambda: mobilenet_v2(8, True),
                "mobilenet_v3_large": lambda: mobilenet_v3_large(True)}[name]()
    assert name in asked[0] and "100% of the backbone" in capsys.readouterr().out
    theirs = network.features.state_dict() if name == "mobilenet_v3_large" else network.state_dict()
    assert all(torch.equal(tensor, theirs[n]) for n, tensor in backbone.state_dict().items())


def test_imagenet_file_without_the_deep_stem(tmp_path):
    path = tmp_path / "resnet50.pth"
    torch.save(official("resnet50").state_dict(), path)
    report = load_weights(resnet("resnet50", 8, dilate_first=True, deep_stem=True), path)
    assert {n for n, _, _ in report.different} == {"conv1.weight", "layer1.0.conv1.weight", "layer1.0.downsample.0.weight"}
    assert {n.split(".")[0] for n in report.missing} == {"conv2", "bn2", "conv3", "bn3"} and report.backbone > 0.99


def test_wrong_requests():
    with pytest.raises(UserError, match='Did you mean "resnet50"'):
        resnet("resnet5")
    for backbone in (lambda: resnet("resnet50", 4), lambda: mobilenet_v2(12)):
        with pytest.raises(UserError, match="downsample_factor=.*choose 8"):
            backbone()
