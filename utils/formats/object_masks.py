"""Masks in other orders than one for each image: one for each object or one for each class. They become one.

    a/images/a.png  a/masks/0.png  a/masks/1.png        a folder for each image, a mask for each object
    images/a.png    masks/a/0.png  masks/a_1.png        the masks named after the image
    images/a.png    masks/dog/a.png                     a folder for each class
    images/a.png    masks/a_dog.png  masks/a/dog.png    the masks named after the classes

What is brighter than half of the brightest pixel is the object. A smaller object covers a larger one.
"""
import re
from collections import defaultdict

import numpy as np

from utils.errors import UserError
from utils.findings import Finding
from utils.formats.foreign import class_name, files_below, folder_split
from utils.formats.pairs import look_at_untranslated
from utils.formats.sniff import MASK_FOLDERS
from utils.formats.sweep import size_finding, sweep
from utils.images import open_image
from utils.settings import shown

ONLY = "object"                 # the class of masks that neither a folder nor their name gives one
WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|[ _-])*[^\W\d_]")      # two letters and more, no digits


def group_masks(folder):
    """dict image -> list of (class name, mask), the images without one, the masks without an image."""
    images, masks = [], []
    for path in files_below(folder):
        parts = [part.lower() for part in path.relative_to(folder).parts[:-1]]
        (masks if set(parts) & set(MASK_FOLDERS) else images).append(path)

    # An image alone in its folder owns all masks beside that folder; else its name tells.
    beside, stems = defaultdict(list), defaultdict(list)
    for image in images:
        beside[image.parent.parent].append(image)
        stems[image.stem].append(image)

    groups, lonely = defaultdict(list), []
    for mask in masks:
        name, image = owner_of(mask, folder, beside, stems)
        if image:
            groups[image].append((name, mask))
        else:
            lonely.append(mask)
    return with_words(groups), [image for image in images if image not in groups], lonely


def with_words(groups):
    """The masks of each image, with classes from names like a_dog.png and a_dog_2.png.

    Only where all names end with words, the same ones again and again: numbers are those of objects.
    """
    words = {mask: word_of(mask, image) for image, masks in groups.items() for name, mask in masks
             if name == ONLY}
    classes = set(words.values())
    if None in classes or len(classes) < 2 or len(classes) > len(words) / 2:
        return dict(groups)
    return {image: [(words.get(mask, name), mask) for name, mask in masks] for image, masks in groups.items()}


def word_of(mask, image):
    """What the name of a mask says beyond that of its image and a number; None where that is no word."""
    beyond = mask.stem.removeprefix(image.stem).rstrip("0123456789_- ()").lstrip("_- ")
    return beyond if WORD.fullmatch(beyond) else None


def owner_of(mask, folder, beside, stems):
    """-> class name, image of a mask; None without one.

    beside: dict folder above the folder of images -> images.  stems: dict stem -> images.
    """
    parts = mask.relative_to(folder).parts[:-1]
    place = next(place for place, part in enumerate(parts) if part.lower() in MASK_FOLDERS)
    above, below = folder.joinpath(*parts[:place]), parts[place + 1:]

    # masks/dog/a.png: the mask has the name of an image, and is in a folder that has not.
    if below and below[-1] not in stems:
        return below[-1], the_near_one(stems.get(mask.stem, ()), above)
    if below:
        return ONLY, the_near_one(stems[below[-1]], above)
    if above != folder and len(beside.get(above, ())) == 1:
        return ONLY, beside[above][0]

    # masks/a_1.png: the longest name of an image that it begins with.
    name = mask.stem
    while "_" in name:
        name = name.rpartition("_")[0]
        if name in stems:
            return ONLY, the_near_one(stems[name], above)
    return ONLY, None


def the_near_one(images, above):
    """The only image, or the only one below a folder; else None."""
    near = [image for image in images if image.is_relative_to(above)]
    some = near if near else list(images)
    return some[0] if len(some) == 1 else None


def has_object_masks(folder):
    """Whether at least half of the images of a folder have masks in these orders."""
    groups, without, _ = group_masks(folder)
    several = any(len(masks) > 1 for masks in groups.values())
    return several and len(groups) >= len(without)


def read_object_masks(folder, findings, palette=None):
    """-> class names, dict list name -> samples, jobs for made_masks.make_masks; as pairs.read_mask_pairs."""
    # What has no partner.
    groups, without, lonely = group_masks(folder)
    findings += [Finding("image_without_label", image) for image in without]
    findings += [Finding("label_without_image", mask, None, "no image is called like it") for mask in lonely]

    # Class names come from the folders.
    names = sorted({class_name(name) for masks in groups.values() for name, _ in masks})
    labels = {name: label for label, name in enumerate(names, 1)}
    looked = sweep(look_at_untranslated, [(image, masks[0][1]) for image, masks in groups.items()],
                   f"Checking {shown(folder)}")

    lists, jobs = {}, {}
    for (image, masks), (sample, found) in zip(groups.items(), looked):
        findings += found
        some = lists.setdefault(folder_split(image, folder), [])
        if sample:
            some.append(sample)
            jobs[image] = join_job(sample.size, [(labels[class_name(name)], mask) for name, mask in masks])
    print(f"{shown(folder)}: a mask for each {'object' if names == [ONLY] else 'class'}; they become one for "
          "each image")
    return ["background", *names], lists, jobs


def join_job(size, masks):
    """A job for made_masks.make_masks, see there. masks: list of (label, path)."""
    def make():
        parts = []
        for label, path in masks:
            bright = open_image(path).max(2)
            for finding in size_finding(path, bright.shape[::-1], size):
                raise UserError(f"{shown(path)}: {finding.detail}", kind=finding.kind)
            inside = bright > bright.max() / 2
            parts.append((inside.sum(), label, inside))

        # The largest first.
        joined = np.zeros(size[::-1], np.uint8)
        for _, label, inside in sorted(parts, key=lambda part: -part[0]):
            joined[inside] = label
        return joined

    # Another mask file: the joined one is made again.
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for _, path in masks]
    return masks[0][1], repr((states, [label for label, _ in masks])), make
