"""A picture from the net: its size, its type and the time are limited, and every failure has its sentence."""
import http.client
import os
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote, urlsplit

from utils.errors import UserError
from utils.images import MAX_PIXELS, SUFFIXES, open_image, opened, too_large
from utils.settings import OFFLINE
from utils.system.files import printable

LARGEST = 100_000_000           # bytes of a picture
PAUSE, PATIENCE = 10.0, 60.0    # seconds without an answer, and for the whole picture
PIECE = 1 << 16                 # bytes that are read at a time
UNTOLD = ("application/octet-stream", "binary/octet-stream", "")        # types that say nothing


def is_stream(address):
    """Whether an address is a camera's or a video's: told by its suffix, else by what the server says."""
    parts = parts_of(address)
    if parts.scheme.lower() not in ("http", "https"):
        return True
    if parts.path.lower().endswith(SUFFIXES):
        return False
    with answer_of(address) as answer:
        kind = type_of(answer)
    if kind.startswith("text/"):
        raise UserError(f"{address} is a page ({kind}), not an image: in the browser choose "
                        '"copy image address".')
    return not kind.startswith("image/")


def parts_of(address):
    """-> scheme, netloc, path ... of an address. Error: it is none."""
    try:
        return urlsplit(address)
    except ValueError as error:
        raise UserError(f'"{printable(address)}" is no address: {error}.') from None


def type_of(answer):
    """What the server says the file is, like "image/jpeg"."""
    return printable((answer.headers.get("Content-Type") or "").partition(";")[0].strip().lower())


def answer_of(address):
    """-> the server's answer, of which only the head has been read. Errors: there is none, or a refusal."""
    if os.environ.get(OFFLINE):
        raise UserError(f"{address} is not fetched: {OFFLINE} is set.")
    place = parts_of(address).netloc.rpartition("@")[2]

    # Spaces and Chinese characters are written as browsers write them.
    try:
        url = quote(address, safe="%/:?&=#@+,;~()[]!$'*")
        request = urllib.request.Request(url, headers={"User-Agent": "PlainVision"})
        return urllib.request.urlopen(request, timeout=PAUSE)
    except urllib.error.HTTPError as error:
        raise UserError(f"{address}: the server says {error.code} ({error.reason}).") from None
    except TimeoutError:
        raise UserError(f"{address}: {place} does not answer within {PAUSE:.0f} s.") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"{address}: {place} gives no answer ({reason}). "
                        "Is the address right, and is this computer online?") from None


def open_address(address):
    """-> the picture at an address, (h, w, 3) uint8 RGB."""
    suffix = Path(urlsplit(address).path).suffix.lower()
    return open_bytes(fetch(address), address, suffix if suffix in SUFFIXES else ".png")


def open_bytes(data, name, suffix=".png", most_pixels=MAX_PIXELS):
    """A picture that is in no file -> (h, w, 3) uint8 RGB. name: what errors call it."""
    # Opened as every other picture is, and removed at once.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"image{suffix}"
        path.write_bytes(data)
        try:
            with opened(path) as picture:
                pixels = picture.width * picture.height
            if pixels > most_pixels:
                raise too_large(path, f", {picture.width} x {picture.height} pixels", pixels, most_pixels)
            return open_image(path)
        except UserError as error:
            raise UserError(str(error).replace(path.as_posix(), name), kind=error.kind) from None


def fetch(address):
    """-> the bytes at an address. Errors: no answer, not an image, too large, too slow, cut off."""
    end = time.monotonic() + PATIENCE
    with answer_of(address) as answer:
        kind = type_of(answer)
        if not kind.startswith("image/") and kind not in UNTOLD:
            raise UserError(f"{address} is no image but {kind}.")

        # In pieces, so that neither a large nor an endless answer fills the memory or takes for ever.
        pieces, size = [], 0
        try:
            while piece := answer.read1(PIECE):
                pieces.append(piece)
                size += len(piece)
                if size > LARGEST:
                    raise UserError(f"{address} is larger than {LARGEST // 1_000_000} MB: not an image.")
                if time.monotonic() > end:
                    raise UserError(f"{address}: not complete after {PATIENCE:.0f} s. "
                                    "Download it and give the file.")
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
            raise UserError(f"{address}: the connection broke off ({reason}).") from None
    promised = answer.headers.get("Content-Length") or ""
    if promised.isdigit() and size < int(promised):
        raise UserError(f"{address}: the connection broke off after {size} of {promised} bytes.")
    return b"".join(pieces)
