"""Segmentation: the list files and what the numbers in the masks mean.

A line of a segmentation list is the image path, a tab, the mask path. A mask holds one number per pixel.
The numbers in the file are called values, the numbers that the network learns are labels: 0 to K-1 in the
order of the class names, and 255 for ignored pixels. Usually values and labels are the same; values in
`ignore_labels` become 255, and the labels then count the values that are left.
"""
import numpy as np

from utils.errors import UserError
from utils.images import IGNORED, open_mask
from utils.lists import classes_name, read_classes
from utils.settings import find, shown
from utils.system.files import printable

UNKNOWN = 254                   # label of a value that means nothing; hence there are at most 254 classes


def label_table(class_names, ignore_labels=()):
    """What every value in a file means: (256,) uint8, value -> label, IGNORED, or UNKNOWN for nothing.

    ignore_labels: values that become IGNORED. The others, from the smallest, are the classes in order: with
    [0] value 1 is class 0.
    Errors: something in ignore_labels that is no value, more classes than fit.
    """
    for value in ignore_labels:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= IGNORED:
            raise UserError(f"ignore_labels={list(ignore_labels)!r}: expected whole numbers from 0 to "
                            f"{IGNORED}, like [0].")

    values = [value for value in range(IGNORED) if value not in ignore_labels]
    room = min(len(values), UNKNOWN)
    if not 0 < len(class_names) <= room:
        raise UserError(f"There are {len(class_names)} class names, expected 1 to {room}: a mask of 8 bits "
                        "has no more values.")

    # The values that are left are the classes, in order.
    table = np.full(256, UNKNOWN, np.uint8)
    table[values[:len(class_names)]] = np.arange(len(class_names))
    table[[*ignore_labels, IGNORED]] = IGNORED
    return table


def describe_labels(class_names, ignore_labels=()):
    """The table for people, a line per value that has a meaning:  "  0 -> background"."""
    table = label_table(class_names, ignore_labels)
    names = {label: printable(name) for label, name in enumerate(class_names)} | {IGNORED: "ignored"}
    return "\n".join(f"{value:3} -> {names[label]}" for value, label in enumerate(table.tolist())
                     if label != UNKNOWN)


def read_labels(path, table, size=None):
    """A mask file -> labels (H, W) uint8: 0 to K-1, and IGNORED.

    path: as in a list.  table: of label_table.  size: (h, w) of the image, which the mask must have.
    Errors: those of open_mask, another size than the image, a value that means nothing.
    """
    values = open_mask(find(path))
    check_size(path, values.shape, size)
    labels = table[values]
    if (labels == UNKNOWN).any():
        check_mask_values(path, np.bincount(values.ravel(), minlength=256), table)
    return labels


def check_size(path, shape, size):
    """Error when a mask is (h, w) shape and its image is (h, w) size."""
    if size is None or tuple(shape) == tuple(size):
        return
    turned = ""
    if tuple(shape) == tuple(size)[::-1]:
        turned = (" One is rotated by 90 degrees: the EXIF orientation of the image was lost or applied in "
                  "only one of the two.")
    raise UserError(f"{shown(find(path))} is {shape[1]} x {shape[0]} pixels, but its image is {size[1]} x "
                    f"{size[0]}.{turned} Mask and image must have the same size: export the mask again, or "
                    "resize it with nearest neighbour.")


def check_mask_values(path, counts, table):
    """Error when values in a mask mean nothing. counts: (256,) pixels per value."""
    what, known, cause = unknown_values(counts, table)
    if what:
        raise UserError(f"{shown(find(path))} holds values that mean nothing: {what}. Known are "
                        f"{known}.{cause} Correct the mask, or the class names.")


def unknown_values(counts, table):
    """Three texts: the values in a mask that mean nothing ("": there are none), those that have a meaning,
    what may be the cause.

    counts: (256,) pixels per value.
    """
    found = np.flatnonzero(counts).tolist()
    unknown = [value for value in found if table[value] == UNKNOWN]
    if not unknown:
        return "", "", ""

    what = ", ".join(f"{value} ({counts[value]} pixels)" for value in unknown[:3])
    if len(unknown) > 3:
        what += f" and {len(unknown) - 3} more"

    # Two values, background and another: somebody wrote 255, or 38, for the only class.
    cause = ""
    if found == [0, unknown[0]] and unknown[0] != 1:
        cause = f" Is the object written as {unknown[0]} instead of 1?"
    return what, spans(np.flatnonzero(table != UNKNOWN).tolist()), cause


def spans(numbers):
    """[0, 1, 2, 5] -> "0-2 and 5"."""
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    words = [str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends)]
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} and {words[-1]}"


def derived_names(dataset, largest, ignore_labels):
    """Names for the values 0 to largest that are not ignored."""
    # The classes of the same dataset for detection, if there are enough of them.
    objects = find(classes_name(dataset))
    names = read_classes(objects) if objects.is_file() else []
    if largest > len(names):
        names = [f"class_{value}" for value in range(1, largest + 1)]
    return [name for value, name in enumerate(["background", *names]) if value not in ignore_labels]


def mask_table(samples, names, ignore_labels=()):
    """Rows of text: per class and split its share of the labelled pixels, and in how many images it is.

    samples: dict split -> list of (image path, (mask path, pixels per value)).
    """
    table = label_table(names, ignore_labels)

    # For every split (256,) pixels and (256,) images of each label.
    sums = []
    for some in samples.values():
        pixels, images = np.zeros(256, np.int64), np.zeros(256, np.int64)
        for _, (_, counts) in some:
            per_label = np.bincount(table, weights=counts, minlength=256).astype(np.int64)
            pixels += per_label
            images += per_label > 0
        sums.append((pixels, images))

    # The share of a class is that of the labelled pixels, the share of the ignored ones that of all.
    rows = [["", *samples, ""], ["images", *(str(len(some)) for some in samples.values()), ""]]
    for label, name in [*enumerate(names), (IGNORED, "not labelled")]:
        cells = []
        for pixels, images in sums:
            counted = pixels.sum() if label == IGNORED else pixels.sum() - pixels[IGNORED]
            cells.append(f"{pixels[label] / max(1, counted):.1%} in {images[label]}")
        _, train_images = sums[0]
        missing = label != IGNORED and not train_images[label]
        rows.append(["    " + printable(name), *cells, "none to learn from!" if missing else ""])
    return rows
