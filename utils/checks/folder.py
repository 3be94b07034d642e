"""The check pass over VOC folders: every image and label is read,
and every problem is reported in one go. Nothing is written.

    part, findings = look_at_folder(folder, "detection", {"train": "train", "val": "val", "test": "test"})

What a finding means: see findings.py. Samples whose image or label cannot be used are not in part.samples.
"""
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from utils.checks.masks import mask_findings, void_findings
from utils.errors import UserError, did_you_mean
from utils.findings import Finding
from utils.formats.alike import most_alike
from utils.formats.sniff import format_of
from utils.formats.sweep import look_at_pair, sweep
from utils.formats.voc_folder import LABELS, check_layout, made_folder, missing_sets, read_sets, set_file
from utils.images import LOSSY, SUFFIXES, fitted_size
from utils.settings import counted, shown
from utils.system.files import printable, read_bytes

FEW = 20                        # fewer images to learn from are reported
SYSTEM_FILES = ("thumbs.db", "desktop.ini")
LOSSY_SUFFIXES = tuple(f".{name.lower()}" for name in LOSSY) + (".jpg", ".jp2")
SIZES_FOR_CORNERS = (3, 0.2)    # how many boxes, and what share of all, must look like width and height


@dataclass
class Part:
    """One folder, as far as it can be used."""
    folder: Path
    samples: dict = field(default_factory=dict)         # stem -> Sample
    sets: dict = field(default_factory=dict)            # list name -> ids, of the user's own lists
    splits: dict = field(default_factory=dict)          # stem -> set of "train", "val", "test"
    names: list = ()                                    # class names, where the source says them
    fixed: bool = False                                 # sets holds train, val, test: nothing is to be split


def look_at_folder(folder, task, wanted, new_split=False):
    """-> Part, findings. wanted: dict train, val, test -> name of the list to take.
    Only what the lists name is read, if there are lists.

    Error: it is no VOC folder for this task.
    """
    # What is there, and which lists name it.
    images, labels, findings = check_layout(folder, task)
    foreign, found = other_files(folder, task, images)
    findings += found
    sets, found = read_sets(folder, wanted.values(), new_split, task, images.keys() | labels.keys())
    findings += found + missing_sets(sets, (wanted["train"], wanted["val"]), folder, task)
    usable = images.keys() & labels.keys()
    sets = without_gone(sets, usable | foreign, folder, task)

    # lists: those that are used; without train and val the rest of the images is split.
    own = {split: sets[name] for split, name in wanted.items() if name in sets}
    foreign |= leave_out_unlabelled(own, images.keys() - labels.keys() - foreign, folder, findings)
    lists, listed = dict(own), set()
    made = "train" not in sets and "val" not in sets
    if made and "trainval" in sets:
        lists["trainval"] = sets["trainval"]
    elif made:
        listed |= usable
    listed = listed.union(*lists.values())

    # What has no partner.
    findings += names_without_files(folder, task, wanted, lists, sets, (images, labels, foreign))
    findings += overlaps(folder, task, wanted, own)
    alone = images.keys() - labels.keys() - foreign - listed
    findings += [Finding("image_without_label", images[stem]) for stem in sorted(alone)]
    alone = labels.keys() - images.keys() - foreign - listed
    findings += [Finding("label_without_image", labels[stem]) for stem in sorted(alone)]
    findings += [Finding("not_listed", images[stem]) for stem in sorted(usable - listed)]

    # Every pair is read.
    stems = sorted(usable & listed)
    pairs = sweep(look_at_pair, [(task, images[stem], labels[stem]) for stem in stems],
                  f"Checking {shown(folder)}")
    part = Part(folder, sets={name: list(ids) for name, ids in sets.items()})
    for stem, (sample, found) in zip(stems, pairs):
        part.splits[stem] = {split for split, ids in own.items() if stem in ids}
        findings += found
        if sample:
            part.samples[stem] = sample
    return part, findings


def without_gone(sets, there, folder, task):
    """The lists; of those that this program made only what is still there: nobody wrote their names.

    sets: list name -> {id: line}.  there: ids that have an image and a label.
    """
    ours = made_folder(folder, task)
    kept = {}
    for name, ids in sets.items():
        made = set_file(folder, name, task).parent == ours
        kept[name] = {stem: line for stem, line in ids.items() if stem in there or not made}
    return kept


def leave_out_unlabelled(own, alone, folder, findings):
    """A val or test list of which no image has a label is taken out of own, and reported. -> its ids.

    own: dict split -> {id: line}.  alone: ids of images without any label.
    """
    gone = set()
    for split in ("val", "test"):
        ids = own.get(split, {}).keys()
        others = set().union(*(names for other, names in own.items() if other != split))
        if ids and ids <= alone and not ids & others and own.get("train", {}).keys() - alone:
            detail = f"{split}: none of its {counted(len(ids), 'image')} has a label"
            findings.append(Finding("part_without_labels", folder, None, detail))
            gone |= ids
            del own[split]
    return gone


def names_without_files(folder, task, wanted, lists, sets, files):
    """Findings: names in the lists without an image or label.
    files: (images, labels, stems with files of another kind)."""
    images, labels, foreign = files
    part, _, kind, _ = LABELS[task]
    findings = []
    for name in sorted({wanted.get(split, split) for split in lists}):
        path = set_file(folder, name, task)
        for stem, line in sets[name].items():
            if stem in foreign or stem in images and stem in labels:
                continue
            what, place, known = (kind, part, labels) if stem in images else ("image", "JPEGImages", images)

            # Perhaps it is only misspelled.
            hint = did_you_mean(stem, known)
            finding = "list_no_image" if what == "image" else "list_no_label"
            findings.append(Finding(finding, path, line,
                                    f"{printable(stem)} has no {what} in {place}.{hint}"))
    return findings


def part_of(splits, folder, names=()):
    """What another reader found, dict train, val, test -> list of Sample, -> Part.

    folder: for messages.  names: class names in the order of the source.
    """
    part = Part(Path(folder), names=names, fixed=True)
    for split, some in splits.items():
        part.samples |= {str(sample.image): sample for sample in some}
        part.sets[split] = [str(sample.image) for sample in some]
        for image in part.sets[split]:
            part.splits.setdefault(image, set()).add(split)
    return part


def other_files(folder, task, images):
    """Files of other suffixes. -> stems of those that are instead of a label or an image, findings."""
    foreign, findings = set(), []
    part, suffixes = LABELS[task][:2]
    for name, known in (("JPEGImages", SUFFIXES), (part, suffixes)):
        for file in sorted(os.listdir(folder / name)):
            if file.lower().endswith(known) or file.startswith(".") or file.lower() in SYSTEM_FILES:
                continue

            # A label of another program in its place: the image is not without a label, only unreadable.
            path = folder / name / file
            if path.is_file():
                kind = kind_of_other(path)
                findings.append(Finding(kind, path))
                if kind != "other_suffix" or name == "JPEGImages":
                    foreign.add(path.stem.strip())
    return foreign, findings


def kind_of_other(path):
    """The kind of finding about a file of another suffix: is it a label of another program?"""
    suffix = path.suffix.lower()
    if path.parent.name == "Annotations" and suffix == ".json" and format_of(path) == "labelme":
        return "labelme_file"
    if path.parent.name == "Annotations" and suffix == ".txt" and is_yolo(path):
        return "yolo_file"
    if path.parent.name == "SegmentationClass" and suffix in LOSSY_SUFFIXES:
        return "mask_lossy"
    return "other_suffix"


def is_yolo(path):
    """Whether a .txt looks like YOLO's labels, or like the class names beside them."""
    try:
        start = read_bytes(path)[:4000]
    except UserError:
        return False
    if path.stem in ("classes", "predefined_classes"):
        return True
    words = start.split(b"\n")[0].split()
    return len(words) == 5 and all(word.replace(b".", b"").isdigit() for word in words)


def overlaps(folder, task, wanted, own):
    """Findings: ids in two of the lists. own: dict split -> {id: line}."""
    findings = []
    for split, others, kind in (("val", ("train",), "in_train_and_val"),
                                ("test", ("train", "val"), "in_test")):
        path = set_file(folder, wanted[split], task)
        others = [own[other] for other in others if other in own and wanted[other] != wanted[split]]
        for stem, line in own.get(split, {}).items():
            if any(stem in other for other in others):
                findings.append(Finding(kind, path, line, printable(stem)))
    return findings


def whole_findings(parts, names, classes_path, task, ignore_labels=(), derived=False):
    """Findings about all folders together: equal pictures, too few, classes.

    names: class names, None when their file is no use.  derived: they are made from these very data.
    """
    samples, learnt, listed = [], [], []
    for part in parts:
        # Without lists of its own any image of a folder may become one to learn from.
        without_lists = not part.sets.keys() & {"train", "val"}
        for stem, sample in part.samples.items():
            mine = part.splits.get(stem, set())
            samples.append(sample)
            listed.append((sample, mine))
            if "train" in mine or not mine and without_lists:
                learnt.append(sample)

    folder = parts[0].folder if parts else Path()
    findings = equal_pictures(listed) + near_pictures(listed)
    if not learnt:
        return [*findings, Finding("nothing_left", folder)]
    findings += too_few(learnt, folder)
    if task == "detection":
        findings += [Finding("one_colour", sample.image, None, counted(len(sample.truth), "object"))
                     for sample in samples if sample.flat and sample.truth]
        return findings + class_findings(samples, learnt, names, classes_path, folder, derived)
    judged = mask_findings(samples, learnt, names, classes_path, ignore_labels, derived)
    return findings + judged + void_findings(samples, names, ignore_labels, derived, judged)


def too_few(learnt, where):
    """A finding: hardly anything to learn from."""
    return [Finding("few_images", where, None, counted(len(learnt), "image"))] if len(learnt) < FEW else []


def equal_pictures(pairs):
    """Findings: image files with the same bytes under two names.
    pairs: (Sample, set of the lists it is in)."""
    first, findings = {}, []
    for sample, splits in pairs:
        other, others = first.setdefault(sample.digest, (sample.image, splits))
        if other != sample.image:
            kind = "same_across" if splits and others and splits != others else "same_picture"
            where = f" ({', '.join(sorted(others))})" if others else ""
            findings.append(Finding(kind, sample.image, None, f"the same as {printable(other.name)}{where}"))
    return findings


def near_pictures(pairs):
    """Findings: pictures that look like one of another list, each with the one that is nearest.
    pairs: (Sample, set of the lists it is in). Equal files are no matter here, see `equal_pictures`."""
    # An image may be in several lists.
    places, samples = {}, {}
    for sample, splits in pairs:
        places[sample.image] = places.get(sample.image, set()) | splits
        samples[sample.image] = sample

    # The later list is the one that flatters: its pictures are named.
    findings = []
    for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
        ours = only_in(first, second, places, samples)
        theirs = only_in(second, first, places, samples)
        found = most_alike([sample.digest.partition(".")[2] for sample in ours],
                        [sample.digest.partition(".")[2] for sample in theirs])
        for sample, index in zip(theirs, found):
            if index >= 0 and ours[index].digest != sample.digest:
                detail = f"{second}, like {printable(ours[index].image.name)} ({first})"
                findings.append(Finding("near_across", sample.image, None, detail))
    return findings


def only_in(split, other, places, samples):
    """The samples of a list that are not in the other one as well, as far as they have a look."""
    return [samples[image] for image, splits in places.items()
            if split in splits and other not in splits and not samples[image].digest.endswith(".")]


def class_findings(samples, learnt, names, classes_path, folder, derived):
    """Detection: class names that are not known, or that no training image has."""
    counts = Counter(one["name"] for sample in samples for one in sample.truth)
    objects = [one for sample in learnt for one in sample.truth]
    shown_in = Counter(one["name"] for one in objects if not one["difficult"])
    findings = []
    for sample in samples if names is not None else ():
        for name in dict.fromkeys(one["name"] for one in sample.truth):
            if name not in names:
                objects = counted(counts[name], "object")
                detail = f'"{printable(name)}", {objects} in all.{did_you_mean(name, names)}'
                findings.append(Finding("unknown_class", sample.label or sample.image, None, detail))

    # The other way round: classes without an object are never found. Derived names are those of the objects.
    if not objects:
        findings.append(Finding("no_objects", folder))
    elif not derived and names is not None:
        findings += [Finding("class_absent", Path(classes_path), line, printable(name))
                     for line, name in enumerate(names, 1)
                     if not shown_in[name]]
    return findings


def all_difficult(marks, where):
    """A list of one finding when all objects to learn from are marked as difficult, else an empty one.

    marks: for each object whether it is.
    """
    if not marks or not all(marks):
        return []
    detail = f"all {len(marks)} are difficult, and those are not taught" if len(marks) > 1 \
        else "the only one is difficult, and such are not taught"
    advice = "Write <difficult>0</difficult> (in COCO iscrowd 0) for the objects to be learnt, then run " \
             "voc_annotation.py again, as before."
    return [Finding("no_objects", where, None, detail, advice)]


def settle_corners(findings, samples):
    """Some boxes look as if they held width and height instead of xmax and ymax.

    They do when there are many of them and every box would fit into its image then; else they were drawn from
    right to left. -> findings of one of the two kinds.
    """
    boxes = [(one["box"], sample.size) for sample in samples for one in sample.truth]
    least, share = SIZES_FOR_CORNERS
    count = sum(finding.kind == "corner_is_size" for finding in findings)
    swapped = any(finding.kind == "box_swapped" for finding in findings)
    fit = all(box[0] + box[2] <= size[0] and box[1] + box[3] <= size[1] for box, size in boxes)
    if fit and not swapped and count >= least and count >= share * len(boxes):
        return findings
    return [finding._replace(kind="box_swapped") if finding.kind == "corner_is_size" else finding
            for finding in findings]


def box_sizes(samples, input_shape, stride, fit="letterbox"):
    """Findings: samples with objects that are smaller at the input of (H, W) px
    than a cell of the network's finest grid."""
    findings = []
    for sample in samples:
        detail = tiny_boxes([one["box"] for one in sample.truth], sample.size, input_shape, stride, fit)
        if detail:
            findings.append(Finding("box_tiny", sample.label or sample.image, None, detail))
    return findings


def tiny_boxes(boxes, size, input_shape, stride, fit):
    """A sentence about the boxes whose longer side is less than stride px at the input,
    "" when there is none. size: (width, height)."""
    new_height, new_width = fitted_size(size[1], size[0], input_shape, fit)
    sides = [max((box[2] - box[0]) * new_width / size[0], (box[3] - box[1]) * new_height / size[1])
             for box in boxes]
    small = [side for side in sides if 0 < side < stride]
    if not small:
        return ""
    return f"{len(small)} of {counted(len(sides), 'object')}, the smallest {min(small):.1f} px " \
           f"at the input of {input_shape[0]} x {input_shape[1]}, a cell has {stride}"
