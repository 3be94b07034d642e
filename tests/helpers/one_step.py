"""One step of train.py's loop on a network of the test's own, without a script around it."""
from types import SimpleNamespace

import torch

import train
from utils import steps
from utils.dataset import KeySampler
from utils.training.resume import Progress

SETTINGS = {"epochs": 10, "warmup_epochs": 0, "schedule": "constant", "min_lr": 0.01, "backbone_lr": 1.0, "freeze_epochs": 0, "seed": 0,
            "clip_norm": 0.0}


def take_step(model, images, targets, accumulate=1, solver=None, scaler=None, average=None, device="cpu", precision=None):
    """train.step. images: (B, 3, H, W) uint8. -> gradients of all parameters, name -> tensor; losses, name -> 0-d mean over the batch."""
    device, gradients = torch.device(device), {}
    solver = solver or steps.make_optimizer(model, "sgd", 0.01, 0.9, 0.0)
    learn = solver.step

    def noted():
        gradients.update((name, p.grad.clone()) for name, p in model.named_parameters() if p.grad is not None)
        learn()
    solver.step = noted
    training = SimpleNamespace(
        progress=Progress(), model=model, step_model=model, solver=solver, average=average, device=device, precision=precision, full_lr=0.01,
        scaler=scaler or torch.amp.GradScaler(device.type, enabled=False), told=set(),
        loader=SimpleNamespace(batch_sampler=KeySampler(5 * len(targets), len(targets), train=True)),
        train_data=SimpleNamespace(paths=[f"{i}.jpg" for i in range(len(targets))]))
    train.step(SimpleNamespace(**SETTINGS, accumulate=accumulate), training, images, targets)
    solver.step = learn
    return gradients, {name: value / len(targets) for name, value in training.progress.sums.items()}
