"""YOLO txt labels: a data.yaml, or folders images/ and labels/ with a classes.txt, or txt files beside the
images (LabelImg).

A line is `class x y w h`, the centre and the size of a box as shares of the image, or
`class x1 y1 x2 y2 x3 y3 ...`, an outline. An image without a txt file has no objects.
"""
import os
import re
from pathlib import Path

import numpy as np

from utils.errors import UserError, did_you_mean
from utils.findings import Finding, from_error
from utils.formats.foreign import SPLIT_NAMES, class_names, files_below, folder_split, locate
from utils.formats.objects import keep_box, read_objects
from utils.formats.sniff import what_lies_there
from utils.formats.sweep import look_at_sample, sweep, with_truth
from utils.formats.yaml_file import read_yaml
from utils.images import SUFFIXES
from utils.lists import NUMBER
from utils.settings import shown
from utils.system.files import printable, read_lines, read_raw_lines

KEYS = ("path", "train", "val", "valid", "test", "names", "nc")
BEYOND = 0.01                   # a share may be this much outside 0 to 1: some program rounded it
PIXELS = (3, 0.2)               # so many files, and such a share of all, with numbers beyond: pixels
MAX_LABEL_BYTES = 20_000_000
CLASSES = ("classes.txt", "obj.names", "predefined_classes.txt")


def read_yolo(path, findings):
    """-> class names, dict list name -> samples; see foreign.py.

    path: a data.yaml, or a folder with a classes.txt.
    """
    names, lists, where = read_data_yaml(path, findings) if path.is_file() else read_folder(path)

    # An image in two lists is read once.
    images = list(dict.fromkeys(image for paths in lists.values() for image in paths))
    looked = sweep(lambda image: read_image(image, names, where), [(image,) for image in images],
                   f"Checking {shown(path)}")
    samples = {image: sample for image, (sample, _) in zip(images, looked)}
    found = [finding for _, some in looked for finding in some]

    # A few images without labels show nothing; if all are without, the labels are somewhere else.
    without = [finding.file for finding in found if finding.kind == "image_without_txt"]
    if without and len(without) == len(images):
        raise UserError(f"{shown(path)}: none of the {len(without)} images has a txt file of labels; "
                        f"{shown(without[0])} should have {shown(label_of(without[0]))}. Put the labels into "
                        "a folder labels beside the folder images, or beside the images.\n"
                        + what_lies_there(path if path.is_dir() else yaml_root(path), passed_over=("yolo",)))

    findings += settle_shares(found, len(images) - len(without)) + lonely_labels(images)
    usable = {split: [samples[image] for image in paths if samples[image]] for split, paths in lists.items()}
    return names, usable


def read_image(image, names, where):
    """-> Sample of an image, None when it or its label cannot be used; findings."""
    label = label_of(image)
    sample, findings = look_at_sample(image)
    if not label.is_file():
        return with_truth(sample, None, [], []), [*findings, Finding("image_without_txt", image)]
    try:
        objects, found = read_label(label, sample.size if sample else None, names, where)
    except UserError as error:
        return None, [*findings, from_error(error, label, "label_encoding")]
    return with_truth(sample, label, objects, found), findings + found


def settle_shares(findings, count):
    """The findings; where many files have numbers beyond 0 to 1, these are no slips but pixels: another kind.

    count: of the files.
    """
    files = {finding.file for finding in findings if finding.kind == "share_beyond"}
    if len(files) < PIXELS[0] or len(files) < PIXELS[1] * count:
        return findings
    return [finding._replace(kind="pixels_for_shares") if finding.kind == "share_beyond" else finding
            for finding in findings]


def lonely_labels(images):
    """Findings: txt files in the folders labels that belong to no image of the folders images."""
    findings = []
    for folder in sorted({image.parent for image in images}):
        labels = labels_of(folder)
        if labels and labels.is_dir():
            stems = {path.stem for path in folder.iterdir() if path.name.lower().endswith(SUFFIXES)}
            findings += [Finding("label_without_image", path) for path in sorted(labels.glob("*.txt"))
                         if path.stem not in stems and path.name not in CLASSES]
    return findings


def read_data_yaml(path, findings):
    """-> class names, dict list name -> image paths, file and line of the names."""
    content = read_yaml(path, KEYS)
    names, where = read_names(path, content)
    if "nc" in content and str(content["nc"][0]) != str(len(names)):
        count, line = content["nc"]
        raise UserError(f"{shown(path)}, line {line}: nc is {printable(str(count)[:40])}, but there are "
                        f"{len(names)} names. Correct one of them.")

    # Roboflow writes valid for val.
    root = yaml_root(path, content)
    lists = {}
    for key in ("train", "val", "valid", "test"):
        value, line = content.get(key, (None, 0))
        if value:
            images = images_of(value, root, path, f"{shown(path)}, line {line}", findings)
            lists.setdefault(SPLIT_NAMES[key], images)
    if not lists:
        raise UserError(f"{shown(path)} has no train: and val:, the folders of the images.")
    return names, lists, where


def read_names(path, content):
    """-> class names of a data.yaml, file and line. content: as read_yaml returns it."""
    if "names" not in content:
        raise UserError(f"{shown(path)} has no class names, like  names: [cat, dog]")
    values, line = content["names"]
    where = f"{shown(path)}, line {line}"

    # A list, or a table with the number of each name: {0: cat, 1: dog}.
    if isinstance(values, dict):
        numbers = [int(key) if re.fullmatch("[0-9]{1,6}", key) else -1 for key in values]
        if sorted(numbers) != list(range(len(numbers))):
            found = ", ".join(printable(key[:20]) for key in list(values)[:10])
            raise UserError(f"{where}: the numbers of the names must be 0, 1, 2 ... without gaps, "
                            f"found {found}.")
        values = [values[key] for _, key in sorted(zip(numbers, values))]
    if not isinstance(values, list):
        raise UserError(f"{where}: names is {repr(values)[:60]}, expected a list like [cat, dog].")
    return class_names(values, where), where


def yaml_root(path, content=None):
    """The folder that the names in a data.yaml are relative to."""
    value, line = (content or read_yaml(path, KEYS)).get("path", (None, 0))
    if not value:
        return path.parent
    if not isinstance(value, str) or "\x00" in value:
        raise UserError(f"{shown(path)}, line {line}: path is {repr(value)[:60]}, expected one folder.")

    # Often the path is that of another machine, and the images are beside the data.yaml.
    for place in (path.parent / value, Path(os.path.expanduser(value)), path.parent / Path(value).name):
        if os.path.isdir(place):
            return place.resolve()
    return path.parent


def images_of(value, root, path, where, findings):
    """The images of train:, val: or test:, which is a folder, a text file of names, or a list of these.

    Those of a folder are sorted, those of a text file keep their order.
    """
    images, before = [], len(findings)
    for entry in value if isinstance(value, list) else [value]:
        if not isinstance(entry, str) or "\x00" in entry:
            raise UserError(f"{where}: expected a folder or a list file, found {repr(entry)[:60]}.")

        # Roboflow writes ../train/images where train/images is meant.
        entry = entry.replace("\\", "/")
        names = dict.fromkeys((entry, re.sub(r"^(\.\./)+", "", entry)))
        tries = [base / name for name in names for base in (root, path.parent)]
        place = next((place for place in tries if os.path.exists(place)), None)     # Path.exists may raise
        if place is None:
            others = [other for level in ("*", "*/*") for other in root.glob(level)][:5000]
            near = did_you_mean(entry, [other.relative_to(root).as_posix() for other in others])
            raise UserError(f"{where}: there is no {printable(entry)} in {shown(root)}.{near} Correct it, or "
                            "the line path: of this file.")

        place = place.resolve()
        images += files_below(place) if place.is_dir() else images_in_list(place, root, path, findings)

    # When every name of a list is wrong there are findings, which say more than this error.
    if not images and len(findings) == before:
        raise UserError(f"{where}: there are no images in {printable(str(value))}.")
    return list(dict.fromkeys(images))


def images_in_list(file, root, path, findings):
    """The images that a text file names. Findings: a name that is not plain, a missing image."""
    if file.suffix.lower() != ".txt":
        raise UserError(f"{shown(file)}: expected a folder of images or a .txt file of their names.")
    roots = [root.resolve(), path.parent.resolve(), file.parent]
    images = []
    for line, name in enumerate(read_lines(file), 1):
        if not name:
            continue

        # Names are relative to the list, to path: or to the data.yaml, depending on who wrote them.
        try:
            bases = roots[:1] if name.startswith("/") else [file.parent, *roots[:2]]
            tries = [locate(name, base, roots, f"{shown(file)}, line {line}") for base in bases]
        except UserError as error:
            findings.append(from_error(error, file)._replace(kind="list_name"))
            continue

        image = next((image for image in tries if image.is_file()), None)
        if image is None:
            findings.append(Finding("list_no_image", file, line, f"there is no image {printable(name)}"))
        elif not image.name.lower().endswith(SUFFIXES):
            detail = f"{name!r} is not an image; expected one of {', '.join(SUFFIXES)}"
            findings.append(Finding("list_name", file, line, detail))
        else:
            images.append(image)
    return images


def read_folder(folder):
    """A folder without a data.yaml -> class names, dict list name -> image paths, file of the names."""
    file = next((file for file in files_below(folder, CLASSES) if file.name in CLASSES), None)
    if file is None:
        raise UserError(f"{shown(folder)} has YOLO labels but no classes.txt: write one, with the class "
                        "names in the order of their numbers.")
    names = class_names(read_lines(file), shown(file))
    lists = {}
    for image in files_below(folder):
        lists.setdefault(folder_split(image, folder), []).append(image)
    return names, lists, shown(file)


def label_of(image):
    """The label file of an image: in the folder labels if the image is in images, else beside it."""
    beside = image.with_suffix(".txt")
    folder = labels_of(image.parent)
    other = folder / beside.name if folder else beside
    return beside if beside.is_file() and not other.is_file() else other


def labels_of(folder):
    """The folder of the labels: the last part `images` of the path becomes `labels`, or None without one."""
    places = [place for place, part in enumerate(folder.parts) if part.lower() == "images"]
    if not places:
        return None
    return Path(*folder.parts[:places[-1]], "labels", *folder.parts[places[-1] + 1:])


def read_label(path, size, names, where):
    """The objects of a txt file, and findings.

    size: (w, h) px of its image, None: not known.  where: file and line of the class names.
    """
    lines = enumerate(read_raw_lines(path, MAX_LABEL_BYTES), 1)
    records = ((number, "", line.split()) for number, line in lines if line.strip())
    return read_objects(path, records, lambda words, found: read_words(words, size, names, where, found))


def read_words(words, size, names, where, found):
    """The words of a line -> its object, or None when no box is left. found: gets (kind, detail)."""
    wrong = next((word for word in words if not NUMBER.fullmatch(word)), None)
    if wrong is not None:
        raise UserError(f"{wrong[:40]!r} is not a number", kind="bad_number")

    # Programs that predict write a sixth number; an outline has an odd number of words.
    if len(words) == 6:
        raise UserError("six numbers, a prediction with its score? Labels have five: class x y w h. Save "
                        "them without scores")
    if len(words) < 5 or len(words) % 2 == 0:
        raise UserError(f"{len(words)} numbers, expected  class x y w h  or, for an outline,  class x1 y1 x2 "
                        "y2 x3 y3 ... xn yn")

    label = float(words[0])
    if not label.is_integer() or not 0 <= label < len(names):
        raise UserError(f"class {words[0]}, but there are {len(names)} class names in {where} (numbers 0 to "
                        f"{len(names) - 1})", kind="class_number")
    shares = np.array(words[1:], np.float64)
    if shares.min() < -BEYOND or shares.max() > 1 + BEYOND:
        far = shares[np.argmax(np.abs(shares - 0.5))]
        raise UserError(f"{far:g} is not a share of the image, expected 0 to 1", kind="share_beyond")

    # From shares of the image to pixels; the box of an outline is its extent.
    points = shares.reshape(-1, 2) * (size or (1, 1))
    if len(words) == 5:
        x, y, w, h = points.ravel().tolist()
        edges = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    else:
        edges = (*points.min(0).tolist(), *points.max(0).tolist())

    box = keep_box(edges, size, found) if size else edges
    if box is None:
        return None
    thing = {"name": names[int(label)], "box": box, "difficult": False}
    return thing if len(words) == 5 else {**thing, "outline": [points]}
