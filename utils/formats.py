"""Any data set a user brings -> class names and samples, by what its path is. docs/en/formats.md shows each with its folders.

VOC folders are read by voc_annotation.py itself; here are all the others. The formats have a file each: yolo_format.py, coco_format.py,
labelme_format.py, pair_format.py (xml or masks beside or beneath the images), mask_key.py (colours and numbers of masks).
"""
from collections import Counter

import numpy as np

from utils import coco_format
from utils.coco_format import read_coco
from utils.errors import UserError
from utils.foreign import deal, files_below, raise_all
from utils.images import image_size, open_mask
from utils.labelme_format import NO_CLASS, is_labelme, read_labelme
from utils.look import sweep
from utils.made_masks import make_masks, outline_jobs
from utils.pair_format import has_masks, key_file, read_mask_pairs, read_xml_pairs
from utils.plain_yaml import read_yaml
from utils.settings import shown
from utils.stratify import classes_in
from utils.voc import check_id, find_files, find_images, read_ids
from utils.voc_xml import area, parse_xml
from utils.yolo_format import CLASSES, KEYS, read_yolo, yaml_root

LOOKED_AT = 50                                              # json files, to see whose they are
OUTLINES = {"yolo": read_yolo, "coco": read_coco, "labelme": read_labelme}      # for both tasks
NOTES = {"swapped": "boxes had reversed corners, which are put right",
         "dropped": "boxes of less than 1 pixel inside the image are left out",
         "size": "images have another size than the annotations say (resized or turned since?): look at their boxes"}
BACKGROUND = ("background", "_background_")                # outlines of these classes are no objects
DATA_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


def recognise(path, task=None, palette=None):
    """What a path is: "voc", "yolo", "coco", "labelme", "xml", "masks", and the path to read. Nothing is opened but small files.

    task, palette: a VOC folder is "masks" for segmentation when a file says what the colours or numbers of its masks mean.
    """
    if path.is_file():
        kinds = {".yaml": "yolo", ".yml": "yolo", ".json": "coco"}
        if path.suffix.lower() not in kinds:
            raise UserError(f"{shown(path)} is no data set: expected a folder, a data.yaml (YOLO) or a .json file (COCO).")
        return kinds[path.suffix.lower()], path
    if (path / "JPEGImages").is_dir() or not path.is_dir():
        return ("masks" if task == "segmentation" and key_file(path, palette) else "voc"), path
    if any(next(path.glob(f"{below}/JPEGImages"), None) for below in ("*", "*/*")):
        return "voc", path                                  # one or two levels too high: the error says where
    if yaml := data_yaml(path):
        return "yolo", yaml
    texts = files_below(path, (".json", ".xml", ".txt"))
    jsons, xmls = ([file for file in texts if file.suffix.lower() == suffix] for suffix in (".json", ".xml"))
    for file in jsons[:LOOKED_AT]:
        if coco_format.is_instances(file):
            return "coco", path
        if is_labelme(file):
            return "labelme", path
    if has_masks(path) and task != "detection":
        return "masks", path
    if xmls and files_below(path):
        return "xml", path
    if any(file.name in CLASSES for file in [*texts, *files_below(path, CLASSES)]) and files_below(path):
        return "yolo", path
    return ("masks" if has_masks(path) else "voc"), path


def data_yaml(folder):
    """The data.yaml of a folder; else its only yaml file that has names and train. None: there is none."""
    files = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in (".yaml", ".yml") and file.is_file()]
    usual = next((file for name in DATA_YAML for file in files if file.name == name), None)
    if usual:
        return usual
    good = []
    for file in files:
        try:
            good += [file] if {"names", "train"} <= read_yaml(file, KEYS).keys() else []
        except UserError:
            continue                                        # another program's
    if len(good) > 1:
        raise UserError(f"{shown(folder)} has several data sets: set dataset to one of {', '.join(shown(file) for file in good)}.")
    return good[0] if good else None


def tasks_of(path, palette=None):
    """The tasks a data set that is no VOC folder has labels for, without being asked for one."""
    kind, _ = recognise(path, palette=palette)
    if kind in OUTLINES:
        print(f"{shown(path)}: taken as boxes ({kind}). To make masks of the outlines, if it has some: task=segmentation")
    return ["segmentation"] if kind == "masks" else ["detection"]


def home(path):
    """The folder in which the images of a data set lie: what its lists lead to."""
    if path.suffix.lower() in (".yaml", ".yml") and path.is_file():
        return yaml_root(path)
    return coco_format.home(path)


def read(path, wanted, task, trainval_percent=0.9, train_percent=0.9, new_split=False, seed=0, stratify=False, palette=None):
    """A data set that is no VOC folder -> class names (None: the masks do not tell), dict train, val, test -> samples.

    A sample is (image path, objects), for segmentation (image path, (mask path, pixels per value (256,))).
    wanted: dict train, val, test -> name of the list to take.  The others are variables of voc_annotation.py.
    """
    kind, place = recognise(path, task, palette)
    share = {"trainval_percent": trainval_percent, "train_percent": train_percent, "seed": seed, "new_split": new_split, "stratify": stratify}
    names, lists, truth = (read_segmentation if task == "segmentation" else read_detection)(kind, place, palette)
    root = place if place.is_dir() else place.parent
    if task == "segmentation":
        dealt = deal(lists, root, wanted, **share, classes_of=lambda sample: classes_in(truth[sample[0]][1]))
        return names, {split: [(image, truth[image]) for image, _ in some] for split, some in dealt.items()}
    return names, deal(lists, root, wanted, **share, classes_of=lambda sample: classes_in(sample[1]))


def read_detection(kind, path, palette=None):
    """-> class names, dict list name -> [(image path, objects)], None."""
    if kind == "masks":
        raise UserError(f"{shown(path)} holds masks: it is a data set for segmentation. Set task=segmentation.")
    if kind == "voc":
        return *read_voc(path), None
    notes = Counter()
    names, lists = read_xml_pairs(path) if kind == "xml" else OUTLINES[kind](path, notes)
    tell(notes, path)
    plain = {split: [(image, [{key: thing[key] for key in ("name", "box", "difficult")} for thing in objects if thing["name"] not in NO_CLASS])
                     for image, objects in some] for split, some in lists.items()}
    return names, plain, None


def read_segmentation(kind, path, palette=None):
    """-> class names or None, dict list name -> [(image path, ...)], dict image path -> (mask path, pixels per value)."""
    root = path if path.is_dir() else path.parent
    if kind == "masks":
        names, lists, jobs = read_mask_pairs(path, palette)
        if jobs is None:
            return None, lists, count_masks([pair for some in lists.values() for pair in some], root)
    elif kind in OUTLINES:
        notes = Counter()
        names, lists = OUTLINES[kind](path, notes)
        tell(notes, path)
        if kind != "labelme":                               # there later shapes cover earlier ones, as they were drawn
            lists = {split: [(image, sorted(objects, key=lambda thing: -area(thing["box"]))) for image, objects in some]
                     for split, some in lists.items()}
        names = [name for name in names if name.lower() not in BACKGROUND]
        jobs = outline_jobs(lists, names, ignored=("__ignore__",), empty=BACKGROUND)
        names = ["background", *names]
    else:
        raise UserError(f"{shown(path)} holds boxes only (VOC xml files): it is a data set for detection, not for segmentation.")
    return names, lists, make_masks(root, jobs)


def tell(notes, path):
    for note, what in NOTES.items():
        if notes[note]:
            print(f"{shown(path)}: {notes[note]} {what}")


def count_masks(pairs, root):
    """Masks that hold labels already: dict image path -> (mask path, pixels per value (256,)). All broken ones are named at once."""
    def one(image, mask):
        try:
            values, size = open_mask(mask), image_size(image)
            if values.shape[::-1] != tuple(size):
                raise UserError(f"{shown(mask)} is {values.shape[1]} x {values.shape[0]} pixels, but its image is {size[0]} x {size[1]}.")
            return mask, np.bincount(values.ravel(), minlength=256)
        except UserError as error:
            return str(error)

    found = dict(zip((image for image, _ in pairs), sweep(one, pairs, "Reading masks")))
    raise_all([result for result in found.values() if isinstance(result, str)], root)
    return found


def read_voc(folder):
    """A VOC folder's boxes without writing anything into it -> class names (sorted), dict list name -> [(image path, objects)]."""
    images, xmls = find_images(folder / "JPEGImages"), find_files(folder / "Annotations", (".xml",))
    files = {stem: xmls[stem] for stem in images.keys() & xmls.keys()}
    if not files:
        raise UserError(f"{shown(folder)}: no image of JPEGImages has an xml file in Annotations.")
    errors, objects = [], {}
    for stem in sorted(files):
        try:
            objects[stem] = parse_xml(files[stem], *image_size(images[stem]))
        except UserError as error:
            errors.append(str(error))
    raise_all(errors, folder)
    sets, lists = folder / "ImageSets" / "Main", {}
    for split in ("train", "val", "test"):
        if (sets / f"{split}.txt").is_file():
            stems = [check_id(stem, shown(sets / f"{split}.txt")) for stem in read_ids(sets / f"{split}.txt")]
            lists[split] = [(images[stem], objects[stem]) for stem in stems if stem in objects]
    if "train" not in lists:
        lists = {"all": [(images[stem], objects[stem]) for stem in objects]}
    return sorted({thing["name"] for some in objects.values() for thing in some}), lists
