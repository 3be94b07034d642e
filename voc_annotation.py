"""A VOC folder -> checked, split, written as list files, which train.py, get_map.py and get_miou.py read.

    python voc_annotation.py [name=value ...]

Expected: VOCdevkit/<name>/JPEGImages/a.jpg, and for detection Annotations/a.xml, for segmentation SegmentationClass/a.png; if you
have your own split, ImageSets/Main/train.txt ... (detection), ImageSets/Segmentation/train.txt ... (segmentation).
Written beside this script: <name>_train.txt, <name>_val.txt, <name>_test.txt; for segmentation <name>_segmentation_train.txt ...
Nothing of yours is changed or deleted.
"""
import utils  # noqa: F401, I001  first: it says in a sentence which package is missing
import ast
import unicodedata
from collections import Counter
from pathlib import Path

from utils.errors import UserError, did_you_mean
from utils.images import image_size
from utils.report import text_table
from utils.settings import find, override, shown
from utils.voc import (
    LABELS,
    classes_name,
    find_files,
    first_image,
    list_name,
    parse_xml,
    printable,
    read_classes,
    replace_text,
    write_list,
)
from utils.voc_folder import check_layout, other_suffixes, read_or_make_sets
from utils.voc_masks import describe_labels, mask_table, raise_all, read_masks, read_or_write_mask_classes, write_mask_list

dataset = "VOCdevkit/Shapes"    # VOC folder, or a list of them: ["VOCdevkit/VOC2007", "VOCdevkit/VOC2012"]    VOC 文件夹，或多个合并
task = None                     # "detection", "segmentation"; None: what the folder holds, Annotations, SegmentationClass or both    任务
classes_path = None             # class names, one per line; None: model_data/<name>_classes.txt, made if missing    类别文件
trainval_percent = 0.9          # share of the images for training and validation, the rest is test    训练集加验证集的比例
train_percent = 0.9             # share of those for training    其中训练集的比例
train_set = "train"             # list in ImageSets/Main that becomes <name>_train.txt    训练用的列表
val_set = "val"                 # ... <name>_val.txt, on which the best weights are chosen    验证用的列表
test_set = "test"               # ... <name>_test.txt, for get_map.py only    测试用的列表
new_split = False               # True: split anew; the old lists are kept as .bak    重新划分，旧列表另存为 .bak
seed = 0                        # another number is another split    随机种子
ignore_labels = []              # segmentation: mask values that are no class, like [0]; 255 never is    分割：不参与的标签值


def main():
    folders = ast.literal_eval(dataset) if dataset.startswith("[") else dataset
    if task not in (None, *LABELS):
        raise UserError(f"task={task!r}: expected None, " + " or ".join(f'"{name}"' for name in LABELS) + ".")
    for number, name in enumerate([task] if task else tasks_of(folders)):
        print(("\n" if number else "") + f"Lists for {name}:")
        prepare(folders, classes_path, trainval_percent, train_percent, train_set, val_set, test_set, new_split, seed, name, ignore_labels)


def tasks_of(dataset):
    """What the folder, the first of several, has labels for; detection, for its error message, when it has none."""
    folder = find(dataset if isinstance(dataset, (str, Path)) else dataset[0])
    return [task for task, (part, suffixes, *_) in LABELS.items() if find_files(folder / part, suffixes)] or ["detection"]


def prepare(dataset, classes_path=None, trainval_percent=0.9, train_percent=0.9, train_set="train", val_set="val", test_set="test",
            new_split=False, seed=0, task="detection", ignore_labels=()):
    """Write the list files of a VOC folder, or of several that are merged; the arguments are the variables above.

    Result: classes_path, dict train, val, test -> list file; all of them relative to the repository.
    """
    folders = [dataset] if isinstance(dataset, (str, Path)) else list(dataset)
    wanted = {"train": train_set, "val": val_set, "test": test_set}
    samples = {split: [] for split in wanted}
    for folder in folders:
        part = read_folder(find(folder), wanted, trainval_percent, train_percent, new_split, seed, task)
        for split in samples:
            samples[split] += part[split]
    if val_set == test_set:
        print(f'Warning: val_set and test_set are both "{val_set}": best.pth is then chosen on the test set and its result is too good.')
    replace_empty(samples)
    lists = {split: list_name(dataset, split, task) for split in wanted}
    if task == "segmentation":
        masks = dict(pair[1] for some in samples.values() for pair in some)
        classes_path, names = read_or_write_mask_classes(dataset, classes_path, list(masks.items()), ignore_labels)
        print("Share of the labelled pixels, and images with the class:\n" + "\n".join(text_table(mask_table(samples, names, ignore_labels))))
        print(f"What the values in the masks mean:\n{describe_labels(names, ignore_labels)}")
    else:
        classes_path, names = read_or_write_classes(dataset, classes_path, samples)
        print_table(samples, names)
        if not any(objects for _, objects in samples["train"]):
            raise UserError(f"{shown(find(folders[0]))}: no training image has an object. Are these the right Annotations?")
    for split, path in lists.items():
        if task == "segmentation":
            kept = write_mask_list(path, [(image, mask) for image, (mask, _) in samples[split]])
        else:
            kept = write_list(path, [(image, [(*o["box"], names.index(o["name"]), o["difficult"]) for o in objects])
                                     for image, objects in samples[split]])
        print(f"Written: {path}, {len(samples[split])} images" + (f" (the old one is now {shown(kept)})" if kept else ""))
    return classes_path, lists


def read_folder(folder, wanted, trainval_percent, train_percent, new_split, seed, task):
    """One VOC folder -> dict train, val, test -> list of (image path, objects), or of (image path, (mask path, pixels per value))."""
    images, labels = check_layout(folder, task)
    part, suffixes, kind, sets_folder = LABELS[task]
    labelled = images.keys() & labels.keys()
    sets = read_or_make_sets(folder, labelled, wanted.values(), trainval_percent, train_percent, seed, new_split, task)
    ids = {split: sets.get(name, []) for split, name in wanted.items()}
    for split in ("train", "val"):
        if wanted[split] not in sets:
            known = list(find_files(folder / "ImageSets" / sets_folder, (".txt",)))
            raise UserError(f"{shown(folder)}/ImageSets/{sets_folder} has no {wanted[split]}.txt, only {', '.join(known)}."
                            f'{did_you_mean(wanted[split], known)} Write it, or set {split}_set to one of these, or new_split = True.')
        check_ids(folder, wanted[split], ids[split], images, labels, task)
    check_ids(folder, wanted["test"], ids["test"], images, labels, task)
    listed = set().union(*ids.values())
    for count, what in ((len(images.keys() - labels.keys()), f"images without a label ({kind}) are left out"),
                        (len(labels.keys() - images.keys()), f"{kind}s have no image"),
                        (sum(other_suffixes(folder / part, suffixes).values()), f"files in {part} are no {suffixes[0]} and left out"),
                        (len(labelled - listed), "labelled images are in no list and left out (new_split=True takes them in)"),
                        (len(set(ids["train"]) & set(ids["val"])), "images are in the train and in the val list"),
                        (len({*ids["train"], *ids["val"]} & set(ids["test"])) * (wanted["val"] != wanted["test"]),
                         "images of the test list are in train or val too: the test result will be too good")):
        if count:
            print(f"{shown(folder)}: {count} {what}")
    truths = (read_masks if task == "segmentation" else read_objects)(folder, {stem: (images[stem], labels[stem]) for stem in sorted(listed)})
    return {split: [(images[stem], truths[stem]) for stem in ids[split]] for split in ids}


def check_ids(folder, name, ids, images, labels, task):
    """Error for ids of a list without an image or without a label file; the first ten are named."""
    part, _, label, sets_folder = LABELS[task]
    for files, kind, place in ((images, "image", "JPEGImages"), (labels, label, part)):
        lost = [stem for stem in ids if stem not in files]
        if lost:
            hint = " Write the names without the suffix." if Path(lost[0]).stem in files else did_you_mean(lost[0], files)
            raise UserError(f"{shown(folder)}/ImageSets/{sets_folder}/{name}.txt: {len(lost)} of {len(ids)} names have no {kind} in {place}: "
                            f"{', '.join(lost[:10])}{' ...' if len(lost) > 10 else ''}.{hint} "
                            "Take them out of the list, add the files, or set new_split = True.")


def read_objects(folder, files):
    """dict stem -> objects of dict stem -> (image path, xml path). All broken files are reported at once."""
    objects, errors, notes, first = {}, [], Counter(), {}
    for stem, (image, xml) in files.items():
        told = Counter()
        try:
            objects[stem] = parse_xml(xml, *image_size(image), told)
        except UserError as error:
            errors.append(str(error))
        for note in +told:
            first.setdefault(note, xml.name)
        notes += told
    raise_all(errors, folder)
    for note, what in (("swapped", "boxes had xmin > xmax or ymin > ymax; the corners are swapped"),
                       ("dropped", "boxes of less than 1 pixel inside the image are left out"),
                       ("size", "xml files give another <size> than their image has (resized or turned since?): look at their boxes")):
        if notes[note]:
            print(f"{shown(folder)}: {notes[note]} {what}, the first in {first[note]}")
    return objects


def replace_empty(samples):
    """An empty val is replaced by train, an empty test by val, so that every script runs; and that is said aloud."""
    if not samples["train"]:
        raise UserError("The train list is empty: there is nothing to train on.")
    for split, other, meaning in (("val", "train", "best.pth is chosen on images it has learnt"),
                                  ("test", "val", "the test result is of images on which best.pth was chosen")):
        if not samples[split]:
            samples[split] = samples[other]
            print(f"WARNING: there are no {split} images, the {other} images are taken for {split} as well: {meaning}. "
                  "Good for trying things out, not as a result.")


def read_or_write_classes(dataset, path, samples):
    """(classes_path, names); a derived file that is missing is written from the names found. Error: objects of unknown classes."""
    images = {image: objects for some in samples.values() for image, objects in some}
    found = Counter(o["name"] for objects in images.values() for o in objects)
    derived = path is None
    path = classes_name(dataset) if derived else str(path)
    if derived and not find(path).exists():
        if not found:
            raise UserError("There is no object in any annotation. Is this the right folder?")
        replace_text(find(path), "".join(name + "\n" for name in sorted(found)))
        print(f"Written: {path}, from the {len(found)} names in the annotations. Look for misspelled ones: "
              + ", ".join(f"{printable(name)} {found[name]}" for name in sorted(found)))
    names = read_classes(path)
    unknown = [name for name in sorted(found) if name not in names]
    if unknown:
        lines = [f"    {printable(name)}, {found[name]} objects.{did_you_mean(name, names)}" for name in unknown[:20]]
        raise UserError(f"{path} lacks {len(unknown)} class names of the annotations:\n" + "\n".join(lines) + "\n"
                        + f"Correct the xml files, add the names to {path}, or set classes_path = ... to the file of this dataset"
                        + (" (or delete it: it is then made anew)." if derived else "."))
    return path, names


def print_table(samples, names):
    """Images, boxes and objects per class of each split, in columns."""
    columns = []
    for some in samples.values():
        found = Counter(o["name"] for _, objects in some for o in objects)
        columns.append([len(some), sum(not objects for _, objects in some), sum(found.values()),
                        sum(o["difficult"] for _, objects in some for o in objects), *(found[name] for name in names)])
    titles = ["images", "  without objects", "boxes", "  difficult", *("    " + printable(name) for name in names)]
    width = max(map(text_width, titles)) + 2
    print(" " * width + "".join(f"{split:>9}" for split in samples))
    for title, *numbers in zip(titles, *columns):
        missing = "   none to learn from!" if title.startswith("    ") and not numbers[0] else ""
        print(title + " " * (width - text_width(title)) + "".join(f"{number:>9}" for number in numbers) + missing)


def text_width(text):
    """Width on a terminal: a Chinese character takes two columns."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def current_lists(dataset, given, task="detection", ignore_labels=()):
    """The classes file and the lists that train.py uses, made when they are missing or belong to something else.

    given: {"classes_path", "train_list", "val_list", "test_list"}: what the user set, or None for the usual name.
    -> the same with every name filled in.
    """
    classes = given["classes_path"] or classes_name(dataset, task)
    names = {f"{split}_list": given[f"{split}_list"] or list_name(dataset, split, task) for split in ("train", "val", "test")}
    lists = [find(path) for name, path in names.items() if given[name] is None]
    folder, known, labels = find(dataset), find(classes), LABELS[task][0]
    anew = None
    if not all(path.is_file() for path in [known, *lists]):
        anew = ""
    elif any(path.stat().st_mtime < known.stat().st_mtime for path in lists):
        anew = f"{classes} was changed after the lists were made: they are made anew."
    elif not all(find(first_image(one) or "").resolve().is_relative_to(folder.resolve()) for one in lists):
        anew = f"The lists named like {dataset} belong to another folder: they are made anew, the old ones are kept as .bak."
    elif lists and any(part.stat().st_mtime > lists[0].stat().st_mtime for part in (folder / "JPEGImages", folder / labels) if part.exists()):
        print(f"NOTE: files came or went in {dataset} since its lists were made. To take that in: "
              f"python voc_annotation.py dataset={dataset} new_split=True")
    if anew is not None:
        print(anew, end="\n" * bool(anew))
        prepare(dataset, given["classes_path"], task=task, ignore_labels=ignore_labels)
    return {"classes_path": classes, **names}


if __name__ == "__main__":
    override(globals())
    main()
