"""Any dataset a user brings -> class names and samples, by what its path is. docs/en/formats.md shows each
format with its folders.

VOC folders are read by utils/checks/folder.py; here are all the others. The formats have a file each:
yolo.py, coco.py, labelme.py, labelme_json.py, pairs.py (xml or masks beside or below the images), mask_key.py
(colours and numbers of masks).
"""
from utils.errors import UserError
from utils.formats import coco
from utils.formats.coco import read_coco
from utils.formats.foreign import files_below
from utils.formats.labelme import NO_CLASS, is_labelme, read_labelme
from utils.formats.labelme_json import has_label_names, read_labelme_json
from utils.formats.made_masks import make_masks, outline_jobs
from utils.formats.objects import area
from utils.formats.pairs import has_masks, key_file, read_mask_pairs, read_xml_pairs
from utils.formats.yaml_file import read_yaml
from utils.formats.yolo import CLASSES, KEYS, read_yolo, yaml_root
from utils.settings import shown

LOOKED_AT = 50                  # json files that are opened to see whose they are
OUTLINES = {"yolo": read_yolo, "coco": read_coco, "labelme": read_labelme}      # for both tasks
BACKGROUND = ("background", "_background_")                 # outlines of these classes are no objects
DATA_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


def recognise(path, task=None, palette=None):
    """What a path is: "voc", "yolo", "coco", "labelme", "xml", "masks", and the path to read. Only small
    files are opened.

    task, palette: a VOC folder is "masks" for segmentation when a file says what the colours or numbers of
    its masks mean.
    """
    # A file: its suffix decides.
    if path.is_file():
        kinds = {".yaml": "yolo", ".yml": "yolo", ".json": "coco"}
        if path.suffix.lower() not in kinds:
            raise UserError(f"{shown(path)} is not a dataset: expected a folder, a data.yaml (YOLO) or a "
                            ".json file (COCO).")
        return kinds[path.suffix.lower()], path

    # A VOC folder has a name that no other format uses; a folder that does not exist gets VOC's error.
    if (path / "JPEGImages").is_dir() or not path.is_dir():
        return ("masks" if task == "segmentation" and key_file(path, palette) else "voc"), path
    if any(next(path.glob(f"{below}/JPEGImages"), None) for below in ("*", "*/*")):
        return "voc", path                                  # one or two levels too high: the error says where

    # A data.yaml says that the folder is YOLO, and a JSON says by its content whose it is.
    if file := data_yaml(path):
        return "yolo", file
    texts = files_below(path, (".json", ".xml", ".txt"))
    jsons = [file for file in texts if file.suffix.lower() == ".json"]
    for file in jsons[:LOOKED_AT]:
        if coco.is_instances(file):
            return "coco", path
        if is_labelme(file):
            return "labelme", path
    if any(coco.is_keypoints(file) for file in jsons[:LOOKED_AT]):
        return "coco", path

    # What is left has no file that says it: images with masks, xml files or YOLO labels beside them.
    if has_label_names(path):
        return "masks", path
    if has_masks(path) and task != "detection":
        return "masks", path
    if any(file.suffix.lower() == ".xml" for file in texts) and files_below(path):
        return "xml", path
    if any(file.name in CLASSES for file in [*texts, *files_below(path, CLASSES)]) and files_below(path):
        return "yolo", path
    return ("masks" if has_masks(path) else "voc"), path


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
            if {"names", "train"} <= read_yaml(file, KEYS).keys():
                good.append(file)
        except UserError:
            continue                                        # not YAML as we read it
    if len(good) > 1:
        raise UserError(f"{shown(folder)} has several datasets: set dataset to one of "
                        f"{', '.join(shown(file) for file in good)}.")
    return good[0] if good else None


def foreign_tasks(path, palette=None):
    """The tasks for which a dataset that is no VOC folder has labels, when the user named no task."""
    kind, _ = recognise(path, palette=palette)
    if kind in OUTLINES:
        print(f"{shown(path)}: used for detection ({kind}). To make masks from its outlines: "
              "task=segmentation")
    return ["segmentation"] if kind == "masks" else ["detection"]


def home(path):
    """The folder of the images of a dataset."""
    if path.suffix.lower() in (".yaml", ".yml") and path.is_file():
        return yaml_root(path)
    return coco.data_root(path)


def read_foreign(kind, path, task, findings, palette=None):
    """A dataset that is no VOC folder -> class names (None: the masks do not tell), dict list name -> list of
    sweep.Sample, all that are usable.

    kind, path: as `recognise` says.  findings: gets everything that is wrong with single images and labels.
    Errors: the dataset as a whole cannot be read.
    """
    if task == "segmentation":
        return read_segmentation(kind, path, findings, palette)
    if kind == "masks":
        raise UserError(f"{shown(path)} holds masks: it is a dataset for segmentation. Set "
                        "task=segmentation.")
    read_boxes = read_xml_pairs if kind == "xml" else OUTLINES[kind]
    names, lists = read_boxes(path, findings)
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
    if kind == "masks":
        if has_label_names(path):
            names, lists, jobs = read_labelme_json(path, findings)
        else:
            names, lists, jobs = read_mask_pairs(path, findings, palette)
    elif kind in OUTLINES:
        names, lists = OUTLINES[kind](path, findings)

        # Small objects are painted over large ones; in labelme people drew the upper shape later.
        if kind != "labelme":
            lists = with_truths(lists, lambda sample: largest_first(sample.truth))
        names = [name for name in names if name.lower() not in BACKGROUND]
        jobs = outline_jobs(lists, names, findings, ignored=("__ignore__",), empty=BACKGROUND)
        names = ["background", *names]
    else:
        raise UserError(f"{shown(path)} holds boxes only (VOC xml files): it is a dataset for detection, not "
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
