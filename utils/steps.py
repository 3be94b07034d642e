"""What a training step needs besides the network: pieces of a batch, learning rate, parameter groups, freezing, moving average."""
import copy
import math
from contextlib import contextmanager

import torch
from torch import nn

from utils.errors import UserError

NOMINAL_BATCH = 64              # the batch size that a recipe's learning rate is meant for


def pieces(images, targets, parts):
    """A batch in `parts` pieces, one after the other: less memory, and gradients that count by a piece's share add up to those of the batch.

    images: (B, 3, H, W).  targets: list of B dicts. -> generator of images, targets, share of the batch, whether it is the last piece.
    """
    count = len(targets)
    size = -(-count // parts)
    for start in range(0, count, size):
        some = targets[start:start + size]
        yield images[start:start + size], some, len(some) / count, start + size >= count


@contextmanager
def single_explained():
    """Says in a sentence what BatchNorm means by "more than 1 value per channel"."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError("The input is so small that the network's last map is a single cell, and there was a single picture: BatchNorm has "
                        "nothing to compare it with. Set a larger input_shape, or a larger batch_size (of which each process, and each "
                        "piece of accumulate, needs two pictures).") from None


def step_seed(seed, epoch, step):
    """For what is random inside networks (dropout, the sampling of Faster R-CNN): a pure function of where the training is."""
    return (seed * 1_000_003 + epoch * 100_003 + step) % 2**63


def scaled_lr(lr, optimizer, batch_size):
    """The recipe's learning rate for this batch size: in proportion for SGD, with the square root for Adam and AdamW."""
    share = batch_size / NOMINAL_BATCH
    return lr * (share if optimizer == "sgd" else math.sqrt(share))


def lr_factor(progress, epochs, warmup, schedule, floor):
    """The learning rate as a share of its full value: a pure function of the progress, so that resuming cannot disturb it.

    progress: epochs done, with fraction.  warmup: epochs of linear rise.  schedule: "cosine" | "poly" | "step" | "constant".
    floor: last share.  poly: (1 - done)^0.9, the schedule of the DeepLab and PSPNet papers.
    """
    if schedule not in ("cosine", "poly", "step", "constant"):
        raise UserError(f'schedule="{schedule}" is not known. Use "cosine", "poly", "step" or "constant".')
    if progress < warmup:
        return max(progress / warmup, 1e-3)
    done = min((progress - warmup) / max(epochs - warmup, 1e-9), 1.0)
    if schedule == "cosine":
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "poly":
        return floor + (1 - floor) * (1 - done) ** 0.9
    if schedule == "step":
        return 1.0 if done < 0.7 else 0.1 if done < 0.9 else 0.01
    return 1.0


def lr_at(place, s):
    """The learning rate's share at a place of the training, in epochs. s: the settings of train.py."""
    return lr_factor(place, s.epochs, s.warmup_epochs, s.schedule, s.min_lr)


def set_lr(solver, full_lr, place, s):
    """Each group of the optimizer gets its learning rate, a function of the place (epochs done, with fraction) alone. In place."""
    for group in solver.param_groups:
        group["lr"] = full_lr * lr_at(place, s)
        if group["part"] == "backbone":
            group["lr"] *= s.backbone_lr * unfreeze_factor(place, s.freeze_epochs)


def unfreeze_factor(progress, freeze_epochs, warmup=1.0):
    """The backbone's own warm-up after unfreezing: its first full-size steps on fresh heads are what ruins fine-tuning."""
    return min(1.0, max(0.0, (progress - freeze_epochs) / warmup)) if freeze_epochs else 1.0


def make_optimizer(model, name, lr, momentum, weight_decay):
    """One optimizer for the whole run, with a group each for backbone and rest, weights with and biases and norms without decay."""
    groups = {}
    norms = {id(p) for m in model.modules() if isinstance(m, (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)) for p in m.parameters()}
    for key, parameter in model.named_parameters():
        plain = id(parameter) in norms or key.endswith("bias")
        part = ("backbone" if key.startswith("backbone.") else "rest", plain)
        groups.setdefault(part, []).append(parameter)
    groups = [{"params": params, "part": part, "weight_decay": 0.0 if plain else weight_decay} for (part, plain), params in groups.items()]
    fused = all(p.device.type == "cpu" for p in model.parameters()) or None     # once through the weights instead of ten times; GPUs choose
    if name == "sgd":
        return torch.optim.SGD(groups, lr, momentum=momentum, nesterov=momentum > 0, fused=fused)
    if name in ("adam", "adamw"):
        return (torch.optim.Adam if name == "adam" else torch.optim.AdamW)(groups, lr, betas=(momentum, 0.999), fused=fused)
    raise UserError(f'optimizer="{name}" is not known. Use "sgd", "adam" or "adamw".')


def load_moments(solver, saved):
    """The state of an optimizer. Fused steps go through weights and moments as they lie in memory, so the moments are laid out like the weights,
    also when they were saved otherwise (channels last or not): PyTorch does not look, and would add each to another weight.
    """
    options = [{key: group[key] for key in ("weight_decay", "momentum", "betas", "fused") if key in group} for group in solver.param_groups]
    solver.load_state_dict(saved)
    for group, values in zip(solver.param_groups, options):
        group.update(values)                                # what the command line changed counts
    for parameter, moments in solver.state.items():
        for key, value in moments.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                moments[key] = torch.empty_like(parameter).copy_(value)


def set_frozen(model, frozen):
    """Training mode, with a frozen backbone if asked: no gradients for it, and its BatchNorm in eval mode, so that not a bit of it moves."""
    model.train()
    model.backbone.train(not frozen)
    for parameter in model.backbone.parameters():
        parameter.requires_grad_(not frozen)


class MovingAverage:
    """An exponential moving average of the weights (EMA): smoother than the last step, and what is evaluated and saved.

    It reaches back over about a tenth of the steps done so far, (1 + n) / (10 + n), up to 1 / (1 - decay) steps:
    early weights are soon forgotten, and a short training gets an average that fits it.
    """

    def __init__(self, model, decay=0.9998):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.steps = decay, 0
        self.pairs = list(zip(self.model.state_dict().values(), model.state_dict().values()))      # training changes these in place

    @torch.no_grad()
    def update(self):
        """To be called after every step of the model it was made from."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for average, current in self.pairs:
            if average.dtype.is_floating_point:
                average.lerp_(current, 1 - decay)
            else:
                average.copy_(current)                  # counters
