"""Pictures of an evaluation and of a training, written as PNG files.
No window, no display, no global state of matplotlib; importing it takes a second, so that is done where
something is drawn."""
import csv
import io
import logging
import math
import warnings
from contextlib import contextmanager
from functools import lru_cache

import numpy as np

from utils.metrics import best_threshold
from utils.settings import counted
from utils.system.files import write_bytes

MOST_NAMED = 12                                      # lines that a legend can name and an eye can tell apart
MOST_DOTS = 60                                       # epochs that are drawn as they are, not smoothed
ONE_COLUMN = "Each column is a true class: what the network says there"
BARS = (("iou", "IoU"), ("pa", "pixel accuracy (recall)"), ("precision", "precision"))
MOST_CELLS = 26                                      # rows of a matrix whose cells have room for a text


@lru_cache(maxsize=1)
def fonts():
    """matplotlib's own font, then an installed Chinese one: (family names, characters that can be drawn)."""
    from matplotlib import font_manager

    from utils.results.draw import chinese_font
    files = [font_manager.findfont("DejaVu Sans")]

    # Class names may be Chinese, which matplotlib's own font cannot write.
    chinese = chinese_font()
    if chinese:
        try:
            font_manager.fontManager.addfont(str(chinese))
            files.append(str(chinese))
        except (OSError, RuntimeError):
            pass                                     # a font file that matplotlib cannot read

    names = [font_manager.FontProperties(fname=file).get_name() for file in files]
    return names, {code for file in files for code in font_manager.get_font(file).get_charmap()}


@contextmanager
def drawing_style():
    """The fonts, for what is drawn inside; a missing character is not worth a warning each."""
    import matplotlib
    logger = logging.getLogger("matplotlib.font_manager")    # it reports every replaced font weight
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with matplotlib.rc_context({"font.family": fonts()[0], "font.size": 9}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph.*missing")
            yield
    finally:
        logger.setLevel(level)


def save_figure(figure, path):
    """Write a figure as PNG."""
    data = io.BytesIO()
    figure.savefig(data, format="png")
    write_bytes(path, data.getvalue())


def label(name, index=None):
    """A class name as matplotlib may draw it: not as a formula ($), not hidden (_), not too long,
    and "class 3" when no font has its characters."""
    if index is not None and not all(ord(letter) in fonts()[1] for letter in name):
        name = f"class {index}"
    name = name if len(name) <= 24 else name[:23] + "…"
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")


def new_axes(width, height, columns=1):
    """One Figure and its axes, in a row."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for one in axes:
        one.grid(alpha=0.3)
        one.set_axisbelow(True)
        one.spines[["top", "right"]].set_visible(False)
    return figure, axes


def named_curves(curves):
    """(index, curve, colour or None) of the classes with objects, by falling AP.
    Of many, only the best and the worst get a colour."""
    order = sorted((i for i, curve in enumerate(curves) if curve["objects"]),
                   key=lambda i: -curves[i]["ap50"])
    half = MOST_NAMED // 2
    named = order if len(order) <= MOST_NAMED else order[:half] + order[-half:]
    from matplotlib import colormaps
    colours = colormaps["tab20" if len(named) > 10 else "tab10"].colors
    return [(i, curves[i], colours[named.index(i)] if i in named else None) for i in order]


def draw_lines(axes, lines):
    """lines: (x, y, colour or None, text). Lines without a colour lie behind, grey, and without a name."""
    for x, y, colour, text in lines:
        axes.plot(x, y, color=colour or "0.8", linewidth=1.4 if colour else 0.7, zorder=2 if colour else 1,
                  label=text if colour else None, drawstyle="steps-pre")


def precision_recall(curves, path, score_threshold=None):
    """curves: metrics.detection_curves -> picture of precision against recall,
    one line per class and their mean; a dot where the score threshold cuts it."""
    with drawing_style():
        figure, (axes,) = new_axes(8.5, 5.5)
        chosen = named_curves(curves)
        lines = []
        for i, curve, colour in chosen:
            if len(curve["recall"]):                 # else nothing was detected
                recall = np.concatenate([[0], curve["recall"], curve["recall"][-1:]])
                precision = np.concatenate([curve["envelope"][:1], curve["envelope"], [0]])
                lines.append((recall, precision, colour, f"{label(curve['name'], i)}  {curve['ap50']:.3f}"))
        draw_lines(axes, lines)
        if score_threshold is not None:
            at = round(100 * score_threshold)
            for _, curve, colour in chosen:
                if colour and curve["precision"][at] >= 0:                          # else NaN
                    axes.plot(curve["recall_at"][at], curve["precision"][at], "o", color=colour, zorder=4)

        # Every class has its own recalls, so the mean is taken at 201 common ones.
        if chosen:
            recalls = np.linspace(0, 1, 201)
            mean = np.mean([precision_at(recalls, curve) for _, curve, _ in chosen], axis=0)
            mean_ap = np.mean([curve["ap50"] for _, curve, _ in chosen])
            axes.plot(recalls, mean, color="black", linewidth=2.2, zorder=3, label=f"mean  {mean_ap:.3f}")

        title = "Precision and recall at IoU 0.5; the area under a line is its AP50"
        title += "" if score_threshold is None else f"\n(dots: boxes from score {score_threshold:g} on)"
        unnamed = sum(colour is None for _, _, colour in chosen)
        if unnamed:
            title += f"\n({counted(unnamed, 'class')} between the best and the worst: grey)"
        axes.set(xlabel="recall", ylabel="precision (best at this recall or higher)", xlim=(0, 1.01),
                 ylim=(0, 1.02), title=title)
        outside_legend(axes)
        save_figure(figure, path)


def precision_at(recalls, curve):
    """The precision of a class at given recalls; 0 beyond its last one."""
    return np.append(curve["envelope"], 0)[np.searchsorted(curve["recall"], recalls)]


def outside_legend(axes, **options):
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False, **options)


def score_curves(curves, path, score_threshold=0.5):
    """curves: metrics.detection_curves -> precision, recall and F1 against the score threshold,
    side by side."""
    with drawing_style():
        figure, axes = new_axes(15, 4.5, 3)
        chosen = named_curves(curves)
        titles = (("precision", "precision"), ("recall_at", "recall"), ("f1", "F1"))
        for one, (key, title) in zip(axes, titles):
            draw_lines(one, [(c["thresholds"], c[key], colour, label(c["name"], i))
                             for i, c, colour in chosen])

            # Precision is undefined (NaN) where a class has no detections: the mean is over the others.
            if chosen:
                thresholds = chosen[0][1]["thresholds"]
                values = np.array([c[key] for _, c, _ in chosen])
                defined = (~np.isnan(values)).sum(0)
                mean = np.where(defined, np.nansum(values, 0) / np.maximum(defined, 1), np.nan)
                one.plot(thresholds, mean, color="black", linewidth=2.2, label="mean", zorder=3)
                score, best = best_threshold(curves)
                if key == "f1" and score is not None:
                    one.plot(score, best, "o", color="black", zorder=4)
                    title += f": mean best, {best:.3f}, at  predict.py confidence={score:g}"

            one.axvline(score_threshold, color="0.4", linestyle=":", linewidth=1)
            one.set(xlabel="score threshold (dotted: the one of the table)", title=title, xlim=(0, 1),
                    ylim=(0, 1.02))
        outside_legend(axes[-1])
        save_figure(figure, path)


def ap_bars(results, path):
    """results: metrics.detection_results -> one bar per class with objects, best on top:
    AP50, and in it AP50:95."""
    with drawing_style():
        figure, (axes,), table = bar_figure(results["per_class"], "ap50")
        draw_bars(axes, table, "ap50", "#9ecae1", lambda row: f"{row['ap50']:.3f}  ({row['objects']})")
        axes.barh(range(len(table)), [row["ap50_95"] or 0 for row in table], height=0.4, color="#3182bd",
                  label="AP50:95")
        map50 = "–" if results["map50"] is None else f"{results['map50']:.3f}"
        axes.set_title(f"AP per class, mAP50 {map50}  (in brackets: objects)")
        outside_legend(axes, reverse=True)
        save_figure(figure, path)


def class_bars(results, path):
    """results: miou.segmentation_results -> IoU, pixel accuracy and precision side by side, one bar per class
    and measure; the best IoU on top."""
    with drawing_style():
        figure, axes, table = bar_figure(results["per_class"], "iou", len(BARS))
        for one, (key, title) in zip(axes, BARS):
            draw_bars(one, table, key, "#6baed6", lambda row, key=key: f"{row[key]:.3f}")
            mean = results["m" + key]
            if mean is not None:
                one.axvline(mean, color="0.3", linestyle=":", linewidth=1)
            one.set_title(f"{title}, mean {'–' if mean is None else f'{mean:.3f}'} (dotted)")

        left_out = len(results["per_class"]) - len(table)
        if left_out:
            every = counted(len(results["per_class"]), "class")
            figure.suptitle(f"Not drawn, for they do not occur: {left_out} of {every}", fontsize=9)
        save_figure(figure, path)


def bar_figure(per_class, key, columns=1):
    """-> figure, axes in a row that share the names of the classes, (index, row) of the classes where
    row[key] is defined, from the bottom to the top: the best is on top."""
    order = sorted((i for i, row in enumerate(per_class) if row[key] is not None),
                   key=lambda i: per_class[i][key])
    names = [label(per_class[i]["name"], i) for i in order]

    # The more classes, the higher the picture.
    figure, axes = new_axes(3 + 5 * columns, 1.6 + 0.24 * max(len(order), 3), columns)
    for one in axes:
        one.set_yticks(range(len(order)), names if one is axes[0] else [""] * len(order))
        one.grid(False, axis="y")
        one.set(xlim=(0, 1.15), ylim=(-0.7, max(len(order), 1) - 0.3))
    return figure, axes, [per_class[i] for i in order]


def draw_bars(axes, table, key, colour, text):
    """Horizontal bars of row[key], each with text(row) beside it; no bar where that is undefined."""
    axes.barh(range(len(table)), [row[key] or 0 for row in table], color=colour, label=key.upper())
    for position, row in enumerate(table):
        undefined = row[key] is None
        axes.text((row[key] or 0) + 0.01, position, "–" if undefined else text(row), va="center", fontsize=7,
                  bbox={"color": "white", "pad": 0.5})


def confusion(matrix, class_names, path, score_threshold=0.25):
    """matrix: metrics.confusion_matrix -> picture; colour = share of the column,
    numbers = counts up to 25 classes."""
    names = [label(name, i) for i, name in enumerate(class_names)] + ["background"]
    matrix = np.asarray(matrix)
    share = matrix / np.maximum(matrix.sum(0, keepdims=True), 1)
    with drawing_style():
        text = np.where(matrix > 0, matrix.astype(str), "")
        figure, axes = share_matrix(share, text, names[:-1] + ["missed"], names, "share of the column")
        axes.axhline(len(names) - 1.5, color="0.5", linewidth=0.8)
        axes.axvline(len(names) - 1.5, color="0.5", linewidth=0.8)
        title = f"Confusion at score > {score_threshold:g}, IoU > 0.45\n{ONE_COLUMN}"
        axes.set(xlabel="the truth", ylabel="the network says", title=title)
        save_figure(figure, path)


def pixel_confusion(matrix, class_names, path):
    """matrix: (K, K) pixels, rows true classes -> picture, turned so that the columns are true ones, as in
    `confusion`; colour and numbers = share of the column, so the diagonal shows PA."""
    names = [label(name, i) for i, name in enumerate(class_names)]
    matrix = np.asarray(matrix).T
    share = matrix / np.maximum(matrix.sum(0, keepdims=True), 1)
    text = [[f"{100 * value:.0f}" if value >= 0.005 else "" for value in row] for row in share]
    with drawing_style():
        figure, axes = share_matrix(share, np.array(text), names, names, "share of the column")
        title = f"Confusion of the pixels, in % of the column\n{ONE_COLUMN}"
        axes.set(xlabel="the truth", ylabel="the network says", title=title)
        save_figure(figure, path)


def share_matrix(share, text, rows, columns, meaning):
    """A square matrix of shares (0-1) as colours, up to 26 x 26 with a text in each cell. -> figure, axes"""
    size = len(rows)
    side = min(max(4.5, 0.42 * size if size <= MOST_CELLS else 0.16 * size + 2), 24)
    figure, (axes,) = new_axes(side + 1.8, side + 0.8)
    axes.grid(False)
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, ax=axes, shrink=0.7, label=meaning)

    # The more classes there are, the smaller their names.
    small = 8 if size <= MOST_CELLS else max(3.5, min(7, 72 * side / size * 0.65))
    axes.set_xticks(range(size), columns, rotation=90, fontsize=small)
    axes.set_yticks(range(size), rows, fontsize=small)

    if size <= MOST_CELLS:
        letters = 7 if max(map(len, text.flat), default=0) < 4 else 5.5
        for i, j in np.ndindex(text.shape):
            colour = "white" if share[i, j] > 0.55 else "black"
            axes.text(j, i, text[i, j], ha="center", va="center", fontsize=letters, color=colour)
    return figure, axes


def read_columns(path):
    """A metrics.csv -> {column: (epochs,) float}, NaN where a cell is empty or no number."""
    def as_number(text):
        try:
            return float(text)
        except (TypeError, ValueError):
            return math.nan

    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([as_number(row[name]) for row in rows])
            for name in (rows[0] if rows else {}) if name}


def training_curves(metrics_csv_path, png_path, stages=()):
    """A run's metrics.csv -> one picture: the losses (training solid, validation dashed),
    the measures and the learning rate.

    train_<part> and val_<part> are losses, epoch, epochs (planned), lr and seconds are what they say,
    all other columns are measures
    (map50, map50_95, miou ...). Cells may be empty, columns may be missing.
    stages: (epoch after which something changes, what), of which those that were reached are marked.
    """
    columns = read_columns(metrics_csv_path)
    epochs = columns.pop("epoch", np.arange(1, 1 + len(next(iter(columns.values()), []))))
    planned = columns.pop("epochs", np.zeros(0))
    last = np.max(epochs, initial=1, where=np.isfinite(epochs))
    with drawing_style():
        figure, axes = new_axes(15, 4.2, 3)
        losses, measures, rates = axes
        draw_losses(losses, epochs, columns)
        draw_measures(measures, epochs, columns)
        if "lr" in columns:
            draw_column(rates, epochs, columns["lr"], color="black")
        rates.set(xlabel="epoch", title="learning rate", ylim=(0, None))

        # What the three have in common.
        mark_changes(axes, epochs, planned)
        for epoch, what in stages:
            if 0 < epoch < last:
                mark(axes, epoch + 0.5, what)
        for one in axes:
            one.xaxis.get_major_locator().set_params(integer=True)
            one.set_xlim(0, last + 0.5)
            if one.get_legend_handles_labels()[0]:
                one.legend(fontsize=7, framealpha=0.6, handlelength=3)
        save_figure(figure, png_path)


def draw_column(axes, epochs, values, **options):
    """A line through the epochs that have a value; of very many a smooth one, with the values faint behind.
    -> these values."""
    known = np.isfinite(values) & np.isfinite(epochs)
    at, values = epochs[known], values[known]
    if len(values) <= MOST_DOTS:
        axes.plot(at, values, linewidth=1.4, marker=".", **options)
        return values

    # The mean of each epoch and its neighbours, of fewer of them at the ends.
    around = np.ones(2 * (len(values) // 40) + 1)
    smooth = np.convolve(values, around, "same") / np.convolve(np.ones(len(values)), around, "same")
    (line,) = axes.plot(at, smooth, linewidth=1.4, **options)
    axes.plot(at, values, linewidth=0.7, alpha=0.3, color=line.get_color(), zorder=1)
    return values


def draw_losses(axes, epochs, columns):
    """train_<part> solid and val_<part> dashed, in one colour per part."""
    parts = dict.fromkeys(name.split("_", 1)[1] for name in columns if name.startswith(("train_", "val_")))
    from matplotlib import colormaps
    colours = colormaps["tab10"].colors
    drawn = [np.zeros(0)]
    for i, part in enumerate(parts):
        for kind, style in (("train", "-"), ("val", "--")):
            if f"{kind}_{part}" in columns:
                options = {"color": colours[i % 10], "linestyle": style, "label": label(f"{kind} {part}")}
                drawn.append(draw_column(axes, epochs, columns[f"{kind}_{part}"], **options))

    # The first epochs would flatten all later ones.
    drawn = np.concatenate(drawn)
    if len(drawn) and drawn.min() > 0 and drawn.max() > 30 * drawn.min():
        axes.set_yscale("log")
    axes.set(xlabel="epoch", title="losses (dashed: validation)")


def draw_measures(axes, epochs, columns):
    """map50, miou ...: all that is neither a loss nor lr nor seconds. A star at the best of the first one:
    by it best.pth is chosen."""
    highest, star = 0.0, True
    for name, column in columns.items():
        if name in ("lr", "seconds") or name.startswith(("train_", "val_")):
            continue
        known = np.isfinite(column) & np.isfinite(epochs)
        (line,) = axes.plot(epochs[known], column[known], linewidth=1.4, marker=".", label=label(name))
        if known.any():
            best = np.nanargmax(np.where(known, column, np.nan))
            line.set_label(f"{label(name)}: best {column[best]:.3f}, last {column[known][-1]:.3f}")
            highest = max(highest, column[best])
            if star:
                axes.plot(epochs[best], column[best], "*", markersize=14, color=line.get_color(),
                          markeredgecolor="black", zorder=4, label=f"best.pth: epoch {epochs[best]:.0f}")
            star = False

    # From 0 to a little above the best: at 0 to 1 a young network would be a line on the floor.
    axes.set(xlabel="epoch", title="measured on the validation list",
             ylim=(0, min(1.02, 1.15 * highest or 1)))


def mark_changes(axes, epochs, planned):
    """Where a resumed run was given another number of epochs: its learning rate jumps there."""
    for row in np.flatnonzero(planned[1:] != planned[:-1]):
        mark(axes, epochs[row] + 0.5, f"epochs {planned[row]:.0f} → {planned[row + 1]:.0f}")


def mark(axes, epoch, text):
    """A dotted line in every picture, with its text beside it in the last one."""
    for one in axes:
        one.axvline(epoch, color="grey", linestyle=":", linewidth=1)
    axes[-1].annotate(f" {text}", (epoch, 1), xycoords=("data", "axes fraction"), va="top", fontsize=7,
                      rotation=90, bbox={"color": "white", "alpha": 0.7, "pad": 0.5})
