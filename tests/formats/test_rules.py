"""Every reader keeps every rule: a field for each pair, a made dataset with its right result, or the reason why the rule does not apply.

To add a reader: a class with `make` and what its rules need, and a line in FIELDS. A test fails on an empty field. docs/en/data.md has the table.
"""
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sources import WANTED, XML, image, shape, text, tree

from utils.checks import prepare
from utils.checks.folder import whole_findings
from utils.findings import KINDS, STOPS

REPOSITORY = Path(__file__).resolve().parents[2]
SPLITS = {"train": ["p0", "p1", "p2", "p3"], "val": ["p4", "p5"], "test": ["p6", "p7"]}
BOX = (2, 3, 12, 15)            # of the one object, a cat, in each image of 40 x 30
LINE = "0 .175 .3 .25 .4\n"     # the same in YOLO's shares


def split_of(stem):
    return next(split for split, stems in SPLITS.items() if stem in stems)


class Reader:
    """Where image and label of a stem are; the rest is for one format to say."""
    task, image_at, label_at, thing = "detection", "{split}/{stem}.jpg", None, "cat"

    def image(self, root, stem="p0"):
        return root / self.image_at.format(split=split_of(stem[:2]), stem=stem)

    def label(self, root, stem="p0"):
        return root / self.label_at.format(split=split_of(stem[:2]), stem=stem)

    def make(self, root):
        for split in SPLITS:
            for stem in SPLITS[split]:
                image(self.image(root, stem))
                self.write(root, stem)
            self.write_list(root, split)
        return root

    def write_list(self, root, split):
        """What a list needs beside the labels."""

    def rename(self, root, old, new):
        """The image and what belongs to it get another name, as somebody would do it who knows the format."""
        self.image(root, old).rename(self.image(root, new))
        self.label(root, old).rename(self.label(root, new))

    def edit(self, root, old, new, stem="p0"):
        path = self.label(root, stem)
        before = path.read_text(encoding="utf-8")
        assert old in before
        path.write_text(before.replace(old, new), encoding="utf-8")

    def unlabel(self, root):
        """The test list loses its labels."""
        for stem in SPLITS["test"]:
            self.label(root, stem).unlink()


class Voc(Reader):
    image_at, label_at = "JPEGImages/{stem}.jpg", "Annotations/{stem}.xml"

    def write(self, root, stem):
        text(self.label(root, stem), XML.format("cat"))

    def write_list(self, root, split):
        text(root / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{stem}\n" for stem in SPLITS[split]))

    def rename(self, root, old, new):
        super().rename(root, old, new)
        path = root / "ImageSets" / "Main" / f"{split_of(old)}.txt"
        path.write_text(path.read_text().replace(old, new))

    def name(self, root, path):
        list_file = root / "ImageSets" / "Main" / "train.txt"
        list_file.write_text(list_file.read_text().replace("p0\n", f"{path}\n"), encoding="utf-8")

    def difficult(self, root):
        self.edit(root, "<bndbox>", "<difficult>1</difficult><bndbox>")

    def useless(self, root):
        flat = "<bndbox><xmin>5</xmin><ymin>5</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>"
        self.edit(root, "<object>", f"<object><name>cat</name>{flat}</object><object>")

    def empty(self, root):
        self.edit(root, "<object>", "<filename/><source/><size><width/><height></height></size><object><pose/><truncated/><difficult></difficult>")


class Xml(Voc):
    """VOC's xml files beside the images, as LabelImg writes them."""
    image_at, label_at = "{split}/{stem}.jpg", "{split}/{stem}.xml"
    rename, write_list = Reader.rename, Reader.write_list

    def name(self, root, path):
        """A file of another name, with a <filename>."""
        self.edit(root, "<object>", f"<filename>{path}</filename><object>")
        self.label(root).rename(self.label(root).with_name("other.xml"))


class Yolo(Reader):
    image_at, label_at = "images/{split}/{stem}.jpg", "labels/{split}/{stem}.txt"

    def write(self, root, stem):
        text(self.label(root, stem), LINE)

    def write_list(self, root, split):
        text(root / "data.yaml", "train: images/train\nval: images/val\ntest: images/test\nnames: [cat]\n")

    def name(self, root, path):
        names = [path, *(f"images/train/{stem}.jpg" for stem in SPLITS["train"][1:])]
        text(root / "train.txt", "\n".join(names) + "\n")
        self.label_at, data = "data.yaml", self.label_at
        self.edit(root, "images/train", "train.txt")
        self.label_at = data

    def useless(self, root):
        text(self.label(root), LINE + "0 .5 .5 0 0\n")

    def empty(self, root):
        text(self.label(root), "\n" + LINE + "\n  \n")


class Coco(Reader):
    image_at, label_at = "images/{split}/{stem}.jpg", "annotations/instances_{split}.json"

    def write(self, root, stem):
        pass

    def write_list(self, root, split):
        names = [f"{split}/{stem}.jpg" for stem in SPLITS[split]]
        x1, y1, x2, y2 = BOX
        text(root / "annotations" / f"instances_{split}.json", json.dumps({
            "images": [{"id": number, "file_name": name, "width": 40, "height": 30} for number, name in enumerate(names)],
            "annotations": [{"id": number, "image_id": number, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0,
                             "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]]} for number in range(len(names))],
            "categories": [{"id": 1, "name": "cat"}]}))

    def change(self, root, split="train", **records):
        """The first image, or the first annotation, gets other values."""
        path = root / "annotations" / f"instances_{split}.json"
        content = json.loads(path.read_text())
        for what, values in records.items():
            content[what][0] |= values
        path.write_text(json.dumps(content))

    def rename(self, root, old, new):
        self.image(root, old).rename(self.image(root, new))
        self.name(root, f"{split_of(old)}/{new}.jpg")

    def name(self, root, path):
        self.change(root, images={"file_name": path})

    def difficult(self, root):
        self.change(root, annotations={"iscrowd": 1})

    def useless(self, root):
        path = self.label(root)
        content = json.loads(path.read_text())
        content["annotations"][0]["segmentation"].append([1, 1, 2, 2])
        content["annotations"].append({"id": 99, "image_id": 0, "category_id": 1, "bbox": None, "segmentation": []})
        path.write_text(json.dumps(content))

    def empty(self, root):
        self.change(root, annotations={"area": None, "iscrowd": None, "bbox": None, "attributes": None}, images={"width": None, "license": None})

    def unlabel(self, root):
        path = self.label(root, "p6")
        path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": None}))


class Labelme(Reader):
    label_at = "{split}/{stem}.json"

    def write(self, root, stem):
        text(self.label(root, stem), json.dumps({"version": "5.5.0", "flags": {}, "shapes": [shape(points=(BOX[:2], BOX[2:]))],
                                                 "imagePath": f"{stem}.jpg", "imageData": None, "imageWidth": 40, "imageHeight": 30}))

    def name(self, root, path):
        self.edit(root, '"p0.jpg"', json.dumps(path))
        self.label(root).rename(self.label(root).with_name("other.json"))

    def change(self, root, **values):
        path = self.label(root)
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | values))

    def difficult(self, root):
        self.change(root, shapes=[shape(points=(BOX[:2], BOX[2:]), difficult=True)])

    def useless(self, root):
        self.change(root, shapes=[shape(points=(BOX[:2], BOX[2:])), shape(points=(), kind="polygon"), shape(points=((1, 1), (2, 2)), kind="polygon")])

    def empty(self, root):
        self.change(root, imagePath=None, flags=None, imageWidth=None, imageData="",
                    shapes=[shape(points=(BOX[:2], BOX[2:]), kind="rectangle") | {"flags": None, "group_id": None, "difficult": None}])


class Masks(Reader):
    task, image_at, label_at = "segmentation", "images/{split}/{stem}.jpg", "masks/{split}/{stem}.png"

    def write(self, root, stem):
        pixels = np.zeros((30, 40), np.uint8)
        pixels[BOX[1]:BOX[3], BOX[0]:BOX[2]] = 1
        path = self.label(root, stem)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    def useless(self, root):
        self.label(root, "p1").write_bytes(b"no picture")

    def empty(self, root):
        self.label(root, "p1").write_bytes(b"")


class LabelmeJson(Masks):
    """labelme_json_to_dataset: the image and its mask have the same names in every folder."""
    image_at, label_at = "{split}/{stem}_json/img.png", "{split}/{stem}_json/label.png"

    def write(self, root, stem):
        super().write(root, stem)
        text(self.label(root, stem).with_name("label_names.txt"), "_background_\ncat\n")
        image(self.image(root, stem), colour=(int(stem[1]), 0, 0))

    def rename(self, root, old, new):
        self.image(root, old).parent.rename(self.image(root, new).parent)


class OneFile(Reader):
    """One file of labels for each list; it names its images."""
    head = ""

    def write(self, root, stem):
        pass

    def write_list(self, root, split):
        text(self.label(root, SPLITS[split][0]), self.head + "".join(self.entry(split, stem) for stem in SPLITS[split]))

    def rename(self, root, old, new):
        self.image(root, old).rename(self.image(root, new))
        self.edit(root, f"{old}.jpg", f"{new}.jpg", old)

    def unlabel(self, root):
        self.label(root, "p6").unlink()


class Csv(OneFile):
    label_at, head = "{split}_labels.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\n"

    def entry(self, split, stem):
        return f"{split}/{stem}.jpg,40,30,cat,2,3,12,15\n"

    def name(self, root, path):
        self.edit(root, "train/p0.jpg", path)

    def useless(self, root):
        self.edit(root, self.head, f"{self.head}train/p0.jpg,40,30,cat,5,5,5,5\n")

    def empty(self, root):
        self.edit(root, "p0.jpg,40,30", "p0.jpg,,")


class Wider(OneFile):
    image_at, label_at, thing = "WIDER_{split}/images/0--x/{stem}.jpg", "wider_face_split/wider_face_{split}_bbx_gt.txt", "face"

    def entry(self, split, stem):
        return f"0--x/{stem}.jpg\n1\n2 3 10 12 0 0 0 0 0 0\n"

    def name(self, root, path):
        self.edit(root, "0--x/p0.jpg", path)

    def difficult(self, root):
        self.edit(root, "p0.jpg\n1\n2 3 10 12 0 0 0 0", "p0.jpg\n1\n2 3 10 12 0 0 0 1")

    def useless(self, root):
        self.edit(root, "p0.jpg\n1\n", "p0.jpg\n2\n5 5 0 0 0 0 0 0 0 0\n")

    def empty(self, root):
        self.edit(root, "p0.jpg\n1\n2 3 10 12 0 0 0 0 0 0", "p0.jpg\n1\n2 3 10 12")


class Via(OneFile):
    label_at = "via_{split}.json"

    def write_list(self, root, split):
        region = {"shape_attributes": {"name": "rect", "x": 2, "y": 3, "width": 10, "height": 12}, "region_attributes": {"class": "cat"}}
        content = {f"{stem}.jpg99": {"filename": f"{split}/{stem}.jpg", "size": 99, "regions": [region], "file_attributes": {}}
                   for stem in SPLITS[split]}
        text(self.label(root, SPLITS[split][0]), json.dumps(content))

    def name(self, root, path):
        self.edit(root, '"train/p0.jpg"', json.dumps(path))

    def rename(self, root, old, new):
        self.image(root, old).rename(self.image(root, new))
        self.name(root, f"train/{new}.jpg")

    def change(self, root, *regions, **values):
        path = self.label(root)
        content = json.loads(path.read_text())
        content["p0.jpg99"]["regions"] += regions
        path.write_text(json.dumps({**content, "p0.jpg99": content["p0.jpg99"] | values}))

    def useless(self, root):
        flat = {"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]}
        self.change(root, {"shape_attributes": flat, "region_attributes": {"class": "cat"}})

    def empty(self, root):
        self.change(root, file_attributes=None, size=None, base64_img_data="", fileref=None)


class Kitti(Reader):
    image_at, label_at, line = "{split}/image_2/{stem}.jpg", "{split}/label_2/{stem}.txt", "cat 0.00 0 0.00 {} 0 0 0 0 0 0 0\n"

    def write(self, root, stem):
        text(self.label(root, stem), self.line.format("2 3 12 15"))

    def useless(self, root):
        text(self.label(root), self.line.format("2 3 12 15") + self.line.format("5 5 5 5"))

    def empty(self, root):
        text(self.label(root), "\n" + self.line.format("2 3 12 15") + "\n \n")


class VisDrone(Reader):
    image_at, label_at, thing = "VisDrone2019-DET-{split}/images/{stem}.jpg", "VisDrone2019-DET-{split}/annotations/{stem}.txt", "car"

    def write(self, root, stem):
        text(self.label(root, stem), "2,3,10,12,1,4,0,0\n")

    def difficult(self, root):
        text(self.label(root), "2,3,10,12,0,4,0,0\n")

    def useless(self, root):
        text(self.label(root), "2,3,10,12,1,4,0,0\n5,5,0,0,1,4,0,0\n")

    def empty(self, root):
        text(self.label(root), "\n2,3,10,12,1,4,0,0\n \n")


READERS = {"voc": Voc(), "yolo": Yolo(), "coco": Coco(), "labelme": Labelme(), "labelme_json": LabelmeJson(), "xml": Xml(), "masks": Masks(),
           "via": Via(), "csv": Csv(), "kitti": Kitti(), "visdrone": VisDrone(), "wider_face": Wider()}


# ---- the rules: each changes a dataset; the result that is right stands in FIELDS

def same_stem_twice(reader, root):
    """p0.jpg and p0.png, and nothing says which."""
    image(reader.image(root).with_suffix(".png"))
    if isinstance(reader, Labelme):
        reader.change(root, imagePath=None)


def images_moved(reader, root):
    """The training images are in another folder now; their names are still the only ones of their kind."""
    place = reader.image(root).parent
    other = (place if type(reader) is Voc else place.parent) / "moved" / "deep"
    other.mkdir(parents=True)
    for stem in SPLITS["train"]:
        reader.image(root, stem).rename(other / f"{stem}.jpg")
    if isinstance(reader, Yolo):
        reader.name(root, "images/train/p0.jpg")


def difficult(reader, root):
    reader.difficult(root)


def data_prefix(reader, root):
    reader.name(root, f"data/obj_train_data/{reader.image(root).name}")


def foreign_path(reader, root):
    reader.name(root, f"/home/other/project/images/train/{reader.image(root).name}")


def windows_path(reader, root):
    reader.name(root, f"D:\\project\\images\\train\\{reader.image(root).name}")


def path_outside(reader, root):
    """Another image of this name is outside: it must not be opened."""
    image(root.parent / "p0.jpg", size=(4, 4))
    reader.name(root, "../../p0.jpg")


def link_to_file(reader, root):
    place, pool = reader.image(root), root.parent / "pool" / "x.jpg"
    pool.parent.mkdir()
    place.rename(pool)
    place.symlink_to(pool)


def link_to_folder(reader, root):
    place, pool = reader.image(root).parent, root.parent / "pool"
    place.rename(pool)
    place.symlink_to(pool)


def link_to_itself(reader, root):
    """A file that leads to itself, and a folder that leads to the one above it."""
    place = reader.image(root)
    place.with_name("loop.jpg").symlink_to("loop.jpg")
    if not isinstance(reader, Voc) or isinstance(reader, Xml):
        (place.parent / "again").symlink_to(place.parent)


def colon(reader, root):
    reader.rename(root, "p0", "p0_10:30")


def odd_name(reader, root):
    """One name steers the terminal, one is no text."""
    reader.rename(root, "p0", "p0\x1b[2J")
    place, label = reader.image(root, "p1"), reader.label(root, "p1")
    if isinstance(reader, (Coco, OneFile)):
        place.rename(place.with_name(os.fsdecode(b"p1\xff.jpg")))
    elif isinstance(reader, LabelmeJson):
        place.parent.rename(place.parent.with_name(os.fsdecode(b"p1\xff_json")))
    else:
        for path in (place, label):
            path.rename(path.with_name(os.fsdecode(b"p1\xff" + path.suffix.encode())))
    if isinstance(reader, Voc) and not isinstance(reader, Xml):
        path = root / "ImageSets" / "Main" / "train.txt"
        path.write_text("p2\np3\n")


def useless_part(reader, root):
    reader.useless(root)


def split_without_labels(reader, root):
    reader.unlabel(root)


def picture_twice(reader, root):
    shutil.copy(reader.image(root, "p0"), reader.image(root, "p1"))


def nothing_written(reader, root):
    """What has to be made, a split for one, must not be made in the dataset: it may be read-only."""
    shutil.rmtree(root / "ImageSets", ignore_errors=True)


def empty_values(reader, root):
    reader.empty(root)


RULES = {"the same stem twice": same_stem_twice, "images were moved": images_moved, "difficult, crowd": difficult, "data/ before a name": data_prefix,
         "the path of another computer": foreign_path, "a Windows path": windows_path, "a path that leads out": path_outside,
         "a link to a file": link_to_file, "a link to a folder": link_to_folder, "a link to itself": link_to_itself, "a colon in a name": colon,
         "a name that is no text": odd_name, "one useless part": useless_part, "a list without labels": split_without_labels,
         "the same picture twice": picture_twice, "nothing is written there": nothing_written, "empty values, null": empty_values}

# Why a rule does not apply. docs/en/data.md explains these letters below the table.
NO_NAMES, NO_WORD, ONE_NAME = "a", "b", "c"
# reader -> for each rule, in the order of RULES: the kinds of findings and how many of the 8 images are used, or why it does not apply.
FIELDS = {
    "voc": [("stem_twice", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("no_file", 8), ("", 8),
            ("bad_name", 6), ("box_empty", 8), ("part_without_labels", 6), ("same_picture", 8), ("", 8), ("", 8)],
    "yolo": [("stem_twice", 9), ("found_elsewhere", 8), NO_WORD, ("found_elsewhere", 8), ("found_elsewhere", 8), ("found_elsewhere", 8),
             ("found_elsewhere", 8), ("", 8), ("", 8), ("no_file", 8),
             ("", 8), ("bad_name", 6), ("box_empty", 8), ("part_without_labels", 6), ("same_picture", 8), ("", 8), ("", 8)],
    "coco": [("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("no_file", 8), ("", 8),
             ("bad_name label_without_image", 6), ("box_empty shape_flat", 8), ("part_without_labels", 6), ("same_picture", 8), ("", 8), ("", 8)],
    "labelme": [("stem_twice", 7), ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("no_file", 8),
                ("other_image_path", 8), ("bad_name other_image_path", 6), ("shape_flat", 8), ("image_without_label", 6), ("same_picture", 8),
                ("", 8), ("", 8)],
    "labelme_json": [("", 8), ONE_NAME, NO_WORD, NO_NAMES, NO_NAMES, NO_NAMES, NO_NAMES, ("", 8), ("", 8), ("no_file", 8), ("", 8),
                     ("bad_name", 6), ("not_an_image", 7), ("image_without_label", 6), ("same_picture", 8), ("", 8), ("not_an_image", 7)],
    "xml": [("stem_twice", 7), ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("no_file", 8), ("", 8),
            ("bad_name", 6), ("box_empty", 8), ("image_without_label", 6), ("same_picture", 8), ("", 8), ("", 8)],
    "masks": [("stem_twice", 8), ("", 8), NO_WORD, NO_NAMES, NO_NAMES, NO_NAMES, NO_NAMES, ("", 8), ("", 8), ("no_file", 8), ("", 8),
              ("bad_name", 6), ("not_an_image", 7), ("image_without_label", 6), ("same_picture", 8), ("", 8), ("not_an_image", 7)],
    "via": [("image_without_label", 8), ("", 8), NO_WORD, ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("no_file", 8), ("", 8),
            ("bad_name image_without_label label_without_image", 6), ("shape_flat", 8), ("image_without_label", 6), ("same_picture", 8), ("", 8),
            ("", 8)],
    "csv": [("image_without_label", 8), ("", 8), NO_WORD, ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("no_file", 8), ("", 8),
            ("bad_name image_without_label label_without_image", 6), ("box_empty", 8), ("image_without_label", 6), ("same_picture", 8), ("", 8),
            ("", 8)],
    "kitti": [("stem_twice", 7), ("", 8), NO_WORD, NO_NAMES, NO_NAMES, NO_NAMES, NO_NAMES, ("", 8), ("", 8), ("no_file", 8), ("", 8),
              ("bad_name", 6), ("box_empty", 8), ("image_without_label", 6), ("same_picture", 8), ("", 8), ("", 8)],
    "visdrone": [("stem_twice", 7), ("", 8), ("", 8), NO_NAMES, NO_NAMES, NO_NAMES, NO_NAMES, ("", 8), ("", 8), ("no_file", 8), ("", 8),
                 ("bad_name", 6), ("box_empty", 8), ("image_without_label", 6), ("same_picture", 8), ("", 8), ("", 8)],
    "wider_face": [("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("", 8), ("no_file", 8), ("", 8),
                   ("bad_name label_without_image", 6), ("box_empty", 8), ("", 6), ("same_picture", 8), ("", 8), ("", 8)],
}
TABLE = {(name, rule): field for name, fields in FIELDS.items() for rule, field in zip(RULES, fields)}
TESTED = [(name, rule) for name, rule in TABLE if isinstance(TABLE[name, rule], tuple)]


def outcome(folder, task):
    """-> the kinds of findings, the samples."""
    part, findings = prepare.look_at(folder, task, WANTED, False)
    assert part, findings
    findings += whole_findings([part], None, "classes.txt", task, derived=True)
    hints = {"few_images", "near_across"}                   # the pictures here are few and look alike
    return {finding.kind for finding in findings} - hints, list(part.samples.values())


@pytest.mark.parametrize("name, rule", TESTED, ids=lambda word: word)
def test_field(root, name, rule):
    reader, (kinds, count) = READERS[name], TABLE[name, rule]
    folder = reader.make(root / "set" / "data")
    RULES[rule](reader, folder)
    before = tree(folder)
    found, samples = outcome(folder, reader.task)
    assert found == set(kinds.split()) and len(samples) == count

    # Every object is where it was, and no image is from outside.
    for sample in samples:
        assert sample.image.is_relative_to(folder)
        if reader.task == "segmentation":
            assert sample.truth[:3].tolist() == [1080, 120, 0]
        else:
            assert [(one["name"], tuple(np.round(one["box"], 3).tolist())) for one in sample.truth] == [(reader.thing, BOX)]
    marked = [sample for sample in samples if reader.task == "detection" and sample.truth[0]["difficult"]]
    assert len(marked) == (rule == "difficult, crowd")

    # As with python voc_annotation.py, for both tasks where the format has outlines.
    if rule == "nothing is written there":
        for task in {reader.task, *(["segmentation"] if name in ("coco", "labelme") else [])}:
            prepare.prepare(folder, task=task)
    assert tree(folder) == before


def test_no_field_is_empty():
    assert FIELDS.keys() == READERS.keys() and all(len(fields) == len(RULES) for fields in FIELDS.values())
    assert all(field in (NO_NAMES, NO_WORD, ONE_NAME) for field in TABLE.values() if not isinstance(field, tuple))
    for name, rule in TESTED:
        kinds, count = TABLE[name, rule]
        assert count >= 6 and set(kinds.split()) <= KINDS.keys()


def test_only_what_nobody_can_guess_stops():
    stops = {kinds for kinds, _ in map(TABLE.get, TESTED) if any(kind in KINDS and KINDS[kind][0] == STOPS for kind in kinds.split())}
    assert stops == {"stem_twice"}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_table_in_the_docs(language):
    """Rule by rule what is here: a tick where the field is tested, else the letter of the reason, which stands below."""
    part = (REPOSITORY / f"docs/{language}/data.md").read_text(encoding="utf-8").split("| `voc` |")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in part.splitlines()[2:] if line.startswith("|")]
    assert [row[1:] for row in rows] == [["✓" if isinstance(TABLE[name, rule], tuple) else TABLE[name, rule] for name in READERS] for rule in RULES]
    assert language == "zh" or [row[0] for row in rows] == list(RULES)
    assert part.splitlines()[0].strip("| ").split(" | ") == [f"`{name}`" for name in READERS][1:]
    reasons = re.findall(r"^\* ([a-z]): ", part, re.M)
    assert reasons == sorted({field for field in TABLE.values() if isinstance(field, str)})
    numbers = [int(word) for word in re.findall(r"\d+", part.split("\n\n")[1])]
    assert numbers == [len(READERS), len(RULES), len(TESTED), len(TABLE) - len(TESTED)]
