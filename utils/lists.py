"""Annotations, class names and list files: read, check, write.

A line of a detection list is   path x1,y1,x2,y2,class x1,y1,x2,y2,class ...   with box edges in pixels of the
image (0..W, half open) and a sixth value ",1" for a difficult object. It is read from the right, so a path
may hold spaces and commas. Class names and list files are utf-8; what a Windows editor made of them (a BOM,
gb18030, \\r\\n) is understood too.
"""
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from utils import settings
from utils.errors import UserError, did_you_mean
from utils.findings import Finding, as_error
from utils.images import SUFFIXES
from utils.settings import AnyPath, as_listed, find, shown
from utils.system.files import decode_text, printable, read_lines, read_raw_lines, replace_text

Dataset = AnyPath | Sequence[AnyPath]        # a folder, a data.yaml, a .json, or several of them
PREPARED = "prepared"                       # folder in the repository: splits and masks that had to be made
# [0-9] and not \d: float() would read １２ and 1_000 as well.
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?")
BOX = re.compile(r"(-?[0-9]{1,7}(\.[0-9]+)?,){4}[0-9]{1,6}(,[01])?")


def folder_name(dataset: Dataset) -> str:
    """VOCdevkit/VOC2007 -> 2007, VOCdevkit/Shapes -> Shapes, coco128.yaml -> coco128, pets/data.yaml -> pets.

    dataset: one path, or several: then the first counts.
    """
    path = find(dataset if isinstance(dataset, (str, Path)) else dataset[0]).resolve()
    name = path.name
    if path.suffix.lower() in (".yaml", ".yml", ".json", ".csv", ".tsv", ".txt"):
        says_nothing = path.stem in ("data", "dataset", "train", "annotations", "_annotations.coco",
                                     "_annotations", "labels", "via_region_data", "via_project")
        name = path.parent.name if says_nothing else path.stem
    return name.removeprefix("VOC").lstrip("_- ") or name


def list_name(dataset: Dataset, split: str, task: str = "detection") -> str:
    """The list file of a dataset: VOCdevkit/VOC2007, val -> 2007_val.txt, or 2007_segmentation_val.txt."""
    name = f"{folder_name(dataset)}{'_segmentation' * (task == 'segmentation')}_{split}.txt"
    return as_listed(settings.kept(name))


def classes_name(dataset: Dataset, task: str = "detection") -> str:
    """The file of its class names, relative to the repository: VOCdevkit/Shapes ->
    model_data/shapes_classes.txt or model_data/shapes_segmentation_classes.txt."""
    task = "_segmentation" * (task == "segmentation")
    return as_listed(settings.kept(f"model_data/{folder_name(dataset).lower()}{task}_classes.txt"))


def prepared_folder(dataset: AnyPath) -> Path:
    """Where what has to be made for a dataset is kept (a split, masks): prepared/<name>_<hash of its path>.

    In the repository, see settings.keep_in, and never in the data: those may be read-only, or belong to
    others.
    """
    place = find(dataset).resolve()
    key = hashlib.sha256(os.fsencode(printable(as_listed(place)))).hexdigest()[:8]
    return settings.kept(f"{PREPARED}/{folder_name(place)}_{key}")


def read_classes(path: AnyPath) -> list[str]:
    """Class names, one per line. Errors: no such file, no names, a blank line in the middle, a name twice."""
    names, findings = survey_classes(path)
    if findings:
        raise as_error(findings[0])
    return names


def survey_classes(path: AnyPath) -> tuple[list[str], list[Finding]]:
    """-> class names of a file, and all findings about it; `read_classes` raises the first of them."""
    path = find(path)
    if not path.is_file():
        known = [shown(other) for other in sorted(path.parent.glob("*.txt"))]
        return [], [Finding("classes_missing", path, None, did_you_mean(shown(path), known).strip())]

    # A class number is the position in the file: a blank line or a name twice would shift all that follow.
    lines = [" ".join(line.split()) for line in read_lines(path)]
    findings = [] if lines else [Finding("classes_empty", path)]
    for number, name in enumerate(lines, 1):
        if not name:
            findings.append(Finding("classes_blank", path, number))
        elif name in lines[:number - 1]:
            detail = f'"{printable(name)}" is already in line {lines.index(name) + 1}'
            findings.append(Finding("classes_twice", path, number, detail))
    return [name for name in dict.fromkeys(lines) if name], findings


def list_path(path: AnyPath) -> str:
    """A path as it is written in a list: relative to the repository when it is inside it (with / on every
    system), else absolute."""
    return as_listed(os.path.abspath(settings.ROOT / path))    # abspath removes "..", follows no links


def list_entry(path: AnyPath, where: AnyPath) -> str:
    """list_path, if the result is allowed in a list. where: the list file."""
    name = list_path(path)
    if not name.lower().endswith(SUFFIXES) or re.search(r"[\t\r\n]", name):
        raise UserError(f"{shown(where)}: {name!r} is not allowed in a list (tab, line end or unknown "
                        "suffix). Rename the image.")
    return name


def format_box(box: Sequence[float]) -> str:
    """(x1, y1, x2, y2, class[, difficult]) -> its word in a list: at most 2 decimals, none when integral."""
    edges = [round(float(value), 2) + 0.0 for value in box[:4]]         # + 0.0: -0.0 becomes 0.0
    words = [f"{edge:.2f}".rstrip("0").rstrip(".") for edge in edges]
    words.append(str(int(box[4])))
    if len(box) > 5 and box[5]:
        words.append("1")
    return ",".join(words)


def write_list(path: AnyPath, records: Iterable[tuple[str, Iterable[Sequence[float]]]]) -> Path | None:
    """Write a detection list. -> the path of the copy that is kept of a different old list, or None.

    path: of the list file, relative to the repository.
    records: list of (image path, boxes); boxes: (G, 5 or 6) x1 y1 x2 y2 edges in px, class, difficult.
    """
    path, lines = settings.ROOT / path, []
    for image, boxes in records:
        lines.append(" ".join([list_entry(image, path), *map(format_box, boxes)]) + "\n")
    return replace_text(path, "".join(lines))


def list_lines(path: AnyPath) -> list[tuple[int, str]]:
    """(line number, line) of a list file, without the blank lines. Errors: missing, empty."""
    path = find(path)
    if not path.is_file():
        raise UserError(f"There is no list file {shown(path)}. The lists of a dataset are written by  "
                        'python voc_annotation.py "dataset=..."')
    lines = [(number, line) for number, line in enumerate(read_raw_lines(path), 1) if line.strip()]
    if not lines:
        raise UserError(f"{shown(path)} holds no images.")
    return lines


def split_line(line: str) -> tuple[str, list[str]]:
    """A line of a detection list -> image path, list of its boxes as words."""
    # From the right, as long as a word is a box: what is left is the path, spaces included.
    words = line.split(" ")
    end = len(words)
    while end and (not words[end - 1] or BOX.fullmatch(words[end - 1])):
        end -= 1
    return " ".join(words[:end]), [word for word in words[end:] if word]


def first_image(path: AnyPath) -> str | None:
    """The path of the first image of a list of either task, for which only this line is read.

    None: it is not the line of a list.
    """
    with open(find(path), "rb") as file:
        data = next((line for line in file if line.strip()), b"")
    line = (decode_text(data, ["utf-8", "gb18030"]) or "").strip("\r\n")
    image, _ = split_line(line.partition("\t")[0])
    return image if image.lower().endswith(SUFFIXES) else None


def read_list(path: AnyPath) -> tuple[list[str], list[np.ndarray]]:
    """A detection list -> paths, boxes.

    paths: list of str, relative to the repository or absolute (utils.settings.find opens both).
    boxes: list of (G, 6) float32: x1 y1 x2 y2 edges in px, class, difficult. Boxes without area are skipped
    and counted.
    Errors: a line that is not an image path and boxes; file and line are named.
    """
    # The boxes of all images go into one long array, with the image that each belongs to: much faster than an
    # array for every image.
    path = find(path)
    paths: list[str] = []
    words, owners = [], []
    for number, line in list_lines(path):
        image, boxes = split_line(line)
        if not image.lower().endswith(SUFFIXES) or "\t" in image:
            hint = " It looks like a segmentation list." if "\t" in image else ""
            raise UserError(f"{shown(path)}, line {number}: expected an image path, then boxes "
                            f"x1,y1,x2,y2,class; {(image.split(' ')[-1] or line)[-80:]!r} is neither.{hint}")
        for word in boxes:
            box = word.split(",")
            words.append(box if len(box) == 6 else [*box, "0"])
            owners.append(len(paths))
        paths.append(image)

    # A box without area can be found by nobody.
    rows = np.array([float(value) for box in words for value in box], np.float32).reshape(-1, 6)
    solid = (rows[:, 2] > rows[:, 0]) & (rows[:, 3] > rows[:, 1])
    if not solid.all():
        first = paths[owners[int(np.argmin(solid))]]
        print(f"{shown(path)}: boxes without area are skipped: {int((~solid).sum())}, the first at {first}")

    counts = np.bincount(np.array(owners, np.int64)[solid], minlength=len(paths))
    return paths, np.split(rows[solid], np.cumsum(counts)[:-1])


def check_classes(paths: list[str], boxes: list[np.ndarray], names: list[str], where: AnyPath) -> None:
    """Error when a list has a class number without a class name. where: the list file, for the message."""
    for path, rows in zip(paths, boxes):
        largest = int(rows[:, 4].max()) if len(rows) else -1
        if largest >= len(names):
            raise UserError(f"{where}: {path} has an object of class {largest}, but there are only "
                            f"{len(names)} class names (numbers 0 to {len(names) - 1}): it is the classes "
                            "file of another list.")


def write_mask_list(path: AnyPath, pairs: Iterable[tuple[str, str]]) -> Path | None:
    """Write a segmentation list. -> the path of the copy that is kept of a different old list, or None.

    path: of the list file, relative to the repository.  pairs: list of (image path, mask path).
    """
    path, lines = settings.ROOT / path, []
    for image, mask in pairs:
        lines.append(f"{list_entry(image, path)}\t{list_entry(mask, path)}\n")
    return replace_text(path, "".join(lines))


def read_mask_list(path: AnyPath) -> tuple[list[str], list[str]]:
    """A segmentation list -> image paths, mask paths, each relative to the repository or absolute.

    Errors: a line that is not two paths with a tab between them; file and line are named.
    """
    pairs = []
    for number, line in list_lines(path):
        pair = split_pair(line)
        if not pair:
            hint = ""
            if "\t" not in line and split_line(line)[0].lower().endswith(SUFFIXES):
                hint = " It looks like a detection list."
            raise UserError(f"{shown(find(path))}, line {number}: expected an image path, a tab and a mask "
                            f"path, found {line[-80:]!r}.{hint}")
        pairs.append(pair)

    # A list has at least one line, so there is at least one pair.
    images, masks = zip(*pairs)
    return list(images), list(masks)


def split_pair(line: str) -> tuple[str, str] | None:
    """A line of a segmentation list -> image path, mask path; None when it is not that."""
    image, _, mask = line.partition("\t")
    mask = mask.rstrip(" ")
    if "\t" in mask or not image.lower().endswith(SUFFIXES) or not mask.lower().endswith(SUFFIXES):
        return None
    return image, mask
