"""A checkpoint that was written once opens in every later version. Two things are kept in tests/data from version 0.4.0 on:

checkpoint_0.4.0.pth       a last.pth as train.py wrote it then, of the small network in colour_net.py, with what it answers to a picture
tensor_names.json          a hash of the names and shapes of all tensors of every network

    python tests/project/test_compatibility.py     writes what is missing, and never over what is there
"""
import hashlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from one_step import take_step

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from colour_net import ColourNet

import nets
from utils import steps
from utils.checkpoint import read_checkpoint, save_checkpoint
from utils.training import resume

DATA = Path(__file__).resolve().parents[1] / "data"
NAMES = DATA / "tensor_names.json"
OLD = DATA / "checkpoint_0.4.0.pth"


def hash_of(net):
    """Of the names and shapes of a network for 3 classes: what a checkpoint's tensors are found by."""
    lines = "".join(f"{name} {tuple(tensor.shape)}\n" for name, tensor in nets.build(net, 3).state_dict().items())
    return hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize("net", nets.NETS)
def test_no_tensor_was_renamed(net):
    known = json.loads(NAMES.read_text(encoding="utf-8"))
    assert net in known, "a new network: run  python tests/project/test_compatibility.py"
    assert hash_of(net) == known[net], f"the checkpoints that users have of {net} would no longer load: keep the old names, or translate them"


def objects():
    """Network, moving average, optimizer and scaler, as train.py makes them, after a few real steps."""
    torch.manual_seed(0)
    model = ColourNet(3)
    average, solver = steps.MovingAverage(model), steps.make_optimizer(model, "adamw", 0.01, 0.9, 0.05)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return model, average, solver, scaler


def test_an_old_checkpoint_predicts_as_it_did(monkeypatch):
    monkeypatch.setitem(nets.NETS, "colour_net", ColourNet)
    model, info = nets.load(OLD)
    content = read_checkpoint(OLD)
    with torch.no_grad():
        scores = model.decode(model(content["picture"])[0])
    assert torch.allclose(scores, content["answer"], atol=1e-6) and info["class_names"] == ["background", "red", "green"]
    assert info["settings"]["lr"] == 0.01


def test_an_old_training_goes_on(tmp_path):
    content = read_checkpoint(OLD)
    model, average, solver, scaler = objects()
    said = []
    (tmp_path / "best.pth").write_bytes(OLD.read_bytes())
    training = SimpleNamespace(run=tmp_path, model=model, average=average, solver=solver, scaler=scaler, device="cpu", say=said.append)
    resume.restore(content, training)
    progress = training.progress
    assert (progress.epoch, progress.step, progress.seen, progress.best) == (2, 1, 4, 0.5) and len(progress.history) == 2
    assert all(torch.equal(tensor, content["training"]["model"][name]) for name, tensor in model.state_dict().items())
    assert average.steps == 5 and float(progress.sums["cross_entropy"]) == 0.25
    assert all(float(solver.state[p]["step"]) == 5 for group in solver.param_groups for p in group["params"])


def write():
    known = json.loads(NAMES.read_text(encoding="utf-8")) if NAMES.exists() else {}
    known = {net: hash_of(net) for net in nets.NETS} | known
    NAMES.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8", newline="\n")
    if OLD.exists():
        return
    model, average, solver, scaler = objects()
    targets = [{"mask": torch.randint(0, 3, (48, 64))} for _ in range(4)]
    for _ in range(5):
        take_step(model, torch.randint(0, 256, (4, 3, 48, 64), dtype=torch.uint8), targets, solver=solver, average=average)
    row = {"epoch": 1, "epochs": 4, "lr": 0.01, "train_cross_entropy": 1.0, "miou": 0.5}
    training = SimpleNamespace(model=model, average=average, solver=solver, scaler=scaler)
    training.progress = resume.Progress(2, 1, 4, {"cross_entropy": torch.tensor(0.25)}, 4, 1.5, [row, {**row, "epoch": 2}], [3.0, 3.0], 0.5, 1)
    picture = torch.rand(1, 3, 8, 16)
    with torch.no_grad():
        answer = average.model.decode(average.model(picture)[0])
    settings = {"net": "colour_net", "optimizer": "adamw", "ema": True, "lr": 0.01, "epochs": 4}
    save_checkpoint(OLD, net="colour_net", options={}, class_names=["background", "red", "green"], input_shape=[48, 64], settings=settings,
                    epoch=2, miou=0.5, model=average.model.state_dict(), picture=picture, answer=answer,
                    training=resume.training_state(training) | {"machine": {"device": "auto", "num_workers": None}})


if __name__ == "__main__":
    write()
