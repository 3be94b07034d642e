"""Text files: read whatever encoding they have, written whole or not at all."""
import codecs
import contextlib
import json
import os
import re
import shutil
from pathlib import Path

from utils.errors import UserError
from utils.settings import shown

# utf-32 before utf-16: its BOM begins with the same bytes.
BOMS = [(codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
        (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")]


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


def read_bytes(path, limit=None):
    """The content of a file. limit: in bytes. Errors: too large, not readable."""
    try:
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


def write_text(path, text):
    """Write a utf-8 file whole or not at all: the old one stays until the new one is complete."""
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")

    # Written under another name first, then renamed: a reader sees the old file or the new one, never half.
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{shown(path)} cannot be written: {error.strerror}.") from None
    except UnicodeEncodeError:                              # Linux allows file names that are no text at all
        raise UserError(f"{shown(path)} cannot be written: a name in it is not valid text. Rename "
                        "that file.") from None
    finally:
        with contextlib.suppress(OSError):                  # after a success it is gone already
            temporary.unlink()


def replace_text(path, text):
    """Write a file; a file with another content that was there is kept as <name>.bak (<name>.2.bak, ...).

    -> the path of that copy, or None.
    """
    kept = None

    # What the user may have edited is never lost: the first free name takes it.
    if path.exists() and read_bytes(path) != text.encode("utf-8", "replace"):
        kept, copies = path.with_name(path.name + ".bak"), 1
        while kept.exists():
            copies += 1
            kept = path.with_name(f"{path.name}.{copies}.bak")
        try:
            shutil.copy2(path, kept)
        except OSError as error:
            raise UserError(f"{shown(kept)}, a copy of the old file, cannot be written: "
                            f"{error.strerror}.") from None
    write_text(path, text)
    return kept


def printable(text):
    """A name as it can be printed: control characters in it must not steer the terminal."""
    return text if text.isprintable() else ascii(text)
