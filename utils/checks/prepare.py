"""A dataset -> checked, split, written as the list files that train.py, get_map.py and get_miou.py read.

Expected: VOCdevkit/<name>/JPEGImages/a.jpg, and for detection Annotations/a.xml, for segmentation
SegmentationClass/a.png; if the user has a split, ImageSets/Main/train.txt ... (detection),
ImageSets/Segmentation/train.txt ... (segmentation); or one of utils/formats/.
Written into the repository: <name>_train.txt, <name>_val.txt, <name>_test.txt; for segmentation
<name>_segmentation_train.txt ...
"""
from collections import Counter
from pathlib import Path

import numpy as np

from utils.checks.folder import (
    all_difficult,
    look_at_folder,
    near_pictures,
    part_of,
    settle_corners,
    whole_findings,
)
from utils.errors import UserError
from utils.findings import Finding, from_error, report, tell
from utils.formats.foreign import deal
from utils.formats.recognise import OUTLINES, foreign_tasks, home, read_foreign, recognise
from utils.formats.sweep import range_of_set
from utils.formats.voc_folder import LABELS, make_sets, survey
from utils.images import IGNORED
from utils.labels import derived_names, describe_labels, mask_table
from utils.lists import (
    classes_name,
    first_image,
    list_name,
    prepared_folder,
    survey_classes,
    write_list,
    write_mask_list,
)
from utils.results.report import text_table, text_width
from utils.settings import ROOT, counted, find, shown
from utils.system.files import printable, replace_text, together


def tasks_of(dataset, say=print):
    """What the folder, the first of several, has labels for;
    detection, for its error message, when it has none."""
    folder = find(dataset if isinstance(dataset, (str, Path)) else dataset[0])
    if recognise(folder)[0] != "voc":
        return foreign_tasks(folder, say=say)
    return [task for task, (part, suffixes, *_) in LABELS.items()
            if survey(folder / part, suffixes, below=True)[0]] or ["detection"]


def prepare(dataset, classes_path=None, trainval_percent=0.9, train_percent=0.9, train_set="train",
            val_set="val", test_set="test", new_split=False, seed=0, task="detection", ignore_labels=(),
            stratify=False, palette=None):
    """Write the list files of a dataset, or of several that are merged. The arguments: voc_annotation.py's.

    Result: classes_path, dict train, val, test -> list file; all of them relative to the repository.
    """
    # Read everything, report everything, and stop here if it is no use.
    folders = [dataset] if isinstance(dataset, (str, Path)) else list(dataset)
    wanted = {"train": train_set, "val": val_set, "test": test_set}
    how = {"trainval_percent": trainval_percent, "train_percent": train_percent, "seed": seed,
           "stratify": stratify}
    parts, findings = [], []
    for folder in folders:
        part, found = look_at(find(folder), task, wanted, new_split, palette=palette and find(palette), **how)
        findings += found
        if part:
            parts.append(part)
    classes_path, names, derived, found = settle_classes(dataset, classes_path, parts, task, ignore_labels)
    findings += found
    if parts and not any(finding.kind == "list_missing" for finding in findings):
        findings += whole_findings(parts, None if found else names, find(classes_path), task, ignore_labels,
                                   derived)
    labelled = counted(sum(len(part.samples) for part in parts), "labelled image")
    tell(findings, f"{labelled} of {', '.join(shown(find(folder)) for folder in folders)}",
         dataset=dataset_words(dataset, task, classes_path))
    if val_set == test_set:
        print(f'Warning: val_set and test_set are both "{val_set}": '
              'best.pth is then chosen on the test set and its result is too good.')

    # Split what can be used. Only from here on something is written, and that all at once.
    with together():
        samples = {split: [] for split in wanted}
        for part in parts:
            ids = part.sets
            if not part.fixed:
                ids = make_sets(part.folder, part.samples, ids, task=task, new_split=new_split, **how)
            for split, name in wanted.items():
                chosen = ids.get(split if part.fixed else name, [])
                samples[split] += [part.samples[stem] for stem in chosen if stem in part.samples]
        tell_near(samples, findings)
        replace_empty(samples)
        range_of_set([sample.image for sample in samples["train"]])
        if derived:
            write_classes(classes_path, names, samples, task)
        return classes_path, write_lists(dataset, samples, names, task, ignore_labels)


def dataset_words(dataset, task, classes_path=None):
    """What an advised command must say to be about these data: "dataset=..." and what does not follow."""
    folder = find(dataset if isinstance(dataset, (str, Path)) else dataset[0])
    words = [f'"dataset={dataset}"']
    try:
        if task == "segmentation" and recognise(folder)[0] in OUTLINES:
            words.append("task=segmentation")
    except UserError:                                       # no dataset at all, which is reported elsewhere
        pass
    if classes_path not in (None, classes_name(dataset, task)):
        words.append(f'"classes_path={classes_path}"')
    return " ".join(words)


def tell_near(samples, findings):
    """Name the pictures that look alike and came into different lists by a split that was made just now.
    samples: dict train, val, test -> list of Sample.  findings: what was said before."""
    told = {finding.file for finding in findings if finding.kind == "near_across"}
    near = near_pictures([(sample, {split}) for split, some in samples.items() for sample in some])
    new = [finding for finding in near if finding.file not in told]
    if new:
        print(report(new))


def look_at(folder, task, wanted, new_split, palette=None, **how):
    """The check pass over one dataset -> Part, findings; None instead of the part when it cannot be read.
    how: variables for `deal`."""
    kind, place = recognise(folder, task, palette)
    findings = []
    try:
        if kind == "voc":
            part, findings = look_at_folder(folder, task, wanted, new_split)
        else:
            names, lists = read_foreign(kind, place, task, findings, palette)
    except UserError as error:
        if error.kind == "layout":
            return None, [Finding("layout", folder, None, str(error))]
        return None, [*findings, from_error(error, place)._replace(kind="not_readable")]

    # Other formats have no ImageSets: their images are split here, those of a VOC folder when it is written.
    if kind != "voc":
        splits = deal(lists, place if place.is_dir() else place.parent, wanted, findings, new_split=new_split,
                      **how)
        part = part_of(splits, folder, names or ())
    if task == "detection":
        findings = settle_corners(findings, list(part.samples.values()))
    return part, findings


def settle_classes(dataset, path, parts, task, ignore_labels=()):
    """-> classes path, names, whether they are made from the data, findings.
    A file that is not there yet is not written here."""
    derived = path is None
    path = classes_name(dataset, task) if derived else str(path)
    if not derived or find(path).exists() and not is_of_another(find(path), dataset, parts, task):
        names, findings = survey_classes(find(path))
        return path, names, False, findings

    # Some formats hold the names (data.yaml, COCO); else they are what the labels say, in alphabetical order.
    samples = [sample for part in parts for sample in part.samples.values()]
    named = [name for part in parts for name in part.names]
    if named or not samples:
        return path, list(dict.fromkeys(named)), True, []
    if task == "detection":
        return path, sorted({one["name"] for sample in samples for one in sample.truth}), True, []

    # Masks hold numbers only.
    found = np.flatnonzero(sum(sample.truth for sample in samples)).tolist()
    values = [value for value in found if value != IGNORED and value not in ignore_labels]

    # Results elsewhere get a copy of the names that the repository has for these data.
    ours = ROOT / "model_data" / find(path).name
    known = survey_classes(ours)[0] if ours.is_file() else []
    if values and values[-1] < len(known):
        return path, known, True, []
    return path, derived_names(dataset, values[-1], ignore_labels) if values else [], True, []


def is_of_another(path, dataset, parts, task):
    """Whether a classes file was made for another folder of the same name: so were the lists beside it, and
    it lacks a name of these data."""
    folders = [dataset] if isinstance(dataset, (str, Path)) else dataset
    lists = [find(list_name(dataset, split, task)) for split in ("train", "val")]
    homes = [home(find(folder)) for folder in folders]
    strange = [path for path in lists if path.is_file() and not any(made_of(path, home) for home in homes)]
    if task == "segmentation" or not strange:
        return False
    known, _ = survey_classes(path)
    return any(one["name"] not in known for part in parts for sample in part.samples.values()
               for one in sample.truth)


def made_of(path, folder):
    """Whether the first image of a list is in a folder, by its name or by where a link leads."""
    image = find(first_image(path) or "")
    homes = (folder, prepared_folder(folder))               # pictures out of labelme files are kept there
    linked = image.resolve().is_relative_to(folder.resolve())
    return linked or any(image.is_relative_to(home) for home in homes)


def write_classes(path, names, samples, task):
    """The classes file that follows from the data."""
    # One that is there belongs to other data, or nothing would be written.
    kept = replace_text(find(path), "".join(name + "\n" for name in names))
    if kept:
        print(f"{path} was made for another folder of the same name: it is kept as {shown(kept)}")

    # Masks do not say what their numbers mean; names from labels can be misspelled.
    if task == "segmentation":
        print(f"Written: {path}, for the values in the masks: {', '.join(map(printable, names))}. "
              "Put the right names there.")
    else:
        # An image in two lists is counted once.
        images = {sample.image: sample.truth for some in samples.values() for sample in some}
        found = Counter(one["name"] for objects in images.values() for one in objects)
        numbers = ", ".join(f"{printable(name)} {found[name]}" for name in names)
        print(f"Written: {path}, the {counted(len(names), 'name')} in the annotations. "
              f"Look for misspelled ones: {numbers}")


def write_lists(dataset, samples, names, task, ignore_labels=()):
    """Print what is in the lists and write them. samples: dict train, val, test -> list of Sample.
    -> dict split -> path."""
    if task == "segmentation":
        print_shares(samples, names, ignore_labels)
    else:
        print_table(samples, names)

    # An old list is kept as .bak.
    lists = {split: list_name(dataset, split, task) for split in samples}
    for split, path in lists.items():
        if task == "segmentation":
            kept = write_mask_list(path, [(one.image, one.label) for one in samples[split]])
        else:
            kept = write_list(path, [(one.image, boxes_of(one, names)) for one in samples[split]])
        old = f" (the old one is now {shown(kept)})" if kept else ""
        print(f"Written: {path}, {counted(len(samples[split]), 'image')}{old}")
    return lists


def boxes_of(sample, names):
    """A sample's objects as a list holds them: x1, y1, x2, y2, class, difficult."""
    return [(*one["box"], names.index(one["name"]), one["difficult"]) for one in sample.truth]


def replace_empty(samples):
    """An empty val is replaced by train, an empty test by val, so that every script runs;
    the user is warned."""
    for split, other, meaning in (("val", "train", "best.pth is chosen on images it has learnt"),
                                  ("test", "val", "best.pth was chosen on the images of the test result")):
        if not samples[split]:
            samples[split] = samples[other]
            print(f"WARNING: there are no {split} images, "
                  f"so the {other} images are used for {split} as well: {meaning}. "
                  "Good for trying things out, not as a result.")


def print_shares(samples, names, ignore_labels):
    """Segmentation: how much of each class there is in each split, and which value is which class."""
    pairs = {split: [(one.image, (one.label, one.truth)) for one in some] for split, some in samples.items()}
    table = text_table(mask_table(pairs, names, ignore_labels))
    print("Share of the labelled pixels, and images with the class:\n" + "\n".join(table))
    print(f"What the values in the masks mean:\n{describe_labels(names, ignore_labels)}")


def print_table(samples, names):
    """Detection: images, boxes and objects per class of each split, in columns."""
    columns, taught = [], set()
    for split, some in samples.items():
        objects = [one for sample in some for one in sample.truth]
        if split == "train":
            taught = {one["name"] for one in objects if not one["difficult"]}
        found = Counter(one["name"] for one in objects)
        empty = sum(not sample.truth for sample in some)
        difficult = sum(one["difficult"] for one in objects)
        columns.append([len(some), empty, len(objects), difficult, *(found[name] for name in names)])

    # A class that the training does not show is marked at the end of its line.
    untaught = {"    " + printable(name) for name in names if name not in taught}
    titles = ["images", "  without objects", "boxes", "  difficult",
              *("    " + printable(name) for name in names)]
    width = max(map(text_width, titles)) + 2
    print(" " * width + "".join(f"{split:>9}" for split in samples))
    for title, *counts in zip(titles, *columns):
        missing = "   none to learn from!" if title in untaught else ""
        cells = "".join(f"{count:>9}" for count in counts)
        print(title + " " * (width - text_width(title)) + cells + missing)
    marks = [one["difficult"] for sample in samples["train"] for one in sample.truth]
    for finding in all_difficult(marks, None):
        print(f"WARNING: of the objects to learn from {finding.detail}: train.py will stop.")


def current_lists(dataset, given, task="detection", ignore_labels=()):
    """The classes file and the lists that train.py uses, made when they are missing or of something else.

    given: {"classes_path", "train_list", "val_list", "test_list"}: what the user set,
    or None for the usual name.
    -> the same with every name filled in.
    """
    classes = given["classes_path"] or classes_name(dataset, task)
    names = {f"{split}_list": given[f"{split}_list"] or list_name(dataset, split, task)
             for split in ("train", "val", "test")}
    lists = [find(path) for name, path in names.items() if given[name] is None]

    # Lists that the user made are never touched.
    reason = reason_to_make(dataset, classes, lists)
    if reason is not None:
        print(reason, end="\n" * bool(reason))
        prepare(dataset, given["classes_path"], task=task, ignore_labels=ignore_labels)
    elif lists and files_are_newer(dataset, lists[0], task):
        words = dataset_words(dataset, task, given["classes_path"])
        print(f"NOTE: files came or went in {dataset} since its lists were made. To take that in: "
              f"python voc_annotation.py {words} new_split=True")
    return {"classes_path": classes, **names}


def reason_to_make(dataset, classes, lists):
    """Why the lists are made: a sentence, "" when they are not there yet;
    None when they are good as they are."""
    known, folder = find(classes), home(find(dataset))
    if not all(path.is_file() for path in [known, *lists]):
        return ""
    if any(path.stat().st_mtime < known.stat().st_mtime for path in lists):
        return f"{classes} was changed after the lists were made: they are made anew."
    if not all(made_of(path, folder) for path in lists):
        return f"The lists named like {dataset} belong to another folder: they are made anew, " \
               "the old ones are kept as .bak."
    return None


def files_are_newer(dataset, path, task):
    """Whether files were added or removed in a VOC folder after the list at path was made."""
    folder = home(find(dataset))
    parts = [part for part in (folder / "JPEGImages", folder / LABELS[task][0]) if part.exists()]
    return any(part.stat().st_mtime > path.stat().st_mtime for part in parts)
