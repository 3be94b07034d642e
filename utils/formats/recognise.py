"""Any data set a user brings -> class names and samples, by what its path is. docs/en/formats.md shows each with its folders.

VOC folders are read by utils/checks/folder.py; here are all the others. The formats have a file each: yolo.py, coco.py, labelme.py,
pairs.py (xml or masks beside or beneath the images), mask_key.py (colours and numbers of masks).
"""
from utils.errors import UserError
from utils.formats import coco
from utils.formats.coco import read_coco
from utils.formats.foreign import files_below
from utils.formats.labelme import NO_CLASS, is_labelme, read_labelme
from utils.formats.made_masks import make_masks, outline_jobs
from utils.formats.objects import area
from utils.formats.pairs import has_masks, key_file, read_mask_pairs, read_xml_pairs
from utils.formats.yaml_file import read_yaml
from utils.formats.yolo import CLASSES, KEYS, read_yolo, yaml_root
from utils.settings import shown

LOOKED_AT = 50                                              # json files, to see whose they are
OUTLINES = {"yolo": read_yolo, "coco": read_coco, "labelme": read_labelme}      # for both tasks
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
    if file := data_yaml(path):
        return "yolo", file
    texts = files_below(path, (".json", ".xml", ".txt"))
    jsons, xmls = ([file for file in texts if file.suffix.lower() == suffix] for suffix in (".json", ".xml"))
    for file in jsons[:LOOKED_AT]:
        if coco.is_instances(file):
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


def foreign_tasks(path, palette=None):
    """The tasks a data set that is no VOC folder has labels for, without being asked for one."""
    kind, _ = recognise(path, palette=palette)
    if kind in OUTLINES:
        print(f"{shown(path)}: taken as boxes ({kind}). To make masks of the outlines, if it has some: task=segmentation")
    return ["segmentation"] if kind == "masks" else ["detection"]


def home(path):
    """The folder in which the images of a data set lie: what its lists lead to."""
    if path.suffix.lower() in (".yaml", ".yml") and path.is_file():
        return yaml_root(path)
    return coco.home(path)


def read_foreign(kind, path, task, findings, palette=None):
    """A data set that is no VOC folder -> class names (None: the masks do not tell), dict list name -> list of look.Sample, all that are usable.

    kind, path: as `recognise` says.  findings: a list that gets all that is wrong with single images and labels.
    Errors: the whole cannot be read.
    """
    if task == "segmentation":
        return read_segmentation(kind, path, findings, palette)
    if kind == "masks":
        raise UserError(f"{shown(path)} holds masks: it is a data set for segmentation. Set task=segmentation.")
    names, lists = (read_xml_pairs if kind == "xml" else OUTLINES[kind])(path, findings)
    return names, {split: [sample._replace(truth=plain(sample.truth)) for sample in some] for split, some in lists.items()}


def plain(objects):
    """Without outlines, and without what is no object."""
    return [{key: thing[key] for key in ("name", "box", "difficult")} for thing in objects if thing["name"] not in NO_CLASS]


def read_segmentation(kind, path, findings, palette=None):
    if kind == "masks":
        names, lists, jobs = read_mask_pairs(path, findings, palette)
    elif kind in OUTLINES:
        names, lists = OUTLINES[kind](path, findings)
        if kind != "labelme":                               # there later shapes cover earlier ones, as they were drawn
            lists = {split: [sample._replace(truth=sorted(sample.truth, key=lambda thing: -area(thing["box"]))) for sample in some]
                     for split, some in lists.items()}
        names = [name for name in names if name.lower() not in BACKGROUND]
        jobs = outline_jobs(lists, names, findings, ignored=("__ignore__",), empty=BACKGROUND)
        names = ["background", *names]
    else:
        raise UserError(f"{shown(path)} holds boxes only (VOC xml files): it is a data set for detection, not for segmentation.")
    if jobs is None:
        return names, lists
    made = make_masks(path if path.is_dir() else path.parent, jobs, findings)
    return names, {split: [sample._replace(label=made[sample.image][0], truth=made[sample.image][1]) for sample in some if sample.image in made]
                   for split, some in lists.items()}
