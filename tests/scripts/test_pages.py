"""The pages of a training, and the score threshold that travels with its weights."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fake_detector import NAMES, go_fixture, grey, save  # noqa: F401

from utils.results import draw, filters, pages
from utils.results.masks import WRONG, bright_colours
from utils.settings import Settings


def detection(images=2, objects=2):
    """A dataset of grey pictures with their boxes, as much of it as a page asks for."""
    boxes = np.array([[20, 20, 80, 80, 0, 0], [100, 30, 180, 90, 1, 0]] * objects, float)[:objects]
    return SimpleNamespace(task="detection", class_names=NAMES, input_shape=(64, 96), boxes=[boxes] * images,
                           paths=[f"some/folder/猫 {i}.jpg" for i in range(images)], whole_image=lambda index: grey(400, 640))


def found(scores):
    return {"boxes": np.float32([[20, 20, 80, 80], [100, 30, 180, 90], [300, 300, 400, 390], [0, 0, 9, 9]]), "labels": np.array([0, 1, 2, 0]),
            "scores": np.float32(scores)}


def test_a_cell_has_the_truth_and_what_is_said(monkeypatch):
    """Nothing sure: the three best boxes in dots."""
    seen = []
    monkeypatch.setattr(pages, "draw_boxes", lambda image, boxes, labels, names, scores, truth, dotted:
                        seen.append((image.shape, boxes, len(scores), truth, dotted)) or draw.draw_boxes(image, boxes, labels, names, scores))
    captions = [pages.box_cell(detection(), 0, found(scores), 0.5)[1] for scores in ([0.9, 0.6, 0.2, 0.1], [0.2, 0.3, 0.1, 0.05])]
    assert captions == ["猫 0.jpg\n2 objects, 2 boxes, best score 0.90", "猫 0.jpg\n2 objects, 0 boxes, best score 0.30"]
    (size, boxes, count, truth, dotted), (_, _, best, _, dotted_too) = seen
    assert size == (200, 320, 3) and boxes[0].tolist() == [10, 10, 40, 40] and truth[1].tolist() == [50, 15, 90, 45]
    assert (count, dotted, best, dotted_too) == (2, False, 3, True)


@pytest.mark.parametrize("images, scores", [(1, [0.9, 0.1, 0.1, 0.1]), (5, [0.01] * 4)])
def test_page_of_a_detector(images, scores):
    page = pages.prediction_page(detection(images), [found(scores)] * images, 0.25)
    assert page.shape[1] >= 320 * min(images, 4) and page.dtype == np.uint8
    none = {name: values[:0] for name, values in found(scores).items()}
    assert pages.box_cell(detection(), 1, none, 0.25)[1].endswith("0 boxes, best score none")


def test_names_or_numbers_on_the_first_batches(monkeypatch):
    """Up to six boxes have names; of more, numbers, with a legend; the letters are at most 6 % of a cell."""
    seen = []
    real = draw.label_texts
    monkeypatch.setattr(draw, "label_texts", lambda *words: seen.append(real(*words)) or seen[-1])
    pages_made = []
    for objects in (6, 7):
        data = detection(1, objects)
        target = {"index": 0, "boxes": torch.tensor(data.boxes[0][:, :4] / 2), "labels": torch.tensor(data.boxes[0][:, 4]).long()}
        pages_made.append(pages.batch_page(type("Data", (), vars(data) | {"__len__": lambda self: 1, "__getitem__": lambda self, key, target=target:
                                                (torch.zeros(3, 64, 96, dtype=torch.uint8), target)})(), 0))
    assert [text for text, *_ in seen[0]] == [NAMES[0], NAMES[1]] * 3 and {text for text, *_ in seen[1]} == {"0", "1"}
    assert pages_made[0].shape[0] < pages_made[1].shape[0] and pages_made[0].shape[1] >= 320
    assert max(font.size for _, _, font in seen[0]) <= 0.06 * 320


def test_row_of_a_segmenter():
    """Errors are outlined in red, and a network that says background everywhere is not "88 % right"."""
    truth = np.zeros((400, 640), np.uint8)
    truth[100:200, 100:300], truth[0] = 1, 255
    data = SimpleNamespace(task="segmentation", class_names=["background", "cat"], truth=lambda index: truth, paths=["a/b.jpg"],
                           whole_image=lambda index: grey(400, 640))
    said = []
    for labels in (np.where(truth == 255, 0, truth), np.zeros_like(truth), np.roll(np.where(truth == 255, 0, truth), 60, 1)):
        pictures, captions = pages.mask_row(data, 0, labels.astype(np.uint8))
        said.append((captions[2], (pictures[2] == WRONG).all(2).sum()))
        assert [picture.shape for picture in pictures] == [(200, 320, 3)] * 3 and captions[:2] == ["b.jpg", "truth"]
        assert (pictures[1] == bright_colours()[1]).all(2).any()
    assert [text for text, _ in said] == ["network, errors red: mean IoU 1.00", "network, errors red: finds only background",
                                          "network, errors red: mean IoU 0.74"]
    assert said[0][1] == 0 and said[1][1] > 100 < said[2][1]


@pytest.mark.parametrize("value, info, expected, where", [
    (None, {"confidence": 0.12}, 0.12, "training"), (0.5, {"confidence": 0.12}, 0.5, "predict.py"), (0.0, {"confidence": 0.12}, 0.0, "predict.py"),
    (None, {}, 0.3, "no training"), (None, {"confidence": None}, 0.3, "no training"), (None, {"confidence": 0.0}, 0.0, "training")])
def test_the_threshold_comes_from_the_training(value, info, expected, where):
    s = Settings({"confidence": value}, "predict.py")
    filters.choose_confidence(s, info)
    assert s.confidence == expected and where in s.origin["confidence"]


def test_predict_shows_what_the_training_found_best(go, tmp_path):
    """The made-up detector finds boxes with 0.9, 0.6 and 0.2."""
    picture = save(tmp_path / "a.png", grey(100, 200, 150))
    assert "2 boxes" in go(source=picture)
    go.info["confidence"] = 0.1
    assert "3 boxes" in go(source=picture)
    assert "1 box\n" in go(source=picture, confidence=0.7)
