"""get_map.py from list to folder with a network that is made up, its pictures, and its diagnosis of a mAP of 0."""
import csv
import json
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from words import unexplained

import get_map
from utils.errors import UserError
from utils.metrics import confusion_matrix, detection_curves, detection_results
from utils.results import misses, plots
from utils.settings import read_settings

NAMES = ["traffic light", "a,b difficult", "猫", "_$x$"]


def table(boxes, labels, **more):
    return {"boxes": np.array(boxes, np.float32).reshape(-1, 4), "labels": np.array(labels, np.int64), **more}


def made_up(images=4):
    """Per image: one object found, one missed, one of another class, one box where nothing is."""
    truths = [table([[5, 5, 40, 40], [50, 5, 90, 40], [5, 50, 40, 70]], [0, 1, 2], difficult=np.zeros(3, bool)) for _ in range(images)]
    detections = [table([[5, 5, 40, 41], [5, 50, 40, 70], [60, 50, 90, 79]], [0, 3, 1], scores=np.array([0.9 - i / 50, 0.8, 0.7]))
                  for i in range(images)]
    return detections, truths


class Network(torch.nn.Module):
    task, stride, recipe = "detection", 32, {"nms_iou": 0.5}

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """-> function(detections, **variables): runs get_map.main in a temporary repository, gives the folder it wrote."""
    folder = tmp_path / "图 片"
    folder.mkdir()
    detections, truths = made_up()
    lines = []
    for i, truth in enumerate(truths):
        Image.new("RGB", (100, 80), (90, 120, 40 * i)).save(folder / f"{i}.png")
        lines.append(f"{folder / f'{i}.png'} " + " ".join(",".join(f"{v:g}" for v in (*box, label))
                                                          for box, label in zip(truth["boxes"], truth["labels"])))
    test = tmp_path / "test.txt"
    test.write_text("\n".join(lines) + "\n", encoding="utf-8")
    info = {"net": "made_up", "class_names": NAMES, "input_shape": (64, 64), "options": {}, "epoch": 7, "settings": {"test_list": str(test)}}
    seen = {}

    def collect(model, loader, device, confidence, nms_iou, max_boxes):
        seen.update(confidence=confidence, nms_iou=nms_iou, data=loader.dataset)
        return seen["detections"], truths, {"box": 1.5}

    def go(found=detections, settings=None, pictures=False, **variables):
        info["settings"] |= settings or {}
        seen["detections"] = found
        if not pictures:
            variables["save_pictures"] = lambda *_: None
        for name, value in {"device": "cpu", "input_shape": None, "fit": None, "nms_iou": None, **variables}.items():
            monkeypatch.setattr(get_map, name, value)
        before = set(tmp_path.glob("map_out/*"))
        get_map.main(read_settings(vars(get_map), []))
        (new,) = set(tmp_path.glob("map_out/*")) - before
        return new

    go.seen, go.list = seen, str(test)
    monkeypatch.setattr(get_map.nets, "load", lambda path, device, net, options: (Network(), info))
    monkeypatch.setattr(get_map, "find_weights", lambda path: Path(path or tmp_path / "logs" / "made up 中" / "best.pth"))
    monkeypatch.setattr(get_map, "collect", collect)
    monkeypatch.setattr(get_map, "output", str(tmp_path / "map_out"))
    return go


def test_writes_everything_into_a_fresh_folder(run, capsys):
    folder = run(pictures=True)
    assert {path.name for path in folder.iterdir()} == {
        "results.json", "results.txt", "per_class.csv", "confusion_matrix.csv", "precision_recall.png", "score_curves.png",
        "ap.png", "confusion_matrix.png", "misses.png"}
    assert folder.name.startswith("made up 中_")
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    detections, truths = made_up()
    expected = detection_results(detections, truths, NAMES, 0.3)
    assert {key: results[key] for key in expected} == expected
    assert not unexplained([*results, *results["coco"], *results["per_class"][0]])
    assert results["map50"] == results["voc10"] == pytest.approx(1 / 3)
    assert results["epoch"] == 7 and results["losses"] == {"box": 1.5} and results["confidence"] == 0.001
    with open(folder / "per_class.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == NAMES and float(rows[0]["ap50"]) == 1.0 and rows[3]["ap50"] == ""
    printed = capsys.readouterr().out
    assert "NOTE" not in printed and "The mAP is 0" not in printed
    results, _, table = (folder / "results.txt").read_text(encoding="utf-8").partition("\n\nSettings\n")
    assert results.strip() in printed and "batch_size" in table and "batch_size" not in printed         # only what is not as in the script


def test_input_and_nms_are_those_of_the_training(run, capsys):
    results = json.loads((run() / "results.json").read_text(encoding="utf-8"))
    assert (results["input_shape"], results["fit"], results["nms_iou"]) == ([64, 64], "letterbox", 0.5) and run.seen["nms_iou"] == 0.5
    assert "recipe of made_up" in capsys.readouterr().out
    run(settings={"fit": "stretch"})
    assert (run.seen["data"].fit, run.seen["data"].input_shape) == ("stretch", (64, 64))
    results = json.loads((run(fit="short_side", input_shape=(80, 133), nms_iou=0.7) / "results.json").read_text(encoding="utf-8"))
    assert (run.seen["data"].fit, run.seen["data"].input_shape, run.seen["nms_iou"]) == ("short_side", (80, 133), 0.7)
    assert (results["input_shape"], results["fit"], results["nms_iou"]) == ([80, 133], "short_side", 0.7)
    with pytest.raises(UserError, match="The nearest is"):
        run(fit="letterbox", input_shape=(80, 133))
    with pytest.raises(UserError, match="nms_iou=7"):
        run(nms_iou=7)


def test_official_weights(run, monkeypatch, capsys):
    """They name no list, and what their class numbers mean is said."""
    _, info = get_map.nets.load("", "", "", {})
    monkeypatch.setitem(info, "epoch", None)
    monkeypatch.setitem(info, "settings", {"fit": "stretch"})
    with pytest.raises(UserError, match="named no test list: set list_path"):
        run()
    folder = run(list_path=run.list, model_path="model_data/made_up-12345678.pth")
    assert folder.name.startswith("made_up-12345678_") and 'from "traffic light" to "_$x$"' in capsys.readouterr().out


def test_two_runs_in_one_second_have_two_folders(run, monkeypatch):
    monkeypatch.setattr("utils.results.report.time.strftime", lambda _: "now")
    assert [run().name for _ in range(3)] == ["made up 中_now", "made up 中_now_2", "made up 中_now_3"]


def test_high_confidence_is_not_taken(run, capsys):
    run(confidence=0.5)
    assert run.seen["confidence"] == 0.001 and "confidence=0.5 would cut" in capsys.readouterr().out
    run(confidence=0.01)
    assert run.seen["confidence"] == 0.01 and "NOTE" not in capsys.readouterr().out


@pytest.mark.parametrize("name, sentence", [("train_list", "was trained on these"), ("val_list", "was chosen on these")])
def test_says_when_the_training_has_seen_the_list(run, capsys, name, sentence):
    run(settings={name: run.list})
    printed = capsys.readouterr().out
    assert f"is the {name} of the training" in printed and sentence in printed


def test_no_list_and_wrong_task_are_sentences(run, monkeypatch):
    with pytest.raises(UserError, match="set list_path"):
        run(settings={"test_list": None})
    with pytest.raises(UserError, match="from 0 to 1"):
        run(score_threshold=50)
    monkeypatch.setattr(Network, "task", "segmentation")
    with pytest.raises(UserError, match="get_miou.py"):
        run(score_threshold=0.5)


def test_nothing_found_is_explained(run, capsys):
    folder = run(found=[table([], [], scores=np.zeros(0))] * 4)
    assert "The mAP is 0" in capsys.readouterr().out
    assert "finds nothing at all" in (folder / "results.txt").read_text(encoding="utf-8")
    assert json.loads((folder / "results.json").read_text(encoding="utf-8"))["map50"] == 0.0


def test_no_misses_no_page(tmp_path):
    _, truths = made_up()
    perfect = [{**truth, "scores": np.ones(3)} for truth in truths]
    cases = misses.worst_misses(perfect, truths, NAMES)
    misses.misses_page(cases, [], perfect, truths, NAMES, tmp_path / "misses.png")
    assert not cases and not (tmp_path / "misses.png").exists()


def shifted(detections, by):
    return [{**one, "boxes": one["boxes"] + by} for one in detections]


def test_diagnosis_names_six_causes():
    _, truths = made_up()
    right = [{"boxes": t["boxes"], "labels": t["labels"], "scores": np.full(3, 0.9)} for t in truths]
    empty = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0, int), "difficult": np.zeros(0, bool)}
    causes = {
        "NaN or infinite": ([{**one, "scores": one["scores"] * np.nan} for one in right], truths),
        "no objects": (right, [empty] * 4),
        "marked difficult": (right, [{**t, "difficult": np.ones(3, bool)} for t in truths]),
        "nothing at all": ([table([], [], scores=np.zeros(0))] * 4, truths),
        "nowhere near": (shifted(right, 500), truths),
        "another order": ([{**one, "labels": (one["labels"] + 1) % 3} for one in right], truths),
        "never closely enough": (shifted(right, 10), truths),
    }
    for word, (detections, objects) in causes.items():
        *_, likely = misses.diagnose(detections, objects, NAMES)
        assert word in likely, (word, likely)


def test_misses_are_found_and_explained():
    detections, truths = made_up(1)
    cases = misses.worst_misses(detections, truths, NAMES)
    got = [(case["label"], case["score"], case["reason"]) for case in cases]
    assert got == [(1, None, "no box of its class near"), (2, None, r"mistaken for  _\$x\$ 0.80"),
                   (3, 0.8, "the truth says " + plots.label("猫", 2)), (1, 0.7, "no such object here")]
    twice = [{key: np.concatenate([one[key], one[key][:1]]) for key in one} for one in detections]
    twice[0]["scores"][3] = 0.6
    assert "a second box on one object" in [case["reason"] for case in misses.worst_misses(twice, truths, NAMES, most_per_image=3)]
    assert "only at score 0.90" in [case["reason"] for case in misses.worst_misses(detections, truths, NAMES, score_threshold=0.95)]
    assert [case["score"] for case in misses.worst_misses(detections, truths, NAMES, score_threshold=0.8)] == [None, None, 0.8]
    hard = [{**truth, "difficult": np.array([False, True, False])} for truth in truths]
    assert [case["label"] for case in misses.worst_misses(detections, hard, NAMES) if case["score"] is None] == [2]
    many, objects = made_up(30)
    cases = misses.worst_misses(many, objects, NAMES, most=10)
    assert len(cases) == 10 and sum(case["score"] is None for case in cases) == 5


@contextmanager
def quiet(caplog):
    """Nothing may be said while drawing; only old matplotlib's use of its own parser is not our matter."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield
    assert not [str(one.message) for one in said if "parsing" not in one.category.__name__]
    assert not [record.getMessage() for record in caplog.records if record.name.startswith("matplotlib")]


def is_picture(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("L")).std() > 5


@pytest.mark.parametrize("names, images", [(NAMES, 3), ([f"name {i}" for i in range(80)], 3), (NAMES, 0)])
def test_pictures_without_warnings(tmp_path, caplog, names, images):
    detections, truths = made_up(images)
    curves, results = detection_curves(detections, truths, names), detection_results(detections, truths, names)
    with quiet(caplog):
        plots.precision_recall(curves, tmp_path / "pr.png")
        plots.score_curves(curves, tmp_path / "scores.png")
        plots.ap_bars(results, tmp_path / "ap.png")
        plots.confusion(confusion_matrix(detections, truths, len(names)), names, tmp_path / "confusion.png")
    assert all(is_picture(tmp_path / f"{name}.png") for name in ("pr", "scores", "ap", "confusion"))


def test_names_without_a_font_become_numbers(monkeypatch):
    plots.fonts.cache_clear()
    monkeypatch.setattr("utils.results.draw.chinese_font", lambda: None)
    try:
        assert plots.label("猫", 2) == "class 2" and plots.label("café", 1) == "café"
    finally:
        plots.fonts.cache_clear()


@pytest.mark.parametrize("text", [
    "epoch,lr,train_box,train_class,val_box,val_class,map50,map50_95,seconds\n1,0.1,9,2,8,2,,,5\n2,0.1,3,1,4,1,0.5,0.2,5\n3,0.05,0.1,",
    "epoch,train_loss,miou\n1,2.5,0.1\n",
    "epoch,lr,train_loss\n",
    "",
])
def test_training_curves(tmp_path, caplog, text):
    (tmp_path / "metrics.csv").write_text(text, encoding="utf-8")
    with quiet(caplog):
        plots.training_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    assert is_picture(tmp_path / "curves.png")
