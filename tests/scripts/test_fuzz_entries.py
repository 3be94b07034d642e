"""Random input at every entry point: words, recipes, weight files, what they say, labels in JSON. Only success or our own error, nothing else."""
import contextlib
import copy
import io
import json
import random
import shutil
import traceback
import zipfile

import dirty
import pytest
import torch
from colour_net import ColourNet

import get_map
import get_miou
import nets
import predict
import train
import voc_annotation
from tools import export, fix_masks, kmeans_anchors
from utils.checkpoint import read_checkpoint
from utils.checks.prepare import look_at
from utils.errors import UserError
from utils.settings import read_recipe, read_settings, settable
from utils.training import resume
from utils.training.plan import complete
from utils.weights import load_weights

foreign = []                                            # what no entry point may raise
ENTRIES = (train, predict, get_map, get_miou, voc_annotation, export, fix_masks, kmeans_anchors)
VALUES = ["", "None", "True", "0", "-1", "1e9", "1e999", "nan", "[", "[1, 2]", "{}", "{'a': 1}", "()", "(1,)", "x", "~nosuchuser/x", "/dev/zero",
          "/dev/null", ".", "..", "a/b", "\x1b[2J", "\u202e", "\udcff", "猫", "'", '"', "''", "2x", "416x416", "9" * 400, "[" * 90, "net", "ssd300",
          "yolov8", "unet", "letterbox", "0.5", "image", "video", "cpu", "cuda:99", "detection", "segmentation", "=", "a.py", "http://", "-", "--",
          "b'x'", "1+2j", "{[]: 1}"]
TEXTS = ["lr = 0.1\n", "net = 'x'\n", "a = [1, 2]\n", '"""Doc."""\n', "# note\n", "x = {'a': (1, 2.5)}\n", "import os\n", "f(1)\n",
         "a.b = 1\n", "a, b = 1, 2\n"]
PIECES = ["[", "]", "(", "{", ":", "=", "\\", "'", '"""', "\0", "\n", "\t", "\ufeff", "\u202e", "9" * 500, "-", "lambda", "f''", "b''", "*", "**",
          "\r", "é"]
ODD = (None, True, 0, -1, 2.5, 1e308, 10**20, "", "x", "\x1b[2J", "9" * 3000, [], {}, [[]], [None], {"a": 1}, "猫", "../../etc/passwd", "/dev/zero")


def survives(function, *arguments):
    """The function returns, or says in a sentence what is wrong; whatever else it raises is remembered."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            function(*arguments)
    except UserError as error:
        if not 0 < len(str(error)) < 20_000:
            foreign.append((arguments, str(error)[:500]))
    except SystemExit:
        pass
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        foreign.append((arguments, repr(error)[:300], where.filename, where.lineno))


def fuzz_words(root, count):
    rng = random.Random(11)

    def one(script, words):
        s = read_settings(vars(script), words)
        if script is train:
            run, state = resume.find_run(s)
            complete(s, nets.find_net(s.net), state)
        else:
            script.main(s)
    for number in range(count):
        script, words = ENTRIES[number % len(ENTRIES)], []
        names = settable(vars(script))
        for _ in range(rng.choice((1, 1, 2, 3))):
            value = "".join(rng.choice(VALUES) for _ in range(rng.choice((1, 1, 1, 2))))
            words.append(rng.choice((f"{rng.choice(names)}={value}",) * 8 + (value, f"{value}=1")))
        if any(word.startswith("source=") and "://" in word for word in words):
            continue                                    # nothing outside this machine is asked
        survives(one, script, words)


def fuzz_recipes(root, count):
    rng, path = random.Random(12), root / "r.py"
    for _ in range(count):
        text = list("".join(rng.choice(TEXTS) for _ in range(rng.randrange(1, 5))))
        for _ in range(rng.randrange(5)):
            text.insert(rng.randrange(len(text) + 1), rng.choice(PIECES) * rng.choice((1, 1, 1, 300)))
        path.write_bytes("".join(text).encode(rng.choice(("utf-8", "utf-8", "utf-16", "gb18030")), "replace"))
        survives(read_recipe, path)


def checkpoint(root):
    """What a small training saves, without its optimizer's moments."""
    model = ColourNet(3)
    torch.save({"net": "colour_net", "options": {"dull": 0.0}, "class_names": ["a", "b", "c"], "input_shape": [48, 64], "epoch": 1, "format": 1,
                "settings": {"fit": "letterbox", "test_list": "t.txt", "scale": (0.5, 1.5)}, "model": model.state_dict()}, root / "right.pth")
    return model


def spoilt(rng, raw):
    """A pickle with words changed, moved, doubled, cut off."""
    data = bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 4, 20))):
        at = rng.randrange(len(data))
        what = rng.randrange(5)
        if what == 0:
            data[at] = rng.randrange(256)
        elif what == 1:
            data[at:at] = rng.choice((b"]", b"}", b")", b"(", b"N", b"t", b"u", b"e", b"s", b"b", b"R", b"q\0", b"h\0", b"h\1", b".", b"\x81", b"Q"))
        elif what == 2:
            del data[at:at + rng.randrange(1, 9)]
        elif what == 3:
            data[at:at] = data[(start := rng.randrange(len(data))):start + rng.randrange(1, 60)]
        else:
            data[at:at + 4] = rng.randbytes(4)
        data = data or bytearray(b".")
    return bytes(data)


def fuzz_weights(root, count):
    """The list of names of a real checkpoint, spoilt, in an archive whose checksums are right; and in the old format."""
    rng, path, model = random.Random(13), root / "x.pth", checkpoint(root)
    with zipfile.ZipFile(root / "right.pth") as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = [name for name in records if name.endswith("data.pkl")]
    torch.save(model.state_dict(), root / "old.pth", _use_new_zipfile_serialization=False)
    old = (root / "old.pth").read_bytes()
    for number in range(count):
        if number % 4 == 3:
            path.write_bytes(spoilt(rng, old))
        else:
            with zipfile.ZipFile(path, "w") as archive:
                for name, content in records.items():
                    archive.writestr(name, spoilt(rng, content) if name == pickled else content)
        survives(nets.load, path)
        survives(load_weights, model, path)


def places(content, path=()):
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def put_odd(rng, content):
    """A few values replaced by odd ones, taken away, or put elsewhere."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        known = list(places(content))
        if not known:
            return content
        path, holder = rng.choice(known), content
        for key in path[:-1]:
            holder = holder[key]
        if rng.random() < 0.2:
            del holder[path[-1]]
        elif isinstance(holder, dict) and rng.random() < 0.1:
            holder[rng.choice(("x", "\x1b", ""))] = holder.pop(path[-1])
        else:
            holder[path[-1]] = copy.deepcopy(rng.choice(ODD))
    return content


def fuzz_metadata(root, count):
    rng, path = random.Random(14), root / "x.pth"
    checkpoint(root)
    right = read_checkpoint(root / "right.pth")
    for _ in range(count):
        torch.save(put_odd(rng, copy.deepcopy(right)), path)
        survives(lambda: predict.open_engine(read_settings(vars(predict), [f"model_path={path}", "device=cpu"])))


def fuzz_json(root, count):
    """COCO and labelme: a small set with one file of it changed, read as voc_annotation.py reads it."""
    rng = random.Random(15)
    image = dirty.saved(dirty.Image.new("RGB", (32, 24), (90, 120, 30)), "PNG", quality=90)
    coco = {"images": [{"id": 1, "file_name": "a.png", "width": 32, "height": 24}, {"id": 2, "file_name": "b.png", "width": 32, "height": 24}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [2, 3, 9, 8], "area": 72, "iscrowd": 0,
                             "segmentation": [[2, 3, 11, 3, 11, 11]]}], "categories": [{"id": 3, "name": "cat", "supercategory": "animal"}]}
    shape = {"label": "cat", "points": [[2, 3], [11, 11]], "shape_type": "rectangle", "group_id": None, "flags": {}}
    labelme = {"version": "5.0", "flags": {}, "shapes": [shape, shape | {"shape_type": "polygon", "points": [[2, 3], [11, 3], [11, 11]]}],
               "imagePath": "a.png", "imageData": None, "imageHeight": 24, "imageWidth": 32}
    for number in range(count):
        folder = root / "Set"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in ("a.png", "b.png"):
            (folder / name).write_bytes(image)
        right, name = ((coco, "coco.json"), (labelme, "a.json"))[number % 2]
        text = json.dumps(put_odd(rng, copy.deepcopy(right)), ensure_ascii=rng.random() < 0.5)
        if rng.random() < 0.2:
            at = rng.randrange(len(text))
            text = text[:at] + rng.choice(("[" * 3000, "NaN", "-", "1e999", "\0", '"', "{", "9" * 5000)) + text[at + rng.randrange(4):]
        (folder / name).write_text(text, encoding="utf-8", errors="replace")
        survives(look_at, folder, ("detection", "segmentation")[number // 2 % 2], {"train": "train", "val": "val", "test": "test"}, False)


SHARES = [(fuzz_words, 8000), (fuzz_recipes, 3000), (fuzz_weights, 4000), (fuzz_metadata, 3000), (fuzz_json, 2000)]       # 20,000


@pytest.fixture
def home(root, monkeypatch):
    """An empty project; nothing of it is drawn or downloaded."""
    monkeypatch.setitem(nets.NETS, "colour_net", ColourNet)
    for place in ("utils.prediction.engine.ROOT", "utils.system.download.ROOT", "utils.training.resume.ROOT", "nets.ROOT"):
        monkeypatch.setattr(place, root)
    monkeypatch.chdir(root)
    foreign.clear()
    return root


@pytest.mark.parametrize("fuzz, count", SHARES, ids=lambda part: getattr(part, "__name__", None))
def test_a_sample(home, fuzz, count):
    fuzz(home, count // 50)
    assert not foreign, "\n".join(str(one)[:900] for one in foreign[:40])


@pytest.mark.torture
@pytest.mark.parametrize("fuzz, count", SHARES, ids=lambda part: getattr(part, "__name__", None))
def test_all(home, fuzz, count):
    fuzz(home, count)
    assert not foreign, "\n".join(str(one)[:900] for one in foreign[:40])
