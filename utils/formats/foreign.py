"""What the annotation files of other programs have in common.

Every reader (yolo_format.py, coco_format.py, labelme_format.py, pair_format.py) returns the same: class names in the order of the
source, and dict list name ("train", "val", "test", or "all" when the source has no lists) -> list of look.Sample. All that is wrong
goes into the list `findings`; an image is in no list if it or its label cannot be used. Errors: the whole cannot be read.
The truth of a sample is a list of objects. An object is dict(name, box, difficult) with box (x1, y1, x2, y2) px edges, and for segmentation
`outline`: a list of (n, 2) px polygons, or a run-length mask of COCO.

The files are a stranger's: a name must not lead out of the data set, a number must be one, a JSON must not fill the memory.
"""
import json
import os
import re
from pathlib import Path

from utils.errors import UserError
from utils.findings import Finding
from utils.formats.stratify import classes_in
from utils.formats.voc_folder import make_split
from utils.images import SUFFIXES
from utils.settings import shown
from utils.system.files import decode_text, printable, read_bytes

MADE = "plainvision_masks"                                  # the folder of the masks that are made, see made_masks.py
MAX_JSON_BYTES = 1_000_000_000                              # COCO's largest file has 470 MB
MAX_NAME = 200                                              # letters of a class name
STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")   # control, direction of writing, half letters
DEVICES = re.compile(r"(CON|PRN|AUX|NUL|COM[0-9]|LPT[0-9])(\..*)?", re.IGNORECASE)                 # Windows opens these as devices
SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test",
               "testing": "test"}
LONGEST = 255                                               # bytes of a file name, on all the usual disks
MAX_FOLDERS = 100_000                                       # below a data set
TOO_DEEP = 8                                                # levels of folders below a data set that are looked into


def locate(name, base, roots, where):
    """The file that a stranger's file calls `name`, relative to `base`. Errors: not plain, or it lies in none of the folders `roots`.

    where: file and line, for the message. The file itself need not exist.
    """
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"{where}: expected a file name, found {str(name)[:80]!r}.", kind="bad_name")
    drive, rest = os.path.splitdrive(name)                  # a drive is only one on Windows
    parts = [part for part in rest.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    for part in parts:
        if STEERING.search(part) or ":" in part or DEVICES.fullmatch(part) or part != part.rstrip(" .") or len(os.fsencode(part)) > LONGEST:
            raise UserError(f"{where}: {ascii(name)} is not a plain file name (no control characters, no colon, no dot or space at an end, "
                            f"at most {LONGEST} bytes, none that Windows keeps for itself). Rename the file, here and on the disk.",
                            kind="bad_name")
    path = Path(os.path.normpath(Path(base) / (drive + rest.replace("\\", "/"))))
    if not parts or not any(path.is_relative_to(os.path.normpath(root)) for root in roots):
        raise UserError(f"{where}: {name!r} leads out of the data set {shown(roots[0])}. Write names relative to it.", kind="bad_name")
    return path


def read_json(path, limit=MAX_JSON_BYTES):
    """The content of a JSON file. Errors: too large, not text, not JSON, nested too deeply; the line is named."""
    data = read_bytes(path, limit)
    utf16 = data[1:2] == b"\x00" or data[:1] == b"\x00"
    text = decode_text(data, ["utf-16-le" if data[:1] != b"\x00" else "utf-16-be"] if utf16 else ["utf-8", "gb18030"])
    if text is None:
        raise UserError(f"{shown(path)} is not text in utf-8: save it anew.", kind="label_encoding")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{shown(path)}, line {error.lineno}: not complete JSON ({error.msg}). Export it anew.", kind="json_broken") from None
    except (RecursionError, ValueError, MemoryError) as error:      # ValueError: a number of more than 4300 digits
        what = "nested too deeply" if isinstance(error, RecursionError) else error
        raise UserError(f"{shown(path)} is not an annotation: {what}.", kind="json_broken") from None


def part(record, name, kind, where=""):
    """record[name], which must be of a kind: list, dict, str. Errors: the record is no dict, the part is missing or something else.

    where: words in front of the message, with a colon.
    """
    if not isinstance(record, dict):
        raise UserError(f"{where}expected {{...}}, found {str(record)[:60]!r}.")
    value = record.get(name)
    if not isinstance(value, kind):
        known = {list: "a list [...]", dict: "{...}", str: "text"}.get(kind, "a number")
        raise UserError(f'{where}"{name}" is missing.' if value is None else f'{where}"{name}" is {str(value)[:60]!r}, expected {known}.')
    return value


def number(value, what):
    """A finite number of pixels. Errors: text, NaN, beyond a million."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e6:       # "not <": NaN too
        raise UserError(f"{what} is {str(value)[:40]!r}, expected a number of pixels.", kind="bad_number")
    return float(value)


def class_name(value, where=""):
    """A class name as it stands in the classes file: one line, single spaces. Errors: none, too long, no valid text. where: as in `part`."""
    name = " ".join(str(value).split()) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""
    if not name or len(name) > MAX_NAME or re.search("[\x00\ud800-\udfff]", name):
        raise UserError(f"{where}{printable(str(value)[:60])!r} is not a class name: expected text of 1 to {MAX_NAME} letters.")
    return name


def class_names(values, where):
    """A list of class names. Errors: empty, one twice. where: file and line."""
    names = [class_name(value, f"{where}: ") for value in values]
    if not names:
        raise UserError(f"{where}: there are no class names.")
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise UserError(f"{where}: the class name {printable(twice)!r} stands there twice (numbers {names.index(twice)} and "
                        f"{names.index(twice, names.index(twice) + 1)}). Give one of them another name.")
    return names


def files_below(folder, suffixes=SUFFIXES):
    """All files with one of the suffixes in a folder and the folders in it, sorted; hidden ones and our own masks are no data."""
    found, seen = [], set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:                                    # links that lead in a circle
            folders.clear()
            continue
        seen.add(real)
        if len(seen) > MAX_FOLDERS:
            raise UserError(f"{shown(folder)} holds more than {MAX_FOLDERS} folders: this is no data set. Give a folder further down.")
        deep = len(Path(place).relative_to(folder).parts) >= TOO_DEEP
        folders[:] = [] if deep else sorted(name for name in folders if not name.startswith((".", "__")) and name != MADE)
        found += [Path(place) / name for name in files if not name.startswith(".") and name.lower().endswith(suffixes)]
    return sorted(found)


def folder_split(path, root):
    """"train", "val" or "test" when one of the folders between root and the file is called so (valid, testing ...), else "all"."""
    parts = Path(path).relative_to(root).parts[:-1] if Path(path).is_relative_to(root) else ()
    return next((SPLIT_NAMES[name.lower()] for name in parts if name.lower() in SPLIT_NAMES), "all")


def by_stem(paths):
    """stem -> path; None where files in several folders are called alike."""
    found = {}
    for path in paths:
        found[path.stem] = path if path.stem not in found else None
    return found


def deal(lists, root, wanted, findings, trainval_percent=0.9, train_percent=0.9, seed=0, new_split=False, stratify=False):
    """dict list name -> samples  ->  dict train, val, test -> samples. The source's own lists are respected.

    wanted: dict train, val, test -> name of the list to take.  root: names in the draw are relative to it, so that the place does not matter.
    stratify: every class as evenly as possible in all the parts.  Images in no list ("all") are dealt out only when there is no train list.
    """
    names = {split: SPLIT_NAMES.get(name, name) for split, name in wanted.items()}
    given = names["train"] in lists and not new_split
    if not given and not new_split and lists.keys() - {"all", "test"}:
        findings.append(Finding("list_missing", Path(root), None, f"it has the lists {', '.join(sorted(lists.keys() - {'all'}))} but none called "
                                f"{wanted['train']} to train on"))
        return {split: [] for split in names}
    findings += [Finding("not_listed", sample.image) for sample in lists.get("all", ()) if given]
    if given and names["val"] in lists:
        splits = {split: lists.get(name, []) for split, name in names.items()}
        findings += overlaps(splits, names)
        return splits
    tested = [] if new_split else lists.get(names["test"], [])
    kept = [some for name, some in lists.items() if new_split or name != names["test"]]
    pool = {relative(sample.image, root): sample for some in ([lists[names["train"]]] if given else kept) for sample in some}
    trainval = 1 if tested else trainval_percent
    classes = {name: classes_in(sample.truth) for name, sample in pool.items()} if stratify else None
    made = make_split(pool, trainval, train_percent, seed, classes)
    dealt = {split: [pool[name] for name in made[split]] for split in ("train", "val", "test")}
    print(f"{shown(root)}: split anew (seed {seed}): " + ", ".join(f"{split} {len(dealt[split])}" for split in dealt) + " images"
          + (f"; its own test list of {len(tested)} is kept" if tested else ""))
    return dealt | ({"test": tested} if tested else {})


def overlaps(splits, names):
    """Findings: images that stand in two of the lists. names: dict split -> what its list is called; a list does not overlap with itself."""
    images, findings = {split: {sample.image for sample in some} for split, some in splits.items()}, []
    for split, others, kind in (("val", ("train",), "in_train_and_val"), ("test", ("train", "val"), "in_test")):
        for image in sorted(images[split]):
            found = [names[other] for other in others if image in images[other] and names[other] != names[split]]
            findings += [Finding(kind, image, None, f"in the lists {' and '.join([*found, names[split]])}")] if found else []
    return findings


def relative(path, root):
    """The name of a file in draws and records: relative to root, with / on every system."""
    return Path(os.path.relpath(path, root)).as_posix()
