"""Saving and loading: whole or not at all, tensors and plain values only."""
import os
import pickle
import zipfile
from pathlib import Path

import torch

from utils.errors import UserError
from utils.settings import ROOT, shown

FORMAT = 1


def save_checkpoint(path, **content):
    """Write content (tensors and plain values) to path so that at every moment either the old or the new file is there."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        torch.save({"format": FORMAT, **content}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    if os.name == "posix":                              # the rename itself reaches the disk with its folder
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def read_checkpoint(path):
    """A file written by torch.save -> its content. Errors: not there, not a weight file, damaged, holds more than tensors."""
    path = Path(path)
    if not path.is_file():
        near = sorted(path.parent.glob("*.pth")) if path.parent.is_dir() else []
        found = f" In {shown(path.parent)} there is: {', '.join(p.name for p in near[:5])}." if near else ""
        raise UserError(f"There is no weight file {shown(path)}.{found}")
    with open(path, "rb") as file:
        head = file.read(64).lstrip()
    if head.startswith((b"<", b"version https://git-lfs")):
        raise UserError(f"{shown(path)} is not a weight file but a web page or a Git LFS pointer ({path.stat().st_size} bytes): download it again.")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()             # torch.load itself would accept flipped bits
            if damaged:
                raise UserError(f"{shown(path)} is damaged (the checksum of {damaged} is wrong): copy or download it again.")
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{shown(path)} holds more than tensors and plain values, so loading it could run foreign code; it is refused. "
                        f"Convert it where it came from: torch.save(model.state_dict(), 'weights.pth'). ({first_line(error)})") from None
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{shown(path)} cannot be read as a weight file: cut off, damaged or not from PyTorch. ({first_line(error)})") from None


def first_line(error):
    return (str(error) or type(error).__name__).splitlines()[0][:160]


def newest_best():
    """The best.pth of the newest run below logs/."""
    found = sorted(ROOT.glob("logs/*/best.pth"), key=lambda p: p.stat().st_mtime)
    if not found:
        raise UserError("There is no trained network yet: logs/ holds no best.pth. Run  python train.py  first, or set model_path.")
    return found[-1]
