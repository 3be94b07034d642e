"""Every network of the table keeps the contract (nets/__init__.py, README)."""
import functools

import numpy as np
import pytest
import torch

import nets
from nets.backbones.vgg import VGG
from utils.errors import UserError

# the smallest backbone, where another is the default; the networks' own tests try all of them
OPTIONS = {"deeplabv3": {"backbone": "mobilenet_v3_large"}, "pspnet": {"backbone": "mobilenet_v2"},
           "faster_rcnn": {"proposals": (100, 50), "samples": 32}, "yolox": {"size": "nano"}}
SHAPES = {"ssd300": (268, 300), "ssd512": (268, 300)}                       # of the input, where a network cannot take (64, 96)
LR = {"faster_rcnn": 1e-4, "retinanet": 1e-4,                               # where the usual 0.001 is too much: wide layers without BatchNorm
      "yolox": 1e-2}                                                        # or too little: thin layers
FIXED = {"yolov8": {"mean.weight"}}                                         # parameters that are counted as such but never learnt
DETECTORS = [name for name, network in nets.NETS.items() if network.task == "detection"]
SEGMENTERS = [name for name, network in nets.NETS.items() if network.task == "segmentation"]


@pytest.fixture(autouse=True)
def thin_vgg(monkeypatch):
    """SSD cannot take a small input, and the whole VGG costs a second an image there: it gets an eighth of the channels."""
    monkeypatch.setattr("nets.ssd.VGG", functools.partial(VGG, ((8, 8), (16, 16), (32, 32, 32), (64, 64, 64), (64, 64, 64))))


def small(name):
    """A network on a small, non-square input."""
    torch.manual_seed(0)
    shape = SHAPES.get(name, (64, 96))
    return nets.build(name, 3, shape, **OPTIONS.get(name, {})), shape


def make_targets(task, shape, *counts):
    """One target per image: that many objects, or a mask with that many labelled rows; with 0 nothing is labelled."""
    torch.manual_seed(1)
    found = []
    for count in counts:
        if task == "segmentation":
            mask = torch.full(shape, 255)
            mask[:count] = torch.arange(shape[1]) * 3 // shape[1]           # three upright stripes
            found.append({"mask": mask})
            continue
        corners = torch.rand(count, 2) * torch.tensor([shape[1] * 0.5, shape[0] * 0.5])
        sizes = 8 + torch.rand(count, 2) * torch.tensor([shape[1] * 0.4, shape[0] * 0.4])
        found.append({"boxes": torch.cat([corners, corners + sizes], 1), "labels": torch.randint(0, 3, (count,))})
    return found


@pytest.mark.parametrize("name", nets.NETS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("counts", [(3, 0), (0, 0), (1, 40)])
def test_losses(name, training, counts):
    """Finite losses and a finite gradient for every parameter, with and without objects, in train and in eval mode."""
    model, shape = small(name)
    model.train(training)
    outputs, losses = model(torch.rand(2, 3, *shape), make_targets(model.task, shape, *counts))
    assert losses
    for value in losses.values():
        assert value.dtype == torch.float32 and value.ndim == 0 and torch.isfinite(value)
    sum(losses.values()).backward()
    without = {n for n, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()}
    assert without == FIXED.get(name, set())


@pytest.mark.parametrize("name", nets.NETS)
def test_depthwise_convolutions(name):
    """Those of torchvision's networks, too, are ours: plain ones are slow in bfloat16 on a CPU, and sometimes have a wrong gradient."""
    plain = [n for n, layer in small(name)[0].named_modules() if type(layer) is torch.nn.Conv2d and layer.groups == layer.in_channels > 1]
    assert not plain


@pytest.mark.parametrize("name", SEGMENTERS)
def test_scores_of_a_segmenter(name):
    model, shape = small(name)
    model.eval()
    with torch.no_grad():
        logits, losses = model(torch.rand(2, 3, *shape))
        scores = model.decode(logits)
    assert losses == {} and logits.shape == scores.shape == (2, 3, *shape)
    assert scores.min() >= 0 and torch.allclose(scores.sum(1), torch.ones(2, *shape), atol=1e-5)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_one_image_a_step(name):
    """Also behind a global pooling, where BatchNorm would have a single value."""
    model, shape = small(name)
    outputs, losses = model.train()(torch.rand(1, 3, *shape), make_targets(model.task, shape, 40))
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert all(torch.isfinite(b).all() for b in model.buffers())


@pytest.mark.parametrize("name", SEGMENTERS)
def test_two_classes_in_one_channel(name):
    model = nets.build(name, 2, (64, 96), sigmoid=True, loss={"cross_entropy": 1.0, "dice": 0.5}, **OPTIONS.get(name, {})).eval()
    images, target = torch.rand(1, 3, 64, 96), {"mask": torch.randint(0, 2, (64, 96))}
    logits, losses = model(images, [target])
    scores = model.decode(logits)
    assert logits.shape == (1, 1, 64, 96) and scores.shape == (1, 2, 64, 96)
    assert torch.allclose(scores[:, 1], logits[:, 0].sigmoid(), atol=1e-6)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], target["mask"][None].float())
    assert torch.allclose(losses["cross_entropy"], expected, atol=1e-6)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_where_nothing_is_labelled_nothing_is_learnt(name):
    """The labels of ignored pixels do not reach the loss: the network is asked about the others only."""
    model, shape = small(name)
    images, targets = torch.rand(2, 3, *shape), make_targets(model.task, shape, 0, 0)
    losses = model.eval()(images, targets)[1]
    assert all(float(value.detach()) == 0 for value in losses.values())


@pytest.mark.parametrize("name", DETECTORS)
def test_forward_and_decode(name):
    model, shape = small(name)
    model.eval()
    with torch.no_grad():
        outputs, losses = model(torch.rand(2, 3, *shape))
        boxes, scores = model.decode(outputs)
    assert losses == {}
    own = model.num_classes if boxes.ndim == 4 else None                # two-stage networks: a box for every class
    assert boxes.shape == (2, scores.shape[1], *([own] if own else []), 4) and scores.shape[2] == 3
    assert torch.isfinite(boxes).all() and (boxes[..., 2:] >= boxes[..., :2]).all()
    assert scores.min() >= 0 and scores.max() <= 1


@pytest.mark.parametrize("name", nets.NETS)
def test_an_image_alone_gives_what_it_gives_in_a_batch(name):
    model, shape = small(name)
    model.eval()
    images = torch.rand(3, 3, *shape)
    with torch.no_grad():
        together, alone = model.decode(model(images)[0]), model.decode(model(images[1:2])[0])
    pairs = zip(together, alone) if model.task == "detection" else [(together, alone)]
    for a, b in pairs:
        assert torch.allclose(a[1:2, :b.shape[1]], b, atol=1e-3)        # a batch of two-stage results is filled up behind


@pytest.mark.parametrize("name", nets.NETS)
def test_one_step_learns(name):
    """Eight steps on one batch lower the loss."""
    model, shape = small(name)
    images, targets = torch.rand(2, 3, *shape), make_targets(model.task, shape, 3, 64)
    images[:, 0, :, :32], images[:, 1, :, 64:] = 1.0, 1.0               # the stripes of the masks, in red and green
    solver = torch.optim.AdamW(model.parameters(), LR.get(name, 1e-3))
    history = []
    for _ in range(8):
        loss = sum(model(images, targets)[1].values())
        solver.zero_grad()
        loss.backward()
        solver.step()
        history.append(float(loss.detach()))
    assert history[-1] < 0.8 * history[0]


@pytest.mark.parametrize("name", nets.NETS)
def test_what_a_network_says_about_itself(name):
    network = nets.NETS[name]
    assert network.task in ("detection", "segmentation") and network.stride > 0
    assert {"input_shape", "optimizer", "lr"} <= set(network.recipe)
    model, _ = small(name)
    names = [n for n, _ in model.named_parameters()]
    assert any(n.startswith("backbone.") for n in names) and not all(n.startswith("backbone.") for n in names)


@pytest.mark.parametrize("name", DETECTORS)
def test_evaluation_leaves_the_mode_as_it_was(name):
    from utils.evaluate import detect
    model, shape = small(name)
    found = detect(model.eval(), [np.zeros((50, 70, 3), np.uint8), np.zeros((9, 200, 3), np.uint8)], shape, 0.0, 0.5, 20)
    assert not model.training and len(found) == 2
    for one, (height, width) in zip(found, ((50, 70), (9, 200))):
        x1, y1, x2, y2 = one["boxes"].T
        assert (x1 >= 0).all() and (x2 <= width).all() and (y2 <= height).all() and (x2 > x1).all() and (y2 > y1).all()
        assert (np.diff(one["scores"]) <= 0).all()


def test_an_error_inside_a_network_is_not_blamed_on_its_options(monkeypatch):
    class Broken(nets.NETS["yolov4_tiny"]):
        def __init__(self, num_classes, input_shape):
            len(3)
    monkeypatch.setitem(nets.NETS, "broken", Broken)
    with pytest.raises(TypeError, match="len"):
        nets.build("broken", 3)


def test_wrong_requests():
    with pytest.raises(UserError, match='Did you mean "yolov4_tiny"'):
        nets.build("yolov4tiny", 3)
    with pytest.raises(UserError, match=r"nearest is \(416, 320\)"):
        nets.build("yolov4_tiny", 3, (415, 315))
    with pytest.raises(UserError, match="pretrained='best.pth'.*model_path"):
        nets.build("retinanet", 3, pretrained="best.pth")
    with pytest.raises(UserError, match="at least one class"):
        nets.build("yolov4_tiny", 0)
    with pytest.raises(UserError, match=r"divisible by 16. The nearest is \(272, 256\)"):
        nets.build("deeplabv3plus", 3, (266, 256))
    assert nets.build("deeplabv3plus", 3, (264, 256), downsample_factor=8)
    with pytest.raises(UserError, match='no backbone "resnet5".*Did you mean "resnet50"'):
        nets.build("deeplabv3plus", 3, (256, 256), backbone="resnet5")
