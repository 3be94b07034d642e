"""One picture that shows a dataset: samples with their boxes or masks, which classes there are,
how large things are at the input."""
import random
from collections import Counter

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from PIL import Image

from utils.errors import UserError
from utils.formats.sweep import range_of_set
from utils.images import IGNORED, fitted_size, open_image
from utils.labels import label_table, read_labels
from utils.results.draw import draw_boxes, grid
from utils.results.masks import blend, legend
from utils.results.plots import drawing_style, label
from utils.settings import counted

COLUMNS, CELL = 4, 360          # of the samples; px
MOST_CLASSES = 40               # bars that are drawn
RATIOS = {0.1: "1:10", 0.2: "1:5", 0.5: "1:2", 1: "1", 2: "2:1", 5: "5:1", 10: "10:1"}      # width : height
SIDES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)     # px, on the axes


def data_page(task, samples, splits, names, input_shape, strides=(), anchors=(), fit="letterbox",
              ignore_labels=(), count=12, seed=0):
    """samples: list of utils.formats.sweep.Sample.  splits: for each of them the set of the lists it is in.

    names: class names.
    input_shape: (H, W) px.  strides: of the network's grids, anchors: (M, 2) px at the input;
    both may be empty.  -> (h, w, 3) uint8.
    """
    # Always the same ones, so that two pages of a dataset can be compared.
    chosen = random.Random(seed).sample(range(len(samples)), min(count, len(samples)))
    table = label_table(names, ignore_labels) if task == "segmentation" else None
    value_range = range_of_set([sample.image for sample in samples])
    pictures, captions = [], []
    for index in sorted(chosen):
        picture, caption = draw_sample(samples[index], names, table, value_range)
        pictures.append(picture)
        captions.append(caption)
    page = grid(pictures, COLUMNS, CELL, captions)

    if task == "segmentation":
        page = np.vstack([page, legend(page.shape[1], names)])
        return stacked(page, mask_figure(samples, splits, names, table))
    return stacked(page, box_figure(samples, splits, names, input_shape, strides, anchors, fit))


def draw_sample(sample, names, table, value_range=None):
    """A sample with its boxes or mask -> picture, caption."""
    image = open_image(sample.image, value_range)
    # Boxes of unknown classes have no colour; they are counted all the same.
    if table is None:
        known = [one for one in sample.truth if one["name"] in names]
        boxes = np.array([one["box"] for one in known], float).reshape(-1, 4)
        labels = [names.index(one["name"]) for one in known]
        caption = f"{sample.image.name}: {counted(len(sample.truth), 'object')}"
        return draw_boxes(image, boxes, labels, names), caption

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
    height = 4.2 * rows + 0.16 * max(0, min(len(names), MOST_CLASSES) - 12)
    figure = Figure(figsize=(13, height), dpi=110, layout="constrained")
    axes = figure.subplots(rows, 2).ravel()
    for one in axes:
        one.grid(alpha=0.3)
        one.set_axisbelow(True)
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def list_bars(axes, counts, names, title):
    """counts: dict list -> Counter or dict of class -> how many.
    One row per class, the most frequent on top, the lists end to end."""
    order = sorted(range(len(names)),
                   key=lambda i: -sum(some.get(i, 0) for some in counts.values()))[:MOST_CLASSES]
    order.reverse()
    left = np.zeros(len(order))
    for split, some in counts.items():
        values = np.array([some.get(i, 0) for i in order], float)
        axes.barh(range(len(order)), values, left=left, label=split)
        left += values
    axes.set_yticks(range(len(order)), [label(names[i], i) for i in order], fontsize=8)

    # A bar that is not drawn must not look like a class that is not there.
    if len(names) > MOST_CLASSES:
        title += f" (the first {MOST_CLASSES} of {len(names)} classes)"
    axes.set(title=title)
    axes.set_ylim(-1, max(len(order), 2))
    if len(counts) > 1:
        axes.legend(fontsize=8)


def by_split(samples, splits):
    """dict list -> its samples; "all" where there are no lists."""
    found = {}
    for split in ("train", "val", "test"):
        some = [sample for sample, mine in zip(samples, splits) if split in mine]
        if some:
            found[split] = some
    return found or {"all": samples}


def box_figure(samples, splits, names, input_shape, strides, anchors, fit):
    """Detection: objects per class, sizes and shapes of the objects, objects per picture."""
    with drawing_style():
        figure, (classes, plane, ratios, many) = axes_of(2, names)
        # Which classes are rare, list by list.
        index = {name: i for i, name in enumerate(names)}
        counts = {}
        for split, some in by_split(samples, splits).items():
            counts[split] = Counter(index[one["name"]] for sample in some
                                    for one in sample.truth if one["name"] in index)
        list_bars(classes, counts, names, "objects per class")

        draw_sizes(plane, sizes_at_input(samples, input_shape, fit), strides, anchors, input_shape)
        boxes = [one["box"] for sample in samples for one in sample.truth]
        draw_ratios(ratios, [(x2 - x1) / max(y2 - y1, 1e-6) for x1, y1, x2, y2 in boxes])
        ratios.set(title="width : height of the objects (the ends hold all beyond)",
                   xlabel="width : height, 1 is square", ylabel="objects")

        numbers = [len(sample.truth) for sample in samples]
        most = max(numbers, default=0)
        many.hist(numbers, bins=np.arange(-0.5, min(most, 200) + 1.5, max(1, most // 40)), color="#6baed6")
        many.set(title=f"objects in a picture (none in {counted(numbers.count(0), 'picture')})",
                 xlabel="objects", ylabel="pictures")
    return figure


def sizes_at_input(samples, input_shape, fit):
    """-> (G, 2) width and height of all objects, px at the network's input."""
    sizes = []
    for sample in samples:
        width, height = sample.size
        new_height, new_width = fitted_size(height, width, input_shape, fit)
        for one in sample.truth:
            x1, y1, x2, y2 = one["box"]
            sizes.append(((x2 - x1) * new_width / width, (y2 - y1) * new_height / height))
    return np.array(sizes).reshape(-1, 2)


def draw_sizes(axes, sizes, strides, anchors, input_shape):
    """A dot per object; dotted lines: what is smaller than a cell is hard to find;
    crosses: what the network expects."""
    axes.scatter(*sizes[:20000].T, s=4, alpha=0.3, color="#3182bd", label=counted(len(sizes), "object"))
    for stride in strides:
        axes.axvline(stride, color="0.6", linewidth=0.8, linestyle=":")
        axes.axhline(stride, color="0.6", linewidth=0.8, linestyle=":")
    if len(anchors):
        axes.scatter(*np.asarray(anchors).T, s=40, marker="+", color="#d62728",
                     label="anchors of the network")

    # Twice the size, the same step: both axes are logarithmic, marked at the powers of two.
    dots = f" (dotted: cells of {', '.join(map(str, strides))} px)" if strides else ""
    axes.set(xscale="log", yscale="log", xlabel="width, px", ylabel="height, px",
             title=f"size of the objects at an input of {input_shape[0]} x {input_shape[1]}{dots}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(SIDES))
        axis.set_major_formatter("{x:.0f}")
        axis.set_minor_locator(NullLocator())
    axes.legend(fontsize=8, frameon=False)


def draw_ratios(axes, ratios):
    """How many are how wide; 1:2 and 2:1 are equally far from 1."""
    if ratios:
        axes.hist(np.clip(ratios, 0.1, 10), bins=np.geomspace(0.1, 10, 41), color="#6baed6")
    axes.set(xscale="log")
    axes.set_xticks(list(RATIOS), list(RATIOS.values()))


def mask_figure(samples, splits, names, table):
    """Segmentation: pixels and images per class, what is ignored, shapes of the pictures."""
    # counts: list -> for each of its masks (256,) pixels by label.
    counts = {}
    for split, some in by_split(samples, splits).items():
        counts[split] = [np.bincount(table, weights=sample.truth, minlength=256) for sample in some]

    with drawing_style():
        figure, (shares, images, unknown, shapes) = axes_of(2, names)
        # A class with few pixels and one in few images are rare in different ways.
        pixels = {split: sum(some) for split, some in counts.items()}
        total = max(sum(some[:len(names)].sum() for some in pixels.values()), 1)
        classes = range(len(names))
        percent = {split: {i: 100 * some[i] / total for i in classes} for split, some in pixels.items()}
        list_bars(shares, percent, names, "% of the labelled pixels")
        shown_in = {split: {i: sum(one[i] > 0 for one in some) for i in classes}
                    for split, some in counts.items()}
        list_bars(images, shown_in, names, "images that show the class")

        ignored = [100 * one[IGNORED] / max(one.sum(), 1) for some in counts.values() for one in some]
        unknown.hist(ignored, bins=np.linspace(0, 100, 41), color="#6baed6")
        unknown.set(title="% of a mask that is ignored (255)", xlim=(0, 100), xlabel="% of the pixels",
                    ylabel="masks")
        draw_ratios(shapes, [sample.size[0] / sample.size[1] for sample in samples])
        shapes.set(title="width : height of the pictures", xlabel="width : height, 1 is square",
                   ylabel="pictures")
    return figure
