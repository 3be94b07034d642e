"""Names and files from strangers: nothing in them steers the terminal, and what has no end is not read."""
import contextlib
import io
import os
import socket
import sys

import dirty
import pytest
import torch
from colour_net import ColourNet
from PIL import Image

import get_map
import get_miou
import nets
import predict
import summary
import train
import voc_annotation
from tools import doctor, export, fix_masks, kmeans_anchors, make_shapes
from utils import errors, settings
from utils.checkpoint import save_checkpoint
from utils.errors import UserError, harmless, show_sentence_only
from utils.formats.sweep import look_at_sample
from utils.images import open_image
from utils.settings import find, printable, read_settings, several_paths, shown
from utils.system.files import read_bytes

SCRIPTS = {"train": train, "predict": predict, "get_map": get_map, "get_miou": get_miou, "summary": summary, "voc_annotation": voc_annotation,
           "doctor": doctor, "export": export, "fix_masks": fix_masks, "kmeans_anchors": kmeans_anchors, "make_shapes": make_shapes}
STEERING = ["\x1b[2J", "\x1b]0;title\x07", "\r", "\x08\x08", "\x9b31m", "\u202egnp", "\u2066", "\u2028", "\u200b", "\ufeff", "\x7f", "\udce9"]
POSIX = pytest.mark.skipif(os.name != "posix", reason="Windows has no such files and allows no such names")


@pytest.mark.parametrize("word", STEERING, ids=ascii)
def test_what_steers_is_shown(word, capsys):
    """One place lets everything out: ordinary letters of any language pass, line ends too."""
    read_settings(vars(summary), [])
    print(f"class 猫 é 👍 {word}x\ttwo\nlines")
    sys.stderr.write(f"{word}y\n")
    said = capsys.readouterr()
    assert "class 猫 é 👍 " in said.out and "x\ttwo\nlines" in said.out
    assert word not in said.out and (word not in said.err or word == "\r")
    assert word not in printable(f"a{word}b") and word not in shown(f"/a{word}/b")


def test_a_bar_may_go_back():
    assert harmless("\r 50%|#", "\n\t\r") == "\r 50%|#" and printable("大 熊\u3000猫") == "大 熊\u3000猫"


def test_names_of_classes_and_tensors(tmp_path, monkeypatch, capsys):
    """A checkpoint whose classes and tensors are called like commands to the terminal."""
    monkeypatch.setitem(nets.NETS, "colour_net", ColourNet)
    state = ColourNet(3).state_dict() | {"\x1b[31mred": torch.zeros(1)}
    names, path = ["a\x1b[2J", "b\u202e", "c\r"], tmp_path / "best.pth"
    save_checkpoint(path, net="colour_net", options={}, class_names=names, input_shape=[48, 64], epoch=1, settings={}, model=state)
    with pytest.raises(UserError, match="does not fit") as error:
        predict.open_engine(read_settings(vars(predict), [f"model_path={path}", "device=cpu"]))
    show_sentence_only(UserError, error.value, None)
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err and "\\x1b[31mred" in said.err


def hostile_folder(folder, task="detection"):
    """A VOC folder with 12 good pictures, and beside them everything that is no file or has no name."""
    for path, content in dirty.clean(task).items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    for sub, suffix in (("JPEGImages", ".jpg"), dirty_labels(task)):
        place, good = folder / sub, next((folder / sub).glob("*" + suffix)).read_bytes()
        for name in (b"esc\x1b[2J", b"not\xff\xfeutf8", "turned\u202e".encode()):
            (place / os.fsdecode(name + suffix.encode())).write_bytes(good)
        os.mkfifo(place / f"pipe{suffix}")
        (place / f"itself{suffix}").symlink_to(f"itself{suffix}")
        (place / f"endless{suffix}").symlink_to("/dev/zero")
        (place / f"nowhere{suffix}").symlink_to("/nowhere/x")
        (place / f"folder{suffix}").mkdir()
        with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(place):
            listening.bind(f"socket{suffix}")


def dirty_labels(task):
    return ("Annotations", ".xml") if task == "detection" else ("SegmentationClass", ".png")


@POSIX
@pytest.mark.skipif(sys.platform == "darwin", reason="its file system allows no names that are not utf-8")
@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_a_folder_with_everything_that_is_no_picture(root, capsys, task):
    """voc_annotation.py and doctor.py work without these, and say so."""
    folder = root / "VOCdevkit" / "Set"
    hostile_folder(folder, task)
    voc_annotation.main(read_settings(vars(voc_annotation), [f"dataset={folder}", "new_split=True"]))
    said = capsys.readouterr().out
    assert "[bad_name: works without these]" in said and "[no_file: works without these]" in said and "\x1b" not in said and "\u202e" not in said
    with contextlib.suppress(SystemExit):
        doctor.main(read_settings(vars(doctor), [f"dataset={folder}", "samples=0", f"out={root / 'out'}"]))
    said = capsys.readouterr().out
    assert "[no_file: works without these]" in said and "\x1b" not in said
    (report,) = (root / "out").glob("*/report.txt")
    assert "\x1b" not in report.read_text(encoding="utf-8")


@POSIX
@pytest.mark.parametrize("name", ["pipe", "zero", "socket"])
def test_what_has_no_end_is_not_read(tmp_path, name):
    path = tmp_path / f"{name}.png"
    if name == "pipe":
        os.mkfifo(path)
    elif name == "zero":
        path.symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(tmp_path):
            listening.bind(path.name)
    for read in (open_image, read_bytes):
        with pytest.raises(UserError, match="is no file but a pipe, a device or a socket"):
            read(path)


WORDS = ["dataset=[abc", "dataset=[1, 2]", "dataset=[]", "dataset=~nosuchuser/x", "net=" + "x" * 100_000, "net=" + "x" * 900,
         "input_shape=" + "[" * 100_000, "input_shape=" + "[" * 4000, "source=~nosuchuser/x", "input_shape=" + "9" * 3000 + "x5",
         "model_path=~nosuchuser/x", "model_path=" + "y" * 5000, "net_options=" + "{" * 3000, "epochs=" + "9" * 3000, "a" * 100_000 + "=1",
         "~nosuchuser/x.py", "x" * 3000 + ".py", "input_shape=" + "(1," * 30, "lr=1e999", "batch_size=" + "9" * 300, "seed=0x" + "f" * 3000,
         "classes_path=[1]", "classes_path=~nosuchuser/x", "\x1b[2J=3", "num_classes=-1", "num_workers=100000", "input_shape=999999,999999",
         "--" + "z" * 9000]


@pytest.mark.parametrize("name", SCRIPTS)
def test_words_end_in_one_sentence(root, monkeypatch, capsys, name):
    """Words that no shell and no program should let through; what a script does not know it says."""
    script, home = SCRIPTS[name], root / "out"
    monkeypatch.chdir(root)                             # some words are no mistake to some scripts: what these write stays here
    quick = {"train": [f"dataset={root}/none"], "doctor": [f"out={home}"], "make_shapes": ["train=0"]}.get(name, [])
    for word in WORDS:
        with pytest.raises((UserError, SystemExit)) as error:       # the doctor exits with what it found
            script.main(read_settings(vars(script), [*quick, word]))
            raise UserError("it worked")
        sentence = str(error.value)
        assert 0 < len(sentence) < 6000 and "Traceback" not in sentence, (word[:60], sentence[:300])
    capsys.readouterr()


@pytest.mark.parametrize("words", ["[abc", "[1]", "[]", "['']", "[" * 100_000, "['a', 'b'"])
def test_several_paths(words):
    with pytest.raises(UserError, match="expected a path, or a list"):
        several_paths(words)
    assert several_paths('["a", "b"]') == ["a", "b"] and several_paths("a [b") == ["a [b"]


@pytest.mark.parametrize("path", ["a\0b", "~nosuchuser/x", "z" * 5000])
def test_paths(path):
    try:
        found = find(path)
    except UserError as error:
        assert "cannot be used as a path" in str(error) and len(str(error)) < 400
    else:                                               # newer versions of Python say no more than that it is not there
        assert not found.exists() or path == "a\0b"


@pytest.mark.parametrize("content", [b"lr = " + b"[" * 100_000, b"lr = 1\0", b"\xff\xfe", b"lr = " + b"-" * 50_000 + b"1", b"lr = {[]: 1}",
                                     b"import os", b"lr = 1 +" * 3000 + b"1"])
def test_recipes(tmp_path, content):
    (tmp_path / "r.py").write_bytes(content)
    with pytest.raises(UserError, match=r"r\.py"):
        settings.read_recipe(tmp_path / "r.py")


def test_the_stream_is_wrapped_once(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    for _ in range(3):
        errors.speak_plainly()
    print("a\x1bb")
    assert out.getvalue() == "a\\x1bb\n" and sys.stdout.stream is out


def test_a_huge_picture_is_named(tmp_path):
    """It is read, but whoever waits for it should know why."""
    Image.new("L", (7200, 7000)).save(tmp_path / "huge.png", compress_level=1)
    sample, findings = look_at_sample(tmp_path / "huge.png")
    assert sample.size == (7200, 7000) and [(finding.kind, finding.detail) for finding in findings] == [("image_huge", "7200 x 7000 pixels")]
