"""utils/labelme_format.py; and xml files beside the images or elsewhere (utils/pair_format.py)."""
import json

import numpy as np
import pytest
from sources import HOSTILE, SHAPES, XML, boxes, error_of, image, make_labelme, read, shape, text

from utils.errors import UserError
from utils.images import open_mask


def test_labelme_boxes(root, capsys):
    names, splits = read(make_labelme(root / "l", SHAPES))
    assert names == ["cat", "dog", "z"] and [len(splits[split]) for split in splits] == [1, 1, 1]
    assert boxes(splits["train"][0][1]) == [("cat", (2, 3, 12, 15), False), ("cat", (2, 3, 12, 15), False), ("dog", (20, 5, 30, 15), False),
                                            ("dog", (15, 10, 25, 20), False), ("z", (4, 5, 9, 9), False)]
    out = capsys.readouterr().out
    assert "3 shapes of the kind point have no area" in out and "3 shapes of the kind line" in out


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
    ([shape(label=None)], ["shape 1", '"label"']), ([shape(), shape(label="")], ["shape 2"]), ([shape(label="a" * 300)], ["shape 1", "200 letters"]),
    ([shape(points=((1, 2), (3,)))], ["shape 1", "[3]", "point"]), ([shape(points=((1, 2), (3, float("nan"))))], ["shape 1", "'nan'"]),
    ([shape(points=((1, 2), (3, "4")))], ["shape 1", "'4'"]), ([shape(points=((1, 2),))], ["shape 1", "1 points"]),
    ([shape(kind="polygon")], ["shape 1", "2 points", "3 points or more"]), ([shape(kind="circle", points=((1, 1), (2, 2), (3, 3)))], ["circle",
                                                                                                                                       "3 points"]),
    ([shape(kind="banana")], ["'banana'", "rectangle"]), ([3], ["shape 1"]), (None, ['"shapes"']), ({}, ['"shapes"']),
    ([shape(points=((1, 2), (3, 1e9)))], ["1000000000"]),
    ([shape(kind=5)], ["shape_type"]), ([{"label": "a"}], ["points"])]


@pytest.mark.parametrize("shapes, words", LABELME_FAULTS, ids=range(len(LABELME_FAULTS)))
def test_labelme_faults(root, shapes, words):
    folder = make_labelme(root / "l", [shape()], count=2)
    content = json.loads((folder / "图 1.json").read_text(encoding="utf-8"))
    text(folder / "图 1.json", json.dumps(content | {"shapes": shapes}))
    message = error_of(read, folder)
    for word in ["图 1.json", *words]:
        assert word in message, message


@pytest.mark.parametrize("name", HOSTILE)
def test_labelme_hostile_names(root, name):
    """They lead nowhere: the image beside the file is taken, or none."""
    image(root / "x.png")
    folder = make_labelme(root / "a" / "l", [shape()], count=1, imagePath=name)
    try:
        found = read(folder)[1]["train"][0][0]
        assert found == folder / "图 0.jpg"
    except UserError as error:
        assert "图 0.json" in str(error)


def test_labelme_two_files_for_one_image(root):
    folder = make_labelme(root / "l", [shape()], count=2)
    text(folder / "copy.json", (folder / "图 1.json").read_text(encoding="utf-8"))
    assert "both belong to" in error_of(read, folder)


def test_labelimg_xml_and_xml_in_another_folder(root, capsys):
    for place, labels in (("one", "one"), ("two/images", "two/annotations"), ("three/a", "three/b/c")):
        for number in range(4):
            image(root / place / f"{number} x.png")
            text(root / labels / f"{number} x.xml", XML.format("dog" if number else "cat"))
        image(root / place / "unlabelled.png")
        names, splits = read(root / place.split("/")[0])
        assert names == ["cat", "dog"] and sum(map(len, splits.values())) == 4 and "1 images have no xml file" in capsys.readouterr().out
        assert boxes(splits["train"][0][1])[0][1:] == ((2, 3, 12, 15), False)
    text(root / "one" / "predefined_classes.txt", "dog\ncat\nperson\n")
    assert read(root / "one")[0] == ["dog", "cat", "person"]
    text(root / "one" / "9.xml", XML.format("a"))
    assert "9.xml has no image 9" in error_of(read, root / "one")
    assert "boxes only" in error_of(read, root / "two", "segmentation")


def test_xml_names_that_several_images_have(root):
    for split in ("train", "val"):
        for name in ("0", "1"):
            image(root / "x" / split / f"{name}.png")
            text(root / "x" / split / f"{name}.xml", XML.format("cat"))
    names, splits = read(root / "x")
    assert [len(splits[split]) for split in splits] == [2, 2, 0]
    (root / "x" / "train" / "0.xml").rename(root / "x" / "0.xml")
    assert "several images are called so" in error_of(read, root / "x")
