"""Where a network runs and in which precision, and how much memory that takes."""
import os
import sys
from contextlib import nullcontext

import torch

from utils.errors import UserError
from utils.settings import counted


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
    threads = f", {counted(torch.get_num_threads(), 'thread')}" if device.type == "cpu" else ""
    say(f"Device {device}{reason}{threads}")
    return device


def choose_precision(amp, device):
    """-> dtype of automatic mixed precision, or None for plain float32.

    amp: None chooses: on for CUDA, and for CPUs that compute in bf16 themselves; True, False; or its name, "bfloat16" or "float16".
    Error: the device cannot do what is named, as when a run is resumed on another machine.
    """
    if isinstance(amp, str):
        if device.type == "mps" or device.type == "cuda" and amp == "bfloat16" and not torch.cuda.is_bf16_supported(including_emulation=False):
            raise UserError(f"amp={amp}: {device} cannot compute in {amp}. Train where it can, or in float32 from here on: amp=False.")
        return getattr(torch, amp)
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
