"""Formats of other programs: csv_table.py, kitti.py, visdrone.py, wider_face.py, via.py and object_masks.py read, sniff.py names all others."""
import json
import math
import os
import random
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image
from sources import WANTED, boxes, error_of, image, read, text, told

from utils.checks import prepare
from utils.findings import report
from utils.formats import object_masks, recognise, rows, sniff
from utils.formats.visdrone import CATEGORIES
from utils.images import open_mask

BOXES = ("car", (10, 8, 50, 38)), ("van", (60, 28, 100, 68))             # of every image, 160 x 120
SIZE = (160, 120)


def csv_rows(name, of=BOXES):
    return "".join(f"{name},160,120,{label},{','.join(map(str, box))}\n" for label, box in of)


def via_region(label, box, **shape):
    x1, y1, x2, y2 = box
    rect = {"name": "rect", "x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
    return {"shape_attributes": shape or rect, "region_attributes": {"type": label}}


def via_record(name, regions=None):
    return {"filename": name, "size": 9, "file_attributes": {}, "regions": [via_region(*one) for one in BOXES] if regions is None else regions}


def kitti_lines(of=BOXES):
    return "".join(f"{label} 0.00 0 -1.57 {' '.join(f'{v:.2f}' for v in box)} 1.5 1.6 3.9 1.0 1.7 8.4 0.01\n" for label, box in of)


def visdrone_lines(of=BOXES):
    return "".join(f"{x1},{y1},{x2 - x1},{y2 - y1},1,{CATEGORIES.index(label)},0,0\n" for label, (x1, y1, x2, y2) in of)


def wider_record(name, of=BOXES):
    faces = "".join(f"{x1} {y1} {x2 - x1} {y2 - y1} 0 0 0 0 0 0 \n" for _, (x1, y1, x2, y2) in of)
    return f"{name}\n{len(of)}\n{faces or '0 0 0 0 0 0 0 0 0 0 '}\n"


def make_csv(root, names):
    return text(root / "labels.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\n" + "".join(map(csv_rows, names)))


def make_via(root, names):
    return text(root / "via_region_data.json", json.dumps({f"{name}9": via_record(name) for name in names}))


def make_wider(root, names):
    return text(root / "split" / "faces_bbx_gt.txt", "".join(map(wider_record, names)))


def per_image(folder, lines):
    def make(root, names):
        paths = [text(root / folder / f"{os.path.splitext(name.replace(chr(92), '/').rpartition('/')[2])[0]}.txt", lines()) for name in names]
        return paths[0]
    return make


# reader -> what writes its label files for the images of these names; one file for all, or one for each image
ONE_FILE = {"csv": make_csv, "via": make_via, "wider_face": make_wider}
PER_IMAGE = {"kitti": per_image("label_2", kitti_lines), "visdrone": per_image("annotations", visdrone_lines)}
FOLDERS = {"kitti": "image_2", "visdrone": "images"}
READERS = ONE_FILE | PER_IMAGE


def pictures(root, kind, names):
    return [image(root / FOLDERS.get(kind, "pictures") / name, SIZE) for name in names]


def plain(samples):
    return {path.name: [(name, box) for name, box, _ in boxes(truth)] for path, truth in samples}


def everything(splits):
    return {name: found for some in splits.values() for name, found in plain(some).items()}


def expected(kind):
    return [("face" if kind == "wider_face" else label, tuple(map(float, box))) for label, box in BOXES]


@pytest.mark.parametrize("kind", READERS)
def test_reads(root, kind):
    names = [f"f{number} 猫.jpg" for number in range(6)]
    pictures(root / "d", kind, names)
    READERS[kind](root / "d", names)
    assert recognise.recognise(root / "d")[0] == kind
    classes, splits = read(root / "d")
    assert everything(splits) == dict.fromkeys(names, expected(kind))
    assert {"face"} if kind == "wider_face" else {"car", "van"} <= set(classes)
    assert [len(some) for some in splits.values()] == [4, 1, 1]


@pytest.mark.parametrize("kind", READERS)
def test_list_files_come_out(root, kind, capsys):
    """The whole way, and train.py finds the lists again without making them anew."""
    pictures(root / "d", kind, ["a.jpg", "b.png", "c.jpg"])
    file = READERS[kind](root / "d", ["a.jpg", "b.png", "c.jpg"])
    given = root / "d" if kind in PER_IMAGE else file
    classes, made = prepare.prepare(given)
    lines = "".join((root / made[split]).read_text(encoding="utf-8") for split in made)
    assert lines.count(" 10,8,50,38,") == lines.count(" 60,28,100,68,") == 3
    capsys.readouterr()
    prepare.current_lists(given, dict.fromkeys(("classes_path", "train_list", "val_list", "test_list")))
    assert capsys.readouterr().out == ""


# ---- the rules that every reader has

@pytest.mark.parametrize("kind", READERS)
def test_same_stem_twice(root, kind):
    """Of two images with one stem a label without a suffix could mean either; a whole name means one."""
    pictures(root / "d", kind, ["a.jpg", "a.png", "b.jpg"])
    if kind == "wider_face":
        make_wider(root / "d", ["a.jpg", "b.jpg"])
        assert told(root / "d")[1] == []                    # its names have a suffix
        return
    READERS[kind](root / "d", ["a", "b"])
    message, kinds = told(root / "d")
    assert "stem_twice" in kinds and "a.jpg" in message and "a.png" in message
    assert "image_without_label" not in kinds or kind in ONE_FILE
    if kind in ONE_FILE:
        READERS[kind](root / "d", ["a.jpg", "b.jpg"])
        assert "stem_twice" not in told(root / "d")[1]


@pytest.mark.parametrize("kind", ONE_FILE)
@pytest.mark.parametrize("name", ["/home/bob/data/f0.jpg", "C:\\Users\\bob\\f0.jpg", "..\\x\\f0.jpg", "../../../f0.jpg", "other/f0.jpg", "f0.JPG",
                                  "f0",
                                  "file:///data/f0.jpg", "\\\\server\\share\\f0.jpg"])
def test_names_of_another_machine(root, kind, name):
    image(root / "f0.jpg", (7, 7))                         # outside the dataset: never this one
    pictures(root / "d", kind, ["f0.jpg", "f1.jpg"])
    READERS[kind](root / "d", ["f1.jpg", name])
    assert everything(read(root / "d")[1])["f0.jpg"] == expected(kind)


@pytest.mark.parametrize("kind", ONE_FILE)
def test_of_several_images_the_one_in_the_same_folders(root, kind):
    for folder in ("one", "two"):
        image(root / "d" / folder / "f.jpg", SIZE)
    READERS[kind](root / "d", ["x/one/f.jpg", "E:\\two\\f.jpg"])
    samples = [sample for some in read(root / "d")[1].values() for sample in some]
    assert sorted(path.parent.name for path, _ in samples) == ["one", "two"]
    READERS[kind](root / "d", ["three/f.jpg"])
    message, kinds = told(root / "d")
    assert "label_without_image" in kinds and "several images are called f.jpg" in message


@pytest.mark.parametrize("kind", ONE_FILE)
def test_an_image_under_two_names(root, kind):
    pictures(root / "d", kind, ["f0.jpg", "f1.jpg"])
    READERS[kind](root / "d", ["x/f0.jpg", "f1.jpg", "y/f0.jpg"])
    assert "label_twice" in told(root / "d")[1]


@pytest.mark.parametrize("kind", PER_IMAGE)
def test_two_labels_for_one_image(root, kind):
    pictures(root / "d", kind, ["f0.jpg"])
    READERS[kind](root / "d", ["f0.jpg"])
    READERS[kind](root / "d" / "copy", ["f0.jpg"])
    assert told(root / "d")[1] == ["label_twice"]


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("name", ["a:b.jpg", "CON.jpg", "end ./x.jpg", "\u202egpj.a", "", "a\x1b[2J.jpg"])
def test_names_that_no_list_may_hold(root, kind, name):
    if kind in PER_IMAGE and "/" in name or not name and kind != "csv":
        return                                              # the name of a file is never more than its last part
    pictures(root / "d", kind, ["f0.jpg", "f1.jpg"])
    READERS[kind](root / "d", ["f0.jpg", name])
    message, kinds = told(root / "d")
    assert kinds and "\x1b" not in message and "\u202e" not in message
    assert everything(read(root / "d", findings=[])[1]) == {"f0.jpg": expected(kind)}


@pytest.mark.skipif(os.name == "nt", reason="links need a right on Windows that a user has not")
@pytest.mark.parametrize("kind", READERS)
def test_links(root, kind):
    (path,) = pictures(root / "pool", kind, ["f0.jpg"])
    place = root / "d" / FOLDERS.get(kind, "pictures")
    place.mkdir(parents=True)
    (place / "f0.jpg").symlink_to(path)
    (root / "d" / "circle").symlink_to(root / "d")
    READERS[kind](root / "d", ["f0.jpg"])
    (samples,) = (some for some in read(root / "d")[1].values() if some)
    assert samples[0][0] == place / "f0.jpg"


BROKEN = {"csv": "f0.jpg,160,120,car,10,8,x,38\n", "kitti": "car 0 0 0 10 8 x 38 0 0 0 0 0 0 0\n", "visdrone": "10,8,x,30,1,4,0,0\n",
          "wider_face": "10 8 x 30 0 0 0 0 0 0\n"}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_useless_line_costs_only_itself(root, kind):
    pictures(root / "d", kind, ["f0.jpg", "f1.jpg"])
    file = READERS[kind](root / "d", ["f0.jpg", "f1.jpg"])
    content = file.read_text(encoding="utf-8")
    text(file, content.replace("f0.jpg\n2\n", "f0.jpg\n3\n" + BROKEN[kind]) if kind == "wider_face" else content + BROKEN[kind])
    message, kinds = told(root / "d")
    line = {"csv": 6, "kitti": 3, "visdrone": 3, "wider_face": 3}[kind]
    assert kinds == ["label_line"] and f"{file.name}, line {line}: f0.jpg: " in message and "'x'" in message
    assert everything(read(root / "d", findings=[])[1]) == dict.fromkeys(["f0.jpg", "f1.jpg"], expected(kind))


@pytest.mark.parametrize("kind", READERS)
def test_images_and_labels_without_a_partner(root, kind):
    pictures(root / "d", kind, ["f0.jpg", "alone.jpg"])
    READERS[kind](root / "d", ["f0.jpg", "gone.jpg"])
    message, kinds = told(root / "d")
    assert set(kinds) - {"image_without_label"} == {"label_without_image"} and "there is no image gone" in message
    assert ("image_without_label" in kinds) == (kind != "wider_face")


@pytest.mark.parametrize("kind", READERS)
def test_boxes_beyond_outside_and_twice(root, kind):
    of = ("car", (10, 8, 50, 38)), ("car", (10, 8, 50, 38)), ("car", (140, 8, 180, 38)), ("car", (500, 8, 540, 38)), ("car", (5, 5, 5, 9))
    pictures(root / "d", kind, ["f0.jpg", "f1.jpg", "f2.jpg", "f3.jpg", "f4.jpg"])
    READERS[kind](root / "d", [f"f{n}.jpg" for n in range(5)])
    file = next((root / "d").rglob("f0.txt"), None) or next(path for path in (root / "d").rglob("*") if path.suffix in (".csv", ".json", ".txt"))
    lines = {"csv": lambda: csv_rows("f0.jpg", of), "kitti": lambda: kitti_lines(of), "visdrone": lambda: visdrone_lines(of),
             "wider_face": lambda: wider_record("f9.jpg", of)}
    if kind == "via":
        text(file, json.dumps([via_record("f0.jpg", [via_region(*one) for one in of])] + [via_record(f"f{n}.jpg") for n in range(1, 5)]))
    elif kind == "wider_face":
        pictures(root / "d", kind, ["f9.jpg"])
        text(file, file.read_text(encoding="utf-8") + lines[kind]())
    else:
        text(file, (file.read_text(encoding="utf-8") if kind == "csv" else "") + lines[kind]())
    assert {"box_clipped", "box_outside", "box_empty", "box_twice"} <= set(told(root / "d")[1])


@pytest.mark.parametrize("kind, wrong", [("kitti", lambda b: (b[0], b[1], b[2] - b[0], b[3] - b[1])),
                                         ("csv", lambda b: (b[0], b[1], b[2] - b[0], b[3] - b[1])),
                                         ("visdrone", lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])),
                                         ("wider_face", lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))])
def test_a_size_for_corners_and_the_other_way_round(root, kind, wrong):
    """The numbers say it only all together, so all are looked at before one is believed."""
    of = tuple(("car", wrong((20 + n, 60 - n, 90 + n, 100 - n))) for n in range(10))
    pictures(root / "d", kind, ["f0.jpg"])
    make = {"csv": lambda: make_csv(root / "d", []), "wider_face": lambda: make_wider(root / "d", [])}
    if kind in make:
        file = make[kind]()
        text(file, file.read_text() + (csv_rows("f0.jpg", of) if kind == "csv" else wider_record("f0.jpg", of)))
    else:
        text(root / "d" / {"kitti": "label_2", "visdrone": "annotations"}[kind] / "f0.txt", (kitti_lines if kind == "kitti" else visdrone_lines)(of))
    message, kinds = told(root / "d")
    assert ("corner_is_size" if kind in ("kitti", "csv") else "size_is_corner") in kinds
    assert "x1 y1 x2 y2" in message and "x y width height" in message and "10 of 10 boxes" in message


@pytest.mark.parametrize("kind", READERS)
def test_segmentation(root, kind):
    pictures(root / "d", kind, ["f0.jpg", "f1.jpg", "f2.jpg"])
    READERS[kind](root / "d", ["f0.jpg", "f1.jpg", "f2.jpg"])
    if kind != "via":
        assert "holds boxes only" in error_of(read, root / "d", "segmentation")
        return
    names, splits = read(root / "d", "segmentation")
    mask = open_mask(splits["train"][0][1][0])
    assert names == ["background", "car", "van"] and (mask[8:38, 10:50] == 1).all() and (mask > 0).sum() == 40 * 30 + 40 * 40


# ---- tables

@pytest.mark.parametrize("header, row", [
    ("filename,width,height,class,xmin,ymin,xmax,ymax", "{f},160,120,car,10,8,50,38"),
    ("ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf",
     "{s},x,car,1,0.0625,0.3125,0.066666667,0.316666667,0,0,0"),
    (" Y Max ; CLASS ; X-Min ; Y_MIN ; xMax ; File Name ", "38;car;10;8;50;{f}"), ("xmin\txmax\tymin\tymax\tFrame\tLabel\tURL",
                                                            "10\t50\t8\t38\t{f}\tcar\thttp"),
    ("image_id,width,height,bbox,source", '{s},160,120,"[10.0, 8.0, 40.0, 30.0]",arvalis'), ("image,x,y,w,h,label", "{f},10,8,40,30,car"),
    ("image;x;y;width;height;label", "{f};10,0;8,0;40,0;30,0;car"), ("path,left,top,width,height,name", "a/b/{f},10,8,40,30,car"),
    ("label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height", "car,10,8,40,30,{f},160,120"),
    ("image,class,x_center,y_center,width,height", "{f},car,0.1875,0.191666667,0.25,0.25"),
    ("Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId", "{f};160;120;10;8;50;38;car"), (None, "data/{f},10,8,50,38,car"),
    (None, "{f};10;8;50;38;car"), (None, "{f},160,120,car,10,8,50,38"), (None, "car,10,8,40,30,{f},160,120"), (None, "{f},car,10,8,50,38"),
    (None, "UNASSIGNED,gs://bucket/{f},car,0.0625,0.066666667,,,0.3125,0.316666667,,"), ])
def test_tables(root, header, row):
    names = [f"f{number}.jpg" for number in range(12)]
    for name in names:
        image(root / "d" / "pictures" / name, SIZE)
    text(root / "d" / ("t.tsv" if "\t" in row else "t.csv"), "\n".join([*([header] if header else []), *(row.format(f=name,
                                                            s=name[:-4]) for name in names)]))
    classes, splits = read(root / "d")
    found = everything(splits)
    assert classes == (["object"] if "car" not in row else ["car"]) and found.keys() == set(names)
    assert all(len(some) == 1 and np.allclose(some[0][1], (10, 8, 50, 38), atol=0.01) for some in found.values())


def test_a_table_without_names_whose_numbers_could_be_both(root):
    for number in range(4):
        image(root / "d" / f"f{number}.jpg", SIZE)
    text(root / "d" / "t.csv", "".join(f"f{number}.jpg,10,8,50,38,car\n" for number in range(4)))
    message, kinds = told(root / "d")
    assert kinds == ["two_readings"] and "x1 y1 x2 y2  4 of 4" in message and "x y width height  4 of 4" in message


def test_a_table_without_names_that_holds_sizes(root, capsys):
    for number in range(4):
        image(root / "d" / f"f{number}.jpg", SIZE)
    text(root / "d" / "t.csv", "".join(f"f{number}.jpg,60,28,40,40,car\n" for number in range(4)))
    assert everything(read(root / "d")[1]) == {f"f{number}.jpg": [("car", (60, 28, 100, 68))] for number in range(4)}
    assert "so they are read as the latter" in capsys.readouterr().out


def test_tables_in_any_encoding_with_blank_lines_and_quotes(root):
    image(root / "d" / "图, 1.jpg", SIZE)
    content = '"filename","class","xmin","ymin","xmax","ymax"\r\n\r\n"图, 1.jpg","big ""red"" 车","10","8","50","38"\r\n,,,,,\r\n'
    for encoding in ("utf-8-sig", "gb18030", "utf-16"):
        text(root / "d" / "t.csv", content, encoding)
        assert everything(read(root / "d")[1]) == {"图, 1.jpg": [('big "red" 车', (10, 8, 50, 38))]}


def test_tables_say_what_they_cannot_read(root):
    image(root / "d" / "f0.jpg", SIZE)
    lines = ["f0.jpg,160,120,,10,8,50,38", "f0.jpg,160,120,car,10,8", ",160,120,car,10,8,50,38", "f0.jpg,160,120,car,10,8,nan,38",
             "f0.jpg,160,120,car,10,8,1e400,38", "f0.jpg,160,120,car,10,8,50,38", "f0.jpg,160,120,car,60,28,100,68",
             "f0.jpg,160,120,car,61,28,100,68"]
    text(root / "d" / "t.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\n" + "\n".join(lines))
    message, kinds = told(root / "d")
    assert kinds == ["label_line"] * 5 and all(f"t.csv, line {line}: " in message for line in range(2, 7))
    assert len(everything(read(root / "d", findings=[])[1])["f0.jpg"]) == 3


def test_rows_without_a_box_and_difficult_ones_and_sizes(root):
    for number in range(3):
        image(root / "d" / f"f{number}.jpg", SIZE)
    text(root / "d" / "t.csv", "ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf,width,height\nf0,car,.1,.5,.1,.5,1,160,120\nf1,,,,,,,120,160\n"
                               "f2,car,.1,.5,.1,.5,0,320,240\n")
    message, kinds = told(root / "d")
    assert kinds == ["size_turned", "size_wrong"]
    found = {path.name: boxes(truth) for some in read(root / "d")[1].values() for path, truth in some}
    assert found["f0.jpg"][0][2] and not found["f2.jpg"][0][2] and found["f1.jpg"] == []


def test_class_numbers_and_codes_get_their_names(root):
    for number in range(12):
        image(root / "d" / f"f{number}.jpg", SIZE)
    table = "".join(f"f{number}.jpg,10,8,50,{38 + 50 * (number % 2)},{{{number % 2}}}\n" for number in range(12))
    for names, keys, classes in ((("1", "0"), "zebra,1\ncat,0\n", ["cat", "zebra"]), (("10", "9"), "", ["9", "10"]),
                                 (("/m/01", "/m/02"), "LabelName,DisplayName\n/m/02,Cat\n/m/01,Big car\n", ["Cat", "Big car"]),
                                 (("zebra", "cat"), "class_name,id\nzebra,0\ncat,1\n", ["zebra", "cat"])):
        text(root / "d" / "labels.csv", table.format(*names))
        text(root / "d" / "class-descriptions.csv", keys)
        assert read(root / "d")[0] == classes, keys
    text(root / "d" / "labels.csv", table.format("0", "1"))
    text(root / "d" / "classes.txt", "zebra\ncat\n")
    assert recognise.read_foreign("csv", root / "d", "detection", [])[0] == ["zebra", "cat"]


def test_lists_by_the_names_of_tables_folders_and_columns(root, capsys):
    for name in ("a", "b", "c"):
        image(root / "d" / f"{name}.jpg", SIZE)
    head = "filename,class,xmin,ymin,xmax,ymax,split\n"
    for split, name in (("train", "a"), ("val", "b"), ("test", "c")):
        text(root / "d" / f"{split}_labels.csv", f"{head}{name}.jpg,car,10,8,50,38,\n")
    for given in (root / "d", root / "d" / "train_labels.csv"):
        assert {split: list(plain(some)) for split, some in read(given)[1].items()} == {"train": ["a.jpg"], "val": ["b.jpg"], "test": ["c.jpg"]}
    assert "val_labels.csv beside it is used as the val list" in capsys.readouterr().out
    for split in ("train", "val", "test"):
        (root / "d" / f"{split}_labels.csv").unlink()
    text(root / "d" / "t.csv", head + "a.jpg,car,10,8,50,38,VALIDATION\nb.jpg,car,10,8,50,38,train\nc.jpg,car,10,8,50,38,Test\n")
    assert [list(plain(some)) for some in read(root / "d")[1].values()] == [["b.jpg"], ["a.jpg"], ["c.jpg"]]
    for split, name in (("train", "a"), ("valid", "b"), ("test", "c")):
        (root / "d" / f"{name}.jpg").rename(image(root / "r" / split / f"{name}.jpg", SIZE))
        text(root / "r" / split / "_annotations.csv", f"{head}{name}.jpg,car,10,8,50,38,\n")
    assert [list(plain(some)) for some in read(root / "r")[1].values()] == [["a.jpg"], ["b.jpg"], ["c.jpg"]]


# ---- KITTI, VisDrone, WIDER FACE

def test_kitti_as_it_is_published(root, capsys):
    for number in range(3):
        for folder in ("training/image_2", "training/image_3", "testing/image_2"):
            image(root / "k" / folder / f"00000{number}.png", SIZE)
        text(root / "k" / "training/label_2" / f"00000{number}.txt", kitti_lines() + "DontCare -1 -1 -10 5 5 9 9 -1 -1 -1 -1000 -1000 -1000 -10\n"
             "traffic light 0 0 0 10 8 50 39 0 0 0 0 0 0 0 0.9\n")
    findings = []
    names, splits = read(root / "k", findings=findings)
    assert names == ["car", "traffic light", "van"] and {finding.kind for finding in findings} == {"image_without_label"}
    assert all(path.parent.name == "image_2" and path.parent.parent.name == "training" for some in splits.values() for path, _ in some)
    assert all(len(truth) == 3 for some in splits.values() for _, truth in some) and "3 regions where nothing is labelled" in capsys.readouterr().out


def test_visdrone_as_it_is_published(root, capsys):
    for split in ("train", "val", "test-dev"):
        folder = root / "v" / f"VisDrone2019-DET-{split}"
        image(folder / "images" / f"00 {split}.jpg", SIZE)
        text(folder / "annotations" / f"00 {split}.txt", "0,0,9,9,0,0,0,0\n10,8,40,30,1,4,0,1\r\n60,28,40,40,0,5,0,0,\n1,1,9,9,0,11,0,0\n")
    names, splits = read(root / "v")
    assert names == list(CATEGORIES[1:11]) and "6 regions where nothing is labelled" in capsys.readouterr().out
    assert [[boxes(truth) for _, truth in some] for some in splits.values()] == [[[("car", (10, 8, 50, 38), False), ("van", (60, 28, 100, 68),
                                                            True)]]] * 3
    text(folder / "annotations" / "00 test-dev.txt", "10,8,40,30,1,12,0,1\n10,8,40,30,1,-1,0,1\n10,8,40\n10,8,40,30,1,4,0,1\n")
    assert told(root / "v")[1] == ["label_line"] * 3


def test_wider_face_as_it_is_published(root):
    for split in ("train", "val"):
        for number in range(3):
            image(root / "w" / f"WIDER_{split}" / "images" / "0--Parade" / f"0_{number}.jpg", SIZE)
        content = wider_record("0--Parade/0_0.jpg") + wider_record("0--Parade/0_1.jpg", ()) + "0--Parade/0_2.jpg\n1\n10 8 40 30 0 0 0 1 0 0 \n"
        text(root / "w" / "wider_face_split" / f"wider_face_{split}_bbx_gt.txt", content.replace("0_", "0_"))
    text(root / "w" / "wider_face_split" / "wider_face_test_filelist.txt", "0--Parade/0_9.jpg\n")
    message, kinds = told(root / "w")
    assert set(kinds) == {"label_without_image"} and "several images are called 0_0.jpg" in message         # names of the test, alike in two folders
    for number in range(3):
        folder = root / "w" / "WIDER_val" / "images" / "0--Parade"
        (folder / f"0_{number}.jpg").rename(folder / f"1_{number}.jpg")
    path = root / "w" / "wider_face_split" / "wider_face_val_bbx_gt.txt"
    text(path, path.read_text().replace("/0_", "/1_"))
    for given in (root / "w", root / "w" / "wider_face_split", root / "w" / "wider_face_split" / "wider_face_train_bbx_gt.txt"):
        names, splits = read(given)
        assert names == ["face"] and {split: {path.name: [one[2] for one in boxes(truth)] for path, truth in some} for split,
                                      some in splits.items()} == {
            "train": {"0_0.jpg": [False, False], "0_1.jpg": [], "0_2.jpg": [True]}, "val": {"1_0.jpg": [False, False], "1_1.jpg": [],
                                                            "1_2.jpg": [True]},
            "test": {}}
    text(path, path.read_text().replace("1_0.jpg\n2\n", "1_0.jpg\n3\n"))
    message, kinds = told(root / "w")
    assert kinds == ["label_broken"] and "3 faces are announced, 2 lines follow" in message


def test_wider_face_in_the_form_of_retinaface(root):
    image(root / "w" / "images" / "0--Parade" / "a.jpg", SIZE)
    text(root / "w" / "label.txt", "# 0--Parade/a.jpg\n10 8 40 30 1 1 0.0 2 2 0.0 3 3 0.0 4 4 0.0 5 5 0.0 0.82\n60 28 40 40 -1 -1 -1\n")
    assert everything(read(root / "w")[1]) == {"a.jpg": expected("wider_face")}


# ---- VIA

def shapes_of(root, *regions, **more):
    image(root / "v" / "a.jpg", SIZE)
    text(root / "v" / "via.json", json.dumps({"a.jpg9": via_record("a.jpg", list(regions)) | more}))
    return root / "v"


def test_via_shapes_without_an_area(root):
    """A point, a polygon with two corners, one with none; labelme says the same, in test_labelme.py. None needs a class."""
    two, square = {"all_points_x": [1, 2], "all_points_y": [1, 2]}, via_region("a", BOXES[0][1], name="rect", x=20, y=10, width=40, height=40)
    regions = [via_region(name, BOXES[0][1], **shape) for name, shape in (("a", {"name": "point", "cx": 1, "cy": 1}), ("", {"name": "point"}),
               ("a", {"name": "polygon"} | two), ("a", {"name": "polygon", "all_points_x": [], "all_points_y": []}))]
    message, kinds = told(shapes_of(root, square, *regions))
    assert kinds == ["shape_flat"] * 4 and "region 4 of a.jpg: a, a polygon with 2 points" in message and "region 3 of a.jpg: a point" in message


def test_via_shapes(root):
    x, y = [20, 60, 60], [10, 10, 50]
    folder = shapes_of(root, via_region("a", BOXES[0][1], name="polygon", all_points_x=x, all_points_y=y),
                       via_region("b", BOXES[0][1], name="circle", cx=40, cy=50, r=10), via_region("c", BOXES[0][1], name="ellipse", cx=80, cy=60,
                                                            rx=20, ry=10),
                       via_region("d", BOXES[0][1], name="ellipse", cx=80, cy=60, rx=20, ry=10, theta=math.pi / 2),
                       via_region("e", BOXES[0][1], name="point", cx=1, cy=1), via_region("e", BOXES[0][1], name="polyline", all_points_x=x,
                                                            all_points_y=y))
    message, kinds = told(folder)
    assert kinds == ["shape_flat"] * 2 and "region 6 of a.jpg: e, a polyline" in message
    assert everything(read(folder)[1])["a.jpg"] == [("a", (20, 10, 60, 50)), ("b", (30, 40, 50, 60)), ("c", (60, 50, 100, 70)), ("d", (70, 40, 90,
                                                            80))]
    names, splits = read(folder, "segmentation")
    mask = open_mask(splits["train"][0][1][0])
    assert names == ["background", "a", "b", "c", "d"]
    assert abs((mask == 1).sum() - 800) < 40 and abs((mask == 2).sum() - 314) < 15 and abs(((mask == 3) | (mask == 4)).sum() - 856) < 60


@pytest.mark.parametrize("wrap", [lambda one: {"_via_settings": {}, "_via_img_metadata": {"a": one}, "_via_attributes": {}}, lambda one: {"a": one},
                                  lambda one: [one], lambda one: {"a": one | {"regions": {"0": one["regions"][0], "1": one["regions"][1]}}}])
def test_via_projects_and_exports_of_both_versions(root, wrap):
    image(root / "v" / "a.jpg", SIZE)
    text(root / "v" / "my via.json", json.dumps(wrap(via_record("a.jpg"))))
    assert everything(read(root / "v")[1]) == {"a.jpg": expected("via")} == everything(read(root / "v" / "my via.json")[1])


def test_via_as_csv(root):
    rect = '"{""name"":""rect"",""x"":10,""y"":8,""width"":40,""height"":30}"'
    image(root / "v" / "a.jpg", SIZE)
    image(root / "v" / "b.jpg", SIZE)
    head = "{}filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
    for sign in ("", "#"):
        text(root / "v" / "v.csv", head.format(sign) + f'a.jpg,9,"{{}}",1,0,{rect},"{{""type"":""car""}}"\nb.jpg,9,"{{}}",0,0,"{{}}","{{}}"\n')
        assert everything(read(root / "v")[1]) == {"a.jpg": [("car", (10, 8, 50, 38))], "b.jpg": []}


def test_via_which_attribute_is_the_class(root, capsys):
    def region(**attributes):
        return via_region("x", BOXES[0][1]) | {"region_attributes": attributes}
    for attributes, name in (({"Class": "a", "colour": "b"}, "a"), ({"what": "a", "colour": ""}, "a"), ({"type": {"a": True, "b": False}}, "a"), ({},
                                                            "object"),
                             ({"label name": "a", "note": "b"}, "a")):
        assert everything(read(shapes_of(root, region(**attributes)))[1]) == {"a.jpg": [(name, (10, 8, 50, 38))]}
    assert 'all are of one class, "object"' in capsys.readouterr().out
    assert "what, colour; which is the class?" in error_of(read, shapes_of(root, region(what="a", colour="b")))
    message, kinds = told(shapes_of(root, region(type="a"), region(type=""), region(type={"a": True, "b": True}), region(type="b")))
    assert kinds == ["box_twice"] * 0 + ["label_line"] * 2 and "region 2 of a.jpg: " in message
    folder = shapes_of(root, region(type="a"))
    text(folder / "via.json", json.dumps({"a": via_record("a.jpg", [{"shape_attributes": 3}, 7, {}, region(type="c")]), "b": 5,
                                          "c": {"regions": []}}))
    kinds = told(folder)[1]
    assert kinds == ["label_broken"] * 2 + ["label_line"] * 3 and everything(read(folder, findings=[])[1])["a.jpg"] == [("c", (10, 8, 50, 38))]


# ---- masks for each object or class

def disc(path, x, value=255, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(size[::-1], np.uint8)
    pixels[20:40, x:x + 20] = value
    Image.fromarray(pixels).save(path)


MASK_PLACES = {"a folder for each image": ("{0}/images/{0}.png", "{0}/masks/{1}x.png", ["background", "object"]),
               "a folder below masks": ("images/{0}.png", "masks/{0}/{1}.png", ["background", "object"]),
               "a number behind the name": ("images/{0}.png", "masks/{0}_{1}.png", ["background", "object"]),
               "a word behind the name": ("images/{0}.png", "masks/{0}_{2}.png", ["background", "cat", "dog"]),
               "a word and a number": ("images/{0}.png", "masks/{0}_{2}_{1}.png", ["background", "cat", "dog"]),
               "one word for all": ("images/{0}.png", "masks/{0}_mask_{1}.png", ["background", "object"]),
               "a word in a folder": ("images/{0}.png", "masks/{0}/{2}.png", ["background", "cat", "dog"]),
               "a folder for each class": ("images/{0}.png", "masks/{2}/{0}.png", ["background", "cat", "dog"])}


@pytest.mark.parametrize("places", MASK_PLACES.values(), ids=MASK_PLACES)
@pytest.mark.parametrize("value", [1, 255])
def test_a_mask_for_each_object_or_class(root, places, value):
    picture, mask, classes = places
    for number in range(4):
        image(root / "d" / picture.format(f"p{number}"), SIZE)
        for which, word in enumerate(("cat", "dog")):
            disc(root / "d" / mask.format(f"p{number}", which, word), 30 + 60 * which, value)
    assert recognise.recognise(root / "d")[0] == "object_masks" and prepare.tasks_of(root / "d") == ["segmentation"]
    names, splits = read(root / "d", "segmentation")
    joined = open_mask(splits["train"][0][1][0])
    assert names == classes and sum(map(len, splits.values())) == 4
    assert (joined[20:40, 30:50] == 1).all() and (joined[20:40, 90:110] == len(classes) - 1).all() and (joined > 0).sum() == 800
    assert "one mask for each" in error_of(prepare.prepare, root / "d") and "task=segmentation" in error_of(prepare.prepare, root / "d")


def test_masks_of_objects_that_do_not_fit(root):
    picture, mask, _ = MASK_PLACES["a number behind the name"]
    for number in range(4):
        image(root / "d" / picture.format(f"p{number}"), SIZE)
        for which in range(2):
            disc(root / "d" / mask.format(f"p{number}", which), 30 + 60 * which, size=(80, 60) if number == 3 and which else SIZE)
    disc(root / "d" / "masks" / "other_0.png", 3)
    image(root / "d" / "images" / "alone.png", SIZE)
    message, kinds = told(root / "d", "segmentation")
    assert sorted(kinds) == ["image_without_label", "label_without_image", "mask_size"] and "p3_1.png" in message
    assert object_masks.has_object_masks(root / "d")


# ---- what is not read is named

def sample(kind):
    """-> name and content of a label file of a format."""
    square = "10 8 50 8 50 38 10 38"
    jsons = {"via3": {"project": {}, "config": {}, "attribute": {}, "file": {}, "metadata": {}, "view": {}},
             "bdd100k": [{"name": "f0.jpg", "labels": [{"category": "car", "box2d": {"x1": 10, "y1": 8, "x2": 50, "y2": 38}}]}],
             "createml": [{"image": "f0.jpg", "annotations": [{"label": "car", "coordinates": {"x": 30, "y": 23, "width": 40, "height": 30}}]}],
             "supervisely": {"description": "", "size": {}, "objects": [{"classTitle": "car", "points": {"exterior": [[1, 2]], "interior": []}}]},
             "labelbox": {"data_row": {"id": 1}, "projects": {}}, "superannotate": {"metadata": {}, "instances": [{"type": "bbox",
                                                            "className": "car"}]},
             "darwin": {"version": "2.0", "item": {"name": "f0.jpg"}, "annotations": [{"name": "car", "bounding_box": {"x": 1}}]},
             "labelstudio": [{"id": 1, "annotations": [{"result": [{"value": {"x": 1, "rectanglelabels": ["car"]}}]}]}],
             "cityscapes": {"imgHeight": 120, "imgWidth": 160, "objects": [{"label": "car", "polygon": [[1, 2]]}]},
             "vott": {"asset": {"name": "f0.jpg"}, "regions": [{"tags": ["car"], "boundingBox": {}}]},
             "datumaro": {"info": {}, "categories": {}, "items": []}, "manifest": {"source-ref": "s3://x/f0.jpg", "boxes": {}},
             "coco_results": [{"image_id": 1, "category_id": 1, "box": [1, 2, 3, 4], "score": 0.5}],
             "coco_other": {"images": [], "annotations": [{"caption": "x"}]}}
    texts = {"dota": f"imagesource:GoogleEarth\ngsd:0.1\n{square} plane 0\n", "mot": "1,1,10,8,40,30,0,7,1\n" * 3,
             "oid": "Traffic light 10.0 8.0 50.0 38.0\n",
             "nwpu": "(563,478),(630,573),1 \n" * 2, "icdar": "10,8,50,8,50,38,10,38,STOP\n",
             "fddb": "2002/08/11/big/img_591\n1\n123.5 85.5 1.26 269.6 161.7  1\n",
             "yolo": "0 0.5 0.5 0.2 0.2\n" * 2, "list": "VOCdevkit/a/f0.jpg 10,8,50,38,0\n" * 2}
    xmls = {"colabeler": "<?xml version='1.0'?><doc><outputs/></doc>", "cvat": "<annotations><image name='f0.jpg'/></annotations>",
            "dlib": "<?xml version='1.0'?><!-- x --><dataset><images/></dataset>", "detrac": "<sequence name='x'/>", "hrsc": "<HRSC_Image/>",
            "labelme_web": "<annotation><object><polygon><pt/></polygon></object></annotation>"}
    names = {"tfrecord": "a.tfrecord", "mxnet": "a.rec", "matlab": "a.mat", "parquet": "a.parquet", "numpy": "a.npz", "pickle": "a.pkl",
             "archive": "a.zip",
             "crowdhuman": "a.odgt", "coco_other": "captions_val2017.json"}
    if kind in jsons:
        return names.get(kind, "f0.json"), json.dumps(jsons[kind])
    if kind in names:
        return names[kind], b"\0\1"
    return ("f0.xml", xmls[kind]) if kind in xmls else ("f0.txt", texts[kind]) if kind in texts else ("f0.dat", "?")


NOT_READ = sorted(sniff.FORMATS.keys() - set(recognise.OUTLINES) - set(recognise.BOXES) - {"voc"} | {"yolo"})


@pytest.mark.parametrize("kind", NOT_READ)
def test_labels_of_other_programs_are_named(root, kind):
    """Never "no labels": what it looks like, how sure that is, and a way out; where it is a table, the table works."""
    for number in range(3):
        image(root / "d" / "pictures" / f"f{number}.jpg", SIZE)
    name, content = sample(kind)
    text(root / "d" / "labels" / name, content)
    assert sniff.format_of(root / "d" / "labels" / name) == (kind or None)
    message = error_of(prepare.prepare, root / "d", task="detection")
    assert "It holds 3 images, and what could be their labels:" in message and name in message
    assert f"looks like {sniff.FORMATS[kind].title}" in message and ("(1 of 1 opened)" in message) == (not name.endswith(sniff.ONLY_NAMED))
    way = sniff.way_out(kind, root / "d" / "labels" / name)
    assert way in message
    if sniff.TABLE in way:
        text(root / "d" / "pictures" / "labels.csv", "filename,class,xmin,ymin,xmax,ymax\n" + "".join(f"f{n}.jpg,car,10,8,50,38\n" for n in range(3)))
        prepare.prepare(root / "d")
    elif kind == "yolo":
        (root / "d" / "labels" / name).rename(root / "d" / "pictures" / name)
        text(root / "d" / "pictures" / "classes.txt", "car\n")
        prepare.prepare(root / "d")


def test_read_formats_are_known_by_the_same_look(root):
    for kind in READERS:
        pictures(root / kind, kind, ["a.jpg"])
        file = READERS[kind](root / kind, ["a.jpg"])
        assert sniff.format_of(file) == kind or kind == "csv"
    for name, content in (("a.json", '{"shapes": [], "imagePath": ""}'), ("b.json", '{"images": [], "annotations": [{"bbox": 1}], "categories": []}'),
                          ("c.xml", "<annotation/>"), ("d.json", "{"), ("e.xml", "no"), ("f.txt", ""), ("g.txt", "hello\nworld\n"), ("h.json",
                                                            b"\xff\xfe\x00")):
        text(root / name, content)
    found = [sniff.format_of(path) for path in sorted(root.iterdir()) if path.is_file()]
    assert found == ["labelme", "coco", "voc", None, None, None, None, None]


def test_folders_in_which_nothing_could_be_a_label(root):
    image(root / "d" / "a.jpg", SIZE)
    for name in ("README.txt", "LICENSE.txt", "requirements.txt", "b.mp4"):
        text(root / "d" / name, "x")
    assert "It holds 1 image, but no file that could hold their labels: label them" in error_of(prepare.prepare, root / "d")
    assert sniff.what_lies_there(root / "nothing") == ""


@pytest.mark.parametrize("name", ["signs v1.zip", "a.tar.gz", "b.7z"])
def test_archives_are_unpacked_first(root, name):
    """And the command that says so, run as it is printed, makes a dataset that works."""
    with zipfile.ZipFile(root / name, "w") as file:
        file.writestr("labels.csv", make_csv(root / "x", [f"f{n}.jpg" for n in range(3)]).read_text())
        for number in range(3):
            file.write(image(root / "x" / f"f{number}.jpg", SIZE), f"f{number}.jpg")
    message = error_of(prepare.tasks_of, name)
    assert f"{name} is an archive. Unpack it first" in message
    if name.endswith(".zip"):
        words = message.partition("python -m ")[2].partition(";")[0].split('"')
        subprocess.run([sys.executable, "-m", *words[0].split(), words[1], words[3]], cwd=root, check=True)
        prepare.prepare(message.rpartition("dataset=")[2].rstrip('".'))
    (root / "only").mkdir()
    (root / name).rename(root / "only" / name)
    image(root / "only" / "a.jpg", SIZE)
    assert f"only/{name} looks like an archive. Unpack it first" in error_of(prepare.prepare, "only")


@pytest.mark.parametrize("content, words", [("1,1,10,8,40,30,0,7,1\n", "looks like MOT"), ("hello\n", "is not a dataset"), ("", "is not a dataset")])
def test_a_file_that_is_no_dataset(root, content, words):
    assert words in error_of(prepare.tasks_of, text(root / "a.txt", content))


def test_a_voc_folder_whose_labels_are_of_another_program(root):
    for number in range(3):
        image(root / "d" / "JPEGImages" / f"f{number}.jpg", SIZE)
    text(root / "d" / "Annotations" / "labels.dat", "?")
    message = error_of(prepare.prepare, root / "d")
    assert "JPEGImages" in message and "labels.dat looks like labels of a format that is not known here" in message
    make_via(root / "d" / "Annotations", [f"f{n}.jpg" for n in range(3)])
    assert recognise.recognise(root / "d")[0] == "via" and len(everything(read(root / "d")[1])) == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a pipe in a folder is a thing of Unix")
def test_pipes_are_left_alone(root):
    image(root / "d" / "a.jpg", SIZE)
    for name in ("a.txt", "b.csv", "c.xml"):
        os.mkfifo(root / "d" / name)
    assert [sniff.format_of(root / "d" / name) for name in ("a.txt", "b.csv", "c.xml")] == [None] * 3
    assert "It holds 1 image" in sniff.what_lies_there(root / "d")


def test_a_data_yaml_whose_labels_are_of_another_program(root):
    pictures(root / "d" / "images", "csv", ["f0.jpg", "f1.jpg"])
    text(root / "d" / "data.yaml", "train: images\nval: images\nnames: [car, van]\n")
    text(root / "d" / "notes" / "f0.txt", "0 0.5 0.5 0.2 0.2\n")
    make_via(root / "d", ["f0.jpg"])
    message = error_of(read, root / "d")
    assert "none of the 2 images has a txt file" in message and "via_region_data.json looks like VIA" in message and "classes.txt" not in message


def test_xml_of_two_programs(root):
    for name, content in (("f0", "<annotation/>"), ("f1", "<doc/>")):
        image(root / "d" / f"{name}.jpg", SIZE)
        text(root / "d" / f"{name}.xml", content)
    message, kinds = told(root / "d")
    assert kinds == ["xml_schema"] and "f1.xml: is not a VOC annotation" in message and "It looks like Colabeler" in message


WORDS = [b"-1", b"0", b"1e400", b"NaN", b"null", b"true", b'""', b"[]", b"{}", b"99999999999999999999", b'"../../x"', b"\x1b[2J", b"\xff", b"\0",
         b",", b";",
         b"\n", b'"', b"{}" * 50, b"9" * 5000]


def fuzz(root, count, seed):
    """Damaged files of all readers are read or end in a sentence. -> how many of each."""
    rng, results, targets = random.Random(seed), [0, 0], []
    for kind in READERS:
        pictures(root / kind, kind, ["f0.jpg", "f1.jpg"])
        targets.append((root / kind, READERS[kind](root / kind, ["f0.jpg", "f1.jpg"])))
    text(root / "csv" / "classes.csv", "car,0\nvan,1\n")
    targets.append((root / "csv", root / "csv" / "classes.csv"))
    originals = [file.read_bytes() for _, file in targets]

    for number in range(count):
        (folder, file), original = targets[number % len(targets)], originals[number % len(targets)]
        data = bytearray(original)
        for _ in range(rng.choice([1, 1, 2, 8])):
            at = rng.randrange(len(data) + 1)
            data[at:at + rng.choice([0, 1, 3, 30])] = rng.choice(WORDS) if rng.random() < 0.7 else bytes([rng.randrange(256)])
        try:
            file.write_bytes(bytes(data))
            if recognise.recognise(folder)[0] == "voc":     # not known any more: then it is named
                assert "\x1b" not in sniff.what_lies_there(folder)
                results[1] += 1
                continue
            part, findings = prepare.look_at(folder, "detection", WANTED, False)
            assert "\x1b" not in report(findings, 1000)
            results[part is None] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}, number {number}, {file.name}: {type(error).__name__}: {error}") from error
        finally:
            file.write_bytes(original)
    return results


def test_damaged_files_are_read_or_named(root):
    done, refused = fuzz(root, 90, seed=5)
    assert done > 50 and refused > 3


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(10))
def test_damaged_files_are_read_or_named_torture(root, seed):
    fuzz(root, 1000, seed)


def test_layouts():
    """rows.settle_layout, slowly: every box in its image, in the one reading or in the other."""
    findings, size = [], (100, 100)
    corners = [((60 - n, 60, 90, 95), size) for n in range(10)]
    sizes = [((x1, y1, x2 - x1, y2 - y1), size) for (x1, y1, x2, y2), _ in corners]
    assert rows.settle_layout("t", corners, "xyxy", True, findings) == "xyxy" and rows.settle_layout("t", sizes, "xywh", True, findings) == "xywh"
    assert rows.settle_layout("t", corners, "xywh", False, findings) == "xyxy" and rows.settle_layout("t", sizes, "xyxy", False, findings) == "xywh"
    assert findings == [] and rows.settle_layout("t", [], "xyxy", False, findings) == "xyxy"
    rows.settle_layout("t", sizes, "xyxy", True, findings)
    rows.settle_layout("t", corners, "xywh", True, findings)
    rows.settle_layout("t", [*corners, ((0, 0, 500, 5), size)], "xyxy", True, findings)
    assert [finding.kind for finding in findings] == ["corner_is_size", "size_is_corner"]
