"""What a training step needs besides the network: device, parameter groups, learning rate, freezing, moving average."""
import copy
import math
import os
import sys
from contextlib import contextmanager, nullcontext

import torch
from torch import nn

from utils import distributed
from utils.errors import UserError

NOMINAL_BATCH = 64              # the batch size that a recipe's learning rate is meant for


def choose_device(device="auto", say=print):
    """"auto" | "cpu" | "cuda" | "cuda:1" | "mps" -> torch.device; says in one line what is used and why."""
    usable = torch.cuda.is_available()
    why_not = f"this PyTorch ({torch.__version__}) is built without CUDA" if torch.version.cuda is None else \
        "PyTorch finds no NVIDIA GPU or its driver is too old"
    if device == "auto":
        device = "cuda" if usable else "cpu"
        reason = "" if usable else f" ({why_not})"
    elif str(device).startswith("cuda") and not usable:
        device, reason = "cpu", f' (you asked for "{device}", but {why_not})'
    else:
        reason = " (as you asked)"
    try:
        device = torch.device(device)
    except RuntimeError:
        raise UserError(f'device="{device}" is not known. Use "auto", "cpu", "cuda", "cuda:1" or "mps".') from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f'device="{device}": there are {torch.cuda.device_count()} GPUs, counted from 0.')
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError('device="mps" needs a Mac with Apple silicon. Use "auto".')
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        reason = f": {properties.name}, {properties.total_memory / 2**30:.0f} GiB{reason}"
    say(f"Device {device}{reason}" + (f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""))
    return device


def choose_precision(amp, device):
    """-> dtype of automatic mixed precision, or None for plain float32.

    amp: None chooses: on for CUDA, and for CPUs that compute in bf16 themselves; True, False.
    """
    if device.type == "cuda":
        return None if amp is False else torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type == "cpu" and amp is not False:
        has_bf16 = any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return torch.bfloat16 if amp or has_bf16 else None
    return None


def autocast(device, precision):
    return torch.autocast(device.type, precision) if precision else nullcontext()


def make_repeatable():
    """CUDA too gives the same bits every time, where PyTorch can; some layers get slower. A CPU always does."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


def add_gradients(model, images, targets, scaler, device, precision, parts=1):
    """Forward and backward of a batch, in `parts` pieces one after the other: less memory, and the gradients add up to those of the batch
    (each piece's loss counts by its pictures). -> losses as means over the batch, name -> 0-d tensor.

    images: (B, 3, H, W) float on the device.  targets: list of B dicts.
    """
    count, sums = len(targets), {}
    size = -(-count // parts)
    for start in range(0, count, size):
        piece = targets[start:start + size]
        last = start + size >= count
        with distributed.one_batch(model), nullcontext() if last else distributed.no_sync(model):
            with autocast(device, precision), explained_single():
                _, losses = model(images[start:start + size], piece)
            share = len(piece) / count
            scaler.scale(sum(losses.values()) * share).backward()
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value.detach() * share
    return sums


@contextmanager
def explained_single():
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


def total_memory(device):
    """Of a GPU, GiB; None for others."""
    return torch.cuda.get_device_properties(device).total_memory / 2**30 if device.type == "cuda" else None


def memory_used(device):
    """Peak memory so far, GiB: of the GPU, else of this process; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if os.name != "posix":
        return None
    import resource  # not on Windows
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**(30 if sys.platform == "darwin" else 20)
