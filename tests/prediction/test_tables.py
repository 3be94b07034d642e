"""What was found, as JSON, CSV and COCO results."""
import csv
import json

import pytest

from utils.results import tables
from utils.settings import ROOT

BOXES = [{"label": "cat", "score": 0.9, "xyxy": [1.0, 2.0, 11.5, 22.25]}, {"label": "a,b dog", "score": 0.5, "xyxy": [5, 5, 9, 9]}]


def image(file, boxes=(), **more):
    return {"file": file, "width": 60, "height": 40, **more, "boxes": list(boxes)}


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_records_need_no_memory_and_come_back_in_order(tmp_path):
    records = tables.Records()
    assert len(records) == 0 and list(records) == []
    for number in range(5):
        records.append(image(f"图 {number}.jpg", BOXES[:number % 3]))
        assert len(list(records)) == len(records) == number + 1             # read in between, written on
    assert [record["file"] for record in records] == [f"图 {number}.jpg" for number in range(5)]
    assert json.loads(tables.save_json(tmp_path, "a", records).read_text(encoding="utf-8")) == list(records)


def test_csv_of_images_and_of_frames(tmp_path):
    assert rows_of(tables.save_csv(tmp_path, "a", [image("x.jpg", BOXES), image("empty.jpg")])) == [
        ["file", "label", "score", "x1", "y1", "x2", "y2"], ["x.jpg", "cat", "0.9", "1.0", "2.0", "11.5", "22.25"],
        ["x.jpg", "a,b dog", "0.5", "5", "5", "9", "9"]]

    frames = [image("v.mp4", [BOXES[0] | {"track": 3}, BOXES[1]], frame=7, seconds=0.28)]
    assert rows_of(tables.save_csv(tmp_path, "v", frames)) == [
        ["file", "frame", "seconds", "track", "label", "score", "x1", "y1", "x2", "y2"],
        ["v.mp4", "7", "0.28", "3", "cat", "0.9", "1.0", "2.0", "11.5", "22.25"],
        ["v.mp4", "7", "0.28", "", "a,b dog", "0.5", "5", "5", "9", "9"]]

    masks = [{"file": "v.mp4", "frame": 0, "seconds": 0.0, "classes": [{"label": "cat", "pixels": 5, "share": 0.5}]}]
    assert rows_of(tables.save_csv(tmp_path, "m", masks)) == [["file", "frame", "seconds", "label", "pixels", "share"],
                                                             ["v.mp4", "0", "0.0", "cat", "5", "0.5"]]


def test_coco_numbers_from_one(tmp_path):
    path = tables.save_coco(tmp_path, "boxes", [image("p/x.jpg", BOXES), image("p/y.jpg")], ["a,b dog", "cat"])
    meaning = json.loads((tmp_path / "boxes_coco_images.json").read_text(encoding="utf-8"))
    assert json.loads(path.read_text()) == [{"image_id": 1, "category_id": 2, "bbox": [1.0, 2.0, 10.5, 20.25], "score": 0.9},
                                            {"image_id": 1, "category_id": 1, "bbox": [5, 5, 4, 4], "score": 0.5}]
    assert [(one["id"], one["file_name"]) for one in meaning["images"]] == [(1, "p/x.jpg"), (2, "p/y.jpg")]
    assert meaning["categories"] == [{"id": 1, "name": "a,b dog"}, {"id": 2, "name": "cat"}]

    # Of a video each frame is an image, whatever its name is.
    again = tables.save_coco(tmp_path, "boxes", [image("7.mp4", BOXES, frame=n, seconds=n / 4) for n in (0, 2)], ["a,b dog", "cat"])
    assert again.name == "boxes_coco_2.json" and {row["image_id"] for row in json.loads(again.read_text())} == {1, 2}
    frames = json.loads((tmp_path / "boxes_coco_2_images.json").read_text())["images"]
    assert [(one["frame"], one["seconds"]) for one in frames] == [(0, 0.0), (2, 0.5)]


def test_coco_has_its_own_numbers(tmp_path):
    """Images and classes of COCO are called as COCO calls them, so that its evaluation can be used at once."""
    names = (ROOT / "model_data/coco_classes.txt").read_text(encoding="utf-8").split("\n")[:80]
    found = [image("val2017/000000000139.jpg", [{"label": "toothbrush", "score": 0.5, "xyxy": [0, 0, 4, 4]}]), image("000000000285.jpg")]
    path = tables.save_coco(tmp_path, "boxes", found, names)
    assert [(row["image_id"], row["category_id"]) for row in json.loads(path.read_text())] == [(139, 90)]
    assert tables.category_numbers(["person", "toothbrush"]) == {"person": 1, "toothbrush": 2}
    twice = tables.save_coco(tmp_path, "boxes", [found[0], image("other/139.jpg")], names)
    assert json.loads(twice.read_text())[0]["image_id"] == 1                    # one number for two images is none


def test_pycocotools_reads_it(tmp_path):
    """The results against a truth that is made of them: AP is 1."""
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
    names = ["cat", "a,b dog"]
    path = tables.save_coco(tmp_path, "boxes", [image("x.jpg", BOXES), image("y.jpg", BOXES[:1])], names)
    truth_path = tmp_path / "boxes_coco_images.json"
    truth = json.loads(truth_path.read_text())
    for number, row in enumerate(json.loads(path.read_text()), 1):
        box = row["bbox"]
        truth["annotations"].append({"id": number, **row, "area": box[2] * box[3], "iscrowd": 0})
    truth_path.write_text(json.dumps(truth))
    coco = COCO(str(truth_path))
    evaluation = COCOeval(coco, coco.loadRes(str(path)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)
