"""Faster R-CNN is torchvision's: both stages' outputs, anchors, proposals, losses, gradients, detections, official files."""
import copy
import functools
import re

import pytest
import torch
import torchvision
from recipe import fill
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign
from twin import difference, objects, picture

import nets
from nets.faster_rcnn import ANCHOR_SIZES, FasterRCNN, Head, sample
from utils.errors import UserError
from utils.evaluate import suppress
from utils.weights import load_weights, our_name

INPUTS = [(96, 128), (160, 288)]                # in the first one p6 does not have the stride 64


@functools.cache
def official():
    """torchvision's network with a COCO head, in eval mode; small variances, so that a wrong eps is seen; its heads say something."""
    network = torchvision.models.detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91).eval()
    fill(network, factors=[("rpn.head.cls_logits", 0.3), ("rpn.head.bbox_pred", 0.1), ("cls_score", 0.12), ("predictor.bbox_pred", 0.2)])
    return without_resizing(network)


@functools.cache
def equal_to_official():
    """Ours with the same tensors, in eval mode."""
    model = FasterRCNN(90).eval()
    model.load_state_dict(ours_named(official().state_dict()))
    return model


@functools.cache
def frozen():
    """torchvision's network as its released file wants it: the same tensors, BatchNorms as constants with eps 0."""
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=5)
    network = torchvision.models.detection.FasterRCNN(backbone, 91)
    network.load_state_dict({name: tensor for name, tensor in official().state_dict().items() if not name.endswith("num_batches_tracked")})
    overwrite_eps(network, 0.0)
    return without_resizing(network).eval()


def without_resizing(network):
    network.transform.resize = lambda picture, target: (picture, target)
    return network


def ours_named(state):
    return {our_name(name, FasterRCNN.official_names): tensor for name, tensor in state.items()}


def released(state):
    """The same tensors under the names of the file of 2019."""
    def name_then(name):
        return re.sub(r"(inner|layer)_blocks\.(\d)\.0\.", r"\1_blocks.\2.", name).replace("rpn.head.conv.0.0.", "rpn.head.conv.")
    return {name_then(name): tensor for name, tensor in state.items()}


def for_torchvision(targets):
    return [{"boxes": target["boxes"], "labels": target["labels"] + 1} for target in targets]


def listen(module, kept, name):
    """Keep what a part of a network returns."""
    return module.register_forward_hook(lambda module, inputs, output: kept.__setitem__(name, output))


@functools.cache
def both(size):
    """One pass of both networks over two pictures: what their parts said. -> dict ours, dict theirs."""
    network, model, images, ours, theirs = official(), equal_to_official(), picture(*size), {}, {}
    hooks = [listen(model.rpn, ours, "rpn"), listen(network.rpn.head, theirs, "rpn"), listen(network.rpn.anchor_generator, theirs, "anchors"),
             listen(network.rpn, theirs, "proposals"), listen(network.roi_heads.box_predictor, theirs, "head")]
    with torch.no_grad():
        ours["outputs"], losses = model(images)
        theirs["detections"] = network(list(images))
    for hook in hooks:
        hook.remove()
    assert losses == {}
    return ours, theirs


def test_parameters():
    with torch.device("meta"):
        for classes, options, count in ((90, {}, 41_808_406), (90, {"norm": "frozen"}, 41_755_286), (20, {}, 41_449_656)):
            assert sum(p.numel() for p in FasterRCNN(classes, **options).parameters()) == count
        body = resnet_fpn_backbone(backbone_name="resnet101", weights=None)
        network, model = torchvision.models.detection.FasterRCNN(body, 21), FasterRCNN(20, backbone="resnet101", norm="frozen")
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("size", INPUTS)
def test_first_stage(size):
    """With the same tensors the same outputs, at most 1e-5 of the largest, anchors to 1e-4 px; from them the same proposals."""
    ours, theirs = both(size)
    objectness, deltas = concat_box_prediction_layers(*theirs["rpn"])
    assert difference(ours["rpn"][0].flatten(), objectness.flatten()) <= 1e-5 and difference(ours["rpn"][1].flatten(0, 1), deltas) <= 1e-5
    maps = [torch.zeros(1, 1, *x.shape[2:]) for x in theirs["rpn"][0]]
    assert (torch.cat(equal_to_official().make_anchors(maps, size)) - theirs["anchors"][0]).abs().max() <= 1e-4
    for found, expected in zip(ours["outputs"]["regions"], theirs["proposals"][0], strict=True):
        assert found.shape == expected.shape and len(found) > 100 and (found - expected).abs().max() <= 1e-2


@pytest.mark.parametrize("size", INPUTS)
def test_second_stage(size):
    ours, theirs = both(size)
    logits, deltas = theirs["head"]
    assert difference(ours["outputs"]["logits"], logits) <= 1e-5 and difference(ours["outputs"]["deltas"].flatten(1), deltas) <= 1e-5


@pytest.mark.parametrize("size", INPUTS)
@pytest.mark.parametrize("threshold, most", [(0.05, 100), (0.7, 99)])
def test_detections(size, threshold, most, monkeypatch):
    """What is left after the suppression is the same: with torchvision's limits (score 0.05, IoU 0.5, 100 a picture) and with dozens left."""
    ours, theirs = both(size)
    monkeypatch.setattr(official().roi_heads, "score_thresh", threshold)
    expected = official().roi_heads.postprocess_detections(*theirs["head"], theirs["proposals"][0], [size] * 2)
    if threshold == 0.05:
        assert all(torch.equal(boxes, detected["boxes"]) for boxes, detected in zip(expected[0], theirs["detections"], strict=True))
    for found, boxes, scores, labels in zip(suppress(equal_to_official(), ours["outputs"], threshold, 0.5, 100), *expected, strict=True):
        assert torch.equal(found["labels"] + 1, labels) and 20 <= len(labels) <= most and len(labels.unique()) > 3
        assert (found["boxes"] - boxes).abs().max() <= 1e-2 and (found["scores"] - scores).abs().max() <= 1e-5


class Says(torch.nn.Module):
    """A head that says what it was told to."""

    def __init__(self, *words):
        super().__init__()
        self.words = words

    def forward(self, maps):
        return self.words


@pytest.mark.parametrize("limits", [(2000, 1000), (300, 200)])
@pytest.mark.parametrize("training", [True, False])
def test_limits_of_the_proposals(limits, training):
    """How many of each map enter the suppression and how many leave it, in training and in use."""
    torch.manual_seed(0)
    size = (288, 416)
    maps = [torch.zeros(2, 256, -(-size[0] // 2 ** number), -(-size[1] // 2 ** number)) for number in range(2, 7)]
    objectness, deltas = zip(*((torch.randn(2, 3, *x.shape[2:]), 0.3 * torch.randn(2, 12, *x.shape[2:])) for x in maps))
    before, after = ({"training": limits[0], "testing": limits[1]} for _ in range(2))
    network = RegionProposalNetwork(official().rpn.anchor_generator, Says(objectness, deltas), 0.7, 0.3, 256, 0.5, before, after, 0.7)
    expected, _ = network.train(training)(ImageList(torch.zeros(2, 3, *size), [size, size]), dict(enumerate(maps)), objects((1, 1), *size))

    model = copy.copy(equal_to_official())
    assert model.proposals == (2000, 1000)
    model.proposals, model.training = limits, training
    objectness, deltas = concat_box_prediction_layers(list(objectness), list(deltas))
    found = model.propose(objectness.view(2, -1), deltas.view(2, -1, 4), model.make_anchors(maps, size), size)
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours) == len(theirs) == limits[0 if training else 1] and (ours - theirs).abs().max() <= 1e-2


def test_every_region_is_read_from_the_map_of_its_size():
    """As torchvision's MultiScaleRoIAlign does, at and around the sizes where the map changes, and beyond the border."""
    torch.manual_seed(0)
    maps = [torch.randn(3, 3, 1024 // 2 ** number, 1024 // 2 ** number) for number in range(2, 6)]
    sides = torch.tensor([0.01, 5, 60, 111, 111.99, 112, 113, 223, 224, 225, 447, 448, 449, 900, 1500])
    corners = torch.rand(2, len(sides), 2) * 200 - 20
    regions = list(torch.cat([corners, corners + torch.stack([sides * 1.25, sides / 1.25], 1)], 2))
    regions.append(torch.tensor([[0, 0, side, side] for side in (112, 224, 448)]) * (1 - 5e-7))     # as good as that size
    regions[1] = regions[1][3:]
    found = Head.pool(None, maps, regions)
    expected = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)({str(i): x for i, x in enumerate(maps)}, regions, [(1024, 1024)] * 3)
    assert found.shape == (30, 3, 7, 7) and difference(found, expected) <= 1e-5


@pytest.mark.parametrize("size, counts, limits", [(INPUTS[0], (5, 0), None), (INPUTS[1], (3, 80), (300, 64))])
def test_losses(size, counts, limits, monkeypatch):
    """In training mode, from the same random numbers: the same losses on the same objects, at most 1e-4 apart, and the same gradients.

    With the usual limits and with small ones, which are quicker: then the gradients are compared.
    """
    images, targets = picture(*size), objects(counts, *size)
    network, model = official(), equal_to_official()
    if limits:
        for name in ("_pre_nms_top_n", "_post_nms_top_n"):
            monkeypatch.setattr(network.rpn, name, {"training": limits[0]})
        monkeypatch.setattr(network.roi_heads.fg_bg_sampler, "batch_size_per_image", limits[1])
        monkeypatch.setattr(model, "proposals", (limits[0], 0))
        monkeypatch.setattr(model, "samples", limits[1])
    names = ["rpn.head.conv.0.0.weight", "rpn.head.bbox_pred.bias", "roi_heads.box_head.fc7.weight", "roi_heads.box_predictor.cls_score.weight",
             "roi_heads.box_predictor.bbox_pred.weight", "backbone.fpn.layer_blocks.1.0.weight", "backbone.body.conv1.weight"]
    before = {one: {name: tensor.clone() for name, tensor in one.state_dict().items() if "running" in name} for one in (network, model)}
    try:
        torch.set_grad_enabled(bool(limits))
        torch.manual_seed(5)
        expected = network.train()(list(images), for_torchvision(targets))
        torch.manual_seed(5)
        outputs, found = model.train()(images, targets)
        for ours, theirs in (("objectness", "objectness"), ("proposal", "rpn_box_reg"), ("class", "classifier"), ("box", "box_reg")):
            assert found[ours].detach().item() == pytest.approx(expected[f"loss_{theirs}"].detach().item(), rel=1e-4) and found[ours] > 0.01
        if limits:
            expected, found = (torch.autograd.grad(sum(losses.values()), [dict(one.named_parameters())[name] for name in some])
                               for one, losses, some in ((network, expected, names), (model, found, ours_named(dict.fromkeys(names)))))
            assert all(difference(ours, theirs) <= 1e-3 for ours, theirs in zip(found, expected))
    finally:
        torch.set_grad_enabled(True)
        for one, state in before.items():       # training mode has moved the running statistics
            one.eval().load_state_dict(state, strict=False)
    assert [len(regions) for regions in outputs["regions"]] == [model.samples] * 2
    boxes, scores = model.decode(outputs)
    assert boxes.shape == (2, model.samples, 90, 4) and scores.shape == (2, model.samples, 90)


@torch.no_grad()
def test_eval_mode():
    """Losses are those of training, from as many random numbers, but the outputs are those without targets. An image may hold nothing."""
    torch.manual_seed(0)
    model, images = nets.build("faster_rcnn", 3, (64, 96), norm="frozen", proposals=(80, 80), samples=40), picture(64, 96)
    fill(model.backbone)
    for counts in ((3, 9), (0, 4), (0, 0)):
        targets, found = objects(counts, 64, 96, 3), []
        for training in (True, False):
            torch.manual_seed(7)
            found.append(model.train(training)(images, targets))
        (sampled, losses), (outputs, again) = found
        assert losses == again and set(losses) == {"objectness", "proposal", "class", "box"}
        assert all(value.isfinite() and value.dtype == torch.float32 for value in losses.values())
        assert (losses["proposal"] > 0) == (losses["box"] > 0) == (sum(counts) > 0)
        alone, nothing = model(images)
        assert nothing == {} and all(torch.equal(outputs[name], alone[name]) for name in ("logits", "deltas"))
        assert [len(boxes) for boxes in sampled["regions"]] == [40, 40] and [len(boxes) for boxes in outputs["regions"]] == [80, 80]


def test_sampling():
    """Objects are a half or a quarter at most, background fills up; what stands between takes no part; short supplies are taken whole."""
    torch.manual_seed(0)
    truth = torch.tensor([2] * 30 + [-2] * 50 + [-1] * 60 + [0] * 10)
    for count, share, expected in ((40, 0.5, (20, 20)), (100, 0.25, (25, 60)), (200, 0.5, (40, 60)), (64, 0.5, (32, 32))):
        positive, negative = sample(truth, count, share)
        assert (len(positive.unique()), len(negative.unique())) == (len(positive), len(negative)) == expected
        assert (truth[positive] >= 0).all() and (truth[negative] == -1).all()
    assert not torch.equal(sample(truth, 20, 0.5)[0], sample(truth, 20, 0.5)[0])


def test_what_the_second_stage_learns_from():
    """Truths are proposals, too; a region is of the class that it overlaps by half; labels are one up, 0 is the background."""
    model = copy.copy(equal_to_official())
    model.samples = 8
    target = {"boxes": torch.tensor([[0., 0, 10, 10], [50, 50, 90, 90]]), "labels": torch.tensor([4, 0])}
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    proposals = [torch.tensor([[0., 0, 10, 5.1], [0, 0, 10, 4.9], [50, 50, 90, 88]]), torch.tensor([[0., 0, 5, 5]])]
    regions, labels, truths = model.sample_regions(proposals, [target, nothing])
    assert [len(boxes) for boxes in regions] == [2 + 1, 1]              # 8 / 4 on an object, and all the background there is
    assert labels[2:].tolist() == [0, 0] and regions[0][2].tolist() == [0, 0, 10, pytest.approx(4.9)]
    for region, label, truth in zip(regions[0], labels, truths, strict=False):
        assert truth.tolist() == target["boxes"][int(region[0] > 20)].tolist() and label == (1 if region[0] > 20 else 5)
    model.samples = 100
    assert any(region.tolist() == target["boxes"][1].tolist() for region in model.sample_regions(proposals, [target, nothing])[0][0])


def test_decode():
    """Every class has its box, cut at the border; what is narrower than a hundredth of a pixel there scores 0; short images are filled up."""
    regions = [torch.tensor([[10., 10, 30, 30]]), torch.tensor([[0., 0, 40, 20], [100, 100, 120, 120]])]
    deltas = torch.zeros(3, 3, 4)
    deltas[0, 2] = torch.tensor([10 * 0.5, 0, 5 * torch.log(torch.tensor(2.0)), 0])     # half a width to the right, twice as wide
    logits = torch.log(torch.tensor([[0.2, 0.3, 0.5], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]))
    boxes, scores = FasterRCNN.decode(None, {"logits": logits, "deltas": deltas, "regions": regions, "input_shape": (60, 100)})
    assert boxes.shape == (2, 2, 2, 4) and scores.shape == (2, 2, 2)
    assert torch.allclose(boxes[0, 0], torch.tensor([[10., 10, 30, 30], [10, 10, 50, 30]]), atol=1e-4)
    assert torch.allclose(scores, torch.tensor([[[0.3, 0.5], [0, 0]], [[0.2, 0.1], [0, 0]]]))
    assert boxes[..., 0::2].max() <= 100 and boxes[..., 1::2].max() <= 60


@torch.no_grad()
def test_official_file(tmp_path):
    """torchvision's network as released, saved: read completely, with COCO's names, run with eps 0 and the paper's sizes."""
    network, path, today = frozen(), tmp_path / "fasterrcnn 权重.pth", frozen().state_dict()
    network.load_state_dict(released(today))            # torchvision itself reads these names
    assert ours_named(released(today)).keys() == ours_named(today).keys() and released(today).keys() != today.keys()
    torch.save(released(today), path)
    model, info = nets.load(path, net="faster_rcnn")
    assert ours_named(today).keys() == model.state_dict().keys()
    assert info["class_names"][0] == "person" and len(info["class_names"]) == 90 and info["options"] == {"norm": "frozen_eps0"}
    assert tuple(info["input_shape"]) == (800, 1333) and info["settings"]["fit"] == "short_side"
    images, kept = picture(96, 128), {}
    hook = listen(network.roi_heads.box_predictor, kept, "head")
    network(list(images))
    hook.remove()
    outputs, _ = model(images)
    assert difference(outputs["logits"], kept["head"][0]) <= 1e-5 and difference(outputs["deltas"].flatten(1), kept["head"][1]) <= 1e-5
    model = FasterRCNN(5, norm="frozen")                # with another eps
    report = load_weights(model, path)
    path.unlink()                                       # 167 MB
    assert report.backbone == 1.0 and not (report.missing or report.unused)
    assert [name for name, _, _ in report.different] == [f"head.{layer}.{part}" for layer in ("classes", "deltas") for part in ("weight", "bias")]
    assert difference(model.backbone(images)[3], network.backbone.body(images)["3"]) > 1e-4


def test_pretrained(tmp_path, monkeypatch, capsys):
    """True: the ImageNet backbone, frozen; "coco": all but the last layers, frozen with eps 0; the checkpoint is told which."""
    body = torchvision.models.resnet50(weights=None)
    torch.save(body.state_dict(), tmp_path / "imagenet.pth")
    torch.save(released(frozen().state_dict()), tmp_path / "coco.pth")
    monkeypatch.setattr("nets.backbones.resnet.download", lambda url: tmp_path / "imagenet.pth")
    monkeypatch.setattr("nets.faster_rcnn.download", lambda url: tmp_path / "coco.pth")
    model = FasterRCNN(3, pretrained=True)
    assert model.options == {"norm": "frozen"} and model.backbone.bn1.eps == 1e-5 and "100% of the backbone" in capsys.readouterr().out
    assert torch.equal(model.backbone.layer4[2].conv3.weight, body.layer4[2].conv3.weight)
    model = FasterRCNN(3, pretrained="coco")
    assert model.options == {"norm": "frozen_eps0"} and model.backbone.bn1.eps == 0 and "4 initialised from scratch" in capsys.readouterr().out
    assert torch.equal(model.head.fc7.weight, frozen().roi_heads.box_head.fc7.weight)
    assert FasterRCNN(3).options == {"norm": "batch"}
    for file in tmp_path.iterdir():
        file.unlink()


def test_mixed_precision():
    """In half precision, too, boxes and losses are float32 and every parameter learns."""
    torch.manual_seed(0)
    model, images = nets.build("faster_rcnn", 3, (64, 96), proposals=(100, 50), samples=16), picture(64, 96)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, losses = model(images, objects((3, 0), 64, 96, 3))
        boxes, scores = model.decode(outputs)
    assert {value.dtype for value in (*losses.values(), outputs["logits"], outputs["deltas"], boxes, scores)} == {torch.float32}
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_anchor_sizes():
    halved = FasterRCNN(2, anchor_sizes=[size // 2 for size in ANCHOR_SIZES]).cell_anchors
    assert torch.equal(halved[1:], equal_to_official().cell_anchors[:-1])
    assert halved[1].tolist() == [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]


def test_wrong_requests():
    with pytest.raises(UserError, match=r"anchor_sizes=\(8, 16\): expected five sizes"):
        FasterRCNN(3, anchor_sizes=(8, 16))
    with pytest.raises(UserError, match='no normalisation "frosen".*Did you mean "frozen"'):
        FasterRCNN(3, norm="frosen")
    with pytest.raises(UserError, match='no ResNet "resnet5"'):
        FasterRCNN(3, backbone="resnet5")
