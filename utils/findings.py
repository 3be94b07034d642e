"""What can be wrong with data: the table of kinds, and the report that shows all of it at once.

A finding is a plain record. KINDS says, once for every kind, what it means, what to do about it and what
happens meanwhile.
"""
import os
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

from utils.errors import UserError
from utils.settings import counted, shown

STOPS, WITHOUT, WORKS = "stops", "works without these", "works"
SHOWN = 10                      # files of a kind that a report names


class Finding(NamedTuple):
    kind: str                   # a key of KINDS
    file: Path                  # the file or folder it is about
    line: int | None = None     # where in it, from 1
    detail: str = ""            # what exactly
    advice: str = ""            # what to do, where that follows from these very data; "": what the table says


# kind: what happens, what is wrong, what to do. {folder}: that of the first finding, {images}: the folder
# beside it that holds the images, {dataset}: the words that give the dataset, "dataset=VOCdevkit/mydata".
# tests/project/test_advice.py runs every command that is named here on data with that fault.
KINDS = {
    # the folder and its lists
    "layout": (STOPS, "This is not the folder of a dataset",
        "Give the folder that holds JPEGImages, dataset=..., or do what is said there about other labels."),
    "not_readable": (STOPS, "This dataset cannot be read as it is",
        "Fix what is listed there."),
    "stem_twice": (STOPS, "Files with the same name before the suffix: which one is meant?",
        "Rename or remove one of them."),
    "bad_name": (WITHOUT, "File names that are not allowed in a list",
        "Rename them (valid text without / \\ and control characters, on Windows no : either)."),
    "no_file": (WITHOUT, "Names of files behind which is no file: folders, pipes, devices, links to nowhere",
        "Remove them, or put the files there that were meant."),
    "other_suffix": (WITHOUT, "Files that are not read, because of their suffix",
        "Convert them if they belong to the dataset."),
    "labelme_file": (WITHOUT, "labelme files instead of xml files",
        'Save them as Pascal VOC; or read them alone: python voc_annotation.py "dataset={folder}"'),
    "yolo_file": (WITHOUT, "YOLO text files instead of xml files",
        "Export them as Pascal VOC; or move them with their images into a folder of their own, with a "
        "classes.txt of the class names, and give that folder."),
    "image_without_label": (WITHOUT, "Images without a label",
        "Label them. If the image contains no objects, write <annotation></annotation> to an xml file of "
        "the same name (labelme: a file without shapes; segmentation: a mask of zeros)."),
    "image_without_txt": (WORKS, "Images without a txt file of labels: they count as images without objects",
        "Label them if they contain objects. Do the names of image and txt file differ?"),
    "label_without_image": (WITHOUT, "Labels without an image",
        "Add the images, or check whether the names differ."),
    "part_without_labels": (WITHOUT, "Lists of the dataset without any labels; they are left out",
        "Nothing, if their labels are secret (a test set of a competition); else export them with labels."),
    "other_image_path": (WORKS,
        "imagePath in labelme files names another image: the one with the name of the file is used",
        "Nothing, if image and file were renamed together and the boxes look right in the pictures of  "
        'python tools/doctor.py {dataset}'),
    "label_twice": (STOPS, "Several labels for one image, or several images with one id: which one is meant?",
        "Delete one of them."),
    "list_name": (STOPS, "Lines of a list that are not plain names",
        "Write only the names of the images: no folder, no suffix (in the lists of a data.yaml: relative "
        "to the dataset)."),
    "list_no_image": (STOPS, "Names in a list without an image",
        'Remove them from the list, add the files, or split again: '
        'python voc_annotation.py {dataset} new_split=True'),
    "list_no_label": (STOPS, "Names in a list without a label",
        'Remove them from the list, add the files, or split again: '
        'python voc_annotation.py {dataset} new_split=True'),
    "list_left_out": (WITHOUT, "Lists whose images are not there; they are left out",
        "Add the images, or delete the line."),
    "found_elsewhere": (WORKS, "Files that are not where they are said to be, but have the same name",
        'Are they the right ones? See the pictures of  python tools/doctor.py {dataset}'),
    "list_missing": (STOPS, "A list is missing",
        'Write it, name a list that is there (train_set, val_set), or split again: '
        'python voc_annotation.py {dataset} new_split=True'),
    "list_empty": (STOPS, "A list without images",
        'python voc_annotation.py {dataset} new_split=True  makes new ones.'),
    "not_listed": (WITHOUT, "Labelled images in no list",
        'python voc_annotation.py {dataset} new_split=True  includes them.'),
    "in_train_and_val": (WORKS,
        "Images in both the train and the val list: the validation results will be too good",
        'Remove them from one of the two, or split again: '
        'python voc_annotation.py {dataset} new_split=True'),
    "in_test": (WORKS, "Images of the test list in train or val too: the test result will be too good",
        'Remove them from the test list, or split again: '
        'python voc_annotation.py {dataset} new_split=True'),
    "same_across": (WORKS, "The same picture under two names in two lists: the results will be too good",
        "Delete one of the two, with its label."),
    "near_across": (WORKS,
        "Nearly the same picture in two lists (resized, compressed again, a moment earlier?): then the "
        "results will be too good",
        "Look at each pair. If it is one shot, put both into the same list."),
    "same_picture": (WORKS, "The same picture under two names",
        "Delete one of the two, with its label; a new split could put them into two lists."),
    "few_images": (WORKS, "Few images to learn from",
        "Good for trying things out. Label more, and start from trained weights (model_path, pretrained)."),
    "nothing_left": (STOPS, "Nothing is left to train on",
        "Correct the files listed in this report."),
    # class names
    "classes_missing": (STOPS, "The file of class names is missing",
        "Set classes_path to the right file, or to None to have one made."),
    "classes_empty": (STOPS, "A file of class names is empty",
        "Write one class name per line."),
    "classes_blank": (STOPS,
        "A blank line between class names: every class after it would get the wrong number",
        "Delete the line."),
    "classes_twice": (STOPS, "A class name appears twice",
        "Delete one of the two."),
    "unknown_class": (STOPS, "Class names in the annotations that are missing from the classes file",
        "Correct the labels, add the names to the classes file, or set classes_path=... to the file of "
        "this dataset (a file made by voc_annotation.py can be deleted: it is then made again)."),
    "class_number": (STOPS, "Class numbers in the labels without a class name",
        "Correct these labels, or the class names they belong to (data.yaml, classes.txt, categories)."),
    "class_absent": (WORKS, "Classes without a training image: they will never be detected",
        "Remove them from the classes file, or label some."),
    "no_objects": (STOPS, "There is no object to learn from",
        "Are these the right labels, and is this the right classes file?"),
    # images
    "file_missing": (WITHOUT, "Files that cannot be opened",
        "Were they moved or deleted, or are you not allowed to read them?"),
    "not_an_image": (WITHOUT, "Files that are not images, whatever their suffix",
        "Export or download them again."),
    "image_damaged": (WITHOUT, "Images that are cut off or damaged",
        "Copy or download them again."),
    "image_kind": (WITHOUT, "Images with bands or numbers of a kind that is not read",
        "Save them as PNG, or as TIFF with 1 or 3 bands of 8 or 16 bits."),
    "image_pages": (WORKS, "TIFF images of several pages; only the first page is used",
        "Save the pages as files of their own if they are pictures of their own."),
    "one_colour": (WORKS, "Images of a single colour, though their labels show objects",
        "Look at them: were they damaged, or written before the camera was ready? Remove them with their "
        "labels."),
    "image_too_large": (WITHOUT, "Images that are far too large",
        "Cut them into tiles or shrink them, with their labels."),
    "image_huge": (WORKS, "Images of more than 50 megapixels: each takes seconds and much memory to open",
        "Shrink them or cut them into tiles, with their labels, or training waits for them."),
    "listed_missing": (STOPS, "Images or masks of a list that are missing",
        'Was something deleted? python voc_annotation.py {dataset}  makes the lists without it.'),
    "listed_moved": (STOPS, "Images or masks of a list that are missing, and so is their folder",
        "Was the dataset moved or renamed? Give its new place, to a resumed run as well: dataset=..."),
    "listed_unusable": (STOPS, "Masks or validation images of a list that cannot be used",
        'python voc_annotation.py {dataset}  makes the lists without them; or remove the line.'),
    # labels: xml files, and those of other programs
    "xml_empty": (WITHOUT, "Empty xml files",
        "Label these images. If the image contains no objects, write <annotation></annotation> "
        "to the file."),
    "xml_broken": (WITHOUT, "Files that are not complete XML",
        "Save them again from the program that made them."),
    "label_encoding": (WITHOUT, "Files that are not text",
        "Save them as utf-8."),
    "xml_schema": (WITHOUT, "XML that is not a VOC annotation",
        "Export the labels as Pascal VOC."),
    "xml_harmful": (WITHOUT, "XML with a DOCTYPE or ENTITY, which no annotation needs and which can do harm",
        "Delete those lines."),
    "label_too_large": (WITHOUT, "Files far too large for an annotation",
        "Check what is in them: an annotation has a few kB."),
    "json_broken": (WITHOUT, "Files that are not complete JSON",
        "Save them again from the program that made them."),
    "label_broken": (WITHOUT, "Labels that cannot be read; the whole image is skipped",
        "Correct what is listed there, or export the labels again."),
    "label_line": (WITHOUT, "Lines of labels that cannot be read; only these lines are skipped",
        "Correct them: an object that is not read is taught as background."),
    "tag_missing": (WITHOUT, "Objects without a required tag; the whole image is skipped",
        "Add the tag, or delete the object."),
    "rotated_box": (WITHOUT, "Rotated boxes or polygons without an upright box; the whole image is skipped",
        "Export upright boxes (in roLabelImg: Create RectBox), or outlines where the format has them."),
    "bad_number": (WITHOUT, "Coordinates that are not numbers; the whole image is skipped",
        "Write a number of pixels like 12 or 12.5 (in YOLO labels a share of the image like 0.25)."),
    "share_beyond": (WITHOUT, "YOLO labels with numbers outside 0 to 1; the whole image is skipped",
        "Write shares of the image. If these are pixels: divide x and w by its width, y and h "
        "by its height."),
    "pixels_for_shares": (STOPS,
        "Many YOLO labels with numbers outside 0 to 1, though they should hold shares of the image",
        "If these are pixels: divide x and w by the width of the image, y and h by its height, or export "
        "the labels again as YOLO."),
    "box_layout": (STOPS, "YOLO labels that do not seem to hold the centre and the size of their boxes",
        "Write class, x and y of the centre, width and height, all as shares of the image, or export the "
        "labels again as YOLO."),
    "numbers_unused": (WORKS, "Labels with more numbers than a box has",
        "Nothing, if these are no outlines. See the pictures of  "
        'python tools/doctor.py {dataset}'),
    "label_ambiguous": (WORKS, "Lines of labels with two possible meanings",
        'See the pictures of  python tools/doctor.py {dataset}  . If these are key points, write a '
        "line  kpt_shape: [points, 2]  into the data.yaml."),
    "bad_difficult": (WITHOUT,
        "<difficult> (iscrowd in COCO) that is neither 0 nor 1; the whole image is skipped",
        "Write 0, or 1 for objects that people can hardly see."),
    "no_outline": (WITHOUT, "Objects with a box but no outline; their images have no mask and are skipped",
        'Draw polygons; or use the boxes: python voc_annotation.py {dataset} task=detection'),
    "shape_flat": (WITHOUT, "Shapes without an area, like points and lines",
        "Draw polygons or rectangles around the objects."),
    "outline_broken": (WITHOUT, "Outlines that cannot be read; the boxes of these objects are used",
        "Draw them again, if you need masks (task=segmentation)."),
    # boxes
    "shares_for_pixels": (STOPS, "Boxes that seem to hold shares of the image instead of pixels",
        "Multiply x and width by the width of the image, y and height by its height, or export the labels "
        "again."),
    "box_swapped": (WORKS, "Boxes with xmin > xmax or ymin > ymax; their corners are swapped",
        "Nothing, if these boxes look right in the pictures of  "
        'python tools/doctor.py {dataset}'),
    "corner_is_size": (STOPS, "Boxes that seem to hold width and height instead of xmax and ymax",
        "Write xmin + width and ymin + height there, or export the labels again as Pascal VOC."),
    "size_is_corner": (STOPS, "Boxes that seem to hold xmax and ymax instead of width and height",
        "Write xmax - xmin and ymax - ymin there, or, in a table, name these columns xmax and ymax."),
    "two_readings": (WORKS, "Boxes without column names that make sense in two readings",
        'See the pictures of  python tools/doctor.py {dataset}  ; a first line with names like  '
        "filename,xmin,ymin,xmax,ymax,class  says what is meant."),
    "box_empty": (WITHOUT, "Boxes without width or height",
        "Delete them, or draw them again."),
    "box_outside": (WITHOUT, "Boxes that are outside their image by four fifths or more",
        "Is it another image, or was it resized or rotated since?"),
    "box_clipped": (WORKS, "Boxes that reach beyond their image; they are clipped to its border",
        "Was the image resized or rotated since?"),
    "box_twice": (WORKS, "Duplicate boxes; in evaluation one of the two always counts as missed",
        "Delete one of them."),
    "box_tiny": (WORKS, "Objects smaller than a cell of the network's finest grid: hardly learnt",
        "A larger input_shape, or cut the images into tiles."),
    "size_wrong": (WORKS, "Labels that give another size than their image has",
        "Was the image resized since? Then its boxes are wrong: label it again. See the pictures of  "
        'python tools/doctor.py {dataset}'),
    "size_turned": (WORKS, "Labels that give the size of their image rotated by 90 degrees",
        "The boxes were drawn before the image was rotated (EXIF), or only width and height are swapped. "
        'See the pictures of  python tools/doctor.py {dataset}'),
    # masks
    "mask_lossy": (WITHOUT, "Masks in a lossy format (JPEG, WebP), which changes class numbers",
        "Export them again as PNG; converting them does not bring the numbers back. Only of few ones far "
        'apart, like black and white, it does: python tools/fix_masks.py "masks={folder}" '
        '"values={{0: 0, 255: 1}}" nearest=True'),
    "mask_colour": (WITHOUT, "Masks that are colour pictures",
        'python tools/fix_masks.py "masks={folder}" palette=...  turns colours into class numbers; '
        "without palette it lists the colours."),
    "mask_alpha": (STOPS, "Masks of one colour whose label seems to be in the alpha channel (transparency)",
        'python tools/fix_masks.py "masks={folder}" channel=alpha "values={{255: 1}}"  makes masks of it.'),
    "mask_pages": (WITHOUT, "Masks of several pages: which one is meant?",
        "Save the page that holds the class numbers as a file of its own, best as PNG."),
    "mask_deep": (WITHOUT, "Masks with 16 bits for each of several channels",
        "Save them as grey PNG of 8 bits."),
    "mask_numbers": (WITHOUT, "Masks with numbers that are not whole or not from 0 to 255",
        "Export class numbers: 0, 1, 2 ... (are these instance ids?)"),
    "mask_size": (WITHOUT, "Masks of another size than their image",
        'Export them again, or python tools/fix_masks.py "masks={folder}" "images={images}"  resizes them '
        "(nearest neighbour)."),
    "mask_turned": (WITHOUT, "Masks rotated by 90 degrees relative to their image",
        "The EXIF orientation was lost or applied in only one of the two: export image and mask again "
        "from the same program."),
    "palette_lacks": (STOPS, "Masks with colours or numbers that have no line in the palette",
        "Add lines for them, or the line  * ignored"),
    "mask_values": (STOPS, "Masks with values that are no class",
        "Correct the classes file, or renumber them."),
    "masks_0_255": (STOPS, "All masks hold only 0 and 255; but 255 means 'not labelled'",
        'python tools/fix_masks.py "masks={folder}" "values={{255: 1}}"  writes 1 for the objects.'),
    "mask_0_255": (WORKS,
        "Single masks that hold only 0 and 255; 255 means 'not labelled' and is never learnt",
        'If it means the object: python tools/fix_masks.py "masks={folder}" "values={{255: 1}}"'),
    "masks_brightness": (STOPS,
        "The values of the masks are brightnesses rather than class numbers, which count 0, 1, "
        "2 ... without gaps",
        "If these are class numbers, write a file of the class names; else renumber the masks."),
    "mask_strays": (STOPS,
        "The masks hold few values in nearly all of their pixels, and many others at the edges of these",
        "Export them again as PNG, without smoothing and without resizing."),
    "void_class": (WORKS, "A class that may mean 'not labelled'; it is learnt like the others",
        "Look into the description of the dataset, whether it means that."),
    "masks_one_class": (STOPS, "All labelled pixels are of one class, so there is nothing to tell apart",
        "An object must be written as 1, 2, 3 ..."),
    # list files
    "list_absent": (STOPS, "There is no such list file",
        'python voc_annotation.py {dataset}  writes it.'),
    "list_line": (STOPS, "Lines of a list that are no sample",
        'python voc_annotation.py {dataset}  writes the list again.'),
    "list_class": (STOPS, "Class numbers in a list that are missing from the classes file",
        "Set classes_path to the file the list was made with. A file made by voc_annotation.py can be "
        'deleted:  python voc_annotation.py {dataset}  then makes it and the lists again.'),
}
ORDER = (STOPS, WITHOUT, WORKS)
MARKS = {STOPS: "✗", WITHOUT: "!", WORKS: "·"}


def as_error(finding):
    """The finding as the sentence of a UserError."""
    _, sentence, _ = KINDS[finding.kind]
    detail = f" ({finding.detail})" if finding.detail else ""
    return UserError(f"{place(finding)}: {sentence}{detail}. {remedy([finding])}", kind=finding.kind)


def from_error(error, file, kind="image_damaged"):
    """What a UserError says about a file, as a finding: its sentence is the detail.

    The name of the file and the line in front of the sentence become fields of the finding.
    """
    name = re.escape(shown(Path(file)))
    text = re.sub(rf"^{name}(?!/)[:, ]*", "", str(error)).rstrip(".")       # (?!/): not of a file below it
    line = None
    if match := re.match(r"line (\d+): ", text):
        line = int(match[1])
        text = text[match.end():]
    return Finding(error.kind if error.kind in KINDS else kind, Path(file), line, text)


def place(finding):
    """File and line, for people."""
    name = shown(finding.file)
    if not name.isprintable():
        name = ascii(name)
    return f"{name}, line {finding.line}" if finding.line else name


def remedy(findings, dataset=None):
    """What to do about findings of one kind. dataset: the words that give it; None: not known here."""
    folder = common_folder([finding.file for finding in findings])
    _, _, advice = KINDS[findings[0].kind]
    if findings[0].advice:
        return findings[0].advice
    words = dataset or '"dataset=..."'
    if "task=" in advice:                                   # the advice is another task
        words = words.replace(" task=segmentation", "")
    return advice.format(folder=shown(folder), images=shown(images_beside(folder)), dataset=words)


def images_beside(folder):
    """The folder of the images whose masks are in a folder: masks/train -> images/train; "...": not known."""
    for masks in (folder, *folder.parents[:2]):
        for name in ("JPEGImages", "images"):
            images = masks.parent / name
            same = images / folder.relative_to(masks)
            if images.is_dir():
                return same if same.is_dir() else images
    return "..."


def common_folder(paths):
    """The innermost folder that holds all the files."""
    folders = [str(path.parent) for path in paths]
    try:
        return Path(os.path.commonpath(folders))
    except ValueError:                                      # on two drives
        return Path(folders[0])


def worst(findings):
    """What happens: STOPS, WITHOUT or WORKS."""
    return min((KINDS[finding.kind][0] for finding in findings), key=ORDER.index, default=WORKS)


def grouped(findings):
    """kind -> findings: first the kinds that stop, and of those the most frequent."""
    groups = defaultdict(list)
    for finding in findings:
        groups[finding.kind].append(finding)

    def rank(kind):
        effect, _, _ = KINDS[kind]
        return ORDER.index(effect), -len(groups[kind])

    return {kind: groups[kind] for kind in sorted(groups, key=rank)}


def report(findings, most=None, dataset=None):
    """All findings for people: of every kind how many, the first files, the remedy, what happens.

    most: files of a kind that are named, None: SHOWN.  dataset: as in `remedy`.
    """
    lines, most = [], most or SHOWN
    for kind, group in grouped(findings).items():
        effect, sentence, _ = KINDS[kind]
        lines.append(f"{MARKS[effect]} {sentence}: {len(group)}   [{kind}: {effect}]")

        # A detail of several lines, as a tree of folders, is indented below its file.
        for finding in first_ones(group, most):
            detail = f": {finding.detail}" if finding.detail else ""
            lines.append(f"    {place(finding)}" + detail.replace("\n", "\n        "))
        if len(group) > most:
            lines.append(f"    ... and {len(group) - most} more")
        lines.append(f"    -> {remedy(group, dataset)}")
    return "\n".join(lines)


def first_ones(group, most):
    """The first findings of a kind; those that say something new before those that repeat a detail."""
    said, repeats = Counter(), []
    for finding in group:
        repeats.append(said[finding.detail] if finding.detail else 0)
        said[finding.detail] += 1
    chosen = sorted(range(len(group)), key=lambda i: repeats[i])[:most]
    return [group[i] for i in sorted(chosen)]


def verdict(findings, what):
    """One line: how many findings, and what happens."""
    if not findings:
        return f"{what}: no problems found"
    counts = Counter(KINDS[finding.kind][0] for finding in findings)
    words = ((STOPS, "must be fixed"), (WITHOUT, "skipped"), (WORKS, "worth checking"))
    numbers = ", ".join(f"{counts[effect]} {word}" for effect, word in words if counts[effect])
    return f"{what}: {counted(len(findings), 'finding')} ({numbers}): {worst(findings)}"


def tell(findings, what, then="No list was written.", subject=None, most=None, say=print, dataset=None):
    """Say what was found, then `stop`.

    subject: what the error is about, None: `what`.  most, dataset: as in `report`.  then, say: what follows
    from the error, what prints.
    """
    # What stops comes last, as an error, where it cannot be overlooked.
    rest = report([finding for finding in findings if KINDS[finding.kind][0] != STOPS], most, dataset)
    say(verdict(findings, what) + (f"\n{rest}" if rest else ""))
    stop(findings, subject or what, then, dataset)


def stop(findings, what, then="No list was written.", dataset=None):
    """Error when something must be fixed first. then: what follows from that."""
    bad = [finding for finding in findings if KINDS[finding.kind][0] == STOPS]
    if bad:
        raise UserError(f"{what}: {counted(len(bad), 'finding')} must be fixed first.\n"
                        f"{report(bad, dataset=dataset)}\n{then}", kind=bad[0].kind)
