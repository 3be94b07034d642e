"""What a computer has for training: Python, packages, GPU, memory, disk.
Each check is a line for people with what it means."""
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from utils.findings import STOPS, WORKS
from utils.settings import ROOT
from utils.system.machine import SHARED_MEMORY, cores, machine_memory

PYTHON = (3, 10)
LITTLE_MEMORY, LITTLE_DISK, LITTLE_SHARED = 4, 3, 1         # GiB: below these something will probably fail
# One of them is enough.
EITHER = {"opencv-python-headless": ("opencv-python", "opencv-contrib-python",
                                     "opencv-contrib-python-headless")}


class Check(NamedTuple):
    """A line of the report."""
    effect: str                 # "" when all is well, else STOPS or WORKS
    text: str
    remedy: str = ""


def check_environment():
    """-> list of Check."""
    checks = [check_python(), *check_packages(ROOT / "requirements.txt"), check_bridge(), *check_gpu(),
              check_memory(), check_disk(ROOT), check_shared_memory()]
    return [check for check in checks if check]


def check_python(version=sys.version_info[:3]):
    text = f"Python {'.'.join(map(str, version))}, {platform.system()} {platform.machine()}, {sys.executable}"
    if tuple(version[:2]) < PYTHON:
        return Check(STOPS, text, f"Python {PYTHON[0]}.{PYTHON[1]} or newer is needed.")
    return Check("", text)


def installed(package):
    """The version of a package, None when it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def version_numbers(version):
    """"2.6.0+cu124" -> (2, 6, 0)"""
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])


def check_packages(path):
    """The packages of requirements.txt, their versions against the least that are needed."""
    checks = []
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"([\w.-]+)>=([\d.]+)", line.strip())
        if match:
            checks += check_package(*match.groups())
    return checks


def check_package(package, least):
    """-> one or two of Check. least: "2.6"."""
    pip = f'"{sys.executable}" -m pip install'
    # OpenCV comes in four packages with the same content.
    names = [name for name in (package, *EITHER.get(package, ())) if installed(name)]
    if not names:
        return [Check(STOPS, f"{package}: not installed", f'{pip} "{package}>={least}"')]

    version = installed(names[0])
    if version_numbers(version) < version_numbers(least):
        checks = [Check(STOPS, f"{names[0]} {version}",
                        f'{least} or newer is needed: {pip} "{package}>={least}"')]
    else:
        checks = [Check("", f"{names[0]} {version}")]
    if len(names) > 1:
        checks.append(Check(WORKS, f"{' and '.join(names)} are both installed",
                            "They overwrite each other's files; if cv2 fails to load, "
                            f"uninstall both, then {pip} {names[0]}"))
    return checks


def check_bridge():
    """Whether PyTorch and NumPy understand each other: some releases of the two do not."""
    try:
        good = torch.from_numpy(np.arange(3.0)).tolist() == torch.arange(3.0).numpy().tolist()
    except (RuntimeError, TypeError, ImportError) as error:
        good = str(error)
    if good is True:
        return Check("", "PyTorch and NumPy work together")
    return Check(STOPS, f"PyTorch {torch.__version__} and NumPy {np.__version__} do not work together "
                        f"({good})",
                 f'"{sys.executable}" -m pip install --upgrade torch torchvision numpy')


def driver():
    """What nvidia-smi says: "NVIDIA ..., driver version", None without it."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return None
    try:
        command = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = answer.stdout.strip().splitlines()
    return lines[0] if answer.returncode == 0 and lines else None


def check_gpu():
    """Whether there is a GPU, whether this PyTorch can use it, and if not, why."""
    card = driver()
    # A PyTorch without CUDA or ROCm: that is what `pip install torch` gives on some systems.
    if torch.version.cuda is None and not getattr(torch.version, "hip", None):
        if getattr(torch.backends, "mps", None) and torch.backends.mps.is_available():
            return [Check("", "GPU: Apple silicon (device=mps)")]
        if card:
            return [Check(WORKS, f"GPU: {card}, but this PyTorch is built without CUDA, so it is not used",
                          "Take the command for CUDA from https://pytorch.org/get-started/locally")]
        return [Check("", "GPU: none; training uses the CPU, which is slow for large networks")]

    # One with CUDA that finds no card, or whose driver is too old.
    if not torch.cuda.is_available():
        text = f"GPU: {card or 'none found'}; " \
               f"this PyTorch is built for CUDA {torch.version.cuda} but cannot use it"
        driver_first = "Install or update the NVIDIA driver, or a PyTorch for an older CUDA."
        return [Check(WORKS, text, driver_first if card else "Nothing, if there is none.")]

    arches = torch.cuda.get_arch_list()
    return [check_card(torch.cuda.get_device_name(i), torch.cuda.get_device_capability(i), arches,
                       torch.cuda.get_device_properties(i).total_memory)
                       for i in range(torch.cuda.device_count())]


def check_card(name, capability, arches, memory):
    """Whether this PyTorch has kernels for a card. capability: (8, 6).
    arches: ["sm_80", "sm_86", "compute_90"].  memory: bytes."""
    mine = 10 * capability[0] + capability[1]
    text = f"GPU: {name}, sm_{mine}, {memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"

    # sm_86 runs on all cards 8.6 to 8.9; compute_90 is compiled when needed, for 9.0 and all newer cards.
    exact = [int(arch[3:].rstrip("af")) for arch in arches if arch.startswith("sm_")]
    later = [int(arch[8:].rstrip("af")) for arch in arches if arch.startswith("compute_")]
    runs = any(arch // 10 == mine // 10 and arch <= mine for arch in exact)
    compiles = any(arch <= mine for arch in later)
    if runs or compiles or not exact + later:
        return Check("", text)

    newer = mine > max(exact + later)
    suitable = "a newer PyTorch (a later CUDA)" if newer else "an older PyTorch, whose CUDA knows this card"
    return Check(STOPS, f"{text}, but this PyTorch only has kernels for {', '.join(arches)}",
                 f"Take {suitable} from https://pytorch.org/get-started/locally, or set device=cpu.")


def check_memory():
    memory = machine_memory() / 2**30
    text = f"{cores()} CPU cores, {memory:.1f} GiB of memory"
    if memory < LITTLE_MEMORY:
        return Check(WORKS, text,
                     "Close other programs; set cache=False, num_workers=0 and a small batch_size.")
    return Check("", text)


def check_disk(folder):
    """Room for checkpoints, and whether something can be written at all."""
    free = shutil.disk_usage(folder).free / 2**30
    text = f"{free:.1f} GiB free on the disk of {folder}"
    if not os.access(folder, os.W_OK):
        return Check(STOPS, f"{text}, which is write-protected",
                     "Copy the repository to a place where you may write.")
    if free < LITTLE_DISK:
        return Check(WORKS, text, "Checkpoints of a large network take 1 GiB: make room.")
    return Check("", text)


def check_shared_memory(folder=SHARED_MEMORY):
    """Where loader processes leave their batches; docker gives 64 MB of it."""
    if not Path(folder).is_dir():
        return None
    size = shutil.disk_usage(folder).total / 2**30
    text = f"{size:.2f} GiB of shared memory ({folder})"
    if size < LITTLE_SHARED:
        return Check(WORKS, text, "In docker: --shm-size=8g. Otherwise num_workers=0.")
    return Check("", text)
