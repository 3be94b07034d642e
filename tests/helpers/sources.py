"""Small datasets in the formats of other programs, for the tests of their readers."""
import json

import numpy as np
import pytest
from PIL import Image

from utils.errors import UserError
from utils.findings import report, stop
from utils.formats import recognise
from utils.formats.foreign import deal

WANTED = {"train": "train", "val": "val", "test": "test"}
HOSTILE = ["../../x.png", "/etc/x.png", "C:\\x.png", "a\0.png", "CON.png", "nul", "a./b.png", "dir /b.png", "\u202egnp.a.png", "..\\..\\x.png",
           "a:b.png",
           "\\\\server\\share\\x.png", "a\x1b[2J.png", "", " ", "..", ".", "a\u200f.png", "x/../../y.png", "COM1.tar.png", "\ud800.png", "a\n.png",
           "end.png."]


def image(path, size=(40, 30), colour=None):
    """A picture; every name has another content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(sum(path.name.encode())).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    (Image.new("RGB", size, colour) if colour else Image.fromarray(pixels)).save(path)
    return path


def text(path, content, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def error_of(function, *arguments, **options):
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    return str(caught.value)


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def boxes(objects):
    return [(thing["name"], tuple(np.round(thing["box"], 3).tolist()), thing["difficult"]) for thing in objects]


def read(path, task="detection", palette=None, findings=None, **options):
    """-> class names, dict train, val, test -> samples. findings: a list that gets what is found; without one nothing may be found that stops."""
    found = [] if findings is None else findings
    kind, place = recognise.recognise(path, task, palette)
    names, lists = recognise.read_foreign(kind, place, task, found, palette)
    splits = deal(lists, place if place.is_dir() else place.parent, WANTED, found, **options)
    if findings is None:
        stop(found, "the data")
    truth = (lambda one: (one.label, one.truth)) if task == "segmentation" else (lambda one: one.truth)
    return names, {split: [(one.image, truth(one)) for one in some] for split, some in splits.items()}


def told(path, task="detection", **options):
    """The report about a dataset, and what kinds it is of."""
    findings = []
    read(path, task, findings=findings, **options)
    return report(findings, 1000), [finding.kind for finding in findings]


def make_yolo(root, yaml="train: images/train\nval: images/val\nnames: [cat, big dog]\n", label="1 0.5 0.5 0.5 0.4\n", count=2):
    for split in ("train", "val"):
        for number in range(count):
            image(root / "images" / split / f"{split} {number} 猫.png")
            text(root / "labels" / split / f"{split} {number} 猫.txt", label)
    text(root / "data.yaml", yaml)
    return root


def coco_content(names=("0.png", "1.png"), **changes):
    """Two images, a box, a crowd, polygons and both kinds of run lengths."""
    content = {"images": [{"id": n + 5, "file_name": name, "width": 40, "height": 30} for n, name in enumerate(names)],
               "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat", "supercategory": "pets"}],
               "annotations": [{"id": 1, "image_id": 5, "category_id": 3, "bbox": [2, 3, 10, 12.5], "area": 1, "iscrowd": 0,
                                "segmentation": [[2, 3, 12, 3, 12, 15.5, 2, 15.5], [20, 20, 24, 20, 24, 24, 20, 24]]},
                               {"id": 2, "image_id": 5, "category_id": 7, "bbox": [30, 20, 20, 20], "iscrowd": 1,
                                "segmentation": {"size": [30, 40], "counts": [900, 300]}}]}
    return content | changes


def make_coco(root, content=None, splits=("train", "val"), folder="annotations"):
    for split in splits:
        for name in ("0.png", "1.png"):
            image(root / f"{split}2017" / f"{split} {name}")
        text(root / folder / f"instances_{split}2017.json", json.dumps(content or coco_content((f"{split} 0.png", f"{split} 1.png"))))
    return root


def shape(label="cat", kind="rectangle", points=((2, 3), (12, 15)), **more):
    return {"label": label, "shape_type": kind, "points": [list(p) for p in points], "group_id": None, "flags": {}, **more}


def make_labelme(root, shapes, count=3, **more):
    for number in range(count):
        image(root / f"图 {number}.jpg")
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"图 {number}.jpg", "imageData": None, "imageHeight": 30,
                   "imageWidth": 40}
        text(root / f"图 {number}.json", json.dumps(content | more, ensure_ascii=number == 0))
    return root


SHAPES = [shape(), shape(points=((12, 15), (2, 3))), shape("dog", "polygon", ((20, 5), (30, 5), (25, 15))),
          shape("dog", "circle", ((20, 15), (25, 15))),
          shape("x", "point", ((1, 1),)), shape("x", "line", ((1, 1), (9, 9))), shape("z", "mask", ((4, 5), (9, 9)), mask="iVBOR"),
          shape("__ignore__")]


ROAD, SKY = (128, 64, 128), (0, 0, 200)


def make_colours(root, key="128,64,128 road\n0,0,200 blue sky\n", masks="masks", key_name="palette.txt"):
    for number in range(5):
        image(root / "images" / f"{number}.png")
        pixels = np.zeros((30, 40, 3), np.uint8) + np.array(SKY, np.uint8)
        pixels[number * 5:] = ROAD
        (root / masks).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / masks / f"{number}.png")
    text(root / key_name, key)
    return root


XML = "<annotation><object><name>{}</name><bndbox><xmin>3</xmin><ymin>4</ymin><xmax>12</xmax><ymax>15</ymax></bndbox></object></annotation>"
