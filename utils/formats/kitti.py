"""KITTI: training/image_2/000000.png with training/label_2/000000.txt; also written by CVAT and other tools.

A line is  type truncated occluded alpha x1 y1 x2 y2 height width length X Y Z rotation [score], with the
corners of the box in px. DontCare marks regions where nothing is labelled: no objects.
Source: Geiger et al., "Are we ready for autonomous driving?", CVPR 2012; the readme of its development kit.
"""
from utils.errors import UserError
from utils.findings import from_error
from utils.formats.foreign import class_name, files_below
from utils.formats.objects import IGNORE
from utils.formats.rows import (
    BoxRow,
    images_near,
    into_lists,
    lonely_images,
    match_stems,
    numbers_of,
    samples_of_rows,
    split_by_folders,
)
from utils.formats.sniff import format_of
from utils.lists import NUMBER
from utils.settings import shown
from utils.system.files import read_raw_lines

NUMBERS = (14, 15)              # behind the type; with a score 15
MAX_BYTES = 20_000_000


def read_kitti(folder, findings):
    """-> class names (sorted: KITTI has no order), dict list name -> samples; see foreign.py."""
    samples, lists = read_text_files(folder, "kitti", kitti_row, "xyxy", findings)
    names = {thing["name"] for sample in samples if sample for thing in sample.truth}
    return sorted(names - {IGNORE}), lists


def read_text_files(folder, kind, parse, layout, findings):
    """Datasets with a text file for each image -> list of samples, dict list name -> samples.

    kind: a key of sniff.FORMATS.  parse: the text of a line -> BoxRow without its line number, may raise a
    UserError.  layout: as in samples_of_rows.
    """
    home, images = images_near(folder)
    stems = {image.stem for image in images}
    files = [file for file in files_below(folder, (".txt",)) if file.stem in stems or format_of(file) == kind]
    owners = match_stems(images, files, findings)

    # A file that is no text costs its image only, an unreadable line only itself.
    entries = {}
    for image, file in owners.items():
        try:
            lines = enumerate(read_raw_lines(file, MAX_BYTES), 1)
        except UserError as error:
            findings.append(from_error(error, file, "label_encoding"))
            continue
        entries[image] = file, [parse_line(parse, number, line) for number, line in lines if line.strip()]

    samples = samples_of_rows(folder, entries, layout, findings)
    lonely_images(images, owners, findings, {file.stem for file in files if file not in owners.values()})
    ignored = sum(thing["name"] == IGNORE for sample in samples.values() if sample for thing in sample.truth)
    if ignored:
        print(f"{shown(folder)}: {ignored} regions where nothing is labelled are no objects")
    return list(samples.values()), into_lists(samples, lambda image: split_by_folders(owners[image], home))


def parse_line(parse, number, line):
    """A line -> BoxRow; one with the error when it cannot be read."""
    try:
        return parse(line)._replace(line=number)
    except UserError as error:
        return BoxRow(number, error=error)


def kitti_row(line):
    """A line -> BoxRow."""
    # The numbers are counted from the right: a type may hold spaces.
    words = line.split()
    count = 0
    while count < min(len(words) - 1, NUMBERS[1]) and NUMBER.fullmatch(words[-1 - count]):
        count += 1
    if count not in NUMBERS:
        raise UserError(f"{count} numbers behind {words[-1 - count][:40]!r}, expected 14: type "
                        "truncated occluded alpha x1 y1 x2 y2 ...")

    # DontCare is no class.
    name, numbers = class_name(" ".join(words[:-count])), words[-count:]
    if name.lower() == "dontcare":
        name = IGNORE
    return BoxRow(None, name, numbers_of(numbers[3:7]), name == IGNORE)
