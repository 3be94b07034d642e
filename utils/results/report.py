"""What a measurement begins with and leaves behind besides pictures: the list, a fresh folder, a table as text, CSV files."""
import csv
import json
import time
import unicodedata
from pathlib import Path

from utils.errors import UserError
from utils.images import IGNORED
from utils.settings import find, shown

COLUMNS = ("objects", "detections", "ap50", "voc07", "ap50_95", "precision", "recall", "f1", "best_f1", "best_score")
PIXEL_COLUMNS = ("iou", "pa", "precision", "f1", "pixels", "predicted")
PIXEL_MEANS = (("mIoU", "miou", "mean IoU over the classes that occur, in the truth or in the predictions"),
               ("mPA", "mpa", "mean PA over the classes that occur in the truth"),
               ("mPrecision", "mprecision", "mean precision over the classes that were predicted"),
               ("mF1", "mf1", "mean F1 over the classes of the mIoU"),
               ("accuracy", "accuracy", "share of all labelled pixels that are right; large classes decide it"),
               ("FWIoU", "fwiou", "mean IoU, each class weighted with its share of the labelled pixels"))


def new_folder(parent, name):
    """Make parent/<name>_<time>/, a fresh folder each time, so that no result of an earlier run can lie in it. -> Path."""
    name = f"{name}_{time.strftime('%Y_%m_%d_%H_%M_%S')}"
    for number in range(1, 1000):
        folder = Path(parent) / (name if number == 1 else f"{name}_{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"The results cannot be written: {shown(folder)} could not be made ({error.strerror}).") from None
    raise UserError(f"Could not make a new folder {shown(folder)}: remove old ones.")


def choose_list(list_path, settings, example):
    """The list to measure on: the one that is set, else the test list of the training. Says when the training has seen it.

    list_path: the script's variable.  settings: those of the training.  example: a command line for who has neither.
    """
    chosen = list_path or settings.get("test_list")
    if not chosen:
        raise UserError(f"The training named no test list: set list_path, for example  {example}")
    for name, why in (("train_list", "the network was trained on these images"), ("val_list", "the best epoch was chosen on these images")):
        if settings.get(name) and find(settings[name]).resolve() == find(chosen).resolve():
            print(f"NOTE: {chosen} is the {name} of the training: {why}, so the numbers will look better than on new images.")
    return chosen


def write_results(folder, results, text):
    """results.txt, results.json and per_class.csv. results: dict of plain values with a list per_class of dicts."""
    for name, content in (("results.txt", text), ("results.json", json.dumps(results, ensure_ascii=False, indent=1))):
        with open(folder / name, "w", encoding="utf-8", newline="\n") as file:
            file.write(content + "\n")
    write_csv(folder / "per_class.csv", [list(results["per_class"][0]), *(row.values() for row in results["per_class"])])


def write_csv(path, rows):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def number(value):
    """A value for people; a dash where it is undefined."""
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def text_table(rows):
    """Rows of text -> lines, the first column to the left and the others to the right. Chinese characters take two columns."""
    def width(text):
        return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)

    rows = [[cell if cell.isprintable() else repr(cell) for cell in row] for row in rows]
    widths = [max(map(width, column)) for column in zip(*rows)]
    return ["  ".join(cell + " " * (wide - width(cell)) if i == 0 else " " * (wide - width(cell)) + cell
                      for i, (cell, wide) in enumerate(zip(row, widths))) for row in rows]


def detection_report(results):
    """metrics.detection_results -> text: a table with one line per class, and the overall numbers with what they mean."""
    table = [["class", *COLUMNS]] + [[row["name"], *(number(row[column]) for column in COLUMNS)] for row in results["per_class"]]
    coco = {name: number(value) for name, value in results["coco"].items()}
    lines = text_table(table) + [
        "",
        f"precision, recall, f1: at score {results['score_threshold']:g} or more; f1 would be best, best_f1, at best_score. –: undefined.",
        f"{results['images']} images, {results['objects']} objects (and {results['difficult']} difficult ones, which do not count), "
        f"{results['detections']} detections. A class without objects is left out of the means.",
        "",
        f"mAP50     {number(results['map50'])}  mean over the classes of the area under precision and recall at IoU 0.5 (VOC since 2010)",
        f"voc07     {number(results['voc07'])}  the same with the rule of VOC2007: 11 points of the curve instead of the area",
        f"mAP50_95  {coco['AP']}  COCO: mean over IoU 0.5, 0.55 ... 0.95, so it asks for exact boxes",
        f"          AP50 {coco['AP50']}, AP75 {coco['AP75']}; small objects (up to 32x32 pixels) {coco['APs']}, "
        f"medium {coco['APm']}, large (from 96x96) {coco['APl']}"]
    if results["not_finite"]:
        lines.append(f"NOTE: {results['not_finite']} detections were not finite numbers (NaN) and were left out.")
    return "\n".join(lines)


def segmentation_report(results):
    """segmentation_results -> text: a table with one line per class, and the overall numbers with what they mean."""
    table = [["class", *PIXEL_COLUMNS]] + [[row["name"], *(number(row[column]) for column in PIXEL_COLUMNS)] for row in results["per_class"]]
    images = f"{results['images']} images, " if "images" in results else ""
    lines = text_table(table) + [
        "",
        "iou: right pixels / those that are of the class, were given it, or both. pa, the pixel accuracy, is the recall; f1 is Dice.",
        f"{images}{results['pixels']} labelled pixels; the others (value {IGNORED}) count nowhere. –: undefined."]
    if results["absent"]:
        lines.append(f"Left out of the means, because neither the truth nor a prediction holds them: {', '.join(results['absent'])}.")
    foreign = [row["name"] for row in results["per_class"] if row["predicted"] and not row["pixels"]]
    if foreign:
        lines.append(f"Predicted, but nowhere in the truth, hence iou 0: {', '.join(foreign)}.")
    width = max(len(name) for name, _, _ in PIXEL_MEANS)
    return "\n".join([*lines, "", *(f"{name:<{width}}  {number(results[key]):<5}  {meaning}" for name, key, meaning in PIXEL_MEANS)])


def one_class_only(matrix, class_names, epoch):
    """A sentence with the likely cause when every pixel was predicted as the same class, else "".

    matrix: (K, K) pixels, rows true classes.  epoch: how many the network was trained.
    """
    true, predicted = matrix.sum(1), matrix.sum(0)
    if (predicted > 0).sum() != 1 or len(class_names) == 1:
        return ""
    label = int(predicted.argmax())
    name, share = class_names[label], true[label] / true.sum()
    said = f'NOTE: every labelled pixel was predicted as "{name}".'
    if share == 1:
        return f'{said} The masks of this list hold nothing else either (apart from 255, not labelled). Do their objects have the value 255? ' \
               "They must have the number of their class."
    if share < 0.7:
        return f'{said} Only {100 * share:.1f} % of them are: the network is hardly trained (epoch {epoch}), or its learning rate was too high.'
    return f'{said} {100 * share:.1f} % of them are, so it is the cheapest answer, and a short training gets no further. Train longer ' \
           f"(this is epoch {epoch}), or let rare classes count more: class weights, the dice or the focal loss (variables of train.py)."
