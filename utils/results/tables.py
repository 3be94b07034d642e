"""What was found, as files for other programs: JSON, CSV, the results of COCO.

A record is what was found in one picture: a dict of file, width, height and "boxes", a list of dict label,
score, xyxy; or "classes", a list of dict label, pixels, share. Of a frame of a video it has frame and seconds
as well, and a box may have its track.
"""
import csv
import io
import json
import tempfile

from utils.lists import read_classes
from utils.results.media import fresh
from utils.settings import ROOT
from utils.system.files import write_text

BOX_COLUMNS, CLASS_COLUMNS = ("label", "score", "x1", "y1", "x2", "y2"), ("label", "pixels", "share")
COCO_CLASSES = 80               # a network with all of COCO's classes gets COCO's own numbers for them


class Records:
    """A list of records that needs no memory: each is a line of a file that vanishes with it."""

    def __init__(self):
        # It lives as long as the list.
        self.file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        self.count = 0

    def append(self, record):
        self.file.seek(0, io.SEEK_END)
        self.file.write(json.dumps(record) + "\n")
        self.count += 1

    def __len__(self):
        return self.count

    def __iter__(self):
        self.file.seek(0)
        return map(json.loads, self.file)


def save_tables(s, folder, name, records, class_names):
    """Those of s.save_json, s.save_csv and s.save_coco.  -> list of their paths"""
    paths = [save_json(folder, name, records)] if s.save_json else []
    paths += [save_csv(folder, name, records)] if s.save_csv else []
    return paths + ([save_coco(folder, name, records, class_names)] if s.save_coco else [])


def save_json(folder, name, records):
    """name.json: a list of the records.  -> its path"""
    path = fresh(folder, name, ".json")
    rows = ",\n ".join(json.dumps(record, ensure_ascii=False) for record in records)
    write_text(path, f"[{rows}]\n")
    return path


def save_csv(folder, name, records):
    """name.csv: a row for each box or class of each record.  -> its path"""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    for number, record in enumerate(records):
        # A frame of a video says which it is, and a box of it which track it belongs to.
        is_frame, has_boxes = "frame" in record, "boxes" in record
        if not number:
            moment = ["frame", "seconds"] + ["track"] * has_boxes
            columns = BOX_COLUMNS if has_boxes else CLASS_COLUMNS
            table.writerow(["file", *(moment if is_frame else []), *columns])

        place = [record["file"], *([record["frame"], record["seconds"]] if is_frame else [])]
        for box in record.get("boxes", ()):
            track = [box.get("track", "")] if is_frame else []
            table.writerow([*place, *track, box["label"], box["score"], *box["xyxy"]])
        for row in record.get("classes", ()):
            table.writerow([*place, row["label"], row["pixels"], row["share"]])

    path = fresh(folder, name, ".csv")
    write_text(path, text.getvalue())
    return path


def save_coco(folder, name, records, class_names):
    """name_coco.json: the results as COCO's evaluation takes them, a list of image_id, category_id, bbox and
    score; and name_coco_images.json: which image and class the numbers mean.  -> the path of the first"""
    numbers, categories = image_numbers(records), category_numbers(class_names)
    images, results = [], []
    for number, record in zip(numbers, records):
        images.append({"id": number, "file_name": record["file"], "width": record["width"],
                       "height": record["height"]})
        if "frame" in record:
            images[-1] |= {"frame": record["frame"], "seconds": record["seconds"]}
        for box in record["boxes"]:
            x1, y1, x2, y2 = box["xyxy"]
            results.append({"image_id": number, "category_id": categories[box["label"]],
                            "bbox": [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)], "score": box["score"]})

    # The file of images has the name of the other, whatever number that got.
    path = fresh(folder, f"{name}_coco", ".json")
    kinds = [{"id": number, "name": label} for label, number in categories.items()]
    meaning = {"images": images, "categories": kinds, "annotations": []}
    write_text(path, json.dumps(results) + "\n")
    write_text(fresh(folder, f"{path.stem}_images", ".json"), json.dumps(meaning, ensure_ascii=False) + "\n")
    return path


def image_numbers(records):
    """The number of each image: the one that it is called by, as in COCO (000000000139.jpg), if all of them
    are called so; else, and for frames of a video, from 1 on."""
    names = [record["file"].rpartition("/")[2] for record in records if "frame" not in record]
    called = [int(name.partition(".")[0]) for name in names if name.partition(".")[0].isdecimal()]
    return called if len(set(called)) == len(records) else range(1, len(records) + 1)


def category_numbers(class_names):
    """dict class name -> number of its category: COCO's own (1 to 90, with gaps) for all of its classes, else
    from 1."""
    official = read_classes(ROOT / "model_data/coco_91_classes.txt")
    if len(class_names) >= COCO_CLASSES and set(class_names) <= set(official):
        return {name: official.index(name) + 1 for name in class_names}
    return {name: number for number, name in enumerate(class_names, 1)}
