"""predict.py with what it can leave besides pictures, and with better answers: from the command's variables to the files."""
import csv
import json

import cv2
import numpy as np
import pytest
from colour_net import COLOURS as VALUES
from colour_net import NAMES as COLOURS
from colour_net import ColourNet, save_weights
from fake_detector import NAMES, go_fixture, grey, save  # noqa: F401
from PIL import Image

import nets
import predict
from utils.checks.prepare import prepare
from utils.errors import UserError
from utils.prediction import engine, torch_engine
from utils.results import video
from utils.settings import read_settings

SIZE = (96, 160)                                                                # h, w


def patches(model, images, input_shape, confidence, nms_iou, max_boxes, fit, **rules):
    """The detector: every bright patch, of the class that its colour says; of its score too: 200 and more is sure."""
    found = []
    for image in images:
        boxes, scores, labels = [], [], []
        for label in range(3):
            plane = image[..., label]
            _, _, stats, _ = cv2.connectedComponentsWithStats((plane > 100).astype(np.uint8))
            for x, y, w, h, _ in stats[1:]:
                boxes.append([x, y, x + w, y + h])
                scores.append(0.9 if plane[y:y + h, x:x + w].max() >= 200 else 0.2)
                labels.append(label)
        boxes, scores, labels = np.float32(boxes).reshape(-1, 4), np.float32(scores), np.array(labels, int)
        keep = scores >= np.asarray(confidence)[labels] if len(labels) else slice(None)
        found.append({"boxes": boxes[keep], "scores": scores[keep], "labels": labels[keep]})
    return found


def picture(*spots, size=SIZE):
    """spots: (x, y, label) or with a value, squares of 12 px."""
    image = np.zeros((*size, 3), np.uint8)
    for x, y, label, *value in spots:
        image[y:y + 12, x:x + 12, label] = value[0] if value else 255
    return image


@pytest.fixture
def look(go, monkeypatch):
    monkeypatch.setattr(torch_engine, "detect", patches)
    return go


def film(path, frames):
    """A video without loss. -> its path"""
    made = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 10, SIZE[::-1])
    for image in frames:
        made.write(np.ascontiguousarray(image[..., ::-1]))
    made.release()
    return path


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_tracks_counts_and_tables_of_a_video(look, tmp_path):
    """One square goes right over the line, one goes left below it; one is unsure for two frames, one is there once."""
    frames = [picture((20 + 5 * n, 20, 0), (130 - 5 * n, 60, 1, 150 if n in (7, 8) else 255), *([(70, 80, 2)] if n == 9 else []))
              for n in range(18)]
    path = film(tmp_path / "clip.avi", frames)
    said = look(source=path, lines={"door": [[80, 50], [80, 0]]}, regions=[[0.5, 0], [1, 0], [1, 1], [0.5, 1]],
                save_json=True, save_csv=True, save_coco=True)
    assert "door: to the right 1 (cat 1), to the left 0" in said
    assert "region: at most" in said and "different ones 2 (a/b dog 1, cat 1)" in said and "2 tracks" in said

    out = tmp_path / "out"
    rows = rows_of(out / "clip.csv")
    assert list(rows[0]) == ["file", "frame", "seconds", "track", "label", "score", "x1", "y1", "x2", "y2"]
    assert {(row["label"], row["track"]) for row in rows} == {("cat", "1"), ("a/b dog", "2"), ("person", "")}
    assert [int(row["frame"]) for row in rows if row["label"] == "a/b dog"] == list(range(18))
    assert [float(row["seconds"]) for row in rows if row["label"] == "cat"] == pytest.approx([n / 10 for n in range(18)], abs=0.01)
    assert {row["score"] for row in rows if row["label"] == "a/b dog"} == {"0.9", "0.2"}         # unsure, but on its track
    records = json.loads((out / "clip.json").read_text(encoding="utf-8"))
    assert [record["frame"] for record in records] == list(range(18)) and records[0]["boxes"][0]["xyxy"] == [20, 20, 32, 32]
    assert records[0]["regions"] == {"region": {"a/b dog": 1}} and records[17]["regions"] == {"region": {"cat": 1}}
    assert len(json.loads((out / "clip_coco.json").read_text())) == len(rows)
    drawn = [image for image, *_ in video.VideoSource(next(out.glob("clip.[wm]*"))).frames()]
    assert len(drawn) == 18 and drawn[-1][5:45, 80].mean() > 60                                  # the line is drawn


@pytest.mark.parametrize("kind", ["voc", "yolo", "coco"])
def test_labels_are_read_back_without_a_finding(look, root, tmp_path, kind, capsys):
    """24 pictures are predicted; voc_annotation.py finds nothing to say about the dataset, and the same boxes in it."""
    wanted = {}
    for number in range(24):
        spots = [(5 + (number * 7 + 40 * k) % 130, 5 + (number * 3 + 30 * k) % 70, (number + k) % 3) for k in range(number % 4)]
        noise = np.random.default_rng(number).integers(0, 90, (*SIZE, 3), dtype=np.uint8)
        save(tmp_path / "照片" / f"p {number}.png", np.maximum(picture(*spots), noise))
        wanted[f"p {number}"] = sorted((x, y, x + 12, y + 12, NAMES[label]) for x, y, label in spots)
    said = look(source=tmp_path / "照片", save_labels=kind)
    folder = next((tmp_path / "out").glob(f"**/labels_{kind}"))
    assert "24 images with labels" in said and f"labels_{kind}" in said
    classes, lists = prepare(str(folder))
    assert "24 labelled images of" in (told := capsys.readouterr().out) and "no problems found" in told
    names = (root / classes).read_text(encoding="utf-8").split("\n")
    found = {}
    for path in lists.values():
        for line in (root / path).read_text(encoding="utf-8").splitlines():
            name, *boxes = line.split(".png")
            values = [text.split(",") for text in boxes[0].split()]
            found[name.rpartition("/")[2]] = sorted((*(round(float(v)) for v in value[:4]), names[int(value[4])]) for value in values)
    assert found == wanted


def test_masks_are_read_back_without_a_finding(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(nets.NETS, "colour_net", ColourNet)
    weights, truth = save_weights(tmp_path / "best.pth"), {}
    for number in range(24):
        rng, mask = np.random.default_rng(number), np.zeros((48, 64), np.uint8)
        x, y = rng.integers(0, 40), rng.integers(0, 30)
        mask[y:y + 5 + number % 12, x:x + 8 + number] = 1 + number % 3
        truth[f"m {number}"] = mask
        save(tmp_path / "in" / f"m {number}.png", VALUES[mask] + rng.integers(0, 30, (48, 64, 3), dtype=np.uint8))
    for name, value in {"model_path": str(weights), "device": "cpu", "output": str(tmp_path / "out"), "source": str(tmp_path / "in"),
                        "save_labels": "mask", "input_shape": None, "fit": None, "nms_iou": None, "save_csv": True}.items():
        monkeypatch.setattr(predict, name, value)
    predict.main(read_settings(vars(predict), []))
    folder = next((tmp_path / "out").glob("**/labels_mask"))
    capsys.readouterr()
    classes, _ = prepare(str(folder), task="segmentation")
    assert "no problems found" in capsys.readouterr().out
    assert (root / classes).read_text(encoding="utf-8").split() == "\n".join(COLOURS).split()
    for name, mask in truth.items():
        written = np.array(Image.open(folder / "SegmentationClass" / f"{name}.png"))
        assert (written == mask).all()
    rows = rows_of(next((tmp_path / "out").glob("**/classes.csv")))
    assert {row["label"] for row in rows} == set(COLOURS)

    # One of them with heat, and with labels that it cannot give.
    for name, value in {"save_labels": "", "heat": "红 花", "source": str(tmp_path / "in/m 3.png")}.items():
        monkeypatch.setattr(predict, name, value)
    predict.main(read_settings(vars(predict), []))
    page = np.array(Image.open(tmp_path / "out/heat/m 3.jpg"))
    assert page.shape[1] > 3 * 64 and (np.abs(page[:50, 70:130].astype(int) - page[:50, :60]) > 40).any()
    with pytest.raises(UserError, match='save_labels="voc".*"mask"'):
        monkeypatch.setattr(predict, "save_labels", "voc")
        predict.main(read_settings(vars(predict), []))


def test_a_full_disk_leaves_no_half_dataset(look, tmp_path, monkeypatch):
    for number in range(3):
        save(tmp_path / "in" / f"{number}.png", picture((20, 20, 0)))

    def full(*arguments):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr("utils.formats.written.shutil.copyfile", full)
    with pytest.raises(UserError, match="labels_voc.*No space left"):
        look(source=tmp_path / "in", save_labels="voc")
    assert not list((tmp_path / "out").rglob("*labels*")) and len(list((tmp_path / "out").rglob("*.png"))) == 3


def test_tiles_flip_and_scales_ask_the_detector_more_often(look, tmp_path, monkeypatch):
    asked = []

    def counted(model, images, input_shape, *arguments, **rules):
        asked.extend((image.shape[:2], canvas.shape[:2]) for image, (canvas, _) in zip(images, rules["fitted"]))
        return patches(model, images, input_shape, *arguments, **rules)
    monkeypatch.setattr(torch_engine, "detect", counted)
    monkeypatch.setattr(torch_engine.TorchEngine, "scaled_input", lambda self, scale: tuple(round(side * scale) for side in self.input_shape))
    path = save(tmp_path / "a.png", picture((5, 5, 0), (75, 40, 1), (140, 80, 2)))
    first = look(source=path, save_csv=True)
    assert asked == [(SIZE, (64, 96))]                                               # the input is as wide as the image needs
    for more, count in (({"tiles": 64}, 7), ({"flip": True}, 2), ({"scales": (1.0, 1.5)}, 2), ({"tiles": [96, 160]}, 1),
                        ({"tiles": 64, "flip": True, "scales": (1.0, 1.5)}, 28)):
        asked.clear()
        said = look(source=path, save_csv=True, **({"tiles": None, "flip": False, "scales": (1.0,)} | more))
        assert len(asked) == count and said.split("\n")[2:5] == first.split("\n")[2:5]           # the same three boxes
    assert {(size, shape) for size, shape in asked} == {((64, 64), (64, 64)), ((64, 64), (96, 96)), (SIZE, (64, 96)), (SIZE, (96, 160))}
    boxes = [[row[name] for name in ("label", "x1", "y1", "x2", "y2")] for row in rows_of(tmp_path / "out/a.csv")]
    assert all(sorted([row[name] for name in ("label", "x1", "y1", "x2", "y2")] for row in rows_of(path)) == sorted(boxes)
               for path in (tmp_path / "out").glob("a_*.csv"))


def test_regions_of_images(look, tmp_path):
    save(tmp_path / "in/a.png", picture((5, 5, 0), (20, 40, 1), (140, 80, 2)))
    save(tmp_path / "in/b.png", picture())
    said = look(source=tmp_path / "in", regions={"left": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}, save_json=True, save_coco=True, verbose=True)
    assert "left: 2 (a/b dog 1, cat 1)" in said and "left: 0" in said
    records = json.loads((tmp_path / "out/in/boxes.json").read_text(encoding="utf-8"))
    assert [record["regions"]["left"] for record in records] == [{"cat": 1, "a/b dog": 1}, {}]
    assert len(json.loads((tmp_path / "out/in/boxes_coco.json").read_text())) == 3


@pytest.mark.parametrize("variables, words", [
    ({"regions": [[0, 0], [1, 1]]}, "regions="), ({"lines": 5}, "lines="), ({"tiles": 5}, "tiles=5"), ({"tiles": [64]}, "tiles="),
    ({"tile_overlap": 1.0}, "tile_overlap"), ({"save_labels": "mask"}, '"voc" or "yolo" or "coco"'), ({"heat": "cow"}, "heat: .*'cow'"),
    ({"track": 1}, "track"), ({"save_coco": "x"}, "save_coco")])
def test_mistakes_come_first(look, tmp_path, variables, words):
    with pytest.raises(UserError, match=words):
        look(source=save(tmp_path / "a.png", grey(*SIZE)), **variables)
    assert not (tmp_path / "out").exists()


def test_what_an_engine_cannot_do_is_said(look, tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", grey(*SIZE))
    monkeypatch.setattr(torch_engine.TorchEngine, "heat_maps", None)
    monkeypatch.setattr(torch_engine.TorchEngine, "takes_scales", False)
    assert engine.Engine.heat_maps is None and engine.Engine.takes_scales is False
    with pytest.raises(UserError, match="gradients.*best.pth"):
        look(source=path, heat=True)
    with pytest.raises(UserError, match="one size"):
        look(source=path, heat=None, scales=(1.0, 1.5))


def test_what_has_no_effect_is_said(look, tmp_path):
    said = look(source=save(tmp_path / "a.png", picture((5, 5, 0))), track=True)
    assert "track and lines are for videos" in said
    said = look(source=film(tmp_path / "v.avi", [picture((5, 5, 0), (60, 5, 1, 150))] * 3), save_labels="voc", save_csv=True, track=False)
    assert "heat and save_labels are for images" in said and not list((tmp_path / "out").rglob("labels*"))
    assert "1 track" not in said and [(row["track"], row["score"]) for row in rows_of(tmp_path / "out/v.csv")] == [("", "0.9")] * 3
