"""What predict.py looks at: files, folders, patterns, lists, addresses, cameras -> one list of items."""
import ast
import glob
import os
import re
import sys
from collections import Counter, namedtuple
from pathlib import Path
from urllib.parse import unquote as from_address
from urllib.parse import urlsplit

from utils.errors import UserError, did_you_mean
from utils.images import SUFFIXES, is_moving
from utils.lists import split_line, split_pair
from utils.results.address import is_stream
from utils.results.media import MARK, unquote
from utils.settings import ROOT, counted, find, shown
from utils.system.files import printable, read_raw_lines

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".wmv", ".flv", ".mpg", ".mpeg",
                  ".3gp", ".3g2", ".ts", ".mts", ".m2ts", ".vob", ".h264", ".264", ".h265", ".hevc",
                  ".ogv", ".asf", ".divx", ".mxf")
MODES = ("image", "folder", "video", "camera")
SYSTEM_FOLDERS = ("__MACOSX", "$RECYCLE.BIN", "System Volume Information", "@eaDir")
UNREADABLE = "no file that can be read"
NEITHER = "neither an image nor a video"
EARLIER = "results of an earlier run"
NAMED = 5                       # files left out that are named; the others are counted

# kind: "image", "video" or "camera".  place: Path, or the address or the camera's number as text.
# group: the folder for its results, "" for the output folder itself.
# name: Path of its result in that folder, without suffix.
Item = namedtuple("Item", "kind place group name")


def find_items(texts, mode, leave_out=None):
    """-> list of Item, list of (name, why) of what is left out.

    texts: of split_sources.  mode: the variable.
    leave_out: the resolved folder of the results, which is not read.
    What a source is decides; mode does where that leaves a choice.
    Errors: an unknown mode, nothing there, a camera among others.
    """
    if mode not in MODES:
        raise UserError(f'mode="{mode}" is not known.{did_you_mean(mode, MODES)} '
                        f'It can be {", ".join(MODES)}.')
    if not texts:
        if mode != "camera":
            raise UserError(f'mode = "{mode}" needs a source: set source to the path of a {mode}.')
        texts = ["0"]

    # One source says how mode should be read; of several each is what it is.
    items, left_out = [], []
    for text in texts:
        found, missing, meaning = expand(text, mode, leave_out)
        items += found
        left_out += missing
        kind = "folder" if meaning == "a folder" else found[0].kind if found else mode
        if len(texts) == 1 and meaning and kind != mode:
            print(f'source is {meaning}, so this run has mode = "{kind}" (the variable says "{mode}").')

    if len(items) > 1 and any(item.kind == "camera" for item in items):
        camera = next(item.place for item in items if item.kind == "camera")
        raise UserError(f'"{camera}" is a camera or a stream, which has no end: give it as the only source.')
    return items, left_out


def split_sources(source):
    """The variable source -> list of texts.

    It may be one, a list of them, such a list as the command line has it ("[a.jpg, b.jpg]"), or "-": one a
    line on standard input.
    """
    if isinstance(source, (list, tuple)):
        return [unquote(text) for text in source if unquote(text)]
    text = unquote(source)
    if text == "-":
        lines = [unquote(line) for line in sys.stdin]
        if not any(lines):
            raise UserError("source=- reads paths from standard input, one a line, and there was none.")
        return [line for line in lines if line]

    # A shell may have taken the quotes inside the brackets away.
    if text.startswith("[") and text.endswith("]") and existing(text) is None:
        try:
            parts = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            parts = text[1:-1].split(",")
        return [unquote(part) for part in parts if unquote(part)]
    return [text] if text else []


def expand(text, mode, leave_out):
    """One source -> list of Item, list of (name, why) left out, in words what it is ("" where mode says
    nothing about it)."""
    if "://" in text:
        return expand_address(text)
    path = existing(text)
    if path is None and text.isdigit():
        return [Item("camera", text, "", Path(f"camera{text}"))], [], "the number of a camera"
    if path is None and glob.has_magic(text):
        return (*expand_pattern(text, mode), "")

    # find_source has the sentence for what is not there.
    path = path or find_source(text)
    if path.is_dir():
        return (*expand_folder(path, leave_out), "a folder")
    if device := re.fullmatch(r"/dev/video([0-9]+)", text):
        return [Item("camera", device[1], "", Path(f"camera{device[1]}"))], [], "a camera"
    if not path.is_file():
        raise UserError(f"{shown(path)} is no file but a pipe, a device or the like, and is not read.")
    if path.suffix.lower() == ".txt":
        return (*expand_list(path, mode), "")
    kind, meaning = kind_of_file(path, mode)
    return [Item(kind, path, "", Path(path.stem))], [], meaning


def existing(text):
    """A path as people write it -> Path of what is there, else None."""
    try:
        path = find(text)
        return path if path.exists() else None
    except (OSError, ValueError, RuntimeError):             # a name too long, no permission, ~nobody
        return None


def find_source(text):
    """-> Path of a file or folder that is there.  Error: it is not; the message names the nearest that is."""
    try:
        path = find(text)
        if path.exists():
            return path
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f'"{printable(text)[:200]}" cannot be used as a path: {error}.') from None

    # Of a long path only its first part that does not exist is a mistake.
    missing = path
    while not missing.parent.is_dir() and missing.parent != missing:
        missing = missing.parent
    try:
        names = os.listdir(missing.parent)
    except OSError:
        names = []
    hint = did_you_mean(missing.name, names)
    raise UserError(f'There is no file or folder "{text}": no "{missing.name}" in {missing.parent}.{hint}')


def kind_of_file(path, mode):
    """-> "image" or "video", and the same in words. A .gif is a video if it has several pictures;
    of a file of unknown suffix mode decides."""
    suffix = path.suffix.lower()
    if suffix == ".gif":
        moving = is_moving(path)
        return ("video", "a moving .gif") if moving or mode == "video" else ("image", "one image")
    if suffix in VIDEO_SUFFIXES:
        return "video", "a video"
    if suffix in SUFFIXES or mode != "video":
        return "image", "one image"
    return "video", "a video"


def expand_folder(folder, leave_out=None):
    """Everything in a folder and below -> items, left out."""
    # Results of an earlier run below the source would otherwise be looked at as well.
    if leave_out == folder.resolve():
        raise UserError(f"output is the folder that is read ({shown(leave_out)}): set output to another one, "
                        'for example "img_out".')
    if leave_out and leave_out.is_relative_to(folder.resolve()):
        print(f"{shown(leave_out)} is inside the source and is not read.")
    images, videos, others = list_files(folder, leave_out)
    if not images and not videos:
        raise UserError(f"There is no image or video in {shown(folder)} or below it "
                        f"(looked for {' '.join(SUFFIXES + VIDEO_SUFFIXES)}).")
    group = folder.resolve().name or "images"
    items = [Item(kind, path, group, path.relative_to(folder).with_suffix(""))
             for kind, paths in (("image", images), ("video", videos)) for path in paths]

    # Whatever is not looked at is named at the end.
    def why(path):
        return EARLIER if (path / MARK).is_file() else NEITHER if path.is_file() else UNREADABLE
    return items, [(path.relative_to(folder).as_posix(), why(path)) for path in others]


def list_files(folder, leave_out=None):
    """-> images, videos and other files below a folder, each sorted, with the others also folders that
    predict.py made. Hidden files and those of the operating system are none of them.

    leave_out: a resolved folder whose content is not listed (results inside the source), or None.
    """
    found = []
    for base, folders, names in os.walk(folder):
        base = Path(base)
        visible = [name for name in folders if not name.startswith(".") and name not in SYSTEM_FOLDERS]
        earlier = [name for name in visible if (base / name / MARK).is_file()]
        found += [base / name for name in earlier if (base / name).resolve() != leave_out]
        folders[:] = [name for name in visible                                              # walked into
                      if name not in earlier and (base / name).resolve() != leave_out]
        found += [base / name for name in names if not name.startswith(".") and name.lower() != "thumbs.db"]
    found.sort(key=lambda path: path.relative_to(folder).as_posix())

    # A pipe would keep us waiting for ever, whatever its name is.
    known = [path for path in found if path.suffix.lower() in SUFFIXES + VIDEO_SUFFIXES and path.is_file()]
    kinds = {path: kind_of_file(path, "image")[0] for path in known}
    images, videos = ([path for path in known if kinds[path] == kind] for kind in ("image", "video"))
    return images, videos, [path for path in found if path not in kinds]


def expand_pattern(text, mode):
    """A pattern like photos/*.jpg or photos/**/*.png -> items, left out."""
    pattern = os.path.expanduser(text)
    files = []
    for base in (ROOT, Path.cwd()):
        found = sorted(base / match for match in glob.glob(pattern, root_dir=base, recursive=True))
        files = files or [path for path in found if path.is_file()]
    if not files:
        raise UserError(f'No file is called like "{text}".')

    # The folder in which the pattern begins names the results.
    fixed = Path(re.split(r"[*?\[]", pattern)[0] + "x").parent
    group = fixed.name or "images"
    items, left_out = [], []
    for path in files:
        if path.suffix.lower() in SUFFIXES + VIDEO_SUFFIXES:
            kind, _ = kind_of_file(path, mode)
            items.append(Item(kind, path, group if len(files) > 1 else "", Path(path.stem)))
        else:
            left_out.append((path.name, NEITHER))
    if not items:
        raise UserError(f'None of the {counted(len(files), "file")} called like "{text}" is an image '
                        "or a video.")
    return items, left_out


def expand_list(path, mode):
    """A text file with a path or an address on each line, or one of the lists of voc_annotation.py
    -> items, left out."""
    items, left_out = [], []
    for line in read_raw_lines(path, limit=100_000_000):
        text = line_source(line)
        if not text:
            continue
        if "://" in text:
            items.append(Item("image", text, path.stem, address_name(text)))
            continue

        # Beside the list itself, or as in the lists of the project; perhaps written on Windows.
        ways = [path.parent / text, text, path.parent / text.replace("\\", "/")]
        place = next(filter(None, map(existing, ways)), None)
        if place is None or not place.is_file():
            left_out.append((text, "no file is there"))
        elif place.suffix.lower() not in SUFFIXES + VIDEO_SUFFIXES:
            left_out.append((text, NEITHER))
        else:
            items.append(Item(kind_of_file(place, mode)[0], place, path.stem, Path(place.stem)))

    if not items:
        reasons = Counter(why for _, why in left_out)
        why = ", ".join(f"{number} {reason}" for reason, number in reasons.items()) or "it is empty"
        first = f', the first "{printable(left_out[0][0])[:80]}"' if left_out else ""
        raise UserError(f"{shown(path)} names no image or video that can be read ({why}{first}). "
                        "A list has the path of an image on each line.")
    return items, left_out


def line_source(line):
    """A line of a list -> the path or address in it, "" for a blank line or a comment."""
    text = line.strip().lstrip("\ufeff")
    if not text or text.startswith("#"):
        return ""
    pair = split_pair(text)
    return unquote(pair[0] if pair else split_line(text)[0])


def expand_address(text):
    """An image, or a stream (also rtsp, udp ...). -> items, left out, words."""
    if is_stream(text):
        return [Item("camera", text, "", Path("stream"))], [], "a stream"
    return [Item("image", text, "", address_name(text))], [], "one image"


def address_name(address):
    """https://example.org/a/cat%201.jpg?x=1 -> Path of "cat 1"."""
    name = Path(from_address(urlsplit(address).path)).stem
    return Path(re.sub(r'[\\/:*?"<>|\x00-\x1f]+', "_", name) or "image")


def suffix_of(place):
    """The suffix of a Path or of an address, as it is written."""
    return place.suffix if isinstance(place, Path) else Path(urlsplit(place).path).suffix


def tell_left_out(left_out):
    """One line that names what was left out and why."""
    for why in dict.fromkeys(why for _, why in left_out):
        names = [printable(name) for name, reason in left_out if reason == why]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        print(f"Left out, {why}: {', '.join(names[:NAMED])}{more}.")
