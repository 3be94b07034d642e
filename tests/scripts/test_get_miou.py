"""get_miou.py from weights and list to folder, with a network whose right answers are known."""
import csv
import json

import numpy as np
import pytest
import torch
from colour_net import NAMES, ColourNet, draw, save_weights
from PIL import Image
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large
from words import unexplained

import get_miou
import nets
from utils.errors import UserError
from utils.results import masks
from utils.settings import read_settings


@pytest.fixture
def run(tmp_path, monkeypatch):
    """-> function(images, **variables): runs get_miou.main in a temporary repository on pictures drawn as `images` says (a list of
    arguments of colour_net.draw), gives the folder it wrote. settings: of the training; weights: arguments of colour_net.save_weights."""
    monkeypatch.setitem(nets.NETS, "colour_net", ColourNet)
    monkeypatch.setattr(get_miou, "output", str(tmp_path / "miou_out"))
    test = tmp_path / "my test.txt"

    def go(images=({}, {"labels": (1,)}), settings=None, weights=None, **variables):
        lines = []
        for i, arguments in enumerate(images):
            picture, mask = tmp_path / "图 片" / f"猫 {i}.png", tmp_path / "masks" / f"{i}.png"
            draw(picture, mask, **arguments)
            lines.append(f"{picture}\t{mask}\n")
        if images:
            test.write_text("".join(lines), encoding="utf-8", newline="\n")
        path = save_weights(tmp_path / "logs" / "colour 中" / "best.pth", settings={"test_list": str(test)} | (settings or {}), **(weights or {}))
        for name, value in {"model_path": str(path), "device": "cpu", **variables}.items():
            monkeypatch.setattr(get_miou, name, value)
        before = set(tmp_path.glob("miou_out/*"))
        get_miou.main(read_settings(vars(get_miou), []))
        (new,) = set(tmp_path.glob("miou_out/*")) - before
        return new

    go.list, go.home = test, tmp_path
    return go


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


SQUARE = 30 * 28                                        # pixels of what colour_net.draw draws
SAME = {"size": (48, 64), "labels": (1,)}               # as large as the input: nothing is resized, so every pixel is right


def test_writes_everything_into_a_fresh_folder(run, capsys):
    folder = run([SAME, SAME | {"wrong": 3}, SAME | {"ignored": True}])
    assert {path.name for path in folder.iterdir()} == {
        "results.json", "results.txt", "per_class.csv", "per_image.csv", "confusion_matrix.csv", "confusion_matrix.png", "per_class.png",
        "worst.png"}
    assert folder.name.startswith("colour 中_")
    ring = int((draw(run.home / "x.png", **SAME, ignored=True) == 255).sum())
    matrix = np.zeros((4, 4), int)
    matrix[0, 0], matrix[1, 1], matrix[3, 1] = 3 * (48 * 64 - SQUARE) - ring, 2 * SQUARE, SQUARE
    rows = read_csv(folder / "confusion_matrix.csv")
    assert rows[0] == ["network says / truth", *NAMES] and [row[0] for row in rows[1:]] == NAMES
    assert np.array_equal(np.array([row[1:] for row in rows[1:]], int), matrix.T)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert results["miou"] == pytest.approx((1 + 2 / 3 + 0) / 3, abs=1e-12) and results["mpa"] == pytest.approx(2 / 3, abs=1e-12)
    assert results["accuracy"] == pytest.approx(1 - SQUARE / matrix.sum(), abs=1e-12) and results["absent"] == ["a/b tree"]
    assert (results["images"], results["epoch"], results["net"], results["threshold"], results["scales"]) == (3, 3, "colour_net", 0.5, [1.0])
    assert results["losses"]["cross_entropy"] > 0 and not unexplained([*results, *results["per_class"][0]])
    table = read_csv(folder / "per_class.csv")
    assert table[0][:2] == ["name", "iou"] and [row[0] for row in table[1:]] == NAMES and table[3][1] == ""        # absent: empty, not 0
    each = read_csv(folder / "per_image.csv")
    assert [row[1] for row in each[1:]] == ["1.0", str(0.3333333333333333), "1.0"] and each[1][0].endswith("图 片/猫 0.png")
    printed = capsys.readouterr().out
    assert (folder / "results.txt").read_text(encoding="utf-8").partition("\n\nSettings")[0] in printed
    assert "a/b tree" in printed and "NOTE" not in printed


def test_worst_page_has_the_worst_first_and_no_perfect_ones(run, monkeypatch):
    seen = []
    monkeypatch.setattr(get_miou, "grid", lambda pictures, columns, cell, captions:
                        seen.append((pictures, captions)) or np.zeros((9, 9, 3), np.uint8))
    images = [SAME, SAME | {"wrong": 3}, {"labels": (1, 2)}, SAME | {"wrong": 2, "ignored": True}]
    run(images, worst=2)
    ((pictures, captions),) = seen
    results = {name: (quality, image) for name, quality, image in zip(captions[::4], captions[3::4], pictures[3::4])}
    assert [caption.split("  ")[0] for caption in captions[::4]] == ["猫 1.png", "猫 3.png"] and captions[1:3] == ["truth", "network"]
    wrong, errors = results["猫 1.png  mIoU 0.333"]
    assert wrong == f"{100 * SQUARE / 48 / 64:.1f} % is wrong" and len(pictures) == 8
    assert errors.shape == (240, 320, 3) and errors[24 * 5, 20 * 5, 0] > 150 > errors[24 * 5, 20 * 5, 1] and np.ptp(errors[235, 315]) == 0
    assert not (run([SAME]) / "worst.png").exists()


def test_save_pictures(run):
    folder = run([SAME, SAME | {"wrong": 3}], save_pictures=True, opacity=1.0)
    assert sorted(path.name for path in (folder / "pictures").iterdir()) == ["猫 0.jpg", "猫 1.jpg"]
    picture = np.array(Image.open(folder / "pictures" / "猫 1.jpg")).astype(int)
    assert picture.shape[1] == 4 * 64 + 3 * masks.GAP and picture.shape[0] > 48
    true, predicted, red = picture[24, 68 + 20], picture[24, 2 * 68 + 20], picture[24, 3 * 68 + 20]
    bright = masks.bright_colours()
    assert np.abs(true - bright[3]).max() < 12 and np.abs(predicted - bright[1]).max() < 12 and red[0] > 180 > 100 > red[1]


def test_test_time_options_go_through(run):
    usual = {"flip": False, "scales": (1.0,), "slide": False}
    plain = json.loads((run([SAME, {}]) / "results.json").read_text(encoding="utf-8"))
    for name, value in (("flip", True), ("scales", (0.5, 1.0)), ("slide", True)):
        results = json.loads((run([SAME, {}], **usual | {name: value}) / "results.json").read_text(encoding="utf-8"))
        assert results["miou"] > 0.9 and results["losses"] == {} and results[name] == (True if name != "scales" else [0.5, 1.0])
    assert results["miou"] > plain["miou"]                  # a window at the image's own size loses nothing


@pytest.mark.parametrize("name, sentence", [("train_list", "was trained on these"), ("val_list", "was chosen on these")])
def test_says_when_the_training_has_seen_the_list(run, capsys, name, sentence):
    run([SAME], settings={name: str(run.list)})
    printed = capsys.readouterr().out
    assert f"is the {name} of the training" in printed and sentence in printed


def test_everything_background_is_explained(run, capsys):
    folder = run([SAME, SAME], weights={"dull": 1000.0})
    text = (folder / "results.txt").read_text(encoding="utf-8")
    assert 'every labelled pixel was predicted as "background"' in text and "cheapest answer" in text and "epoch 3" in text
    text = (run([SAME], weights={"dull": -1000.0, "names": NAMES[:2]}) / "results.txt").read_text(encoding="utf-8")
    assert 'predicted as "红 花"' in text and "Only 27.3 % of them are" in text and "hardly trained (epoch 3)" in text
    assert "hold nothing else either" in (run([SAME | {"labels": ()}]) / "results.txt").read_text(encoding="utf-8")
    assert "hold nothing else either" in (run([SAME | {"wrong": 255}], weights={"dull": 1000.0}) / "results.txt").read_text(encoding="utf-8")


def test_threshold_of_two_classes_comes_from_the_training(run, capsys):
    half = {"names": NAMES[:2], "dull": 0.0}
    for settings, variables, expected in (({}, {}, 0.5), ({"threshold": 0.25}, {}, 0.25), ({"threshold": 0.25}, {"threshold": 0.75}, 0.75)):
        results = json.loads((run([SAME], settings=settings, weights=half, **variables) / "results.json").read_text(encoding="utf-8"))
        assert results["threshold"] == expected
    run([SAME], weights=half, threshold=1.0)
    assert "every labelled pixel" in capsys.readouterr().out
    run([SAME], threshold=0.9)
    assert "has no effect" in capsys.readouterr().out


def test_ruined_weights_are_said(run, capsys):
    folder = run([SAME], weights={"dull": float("nan")})
    assert "the weights are ruined" in capsys.readouterr().out
    assert json.loads((folder / "results.json").read_text(encoding="utf-8"))["losses"] == {"cross_entropy": None}


def test_ignore_labels_of_the_training_are_those_of_the_measurement(run):
    """Masks whose 0 means unlabelled: value 1 is then class 0."""
    picture, mask = run.home / "图 片" / "a.png", run.home / "masks" / "a.png"
    truth = draw(picture, mask, size=(48, 64), labels=(1,))
    Image.fromarray(np.where(truth == 1, 2, 1).astype(np.uint8)).save(mask)
    run.list.write_text(f"{picture}\t{mask}\n", encoding="utf-8")
    results = json.loads((run([], settings={"ignore_labels": [0]}) / "results.json").read_text(encoding="utf-8"))
    assert results["miou"] == 1.0 and results["pixels"] == 48 * 64


def test_mistakes_are_sentences(run, monkeypatch):
    for name, value, usual in (("scales", (), (1.0,)), ("opacity", 60, 0.6), ("batch_size", 0, 8), ("worst", -1, 12)):
        with pytest.raises(UserError, match=f"{name}="):
            run([SAME], **{name: value})
        monkeypatch.setattr(get_miou, name, usual)
    with pytest.raises(UserError, match="set list_path"):
        run([SAME], settings={"test_list": None})
    with pytest.raises(UserError, match=r"masks/1\.png.* 9 \(840 pixels\)"):
        run([SAME, SAME | {"wrong": 9}])
    with pytest.raises(UserError, match="no_such.txt"):
        run([SAME], list_path="no_such.txt")
    assert not list(run.home.glob("miou_out/*/results.json"))
    monkeypatch.setattr(ColourNet, "task", "detection")
    with pytest.raises(UserError, match="get_map.py"):
        run([SAME], list_path="")


def test_prediction_that_cannot_be_is_named(run, monkeypatch):
    monkeypatch.setattr("utils.evaluate.classify", lambda scores, size, threshold: np.full(tuple(size), 77, np.uint8))
    with pytest.raises(UserError, match=r"0\.png: the prediction contains the value 77"):
        run([SAME])


def test_the_made_up_network_is_what_it_says():
    model = ColourNet(4)
    assert torch.equal(model(torch.full((1, 3, 8, 8), 60 / 255))[0].argmax(1), torch.zeros(1, 8, 8, dtype=torch.int64))


def test_torchvisions_deeplab_can_be_measured(run):
    """Weights as they are published say neither which network they are nor what classes they know: net and net_options do."""
    torch.manual_seed(0)
    theirs = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, aux_loss=True)
    torch.save(theirs.state_dict(), run.home / "deeplabv3.pth")
    words = {"model_path": str(run.home / "deeplabv3.pth"), "list_path": str(run.list)}
    folder = run([SAME], net="deeplabv3", net_options={"backbone": "mobilenet_v3_large"}, **words)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert folder.name.startswith("deeplabv3_") and results["net"] == "deeplabv3" and len(results["per_class"]) == 21
    with pytest.raises(UserError, match="Say which network it is"):
        run([SAME], net="", **words)
