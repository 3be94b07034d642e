"""Which format a label file has, by its first lines: also of those that are not read here, so that nobody is
told "no labels" whose labels are only in another format.

    format_of(Path("a.json"))  ->  "via"                  a key of FORMATS, None: not known
    what_lies_there(folder)    ->  lines for people: which files, what they look like, how sure that is, and
                                   the way out
"""
import os
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

from utils.images import SUFFIXES
from utils.lists import NUMBER
from utils.settings import counted, shown
from utils.system.files import decode_text, printable

MADE = "plainvision_masks"      # the masks that are made here, see made_masks.py: nobody's labels
START = 1_000_000               # bytes of a file that are looked at
LINES = 20                      # lines of a text file that are looked at
MOST = 20_000                   # files and folders that are walked through
OPENED = 20                     # files of a kind that are opened
MASK_FOLDERS = ("masks", "mask", "mask_images", "instance_masks")
READMES = re.compile(r"readme|licen[sc]e|requirements|changelog|notes?\b|version|citation", re.IGNORECASE)
GIVE_FILE = 'It can be read: python voc_annotation.py "dataset={file}"'
GIVE_FOLDER = 'It can be read: python voc_annotation.py "dataset={folder}"'
AS_COCO = "Export it as COCO from that program"
TABLE = "Write its boxes as a table labels.csv with the columns filename,class,xmin,ymin,xmax,ymax beside " \
        "the images"
FOUR_CORNERS = f"{TABLE}, with the smallest and the largest x and y of the corners; the angle is lost"
ELSEWHERE = "Export the dataset as COCO or Pascal VOC instead, where it came from"


class Format(NamedTuple):
    title: str
    way: str                    # what to do; {file}: the first such file, {folder}: its folder


FORMATS = {
    # read
    "via": Format("VIA (VGG Image Annotator 1 or 2)", GIVE_FILE),
    "csv": Format("a table of boxes", GIVE_FILE),
    "kitti": Format("KITTI", GIVE_FOLDER),
    "visdrone": Format("VisDrone", GIVE_FOLDER),
    "wider_face": Format("a list of WIDER FACE", GIVE_FILE),
    "labelme": Format("labelme", GIVE_FOLDER),
    "coco": Format("COCO", GIVE_FILE),
    "voc": Format("Pascal VOC", "Call the folder of the xml files Annotations and that of the images "
                  "JPEGImages, and give the folder above both"),
    "yolo": Format("YOLO", "Write a classes.txt with the class names, in the order of their numbers, beside "
                   "the labels"),
    "list": Format("a list of this project or of keras-yolo3", "python train.py train_list={file} "
                   "val_list={file} classes_path=... trains from it"),
    # known: text
    "dota": Format("DOTA (rotated boxes)", FOUR_CORNERS),
    "icdar": Format("ICDAR (text in four corners)", FOUR_CORNERS),
    "mot": Format("MOT (tracks in a video)", f"{TABLE}; a line is frame, track, left, top, width, height"),
    "oid": Format("OIDv4 ToolKit", f"{TABLE}; a line is class, xmin, ymin, xmax, ymax"),
    "nwpu": Format("NWPU VHR-10", f"{TABLE}; a line is (xmin,ymin),(xmax,ymax),class"),
    "fddb": Format("FDDB (faces as ellipses)", f"{TABLE}; a line is half axes, angle, centre x and y"),
    # known: JSON
    "via3": Format("VIA 3", f"Load it in VIA 3, export it as CSV or COCO, or: {TABLE}"),
    "bdd100k": Format("BDD100K (Scalabel)", f"{TABLE}; a box2d is x1, y1, x2, y2"),
    "createml": Format("CreateML", f"{TABLE}; x and y are the centre of a box"),
    "supervisely": Format("Supervisely", f"{AS_COCO} (its app Export to COCO)"),
    "labelbox": Format("Labelbox", f"{TABLE}; a box is top, left, height, width"),
    "superannotate": Format("SuperAnnotate", AS_COCO),
    "darwin": Format("V7 Darwin", AS_COCO),
    "labelstudio": Format("Label Studio's own JSON", AS_COCO),
    "cityscapes": Format("Cityscapes polygons", "Give the folder above leftImg8bit and gtFine with the masks "
                         "*_gtFine_labelIds.png, and task=segmentation"),
    "vott": Format("VoTT", "Export it as Pascal VOC or CSV from VoTT"),
    "datumaro": Format("Datumaro", f"{AS_COCO} (datum convert -f coco)"),
    "manifest": Format("a manifest of SageMaker Ground Truth", f"{TABLE}; a box is left, top, width, height"),
    "crowdhuman": Format("CrowdHuman", f"{TABLE}; an fbox is left, top, width, height"),
    "coco_results": Format("results of a detector in COCO's form, which are no labels",
                           "Give the file with images, annotations and categories instead"),
    "coco_other": Format("COCO without boxes (captions, key points, panoptic)",
                         "Give its instances_*.json instead"),
    # known: XML
    "colabeler": Format("Colabeler (精灵标注助手)", "Export it as Pascal VOC from that program"),
    "cvat": Format("CVAT's own XML", f"{AS_COCO}: Export task dataset, COCO 1.0"),
    "dlib": Format("dlib (imglab)", f"{TABLE}; a box is top, left, width, height"),
    "labelme_web": Format("the LabelMe of MIT (polygons)", FOUR_CORNERS),
    "detrac": Format("UA-DETRAC", f"{TABLE}; a box is left, top, width, height"),
    "hrsc": Format("HRSC2016", f"{TABLE}; box_xmin to box_ymax are the upright box"),
    # known: not opened
    "tfrecord": Format("TFRecord (TensorFlow)", ELSEWHERE),
    "mxnet": Format("MXNet records", ELSEWHERE),
    "matlab": Format("MATLAB", f"{TABLE}; scipy.io.loadmat reads these files"),
    "parquet": Format("Parquet (Hugging Face)", f"{TABLE}; pandas.read_parquet reads these files"),
    "numpy": Format("numpy arrays", f"{TABLE}; numpy.load reads these files"),
    "pickle": Format("pickles, which are never opened here because they can do harm", TABLE),
    "archive": Format("an archive", ""),
    "": Format("labels of a format that is not known here", TABLE),
}
BY_SUFFIX = {".tfrecord": "tfrecord", ".tfrecords": "tfrecord", ".record": "tfrecord", ".mat": "matlab",
             ".parquet": "parquet", ".npy": "numpy", ".npz": "numpy", ".pkl": "pickle", ".pickle": "pickle",
             ".rec": "mxnet", ".odgt": "crowdhuman", ".manifest": "manifest", ".vott": "vott"}
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".rar", ".7z")
ONLY_NAMED = (*BY_SUFFIX, *ARCHIVES)                        # told by the suffix, never opened
LABELS = (".json", ".xml", ".txt", ".csv", ".tsv", ".jsonl", ".ndjson", ".ann", ".dat", ".idl", ".lst", ".h5",
          ".hdf5", ".pts", ".lif", ".eaf")

# What a JSON must hold all of, the first that fits.
JSON = (("via", '"_via_img_metadata"'), ("via", '"shape_attributes"', '"region_attributes"'),
        ("via", '"file_attributes"', '"regions"'), ("via3", '"config"', '"metadata"', '"view"'),
        ("labelme", '"shapes"', '"imagePath"'), ("labelstudio", '"rectanglelabels"'),
        ("labelstudio", '"polygonlabels"'), ("labelstudio", '"brushlabels"'),
        ("coco", '"images"', '"annotations"', '"categories"', '"bbox"'),
        ("coco_other", '"images"', '"annotations"'), ("bdd100k", '"box2d"'), ("bdd100k", '"poly2d"'),
        ("createml", '"annotations"', '"coordinates"'), ("supervisely", '"classTitle"'),
        ("supervisely", '"objects"', '"exterior"'), ("labelbox", '"data_row"'),
        ("labelbox", '"Labeled Data"'),
        ("superannotate", '"instances"', '"className"'), ("darwin", '"annotations"', '"bounding_box"'),
        ("cityscapes", '"imgHeight"', '"polygon"'), ("vott", '"asset"', '"regions"'),
        ("datumaro", '"items"', '"categories"'), ("manifest", '"source-ref"'), ("crowdhuman", '"gtboxes"'),
        ("coco_results", '"image_id"', '"category_id"', '"score"'))
# The outermost tag of an XML.
XML = {"annotations": "cvat", "doc": "colabeler", "dataset": "dlib", "sequence": "detrac",
       "HRSC_Image": "hrsc"}


def format_of(file):
    """The format of a label file, a key of FORMATS; None when it is not known."""
    suffix = file.suffix.lower()
    if suffix in ONLY_NAMED:
        return BY_SUFFIX.get(suffix, "archive")

    # Only the beginning is read, and never a pipe; latin-1 fits everything.
    if not file.is_file():
        return None
    try:
        with open(file, "rb") as stream:
            text = decode_text(stream.read(START), ["utf-8", "gb18030", "latin-1"]) or ""
    except OSError:
        return None
    if suffix in (".json", ".jsonl", ".ndjson"):
        return next((key for key, *words in JSON if all(word in text for word in words)), None)
    if suffix == ".xml":
        return format_of_xml(text)
    return format_of_lines([line.strip() for line in text.splitlines() if line.strip()][:LINES])


def format_of_xml(text):
    """By the outermost tag."""
    match = re.search(r"<([A-Za-z_][\w.-]*)", text)
    if not match:
        return None
    if match[1] == "annotation":
        return "labelme_web" if "<polygon>" in text and "<bndbox>" not in text else "voc"
    return XML.get(match[1])


def format_of_lines(lines):
    """By what most of some lines look like."""
    if not lines:
        return None
    head = [word.strip().strip('"').lower() for word in re.split(r"[,;\t|]", lines[0])]
    if "region_shape_attributes" in head:
        return "via"
    if re.match("imagesource:|gsd:", lines[0], re.IGNORECASE):
        return "dota"
    if face := format_of_faces(lines):
        return face

    # A file of labels has one form in all its lines; a last one may be cut off.
    found = Counter(form_of_line(line) for line in lines)
    form, count = found.most_common(1)[0]
    return form if form and 5 * count >= 4 * len(lines) else None


def format_of_faces(lines):
    """WIDER FACE: a name, how many, then as many lines of numbers. FDDB: the same, without a suffix."""
    if lines[0].startswith("#"):
        follows = len(lines) > 1 and are_numbers(lines[1].split())
        return "wider_face" if follows and lines[0].lower().endswith(SUFFIXES) else None
    if len(lines) < 3 or not lines[1].isdecimal() or are_numbers(lines[0].split()):
        return None
    lengths = [len(line.split()) for line in lines[2:] if are_numbers(line.split())]
    if lines[0].lower().endswith(SUFFIXES) and {4, 10} & set(lengths):
        return "wider_face"
    return "fddb" if 6 in lengths else None


def are_numbers(words):
    return bool(words) and all(NUMBER.fullmatch(word) for word in words)


def form_of_line(line):
    """The format that a line of a text file has, None when it is not known."""
    words, cells = line.split(), [cell.strip() for cell in line.rstrip(",").split(",")]
    if re.fullmatch(r"\(\s*\d+\s*,\s*\d+\s*\)\s*,\s*\(\s*\d+\s*,\s*\d+\s*\)\s*,\s*\d+", line):
        return "nwpu"
    if are_numbers(cells) and len(cells) > 1:
        drone = len(cells) == 8 and cells[4] in ("0", "1") and re.fullmatch("[0-9]|1[01]", cells[5])
        return "visdrone" if drone else "mot" if len(cells) in (7, 9, 10) else None
    if len(cells) >= 9 and are_numbers(cells[:8]):
        return "icdar"
    if re.search(r"\.\w{3,4} +\d+(\.\d+)?(,\d+(\.\d+)?){3},\d+", line):
        return "list"

    # Words with spaces between them.
    if len(words) in (9, 10) and are_numbers(words[:8]) and not are_numbers([words[8]]):
        return "dota"
    if len(words) >= 15 and are_numbers(words[-14:]) and not are_numbers(words[:1]):
        return "kitti"
    if len(words) >= 5 and are_numbers(words[-4:]) and not are_numbers(words[:-4]):
        return "oid" if not any(word.lower().endswith(SUFFIXES) for word in words) else None
    if len(words) >= 5 and are_numbers(words) and words[0].isdecimal():
        return "yolo" if max(abs(float(word)) for word in words[1:5]) <= 1.5 else None
    return None


def what_lies_there(folder, passed_over=()):
    """Lines for people about the files of a folder that could be labels; "" when it holds no image at all.

    passed_over: formats of which nothing is said.
    """
    images, files = files_in(folder)
    if not images:
        return ""
    found = [*mask_groups(folder, images), *label_groups(files, passed_over)]
    if not found:
        return (f"It holds {counted(len(images), 'image')}, but no file that could hold their labels: label "
                "them (LabelImg, labelme), or run predict.py on them.\n")
    return f"It holds {counted(len(images), 'image')}, and what could be their labels:\n" + "".join(found)


def files_in(folder):
    """The images and the files that could be labels in a folder, as far as MOST entries go."""
    images, files, seen, count = [], [], set(), 0
    for place, folders, names in os.walk(folder, followlinks=True):
        # A home folder may have millions of files, and links may lead in a circle.
        real = os.path.realpath(place)
        count += len(folders) + len(names)
        if real in seen or count > MOST:
            break
        seen.add(real)

        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")) and name != MADE)
        paths = [Path(place) / name for name in sorted(names) if not name.startswith(".")]
        images += [path for path in paths if path.name.lower().endswith(SUFFIXES)]
        files += [path for path in paths if path.name.lower().endswith((*LABELS, *ONLY_NAMED))]
    return images, [file for file in files if not READMES.match(file.name)]


def label_groups(files, passed_over=()):
    """A line for every format that some files have, if any is known only for these."""
    by_suffix, groups = defaultdict(list), defaultdict(list)
    for file in files:
        by_suffix[file.parent, file.suffix.lower()].append(file)

    # Of many files of a kind in a folder some are opened, spread over all of them.
    opened = Counter()
    for (_, suffix), some in by_suffix.items():
        chosen = some[::max(1, len(some) // OPENED)][:OPENED]
        forms = [format_of(file) or "" for file in chosen]
        form, count = Counter(forms).most_common(1)[0]
        groups[form, suffix] += [*[file for file, one in zip(chosen, forms) if one == form][:1], *some]
        opened[form, suffix, "all"] += len(chosen)
        opened[form, suffix, "so"] += count

    groups = {key: some for key, some in groups.items() if key[0] not in passed_over}
    known = {key: some for key, some in groups.items() if key[0]}
    return [group_line(form, some, opened[form, suffix, "so"], opened[form, suffix, "all"])
            for (form, suffix), some in (known or groups).items()]


def group_line(form, files, so, opened):
    """A line about files of one format. files: the first has it.  so: how many of the opened have."""
    first, number = files[0], len(set(files))
    sure = "" if first.suffix.lower() in ONLY_NAMED else f" ({so} of {opened} opened)"
    what = f"{shown(first)} looks"
    if number > 1:
        what = f"{number} {first.suffix.lower()} files like {shown(first)} look"
    return f"  {printable(what)} like {FORMATS[form].title}{sure}. {way_out(form, first)}.\n"


def way_out(form, file):
    """What to do, with the file's own names."""
    if form == "archive":
        return unpack(file)
    return FORMATS[form].way.format(file=shown(file), folder=shown(file.parent))


def unpack(file):
    """What to do with an archive: the command, where Python itself can do it."""
    folder = file.with_suffix("")
    command = ""
    if file.suffix.lower() == ".zip":
        command = f': python -m zipfile -e "{shown(file)}" "{shown(folder)}"'
    return f'Unpack it first, into a folder of its own{command}; then "dataset={shown(folder)}"'


def mask_groups(folder, images):
    """A line about masks in another order than one for each image: one per object, or one per class."""
    groups, stems = defaultdict(list), set()
    for image in images:
        parts = image.relative_to(folder).parts[:-1]
        place = next((place for place, part in enumerate(parts) if part.lower() in MASK_FOLDERS), None)
        if place is None:
            stems.add(image.stem)
        else:
            groups["class" if place + 1 < len(parts) else "object"].append(image)

    # masks/a.png has the name of the image; a mask for each object has a name of its own.
    lines = []
    for kind, some in groups.items():
        if kind == "object" and 2 * sum(mask.stem in stems for mask in some) > len(some):
            continue
        masks = f"{counted(len(some), 'mask')} like {shown(some[0])}"
        lines.append(f"  {printable(masks)} look like one mask for each {kind}. It can be read: "
                     "task=segmentation.\n")
    return lines
