"""What a training step needs besides the network.

Pieces of a batch, learning rate, parameter groups, freezing, moving average.
"""
import copy
import math
from contextlib import contextmanager

import torch
from torch import nn

from utils.errors import UserError

NOMINAL_BATCH = 64              # the batch size that a recipe's learning rate is meant for


def pieces(images, targets, parts):
    """A batch in `parts` pieces, one after the other: it takes less memory.

    Gradients that count by a piece's share of the batch add up to those of the batch.
    images: (B, 3, H, W).  targets: list of B dicts.
    -> generator of images, targets, share of the batch, whether it is the last piece.
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
        raise UserError("The input is so small that the network's last map is a single cell, and there was "
                        "a single picture: BatchNorm has nothing to compare it with. Set a larger "
                        "input_shape, or a larger batch_size (each process, and each piece of accumulate, "
                        "needs two pictures). More: docs/en/faq.md#one-picture") from None


def step_seed(seed, epoch, step):
    """For what is random inside networks (dropout, the sampling of Faster R-CNN).

    A pure function of where the training is: a resumed run draws what it would have drawn.
    """
    return (seed * 1_000_003 + epoch * 100_003 + step) % 2**63


def scaled_lr(lr, optimizer, batch_size):
    """The recipe's learning rate for this batch size: in proportion for SGD, by the root for Adam(W)."""
    share = batch_size / NOMINAL_BATCH
    return lr * (share if optimizer == "sgd" else math.sqrt(share))


def lr_factor(progress, epochs, warmup, schedule, floor):
    """The learning rate as a share of its full value.

    A pure function of the progress, so that resuming cannot disturb it.
    progress: epochs done, with fraction.  warmup: epochs of linear rise.  floor: last share.
    schedule: "cosine" | "poly" | "step" | "constant"; poly is (1 - done)^0.9, that of the DeepLab and PSPNet
    papers.
    """
    if schedule not in ("cosine", "poly", "step", "constant"):
        raise UserError(f'schedule="{schedule}" is not known. Use "cosine", "poly", "step" or "constant".')

    # Rise slowly: the first gradients of random heads are large, and Adam's averages of them still rough.
    if progress < warmup:
        return max(progress / warmup, 1e-3)

    # Then fall, from 1 at the end of the warm-up to the floor at the end of the training.
    done = min((progress - warmup) / max(epochs - warmup, 1e-9), 1.0)
    if schedule == "cosine":
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))
    if schedule == "poly":
        return floor + (1 - floor) * (1 - done) ** 0.9
    if schedule == "step":
        if done < 0.7:
            return 1.0
        return 0.1 if done < 0.9 else 0.01
    return 1.0


def lr_at(place, s):
    """The learning rate's share at a place of the training, in epochs. s: the settings of train.py."""
    return lr_factor(place, s.epochs, s.warmup_epochs, s.schedule, s.min_lr)


def set_lr(solver, full_lr, place, s):
    """Each group of the optimizer gets its learning rate. In place.

    It is a function of the place (epochs done, with fraction) alone.
    """
    for group in solver.param_groups:
        group["lr"] = full_lr * lr_at(place, s)
        if group["part"] == "backbone":
            group["lr"] *= s.backbone_lr * unfreeze_factor(place, s.freeze_epochs)


def unfreeze_factor(progress, freeze_epochs, warmup=1.0):
    """The backbone's own warm-up after unfreezing, 0-1.

    Full-size steps of the backbone while the heads are still fresh are what ruins fine-tuning.
    """
    if not freeze_epochs:
        return 1.0
    return min(1.0, max(0.0, (progress - freeze_epochs) / warmup))


def make_optimizer(model, name, lr, momentum, weight_decay):
    """One optimizer for the whole run.

    Four groups of parameters: those of the backbone and the rest, of each the weights with weight decay, the
    biases and norms without.
    """
    # Weight decay pulls towards zero, against overfitting. Biases and the scales of norms hardly overfit, and
    # a pull at them only changes the size of the outputs.
    norm_layers = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
    norms = [module for module in model.modules() if isinstance(module, norm_layers)]
    undecayed = {id(parameter) for norm in norms for parameter in norm.parameters()}
    groups = {}
    for key, parameter in model.named_parameters():
        plain = id(parameter) in undecayed or key.endswith("bias")
        part = "backbone" if key.startswith("backbone.") else "rest"
        groups.setdefault((part, plain), []).append(parameter)
    groups = [{"params": parameters, "part": part, "weight_decay": 0.0 if plain else weight_decay}
              for (part, plain), parameters in groups.items()]

    # Fused: on a CPU a step goes once through the weights instead of ten times. On a GPU PyTorch chooses.
    fused = all(p.device.type == "cpu" for p in model.parameters()) or None
    if name == "sgd":
        return torch.optim.SGD(groups, lr, momentum=momentum, nesterov=momentum > 0, fused=fused)
    if name in ("adam", "adamw"):
        kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
        return kind(groups, lr, betas=(momentum, 0.999), fused=fused)
    raise UserError(f'optimizer="{name}" is not known. Use "sgd", "adam" or "adamw".')


def load_moments(solver, saved):
    """Give an optimizer its saved state, its moments. In place."""
    # A saved state brings its options along; those that the command line changed since then count.
    kept = ("weight_decay", "momentum", "betas", "fused")
    options = [{key: group[key] for key in kept if key in group} for group in solver.param_groups]
    solver.load_state_dict(saved)
    for group, values in zip(solver.param_groups, options):
        group.update(values)

    # A fused step goes through weights and moments in the order of memory and does not compare their layouts.
    # If one of them is channels last and the other is not, each moment would be added to another weight.
    for parameter, moments in solver.state.items():
        for key, value in moments.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                moments[key] = torch.empty_like(parameter).copy_(value)


def set_frozen(model, frozen):
    """Training mode, with a frozen backbone if asked: not a bit of it moves. In place.

    Frozen means without gradients, and with BatchNorm in eval mode, which would else learn its statistics.
    """
    model.train()
    model.backbone.train(not frozen)
    for parameter in model.backbone.parameters():
        parameter.requires_grad_(not frozen)


class MovingAverage:
    """An exponential moving average of the weights (EMA).

    It is smoother than the weights of the last step, and is what is evaluated and saved. It reaches back over
    about a tenth of the steps done so far, (1 + n) / (10 + n), up to 1 / (1 - decay) steps: early weights are
    soon forgotten, and a short training gets an average that fits it.
    """

    def __init__(self, model, decay=0.9998):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.steps = decay, 0

        # Training changes the tensors of a state dict in place, so these pairs stay valid.
        self.pairs = list(zip(self.model.state_dict().values(), model.state_dict().values()))

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
