"""From a path to list files, whatever the format; utils/formats/foreign.py: JSON and names of strangers; fuzz of all readers."""
import os
import random
import re

import pytest
import user
from sources import HOSTILE, SHAPES, coco_content, error_of, image, make_coco, make_colours, make_labelme, make_yolo, read, shape, text, tree

from utils import lists, settings
from utils.checks import prepare
from utils.errors import UserError
from utils.formats import foreign, recognise, yaml_file


@pytest.mark.parametrize("content, words", [
    (b"", "line 1"), (b"{", "line 1"), (b"[1,\n2,\n", "line 3"), (b"\xff\xfe\x00", "not"), (b"[" * 200_000, "nested too deeply"),
    (b'{"a":' * 200_000, "nested too deeply"), (b"[" + b"1" * 10_000 + b"]", "not an annotation"), (b"\x80\x81\xff", "text"), (b"NULL", "line 1")])
def test_json_that_is_none(tmp_path, content, words):
    assert words in error_of(foreign.read_json, text(tmp_path / "a.json", content))


def test_json_that_is_too_large(tmp_path):
    with open(tmp_path / "a.json", "wb") as file:
        file.truncate(foreign.MAX_JSON_BYTES + 1)            # takes no room on the disk
    assert "larger than 1000 MB" in error_of(foreign.read_json, tmp_path / "a.json")
    os.truncate(tmp_path / "a.json", yaml_file.MAX_BYTES + 1)
    assert "larger than" in error_of(yaml_file.read_yaml, tmp_path / "a.json", ("names",))


def test_names_that_stay_inside(tmp_path):
    for name, place in (("a.png", "a.png"), ("./b//c.png", "b/c.png"), ("b\\c.png", "b/c.png"), ("x/../y.png", "y.png"), ("a b 猫.png", "a b 猫.png"),
                        ("a..b.png", "a..b.png"), (str(tmp_path / "q.png"), "q.png"), ("console.png", "console.png")):
        assert foreign.locate(name, tmp_path, [tmp_path], "here") == tmp_path / place
    for name in [*HOSTILE, None, 3, ["a"]]:
        assert error_of(foreign.locate, name, tmp_path, [tmp_path], "here").startswith("here: ")


def test_recognise(root):
    make_yolo(root / "y")
    make_coco(root / "c")
    make_labelme(root / "l", [shape()])
    make_colours(root / "m")
    (root / "v" / "JPEGImages").mkdir(parents=True)
    text(root / "notes" / "package.json", '{"name": "x"}')
    text(root / "cfg" / "config.yaml", "a: &x b\n- c")
    kinds = {name: recognise.recognise(root / name)[0] for name in ("y", "c", "l", "m", "v", "notes", "cfg", "nowhere")}
    assert kinds == {"y": "yolo", "c": "coco", "l": "labelme", "m": "masks", "v": "voc", "notes": "voc", "cfg": "voc", "nowhere": "voc"}
    assert recognise.recognise(root / "m", "detection")[0] != "labelme" and recognise.recognise(root / "y" / "data.yaml")[0] == "yolo"
    assert "not a dataset" in error_of(recognise.recognise, text(root / "a.txt", ""))
    text(root / "two" / "a.yaml", "names: [a]\ntrain: x")
    text(root / "two" / "b.yaml", "names: [a]\ntrain: x")
    assert "several datasets" in error_of(recognise.recognise, root / "two")


def test_names_of_lists_and_where_the_images_are(root):
    make_yolo(root / "pets")
    assert lists.folder_name("pets/data.yaml") == "pets" and lists.folder_name("pets") == "pets"
    text(root / "coco128.yaml", "path: pets\ntrain: images/train\nval: images/val\nnames: [a, b]")
    assert lists.folder_name("coco128.yaml") == "coco128" and recognise.home(root / "coco128.yaml") == root / "pets"
    assert recognise.home(root / "c" / "annotations" / "a.json") == root / "c" and recognise.home(root / "v") == root / "v"


def test_the_whole_way(root, capsys):
    """utils.checks.prepare.prepare -> list files and class names in the order of the source; train.py finds them again."""
    make_yolo(root / "pets", "train: images/train\nval: images/val\nnames: [zebra, big dog]")
    classes, made = prepare.prepare("pets/data.yaml")
    assert lists.read_classes(classes) == ["zebra", "big dog"] and made["train"] == "pets_train.txt"
    paths, found = lists.read_list(made["train"])
    assert paths == ["pets/images/train/train 0 猫.png", "pets/images/train/train 1 猫.png"] and found[0].tolist() == [[10, 9, 30, 21, 1, 0]]
    capsys.readouterr()
    given = {"classes_path": None, "train_list": None, "val_list": None, "test_list": None}
    assert prepare.current_lists("pets/data.yaml", given)["train_list"] == "pets_train.txt"
    assert capsys.readouterr().out == ""                    # nothing was made again
    make_coco(root / "c")
    classes, made = prepare.prepare("c", task="segmentation")
    assert lists.read_classes(classes) == ["background", "dog", "cat"]
    assert (root / made["val"]).read_text(encoding="utf-8").splitlines()[0] == \
        f"c/val2017/val 0.png\t{settings.shown(lists.prepared_folder('c'))}/masks/val2017/val 0.png"
    prepare.prepare(["pets/data.yaml", "c"], classes_path=text(root / "all.txt", "cat\ndog\nbig dog\nzebra\n"))
    assert len((root / "pets_train.txt").read_text(encoding="utf-8").splitlines()) == 4


def test_val_list_as_test_list_warns(root, capsys):
    make_yolo(root / "pets")
    prepare.prepare("pets", test_set="val")
    assert "best.pth is then chosen on the test set" in capsys.readouterr().out
    text(root / "pets" / "data.yaml", "train: images\nval: images/val\ntest: images/val\nnames: [cat, big dog]")
    prepare.prepare("pets")
    out = capsys.readouterr().out
    assert "[in_train_and_val: works]\n    pets/images/val/val 0 猫.png: in the lists train and val\n    pets/images/val/val 1 猫.png: in" in out
    assert "[in_test: works]\n    pets/images/val/val 0 猫.png: in the lists train and val and test\n" in out


def test_names_that_steer_a_terminal(root, capsys):
    folder = make_coco(root / "c", coco_content(("train 0.png", "train 1.png")) | {"categories": [{"id": 7, "name": "\x1b[2Jdog"},
                                                                                                  {"id": 3, "name": "cat"}]},
                       splits=("train",))
    prepare.prepare(str(folder / "annotations" / "instances_train2017.json"))
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err and "\\x1b[2Jdog" in captured.out


@pytest.mark.parametrize("words, status", [(["dataset=pets"], 0), (["dataset=pets/data.yaml", "task=segmentation"], 1),
                                           (["dataset=pets", "stratify=True"], 0)])
def test_script(tmp_path, words, status):
    copy = user.copy_project(tmp_path)
    make_yolo(copy / "pets", label="1 0.5 0.5 0.5 0.4\n", count=6)
    before = tree(copy / "pets")
    out = user.run(copy, "voc_annotation.py", *words, status=status)
    assert ("Written: pets_train.txt, 6 images" in out) == (status == 0) and tree(copy / "pets") == before


WORDS = ["-1", "0", "1e400", "NaN", "Infinity", "null", "true", '"a"', "[]", "{}", "[[]]", '"\\ud800"', "99999999999999999999999", '"../../x"', '""',
         "[1,2,3,4]", "0.5"]


def damaged(rng, data, tokens):
    """A text with some bytes or tokens changed."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 10])):
        at, what = rng.randrange(len(data) + 1), rng.random()
        if what < 0.3:
            data[at:at + 1] = bytes([rng.randrange(256)])
        elif what < 0.5:
            del data[at:at + rng.randrange(1, 12)]
        elif what < 0.6:
            data[at:at] = data[at:at + rng.randrange(1, 40)]
        else:
            found = [match.span() for match in re.finditer(tokens, bytes(data))]
            if found:
                start, end = rng.choice(found)
                data[start:end] = rng.choice(WORDS).encode() if rng.random() < 0.7 else bytes(data[slice(*rng.choice(found))])
    return bytes(data)


def fuzz(root, count, seed):
    """-> how many were read and how many refused."""
    rng, results = random.Random(seed), [0, 0]
    yolo, coco, labelme = make_yolo(root / "y", count=1, label="0 .1 .1 .4 .1 .4 .4\n"), make_coco(root / "c"), make_labelme(root / "l", SHAPES,
                                                                                                                             count=2)
    colours = make_colours(root / "m", "128,64,128 road\n0,0,200 blue sky\n* ignored\n")
    targets = [(yolo / "data.yaml", yolo / "data.yaml", rb"[\w./]+|[\[\]{}:,#-]"), (yolo / "labels" / "train" / "train 0 猫.txt", yolo, rb"[\d.]+"),
               (coco / "annotations" / "instances_train2017.json", coco / "annotations" / "instances_train2017.json",
                rb'"[^"]*"|[\d.]+|\[[^\[\]]*\]'),
               (labelme / "图 0.json", labelme, rb'"[^"]*"|[\d.]+|\[[^\[\]]*\]'), (colours / "palette.txt", colours, rb"\w+")]
    originals = [path.read_bytes() for path, *_ in targets]
    for number in range(count):
        (path, source, tokens), original = targets[number % len(targets)], originals[number % len(targets)]
        path.write_bytes(damaged(rng, original, tokens))
        for task in ("detection", "segmentation"):
            try:
                read(source, task)
                results[0] += 1
            except UserError as error:
                assert str(error) and "\x1b" not in str(error)
                results[1] += 1
            except Exception as error:
                raise AssertionError(f"seed {seed}, number {number}, {path.name}, {task}: {type(error).__name__}: {error}") from error
        path.write_bytes(original)
    return results


def test_damaged_annotations_are_read_or_named(root):
    read, refused = fuzz(root, 250, seed=3)
    assert read > 25 and refused > 60


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(100, 110))
def test_damaged_annotations_are_read_or_named_torture(root, seed):
    fuzz(root, 1000, seed)


def test_folders_that_are_no_data_set(root, monkeypatch):
    for number in range(6):
        (root / "deep" / str(number)).mkdir(parents=True)
    (root / "deep" / "0" / "circle").symlink_to(root / "deep")
    image(root / "deep" / "1" / "a.png")
    image(root / "deep" / "plainvision_masks" / "b.png")
    image(root / "deep" / ".hidden" / "c.png")
    assert [path.name for path in foreign.files_below(root / "deep")] == ["a.png"]
    monkeypatch.setattr(foreign, "MAX_FOLDERS", 3)
    assert "more than 3 folders" in error_of(foreign.files_below, root / "deep")
