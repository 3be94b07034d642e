"""utils/formats/labelme.py; and xml files beside the images or elsewhere (utils/formats/pairs.py)."""
import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from sources import HOSTILE, SHAPES, XML, boxes, error_of, image, make_labelme, read, shape, text, told, tree

from utils.images import open_mask


def test_labelme_boxes(root, capsys):
    names, splits = read(make_labelme(root / "l", SHAPES))
    assert names == ["cat", "dog", "z"] and [len(splits[split]) for split in splits] == [1, 1, 1]
    assert boxes(splits["train"][0][1]) == [("cat", (2, 3, 12, 15), False), ("cat", (2, 3, 12, 15), False), ("dog", (20, 5, 30, 15), False),
                                            ("dog", (15, 10, 25, 20), False), ("z", (4, 5, 10, 10), False)]
    message, kinds = told(root / "l")
    assert sorted(kinds) == ["box_twice"] * 3 + ["outline_broken"] * 3 + ["shape_flat"] * 6 and message.count("图 1.json: shape 5: x, a point") == 1
    assert message.count("图 2.json: shape 6: x, a line") == 1


def test_a_point_needs_no_class(root):
    shapes = [shape(), shape("", "point", ((3, 4),)), shape(None, "linestrip", ((3, 4), (5, 6)))]
    message, kinds = told(make_labelme(root / "l", shapes))
    assert kinds == ["shape_flat"] * 6 and "shape 2: a point" in message
    assert sum(map(len, read(root / "l", findings=[])[1].values())) == 3


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


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.mark.parametrize("kind", ["1", "L", "0 255", "RGB"])
def test_labelme_mask_shapes(root, kind):
    """The corners are the first and the last pixel; what lies beyond the image is cut off."""
    pixels = np.zeros((10, 20), np.uint8)
    pixels[2:, 3:] = 255 if kind in ("0 255", "RGB") else 1
    picture = pixels.astype(bool) if kind == "1" else np.stack([pixels] * 3, 2) if kind == "RGB" else pixels
    shapes = [shape("cat", "mask", ((5, 4), (24, 13)), mask=png(picture)), shape("dog", "mask", ((-10.0, -4), (9, 5)), mask=png(picture))]
    folder = make_labelme(root / "l", shapes)
    assert told(folder, "segmentation")[1] == ["box_clipped"] * 3
    assert [thing[1] for thing in boxes(read(folder)[1]["train"][0][1])] == [(5, 4, 25, 14), (0, 0, 10, 6)]
    expected = np.zeros((30, 40), np.uint8)
    expected[6:14, 8:25], expected[:6, :10] = 1, 2
    assert np.array_equal(open_mask(read(folder, "segmentation")[1]["train"][0][1][0]), expected)


@pytest.mark.parametrize("mask", [None, "", "x", "iVBOR", png(np.ones((3, 3), np.uint8)), 7, png(np.ones((600, 600), np.uint8))])
def test_labelme_mask_that_cannot_be_read(root, mask):
    folder = make_labelme(root / "l", [shape("cat", "mask", ((5, 4), (24, 13)), mask=mask)])
    message, kinds = told(folder)
    assert kinds == ["outline_broken"] * 3 and "shape 1: the mask: " in message and read(folder)[1]["train"][0][1][0]["box"] == (5, 4, 25, 14)
    assert "no_outline" in told(folder, "segmentation")[1]


def test_labelme_shapes_of_other_programs(root):
    """X-AnyLabeling: a turned rectangle, four corners, difficult; flags as people use them."""
    corners = ((10, 2), (18, 10), (10, 18), (2, 10))
    shapes = [shape("a", "rotation", corners, direction=0.78, score=None, attributes={}),
              shape("b", points=((2, 3), (9, 3), (9, 8), (2, 8)), difficult=True),
              shape("c", difficult=False, flags=None), shape("d", flags={"difficult": True}), shape("e", "quadrilateral", corners, difficult=1)]
    folder = make_labelme(root / "l", shapes, flags={"dark": True}, imageData=None, description="")
    assert told(folder)[1] == []
    found = boxes(read(folder)[1]["train"][0][1])
    assert [(box, difficult) for _, box, difficult in found] == [
        ((2, 2, 18, 18), False), ((2, 3, 9, 8), True), ((2, 3, 12, 15), False), ((2, 3, 12, 15), True), ((2, 2, 18, 18), True)]
    folder = make_labelme(root / "m", shapes[:1])
    mask = open_mask(read(folder, "segmentation")[1]["train"][0][1][0])
    assert abs(mask.sum() - 128) < 8 and mask[10, 10] == 1 and mask[3, 3] == 0
    assert told(make_labelme(root / "n", [shape(difficult="perhaps")]))[1] == ["bad_difficult"] * 3


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("shift", [1, -1])
def test_labelme_renamed(root, apart, shift):
    """All images and files were renamed together: the names of the files count, and that is said once."""
    folder, files = root / "l", root / "l" / ("labels" if apart else "images")
    for number in range(5):
        image(folder / "images" / f"{number}.png")
        content = {"version": "5", "shapes": [shape(points=((number, 2), (number + 9, 9)))], "imagePath": f"..\\images\\{number + shift}.png"}
        text(files / f"{number}.json", json.dumps(content))
    message, kinds = told(folder)
    assert kinds == ["other_image_path"] and "and so on in 5 files of 5" in message
    some = [pair for some in read(folder)[1].values() for pair in some]
    assert len(some) == 5 and all(objects[0]["box"][0] == int(path.stem) for path, objects in some)


def test_labelme_names_that_are_no_numbers_of_images(root):
    """Files numbered otherwise than the images: imagePath counts, though one of them happens to fit."""
    for number in range(4):
        image(root / "l" / "images" / (f"scene {number}.png" if number else "2.png"))
        content = {"version": "5", "shapes": [shape()], "imagePath": f"../images/scene {number}.png" if number else "../images/2.png"}
        text(root / "l" / "labels" / f"{number + 1}.json", json.dumps(content))
    assert told(root / "l")[1] == [] and sum(map(len, read(root / "l")[1].values())) == 4


def test_labelme_same_stem_twice(root):
    folder = make_labelme(root / "l", [shape()])
    image(folder / "图 0.png")
    assert told(folder)[1] == []                            # imagePath says which
    content = json.loads((folder / "图 0.json").read_text(encoding="utf-8"))
    for path in (None, "x.jpg"):
        text(folder / "图 0.json", json.dumps(content | {"imagePath": path}))
        message, kinds = told(folder)
        assert "stem_twice" in kinds and "图 0.jpg and 图 0.png have the name of this file" in message
        assert sum(map(len, read(folder, findings=[])[1].values())) == 2


def test_labelme_looks_only_into_the_dataset(root):
    """Labels without images, and a folder of images far away: only a folder of images beside the labels counts."""
    for path in ("l/labels", "l"):
        make_labelme(root / path, [shape()])
    image(root / "l" / "other" / "图 7.jpg")
    for path in (root / "l" / "labels").glob("*.jpg"):
        path.unlink()
    assert told(root / "l" / "labels")[1] == ["label_without_image"] * 3


def make_labelme_json(root, count=4):
    for number in range(count):
        names = ["_background_", "cat", "dog", "__ignore__"] if number % 2 else ["_background_", "dog", "cat"]
        pixels = np.zeros((30, 40), np.uint8)
        pixels[:10], pixels[20:] = names.index("cat"), names.index("dog")
        pixels[15, 15] = len(names) - 1 if number % 2 else 0
        folder = root / f"a{number}_json"
        image(folder / "img.png", colour=(number, 0, 0))
        picture = Image.fromarray(pixels)
        picture.putpalette(list(range(256)) * 3)
        picture.save(folder / "label.png")
        image(folder / "label_viz.png")
        text(folder / "label_names.txt", "\n".join(names) + "\n")
    return root


def test_labelme_json_folders(root):
    """Each folder has its own numbers; the lists have one numbering."""
    folder = make_labelme_json(root / "l")
    assert told(folder, "segmentation")[1] == []
    names, splits = read(folder, "segmentation")
    assert names == ["background", "cat", "dog"] and [len(splits[split]) for split in splits] == [2, 1, 1]
    for path, (mask, _) in (pair for some in splits.values() for pair in some):
        labels = open_mask(mask)
        assert labels[0, 0] == 1 and labels[29, 0] == 2 and labels[15, 0] == 0 and path.name == "img.png"
        assert labels[15, 15] == (255 if int(path.parent.name[1]) % 2 else 0)
    assert "task=segmentation" in error_of(read, folder)
    text(folder / "a0_json" / "label_names.txt", "_background_\ncat\n")
    (folder / "a1_json" / "label.png").unlink()
    (folder / "a2_json" / "img.png").write_bytes(b"")
    message, kinds = told(folder, "segmentation")
    assert sorted(kinds) == ["image_without_label", "label_broken", "not_an_image"]
    assert "it holds the number 2, label_names.txt has 2 names" in message


def test_labelme_json_folders_beside_the_files(root):
    folder = make_labelme_json(make_labelme(root / "l", [shape()]))
    assert told(folder)[1] == [] and read(folder)[0] == ["cat"]


def test_xml_with_two_images_or_another_name(root):
    for number in range(4):
        image(root / "x" / f"{number}.png")
        text(root / "x" / f"{number}.xml", XML.format("cat"))
    image(root / "x" / "0.jpg")
    message, kinds = told(root / "x")
    assert "stem_twice" in kinds and "0.xml: 0.jpg and 0.png are the same before the suffix" in message
    (root / "x" / "0.jpg").unlink()
    named = XML.format("cat").replace("<object>", "<filename>D:\\photos\\1a2b3c4d-scene%201.png</filename><object>", 1)
    (root / "x" / "1.png").rename(root / "x" / "scene 1.png")
    text(root / "x" / "1.xml", named)
    assert told(root / "x")[1] == [] and sum(map(len, read(root / "x")[1].values())) == 4


def test_labelme_pictures_inside_the_files(root, capsys):
    """Only JSON files: their pictures are written into the project, not into the dataset, and only once."""
    folder = make_labelme(root / "l", [shape()], count=4)
    originals = {path.stem: path.read_bytes() for path in folder.glob("*.jpg")}
    for path in folder.glob("*.jpg"):
        content = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        text(folder / "sub" / f"{path.stem}.json", json.dumps(content | {"imageData": base64.b64encode(path.read_bytes()).decode()}))
        path.with_suffix(".json").unlink()
        path.unlink()
    before = tree(folder)
    assert told(folder)[1] == [] and "only inside the labelme files: 4 images; written to prepared/" in capsys.readouterr().out
    images = [path for some in read(folder)[1].values() for path, _ in some]
    assert {path.stem: path.read_bytes() for path in images} == originals and tree(folder) == before
    assert all(path.is_relative_to(root / "prepared") and path.parent.name == "sub" for path in images)
    stamps = [path.stat().st_mtime_ns for path in images]
    read(folder)
    assert [path.stat().st_mtime_ns for path in images] == stamps and not list(root.rglob("*.tmp*"))
    content = json.loads((folder / "sub" / "图 0.json").read_text(encoding="utf-8"))
    for data, kind in (("no base64 !", "label_without_image"), ("QUJD", "not_an_image"), (7, "label_without_image")):
        text(folder / "sub" / "图 0.json", json.dumps(content | {"imageData": data}))
        assert told(folder)[1] == [kind]
