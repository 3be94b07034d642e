"""tools/kmeans_anchors.py finds the groups that are there, measures them by the stated rules, and writes what the networks read."""
import numpy as np
import pytest
import torch
from PIL import Image

import nets
from nets.yolov3 import ANCHORS, AnchorYOLO, YOLOv3
from tools import kmeans_anchors as tool
from utils.anchors import find_anchors, read_anchors, suitability, write_anchors
from utils.errors import UserError
from utils.settings import read_settings

GROUPS = torch.tensor([[10.0, 12], [14, 40], [40, 14], [50, 60], [110, 50], [120, 130]])


def cloud(count=40, seed=0):
    """Six groups of sizes, spread by up to a tenth."""
    rng = torch.Generator().manual_seed(seed)
    return (GROUPS[:, None] * (0.9 + 0.2 * torch.rand(6, count, 2, generator=rng))).view(-1, 2)


@pytest.fixture
def listed(root, monkeypatch):
    """A list of pictures 400 wide and 200 high, their objects twice as large as the groups; one is difficult, one tiny."""
    sizes = 2 * GROUPS.numpy()
    lines = []
    for number, (w, h) in enumerate(np.minimum(sizes, (400, 200))):
        Image.new("RGB", (400, 200)).save(root / f"a {number}.jpg")
        boxes = [f"0,0,{w * k:g},{h * k:g},0" for k in (0.98, 1, 1, 1.02) if h * k <= 200]
        lines.append(" ".join([f"a {number}.jpg", *boxes]))
    Image.new("RGB", (400, 200)).save(root / "b.jpg")
    lines += ["b.jpg 0,0,400,30,0,1 5,5,7,9,0"]
    (root / "Shapes_train.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (root / "model_data").mkdir()
    for name, value in {"input_shape": (224, 200), "net": "yolov4_tiny", "train_list": None, "count": None, "anchors_path": None}.items():
        monkeypatch.setattr(tool, name, value)
    return root


def test_finds_the_groups():
    found = tool.kmeans(cloud(), 6)
    assert (found / GROUPS[GROUPS.prod(1).argsort()] - 1).abs().max() < 0.05
    assert suitability(cloud(), found)[1] > 0.85
    assert torch.equal(found, tool.kmeans(cloud(), 6)) and (found.prod(1).diff() >= 0).all()


def test_too_few_objects():
    with pytest.raises(UserError, match="only 2 different sizes"):
        tool.kmeans(torch.tensor([[10.0, 10], [20, 20], [10, 10]]), 3)


def test_suitability_by_hand():
    """Reached: each side less than 4 times that of the other. IoU by shape."""
    anchors = torch.tensor([[10.0, 10], [100, 100]])
    for size, reached, overlap in (((39.9, 10), 1, 100 / 399), ((40.1, 10), 0, 100 / 401), ((2.6, 9), 1, 23.4 / 100), ((2.4, 9), 0, 21.6 / 100),
                                   ((60, 200), 1, 6000 / 16000)):
        assert suitability(torch.tensor([size]), anchors) == pytest.approx((reached, overlap), abs=1e-6)
    both = suitability(torch.tensor([[10.0, 10], [2, 10]]), anchors)
    assert both == pytest.approx((0.5, 0.6))


def test_sizes_are_those_in_the_input(listed, capsys):
    """400 x 200 in an input of 224 x 200 (height x width): half as large."""
    sizes = tool.object_sizes("Shapes_train.txt", (224, 200), "letterbox")
    assert "1 objects are less than 2 px" in capsys.readouterr().out
    assert [20, 24] not in sizes.tolist() and any(np.allclose(size, (10, 12)) for size in sizes.tolist())
    assert not any(np.allclose(size, (200, 15)) for size in sizes.tolist())              # the difficult one
    stretched = tool.object_sizes("Shapes_train.txt", (100, 400), "stretch")
    assert any(np.allclose(size, (20, 12)) for size in stretched.tolist())


def test_file_and_network(listed, capsys):
    """What the tool writes is what a network trains with; another input has other pixels; a number that the heads do not divide is refused."""
    tool.main(read_settings(vars(tool), []))
    said = capsys.readouterr().out
    assert 'net_options = "yolov4_tiny", {"anchors": "model_data/shapes_6_anchors.txt"}' in said and "WARNING" not in said
    lines = said.splitlines()
    own, made = (next(line.split() for line in lines if line.startswith(word)) for word in ("the network's own", "k-means"))
    assert float(made[1]) == 1.0 and float(made[2]) > 0.9 > float(own[4])
    anchors, shape = read_anchors("model_data/shapes_6_anchors.txt")
    assert shape == (224, 200) and anchors.shape == (6, 2)
    model = nets.build("yolov4_tiny", 2, (64, 64), anchors=str(listed / "model_data" / "shapes_6_anchors.txt"))
    factor = (64 * 64 / (224 * 200)) ** 0.5
    assert torch.allclose(model.anchors.view(-1, 2), anchors * factor) and (model.anchors.prod(2).view(-1).diff() >= 0).all()
    assert "other proportions" in capsys.readouterr().out
    again = nets.build("yolov4_tiny", 2, (64, 64), **model.options)                      # as a checkpoint brings it back
    assert torch.equal(again.anchors, model.anchors)
    with pytest.raises(UserError, match="contains 6 anchors, which cannot be divided evenly among the 4 heads"):
        find_anchors("model_data/shapes_6_anchors.txt", (64, 64), 4)
    tool.main(read_settings(vars(tool), []))
    assert not list((listed / "model_data").glob("*.bak"))


def test_anchors_grow_with_the_input(root, capsys):
    write_anchors("a.txt", torch.tensor([[30.0, 40], [10.5, 20], [50, 60]]), (416, 416), "2007_train.txt")
    twice = find_anchors("a.txt", (832, 832), 3)
    assert twice.tolist() == [[[21, 40]], [[60, 80]], [[100, 120]]] and capsys.readouterr().out == ""
    class Heads(YOLOv3):
        def __init__(self, anchors, shape):
            AnchorYOLO.__init__(self, 2, shape, anchors, 1.0, 1.0, 0.0, False, 0.25, 2.0)
    assert torch.equal(Heads("a.txt", (832, 832)).anchors, twice)
    assert Heads(ANCHORS, (832, 832)).anchors.tolist() == Heads(ANCHORS, (416, 416)).anchors.tolist() == torch.tensor(ANCHORS).tolist()


def test_warns_of_objects_beyond_reach(listed, monkeypatch, capsys):
    (listed / "Shapes_train.txt").write_text("b.jpg " + " ".join(f"0,0,{w},200,0" for w in (8, 9, 10, 40, 45, 50, 180, 390, 400)) + "\n")
    monkeypatch.setattr(tool, "count", 2)
    tool.main(read_settings(vars(tool), []))
    said = capsys.readouterr().out
    assert "WARNING" in said and "count=4" in said and (listed / "model_data" / "shapes_2_anchors.txt").is_file()


@pytest.mark.parametrize("settings, sentence", [
    ({"net": "unet"}, "unet has no option anchors.*yolov3, yolov4, yolov4_tiny"), ({"net": "yolov"}, "no network"),
    ({"count": 5}, "yolov4_tiny has 2 heads.*multiple of 2"), ({"train_list": "none.txt"}, "no list file none.txt"), ({"count": 0}, "count=0"),
    ({"fit": "squeeze"}, "squeeze")])
def test_wrong_settings(listed, monkeypatch, settings, sentence):
    for name, value in settings.items():
        monkeypatch.setattr(tool, name, value)
    with pytest.raises(UserError, match=sentence):
        tool.main(read_settings(vars(tool), []))


@pytest.mark.parametrize("text, sentence", [
    ("input_shape 224,224\n10,12\n9;8\n", "a.txt, line 3: '9;8'"), ("10,12\n", "contains no line input_shape"),
    ("# only\ninput_shape 4,4\n", "contains no anchors"),
    ("input_shape 224,224\n10,-3\n", "line 2"), ("input_shape 224,224\n10,12,14\n", "line 2"), ("input_shape 224,224\n10,inf\n", "line 2")])
def test_broken_files(root, text, sentence):
    (root / "a.txt").write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_anchors("a.txt")
    with pytest.raises(UserError, match="no file of anchors b.txt"):
        read_anchors("b.txt")


@pytest.mark.parametrize("anchors", [((10, 13), (16, 30)), (((10, 13),), ((16, 30),)), (((10, 13),), ((16, 30),), ((5, -1),)), "", 7,
                                     (((10, 13), (1, 2)), ((16, 30),), ((5, 1),)), (((10,),), ((16,),), ((5,),)), ((), (), ())])
def test_wrong_anchors(anchors):
    with pytest.raises(UserError, match="anchors"):
        find_anchors(anchors, (416, 416), 3)
