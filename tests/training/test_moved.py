"""A run whose dataset was moved, or whose lists were changed: it goes on where these are the same data, and says what is not."""
import re
import shlex
from types import SimpleNamespace

import numpy as np
import pytest
from sources import XML, image, text
from torture import LINUX

from utils.errors import UserError
from utils.training import resume

WORDS = ("net=yolov4_tiny", "input_shape=64", "batch_size=4", "epochs=1", "amp=False", "num_workers=0")


def make_voc(folder, names):
    """A VOC folder without lists. -> the folder."""
    for name in names:
        image(folder / "JPEGImages" / f"{name}.png")
        text(folder / "Annotations" / f"{name}.xml", XML)
    return folder


@LINUX
def test_the_data_set_is_moved(server, tmp_path):
    """The message leads to the new place; other data under that name are refused, with the way to learn from them."""
    first, second = make_voc(tmp_path / "fruit 1", "abcdefghij"), tmp_path / "renamed"
    server.clear()
    assert server.run(*WORDS, f"dataset={first}", at=[["after train.step", 0]], faults=[["save_before_the_first_step"]])["status"] == -9
    first.rename(second)

    answer = server.run("resume=True", status=1)["out"]
    assert "[listed_moved: stops]" in answer and "dataset=..." in answer and "best.pth" not in answer and "voc_annotation" not in answer
    (tmp_path / "other").mkdir()
    other = make_voc(tmp_path / "other" / "fruit 1", "abcdefghi")
    answer = server.run("resume=True", f"dataset={other}", status=1)["out"]
    (run,) = server.logs().iterdir()
    assert "the training list held 8 images and holds 7 now" in answer and "best.pth" not in answer
    advised = re.search('python (train.py net=yolov4_tiny "dataset=.*?" "model_path=.*?")', answer)[1]
    assert shlex.split(advised) == ["train.py", WORDS[0], f"dataset={other}", f"model_path=logs/{run.name}/last.pth"]

    answer = server.run("resume=True", f"dataset={second}", status=0)["out"]
    assert "Resumed after epoch 0." in answer and "NOTE: the" not in answer and "from where these images were before" in answer
    server.run(*shlex.split(advised)[1:], *WORDS[1:], status=0)


def data(paths, boxes=None, masks=None):
    task = "detection" if boxes is not None else "segmentation"
    rows = [np.array(some, np.float32).reshape(-1, 6) for some in boxes or ()]

    class Data(SimpleNamespace):
        def __len__(self):
            return len(self.paths)
    return Data(task=task, paths=paths, boxes=rows, masks=masks)


def test_a_fingerprint_knows_names_and_labels_but_not_the_place():
    box, other = (1, 2, 3, 4, 0, 0), (1, 2, 3, 5, 0, 0)
    here = resume.fingerprint(data(["/mnt/a set/x/1.jpg", "/mnt/a set/y/2.jpg"], [[box], [other]]))
    assert here == resume.fingerprint(data(["VOCdevkit/B/x/1.jpg", "VOCdevkit/B/y/2.jpg"], [[box], [other]]))
    for paths, boxes, same in ((["a/x/1.jpg", "a/y/3.jpg"], [[box], [other]], "labels"), (["a/y/1.jpg", "a/y/2.jpg"], [[box], [other]], "labels"),
                               (["a/x/1.jpg", "a/y/2.jpg"], [[box], [box]], "names"), (["a/x/1.jpg", "a/y/2.jpg"], [[box, other], []], "names")):
        changed = resume.fingerprint(data(paths, boxes))
        assert {name for name in here if here[name] == changed[name]} == {"images", same}
    masks = resume.fingerprint(data(["a/1.jpg"], masks=["prepared/a_1/masks/1.png"]))
    assert masks == resume.fingerprint(data(["/b/1.jpg"], masks=["/b/plainvision_masks/1.png"])) != here


def state_of(lists, dataset="old/Set"):
    return {"settings": {"dataset": dataset}, "training": {"lists": lists} if lists else {}}


def settings(dataset="old/Set", origin="resumed run"):
    return SimpleNamespace(dataset=dataset, net="yolov8", origin={"dataset": origin})


def test_changed_lists_are_said(root):
    then = {"train": {"images": 2, "names": "n", "labels": "l"}, "val": {"images": 1, "names": "n", "labels": "l"}}
    assert resume.check_same_lists(state_of(then), settings(), then, root) == []
    assert resume.check_same_lists(state_of(then), settings("new/Set", "command line"), then, root) == []
    for change, words in (({"images": 3, "names": "m"}, "the training list held 2 images and holds 3 now"),
                          ({"names": "m"}, "the training list holds other images than then"),
                          ({"labels": "m"}, "the training list holds the same images with other labels")):
        now = then | {"train": then["train"] | change}
        (note,) = resume.check_same_lists(state_of(then), settings(), now, root)
        assert words in note and note.startswith("NOTE: ")
        (note,) = resume.check_same_lists(state_of(then), settings("old/Set", "command line"), now, root)      # said again, not another place
        with pytest.raises(UserError, match=words):
            resume.check_same_lists(state_of(then), settings("new/Set", "command line"), now, root)


def test_a_run_of_an_earlier_version_is_resumed(root):
    now = {"train": {"images": 2, "names": "n", "labels": "l"}, "val": {}}
    for lists in (None, [1], {"train": 3}):
        assert resume.check_same_lists(state_of(lists), settings(), now, root) == []
    (note,) = resume.check_same_lists(state_of(None), settings("new/Set", "command line"), now, root)
    assert "cannot be checked" in note


def test_lists_that_bear_the_name_of_the_data_set_are_made_anew(root):
    text(root / "model_data/set_classes.txt", "a\n")
    saved = {"dataset": "old/Set", "train_list": "Set_train.txt", "val_list": "Set_segmentation_val.txt", "test_list": "mine.txt",
             "classes_path": "model_data/set_classes.txt"}
    assert resume.lists_elsewhere(saved) == {"train_list": None, "val_list": None}
    assert resume.lists_elsewhere(saved | {"classes_path": "gone.txt"})["classes_path"] is None
