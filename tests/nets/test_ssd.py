"""SSD is torchvision's: outputs, default boxes, losses, gradients, detections, official files. SSD512 is the paper's."""
import functools

import pytest
import torch
import torch.nn.functional as F
import torchvision
from recipe import fill, image
from torchvision.models.detection import ssd as torchvisions
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from twin import difference

import nets
from nets.backbones.vgg import VGG
from nets.layers import Depthwise, normalise
from nets.ssd import MEAN, SSD300, SSD512, STD, L2Norm
from nets.ssdlite import SSDLite320
from utils.errors import UserError
from utils.evaluate import suppress
from utils.weights import our_name

NETS = {"ssd300_vgg16": functools.partial(SSD300, box_sizes="coco"), "ssdlite320_mobilenet_v3_large": SSDLite320}
SIDE = {"ssd300_vgg16": 300, "ssdlite320_mobilenet_v3_large": 320}
OURS = {"ssd300_vgg16": "ssd300", "ssdlite320_mobilenet_v3_large": "ssdlite320_mobilenet_v3"}
NORMAL = {"ssd300_vgg16": (MEAN, STD), "ssdlite320_mobilenet_v3_large": ((0.5,) * 3, (0.5,) * 3)}
SURE = {"ssd300_vgg16": 0.5, "ssdlite320_mobilenet_v3_large": 0.3}      # from this score on dozens of boxes are left
PICTURES = [(320, 320), (240, 410), (333, 250)]         # every one is warped to the input


@functools.cache
def official(name):
    """torchvision's network with a COCO head, in eval mode; small variances, so that a wrong eps is seen; its heads say something.

    -> network; maps: list of (2, C, h, w), what its backbone makes of the first two pictures of its input's size.
    """
    network = getattr(torchvision.models.detection, name)(weights=None, weights_backbone=None, num_classes=91).eval()
    fill(network)
    with torch.no_grad():
        maps = list(network.backbone(normalise(pictures(name), *NORMAL[name])).values())
        for heads, size in ((network.head.classification_head, 1.5), (network.head.regression_head, 1.0)):
            for head, x in zip(heads.module_list, maps):
                last = head[-1] if isinstance(head, torch.nn.Sequential) else head
                last.weight *= size / head(x).std()
    return network, maps


@functools.cache
def answers(name):
    """Ours with the same tensors, in eval mode, and what it says to the first two pictures."""
    model = NETS[name](90).eval()
    model.load_state_dict({our_name(key, model.official_names): tensor for key, tensor in official(name)[0].state_dict().items()})
    with torch.no_grad():
        return model, model(pictures(name))[0]


def pictures(name, count=2):
    """(B, 3, H, W) 0-1, of the network's size."""
    return torch.stack([torch.from_numpy(image(seed, SIDE[name], SIDE[name])) for seed in range(1, 1 + count)])


def objects(counts, side, num_classes=90):
    """From small to as large as the image; the last two want the same default box. Labels from 0."""
    torch.manual_seed(1)
    found = []
    for count in counts:
        size = side * torch.linspace(0.03, 0.9, count)[:, None] * (0.7 + 0.3 * torch.rand(count, 2))
        corner = torch.rand(count, 2) * (side - size)
        boxes = torch.cat([corner, corner + size], 1)
        boxes[-2:-1] = boxes[-1:] - 1
        found.append({"boxes": boxes, "labels": torch.randint(num_classes, (count,))})
    return found


def generator(ratios, sizes, steps=None):
    return DefaultBoxGenerator([list(some) for some in ratios], scales=list(sizes), steps=steps)


def boxes_of(generator, maps, input_shape):
    """Default boxes of torchvision's generator. maps: per map (h, w) -> (N, 4)."""
    images = ImageList(torch.zeros(1, 3, *input_shape), [tuple(input_shape)])
    return generator(images, [torch.zeros(1, 1, h, w) for h, w in maps])[0]


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_parameters():
    with torch.device("meta"):
        assert [count(SSD300(classes)) for classes in (90, 20)] == [35_641_826, 26_285_486]
        assert [count(SSDLite320(classes)) for classes in (90, 20)] == [3_440_060, 2_469_860]


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_outputs_and_default_boxes(name):
    """With the same tensors the same logits and deltas, at most 1e-5 of the largest, and the same default boxes, at most 1e-4 px."""
    (network, maps), (_, outputs) = official(name), answers(name)
    theirs, side = network.head(maps), SIDE[name]
    assert difference(outputs["logits"], theirs["cls_logits"]) <= 1e-5
    assert difference(outputs["deltas"], theirs["bbox_regression"]) <= 1e-5
    anchors = boxes_of(network.anchor_generator, [x.shape[2:] for x in maps], (side, side))
    assert len(anchors) == {300: 8732, 320: 3234}[side] and (outputs["anchors"] - anchors).abs().max() <= 1e-4
    assert tuple(outputs["input_shape"]) == (side, side)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("sure", [False, True])
@torch.no_grad()
def test_detections(name, sure, monkeypatch):
    """What is left after the suppression is the same; with torchvision's thresholds all its limits are at work, with high ones dozens are left."""
    (network, maps), (model, outputs) = official(name), answers(name)
    if sure:
        monkeypatch.setattr(network, "score_thresh", SURE[name])
    monkeypatch.setattr(network.backbone, "forward", lambda images: dict(enumerate(maps)))
    assert model.candidates(outputs)["per_class"] == network.topk_candidates and model.recipe["nms_iou"] == network.nms_thresh
    results = suppress(model, outputs, network.score_thresh, network.nms_thresh, network.detections_per_img)
    if not sure:
        assert ((model.decode(outputs)[1] > network.score_thresh).sum(1) > network.topk_candidates).any()
    for found, expected in zip(results, network(list(pictures(name))), strict=True):
        assert len(found["boxes"]) == len(expected["boxes"])
        assert 30 <= len(found["boxes"]) < 150 if sure else len(found["boxes"]) == network.detections_per_img
        same(found, expected)


def same(found, expected):
    assert torch.equal(found["labels"] + 1, expected["labels"])
    assert (found["boxes"] - expected["boxes"]).abs().max() <= 1e-2 and (found["scores"] - expected["scores"]).abs().max() <= 1e-5


@torch.no_grad()
def test_detections_in_pictures_of_any_size(monkeypatch):
    """Warped to the input and back, the whole way."""
    name = "ssdlite320_mobilenet_v3_large"
    network, model = official(name)[0], answers(name)[0]
    images = [torch.from_numpy(image(5 + seed, height, width)) for seed, (height, width) in enumerate(PICTURES)]
    warped = torch.cat([F.interpolate(one[None], (320, 320), mode="bilinear") for one in images])
    monkeypatch.setattr(network, "score_thresh", SURE[name])
    results = suppress(model, model(warped)[0], SURE[name], 0.55, 300)
    for found, expected, (height, width) in zip(results, network(images), PICTURES, strict=True):
        found["boxes"] *= torch.tensor([width, height] * 2) / 320
        assert len(found["boxes"]) == len(expected["boxes"]) > 20
        same(found, expected)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("counts", [(5, 0), (3, 12), (0, 0)])
def test_losses(name, counts, monkeypatch):
    """The same losses on the same objects, at most 1e-4 apart, and the same gradients at the outputs."""
    (network, maps), (model, outputs) = official(name), answers(name)
    targets, theirs = objects(counts, SIDE[name]), {}

    def keep(module, inputs, result):
        theirs.update({key: value.detach().requires_grad_() for key, value in result.items()})
        return theirs
    monkeypatch.setattr(network, "training", True)              # alone: its parts stay in eval mode
    monkeypatch.setattr(network.backbone, "forward", lambda images: dict(enumerate(maps)))
    hook = network.head.register_forward_hook(keep)
    expected = network(list(pictures(name)), [{"boxes": t["boxes"], "labels": t["labels"] + 1} for t in targets])
    hook.remove()
    ours = {key: outputs[key].clone().requires_grad_() for key in ("logits", "deltas")}
    found = model.loss(outputs | ours, targets)
    for one, other in (("class", "classification"), ("box", "bbox_regression")):
        assert found[one].item() == pytest.approx(expected[other].item(), rel=1e-4) and found[one] > 0.1 or not any(counts)
    found = torch.autograd.grad(sum(found.values()), list(ours.values()))
    expected = torch.autograd.grad(sum(expected.values()), [theirs["cls_logits"], theirs["bbox_regression"]])
    for one, other in zip(found, expected):
        assert (one - other).abs().max() <= 1e-5 and (other.abs().max() > 1e-3) == any(counts)


def test_a_step_of_training_is_torchvisions():
    """The whole of SSDLite in training mode: losses, gradients, and what the BatchNorms remember."""
    name = "ssdlite320_mobilenet_v3_large"
    network, model = official(name)[0], answers(name)[0]
    before = {one: {key: tensor.clone() for key, tensor in one.state_dict().items()} for one in (network, model)}
    targets = objects((4, 2), 320)
    try:
        expected = network.train()(list(pictures(name)), [{"boxes": t["boxes"], "labels": t["labels"] + 1} for t in targets])
        found = model.train()(pictures(name), targets)[1]
        assert sum(found.values()).item() == pytest.approx(sum(expected.values()).item(), rel=1e-4)
        sum(found.values()).backward()
        sum(expected.values()).backward()
        gradients = {our_name(key, model.official_names): p.grad for key, p in network.named_parameters()}
        assert all(difference(p.grad, gradients[key]) <= 1e-3 for key, p in model.named_parameters() if "backbone.features.0.0." in key)
        after = {our_name(key, model.official_names): tensor for key, tensor in network.state_dict().items()}
        assert all(torch.allclose(tensor, after[key], rtol=1e-3, atol=1e-4) for key, tensor in model.state_dict().items())
        assert not torch.equal(after["extras.3.0.1.running_mean"], before[model]["extras.3.0.1.running_mean"])
    finally:
        for one, state in before.items():
            one.zero_grad()
            one.eval().load_state_dict(state)


@pytest.mark.parametrize("network, sizes, side, first, last, total", [
    (SSD300, "voc", 300, 30, 315, 8732), (SSD300, "coco", 300, 21, 315, 8732),
    (SSD512, "voc", 512, 35.84, 537.6, 24564), (SSD512, "coco", 512, 20.48, 542.72, 24564)])
def test_default_boxes_of_the_paper(network, sizes, side, first, last, total):
    with torch.device("meta"):                                  # shapes without computing
        found = network(20)
        maps = [tuple(x.shape[2:]) for x in found.pyramid(torch.zeros(1, 3, side, side))]
    assert maps == [(n, n) for n in ({300: (38, 19, 10, 5, 3, 1), 512: (64, 32, 16, 8, 4, 2, 1)}[side])]
    shares = network.sizes[sizes]
    assert shares[0] * side == pytest.approx(first) and shares[-1] * side == pytest.approx(last)
    steps = [8, 16, 32, 64, 100, 300] if side == 300 else [8, 16, 32, 64, 128, 256, 512]
    with torch.device("cpu"):
        model = object.__new__(network)
        torch.nn.Module.__init__(model)
        nets.ssd.SSD.__init__(model, 20, shares, network.ratios)
    boxes = model.make_default_boxes(maps, (side, side))
    assert boxes.shape == (total, 4)
    assert (boxes - boxes_of(generator(network.ratios, shares, steps), maps, (side, side))).abs().max() <= 1e-4


def test_default_boxes_of_other_inputs():
    """The cells of the last maps share a non-square input out evenly; sizes are shares of its height and width."""
    model = SSD300(3, batch_norm=True)
    maps = [(40, 48), (20, 24), (10, 12), (5, 6), (3, 4), (1, 2)]
    boxes = model.make_default_boxes(maps, (320, 384))
    expected = boxes_of(generator(model.ratios, model.sizes["voc"], [8, 16, 32, 64, 1, 1]), maps, (320, 384))
    evenly = boxes_of(generator(model.ratios, model.sizes["voc"]), maps, (320, 384))
    split = len(boxes) - 4 * (3 * 4 + 2)
    assert (boxes[:split] - expected[:split]).abs().max() <= 1e-4 and (boxes[split:] - evenly[split:]).abs().max() <= 1e-4


@torch.no_grad()
def test_ssd512_has_torchvisions_first_maps():
    """torchvision keeps a SSD512 behind `highres`; its last maps are not the paper's, the tensors are the same."""
    theirs = torchvisions._vgg_extractor(torchvision.models.vgg.VGG(torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"]), 1,
                                                                    init_weights=False), True, 5)
    model = SSD512(2).eval()
    theirs.load_state_dict({key: model.state_dict()[our_name(f"backbone.{key}", SSD512.official_names)] for key in theirs.state_dict()})
    images = torch.from_numpy(image(3, 272, 288))[None]
    maps = model.pyramid(images)
    assert [tuple(x.shape[2:]) for x in maps] == [(34, 36), (17, 18), (9, 9), (5, 5), (3, 3), (2, 2), (1, 1)]
    theirs.extra = theirs.extra[:3]
    for found, expected in zip(maps[:4], theirs(normalise(images, MEAN, STD)).values(), strict=True):
        assert difference(found, expected) <= 1e-5


def test_assign():
    anchors = torch.tensor([[0., 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 4.9], [40, 40, 60, 60], [0, 20, 10, 30]])
    labels, boxes = SSD300.assign(torch.tensor([[0., 0, 10, 10]]), torch.tensor([2]), anchors)
    assert labels.tolist() == [3, 3, 0, 0, 0] and boxes[1].tolist() == [0, 0, 10, 10]
    # a small object gets its best default box; of two that want the same the later; a third overlaps a default box by more than half
    truth = torch.tensor([[49., 49, 51, 51], [0, 0, 10, 10], [0, 0, 10, 9.9], [0, 0, 9, 5]])
    labels, boxes = SSD300.assign(truth, torch.tensor([0, 1, 2, 3]), anchors)
    assert labels.tolist() == [3, 4, 4, 1, 0] and boxes[:4].tolist() == truth[[2, 3, 3, 0]].tolist()
    labels, boxes = SSD300.assign(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), anchors)
    assert labels.tolist() == [0] * 5 and boxes.shape == (5, 4)


def test_mining():
    """Three negatives for each positive, in each image by itself, those with the highest loss; never more than there are."""
    model = SSDLite320(1)
    anchors = torch.tensor([[20. * i, 0, 20 * i + 10, 10] for i in range(8)])
    logits = torch.zeros(2, 8, 2)
    logits[:, :, 1] = torch.tensor([0., 4, 3, 2, 1, -1, -2, -3])        # how much each believes in an object
    outputs = {"logits": logits, "deltas": torch.zeros(2, 8, 4), "anchors": anchors}
    one = {"boxes": anchors[:1] + 1.0, "labels": torch.tensor([0])}
    most = {"boxes": anchors[1:7], "labels": torch.zeros(6, dtype=torch.int64)}
    cost = F.softplus(logits[0, :, 1])                                   # of a negative
    losses = model.loss(outputs, [one, {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}])
    assert losses["class"].item() == pytest.approx((cost[0] + cost[1:4].sum()).item(), rel=1e-5)
    assert losses["box"].item() == pytest.approx(2 * 0.5, rel=1e-5)      # both shifts 0.1 of the anchor times 10
    losses = model.loss(outputs, [one, most])
    right = F.softplus(-logits[0, 1:7, 1]).sum()
    assert losses["class"].item() == pytest.approx(((cost[0] + cost[1:4].sum() + right + cost[0] + cost[7]) / 7).item(), rel=1e-5)


def test_l2norm():
    norm = L2Norm(5)
    x = torch.rand(2, 5, 3, 4) * 100
    assert torch.allclose(norm(x).norm(dim=1), torch.full((2, 3, 4), 20.0)) and norm.weight.requires_grad


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_official_file(name, tmp_path, monkeypatch, capsys):
    """torchvision's network, saved: read completely, with COCO's names; for other classes only the class heads do not load."""
    path = tmp_path / "ssd 权重.pth"
    torch.save(official(name)[0].state_dict(), path)
    model, info = nets.load(path, net=OURS[name])
    assert info["class_names"][0] == "person" and len(info["class_names"]) == 90
    assert tuple(info["input_shape"]) == (SIDE[name],) * 2 and info["settings"]["fit"] == "stretch"
    state = answers(name)[0].state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items()) and torch.equal(model.shapes, answers(name)[0].shapes)
    monkeypatch.setattr(f"{type(model).__module__}.download", lambda url: path)
    model = type(model)(5, pretrained="coco")
    assert torch.equal(model.shapes, answers(name)[0].shapes)           # those that go with the file
    said = capsys.readouterr().out
    assert "12 initialised from scratch" in said and "class_heads.0" in said and "box_heads" not in said and "the file has none" not in said
    assert model.options == ({"box_sizes": "coco"} if name == "ssd300_vgg16" else {"reduced_tail": True})


def test_ssd512_has_no_official_file():
    with pytest.raises(UserError, match="no official COCO file of ssd512"):
        SSD512(90, pretrained="coco")
    assert not hasattr(SSD512, "official")
    with pytest.raises(UserError, match='no default boxes "paper". Known: voc, coco'):
        SSD300(3, box_sizes="paper")


@pytest.mark.parametrize("name", ["ssd300", "ssd512"])
def test_the_smallest_input(name):
    """One px less and the last map would have no cell."""
    with pytest.raises(UserError, match=r"at least 268. The nearest is \(268, 300\)"):
        nets.build(name, 3, (267, 300))
    with torch.device("meta"):
        model = nets.build(name, 3, (268, 268))
        assert model.pyramid(torch.zeros(1, 3, 268, 268))[-1].shape[2:] == (1, 1)
        try:                                            # without real numbers PyTorch before 2.7 lets an empty map pass
            assert model.pyramid(torch.zeros(1, 3, 267, 267))[-1].numel() <= 0
        except RuntimeError as error:
            assert "kernel" in str(error).lower()


@pytest.mark.parametrize("batch_norm", [False, True])
def test_pretrained_vgg(batch_norm, tmp_path, monkeypatch, capsys):
    """The file is that of the whole classifier; what SSD takes of it is the convolutions."""
    layers = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"], batch_norm=batch_norm)
    state = {f"features.{key}": tensor for key, tensor in layers.state_dict().items()} | {"classifier.0.weight": torch.full((2, 2), torch.nan)}
    torch.save(state, tmp_path / "vgg.pth")
    asked = []
    monkeypatch.setattr("nets.ssd.download", lambda url: asked.append(url) or tmp_path / "vgg.pth")
    model = SSD300(3, pretrained=True, batch_norm=batch_norm)
    assert "bn" in asked[0] if batch_norm else "amdegroot" in asked[0]
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.backbone.state_dict().items())
    assert "100% of the backbone" in capsys.readouterr().out and model.options == {"box_sizes": "voc"}
    with torch.no_grad():
        x = torch.randn(2, 3, 32, 48)
        assert torch.allclose(VGG.forward(model.backbone.eval(), x)[4], layers[:-1].eval()(x), atol=1e-5)


@torch.no_grad()
def test_random_weights_keep_the_size_of_the_values():
    """VGG gets pictures of about -120 to 140; without ImageNet weights its first convolution makes them small."""
    model = SSD300(3).eval()
    c1, *_, c5 = model.backbone(normalise(torch.rand(1, 3, 64, 64), *model.means))
    assert 0.2 < c1.std() < 2 and 0.2 < c5.std() < 5


def test_batch_norm_is_everywhere_but_in_the_heads():
    """ImageNet's mean and deviation then; a single image a step is possible although the last map is a single cell."""
    model = SSD300(3, batch_norm=True)
    convs = [part for part in [*model.backbone.modules(), *model.extras.modules()] if isinstance(part, torch.nn.Conv2d)]
    norms = [part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    assert len(convs) == len(norms) == 13 + 2 + 8
    assert model.means[0] == (0.485, 0.456, 0.406)
    model.extras[4].train()(torch.rand(1, 256, 3, 3))


@torch.no_grad()
def test_pretrained_mobilenet(tmp_path, monkeypatch, capsys):
    """ImageNet files have the full tail, so the network takes it, too, unless told otherwise."""
    network = torchvision.models.mobilenet_v3_large(weights=None)
    torch.save(network.state_dict(), tmp_path / "imagenet.pth")
    monkeypatch.setattr("nets.ssdlite.download", lambda url: tmp_path / "imagenet.pth")
    model = SSDLite320(3, pretrained=True)
    assert model.options == {"reduced_tail": False} and "100% of the backbone" in capsys.readouterr().out
    x = torch.rand(1, 3, 64, 96)
    for module in [*network.modules(), *model.modules()]:
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 0.001
    assert torch.allclose(model.backbone.eval()(x)[1], network.eval().features(x), atol=1e-5)
    model = SSDLite320(3, pretrained=True, reduced_tail=True)
    assert torch.equal(model.backbone.features[0][0][0].weight, network.features[0][0].weight) and model.backbone.c5_channels == 480


@pytest.mark.parametrize("height, width", [(1, 1), (3, 1), (1, 3), (4, 5)])
def test_depthwise(height, width):
    """Also in bfloat16 the gradient is written on a map one cell wide, where oneDNN's own forgets it."""
    torch.manual_seed(0)
    depthwise, plain = Depthwise(64, 3, 2).to(memory_format=torch.channels_last), torch.nn.Conv2d(64, 64, 3, 2, 1, groups=64, bias=False)
    plain.load_state_dict(depthwise.state_dict())
    x = torch.randn(8, 64, height, width)
    assert torch.allclose(depthwise(x), plain(x), atol=1e-6)
    plain(x).sum().backward()
    for _ in range(5):
        depthwise.zero_grad()
        spoilt = [torch.full((size,), torch.nan) for size in (64 * 9, 64 * 9, 64 * 18, 200_000, 300_000)]
        del spoilt                              # what is in the memory that comes next
        with torch.autocast("cpu", torch.bfloat16):
            depthwise(x.to(memory_format=torch.channels_last)).sum().backward()
        assert torch.allclose(depthwise.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-4)


def test_one_image_a_step():
    """The last map of SSDLite is a single cell: its BatchNorms keep their statistics."""
    torch.manual_seed(0)
    model = SSDLite320(3).train()
    losses = model(torch.rand(1, 3, 96, 96), objects((4,), 96, 3))[1]
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
