"""WIDER FACE: a text file lists the images of WIDER_train/images, each with its number of faces and a line
for each face:  x y width height blur expression illumination invalid occlusion pose, in px.

The form of RetinaFace is read too: "# name of the image", then lines of x y width height and landmarks. A
face marked as invalid is difficult.
Source: Yang et al., "WIDER FACE: A Face Detection Benchmark", CVPR 2016; the readme beside its annotations.
"""
import re

from utils.errors import UserError
from utils.findings import Finding
from utils.formats.foreign import files_below, with_siblings
from utils.formats.rows import (
    READINGS,
    BoxRow,
    find_named,
    images_near,
    index_images,
    into_lists,
    numbers_of,
    samples_of_rows,
    split_by_folders,
)
from utils.formats.sniff import format_of
from utils.images import SUFFIXES
from utils.lists import NUMBER
from utils.settings import shown
from utils.system.files import printable, read_raw_lines

NAME = "face"
INVALID = 7                     # the place of that word in a line of the first form, which has 10
MAX_BYTES = 200_000_000


def read_wider_face(path, findings):
    """-> class names, dict list name -> samples; see foreign.py. path: a list, or a folder of them."""
    if path.is_dir():
        files = [file for file in files_below(path, (".txt",)) if format_of(file) == "wider_face"]
    else:
        files = with_siblings(path, lambda file: format_of(file) == "wider_face")
    home, images = images_near(path if path.is_dir() else path.parent)
    names = index_images(home, images)

    lists, listed = {}, {}
    for file in files:
        entries = {}
        for line, name, told, rows in records_of(file, findings):
            try:
                image = find_named(name, file, names)
                if image in listed:
                    raise UserError(f"{printable(image.name)} is also in {shown(listed[image])}",
                                    kind="label_twice")
            except UserError as error:
                findings.append(Finding(error.kind, file, line, str(error)))
                continue

            # A number of faces that is wrong: some lines are missing, or belong to another image.
            if told not in (None, len(rows)):
                detail = f"{printable(image.name)}: {told} faces are announced, {len(rows)} lines follow"
                findings.append(Finding("label_broken", file, line, detail))
                continue
            listed[image] = file
            entries[image] = file, rows

        samples = samples_of_rows(file, entries, "xywh", findings)
        split = split_by_folders(file, home, with_name=True)
        for name, some in into_lists(samples, lambda image, split=split: split).items():
            lists.setdefault(name, []).extend(some)
    return [NAME], lists


def records_of(file, findings):
    """The records of a list: line, name of an image, the number of faces it announces or None, its BoxRows.

    Findings: a line that belongs to no image.
    """
    records = []
    for number, line in enumerate(read_raw_lines(file, MAX_BYTES), 1):
        words = line.split()
        if not words:
            continue
        if is_name(line.strip()):
            records.append([number, line.strip().removeprefix("#").strip(), None, []])
        elif not records:
            findings.append(Finding("label_line", file, number, "it stands before the first image"))

        # The line after the name holds the number of faces; without a face a line of zeros may follow.
        elif len(words) == 1 and re.fullmatch("[0-9]{1,8}", words[0]) and not records[-1][3]:
            records[-1][2] = int(words[0])
        elif records[-1][2] != 0 or set(words) != {"0"}:
            records[-1][3].append(face_row(number, words))
    return records


def is_name(line):
    """Whether a line names an image. Without a suffix it does when it is one word and no number."""
    one_word = len(line.split()) == 1 and not NUMBER.fullmatch(line)
    return line.startswith("#") or line.lower().endswith(SUFFIXES) or one_word


def face_row(number, words):
    """The words of a line -> BoxRow; one with the error when it cannot be read."""
    try:
        if len(words) < 4:
            raise UserError(f"{len(words)} numbers, expected  x y width height ...")
        numbers = numbers_of(words, READINGS["xywh"].split())
        return BoxRow(number, NAME, numbers, len(words) == 10 and words[INVALID] == "1")
    except UserError as error:
        return BoxRow(number, error=error)
