"""Every network of the table keeps the contract (nets/__init__.py, README)."""
import numpy as np
import pytest
import torch
from small_nets import DETECTORS, OPTIONS, SEGMENTERS, every_day, make_targets, make_thin, small
from words import unexplained

import nets
from utils.errors import UserError

LR = {"faster_rcnn": 1e-4, "retinanet": 1e-4,                               # where the usual 0.001 is too much: wide layers without BatchNorm
      "yolox": 1e-2}                                                        # or too little: thin layers
STEPS = {"rtdetr": 24, "yolov4_tiny": 24, "yolox": 24, "unet": 8}     # where twelve lower the loss only a little, or take long
LEARNT = 0.75                                           # the share of the loss that may remain
FIXED = {"yolov8": {"mean.weight"}, "yolo11": {"mean.weight"}}                  # parameters that are counted as such but never learnt


@pytest.fixture(autouse=True)
def thin(monkeypatch):
    make_thin(monkeypatch)


@pytest.mark.parametrize("name", nets.NETS)
@pytest.mark.parametrize("training, counts", [(True, (3, 0)), (True, (0, 0)), (False, (0, 0)), (False, (1, 40))])
def test_losses(name, training, counts):
    """Finite losses and a finite gradient for every parameter, with and without objects, in train and in eval mode."""
    model, shape = small(name)
    model.train(training)
    outputs, losses = model(torch.rand(2, 3, *shape), make_targets(model.task, shape, *counts))
    assert losses and not unexplained(losses)
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


def what_remains(name, spoil=None):
    """Some steps on one batch. -> the loss at the end (the middle one of the last three) as a share of the first.

    spoil: None, or what is broken: the sign of the "gradient", the "heads" (all but the backbone never learn), the
    "labels" (new ones every step).
    """
    model, shape = small(name)
    targets = make_targets(model.task, shape, 3, 64)
    images = torch.rand(2, 3, *shape)
    images[:, 0, :, :32], images[:, 1, :, 64:] = 1.0, 1.0               # the stripes of the masks, in red and green
    learning = [p for n, p in model.named_parameters() if spoil != "heads" or n.startswith("backbone.")]
    solver = torch.optim.AdamW(learning, LR.get(name, 1e-3), fused=True)

    # the usual steps, and what is told of them
    history = []
    for _ in range(STEPS.get(name, 12)):
        shown = relabelled(targets) if spoil == "labels" else targets
        loss = sum(model(images, shown)[1].values())
        solver.zero_grad()
        (-loss if spoil == "gradient" else loss).backward()
        solver.step()
        history.append(float(loss.detach()))
    return sorted(history[-3:])[1] / history[0]


def relabelled(targets):
    """Masks with new labels for the labelled pixels."""
    masks = [target["mask"] for target in targets]
    return [{"mask": torch.where(mask == 255, 255, torch.randint(0, 3, mask.shape))} for mask in masks]


@pytest.mark.parametrize("name", every_day(nets.NETS))
def test_steps_learn(name):
    """Some steps on one batch lower the loss, whatever the last bit.

    Measured with 1 and 2 threads (the thin YOLOs also with 4) and two to five seeds, the largest that was seen:
    faster_rcnn 0.59, yolov4_tiny 0.56, retinanet 0.53, yolox 0.49, yolov4 0.48, the others below 0.4. After eight
    steps, judged by the last alone, it was 0.56 to 0.88 for yolox, and once 1.88 for retinanet, which jumps.
    """
    assert what_remains(name) < LEARNT


@pytest.mark.parametrize("name, spoil", [
    ("yolox", "gradient"), ("yolox", "heads"), ("yolov4_tiny", "gradient"), ("ssdlite320_mobilenet_v3", "gradient"),
    ("deeplabv3", "gradient"), ("deeplabv3", "labels")])
def test_a_broken_network_does_not_learn(name, spoil):
    """What the test before is there for. Measured as there: 0.92 (labels), 0.96 (heads) and 1.8 or more (gradient).

    It cannot see everything: SSD and U-Net lower the loss to 0.5 or less with heads that never learn (test_losses
    sees those), and detectors to 0.2 - 0.8 with new boxes every step: most of the loss is about where none are.
    """
    assert what_remains(name, spoil) > LEARNT


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
