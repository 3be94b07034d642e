"""utils/lists.py and voc_annotation.py: VOC folders -> splits and list files."""
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils import images, lists, settings
from utils.checks import prepare
from utils.errors import UserError
from utils.findings import as_error
from utils.formats import voc_folder, voc_xml
from utils.formats.objects import SPOILING
from utils.system import files

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = ["a b", "a.b", "a,b", "图 片，一", "x 1,2,3,4,5", "1,2,3,4,5", "[c] (1)", "dots..", "é€", "a\u3000b", "a\u2028b", "#%&'\"", "-rf"]


def parse_xml(path, *size):
    """The objects of an annotation; the first fault that makes them useless is an error."""
    objects, findings = voc_xml.read_annotation(path, *size)
    spoiling = [finding for finding in findings if finding.kind in SPOILING]
    if spoiling:
        raise as_error(spoiling[0])
    return objects


def xml_text(objects, size=(40, 30), head=""):
    """objects: list of (name, (xmin, ymin, xmax, ymax), difficult or None)."""
    body = ""
    for name, box, hard in objects:
        corners = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), box))
        hard = "" if hard is None else f"<difficult>{hard}</difficult>"
        body += f"<object><name>{name}</name>{hard}<bndbox>{corners}</bndbox></object>"
    return f"{head}<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{body}</annotation>"


def make_dataset(folder, names, lists=None, objects=(("cat", (1, 2, 10, 20), 0),), size=(40, 30)):
    """A tiny VOC folder; `names` are file names of images. Returns folder."""
    for part in ("JPEGImages", "Annotations"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name in names:
        path = folder / "JPEGImages" / name
        kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF"}.get(path.suffix.lower(), path.suffix[1:].upper())
        Image.new("RGB", size, (9, 90, 200)).save(path, format=kind)
        (folder / "Annotations" / (path.stem + ".xml")).write_text(xml_text(objects, size), encoding="utf-8")
    for list_name, ids in (lists or {}).items():
        path = folder / "ImageSets" / "Main" / f"{list_name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\n" for name in ids), encoding="utf-8")
    return folder


def write_xml(tmp_path, data):
    path = tmp_path / "数据 1.xml"
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def error_of(function, *arguments, **options):
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize("n", range(13))
def test_split_of_small_sets(n):
    stems = [f"s{i}" for i in range(n)]
    for trainval_percent in (0.05, 0.5, 0.9, 0.99, 1.0):
        for train_percent in (0.05, 0.5, 0.9, 0.99, 1.0):
            sets = voc_folder.make_split(stems, trainval_percent, train_percent, seed=n)
            train, val, test = (sets[name] for name in ("train", "val", "test"))
            assert sorted(train + val + test) == sorted(stems)             # disjoint and complete
            assert sets["trainval"] == sorted(train + val)
            assert all(sets[name] == sorted(sets[name]) for name in sets)
            assert bool(train) == (n >= 1)
            assert bool(test) == (n >= 2 and trainval_percent < 1)
            if trainval_percent < 1:
                assert bool(val) == (n >= 3 and train_percent < 1)


def test_split_sizes_seed_and_order():
    stems = [f"{i:03d}" for i in range(100)]
    sets = voc_folder.make_split(stems)
    assert [len(sets[name]) for name in voc_folder.SPLITS] == [90, 81, 9, 10]
    mixed = random.Random(5).sample(stems, 100)
    assert voc_folder.make_split(mixed) == sets
    assert voc_folder.make_split(stems, seed=1) != sets
    assert "0.9" in error_of(voc_folder.make_split, stems, 0) and "90" in error_of(voc_folder.make_split, stems, train_percent=90)


def test_split_does_not_depend_on_creation_order(root):
    names = [f"{c}.jpg" for c in "kbxamzeq"]
    for folder, order in (("A", names), ("B", names[::-1])):
        make_dataset(root / folder, order)
        prepare.prepare(folder)
    made = [tree(voc_folder.made_folder(root / folder, "detection")) for folder in "AB"]
    assert [some.pop(voc_folder.RECORD) != b"" for some in made] == [True, True]
    assert made[0] == made[1] and len(made[0]) == 4


def test_own_lists_are_respected(root, capsys):
    given = {"train": ["a", "b"], "val": ["c"], "trainval": ["a", "b", "c"], "test": ["d"]}
    folder = make_dataset(root / "VOC2007", [f"{c}.jpg" for c in "abcde"], given)
    before = tree(folder)
    classes, paths = prepare.prepare("VOC2007")
    assert tree(folder) == before
    assert (classes, paths) == ("model_data/2007_classes.txt", {s: f"2007_{s}.txt" for s in ("train", "val", "test")})
    assert lists.read_list(paths["train"])[0] == ["VOC2007/JPEGImages/a.jpg", "VOC2007/JPEGImages/b.jpg"]
    assert lists.read_list(paths["test"])[0] == ["VOC2007/JPEGImages/d.jpg"]
    assert "Labelled images in no list: 1" in capsys.readouterr().out


@pytest.mark.parametrize("given, added", [
    ({"trainval": "fedcba", "test": "gh"}, ["train", "val"]),
    ({"test": "gh"}, ["trainval", "train", "val"]),
    ({"trainval": "abcdefgh"}, ["train", "val"]),
])
def test_missing_division_is_made_and_given_lists_stay(root, given, added):
    folder = make_dataset(root / "Set", [f"{c}.jpg" for c in "abcdefgh"], given)
    before = tree(folder)
    prepare.prepare("Set")
    assert tree(folder) == before
    made = voc_folder.made_folder(folder, "detection")
    assert set(tree(made)) == {voc_folder.RECORD, *(f"{name}.txt" for name in added)}
    train, val, both = (voc_folder.read_ids(voc_folder.set_file(folder, name)) for name in ("train", "val", "trainval"))
    assert train and val and sorted(train + val) == sorted(both)
    assert sorted(train + val) == sorted(given.get("trainval", "abcdef"))


def test_train_without_val_asks_the_user(root):
    make_dataset(root / "Set", ["a.jpg", "b.jpg", "c.jpg"], {"train": "ab", "test": "c"})
    message = error_of(prepare.prepare, "Set")
    assert "val.txt" in message and "list_missing" in message and "val_set" in message and "new_split" in message
    before = tree(root / "Set")
    prepare.prepare("Set", val_set="test")
    assert tree(root / "Set") == before


def test_val_set_test_warns(root, capsys):
    make_dataset(root / "Set", ["a.jpg", "b.jpg", "c.jpg"], {"trainval": "ab", "train": "a", "val": "b", "test": "c"})
    _, paths = prepare.prepare("Set", train_set="trainval", val_set="test")
    assert len(lists.read_list(paths["train"])[0]) == 2
    assert lists.read_list(paths["val"])[0] == lists.read_list(paths["test"])[0]
    assert "chosen on the test set" in capsys.readouterr().out


def test_lists_that_overlap_are_told(root, capsys):
    make_dataset(root / "Set", ["a.jpg", "b.jpg", "c.jpg"], {"train": "ab", "val": "bc", "test": "c"})
    prepare.prepare("Set")
    text = capsys.readouterr().out
    assert "Images in both the train and the val list" in text and "val.txt, line 1: b" in text
    assert "Images of the test list in train or val too" in text and "test.txt, line 1: c" in text


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_images(root, capsys, n):
    make_dataset(root / "Set", [f"{i}.jpg" for i in range(n)])
    for _ in range(2):                                      # the second time the lists are there
        _, paths = prepare.prepare("Set")
        read = {split: lists.read_list(path)[0] for split, path in paths.items()}
        assert len(read["train"]) == 1 and read["val"] == read["train"] and (read["test"] != read["train"]) == (n == 2)
        assert "WARNING: there are no val images, so the train images are used" in capsys.readouterr().out


def test_new_split_keeps_old_lists(root):
    old = {"train": "abcd", "val": "e", "trainval": "abcde", "test": "f", "mine": "a"}
    folder = make_dataset(root / "Set", [f"{c}.jpg" for c in "abcdef"], old)
    main = folder / "ImageSets/Main"
    before = {name: (main / f"{name}.txt").read_bytes() for name in old}
    for seed in range(6):
        prepare.prepare("Set", new_split=True, seed=seed)
    assert {path.stem: path.read_bytes() for path in main.iterdir()} == before
    made = voc_folder.made_folder(folder, "detection")
    assert (made / "test.txt.bak").exists() and (made / "test.txt.2.bak").exists()
    prepare.prepare("Set", train_set="mine", new_split=True, seed=5)
    assert lists.read_list("Set_train.txt")[0] == ["Set/JPEGImages/a.jpg"]


def test_bak_rules(root):
    path = root / "x_train.txt"
    assert files.replace_text(path, "1\n") is None and files.replace_text(path, "1\n") is None
    assert files.replace_text(path, "2\n").name == "x_train.txt.bak"
    assert files.replace_text(path, "3\n").name == "x_train.txt.2.bak"
    assert files.replace_text(path, "4\n").name == "x_train.txt.3.bak"
    assert tree(root) == {"x_train.txt": b"4\n", "x_train.txt.bak": b"1\n", "x_train.txt.2.bak": b"2\n", "x_train.txt.3.bak": b"3\n"}


def test_a_failing_write_leaves_the_old_file(root, monkeypatch):
    path = root / "x_train.txt"
    files.write_text(path, "old\n")
    with pytest.raises(UserError, match="not valid text"):
        files.write_text(path, "new \ud800\n")

    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(lists.os, "replace", full)
    assert "No space left" in error_of(files.write_text, path, "new\n")
    assert tree(root) == {"x_train.txt": b"old\n"}


def test_merge_07_and_12(root):
    make_dataset(root / "VOCdevkit/VOC2007", ["a.jpg", "b.jpg", "c.jpg"], {"train": "a", "val": "b", "test": "c"})
    make_dataset(root / "VOCdevkit/VOC2012", ["a.jpg", "d.PNG"], {"train": "a", "val": "d"}, objects=[("dog", (1, 1, 9, 9), 0)])
    classes, paths = prepare.prepare(["VOCdevkit/VOC2007", "VOCdevkit/VOC2012"])
    assert paths["train"] == "2007_train.txt" and lists.read_classes(classes) == ["cat", "dog"]
    names, boxes = lists.read_list(paths["train"])
    assert names == ["VOCdevkit/VOC2007/JPEGImages/a.jpg", "VOCdevkit/VOC2012/JPEGImages/a.jpg"]
    assert [int(b[0, 4]) for b in boxes] == [0, 1]
    assert lists.read_list(paths["val"])[0] == ["VOCdevkit/VOC2007/JPEGImages/b.jpg", "VOCdevkit/VOC2012/JPEGImages/d.PNG"]
    assert lists.read_list(paths["test"])[0] == ["VOCdevkit/VOC2007/JPEGImages/c.jpg"]


def test_every_name_and_suffix(root):
    names = [f"{stem}.jpg" for stem in NAMES] + ["up.PNG", "up2.JPEG", "b.bmp", "w.WebP", "t.tif", "g.gif"]
    folder = make_dataset(root / "我的 set", names)
    for junk in (".hidden.jpg", "._up.PNG", "Thumbs.db", "notes.txt"):
        (folder / "JPEGImages" / junk).write_bytes(b"junk")
    (folder / "JPEGImages" / "folder.jpg").mkdir()
    assert [path.name for path in voc_folder.find_images(folder / "JPEGImages").values()] == sorted(names)
    _, paths = prepare.prepare("我的 set")
    found = [name for path in paths.values() for name in lists.read_list(path)[0]]
    assert sorted(found) == sorted(f"我的 set/JPEGImages/{name}" for name in names)
    assert all(settings.find(name).is_file() for name in found)
    _, again = prepare.prepare("我的 set")               # now from the ImageSets lists
    assert [name for path in again.values() for name in lists.read_list(path)[0]] == found and not list(root.glob("*.bak"))


def test_stems(tmp_path):
    make_dataset(tmp_path, ["a.b.jpg", "a.c.jpg"])
    assert list(voc_folder.find_images(tmp_path / "JPEGImages")) == ["a.b", "a.c"]
    make_dataset(tmp_path, ["a.b.PNG"])
    message = error_of(voc_folder.find_images, tmp_path / "JPEGImages")
    assert "a.b.jpg" in message and "a.b.PNG" in message


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "..", ".", "a/x", "..\\x", "C:x", "C:\\x", "a\x00b", "\x1b[2J"])
def test_ids_must_be_plain_names(root, name):
    folder = make_dataset(root / "Set", ["a.jpg", "b.jpg"], {"train": ["a", name], "val": "b"})
    message = error_of(prepare.prepare, "Set")
    assert "train.txt, line 2" in message and "not plain names" in message and "\x1b" not in message
    assert sorted(p.name for p in root.iterdir()) == ["Set"] and folder.exists()


def test_ids_of_windows_editors(root):
    folder = make_dataset(root / "Set", ["图像 1.jpg", "b.jpg", "c.jpg"], {"val": "b", "test": "c"})
    line = "图像 1\r\n"
    for data in (f"\ufeff{line}\r\n".encode(), line.encode("gbk"), f"\ufeff{line}".encode("utf-16-le"), f"{line} \n{line}".encode()):
        (folder / "ImageSets/Main/train.txt").write_bytes(data)
        prepare.prepare("Set")
        assert lists.read_list("Set_train.txt")[0] == ["Set/JPEGImages/图像 1.jpg"]


def test_ids_without_image_or_xml(root):
    lost = [f"lost{i:02d}" for i in range(12)]
    folder = make_dataset(root / "Set", ["a.jpg", "b.jpg"], {"train": ["a", *lost], "val": "b"})
    message = error_of(prepare.prepare, "Set")
    assert "Names in a list without an image: 12" in message and "train.txt, line 2: lost00" in message and "lost09" in message
    assert "lost10" not in message and "and 2 more" in message
    make_dataset(folder, [], {"train": "a", "val": "b", "test": "b"})
    (folder / "Annotations/b.xml").unlink()
    message = error_of(prepare.prepare, "Set")
    assert "val.txt, line 1: b has no xml file in Annotations" in message and not list(root.glob("*.txt"))


def test_unlabelled_and_negative_images(root, capsys):
    folder = make_dataset(root / "Set", [f"{c}.jpg" for c in "abcdef"])
    (folder / "Annotations/a.xml").unlink()                  # unlabelled
    (folder / "JPEGImages/b.jpg").unlink()                   # an xml alone
    (folder / "Annotations/c.xml").write_text("<annotation/>")
    _, paths = prepare.prepare("Set")
    text = capsys.readouterr().out
    assert "Images without a label: 1" in text and "Labels without an image: 1" in text and "Set/JPEGImages/a.jpg" in text
    read = [pair for path in paths.values() for pair in zip(*lists.read_list(path))]
    assert sorted(name[-5:] for name, _ in read) == ["c.jpg", "d.jpg", "e.jpg", "f.jpg"]
    assert all(boxes.shape == ((0, 6) if name.endswith("c.jpg") else (1, 6)) for name, boxes in read)
    counts = dict(line.rsplit(None, 3)[:2] for line in text.splitlines() if line.startswith(("images", "  without")))
    assert set(counts) == {"images", "  without objects"}


def test_image_size_follows_exif(tmp_path):
    for suffix in ("jpg", "png", "tif", "webp"):
        for orientation in range(1, 9):
            exif = Image.Exif()
            exif[0x0112] = orientation
            Image.new("RGB", (40, 30)).save(tmp_path / f"x.{suffix}", exif=exif)
            assert images.image_size(tmp_path / f"x.{suffix}") == ((30, 40) if orientation > 4 else (40, 30)), (suffix, orientation)
    Image.new("RGB", (40, 30)).save(tmp_path / "plain.png")
    assert images.image_size(tmp_path / "plain.png") == (40, 30)
    (tmp_path / "page.jpg").write_text("<html>")
    assert "page.jpg" in error_of(images.image_size, tmp_path / "page.jpg")


def test_one_based_to_edges_difficult_and_clipping(tmp_path):
    path = write_xml(tmp_path, xml_text([("a", (1, 1, 40, 30), 0), ("b", (12.5, 3, 20, 8.25), 1),
                                         ("c", (-4, 8, 60, 59), None), ("d", (5, 5, 5, 5), "")]))
    plain = parse_xml(path)
    assert [o["box"] for o in plain] == [(0, 0, 40, 30), (11.5, 2, 20, 8.25), (-5, 7, 60, 59)]           # d has no size
    assert [o["difficult"] for o in plain] == [False, True, False] and [o["name"] for o in plain] == list("abc")
    assert parse_xml(path, 40, 30)[2]["box"] == (0, 7, 40, 30)


def test_repairs_are_told(tmp_path):
    path = write_xml(tmp_path, xml_text([("a", (20, 5, 3, 9), 0), ("b", (3, 28, 20, 5), 0), ("c", (41, 1, 60, 9), 0), ("d", (7.5, 1, 7.2, 9), 0),
                                         ("e", (-30, 1, 9, 9), 0), ("f", (-35, 1, 8, 9), 0), ("g", (0, 0, 41, 31), 0),
                                         ("g", (0, 0, 41, 31), 0)], (30, 40)))
    objects, findings = voc_xml.read_annotation(path, 40, 30)
    assert [o["box"] for o in objects] == [(2, 4, 20, 9), (2, 4, 20, 28), (6.2, 0, 7.5, 9), (0, 0, 9, 9), (0, 0, 40, 30), (0, 0, 40, 30)]
    assert [(f.kind, f.line) for f in findings] == [("size_turned", None), ("corner_is_size", 1), ("box_swapped", 1), ("box_outside", 1),
                                                    ("corner_is_size", 1), ("box_clipped", 1), ("box_outside", 1), ("box_twice", 1)]
    for told, expected in (("40.0", []), ("0", []), ("80", ["size_wrong"]), ("x", [])):
        assert [f.kind for f in voc_xml.read_annotation(write_xml(tmp_path, xml_text([], (told, 30))), 40, 30)[1]] == expected, told


def test_lines_of_faults(tmp_path):
    text = xml_text([("a", (1, 1, 9, 9), 0), ("b", (1, 1, "nan", 9), 0), ("c", (5, 5, 5, 9), 0)], head="<?xml version='1.0'?>\n")
    text = text.replace("<object>", "\n<object>\n")
    for data in (text.encode(), text.encode("utf-16"), text.replace("\n", "\r\n").encode("gbk")):
        findings = voc_xml.read_annotation(write_xml(tmp_path, data), 40, 30)[1]
        assert [(f.kind, f.line) for f in findings] == [("bad_number", 5), ("box_empty", 7)]


@pytest.mark.parametrize("encoding, declared", [
    *[(encoding, declared) for declared in (True, False)
      for encoding in ("utf-8", "utf-8-sig", "gbk", "gb2312", "gb18030", "utf-16", "utf-16-le", "utf-16-be", "utf-32")], ("big5", True)])
def test_xml_encodings(tmp_path, encoding, declared):
    name = "貓" if encoding == "big5" else "黑猫 2"
    head = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>\n' if declared else ""
    path = write_xml(tmp_path, xml_text([(name, (1, 1, 9, 9), 0)], head=head).encode(encoding))
    assert parse_xml(path)[0]["name"] == name


@pytest.mark.parametrize("declared, saved", [("utf-16", "utf-8"), ("utf-8", "gbk"), ("ascii", "utf-8"), ("none", "utf-8"), ("none", "gbk")])
def test_xml_with_a_false_declaration(tmp_path, declared, saved):
    text = xml_text([("黑猫", (1, 1, 9, 9), 0)], head=f"<?xml version='1.0' encoding='{declared}'?>")
    assert parse_xml(write_xml(tmp_path, text.encode(saved)))[0]["name"] == "黑猫"


@pytest.mark.parametrize("text", ["0", "1", "0.0", "1.0", "true", "False", "Unspecified", "", " 1 "])
def test_difficult_spellings(tmp_path, text):
    (found,) = parse_xml(write_xml(tmp_path, xml_text([("a", (1, 1, 9, 9), text)])))
    assert found["difficult"] is (text.strip() in ("1", "1.0", "true"))


@pytest.mark.parametrize("old, new, words", [
    ("<name>a</name>", "", "object 1: <name>"),
    ("<name>a</name>", "<name> </name>", "object 1: <name>"),
    ("<xmin>1</xmin>", "", "object 1 (a): <bndbox> has no <xmin>"),
    ("<ymax>9</ymax>", "<ymax></ymax>", "object 1 (a): <ymax> is ''"),
    ("bndbox", "robndbox", "object 1 (a): <bndbox> is missing; convert its <robndbox>"),
    ("bndbox", "other", "object 1 (a): <bndbox> is missing)"),
    ("<difficult>0", "<difficult>2", "<difficult> is '2'"),
    ("</annotation>", "", "not complete XML"),
    ("annotation", "doc", "outermost tag is <doc>"),
    ("</annotation>", "<!ENTITY b 'c'></annotation>", "ENTITY"),
    ("<annotation>", "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>", "DOCTYPE"),
    *[("<xmin>1<", f"<xmin>{bad}<", f"<xmin> is {bad!r}")
      for bad in ("nan", "inf", "-inf", "12,5", "１２", "1_0", "abc", "1e9", "0x10", "1 2", "--1")],
])
def test_bad_xml_names_file_object_and_tag(tmp_path, old, new, words):
    text = xml_text([("a", (1, 1, 9, 9), 0)])
    assert old in text
    message = error_of(parse_xml, write_xml(tmp_path, text.replace(old, new)))
    assert "数据 1.xml" in message and words in message


def test_bad_xml_bytes(tmp_path):
    good = xml_text([("a", (1, 1, 9, 9), 0)]).encode()
    for end in range(0, len(good) - 1, 7):                   # cut off anywhere
        assert "数据 1.xml" in error_of(parse_xml, write_xml(tmp_path, good[:end]))
    assert "is empty" in error_of(parse_xml, write_xml(tmp_path, b" \n"))
    assert "5 MB" in error_of(parse_xml, write_xml(tmp_path, b" " * 5_000_001))
    assert "DOCTYPE" in error_of(parse_xml, write_xml(tmp_path, "<!DOCTYPE x><annotation/>".encode("utf-16")))
    assert "line 3" in error_of(parse_xml, write_xml(tmp_path, b"<?xml version='1.0'?>\n\n<annotation><a></annotation>"))
    assert parse_xml(write_xml(tmp_path, b"\n <?xml version='1.0'?><annotation><part/></annotation>")) == []


def test_broken_files_are_left_out_and_named_at_once(root, capsys):
    folder = make_dataset(root / "Set", [f"{c}.jpg" for c in "abcdef"])
    (folder / "Annotations/b.xml").write_text("")
    (folder / "JPEGImages/d.jpg").write_text("<html>")
    _, paths = prepare.prepare("Set")
    text = capsys.readouterr().out
    assert "Set/Annotations/b.xml" in text and "Set/JPEGImages/d.jpg" in text and text.count("works without these]") == 2
    assert sorted(name[-5] for path in paths.values() for name in lists.read_list(path)[0]) == list("acef")
    for letter in "acef":
        (folder / f"Annotations/{letter}.xml").write_text("<a>")
    before = tree(root)
    message = error_of(prepare.prepare, "Set")
    assert "Nothing is left" in message and tree(root) == before


def test_read_classes(root):
    path = root / "model_data/c.txt"
    path.parent.mkdir()
    for text in ("cat\ndog", "\ufeffcat\r\ndog\r\n", " cat \ndog\t\n\n \n"):
        path.write_bytes(text.encode())
        assert lists.read_classes("model_data/c.txt") == ["cat", "dog"]
    path.write_bytes("交通灯\ntraffic  light\n".encode("gbk"))
    assert lists.read_classes(path) == ["交通灯", "traffic light"]
    for text, words in (("cat\n\ndog\n", "line 2: A blank line"), ("cat\ndog\n cat\n", '"cat" is already in line 1'), ("\n", "empty")):
        path.write_text(text)
        message = error_of(lists.read_classes, path)
        assert "model_data/c.txt" in message and words in message
    message = error_of(lists.read_classes, "model_data/d.txt")
    assert "model_data/d.txt" in message and 'Did you mean "model_data/c.txt"?' in message


def test_unknown_class(root, capsys):
    make_dataset(root / "Set", ["a.jpg", "b.jpg", "c.jpg"], objects=[("doog", (1, 1, 9, 9), 1), ("cat", (1, 1, 9, 9), 0)])
    (root / "my.txt").write_text("dog\ncat\n")
    message = error_of(prepare.prepare, "Set", "my.txt")
    assert "Set/Annotations/a.xml" in message and '"doog", 3 objects in all. Did you mean "dog"?' in message and '"cat"' not in message
    assert not (root / "Set_train.txt").exists()
    assert "file of class names is missing" in error_of(prepare.prepare, "Set", "other.txt")
    classes, paths = prepare.prepare("Set")
    assert lists.read_classes(classes) == ["cat", "doog"] and "cat 3, doog 3" in capsys.readouterr().out
    (root / classes).write_text("doog\ncat\nbird\n")             # the user's order
    prepare.prepare("Set")
    assert (root / classes).read_text() == "doog\ncat\nbird\n"
    assert lists.read_list(paths["train"])[1][0].tolist() == [[0, 0, 9, 9, 0, 1], [0, 0, 9, 9, 1, 0]]
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("bird")]
    assert row.split()[1:4] == ["0", "0", "0"] and "none" in row


def test_no_objects_at_all(root):
    make_dataset(root / "Set", ["a.jpg", "b.jpg", "c.jpg"], objects=[])
    (root / "my.txt").write_text("cat\n")
    for words in (["Set"], ["Set", "my.txt"]):
        assert "There is no object to learn from" in error_of(prepare.prepare, *words)
    assert not (root / "model_data").exists()


def test_names_that_steer_a_terminal_are_shown_harmlessly(root, capsys):
    make_dataset(root / "Set", ["a.jpg", "b.jpg", "c.jpg"], objects=[("a\u202eb", (1, 1, 9, 9), 0)])
    prepare.prepare("Set")
    assert "\u202e" not in capsys.readouterr().out


def test_table(root, capsys):
    lists = {"train": "ab", "val": "c", "test": "d"}
    objects = [("猫", (1, 1, 9, 9), 0), ("猫", (1, 1, 9, 9), 1), ("b", (1, 1, 9, 9), 0)]
    make_dataset(root / "Set", ["a.jpg", "b.jpg", "c.jpg", "d.jpg"], lists, objects)
    prepare.prepare("Set")
    rows = [line.rsplit(None, 3) for line in capsys.readouterr().out.splitlines()]
    for row in (["images", "2", "1", "1"], ["  without objects", "0", "0", "0"], ["boxes", "6", "3", "3"], ["  difficult", "2", "1", "1"],
                ["    猫", "4", "2", "2"], ["    b", "2", "1", "1"]):
        assert row in rows


def test_list_names():
    assert lists.list_name("VOCdevkit/VOC2007", "train") == "2007_train.txt"
    assert lists.list_name("VOCdevkit/Shapes/", "val") == "Shapes_val.txt"
    assert lists.list_name(["VOCdevkit/VOC2012", "VOCdevkit/VOC2007"], "test") == "2012_test.txt"
    assert lists.list_name("VOCdevkit/VOC", "test") == "VOC_test.txt"
    assert lists.classes_name("VOCdevkit/Shapes") == "model_data/shapes_classes.txt"
    assert lists.classes_name("/data/VOC_Cats and 狗") == "model_data/cats and 狗_classes.txt"


def test_list_round_trip(root):
    random_names = random.Random(0)
    letters = [chr(c) for c in range(32, 0x2FFF) if chr(c).isprintable() and chr(c) not in "/\\"] + list("  ,,,0123456789--")
    names = [*NAMES, " lead", "trail ", *("".join(random_names.choices(letters, k=random_names.randint(1, 30))) for _ in range(300))]
    folders = [root, root / "JPEG Images 1,2,3,4,5", root.parent / "外 面, 2"]
    suffixes = [".jpg", ".JPG", ".png", ".webp", ".Tiff"]
    records = []
    for number, name in enumerate(names):
        rows = [(number * .25, 1.5, number * .25 + 7, 1000.01, number % 80, number % 2), (0, 0, 1, 1, 0, 0), (-3.5, 2, 640, 480, 7, 1)]
        records.append((folders[number % 3] / (name + suffixes[number % 5]), np.array(rows[:number % 4], np.float32).reshape(-1, 6)))
    assert lists.write_list("x_train.txt", records) is None
    paths, boxes = lists.read_list("x_train.txt")
    assert len(paths) == len(records)
    for path, box, (image, rows) in zip(paths, boxes, records):
        assert settings.ROOT / path == image and box.dtype == np.float32 and box.shape == rows.shape and (box == rows).all()
        assert os.path.isabs(path) == ("外 面" in str(image)) and "\\" not in path
    assert lists.write_list("x_train.txt", zip(paths, boxes)) is None      # the same bytes again: no .bak
    assert list(root.iterdir()) == [root / "x_train.txt"]


def test_list_text(root):
    lists.write_list("x.txt", [("d/a b.jpg", [(0, 0.5, 20.125, 30.999, 3, 0), (-0.001, 1, 2, 3, 0, 1)]),
                             (root / "d/../e.PNG", []), ("f.gif", [(1, 2, 3, 4, 5)])])
    assert (root / "x.txt").read_bytes() == b"d/a b.jpg 0,0.5,20.12,31,3 0,1,2,3,0,1\ne.PNG\nf.gif 1,2,3,4,5\n"
    assert "Rename" in error_of(lists.write_list, "x.txt", [("a\tb.jpg", [])]) and "Rename" in error_of(lists.write_list, "x.txt", [("a", [])])


def test_lines_of_the_ancestor(root, capsys):
    text = ("\ufeff/home/u/VOC devkit/VOC2007/JPEGImages/000001.jpg 48,240,195,371,11 8,12,352,498,14\r\n"
            "D:\\数据\\my, images\\a 1.JPG 1,2,3,4,0\r\n\r\n/x/none.jpg\r\n/x/flat.jpg  5,5,5,9,1 1,1,2,2,1 \r\n")
    for encoding in ("utf-8", "gbk"):
        (root / "2007_train.txt").write_bytes(text.lstrip("\ufeff" if encoding == "gbk" else "").encode(encoding))
        paths, boxes = lists.read_list("2007_train.txt")
        assert paths == ["/home/u/VOC devkit/VOC2007/JPEGImages/000001.jpg", "D:\\数据\\my, images\\a 1.JPG",
                         "/x/none.jpg", "/x/flat.jpg"]
        assert boxes[0].tolist() == [[48, 240, 195, 371, 11, 0], [8, 12, 352, 498, 14, 0]]
        assert boxes[1].tolist() == [[1, 2, 3, 4, 0, 0]] and boxes[3].tolist() == [[1, 1, 2, 2, 1, 0]]
        assert boxes[2].shape == (0, 6)
    assert "2007_train.txt: boxes without area are skipped: 1, the first at /x/flat.jpg" in capsys.readouterr().out


@pytest.mark.parametrize("line", [
    "a.jpg 1,2,3,4", "a.jpg 1,2,3,x,0", "a.jpg 1,2,3,4,0.5", "a.jpg 1,2,3,4,5,2", "a.jpg 1,2,3,4,-1", "a.jpg 1,2,3,4,5,1,7", "a",
    "1,2,3,4,5", "a.jpg nan,2,3,4,5", "a.jpg １,2,3,4,5", "a.jpg 1,2,3,4,5 b", "a.jpg\tb.png", "a.jpg 123456789,2,3,4,5"])
def test_bad_line_names_file_and_line(root, line):
    (root / "my list.txt").write_text(f"ok.jpg 1,2,3,4,5\n\n{line}\n", encoding="utf-8")
    message = error_of(lists.read_list, "my list.txt")
    assert "my list.txt, line 3" in message and ("segmentation" in message) == ("\t" in line)


def test_list_that_is_missing_empty_or_of_other_classes(root):
    assert "voc_annotation.py" in error_of(lists.read_list, "2007_train.txt")
    (root / "e.txt").write_text("\n \n")
    assert "e.txt" in error_of(lists.read_list, "e.txt")
    lists.write_list("x.txt", [("a.jpg", []), ("b.jpg", [(1, 2, 3, 4, 0), (1, 2, 3, 4, 2)])])
    paths, boxes = lists.read_list("x.txt")
    lists.check_classes(paths, boxes, ["a", "b", "c"], "x.txt")
    message = error_of(lists.check_classes, paths, boxes, ["a", "b"], "x.txt")
    assert "x.txt: b.jpg" in message and "class 2" in message


def test_layout_messages(root):
    make_dataset(root / "VOCdevkit/VOCdevkit/VOC2007", ["a.jpg"])
    right = "VOCdevkit/VOCdevkit/VOC2007"
    for wrong in ("VOCdevkit", "VOCdevkit/VOC2007", "VOCdevkit/VOCdevkit", "VOCdevkit/VOCdevkit/VOC2012", f"{right}/JPEGImages",
                  f"{right}/ImageSets/Main"):
        message = error_of(prepare.prepare, wrong)
        assert f'Found nearby: dataset = "{right}"' in message and "✗" in message and "JPEGImages" in message, wrong
    folder = root / right
    (folder / "Annotations").rename(folder / "Annotation")
    message = error_of(prepare.prepare, folder)
    assert "✓ 1 images" in message and 'no such folder. Did you mean "Annotation"?' in message
    (folder / "Annotations").mkdir()
    (folder / "Annotations/a.json").write_text("{}")
    assert "✗ no xml files in it, but 1 .json files" in error_of(prepare.prepare, folder)
    (folder / "SegmentationClass").mkdir()
    (folder / "SegmentationClass/a.png").write_bytes(b"")
    message = error_of(prepare.prepare, folder)
    assert "a dataset for segmentation" in message and "✗ no" not in message
    assert "No VOC folder" in error_of(prepare.prepare, root / "a/b/c/d")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy") / "my 项目"
    shutil.copytree(REPOSITORY / "utils", folder / "utils", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "voc_annotation.py", folder)
    make_dataset(folder / "VOCdevkit/Shapes", ["a b.jpg", "二.PNG", "c.jpeg", "d.jpg"])
    return folder


def run(folder, *words, **environment):
    environment = {**os.environ, "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1", **environment}
    result = subprocess.run([sys.executable, folder / "voc_annotation.py", *words], cwd=folder.parent, env=environment, capture_output=True)
    return result.returncode, result.stdout.decode("utf-8", "replace"), result.stderr.decode("utf-8", "replace")


def test_script(copy):
    status, out, err = run(copy, PYTHONUTF8="0", PYTHONIOENCODING="ascii")            # a console without Chinese
    assert (status, err) == (0, ""), err
    assert "Written: Shapes_train.txt, 2 images" in out and "prepared/Shapes_" in out.partition("a new split is written to ")[2]
    lines = "".join((copy / f"Shapes_{split}.txt").read_text(encoding="utf-8") for split in ("train", "val", "test"))
    images = ("a b.jpg", "c.jpeg", "d.jpg", "二.PNG")
    assert sorted(lines.splitlines()) == [f"VOCdevkit/Shapes/JPEGImages/{name} 0,1,10,20,0" for name in images]
    assert (copy / "model_data/shapes_classes.txt").read_text() == "cat\n"
    before = tree(copy)
    status, out, err = run(copy, "dataset=['VOCdevkit/Shapes']")
    assert (status, err, tree(copy)) == (0, "", before) and "a new split is written" not in out


def test_script_stops_with_one_sentence(copy):
    status, out, err = run(copy, "dataset=VOCdevkit/Shape")
    assert status == 1 and err.startswith("\nStopped: ") and "VOCdevkit/Shape does not exist" in err and "Traceback" not in err
    assert re.search('Found nearby: dataset = ".*VOCdevkit/Shapes"', err)           # whole, as it is not run in the repository
    status, out, err = run(copy, "train_precent=0.5")
    assert status == 1 and "did you mean train_percent=0.5?" in err


# ---- what other programs make of a VOC folder

LINES = ["{}", "{}.jpg", "{}.JPG", "JPEGImages/{}.jpg", "./{}", "../../JPEGImages/{}.jpg", "/home/me/Set/JPEGImages/{}.jpg",
         "C:\\Set\\JPEGImages\\{}.jpg",
         "{}  1", "{} -1", "{} 0", "{}\t1", "{}.xml", "data/{}.jpg"]


@pytest.mark.parametrize("line", LINES)
def test_lines_of_lists(root, line):
    folder = make_dataset(root / "Set", ["a.jpg", "b 1.jpg", "c.d.jpg", "e.jpg"])
    for name, ids in (("train", ["a", "b 1", "c.d"]), ("val", ["e"])):
        files.write_text(folder / "ImageSets" / "Main" / f"{name}.txt", "".join(line.format(one) + "\n" for one in ids))
    _, paths = prepare.prepare("Set")
    assert [Path(name).stem for name in lists.read_list(paths["train"])[0]] == ["a", "b 1", "c.d"]
    assert [Path(name).stem for name in lists.read_list(paths["val"])[0]] == ["e"]


def test_a_name_that_ends_in_a_number_is_a_name(root):
    """Both "a" and "a 1" are there: the line means the one that is written there."""
    make_dataset(root / "Set", ["a.jpg", "a 1.jpg", "b.jpg"], {"train": ["a 1"], "val": ["b"]})
    _, paths = prepare.prepare("Set")
    assert lists.read_list(paths["train"])[0] == ["Set/JPEGImages/a 1.jpg"]


@pytest.mark.parametrize("place, train, val", [("Main", "Train", "Validation"), ("Main", "TRAIN", "valid"), ("", "train", "val"),
                                               ("Main", "training", "dev")])
def test_names_and_place_of_lists(root, place, train, val):
    folder = make_dataset(root / "Set", [f"{c}.jpg" for c in "abcd"])
    files.write_text(folder / "ImageSets" / place / f"{train}.txt", "a\nb\nc\n")
    files.write_text(folder / "ImageSets" / place / f"{val}.txt", "d\nlost\n")
    assert f"ImageSets/{place}{'/' * bool(place)}{val}.txt, line 2: lost has no image" in error_of(prepare.prepare, "Set")
    files.write_text(folder / "ImageSets" / place / f"{val}.txt", "d\n")
    before = tree(folder)
    _, paths = prepare.prepare("Set")
    assert [len(lists.read_list(paths[split])[0]) for split in ("train", "val")] == [3, 1] and tree(folder) == before


@pytest.mark.parametrize("images_below, labels_below", [(True, True), (True, False), (False, True)])
def test_folders_in_the_folders(root, images_below, labels_below):
    """CVAT keeps the folders of its task; then a list has lines like one/a."""
    folder = make_dataset(root / "Set", [f"{c}.jpg" for c in "abcd"])
    for stem, below in zip("abcd", ("one", "one", "two/deep", "two/deep")):
        for part, suffix, is_below in (("JPEGImages", "jpg", images_below), ("Annotations", "xml", labels_below)):
            (folder / part / below).mkdir(parents=True, exist_ok=True)
            if is_below:
                (folder / part / f"{stem}.{suffix}").rename(folder / part / below / f"{stem}.{suffix}")
    where = {"a": "one/a", "b": "one/b", "c": "two/deep/c", "d": "two/deep/d"} if images_below else {c: c for c in "abcd"}
    for name, ids in (("train", "abc"), ("val", "d")):
        files.write_text(folder / "ImageSets" / "Main" / f"{name}.txt", "".join(where[one] + "\n" for one in ids))
    _, paths = prepare.prepare("Set")
    names, boxes = lists.read_list(paths["train"])
    assert names == [f"Set/JPEGImages/{where[stem]}.jpg" for stem in "abc"] and all(len(rows) == 1 for rows in boxes)


def test_one_name_in_two_folders(root):
    folder = make_dataset(root / "Set", ["a.jpg", "b.jpg"])
    for part, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
        for below in ("one", "two"):
            (folder / part / below).mkdir()
            shutil.copy(folder / part / f"a.{suffix}", folder / part / below / f"a.{suffix}")
    images, labels, found = voc_folder.check_layout(folder)
    assert sorted(images) == sorted(labels) == ["a", "b", "one/a", "two/a"] and not found
    (folder / "Annotations" / "one" / "a.xml").unlink()
    images, labels, found = voc_folder.check_layout(folder)
    assert sorted(images.keys() - labels.keys()) == ["one/a"]                # no other a.xml is borrowed


def test_links(root):
    """To a folder, to a file, in a circle and to itself."""
    folder = make_dataset(root / "Set", ["a.jpg", "b.jpg", "c.jpg"])
    (folder / "JPEGImages").rename(root / "pool")
    (folder / "JPEGImages").symlink_to(root / "pool")
    (folder / "Annotations" / "a.xml").rename(root / "a.xml")
    (folder / "Annotations" / "a.xml").symlink_to(root / "a.xml")
    (root / "pool" / "loop.jpg").symlink_to(root / "pool" / "loop.jpg")
    (root / "pool" / "round").symlink_to(root / "pool")
    _, paths = prepare.prepare("Set")
    names = [name for path in paths.values() for name in lists.read_list(path)[0]]
    assert sorted(names) == [f"Set/JPEGImages/{c}.jpg" for c in "abc"]
    given = {"classes_path": None, "train_list": None, "val_list": None, "test_list": None}
    classes = prepare.current_lists("Set", given)["classes_path"]
    assert prepare.reason_to_make("Set", classes, [settings.find(path) for path in paths.values()]) is None


@pytest.mark.skipif(os.name == "nt", reason="Windows has no files with a colon in their name")
def test_colons(root):
    names = [f"cam1 2024-05-0{day} 10:00:30.jpg" for day in range(1, 5)]
    folder = make_dataset(root / "Set", names)
    (folder / "Annotations" / "c:drive.xml").write_text(xml_text([("cat", (1, 2, 10, 20), 0)]), encoding="utf-8")
    assert prepare.tasks_of("Set") == ["detection"]
    _, paths = prepare.prepare("Set")
    assert sorted(name for path in paths.values() for name in lists.read_list(path)[0]) == [f"Set/JPEGImages/{name}" for name in names]


def test_a_classes_file_of_another_folder(root, capsys):
    """a/dataset and b/dataset have lists and a classes file of the same names."""
    for place, name in (("a", "cat"), ("b", "screw")):
        make_dataset(root / place / "dataset", [f"{c}.jpg" for c in "xyz"], objects=((name, (1, 2, 10, 20), 0),))
    prepare.prepare("a/dataset")
    classes, paths = prepare.prepare("b/dataset")
    assert lists.read_classes(classes) == ["screw"] and (root / f"{classes}.bak").read_text() == "cat\n"
    assert "was made for another folder of the same name" in capsys.readouterr().out
    assert lists.read_list(paths["train"])[0][0].startswith("b/dataset/JPEGImages/")

    # In the same folder an unknown name is a mistake.
    (root / "b/dataset/Annotations/x.xml").write_text(xml_text([("scrwe", (1, 2, 10, 20), 0)]), encoding="utf-8")
    assert "scrwe" in error_of(prepare.prepare, "b/dataset")


def test_a_slip_among_good_boxes_is_no_share(root):
    folder = make_dataset(root / "Set", ["a.jpg", "b.jpg", "c.jpg"], objects=(("cat", (1, 2, 10, 20), 0), ("cat", (0.2, 0.3, 0.6, 0.7), 0)))
    _, paths = prepare.prepare("Set")
    assert all(len(rows) == 1 for path in paths.values() for rows in lists.read_list(path)[1])
    make_dataset(folder, ["d.jpg"], objects=(("cat", (0.2, 0.3, 0.6, 0.7), 0),))
    assert "d.xml, line 1: object 1 (cat): from 0.2, 0.3 to 0.6, 0.7" in error_of(prepare.prepare, "Set", new_split=True)
