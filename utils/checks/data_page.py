"""One picture that shows a data set: samples with their boxes or masks, what classes there are, and how large things are at the input."""
import random
from collections import Counter

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from PIL import Image

from utils.errors import UserError
from utils.images import IGNORED, fitted_size, open_image
from utils.labels import label_table, read_labels
from utils.results.draw import draw_boxes, grid
from utils.results.masks import blend, legend
from utils.results.plots import drawing_style, label

COLUMNS, CELL = 4, 360          # of the samples; px
MOST_CLASSES = 40               # bars that are drawn
SIDES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)     # px, on the axes


def data_page(task, samples, splits, names, input_shape, strides=(), anchors=(), fit="letterbox", ignore_labels=(), count=12, seed=0):
    """samples: list of utils.formats.sweep.Sample.  splits: list of set of the lists that each of them is in.  names: class names.

    input_shape: (H, W) px.  strides: of the network's grids, anchors: (M, 2) px at the input; both may be empty.  -> (h, w, 3) uint8.
    """
    chosen = random.Random(seed).sample(range(len(samples)), min(count, len(samples)))
    table = label_table(names, ignore_labels) if task == "segmentation" else None
    pictures, captions = [], []
    for index in sorted(chosen):
        picture, caption = drawn(samples[index], names, table)
        pictures.append(picture)
        captions.append(caption)
    page = grid(pictures, COLUMNS, CELL, captions)
    if task == "segmentation":
        page = np.vstack([page, legend(page.shape[1], names)])
    figure = mask_figure(samples, splits, names, table) if task == "segmentation" else \
        box_figure(samples, splits, names, input_shape, strides, anchors, fit)
    return stacked(page, figure)


def drawn(sample, names, table):
    """A sample with its boxes or mask -> picture, caption."""
    image = open_image(sample.image)
    if table is None:
        known = [one for one in sample.truth if one["name"] in names]
        boxes, labels = np.array([one["box"] for one in known], float).reshape(-1, 4), [names.index(one["name"]) for one in known]
        return draw_boxes(image, boxes, labels, names), f"{sample.image.name}: {len(sample.truth)} objects"
    try:
        labels = read_labels(sample.label, table, image.shape[:2])
    except UserError:
        return image, f"{sample.image.name}: its mask cannot be used"
    return blend(image, labels, names), sample.image.name


def stacked(page, figure):
    """The figure below the page, scaled to its width."""
    canvas = FigureCanvasAgg(figure)
    with drawing_style():
        canvas.draw()
    below = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    width = max(page.shape[1], below.width)
    height = round(below.height * width / below.width)
    below = np.asarray(below.resize((width, height), Image.Resampling.LANCZOS))
    page = np.pad(page, ((0, 0), (0, width - page.shape[1]), (0, 0)), constant_values=255)
    return np.vstack([page, below])


def axes_of(rows, names):
    """A figure with `rows` x 2 axes, in the style of plots.py."""
    figure = Figure(figsize=(13, 4.2 * rows + 0.16 * max(0, min(len(names), MOST_CLASSES) - 12)), dpi=110, layout="constrained")
    axes = figure.subplots(rows, 2).ravel()
    for one in axes:
        one.grid(alpha=0.3)
        one.set_axisbelow(True)
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def class_bars(axes, counts, names, title):
    """counts: dict list -> Counter or dict of class number -> number. Bars side by side, one row per class."""
    order = sorted(range(len(names)), key=lambda i: -sum(some.get(i, 0) for some in counts.values()))[:MOST_CLASSES][::-1]
    left = np.zeros(len(order))
    for split, some in counts.items():
        values = np.array([some.get(i, 0) for i in order], float)
        axes.barh(range(len(order)), values, left=left, label=split)
        left += values
    axes.set_yticks(range(len(order)), [label(names[i], i) for i in order], fontsize=8)
    axes.set(title=title + (f" (the first {MOST_CLASSES} of {len(names)} classes)" if len(names) > MOST_CLASSES else ""))
    axes.set_ylim(-1, max(len(order), 2))
    if len(counts) > 1:
        axes.legend(fontsize=8)


def by_split(samples, splits):
    """dict list -> its samples; "all" where there are no lists."""
    found = {split: [sample for sample, mine in zip(samples, splits) if split in mine] for split in ("train", "val", "test")}
    return {split: some for split, some in found.items() if some} or {"all": samples}


def box_figure(samples, splits, names, input_shape, strides, anchors, fit):
    sizes, shapes, numbers = [], [], []
    for sample in samples:
        width, height = sample.size
        new_height, new_width = fitted_size(height, width, input_shape, fit)
        for one in sample.truth:
            x1, y1, x2, y2 = one["box"]
            sizes.append(((x2 - x1) * new_width / width, (y2 - y1) * new_height / height))
            shapes.append((x2 - x1) / max(y2 - y1, 1e-6))
        numbers.append(len(sample.truth))
    sizes = np.array(sizes).reshape(-1, 2)
    with drawing_style():
        figure, (classes, plane, ratios, many) = axes_of(2, names)
        index = {name: i for i, name in enumerate(names)}
        class_bars(classes, {split: Counter(index[one["name"]] for sample in some for one in sample.truth if one["name"] in index)
                             for split, some in by_split(samples, splits).items()}, names, "objects per class")
        plane.scatter(*sizes[:20000].T, s=4, alpha=0.3, color="#3182bd", label=f"{len(sizes)} objects")
        for stride in strides:
            plane.axvline(stride, color="0.6", linewidth=0.8, linestyle=":")
            plane.axhline(stride, color="0.6", linewidth=0.8, linestyle=":")
        if len(anchors):
            plane.scatter(*np.asarray(anchors).T, s=40, marker="+", color="#d62728", label="anchors of the network")
        dots = f" (dotted: cells of {', '.join(map(str, strides))} px)" if strides else ""
        plane.set(xscale="log", yscale="log", xlabel="width, px", ylabel="height, px",
                  title=f"size of the objects at an input of {input_shape[0]} x {input_shape[1]}{dots}")
        for axis in (plane.xaxis, plane.yaxis):
            axis.set_major_locator(FixedLocator(SIDES))
            axis.set_major_formatter("{x:.0f}")
            axis.set_minor_locator(NullLocator())
        plane.legend(fontsize=8, frameon=False)
        if shapes:
            ratios.hist(np.clip(shapes, 0.1, 10), bins=np.geomspace(0.1, 10, 41), color="#6baed6")
        ratios.set(xscale="log", title="width : height of the objects (1: square; the ends hold all beyond)")
        ratios.set_xticks([0.1, 0.2, 0.5, 1, 2, 5, 10], ["1:10", "1:5", "1:2", "1", "2:1", "5:1", "10:1"])
        many.hist(numbers, bins=np.arange(-0.5, min(max(numbers, default=0), 200) + 1.5, max(1, max(numbers, default=0) // 40)), color="#6baed6")
        many.set(title=f"objects in a picture ({sum(not n for n in numbers)} have none)")
    return figure


def mask_figure(samples, splits, names, table):
    lists = by_split(samples, splits)
    labels = {split: [np.bincount(table, weights=sample.truth, minlength=256) for sample in some] for split, some in lists.items()}
    with drawing_style():
        figure, (shares, images, unknown, shapes) = axes_of(2, names)
        pixels = {split: sum(some) for split, some in labels.items()}
        total = max(sum(some[:len(names)].sum() for some in pixels.values()), 1)
        class_bars(shares, {split: {i: 100 * some[i] / total for i in range(len(names))} for split, some in pixels.items()}, names,
                   "% of the labelled pixels")
        class_bars(images, {split: {i: sum(one[i] > 0 for one in some) for i in range(len(names))} for split, some in labels.items()}, names,
                   "images that show the class")
        ignored = [100 * one[IGNORED] / max(one.sum(), 1) for some in labels.values() for one in some]
        unknown.hist(ignored, bins=np.linspace(0, 100, 41), color="#6baed6")
        unknown.set(title="% of a mask that is not labelled (255)", xlim=(0, 100))
        ratio = [sample.size[0] / sample.size[1] for sample in samples]
        shapes.hist(np.clip(ratio, 0.1, 10), bins=np.geomspace(0.1, 10, 41), color="#6baed6")
        shapes.set(xscale="log", title="width : height of the pictures")
        shapes.set_xticks([0.1, 0.2, 0.5, 1, 2, 5, 10], ["1:10", "1:5", "1:2", "1", "2:1", "5:1", "10:1"])
    return figure
