"""YOLO txt labels: a data.yaml, or folders images/ and labels/ with a classes.txt, or txt files beside the
images (LabelImg).

A line is `class x y w h`, the centre and the size of a box as shares of the image, or
`class x1 y1 x2 y2 x3 y3 ...`, an outline. An image without a txt file has no objects.
"""
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.findings import Finding, from_error
from utils.formats.foreign import by_stem, files_below
from utils.formats.objects import keep_box, read_objects
from utils.formats.sniff import what_lies_there
from utils.formats.sweep import look_at_sample, sweep, with_truth
from utils.formats.voc_folder import subfolders
from utils.formats.yolo_lines import MAX_LABEL_BYTES, settle_meaning, split_words
from utils.formats.yolo_lists import (
    CLASSES,
    read_data_yaml,
    read_folder,
    read_key_points,
    yaml_root,
)
from utils.images import SUFFIXES
from utils.labels import spans
from utils.lists import NUMBER
from utils.settings import counted, shown
from utils.system.files import read_raw_lines

BEYOND = 0.01                   # a share may be this much outside 0 to 1: some program rounded it
PIXELS = (3, 0.2)               # so many files, and such a share of all, with numbers beyond: pixels
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages")
LABEL_FOLDERS = ("labels", "label")


def read_yolo(path, findings):
    """-> class names, dict list name -> samples; see foreign.py.

    path: a data.yaml, or a folder with a classes.txt.
    """
    is_yaml = path.is_file()
    names, lists, where = (read_data_yaml if is_yaml else read_folder)(path, findings)

    # An image in two lists is read once.
    images = list(dict.fromkeys(image for paths in lists.values() for image in paths))
    labels = find_labels(images, yaml_root(path) if is_yaml else path, findings)
    if images and not labels:
        raise UserError(f"{shown(path)}: none of the {len(images)} images has a txt file of labels; "
                        f"{shown(images[0])} should have {shown(expected_label(images[0]))}. Put the labels "
                        "into a folder labels beside the folder images, or beside the images.\n"
                        + what_lies_there(yaml_root(path) if is_yaml else path, passed_over=("yolo",)))
    lists = labelled_lists(lists, labels, path, findings)
    images = list(dict.fromkeys(image for paths in lists.values() for image in paths))

    # What the lines mean is decided over all of them, before the first is read.
    files = [labels[image] for image in images if image in labels]
    meaning = settle_meaning(files, read_key_points(path) if is_yaml else None, findings)
    looked = sweep(lambda image: read_image(image, labels.get(image), names, where, meaning),
                   [(image,) for image in images], f"Checking {shown(path)}")
    samples = {image: sample for image, (sample, _) in zip(images, looked)}

    # Boxes that are read in the wrong way reach beyond their images: that is said once.
    found = [finding for _, some in looked for finding in some]
    if any(finding.kind == "box_layout" for finding in findings):
        found = [finding for finding in found if finding.kind not in ("box_clipped", "box_outside")]
    findings += settle_shares(found, len(files)) + lonely_labels(images, set(labels.values()))
    usable = {split: [samples[image] for image in paths if samples[image]] for split, paths in lists.items()}
    return [names[number] for number in sorted(names)], usable


def labelled_lists(lists, labels, path, findings):
    """The lists without those of which no image has a label: nobody labelled that part. Findings: these."""
    kept = {}
    for split, images in lists.items():
        if split == "all" or not images or any(image in labels for image in images):
            kept[split] = images
        else:
            detail = f"{split}: none of its {counted(len(images), 'image')} has a txt file of labels"
            findings.append(Finding("part_without_labels", path, None, detail))
    return kept


def read_image(image, label, names, where, meaning):
    """-> Sample of an image, None when it or its label cannot be used; findings. label: None without one."""
    sample, findings = look_at_sample(image)
    if label is None:
        return with_truth(sample, None, [], []), [*findings, Finding("image_without_txt", image)]
    try:
        objects, found = read_label(label, sample.size if sample else None, names, where, meaning)
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


def lonely_labels(images, used):
    """Findings: txt files in the folders of labels that belong to no image of the folders of images.

    used: the txt files that belong to one.
    """
    findings, listed = [], {}
    for folder in sorted({image.parent for image in images}):
        beside = [path for path in label_folders(folder) if path != folder and path.is_dir()]
        if beside:
            stems = {path.stem for path in folder.iterdir() if path.name.lower().endswith(SUFFIXES)}
            files = txt_files(beside[0], listed)
            findings += [Finding("label_without_image", file) for stem, file in files.items()
                         if stem not in stems and file not in used and file.name not in CLASSES]
    return findings


def find_labels(images, root, findings):
    """dict image -> its txt file, of those that have one. root: below it labels are searched by name.

    Findings: two images with one label, labels in a folder where nobody expects them.
    """
    labels, places, listed = {}, {}, {}
    for image in images:
        folder = image.parent
        if folder not in places:
            places[folder] = label_folders(folder)
        files = (txt_files(place, listed).get(image.stem) for place in places[folder])
        if file := next((file for file in files if file), None):
            labels[image] = file
    find_by_name(images, labels, root, findings)

    # a.jpg and a.png both have a.txt.
    owners = {}
    for image, file in labels.items():
        if owners.setdefault(file, image) != image:
            detail = f"{owners[file].name} has the same label, {shown(file)}"
            findings.append(Finding("stem_twice", image, None, detail))
    return labels


def find_by_name(images, labels, root, findings):
    """Add to `labels` what is elsewhere: for folders of which no image has a label in its place, the only txt
    file of the same name, of the only image of this name."""
    with_labels = {image.parent for image in labels}
    without = [image for image in images if image.parent not in with_labels]
    if not without:
        return

    # An image or a label whose name is there twice is left alone.
    used, owners = set(labels.values()), by_stem(images)
    texts = by_stem(file for file in files_below(root, (".txt",)) if file not in used)
    found = {image: texts[image.stem] for image in without if owners[image.stem] and texts.get(image.stem)}
    if 2 * len(found) > len(without):                       # fewer are other text files by chance
        labels |= found
        image, file = next(iter(found.items()))
        detail = f"{counted(len(found), 'label')}, as that of {shown(image)}"
        findings.append(Finding("found_elsewhere", file, None, detail))


def txt_files(folder, listed):
    """stem -> txt file, whatever the case of its suffix, of a folder. listed: what is known of others."""
    if folder not in listed:
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        listed[folder] = {file.stem: file for file in files if file.suffix.lower() == ".txt"}
    return listed[folder]


def label_folders(folder):
    """The folders in which labels of the images in a folder may be, the likeliest first.

    That is where the last part `images` of the path becomes `labels`, then where an earlier one does, then
    the folder itself.
    """
    found = []
    for place in reversed(range(1, len(folder.parts))):
        if folder.parts[place].lower() in IMAGE_FOLDERS:
            above, below = Path(*folder.parts[:place]), folder.parts[place + 1:]
            names = {name.lower(): name for name in subfolders(above)}
            found += [Path(above, names[word], *below) for word in LABEL_FOLDERS if word in names]
    return [*found, folder]


def expected_label(image):
    """Where the label of an image should be, for messages."""
    parts = list(image.with_suffix(".txt").parts)
    for place in reversed(range(1, len(parts) - 1)):
        if parts[place].lower() in IMAGE_FOLDERS:
            parts[place] = "labels"
            break
    return Path(*parts)


def read_label(path, size, names, where, meaning):
    """The objects of a txt file, and findings.

    size: (w, h) px of its image, None: not known.  names: dict number -> class name.
    where: file and line of the class names.  meaning: as settle_meaning says.
    """
    lines = enumerate(read_raw_lines(path, MAX_LABEL_BYTES), 1)
    records = ((number, "", split_words(line)) for number, line in lines if line.strip())
    return read_objects(path, records,
                        lambda words, found: read_words(words, size, names, where, meaning, found))


def read_words(words, size, names, where, meaning, found):
    """The words of a line -> its object, or None when no box is left. found: gets (kind, detail)."""
    wrong = next((word for word in words if not NUMBER.fullmatch(word)), None)
    if wrong is not None:
        raise UserError(f"{wrong[:40]!r} is not a number", kind="bad_number")
    check_count(words, meaning)
    number = check_class(words[0], names, where)

    # What follows the box is not used: key points, or the number of a track.
    is_box = len(words) in (5, 6, meaning.pose)
    shares = np.array(words[1:5] if is_box else words[1:], np.float64)
    if shares.min() < -BEYOND or shares.max() > 1 + BEYOND:
        far = shares[np.argmax(np.abs(shares - 0.5))]
        raise UserError(f"{far:g} is not a share of the image, expected 0 to 1", kind="share_beyond")

    # From shares of the image to pixels; the box of an outline is its extent.
    points = shares.reshape(-1, 2) * (size or (1, 1))
    if is_box:
        x, y, w, h = points.ravel().tolist()
        edges = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    else:
        edges = (*points.min(0).tolist(), *points.max(0).tolist())

    box = keep_box(edges, size, found) if size else edges
    if box is None:
        return None
    thing = {"name": names[number], "box": box, "difficult": False}
    return thing if is_box else {**thing, "outline": [points]}


def check_count(words, meaning):
    """Error: a line cannot have so many words."""
    # Programs that predict write a sixth number; an outline has an odd number of words.
    count = len(words)
    whole = float(words[-1]).is_integer()
    if count == 6 and not (meaning.tracks and whole):
        raise UserError("six numbers, a prediction with its score? Labels have five: class x y w h. Save "
                        "them without scores")
    if count == 7 and meaning.scores:
        raise UserError("seven numbers, a prediction with its score and the number of its track? Labels have "
                        "five: class x y w h. Save them without scores")

    # Of what is left a box, a box with what is not used, and an outline are no mistakes.
    if count in (5, 6, meaning.pose):
        return
    if meaning.pose:
        raise UserError(f"{count} numbers, expected 5 for a box or {meaning.pose} for one with key points")
    if count < 5 or count % 2 == 0:
        raise UserError(f"{count} numbers, expected  class x y w h  or, for an outline,  class x1 y1 x2 "
                        "y2 x3 y3 ... xn yn")


def check_class(word, names, where):
    """The class number of a line. Errors: not whole, without a name."""
    number = float(word)
    if number.is_integer() and number in names:
        return int(number)
    numbers = sorted(names)
    known = f"0 to {numbers[-1]}" if len(names) == numbers[-1] + 1 else spans(numbers)
    raise UserError(f"class {word}, but there are {len(names)} class names in {where} (numbers {known})",
                    kind="class_number")
