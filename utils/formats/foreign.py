"""What the annotation files of other programs have in common.

Every reader (yolo.py, coco.py, labelme.py, pairs.py) returns the same: class names in the order of the
source, and dict list name ("train", "val", "test", or "all" when the source has no lists) -> list of
sweep.Sample. Every problem goes into the list `findings`; an image is in no list if it or its label cannot be
used.
Errors: the dataset as a whole cannot be read.

The truth of a sample is a list of objects. An object is dict(name, box, difficult) with box (x1, y1, x2, y2)
px edges, and for segmentation `outline`: a list of (n, 2) px polygons, or a run-length mask of COCO.

The files are a stranger's: a name must not lead out of the dataset, a number must be one, and a JSON must
not fill the memory.
"""
import json
import os
import re
from pathlib import Path

from utils.errors import UserError
from utils.findings import Finding
from utils.formats.sniff import MADE
from utils.formats.stratify import classes_in
from utils.formats.voc_folder import SPLIT_NAMES, has_drive, make_split
from utils.images import SUFFIXES
from utils.settings import shown
from utils.system.files import decode_text, printable, read_bytes

COPIES = ("_old", "_fixed")     # how the names of folders end that hold the same masks again
MAX_JSON_BYTES = 1_000_000_000  # COCO's largest file has 470 MB
MAX_NAME = 200                  # letters of a class name
LONGEST = 255                   # bytes of a file name, on all the usual disks
MAX_FOLDERS = 100_000           # below a dataset
TOO_DEEP = 8                    # levels of folders below a dataset that are searched

# Control characters, direction of writing, half letters: a terminal would obey them instead of showing them.
STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# A folder of the images of one list: train, Validation, train2017, val_images, obj_train_data.
SPLIT_FOLDER = re.compile(rf"(?:obj_|images?_)?({'|'.join(SPLIT_NAMES)})"
                          "(?:_data|_images?|_?set|_?20[0-9][0-9])?")
# The same words in the names of files, like instances_train2017.json.
SPLIT_WORD = re.compile(r"(?<![a-z])(train|training|val|valid|validation|test|testing)(?![a-z])",
                        re.IGNORECASE)
# Windows opens these as devices.
DEVICES = re.compile(r"(CON|PRN|AUX|NUL|COM[0-9]|LPT[0-9])(\..*)?", re.IGNORECASE)


def locate(name, base, roots, where):
    """The file that a stranger's file calls `name`, relative to `base`. The file itself need not exist.

    where: file and line, for the message.
    Errors: not a plain name, or in none of the folders `roots`.
    """
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"{where}: expected a file name, found {str(name)[:80]!r}.", kind="bad_name")

    # A drive (C:) is split off only on Windows; elsewhere it makes the name not plain.
    drive, rest = os.path.splitdrive(name)
    rest = rest.replace("\\", "/")
    parts = [part for part in rest.split("/") if part not in ("", ".", "..")]
    if not all(is_plain_part(part) for part in parts):
        raise UserError(f"{where}: {ascii(name)} is not a plain file name (no control characters, no drive, "
                        f"no dot or space at the end, at most {LONGEST} bytes, none that Windows reserves). "
                        "Rename the file, here and on the disk.", kind="bad_name")

    # ".." is allowed as long as the result is inside: ../images/a.jpg in the lists of many datasets.
    path = Path(os.path.normpath(Path(base) / (drive + rest)))
    if not parts or not any(path.is_relative_to(os.path.normpath(root)) for root in roots):
        raise UserError(f"{where}: {name!r} leads out of the dataset {shown(roots[0])}. Write names "
                        "relative to it.", kind="bad_name")
    return path


def is_plain_part(part):
    """Whether a folder or file can be called so on every system."""
    steers = STEERING.search(part) or has_drive(part) or DEVICES.fullmatch(part)
    return not steers and part == part.rstrip(" .") and len(os.fsencode(part)) <= LONGEST


def read_json(path, limit=MAX_JSON_BYTES):
    """The content of a JSON file.

    Errors, with the line: too large, not text, not JSON, nested too deeply.
    """
    data = read_bytes(path, limit)

    # JSON begins with a plain character, so a zero byte among the first two can only be utf-16.
    guesses = ["utf-8", "gb18030"]
    if data[:1] == b"\x00":
        guesses = ["utf-16-be"]
    elif data[1:2] == b"\x00":
        guesses = ["utf-16-le"]
    text = decode_text(data, guesses)
    if text is None:
        raise UserError(f"{shown(path)} is not text in utf-8: save it again as utf-8.", kind="label_encoding")

    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{shown(path)}, line {error.lineno}: not complete JSON ({error.msg}). "
                        "Export it again.", kind="json_broken") from None
    except (RecursionError, ValueError, MemoryError) as error:      # ValueError: a number of 4300 digits
        what = "nested too deeply" if isinstance(error, RecursionError) else error
        raise UserError(f"{shown(path)} is not an annotation: {what}.", kind="json_broken") from None


def field(record, name, kind, where=""):
    """record[name], which must be of a kind: list, dict, str ... where: words in front of the message.

    Errors: the record is no dict, the field is missing or of another kind.
    """
    if not isinstance(record, dict):
        raise UserError(f"{where}expected {{...}}, found {str(record)[:60]!r}.")
    value = record.get(name)
    if value is None:
        raise UserError(f'{where}"{name}" is missing.')
    if not isinstance(value, kind):
        expected = {list: "a list [...]", dict: "{...}", str: "text"}.get(kind, "a number")
        raise UserError(f'{where}"{name}" is {str(value)[:60]!r}, expected {expected}.')
    return value


def coordinate(value, what):
    """A finite number of pixels. Errors: text, NaN, beyond a million."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not abs(value) < 1e6:               # "not <": NaN is caught too
        raise UserError(f"{what} is {str(value)[:40]!r}, expected a number of pixels.", kind="bad_number")
    return float(value)


def class_name(value, where=""):
    """A class name as in the classes file: one line, single spaces. where: as in `field`.

    Errors: none, too long, not valid text.
    """
    name = ""
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        name = " ".join(str(value).split())
    if not name or len(name) > MAX_NAME or re.search("[\x00\ud800-\udfff]", name):
        raise UserError(f"{where}{printable(str(value)[:60])!r} is not a class name: expected text of 1 to "
                        f"{MAX_NAME} letters.")
    return name


def class_names(values, where):
    """A list of class names. where: file and line. Errors: no names, a name twice."""
    names = [class_name(value, f"{where}: ") for value in values]
    if not names:
        raise UserError(f"{where}: there are no class names.")
    for second, name in enumerate(names):
        first = names.index(name)
        if first != second:
            raise UserError(f"{where}: the class name {printable(name)!r} appears twice (numbers {first} and "
                            f"{second}). Give one of them another name.")
    return names


def files_below(folder, suffixes=SUFFIXES):
    """All files with one of the suffixes in a folder and the folders in it, sorted; see `names_below`."""
    return [path for path in names_below(folder, suffixes) if os.path.isfile(path)]


def no_files(folder):
    """Findings: what is called like an image and is none: a pipe, a link to nowhere or to itself."""
    return [Finding("no_file", path) for path in names_below(folder) if not os.path.isfile(path)]


def names_below(folder, suffixes=SUFFIXES):
    """What is called like a file with one of the suffixes, in a folder and the folders in it, sorted.

    Hidden files and the masks that we made are no data, nor is the copy of a folder that fix_masks.py leaves.
    """
    found, seen = [], set()
    for place, folders, files in os.walk(folder, followlinks=True):
        # Links may lead in a circle: a folder is read once, whatever the way to it.
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        if len(seen) > MAX_FOLDERS:
            raise UserError(f"{shown(folder)} holds more than {MAX_FOLDERS} folders: this is no dataset. "
                            "Give a folder further down.")

        # os.walk goes into the folders that are left in this list.
        if len(Path(place).relative_to(folder).parts) >= TOO_DEEP:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")) and name != MADE
                            and not is_copy(name, folders))

        found += [Path(place) / name for name in files
                  if not name.startswith(".") and name.lower().endswith(suffixes)]
    return sorted(found)


def is_copy(name, folders):
    """Whether a folder is what tools/fix_masks.py made, or leaves, of another one beside it."""
    return any(name.endswith(end) and name.removesuffix(end) in folders for end in COPIES)


def folder_split(path, root):
    """"train", "val" or "test" if a folder between root and the file has such a name, else "all".

    Such are Validation, train2017 and CVAT's obj_train_data.
    """
    if not Path(path).is_relative_to(root):
        return "all"
    for name in Path(path).relative_to(root).parts[:-1]:
        if name := SPLIT_FOLDER.fullmatch(name.lower()):
            return SPLIT_NAMES[name[1]]
    return "all"


def with_siblings(path, accepts):
    """A file, and those beside it that have val or test instead of train in their names.

    accepts: function that says whether a file is of the same format.
    """
    files, word = [path], SPLIT_WORD.search(path.name)
    if not word or SPLIT_NAMES[word[0].lower()] != "train":
        return files
    for other in ("val", "valid", "validation", "test"):
        file = path.with_name(path.name[:word.start()] + other + path.name[word.end():])
        if file.is_file() and accepts(file):
            print(f"{shown(path)}: {file.name} beside it is used as the {SPLIT_NAMES[other]} list")
            files.append(file)
    return files


def agreement(some, others):
    """How many parts of two paths are equal, from the first on."""
    count = 0
    for one, other in zip(some, others):
        if one != other:
            break
        count += 1
    return count


def pair_split(image, label, root):
    """The list of an image and its label: what the folders of one of the two say."""
    split = folder_split(image, root)
    return folder_split(label, root) if split == "all" else split


def by_stem(paths):
    """stem -> path; None where files in several folders have the same stem."""
    found = {}
    for path in paths:
        found[path.stem] = path if path.stem not in found else None
    return found


def deal(lists, root, wanted, findings, trainval_percent=0.9, train_percent=0.9, seed=0, new_split=False,
         stratify=False):
    """dict list name -> samples  ->  dict train, val, test -> samples. The source's own lists are kept.

    wanted: dict train, val, test -> name of the list to use.
    root: names in the draw are relative to it, so that the same split results wherever the dataset is.
    stratify: every class as evenly as possible in all the parts.
    Images in no list ("all") are dealt out only when there is no train list.
    """
    names = {split: SPLIT_NAMES.get(name, name) for split, name in wanted.items()}
    given = names["train"] in lists and not new_split

    # A dataset with lists, but without the one to train on: a typo more often than a wish for a new split.
    if not given and not new_split and lists.keys() - {"all", "test"}:
        detail = f"it has the lists {', '.join(sorted(lists.keys() - {'all'}))} but no list " \
                 f"{wanted['train']} to train on"
        findings.append(Finding("list_missing", Path(root), None, detail))
        return {split: [] for split in names}

    # Its own train and val lists are used as they are.
    if given:
        findings += [Finding("not_listed", sample.image) for sample in lists.get("all", ())]
    if given and names["val"] in lists:
        splits = {split: lists.get(name, []) for split, name in names.items()}
        findings += images_in_two_lists(splits, names)
        return splits

    # Something is missing, val at least: it is dealt out of train, or of all that is not its own test list.
    tested = [] if new_split else lists.get(names["test"], [])
    if given:
        sources = [lists[names["train"]]]
    else:
        sources = [some for name, some in lists.items() if new_split or name != names["test"]]
    pool = {relative(sample.image, root): sample for some in sources for sample in some}

    classes = {name: classes_in(sample.truth) for name, sample in pool.items()} if stratify else None
    made = make_split(pool, 1 if tested else trainval_percent, train_percent, seed, classes)
    dealt = {split: [pool[name] for name in made[split]] for split in ("train", "val", "test")}

    counts = ", ".join(f"{split} {len(some)}" for split, some in dealt.items())
    kept = f"; its own test list of {len(tested)} is kept" if tested else ""
    print(f"{shown(root)}: new split (seed {seed}): {counts} images{kept}")
    return {**dealt, "test": tested} if tested else dealt


def images_in_two_lists(splits, names):
    """Findings: images that are in two of the lists.

    names: dict split -> what its list is called; one list used twice does not overlap with itself.
    """
    findings = []
    images = {split: {sample.image for sample in some} for split, some in splits.items()}
    pairs = ("val", ("train",), "in_train_and_val"), ("test", ("train", "val"), "in_test")
    for split, others, kind in pairs:
        others = [other for other in others if names[other] != names[split]]
        for image in sorted(images[split]):
            found = [names[other] for other in others if image in images[other]]
            if found:
                detail = f"in the lists {' and '.join([*found, names[split]])}"
                findings.append(Finding(kind, image, None, detail))
    return findings


def relative(path, root):
    """The name of a file in draws and records: relative to root, with / on every system."""
    return Path(os.path.relpath(path, root)).as_posix()
