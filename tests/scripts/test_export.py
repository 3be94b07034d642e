"""tools/export.py: VOC, YOLO and COCO, there and back again."""
import json
import os
import random
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import user
from PIL import Image

from tools import export
from utils.errors import UserError
from utils.formats import written
from utils.formats.yaml_file import read_yaml

STEMS = ["a b", "图 片，一", "a.b", "x 1,2,3,4,5", "[c] (1)", "é€", "1", "dots..", "#%&'", "-rf", "z;y", "最 后"]
NAMES = ["cat", "大 狗", "no", "it's", "a: b", "#1"]


def make_voc(folder, stems=STEMS, seed=0, lists=True):
    """A VOC folder with random boxes. Returns what is in it: dict stem -> objects."""
    rng, truth = random.Random(seed), {}
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for number, stem in enumerate(stems):
        width, height = rng.randint(30, 90), rng.randint(30, 90)
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (height, width, 3), dtype=np.uint8)).save(
            folder / "JPEGImages" / (stem + rng.choice([".jpg", ".png", ".JPG"])))
        objects, root = [], ElementTree.Element("annotation")
        for _ in range(rng.choice([0, 1, 2, 7])):
            x1, y1 = rng.randint(1, width - 4), rng.randint(1, height - 4)
            whole = rng.random() < 0.5
            x2, y2 = rng.randint(x1 + 2, width), rng.randint(y1 + 2, height)
            box = [x1, y1, x2, y2] if whole else [round(v - rng.random() / 3, 2) if i > 1 else round(v + rng.random() / 3, 2)
                                                  for i, v in enumerate((x1, y1, x2, y2))]
            name, hard = rng.choice(NAMES), rng.random() < 0.3
            if any(thing["name"] == name and thing["box"] == (box[0] - 1, box[1] - 1, *box[2:]) for thing in objects):
                continue
            node = ElementTree.SubElement(root, "object")
            ElementTree.SubElement(node, "name").text = name
            ElementTree.SubElement(node, "difficult").text = str(int(hard))
            corners = ElementTree.SubElement(node, "bndbox")
            for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box):
                ElementTree.SubElement(corners, tag).text = str(value)
            objects.append({"name": name, "box": (box[0] - 1, box[1] - 1, box[2], box[3]), "difficult": hard})
        (folder / "Annotations" / f"{stem}.xml").write_text(ElementTree.tostring(root, encoding="unicode"), encoding="utf-8")
        truth[stem] = objects
    if lists:
        for name, some in (("train", stems[:6]), ("val", stems[6:9]), ("test", stems[9:])):
            (folder / "ImageSets" / "Main" / f"{name}.txt").write_text("".join(s + "\n" for s in some), encoding="utf-8")
    return truth


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def read(path):
    names, splits = export.usable(path, 0)
    return names, {split: [(image, objects) for image, _, objects in some] for split, some in splits.items()}


def assert_equal(path, truth, difficult=True, slack=0.006):
    """The dataset at path holds these objects, in these lists, and the same pictures."""
    names, lists = read(path)
    assert set(names) == set(NAMES) and {split: len(some) for split, some in lists.items()} == {"train": 6, "val": 3, "test": 3}
    for split, some in (("train", STEMS[:6]), ("val", STEMS[6:9]), ("test", STEMS[9:])):
        by_stem = {image.stem: objects for image, objects in lists[split]}
        assert set(by_stem) == {stem.replace("dots..", "dots") for stem in some}
        for stem in some:
            found = by_stem[stem.replace("dots..", "dots")]
            assert [thing["name"] for thing in found] == [thing["name"] for thing in truth[stem]]
            assert [thing["difficult"] for thing in found] == [thing["difficult"] and difficult for thing in truth[stem]]
            for one, other in zip(found, truth[stem]):
                assert np.abs(np.subtract(one["box"], other["box"])).max() <= slack


@pytest.mark.parametrize("seed", range(3))
def test_there_and_back(root, capsys, seed):
    voc = root / "VOC 2007"
    truth = make_voc(voc, seed=seed)
    before = tree(voc)
    yolo = export.export("VOC 2007", "yolo", str(root / "to yolo"))
    assert_equal(yolo, truth, difficult=False, slack=1e-5)
    assert "difficult" in capsys.readouterr().out
    assert_equal(export.export(str(yolo / "data.yaml"), "voc", str(root / "voc again")), truth, difficult=False)
    coco = export.export("VOC 2007", "coco", str(root / "to coco"))
    assert_equal(coco, truth, slack=1e-4)
    again = export.export("to coco", "voc", str(root / "voc from coco"))
    assert_equal(again, truth)
    assert_equal(export.export("to coco", "yolo", str(root / "yolo from coco")), truth, difficult=False, slack=1e-4)
    assert tree(voc) == before                                              # the source is only read
    pictures = {path.read_bytes() for path in (voc / "JPEGImages").iterdir()}
    assert {path.read_bytes() for path in (again / "JPEGImages").iterdir()} == pictures
    assert not list(root.glob("*.part"))


def test_what_others_read(root):
    """The keys and folders that the programs of these formats ask for."""
    make_voc(root / "v")
    yolo = export.export("v", "yolo", str(root / "y"))
    content = {key: value for key, (value, _) in read_yaml(yolo / "data.yaml", ("train", "val", "test", "names", "nc")).items()}
    assert content["train"] == "images/train" and content["nc"] == "6" and list(content["names"].values()) == sorted(NAMES)
    images = {path.stem for path in (yolo / "images" / "train").iterdir()}
    assert images == {path.stem for path in (yolo / "labels" / "train").iterdir()} and len(images) == 6
    for line in (yolo / "labels" / "train" / "a b.txt").read_text().splitlines():
        assert len(line.split()) == 5 and all(0 <= float(word) <= 1 for word in line.split()[1:])
    coco = json.loads((export.export("v", "coco", str(root / "c")) / "annotations" / "instances_train.json").read_text(encoding="utf-8"))
    assert {"id", "file_name", "width", "height"} <= coco["images"][0].keys()
    assert {"id", "image_id", "category_id", "bbox", "area", "iscrowd"} <= coco["annotations"][0].keys()
    assert [category["id"] for category in coco["categories"]] == [1, 2, 3, 4, 5, 6]


def test_coco_is_read_by_pycocotools(root):
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    make_voc(root / "v")
    folder = export.export("v", "coco", str(root / "c"))
    coco = COCO(str(folder / "annotations" / "instances_train.json"))
    assert len(coco.getImgIds()) == 6 and len(coco.loadAnns(coco.getAnnIds())) == len(coco.anns) > 0


def test_a_split_is_made_where_there_is_none(root, capsys):
    make_voc(root / "v", lists=False)
    before = tree(root / "v")
    folder = export.export("v", "yolo", str(root / "y"), seed=3)
    assert sorted(path.name for path in (folder / "images").iterdir()) == ["test", "train", "val"]
    assert "new split (seed 3)" in capsys.readouterr().out and tree(root / "v") == before


def test_links(root):
    make_voc(root / "v")
    folder = export.export("v", "yolo", str(root / "y"), link=True)
    source = next((root / "v" / "JPEGImages").glob("a b.*"))
    assert os.stat(folder / "images" / "train" / source.name).st_ino == os.stat(source).st_ino
    other = export.export("v", "coco", str(root / "c"), link=False)
    assert os.stat(other / "images" / "train" / source.name).st_ino != os.stat(source).st_ino


def test_nothing_is_overwritten(root):
    make_voc(root / "v")
    (root / "full").mkdir()
    (root / "full" / "mine.txt").write_text("mine")
    (root / "file").write_text("mine")
    (root / "nothing").mkdir()
    (root / "link").symlink_to(root / "nothing")
    (root / "lost").symlink_to(root / "nowhere")
    for out in ("full", "file", "link", "lost", "v", "v/inside", "."):
        before = tree(root)
        with pytest.raises(UserError, match="out"):
            export.export("v", "yolo", str(root / out))
        assert tree(root) == before
    (root / "empty").mkdir()
    assert export.export("v", "yolo", str(root / "empty")) == root / "empty"


def test_nothing_is_left_of_a_failure(root, monkeypatch):
    make_voc(root / "v")
    before = tree(root)

    real, done = written.shutil.copyfile, []

    def full(*paths):
        done.append(paths)
        if len(done) > 4:
            raise OSError(28, "No space left on device")
        real(*paths)
    monkeypatch.setattr(written.shutil, "copyfile", full)
    with pytest.raises(UserError, match="No space left"):
        export.export("v", "coco", str(root / "c"))
    assert tree(root) == before and not (root / "c").exists() and not list(root.glob("*.part")) and len(done) == 5
    with pytest.raises(UserError, match='"voc", "yolo" or "coco"'):
        export.export("v", "tfrecord", str(root / "c"))


def test_names_of_files_are_harmless_and_unique(tmp_path):
    paths = [tmp_path / folder / name for folder, name in (("a", "1.jpg"), ("b", "1.jpg"), ("a", "1.PNG"), ("a", "CON.jpg"), ("a", "x:y?.jpg"),
                                                           ("a", "end .jpg"), ("a", "\u202egpj.jpg"), ("a", "nul.tar.jpg"), ("a", "A.jpg"),
                                                           ("a", "a.jpg"), ("a", "q.jpg"), ("b", "Q.jpg"))]
    names = written.safe_names({"train": [(path, (), []) for path in paths]})
    assert len({name.lower() for name in names.values()}) == len(paths)
    assert names[paths[3]] == "_CON" and names[paths[4]] == "x_y_" and names[paths[5]] == "end" and names[paths[6]] == "_gpj"
    assert names[paths[7]] == "_nul.tar" and sorted(names[path] for path in paths[:3]) == ["1", "a_1", "b_1"]


def test_from_folders_with_equal_names(root):
    """train/0.jpg and val/0.jpg are two images of one VOC folder."""
    for split in ("train", "val"):
        (root / "y" / "images" / split).mkdir(parents=True)
        (root / "y" / "labels" / split).mkdir(parents=True)
        Image.new("RGB", (20, 10), split == "val" and "red" or "blue").save(root / "y" / "images" / split / "0.png")
        (root / "y" / "labels" / split / "0.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "y" / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cat]\n")
    folder = export.export("y", "voc", str(root / "v"))
    assert sorted(path.name for path in (folder / "JPEGImages").iterdir()) == ["0.png", "val_0.png"]
    assert read(folder)[1].keys() == {"train", "val"}


def test_script(tmp_path):
    copy = user.copy_project(tmp_path)
    text = user.run(copy, "tools/export.py", "dataset=VOCdevkit/Shapes", "to=coco", f"out={tmp_path / '出 out'}")
    assert "Written" in text and (tmp_path / "出 out" / "annotations" / "instances_val.json").is_file()
    lists = []
    for source, name in (("VOCdevkit/Shapes", "Shapes"), (tmp_path / "出 out", "出 out")):
        user.run(copy, "voc_annotation.py", f"dataset={source}", "task=detection")
        lists.append(sorted(re.sub(r".*/|,\d+(?= |$)", "", line) for line in (copy / f"{name}_val.txt").read_text(encoding="utf-8").splitlines()))
    assert lists[0] == lists[1] and len(lists[0]) == 6      # the numbers of the classes are in another order
    assert "Stopped: " in user.run(copy, "tools/export.py", "to=coco", f"out={tmp_path / '出 out'}", status=1)
