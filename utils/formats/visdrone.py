"""VisDrone-DET: VisDrone2019-DET-train/images/a.jpg with VisDrone2019-DET-train/annotations/a.txt.

A line is  left,top,width,height,score,category,truncation,occlusion  in px. Category 0 marks regions where
nothing is labelled: no objects. Score 0 means "not counted in evaluation" and becomes difficult.
Source: Zhu et al., "Detection and Tracking Meet Drones Challenge", TPAMI 2021; the readme of its toolkit.
"""
from utils.errors import UserError
from utils.formats.kitti import read_text_files
from utils.formats.objects import IGNORE
from utils.formats.rows import READINGS, BoxRow, numbers_of

CATEGORIES = ("ignored regions", "pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle",
              "awning-tricycle", "bus", "motor", "others")


def read_visdrone(folder, findings):
    """-> class names (those of VisDrone, in its order), dict list name -> samples; see foreign.py."""
    samples, lists = read_text_files(folder, "visdrone", visdrone_row, "xywh", findings)
    names = {thing["name"] for sample in samples if sample for thing in sample.truth}
    return [name for name in CATEGORIES[1:] if name != "others" or name in names], lists


def visdrone_row(line):
    """A line -> BoxRow."""
    words = line.strip().rstrip(",").split(",")
    if len(words) != 8:
        raise UserError(f"{len(words)} numbers, expected 8: left,top,width,height,score,category,truncation,"
                        "occlusion")
    numbers = numbers_of(words[:4], READINGS["xywh"].split())
    score, category = words[4].strip(), words[5].strip()
    if category not in map(str, range(len(CATEGORIES))):
        raise UserError(f"category {category[:40]!r}, expected 0 to {len(CATEGORIES) - 1}")

    # The toolkit counts neither category 0 nor others with score 0.
    name, difficult = CATEGORIES[int(category)], score == "0"
    if int(category) == 0 or name == "others" and difficult:
        return BoxRow(None, IGNORE, numbers, True)
    return BoxRow(None, name, numbers, difficult)
