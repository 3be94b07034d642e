"""What the values in all masks of a dataset say together: are they class numbers, is each of them a class?"""
import re
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from utils.findings import STOPS, Finding, common_folder, worst
from utils.images import IGNORED, open_mask
from utils.labels import UNKNOWN, label_table, spans, unknown_values
from utils.settings import shown
from utils.system.files import printable

BRIGHT, MANY = 20, 200          # above the first with gaps, or above the other: perhaps no class numbers
NEAR = 12                       # as far from a level are the values that a lossy format makes of it
LEVEL, LEVELS = 0.002, 0.7      # shares of the pixels: that a level has at least, and all of them together
SOLID = 0.2                     # share of its pixels that are not at the edge of an area of this value
LOOKED_AT = 24                  # masks in which the borders between classes are looked at
THIN, INSIDE = 0.01, 0.02       # share of a side, and of the pixels that a seam has farther from its rim
OFTEN, APART = 0.6, 0.25        # it is in so many masks, and the others touch each other so much less
VOID = re.compile(r"void|ignor|unlabel|not.?labell?ed|border|boundary|unknown|unclassif|don.?t.?care",
                  re.IGNORECASE)


def mask_findings(samples, learnt, names, classes_path, ignore_labels, derived):
    """Values that are no class, {0, 255}, brightnesses, one class only, classes that no training mask has.

    samples: those with masks, learnt: of these, what training sees.  names: of the classes.
    derived: the names are made from these very masks.
    """
    total = sum(sample.truth for sample in samples)
    found = np.flatnonzero(total).tolist()
    values = [value for value in found if value != IGNORED and value not in ignore_labels]
    folder = common_folder([sample.label for sample in samples])

    # All masks together: black and white pictures, or shades of grey, instead of class numbers.
    if not values or values == [0] and IGNORED in found:
        advice = f"{fix_command(folder, {IGNORED: 1})}  writes 1 for the objects."
        white = [Finding("masks_0_255", sample.label, None,
                         f"it holds {spans(np.flatnonzero(sample.truth).tolist())}", advice)
                 for sample in samples if sample.truth[IGNORED]]
        return white or [Finding("masks_one_class", folder, None, f"the only value is {spans(found)}")]
    nameless = derived or names and values[-1] >= len(names) + len(ignore_labels)
    levels = levels_of(some_masks(samples)) if nameless and len(found) > 2 else []
    if levels:
        return [stray_finding(folder, total, levels, ignore_labels)]
    if derived and values[-1] > BRIGHT and (len(values) < values[-1] / 2 or values[-1] > MANY):
        return [brightness_finding(folder, found, values, ignore_labels)]
    if not names:
        return []

    # Each mask by itself, then what there is to learn from.
    table = label_table(names, ignore_labels)
    findings = single_findings(samples, table, folder, values, names)
    per_label = np.bincount(table, weights=sum(sample.truth for sample in learnt), minlength=256)
    here = np.flatnonzero(per_label[:len(names)])
    if len(here) < 2 and not findings:
        findings.append(Finding("masks_one_class", folder, None,
                                ", ".join(printable(names[label]) for label in here)))
    elif not derived:
        findings += [Finding("class_absent", Path(classes_path), label + 1, printable(name))
                     for label, name in enumerate(names)
                     if not per_label[label]]
    return findings


def some_masks(samples):
    """Enough of the masks to see where in them the values are."""
    return [open_mask(sample.label) for sample in samples[::-(-len(samples) // LOOKED_AT)]]


def fix_command(folder, values, more=""):
    """The words that renumber the masks of a folder."""
    pairs = ", ".join(f"{old}: {new}" for old, new in values.items())
    return f'python tools/fix_masks.py "masks={shown(folder)}" "values={{{pairs}}}"{more}'


def numbered(values, ignore_labels):
    """dict value -> class number: the values in their order get the first numbers that are not ignored."""
    free = [number for number in range(IGNORED) if number not in ignore_labels]
    return dict(zip(values, free))


def single_findings(samples, table, folder, values, names):
    """Findings about each mask by itself."""
    # What to renumber: as many values as names are these classes in order; else what is none counts nowhere.
    unknown = {value: IGNORED for value in values if table[value] == UNKNOWN}
    ordered = {old: new for old, new in numbered(values, ()).items() if old != new}
    advice = "Correct the classes file, or renumber them: " \
             + fix_command(folder, ordered if len(values) == len(names) else unknown)

    # One finding a mask.
    findings = []
    for sample in samples:
        what, known, cause = unknown_values(sample.truth, table)
        if what:
            detail = f"{what}; known are {known}.{cause}"
            findings.append(Finding("mask_values", sample.label, None, detail, advice))
        elif np.flatnonzero(sample.truth).tolist() == [0, IGNORED]:
            share = sample.truth[IGNORED] / sample.truth.sum()
            findings.append(Finding("mask_0_255", sample.label, None, f"{share:.1%} of the pixels are 255"))
    return findings


def brightness_finding(folder, found, values, ignore_labels):
    """The values have gaps: brightnesses, or the numbers of many classes of which few occur."""
    # Even steps up to 255, like 0, 128 and 255, are classes; a 255 behind other numbers means ignored.
    steps = np.diff(found)
    even = found[-1] == IGNORED and len(found) > 2 and steps.max() - steps.min() <= 2
    order = numbered([*values, IGNORED] if even else values, ignore_labels)
    renumbered = {old: new for old, new in order.items() if old != new}

    lines = sum(value not in ignore_labels for value in range(values[-1] + 1))
    advice = f"If these are class numbers, write a file of the {lines} class names, one a line, and set " \
             f"classes_path=...; else  {fix_command(folder, renumbered)}  renumbers them."
    return Finding("masks_brightness", folder, None, f"values {spans(found)}", advice)


def levels_of(masks):
    """The few values that fill areas, where others are strays around and between them, like [0, 128, 255];
    [] when that is not so. masks: some of them, (h, w) uint8 each."""
    counts = sum(np.bincount(mask.ravel(), minlength=256) for mask in masks)
    found, share = np.flatnonzero(counts).tolist(), counts / counts.sum()
    solid = [value for value in found
             if share[value] >= LEVEL and inside(value, masks, 1) > SOLID * counts[value]]

    # Around each of them a lossy format makes others that fill areas too, smaller ones.
    levels = [value for value in solid
              if counts[value] == max(counts[other] for other in solid if abs(other - value) <= NEAR)]
    if len(levels) < 2 or len(levels) == len(found) or min(np.diff(levels)) <= 2 * NEAR:
        return []

    # At an edge that was smoothed, values are on both sides: above one level and below the next. Class
    # numbers below a solid 255, which means 'not labelled', are not.
    smoothed = any(any(low < value <= (low + high) // 2 for value in found)
                   and any((low + high) // 2 < value < high for value in found)
                   for low, high in pairwise(levels))
    return levels if smoothed and share[levels].sum() >= LEVELS else []


def inside(value, masks, reach):
    """How many pixels of a value have only such pixels within `reach` of them."""
    window = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    return sum(int(cv2.erode((mask == value).astype(np.uint8), window).sum()) for mask in masks)


def stray_finding(folder, counts, levels, ignore_labels):
    """Masks that were saved by a lossy format or resized with smoothing."""
    order = numbered(levels, ignore_labels)
    strays = np.setdiff1d(np.flatnonzero(counts), levels)
    share = counts[strays].sum() / counts.sum()
    detail = f"{spans(levels)}, and {len(strays)} other values in {share:.1%} of the pixels"
    advice = "Export them again as PNG, without smoothing; or " \
             f"{fix_command(folder, order, ' nearest=True')}  gives every pixel the number of the nearest " \
             "of these values (write 255 for one that means 'not labelled')."
    return Finding("mask_strays", folder, None, detail, advice)


def void_findings(samples, names, ignore_labels, derived, findings):
    """Findings: classes that may mean "not labelled", by their name, or by where they are in the masks.

    findings: those so far; masks that cannot be used as they are ask no more questions.
    """
    if worst(findings) == STOPS or not names:
        return []

    # The classes that occur.
    table = label_table(names, ignore_labels)
    folder = common_folder([sample.label for sample in samples])
    total = sum(sample.truth for sample in samples)
    values = [value for value in np.flatnonzero(total).tolist() if table[value] < len(names)]

    asked = {}
    for value in values:
        if not derived and VOID.search(names[table[value]]):
            asked[value] = f'it is called "{printable(names[table[value]])}"'
    if len(values) > 2:
        asked = where_it_is(values, some_masks(samples), derived) | asked
    return [void_finding(folder, value, why) for value, why in asked.items()]


def void_finding(folder, value, why):
    advice = f"Look into the description of the dataset. If {value} means 'not labelled': " \
             f"ignore_labels=[{value}], without its line in a file of class names."
    return Finding("void_class", folder, None, f"value {value}: {why}", advice)


def where_it_is(values, masks, derived):
    """dict value -> why it may mean "not labelled", by the borders in the masks. values: of the classes."""
    touch = sum(contacts(mask) for mask in masks)[np.ix_(values, values)]           # (K, K), symmetric
    asked = {}
    for place, value in enumerate(values):
        with_others = touch[place].sum()
        among_others = (touch.sum() - 2 * with_others) / 2
        neighbours = np.count_nonzero(touch[place])
        if neighbours > 1 and among_others < APART * with_others and is_thin(value, masks):
            asked[value] = "it forms thin seams between the others"

    # The last of many numbers, which nobody named, next to everything: often the rest of a scene.
    everywhere = [np.count_nonzero(row) == len(values) - 1 for row in touch]
    if derived and len(values) > 3 and everywhere[-1] and sum(everywhere[1:]) == 1:
        asked.setdefault(values[-1], "it is the last number, and it touches all the others")
    return asked


def contacts(mask):
    """How many pairs of pixels side by side have each two different values: (256, 256), symmetric."""
    pairs = [(mask[:, :-1], mask[:, 1:]), (mask[:-1], mask[1:])]
    counts = np.zeros((256, 256), np.int64)
    for one, other in pairs:
        differ = one != other
        codes = one[differ].astype(np.int64) << 8 | other[differ]
        counts += np.bincount(codes, minlength=65536).reshape(256, 256)
    return counts + counts.T


def is_thin(value, masks):
    """Whether a value is in many of the masks, and nowhere wider than a seam."""
    areas = [np.count_nonzero(mask == value) for mask in masks]
    reach = max(2, round(THIN * min(min(mask.shape) for mask in masks)))
    often = np.count_nonzero(areas) >= OFTEN * len(masks)
    return often and inside(value, masks, reach) <= INSIDE * sum(areas)
