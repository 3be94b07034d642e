"""Predict's stages side by side: order, bounds, errors, stops, batches; the same answers as one by one. And memory that stays flat."""
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from fake_detector import fake_detect, go_fixture, grey, results, save  # noqa: F401
from PIL import Image
from small_nets import small
from torch import nn

import nets
import predict
from utils.checkpoint import save_checkpoint
from utils.prediction import pipeline, torch_engine
from utils.prediction.fuse import fuse_norms
from utils.results import media
from utils.settings import ROOT, read_settings
from utils.system import signals


def test_results_come_in_order_and_few_wait():
    """The first piece takes longest; no more than asked for are ever begun and not taken."""
    begun, taken, most = [], [], 0

    def read(number):
        begun.append(number)
        time.sleep(0.03 if number % 4 == 0 else 0)
        return SimpleNamespace(number=number, pixels=1)
    for one in pipeline.read_ahead(read, range(12), 3, 4):
        taken.append(one.number)
        most = max(most, len(begun) - len(taken))
    assert taken == list(range(12)) and most <= 5


def test_after_a_large_picture_nothing_is_read_ahead():
    sizes, begun = [1, 1, pipeline.ROOM, pipeline.ROOM, pipeline.ROOM], []

    def read(number):
        begun.append(number)
        return SimpleNamespace(number=number, pixels=sizes[number])
    ahead = {one.number: (time.sleep(0.01), len(begun) - 1 - one.number)[1] for one in pipeline.read_ahead(read, range(5), 1, 3)}
    assert ahead[0] == 3 and ahead[3] <= 1


def test_an_error_is_raised_in_its_turn():
    def work(number):
        if number == 2:
            raise ValueError("two")
        return number
    line, taken = pipeline.InOrder(2), []
    for number in range(5):
        line.put(work, number)
    with pytest.raises(ValueError, match="two"):
        taken.extend(iter(line.take()))
    assert list(line.rest()) == [3, 4] and list(line.rest()) == []
    line.close()


def test_what_has_not_begun_is_left():
    line, gate, done = pipeline.InOrder(1), threading.Event(), []
    line.put(gate.wait)
    line.put(done.append, 1)
    threading.Timer(0.05, gate.set).start()
    line.close()
    assert not done


def test_an_iterator_is_asked_ahead():
    def values():
        yield from range(5)
        raise ValueError("after")
    assert list(pipeline.iterate_ahead(iter(range(7)), 2)) == list(range(7)) and not list(pipeline.iterate_ahead(iter([]), 2))
    taken = []
    with pytest.raises(ValueError, match="after"):
        taken.extend(pipeline.iterate_ahead(values(), 2))


def test_batches_hold_one_shape_and_keep_the_order():
    pictures = [SimpleNamespace(number=i, shape=shape, pixels=10) for i, shape in enumerate([1, 2, 1, None, 2, 1, 1, 1, 2, 1])]
    asked = []

    def answer(batch):
        asked.append([one.shape for one in batch])
        return [10 * one.number for one in batch]
    for size, count in ((1, 9), (2, 6), (3, 3), (20, 2)):
        asked.clear()
        answered = list(pipeline.in_batches(iter(pictures), size, answer))
        assert answered == [(one, None if one.shape is None else 10 * one.number) for one in pictures]
        assert all(len(set(shapes)) == 1 and len(shapes) <= size for shapes in asked) and len(asked) == count


# The network: fused, in rectangles, in batches, in bfloat16

def lively(model):
    """Statistics of BatchNorm as if it had been trained."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return model.eval()


@pytest.mark.parametrize("name", ["yolov8", "yolov4_tiny", "ssdlite320_mobilenet_v3", "deeplabv3plus", *(
    pytest.param(name, marks=pytest.mark.slow) for name in ("yolov3", "yolov4", "yolox", "retinanet", "unet", "pspnet", "deeplabv3", "faster_rcnn"))])
def test_fused_networks_say_the_same(name):
    """Faster R-CNN chooses its regions in float32, where rounding decides: of it the first stage is compared."""
    two_stages = name == "faster_rcnn"
    kind, least = (torch.float32, 1e-4) if two_stages else (torch.float64, 1e-6)
    model, shape = small(name)
    model, images = lively(model).to(kind), torch.rand(2, 3, *shape, dtype=kind)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]

    def ask():
        return model.rpn(list(model.neck(model.backbone(images)))) if two_stages else model.decode(model(images)[0])
    with torch.inference_mode():
        before = ask()
        assert fuse_norms(model, shape) >= len(norms) - 1 > 0                      # the auxiliary head of training does not run
        after = ask()
    for one, other in zip(before, after):
        assert one.shape == other.shape and (one - other).abs().max() < least * max(1, one.abs().max())


class Odd(nn.Module):
    """A norm behind two convolutions, a convolution before two norms, a norm behind none, and one pair."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Conv2d(3, 3, 1) for _ in range(4))
        self.both, self.one, self.other, self.first, self.pair = (nn.BatchNorm2d(3) for _ in range(5))

    def forward(self, images):
        x = self.both(self.a(self.first(images))) + self.both(self.b(images))
        y = self.c(x)
        return self.pair(self.d(self.one(y) + self.other(y)))


def test_only_pairs_are_fused():
    torch.manual_seed(0)
    model, images = lively(Odd()), torch.rand(2, 3, 8, 8)
    before = model(images)
    assert fuse_norms(model, (8, 8)) == 1 and isinstance(model.pair, nn.Identity) and isinstance(model.both, nn.BatchNorm2d)
    assert (model(images) - before).abs().max() < 1e-5 and fuse_norms(nn.Conv2d(3, 3, 1), (8, 8)) == 0


@pytest.fixture(name="weights", scope="module")
def weights_fixture(tmp_path_factory):
    """best.pth of a YOLOv8 that finds something everywhere."""
    torch.manual_seed(0)
    model, path = lively(nets.build("yolov8", 3, (96, 96))), tmp_path_factory.mktemp("weights") / "best.pth"
    with torch.no_grad():
        for head in model.class_heads:
            head[-1].weight.normal_(0, 0.3)
            head[-1].bias.zero_()
    save_checkpoint(path, net="yolov8", options={}, class_names=["a", "b", "c"], input_shape=[96, 96], epoch=1, settings={}, model=model.state_dict())
    return path


def opened(path, *words):
    return predict.open_engine(read_settings(vars(predict), [f"model_path={path}", "device=cpu", *words]))


def test_batches_answer_as_one_by_one(weights):
    """In rectangles of one shape; a picture's answer does not depend on its neighbours."""
    engine = opened(weights)
    assert engine.fit == "rect"
    images = [np.random.default_rng(i).integers(0, 256, (54, 96, 3)).astype(np.uint8) for i in range(3)]
    assert engine.fit_picture(images[0])[0].shape == (64, 96, 3)
    together = engine.detect(images, 0.3, 0.7, 50, [engine.fit_picture(image) for image in images])
    for image, one in zip(images, together):
        (alone,) = engine.detect([image], 0.3, 0.7, 50)
        assert len(alone["boxes"]) == len(one["boxes"]) > 5 and (alone["labels"] == one["labels"]).all()
        assert np.abs(alone["boxes"] - one["boxes"]).max() < 0.01 and np.abs(alone["scores"] - one["scores"]).max() < 1e-4


def test_how_close_the_best_one_came(weights):
    """The highest score of all boxes, of the classes that are wanted."""
    engine, image = opened(weights), np.full((96, 96, 3), 90, np.uint8)
    (every,) = engine.detect([image], 0.0, 1.0, 10_000)
    for wanted in ([0, 1, 2], [1]):
        (none,) = engine.detect([image], np.where(np.isin(range(3), wanted), 0.999, np.inf), 0.7, 50)
        first = np.flatnonzero(np.isin(every["labels"], wanted))[0]
        assert not len(none["boxes"]) and none["best"] == (pytest.approx(every["scores"][first]), every["labels"][first])
    assert engine.detect([image], np.full(3, np.inf), 0.7, 50)[0]["best"] is None


@pytest.mark.slow
def test_bfloat16_is_used_where_it_finds_the_same(weights, monkeypatch):
    small_input = "input_shape=32,32"                   # it is slow where no CPU has it
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    (exact,) = opened(weights, small_input, "amp=False").detect([image], 0.3, 0.7, 50)
    monkeypatch.setattr(torch_engine, "choose_precision", lambda amp, device: None if amp is False else torch.bfloat16)
    for difference, expected in ((0.2, torch.bfloat16), (0.0, None)):
        monkeypatch.setattr(torch_engine, "DIFFERENCE", difference)
        engine = opened(weights, small_input)
        (found,) = engine.detect([image], 0.3, 0.7, 50)
        assert engine.precision == expected and np.abs(found["scores"][:5] - exact["scores"][:5]).max() < 0.1
        assert expected is not None or (found["boxes"] == exact["boxes"]).all()


# From the folder to the summary

def readers():
    """The threads that are still there."""
    return [thread.name for thread in threading.enumerate() if "ThreadPool" in thread.name]


def test_many_images_have_one_summary(go, tmp_path):
    for name, value in (("a", 30), ("b", 150), ("c", 30), ("d", 0)):
        save(tmp_path / f"x/{name}.png", grey(50, 60, value))
    said = go(source=tmp_path / "x")
    assert "in 3 of 4 images nothing reached 0.3 (highest 0.12, a/b dog): try confidence=0.1, or train longer" in said and "a.png" not in said
    assert "4 images, 0 skipped. " in said and "    2 boxes\n" in said
    assert re.search(r"\d images/s; ms for each: read \d.*, draw \d+\.\d, save \d+\.\d\n", said)
    assert "    5 boxes\n" in go(source=tmp_path / "x", confidence=0.1)                # as it was advised
    said = go(source=tmp_path / "x", confidence=0.3, verbose=True)
    assert said.index("a.png: 0 boxes") < said.index("b.png: 2 boxes\n    a/b dog  0.90") < said.index("c.png: ") and said.count("train longer") == 1
    assert "in 1 of 2 images nothing reached 0.3 (no box has even 0.001): train longer" in go(source=[f"{tmp_path}/x/b.png", f"{tmp_path}/x/d.png"])


@pytest.mark.parametrize("size", [None, 2])
def test_results_keep_the_order_of_the_files(go, tmp_path, size):
    """Pictures of several shapes and one that is broken, in batches or not."""
    for number in range(9):
        save(tmp_path / f"x/{number}.png", grey(*((40, 60) if number % 3 else (60, 40)), 150 if number % 2 else 30))
    (tmp_path / "x/4.png").write_bytes(b"no picture")
    said = go(source=tmp_path / "x", save_json=True, batch_size=size)
    records = json.loads((tmp_path / "out/x/boxes.json").read_text(encoding="utf-8"))
    assert [record["file"][-5] for record in records] == list("01235678") and "8 images, 1 skipped: 4.png" in said
    assert [len(record["boxes"]) for record in records] == [0, 2, 0, 2, 2, 0, 2, 0]


def test_files_of_one_name_wait_for_each_other(go, tmp_path):
    """None of them is on the disk when the next one gets its name."""
    for folder in "abcdef":
        save(tmp_path / folder / "same.png", grey(40, 60, 150))
    go(source=[f"{tmp_path}/{folder}/same.png" for folder in "abcdef"])
    assert results(tmp_path / "out") == ["same.png", *(f"same_{i}.png" for i in range(2, 7))]


def test_stopped_in_the_middle_keeps_what_was_done(go, tmp_path, monkeypatch, capsys):
    """SIGTERM in the fourth image: three pictures and their records."""
    for number in range(8):
        save(tmp_path / f"x/{number}.png", grey(40, 60, 150))
    seen = []

    def detect(*words, **rules):
        seen.append(1)
        if len(seen) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return fake_detect(*words, **rules)
    monkeypatch.setattr(torch_engine, "detect", detect)
    monkeypatch.setattr(predict, "main", lambda s, main=predict.main: signals.run(main, s))
    with pytest.raises(SystemExit) as end:
        go(source=tmp_path / "x", save_json=True)
    assert end.value.code == 128 + signal.SIGTERM and not readers()
    assert results(tmp_path / "out") == ["x/0.png", "x/1.png", "x/2.png", "x/boxes.json"]
    assert len(json.loads((tmp_path / "out/x/boxes.json").read_text(encoding="utf-8"))) == 3


def test_what_cannot_be_saved_ends_the_run(go, tmp_path, monkeypatch):
    for number in range(6):
        save(tmp_path / f"x/{number}.png", grey(40, 60, 150))
    write = media.save_image

    def fail(path, *words):
        if path.name == "2.png":
            raise OSError("the disk is gone")
        write(path, *words)
    monkeypatch.setattr(media, "save_image", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        go(source=tmp_path / "x")
    assert {"x/0.png", "x/1.png"} <= set(results(tmp_path / "out")) and not readers()


# Memory

def memory_of(process):
    """MB that a process holds, None once it has ended."""
    try:
        text = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    return int(found[1]) / 1024 if found else None


@pytest.mark.torture
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="only Linux tells what another process holds")
@pytest.mark.parametrize("kind", ["images", "frames"])
def test_memory_stays_flat(weights, tmp_path, kind):
    """2,000 images of several shapes, 1,000 frames: the second half of the run holds no more than the first."""
    source = tmp_path / "many"
    source.mkdir()
    if kind == "images":
        for number in range(2000):
            noise = np.random.default_rng(number).integers(0, 256, (30 + number % 5, 40 + number % 7, 3)).astype(np.uint8)
            Image.fromarray(noise).save(source / f"{number:04}.jpg")
    else:
        source = tmp_path / "film.avi"
        film = cv2.VideoWriter(str(source), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
        for number in range(1000):
            film.write(np.full((48, 64, 3), number % 256, np.uint8))
        film.release()

    words = [f"model_path={weights}", "device=cpu", f"source={source}", f"output={tmp_path / 'out'}", "confidence=0.6"]
    process = subprocess.Popen([sys.executable, str(ROOT / "predict.py"), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    held = []
    while process.poll() is None:
        time.sleep(0.2)
        if (tmp_path / "out").exists():
            held.append(memory_of(process))
    said = process.stdout.read()
    assert process.returncode == 0 and ("2000 images, 0 skipped" in said if kind == "images" else "1000 frames in" in said), said
    held = [value for value in held if value]
    assert len(held) > 20 and max(held[len(held) // 2:]) < max(held[len(held) // 4:len(held) // 2]) + 10, held
