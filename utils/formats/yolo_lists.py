"""Which images a YOLO dataset has: the lists of a data.yaml or an obj.data, or the names of the folders; and
its class names.

Lists are often written for another machine: a name that leads nowhere is found by the end of its path.
"""
import os
import re
from pathlib import Path

from utils.errors import UserError, did_you_mean
from utils.findings import Finding, from_error
from utils.formats.foreign import (
    SPLIT_NAMES,
    class_names,
    files_below,
    folder_split,
    locate,
)
from utils.formats.image_names import images_named, index_names
from utils.formats.yaml_file import read_yaml
from utils.images import SUFFIXES
from utils.settings import counted, shown
from utils.system.files import printable, read_lines

# Train, train and TRAIN are one key.
SPLIT_KEYS = tuple(form(name) for name in SPLIT_NAMES for form in (str.lower, str.capitalize, str.upper))
KEYS = ("path", "names", "nc", "kpt_shape", *SPLIT_KEYS)
CLASSES = ("classes.txt", "obj.names", "predefined_classes.txt", "_darknet.labels")


def read_data_yaml(path, findings):
    """-> dict number -> class name, dict list name -> image paths, file and line of the names."""
    content = read_yaml(path, KEYS)
    names, where = read_names(path, content)
    if "nc" in content and str(content["nc"][0]) not in (str(len(names)), str(max(names) + 1)):
        count, line = content["nc"]
        raise UserError(f"{shown(path)}, line {line}: nc is {printable(str(count)[:40])}, but there are "
                        f"{len(names)} names. Correct one of them.")

    root = yaml_root(path, content)
    lists = {}
    for key in SPLIT_KEYS:
        value, line = content.get(key, (None, 0))
        split, where_list = SPLIT_NAMES[key.lower()], f"{shown(path)}, line {line}"
        if not value or split in lists:
            continue

        # Training goes without a test list, so one that is not there takes only itself away.
        try:
            lists[split] = images_of(value, root, path, where_list, findings)
        except UserError as error:
            if split != "test":
                raise
            findings.append(from_error(error, path)._replace(kind="list_left_out"))
    if not lists:
        raise UserError(f"{shown(path)} has no train: and val:, the folders of the images.")
    return names, lists, where


def read_names(path, content):
    """-> dict number -> class name of a data.yaml, file and line. content: as read_yaml returns it."""
    if "names" not in content:
        raise UserError(f"{shown(path)} has no class names, like  names: [cat, dog]")
    values, line = content["names"]
    where = f"{shown(path)}, line {line}"

    # A list, a file with a name a line, or a table with the number of each name: {0: cat, 1: dog}.
    if isinstance(values, str) and (file := ending_of(values, [path.parent])) and file.is_file():
        values = read_lines(file)
    if isinstance(values, list):
        return dict(enumerate(class_names(values, where))), where
    if not isinstance(values, dict):
        raise UserError(f"{where}: names is {repr(values)[:60]}, expected a list like [cat, dog].")

    wrong = [key for key in values if not re.fullmatch("[0-9]{1,6}", key)]
    if wrong:
        raise UserError(f"{where}: the names must have numbers, like  0: cat, found "
                        f"{', '.join(printable(key[:20]) for key in wrong[:10])}.")
    numbers = sorted(values, key=int)
    return dict(zip(map(int, numbers), class_names([values[key] for key in numbers], where))), where


def read_key_points(path):
    """(points, numbers for each) of the line kpt_shape of a data.yaml; None when it says nothing."""
    value, _ = read_yaml(path, KEYS).get("kpt_shape", (None, 0))
    if not isinstance(value, list) or not all(re.fullmatch("[0-9]{1,4}", str(word)) for word in value):
        return None
    return tuple(map(int, value)) if len(value) == 2 else None


def yaml_root(path, content=None):
    """The folder that the names in a data.yaml are relative to."""
    value, line = (content or read_yaml(path, KEYS)).get("path", (None, 0))
    if not value:
        return path.parent
    if not isinstance(value, str) or "\x00" in value:
        raise UserError(f"{shown(path)}, line {line}: path is {repr(value)[:60]}, expected one folder.")

    # Often the path is that of another machine, and the images are beside the data.yaml.
    value = value.replace("\\", "/")
    for place in (path.parent / value, Path(os.path.expanduser(value)), path.parent / Path(value).name):
        if os.path.isdir(place):
            return straight(place)
    return path.parent


def straight(path):
    """An absolute path without "..", through links: labels are found by the names on the way."""
    short = Path(os.path.abspath(path))
    return short if os.path.exists(short) else Path(path).resolve()


def path_parts(name):
    """The parts of a path that was written on any system, without its drive, "." and ".."."""
    parts = re.sub(r"^[A-Za-z]:", "", name).replace("\\", "/").split("/")
    return [part for part in parts if part.strip() not in ("", ".", "..")]


def ending_of(name, bases):
    """The file or folder below one of the folders `bases` that a path from another machine means, or None.

    /home/a/pets/images/train: pets/images/train, else images/train, else train, the first that is there. But
    of val/images only `images` is never meant.
    """
    parts = path_parts(name)
    for start in range(len(parts)):
        if start and parts[start - 1].lower() in SPLIT_NAMES:
            break
        for base in bases:
            if "\x00" not in name and os.path.exists(Path(base, *parts[start:])):
                return Path(base, *parts[start:])
    return None


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
        if place is None and (place := ending_of(entry, (root, path.parent))):
            findings.append(Finding("found_elsewhere", path, None, f"{entry}: taken as {shown(place)}"))
        if place is None:
            others = [other for level in ("*", "*/*") for other in root.glob(level)][:5000]
            near = did_you_mean(entry, [other.relative_to(root).as_posix() for other in others])
            raise UserError(f"{where}: there is no {printable(entry)} in {shown(root)}.{near} Correct it, or "
                            "the line path: of this file.")

        place = straight(place)
        images += files_below(place) if place.is_dir() else images_in_list(place, root, path.parent, findings)

    # When every name of a list is wrong there are findings, which say more than this error.
    if not images and all(finding.kind == "found_elsewhere" for finding in findings[before:]):
        raise UserError(f"{where}: there are no images in {printable(str(value))}.")
    return list(dict.fromkeys(images))


def images_in_list(file, root, base, findings):
    """The images that a text file names. root, base: its names are relative to one of these, or to its own
    folder.

    Findings: a name that is not plain, a missing image, names that lead nowhere as they are written.
    """
    if file.suffix.lower() != ".txt":
        raise UserError(f"{shown(file)}: expected a folder of images or a .txt file of their names. A link "
                        "that was copied or unpacked as a file must be made again.")
    roots = [straight(folder) for folder in (root, base, file.parent)]
    images, lost = [], []
    for line, name in enumerate(read_lines(file), 1):
        if name:
            image, finding = image_called(name, file, line, roots)
            images.append(image)
            lost += [(len(images) - 1, name, finding)] if finding else []

    # A list from another machine, or from above the folder: the end of the path is still the same.
    paths = files_below(roots[0]) if lost else []
    index, folders, moved = index_names(paths), {path.parent for path in paths}, []
    for place, name, finding in lost:
        images[place] = moved_image(name, index, folders, roots)
        if images[place]:
            moved.append((place, name, finding.line))
        else:
            findings.append(finding)

    if moved:
        place, name, line = moved[0]
        count = counted(len(moved), "name")
        detail = f"{count} of images; {printable(name)}: taken as {shown(images[place])}"
        findings.append(Finding("found_elsewhere", file, line, detail))
    return [image for image in images if image]


def moved_image(name, index, folders, roots):
    """The image that a name means which leads nowhere; None when several could be meant, or when it is
    plainly missing: the folder that it should be in has images, only not this one.

    index: of index_names.  folders: those with images.  roots: as in image_called.
    """
    own = path_parts(name)[:-1]
    if any(Path(root, *own) in folders for root in roots):
        return None
    found = images_named(name, index, roots[0])
    return found[0] if len(found) == 1 else None


def image_called(name, file, line, roots):
    """-> the image of a line of a list or None, a finding or None. roots: path:, data.yaml, list."""
    # An absolute name may go through a link to the dataset, or not.
    bases = roots[:1] if name.startswith("/") else [roots[2], *roots[:2]]
    allowed = [*roots, *(root.resolve() for root in roots if name.startswith("/"))]

    # CVAT writes data/ before every name, a folder of darknet's.
    names = list(dict.fromkeys((name, name.removeprefix("data/"))))
    if not name.lower().endswith(SUFFIXES):                 # a name without a suffix, as in lists of VOC
        names += [name + end for suffix in SUFFIXES for end in (suffix, suffix.upper())]
    try:
        where = f"{shown(file)}, line {line}"
        tries = [locate(one, base, allowed, where) for one in names for base in bases]
    except UserError as error:
        return None, from_error(error, file)._replace(kind="list_name")

    image = next((image for image in tries if image.is_file()), None)
    if image is None:
        return None, Finding("list_no_image", file, line, f"there is no image {printable(name)}")
    if not image.name.lower().endswith(SUFFIXES):
        detail = f"{name!r} is not an image; expected one of {', '.join(SUFFIXES)}"
        return None, Finding("list_name", file, line, detail)
    return image, None


def class_files(folder):
    """The files of class names that programs for YOLO labels write, in a folder and below."""
    return [file for file in files_below(folder, (*CLASSES, ".names"))
            if file.name.lower() in CLASSES or file.suffix.lower() == ".names"]


def read_folder(folder, findings):
    """A folder without a data.yaml -> dict number -> class name, dict list name -> image paths, file of the
    names."""
    files = class_files(folder)
    if not files:
        raise UserError(f"{shown(folder)} has YOLO labels but no classes.txt: write one, with the class "
                        "names in the order of their numbers.")

    # LabelImg writes a file into every folder and adds new names at its end.
    contents = {file: read_lines(file) for file in files}
    longest = max(files, key=lambda file: len(contents[file]))
    for file, names in contents.items():
        if names != contents[longest][:len(names)]:
            raise UserError(f"{shown(folder)} has two files of class names that differ, {shown(file)} and "
                            f"{shown(longest)}: which numbers are meant? Delete the wrong one.")
    names = dict(enumerate(class_names(contents[longest], shown(longest))))

    # Its own lists first, then the names of the folders.
    lists = {split: images_in_list(file, folder, file.parent, findings)
             for split, file in text_lists(folder).items()}
    listed = {image for some in lists.values() for image in some}
    for image in files_below(folder):
        if not lists.keys() - {"all"} or image not in listed:
            split = folder_split(image, folder) if not listed else "all"
            lists.setdefault(split, []).append(image)
    return names, lists, shown(longest)


def text_lists(folder):
    """dict list name -> text file: by the keys of an obj.data (darknet, CVAT), else by the files' own names,
    as Train.txt."""
    found = {}
    for data in files_below(folder, (".data",)):
        for line in read_lines(data):
            key, equals, value = (part.strip() for part in line.partition("="))
            file = ending_of(value, (data.parent, folder)) if equals and key.lower() in SPLIT_NAMES else None
            if file and file.suffix.lower() == ".txt" and file.is_file():
                found.setdefault(SPLIT_NAMES[key.lower()], straight(file))
    if found:
        return found

    # train.txt may also be the label of train.jpg: a list names images.
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() == ".txt" and file.stem.lower() in SPLIT_NAMES and file.is_file():
            first = next((line for line in read_lines(file) if line), "")
            if first.lower().endswith(SUFFIXES):
                found.setdefault(SPLIT_NAMES[file.stem.lower()], file)
    return found
