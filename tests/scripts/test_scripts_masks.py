"""Segmentation through the scripts, as a user runs them (see user.py): the same train.py, only `net` is another."""
import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from user import QUICK, copy_project, newest, run
from words import unexplained

WORDS = (*QUICK, "net=deeplabv3plus", "lr=0.01")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return copy_project(tmp_path_factory.mktemp("a user"))


@pytest.fixture(scope="module")
def trained(project):
    """Two epochs with nothing prepared: lists and classes are made on the way."""
    out = run(project, "train.py", *WORDS, "epochs=2", "eval_every=1")
    (folder,) = (project / "logs").iterdir()
    return project, folder, out


def test_train_leaves_everything(trained):
    project, folder, out = trained
    names = {path.name for path in folder.iterdir()}
    assert {"best.pth", "last.pth", "train.log", "metrics.csv", "curves.png", "first_batches.png", "predictions_epoch_002.png"} <= names
    with open(folder / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {"lr", "train_cross_entropy", "val_cross_entropy", "miou", "mpa", "accuracy", "seconds"} <= set(rows[0]) and all(rows[1].values())
    assert not unexplained(rows[0])
    for text in ("24 images", "0 -> background", "255 -> ignored", "python get_miou.py", "Weights     random"):
        assert text in out
    assert "recipe of deeplabv3plus" in (folder / "train.log").read_text(encoding="utf-8")
    best = torch.load(folder / "best.pth", weights_only=True)
    assert best["class_names"][0] == "background" and len(best["class_names"]) == 7 and best["miou"] > 0


def test_get_miou_measures_the_test_list_and_gives_the_number_of_training(trained):
    project, folder, _ = trained
    out = run(project, "get_miou.py")
    assert "Shapes_segmentation_test.txt" in out
    run(project, "get_miou.py", "list_path=Shapes_segmentation_val.txt")
    first, second = sorted((project / "miou_out").iterdir(), key=lambda path: path.stat().st_mtime_ns)[-2:]
    numbers = json.loads((second / "results.json").read_text(encoding="utf-8"))
    best = torch.load(folder / "best.pth", weights_only=True)
    assert {"miou", "mpa", "accuracy", "fwiou", "per_class"} <= set(numbers) and len(numbers["per_class"]) == 7
    assert numbers["miou"] == pytest.approx(best["miou"], abs=1e-9)
    names = {path.name for path in first.iterdir()}
    assert {"results.txt", "per_class.csv", "confusion_matrix.csv", "confusion_matrix.png", "per_class.png", "worst.png"} <= names


def test_predict(trained):
    project, _, _ = trained
    out = run(project, "predict.py", "save_index=True", "verbose=True")
    assert len(list((project / "img_out").rglob("*.png"))) >= 6 and "background" in out


def two_classes(project, name, object_value=1, suffix=".png"):
    """A small VOC folder with masks of two classes: a bright square on dark ground."""
    folder, stream = project / "VOCdevkit" / name, np.random.RandomState(0)
    for part in ("JPEGImages", "SegmentationClass"):
        (folder / part).mkdir(parents=True)
    for number in range(12):
        mask = np.zeros((48, 64), np.uint8)
        top, left = stream.randint(0, 24), stream.randint(0, 32)
        mask[top:top + 24, left:left + 32] = object_value
        image = stream.randint(0, 60, (48, 64, 3)) + 180 * (mask > 0)[..., None]
        Image.fromarray(image.astype(np.uint8)).save(folder / "JPEGImages" / f"图 {number}.jpg")
        Image.fromarray(mask).save(folder / "SegmentationClass" / f"图 {number}{suffix}")
    return f"dataset=VOCdevkit/{name}"


def test_own_data_with_one_channel(project):
    """Binary segmentation: one channel in training, checkpoint, measurement and prediction; a threshold of 1 finds nothing."""
    dataset = two_classes(project, "spots")
    out = run(project, "train.py", *WORDS, dataset, "epochs=6", "batch_size=4", "binary_sigmoid=True", "eval_every=6", "scale=0.8,1.2")
    assert "class_1" in out
    best = torch.load(newest(project) / "best.pth", weights_only=True)
    assert best["class_names"] == ["background", "class_1"] and best["options"]["sigmoid"]
    assert best["model"]["classifier.classifier.3.weight"].shape[0] == 1
    assert "class_1" in run(project, "get_miou.py", "threshold=0.3")
    assert "background" in run(project, "predict.py", "threshold=1.0")


def test_batch_of_one(project):
    dataset = "dataset=VOCdevkit/spots"
    out = run(project, "train.py", "net=deeplabv3plus", "input_shape=64,96", dataset, "batch_size=1", "epochs=1")
    assert "one image a step" in out


def test_ignore_labels(project):
    """What others call reduce_zero_label: value 0 is no class. If only one class is left there is nothing to tell apart."""
    _, *names = (project / "model_data" / "shapes_segmentation_classes.txt").read_text(encoding="utf-8").splitlines()
    (project / "model_data" / "only.txt").write_text("\n".join(names), encoding="utf-8")
    out = run(project, "train.py", *WORDS, "dataset=VOCdevkit/Shapes", "classes_path=model_data/only.txt", "ignore_labels=[0]", "epochs=1")
    assert "0 -> ignored" in out and f"1 -> {names[0]}" in out
    out = run(project, "train.py", *WORDS, "dataset=VOCdevkit/Shapes", "classes_path=model_data/only.txt", "epochs=1", status=1)
    assert "Masks with values that are no class" in out and "No training was begun" in out
    (project / "model_data" / "one.txt").write_text("square\n", encoding="utf-8")
    out = run(project, "train.py", *WORDS, "dataset=VOCdevkit/spots", "classes_path=model_data/one.txt", "ignore_labels=[0]", "epochs=1", status=1)
    assert "masks_one_class: stops" in out
    shutil.rmtree(newest(project))


def test_masks_of_0_and_255_are_explained(project):
    out = run(project, "train.py", *WORDS, two_classes(project, "wrong", 255), "epochs=1", status=1)
    assert "Stopped: " in out and "255" in out and "1" in out


@pytest.mark.parametrize("script, words, sentence", [
    ("train.py", ["loss={'dize': 1.0}"], 'Did you mean "dice"'),
    ("train.py", ["class_weights=[1,2]"], "expected 7"),
    ("train.py", ["binary_sigmoid=True"], "two classes"),
    ("train.py", ["net_options={'backbone': 'resnet5'}"], 'Did you mean "resnet50"'),
    ("train.py", ["net_options={'downsample_factor': 4}"], "16"),
    ("train.py", ["ignore_labels=[300]"], "0 to 255"),
    ("train.py", ["threshold=2"], "from 0 to 1"),
    ("train.py", ["train_list=Shapes_segmentation_classes.txt"], "Shapes_segmentation_classes.txt"),
    ("get_map.py", [], "get_miou.py"),
    ("get_miou.py", ["threshold=7"], "threshold=7"),
    ("get_miou.py", ["list_path=no_such.txt"], "no_such.txt"),
])
def test_mistakes_end_in_a_sentence(trained, script, words, sentence):
    out = run(trained[0], script, *(WORDS if script == "train.py" else ()), *words, status=1)
    assert "Stopped: " in out and sentence in out
