"""Annotations, class names and list files: read, check, write.

A line of a detection list is   path x1,y1,x2,y2,class x1,y1,x2,y2,class ...   with box edges in pixels of the image
(0..W, half open) and a sixth value ",1" for a difficult object. It is read from the right, so a path may hold spaces and commas.
Class names and list files are utf-8; what a Windows editor made of them (a BOM, gb18030, \\r\\n) is understood too.
"""
import codecs
import contextlib
import os
import re
import shutil
from pathlib import Path

import numpy as np

from utils import settings
from utils.errors import UserError, did_you_mean
from utils.findings import Finding, as_error
from utils.images import SUFFIXES
from utils.settings import find, shown

SPLITS = ("trainval", "train", "val", "test")
LABELS = {"detection": ("Annotations", (".xml",), "xml file", "Main"),          # task -> folder of the labels, their suffix, what one
          "segmentation": ("SegmentationClass", (".png",), "mask", "Segmentation")}     # is called, folder of the lists in ImageSets
BOMS = [(codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
        (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")]    # utf-32 first: its BOM begins like utf-16's
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?")      # [0-9]: float() takes １２ and 1_000 as well
BOX = re.compile(r"(-?[0-9]{1,7}(\.[0-9]+)?,){4}[0-9]{1,6}(,[01])?")


def decode(data, guesses):
    """Bytes -> text, by the BOM if there is one, else by the first encoding of `guesses` that fits; None when none does."""
    for bom, encoding in BOMS:
        if data.startswith(bom):
            data, guesses = data[len(bom):], [encoding]
            break
    else:
        if b"\x00" in data and (text := decode_wide(data)) is not None:
            return text
    for encoding in guesses:
        try:
            return data.decode(encoding)
        except (LookupError, ValueError):                   # unknown name, or bytes that do not fit
            continue
    return None


def decode_wide(data):
    """utf-16 that was saved without its BOM -> text, else None. It is known by its zero bytes, which other text does not have."""
    high, low = data[1::2].count(0), data[::2].count(0)
    try:
        text = data.decode("utf-16-le" if high >= low else "utf-16-be")
    except ValueError:
        return None
    stray = b"\n" in data and "\n" not in text and 4 * max(high, low) < len(data)     # a zero byte in other text is no utf-16
    return None if stray or re.search("[\x00-\x08\x0e-\x1f\ufffe\uffff]", text) else text


def read_bytes(path, limit=None):
    try:
        if limit and os.path.getsize(path) > limit:
            raise UserError(f"{shown(path)} is larger than {limit // 1_000_000} MB: not an annotation.", kind="label_too_large")
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{shown(path)} cannot be read: {error.strerror}.", kind="file_missing") from None


def read_raw_lines(path, limit=None):
    """The lines of a text file as they stand, without line ends. Only \\n and \\r\\n end a line: names may hold U+2028. limit: in bytes."""
    text = decode(read_bytes(path, limit), ["utf-8", "gb18030"])
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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{shown(path)} cannot be written: {error.strerror}.") from None
    except UnicodeEncodeError:                              # Linux allows file names that are no text at all
        raise UserError(f"{shown(path)} cannot be written: a name in it is not valid text. Rename that file.") from None
    finally:
        with contextlib.suppress(OSError):                  # a read-only place
            temporary.unlink()


def replace_text(path, text):
    """Write a file; if it was there with another content, keep that as <name>.bak (<name>.2.bak, ...). The path of the copy, or None."""
    kept = None
    if path.exists() and read_bytes(path) != text.encode("utf-8", "replace"):
        number, kept = 2, path.with_name(path.name + ".bak")
        while kept.exists():
            number, kept = number + 1, path.with_name(f"{path.name}.{number}.bak")
        try:
            shutil.copy2(path, kept)
        except OSError as error:
            raise UserError(f"{shown(kept)}, a copy of the old file, cannot be written: {error.strerror}.") from None
    write_text(path, text)
    return kept


def folder_name(dataset):
    """VOCdevkit/VOC2007 -> 2007, VOCdevkit/Shapes -> Shapes; of several folders the first counts. coco128.yaml -> coco128, pets/data.yaml -> pets."""
    path = find(dataset if isinstance(dataset, (str, Path)) else dataset[0]).resolve()
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        path = path.parent if path.stem in ("data", "dataset", "train", "annotations", "_annotations.coco") else path.with_suffix("")
    name = path.name
    return name.removeprefix("VOC").lstrip("_- ") or name


def list_name(dataset, split, task="detection"):
    """The list file of a dataset, relative to the repository: VOCdevkit/VOC2007, train -> 2007_train.txt or 2007_segmentation_train.txt."""
    return f"{folder_name(dataset)}{'_segmentation' * (task == 'segmentation')}_{split}.txt"


def classes_name(dataset, task="detection"):
    """The file of its class names, relative to the repository: VOCdevkit/Shapes -> model_data/shapes_classes.txt
    or model_data/shapes_segmentation_classes.txt."""
    return f"model_data/{folder_name(dataset).lower()}{'_segmentation' * (task == 'segmentation')}_classes.txt"


def read_classes(path):
    """Class names, one per line. Errors: no such file, no names, a blank line in the middle, a name twice."""
    names, findings = survey_classes(path)
    if findings:
        raise as_error(findings[0])
    return names


def survey_classes(path):
    """-> names, findings of a file of class names: those that `read_classes` raises, all of them."""
    path = find(path)
    if not path.is_file():
        known = [shown(p) for p in sorted(path.parent.glob("*.txt"))]
        return [], [Finding("classes_missing", path, None, did_you_mean(shown(path), known).strip())]
    lines = [" ".join(line.split()) for line in read_lines(path)]
    findings = [] if lines else [Finding("classes_empty", path)]
    for number, name in enumerate(lines, 1):
        if not name:
            findings.append(Finding("classes_blank", path, number))
        elif name in lines[:number - 1]:
            findings.append(Finding("classes_twice", path, number, f'"{printable(name)}" stands in line {lines.index(name) + 1} already'))
    return [name for name in dict.fromkeys(lines) if name], findings


def survey(folder, suffixes):
    """stem -> path, sorted, of the files with one of the suffixes in any case, and what is wrong with the names; hidden files are no data.

    The stem is all before the last dot, without spaces at its ends, because a line of a list cannot hold those.
    Findings: a stem twice (the first file is taken), a stem that cannot stand in a list.
    """
    folder, files, findings = Path(folder), {}, []
    with os.scandir(folder) if folder.is_dir() else contextlib.nullcontext(()) as entries:
        names = sorted(entry.name for entry in entries
                       if entry.name.lower().endswith(suffixes) and not entry.name.startswith(".") and entry.is_file())
    for name in names:
        path, stem = folder / name, os.path.splitext(name)[0].strip()
        if not is_plain(stem):
            findings.append(Finding("bad_name", path))
        elif stem in files:
            findings.append(Finding("stem_twice", path, None, f"{files[stem].name} is the same before the suffix"))
        else:
            files[stem] = path
    return files, findings


def find_files(folder, suffixes):
    """stem -> path, see `survey`. Errors: what is found there."""
    files, findings = survey(folder, suffixes)
    if findings:
        raise as_error(findings[0])
    return files


def find_images(folder):
    """stem -> path of the images of a folder, see find_files."""
    return find_files(folder, SUFFIXES)


def is_plain(name):
    """Whether this can be the name of an image without its suffix; a list from a stranger must not lead out of the folder."""
    return name not in ("", ".", "..") and not re.search(r"[/\\:\x00-\x1f\x7f\ud800-\udfff]", name)


def check_id(name, where):
    """The name, if it is plain; else an error."""
    if not is_plain(name):
        raise UserError(f"{where}: {name!r} is not a plain file name (valid text without / \\ : and control characters).")
    return name


def survey_ids(path):
    """The ids of an ImageSets list in its order, id -> number of its first line, and findings: lines that are no plain names."""
    lines = [(number, line) for number, line in enumerate(read_lines(path), 1) if line]
    findings = [Finding("list_name", Path(path), number, f"{line[:80]!r}") for number, line in lines if not is_plain(line)]
    ids = {}
    for number, line in lines:
        if is_plain(line):
            ids.setdefault(line, number)
    return ids, findings


def read_ids(path):
    """The ids of an ImageSets list, in its order, each once. Errors: one that is not a plain name."""
    ids, findings = survey_ids(path)
    if findings:
        raise as_error(findings[0])
    return list(ids)


def list_path(path):
    """A path as it stands in a list: relative to the repository when it lies inside (with / on every system), else absolute."""
    return shown(os.path.abspath(settings.ROOT / path))     # abspath: takes ".." out, but leaves links alone


def list_entry(path, where):
    """list_path, if the result can stand in a list. where: the list file."""
    name = list_path(path)
    if not name.lower().endswith(SUFFIXES) or re.search(r"[\t\r\n]", name):
        raise UserError(f"{shown(where)}: {name!r} cannot stand in a list (tab, line end or unknown suffix). Rename the image.")
    return name


def format_box(box):
    """(x1, y1, x2, y2, class[, difficult]) -> its word in a list: at most 2 decimals, none when integral."""
    edges = [f"{value:.2f}".rstrip("0").rstrip(".") for value in (round(float(v), 2) + 0.0 for v in box[:4])]     # + 0.0: no -0
    return ",".join([*edges, str(int(box[4]))]) + (",1" if len(box) > 5 and box[5] else "")


def write_list(path, records):
    """Write a detection list. The path of the copy that was kept of another old one, or None.

    path: of the list file, relative to the repository.
    records: list of (image path, boxes); boxes: (G, 5 or 6) x1 y1 x2 y2 edges in px, class, difficult.
    """
    path, lines = settings.ROOT / path, []
    for image, boxes in records:
        lines.append(" ".join([list_entry(image, path), *map(format_box, boxes)]) + "\n")
    return replace_text(path, "".join(lines))


def list_lines(path):
    """(line number, line) of a list file, without the blank ones. Errors: not there, empty."""
    path = find(path)
    if not path.is_file():
        raise UserError(f"There is no list file {shown(path)}. Run voc_annotation.py to write it.")
    lines = [(number, line) for number, line in enumerate(read_raw_lines(path), 1) if line.strip()]
    if not lines:
        raise UserError(f"{shown(path)} holds no images.")
    return lines


def split_line(line):
    """A line of a detection list -> image path, list of its boxes as words."""
    words = line.split(" ")
    end = len(words)
    while end and (not words[end - 1] or BOX.fullmatch(words[end - 1])):
        end -= 1
    return " ".join(words[:end]), [word for word in words[end:] if word]


def first_image(path):
    """The path of the first image of a list of either task; no more of the file is read. None: the line is none of a list."""
    with open(find(path), "rb") as file:
        line = next((line for line in file if line.strip()), b"")
    image = split_line((decode(line, ["utf-8", "gb18030"]) or "").strip("\r\n").partition("\t")[0])[0]
    return image if image.lower().endswith(SUFFIXES) else None


def read_list(path):
    """A detection list -> paths, boxes.

    paths: list of str, relative to the repository or absolute (utils.settings.find opens both).
    boxes: list of (G, 6) float32: x1 y1 x2 y2 edges in px, class, difficult. Boxes without area are left out and counted.
    Errors: a line that is not an image path and boxes; file and line are named.
    """
    path = find(path)
    paths, values, owners = [], [], []
    for number, line in list_lines(path):
        image, boxes = split_line(line)
        if not image.lower().endswith(SUFFIXES) or "\t" in image:
            hint = " It looks like a segmentation list." if "\t" in image else ""
            raise UserError(f"{shown(path)}, line {number}: expected an image path, then boxes x1,y1,x2,y2,class; "
                            f"{(image.split(' ')[-1] or line)[-80:]!r} is neither.{hint}")
        for word in boxes:
            box = word.split(",")
            values.append(box if len(box) == 6 else [*box, "0"])
            owners.append(len(paths))
        paths.append(image)
    values = np.array([float(v) for box in values for v in box], np.float32).reshape(-1, 6)
    solid = (values[:, 2] > values[:, 0]) & (values[:, 3] > values[:, 1])
    if not solid.all():
        first = paths[owners[int(np.argmin(solid))]]
        print(f"{shown(path)}: {int((~solid).sum())} boxes without area are left out, the first at {first}")
    counts = np.bincount(np.array(owners, np.int64)[solid], minlength=len(paths))
    return paths, np.split(values[solid], np.cumsum(counts)[:-1])


def check_classes(paths, boxes, names, where):
    """Error when a list speaks of a class number that the class names do not have. where: the list file, for the message."""
    for path, rows in zip(paths, boxes):
        if len(rows) and rows[:, 4].max() >= len(names):
            raise UserError(f"{where}: {path} has an object of class {int(rows[:, 4].max())}, but there are only {len(names)} class names "
                            f"(numbers 0 to {len(names) - 1}). Wrong classes file, or run voc_annotation.py again.")


def printable(text):
    """A name must not steer the terminal."""
    return text if text.isprintable() else ascii(text)
