"""Masks as pictures: colours, blends, palette files, legends, error maps, bars and confusion of a segmentation."""
import warnings
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from utils.errors import UserError
from utils.miou import segmentation_results
from utils.results import draw, masks, media, plots

NAMES = ["background", "猫", "dog", "_$x$"]
THINGS = ["land", "building", "road", "water"]          # no background


def noise(height=40, width=60):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_palette_is_that_of_voc():
    palette = masks.voc_palette()
    assert palette.shape == (256, 3) and palette.dtype == np.uint8 and len({tuple(c) for c in palette.tolist()}) == 256
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 8: (64, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    for label, colour in known.items():
        assert tuple(palette[label]) == colour


def test_no_class_is_black_where_there_is_no_background():
    assert tuple(masks.mask_colours(NAMES)[0]) == (0, 0, 0) and tuple(masks.mask_colours(NAMES)[1]) == (128, 0, 0)
    assert tuple(masks.mask_colours(THINGS)[0]) == (128, 0, 0) and tuple(masks.mask_colours(THINGS)[1]) == (0, 128, 0)
    assert tuple(masks.mask_colours(THINGS)[255]) == (224, 224, 192)
    for names, label in ((["Background ", "a"], 0), (["_background_", "a"], 0), (["背景", "a"], 0), (["a", "background"], None), ([], None)):
        assert masks.background_of(names) == label


def test_blend_leaves_the_background_and_the_input_as_they_are():
    image, labels = noise(), np.zeros((40, 60), np.uint8)
    labels[:, 30:], labels[:5] = 2, 255
    before = image.copy()
    result = masks.blend(image, labels, NAMES, 0.5)
    assert (image == before).all() and result.shape == image.shape and result.dtype == np.uint8
    assert (result[5:, :30] == image[5:, :30]).all()

    # Below half of the colour half of what is left of the image is grey.
    pale = image * 0.5 + (image @ np.array([0.299, 0.587, 0.114]))[..., None] * 0.5
    colours = masks.bright_colours()
    assert np.abs(result[6:, 31:] - (pale[6:, 31:] + colours[2]) / 2).max() <= 2
    assert np.abs(result[:4] - (pale[:4] + colours[255]) / 2).max() <= 2
    assert (result[6:, 30] == colours[2]).all() and (result[4] == colours[255]).all()       # outlines
    assert (masks.blend(image, labels, NAMES, 0.0) == image).all()
    assert (masks.blend(image, labels, NAMES, 1.0)[5:, 30:] == colours[2]).all()
    assert (masks.blend(image, labels, THINGS, 1.0)[5:, :30] == colours[0]).all()         # every class is tinted


def test_a_blend_has_the_hue_of_its_legend():
    """Dark red over teal was brown; over any ground a class keeps its hue."""
    for ground in ((0, 128, 128), (250, 240, 60), (20, 20, 60)):
        image = np.full((20, 20, 3), ground, np.uint8)
        for label in range(1, 7):
            tinted = masks.blend(image, np.full((20, 20), label, np.uint8), ["background"] + NAMES * 2)[10, 10]
            hue, of_legend = (int(cv2.cvtColor(np.uint8([[colour]]), cv2.COLOR_RGB2HSV)[0, 0, 0]) for colour in
                              (tinted, masks.bright_colours()[label]))
            assert min(abs(hue - of_legend), 180 - abs(hue - of_legend)) <= 15


def test_index_png_holds_the_labels_and_shows_colours(tmp_path):
    labels = np.array([[0, 1, 2], [20, 254, 255]], np.uint8)
    masks.index_png(tmp_path / "新 folder" / "a.png", labels)
    picture = Image.open(tmp_path / "新 folder" / "a.png")
    assert picture.mode == "P" and (np.array(picture) == labels).all()
    assert (np.array(picture.convert("RGB")) == masks.voc_palette()[labels]).all()
    with pytest.raises(UserError, match="cannot be written"):
        (tmp_path / "file").write_bytes(b"")
        masks.index_png(tmp_path / "file" / "a.png", labels)


def test_index_saves_the_values_of_the_training_masks(tmp_path):
    """With ignore_labels=[0] the label 0 is what the masks call 1: the file is again a mask of that dataset."""
    info = {"class_names": THINGS, "settings": {"ignore_labels": [0, 2]}}
    labels = np.array([[0, 1], [2, 3]], np.uint8)
    masks.save_kinds(tmp_path, Path("sub/a"), noise(2, 2), labels, info, index=True, colour=True, cut_out=True)
    assert np.array(Image.open(tmp_path / "index/sub/a.png")).tolist() == [[1, 3], [4, 5]]
    assert tuple(np.array(Image.open(tmp_path / "colour/sub/a.png"))[0, 0]) == (128, 0, 0)
    assert not (tmp_path / "cut_out").exists()                                            # nothing is background


def test_cut_out_is_transparent_and_white(tmp_path):
    image, labels = noise(), np.zeros((40, 60), np.uint8)
    labels[10:20, 5:50] = 3
    cut = masks.without_background(image, labels, NAMES)
    inside = labels == 3
    assert cut.shape == (40, 60, 4) and (cut[inside, :3] == image[inside]).all() and (cut[inside, 3] == 255).all()
    assert (cut[~inside] == (255, 255, 255, 0)).all()
    media.save_image(tmp_path / "a.png", cut)
    assert (np.array(Image.open(tmp_path / "a.png")) == cut).all()


def test_error_map_and_side_by_side():
    image, truth = noise(), np.zeros((40, 60), np.uint8)
    truth[:10], truth[30:] = 255, 1
    labels = np.zeros((40, 60), np.uint8)
    wrong = masks.error_map(image, truth, labels).astype(int)
    grey, right, red = wrong[:10], wrong[10:30], wrong[30:]
    assert (np.ptp(right, axis=2) == 0).all() and (right[..., 0] <= image[10:30].mean(2) / 3).all()
    assert (red[..., 0] > 150).all() and (red[..., 1:] < 120).all() and (np.ptp(grey, axis=2) == 0).all() and grey.min() > 100
    ignored = masks.error_map(image, truth, np.where(truth == 255, 3, truth))
    assert (ignored == masks.error_map(image, truth, truth)).all()                        # what is ignored is not wrong
    sheet = masks.side_by_side(image, truth, labels, NAMES)
    assert sheet.shape == (40, 3 * 60 + 2 * masks.GAP, 3) and (sheet[:, :60] == image).all()
    assert (sheet[:, 60 + masks.GAP:][:, :60] == masks.blend(image, truth, NAMES)).all()
    predicted = sheet[:, -60:]
    assert (predicted[31:, 1:-1] == masks.blend(image, labels, NAMES)[31:, 1:-1]).all()
    assert (predicted[30] == masks.WRONG).all() and not (predicted[:29] == masks.WRONG).all(2).any()     # the wrong area has an outline
    assert masks.side_by_side(image, truth, labels, NAMES, errors=True).shape == (40, 4 * 60 + 3 * masks.GAP, 3)


def has_colour(strip, colour):
    return (strip == np.array(colour)).all(2).sum() > 50


def test_legend_shows_what_there_is():
    labels = np.zeros((10, 10), np.uint8)
    labels[:3], labels[9] = 2, 3
    shares = masks.pixel_shares(labels, NAMES)
    assert [(row["label"], row["pixels"], row["share"]) for row in shares] == [("background", 60, 0.6), ("dog", 30, 0.3), ("_$x$", 10, 0.1)]
    strip, bright = masks.legend(400, NAMES, shares), masks.bright_colours()
    assert strip.shape[1] == 400 and has_colour(strip, bright[2]) and has_colour(strip, bright[3]) and not has_colour(strip, bright[1])
    assert has_colour(masks.legend(400, NAMES), bright[1]) and not has_colour(masks.legend(400, NAMES), masks.WRONG)
    assert has_colour(masks.legend(600, NAMES, errors=True), masks.WRONG)
    assert masks.legend(400, NAMES).shape == masks.legend(400, NAMES).shape != masks.legend(100, NAMES).shape        # it wraps


@pytest.mark.parametrize("width, names, shares", [(1, NAMES, None), (30, NAMES, []), (300, [], None), (60, ["x" * 200], None)])
def test_tiny_legends(width, names, shares):
    assert masks.legend(width, names, shares).shape[1] == width


def test_long_legend_ends_and_says_so(monkeypatch):
    seen = []
    real = ImageDraw.ImageDraw.text
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, place, text, **more: (seen.append(text), real(self, place, text, **more))[1])
    strip = masks.legend(500, [f"name {i}" for i in range(150)], most_rows=5, size=14)
    assert strip.shape[0] <= 5 * 21 + 10 and seen[-1] == f"... {150 - len(seen) + 1} more"


def test_chinese_name_in_the_legend_without_a_font(monkeypatch):
    monkeypatch.setattr(draw, "chinese_font", lambda: None)
    monkeypatch.setattr(draw, "own_fonts", list)
    monkeypatch.setattr(draw, "_told", set())
    assert (masks.legend(400, NAMES) == masks.legend(400, ["background", "class 1", "dog", "_$x$"])).all()


def test_percent():
    assert [masks.percent(share) for share in (0, 0.00001, 0.0006, 0.5, 1)] == ["0.0 %", "<0.1 %", "0.1 %", "50.0 %", "100.0 %"]


def test_settings_and_threshold(capsys):
    good = {"opacity": 0.5, "threshold": None, "slide": False, "flip": True, "scales": (0.5, 1)}
    masks.check_settings(SimpleNamespace(**good))
    for name, value in (("opacity", 60), ("threshold", -1), ("slide", "yes"), ("flip", 1), ("scales", ()), ("scales", (0,)), ("scales", 1.5)):
        with pytest.raises(UserError, match=f"{name}="):
            masks.check_settings(SimpleNamespace(**good | {name: value}))
    two, four = {"class_names": ["a", "b"], "settings": {"threshold": 0.3}}, {"class_names": NAMES, "settings": {"threshold": None}}
    assert masks.choose_threshold(None, two) == 0.3 and masks.choose_threshold(0.0, two) == 0.0 and masks.choose_threshold(None, four) == 0.5
    assert capsys.readouterr().out == ""
    masks.choose_threshold(0.7, four)
    assert "no effect" in capsys.readouterr().out


def is_picture(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("L")).std() > 5


@pytest.mark.parametrize("count", [1, 4, 21, 60])
def test_bars_and_confusion_without_warnings(tmp_path, caplog, count):
    names = ([*NAMES, "a very long name of a class of things", "$"] + [f"name {i}" for i in range(60)])[:count]
    matrix = np.random.default_rng(0).integers(0, 10**6, (count, count)) * (np.random.default_rng(1).random((count, count)) < 0.3)
    matrix[-1], matrix[:, -1] = 0, 0
    results = segmentation_results(matrix, names)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        plots.pixel_confusion(matrix, names, tmp_path / "confusion.png")
        plots.class_bars(results, tmp_path / "per_class.png")
    assert not [str(one.message) for one in said if "parsing" not in one.category.__name__]
    assert not [record.getMessage() for record in caplog.records if record.name.startswith("matplotlib")]
    assert all(is_picture(tmp_path / f"{name}.png") for name in ("confusion", "per_class"))


def test_confusion_shows_shares_of_true_classes(tmp_path, monkeypatch):
    seen = {}
    real = plots.share_matrix
    monkeypatch.setattr(plots, "share_matrix", lambda share, text, *more: (seen.update(share=share, text=text), real(share, text, *more))[1])
    plots.pixel_confusion([[90, 10], [1, 399]], ["a", "b"], tmp_path / "a.png")
    assert np.allclose(seen["share"], [[0.9, 0.0025], [0.1, 0.9975]]) and seen["text"].tolist() == [["90", ""], ["10", "100"]]


def test_training_curves_of_a_segmentation(tmp_path, monkeypatch):
    (tmp_path / "metrics.csv").write_text("epoch,lr,train_cross_entropy,train_aux_dice,val_cross_entropy,miou,mpa,accuracy,seconds\n"
                                          "1,0.1,1,0.5,,,,,3\n2,0.1,0.8,0.4,0.9,0.31,0.4,0.8,3\n", encoding="utf-8")
    seen = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: seen.extend(
        [text.get_text() for axes in self.axes[:2] for text in axes.get_legend().get_texts()]))
    plots.training_curves(tmp_path / "metrics.csv", tmp_path / "curves.png")
    assert seen == ["train cross_entropy", "val cross_entropy", "train aux_dice", "miou: best 0.310, last 0.310", "best.pth: epoch 2",
                    "mpa: best 0.400, last 0.400", "accuracy: best 0.800, last 0.800"]
