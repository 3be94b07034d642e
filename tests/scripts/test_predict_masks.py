"""predict.py with a segmentation network, from source to saved pictures, with a network whose right answers are known."""
import csv
import json

import cv2
import numpy as np
import pytest
from colour_net import COLOURS, NAMES, ColourNet, draw, save_weights
from PIL import Image

import nets
import predict
from utils.errors import UserError
from utils.prediction import torch_engine
from utils.results import masks, media, video
from utils.settings import read_settings

SAME = {"size": (48, 64), "labels": (1,)}               # as large as the input: nothing is resized, so every pixel is right
SHARE = 30 * 28 / 48 / 64                               # of the square in it


@pytest.fixture
def go(monkeypatch, tmp_path, capsys):
    """A function: run predict.main with these variables -> what it printed. Results lie in tmp_path/out.
    weights: arguments of colour_net.save_weights."""
    monkeypatch.setitem(nets.NETS, "colour_net", ColourNet)

    def run(weights=None, **variables):
        path = save_weights(tmp_path / "logs" / "a b" / "best.pth", **(weights or {}))
        usual = {"model_path": path, "device": "cpu", "output": tmp_path / "out", "input_shape": None, "fit": None, "nms_iou": None}
        for name, value in (usual | variables).items():
            monkeypatch.setattr(predict, name, str(value) if hasattr(value, "parent") else value)
        predict.main(read_settings(vars(predict), []))
        return capsys.readouterr().out
    return run


def results(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name != media.MARK)


def opened(path):
    return np.array(Image.open(path))


def test_deep_pictures_are_shown_as_in_training(go, tmp_path):
    """Of 16 bits a channel, of which the training said what is black and white."""
    path = tmp_path / "deep.png"
    truth = draw(path, **SAME)
    deep = np.ceil(7000 + COLOURS[truth] * (2000 / 255)).astype(np.uint16)
    path.write_bytes(cv2.imencode(".png", deep[..., ::-1])[1].tobytes())
    go(weights={"settings": {"value_range": [7000, 9000]}}, source=path, save_index=True)
    assert (opened(tmp_path / "out/index/deep.png") == truth).all() and (opened(tmp_path / "out/deep.png")[:48][truth == 0] == COLOURS[0]).all()


def test_one_image_with_every_kind_of_picture(go, tmp_path):
    path = tmp_path / "in put" / "猫.png"
    truth = draw(path, **SAME)
    before = path.read_bytes()
    said = go(source=path, save_index=True, save_colour=True, save_cut_out=True, save_json=True, save_csv=True, opacity=0.5)
    assert f"猫.png: background {100 - 100 * SHARE:.1f} %, 红 花 {100 * SHARE:.1f} %" in said and "best other class" not in said
    out = tmp_path / "out"
    assert results(out) == ["colour/猫.png", "cut_out/猫.png", "index/猫.png", "猫.csv", "猫.json", "猫.png"] and path.read_bytes() == before
    assert (opened(out / "index/猫.png") == truth).all() and Image.open(out / "index/猫.png").mode == "P"
    assert (opened(out / "colour/猫.png") == masks.voc_palette()[truth]).all()
    cut = opened(out / "cut_out/猫.png")
    assert (cut[..., 3] == np.where(truth == 1, 255, 0)).all() and (cut[truth == 1, :3] == COLOURS[1]).all()
    picture = opened(out / "猫.png")
    assert picture.shape[0] > 48 and picture.shape[1:] == (64, 3)                               # the legend stands below
    assert (picture[:48][truth == 0] == COLOURS[0]).all()
    assert (picture[:48][truth == 1] == masks.blend(opened(path), truth, NAMES, 0.5)[truth == 1]).all()
    records = json.loads((out / "猫.json").read_text(encoding="utf-8"))
    assert [(row["label"], row["pixels"]) for row in records[0]["classes"]] == [("background", 48 * 64 - 840), ("红 花", 840)]
    assert (records[0]["width"], records[0]["height"]) == (64, 48) and records[0]["classes"][1]["share"] == pytest.approx(SHARE, abs=1e-5)
    with open(out / "猫.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["file", "label", "pixels", "share"] and rows[2][1:3] == ["红 花", "840"] and len(rows) == 3
    assert "boxes" not in said and "classes of 1 image" in said
    go(source=path, save_index=True)                                                            # nothing is overwritten
    assert {"index/猫_2.png", "猫_2.png"} <= set(results(out))


def test_other_sizes_come_back_at_their_own_size(go, tmp_path):
    truth = draw(tmp_path / "tall.png", size=(300, 130), labels=(1, 2, 3))
    go(source=tmp_path / "tall.png", save_index=True)
    found = opened(tmp_path / "out/index/tall.png")
    assert found.shape == truth.shape and (found == truth).mean() > 0.9
    go(source=tmp_path / "tall.png", save_index=True, slide=True, flip=True)
    assert (opened(tmp_path / "out/index/tall_2.png") == truth).all()


def test_everything_background_gives_the_best_other_class(go, tmp_path):
    draw(tmp_path / "a.png", **SAME)
    said = go(source=tmp_path / "a.png", weights={"dull": 12.0})
    assert "a.png: background 100.0 %" in said and 'everything is "background"; the best other class is "红 花" with 0.' in said
    said = go(source=tmp_path / "a.png", weights={"names": ["land", "water"], "dull": 100.0})
    assert 'everything is "land"; the best other class is "water" with' in said
    assert "best other" not in go(source=tmp_path / "a.png", weights={"names": ["only"]})
    assert 'everything is "background"' in go(source=tmp_path / "a.png", weights={"names": NAMES[:2]}, threshold=1.0)


def test_folder_with_junk(go, tmp_path):
    folder = tmp_path / "photos"
    for name in ("a.jpg", "sub/a.bmp", "b.png"):
        draw(folder / name, **SAME)
    (folder / "broken.jpg").write_bytes((folder / "a.jpg").read_bytes()[:300])
    (folder / "page.png").write_text("<html>")
    said = go(source=folder, save_index=True, save_csv=True, count=True, crop=True)
    assert "3 images, 2 skipped: broken.jpg, page.png" in said and said.count("crop=True is for boxes") == 1
    assert f"pixels, all images: background {100 - 100 * SHARE:.1f} %, 红 花 {100 * SHARE:.1f} %" in said
    assert results(tmp_path / "out" / "photos") == ["a.jpg", "b.png", "classes.csv", "index/a.png", "index/b.png", "index/sub/a.png", "sub/a.png"]


def test_no_source_takes_the_test_list_of_masks(go, tmp_path):
    lines = []
    for i in range(10):
        draw(tmp_path / "图 片" / f"{i}.png", tmp_path / "masks" / f"{i}.png", **SAME)
        lines.append(f"{tmp_path / '图 片' / f'{i}.png'}\t{tmp_path / 'masks' / f'{i}.png'}\n")
    (tmp_path / "my test.txt").write_text("".join(lines), encoding="utf-8")
    said = go(source="", weights={"settings": {"test_list": str(tmp_path / "my test.txt")}})
    assert "8 images, 0 skipped" in said and results(tmp_path / "out") == [f"my test/{i}.png" for i in range(8)]


def test_what_has_no_meaning_is_said(go, tmp_path, monkeypatch):
    draw(tmp_path / "a.png", **SAME)
    said = go(source=tmp_path / "a.png", weights={"names": ["land", "water"]}, save_cut_out=True)
    assert 'here it is "land", so nothing is cut out' in said and results(tmp_path / "out") == ["a.png"]
    assert "has no effect" in go(source=tmp_path / "a.png", threshold=0.3, save_cut_out=False)
    assert "has no effect" not in go(source=tmp_path / "a.png", threshold=0.3, weights={"names": NAMES[:2]})
    for name, value in (("opacity", 2), ("scales", ()), ("threshold", -1), ("slide", "no")):
        with monkeypatch.context() as context:
            context.setattr(predict, name, value)
            with pytest.raises(UserError, match=f"{name}="):
                predict.main(read_settings(vars(predict), []))
    monkeypatch.setattr(ColourNet, "task", "detection")
    monkeypatch.setattr(torch_engine, "detect", lambda *_, **__: [{"boxes": np.zeros((0, 4)), "scores": np.zeros(0), "labels": np.zeros(0, int)}])
    assert "this network finds boxes: see crop" in go(source=tmp_path / "a.png", save_index=True, threshold=None)


def test_the_threshold_of_the_training_counts(go, tmp_path):
    """The one-in-two score of a colour half way: seen with a low threshold only."""
    half = ((COLOURS[0].astype(int) + COLOURS[1]) // 2).astype(np.uint8)
    Image.fromarray(np.broadcast_to(half, (48, 64, 3)).copy()).save(tmp_path / "half.png")
    for limit, label in ((0.1, "红 花"), (0.9, "background")):
        said = go(source=tmp_path / "half.png", weights={"names": NAMES[:2], "settings": {"threshold": limit}})
        assert f"half.png: {label} 100.0 %" in said or f"half_2.png: {label} 100.0 %" in said


def test_video_is_blended_and_all_frames_are_of_one_size(go, tmp_path, monkeypatch):
    made = video.VideoFile(tmp_path, "clip one", 12)
    for labels in ((1,), (), (2,), (1, 2, 3)):
        draw(tmp_path / "frame.png", size=(96, 128), labels=labels)
        made.write(opened(tmp_path / "frame.png"))
    assert made.close() == 4
    shapes, write = set(), video.VideoFile.write
    monkeypatch.setattr(video.VideoFile, "write", lambda self, image, moment: (shapes.add(image.shape), write(self, image, moment)))
    said = go(source=made.path, count=True, save_index=True, opacity=1.0)
    assert f"{made.path.name}: 4 frames, 12 per second" in said and "only the video is saved" in said
    assert "pixels, all frames together: background" in said
    assert len(shapes) == 1
    frames = [image for image, *_ in video.VideoSource(tmp_path / "out" / made.path.name).frames()]
    assert len(frames) == 4 and frames[0].shape[0] > 96 + 10 and frames[0].shape[1] == 128
    for frame, label in ((frames[0], 1), (frames[2], 2)):
        assert np.abs(frame[25, 20].astype(int) - masks.bright_colours()[label]).max() < 60
    assert results(tmp_path / "out") == [made.path.name]
