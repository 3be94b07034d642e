"""Every network of the table keeps the contract (nets/__init__.py, README)."""
import numpy as np
import pytest
import torch

import nets
from utils.errors import UserError


def small(name):
    """A network on a small, non-square input."""
    step = nets.NETS[name].stride
    shape = (2 * step, 3 * step) if step >= 32 else (64, 96)
    torch.manual_seed(0)
    return nets.build(name, 3, shape), shape


def detection_targets(shape, *counts):
    torch.manual_seed(1)
    found = []
    for count in counts:
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
    outputs, losses = model(torch.rand(2, 3, *shape), detection_targets(shape, *counts))
    assert losses
    for value in losses.values():
        assert value.dtype == torch.float32 and value.ndim == 0 and torch.isfinite(value)
    sum(losses.values()).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not without


@pytest.mark.parametrize("name", nets.NETS)
def test_forward_and_decode(name):
    model, shape = small(name)
    model.eval()
    with torch.no_grad():
        outputs, losses = model(torch.rand(2, 3, *shape))
        boxes, scores = model.decode(outputs)
    assert losses == {}
    assert boxes.shape == (2, scores.shape[1], 4) and scores.shape[2] == 3
    assert torch.isfinite(boxes).all() and (boxes[..., 2:] >= boxes[..., :2]).all()
    assert scores.min() >= 0 and scores.max() <= 1


@pytest.mark.parametrize("name", nets.NETS)
def test_an_image_alone_gives_what_it_gives_in_a_batch(name):
    model, shape = small(name)
    model.eval()
    images = torch.rand(3, 3, *shape)
    with torch.no_grad():
        together, alone = model.decode(model(images)[0]), model.decode(model(images[1:2])[0])
    for a, b in zip(together, alone):
        assert torch.allclose(a[1:2], b, atol=1e-4)


@pytest.mark.parametrize("name", nets.NETS)
def test_one_step_learns(name):
    """Ten steps on one batch lower the loss."""
    model, shape = small(name)
    images, targets = torch.rand(2, 3, *shape), detection_targets(shape, 2, 3)
    solver = torch.optim.AdamW(model.parameters(), 1e-3)
    history = []
    for _ in range(10):
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


@pytest.mark.parametrize("name", nets.NETS)
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
    with pytest.raises(UserError, match="at least one class"):
        nets.build("yolov4_tiny", 0)
