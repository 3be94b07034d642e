"""What a measurement begins with and leaves behind besides pictures: the list, a fresh folder,
a table as text, CSV files."""
import csv
import io
import json
import shutil
import time
import unicodedata
from contextlib import contextmanager, suppress
from pathlib import Path

from utils.errors import UserError
from utils.images import IGNORED
from utils.settings import as_table, counted, find, shown
from utils.system.files import CannotWrite, clear_leftovers, write_text

COLUMNS = ("objects", "detections", "ap50", "voc07", "ap50_95", "precision", "recall", "f1", "best_f1",
           "best_score")
PIXEL_COLUMNS = ("iou", "pa", "precision", "f1", "pixels", "predicted")
PIXEL_MEANS = (("mIoU", "miou", "mean IoU over the classes that occur, in the truth or in the predictions"),
               ("mPA", "mpa", "mean PA over the classes that occur in the truth"),
               ("mPrecision", "mprecision", "mean precision over the classes that were predicted"),
               ("mF1", "mf1", "mean F1 over the classes of the mIoU"),
               ("accuracy", "accuracy",
                "share of all labelled pixels that are right; large classes decide it"),
               ("FWIoU", "fwiou", "mean IoU, each class weighted with its share of the labelled pixels"),
               ("kappa", "kappa", "the accuracy above luck (Cohen): 0 is luck, 1 is perfect"))
SEEN_IN_TRAINING = (("train_list", "the network was trained on these images"),
                    ("val_list", "the best epoch was chosen on these images"))


def new_folder(parent, name):
    """Make parent/<name>_<time>/, a fresh folder each time, without results of an earlier run. -> Path."""
    name = f"{name}_{time.strftime('%Y_%m_%d_%H_%M_%S')}"
    # Two runs in one second: the second gets _2 behind its name.
    for attempt in range(1, 1000):
        folder = Path(parent) / (name if attempt == 1 else f"{name}_{attempt}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError("The results cannot be written: "
                            f"{shown(folder)} could not be made ({error.strerror}).") from None

    raise UserError(f"Could not make a new folder {shown(folder)}: remove old ones.")


@contextmanager
def results_folder(parent, name):
    """`with results_folder(...) as folder`: a fresh folder, see `new_folder`.
    If nothing is written into it, it disappears again; so it does when the disk is full: half of the results
    would pass for all."""
    parent = Path(parent)
    clear_leftovers(parent, "*/*.part*")
    made = [] if parent.exists() else [parent]
    folder = new_folder(parent, name)
    try:
        yield folder
    except CannotWrite as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise CannotWrite(f"{error} Nothing of {shown(folder)} is left.") from None
    finally:
        remove_empty([folder, *made])


def remove_empty(folders):
    """Remove those of the folders that are empty, in this order: from the innermost to the outermost."""
    for folder in folders:
        with suppress(OSError):                             # not there, or something is in it
            folder.rmdir()


def choose_list(list_path, settings, example):
    """The list to measure on: the one that is set, else the test list of the training.
    Says when the training has seen it.

    list_path: the script's variable.  settings: those of the training.
    example: a command line for who has neither.
    """
    chosen = list_path or settings.get("test_list")
    if not chosen:
        raise UserError(f"The training named no test list: set list_path, for example  {example}")

    for name, why in SEEN_IN_TRAINING:
        if settings.get(name) and find(settings[name]).resolve() == find(chosen).resolve():
            print(f"NOTE: {chosen} is the {name} of the training: {why}, "
                  "so the numbers will look better than on new images.")
    return chosen


def tell_changes(s):
    """The settings that are not as in the script; all of them are in results.txt."""
    if table := as_table(s, changed=True):
        print(f"Not as in {s.script}:\n{table}")


def write_results(folder, results, text, settings):
    """results.txt, results.json, per_class.csv. results: plain values, and a list per_class of dicts.
    settings: all of them, as text."""
    for name, content in (("results.txt", f"{text}\n\nSettings\n{settings}"),
                          ("results.json", json.dumps(results, ensure_ascii=False, indent=1))):
        write_text(folder / name, content + "\n")
    titles = list(results["per_class"][0])
    write_csv(folder / "per_class.csv", [titles, *(row.values() for row in results["per_class"])])


def write_csv(path, rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


def as_cell(value):
    """A value for people; a dash where it is undefined."""
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def text_width(text):
    """Columns that a text takes on a terminal: a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def text_table(rows):
    """Rows of text -> lines, the first column to the left and the others to the right."""
    rows = [[cell if cell.isprintable() else repr(cell) for cell in row] for row in rows]
    widths = [max(map(text_width, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        spaces = [" " * (width - text_width(cell)) for cell, width in zip(row, widths)]
        cells = [row[0] + spaces[0], *(space + cell for cell, space in zip(row[1:], spaces[1:]))]
        lines.append("  ".join(cells))
    return lines


def detection_report(results):
    """metrics.detection_results -> text: a table with one line per class,
    and the overall numbers with what they mean."""
    titles = ["class", *COLUMNS]
    table = [[row["name"], *(as_cell(row[column]) for column in COLUMNS)] for row in results["per_class"]]
    overall = {name: as_cell(results[name]) for name in ("map50", "voc07")}
    coco = {name: as_cell(value) for name, value in results["coco"].items()}

    # Every number comes with its rule: mAP means five different things in the literature.
    lines = text_table([titles, *table]) + [
        "",
        f"precision, recall, f1: at score {results['score_threshold']:g} or more; "
        "f1 would be best, best_f1, at best_score. –: undefined.",
        *best_of_all(results),
        f"{counted(results['images'], 'image')}, {counted(results['objects'], 'object')} "
        f"(and {results['difficult']} difficult, not counted), "
        f"{counted(results['detections'], 'detection')}. "
        "A class without objects is left out of the means.",
        "",
        f"mAP50     {overall['map50']}  mean over the classes of the area under precision and recall "
        "at IoU 0.5 (VOC since 2010)",
        f"voc07     {overall['voc07']}  the same with the rule of VOC2007: "
        "11 points of the curve instead of the area",
        f"mAP50_95  {coco['AP']}  COCO: mean over IoU 0.5, 0.55 ... 0.95, so it asks for exact boxes",
        f"          AP50 {coco['AP50']}, AP75 {coco['AP75']}; "
        f"small objects (up to 32x32 pixels) {coco['APs']}, medium {coco['APm']}, "
        f"large (from 96x96) {coco['APl']}"]
    if results["not_finite"]:
        lines.append(f"NOTE: {counted(results['not_finite'], 'detection')} left out because of numbers that "
                     "are NaN or infinite.")
    return "\n".join(lines)


def best_of_all(results):
    """A sentence, where another score threshold would be better for all classes together; else none."""
    best = results["best_threshold"]
    if best is None or best == results["score_threshold"]:
        return []
    return [f"The mean F1 of the classes would be best, {results['best_mean_f1']:.3f}, at score {best:g}: "
            f"predict.py confidence={best:g}"]


def segmentation_report(results):
    """segmentation_results -> text: a table with one line per class,
    and the overall numbers with what they mean."""
    titles = ["class", *PIXEL_COLUMNS]
    table = [[row["name"], *(as_cell(row[column]) for column in PIXEL_COLUMNS)]
             for row in results["per_class"]]
    images = counted(results["images"], "image") + ", " if "images" in results else ""
    lines = text_table([titles, *table]) + [
        "",
        "iou: right pixels / those that are of the class, were given it, or both. pa, the pixel accuracy, "
        "is the recall; f1 is Dice.",
        f"{images}{counted(results['pixels'], 'labelled pixel')}; the others (value {IGNORED}) "
        "count nowhere. –: undefined."]

    # A class without a single pixel would hide behind the means: it is named.
    if results["absent"]:
        lines.append("Left out of the means, because neither the truth nor a prediction holds them: "
                     f"{', '.join(results['absent'])}.")
    foreign = [row["name"] for row in results["per_class"] if row["predicted"] and not row["pixels"]]
    if foreign:
        lines.append(f"Predicted, but nowhere in the truth, hence iou 0: {', '.join(foreign)}.")

    width = max(len(name) for name, _, _ in PIXEL_MEANS)
    means = [f"{name:<{width}}  {as_cell(results[key]):<5}  {meaning}" for name, key, meaning in PIXEL_MEANS]
    return "\n".join([*lines, "", *means])


def one_class_only(matrix, class_names, epoch):
    """A sentence with the likely cause when every pixel was predicted as the same class, else "".

    matrix: (K, K) pixels, rows true classes.  epoch: how many the network was trained.
    """
    true, predicted = matrix.sum(1), matrix.sum(0)
    if len(class_names) == 1:
        return f'NOTE: the network knows "{class_names[0]}" only: with one class there is nothing to measure.'
    if (predicted > 0).sum() != 1:
        return ""
    label = int(predicted.argmax())
    share = true[label] / true.sum()
    note = f'NOTE: every labelled pixel was predicted as "{class_names[label]}".'

    # How many of them really are of that class tells a bad list from a bad network.
    if share == 1:
        return f"{note} The masks of this list hold nothing else either " \
               "(apart from 255, which is ignored). Do their objects have the value 255? " \
               "They must have the number of their class. More: docs/en/faq.md#black"
    if share < 0.7:
        return f"{note} Only {100 * share:.1f} % of them are: " \
               f"the network is hardly trained (epoch {epoch}), or its learning rate was too high. " \
               "More: docs/en/faq.md#black"
    return f"{note} {100 * share:.1f} % of them are, so it is the cheapest answer, " \
           f"and a short training gets no further. Train longer (this is epoch {epoch}), " \
           "or give rare classes more weight: class weights, the dice or the focal loss " \
           "(variables of train.py). More: docs/en/faq.md#black"
