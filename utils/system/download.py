"""Official weight files from the net into model_data/: whole and checked, or not at all.

A download that breaks off goes on where it was, in the same run or in the next one.
"""
import contextlib
import hashlib
import os
import re
import sys
import time
import urllib.error
import urllib.request
from functools import partial
from http.client import HTTPException

from utils.errors import FULL, NoWeights
from utils.settings import OFFLINE, ROOT, printable, shown
from utils.system.bars import progress
from utils.system.files import clear_leftovers, part_name
from utils.system.machine import is_running

MIRROR = "PLAINVISION_MIRROR"               # an environment variable: where files are fetched instead
LICENCES = {"https://download.pytorch.org/": "torchvision, BSD-3-Clause",
            "https://github.com/AlexeyAB/darknet/": "darknet, public domain",
            "https://pjreddie.com/": "darknet, public domain",
            "https://github.com/Megvii-BaseDetection/YOLOX/": "YOLOX, Apache-2.0",
            "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-hrnet/": "HRNet, MIT",
            "https://github.com/rwightman/": "GluonCV, Apache-2.0"}
limits = []                                 # of `in_time`, in seconds; the last one holds
LONGEST = 6 * 3600                          # seconds that a download may take that somebody asked for
MOST_BYTES = 4 * 2**30                      # of a file: the largest official one has half a GiB
TRIES, PAUSE = 3, 2.0                       # how often it is tried; seconds in between


class Final(OSError):
    """What another try will not change: a wrong address, a full disk, time that has run out."""


@contextlib.contextmanager
def in_time(seconds):
    """Within this block a download may take so long and no longer: nobody asked for it."""
    limits.append(seconds)
    try:
        yield
    finally:
        limits.pop()


def download(url, sha256=None, timeout=20):
    """Fetch a weight file into model_data/ unless it is there. -> Path.

    sha256: the checksum, or how it begins; as in resnet50-0676ba61.pth it may also be in the name.
    timeout: seconds without a byte.
    Error (NoWeights): it did not arrive; the message names the address and where to put the file by hand.
    """
    named = re.search(r"-([0-9a-f]{8})\.pth$", url)
    sha256 = sha256 or (named.group(1) if named else "")
    path = ROOT / "model_data" / url.rsplit("/", 1)[1]
    if path.is_file():
        return path

    # Under another name until all of it is here: a download that breaks off must not pass for the file.
    part, address = part_name(path), address_of(url)
    until = time.monotonic() + (limits[-1] if limits else LONGEST)
    try:
        if os.environ.get(OFFLINE):
            raise Final(f"{OFFLINE} is set")
        adopt(path, part)
        clear_leftovers(path.parent)
        said = partial(say_download, url, address, path)
        fetch_in_tries(address, part, sha256, timeout, until, said)
        os.replace(part, path)
    except Exception as error:                              # a broken server can make a reader fail anywhere
        why = printable(" ".join(str(error).split())[:200]) or type(error).__name__
        rest = " What arrived is kept: the next try goes on from there." if part.exists() else ""
        raise NoWeights(f"Could not download {address} ({why}).{rest} Fetch it by hand and put it at "
                        f"{shown(path)}, or set pretrained=False.") from None
    return path


def address_of(url):
    """Where a file is fetched: at its address, or from the mirror of the environment variable.

    Its value is the address of a folder with these files, like https://mirror.example/weights; {url} in it
    stands for the whole official address, {name} for the name of the file.
    """
    mirror, name = os.environ.get(MIRROR, "").strip(), url.rsplit("/", 1)[1]
    if not mirror:
        return url
    if "{url}" in mirror or "{name}" in mirror:
        return mirror.replace("{url}", url).replace("{name}", name)
    return f"{mirror.rstrip('/')}/{name}"


def adopt(path, part):
    """What a program left of this file that runs no more becomes our own beginning of it."""
    for left in sorted(path.parent.glob(f"{path.name}.*.plainvision.part"), key=os.path.getsize):
        owner = left.name.removeprefix(f"{path.name}.").partition(".")[0]
        if owner.isdecimal() and not is_running(int(owner)):
            os.replace(left, part)


def fetch_in_tries(address, part, sha256, timeout, until, say):
    """Fetch a file, if need be in several tries, and check it. part: Path, perhaps with a beginning.
    until: when the time is over.  say: is called with the size in bytes (None: not known) at the beginning.
    Error: the last try's."""
    for attempt in range(1, TRIES + 1):
        try:
            fetch_once(address, part, sha256, timeout, until, say if attempt == 1 else None)
            return
        except (OSError, ValueError, HTTPException) as error:
            if attempt == TRIES or is_final(error) or time.monotonic() + PAUSE > until:
                raise

            # A server that is overloaded recovers, a connection that broke is made anew.
            print(f"The download broke off ({printable(str(error)[:100]) or type(error).__name__}): "
                  f"try {attempt + 1} of {TRIES}.", file=sys.stderr)
            time.sleep(PAUSE)


def is_final(error):
    """Whether another try would end the same way: no such file, no permission, no room."""
    if isinstance(error, urllib.error.HTTPError):
        return 400 <= error.code < 500 and error.code not in (408, 416, 429)
    return isinstance(error, Final) or isinstance(error, OSError) and error.errno in FULL


def fetch_once(address, part, sha256, timeout, until, say):
    """One try: go on with what is there, to the end, and compare the checksum."""
    # Only a checksum can tell whether a beginning and an end are of one file.
    have = part.stat().st_size if part.exists() and sha256 else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416:                               # there is no more, so it is none of this file
            part.unlink(missing_ok=True)
        raise

    with response:
        have = have if response.status == 206 else 0        # a server may send all of it all the same
        length = response.headers.get("Content-Length")
        size = None if length is None else have + int(length)
        if size is not None and not 0 <= size <= MOST_BYTES:
            raise Final(f"the server says that it has {size:,} bytes")
        if say:
            say(size)
        with open(part, "r+b" if have else "wb") as file:
            file.seek(have)
            file.truncate()
            blocks = progress(blocks_of(response, until), "Fetching", total=max(0, (size or 0) - have),
                              size=len, amount=megabytes)
            for block in blocks:
                file.write(block)
                if file.tell() > MOST_BYTES:
                    raise Final(f"it has more than {MOST_BYTES // 2**30} GiB")

    # A connection that breaks looks like the end of the file; a proxy may send something else altogether.
    arrived = part.stat().st_size
    if size is not None and arrived < size:
        raise OSError(f"{arrived} of {size} bytes arrived")
    if not checksum(part).startswith(sha256):
        part.unlink()
        raise OSError("the checksum is wrong")


def blocks_of(response, until):
    """What arrives, as it arrives. Error: the time is over."""
    while block := response.read1(1 << 16):                 # read() would wait for a whole block, however slow
        if time.monotonic() > until:
            raise Final("it took too long" if not limits else f"more than {limits[-1]} s")
        yield block


def checksum(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def megabytes(size):
    return f"{size / 1e6:.0f} MB"


def say_download(url, address, path, size):
    """What is fetched, how large, under which licence; if nobody asked for it, also how to turn it off."""
    size = f"{megabytes(size)}, " if size else ""
    licence = next((text for start, text in LICENCES.items() if url.startswith(start)), "licence unknown")
    unasked = f", for at most {limits[-1]} s (pretrained=False turns this off)" if limits else ""
    print(f"Fetching official weights into {shown(path)}: {size}{licence}, from {address}{unasked}",
          file=sys.stderr)
