"""DeepLabV3 is torchvision's: names, outputs, official files; it trains on one image; its auxiliary head counts half."""
import functools

import pytest
import torch
import torch.nn.functional as F
import torchvision
from recipe import difference, fill, image

from nets.deeplabv3 import ASPP, DeepLabV3, Dilated
from nets.fcn import BACKBONES
from nets.layers import normalise
from utils.errors import UserError
from utils.weights import load_weights

SIZE = (72, 96)


@functools.cache
def official(backbone, num_classes=21):
    """torchvision's network with the auxiliary head, in eval mode; its variances are small, so that a wrong eps is seen."""
    network = getattr(torchvision.models.segmentation, f"deeplabv3_{backbone}")(
        weights=None, weights_backbone=None, num_classes=num_classes, aux_loss=True).eval()
    fill(network)
    return network


def official_file(path, backbone):
    torch.save(official(backbone).state_dict(), path)
    return path


def picture(height, width):
    return torch.stack([torch.from_numpy(image(seed, height, width)) for seed in (1, 2)])


def masks(count, num_classes, height=SIZE[0], width=SIZE[1]):
    torch.manual_seed(1)
    found = torch.randint(num_classes, (count, height, width))
    found[:, :7] = 255
    return [{"mask": mask} for mask in found]


def both_heads(model, images):
    """The logits of the two heads, (B, K, H, W) each."""
    middle = model.backbone(normalise(images))[model.aux_level]
    aux = F.interpolate(model.aux_classifier(middle), images.shape[2:], mode="bilinear", align_corners=False)
    return model(images)[0], aux


def test_parameters():
    counts = {("resnet50", True): 42_004_074, ("resnet50", False): 39_638_869, ("resnet101", True): 60_996_202,
              ("mobilenet_v3_large", True): 11_029_328, ("mobilenet_v3_large", False): 11_025_477}
    with torch.device("meta"):
        for (backbone, aux), count in counts.items():
            assert sum(p.numel() for p in DeepLabV3(21, backbone=backbone, aux=aux).parameters()) == count


@pytest.mark.parametrize("backbone, size", [("resnet50", SIZE), ("resnet50", (75, 93)), ("resnet101", SIZE),
                                            ("mobilenet_v3_large", SIZE), ("mobilenet_v3_large", (129, 65))])
@torch.no_grad()
def test_equal_to_torchvision(backbone, size):
    """The same names, and with the same tensors the same outputs of both heads: at most 1e-5 of the largest value."""
    theirs, ours = official(backbone), DeepLabV3(21, backbone=backbone).eval()
    ours.load_state_dict(theirs.state_dict())
    images = picture(*size)
    expected = theirs(normalise(images))
    for found, name in zip(both_heads(ours, images), ("out", "aux")):
        assert difference(found, expected[name]) <= 1e-5


@pytest.mark.parametrize("size", [(1, 1), (3, 6), (6, 6), (6, 7), (7, 5), (13, 14)])
def test_taps_that_never_meet_the_map(size):
    """Output and gradients are those of the whole convolution, on either side of the size where eight of its nine taps are left out."""
    torch.manual_seed(0)
    conv, x = Dilated(5, 4, 6).double(), torch.randn(2, 5, *size, dtype=torch.float64, requires_grad=True)
    results = []
    for out in (conv(x), F.conv2d(x, conv.weight, padding=6, dilation=6)):
        results.append((out, *torch.autograd.grad(out.square().sum(), (x, conv.weight))))
    for ours, whole in zip(*results):
        assert ours.shape == whole.shape and torch.allclose(ours, whole, rtol=1e-12, atol=1e-12)
    assert (results[0][2][:, :, 0].abs().sum() > 0) == (size[0] > 6)


@pytest.mark.parametrize("backbone", ["resnet50", "mobilenet_v3_large"])
@torch.no_grad()
def test_official_file(backbone, tmp_path):
    """A file as torchvision publishes it is read by name; the outputs are those of the network that wrote it."""
    path = official_file(tmp_path / "deeplabv3 权重.pth", backbone)
    model = DeepLabV3(21, backbone=backbone)
    report = load_weights(model, path)
    assert report.backbone == 1.0 and not (report.different or report.missing or report.unused)
    images = picture(*SIZE)
    assert difference(model.eval()(images)[0], official(backbone)(normalise(images))["out"]) <= 1e-5


def test_official_file_for_other_classes(tmp_path):
    path = official_file(tmp_path / "coco.pth", "mobilenet_v3_large")
    report = load_weights(DeepLabV3(5, backbone="mobilenet_v3_large"), path)
    assert report.backbone == 1.0 and not (report.missing or report.unused)
    heads = ["classifier.4.weight", "classifier.4.bias", "aux_classifier.4.weight", "aux_classifier.4.bias"]
    assert [name for name, _, _ in report.different] == heads
    report = load_weights(DeepLabV3(21, backbone="mobilenet_v3_large", aux=False), path)
    assert not (report.missing or report.different) and {name.split(".")[0] for name in report.unused} == {"aux_classifier"}


def test_pretrained_is_the_backbone(tmp_path, monkeypatch, capsys):
    network = torchvision.models.mobilenet_v3_large(weights=None, dilated=True)
    torch.save(network.state_dict(), tmp_path / "imagenet.pth")
    monkeypatch.setattr("nets.backbones.mobilenet.download", lambda url: tmp_path / "imagenet.pth")
    model = DeepLabV3(3, pretrained=True, backbone="mobilenet_v3_large")
    assert all(torch.equal(tensor, network.features.state_dict()[name]) for name, tensor in model.backbone.state_dict().items())
    assert "100% of the backbone" in capsys.readouterr().out


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("backbone", ["resnet50", "mobilenet_v3_large"])
def test_training(backbone, count):
    """Finite losses of both heads and a gradient for every parameter, with a single image as well."""
    torch.manual_seed(0)
    model = DeepLabV3(3, backbone=backbone)
    logits, losses = model(picture(*SIZE)[:count], masks(count, 3))
    assert logits.shape == (count, 3, *SIZE) and set(losses) == {"cross_entropy", "aux_cross_entropy"}
    assert all(v.dtype == torch.float32 and v.ndim == 0 and torch.isfinite(v) for v in losses.values())
    sum(losses.values()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]


def test_statistics_behind_the_pooling():
    """With one image the mean of the map is normalised with what is known already, with two it brings new statistics."""
    torch.manual_seed(0)
    aspp = ASPP(8, (1, 2, 3), 16, dropout=0.0)
    norm = aspp.convs[4][2]
    norm.running_mean.normal_()
    before = norm.running_mean.clone()
    x = torch.rand(2, 8, 6, 9)
    alone = aspp.convs[4](x[:1])
    assert torch.equal(norm.running_mean, before) and torch.equal(alone, aspp.eval().convs[4](x[:1]))
    aspp.train()(x)
    assert not torch.equal(norm.running_mean, before)


@torch.no_grad()
def test_losses():
    """The loss of the network is that of its logits plus half of that of the auxiliary logits."""
    torch.manual_seed(0)
    model = DeepLabV3(3, backbone="mobilenet_v3_large").eval()
    images, targets = picture(*SIZE), masks(2, 3)
    truth = torch.stack([target["mask"] for target in targets])
    _, losses = model(images, targets)
    main, aux = both_heads(model, images)
    assert float(losses["cross_entropy"]) == pytest.approx(float(F.cross_entropy(main, truth, ignore_index=255)), rel=1e-5)
    assert float(losses["aux_cross_entropy"]) == pytest.approx(0.5 * float(F.cross_entropy(aux, truth, ignore_index=255)), rel=1e-5)
    assert model(images)[1] == {}
    _, without = DeepLabV3(3, backbone="mobilenet_v3_large", aux=False).eval()(images, targets)
    assert set(without) == {"cross_entropy"}
    parts = DeepLabV3(3, backbone="mobilenet_v3_large", loss={"focal": 1.0, "dice": 0.5}, class_weights=[1.0, 2.0, 3.0]).eval()
    assert set(parts(images, targets)[1]) == {"focal", "dice", "aux_focal", "aux_dice"}


@torch.no_grad()
def test_auxiliary_head_rests_without_targets():
    model = DeepLabV3(2, backbone="mobilenet_v3_large").eval()
    calls = []
    model.aux_classifier.register_forward_hook(lambda *_: calls.append(1))
    model(picture(*SIZE))
    assert not calls
    model(picture(*SIZE), masks(2, 2))
    assert calls


@pytest.mark.parametrize("sigmoid", [False, True])
def test_decode(sigmoid):
    """Scores of every class at every pixel, also when one channel stands for two classes."""
    torch.manual_seed(0)
    model = DeepLabV3(2, backbone="mobilenet_v3_large", sigmoid=sigmoid)
    logits, losses = model(picture(*SIZE), masks(2, 2))
    scores = model.decode(logits)
    assert logits.shape == (2, 1 if sigmoid else 2, *SIZE) and scores.shape == (2, 2, *SIZE)
    assert torch.allclose(scores.sum(1), torch.ones(2, *SIZE), atol=1e-5) and scores.min() >= 0
    if sigmoid:
        assert torch.allclose(scores[:, 1], logits[:, 0].sigmoid(), atol=1e-6)
    sum(losses.values()).backward()
    assert model.aux_classifier[4].weight.grad.abs().sum() > 0 and model.classifier[4].weight.grad.abs().sum() > 0


def test_wrong_requests():
    with pytest.raises(UserError, match=f'Did you mean "resnet50".*{", ".join(BACKBONES)}'):
        DeepLabV3(3, backbone="resnet5")
    assert DeepLabV3.task == "segmentation" and DeepLabV3.stride == 8
