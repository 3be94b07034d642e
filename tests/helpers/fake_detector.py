"""predict.py with a detector that is made up: what it finds follows from the brightness of the picture."""
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

import predict
from utils.prediction import engine, torch_engine
from utils.results import media
from utils.settings import read_settings

NAMES = ["cat", "a/b dog", "person"]


def grey(height, width, value=100):
    return np.full((height, width, 3), value, np.uint8)


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def results(folder):
    """All files of a result folder, without the mark that it is one."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name != media.MARK)


class Detector(nn.Module):
    task, stride, recipe = "detection", 32, {"nms_iou": 0.45}


def fake_detect(model, images, input_shape, confidence, nms_iou, max_boxes, fit, **rules):
    """A bright image holds three boxes, one of them partly outside; a dark one only a weak one; a black one nothing."""
    results = []
    for image in images:
        height, width = image.shape[:2]
        scores = np.float32([0.9, 0.6, 0.2] if image.mean() > 60 else [0.12] if image.mean() > 5 else [])
        boxes = np.float32([[1, 2, width / 2, height / 2], [width / 2, height / 2, width + 9, height + 9], [0, 0, 5, 5]])[:len(scores)]
        labels = np.array([1, 0, 2])[:len(scores)]
        keep = scores >= np.asarray(confidence)[labels]
        best = (scores[0], labels[0]) if len(scores) else None
        results.append({"boxes": boxes[keep], "scores": scores[keep], "labels": labels[keep], "best": best})
    return results


@pytest.fixture(name="go")
def go_fixture(monkeypatch, tmp_path, capsys):
    """A function: run predict.main with these variables -> what it printed. Results lie in tmp_path/out."""
    info = {"net": "fake", "class_names": NAMES, "input_shape": (64, 96), "options": {}, "settings": {"test_list": str(tmp_path / "my test.txt")}}
    monkeypatch.setattr(engine, "find_weights", lambda _: tmp_path / "best.pth")
    monkeypatch.setattr(torch_engine, "choose_device", lambda device: "cpu")
    monkeypatch.setattr(torch_engine.nets, "load", lambda path, device, net, options: (Detector(), info))
    monkeypatch.setattr(torch_engine, "detect", fake_detect)

    def run(**variables):
        for name, value in ({"output": str(tmp_path / "out"), "input_shape": None, "fit": None, "nms_iou": None} | variables).items():
            monkeypatch.setattr(predict, name, str(value) if isinstance(value, Path) else value)
        predict.main(read_settings(vars(predict), []))
        return capsys.readouterr().out
    run.info = info
    return run
