"""What a measurement leaves behind besides pictures: a fresh folder, a table as text, CSV files."""
import csv
import time
import unicodedata
from pathlib import Path

from utils.errors import UserError
from utils.settings import shown

COLUMNS = ("objects", "detections", "ap50", "voc07", "ap50_95", "precision", "recall", "f1", "best_f1", "best_score")


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
