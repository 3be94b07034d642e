"""RetinaNet is torchvision's: outputs, anchors, losses, gradients, detections, official files of both generations."""
import functools
import re

import pytest
import torch
import torchvision
from recipe import fill
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from twin import difference, objects, picture

import nets
from nets.layers import normalise
from nets.retinanet import SIZES, RetinaNet
from utils.errors import UserError
from utils.evaluate import suppress
from utils.weights import load_weights, our_name

INPUTS = [(96, 128), (160, 288)]                # in the first one p6 and p7 do not have the strides 64 and 128


@functools.cache
def official(frozen=False):
    """torchvision's network with a COCO head, in eval mode; small variances, so that a wrong eps is seen; its heads say something."""
    if frozen:
        backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=5,
                                       returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256))
        network = torchvision.models.detection.RetinaNet(backbone, 91)
        overwrite_eps(network, 0.0)             # as torchvision does with its released file
    else:
        network = torchvision.models.detection.retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
    fill(network)
    classes, boxes = network.head.classification_head.cls_logits, network.head.regression_head.bbox_reg
    with torch.no_grad():
        classes.weight *= 0.1
        boxes.weight *= 0.02
        classes.bias.normal_(-7, 2, generator=torch.Generator().manual_seed(0))
        classes.bias[::91] = -30                # the background column, which torchvision would report as an object of class 0
    return network.eval()


@functools.cache
def equal_to_official():
    """Ours with the same tensors, in eval mode."""
    model = RetinaNet(90).eval()
    model.load_state_dict(ours_named(official().state_dict()))
    return model


def ours_named(state):
    return {our_name(name, RetinaNet.official_names): tensor for name, tensor in state.items()}


def released(state):
    """The same tensors under the names of the file of 2020."""
    def name_then(name):
        name = re.sub(r"(inner|layer)_blocks\.(\d)\.0\.", r"\1_blocks.\2.", name)
        return re.sub(r"_head\.conv\.(\d)\.0\.", lambda found: f"_head.conv.{2 * int(found[1])}.", name)
    return {name_then(name): tensor for name, tensor in state.items()}


def theirs_of(network, images):
    """Logits, deltas and anchors of torchvision's network without its own resizing."""
    maps = list(network.backbone(normalise(images)).values())
    head = network.head(maps)
    anchors = network.anchor_generator(ImageList(images, [tuple(images.shape[2:])] * len(images)), maps)
    return head["cls_logits"], head["bbox_regression"], anchors[0]


def without_resizing(network, size):
    network.transform.min_size, network.transform.max_size = (min(size),), max(size)
    return network


def test_parameters():
    with torch.device("meta"):
        for options, count in (({}, 34_068_119), ({"norm": "frozen"}, 34_014_999), ({"norm": "frozen_eps0"}, 34_014_999)):
            assert sum(p.numel() for p in RetinaNet(90, **options).parameters()) == count
        network = torchvision.models.detection.RetinaNet(resnet_fpn_backbone(
            backbone_name="resnet101", weights=None, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256)), 21)
        model = RetinaNet(20, backbone="resnet101", norm="frozen")
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("size", INPUTS)
@torch.no_grad()
def test_outputs_and_anchors(size):
    """With the same tensors the same logits and deltas, at most 1e-5 of the largest, and the same anchors, at most 1e-4 px."""
    images = picture(*size)
    outputs, losses = equal_to_official()(images)
    logits, deltas, anchors = theirs_of(official(), images)
    assert losses == {} and sum(outputs["levels"]) == len(anchors)
    assert difference(outputs["logits"], logits) <= 1e-5 and difference(outputs["deltas"], deltas) <= 1e-5
    assert (outputs["anchors"] - anchors).abs().max() <= 1e-4


@pytest.mark.parametrize("size, threshold, limit, least", [(INPUTS[0], 0.05, 5000, 1000), (INPUTS[0], 0.95, 300, 30),
                                                           (INPUTS[1], 0.05, 300, 300), (INPUTS[1], 0.995, 300, 30)])
@torch.no_grad()
def test_detections(size, threshold, limit, least):
    """What is left after the suppression is the same; with the low threshold 1000 a level enter it, or 300 in all come out of it."""
    images = picture(*size)
    network, model = without_resizing(official(), size), equal_to_official()
    network.score_thresh, network.detections_per_img = threshold, limit
    outputs, _ = model(images)
    if threshold < 0.1:
        scores = model.decode(outputs)[1] > threshold
        assert any(part.sum() > 1000 for part in scores[0].split(outputs["levels"]))
    for found, expected in zip(suppress(model, outputs, threshold, 0.5, limit), network(list(images)), strict=True):
        assert len(found["boxes"]) == len(expected["boxes"]) >= least
        assert torch.equal(found["labels"] + 1, expected["labels"])
        assert (found["boxes"] - expected["boxes"]).abs().max() <= 1e-2 and (found["scores"] - expected["scores"]).abs().max() <= 1e-5


@pytest.mark.parametrize("size, counts", [(INPUTS[0], (5, 0)), (INPUTS[1], (3, 12))])
def test_losses(size, counts):
    """In training mode: the same losses on the same objects, at most 1e-4 apart, and the same gradients, also without any object."""
    images, targets = picture(*size), objects(counts, *size, least=0.03)
    network, model = without_resizing(official(), size), equal_to_official()
    names = {"head.classification_head.cls_logits.bias": "class_head.8.bias", "head.regression_head.conv.0.0.weight": "box_head.0.weight",
             "backbone.fpn.extra_blocks.p6.weight": "neck.p6.weight", "backbone.body.conv1.weight": "backbone.conv1.weight"}
    before = {one: {name: tensor.clone() for name, tensor in one.state_dict().items()} for one in (network, model)}
    try:
        expected = network.train()(list(images), [{"boxes": t["boxes"], "labels": t["labels"] + 1} for t in targets])
        found = model.train()(images, targets)[1]
        for ours, theirs in (("class", "classification"), ("box", "bbox_regression")):
            assert found[ours].detach().item() == pytest.approx(expected[theirs].detach().item(), rel=1e-4) and found[ours] > 0.01
        expected, found = (torch.autograd.grad(sum(losses.values()), [dict(one.named_parameters())[name] for name in some])
                           for one, losses, some in ((network, expected, names), (model, found, names.values())))
        assert all(difference(ours, theirs) <= 1e-3 for ours, theirs in zip(found, expected))
    finally:
        for one, state in before.items():       # training mode has moved the running statistics
            one.eval().load_state_dict(state)


def test_assign():
    """From IoU 0.5 an anchor stands for an object, below 0.4 for background; an object without any gets its best ones, ties included."""
    anchors = torch.tensor([[0., 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 4.5], [0, 0, 10, 3], [50, 50, 60, 60], [50, 50, 60, 60], [80, 80, 90, 90]])
    first = {"boxes": torch.tensor([[0., 0, 10, 10]]), "labels": torch.tensor([2])}
    second = {"boxes": torch.tensor([[0., 0, 10, 10], [50, 50, 52, 52]]), "labels": torch.tensor([0, 1])}
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    found = RetinaNet.assign(anchors, [first, nothing, second]).tolist()
    assert found == [[0, 0, -2, -1, -1, -1, -1], [-1] * 7, [1, 1, -2, -1, 2, 2, -1]]


def test_prior():
    """A fresh network believes in every class with a hundredth, so the empty cells do not drown the first steps."""
    torch.manual_seed(0)
    model = RetinaNet(3).eval()
    with torch.no_grad():
        outputs, losses = model(picture(96, 128), objects((4, 4), 96, 128, 3, least=0.03))
        scores = model.decode(outputs)[1]
    assert scores.shape[2] == 3 and scores.min() > 0.005 and scores.max() < 0.02
    assert losses["class"] < 2


@pytest.mark.parametrize("generation", ["today", "2020"])
@torch.no_grad()
def test_official_file(generation, tmp_path):
    """torchvision's frozen network, saved: read completely, with COCO's names, run with eps 0 and the paper's sizes."""
    network, path = official(frozen=True), tmp_path / "retinanet 权重.pth"
    state = network.state_dict() if generation == "today" else released(network.state_dict())
    if generation == "2020":
        network.load_state_dict(state)          # torchvision itself reads these names
    torch.save(state, path)
    model, info = nets.load(path, net="retinanet")
    assert info["class_names"][0] == "person" and len(info["class_names"]) == 90 and info["options"] == {"norm": "frozen_eps0"}
    assert tuple(info["input_shape"]) == (800, 1333) and info["settings"]["fit"] == "short_side"
    images = picture(96, 128)
    logits, deltas, _ = theirs_of(network, images)
    outputs, _ = model(images)
    assert difference(outputs["logits"], logits) <= 1e-5 and difference(outputs["deltas"], deltas) <= 1e-5
    if generation == "today":
        other = RetinaNet(90, norm="frozen").eval()
        report = load_weights(other, path)
        assert report.backbone == 1.0 and not (report.different or report.missing or report.unused)
        assert difference(other(images)[0]["logits"], logits) > 1e-4        # eps 1e-5 is seen
        report = load_weights(RetinaNet(5), path)
        assert report.backbone == 1.0 and not (report.missing or report.unused)
        assert [name for name, _, _ in report.different] == ["class_head.8.weight", "class_head.8.bias"]
    path.unlink()                               # 136 MB


def test_pretrained(tmp_path, monkeypatch, capsys):
    """True: the ImageNet backbone, frozen; "coco": all but the last convolution, frozen with eps 0; the checkpoint is told which."""
    body = torchvision.models.resnet50(weights=None)
    torch.save(body.state_dict(), tmp_path / "imagenet.pth")
    torch.save(released(official(frozen=True).state_dict()), tmp_path / "coco.pth")
    monkeypatch.setattr("nets.backbones.resnet.download", lambda url: tmp_path / "imagenet.pth")
    monkeypatch.setattr("nets.retinanet.download", lambda url: tmp_path / "coco.pth")
    model = RetinaNet(3, pretrained=True)
    assert model.options == {"norm": "frozen"} and model.backbone.bn1.eps == 1e-5 and "100% of the backbone" in capsys.readouterr().out
    assert torch.equal(model.backbone.layer4[2].conv3.weight, body.layer4[2].conv3.weight)
    model = RetinaNet(3, pretrained="coco")
    assert model.options == {"norm": "frozen_eps0"} and model.backbone.bn1.eps == 0 and "2 initialised from scratch" in capsys.readouterr().out
    assert torch.equal(model.box_head[8].weight, official(frozen=True).head.regression_head.bbox_reg.weight)
    assert RetinaNet(3).options == {"norm": "batch"} and RetinaNet(3, pretrained=True, norm="batch").options == {"norm": "batch"}
    for file in tmp_path.iterdir():
        file.unlink()


def test_frozen_statistics():
    """Frozen BatchNorms stay as they are in training mode, and the checkpoint's options build the same network again."""
    model = nets.build("retinanet", 3, (64, 96), norm="frozen")
    fill(model.backbone)
    before = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
    model.train()(picture(64, 96), objects((2, 2), 64, 96, 3, least=0.03))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.backbone.state_dict().items())
    again = nets.build("retinanet", 3, (64, 96), **model.options)
    again.load_state_dict(model.state_dict())


def test_anchor_sizes():
    usual, halved = RetinaNet(2), RetinaNet(2, anchor_sizes=[size // 2 for size in SIZES])
    assert torch.equal(halved.cell_anchors[1:], usual.cell_anchors[:-1])
    assert usual.cell_anchors[0, 4].tolist() == [-20, -20, 20, 20]          # 32 x 1.26, cut to 40


def test_wrong_requests():
    with pytest.raises(UserError, match='no normalisation "frosen".*Did you mean "frozen"'):
        RetinaNet(3, norm="frosen")
    with pytest.raises(UserError, match='no ResNet "resnet5"'):
        RetinaNet(3, backbone="resnet5")
    with pytest.raises(UserError, match="with resnet50, not resnet101"):
        RetinaNet(3, pretrained="coco", backbone="resnet101")
