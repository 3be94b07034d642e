"""Any dataset a user brings -> class names and samples, by what its path is. docs/en/formats.md shows each
format with its folders.

VOC folders are read by utils/checks/folder.py; here are all the others. The formats have a file each:
yolo.py, coco.py, labelme.py, labelme_json.py, via.py, csv_table.py, kitti.py, visdrone.py, wider_face.py,
pairs.py (xml or masks beside or below the images), mask_key.py (colours and numbers of masks). What is not
read is named, see sniff.py.
"""
import os
from collections import Counter

from utils.errors import UserError
from utils.formats import coco, sniff
from utils.formats.coco import read_coco
from utils.formats.csv_table import read_csv, table_of
from utils.formats.foreign import SPLIT_NAMES, files_below, no_files
from utils.formats.kitti import read_kitti
from utils.formats.labelme import NO_CLASS, is_labelme, read_labelme
from utils.formats.labelme_json import has_label_names, read_labelme_json
from utils.formats.made_masks import make_masks, outline_jobs
from utils.formats.object_masks import has_object_masks, read_object_masks
from utils.formats.objects import BACKGROUND, IGNORE, area
from utils.formats.pairs import has_masks, key_file, read_mask_pairs, read_xml_pairs
from utils.formats.via import read_via
from utils.formats.visdrone import read_visdrone
from utils.formats.voc_folder import LABELS
from utils.formats.wider_face import read_wider_face
from utils.formats.yaml_file import read_yaml
from utils.formats.yolo import read_yolo
from utils.formats.yolo_lists import KEYS, class_files, yaml_root
from utils.images import SUFFIXES
from utils.settings import shown

LOOKED_AT = 50                  # json and text files that are opened to see whose they are
# for both tasks, for detection only, for segmentation only
OUTLINES = {"yolo": read_yolo, "coco": read_coco, "labelme": read_labelme, "via": read_via}
BOXES = {"xml": read_xml_pairs, "csv": read_csv, "kitti": read_kitti, "visdrone": read_visdrone,
         "wider_face": read_wider_face}
MASKS = {"masks": read_mask_pairs, "labelme_json": read_labelme_json, "object_masks": read_object_masks}
DATA_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


def recognise(path, task=None, palette=None):
    """What a path is: "voc", a key of OUTLINES, BOXES or MASKS; and the path to read. Of large files only
    the beginning is read.

    task, palette: a VOC folder is "masks" for segmentation when a file says what the colours or numbers of
    its masks mean.
    """
    if path.is_file():
        return recognise_file(path), path

    # A VOC folder has a name that no other format uses; a folder that does not exist gets VOC's error.
    if is_voc(path) or not path.is_dir():
        return ("masks" if task == "segmentation" and key_file(path, palette) else "voc"), path
    if any(next(path.glob(f"{below}/JPEGImages"), None) for below in ("*", "*/*")):
        return "voc", path                                  # one or two levels too high: the error says where

    # A data.yaml says that the folder is YOLO, and a JSON says by its content whose it is.
    if file := data_yaml(path):
        return "yolo", file
    texts = files_below(path, (".json", ".xml", ".txt", ".csv", ".tsv"))
    jsons = [file for file in texts if file.suffix.lower() == ".json"]
    for file in jsons[:LOOKED_AT]:
        if coco.is_instances(file):
            return "coco", path
        if is_labelme(file):
            return "labelme", path
        if sniff.format_of(file) == "via":
            return "via", path
    if any(coco.is_keypoints(file) for file in jsons[:LOOKED_AT]):
        return "coco", path

    # What is left has no file that says it: images with masks, xml files or text files of boxes.
    voc = (path / "JPEGImages").is_dir()
    if not voc and has_label_names(path):
        return "labelme_json", path
    if not voc and task != "detection":
        for kind, there in (("masks", has_masks), ("object_masks", has_object_masks)):
            if there(path):
                return kind, path
    if not voc and holds_voc([file for file in texts if file.suffix.lower() == ".xml"]) and files_below(path):
        return "xml", path
    rows = [file for file in texts if file.suffix.lower() in (".txt", ".csv", ".tsv")]
    if kind := recognise_texts(rows, path):
        return kind, path
    return ("masks" if not voc and has_masks(path) else "voc"), path


def is_voc(path):
    """Whether a folder has JPEGImages and, where VOC has them, labels."""
    if not (path / "JPEGImages").is_dir():
        return False
    places = [(path / part, suffixes) for part, suffixes, *_ in LABELS.values() if (path / part).is_dir()]
    return any(name.lower().endswith(suffixes) for place, suffixes in places for name in os.listdir(place))


def holds_voc(files):
    """Whether some xml files are VOC's, or may be: known ones of other programs are not read."""
    return any(sniff.format_of(file) in ("voc", None) for file in files[:LOOKED_AT])


def recognise_file(path):
    """What a file is: by its suffix, JSON and text by their content. Errors: none that is read."""
    suffix = path.suffix.lower()
    if suffix in (".yaml", ".yml"):
        return "yolo"
    kind = sniff.format_of(path)
    if suffix == ".json":
        return "via" if kind == "via" else "coco"
    if kind in ("via", "wider_face"):
        return kind
    if suffix in (".csv", ".tsv", ".txt") and table_of(path):
        return "csv"

    # Named, with the way out, if it is known at all.
    if kind == "archive":
        raise UserError(f"{shown(path)} is an archive. {sniff.unpack(path)}.")
    looks = ""
    if kind:
        looks = f" This one looks like {sniff.FORMATS[kind].title}. {sniff.way_out(kind, path)}."
    raise UserError(f"{shown(path)} is not a dataset: expected a folder, a data.yaml (YOLO), a .json file "
                    f"(COCO, VIA) or a .csv file (a table of boxes).{looks}")


def recognise_texts(files, folder):
    """What text files beside or below images are: "yolo", a key of BOXES, "via", or None."""
    tables = [file for file in files if file.suffix.lower() != ".txt"]
    files = [*tables, *[file for file in files if file not in tables][:LOOKED_AT]]
    found = Counter(sniff.format_of(file) for file in files)
    for kind in ("kitti", "visdrone"):
        if found[kind] > found["yolo"]:
            return kind

    # YOLO's labels are only numbers: a list of class names says that they are YOLO's.
    if class_files(folder) and files_below(folder):
        return "yolo"
    for kind in ("wider_face", "via"):
        if found[kind]:
            return kind
    return "csv" if any(table_of(file) for file in files) else None


def data_yaml(folder):
    """The data.yaml of a folder; else its only yaml file that has names and train, or None."""
    files = [file for file in sorted(folder.iterdir())
             if file.suffix.lower() in (".yaml", ".yml") and file.is_file()]
    for name in DATA_YAML:
        for file in files:
            if file.name == name:
                return file

    # pets.yaml, say. Files of other programs (a docker-compose.yml) are passed over.
    good = []
    for file in files:
        try:
            if {"names", "train"} <= {SPLIT_NAMES.get(key.lower(), key) for key in read_yaml(file, KEYS)}:
                good.append(file)
        except UserError:
            continue                                        # not YAML as we read it
    if len(good) > 1:
        raise UserError(f"{shown(folder)} has several datasets: set dataset to one of "
                        f"{', '.join(shown(file) for file in good)}.")
    return good[0] if good else None


def foreign_tasks(path, palette=None, say=print):
    """The tasks for which a dataset that is no VOC folder has labels, when the user named no task."""
    kind, _ = recognise(path, palette=palette)
    if kind in OUTLINES:
        say(f"{shown(path)}: used for detection ({kind}). To make masks from its outlines: "
            "task=segmentation")
    return ["segmentation"] if kind in MASKS else ["detection"]


def home(path):
    """The folder of the images of a dataset."""
    if path.suffix.lower() in (".yaml", ".yml") and path.is_file():
        return yaml_root(path)
    root = coco.data_root(path)
    root = root.parent if root.is_file() else root

    # The folder of the labels alone was given: the images are beside it.
    walk = os.walk(root, followlinks=True)
    has_images = any(name.lower().endswith(SUFFIXES) for _, _, names in walk for name in names)
    return root if has_images or not root.is_dir() else root.parent


def read_foreign(kind, path, task, findings, palette=None):
    """A dataset that is no VOC folder -> class names (None: the masks do not tell), dict list name -> list of
    sweep.Sample, all that are usable.

    kind, path: as `recognise` says.  findings: gets everything that is wrong with single images and labels.
    Errors: the dataset as a whole cannot be read.
    """
    findings += no_files(home(path))
    if task == "segmentation":
        return read_segmentation(kind, path, findings, palette)
    if kind in MASKS:
        raise UserError(f"{shown(path)} holds masks: it is a dataset for segmentation. Set "
                        "task=segmentation.")
    names, lists = (OUTLINES | BOXES)[kind](path, findings)
    return names, with_truths(lists, lambda sample: plain_objects(sample.truth))


def with_truths(lists, truth_of):
    """dict list name -> samples, each with truth_of(sample) as its truth."""
    return {split: [sample._replace(truth=truth_of(sample)) for sample in some]
            for split, some in lists.items()}


def plain_objects(objects):
    """The objects without their outlines, and without those that are no class."""
    return [{key: thing[key] for key in ("name", "box", "difficult")}
            for thing in objects if thing["name"] not in NO_CLASS]


def largest_first(objects):
    return sorted(objects, key=lambda thing: -area(thing["box"]))


def read_segmentation(kind, path, findings, palette=None):
    """As read_foreign, with the mask of each image as its label."""
    if kind in MASKS:
        names, lists, jobs = MASKS[kind](path, findings, palette)
    elif kind in OUTLINES:
        names, lists = OUTLINES[kind](path, findings)

        # Small objects are painted over large ones; in labelme people drew the upper shape later.
        if kind != "labelme":
            lists = with_truths(lists, lambda sample: largest_first(sample.truth))
        names = [name for name in names if name.lower() not in BACKGROUND]
        jobs = outline_jobs(lists, names, findings, ignored=(IGNORE,), empty=BACKGROUND)
        names = ["background", *names]
    else:
        title = sniff.FORMATS["voc" if kind == "xml" else kind].title
        raise UserError(f"{shown(path)} holds boxes only ({title}): it is a dataset for detection, not "
                        "for segmentation.")
    if jobs is None:                                        # the masks hold class numbers already
        return names, lists

    # An image whose mask could not be made is in the findings, and in no list.
    made = make_masks(path if path.is_dir() else path.parent, jobs, findings)
    result = {}
    for split, some in lists.items():
        result[split] = []
        for sample in some:
            if sample.image in made:
                mask, counts = made[sample.image]
                result[split].append(sample._replace(label=mask, truth=counts))
    return names, result
