"""Saving and loading: whole or not at all, tensors and plain values only.

A file of ours ends with the SHA-256 of everything before it (as the comment of its zip archive, so torch.load
reads it all the same): a bit that flips anywhere, on the disk or on the way to another one, is found before
the weights are used.
"""
import errno
import hashlib
import mmap
import os
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from utils.errors import UserError
from utils.settings import AnyPath, printable, shown
from utils.system import pickles
from utils.system.files import cannot_write, free_bytes, written_whole

FORMAT = 2                      # 1: without the SHA-256
SEAL = b"sha256:"               # what the end of a file begins with, followed by 64 hexadecimal digits
SEAL_LENGTH = len(SEAL) + 64
MOST_RECORDS = 20_000           # in an archive; the largest official files have some thousands
PICKLE = 2**20                  # bytes of names and structure that an archive may have, and ...
PICKLE_A_RECORD = 2**10         # ... so many more for each record (a record needs some 200)
PICKLES_READ = 2**26            # bytes of names and structure that are looked through at most
OLD_PICKLES = 5                 # an old file begins with so many: what it is, its content, its tensors' names


def save_checkpoint(path: AnyPath, **content: Any) -> None:
    """Write content (tensors and plain values) to path: at every moment the old or the new file is there.

    Error: no room (with the bytes needed) or the disk refuses; what was there before is untouched.
    """
    path = Path(path)
    needed = size_of(content)
    try:
        # Ask for the room first: a disk that fills up halfway costs minutes.
        free = free_bytes(path.parent)
        if free is not None and free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        # All of it is on the disk before it takes the old file's name: a power cut leaves one of the two.
        with written_whole(path, sync=True) as part, open(part, "w+b") as file:
            torch.save({**content, "format": FORMAT}, file)
            seal(file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:            # torch reports a full disk as a RuntimeError
        raise cannot_write(path, error, needed) from None


def size_of(content: Any) -> int:
    """Bytes that the tensors in nested dicts and lists take, each storage once, and a little for the rest."""
    storages = {}
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        elif isinstance(value, (dict, list, tuple)):
            waiting += value.values() if isinstance(value, dict) else value
    return sum(storages.values()) + 2**18


def seal(file: BinaryIO) -> None:
    """Append the SHA-256 of what was written. file: a zip archive without comment, open to read and write."""
    file.seek(-2, os.SEEK_END)                          # an archive's last field: its comment's length
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


def read_checkpoint(path: AnyPath) -> Any:
    """A file written by torch.save -> its content.

    Errors: not there, not a weight file, damaged, holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise no_file(path)
    refuse_web_page(path)
    if is_darknet(path):
        raise UserError(f"{shown(path)} is a darknet file: give it to train.py as model_path.")

    # The file may come from anywhere. Its outside is checked first, so that reading it can neither fill the
    # memory nor run anything; what it claims about its tensors is checked last.
    try:
        sealed = check_seal(path)
        if begins_with(path, b"PK\x03\x04"):            # as torch.load decides it
            check_archive(path)
        else:
            check_old(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        check_content(content, path, sealed)
        return content

    except pickles.Refused as error:
        raise refusal(path, error) from None
    except UserError:
        raise
    except Exception as error:                          # a damaged file can make the reader fail anywhere
        raise unreadable(path, first_line(error)) from None


def no_file(path: Path) -> UserError:
    """The error of a file that is not there, with the names of some that are."""
    folder = path if path.is_dir() else path.parent
    near = sorted(folder.glob("*.pth")) if folder.is_dir() else []
    found = f" In {shown(folder)} there is: {', '.join(p.name for p in near[:5])}." if near else ""
    return UserError(f"There is no weight file {shown(path)}.{found}")


def refusal(path: Path, error: pickles.Refused) -> UserError:
    """The error of a file that is not loaded; where it holds foreign code, with a way to get the tensors."""
    if not error.foreign:
        return too_much(path, str(error)) if error.greedy else unreadable(path, str(error))

    # Most of the foreign files are of that package.
    names = sorted(error.foreign)
    if any("ultralytics" in name for name in names):
        save = f"torch.save(ultralytics.YOLO('{path.name}').model.state_dict(), '{path.stem}.pth')"
        return UserError(f"{shown(path)} holds objects of the package ultralytics, so loading it would run "
                         "that package's code; it is refused. Where ultralytics is installed, make plain "
                         f"tensors of it and use those: python -c \"import torch, ultralytics; {save}\"")
    some = ", ".join(map(printable, names[:8])) + " ..." * (len(names) > 8)
    return UserError(f"{shown(path)} holds more than tensors and plain values ({some}), so "
                     "loading it could run foreign code; it is refused. Convert it where it came from: "
                     "torch.save(model.state_dict(), 'weights.pth').")


def unreadable(path: Path, why: str) -> UserError:
    return UserError(f"{shown(path)} cannot be read as a weight file: cut off, damaged or not from "
                     f"PyTorch. ({printable(why)})")


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
    """Error: a record's checksum is wrong (torch.load would accept it), or it is made to fill the memory."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
        names = {record.filename for record in records}

        # PyTorch stores its records as they are and each name once, so together they never exceed the file.
        packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
        total = sum(record.file_size for record in records)
        swollen = packed or total > size or len(names) < len(records) or len(records) > MOST_RECORDS

        # The pickles hold names and structure alone: they are small.
        lists = [record for record in records if record.filename.endswith(".pkl")]
        pickled = sum(record.file_size for record in lists)
        greedy = pickled > PICKLE + PICKLE_A_RECORD * len(records) or pickled >= PICKLES_READ
        if swollen or greedy or not ends_plainly(path, archive):
            raise too_much(path, f"{len(records)} records, {'compressed, ' if packed else ''}of "
                                 f"{total / 2**20:.0f} MiB in a file of {size / 2**20:.0f}")

        # What they would build is looked at before it is built.
        tensors = {record.filename.partition("/data/")[2]: record.file_size for record in records}
        for record in lists:
            pickles.walk(archive.read(record), size, tensors)
        wrong = archive.testzip()
    if wrong:
        raise damaged(path, f"the checksum of {wrong} is wrong")


def ends_plainly(path: Path, archive: zipfile.ZipFile) -> bool:
    """Whether the archive has one end, with no comment but our SHA-256: all readers find the same records."""
    comment = len(archive.comment)
    with open(path, "rb") as file:
        file.seek(-22 - comment, os.SEEK_END)           # an end without its comment has 22 bytes
        end = file.read()
    return end.startswith(b"PK\x05\x06") and end.count(b"PK\x05\x06") == 1 and comment in (0, SEAL_LENGTH)


def check_old(path: Path) -> None:
    """Error: a file of PyTorch before 1.6, which is no archive, is made to fill the memory or to run code."""
    size = path.stat().st_size
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for _ in range(OLD_PICKLES):
            pickles.walk(content, size)


def check_content(content: Any, path: Path, sealed: bool) -> None:
    """Error: a file of ours without its SHA-256."""
    written_as = content.get("format") if isinstance(content, dict) else None
    if isinstance(written_as, int) and written_as >= 2 and not sealed:
        raise damaged(path, "its SHA-256 is missing")


def too_much(path: Path, why: str) -> UserError:
    return UserError(f"{shown(path)} is no weight file as PyTorch writes them: {why}. "
                     "It could fill the memory; it is refused.")


def damaged(path: Path, why: str) -> UserError:
    return UserError(f"{shown(path)} is damaged ({why}): copy or download it again.")


def is_darknet(path: Path) -> bool:
    """By its name: yolov4-tiny.weights, yolov4-tiny.conv.29."""
    return path.suffix == ".weights" or ".conv." in path.name


def begins_with(path: Path, *words: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(64).startswith(words)


def refuse_web_page(path: Path) -> None:
    """An error when a download brought a page or a pointer instead of the file."""
    with open(path, "rb") as file:
        head = file.read(64).lstrip()
    if head.startswith((b"<", b"version https://git-lfs")):
        raise UserError(f"{shown(path)} is not a weight file but a web page or a Git LFS pointer "
                        f"({path.stat().st_size} bytes): download it again.")


def first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:160]
