"""What a checkpoint says besides its tensors, with values of the wrong kind: every script that reads it ends in one sentence that names the field."""
import copy
import shutil
from types import SimpleNamespace

import pytest
import torch
from colour_net import ColourNet, draw

import get_map
import get_miou
import nets
import predict
import train
from utils import steps
from utils.checkpoint import read_checkpoint
from utils.errors import UserError
from utils.settings import read_settings
from utils.training import resume
from utils.training.plan import complete

WRONG = (None, 3, -1, 2.5, float("nan"), float("inf"), 10**30, True, "x", "\x1b[2J\n", "", [], [None], {}, {1: 2}, {"a": [{}]}, (1, 2),
         torch.zeros(2), ["a"] * 20_000, [10**9, 10**9], [[]])
TOP = [("net",), ("options",), ("class_names",), ("input_shape",), ("epoch",), ("model",), ("settings",), ("training",)]


def whole(folder):
    """A last.pth as train.py writes it."""
    torch.manual_seed(0)
    model = ColourNet(3)
    solver = steps.make_optimizer(model, "adamw", 0.01, 0.9, 0.05)
    model(torch.rand(1, 3, 48, 64), [{"mask": torch.zeros(48, 64, dtype=torch.int64)}])[1]["cross_entropy"].backward()
    solver.step()
    row = {"epoch": 1, "epochs": 4, "lr": 0.01, "train_cross_entropy": 1.0, "miou": 0.5}
    training = SimpleNamespace(model=model, average=steps.MovingAverage(model), solver=solver, scaler=torch.amp.GradScaler("cpu", enabled=False),
                               lists={}, circumstances={})
    training.progress = resume.Progress(1, 1, 4, {"cross_entropy": torch.tensor(0.25)}, 4, 1.5, [row], [3.0], 0.5, 1)
    listed = str(folder / "t_test.txt")
    settings = {"net": "colour_net", "optimizer": "adamw", "ema": True, "lr": 0.01, "epochs": 4, "fit": "letterbox", "test_list": listed,
                "train_list": listed, "val_list": listed, "classes_path": str(folder / "names.txt"), "threshold": 0.5, "ignore_labels": [],
                "dataset": "VOCdevkit/none", "batch_size": 4, "input_shape": [48, 64], "flip": 0.5, "scale": [0.5, 1.5], "schedule": "cosine"}
    return {"net": "colour_net", "options": {"dull": 0.0}, "class_names": ["background", "red", "green"], "input_shape": [48, 64],
            "settings": settings, "epoch": 1, "confidence": None, "miou": 0.5, "model": model.state_dict(), "format": 1,
            "training": resume.training_state(training) | {"machine": {"device": "cpu", "num_workers": None}}}


def fields(content, path=()):
    """The places of all values: of a dict and of the dicts in it, and the first of each list of dicts."""
    for key, value in content.items():
        yield (*path, key)
        if isinstance(value, dict) and not isinstance(next(iter(value.values()), None), torch.Tensor):
            yield from fields(value, (*path, key))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield from fields(value[0], (*path, key, 0))


def changed(content, path, value):
    content = copy.deepcopy(content)
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return content


def readers(folder):
    """name -> what a script does with best.pth or last.pth until its first picture."""
    words = [f"model_path={folder}", "device=cpu"]                          # a run's best.pth

    def look():
        s = read_settings(vars(predict), words)
        engine = predict.open_engine(s)
        predict.check_options(s, engine, predict.samples_of_the_test_list(engine))

    def measure(script):
        s = read_settings(vars(script), words)
        path, model, info = script.load_model(s)
        script.open_list(s, info)

    def go_on():
        s = read_settings(vars(train), [f"resume={folder}"])
        run, state = resume.find_run(s)
        network = nets.find_net(s.net)
        complete(s, network, state)
        train.build_options(s, network, state)
        model = ColourNet(3)
        resume.check_same_run(state, s, ["background", "red", "green"], run)
        solver = steps.make_optimizer(model, "adamw", 0.01, 0.9, 0.05)
        resume.restore(state, SimpleNamespace(run=run, folder="logs/x", model=model, average=steps.MovingAverage(model), solver=solver, device="cpu",
                                              scaler=torch.amp.GradScaler("cpu", enabled=False), say=print))
    return {"predict": look, "get_miou": lambda: measure(get_miou), "get_map": lambda: measure(get_map), "resume": go_on}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setitem(nets.NETS, "colour_net", ColourNet)
    monkeypatch.setattr(ColourNet, "recipe", {**nets.find_net("deeplabv3plus").recipe, "input_shape": (48, 64)})
    draw(tmp_path / "a.png", tmp_path / "b.png")
    (tmp_path / "t_test.txt").write_text(f"{tmp_path}/a.png\t{tmp_path}/b.png\n", encoding="utf-8")
    (tmp_path / "names.txt").write_text("background\nred\ngreen\n", encoding="utf-8")
    return tmp_path


def outcome(function):
    """"" where it worked, else the sentence. Every other exception ends the test."""
    try:
        function()
        return ""
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("every", [31, pytest.param(1, marks=pytest.mark.torture)])
def test_wrong_kinds(home, capsys, every):
    """Every field with every wrong value, or one in so many: each works or ends in a sentence."""
    right = whole(home)
    cases = [(path, value) for path in fields(right) for value in WRONG]
    assert len(cases) > 1000
    tried, refused, foreign = 0, 0, []
    for path, value in cases[::every]:
        torch.save(changed(right, path, value), home / "last.pth")
        shutil.copy(home / "last.pth", home / "best.pth")
        for name, function in readers(home).items():
            try:
                said = outcome(function)
            except Exception as error:
                foreign.append((path, value, name, repr(error)))
                continue
            tried, refused = tried + 1, refused + bool(said)
            named = path not in TOP or isinstance(value, (str, dict)) or "last.pth" in said and path[0] in said
            if len(said) > 1200 or name == "resume" and not named:
                foreign.append((path, value, name, said))
    assert not foreign, "\n".join(map(str, foreign))
    assert refused > tried / 3
    assert "\x1b" not in capsys.readouterr().out


def test_the_right_one_is_read(home):
    torch.save(whole(home), home / "last.pth")
    shutil.copy(home / "last.pth", home / "best.pth")
    said = {name: outcome(function) for name, function in readers(home).items()}
    assert said["predict"] == said["get_miou"] == said["resume"] == "" and "get_miou.py" in said["get_map"]
    assert read_checkpoint(home / "last.pth")["epoch"] == 1


@pytest.mark.parametrize("shape, words", [([40_000, 40_000], "17 million pixels"), ([10**9, 8], "17 million"), ([8, 8, 8], "input_shape")])
def test_a_file_does_not_decide_over_the_memory(home, shape, words):
    torch.save(whole(home) | {"input_shape": shape}, home / "best.pth")
    with pytest.raises(UserError, match=words):
        nets.load(home / "best.pth")


def test_thousands_of_classes_need_their_weights(home):
    """The size of the network follows from the file's names; its tensors have to be there before memory is taken for them."""
    content = whole(home) | {"net": "ssd300", "class_names": [str(i) for i in range(9000)], "input_shape": [300, 300], "options": {}}
    torch.save(content, home / "best.pth")
    with pytest.raises(UserError, match=r"does not fit nets/ssd300\.py"):
        nets.load(home / "best.pth")


def test_ruined_weights_are_said(home, capsys):
    content = whole(home)
    content["model"]["backbone.weight"][:] = float("nan")
    torch.save(content, home / "best.pth")
    nets.load(home / "best.pth")
    assert "NOTE: " in (said := capsys.readouterr().out) and "1 of 2 tensors hold NaN or infinity, the first backbone.weight" in said
