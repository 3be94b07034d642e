"""Detection through the scripts, as a user runs them (see user.py)."""
import csv
import json
import shutil

import pytest
import torch
from user import QUICK, copy_project, newest, run
from words import unexplained


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return copy_project(tmp_path_factory.mktemp("a user"))


@pytest.fixture(scope="module")
def trained(project):
    """Two epochs with nothing prepared: the lists are made on the way."""
    out = run(project, "train.py", *QUICK, "epochs=2", "eval_every=1", "optimizer=adamw", "lr=0.002")
    (folder,) = (project / "logs").iterdir()
    return project, folder, out


def test_train_leaves_everything(trained):
    project, folder, out = trained
    names = {path.name for path in folder.iterdir()}
    assert {"best.pth", "last.pth", "train.log", "metrics.csv", "curves.png", "first_batches.png", "predictions_epoch_002.png"} <= names
    assert not [name for name in names if name.endswith(".part")]
    with open(folder / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {"lr", "train_box", "val_box", "map50", "map50_95", "seconds"} <= set(rows[0]) and all(rows[1].values())
    assert not unexplained(rows[0])
    for text in ("Device ", "24 images", "net='yolov4_tiny'", "python get_map.py", "python predict.py"):
        assert text in out
    log = (folder / "train.log").read_text(encoding="utf-8")
    for text in ("\n    2/2  ", "momentum", "recipe of yolov4_tiny", "command line"):     # the whole table of settings is here alone
        assert text in log
    start = out[out.index("Network "):out.index("Folder ")].splitlines()
    assert len(start) < 12 and "recipe of yolov4_tiny" not in out
    assert (project / "Shapes_test.txt").is_file()


def test_checkpoints_are_plain_and_complete(trained):
    _, folder, _ = trained
    best = torch.load(folder / "best.pth", weights_only=True)
    last = torch.load(folder / "last.pth", weights_only=True)
    assert best["net"] == "yolov4_tiny" and len(best["class_names"]) == 6 and best["input_shape"] == [64, 96]
    assert "training" not in best and {"model", "optimizer", "history", "best"} <= set(last["training"])
    assert not torch.equal(last["model"]["head4.1.weight"], last["training"]["model"]["head4.1.weight"])       # the moving average is another


def test_get_map(trained):
    project, folder, _ = trained
    out = run(project, "get_map.py")
    (result,) = (project / "map_out").iterdir()
    numbers = json.loads((result / "results.json").read_text(encoding="utf-8"))
    assert {"map50", "map50_95", "voc07", "voc10"} <= set(numbers) and numbers["images"] == 6 and "Shapes_test.txt" in out
    names = {path.name for path in result.iterdir()}
    assert {"results.txt", "per_class.csv", "precision_recall.png", "confusion_matrix.png", "confusion_matrix.csv"} <= names


def test_training_and_get_map_give_one_number(trained):
    project, folder, _ = trained
    best = torch.load(folder / "best.pth", weights_only=True)
    run(project, "get_map.py", "list_path=Shapes_val.txt")
    newest = max((project / "map_out").iterdir(), key=lambda p: p.stat().st_mtime_ns)
    assert json.loads((newest / "results.json").read_text(encoding="utf-8"))["map50"] == pytest.approx(best["map50"], abs=1e-9)


def test_pictures_meet_the_network_as_in_its_training(project, trained):
    """A run with stretched, zoomed and cropped pictures is measured with stretched ones; another input only where it is asked for."""
    out = run(project, "train.py", *QUICK, "epochs=1", "fit=stretch", "zoom_out=0.5", "iou_crop=1", "distort=1", "eval_every=1")
    folder = newest(project)
    best = torch.load(folder / "best.pth", weights_only=True)
    assert best["settings"]["fit"] == "stretch" and best["settings"]["iou_crop"] == 1.0 and "zoom_out" in out
    assert "as trained" in run(project, "get_map.py", f"model_path={folder / 'best.pth'}", "list_path=Shapes_val.txt")
    (result,) = (project / "map_out").glob(f"{folder.name}_*/results.json")
    numbers = json.loads(result.read_text(encoding="utf-8"))
    assert numbers["fit"] == "stretch" and numbers["map50"] == pytest.approx(best["map50"], abs=1e-9)
    out = run(project, "predict.py", f"model_path={folder / 'best.pth'}", "fit=short_side", "input_shape=64,128", "output=other_out")
    assert "short side 64, at most 128 long" in out
    shutil.rmtree(folder)                                                                       # the other tests take the newest run


def test_predict(trained):
    project, _, _ = trained
    run(project, "predict.py", "confidence=0.01", "save_json=True")
    pictures = list((project / "img_out").rglob("*.jpg"))
    assert len(pictures) == 6 and list((project / "img_out").rglob("boxes.json"))


def test_freeze_from_own_weights(trained):
    """Starting from a trained file the backbone is frozen at first, and the report says what was loaded."""
    project, folder, _ = trained
    out = run(project, "train.py", *QUICK, "epochs=2", f"model_path={folder / 'best.pth'}", "freeze_epochs=1", "eval_every=2")
    assert "99 of 99 tensors loaded" in out and "Device      cpu" in (newest(project) / "train.log").read_text(encoding="utf-8")
    assert out.index("Backbone frozen") < out.index("Backbone unfrozen")


def test_a_damaged_best_is_written_anew(trained):
    project, folder, _ = trained
    copy = project / "logs" / "damaged"
    shutil.copytree(folder, copy)
    (copy / "best.pth").write_bytes((copy / "best.pth").read_bytes()[:1000])
    assert "writes a new one" in run(project, "train.py", "resume=logs/damaged", "epochs=3")
    assert torch.load(copy / "best.pth", weights_only=True)["epoch"] == 3


def test_a_broken_validation_image_is_named_before_training(trained):
    project, _, _ = trained
    image = sorted((project / "VOCdevkit" / "Shapes" / "JPEGImages").glob("*.jpg"))[24]         # the first after the 24 of the training
    whole, before = image.read_bytes(), set((project / "logs").iterdir())
    image.write_bytes(whole[:600])
    assert image.name in run(project, "train.py", *QUICK, status=1)
    image.write_bytes(whole)
    assert set((project / "logs").iterdir()) == before                                          # and no run folder was begun


def test_the_settings_of_a_run_are_a_recipe(trained):
    project, folder, _ = trained
    out = run(project, "train.py", str(folder / "settings.py"), "epochs=1")
    first, second = ((path / "settings.py").read_text(encoding="utf-8") for path in (folder, newest(project)))
    assert first.replace("epochs = 2\n", "epochs = 1\n", 1) == second and "settings.py" in out


def test_lists_follow_the_data(trained):
    """Lists of another folder of the same name, and class numbers of another classes file, are never trained with."""
    project, _, _ = trained
    words = (*QUICK, "epochs=1", "classes_path=model_data/mine.txt")
    (project / "model_data" / "mine.txt").write_text("triangle\nstar\nsquare\nring\ncross\ncircle\n", encoding="utf-8")
    out = run(project, "train.py", *words)
    assert "made anew" in out and (project / "Shapes_train.txt.bak").is_file()
    first = (project / "Shapes_train.txt").read_text(encoding="utf-8")
    shutil.copytree(project / "VOCdevkit" / "Shapes", project / "elsewhere" / "Shapes")
    assert "belong to another folder" in run(project, "train.py", *words, "dataset=elsewhere/Shapes")
    assert "elsewhere/Shapes" in (project / "Shapes_train.txt").read_text(encoding="utf-8")
    run(project, "voc_annotation.py")
    assert (project / "Shapes_train.txt").read_text(encoding="utf-8") != first                  # the usual order of the classes again
    (project / "VOCdevkit" / "Shapes" / "JPEGImages" / "new.jpg").write_bytes(b"")
    assert "new_split=True" in run(project, "train.py", *QUICK, "epochs=1")
    (project / "VOCdevkit" / "Shapes" / "JPEGImages" / "new.jpg").unlink()


def test_what_cannot_be_resumed(trained):
    """A run is to go on as the same run; how it does after a kill is in test_resume.py."""
    project, folder, _ = trained
    assert "classes" in run(project, "train.py", f"resume={folder}", "epochs=3", "classes_path=model_data/voc_classes.txt", status=1)
    assert "already done" in run(project, "train.py", f"resume={folder / 'last.pth'}", status=1)


@pytest.mark.parametrize("script, words, sentence", [
    ("train.py", ["epoch=3"], 'did you mean epochs=3?'),
    ("train.py", ["net=yolov4tiny"], 'Did you mean "yolov4_tiny"'),
    ("train.py", ["input_shape=100"], r"nearest is (96, 96)"),
    ("train.py", ["dataset=VOCdevkit/Nothing"], "VOCdevkit/Nothing"),
    ("train.py", ["train_list=no_such.txt"], "no_such.txt"),
    ("train.py", ["model_path=no_such.pth"], "There is no weight file"),
    ("train.py", ["optimizer=sgdd"], '"adamw"'),
    ("train.py", ["schedule=cosin"], '"cosine"'),
    ("train.py", ["batch_size=0"], "batch_size=0: expected a whole number, 1 or more"),
    ("train.py", ["epochs=0"], "epochs=0"),
    ("train.py", ["eval_every=0"], "eval_every=0"),
    ("train.py", ["amp=no"], "True or False"),
    ("train.py", ["colours=0.1,0.2"], "3 values"),
    ("train.py", ["lr=1e9", "epochs=3", "eval_every=1", "optimizer=sgd", "clip_norm=0", *QUICK], "Try a third of lr"),
    ("predict.py", ["photo.jpg"], 'Did you mean source="photo.jpg"'),
    ("get_map.py", ["max_boxes=-1"], "max_boxes=-1"),
    ("train.py", ["resume=True", "dataset=VOCdevkit/Other", "epochs=9"], "VOCdevkit/Other: 1 finding"),
    ("train.py", ["num_workers=two"], "num_workers"),
    ("train.py", ["mosaic=2"], "from 0 to 1"),
    ("train.py", ["net_options={'focl': True}"], "It knows"),
    ("train.py", ["device=gpu"], '"cuda"'),
    ("train.py", ["resume=logs/none"], "There is no weight file"),
    ("get_map.py", ["model_path=README.md"], "no weight file"),
    ("predict.py", ["source=no_such.jpg"], "no_such.jpg"),
    ("predict.py", ["model_path=no_such.pth"], "no weight file"),
])
def test_mistakes_end_in_a_sentence(trained, script, words, sentence):
    out = run(trained[0], script, *words, status=1)
    assert "Stopped: " in out and sentence in out


def test_without_a_trained_network(project, tmp_path):
    for folder in ("nets", "utils"):
        shutil.copytree(project / folder, tmp_path / folder)
    for script in ("get_map.py", "predict.py"):
        shutil.copy(project / script, tmp_path)
        assert "python train.py" in run(tmp_path, script, status=1)


def test_summary(project):
    out = run(project, "summary.py")
    assert "6,056,606 parameters" in out and "6.91 GFLOPs" in out and "512 x 13 x 13" in out
