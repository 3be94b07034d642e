"""The built-in dataset: drawn the same on every run, boxes and masks fit, nothing of the user's is overwritten."""
import hashlib
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from utils.errors import UserError
from utils.formats import shapes
from utils.settings import ROOT

COUNTS = {"train": 24, "val": 5, "test": 7}


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    return shapes.make_shapes(tmp_path_factory.mktemp("voc") / "形状 set" / "Shapes", **COUNTS)


def names_of(voc, split, kind="Main"):
    return (voc / "ImageSets" / kind / f"{split}.txt").read_text(encoding="utf-8").split()


def read_annotation(voc, name):
    """-> (width, height), [(class name, (x1, y1, x2, y2) pixel edges, flags)]"""
    tree = ElementTree.parse(voc / "Annotations" / f"{name}.xml")
    assert tree.findtext("filename") == f"{name}.jpg"
    rows = []
    for thing in tree.findall("object"):
        xmin, ymin, xmax, ymax = (int(thing.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax"))
        flags = {flag: int(thing.findtext(flag)) for flag in ("truncated", "occluded", "difficult")}
        rows.append((thing.findtext("name"), (xmin - 1, ymin - 1, xmax, ymax), flags))
    return (int(tree.findtext("size/width")), int(tree.findtext("size/height"))), rows


def fingerprint(folder):
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def test_same_bytes_on_every_run(voc, tmp_path):
    again = shapes.make_shapes(tmp_path / "Shapes", **COUNTS)
    assert fingerprint(again) == fingerprint(voc)


def test_a_picture_depends_on_nothing_but_seed_and_index(voc, tmp_path):
    other = shapes.make_shapes(tmp_path / "Shapes", train=2, val=1, test=0)
    assert fingerprint(other)["JPEGImages/000003.jpg"] == fingerprint(voc)["JPEGImages/000003.jpg"]
    reseeded = shapes.make_shapes(tmp_path / "Shapes2", seed=1, train=1, val=0, test=0)
    assert fingerprint(reseeded)["Annotations/000001.xml"] != fingerprint(voc)["Annotations/000001.xml"]


def test_lists(voc):
    splits = {split: names_of(voc, split) for split in COUNTS}
    assert {split: len(names) for split, names in splits.items()} == COUNTS
    everything = sum(splits.values(), [])
    assert len(set(everything)) == len(everything) == sum(COUNTS.values())
    assert names_of(voc, "trainval") == splits["train"] + splits["val"]
    for split in (*COUNTS, "trainval"):
        assert names_of(voc, split, "Segmentation") == names_of(voc, split)
    for folder, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml"), ("SegmentationClass", "png")):
        assert {path.name for path in (voc / folder).iterdir()} == {f"{name}.{suffix}" for name in everything}


def test_annotations_and_masks_belong_to_the_pictures(voc):
    counts = []
    for path in sorted((voc / "JPEGImages").iterdir()):
        size, rows = read_annotation(voc, path.stem)
        with Image.open(path) as picture, Image.open(voc / "SegmentationClass" / f"{path.stem}.png") as mask:
            assert picture.mode == "RGB" and mask.mode == "P"
            assert picture.size == mask.size == size
            present = set(np.unique(np.array(mask)).tolist())
        assert present - {0, 255} <= {shapes.CLASSES.index(name) + 1 for name, _, _ in rows}
        drawn = shapes.draw_picture(0, int(path.stem))[2]
        assert rows == [(thing["name"], thing["xyxy"], {flag: int(thing[flag]) for flag in rows[0][2]}) for thing in drawn]
        for name, (x1, y1, x2, y2), _ in rows:
            assert name in shapes.CLASSES
            assert 0 <= x1 < x2 <= size[0] and 0 <= y1 < y2 <= size[1]
        counts.append(len(rows))
    assert counts.count(0) == 2 and max(counts) > 4         # pictures 7 and 27 are empty


def test_boxes_are_tight_around_what_is_visible():
    """Compared with the instances that were drawn, and with the mask: without its border it is one pixel less on each side."""
    compared = 0
    for index in range(1, 31):
        _, instances, objects, _ = shapes.draw_picture(0, index)
        mask = np.array(shapes.class_mask(instances, objects))
        instances = np.array(instances)
        assert set(np.unique(instances)) <= set(range(len(objects) + 1))
        for number, thing in enumerate(objects, 1):
            rows, columns = np.nonzero(instances == number)
            x1, y1, x2, y2 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            assert thing["xyxy"] == (x1, y1, x2, y2)
            assert min(x2 - x1, y2 - y1) >= shapes.SMALL
            inside = (mask == shapes.CLASSES.index(thing["name"]) + 1) & (instances == number)
            assert (np.isin(mask[rows, columns], (255, shapes.CLASSES.index(thing["name"]) + 1))).all()
            alone = sum(other["name"] == thing["name"] for other in objects) == 1
            if alone and thing["name"] in ("circle", "ring") and not thing["occluded"] and not thing["truncated"]:
                rows, columns = np.nonzero(inside)
                assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x1 + 1, y1 + 1, x2 - 1, y2 - 1)
                compared += 1
    assert compared > 5


def test_border_between_touching_objects():
    """Different objects never touch without 255 between them, and there is no border along the edge of the picture itself."""
    instances = Image.new("L", (20, 12))
    instances.paste(1, (0, 0, 8, 12))
    instances.paste(2, (8, 4, 20, 12))
    mask = np.array(shapes.class_mask(instances, [{"name": "ring"}, {"name": "ring"}]))
    ring = shapes.CLASSES.index("ring") + 1
    assert mask[11].tolist() == [ring] * 7 + [255] * 2 + [ring] * 11
    assert mask[:, 0].tolist() == [ring] * 12
    assert mask[:, 15].tolist() == [0] * 3 + [255] * 2 + [ring] * 7


def test_nothing_is_hidden_too_far():
    """A new thing finds no place where it leaves too little, or too narrow a strip, of an object below it."""
    def lay(*steps):
        instances, things = Image.new("L", (60, 60)), []
        for name, side, corner in steps:
            instances = instances and shapes.try_place(instances, things, name, Image.new("L", (side, side), 255), corner)
        return instances and things

    below = ("square", 24, (10, 10))
    assert lay(below, ("star", 24, (24, 10)))[0] == {"name": "square", "area": 576, "inside": 576, "seen": 14 * 24}
    assert lay(below, ("star", 24, (12, 12))) is None       # about a sixth is left
    assert lay(below, ("star", 24, (19, 10))) is None       # more is left, but a strip of 9 pixels
    assert lay(below, ("blob", 24, (12, 12))) is None       # things of no class hide as well
    assert len(lay(below, ("blob", 24, (24, 10)))) == 1     # and are no objects


def test_flags():
    """Truncated: cut by the edge of the picture. Occluded: another thing lies on it. Difficult: little is left."""
    flags = {"truncated": 0, "occluded": 0, "difficult": 0}
    for index in range(1, 61):
        _, instances, objects, _ = shapes.draw_picture(0, index)
        for thing in objects:
            x1, y1, x2, y2 = thing["xyxy"]
            touches = x1 == 0 or y1 == 0 or (x2, y2) == instances.size or x2 == instances.width or y2 == instances.height
            assert touches or not thing["truncated"]
            assert thing["truncated"] or thing["occluded"] or not thing["difficult"]
            for flag in flags:
                flags[flag] += thing[flag]
    assert flags["occluded"] > flags["truncated"] > 0 and flags["difficult"] > 0


def test_palette_is_the_one_of_voc(voc):
    with Image.open(voc / "SegmentationClass" / "000001.png") as mask:
        colours = np.array(mask.getpalette()).reshape(256, 3).tolist()
    known = {0: [0, 0, 0], 1: [128, 0, 0], 2: [0, 128, 0], 3: [128, 128, 0], 4: [0, 0, 128], 5: [128, 0, 128], 6: [0, 128, 128],
             7: [128, 128, 128], 8: [64, 0, 0], 15: [192, 128, 128], 20: [0, 64, 128], 255: [224, 224, 192]}
    assert {number: colours[number] for number in known} == known


def test_every_class_is_drawn_about_as_often():
    counts = dict.fromkeys(shapes.CLASSES, 0)
    for index in range(1, 121):
        for thing in shapes.draw_picture(0, index)[2]:
            counts[thing["name"]] += 1
    assert min(counts.values()) > 0.6 * max(counts.values())


def test_class_file_agrees():
    assert (ROOT / "model_data" / "shapes_classes.txt").read_text(encoding="utf-8").split() == list(shapes.CLASSES)


def test_an_existing_folder_is_left_alone(tmp_path):
    mine = tmp_path / "Shapes"
    mine.mkdir()
    (mine / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(UserError, match="exists already"):
        shapes.make_shapes(mine, train=1, val=0, test=0)
    assert fingerprint(tmp_path).keys() == {"Shapes/mine.txt"}


def test_an_empty_folder_and_a_file_are_left_alone_too(tmp_path):
    (tmp_path / "Shapes").mkdir()
    (tmp_path / "file").touch()
    for name in ("Shapes", "file"):
        with pytest.raises(UserError, match="exists already"):
            shapes.make_shapes(tmp_path / name, train=1, val=0, test=0)
    assert not any((tmp_path / "Shapes").iterdir())


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def stop(name, size, objects):
        if name == "000002":
            raise KeyboardInterrupt
        return "<annotation/>"

    monkeypatch.setattr(shapes, "annotation", stop)
    with pytest.raises(KeyboardInterrupt):
        shapes.make_shapes(tmp_path / "Shapes", train=3, val=0, test=0)
    assert not any(tmp_path.iterdir())


def test_what_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        shapes.make_shapes(tmp_path / "file" / "Shapes", train=1, val=0, test=0)
    with pytest.raises(UserError, match="0 or more"):
        shapes.make_shapes(tmp_path / "Shapes", train=-1)
