"""Annotations, class names and list files: read, check, write.

A line of a detection list is   path x1,y1,x2,y2,class x1,y1,x2,y2,class ...   with box edges in pixels of the image
(0..W, half open) and a sixth value ",1" for a difficult object. It is read from the right, so a path may hold spaces and commas.
Class names and list files are utf-8; what a Windows editor made of them (a BOM, gb18030, \\r\\n) is understood too.
"""
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from utils import settings
from utils.errors import UserError, did_you_mean
from utils.findings import Finding, as_error
from utils.images import SUFFIXES
from utils.settings import AnyPath, find, shown
from utils.system.files import decode_text, printable, read_lines, read_raw_lines, replace_text

Dataset = AnyPath | Sequence[AnyPath]                    # a folder, a data.yaml, a .json, or several of them
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?")      # [0-9]: float() takes １２ and 1_000 as well
BOX = re.compile(r"(-?[0-9]{1,7}(\.[0-9]+)?,){4}[0-9]{1,6}(,[01])?")


def folder_name(dataset: Dataset) -> str:
    """VOCdevkit/VOC2007 -> 2007, VOCdevkit/Shapes -> Shapes; of several folders the first counts. coco128.yaml -> coco128, pets/data.yaml -> pets."""
    path = find(dataset if isinstance(dataset, (str, Path)) else dataset[0]).resolve()
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
        path = path.parent if path.stem in ("data", "dataset", "train", "annotations", "_annotations.coco") else path.with_suffix("")
    name = path.name
    return name.removeprefix("VOC").lstrip("_- ") or name


def list_name(dataset: Dataset, split: str, task: str = "detection") -> str:
    """The list file of a dataset, relative to the repository: VOCdevkit/VOC2007, train -> 2007_train.txt or 2007_segmentation_train.txt."""
    return f"{folder_name(dataset)}{'_segmentation' * (task == 'segmentation')}_{split}.txt"


def classes_name(dataset: Dataset, task: str = "detection") -> str:
    """The file of its class names, relative to the repository: VOCdevkit/Shapes -> model_data/shapes_classes.txt
    or model_data/shapes_segmentation_classes.txt."""
    return f"model_data/{folder_name(dataset).lower()}{'_segmentation' * (task == 'segmentation')}_classes.txt"


def read_classes(path: AnyPath) -> list[str]:
    """Class names, one per line. Errors: no such file, no names, a blank line in the middle, a name twice."""
    names, findings = survey_classes(path)
    if findings:
        raise as_error(findings[0])
    return names


def survey_classes(path: AnyPath) -> tuple[list[str], list[Finding]]:
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


def list_path(path: AnyPath) -> str:
    """A path as it stands in a list: relative to the repository when it lies inside (with / on every system), else absolute."""
    return shown(os.path.abspath(settings.ROOT / path))     # abspath: takes ".." out, but leaves links alone


def list_entry(path: AnyPath, where: AnyPath) -> str:
    """list_path, if the result can stand in a list. where: the list file."""
    name = list_path(path)
    if not name.lower().endswith(SUFFIXES) or re.search(r"[\t\r\n]", name):
        raise UserError(f"{shown(where)}: {name!r} cannot stand in a list (tab, line end or unknown suffix). Rename the image.")
    return name


def format_box(box: Sequence[float]) -> str:
    """(x1, y1, x2, y2, class[, difficult]) -> its word in a list: at most 2 decimals, none when integral."""
    edges = [f"{value:.2f}".rstrip("0").rstrip(".") for value in (round(float(v), 2) + 0.0 for v in box[:4])]     # + 0.0: no -0
    return ",".join([*edges, str(int(box[4]))]) + (",1" if len(box) > 5 and box[5] else "")


def write_list(path: AnyPath, records: Iterable[tuple[str, Iterable[Sequence[float]]]]) -> Path | None:
    """Write a detection list. The path of the copy that was kept of another old one, or None.

    path: of the list file, relative to the repository.
    records: list of (image path, boxes); boxes: (G, 5 or 6) x1 y1 x2 y2 edges in px, class, difficult.
    """
    path, lines = settings.ROOT / path, []
    for image, boxes in records:
        lines.append(" ".join([list_entry(image, path), *map(format_box, boxes)]) + "\n")
    return replace_text(path, "".join(lines))


def list_lines(path: AnyPath) -> list[tuple[int, str]]:
    """(line number, line) of a list file, without the blank ones. Errors: not there, empty."""
    path = find(path)
    if not path.is_file():
        raise UserError(f"There is no list file {shown(path)}. Run voc_annotation.py to write it.")
    lines = [(number, line) for number, line in enumerate(read_raw_lines(path), 1) if line.strip()]
    if not lines:
        raise UserError(f"{shown(path)} holds no images.")
    return lines


def split_line(line: str) -> tuple[str, list[str]]:
    """A line of a detection list -> image path, list of its boxes as words."""
    words = line.split(" ")
    end = len(words)
    while end and (not words[end - 1] or BOX.fullmatch(words[end - 1])):
        end -= 1
    return " ".join(words[:end]), [word for word in words[end:] if word]


def first_image(path: AnyPath) -> str | None:
    """The path of the first image of a list of either task; no more of the file is read. None: the line is none of a list."""
    with open(find(path), "rb") as file:
        line = next((line for line in file if line.strip()), b"")
    image = split_line((decode_text(line, ["utf-8", "gb18030"]) or "").strip("\r\n").partition("\t")[0])[0]
    return image if image.lower().endswith(SUFFIXES) else None


def read_list(path: AnyPath) -> tuple[list[str], list[np.ndarray]]:
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


def check_classes(paths: list[str], boxes: list[np.ndarray], names: list[str], where: AnyPath) -> None:
    """Error when a list speaks of a class number that the class names do not have. where: the list file, for the message."""
    for path, rows in zip(paths, boxes):
        if len(rows) and rows[:, 4].max() >= len(names):
            raise UserError(f"{where}: {path} has an object of class {int(rows[:, 4].max())}, but there are only {len(names)} class names "
                            f"(numbers 0 to {len(names) - 1}). Wrong classes file, or run voc_annotation.py again.")


def write_mask_list(path: AnyPath, pairs: Iterable[tuple[str, str]]) -> Path | None:
    """Write a segmentation list. The path of the copy that was kept of another old one, or None.

    path: of the list file, relative to the repository.  pairs: list of (image path, mask path).
    """
    path = settings.ROOT / path
    return replace_text(path, "".join("\t".join(list_entry(file, path) for file in pair) + "\n" for pair in pairs))


def read_mask_list(path: AnyPath) -> tuple[list[str], list[str]]:
    """A segmentation list -> image paths, mask paths: two lists of str, relative to the repository or absolute.

    Errors: a line that is not two paths with a tab between them; file and line are named.
    """
    pairs = []
    for number, line in list_lines(path):
        pair = split_pair(line)
        if not pair:
            hint = "" if "\t" in line or not split_line(line)[0].lower().endswith(SUFFIXES) else " It looks like a detection list."
            raise UserError(f"{shown(find(path))}, line {number}: expected an image path, a tab and a mask path, found {line[-80:]!r}.{hint}")
        pairs.append(pair)
    return tuple(map(list, zip(*pairs)))


def split_pair(line: str) -> tuple[str, str] | None:
    """A line of a segmentation list -> image path, mask path; None when it is not that."""
    image, _, mask = line.partition("\t")
    mask = mask.rstrip(" ")
    return (image, mask) if image.lower().endswith(SUFFIXES) and mask.lower().endswith(SUFFIXES) and "\t" not in mask else None
