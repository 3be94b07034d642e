"""The check pass over list files, which is what training reads: `check_before_training`. What was seen is kept, so that it is quick the next time."""
import hashlib
import time
from pathlib import Path
from typing import NamedTuple

from utils import settings
from utils.checks.folder import equal_pictures, mask_findings, tiny_boxes, too_few
from utils.errors import UserError
from utils.findings import STOPS, Finding, from_error, tell, worst
from utils.formats.objects import LEFT, area
from utils.formats.sweep import Sample, all_counts, look_at_image, look_at_mask, read_memory, remembered, size_finding, write_memory
from utils.images import SUFFIXES
from utils.lists import list_lines, split_line, split_pair, survey_classes
from utils.settings import find
from utils.system.files import printable

MEMORY = ".checked"             # folder of what was seen, in the repository and ignored by git


class Row(NamedTuple):
    """A line of a list."""
    split: str
    list_path: Path
    line: int
    image: str                  # as it stands in the list
    mask: str
    boxes: tuple                # of (x1, y1, x2, y2, class, difficult), floats


def check_before_training(task, lists, classes_path, input_shape=None, stride=None, fit="letterbox", ignore_labels=(), say=print):
    """Check everything that a training will read, and say in short what was found. Error: something must be put right first.

    task: "detection" or "segmentation".  lists: dict "train", "val" and perhaps "test" -> path of the list, as in train.py.
    input_shape: (H, W) px, stride: that of the network's finest grid; for objects too small to be seen.  fit, ignore_labels: as in train.py.
    Images and masks are only read when their size or time changed since the last time.  -> findings.
    """
    began = time.perf_counter()
    findings, rows, _ = look_at_lists_of(task, lists, classes_path, input_shape, stride, fit, ignore_labels)
    count = len({row.image for row in rows})
    tell(findings, f"Data checked: {count} images in {time.perf_counter() - began:.1f} s", "No training was begun.", "The data", most=3, say=say)
    return findings


def look_at_lists_of(task, lists, classes_path, input_shape=None, stride=None, fit="letterbox", ignore_labels=()):
    """The pass without a word; the arguments are those of `check_before_training`. -> findings, rows, dict row -> Sample of the usable ones."""
    names, findings = survey_classes(find(classes_path))
    rows, stem = [], hashlib.sha1("\n".join([task, *(f"{find(path)}" for path in lists.values())]).encode("utf-8", "replace")).hexdigest()[:16]
    for split, path in lists.items():
        got, found = read_rows(task, split, find(path))
        rows += got
        findings += found
    place = settings.ROOT / MEMORY / f"{stem}.json"
    memory = read_memory(place)
    images, new_images = remembered(look_at_image, [row.image for row in rows], memory["images"], "Checking images")
    masks, new_masks = remembered(look_at_mask, [row.mask for row in rows if row.mask], memory["masks"], "Checking masks")
    if new_images + new_masks:
        write_memory(place, {"images": {path: memory["images"][path] for path in images}, "masks": {path: memory["masks"][path] for path in masks}})
    findings += file_findings(rows, images, masks, task)
    samples = {row: sample for row in rows if (sample := sample_of(row, images, masks))}
    learnt = [sample for row, sample in samples.items() if row.split == "train"]
    findings += overlap_findings(rows) + equal_pictures([(sample, {row.split}) for row, sample in samples.items()])
    if rows and not learnt and worst(findings) != STOPS:
        findings.append(Finding("nothing_left", find(lists["train"])))
    findings += too_few(learnt, find(lists["train"])) if learnt else []
    if task == "segmentation":
        if learnt and names:
            findings += mask_findings(list(samples.values()), learnt, names, find(classes_path), None, ignore_labels, False)
    else:
        findings += box_findings(samples, names, input_shape, stride, fit)
        findings += absent_classes(samples, names, find(classes_path), find(lists["train"]))
    return findings, rows, samples


def read_rows(task, split, path):
    """A list file -> rows, findings. A test list that is not there is not missed."""
    if split == "test" and not path.is_file():
        return [], []
    if not path.is_file():
        return [], [Finding("list_absent", path)]
    rows, findings = [], []
    try:
        lines = list_lines(path)
    except UserError as error:
        return [], [from_error(error, path, "list_empty")]
    for number, line in lines:
        if task == "segmentation":
            pair, words = split_pair(line), []
            good, (image, mask) = pair is not None, pair or ("", "")
        else:
            (image, words), mask = split_line(line), ""
            good = image.lower().endswith(SUFFIXES) and "\t" not in image
        if good and "\x00" not in line:
            boxes = tuple((*map(float, word.split(",")), 0.0)[:6] for word in words)
            rows.append(Row(split, path, number, image, mask, boxes))
        else:
            expected = "image path, tab, mask path" if task == "segmentation" else "image path, then boxes x1,y1,x2,y2,class"
            findings.append(Finding("list_line", path, number, f"{line[-80:]!r} is not: {expected}"))
    return rows, findings


def file_findings(rows, images, masks, task):
    """What cannot be opened. In training a damaged image is passed over; a mask, or an image of the validation list, stops it."""
    findings, told = [], set()
    for row in rows:
        for path, seen, kind in ((row.image, images, "image"), (row.mask, masks, "mask")):
            result = seen.get(path)
            if result is None or len(result) == 3 or (path, row.split) in told:
                continue
            told.add((path, row.split))
            if result[0] == "file_missing":
                findings.append(Finding("listed_missing", row.list_path, row.line, printable(path)))
            elif row.split == "val" or kind == "mask" and row.split == "train":
                findings.append(from_error(UserError(result[1], kind="listed_unusable"), find(path)))
            else:
                findings.append(from_error(UserError(result[1], kind=result[0]), find(path)))
        image, mask = images[row.image], masks.get(row.mask)
        if mask and len(mask) == len(image) == 3 and (row.mask, "size") not in told:
            told.add((row.mask, "size"))
            findings += [finding._replace(kind="listed_unusable") for finding in size_finding(find(row.mask), tuple(mask[:2]), tuple(image[:2]))]
    return findings


def sample_of(row, images, masks):
    """Row -> Sample, None when its files cannot be used."""
    image, mask = images[row.image], masks.get(row.mask)
    if len(image) < 3 or row.mask and (len(mask) < 3 or mask[:2] != image[:2]):
        return None
    return Sample(find(row.image), find(row.mask) if row.mask else None, tuple(image[:2]), image[2],
                  all_counts(mask[2]) if row.mask else row.boxes)


def overlap_findings(rows):
    """Images that stand in two lists; nothing when the lists are the same file or have the same content, which was said when they were made."""
    lines = {split: {row.image: row for row in rows if row.split == split} for split in ("train", "val", "test")}
    findings = []
    for split, others, kind in (("val", ("train",), "in_train_and_val"), ("test", ("train", "val"), "in_test")):
        others = [lines[other] for other in others if lines[other].keys() != lines[split].keys()]
        findings += [Finding(kind, row.list_path, row.line, printable(image)) for image, row in lines[split].items()
                     if any(image in other for other in others)]
    return findings


def box_findings(samples, names, input_shape, stride, fit):
    """Boxes of unknown classes, beyond the image, twice, too small to be seen."""
    findings = []
    for row, sample in samples.items():
        width, height = sample.size
        kinds, seen = {}, set()
        for box in row.boxes:
            inside = (max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height))
            if names and box[4] >= len(names):
                kinds.setdefault("list_class", f"class {box[4]:.0f}, but there are {len(names)} names (numbers 0 to {len(names) - 1})")
            if area(box) <= 0:
                kinds.setdefault("box_empty", printable(row.image))
            elif area(inside) < LEFT * area(box):
                kinds.setdefault("box_outside", printable(row.image))
            elif max(abs(a - b) for a, b in zip(inside, box)) > 1:
                kinds.setdefault("box_clipped", printable(row.image))
            if box[:5] in seen:
                kinds.setdefault("box_twice", printable(row.image))
            seen.add(box[:5])
        if input_shape and stride and row.split == "train":
            small = tiny_boxes(row.boxes, sample.size, input_shape, stride, fit)
            kinds |= {"box_tiny": f"{printable(row.image)}: {small}"} if small else {}
        findings += [Finding(kind, row.list_path, row.line, detail) for kind, detail in kinds.items()]
    return findings


def absent_classes(samples, names, classes_path, train_list):
    """Classes that the training list does not show."""
    shown_in = {int(box[4]) for row in samples if row.split == "train" for box in row.boxes}
    if not shown_in and any(row.split == "train" for row in samples):
        return [Finding("no_objects", train_list)]
    return [Finding("class_absent", classes_path, label + 1, printable(name)) for label, name in enumerate(names)
            if shown_in and label not in shown_in]
