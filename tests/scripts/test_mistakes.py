"""A mistake in a value or a path ends in one sentence, and nothing is written: no empty folder for results, no half of the lists."""
import numpy as np
import pytest
from colour_net import ColourNet, draw, save_weights
from PIL import Image

import get_map
import get_miou
import nets
import predict
import voc_annotation
from utils.checkpoint import save_checkpoint
from utils.errors import UserError
from utils.results.report import results_folder
from utils.settings import counted, read_settings

SCRIPTS = {"get_map": get_map, "get_miou": get_miou, "predict": predict, "voc_annotation": voc_annotation}
SHARES = ["-0.1", "1.5", "abc", "nan", "True"]              # what no share from 0 to 1 is
DEVICES = ["device=gpu", "device=three", "device="]
WRONG = {
    "get_map": [
        *(f"{name}={value}" for name in ("score_threshold", "confidence", "nms_iou") for value in SHARES),
        "max_boxes=0", "max_boxes=1.5", "batch_size=0", "batch_size=many", "num_workers=-1", "num_workers=two", *DEVICES,
        "input_shape=100", "input_shape=0,0", "input_shape=a,b", "input_shape=64,64,64", "fit=letterbx", "fit=3",
        "net=yolov9000", "net=ssd300", "net_options=3", "model_path=no.pth", "model_path=logs", "model_path=logs/run/notes.txt",
        "model_path=logs/masks/best.pth", "list_path=no.txt", "list_path=photos", "list_path=empty.txt", "list_path=masks.txt",
        "list_path=gone.txt", "list_path=classes.txt", "list_path=photos/a.jpg", "confidnce=0.1", "recipes/none.py", "a.jpg"],
    "get_miou": [
        *(f"{name}={value}" for name in ("threshold", "opacity") for value in SHARES),
        "scales=()", "scales=0", "scales=a,b", "slide=maybe", "flip=2", "save_pictures=x", "worst=-1", "worst=few",
        "batch_size=0", "num_workers=-1", *DEVICES, "net=unet", "net_options=3", "model_path=no.pth", "model_path=logs",
        "model_path=logs/boxes/best.pth", "list_path=no.txt", "list_path=photos", "list_path=empty.txt", "list_path=boxes.txt",
        "list_path=gone.txt", "list_path=value.txt", "thresold=0.1", "recipes/none.py"],
    "predict": [
        *(f"{name}={value}" for name in ("confidence", "nms_iou", "threshold", "opacity") for value in SHARES),
        "max_boxes=0", "scales=()", "slide=maybe", "flip=2", "crop=x", "show=2", "count=x", "save_json=x", "save_index=x", *DEVICES,
        "mode=photo", "source= mode=video", "source= mode=folder", "source=no.jpg", "source=photos/no.jpg", "source=hollow", "source=notes.txt",
        "source=bad", "source=bad/a.jpg", "source=bad/film.mp4", "source=logs/run/notes.txt", "output=notes.txt",
        "output=notes.txt/below", "source=photos output=photos", "input_shape=100", "input_shape=a,b", "fit=letterbx",
        "net=yolov9000", "net_options=3", "model_path=no.pth", "model_path=logs", "sorce=a.jpg", "photos/no.jpg", "recipes/none.py"],
    "voc_annotation": [
        "dataset=", "dataset=[", "dataset=[]", "dataset=[1]", "dataset=VOCdevkit/No", "dataset=photos", "dataset=notes.txt",
        'dataset=["VOCdevkit/Set","VOCdevkit/No"]', "dataset=photos/a.jpg", "task=detect", "task=segmentation", "task=3",
        "classes_path=no.txt", "classes_path=photos", "classes_path=empty.txt",
        *(f"{name}={value}" for name in ("trainval_percent", "train_percent") for value in SHARES),
        "train_set=trian", "val_set=vali", "train_set=", "new_split=maybe", "seed=x", "seed=1.5", "stratify=x",
        "ignore_labels=5", "ignore_labels=[a]", "ignore_labels=[300]", "ignore_labels=['0']", "palette=no.txt", "palette=photos",
        "datset=VOCdevkit/Set", "VOCdevkit/Set"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder like the repository, with weights of two networks, lists, a VOC folder and things that are none of these."""
    home = tmp_path_factory.mktemp("白话 视觉")
    for folder in ("photos", "hollow", "bad", "logs/run", "VOCdevkit/Set/JPEGImages", "VOCdevkit/Set/Annotations"):
        (home / folder).mkdir(parents=True)
    for name in "abc":
        Image.new("RGB", (60, 40), (90, 120, 40)).save(home / "photos" / f"{name}.jpg")
        draw(home / "pictures" / f"{name}.png", home / "masks" / f"{name}.png")
        Image.fromarray(np.full((40, 60, 3), 20 * ord(name) % 256, np.uint8)).save(home / "VOCdevkit/Set/JPEGImages" / f"{name}.jpg")
        (home / "VOCdevkit/Set/Annotations" / f"{name}.xml").write_text(
            "<annotation><size><width>60</width><height>40</height></size><object><name>x</name><bndbox><xmin>2</xmin><ymin>2</ymin>"
            "<xmax>30</xmax><ymax>30</ymax></bndbox></object></annotation>", encoding="utf-8")
    draw(home / "pictures" / "v.png", home / "masks" / "v.png", wrong=9)
    for name in ("notes.txt", "logs/run/notes.txt", "bad/a.jpg", "bad/film.mp4"):
        (home / name).write_text("a shopping list\n" * 60, encoding="utf-8")
    lists = {"boxes": "photos/a.jpg 1,1,20,20,0", "masks": "pictures/a.png\tmasks/a.png", "empty": "", "classes": "photos/a.jpg 1,1,20,20,7",
             "gone": "photos/z.jpg 1,1,20,20,0\nphotos/z.jpg\tmasks/a.png", "value": "pictures/v.png\tmasks/v.png"}
    for name, text in lists.items():
        (home / f"{name}.txt").write_text(text + "\n", encoding="utf-8")

    save_weights(home / "logs/masks/best.pth", settings={"test_list": "masks.txt"})
    model = nets.build("yolov4_tiny", 2, (64, 96))
    (home / "logs/boxes").mkdir()
    save_checkpoint(home / "logs/boxes/best.pth", net="yolov4_tiny", options={}, class_names=["x", "y"], input_shape=[64, 96], epoch=1,
                    settings={"test_list": "boxes.txt"}, model=model.state_dict())
    return home


@pytest.fixture
def go(home, monkeypatch):
    """-> function(script, words): runs its main in `home`, with the weights that suit the script unless the words name others."""
    monkeypatch.setitem(nets.NETS, "colour_net", ColourNet)
    monkeypatch.chdir(home)
    for place in ("utils.settings.ROOT", "utils.prediction.engine.ROOT", "nets.ROOT"):
        monkeypatch.setattr(place, home)
    usual = {"get_map": ["model_path=logs/boxes/best.pth", "device=cpu"], "get_miou": ["model_path=logs/masks/best.pth", "device=cpu"],
             "predict": ["model_path=logs/boxes/best.pth", "device=cpu", "source=photos"], "voc_annotation": ["dataset=VOCdevkit/Set"]}
    return lambda script, words: SCRIPTS[script].main(read_settings(vars(SCRIPTS[script]), [*usual[script], *words]))


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("script", SCRIPTS)
def test_mistakes_write_nothing(go, home, script, capsys):
    before, faults = tree(home), []
    for wrong in WRONG[script]:
        try:
            go(script, wrong.split(" ") if wrong.startswith("source=") else [wrong])
            faults.append((wrong, "no error"))
        except UserError as error:
            assert 10 < len(str(error)) < 2000, wrong
        except Exception as error:
            faults.append((wrong, repr(error)))
        if tree(home) != before:
            faults.append((wrong, "something was written"))
            before = tree(home)
    capsys.readouterr()
    assert not faults, faults


def test_mistakes_of_segmentation_in_predict(go, home):
    before = tree(home)
    for wrong in ("source=bad/a.jpg", "scales=(0,)", "source=hollow", "model_path=logs/masks/best.pth source= model_path=logs/none.pth"):
        with pytest.raises(UserError):
            go("predict", ["model_path=logs/masks/best.pth", *wrong.split(" ")])
        assert tree(home) == before, wrong


def test_an_empty_folder_of_the_user_stays(go, home):
    (home / "mine").mkdir()
    with pytest.raises(UserError):
        go("predict", ["source=bad/a.jpg", "output=mine"])
    with pytest.raises(UserError):
        go("predict", ["source=bad/a.jpg", "output=mine/new/newer"])
    assert (home / "mine").is_dir() and not list((home / "mine").iterdir())
    (home / "mine").rmdir()


def test_a_folder_without_results_disappears(tmp_path):
    for content in (False, True):
        with pytest.raises(KeyboardInterrupt), results_folder(tmp_path / "map_out", "run") as folder:
            assert folder.is_dir()
            if content:
                (folder / "results.txt").write_text("x", encoding="utf-8")
            raise KeyboardInterrupt
        assert (tmp_path / "map_out").exists() == content


def test_counted():
    assert [counted(n, "box") for n in (0, 1, 2)] == ["0 boxes", "1 box", "2 boxes"]
    assert [counted(n, "class") for n in (1, 3)] == ["1 class", "3 classes"] and counted(2, "image") == "2 images"
