"""utils/formats/yolo.py and utils/formats/yaml_file.py: data.yaml and txt labels -> the same objects; every fault names file and line."""
import json
import os
import time

import numpy as np
import pytest
from sources import HOSTILE, boxes, error_of, image, make_yolo, read, text, told

from utils.checks import prepare
from utils.errors import UserError
from utils.formats import foreign, yaml_file, yolo, yolo_lines
from utils.system import files


def test_yolo_boxes_and_outlines(root):
    folder = make_yolo(root / "y", label="1 0.5 0.5 0.5 0.4\n\n0 .1 0.2 0.3 0.2 1e-1 0.6\n")
    names, splits = read(folder)
    assert names == ["cat", "big dog"] and [len(splits[split]) for split in splits] == [2, 2, 0]
    assert boxes(splits["train"][0][1]) == [("big dog", (10, 9, 30, 21), False), ("cat", (4, 6, 12, 18), False)]


@pytest.mark.parametrize("yaml", [
    "path: {here}\ntrain: images/train\nval: images/val\nnames: [cat, big dog]",
    "path: ../nowhere/y\ntrain: images/train\nval: images/val\nnames: ['cat', \"big dog\"]",
    "train: ../images/train\nval: ../images/val\nnames:\n- cat\n- big dog\n",
    "train: ./images/train/\nvalid: images/val\nnc: 2\nnames:\n  1: big dog\n  0: cat   # first\n",
    "names: {{0: cat, 1: 'big dog'}}\ntrain: [images/train]\nval:\n  - images/val\n",
    "names: [ 'cat',\n         'big dog' ]  # two\ntrain: train.txt\nval: images/val\ndownload: |\n  import os\n  os.system('x: y')\n# end",
    "---\nunknown: &x {{a: [b, {{c: d}}]}}\nother: *x\n\"names\":\n    - cat\n    - big dog\ntrain: images\\train\nval: images\\val\n",
    "\ufefftrain: images/train\r\nval: images/val\r\nnames: [cat, big dog,]\r\n",
])
def test_yolo_spellings_of_data_yaml(root, yaml):
    folder = make_yolo(root / "y", yaml.format(here=root / "y"))
    text(folder / "train.txt", "./images/train/train 0 猫.png\nimages/train/train 1 猫.png\n\n")
    names, splits = read(folder)
    assert names == ["cat", "big dog"]
    found = {split: [path.name for path, _ in some] for split, some in splits.items()}
    assert found == {"train": ["train 0 猫.png", "train 1 猫.png"], "val": ["val 0 猫.png", "val 1 猫.png"], "test": []}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "gb18030", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings_of_text_files(root, encoding):
    folder = make_yolo(root / "y")
    text(folder / "data.yaml", "train: images/train\r\nval: images/val\r\nnames: [猫, 大 狗]\r\n", encoding)
    text(folder / "labels" / "train" / "train 0 猫.txt", "1 0.5 0.5 0.5 0.4\r\n", encoding)
    names, splits = read(folder)
    assert names == ["猫", "大 狗"] and boxes(splits["train"][0][1]) == [("大 狗", (10, 9, 30, 21), False)]
    text(root / "lines.txt", "一 大 a\r\nb\r\n", encoding)
    assert files.read_lines(root / "lines.txt") == ["一 大 a", "b"]
    text(root / "c.json", json.dumps({"名": "值"}, ensure_ascii=False), encoding)
    assert foreign.read_json(root / "c.json") == {"名": "值"}


def test_zero_bytes_are_not_always_utf_16(tmp_path):
    assert files.decode_text(b"a\x00b\x00c", ["utf-8"]) == "a\x00b\x00c"         # an odd number of bytes
    assert files.decode_text(b"\x00\x01\x02\x03", ["utf-8"]) == "\x00\x01\x02\x03"


@pytest.mark.parametrize("yaml, words", [
    ("train: images/train\nval: images/val\n", ["data.yaml", "names"]),
    ("train: images/train\nval: images/val\nnames: [cat, cat]", ["line 3", "'cat'", "twice"]),
    ("train: images/train\nval: images/val\nnames: {0: cat, 2: dog}", ["line 3", "class 1", "numbers 0 and 2"]),
    ("train: images/train\nval: images/val\nnames:\n  0: cat\n  0: dog", ["line 5", "already in line 4"]),
    ("train: images/train\nval: images/val\nnames: 2", ["line 3", "expected a list"]),
    ("train: images/train\nval: images/val\nnames: []", ["line 3", "no class names"]),
    ("train: images/train\nval: images/val\nnames: [a, ~]", ["line 3", "not a class name"]),
    ("train: images/train\nval: images/val\nnames: [a, b", ["line 3", "not closed"]),
    ("train: images/train\nval: images/val\nnames: [a, [b]]", ["line 3", "a list or a table within another"]),
    ("train: images/train\nval: images/val\nnames: &a [b]", ["line 3", "&a"]),
    ("train: images/train\nval: images/val\nnames: !!python/object/apply:os.system [x]", ["line 3", "not understood"]),
    ("train: images/train\nval: images/val\nnames: *bomb", ["line 3", "*bomb"]),
    ("train: images/train\nval: images/val\nnames:\n  - a\n    - b", ["line 4", "not understood", "same number of spaces"]),
    ("train: images/train\nval: images/val\nnames: [a]\nnames: [b]", ["line 4", "already in line 3"]),
    ("train: images/train\nval: images/val\nnc: 3\nnames: [a, b]", ["line 3", "nc is 3", "2 names"]),
    ("train: image/train\nval: images/val\nnames: [a, b]", ["line 1", "image/train", "Did you mean", "images"]),
    ("train: labels/train\nval: images/val\nnames: [a, b]", ["line 1", "no images"]),
    ("train: data.yaml\nval: images/val\nnames: [a, b]", ["data.yaml", ".txt"]),
    ("just words\n", ["line 1", "key: value"]),
    ("names: [a, b]\n", ["no train"]),
    ("val: images/val\nnames: [a, big dog]\n", ["no list train"]),
    ("path: [a]\ntrain: images/train\nnames: [a]", ["line 1", "one folder"]),
    ("train: {a: b}\nnames: [a]", ["line 1", "expected a folder"]),
    ("names: \"\\q\"\ntrain: images/train", ["line 1", "backslash"]),
    ("train: images/train\nnames:\n  - [a]\n", ["line 3", "a list or a table within another"]),
    ("train: images/train\nnames:\n  0: {a: b}\n", ["line 3", "a list or a table within another"]),
    ("train: images/train\nnames: [0: a]\n", ["line 2", "a list or a table within another"]),
    ("train: images/train\nnames: {[a]: b}\n", ["line 2", "a list or a table within another"]),
    ("train: images/train\nnames: !!int 3\n", ["line 2", "int", "not understood"]),
    ("train: images/train\nnames: [a]\n---\ntrain: x\n", ["line 3", "second document"]),
    ("train: images/train\nnames:\n\t- a\n", ["line 3", "a tab", "spaces"]),
    ("train: images/train\n\nval images/val\nnames: [a]\n", ["line 3", "key: value"]),
    ("train: images/train\nnames: ['a, b]\nval: x\n", ["line 2", "not closed"]),
    ("train: images/train\nnames: [a\nval: x\n", ["line 3", "line 2"]),
    ("train: images/train\nnames: [@a]\n", ["line 2", "quotes"]),
    ("train: images/train\n names: [a]\n", ["line 2", "spaces in front"]),
    ("train: images/train\n&x names: [a]\n", ["line 2", "&x"]),
    ("train: images/train\nnames: [\x1b[2J]\n", ["line 2", "'\\x1b'"]),
    ("train: images/train\nnames: {\"\\e[2J\": a}\n", ["line 2", "'\\x1b[2J'", "must have numbers"]),
    ("train: images/train\nnc: \"\\e[2J\"\nnames: [a]", ["line 2", "'\\x1b[2J'"]),
    ("train: images/train\nnames: {\"\\e[2J\": a, \"\\e[2J\": b}\n", ["line 2", "'\\x1b[2J'", "already"]),
    ("train: images/train\nnames: !<tag:%1b[2J> a\n", ["line 2", "'tag:\\x1b[2J'"]),
    ("train: images/train\nx: \"\\UFFFFFFFF\"\n", ["line 2", "digits"]),
    ("%YAML 1" + "1" * 5000 + ".1\n---\nnames: [a]\n", ["line 1", "digits"]),
    ("names: *i\n", ["line 1", "*i", "not understood"]),
    ("- a\n- b\n", ["line 1", "key: value"]),
])
def test_yolo_faults_in_data_yaml(root, yaml, words):
    folder = make_yolo(root / "y", yaml)
    message = error_of(read, folder / "data.yaml")
    for word in words:
        assert word in message and "\x1b" not in message, message


@pytest.mark.parametrize("line, kind, words", [
    ("2 .5 .5 .1 .1", "class_number", ["class 2", "2 class names", "data.yaml, line 3", "0 to 1"]),
    ("-1 .5 .5 .1 .1", "class_number", ["class -1"]), ("0.5 .5 .5 .1 .1", "class_number", ["class 0.5"]),
    ("cat .5 .5 .1 .1", "bad_number", ["'cat' is not a number"]), ("0 .5 .5 .1", "label_broken", ["4 numbers"]),
    ("0 .5 .5 .1 .1 .9", "label_broken", ["score"]), ("0 12 20 5 8", "share_beyond", ["20 is not a share"]),
    ("0 .5 nan .1 .1", "bad_number", ["'nan'"]), ("0 .5 inf .1 .1", "bad_number", ["'inf'"]), ("0 .5 １ .1 .1", "bad_number", ["not a number"]),
    ("0 0,5 0,5 0,1 0,1", "bad_number", ["'0,5'"]), ("0 .1 .1 .2 .2 .3 .3 .4", "label_broken", ["8 numbers"]),
    ("0 -0.5 .5 .1 .1", "share_beyond", ["-0.5 is not a share"]), ("0 .5 1_0 .1 .1", "bad_number", ["'1_0'"]), ("0", "label_broken", ["1 numbers"]),
    ("\x1b[2J 1 1 1 1", "bad_number", ["'\\x1b[2J'"]), ("0 1.2 .5 .1 .1", "share_beyond", ["1.2 is not"])])
def test_yolo_faults_in_labels(root, line, kind, words):
    """Each line is told; the image is left out, the others are used."""
    folder = make_yolo(root / "y")
    text(folder / "labels" / "train" / "train 1 猫.txt", f"0 .5 .5 .1 .1\n{line}\n\n{line}\n")
    message, kinds = told(folder)
    for word in ["labels/train/train 1 猫.txt, line 2: ", "labels/train/train 1 猫.txt, line 4: ", *words]:
        assert word in message, message
    assert kinds == [kind] * 2 and "\x1b" not in message
    assert [path.name for path, _ in read(folder, findings=[])[1]["train"]] == ["train 0 猫.png"] + ["train 1 猫.png"] * (kind == "class_number")


def test_yolo_pixels_in_the_place_of_shares(root):
    """In many files they are no slip."""
    folder = make_yolo(root / "y", count=6)
    for number in range(4):
        text(folder / "labels" / "train" / f"train {number} 猫.txt", "0 12 20 5 8\n")
        assert told(folder)[1] == [("share_beyond" if number < 2 else "pixels_for_shares")] * (number + 1)


def test_yolo_files_that_are_no_text(root):
    folder = make_yolo(root / "y")
    text(folder / "labels" / "train" / "train 0 猫.txt", b"\x81\xff\xff\xff")
    with open(folder / "labels" / "train" / "train 1 猫.txt", "wb") as file:
        file.truncate(yolo_lines.MAX_LABEL_BYTES + 1)
    message, kinds = told(folder)
    assert kinds == ["label_encoding", "label_too_large"] and "train 0 猫.txt: is not a text file" in message and "larger than 20 MB" in message


def test_yolo_odd_boxes(root):
    """All that a VOC folder's boxes are told about."""
    folder = make_yolo(root / "y")
    text(folder / "labels" / "train" / "train 0 猫.txt", "0 .5 .5 .1 .2\n0 .5 .5 .01 .2\n0 .5 .5 .1 .2\n0 1 .5 .3 .3\n0 1.005 .5 .011 .3\n"
                                                        "1 .5 .5 .1 .2\n0 .5 .5 0 0\n0 .5 .5 -.005 .1\n0 1 .1 1 .1 1 .9\n")
    message, kinds = told(folder)
    assert kinds == ["box_empty", "box_twice", "box_clipped", "box_empty", "box_empty", "box_empty", "box_empty"]
    assert "line 4: from 34, 10.5 to 46, 19.5 in an image of 40 x 30" in message
    assert len(read(folder)[1]["train"][0][1]) == 4


@pytest.mark.parametrize("name", HOSTILE)
def test_yolo_hostile_lists(root, name):
    image(root / "x.png")
    folder = make_yolo(root / "a" / "y", "train: train.txt\nval: images/val\nnames: [a, b]")
    text(folder / "train.txt", b"images/train/train 0 \xe7\x8c\xab.png\n" + name.encode("utf-8", "surrogatepass") + b"\n")
    if not name.strip() or name in ("\ud800.png", "a\n.png"):
        return
    message, kinds = told(folder)
    assert kinds == ["list_name"] and "train.txt, line 2: " in message and "\x1b" not in message and "\u202e" not in message


def test_yolo_absolute_names_in_a_list_must_lie_in_the_data_set(root):
    folder = make_yolo(root / "y", "train: train.txt\nval: images/val\nnames: [a, b]")
    text(folder / "train.txt", f"{folder}/images/train/train 0 猫.png\n")
    assert len(read(folder)[1]["train"]) == 1
    image(root / "z" / "a.png")
    text(folder / "train.txt", f"{root}/z/a.png\n")
    assert "leads out of the dataset" in error_of(read, folder)
    text(folder / "train.txt", "images/train/none.png\nimages/train/train 0 猫.png\nno.png\nlabels/train/train 0 猫.txt\n")
    message, kinds = told(folder)
    assert kinds == ["list_no_image", "list_no_image", "list_name"] and "train.txt, line 1: there is no image images/train/none.png" in message
    assert "train.txt, line 3: there is no image no.png" in message and "train.txt, line 4: 'labels/train/train 0 猫.txt' is not an image" in message
    with pytest.raises(UserError, match="must be fixed first"):
        read(folder)


def test_yolo_labels_without_an_image(root):
    folder = make_yolo(root / "y")
    text(folder / "labels" / "train" / "train_0.txt", "0 .5 .5 .1 .1\n")
    text(folder / "labels" / "train" / "classes.txt", "cat\n")
    message, kinds = told(folder)
    assert kinds == ["label_without_image"] and "labels/train/train_0.txt" in message


def test_labelimg_txt_and_folders_without_yaml(root, capsys):
    """LabelImg: images, txt and classes.txt side by side; label programs: images/, labels/, classes.txt."""
    for place, labels in (("one", "one"), ("two/images", "two/labels")):
        for number in range(5):
            image(root / place / f"{number}.JPG".lower())
            text(root / labels / f"{number}.txt", "1 0.5 0.5 0.5 0.4\n")
        text(root / place.split("/")[0] / "classes.txt", "cat\nbig dog\n\n")
        names, splits = read(root / place.split("/")[0], seed=1)
        assert names == ["cat", "big dog"] and sorted(len(splits[split]) for split in splits) == [1, 1, 3]
        assert boxes(splits["train"][0][1]) == [("big dog", (10, 9, 30, 21), False)]
    os.remove(root / "one" / "classes.txt")
    assert "not a VOC folder" in error_of(prepare.prepare, "one")


def test_impossible_places(root):
    """Names that no disk has end in a sentence, not in an error of the system."""
    for yaml in (f"train: {'a' * 5000}\nval: images/val\nnames: [a, b]", f"path: {'a' * 5000}\ntrain: images/train\nval: images/none\nnames: [a, b]",
                 "path: ~nobody_is_called_so/x\ntrain: images/none\nval: images/val\nnames: [a, b]"):
        assert "data.yaml, line" in error_of(read, make_yolo(root / "y", yaml))
    folder = make_yolo(root / "y", "train: train.txt\nval: images/val\nnames: [a, b]")
    text(folder / "train.txt", f"images/{'长' * 100}.png\n")
    assert "train.txt, line 1" in error_of(read, folder) and "255 bytes" in error_of(read, folder)


def test_words_in_quotes(tmp_path):
    """Over lines, with what would otherwise be a comment or a key, and with the escapes that YAML's own writers use."""
    path = text(tmp_path / "a.yaml", "names: {0: 'x\n  # y', 1: \"caf\\xE9 \\\\x41\", 2: 'it''s', 3: a#b, 4: \"a: b\"}  # end\nother: {}\n")
    value, line = yaml_file.read_yaml(path, ("names",))["names"]
    assert value == {"0": "x # y", "1": "café \\x41", "2": "it's", "3": "a#b", "4": "a: b"} and line == 1


@pytest.mark.parametrize("yaml, value", [
    ("names: [no, 1e3, 0x1F, 2001-01-01, true, NULL, 012, 1_000, =, <<]", ["no", "1e3", "0x1F", "2001-01-01", "true", "NULL", "012", "1_000",
                                                                          "=", "<<"]),
    ("names: [~, null, '', 'null', \"~\"]", [None, None, "", "null", "~"]), ("names:", None), ("names: ~", None), ("names: ''", ""),
    ("names:\n- a\n-\n- b # c", ["a", None, "b"]), ("names: []", []), ("names: {}", {}), ("names: !!str 3", "3"),
    ("names:\n  0: a\n\n# c\n  1:\n", {"0": "a", "1": None}), ("names: {\"0\":\"a\",'1':b}", {"0": "a", "1": "b"}),
    ("names: [\n  a,   # the first\n\n  # none\n  'b',\n]\n", ["a", "b"]), ("names: [a, C:\\x, http://x/y, a#b, c++]",
                                                                      ["a", "C:\\x", "http://x/y", "a#b", "c++"]),
    ("names: a very\n  long path", "a very long path"), ("names: >-\n  a\n  b\n", "a b"), ("names: [\"\\u732b \\\"x\\\"\"]", ['猫 "x"']),
    ("download: |\n  import os\n  os.system('x: y')  # [\n\nnames: [a]", ["a"]), ("x: !!python/object/apply:os.system [x]\nnames: [a]", ["a"]),
    ("x: &x 1\ny: &x 2\nnames: [a]", ["a"]),
    ("x: &x {a: [b, {c: d}]}\ny: *x\nz: *nowhere\n<<: *x\n*x : 1\n? [a]\n: b\nnames: [a]", ["a"]), ("x: 1\nx: 2\nnames: [a]", ["a"]),
    ("%YAML 1.2\n---\nnames: [a]\n...\n", ["a"]), ("x: 1\r\nnames: [a]\r\n", ["a"])])
def test_values_of_yaml(tmp_path, yaml, value):
    """All as text; what stands under other keys is skipped."""
    found, line = yaml_file.read_yaml(text(tmp_path / "a.yaml", yaml), ("names",))["names"]
    assert found == value and yaml.split("\n")[line - 1].startswith("names:")


def test_yaml_without_the_keys(tmp_path):
    for yaml in ("", "\n\n", "# nothing", "---\n", "{}", "other: 1"):
        assert yaml_file.read_yaml(text(tmp_path / "a.yaml", yaml), ("names",)) == {}


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{new}: &{new} [{','.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi"))


@pytest.mark.parametrize("yaml, words", [
    (BOMB + "names: *i\n", "'*i' is not understood"), (BOMB.replace("i: ", "names: "), "'&i' is not understood"),
    ("[" * 100_000, "nested too deeply"), ("{" * 100_000, "nested too deeply"), ("names: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
    ("- " * 100_000, "nested too deeply"), ("? " * 100_000, "nested too deeply"), ("&a [" * 9000, "nested too deeply"),
    ("".join(" " * deep + "a:\n" for deep in range(1300)), "line 31: this cannot be read: nested too deeply"),
    ("x" * 2_000_000, "larger than 1 MB"), ("names: [a]\n" + "#" * 2_000_000, "larger than 1 MB")], ids=range(11))
def test_yaml_that_would_fill_time_or_memory(tmp_path, yaml, words):
    began = time.process_time()
    assert words in error_of(yaml_file.read_yaml, text(tmp_path / "a.yaml", yaml), ("names",))
    assert time.process_time() - began < (1 if yaml.startswith("a: ") else 3)


def test_yaml_of_too_many_words(tmp_path, monkeypatch):
    assert yaml_file.read_yaml(text(tmp_path / "a.yaml", BOMB + "names: [a]\n"), ("names",)) == {"names": (["a"], 10)}      # nothing is unfolded
    monkeypatch.setattr(yaml_file, "MAX_NODES", 100)
    assert "line 3: this cannot be read: more than 100 words" in error_of(
        yaml_file.read_yaml, text(tmp_path / "a.yaml", "train: x\n\nx: [" + "a," * 100 + "]"), ("names",))


def test_the_last_folder_called_images_counts(root):
    """The dataset itself may lie in a folder of that name."""
    names, splits = read(make_yolo(root / "images" / "pets"))
    assert boxes(splits["train"][0][1]) == [("big dog", (10, 9, 30, 21), False)]


# ---- what the lines mean, over the whole dataset

BOXES = [("cat", (10, 9, 30, 21), False)]                   # of a line  0 .5 .5 .5 .4  in 40 x 30


def places(number):
    """The shares x y w h of a box; no two numbers give the same, and together they are all over the image."""
    return 0.15 + 0.07 * number, 0.8 - 0.06 * number, 0.12 + 0.01 * (number % 3), 0.2 + 0.02 * (number % 2)


def make_lines(root, line, count=10, yaml="train: images/train\nval: images/val\nnames: [cat, dog]\n"):
    """A dataset in which image number n of train and of val has the line line(x, y, w, h)."""
    make_yolo(root, yaml, count=count)
    for split in ("train", "val"):
        for number in range(count):
            text(root / "labels" / split / f"{split} {number} 猫.txt", line(*places(number)) + "\n")
    return root


def words(*numbers):
    return "0 " + " ".join(f"{number:g}" for number in numbers)


def truths(folder, findings=None):
    """The objects of every image in the lists train and val."""
    splits = read(folder, findings=[] if findings is None else findings)[1]
    return [truth for split in ("train", "val") for _, truth in splits[split]]


def outlines_of(folder):
    _, lists = yolo.read_yolo(folder / "data.yaml", [])
    return [thing["outline"][0] for some in lists.values() for sample in some for thing in sample.truth]


def assert_plain_boxes(folder, *kinds):
    """The boxes are those of x y w h, and nothing but these kinds was found."""
    findings = []
    expected = [(round(40 * (x - w / 2), 3), round(30 * (y - h / 2), 3), round(40 * (x + w / 2), 3), round(30 * (y + h / 2), 3))
                for x, y, w, h in map(places, range(10))] * 2
    assert [boxes(truth) for truth in truths(folder, findings)] == [[("cat", box, False)] for box in expected]
    assert [finding.kind for finding in findings] == list(kinds)


def key_points(x, y, w, h, count, *visible):
    """Inside the box, on a star, so that their order is no outline."""
    points = [(x + w * 0.4 * (-1) ** n * (1 - n / 9), y + h * 0.4 * (-1) ** (n // 2) * (1 - n / 7)) for n in range(count)]
    return [number for point in points for number in (*point, *visible)]


@pytest.mark.parametrize("count, visible", [(1, (2,)), (4, (2,)), (4, (1,)), (17, (2,)), (3, (1,)), (8, ()), (5, ())])
@pytest.mark.parametrize("told_so", [True, False])
def test_key_points_are_left_out(root, count, visible, told_so):
    """With kpt_shape and without; the lines are no outlines, of 8 + 2 points say."""
    shape = f"kpt_shape: [{count}, {2 + len(visible)}]\n" if told_so else ""
    folder = make_lines(root / "y", lambda *box: words(*box, *key_points(*box, count, *visible)),
                        yaml=f"train: images/train\nval: images/val\n{shape}names: [cat, dog]\n")
    assert_plain_boxes(folder, "numbers_unused")
    text(folder / "labels/train/train 3 猫.txt", "0 .5 .5 .5 .4\n")          # a person without key points
    assert boxes(read(folder, findings=[])[1]["train"][3][1]) == BOXES


def test_key_points_that_are_not_labelled_count_for_nothing(root):
    folder = make_lines(root / "y", lambda *box: words(*box, *key_points(*box, 3), 0, 0, *key_points(*box, 2)))
    assert_plain_boxes(folder, "numbers_unused")


@pytest.mark.parametrize("corners", [4, 3, 7, 20])
def test_outlines_of_equally_many_points_stay_outlines(root, corners):
    """Oriented boxes above all, which have four."""
    def outline(x, y, w, h):
        angles = 2 * np.pi * (np.arange(corners) + 0.3) / corners
        return words(*np.stack([x + w / 2 * np.cos(angles), y + h / 2 * np.sin(angles)], 1).clip(0, 1).ravel())

    found = outlines_of(make_lines(root / "y", outline))
    assert [len(points) for points in found] == [corners] * 20
    assert told(root / "y")[1] == []


def test_lines_of_two_readings_are_named(root):
    """Squares in the middle of the image are boxes with two key points as well."""
    folder = make_lines(root / "y", lambda *_: words(.5, .5, .6, .5, .6, .6, .5, .6))
    message, kinds = told(folder)
    assert "label_ambiguous" in kinds and "taken for an outline of 4 points; they could be a box (x y w h) and 2 key points" in message
    assert "kpt_shape: [points, 2]" in message and [len(points) for points in outlines_of(folder)] == [4] * 20


def test_corners_in_the_place_of_centre_and_size(root):
    folder = make_lines(root / "y", lambda x, y, w, h: words(x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    message, kinds = told(folder)
    assert "box_layout" in kinds and "as two corners, x1 y1 x2 y2 all fit" in message and ", line 1: as centre and size" in message
    with pytest.raises(UserError, match="centre and the size"):
        read(folder)


def test_the_upper_left_corner_in_the_place_of_the_centre(root):
    folder = make_lines(root / "y", lambda x, y, w, h: words(x / 9, y / 9, w * 6, h * 3))
    assert "as the upper left corner and the size all fit" in told(folder)[0]


def test_large_boxes_in_the_middle_are_no_corners(root):
    assert told(make_lines(root / "y", lambda x, y, w, h: words(.5, .5, .9 + w / 10, .8 + h / 10)))[1] == []


def test_track_numbers_are_left_out_scores_are_not(root):
    assert_plain_boxes(make_lines(root / "y", lambda x, *rest: words(x, *rest, round(100 * x))), "numbers_unused")
    message, kinds = told(make_lines(root / "z", lambda x, *rest: words(x, *rest, x)))
    assert kinds == ["label_broken"] * 20 and "a prediction with its score" in message
    message, kinds = told(make_lines(root / "x", lambda x, *rest: words(x, *rest, x, round(100 * x))))
    assert kinds == ["label_broken"] * 20 and "its score and the number of its track" in message


@pytest.mark.parametrize("line", ["0 .5 .5 .5 .4,", "0, .5, .5, .5, .4", "0,.5,.5,.5,.4", "0;.5;.5;.5;.4;", "0\t.5\t.5  .5 .4 ", "0.0 .5 .5 .5 .4"])
def test_separators(root, line):
    assert [boxes(truth) for truth in truths(make_lines(root / "y", lambda *_: line, 2))] == [BOXES] * 4


# ---- where the labels and the images are

def move(root, **places):
    """Folders of a dataset get other names; __ is /."""
    for old, new in places.items():
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        (root / old.replace("__", "/")).rename(root / new)
    return root


@pytest.mark.parametrize("names", [{"labels": "Labels"}, {"labels": "LABELS"}, {"labels": "label"}, {"labels": "ds/labels"},
                                   {"labels__train": "txt/a", "labels__val": "txt/b"}, {"labels__train": "labels/Train"}])
def test_labels_in_other_folders(root, names):
    folder = move(make_yolo(root / "y"), **names)
    findings = []
    assert [boxes(truth) for truth in truths(folder, findings)] == [[("big dog", (10, 9, 30, 21), False)]] * 4
    elsewhere = any("/" in new for new in names.values())
    assert [finding.kind for finding in findings] == ["found_elsewhere"] * elsewhere


def test_images_in_jpegimages(root):
    """VOC's name of the folder, YOLO's labels."""
    folder = make_yolo(root / "y", "train: JPEGImages/train\nval: JPEGImages/val\nnames: [cat, big dog]\n")
    (folder / "images").rename(folder / "JPEGImages")
    assert [boxes(truth) for truth in truths(folder)] == [[("big dog", (10, 9, 30, 21), False)]] * 4


@pytest.mark.parametrize("train, val", [("obj_train_data", "obj_Validation_data"), ("train2017", "val2017"), ("train_images", "val_images")])
def test_folders_of_lists(root, train, val):
    for split, count in ((train, 3), (val, 2)):
        for number in range(count):
            image(root / "y" / "images" / split / f"{split}{number}.png")
            text(root / "y" / "labels" / split / f"{split}{number}.txt", "1 .5 .5 .5 .4\n")
    text(root / "y" / "classes.txt", "cat\nbig dog\n")
    assert {split: len(some) for split, some in read(root / "y")[1].items()} == {"train": 3, "val": 2, "test": 0}


def test_labels_in_upper_case(root):
    folder = make_yolo(root / "y")
    for file in list(folder.rglob("*.txt")):
        file.rename(file.with_suffix(".TXT"))
    assert [boxes(truth) for truth in truths(folder)] == [[("big dog", (10, 9, 30, 21), False)]] * 4 and told(folder)[1] == []


def test_a_label_of_another_list_is_never_borrowed(root):
    """Both lists have an image 1; that of train has no label, though labels of train are there."""
    folder = make_yolo(root / "y")
    image(folder / "images/train/1.png")
    text(folder / "labels/val/1.txt", "0 .5 .5 .5 .4\n")
    assert sorted(told(folder)[1]) == ["image_without_txt", "label_without_image"]


def test_two_images_with_one_label(root):
    folder = make_yolo(root / "y")
    image(folder / "images" / "train" / "train 1 猫.jpg")
    message, kinds = told(folder)
    assert kinds == ["stem_twice"] and all(name in message for name in ("train 1 猫.jpg", "train 1 猫.png", "labels/train/train 1 猫.txt"))


@pytest.mark.parametrize("linked", ["images/train", "images/val", "images", "labels", "."])
def test_links_to_folders(root, linked):
    """The folder is elsewhere and a link stands for it; the labels are found by the names on the way."""
    folder = make_yolo(root / "y")
    target = root / "pool"
    (folder / linked).rename(target)
    (folder / linked).symlink_to(target)
    splits = read(folder)[1]
    assert [path.relative_to(folder).as_posix() for path, _ in splits["train"]] == [f"images/train/train {n} 猫.png" for n in (0, 1)]
    assert [boxes(truth) for truth in truths(folder)] == [[("big dog", (10, 9, 30, 21), False)]] * 4


def test_links_to_files_and_to_themselves(root):
    folder = make_yolo(root / "y")
    path = folder / "images" / "train" / "train 0 猫.png"
    path.rename(root / "pool.png")
    path.symlink_to(root / "pool.png")
    loop = folder / "images" / "train" / "loop.png"
    loop.symlink_to(loop)
    message, kinds = told(folder)
    assert kinds == ["no_file"] and "loop.png" in message
    assert [path.name for path, _ in read(folder, findings=[])[1]["train"]] == ["train 0 猫.png", "train 1 猫.png"]


def test_a_link_that_became_a_file_is_named(root):
    folder = make_yolo(root / "y")
    (folder / "images" / "train").rename(root / "pool")
    text(folder / "images" / "train", "../../pool")
    assert "images/train: expected a folder" in error_of(read, folder) and "A link that was copied" in error_of(read, folder)


LISTED = "train: train.txt\nval: images/val\nnames: [cat, big dog]\n"


@pytest.mark.parametrize("name, moved", [
    ("data/images/train/{}.png", False), ("./images/train/{}.png", False), ("images/train/{}", False), ("/home/me/y/images/train/{}.png", True),
    ("C:\\Users\\me\\y\\images\\train\\{}.png", True), ("../../elsewhere/train/{}.png", True), ("pets/images/train/{}.png", True),
    ("{}.png", True)])
def test_names_of_another_machine(root, name, moved):
    """They are found by the end of their path, and a finding says so; nothing outside of the dataset is opened."""
    folder = make_yolo(root / "y", LISTED)
    text(folder / "train.txt", "".join(name.format(f"train {n} 猫") + "\n" for n in (0, 1)))
    findings = []
    assert [path.name for path, _ in read(folder, findings=findings)[1]["train"]] == ["train 0 猫.png", "train 1 猫.png"]
    assert [finding.kind for finding in findings] == ["found_elsewhere"] * moved
    image(root / "elsewhere" / "train" / "none.png")
    text(folder / "train.txt", name.format("none") + "\nimages/train/train 0 猫.png\n")
    assert told(folder)[1] in (["list_no_image"], ["list_name"])


def test_an_image_that_is_missing_is_not_replaced(root):
    """By one of the same name in another list, or in another folder when its own one is there."""
    folder = make_yolo(root / "y", LISTED)
    image(folder / "images" / "val" / "x.png")
    image(folder / "more" / "z.png")
    for name in ("images/train/x.png", "/home/me/images/train/x.png", "images/train/z.png"):
        text(folder / "train.txt", f"images/train/train 0 猫.png\n{name}\n")
        assert [kind for kind in told(folder)[1] if kind != "image_without_txt"][0] in ("list_no_image", "list_name")


@pytest.mark.parametrize("train, val", [
    ("/content/drive/y/images/train", "C:\\y\\images\\val"), ("data/images/train", "y/images/val"), ("../images/train", "..\\images\\val")])
def test_folders_of_another_machine(root, train, val):
    folder = make_yolo(root / "y", f"train: {train}\nval: {val}\nnames: [cat, big dog]\n")
    assert [path.name for path, _ in read(folder, findings=[])[1]["val"]] == ["val 0 猫.png", "val 1 猫.png"]


def test_the_images_of_another_list_are_never_taken(root):
    folder = make_yolo(root / "y", "train: images\nval: valid/images\nnames: [cat, big dog]\n")
    assert "there is no valid/images" in error_of(read, folder)


# ---- lists

def test_a_list_without_labels_or_images_goes_alone(root):
    folder = make_yolo(root / "y", "train: images/train\nval: images/val\ntest: images/test\nnames: [cat, big dog]\n")
    message, kinds = told(folder)
    assert kinds == ["list_left_out"] and "data.yaml, line 3: there is no images/test" in message
    for number in range(3):
        image(folder / "images" / "test" / f"{number}.png")
    message, kinds = told(folder)
    assert kinds == ["part_without_labels"] and "test: none of its 3 images has a txt file of labels" in message
    assert {split: len(some) for split, some in read(folder)[1].items()} == {"train": 2, "val": 2, "test": 0}
    for file in (folder / "labels" / "train").iterdir():
        file.unlink()
    assert told(folder)[1] == ["part_without_labels", "part_without_labels", "list_missing"]         # nothing to train on


@pytest.mark.parametrize("train, val", [("Train", "Validation"), ("training", "valid"), ("TRAIN", "VAL"), ("train", "dev")])
def test_keys_of_a_data_yaml(root, train, val):
    folder = make_yolo(root / "y", f"{train}: images/train\n{val}: images/val\nnames: [cat, big dog]\n")
    assert {split: len(some) for split, some in read(folder)[1].items()} == {"train": 2, "val": 2, "test": 0}
    (folder / "data.yaml").rename(folder / "pets.yaml")
    assert len(read(folder)[1]["val"]) == 2


@pytest.mark.parametrize("names, label", [
    ("{0: cat, 2: big dog}", 2), ("{1: cat, 2: big dog}", 2), ("{5: cat, 31: big dog}", 31), ("data/obj.names", 1), ("classes.txt", 1)])
def test_class_names_with_gaps_or_in_a_file(root, names, label):
    folder = make_yolo(root / "y", f"train: images/train\nval: images/val\nnames: {names}\n", f"{label} .5 .5 .5 .4\n")
    for name in ("obj.names", "classes.txt"):
        text(folder / name, "cat\nbig dog\n")
    assert read(folder)[0] == ["cat", "big dog"] and truths(folder)[0][0]["name"] == "big dog"


def make_cvat(root, train="Train", val="Validation", data=True):
    """What CVAT exports as YOLO 1.1: lists named like the subsets, data/ before every name."""
    for split, numbers in ((train, range(5)), (val, range(5, 8))):
        for number in numbers:
            image(root / f"obj_{split}_data" / f"{number}.png")
            text(root / f"obj_{split}_data" / f"{number}.txt", "1 .5 .5 .5 .4\n")
        text(root / f"{split}.txt", "".join(f"data/obj_{split}_data/{number}.png\n" for number in numbers))
    text(root / "obj.names", "cat\nbig dog\n")
    if data:
        text(root / "obj.data", f"classes = 2\n{train} = data/{train}.txt\n{val} = data/{val}.txt\nnames = data/obj.names\nbackup = backup/\n")
    return root


@pytest.mark.parametrize("train, val, data", [("Train", "Validation", True), ("train", "valid", True), ("Train", "Validation", False),
                                              ("train", "val", False)])
def test_lists_of_cvat_and_darknet(root, train, val, data):
    names, splits = read(make_cvat(root / "y", train, val, data))
    assert names == ["cat", "big dog"] and {split: len(some) for split, some in splits.items()} == {"train": 5, "val": 3, "test": 0}
    assert told(root / "y")[1] == []
    image(root / "y" / "extra.png")
    assert sorted(told(root / "y")[1]) == ["image_without_txt", "not_listed"]


def test_folders_of_roboflow(root):
    """Darknet's format: train, valid and test, each with the images, their labels and the names."""
    for split in ("train", "valid", "test"):
        for number in range(2):
            image(root / "y" / split / f"{split}{number}.png")
            text(root / "y" / split / f"{split}{number}.txt", "1 .5 .5 .5 .4\n")
        text(root / "y" / split / "_darknet.labels", "cat\nbig dog\n")
    names, splits = read(root / "y")
    assert names == ["cat", "big dog"] and {split: len(some) for split, some in splits.items()} == {"train": 2, "val": 2, "test": 2}


def test_files_of_names_that_differ(root):
    """A longer one is the same file with names that were added later."""
    folder = make_cvat(root / "y")
    text(folder / "obj_Train_data" / "classes.txt", "cat\nbig dog\nbird\n")
    assert read(folder)[0] == ["cat", "big dog", "bird"]
    text(folder / "obj_Train_data" / "classes.txt", "big dog\ncat\n")
    assert "two files of class names that differ" in error_of(read, folder)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no files with a colon in their name")
def test_colons_in_names(root):
    folder = make_yolo(root / "y", LISTED)
    image(folder / "images" / "train" / "2024-05-01 10:00:30.png")
    text(folder / "labels" / "train" / "2024-05-01 10:00:30.txt", "0 .5 .5 .5 .4\n")
    text(folder / "train.txt", "images/train/2024-05-01 10:00:30.png\n")
    assert [boxes(truth) for _, truth in read(folder)[1]["train"]] == [BOXES]
