"""Saving and loading: whole or not at all, tensors and plain values only.

A file of ours ends with the SHA-256 of everything before it (as the comment of its zip archive, so torch.load reads it all the same):
a bit that flips anywhere, on the disk or on the way to another one, is found before the weights are used.
"""
import contextlib
import errno
import hashlib
import mmap
import os
import pickle
import shutil
import struct
import time
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from utils.errors import UserError
from utils.settings import ROOT, AnyPath, shown

FORMAT = 2                      # 1: without the SHA-256
SEAL = b"sha256:"               # what the end of a file begins with, followed by 64 hexadecimal digits
SEAL_LENGTH = len(SEAL) + 64
MOST_RECORDS = 100_000          # in an archive; the largest official files have some thousands
PICKLE, PICKLE_A_RECORD = 2**20, 2**10      # bytes of names and structure: so much, and so much more for each record (each has some 200)
BYTES = b"\nbytearray\n"         # in a pickle: a call that takes as much memory as it likes; no file of PyTorch's needs it


def save_checkpoint(path: AnyPath, **content: Any) -> None:
    """Write content (tensors and plain values) to path so that at every moment either the old or the new file is there.

    Error: no room (with the bytes needed) or the disk refuses; what was there before is untouched.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    needed = size_of(content)
    try:
        free = free_bytes(path.parent)
        if free is not None and free + (part.stat().st_size if part.exists() else 0) < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with open(part, "w+b") as file:
            torch.save({**content, "format": FORMAT}, file)
            seal(file)
            file.flush()
            os.fsync(file.fileno())
        replace(part, path)
    except (OSError, RuntimeError) as error:            # torch reports a full disk as a RuntimeError
        with contextlib.suppress(OSError):
            part.unlink()
        raise UserError(f"{shown(path)} could not be written ({first_line(error)}): {needed / 2**20:.1f} MiB are needed, {free_space(path.parent)}. "
                        "What was there before is untouched.") from None
    sync_folder(path.parent)


def size_of(content: Any) -> int:
    """Bytes that the tensors in nested dicts and lists take, each storage once, and a little for the rest."""
    storages, waiting = {}, [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        elif isinstance(value, (dict, list, tuple)):
            waiting += value.values() if isinstance(value, dict) else value
    return sum(storages.values()) + 2**18


def free_bytes(folder: Path) -> int | None:
    """None where the system does not tell, as for some network folders."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def free_space(folder: Path) -> str:
    free = free_bytes(folder)
    return "how much is free is not known" if free is None else f"{free / 2**20:.1f} MiB are free"


def seal(file: BinaryIO) -> None:
    """Append the SHA-256 of what was written. file: open for reading and writing, a zip archive without a comment."""
    file.seek(-2, os.SEEK_END)                          # the last field of an archive: how long its comment is
    file.write(struct.pack("<H", SEAL_LENGTH))
    digest = hash_of(file, file.tell())
    file.seek(0, os.SEEK_END)
    file.write(SEAL + digest)


def hash_of(file: BinaryIO, length: int) -> bytes:
    """SHA-256 of the first `length` bytes of an open file, as hexadecimal digits."""
    digest = hashlib.sha256()
    file.seek(0)
    while length > 0 and (chunk := file.read(min(length, 2**20))):
        digest.update(chunk)
        length -= len(chunk)
    return digest.hexdigest().encode()


def sync_folder(folder: Path) -> None:
    """The rename itself reaches the disk with its folder, where that is possible."""
    if os.name == "posix":
        with contextlib.suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def replace(part: Path, path: Path) -> None:
    """os.replace, tried again for a while: on Windows it fails as long as another program reads the old file."""
    for seconds in (0.1, 0.5, 2.0):
        try:
            return os.replace(part, path)
        except PermissionError:
            time.sleep(seconds)
    return os.replace(part, path)


def read_checkpoint(path: AnyPath) -> Any:
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
        sealed = check_seal(path)
        if zipfile.is_zipfile(path):
            check_archive(path)
        elif holds(path, BYTES):
            raise too_much(path, "it asks for memory by itself")
        content = torch.load(path, map_location="cpu", weights_only=True)
        check_content(content, path, sealed)
        return content
    except pickle.UnpicklingError as error:
        if "ultralytics" in str(error):
            raise UserError(f"{shown(path)} holds objects of the package ultralytics, so loading it would run that package's code; it is refused. "
                            "Where ultralytics is installed, make plain tensors of it and use those: python -c \"import torch, ultralytics; "
                            f"torch.save(ultralytics.YOLO('{path.name}').model.state_dict(), '{path.stem}.pth')\"") from None
        raise UserError(f"{shown(path)} holds more than tensors and plain values{foreign_names(path)}, so loading it could run foreign code; it is "
                        f"refused. Convert it where it came from: torch.save(model.state_dict(), 'weights.pth').") from None
    except UserError:
        raise
    except Exception as error:                          # a damaged file can make the reader stumble anywhere
        raise UserError(f"{shown(path)} cannot be read as a weight file: cut off, damaged or not from PyTorch. ({first_line(error)})") from None


def check_seal(path: Path) -> bool:
    """Whether the file ends with its SHA-256. Error: with another one."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(max(size - SEAL_LENGTH, 0))
        end = file.read()
        sealed = end.startswith(SEAL)
        if sealed and hash_of(file, size - SEAL_LENGTH) != end[len(SEAL):]:
            raise damaged(path, "its SHA-256 is not the one it was written with")
    return sealed


def check_archive(path: Path) -> None:
    """Error: a record's checksum is wrong, which torch.load itself would accept, or the archive is made to fill the memory."""
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        names = {record.filename for record in records}
        packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
        total = sum(record.file_size for record in records)
        pickles = sum(record.file_size for record in records if record.filename.endswith(".pkl"))
        greedy = any(BYTES in archive.read(name) for name in names if name.endswith(".pkl")) if pickles < 2**26 else True
        if packed or greedy or len(names) < len(records) or len(records) > MOST_RECORDS or total > path.stat().st_size \
                or pickles > PICKLE + PICKLE_A_RECORD * len(records):
            raise too_much(path, f"{len(records)} records, {'compressed, ' if packed else ''}of {total / 2**20:.0f} MiB in a file of "
                                 f"{path.stat().st_size / 2**20:.0f}")
        wrong = archive.testzip()
    if wrong:
        raise damaged(path, f"the checksum of {wrong} is wrong")


def check_content(content: Any, path: Path, sealed: bool) -> None:
    """Error: a file of ours that lost its SHA-256, or a tensor that claims more numbers than the file holds."""
    if isinstance(content, dict) and isinstance(content.get("format"), int) and content["format"] >= 2 and not sealed:
        raise damaged(path, "its SHA-256 is missing")
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor) and value.layout == torch.strided:
            held = value.untyped_storage().nbytes() // value.element_size()
            if value.numel() > held:
                raise UserError(f"{shown(path)} holds a tensor of {value.numel():,} numbers that is made of {held:,}: it could fill the memory; "
                                "it is refused.")
        if isinstance(value, (dict, list, tuple)):
            waiting += value.values() if isinstance(value, dict) else value


def foreign_names(path: Path) -> str:
    """' (os.system, builtins.eval)' for what a file would call, or '' where PyTorch cannot tell (old formats)."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:                                   # of a file that is made to confuse it
        return ""
    return f" ({', '.join(sorted(names)[:8])}{' ...' if len(names) > 8 else ''})" if names else ""


def holds(path: Path, words: bytes) -> bool:
    """Whether these bytes stand anywhere in a file."""
    with open(path, "rb") as file:
        return path.stat().st_size > 0 and mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ).find(words) >= 0


def too_much(path: Path, why: str) -> UserError:
    return UserError(f"{shown(path)} is no weight file as PyTorch writes them: {why}. It could fill the memory; it is refused.")


def damaged(path: Path, why: str) -> UserError:
    return UserError(f"{shown(path)} is damaged ({why}): copy or download it again.")


def is_darknet(path: Path) -> bool:
    """By its name: yolov4-tiny.weights, yolov4-tiny.conv.29."""
    return path.suffix == ".weights" or ".conv." in path.name


def refuse_web_page(path: Path) -> None:
    """An error when a download brought a page or a pointer instead of the file."""
    with open(path, "rb") as file:
        head = file.read(64).lstrip()
    if head.startswith((b"<", b"version https://git-lfs")):
        raise UserError(f"{shown(path)} is not a weight file but a web page or a Git LFS pointer ({path.stat().st_size} bytes): download it again.")


def first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:160]


def newest_best() -> Path:
    """The best.pth of the newest run below logs/, or its last.pth as long as that run was not evaluated."""
    runs = {path.parent: path.stat().st_mtime for path in ROOT.glob("logs/*/last.pth")}
    runs |= {path.parent: max(runs.get(path.parent, 0), path.stat().st_mtime) for path in ROOT.glob("logs/*/best.pth")}
    if not runs:
        raise UserError("There is no trained network yet: logs/ holds no best.pth. Run  python train.py  first, or set model_path.")
    newest = max(runs, key=runs.__getitem__)
    return newest / ("best.pth" if (newest / "best.pth").is_file() else "last.pth")
