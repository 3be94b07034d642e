"""Masks on disk: utils.images.open_mask, utils/labels.py, and voc_annotation.py for segmentation."""
import hashlib
import os
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from utils import images, labels, lists
from utils.checks import prepare as preparing
from utils.errors import UserError
from utils.formats import voc_folder

VALUES = np.array([[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 254, 255], [1, 1, 1, 0, 0, 0]], np.uint8)
BITS = (VALUES > 3).astype(np.uint8)


def error_of(function, *arguments, **options):
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    return str(caught.value)


def fingerprints(folder):
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def grey(values=VALUES):
    return Image.fromarray(values)


def palette():
    image = Image.frombytes("P", VALUES.shape[::-1], VALUES.tobytes())
    image.putpalette([value for number in range(256) for value in (255 - number, number * 7 % 256, 3)])
    return image


def png(bits, kind, width, row, palette=b""):
    """The bytes of a PNG of one row; kind: 0 grey, 2 RGB, 3 palette, 4 grey and alpha."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, bits, kind, 0, 0, 0)), chunk(b"PLTE", palette) if palette else b"",
             chunk(b"IDAT", zlib.compress(b"\0" + row)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("name, make, options", [
    ("L.png", grey, {}), ("L.bmp", grey, {}), ("L.tif", grey, {}), ("P.png", palette, {}), ("P.bmp", palette, {}), ("P.tif", palette, {}),
    ("transparent.png", palette, {"transparency": 2}),
    ("LA.png", lambda: Image.merge("LA", [grey(), Image.new("L", VALUES.shape[::-1], 7)]), {}),
    ("RGB.png", lambda: Image.merge("RGB", [grey()] * 3), {}),
    ("RGBA.png", lambda: Image.merge("RGBA", [grey()] * 3 + [Image.new("L", VALUES.shape[::-1], 9)]), {}),
    ("I16.png", lambda: grey(VALUES.astype(np.uint16)), {}), ("I16.tif", lambda: grey(VALUES.astype(np.uint16)), {}),
    ("I.tif", lambda: grey(VALUES.astype(np.int32)), {}), ("F.tif", lambda: grey(VALUES.astype(np.float32)), {}),
])
def test_every_mode_gives_the_values_of_the_file(tmp_path, name, make, options):
    make().save(tmp_path / f"掩 码 {name}", **options)
    mask = images.open_mask(tmp_path / f"掩 码 {name}")
    assert mask.dtype == np.uint8 and mask.shape == VALUES.shape and (mask == VALUES).all()


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif"])
def test_masks_of_one_bit_hold_0_and_1(tmp_path, suffix):
    Image.fromarray(BITS * 255).convert("1").save(tmp_path / f"m.{suffix}")
    mask = images.open_mask(tmp_path / f"m.{suffix}")
    assert (mask == BITS * (mask.max())).all() and mask.max() == (255 if suffix == "gif" else 1)     # GIF has no mode of one bit


@pytest.mark.parametrize("bits, kind, row, expected", [
    (1, 0, b"\x50", [0, 1, 0, 1]), (2, 0, b"\x1b", [0, 1, 2, 3]), (4, 0, b"\x01\x2f", [0, 1, 2, 15]),
    (2, 3, b"\x1b", [0, 1, 2, 3]), (4, 3, b"\x01\x2f", [0, 1, 2, 15])])
def test_few_bits_are_not_stretched(tmp_path, bits, kind, row, expected):
    (tmp_path / "m.png").write_bytes(png(bits, kind, 4, row, bytes(range(48)) if kind == 3 else b""))
    assert images.open_mask(tmp_path / "m.png").tolist() == [expected]


@pytest.mark.parametrize("name, make", [("x.png", grey), ("p.png", palette), ("i16.png", lambda: grey(VALUES.astype(np.uint16))), ("x.tif", grey)])
def test_masks_are_turned_like_images(tmp_path, name, make):
    turned = {1: VALUES, 3: VALUES[::-1, ::-1], 6: np.rot90(VALUES, -1), 8: np.rot90(VALUES)}
    for orientation, expected in turned.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        make().save(tmp_path / name, exif=exif)
        mask = images.open_mask(tmp_path / name)
        assert mask.shape == expected.shape == images.image_size(tmp_path / name)[::-1] and (mask == expected).all(), orientation


def colour(root):
    Image.fromarray(np.array([[[0, 0, 0]] * 3 + [[60, 16, 152]] * 2, [[0, 0, 0]] * 4 + [[1, 2, 3]]], np.uint8)).save(root / "m.png")


@pytest.mark.parametrize("write, words", [
    (colour, ["m.png", "3 colours", "(0, 0, 0), (60, 16, 152), (1, 2, 3)", "one per pixel"]),
    (lambda root: grey().save(root / "m.png", "JPEG"), ["m.png", "JPEG", "PNG"]),
    (lambda root: grey().save(root / "m.png", "WEBP"), ["m.png", "WEBP", "PNG"]),
    (lambda root: grey().save(root / "m.png", "TIFF", compression="jpeg"), ["m.png", "compression"]),
    (lambda root: grey(VALUES.astype(np.uint16) * 2).save(root / "m.png"), ["m.png", "508", "2 pixels", "0 to 255"]),
    (lambda root: grey(VALUES.astype(np.int32) - 1).save(root / "m.png", "TIFF"), ["m.png", "-1"]),
    (lambda root: grey(VALUES.astype(np.float32) + 0.5).save(root / "m.png", "TIFF"), ["m.png", "0.5", "whole"]),
    (lambda root: (root / "m.png").write_bytes(png(16, 2, 1, b"\0\1\0\1\0\1")), ["m.png", "16 bits"]),
    (lambda root: (root / "m.png").write_bytes(png(16, 4, 1, b"\0\1\0\1")), ["m.png", "16 bits"]),
    (lambda root: (root / "m.png").write_bytes(b"<html>"), ["m.png", "not an image"]),
    (lambda root: (root / "m.png").write_bytes(b""), ["m.png", "empty"]),
    (lambda root: None, ["There is no mask", "m.png"]),
])
def test_what_is_no_mask_ends_in_a_sentence(root, write, words):
    write(root)
    message = error_of(images.open_mask, root / "m.png")
    assert all(word in message for word in words), message


def test_cut_off_masks(tmp_path):
    stream = np.random.default_rng(0)
    grey(stream.integers(0, 6, (90, 90), dtype=np.uint8)).save(tmp_path / "m.png")
    whole = (tmp_path / "m.png").read_bytes()
    for end in (30, len(whole) // 2, len(whole) * 9 // 10):
        (tmp_path / "m.png").write_bytes(whole[:end])
        assert "m.png" in error_of(images.open_mask, tmp_path / "m.png")


def test_table_of_labels():
    table = labels.label_table(["background", "a", "b"])
    assert table.dtype == np.uint8 and table.tolist() == [0, 1, 2] + [labels.UNKNOWN] * 252 + [255]
    assert labels.label_table(["a", "b"], [0])[:4].tolist() == [255, 0, 1, labels.UNKNOWN]            # what reduce_zero_label does
    assert labels.label_table(["a", "b", "c"], [1, 3, 255])[:6].tolist() == [0, 255, 1, 255, 2, labels.UNKNOWN]
    assert labels.label_table([f"c{i}" for i in range(254)])[[0, 253, 254, 255]].tolist() == [0, 253, labels.UNKNOWN, 255]
    assert labels.label_table([f"c{i}" for i in range(254)], [0])[[0, 1, 254]].tolist() == [255, 0, 253]
    for count, ignored in ((255, ()), (254, (0, 1)), (0, ())):
        assert f"{count} class names" in error_of(labels.label_table, [f"c{i}" for i in range(count)], ignored)
    for wrong in ([256], [-1], [0.5], ["0"], [True]):
        assert "ignore_labels" in error_of(labels.label_table, ["a"], wrong)


def test_table_for_people():
    assert labels.describe_labels(["背景", "cell"]) == "  0 -> 背景\n  1 -> cell\n255 -> ignored"
    assert labels.describe_labels(["a\u202eb", "b"], [0]).splitlines()[::3] == ["  0 -> ignored", "255 -> ignored"]
    assert "\u202e" not in labels.describe_labels(["a\u202eb"])


def test_labels_of_a_mask(root):
    grey(np.array([[0, 1, 2], [255, 2, 0]], np.uint8)).save(root / "m.png")
    found = labels.read_labels("m.png", labels.label_table(["x", "y"], [0]), (2, 3))
    assert found.dtype == np.uint8 and found.tolist() == [[255, 0, 1], [255, 1, 255]]
    table = labels.label_table(["background", "x"])
    message = error_of(labels.read_labels, "m.png", table)
    assert "m.png" in message and "2 (2 pixels)" in message and "0-1 and 255" in message
    message = error_of(labels.read_labels, "m.png", table, (4, 6))
    assert "3 x 2" in message and "6 x 4" in message and "EXIF" not in message
    assert "EXIF" in error_of(labels.read_labels, "m.png", table, (3, 2))
    grey(np.array([[0, 128]], np.uint8)).save(root / "n.png")
    assert "written as 128 instead of 1" in error_of(labels.read_labels, "n.png", table)
    grey(np.array([[0, 1]], np.uint8)).save(root / "n.png")
    assert "instead of" not in error_of(labels.read_labels, "n.png", labels.label_table(["square"]))


def test_lists(root):
    names = ["a b", "a,b 1,2,3,4,5", "图 片，一", "x.y", "#%'\"", "a\u3000b", "a\u2028b", "-rf"]
    pairs = [(root / "J P" / f"{name}.JPG", root / "掩 码" / f"{name}.png") for name in names] + [(root.parent / "out.jpg", root.parent / "out.png")]
    assert lists.write_mask_list("x_segmentation_train.txt", pairs) is None
    found = lists.read_mask_list("x_segmentation_train.txt")
    assert [(root / image, root / mask) for image, mask in zip(*found)] == pairs and found[0][0] == "J P/a b.JPG"
    assert lists.write_mask_list("x_segmentation_train.txt", pairs) is None
    assert lists.write_mask_list("x_segmentation_train.txt", pairs[:1]).name == "x_segmentation_train.txt.bak"
    for data in ("\ufeffa b.jpg\tm/a b.png\r\n\r\n".encode(), "a b.jpg\tm/a b.png \n".encode("gbk")):
        (root / "w.txt").write_bytes(data)
        assert lists.read_mask_list("w.txt") == (["a b.jpg"], ["m/a b.png"])
    assert "Rename" in error_of(lists.write_mask_list, "y.txt", [("a\tb.jpg", "a.png")])


@pytest.mark.parametrize("line", ["a.jpg", "a.jpg 1,2,3,4,0", "a.jpg b.png", "a.jpg\t", "\ta.png", "a.jpg\tb.png\tc.png", "a.jpg\tb", "a.txt\tb.png"])
def test_bad_lines_name_file_and_line(root, line):
    (root / "my list.txt").write_text(f"ok.jpg\tok.png\n\n{line}\n", encoding="utf-8")
    message = error_of(lists.read_mask_list, "my list.txt")
    assert "my list.txt, line 3" in message and ("detection list" in message) == (line in ("a.jpg", "a.jpg 1,2,3,4,0", "a.jpg b.png"))


def test_lists_that_are_not_there_or_empty(root):
    assert "voc_annotation.py" in error_of(lists.read_mask_list, "x.txt")
    (root / "x.txt").write_text("\n")
    assert "x.txt" in error_of(lists.read_mask_list, "x.txt")


def test_the_first_image_of_a_list(root):
    for text, expected in (("\n\na b.jpg 1,2,3,4,0\nc.jpg\n", "a b.jpg"), ("图 1.jpg\tm 1.png\r\n", "图 1.jpg")):
        (root / "x.txt").write_text(text, encoding="utf-8", newline="")
        assert lists.first_image("x.txt") == expected


def test_names_of_files():
    assert lists.list_name("VOCdevkit/VOC2012", "val", "segmentation") == "2012_segmentation_val.txt"
    assert lists.classes_name("VOCdevkit/Shapes", "segmentation") == "model_data/shapes_segmentation_classes.txt"


def make_dataset(folder, names="abcdef", values=(0, 1, 2), lists=None, size=(12, 9), suffix=".png"):
    """A tiny VOC folder for segmentation. values: those of every mask. lists: dict list name -> ids."""
    for part in ("JPEGImages", "SegmentationClass"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", size, (9, 90, 200)).save(folder / "JPEGImages" / f"{name}.jpg")
        mask = np.array([values[i % len(values)] for i in range(size[0] * size[1])], np.uint8).reshape(size[::-1])
        grey(mask).save(folder / "SegmentationClass" / f"{name}{suffix}")
    for list_name, ids in (lists or {}).items():
        path = folder / "ImageSets" / "Segmentation" / f"{list_name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes("".join(f"{name}\r\n" for name in ids).encode())
    return folder


def prepare(*arguments, **options):
    return preparing.prepare(*arguments, task="segmentation", **options)


def test_lists_of_a_folder(root, capsys):
    folder = make_dataset(root / "我的 set", ["a b", "图", "c", "d"], (0, 1, 1, 255), {"train": ["a b", "图"], "val": ["c"], "test": ["d"]})
    before = fingerprints(folder)
    classes, paths = prepare("我的 set")
    assert fingerprints(folder) == before
    assert (classes, paths["test"]) == ("model_data/我的 set_segmentation_classes.txt", "我的 set_segmentation_test.txt")
    assert lists.read_classes(classes) == ["background", "class_1"]
    assert (root / paths["train"]).read_text(encoding="utf-8").splitlines() == [
        f"我的 set/JPEGImages/{name}.jpg\t我的 set/SegmentationClass/{name}.png" for name in ("a b", "图")]
    text = capsys.readouterr().out
    assert "1 -> class_1" in text and "255 -> ignored" in text
    (row,) = [line.split() for line in text.splitlines() if line.strip().startswith("class_1")]
    assert row[1:] == ["66.7%", "in", "2", "66.7%", "in", "1", "66.7%", "in", "1"]
    (row,) = [line.split() for line in text.splitlines() if line.strip().startswith("not labelled")]
    assert row[2:5] == ["25.0%", "in", "2"]


def test_classes_file(root, capsys):
    make_dataset(root / "Set", values=(0, 1, 3))
    (root / "model_data").mkdir()
    (root / "model_data/set_classes.txt").write_text("cat\ndog\n")
    assert lists.read_classes(prepare("Set")[0]) == ["background", "class_1", "class_2", "class_3"]           # more than there are objects
    (root / "model_data/set_segmentation_classes.txt").unlink()
    (root / "model_data/set_classes.txt").write_text("cat\ndog\ncow\nhorse\n")
    assert lists.read_classes(prepare("Set")[0]) == ["background", "cat", "dog", "cow", "horse"]
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "horse" in line and "none to learn from" in line]
    assert "in 0" in line
    (root / "my.txt").write_text("cat\ndog\ncow\n")
    assert prepare("Set", "my.txt", ignore_labels=[0])[0] == "my.txt"
    assert "class names" in error_of(prepare, "Set", "none.txt")


def test_no_lists_are_made_and_kept(root):
    folder = make_dataset(root / "Set", "abcdefghij")
    before = fingerprints(folder)
    prepare("Set")
    made = fingerprints(root / "prepared")
    _, paths = prepare("Set", seed=5)
    assert fingerprints(root / "prepared") == made and fingerprints(folder) == before
    found = [name for path in paths.values() for name in lists.read_mask_list(path)[0]]
    assert sorted(found) == [f"Set/JPEGImages/{name}.jpg" for name in "abcdefghij"]
    prepare("Set", new_split=True, seed=5)
    assert (voc_folder.made_folder(folder, "segmentation") / "train.txt.bak").is_file()
    assert fingerprints(folder) == before


def test_empty_val_and_test_are_replaced(root, capsys):
    make_dataset(root / "Set", "ab", lists={"train": "ab", "val": ""})
    _, paths = prepare("Set")
    assert "WARNING: there are no val images" in capsys.readouterr().out
    assert len({(root / path).read_bytes() for path in paths.values()}) == 1


def test_folders_are_merged(root):
    make_dataset(root / "VOC2007", "abc", (0, 1), {"train": "a", "val": "b", "test": "c"})
    make_dataset(root / "VOC2012", "ad", (0, 2), {"train": "a", "val": "d"})
    classes, paths = prepare(["VOC2007", "VOC2012"])
    assert lists.read_mask_list(paths["train"]) == (["VOC2007/JPEGImages/a.jpg", "VOC2012/JPEGImages/a.jpg"],
                                                       ["VOC2007/SegmentationClass/a.png", "VOC2012/SegmentationClass/a.png"])
    assert lists.read_classes(classes) == ["background", "class_1", "class_2"]


def replace_mask(values, size=(12, 9)):
    def change(folder):
        grey(np.resize(np.array(values, np.uint8), size[::-1])).save(folder / "SegmentationClass/b.png")
    return change


def colour_mask(folder):
    stripes = np.zeros((9, 12, 3), np.uint8)
    stripes[::2] = (60, 16, 152)
    Image.fromarray(stripes).save(folder / "SegmentationClass/b.png")


@pytest.mark.parametrize("change, words", [
    (colour_mask, ["b.png", "colour picture with 2 colours", "fix_masks.py"]),
    (lambda folder: Image.new("L", (12, 9)).save(folder / "SegmentationClass/b.png", "JPEG"), ["b.png", "JPEG"]),
    (lambda folder: (folder / "SegmentationClass/b.png").write_bytes(b"<html>"), ["b.png", "not an image"]),
    (lambda folder: (folder / "JPEGImages/b.jpg").write_bytes(b"<html>"), ["b.jpg"]),
    (replace_mask([0, 1], (24, 18)), ["b.png", "24 x 18", "12 x 9", "fix_masks.py"]),
    (replace_mask([0, 1], (9, 12)), ["b.png", "9 x 12", "EXIF"]),
])
def test_what_is_no_mask_is_left_out(root, capsys, change, words):
    folder = make_dataset(root / "Set", lists={"train": "abcd", "val": "ef"})
    change(folder)
    before = fingerprints(folder)
    _, paths = prepare("Set")
    text = capsys.readouterr().out
    assert all(word in text for word in words) and "works without these" in text, text
    assert [name[-5] for name in lists.read_mask_list(paths["train"])[0]] == list("acd") and fingerprints(folder) == before


@pytest.mark.parametrize("change, words", [
    (replace_mask([0, 3]), ["b.png", "3 (54 pixels)", "0-2 and 255"]),
    (replace_mask([0, 128]), ["b.png", "written as 128 instead of 1", "fix_masks.py"]),
    (lambda folder: (folder / "SegmentationClass/b.png").unlink(), ["train.txt, line 2: b has no mask in SegmentationClass"]),
    (lambda folder: (folder / "ImageSets/Segmentation/val.txt").unlink(), ["val.txt", "val_set"]),
])
def test_mistakes_end_in_a_sentence_and_change_nothing(root, change, words):
    folder = make_dataset(root / "Set", lists={"train": "abcd", "val": "ef"})
    (root / "my.txt").write_text("background\nx\ny\n")
    change(folder)
    before = fingerprints(root)
    message = error_of(prepare, "Set", "my.txt")
    assert all(word in message for word in words), message
    assert fingerprints(root) == before


def test_all_broken_masks_are_named_at_once(root, capsys):
    folder = make_dataset(root / "Set", [f"{i:02d}" for i in range(30)])
    for number in range(12):
        (folder / f"SegmentationClass/{number:02d}.png").write_bytes(b"")
    prepare("Set")
    text = capsys.readouterr().out
    assert "not images, whatever their suffix: 12" in text and "00.png" in text and "09.png" in text and "10.png" not in text
    assert "2 more" in text


@pytest.mark.parametrize("values, words", [((0, 255), ["0 and 255", "1"]), ((0, 38, 75), ["0, 38 and 75"]), ((0, 128), ["0 and 128"]),
                                           ((255,), ["255"])])
def test_values_that_are_no_class_numbers(root, values, words):
    make_dataset(root / "Set", values=values)
    message = error_of(prepare, "Set")
    assert all(word in message for word in words), message
    assert not (root / "model_data").exists() and not list(root.glob("*.txt"))


def test_masks_of_0_and_255_with_a_classes_file(root):
    make_dataset(root / "Set", values=(0, 255))
    (root / "my.txt").write_text("background\nnucleus\n")
    assert "255" in error_of(prepare, "Set", "my.txt")


def test_layout(root, capsys):
    folder = make_dataset(root / "Set", suffix=".jpg")
    message = error_of(prepare, "Set")
    assert "✓ 6 images" in message and "✗ no masks" in message and "6 .jpg files" in message and "ImageSets/Segmentation" in message
    make_dataset(folder, "abc")
    prepare("Set")
    text = capsys.readouterr().out
    assert "in a lossy format (JPEG, WebP), which changes class numbers: 6" in text and "Set/SegmentationClass/a.jpg" in text
    assert "3 labelled images" in text and "Images without a label" not in text
    (root / "Empty/JPEGImages").mkdir(parents=True)
    assert "there is no such folder" in error_of(prepare, "Empty")
    Image.new("L", (4, 4)).save(root / "Empty/JPEGImages/a.jpg")
    (root / "Empty/Annotations").mkdir()
    (root / "Empty/Annotations/a.xml").write_text("<annotation/>")
    assert "dataset for detection" in error_of(prepare, "Empty")


def test_tasks_of_a_folder(root):
    folder = make_dataset(root / "Set")
    assert preparing.tasks_of("Set") == ["segmentation"]
    (folder / "Annotations").mkdir()
    (folder / "Annotations/a.xml").write_text("<annotation/>")
    assert preparing.tasks_of("Set") == preparing.tasks_of(["Set"]) == ["detection", "segmentation"]
    assert preparing.tasks_of("Nothing") == ["detection"]


def test_train_makes_and_follows_its_lists(root, capsys):
    make_dataset(root / "VOCdevkit/Set")
    given = dict.fromkeys(("classes_path", "train_list", "val_list", "test_list"))
    found = preparing.current_lists("VOCdevkit/Set", given, "segmentation")
    assert found == {"classes_path": "model_data/set_segmentation_classes.txt",
                     **{f"{split}_list": f"Set_segmentation_{split}.txt" for split in ("train", "val", "test")}}
    train, classes = root / found["train_list"], root / found["classes_path"]
    first = train.read_bytes()
    capsys.readouterr()
    later = max(path.stat().st_mtime for path in root.rglob("*")) + 10
    for split in ("train", "val", "test"):
        os.utime(root / found[f"{split}_list"], (later, later))
    preparing.current_lists("VOCdevkit/Set", given, "segmentation")
    assert capsys.readouterr().out == "" and train.read_bytes() == first
    os.utime(classes, (later + 5, later + 5))
    preparing.current_lists("VOCdevkit/Set", given, "segmentation")
    assert "are made anew" in capsys.readouterr().out
    os.utime(root / "VOCdevkit/Set/SegmentationClass", (later + 9, later + 9))
    os.utime(classes, (1, 1))
    preparing.current_lists("VOCdevkit/Set", given, "segmentation")
    assert "NOTE: files came or went" in capsys.readouterr().out
    train.write_bytes(first.replace(b"VOCdevkit/Set/", b"VOCdevkit/Elsewhere/"))
    preparing.current_lists("VOCdevkit/Set", given, "segmentation")
    assert "another folder" in capsys.readouterr().out and train.read_bytes() == first and list(root.glob("*.bak"))


def test_order_of_creation_does_not_matter(root):
    names = [f"{i}" for i in range(10)]
    make_dataset(root / "A", names)
    make_dataset(root / "B", random.Random(0).sample(names, 10))
    prepare("A")
    prepare("B")
    assert [(root / f"A_segmentation_{split}.txt").read_text().replace("A/", "B/") for split in ("train", "val", "test")] == [
        (root / f"B_segmentation_{split}.txt").read_text() for split in ("train", "val", "test")]
