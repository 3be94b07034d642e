"""Learning rate, freezing, moving average, optimizer groups."""
import copy

import pytest
import torch
from one_step import take_step

import nets
from utils import steps
from utils.errors import UserError
from utils.system.device import autocast, choose_device, choose_precision


def test_cosine():
    factors = [steps.lr_factor(p, 10, 2, "cosine", 0.01) for p in (0, 1, 2, 6, 10)]
    assert factors == pytest.approx([1e-3, 0.5, 1.0, 0.505, 0.01])
    values = [steps.lr_factor(2 + i / 100 * 8, 10, 2, "cosine", 0.01) for i in range(101)]
    assert values == sorted(values, reverse=True)


def test_step_constant_and_unknown():
    assert [steps.lr_factor(p, 10, 0, "step", 0.01) for p in (1, 6.9, 7.1, 8.9, 9.1)] == [1, 1, 0.1, 0.1, 0.01]
    assert steps.lr_factor(9, 10, 1, "constant", 0.01) == 1
    with pytest.raises(UserError, match="cosine"):
        steps.lr_factor(0.1, 10, 1, "cosin", 0.01)                # at once, not after the warm-up


def test_scaled_lr():
    assert steps.scaled_lr(0.01, "sgd", 16) == pytest.approx(0.0025)
    assert steps.scaled_lr(0.01, "adamw", 16) == pytest.approx(0.005)
    assert steps.scaled_lr(0.01, "sgd", steps.NOMINAL_BATCH) == pytest.approx(0.01)


def test_unfreeze_has_its_own_warm_up():
    assert [steps.unfreeze_factor(p, 5) for p in (5, 5.25, 6, 9)] == [0, 0.25, 1, 1]
    assert steps.unfreeze_factor(0.1, 0) == 1


def test_frozen_means_frozen():
    """During the freeze stage not a bit of the backbone moves, BatchNorm statistics included; the rest learns. Then all of it does."""
    torch.manual_seed(0)
    model = nets.build("yolov4_tiny", 2, (64, 64))
    solver = steps.make_optimizer(model, "sgd", 0.01, 0.9, 5e-4)
    images = torch.rand(2, 3, 64, 64)
    targets = [{"boxes": torch.tensor([[5.0, 5, 40, 40]]), "labels": torch.tensor([1])}] * 2

    def step():
        loss = sum(model(images, targets)[1].values())
        solver.zero_grad()
        loss.backward()
        solver.step()
        return {name: tensor.clone() for name, tensor in model.state_dict().items()}

    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    steps.set_frozen(model, True)
    after = step()
    assert all(torch.equal(start[n], after[n]) == n.startswith("backbone.") for n in start if n.endswith(("conv.weight", "running_mean")))
    assert all(torch.equal(start[n], after[n]) for n in start if n.startswith("backbone."))
    steps.set_frozen(model, False)
    moved = step()
    assert not any(torch.equal(after[n], moved[n]) for n in start if n.endswith(("conv.weight", "running_mean")))


def test_decay_spares_norms_and_biases():
    model = nets.build("yolov4_tiny", 2)
    solver = steps.make_optimizer(model, "adamw", 0.01, 0.9, 0.05)
    decay = {id(p): group["weight_decay"] for group in solver.param_groups for p in group["params"]}
    assert len(decay) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert decay[id(parameter)] == (0.05 if parameter.ndim == 4 else 0.0), name
    assert {group["part"] for group in solver.param_groups} == {"backbone", "rest"}
    with pytest.raises(UserError, match="sgd"):
        steps.make_optimizer(model, "sgdd", 0.01, 0.9, 0)


@pytest.mark.parametrize("name, plain", [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam), ("sgd", torch.optim.SGD)])
def test_fused_steps(name, plain):
    """The steps are PyTorch's own, also with moments that were saved in another order than that of the weights."""
    torch.manual_seed(0)
    model = nets.build("deeplabv3plus", 3, (32, 32)).to(memory_format=torch.channels_last)
    twin = copy.deepcopy(model)
    solver = steps.make_optimizer(model, name, 0.01, 0.9, 0.05)
    groups = [{"params": list(params), "weight_decay": decay} for params, decay in (
        ([p for p in twin.parameters() if p.ndim == 4], 0.05), ([p for p in twin.parameters() if p.ndim < 4], 0.0))]
    other = plain(groups, 0.01, fused=False, foreach=False, **({"momentum": 0.9, "nesterov": True} if name == "sgd" else {"betas": (0.9, 0.999)}))
    images, targets = torch.rand(2, 3, 32, 32), [{"mask": torch.randint(0, 3, (32, 32))}] * 2

    def step():
        solver.zero_grad()
        sum(model(images.contiguous(memory_format=torch.channels_last), targets)[1].values()).backward()
        for one, same in zip(model.parameters(), twin.parameters()):
            same.grad = one.grad.clone()
        solver.step()
        other.step()
        return max((one - same).abs().max().item() for one, same in zip(model.parameters(), twin.parameters()))

    assert step() < 1e-5 and step() < 1e-5
    saved = solver.state_dict()
    saved["state"] = {i: {key: value.contiguous() if torch.is_tensor(value) else value for key, value in state.items()}
                      for i, state in saved["state"].items()}
    solver = steps.make_optimizer(model, name, 0.02, 0.9, 0.05)
    steps.load_moments(solver, saved)
    assert all(group["lr"] == 0.01 and group["fused"] for group in solver.param_groups)
    assert step() < 1e-5


def test_moving_average():
    model = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.BatchNorm1d(1))
    model[0].weight.data.fill_(0)
    average = steps.MovingAverage(model)
    model[0].weight.data.fill_(1)
    values = []
    for _ in range(200):
        average.update()
        values.append(average.model[0].weight.item())
    assert values == sorted(values) and values[0] == pytest.approx(1 - 2 / 11) and values[-1] > 0.999
    assert average.model[1].num_batches_tracked == 0
    model[1].num_batches_tracked += 3
    average.update()
    assert average.model[1].num_batches_tracked == 3              # counters are copied
    assert not any(p.requires_grad for p in average.model.parameters()) and not average.model.training


def test_device_says_why(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu" and "Device cpu" in capsys.readouterr().out
    assert choose_device("cuda:0").type == "cpu" and 'you asked for "cuda:0"' in capsys.readouterr().out
    with pytest.raises(UserError, match="not known"):
        choose_device("gpu")


def test_precision():
    cpu = torch.device("cpu")
    assert choose_precision(False, cpu) is None and choose_precision(True, cpu) == torch.bfloat16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_step_on_the_gpu():
    device = torch.device("cuda")
    model = nets.build("yolov4_tiny", 2, (64, 64)).to(device, memory_format=torch.channels_last)
    precision = choose_precision(None, device)
    assert precision in (torch.bfloat16, torch.float16)
    targets = [{"boxes": torch.tensor([[5.0, 5, 40, 40]], device=device), "labels": torch.tensor([1], device=device)}]
    with autocast(device, precision):
        losses = model(torch.rand(1, 3, 64, 64, device=device), targets)[1]
    assert all(torch.isfinite(v) and v.dtype == torch.float32 for v in losses.values())
    sum(losses.values()).backward()


def test_a_single_picture_and_a_single_cell():
    """A sentence, not BatchNorm's own words; two pictures, or two cells, train."""
    model = nets.build("yolov4_tiny", 2, (32, 32)).train()
    target = {"boxes": torch.tensor([[4.0, 4, 20, 20]]), "labels": torch.tensor([1])}
    images = torch.randint(0, 256, (2, 3, 32, 64), dtype=torch.uint8)
    with pytest.raises(UserError, match="there was a single picture"):
        take_step(model, images[:1, :, :, :32], [target])
    with pytest.raises(UserError, match="there was a single picture"):
        take_step(model, images[:, :, :, :32], [target] * 2, accumulate=2)
    take_step(model, images[:, :, :, :32], [target] * 2)
    take_step(model, images[:1], [target])
