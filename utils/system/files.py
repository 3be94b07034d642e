"""Files: text is read whatever encoding it has; everything is written whole or not at all."""
import codecs
import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from pathlib import Path

from utils.errors import FULL, UserError
from utils.settings import find, shown
from utils.settings import printable as printable  # a rule of names in messages, wherever they go
from utils.system.machine import is_running

# utf-32 before utf-16: its BOM begins with the same bytes.
BOMS = [(codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
        (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")]
# what `part_name` makes; behind it a video has its suffix
PART = re.compile(r"\.(\d+)\.plainvision\.part(\.\w+)?$")


def decode_text(data, guesses):
    """Bytes -> text; None when no encoding fits.

    A BOM at the beginning decides; without one the first encoding of `guesses` that fits is used.
    """
    for bom, encoding in BOMS:
        if data.startswith(bom):
            data, guesses = data[len(bom):], [encoding]
            break
    else:
        if b"\x00" in data and (text := decode_wide(data)) is not None:
            return text

    # gb18030 fits almost anything, so it is the last guess of all callers.
    for encoding in guesses:
        try:
            return data.decode(encoding)
        except (LookupError, ValueError):                   # unknown name, or bytes that do not fit
            continue
    return None


def decode_wide(data):
    """utf-16 that was saved without its BOM -> text, else None.

    It is recognised by its zero bytes, which other text does not have.
    """
    # Half of the bytes of Latin text in utf-16 are zero: the second of each pair in utf-16-le.
    high, low = data[1::2].count(0), data[::2].count(0)
    try:
        text = data.decode("utf-16-le" if high >= low else "utf-16-be")
    except ValueError:
        return None

    # Other text with a few zero bytes: as utf-16 its line ends vanish, or control characters appear.
    stray = b"\n" in data and "\n" not in text and 4 * max(high, low) < len(data)
    if stray or re.search("[\x00-\x08\x0e-\x1f\ufffe\uffff]", text):
        return None
    return text


def check_file(path, kind="file_missing"):
    """Error: a pipe, a device or a socket, which may have no end. OSError: there is nothing."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise UserError(f"{shown(path)} is no file but a pipe, a device or a socket: it is not read.",
                        kind=kind)


def read_bytes(path, limit=None):
    """The content of a file. limit: in bytes. Errors: too large, not readable, not a file."""
    try:
        check_file(path)
        if limit and os.path.getsize(path) > limit:
            raise UserError(f"{shown(path)} is larger than {limit // 1_000_000} MB: not an annotation.",
                            kind="label_too_large")
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{shown(path)} cannot be read: {error.strerror}.", kind="file_missing") from None


def read_record(path):
    """A dict that was kept as JSON; {} when the file is missing or damaged: then what it stands for is made
    again."""
    try:
        record = json.loads(read_bytes(path))
    except (UserError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def read_raw_lines(path, limit=None):
    """The lines of a text file as they are, without line ends. limit: in bytes.

    Only \\n and \\r\\n end a line: str.splitlines would also split names that hold U+2028.
    """
    text = decode_text(read_bytes(path, limit), ["utf-8", "gb18030"])
    if text is None:
        raise UserError(f"{shown(path)} is not a text file in utf-8 or gb18030: save it as utf-8.")
    return [line.removesuffix("\r") for line in text.split("\n")]


def read_lines(path):
    """The lines of a text file, stripped, without the blank ones at its end."""
    lines = [line.strip() for line in read_raw_lines(path)]
    while lines and not lines[-1]:
        lines.pop()
    return lines


class CannotWrite(UserError):
    """A file cannot be written: no room, no permission, a broken disk. What was there before is untouched."""


def cannot_write(path, error, needed=None):
    """-> CannotWrite. needed: bytes, where it is worth saying although the disk may not be full."""
    reason = getattr(error, "strerror", None) or (str(error) or type(error).__name__).splitlines()[0][:160]
    if needed is None and getattr(error, "errno", None) not in FULL:
        return CannotWrite(f"{shown(path)} cannot be written: {reason}.")

    # Of a full disk the numbers are what one needs to know: how much to delete.
    free = free_bytes(Path(path).parent)
    room = "how much is free is not known" if free is None else f"{size_text(free)} are free"
    if needed is not None:
        room = f"{size_text(needed)} are needed, {room}"
    return CannotWrite(f"{shown(path)} cannot be written ({reason}): {room}. "
                       "What was there before is untouched.")


def size_text(count):
    """A number of bytes, for people."""
    return f"{count} bytes" if count < 2**16 else f"{count / 2**20:.1f} MiB"


def free_bytes(folder):
    """None where the system does not tell, as for some network folders."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def part_name(path):
    """What a file or folder is called until all of it is written: no two processes take the same name."""
    name = path.name
    if len(os.fsencode(name)) > 200:                        # most systems have names of up to 255 bytes
        name = hashlib.sha1(os.fsencode(name)).hexdigest()
    return path.with_name(f"{name}.{os.getpid()}.plainvision.part")


@contextlib.contextmanager
def written_whole(path, sync=False):
    """with written_whole(path) as part: what is written to `part` becomes `path`, or leaves no trace.

    sync: the new name reaches the disk as well; the content is for the caller to sync.  Errors: OSError.
    """
    part = part_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        replace(part, path)
    finally:
        with contextlib.suppress(OSError):                  # after a success it is gone already
            part.unlink()
    if sync:
        sync_folder(path.parent)


def replace(part, path):
    """os.replace, tried several times: on Windows it fails while another program reads the old file."""
    for seconds in (0.1, 0.5, 2.0):
        try:
            return os.replace(part, path)
        except PermissionError:
            time.sleep(seconds)
    return os.replace(part, path)


def sync_folder(folder):
    """The rename itself reaches the disk with its folder, where that is possible."""
    if os.name == "posix":
        with contextlib.suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


@contextlib.contextmanager
def whole_folder(target):
    """with whole_folder(target) as part: the folder `part`, made here, becomes `target`, or leaves no trace.

    Of `target` at most an empty folder is there before.  Error: it cannot be written.
    """
    clear_leftovers(target.parent)
    part = part_name(target)
    try:
        part.mkdir(parents=True)
        yield part
        if target.is_dir():
            target.rmdir()
        os.replace(part, target)

    # The file that found no room is one of many: what counts is the folder.
    except CannotWrite as error:
        raise CannotWrite(f"{str(error).replace(part.name, target.name)} Nothing of it is left.") from None
    except OSError as error:
        raise CannotWrite(f"{cannot_write(target, error)} Nothing of it is left.") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)             # ours, and gone by now if all went well


def write_bytes(path, data):
    """Write a file whole or not at all: the old one stays until the new one is complete."""
    path = Path(path)
    try:
        with written_whole(path) as part, open(part, "wb") as file:
            file.write(data)
    except OSError as error:
        raise cannot_write(path, error, len(data) if error.errno in FULL else None) from None


def write_text(path, text):
    """Write a utf-8 file whole or not at all."""
    write_bytes(path, as_bytes(path, text))


def as_bytes(path, text):
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:                              # Linux allows file names that are no text at all
        raise CannotWrite(f"{shown(path)} cannot be written: a name in it is not valid text. Rename "
                          "that file.") from None


def append_line(path, text):
    """A line more at the end of a file, or none: a full disk leaves no half of it."""
    data = (text + "\n").encode("utf-8", "replace")
    with open(path, "ab", buffering=0) as file:             # what a buffer keeps would be written on closing
        before = file.tell()
        if file.write(data) < len(data):
            file.truncate(before)


# what `together` will rename: [(part, path, part of the copy, the copy)]; None: nobody is within it
group = {"files": None}


@contextlib.contextmanager
def together():
    """with together(): all files that `replace_text` writes within appear at the end, or none does."""
    if group["files"] is not None:                          # already within
        yield
        return
    files = group["files"] = []

    # What is left under its first name at the end has found no room, or something else went wrong.
    try:
        yield
        rename_all(files)
    finally:
        group["files"] = None
        for part in (part for one in files for part in one[::2] if part):
            with contextlib.suppress(OSError):
                part.unlink()


def rename_all(files):
    """The parts of `together` get their names. Error: one cannot; then the others are as they were."""
    for folder in {path.parent for _, path, *_ in files}:
        clear_leftovers(folder)

    # A file that was replaced has its copy, a new one had nothing before it.
    done = []
    for part, path, copy, kept in files:
        is_new = not path.exists()
        try:
            if kept:
                replace(copy, kept)
            done.append((path, kept, is_new))
            replace(part, path)
        except OSError as error:
            for path_before, kept_before, was_new in reversed(done):
                with contextlib.suppress(OSError):
                    if kept_before:
                        os.replace(kept_before, path_before)
                    elif was_new:
                        path_before.unlink()
            raise cannot_write(path, error) from None


def replace_text(path, text):
    """Write a file; a file with another content that was there is kept as <name>.bak (<name>.2.bak, ...).

    -> the path of that copy, or None. Within `together` both appear at its end.
    """
    path, kept = Path(path), None
    data = as_bytes(path, text)
    part, copy = part_name(path), None

    # What the user may have edited is never lost: the first free name takes it.
    with together():
        if path.exists() and (old := read_bytes(path)) != data:
            kept, copies = path.with_name(path.name + ".bak"), 1
            while kept.exists():
                copies += 1
                kept = path.with_name(f"{path.name}.{copies}.bak")
            copy = part_name(kept)
        group["files"].append((part, path, copy, kept))

        # All of it is on the disk before anything gets its name.
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for place, content in ({part: data} | ({copy: old} if kept else {})).items():
                with open(place, "wb") as file:
                    file.write(content)
            if kept:
                shutil.copystat(path, copy)
        except OSError as error:
            needed = len(data) + (len(old) if kept else 0)
            raise cannot_write(path, error, needed if error.errno in FULL else None) from None
    return kept


def clear_leftovers(folder, pattern="*.part*"):
    """Delete what writers left in a folder that were killed, and name whole folders of that kind."""
    for path in sorted(folder.glob(pattern)):
        found = PART.search(path.name)
        if not found or is_running(int(found[1])):
            continue
        if path.is_dir():
            print(f"NOTE: {shown(path)} was left by a run that was killed. It can be deleted.")
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def writable_folder(text):
    """The variable output -> Path of the folder. It need not be there yet, and is not made here.
    Error: nothing can be written there, as in a repository that belongs to somebody else."""
    folder = find(text).resolve()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UserError(f"Nothing can be written to {shown(folder)} ({error.strerror or error}): set output "
                        "to a folder of your own, like  output=~/plainvision") from None
    return folder
