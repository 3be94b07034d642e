"""Saving and loading: whole or not at all, tensors and plain values only."""
import contextlib
import os
import pickle
import time
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
    try:
        with open(part, "wb") as file:
            torch.save({**content, "format": FORMAT}, file)
            file.flush()
            os.fsync(file.fileno())
        replace(part, path)
    except (OSError, RuntimeError) as error:            # torch reports a full disk as a RuntimeError
        with contextlib.suppress(OSError):
            part.unlink()
        raise UserError(f"{shown(path)} could not be written ({first_line(error)}). What was there before is untouched. Is the disk full?") from None
    if os.name == "posix":                              # the rename itself reaches the disk with its folder, where that is possible
        with contextlib.suppress(OSError):
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)


def replace(part, path):
    """os.replace, tried again for a while: on Windows it fails as long as another program reads the old file."""
    for seconds in (0.1, 0.5, 2.0):
        try:
            return os.replace(part, path)
        except PermissionError:
            time.sleep(seconds)
    return os.replace(part, path)


def read_checkpoint(path):
    """A file written by torch.save -> its content. Errors: not there, not a weight file, damaged, holds more than tensors."""
    path = Path(path)
    if not path.is_file():
        folder = path if path.is_dir() else path.parent
        near = sorted(folder.glob("*.pth")) if folder.is_dir() else []
        found = f" In {shown(folder)} there is: {', '.join(p.name for p in near[:5])}." if near else ""
        raise UserError(f"There is no weight file {shown(path)}.{found}")
    refuse_web_page(path)
    if is_darknet(path):
        raise UserError(f"{shown(path)} is a darknet file: give it to train.py as model_path.")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()             # torch.load itself would accept flipped bits
            if damaged:
                raise UserError(f"{shown(path)} is damaged (the checksum of {damaged} is wrong): copy or download it again.")
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "ultralytics" in str(error):
            raise UserError(f"{shown(path)} holds objects of the package ultralytics, so loading it would run that package's code; it is refused. "
                            "Where ultralytics is installed, make plain tensors of it and use those: python -c \"import torch, ultralytics; "
                            f"torch.save(ultralytics.YOLO('{path.name}').model.state_dict(), '{path.stem}.pth')\"") from None
        raise UserError(f"{shown(path)} holds more than tensors and plain values, so loading it could run foreign code; it is refused. "
                        f"Convert it where it came from: torch.save(model.state_dict(), 'weights.pth'). ({first_line(error)})") from None
    except UserError:
        raise
    except Exception as error:                          # a damaged file can make the reader stumble anywhere
        raise UserError(f"{shown(path)} cannot be read as a weight file: cut off, damaged or not from PyTorch. ({first_line(error)})") from None


def is_darknet(path):
    """By its name: yolov4-tiny.weights, yolov4-tiny.conv.29."""
    return path.suffix == ".weights" or ".conv." in path.name


def refuse_web_page(path):
    """An error when a download brought a page or a pointer instead of the file."""
    with open(path, "rb") as file:
        head = file.read(64).lstrip()
    if head.startswith((b"<", b"version https://git-lfs")):
        raise UserError(f"{shown(path)} is not a weight file but a web page or a Git LFS pointer ({path.stat().st_size} bytes): download it again.")


def first_line(error):
    return (str(error) or type(error).__name__).splitlines()[0][:160]


def newest_best():
    """The best.pth of the newest run below logs/, or its last.pth as long as that run was not evaluated."""
    runs = {path.parent: path.stat().st_mtime for path in ROOT.glob("logs/*/last.pth")}
    runs |= {path.parent: max(runs.get(path.parent, 0), path.stat().st_mtime) for path in ROOT.glob("logs/*/best.pth")}
    if not runs:
        raise UserError("There is no trained network yet: logs/ holds no best.pth. Run  python train.py  first, or set model_path.")
    newest = max(runs, key=runs.get)
    return newest / ("best.pth" if (newest / "best.pth").is_file() else "last.pth")
