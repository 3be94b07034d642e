"""Where a network runs and in which precision, and how much memory that takes."""
import os
import sys
from contextlib import nullcontext

import torch

from utils.errors import UserError
from utils.settings import counted


def choose_device(device="auto", say=print):
    """"auto" | "cpu" | "cuda" | "cuda:1" | "1" | "mps" -> torch.device; says in one line what is used and
    why."""
    usable = torch.cuda.is_available()
    why_not = "PyTorch finds no NVIDIA GPU or its driver is too old"
    if torch.version.cuda is None:
        why_not = f"this PyTorch ({torch.__version__}) is built without CUDA"

    # A number is that of a GPU, as other programs have it.
    device = f"cuda:{device}" if str(device).isdecimal() else device

    # Without a GPU training is slow but possible: use the CPU, and say what the GPU is missing.
    if device == "auto":
        device = "cuda" if usable else "cpu"
        reason = "" if usable else f" ({why_not})"
    elif str(device).startswith("cuda") and not usable:
        device, reason = "cpu", f' (you asked for "{device}", but {why_not})'
    else:
        reason = " (as you asked)"

    # What was asked for must be there: an error from the middle of PyTorch would come minutes later.
    try:
        device = torch.device(device)
    except RuntimeError:
        raise UserError(f'device="{device}" is not known. '
                        'Use "auto", "cpu", "cuda", "cuda:1" or "mps".') from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f'device="{device}": there are {torch.cuda.device_count()} GPUs, counted from 0.')
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError('device="mps" needs a Mac with Apple silicon. Use "auto".')

    # One line for the log: the first thing that anybody asks about a slow training.
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        reason = f": {properties.name}, {properties.total_memory / 2**30:.0f} GiB{reason}"
    threads = f", {counted(torch.get_num_threads(), 'thread')}" if device.type == "cpu" else ""
    say(f"Device {device}{reason}{threads}")
    return device


def choose_precision(amp, device):
    """-> dtype of automatic mixed precision, or None for plain float32.

    amp: None chooses: on for CUDA, and for CPUs that compute in bf16 themselves; True, False; or its name,
    "bfloat16" or "float16".
    Error: the device cannot do what is named, as when a run is resumed on another machine.
    """
    if isinstance(amp, str):
        no_bf16 = device.type == "cuda" and amp == "bfloat16" and not gpu_has_bf16()
        if device.type == "mps" or no_bf16:
            raise UserError(f"amp={amp}: {device} cannot compute in {amp}. "
                            "Train where it can, or in float32 from here on: amp=False.")
        return getattr(torch, amp)
    if amp is False:
        return None

    # bfloat16 has the range of float32, so gradients do not become zero or infinite; float16 needs a scaler.
    if device.type == "cuda":
        return torch.bfloat16 if gpu_has_bf16() else torch.float16
    if device.type == "cpu":
        return torch.bfloat16 if amp or cpu_has_bf16() else None
    return None


def gpu_has_bf16():
    """Whether the GPU computes in bfloat16 itself; emulated it is slower than float32."""
    return torch.cuda.is_bf16_supported(including_emulation=False)


def cpu_has_bf16():
    """Whether the CPU computes in bfloat16 itself; PyTorch has no public function that says so."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in checks)


def autocast(device, precision):
    return torch.autocast(device.type, precision) if precision else nullcontext()


def make_repeatable():
    """CUDA too gives the same bits every time, where PyTorch can; some layers get slower. CPUs always do."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


def total_memory(device):
    """Of a GPU, GiB; None for others."""
    if device.type != "cuda":
        return None
    return torch.cuda.get_device_properties(device).total_memory / 2**30


def memory_used(device):
    """Peak memory so far, GiB: of the GPU, else of this process; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if os.name != "posix":
        return None
    import resource  # not on Windows
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**(30 if sys.platform == "darwin" else 20)
