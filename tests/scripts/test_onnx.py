"""export_onnx.py and prediction without PyTorch: the same answers as the network, in NumPy and ONNX Runtime."""
import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from colour_net import ColourNet, draw, save_weights
from loud_net import save_loud
from PIL import Image
from small_nets import make_thin, small

import export_onnx
import nets
from utils.boxes import nms
from utils.checkpoint import save_checkpoint
from utils.errors import UserError
from utils.evaluate import segment
from utils.prediction import engine as engines
from utils.prediction import onnx_compare, onnx_engine, onnx_file, onnx_graph
from utils.prediction.suppression import remove_duplicates
from utils.results import video
from utils.settings import ROOT, Settings, read_settings

# A script where PyTorch cannot be imported at all, as if it were not installed, and where it can.
BLOCKED = "import runpy, sys; sys.modules['torch'] = sys.modules['torchvision'] = None; sys.argv[0] = sys.argv[1]; del sys.argv[1]\n" \
          "runpy.run_path(sys.argv[0], run_name='__main__')"
WATCHED = "import runpy, sys; sys.argv[0] = sys.argv[1]; del sys.argv[1]\nrunpy.run_path(sys.argv[0], run_name='__main__')\n" \
          "print('torch' in sys.modules, 'nets' in sys.modules)"


def export(*words):
    export_onnx.main(read_settings(vars(export_onnx), [str(word) for word in words]))


def open_engine(path, **values):
    usual = {"model_path": str(path), "device": "cpu", "net": "", "net_options": {}, "amp": False}
    open_ones = dict.fromkeys(("input_shape", "fit", "nms_iou", "threshold", "batch_size", "confidence"))
    return engines.open_engine(Settings(usual | open_ones | values, "test"))


def same(ours, theirs):
    """Whether two engines found the same boxes; of several of one score any may be there."""
    lowest = max([0, *(found["scores"].min() for found in (ours, theirs) if len(found["scores"]))])
    edges, scores, lost = onnx_compare.gaps(ours, theirs, lowest + 1e-4)
    return edges < 1e-2 and scores < 1e-4 and not lost


def run(code, script, *words):
    done = subprocess.run([sys.executable, "-c", code, str(ROOT / script), *(str(word) for word in words)], capture_output=True, text=True,
                          encoding="utf-8", timeout=300)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """The folder of a small detector: best.pth, best.onnx, nms.onnx with the suppression inside."""
    folder = tmp_path_factory.mktemp("模型 detector")
    weights = save_loud(folder / "best.pth")
    export(f"model_path={weights}", "pictures=2")
    export(f"model_path={weights}", "pictures=2", "nms=True", "confidence=0.05", "max_boxes=20", f"output={folder / 'nms.onnx'}")
    return folder


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    """The same with a network for segmentation whose answers are known."""
    folder = tmp_path_factory.mktemp("segmenter")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(nets.NETS, "colour_net", ColourNet)
        export(f"model_path={save_weights(folder / 'best.pth')}", "pictures=1")
    return folder


@pytest.mark.parametrize("rules", [
    {}, {"kind": "diou"}, {"kind": "soft"}, {"agnostic": True}, {"kind": "diou", "agnostic": True}, {"most_per_class": 2}, {"per_class": 10},
    {"max_candidates": 50}, {"parts": [30, 90], "max_candidates": 20}, {"parts": [30, 90], "max_candidates": 20, "per_class": 9}], ids=str)
@pytest.mark.parametrize("own_boxes", [False, True])
def test_nms_in_numpy_keeps_what_that_of_torch_keeps(rules, own_boxes):
    chance = torch.Generator().manual_seed(0)
    centre, size = (torch.rand(1, 120, 4 if own_boxes else 1, 2, generator=chance) * px for px in (100, 60))
    boxes = torch.cat([centre - size / 2, centre + size / 2], -1)
    boxes = boxes if own_boxes else boxes[:, :, 0]
    scores = torch.rand(1, 120, 4, generator=chance) ** 2
    for threshold in (0.1, [0.1, 0.5, float("inf"), 0.2], 0.999):
        (ours,) = nms(boxes, scores, threshold, 0.5, 40, **rules)
        theirs = remove_duplicates(boxes[0].numpy(), scores[0].numpy(), threshold, 0.5, 40, **rules)
        assert (ours["boxes"].numpy() == theirs["boxes"]).all() and ours["labels"].tolist() == theirs["labels"].tolist()
        assert np.abs(ours["scores"].numpy() - theirs["scores"]).max(initial=0) < 1e-6
        assert {name: array.dtype.name for name, array in theirs.items()} == {"boxes": "float32", "scores": "float32", "labels": "int64"}


def test_the_file_says_what_it_is(detector):
    said = {one.key: json.loads(one.value) for one in onnx.load(detector / "best.onnx").metadata_props}
    assert said["net"] == "yolox" and said["class_names"] == ["猫", "a b", "c"] and said["input_shape"] == [64, 96]
    assert said["settings"] == {"fit": "letterbox", "value_range": None, "test_list": ""}       # not what is of no use here
    assert said["task"] == "detection" and "pixels / 255" in said["values"] and said["dynamic"] == ["batch", "height and width"]
    assert said["opset"] == 17 and said["suppression"] is None and said["nms_iou"] == nets.NETS["yolox"].recipe["nms_iou"]
    inside = {one.key: json.loads(one.value) for one in onnx.load(detector / "nms.onnx").metadata_props}
    assert inside["suppression"] == {"confidence": 0.05, "nms_iou": said["nms_iou"], "max_boxes": 20}


def test_both_engines_answer_the_same(detector):
    """Two pictures of different sizes, every kind of suppression; also with the suppression inside the file."""
    chance = np.random.default_rng(0)
    images = [chance.integers(0, 256, (*size, 3), np.uint8) for size in ((70, 150), (200, 110))]
    torch_engine, engine = open_engine(detector / "best.pth"), open_engine(detector / "best.onnx")
    assert engine.fit == torch_engine.fit == "rect"
    for rules in ({}, {"kind": "soft"}, {"kind": "diou", "agnostic": True}, {"most_per_class": 1}):
        for image in images:
            (ours,), (theirs,) = (one.detect([image], 0.05, 0.5, 20, **rules) for one in (torch_engine, engine))
            assert len(ours["boxes"]) >= 2 and same(ours, theirs)

    # Nothing above the threshold: both say how close the best one came.
    best = [one.detect(images[:1], 0.99, 0.5, 20)[0]["best"] for one in (torch_engine, engine)]
    assert abs(best[0][0] - best[1][0]) < 1e-4 and best[0][0] > 0.05
    inside = open_engine(detector / "nms.onnx", fit="letterbox")
    plain = open_engine(detector / "best.onnx", fit="letterbox")
    for ours, theirs in zip(plain.detect(images, 0.1, inside.info["nms_iou"], 5), inside.detect(images, 0.1, inside.info["nms_iou"], 5)):
        assert same(ours, theirs)


def test_segmentation_in_every_way(segmenter, tmp_path):
    truth = draw(tmp_path / "a.png", size=(90, 120), labels=(1, 2, 3))
    image = np.array(Image.open(tmp_path / "a.png"))
    model, engine = ColourNet(4).eval(), open_engine(segmenter / "best.onnx")
    for ways in ({}, {"scales": (0.5, 1.5), "flip": True}, {"slide": True}, {"slide": True, "scales": (1.0, 0.7), "flip": True}):
        (ours,), (theirs,) = segment(model, [image], (48, 64), **ways), engine.segment([image], **({"threshold": 0.5} | ways))
        assert (ours["labels"] == theirs["labels"]).mean() > 0.999 and np.abs(ours["best"] - theirs["best"]).max() < 1e-4
        assert (theirs["labels"] == truth).mean() > 0.9 and theirs["labels"].dtype == np.uint8


def test_predict_without_torch(detector, segmenter, tmp_path):
    """Real processes: a picture, a folder, a video with a detector; with masks where PyTorch is not even installed."""
    folder = tmp_path / "in"
    draw(folder / "sub/b.png", size=(80, 90))
    draw(folder / "a.jpg", size=(60, 100))
    made = video.VideoFile(folder, "clip", 12)
    for number in range(3):
        made.write(np.full((64, 96, 3), 40 * number, np.uint8))
    made.close()
    words = (f"model_path={detector / 'best.onnx'}", f"source={folder}", f"output={tmp_path / 'out'}", "confidence=0.05", "save_json=True")
    said = run(WATCHED, "predict.py", *words)
    assert said.endswith("False False\n") and "3 frames" in said
    records = json.loads(next((tmp_path / "out").rglob("*.json")).read_text(encoding="utf-8"))
    assert len(list((tmp_path / "out").rglob("*.[jp][pn]g"))) == 2 and json.dumps(records, ensure_ascii=False).count("xyxy")

    draw(tmp_path / "one.png", size=(48, 64))
    run(BLOCKED, "predict.py", f"model_path={segmenter / 'best.onnx'}", f"source={tmp_path / 'one.png'}", f"output={tmp_path / 'masks'}")
    assert (tmp_path / "masks/one.png").is_file()


def test_plainvision_without_torch_beside_files_of_the_same_names(detector, tmp_path):
    """The notebook, cell by cell, in a folder whose own utils.py and nets.py stay what they are."""
    cells = json.loads((ROOT / "docs/examples/python.ipynb").read_text(encoding="utf-8"))["cells"]
    source = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    shutil.copy(detector / "best.onnx", tmp_path)
    draw(tmp_path / "cat.jpg", size=(64, 96))
    for name in ("utils", "nets"):
        (tmp_path / f"{name}.py").write_text("mine = 1\n")
    source[0] = source[0].replace("best.pth", "best.onnx")
    lines = ["import os, sys", f"os.chdir({str(tmp_path)!r})", f"sys.path[:0] = [{str(tmp_path)!r}]", f"sys.path.append({str(ROOT)!r})",
             "import utils, nets", *source, "assert found.mask is None and utils.mine == nets.mine == 1", "print(found, found.save('cat.png'))"]
    (tmp_path / "cells.py").write_text("\n".join(lines), encoding="utf-8")
    assert "cat.jpg" in run(BLOCKED, tmp_path / "cells.py") and (tmp_path / "cat.png").is_file()
    assert not list(ROOT.glob("found*.png"))


def refusal(*words):
    with pytest.raises(UserError) as caught:
        export(*words)
    return str(caught.value)


def test_what_is_refused(detector, tmp_path, monkeypatch):
    weights = shutil.copy(detector / "best.pth", tmp_path / "best.pth")
    assert "output" in refusal(f"model_path={weights}", "output=a.pth")
    assert "is left as it is" in refusal(f"model_path={weights}", f"output={detector / 'best.onnx'}")
    assert "exclude each other" in refusal(f"model_path={weights}", "nms=True", "quantise=dynamic")
    assert "opset=9" in refusal(f"model_path={weights}", "opset=9")
    with monkeypatch.context() as patch:
        patch.setattr(onnx_file.importlib.util, "find_spec", lambda name: None)
        assert "pip install onnx onnxruntime" in refusal(f"model_path={weights}")

    # A graph that computes something else is never kept.
    with monkeypatch.context() as patch:
        patch.setattr(onnx_compare, "BOX", -1)
        assert "does not compute what the network does" in refusal(f"model_path={weights}", "pictures=1", "dynamic=False")
    monkeypatch.setattr(onnx_graph, "EQUAL", {"boxes": -1, "scores": -1})
    assert "its answers differ" in refusal(f"model_path={weights}", "dynamic=False")
    content = torch.load(weights, weights_only=True)
    next(iter(content["model"].values())).fill_(float("nan"))
    save_checkpoint(weights, **content)
    assert "hold NaN or infinity" in refusal(f"model_path={weights}")
    assert [path.name for path in tmp_path.iterdir()] == ["best.pth"]


def test_files_that_are_no_networks_of_ours(detector, tmp_path):
    (tmp_path / "text.onnx").write_text("<html>")
    foreign = onnx.load(detector / "best.onnx")
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    onnx.helper.set_model_props(foreign, {"plainvision": "1", "net": "[" * 100_000})
    onnx.save(foreign, tmp_path / "damaged.onnx")
    onnx.helper.set_model_props(foreign, {"plainvision": "1", "net": '"yolox"', "class_names": "[]"})
    onnx.save(foreign, tmp_path / "empty.onnx")
    for name, words in {"text": "cannot be read as an .onnx file", "foreign": "was not written by export_onnx.py", "none": "There is no weight",
                        "damaged": "is damaged", "empty": "class_names is"}.items():
        with pytest.raises(UserError, match=words):
            open_engine(tmp_path / f"{name}.onnx")


def test_what_the_file_cannot_do(detector, tmp_path):
    export(f"model_path={detector / 'best.pth'}", "pictures=1", "dynamic=False", f"output={tmp_path / 'fixed.onnx'}")
    with pytest.raises(UserError, match="exported for inputs of 96 x 64 only"):
        open_engine(tmp_path / "fixed.onnx", input_shape=(96, 96))
    with pytest.raises(UserError, match="cannot take this size. The nearest is"):
        open_engine(detector / "best.onnx", input_shape=(70, 96))
    with pytest.raises(UserError, match="has its suppression inside"):
        open_engine(detector / "nms.onnx").detect([np.zeros((9, 9, 3), np.uint8)], 0.1, 0.9, 5)
    engine = open_engine(tmp_path / "fixed.onnx")
    assert engine.fit == "letterbox" and len(engine.detect([np.zeros((9, 9, 3), np.uint8)] * 2, 0.1, 0.5, 5)) == 2
    assert onnx_engine.OnnxEngine.batch == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", nets.NETS)
def test_every_network_is_exported(name, monkeypatch):
    """make_graph compares the graph with the network itself, on noise, at every batch and size that it calls dynamic."""
    make_thin(monkeypatch)
    model, shape = small(name)
    content, free, _ = onnx_graph.make_graph(model.eval(), shape, 17)
    assert len(content) > 10_000
    only_batch = name.startswith(("ssd", "segformer", "detr"))
    assert free == (() if name in ("faster_rcnn", "rtdetr") else ("batch",) if only_batch else ("batch", "height and width"))
    if model.task == "detection":
        onnx_graph.make_graph(model, shape, 18, {"confidence": 0.05, "nms_iou": 0.5, "max_boxes": 10})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_whole_numbers(kind, tmp_path, capsys):
    """A quarter of the file, and its loss is said."""
    content = torch.load(save_loud(tmp_path / "best.pth"), weights_only=True)
    for split in ("train", "test"):
        draw(tmp_path / f"{split}.png", size=(64, 96))
        (tmp_path / f"{split}.txt").write_text(f"{tmp_path / f'{split}.png'} 8,8,36,38,0\n")
        content["settings"][f"{split}_list"] = str(tmp_path / f"{split}.txt")
    save_checkpoint(tmp_path / "best.pth", **content)
    export(f"model_path={tmp_path / 'best.pth'}", f"quantise={kind}")
    assert f"{kind} int8" in capsys.readouterr().out
    size = (tmp_path / "best_int8.onnx").stat().st_size
    assert size < 0.5 * (tmp_path / "best.pth").stat().st_size
    assert open_engine(tmp_path / "best_int8.onnx").info["quantised"] == kind
