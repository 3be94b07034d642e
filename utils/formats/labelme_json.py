"""Folders of labelme_json_to_dataset: a_json/ with img.png, label.png and label_names.txt, one per image.

The numbers in a label.png are lines of the label_names.txt beside it, so each folder has its own: 1 is a cat
in one image and a dog in the next. The masks are made again, with one numbering for all.
"""
from collections import defaultdict

import numpy as np

from utils.errors import UserError
from utils.findings import Finding, from_error
from utils.formats.foreign import class_name, files_below, folder_split
from utils.formats.labelme import NAMES_FILE
from utils.formats.objects import BACKGROUND, IGNORE
from utils.formats.sweep import look_at_sample, size_finding, sweep
from utils.images import IGNORED, open_mask
from utils.settings import shown
from utils.system.files import read_lines


def has_label_names(folder):
    """Whether there are such folders below a folder."""
    return any((file.parent / "label.png").is_file() for file in names_files(folder))


def names_files(folder):
    return [file for file in files_below(folder, NAMES_FILE) if file.name == NAMES_FILE]


def read_labelme_json(folder, findings, _palette=None):
    """-> class names, dict list name -> samples, jobs for made_masks.make_masks."""
    looked = sweep(look_at_names, [(file,) for file in names_files(folder)], f"Checking {shown(folder)}")
    names_of = {}
    for sample, names, found in looked:
        findings += found
        if sample:
            names_of[sample] = names

    # One numbering for all, in the order of the alphabet; what is no class keeps its fixed number.
    known = {name for names in names_of.values() for name in names} - {*BACKGROUND, IGNORE}
    numbers = {name: number for number, name in enumerate(sorted(known), 1)}
    numbers |= dict.fromkeys(BACKGROUND, 0) | {IGNORE: IGNORED}

    lists, jobs = defaultdict(list), {}
    for sample, names in names_of.items():
        lists[folder_split(sample.image, folder)].append(sample)
        table = [numbers[name] for name in names]

        def make(sample=sample, table=table):
            return renumber(sample, table)

        state = sample.label.stat()
        jobs[sample.image] = sample.label, repr((state.st_size, state.st_mtime_ns, table)), make
    return ["background", *sorted(known)], dict(lists), jobs


def look_at_names(file):
    """label_names.txt -> Sample with its label.png, None when one of the files cannot be used; the names;
    findings."""
    sample, findings = look_at_sample(file.with_name("img.png"))
    label = file.with_name("label.png")
    try:
        names = [class_name(line) for line in read_lines(file)]
        if not label.is_file():
            return None, names, [*findings, Finding("image_without_label", file.with_name("img.png"))]
    except UserError as error:
        return None, [], [*findings, from_error(error, file, "label_broken")]
    return sample and sample._replace(label=label), names, findings


def renumber(sample, table):
    """The mask of a sample with other numbers. table: the number for each line of label_names.txt."""
    values = open_mask(sample.label)
    for finding in size_finding(sample.label, values.shape[::-1], sample.size):
        raise UserError(finding.detail, kind=finding.kind)
    if values.max(initial=0) >= len(table):
        raise UserError(f"it holds the number {values.max()}, {NAMES_FILE} has {len(table)} names",
                        kind="label_broken")
    return np.array(table, np.uint8)[values]
