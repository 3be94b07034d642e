"""The check pass over list files, which is what training reads: `check_before_training`.
What was seen is kept for the next time."""
import hashlib
import time
from pathlib import Path
from typing import NamedTuple

from utils import settings
from utils.checks.folder import all_difficult, equal_pictures, near_pictures, tiny_boxes, too_few
from utils.checks.masks import mask_findings
from utils.errors import UserError
from utils.findings import STOPS, Finding, from_error, tell, worst
from utils.formats import sweep
from utils.formats.objects import LEFT, area
from utils.formats.sweep import Sample, look_at_image, look_at_mask, read_memory, remembered, write_memory
from utils.images import SUFFIXES
from utils.lists import list_lines, split_line, split_pair, survey_classes
from utils.settings import counted, find
from utils.system.files import printable

MEMORY = ".checked"             # folder of what was seen, in the repository and ignored by git


class Row(NamedTuple):
    """A line of a list."""
    split: str
    list_path: Path
    line: int
    image: str                  # as the list has it
    mask: str
    boxes: tuple                # of (x1, y1, x2, y2, class, difficult), floats


def check_before_training(task, lists, classes_path, input_shape=None, stride=None, fit="letterbox",
                          ignore_labels=(), say=print, dataset=None):
    """Check everything that a training will read, and say in short what was found.
    Error: something must be fixed first.

    task: "detection" or "segmentation".  lists: dict "train", "val" and perhaps "test"
    -> path of the list, as in train.py.
    input_shape: (H, W) px, stride: that of the network's finest grid; for objects too small to be seen.
    fit, ignore_labels: as in train.py.  dataset: words that give what the lists are of, None: not known.
    Images and masks are only read when their size or time changed since the last time.  -> findings.
    """
    began = time.perf_counter()
    findings, rows, _ = look_at_lists_of(task, lists, classes_path, input_shape, stride, fit, ignore_labels)
    images = counted(len({row.image for row in rows}), "image")
    tell(findings, f"Data checked: {images} in {time.perf_counter() - began:.1f} s", "No training was begun.",
         "The data", most=3, say=say, dataset=dataset)
    return findings


def look_at_lists_of(task, lists, classes_path, input_shape=None, stride=None, fit="letterbox",
                     ignore_labels=()):
    """The pass without a word; the arguments are those of `check_before_training`.
    -> findings, rows, dict row -> Sample of the usable ones."""
    names, findings = survey_classes(find(classes_path))
    rows = []
    for split, path in lists.items():
        got, found = read_rows(task, split, find(path))
        rows += got
        findings += found
    images, masks = read_files(task, lists, rows)
    findings += file_findings(rows, images, masks, task)

    # From here on only what can be used, one sample for each line.
    samples = {row: sample for row in rows if (sample := sample_of(row, images, masks))}
    learnt = [sample for row, sample in samples.items() if row.split == "train"]
    findings += overlap_findings(rows)
    listed = [(sample, {row.split}) for row, sample in samples.items()]
    findings += equal_pictures(listed) + near_pictures(listed)
    if rows and not learnt and worst(findings) != STOPS:
        findings.append(Finding("nothing_left", find(lists["train"])))
    if learnt:
        findings += too_few(learnt, find(lists["train"]))

    # What the labels say.
    if task == "detection":
        findings += box_findings(samples, names, input_shape, stride, fit)
        findings += absent_classes(samples, names, find(classes_path), find(lists["train"]))
    elif learnt and names:
        findings += mask_findings(list(samples.values()), learnt, names, find(classes_path), ignore_labels,
                                  False)
    return findings, rows, samples


def read_files(task, lists, rows):
    """Every image and mask of the rows, from the memory where it is unchanged.
    -> two dicts path -> what was seen, see sweep.py."""
    key = "\n".join([task, *(f"{find(path)}" for path in lists.values())]).encode("utf-8", "replace")
    place = settings.kept(f"{MEMORY}/{hashlib.sha1(key).hexdigest()[:16]}.json")
    memory = read_memory(place)
    images, new_images = remembered(look_at_image, [row.image for row in rows], memory["images"],
                                    "Checking images")
    masks, new_masks = remembered(look_at_mask, [row.mask for row in rows if row.mask], memory["masks"],
                                  "Checking masks")

    # Only what these lists name is kept: the memory does not grow with every new dataset.
    if new_images + new_masks:
        write_memory(place, {"images": {path: memory["images"][path] for path in images},
                             "masks": {path: memory["masks"][path] for path in masks}})
    return images, masks


def read_rows(task, split, path):
    """A list file -> rows, findings. A test list that is not there is not missed."""
    if split == "test" and not path.is_file():
        return [], []
    if not path.is_file():
        return [], [Finding("list_absent", path)]
    try:
        lines = list_lines(path)
    except UserError as error:
        return [], [from_error(error, path, "list_empty")]

    # A line that is none does not end the check: all of them are reported in one go.
    rows, findings = [], []
    for number, line in lines:
        row = read_pair(line) if task == "segmentation" else read_boxes(line)
        if row and "\x00" not in line:
            rows.append(Row(split, path, number, *row))
        else:
            boxes = "image path, then boxes x1,y1,x2,y2,class"
            expected = "image path, tab, mask path" if task == "segmentation" else boxes
            findings.append(Finding("list_line", path, number, f"{line[-80:]!r} is not: {expected}"))
    return rows, findings


def read_pair(line):
    """A line of a segmentation list -> image, mask, no boxes; None when it is no such line."""
    pair = split_pair(line)
    return (*pair, ()) if pair is not None else None


def read_boxes(line):
    """A line of a detection list -> image, no mask, boxes; None when it is no such line."""
    image, words = split_line(line)
    if not image.lower().endswith(SUFFIXES) or "\t" in image:
        return None
    return image, "", tuple((*map(float, word.split(",")), 0.0)[:6] for word in words)


def file_findings(rows, images, masks, task):
    """What cannot be opened. In training a damaged image is skipped;
    a mask, or an image of the validation list, stops it."""
    findings, told = [], set()
    for row in rows:
        image, mask = images[row.image], masks.get(row.mask)
        for path, seen, kind in ((row.image, image, "image"), (row.mask, mask, "mask")):
            if seen is not None and len(seen) != 3 and (path, row.split) not in told:
                told.add((path, row.split))
                findings.append(file_finding(row, path, seen, kind))

        # Both can be opened: do they belong together?
        if mask and len(mask) == len(image) == 3 and (row.mask, "size") not in told:
            told.add((row.mask, "size"))
            for finding in sweep.size_finding(find(row.mask), tuple(mask[:2]), tuple(image[:2])):
                findings.append(finding._replace(kind="listed_unusable"))
    return findings


def file_finding(row, path, seen, kind):
    """The finding about a file that cannot be used. seen: (kind of finding, message).
    kind: "image" or "mask"."""
    if seen[0] == "file_missing":
        kind = "listed_missing" if find(path).parent.is_dir() else "listed_moved"
        return Finding(kind, row.list_path, row.line, printable(path))
    if row.split == "val" or kind == "mask" and row.split == "train":
        return from_error(UserError(seen[1], kind="listed_unusable"), find(path))
    return from_error(UserError(seen[1], kind=seen[0]), find(path))


def sample_of(row, images, masks):
    """Row -> Sample, None when its files cannot be used."""
    image, mask = images[row.image], masks.get(row.mask)
    if len(image) < 3:
        return None
    if not row.mask:
        return Sample(find(row.image), None, tuple(image[:2]), image[2], row.boxes)
    if len(mask) < 3 or mask[:2] != image[:2]:
        return None
    return Sample(find(row.image), find(row.mask), tuple(image[:2]), image[2], sweep.all_counts(mask[2]))


def overlap_findings(rows):
    """Images in two lists; nothing when the lists have the same content,
    which was said when they were made."""
    lines = {split: {row.image: row for row in rows if row.split == split}
             for split in ("train", "val", "test")}
    findings = []
    for split, others, kind in (("val", ("train",), "in_train_and_val"),
                                ("test", ("train", "val"), "in_test")):
        others = [lines[other] for other in others if lines[other].keys() != lines[split].keys()]
        for image, row in lines[split].items():
            if any(image in other for other in others):
                findings.append(Finding(kind, row.list_path, row.line, printable(image)))
    return findings


def box_findings(samples, names, input_shape, stride, fit):
    """Boxes of unknown classes, beyond the image, duplicates, too small to be seen."""
    findings = []
    for row, sample in samples.items():
        # One finding of a kind for each line: an image with a hundred such boxes is named once.
        kinds, seen = {}, set()
        for box in row.boxes:
            if names and box[4] >= len(names):
                kinds.setdefault("list_class", f"class {box[4]:.0f}, but there are {len(names)} names "
                                               f"(numbers 0 to {len(names) - 1})")
            fault = box_fault(box, sample.size)
            if fault:
                kinds.setdefault(fault, printable(row.image))
            if box[:5] in seen:
                kinds.setdefault("box_twice", printable(row.image))
            seen.add(box[:5])

        # Only where the network learns from it.
        if input_shape and stride and row.split == "train":
            small = tiny_boxes(row.boxes, sample.size, input_shape, stride, fit)
            if small:
                kinds["box_tiny"] = f"{printable(row.image)}: {small}"
        findings += [Finding(kind, row.list_path, row.line, detail) for kind, detail in kinds.items()]
    return findings


def box_fault(box, size):
    """The kind of finding about where a box is, "" when it is inside the image. box: x1, y1, x2, y2 px, ...
    size: (width, height)."""
    width, height = size
    inside = (max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height))
    if area(box) <= 0:
        return "box_empty"
    if area(inside) < LEFT * area(box):
        return "box_outside"
    if max(abs(a - b) for a, b in zip(inside, box)) > 1:
        return "box_clipped"
    return ""


def absent_classes(samples, names, classes_path, train_list):
    """Classes that the training list does not show."""
    learnt = [row for row in samples if row.split == "train"]
    boxes = [box for row in learnt for box in row.boxes]
    shown_in = {int(box[4]) for box in boxes if not box[5]}
    if not shown_in:
        difficult = all_difficult([box[5] for box in boxes], train_list)
        return difficult or ([Finding("no_objects", train_list)] if learnt else [])
    return [Finding("class_absent", classes_path, label + 1, printable(name))
            for label, name in enumerate(names)
            if label not in shown_in]
