"""What can be wrong with data: the table of kinds, and the report that shows all of it at once.

A finding is a plain record. What it means, what to do about it and what happens meanwhile stands in KINDS, once for every kind.
"""
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

from utils.errors import UserError
from utils.settings import shown

STOPS, WITHOUT, WORKS = "stops", "works without these", "works"
SHOWN = 10                      # files of a kind that a report names


class Finding(NamedTuple):
    kind: str                   # a key of KINDS
    file: Path                  # the file or folder it is about
    line: int | None = None     # where in it, from 1
    detail: str = ""            # what exactly


# kind: what happens, what is wrong, what to do. {folder}: of the first finding, {images}: the folder beside it that holds the images
KINDS = {
    # the folder and its lists
    "layout": (STOPS, "This is not the folder of a data set",
        "Give the folder that holds JPEGImages: dataset=..."),
    "not_readable": (STOPS, "This data set cannot be read as it is",
        "Put right what is named there."),
    "stem_twice": (STOPS, "Files that are the same before the suffix: which one is meant?",
        "Rename or remove one of them."),
    "bad_name": (WITHOUT, "File names that cannot stand in a list",
        "Rename them (valid text without / \\ : and control characters)."),
    "other_suffix": (WITHOUT, "Files that are not read, because of their suffix",
        "Convert them if they belong to the data set."),
    "labelme_file": (WITHOUT, "labelme files in the place of xml files",
        "Give their folder itself: python voc_annotation.py \"dataset={folder}\""),
    "yolo_file": (WITHOUT, "YOLO text files in the place of xml files",
        "Give the data.yaml of that data set: python voc_annotation.py dataset=..."),
    "image_without_label": (WITHOUT, "Images without a label",
        "Label them. Is nothing in the picture: write <annotation></annotation> into an xml file of the same name (labelme: a file without "
        "shapes; segmentation: a mask of zeros)."),
    "image_without_txt": (WORKS, "Images without a txt file of labels: they count as images in which there is nothing",
        "Label them if there is something. Do the names of the two differ?"),
    "label_without_image": (WITHOUT, "Labels without an image",
        "Add the images, or look whether their names differ."),
    "label_twice": (STOPS, "Several labels for one image, or several images of one number: which one is meant?",
        "Delete one of them."),
    "list_name": (STOPS, "Lines of a list that are no plain names",
        "Write the names of the images alone: no folder, no suffix (in the lists of a data.yaml: relative to the data set)."),
    "list_no_image": (STOPS, "Names in a list without an image",
        "Take them out of the list, add the files, or set new_split=True (in the lists of a data.yaml that is no way out)."),
    "list_no_label": (STOPS, "Names in a list without a label",
        "Take them out of the list, add the files, or set new_split=True."),
    "list_missing": (STOPS, "A list is not there",
        "Write it, set train_set or val_set to one that is there, or new_split=True."),
    "list_empty": (STOPS, "A list without images",
        "Run python voc_annotation.py to make it anew."),
    "not_listed": (WITHOUT, "Labelled images in no list",
        "python voc_annotation.py dataset=... new_split=True  takes them in."),
    "in_train_and_val": (WORKS, "Images in the train and in the val list: what is measured while training will be too good",
        "Take them out of one of the two, or set new_split=True."),
    "in_test": (WORKS, "Images of the test list in train or val too: the test result will be too good",
        "Take them out of the test list, or set new_split=True."),
    "same_across": (WORKS, "The same picture under two names in two lists: what is measured will be too good",
        "Delete one of the two, with its label."),
    "same_picture": (WORKS, "The same picture under two names",
        "Delete one of the two, with its label; a new split could put them into two lists."),
    "few_images": (WORKS, "Few images to learn from",
        "Good for trying things out. Label more; start from trained weights (model_path, pretrained=True)."),
    "nothing_left": (STOPS, "There is nothing left to train on",
        "Correct the files named in this report."),
    # class names
    "classes_missing": (STOPS, "There is no file of class names",
        "Set classes_path to the right file, or None to have one made."),
    "classes_empty": (STOPS, "A file of class names is empty",
        "Write one class name per line."),
    "classes_blank": (STOPS, "A blank line between class names: all after it would get the number of another class",
        "Delete the line."),
    "classes_twice": (STOPS, "A class name stands twice",
        "Delete one of the two."),
    "unknown_class": (STOPS, "Class names of the annotations that the classes file lacks",
        "Correct the labels, add the names to the classes file, or set classes_path=... to the file of this data set (one that was made by "
        "voc_annotation.py can be deleted: it is then made anew)."),
    "class_number": (STOPS, "Class numbers in the labels that the class names lack",
        "Correct these labels, or the class names they belong to (data.yaml, classes.txt, categories)."),
    "class_absent": (WORKS, "Classes that no training image shows: they will never be found",
        "Take them out of the classes file, or label some."),
    "no_objects": (STOPS, "There is no object to learn from",
        "Are these the right labels, and is this the right classes file?"),
    # images
    "file_missing": (WITHOUT, "Files that cannot be opened",
        "Was something moved or deleted, or may you not read it? Then run voc_annotation.py again."),
    "not_an_image": (WITHOUT, "Files that are no images, whatever their name says",
        "Export or download them again."),
    "image_damaged": (WITHOUT, "Images that are cut off or damaged",
        "Copy or download them again."),
    "image_too_large": (WITHOUT, "Images that are far too large",
        "Cut them into tiles or shrink them, with their labels."),
    "listed_missing": (STOPS, "Images or masks of a list that are not there",
        "Was the folder moved, or something deleted? Run python voc_annotation.py again (new_split=True for a new choice of images)."),
    "listed_unusable": (STOPS, "Masks or validation images of a list that cannot be used",
        "Run python voc_annotation.py again, which leaves them out, or take the line out of the list."),
    # labels: xml files, and those of other programs
    "xml_empty": (WITHOUT, "Empty xml files",
        "Label these images. Is nothing in the picture: write <annotation></annotation> into the file."),
    "xml_broken": (WITHOUT, "Files that are no complete XML",
        "Save them again from the program they were made with."),
    "label_encoding": (WITHOUT, "Files that are no text",
        "Save them as utf-8."),
    "xml_schema": (WITHOUT, "XML that is no VOC annotation",
        "Export the labels as Pascal VOC."),
    "xml_harmful": (WITHOUT, "XML with a DOCTYPE or ENTITY, which no annotation needs and which can do harm",
        "Delete those lines."),
    "label_too_large": (WITHOUT, "Files far too large for an annotation",
        "What is in them? An annotation has a few kB."),
    "json_broken": (WITHOUT, "Files that are no complete JSON",
        "Save them again from the program they were made with."),
    "label_broken": (WITHOUT, "Labels that cannot be read, so the whole image is left out",
        "Correct what is named there, or export the labels again."),
    "tag_missing": (WITHOUT, "Objects that lack a tag, so the whole image is left out",
        "Put the tag in, or delete the object."),
    "rotated_box": (WITHOUT, "Rotated boxes or polygons without an upright box, so the whole image is left out",
        "Export upright boxes (in roLabelImg: Create RectBox)."),
    "bad_number": (WITHOUT, "Coordinates that are no numbers, so the whole image is left out",
        "Write a number of pixels like 12 or 12.5 (in YOLO labels a share of the image like 0.25)."),
    "share_beyond": (WITHOUT, "YOLO labels with numbers beyond 0 to 1, so the whole image is left out",
        "Write shares of the image. If these are pixels: divide x and w by its width, y and h by its height."),
    "pixels_for_shares": (STOPS, "Many YOLO labels with numbers beyond 0 to 1, though they should hold shares of the image",
        "If these are pixels: divide x and w by the width of the image, y and h by its height, or export the labels again as YOLO."),
    "bad_difficult": (WITHOUT, "<difficult> (iscrowd in COCO) that is neither 0 nor 1, so the whole image is left out",
        "Write 0, or 1 for what people can hardly see."),
    "no_outline": (WITHOUT, "Objects with a box but no outline, so their images have no mask and are left out",
        "Take task=detection, or draw polygons."),
    "shape_flat": (WITHOUT, "Shapes without an area, like points and lines",
        "Draw polygons or rectangles around what is an object."),
    # boxes
    "box_swapped": (WORKS, "Boxes with xmin > xmax or ymin > ymax; their corners are swapped",
        "Nothing, if these boxes look right in the pictures of python tools/doctor.py"),
    "corner_is_size": (STOPS, "Boxes that seem to hold width and height in the place of xmax and ymax",
        "Write xmin + width and ymin + height there, or export the labels again as Pascal VOC."),
    "box_empty": (WITHOUT, "Boxes without width or height",
        "Delete them, or draw them again."),
    "box_outside": (WITHOUT, "Boxes that lie outside of their image, with four fifths or more",
        "Is it another image, or was it resized or turned since?"),
    "box_clipped": (WORKS, "Boxes that reach beyond their image; they are cut at its border",
        "Was the image resized or turned since?"),
    "box_twice": (WORKS, "The same box twice; in measuring, one of the two always counts as missed",
        "Delete one of them."),
    "box_tiny": (WORKS, "Objects smaller than a cell of the network's finest grid: hardly learnt",
        "A larger input_shape, or cut the images into tiles."),
    "size_wrong": (WORKS, "The labels give another size than their image has",
        "Was the image resized since? Then its boxes are wrong: label it again. See the pictures of python tools/doctor.py"),
    "size_turned": (WORKS, "The labels give the size of the image lying on its side",
        "The boxes were drawn before the image was turned (EXIF), or width and height are only exchanged. See the pictures of python "
        "tools/doctor.py"),
    # masks
    "mask_lossy": (WITHOUT, "Masks in a lossy format (JPEG, WebP), which turns class numbers into others",
        "Export them again as PNG; converting them does not bring the numbers back."),
    "mask_colour": (WITHOUT, "Masks that are colour pictures",
        "python tools/fix_masks.py \"masks={folder}\" palette=...  turns colours into class numbers; without palette it lists the colours."),
    "mask_deep": (WITHOUT, "Masks with 16 bits for each of several channels",
        "Save them as grey PNG of 8 bits."),
    "mask_numbers": (WITHOUT, "Masks with numbers that are not whole or not from 0 to 255",
        "Export class numbers: 0, 1, 2 ... (are these instance ids?)"),
    "mask_size": (WITHOUT, "Masks of another size than their image",
        "Export them anew, or python tools/fix_masks.py \"masks={folder}\" \"images={images}\"  resizes them (nearest neighbour)."),
    "mask_turned": (WITHOUT, "Masks that lie on their side against their image",
        "The EXIF orientation was lost or applied in only one of the two: export image and mask anew from the same program."),
    "palette_lacks": (STOPS, "Masks with colours or numbers that have no line in the palette",
        "Write lines for them there, or the line  * ignored"),
    "mask_values": (STOPS, "Masks with values that are no class",
        "Correct the classes file, or renumber them: python tools/fix_masks.py \"masks={folder}\" \"values={{255: 1}}\""),
    "masks_0_255": (STOPS, "All masks hold only 0 and 255; but 255 means 'not labelled'",
        "python tools/fix_masks.py \"masks={folder}\" \"values={{255: 1}}\"  writes 1 for the objects."),
    "mask_0_255": (WORKS, "Single masks that hold only 0 and 255; 255 means 'not labelled' and is never learnt",
        "If it means the object: python tools/fix_masks.py \"masks={folder}\" \"values={{255: 1}}\""),
    "masks_brightness": (STOPS, "The values of the masks are brightnesses rather than class numbers, which count 0, 1, 2 ... without gaps",
        "python tools/fix_masks.py \"masks={folder}\" \"values={{38: 1, 75: 2}}\"  renumbers them; or write a classes file with as many names."),
    "masks_one_class": (STOPS, "All labelled pixels are of one class, so there is nothing to tell apart",
        "An object must be written as 1, 2, 3 ..."),
    # list files
    "list_absent": (STOPS, "There is no such list file",
        "Run python voc_annotation.py to write it."),
    "list_line": (STOPS, "Lines of a list that are no sample",
        "Run python voc_annotation.py to make the list anew."),
    "list_class": (STOPS, "Class numbers in a list that the classes file does not have",
        "Set classes_path to the file the list was made with, or run python voc_annotation.py again."),
}
ORDER = (STOPS, WITHOUT, WORKS)
MARKS = {STOPS: "✗", WITHOUT: "!", WORKS: "·"}


def as_error(finding):
    """The finding as the sentence of a UserError."""
    return UserError(f"{place(finding)}: {KINDS[finding.kind][1]}{f' ({finding.detail})' if finding.detail else ''}. {remedy([finding])}",
                     kind=finding.kind)


def from_error(error, file, kind="image_damaged"):
    """What a UserError says about a file, as a finding; its sentence is the detail, without the name of the file and the line in front."""
    text = re.sub(rf"^{re.escape(shown(Path(file)))}(?!/)[:, ]*", "", str(error)).rstrip(".")        # not of a file below it
    line = re.match(r"line (\d+): ", text)
    return Finding(error.kind if error.kind in KINDS else kind, Path(file), int(line[1]) if line else None, text[line.end() if line else 0:])


def place(finding):
    name = shown(finding.file)
    name = name if name.isprintable() else ascii(name)
    return f"{name}, line {finding.line}" if finding.line else name


def remedy(findings):
    """What to do about findings of one kind."""
    folder = findings[0].file.parent
    images = next((folder.parent / name for name in ("JPEGImages", "images") if (folder.parent / name).is_dir()), "...")
    return KINDS[findings[0].kind][2].format(folder=shown(folder), images=shown(images))


def worst(findings):
    """What happens: STOPS, WITHOUT or WORKS."""
    return min((KINDS[finding.kind][0] for finding in findings), key=ORDER.index, default=WORKS)


def grouped(findings):
    """kind -> findings, what stops first, then by their number."""
    groups = defaultdict(list)
    for finding in findings:
        groups[finding.kind].append(finding)
    return dict(sorted(groups.items(), key=lambda pair: (ORDER.index(KINDS[pair[0]][0]), -len(pair[1]))))


def report(findings, most=None):
    """All findings for people: every kind with its number, its first files and lines, the remedy and what happens."""
    lines, most = [], most or SHOWN
    for kind, group in grouped(findings).items():
        effect, sentence, _ = KINDS[kind]
        lines.append(f"{MARKS[effect]} {sentence}: {len(group)}   [{kind}: {effect}]")
        for finding in first_ones(group, most):
            lines.append(f"    {place(finding)}" + (f": {finding.detail}" if finding.detail else "").replace("\n", "\n        "))
        if len(group) > most:
            lines.append(f"    ... and {len(group) - most} more")
        lines.append(f"    -> {remedy(group)}")
    return "\n".join(lines)


def first_ones(group, most):
    """The first findings of a kind, those that say something new before those that say the same again."""
    said, rank = Counter(), []
    for finding in group:
        rank.append(said[finding.detail] if finding.detail else 0)
        said[finding.detail] += 1
    chosen = sorted(range(len(group)), key=lambda i: rank[i])[:most]
    return [group[i] for i in sorted(chosen)]


def verdict(findings, what):
    """One line: how many findings, and what happens."""
    if not findings:
        return f"{what}: nothing to complain about"
    counts = Counter(KINDS[finding.kind][0] for finding in findings)
    words = ((STOPS, "to be put right first"), (WITHOUT, "left out"), (WORKS, "to look at"))
    numbers = ", ".join(f"{counts[effect]} {word}" for effect, word in words if counts[effect])
    return f"{what}: {len(findings)} finding{'s' * (len(findings) > 1)} ({numbers}): {worst(findings)}"


def tell(findings, what, then="No list was written.", subject=None, most=None, say=print):
    """Say what was found, then `stop`. subject: what its error is about, None: `what`.  most: files of a kind that are named, None: SHOWN."""
    rest = report([finding for finding in findings if KINDS[finding.kind][0] != STOPS], most)
    say(verdict(findings, what) + (f"\n{rest}" if rest else ""))
    stop(findings, subject or what, then)


def stop(findings, what, then="No list was written."):
    """Error when something must be put right first; the report with everything was printed before. then: what follows from that."""
    bad = [finding for finding in findings if KINDS[finding.kind][0] == STOPS]
    if bad:
        raise UserError(f"{what}: {len(bad)} finding{'s' * (len(bad) > 1)} must be put right first.\n{report(bad)}\n{then}",
                        kind=bad[0].kind)
