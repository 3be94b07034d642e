"""What can happen to a training: each has its sentence, and what was learned stays clean and whole."""
import contextlib
import copy
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from one_step import take_step
from torture import FAMILIES, LINUX, differences
from user import ROOT

import nets
from utils import dataset, steps
from utils.checkpoint import read_checkpoint
from utils.errors import UserError
from utils.training import accidents

WORDS = FAMILIES["yolo"]
NAN = {"picture": "The pictures themselves are not finite", "weight": r"The weights backbone\.\S+ are not finite",
       "gradient": r"All layers and losses are finite; the gradient of \S+ is not", "loss": r"All layers are finite, the loss box is not"}
CPU = torch.device("cpu")
slow = pytest.mark.torture


def tensors(content):
    """All tensors of nested dicts and lists."""
    if isinstance(content, torch.Tensor):
        yield content
    elif isinstance(content, (dict, list, tuple)):
        for value in content.values() if isinstance(content, dict) else content:
            yield from tensors(value)


@LINUX
@pytest.mark.parametrize("what, step", [pytest.param(what, step, marks=() if (what, step) == ("loss", 6) else slow)
                                        for what in NAN for step in (1, 6, 13)])
def test_nan(server, what, step):
    """The step, the files of its batch, the parts of the loss, the layer, three things to try; nothing that is not a number in any file; and
    without the fault the run goes on from before it."""
    server.clear()
    answer = server.run(*WORDS, faults=[["nan_in", what, step]], status=1)
    out = " ".join(answer["out"].split())
    where = {1: "epoch 1, step 1", 6: "epoch 2, step 3", 13: "epoch 3, step 5"}[step]
    assert f"({where}; box " in out and "objectness " in out and "learning rate " in out
    assert re.search(NAN[what], out), out[-2500:]
    named = out.split("Pictures of this step: ")[1].split(". Weights, moving average")[0].split(", ")
    listed = "".join(server.listed())
    assert len(set(named)) == {1: 8, 6: 4, 13: 2}[step] and all(name.endswith(".jpg") and name in listed for name in named)
    assert all(f"({number})" in out for number in (1, 2, 3))
    for path in server.logs().glob("*/*.pth"):
        assert all(torch.isfinite(t).all() for t in tensors(read_checkpoint(path)) if t.is_floating_point()), path.name
    if step > 6:
        if not hasattr(server, "whole_yolo"):
            kept = next(server.logs().iterdir()).rename(server.kept / "nan")
            server.whole_yolo = server.whole(*WORDS)[1]
            server.clear()
            server.logs().mkdir()
            kept.rename(server.logs() / "nan")
        assert not differences(server.whole_yolo, server.finish())


@LINUX
@slow
def test_memory_in_the_trial_step(server):
    """It halves until it fits, says the numbers, and trains as if that had been asked for."""
    words = (*WORDS, "epochs=1", "freeze_epochs=0", "save_minutes=9.0")
    answer, found = server.whole(*words, faults=[["out_of_memory", 1]])
    assert "a step of 4 pictures does not fit" in answer["out"] and "a step of 2 pictures does not fit" in answer["out"]
    assert "(accumulate=4)" in answer["out"]
    assert not differences(found, server.whole(*words, "accumulate=4")[1])
    server.clear()
    assert "Even one picture at a time does not fit" in server.run(*words, faults=[["out_of_memory", 0]], status=1)["out"]


@LINUX
@slow
@pytest.mark.parametrize("fault, where", [(["out_of_memory", 0, 6, 6], "epoch 2, step 2"), (["evaluation_out_of_memory"], "epoch 2, step 6")])
def test_memory_later(server, fault, where):
    _, whole = server.whole(*WORDS)
    server.clear()
    answer = server.run(*WORDS, faults=[fault], status=1)
    assert f"Out of memory in {where}" in answer["out"] and "resume=True accumulate=2" in answer["out"]
    assert not differences(whole, server.finish())


def test_stages_are_tried():
    """The batch is cut until each stage fits, the largest number of pieces counts for all, and not even one picture at a time is an end."""
    sizes = []

    class Greedy(Small):
        room = 3

        def forward(self, images, targets=None):
            sizes.append(len(images))
            if len(images) > self.room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(images, targets)
    data = [(torch.zeros(3, 8, 8, dtype=torch.uint8), {"index": index}) for index in range(20)]

    class Data(list):
        small_until = 3

        def __getitem__(self, key):
            assert key[0] == 3                              # an epoch with the full input size
            return super().__getitem__(key[1])
    model, data = Greedy(1.0), Data(data)
    parts, notes = accidents.try_stages(model, data, [(False, 8), (True, 16)], 1, CPU, None, 0)
    assert parts == 8 and sizes == [8, 4, 2, 2, 2, 2, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert ["8 pictures does" in notes[0], "4 pictures does" in notes[1], "4 pictures with a frozen" in notes[2], len(notes)] == [True, True, True, 3]
    assert "(accumulate=8)" in notes[2]
    model.room = 0
    with pytest.raises(UserError, match="Even one picture at a time"):
        accidents.try_stages(model, data, [(False, 4)], 1, CPU, None, 0)


def test_pieces_add_up():
    """With frozen statistics the gradients of a batch in two or four pieces, also uneven ones, are those of the whole batch."""
    torch.manual_seed(0)
    model = nets.build("yolov4_tiny", 2, (64, 64))
    steps.set_frozen(model, False)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    images = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8)
    targets = [{"boxes": torch.tensor([[5.0, 5, 20 + 8 * i, 40]]), "labels": torch.tensor([i % 2])} for i in range(4)]
    targets.append({"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)})
    found = []
    for parts in (1, 2, 4, 5):
        gradients, losses = take_step(copy.deepcopy(model), images, targets, parts)
        found.append((torch.cat([gradient.flatten() for gradient in gradients.values()]), torch.stack(list(losses.values()))))
    for gradient, losses in found[1:]:
        assert (gradient - found[0][0]).abs().max() <= 1e-4 * found[0][0].abs().max()
        assert torch.allclose(losses, found[0][1], rtol=1e-4)


@LINUX
@slow
@pytest.mark.parametrize("name", ["yolo", "deeplab"])
def test_a_worker_is_killed(server, name):
    """In an epoch, and in an evaluation: the training goes on at the same picture, with the same end."""
    words = FAMILIES[name]
    _, whole = server.whole(*words)
    for fault in (["worker_dies", True, 1, 5], ["worker_dies", False, 0, 3]):
        answer, found = server.whole(*words, "num_workers=2", faults=[fault])
        assert "NOTE: a loader process died" in answer["out"] and not differences(whole, found)


@LINUX
@slow
@pytest.mark.parametrize("name", ["yolo", "deeplab"])
def test_a_picture_breaks(server, name):
    """In the second epoch a file can no longer be read: another takes its place, it is said once, and wherever it is noticed the end is the same."""
    words = (*FAMILIES[name], "cache=False")
    _, whole = server.whole(*words)
    results = []
    for workers in (0, 1, 2):
        answer, found = server.whole(*words, f"num_workers={workers}", faults=[["picture_breaks", 4, 1]])
        assert "is cut off after 600 bytes. The next picture of the list takes its place." in answer["out"]
        results.append(found)
    assert differences(whole, results[0]) and not differences(results[0], results[1]) and not differences(results[0], results[2])


@LINUX
@slow
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("batch, count", [(1, 3), (4, 5), (4, 3), (8, 1)])
def test_odd_sizes(server, name, batch, count):
    """One picture a step, a last batch of one, a dataset smaller than the batch, of one picture; and in the evaluation nothing is found."""
    lines = server.listed("segmentation" if name == "deeplab" else "detection")
    (server.project / "few.txt").write_text("".join(lines[:count]), encoding="utf-8")
    server.clear()
    answer = server.run(*FAMILIES[name], f"batch_size={batch}", f"freeze_batch_size={2 * batch}", "train_list=few.txt", "epochs=2", "freeze_epochs=1",
                        "eval_every=1", faults=[["nothing_found"]], status=0)
    assert ("BatchNorm sees one image at a time" in answer["out"]) == (batch == 1)
    (path,) = server.logs().glob("*/last.pth")
    history = read_checkpoint(path)["training"]["history"]
    assert len(history) == 2 and all(math.isfinite(value) for row in history for value in row.values())


@LINUX
@slow
def test_only_background(server):
    lines = [line.rstrip() for line in server.listed()]
    bare = [line.split(".jpg")[0] + ".jpg" for line in lines]
    (server.project / "bare.txt").write_text("\n".join(bare) + "\n", encoding="utf-8")
    server.clear()
    assert "bare.txt" in server.run(*WORDS, "train_list=bare.txt", status=1)["out"]
    answer = server.run(*WORDS, "val_list=bare.txt", "epochs=1", "freeze_epochs=0", status=0)
    assert "cannot be measured while training" in answer["out"]
    (server.project / "one.txt").write_text("\n".join([*bare[1:], lines[0]]) + "\n", encoding="utf-8")
    assert server.run(*WORDS, "train_list=one.txt", "epochs=1", "freeze_epochs=0", "batch_size=2", status=0)


@LINUX
@slow
def test_early_stopping(server):
    """It stops when it said it would, also when it was killed after the last save; and goes on where more patience is asked for."""
    words = (*WORDS, "epochs=6", "freeze_epochs=0", "eval_every=1", "patience=2", "save_minutes=99.0", "batch_size=18")
    answer, whole = server.whole(*words, faults=[["random_best"]])
    assert "stopped early (patience=2)" in answer["out"] and whole["last.epoch"] == "3" and whole["last.training.waited"] == "2"
    server.clear()
    assert server.run(*words, faults=[["random_best"]], at=[["after utils.training.keep.save", 5]])["status"] == -9
    assert not differences(whole, server.finish())
    server.run("resume=True", "patience=9", "epochs=4", status=0)
    assert server.result()["last.epoch"] == "4"


class Small(torch.nn.Module):
    """A network whose loss in half precision is what the test says."""

    def __init__(self, factor):
        super().__init__()
        self.backbone, self.factor, self.mixed = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)), factor, False
        self.head = torch.nn.Parameter(torch.zeros(()))

    def forward(self, images, targets=None):
        loss = self.backbone(images).square().mean() + self.head
        return None, {"a": loss * (self.factor if self.mixed else 1.0)}


@pytest.mark.parametrize("factor, good", [(1.0, True), (1.05, True), (1.2, False), (0.5, False), (math.nan, False), (math.inf, False)])
def test_mixed_precision_is_tested_first(monkeypatch, factor, good):
    model = Small(factor)

    @contextlib.contextmanager
    def autocast(device, precision):
        model.mixed = precision is not None
        yield
        model.mixed = False
    monkeypatch.setattr(accidents, "autocast", autocast)
    monkeypatch.setattr(accidents, "first_batch", lambda *_: (torch.rand(2, 3, 8, 8), [{}, {}]))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    precision, note = accidents.check_precision(model, [0, 1], CPU, torch.bfloat16, 0)
    assert (precision == torch.bfloat16) == good and (note is None) == good
    if not good:
        assert "mixed precision (bfloat16) gives a loss of" in note and "float32 is used" in note
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())       # only a trial


def test_a_trial_changes_nothing():
    """Neither statistics nor gradients nor what comes from the random generator."""
    model = nets.build("yolov4_tiny", 2, (64, 64))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    data = [(torch.zeros(3, 64, 64, dtype=torch.uint8), {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "index": 0})]

    class Data(list):
        small_until = 0

        def __getitem__(self, key):
            return super().__getitem__(key[1])
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    assert accidents.try_step(model, Data(data), False, 2, 1, CPU, None, 0) is True
    assert torch.equal(torch.rand(3), expected) and all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_loss_in_eval_mode():
    """BatchNorm that never took its statistics (momentum 0): the same pictures have another loss in eval mode, and that is said; else not."""
    torch.manual_seed(0)
    model = Small(1.0)
    images = 5 + 30 * torch.rand(4, 3, 8, 8)
    notes = []
    for momentum in (0.0, 1.0):
        model.backbone[1].momentum = momentum
        model.train()
        loss = float(model(images, [])[1]["a"].detach())
        notes.append(accidents.gap_note(model, images, [{}] * 4, loss, CPU, None))
        assert model.training and model.backbone[1].training
    assert notes[1] is None and "in train mode and" in notes[0] and "in eval mode" in notes[0]


def test_nothing_is_found():
    faint, clear, none = ({"scores": np.array(scores)} for scores in ([0.01, 0.02], [0.7], []))
    assert "no box has a score above 0.05, the best is 0.020" in accidents.nothing_note([faint, none], "detection", 5, ["a"])
    assert "the best is 0.000" in accidents.nothing_note([none], "detection", 9, ["a"])
    assert accidents.nothing_note([faint, clear], "detection", 9, ["a"]) is None and accidents.nothing_note([faint], "detection", 4, ["a"]) is None
    empty, both = np.zeros((20, 20), np.uint8), np.arange(400).reshape(20, 20) % 2
    assert 'everything is "ground"' in accidents.nothing_note([empty], "segmentation", 5, ["ground", "cat"])
    assert accidents.nothing_note([empty, both], "segmentation", 5, ["ground", "cat"]) is None


def test_little_shared_memory(monkeypatch, capsys):
    """docker gives 64 MB: as many workers as fit, and the option that gives more."""
    data = SimpleNamespace(input_shape=(416, 416), bytes_per_pixel=3)
    monkeypatch.setattr(dataset, "SHARED_MEMORY", ROOT)
    for free, workers in ((64 * 2**20, 2), (10**10, 8), (10**6, 0)):
        monkeypatch.setattr(dataset.shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        assert dataset.enough_memory(8, data, 16) == workers
        assert ("--shm-size" in capsys.readouterr().out) == (workers < 8)


def test_what_is_an_accident():
    words = "DataLoader worker (pid(s) 77) exited unexpectedly"
    assert accidents.is_dead_worker(RuntimeError(words)) and not accidents.is_dead_worker(RuntimeError("shapes do not fit"))
    assert not accidents.is_dead_worker(UserError(words)) and accidents.is_dead_worker(OSError(12, "Cannot allocate memory"))
    assert accidents.is_out_of_memory(torch.OutOfMemoryError("x")) and accidents.is_out_of_memory(MemoryError())
    assert not accidents.is_out_of_memory(RuntimeError("x"))
