"""utils/formats/labelme.py; and xml files beside the images or elsewhere (utils/formats/pairs.py)."""
import json

import numpy as np
import pytest
from sources import HOSTILE, SHAPES, XML, boxes, error_of, image, make_labelme, read, shape, text, told

from utils.images import open_mask


def test_labelme_boxes(root, capsys):
    names, splits = read(make_labelme(root / "l", SHAPES))
    assert names == ["cat", "dog", "z"] and [len(splits[split]) for split in splits] == [1, 1, 1]
    assert boxes(splits["train"][0][1]) == [("cat", (2, 3, 12, 15), False), ("cat", (2, 3, 12, 15), False), ("dog", (20, 5, 30, 15), False),
                                            ("dog", (15, 10, 25, 20), False), ("z", (4, 5, 10, 10), False)]
    message, kinds = told(root / "l")
    assert sorted(kinds) == ["box_twice"] * 3 + ["outline_broken"] * 3 + ["shape_flat"] * 6 and message.count("图 1.json: shape 5: x, a point") == 1
    assert message.count("图 2.json: shape 6: x, a line") == 1


def test_labelme_masks(root):
    shapes = [shape("_background_"), shape("dog", points=((0, 0), (20, 20))), shape("cat", points=((5, 5), (30, 10))),
              shape("__ignore__", points=((0, 0), (3, 3))), shape("_background_", points=((18, 18), (20, 20))),
              shape("dog", "circle", ((35, 25), (35, 28)))]
    names, splits = read(make_labelme(root / "l", shapes), "segmentation")
    mask = open_mask(splits["train"][0][1][0])
    expected = np.zeros((30, 40), np.uint8)
    expected[:20, :20], expected[5:10, 5:30], expected[:3, :3], expected[18:20, 18:20] = 2, 1, 255, 0      # in the order of drawing
    assert names == ["background", "cat", "dog"] and np.array_equal(mask[:20, :32], expected[:20, :32])
    assert abs((mask[20:] == 2).sum() - np.pi * 9) < 4


@pytest.mark.parametrize("path", ["图 0.jpg", "..\\x\\图 0.jpg", "/home/other/图 0.jpg", "other name.jpg", None, "sub/图 0.jpg", "../../../图 0.jpg"])
def test_labelme_finds_its_image(root, path):
    folder = make_labelme(root / "l", [shape()], count=1, imagePath=path)
    assert read(folder)[1]["train"][0][0] == folder / "图 0.jpg"


def test_labelme_in_a_folder_of_its_own(root):
    """labelme files in Annotations, the images in JPEGImages beside it: what somebody makes who meant to make VOC."""
    folder = make_labelme(root / "v" / "Annotations", [shape()], count=3)
    for path in folder.glob("*.jpg"):
        image(root / "v" / "JPEGImages" / path.name)
        path.unlink()
    names, splits = read(folder)
    assert names == ["cat"] and sum(map(len, splits.values())) == 3


LABELME_FAULTS = [
    ([shape(label=None)], "label_broken", ["shape 1: ", '"label"']), ([shape(), shape(label="")], "label_broken", ["shape 2: "]),
    ([shape(label="a" * 300)], "label_broken", ["shape 1: ", "200 letters"]),
    ([shape(points=((1, 2), (3,)))], "label_broken", ["shape 1: ", "[3]", "point"]),
    ([shape(points=((1, 2), (3, float("nan"))))], "bad_number", ["shape 1: ", "'nan'"]),
    ([shape(points=((1, 2), (3, "4")))], "bad_number", ["shape 1: ", "'4'"]),
    ([shape(kind="circle", points=((1, 1), (2, 2), (3, 3)))], "label_broken", ["circle", "3 points"]),
    ([shape(kind="banana")], "label_broken", ["'banana'", "rectangle"]), ([3], "label_broken", ["shape 1: "]),
    (None, "label_broken", ['"shapes"']), ({}, "label_broken", ['"shapes"']), ([shape(points=((1, 2), (3, 1e9)))], "bad_number", ["1000000000"]),
    ([shape(kind=5)], "label_broken", ["shape_type"]), ([{"label": "a"}], "label_broken", ["points"])]


@pytest.mark.parametrize("shapes, kind, words", LABELME_FAULTS, ids=range(len(LABELME_FAULTS)))
def test_labelme_faults(root, shapes, kind, words):
    folder = make_labelme(root / "l", [shape()], count=2)
    content = json.loads((folder / "图 1.json").read_text(encoding="utf-8"))
    text(folder / "图 1.json", json.dumps(content | {"shapes": shapes}))
    message, kinds = told(folder)
    assert kinds == [kind], message
    for word in ["l/图 1.json: ", *words]:
        assert word in message, message
    assert [path.name for path, _ in read(folder, findings=[])[1]["train"]] == ["图 0.jpg"]


def test_labelme_all_faults_of_a_file_are_told(root):
    folder = make_labelme(root / "l", [shape(label=""), shape(), shape(kind="banana"), shape(points=((1, 2), (3, 1e9)))], count=2)
    message, kinds = told(folder)
    assert sorted(kinds) == ["bad_number"] * 2 + ["label_broken"] * 4
    assert all(f"图 {file}.json: shape {number}: " in message for file in (0, 1) for number in (1, 3, 4))


def test_labelme_files_and_images(root):
    """JSON that is cut off, an image without a file, a file without an image, another size."""
    folder = make_labelme(root / "l", [shape()], count=5, imageWidth=30, imageHeight=40)
    text(folder / "图 0.json", (folder / "图 0.json").read_bytes()[:-20])
    (folder / "图 1.json").unlink()
    (folder / "图 2.jpg").unlink()
    text(folder / "notes.json", '{"a": 1}')
    text(folder / "图 4.jpg", "no image")
    message, kinds = told(folder)
    assert kinds == ["json_broken", "label_without_image", "size_turned", "not_an_image", "image_without_label"]
    assert "图 0.json, line 1: not complete JSON" in message and "图 2.json: its image 图 2.jpg is not in l" in message and "l/图 1.jpg\n" in message
    assert "图 3.json: imageWidth x imageHeight is 30 x 40, the image 40 x 30" in message and "图 4.jpg: is not an image" in message
    assert sum(map(len, read(folder)[1].values())) == 1


@pytest.mark.parametrize("name", HOSTILE)
def test_labelme_hostile_names(root, name):
    """They lead nowhere: the image of the file's own name is used, or none."""
    image(root / "x.png")
    folder = make_labelme(root / "a" / "l", [shape()], count=1, imagePath=name)
    message, kinds = told(folder)
    assert "\x1b" not in message and "\u202e" not in message
    if kinds == ["bad_name"]:
        assert "图 0.json: imagePath: " in message and read(folder, findings=[])[1]["train"] == []
    else:
        assert kinds in ([], ["other_image_path"])
        assert read(folder)[1]["train"][0][0] == folder / "图 0.jpg"


def test_labelme_two_files_for_one_image(root):
    folder = make_labelme(root / "l", [shape()], count=2)
    text(folder / "copy.json", (folder / "图 1.json").read_text(encoding="utf-8"))
    message, kinds = told(folder)
    assert kinds == ["label_twice"] and "图 1.json: copy.json belongs to 图 1.jpg too" in message


def test_labelimg_xml_and_xml_in_another_folder(root, capsys):
    for place, labels in (("one", "one"), ("two/images", "two/annotations"), ("three/a", "three/b/c")):
        for number in range(4):
            image(root / place / f"{number} x.png")
            text(root / labels / f"{number} x.xml", XML.format("dog" if number else "cat"))
        image(root / place / "unlabelled.png")
        names, splits = read(root / place.split("/")[0])
        assert names == ["cat", "dog"] and sum(map(len, splits.values())) == 4 and told(root / place.split("/")[0])[1] == ["image_without_label"]
        assert boxes(splits["train"][0][1])[0][1:] == ((2, 3, 12, 15), False)
    text(root / "one" / "predefined_classes.txt", "dog\ncat\nperson\n")
    assert read(root / "one")[0] == ["dog", "cat", "person"]
    text(root / "one" / "9.xml", XML.format("a"))
    text(root / "one" / "1 x.xml", XML.format("a").replace("xmax", "xxx", 2) + " ")
    text(root / "one" / "2 x.xml", XML.format("a")[:-5])
    (root / "one" / "b").mkdir()
    text(root / "one" / "b" / "0 x.xml", XML.format("a"))
    message, kinds = told(root / "one")
    assert sorted(kinds) == ["image_without_label", "label_twice", "label_without_image", "tag_missing", "xml_broken"]
    assert "one/9.xml: there is no image 9: put it" in message and "1 x.xml, line 1: object 1 (a): <bndbox> has no <xmax>" in message
    assert "one/b/0 x.xml: one/0 x.xml belongs to 0 x.png too" in message
    assert "boxes only" in error_of(read, root / "two", "segmentation")


def test_xml_names_that_several_images_have(root):
    for split in ("train", "val"):
        for name in ("0", "1"):
            image(root / "x" / split / f"{name}.png")
            text(root / "x" / split / f"{name}.xml", XML.format("cat"))
    names, splits = read(root / "x")
    assert [len(splits[split]) for split in splits] == [2, 2, 0]
    (root / "x" / "train" / "0.xml").rename(root / "x" / "0.xml")
    message, kinds = told(root / "x")
    assert kinds == ["label_without_image"] and "x/0.xml: there is no image 0 (several images have this name)" in message
