"""utils/formats/coco.py and utils/formats/made_masks.py: boxes, crowds, polygons and run lengths -> the same objects and masks."""
import json
import os

import numpy as np
import pytest
from sources import HOSTILE, boxes, coco_content, error_of, image, make_coco, make_yolo, read, text, told, tree

from utils import lists
from utils.errors import UserError
from utils.formats import made_masks, outlines
from utils.formats.image_names import images_named, index_names
from utils.formats.objects import SPOILING
from utils.images import open_mask


def test_coco_boxes(root, capsys):
    folder = make_coco(root / "c")
    for path in (folder, folder / "annotations" / "instances_train2017.json"):
        names, splits = read(path)
        assert names == ["dog", "cat"]                      # as the source says
        assert boxes(splits["train"][0][1]) == [("cat", (2, 3, 12, 15.5), False), ("dog", (30, 20, 40, 30), True)]
        assert [[path.name for path, _ in splits[split]] for split in splits] == [["train 0.png", "train 1.png"], ["val 0.png", "val 1.png"], []]
        assert splits["train"][1][1] == []


def test_coco_masks(root):
    folder = make_coco(root / "c")
    names, splits = read(folder, "segmentation")
    assert names == ["background", "dog", "cat"]
    mask, counts = splits["train"][0][1]
    labels = open_mask(mask)
    expected = np.zeros((30, 40), np.uint8)
    expected[:, 30:] = 1                                    # the run lengths, column by column
    expected[3:15, 2:12], expected[20:24, 20:24] = 2, 2     # rows 3 to 15.5: the centre of the sixteenth row lies just on the border
    expected[15, 2:12] = labels[15, 2:12]
    assert np.array_equal(labels, expected) and counts.sum() == 1200 and counts[2] == (labels == 2).sum()
    assert mask.is_relative_to(lists.prepared_folder(folder) / "masks") and open_mask(splits["train"][1][1][0]).max() == 0


def test_coco_one_file_and_roboflow(root, capsys):
    for name in range(10):
        image(root / "one" / "images" / f"{name}.png")
    content = coco_content([f"{n}.png" for n in range(10)])
    text(root / "one" / "labels.json", json.dumps(content))
    names, splits = read(root / "one" / "labels.json", seed=4)
    assert [len(splits[split]) for split in splits] == [8, 1, 1] and splits == read(root / "one", seed=4)[1] != read(root / "one", seed=5)[1]
    content["categories"] = [{"id": 0, "name": "pets", "supercategory": "none"}, {"id": 3, "name": "cat", "supercategory": "pets"},
                             {"id": 7, "name": "dog", "supercategory": "pets"}]
    for split in ("train", "valid", "test"):
        for name in range(10):
            image(root / "robo" / split / f"{name}.png")
        text(root / "robo" / split / "_annotations.coco.json", json.dumps(content))
    names, splits = read(root / "robo")
    assert names == ["cat", "dog"] and [len(splits[split]) for split in splits] == [10, 10,
                                                                                    10] and "is the parent of all others" in capsys.readouterr().out


def change(place, value):
    """A function that puts a value into the COCO content: change("annotations.0.bbox", None)."""
    def apply(content):
        *path, last = [int(part) if part.isdigit() else part for part in place.split(".")]
        for part in path:
            content = content[part]
        if value is KeyError:
            del content[last]
        else:
            content[last] = value
    return apply


COCO_FAULTS = [
    ("annotations.0.category_id", 99, "class_number", ["annotation id 1 in train 0.png", "category_id 99"]),
    ("annotations.1.image_id", 1, "label_without_image", ["annotation id 2: image_id 1"]),
    ("annotations.0.bbox", [1, 2, 3], "label_broken", ["annotation id 1 in train 0.png: ", "bbox"]),
    ("annotations.0.bbox", [1, 2, "3", 4], "bad_number", ["annotation id 1 in train 0.png: ", "'3'"]),
    ("annotations.0.bbox", [1, 2, float("nan"), 4], "bad_number", ["annotation id 1 in train 0.png: ", "'nan'"]),
    ("annotations.0.bbox", [1, 2, 1e9, 4], "bad_number", ["annotation id 1 in train 0.png: ", "1000000000"]),
    ("annotations.0.bbox", [1, 2, 10**400, 4], "bad_number", ["annotation id 1 in train 0.png: "]),
    ("annotations.0.segmentation", [[1, 2, 3, 4, 5, 10**400]], "outline_broken", ["annotation id 1"]),
    ("annotations.0.segmentation", [[1, 2, 3, 4, 5, float("nan")]], "outline_broken", ["annotation id 1", "'nan'"]),
    ("annotations.0.segmentation", [[1, 2, 3, 4, 5, True]], "outline_broken", ["annotation id 1", "'True'"]),
    ("annotations.0.segmentation", [[1, 2, 3, 4, 5, "6"]], "outline_broken", ["annotation id 1", "'6'"]),
    ("annotations.0.bbox", [1, 2, -3, 4], "label_broken", ["annotation id 1 in train 0.png: ", "-3 x 4"]),
    ("annotations.0.bbox", [1, 2, True, 4], "bad_number", ["annotation id 1 in train 0.png: "]),
    ("annotations.0", 3, "label_without_image", ["annotation 1 of the list"]),
    ("annotations.0.iscrowd", 2, "bad_difficult", ["annotation id 1 in train 0.png: ", "iscrowd"]),
    ("annotations.0.category_id", None, "label_broken", ["annotation id 1 in train 0.png: ", "category_id"]),
    ("annotations.0.image_id", [1], "label_without_image", ["annotation id 1: ", "image_id"]),
    ("annotations.0.segmentation", [[1, 2, 3, 4, 5]], "outline_broken", ["annotation id 1 in train 0.png: ", "segmentation"]),
    ("annotations.0.segmentation", [[1, 2, 3, 4, 5, float("inf")]], "outline_broken", ["annotation id 1", "'inf'"]),
    ("annotations.0.segmentation", "abc", "outline_broken", ["annotation id 1 in train 0.png: "]),
    ("annotations.1.segmentation.counts", [1, 2], "outline_broken", ["annotation id 2 in train 0.png: ", "damaged"]),
    ("annotations.1.segmentation.counts", [-900, 2100], "outline_broken", ["annotation id 2 in train 0.png: "]),
    ("annotations.1.segmentation.counts", "", "outline_broken", ["annotation id 2 in train 0.png: "]),
    ("annotations.1.segmentation.counts", "oooooooooooo", "outline_broken", ["annotation id 2 in train 0.png: "]),
    ("annotations.1.segmentation.counts", "\x00", "outline_broken", ["annotation id 2 in train 0.png: "]),
    ("annotations.1.segmentation.size", [10**9, 10**9], "outline_broken", ["annotation id 2", "1000000000"]),
    ("annotations.1.segmentation.size", [40, 30], "outline_broken", ["annotation id 2 in train 0.png: ", "[30, 40]"]),
    ("images.0.id", 6, "label_twice", ["image id 6", "twice"]), ("images.0.id", KeyError, "label_broken", ["image 1 of the list"]),
    ("images.0.file_name", KeyError, "label_broken", ["image id 5", "file_name"]),
    ("images.0.file_name", "x.png", "label_without_image", ["image id 5", "no image x.png"]),
    ("images.0.file_name", 3, "label_broken", ["image id 5: "]), ("images.0", "x", "label_broken", ["image 1 of the list"]),
    ("images.1.file_name", "train 0.png", "label_twice", ["image id 6: train 0.png also has the id 5"]),
    ("images.0.width", 41, "size_wrong", ["the size of image id 5 is 41 x 30, the image 40 x 30"]),
    ("annotations.0.bbox", [1, 2, 0, 9], "box_empty", ["annotation id 1 in train 0.png: from 1, 2 to 1, 11"]),
    ("annotations.0.bbox", [50, 2, 9, 9], "box_outside", ["annotation id 1 in train 0.png: from 50, 2 to 59, 11 in an image of 40 x 30"]),
    *(("images.0.file_name", name, "bad_name", ["image id 5: "]) for name in HOSTILE),
]
WHOLE_FAULTS = [
    ("annotations", KeyError, ['"annotations"', "missing"]), ("images", {}, ['"images"', "a list"]), ("categories", [], ["no class names"]),
    ("categories.0.id", 3, ["category 2", "twice"]), ("categories.0.name", "cat", ["'cat'", "twice"]),
    ("categories.0.name", " ", ["category 1"]), ("categories.0.name", "\ud800", ["category 1"]),
    ("categories.0.name", ["a"], ["category 1"]), ("categories.0", None, ["category 1"]),
]


def spoil(root, place, value):
    image(root / "x.png")
    folder = make_coco(root / "a" / "c")
    for split in ("val", "train"):
        content = coco_content((f"{split} 0.png", f"{split} 1.png"))
        content["annotations"][1]["bbox"] = [30, 20, 10, 10]
        if split == "train":
            change(place, value)(content)
        file = text(folder / "annotations" / f"instances_{split}2017.json", json.dumps(content))
    return file


@pytest.mark.parametrize("place, value, kind, words", COCO_FAULTS, ids=range(len(COCO_FAULTS)))
def test_coco_faults(root, place, value, kind, words):
    """The image is left out, the other one is used; of an annotation without an image nothing is left out but itself, of a box only that box."""
    file = spoil(root, place, value)
    message, kinds = told(file)
    gone = 2 if place == "images.0" or place == "images.0.id" else 0       # annotations whose image id is gone
    assert kinds == [kind] + ["label_without_image"] * gone, message
    for word in ["a/c/annotations/instances_train2017.json: ", *words]:
        assert word in message, message
    assert "\x1b" not in message and "\u202e" not in message
    left = {"label_twice": "0", "size_wrong": "01"}.get(kind, "1") if place.startswith("images") else "1" if kind in SPOILING else "01"
    assert [path.name for path, _ in read(file, findings=[])[1]["train"]] == [f"train {number}.png" for number in left]


@pytest.mark.parametrize("attributes, outline, kinds", [
    ({"rotation": 30.0}, [], ["rotated_box"]), ({"rotation": 270}, None, ["rotated_box"]), ({"rotation": 0.0}, [], []), ({"rotation": 180}, [], []),
    ({"rotation": 30.0}, [[2, 3, 12, 3, 12, 15, 2, 15]], []), ({"rotation": "x"}, [], []), (None, [], [])])
def test_a_box_that_cvat_rotated(root, attributes, outline, kinds):
    """Its bbox is that before the rotation; an outline says where the object is."""
    folder = make_coco(root / "c")
    file = folder / "annotations" / "instances_train2017.json"
    content = json.loads(file.read_text())
    content["annotations"][0] |= {"attributes": attributes, "segmentation": outline}
    text(file, json.dumps(content))
    assert set(told(folder)[1]) - {"box_clipped"} == set(kinds)
    assert len(read(folder, findings=[])[1]["train"]) == 2 - len(kinds)


@pytest.mark.parametrize("place, value, words", WHOLE_FAULTS, ids=range(len(WHOLE_FAULTS)))
def test_coco_faults_of_the_whole(root, place, value, words):
    file = spoil(root, place, value)
    message = error_of(read, file)
    for word in ["instances_train2017.json: ", *words]:
        assert word in message, message


def test_run_lengths_are_those_of_pycocotools():
    mask = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for size in ((5, 7), (30, 40), (1, 1), (200, 300), (64, 1)):
        for density in (0.0, 0.02, 0.5, 1.0):
            pixels = (rng.random(size) < density).astype(np.uint8)
            if size == (200, 300):
                pixels[:, 50:250] |= density > 0.4
            coded = mask.encode(np.asfortranarray(pixels))["counts"].decode()
            outline = outlines.read_outline({"size": list(size), "counts": coded}, size[::-1])
            assert np.array_equal(outlines.run_length_mask(outline), pixels)


def test_polygons_are_painted_as_they_lie():
    """Against pycocotools: nearly the same pixels, and no larger on the whole, as painting with the border would be."""
    coco = pytest.importorskip("pycocotools.mask")
    rng, areas, others, same = np.random.default_rng(1), 0, 0, 0
    for _ in range(60):
        angles = np.sort(rng.random(rng.integers(3, 12)) * 2 * np.pi)
        points = np.stack([50 + 30 * np.cos(angles), 40 + 35 * np.sin(angles)], 1) + rng.random(2) * 20 - 10
        ours, theirs = np.zeros((80, 100), np.uint8), coco.decode(coco.merge(coco.frPyObjects([points.ravel().tolist()], 80, 100)))
        made_masks.fill_polygon(ours, points, 1)
        areas, others, same = areas + ours.sum(), others + theirs.sum(), same + (ours & theirs).sum()
    assert same / (areas + others - same) > 0.97 and abs(areas / others - 1) < 0.01


@pytest.mark.parametrize("points, expected", [
    ([(1, 1), (4, 1), (4, 3), (1, 3)], (slice(1, 3), slice(1, 4))), ([(1.4, 1.4), (4.4, 1.4), (4.4, 3.4), (1.4, 3.4)], (slice(1, 3), slice(1, 4))),
    ([(-9, -9), (99, -9), (99, 99), (-9, 99)], (slice(None), slice(None))), ([(2, 2), (2, 2), (2, 2)], (slice(0), slice(0))),
    ([(20, 1), (30, 1), (30, 3)], (slice(0), slice(0))), ([(1, -5), (4, -5), (4, -1)], (slice(0), slice(0))),
    ([(-9, 2), (99, 2), (99, 3), (-9, 3)], (slice(2, 3), slice(None))), ([(-1e6, -1e6), (1e6, -1e6), (1e6, 1e6), (-1e6, 1e6)], (slice(None),
                                                                                                                                slice(None)))])
def test_painting_a_rectangle(points, expected):
    mask, wanted = np.zeros((6, 8), np.uint8), np.zeros((6, 8), np.uint8)
    made_masks.fill_polygon(mask, np.array(points, float), 9)
    wanted[expected] = 9
    assert np.array_equal(mask, wanted)


def test_painting_many_corners():
    angles = np.arange(5000) * (2 * np.pi / 5000)
    mask = np.zeros((100, 100), np.uint8)
    made_masks.fill_polygon(mask, np.stack([50 + 40 * np.cos(angles), 50 + 40 * np.sin(angles)], 1), 1)
    assert abs(mask.sum() - np.pi * 1600) < 20


def test_made_masks_are_reused_and_made_again(root):
    folder = make_coco(root / "c")
    before = tree(folder)
    masks = [mask for some in read(folder, "segmentation")[1].values() for _, (mask, _) in some]
    made = lists.prepared_folder(folder) / "masks"
    assert set(tree(made)) == {made_masks.RECORD, *(mask.relative_to(made).as_posix() for mask in masks)}
    assert tree(folder) == before
    stamps = [mask.stat().st_mtime_ns for mask in masks]
    read(folder, "segmentation")
    assert [mask.stat().st_mtime_ns for mask in masks] == stamps           # nothing has changed
    content = coco_content(("train 0.png", "train 1.png"))
    content["annotations"][0]["segmentation"][0][0] = 5
    text(folder / "annotations" / "instances_train2017.json", json.dumps(content))
    read(folder, "segmentation")
    assert [mask.stat().st_mtime_ns != stamp for mask, stamp in zip(masks, stamps)] == [True, False, False, False]
    masks[1].write_bytes(b"cut")
    text(made / made_masks.RECORD, "{damaged")
    read(folder, "segmentation")
    assert open_mask(masks[1]).shape == (30, 40) and not list(root.rglob("*.part*"))


def test_masks_of_earlier_versions_are_used(root):
    """They are beside the data; one whose outline has changed since is made anew, in the repository."""
    folder = make_coco(root / "c")
    read(folder, "segmentation")
    former = folder / "plainvision_masks"
    (lists.prepared_folder(folder) / "masks").rename(former)
    content = coco_content(("train 0.png", "train 1.png"))
    content["annotations"][0]["segmentation"][0][0] = 5
    text(folder / "annotations" / "instances_train2017.json", json.dumps(content))
    before = tree(folder)
    first, *others = [mask for some in read(folder, "segmentation")[1].values() for _, (mask, _) in some]
    assert first.is_relative_to(lists.prepared_folder(folder)) and len(others) == 3 and tree(folder) == before
    assert all(mask.is_relative_to(former) for mask in others)


def test_somebody_elses_folder_is_left_alone(root):
    folder = make_coco(root / "c")
    text(folder / "plainvision_masks" / "mine.txt", "mine")             # in the data: no matter
    place = lists.prepared_folder(folder) / "masks"
    mine = text(place / "mine.txt", "mine")
    assert "was not made by this program" in error_of(read, folder, "segmentation")
    mine.unlink()
    place.rmdir()
    (root / "other").mkdir()
    place.symlink_to(root / "other")
    assert "was not made by this program" in error_of(read, folder, "segmentation") and not list((root / "other").iterdir())


def test_a_failing_write_leaves_no_half_mask(root, monkeypatch):
    folder = make_coco(root / "c")
    monkeypatch.setattr(made_masks.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match="No space left"):
        read(folder, "segmentation")
    assert not list(root.rglob("*.part*")) and not list(root.rglob("masks/**/*.png"))


def test_boxes_have_no_masks(root):
    message, kinds = told(make_yolo(root / "y", label="0 .5 .5 .1 .2\n0 .1 .1 .2 .1 .2 .2\n"), "segmentation")
    assert kinds == ["no_outline"] * 4 and "train 0 猫.png: 1 of 2 objects (cat ...)" in message and "task=detection" in message


def test_names_of_made_masks(tmp_path):
    names = made_masks.mask_names([tmp_path / "a.jpg", tmp_path / "a.png", tmp_path / "b" / "a.jpg", tmp_path.parent / "else" / "a.jpg"], tmp_path)
    assert len(set(names.values())) == 4 and {"a.png", "a.png.png", "b/a.png"} < set(names.values())
    assert all(".." not in name and not os.path.isabs(name) for name in names.values())


def test_images_in_any_folder(root):
    """An image is found by its name alone when only one is called so."""
    folder = make_coco(root / "c", splits=("train",))
    (folder / "some").mkdir()
    (folder / "train2017").rename(folder / "some" / "where")
    names, splits = read(folder)
    assert splits["train"][0][0].parent == folder / "some" / "where"
    image(folder / "else" / "train 0.png")
    message, kinds = told(folder)
    assert "image id 5: several images are called train 0.png: c/else/train 0.png, c/some/where/train 0.png" in message
    assert kinds == ["label_without_image"]



PATHS = ["a b.png", "/home/worker/project/images/a b.png", "D:\\project\\images\\a b.png", "..\\..\\label-studio\\media\\upload\\4\\a b.png",
         "../../label-studio/data/media/upload/4/1a2b3c4d-a b.png", "images/1a2b3c__a b.png", "/data/local-files/?d=images/a%20b.png",
         "/data/local-files/?d=a b.png", "https://host/x/a%20b.png?token=1/2", "s3://bucket/images/a%20b.png", "data/obj_train_data/a b.png",
         "A B.PNG", "..%2Fupload%2Fa%20b.png"]


@pytest.mark.parametrize("name", PATHS)
def test_coco_paths_of_other_computers(root, name):
    """Found by its bare name, inside the dataset only: the one outside is never opened."""
    image(root / "a b.png")
    content = coco_content([name, "other.png"])
    for path in ("a b.png", "other.png"):
        image(root / "c" / "pictures" / "1" / path)
    text(root / "c" / "result.json", json.dumps(content))
    names, splits = read(root / "c")
    assert sorted(path for some in splits.values() for path, _ in some) == sorted((root / "c" / "pictures" / "1").iterdir())


@pytest.mark.parametrize("name, found", [
    ("D:\\x\\train\\1.png", "train/1.png"), ("/x/val/1.png", "val/1.png"), ("/x/VAL/1.png", "val/1.png"), ("1.png", None), ("/y/1.png", None),
    ("x/train/2.png", None),                                # there is only the one of the other list
    ("20240131-3.png", None), ("3.png", "train/20240132-3.png"),           # a date is no prefix of Label Studio
    ("1a2b3c4d-5.png", None), ("99999aaa-4.png", "val/4.png"), ("4.png", "val/4.png"), ("5.png", "train/aaaa1111-5.png")])
def test_which_of_several_images_is_meant(root, name, found):
    there = [image(root / path) for path in ("train/1.png", "val/1.png", "val/2.png", "train/20240132-3.png", "val/4.png", "train/aaaa1111-5.png")]
    found = None if name == "3.png" else found
    images = images_named(name, index_names(there), root)
    assert (images == [root / found]) if found else len(images) != 1


@pytest.mark.parametrize("spell", [str, float, lambda number: f"{number}.0", lambda number: f" {number}", lambda number: f"{number:08d}"])
@pytest.mark.parametrize("what", ["image_id", "category_id", "images", "categories"])
def test_coco_ids_are_one_however_they_are_written(root, spell, what):
    folder, content = make_coco(root / "c", splits=("train",)), coco_content(("train 0.png", "train 1.png"))
    expected = [(path.name, boxes(objects)) for some in read(folder)[1].values() for path, objects in some]
    for record in content.get(what, content["annotations"]):
        key = "id" if what in content else what
        record[key] = spell(record[key])
    text(folder / "annotations" / "instances_train2017.json", json.dumps(content))
    assert [(path.name, boxes(objects)) for some in read(folder)[1].values() for path, objects in some] == expected


def test_coco_list_without_annotations(root):
    """A test file without annotations costs only the test list; a train file stops."""
    folder = make_coco(root / "c", splits=("train", "val", "test"))
    file = folder / "annotations" / "instances_test2017.json"
    for gone in (KeyError, None, []):
        content = coco_content(("test 0.png", "test 1.png"))
        change("annotations", gone)(content)
        text(file, json.dumps(content))
        message, kinds = told(folder)
        assert kinds.count("part_without_labels") == 1 and set(kinds) == {"part_without_labels", "box_clipped"}
        assert "c/annotations/instances_test2017.json: the test list" in message
        assert [len(some) for some in read(folder)[1].values()] == [2, 2, 0]
    (folder / "annotations" / "instances_train2017.json").rename(folder / "annotations" / "instances_default.json")
    (folder / "annotations" / "instances_val2017.json").unlink()
    (folder / "train2017").rename(folder / "images")
    assert [len(some) for some in read(folder)[1].values()] == [1, 0, 1]


def test_coco_key_points_have_boxes(root, capsys):
    folder = make_coco(root / "c")
    expected = [boxes(objects) for some in read(folder)[1].values() for _, objects in some]
    for split in ("train", "val"):
        file = folder / "annotations" / f"instances_{split}2017.json"
        content = json.loads(file.read_text())
        for record in content["annotations"]:
            record["keypoints"] = [5, 5, 2] * 17
        text(file.with_name(f"person_keypoints_{split}2017.json"), json.dumps(content))
    assert [boxes(objects) for some in read(folder)[1].values() for _, objects in some] == expected and "key points" not in capsys.readouterr().out
    for file in folder.glob("annotations/instances*"):
        file.unlink()
    assert [boxes(objects) for some in read(folder)[1].values() for _, objects in some] == expected
    assert capsys.readouterr().out.count("its key points are left out") == 1


RUNS = {"size": [30, 40], "counts": [900, 15, 285]}                        # column 30, rows 0 to 14
LETTERS = {"size": [30, 40], "counts": "Tl0?m8"}                              # the same, COCO's letters


@pytest.mark.parametrize("record, box, kinds", [
    ({"bbox": None, "segmentation": RUNS}, (30, 0, 31, 15), []), ({"segmentation": RUNS}, (30, 0, 31, 15), []),
    ({"bbox": [], "segmentation": LETTERS}, (30, 0, 31, 15), []), ({"bbox": [0, 0, 0, 0], "segmentation": RUNS}, (30, 0, 31, 15), []),
    ({"bbox": None, "segmentation": {"size": [30, 40], "counts": [1200]}}, None, ["box_empty"]),
    ({"bbox": None, "segmentation": None}, None, ["box_empty"]), ({"bbox": None, "segmentation": [[]], "category_id": None}, None, ["box_empty"]),
    ({"bbox": [1, 2, 3, 4], "segmentation": None, "area": None, "iscrowd": None}, (1, 2, 4, 6), []),
    ({"bbox": [1, 2, 3, 4], "segmentation": {}}, (1, 2, 4, 6), []),
    ({"bbox": [1, 2, 3, 4], "segmentation": [[1, 2, 3, 4]]}, (1, 2, 4, 6), ["shape_flat"]),
    ({"segmentation": [[1, 2], [1, 2, 9, 2, 9, 9], []]}, (1, 2, 9, 9), ["shape_flat"]), ({"segmentation": [1, 2, 9, 2, 9, 9]}, (1, 2, 9, 9), []),
    ({"segmentation": [[1, 2], [9, 2], [9, 9]]}, (1, 2, 9, 9), []), ({"segmentation": [[1, 2, 3, 4]]}, None, ["shape_flat", "box_empty"]),
], ids=range(14))
def test_coco_boxes_and_outlines_that_are_missing(root, record, box, kinds):
    """What is missing is taken from the other; what is nothing costs only itself: the second object and the image are used."""
    content = coco_content(("train 0.png", "train 1.png"))
    content["annotations"][0] = {"id": 1, "image_id": 5, "category_id": 3, "iscrowd": 0} | record
    content["annotations"][1] |= {"bbox": [30, 20, 10, 10], "segmentation": [[30, 20, 40, 20, 40, 30]]}
    folder = make_coco(root / "c", content, splits=("train",))
    assert set(told(folder)[1]) - {"box_clipped"} == set(kinds)
    objects = next(truth for some in read(folder, findings=[])[1].values() for path, truth in some if path.name == "train 0.png")
    assert [thing["box"] for thing in objects] == [box] * (box is not None) + [(30, 20, 40, 30)]
    skipped = box == (1, 2, 4, 6)                           # a box without an outline has no mask
    assert sum(map(len, read(folder, "segmentation", findings=[])[1].values())) == 2 - skipped


@pytest.mark.parametrize("name", ["iscrowd", "ignore", "difficult"])
@pytest.mark.parametrize("value, difficult", [(1, True), (True, True), ("1", True), (1.0, True), (0, False), (None, False), ("false", False),
                                              (False, False)])
def test_coco_difficult(root, name, value, difficult):
    content = coco_content(("train 0.png", "train 1.png"))
    content["annotations"][0][name] = value
    folder = make_coco(root / "c", content, splits=("train",))
    assert [thing["difficult"] for thing in recognised(folder)] == [difficult, True]


def recognised(folder):
    return next(truth for some in read(folder)[1].values() for path, truth in some if path.name == "train 0.png")


def test_coco_corners_and_shares_are_asked_about(root):
    """Only if the other reading fits every box; else a box beyond its image is clipped, as ever."""
    for box, kind in (([12, 9, 36, 29], "size_is_corner"), ([0.2, 0.2, 0.5, 0.5], "shares_for_pixels")):
        content = coco_content(("train 0.png", "train 1.png"))
        content["annotations"] = [{"id": n, "image_id": 5, "category_id": 3, "bbox": [*box[:3], box[3] - n / 100]} for n in range(5)]
        folder = make_coco(root / kind, content, splits=("train",))
        assert kind in told(folder)[1]
        content["annotations"].append({"id": 9, "image_id": 5, "category_id": 3, "bbox": [20, 5, 8, 7]})
        text(folder / "annotations" / "instances_train2017.json", json.dumps(content))
        assert kind not in told(folder)[1]
