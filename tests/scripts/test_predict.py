"""Drawing, sources and results, and predict.py from source to saved picture with a network that is made up."""
import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from darknet import picture, weight_file
from fake_detector import NAMES, go_fixture, grey, results, save  # noqa: F401
from loud_net import save_loud
from PIL import Image, ImageDraw
from torchvision.models.detection import ssd300_vgg16
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

import nets
import predict
from utils.errors import UserError
from utils.evaluate import detect
from utils.prediction import torch_engine
from utils.results import draw, media, plates
from utils.settings import ROOT, read_settings


def changed(before, after):
    return (before != after).any(axis=2)


def test_what_takes_seconds_to_import_is_not_imported_for_a_picture(tmp_path):
    save_loud(tmp_path / "best.pth")
    Image.fromarray(grey(90, 120)).save(tmp_path / "a.jpg")
    code = f"""import sys, runpy, train, get_map, get_miou
sys.argv = ['predict.py', 'model_path={tmp_path}/best.pth', 'source={tmp_path}/a.jpg', 'output={tmp_path}/out', 'confidence=0.001']
runpy.run_path('predict.py', run_name='__main__')
print(sorted({{'torchvision', 'torch._dynamo', 'sympy', 'matplotlib', 'scipy', 'pandas'}} & set(sys.modules)))"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=True)
    assert "boxes" in done.stdout and done.stdout.splitlines()[-1] == "[]", done.stdout


def test_box_is_drawn_where_it_is_and_the_input_stays():
    image = grey(200, 300)
    result = draw.draw_boxes(image, np.array([[50.0, 60, 150, 140]]), np.array([1]), NAMES)
    assert (image == 100).all() and result.shape == image.shape and result.dtype == np.uint8
    mask = changed(image, result)
    colour = draw.class_colours(2)[1]
    assert (result[139, 50:150] == colour).all() and (result[60:140, 149] == colour).all()          # the last pixels inside
    assert not mask[140:].any() and not mask[60:, 150:].any() and not mask[:, :50].any()
    assert not mask[70:130, 60:140].any()                                                           # hollow


def test_boxes_out_of_range_are_clipped_or_left_out():
    image = grey(100, 100)
    outside = np.array([[100.0, 0, 150, 50], [-50, -50, 0, 0], [30, 30, 30, 60], [60, 60, 40, 40], [np.nan] * 4])
    assert not changed(image, draw.draw_boxes(image, outside, np.zeros(5, int), NAMES, np.ones(5))).any()
    result = draw.draw_boxes(image, np.array([[-40.0, 50, np.inf, 400]]), [0], NAMES)
    assert (result[99] == draw.class_colours(1)[0]).all() and (result[60:, [0, 99]] == draw.class_colours(1)[0]).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 60), (60, 1), (5, 7), (32, 32)])
def test_tiny_images(shape):
    image = grey(*shape)
    boxes = np.array([[0, 0, shape[1], shape[0]], [0, 0, 0.2, 0.2], [shape[1] - 0.1, shape[0] - 0.1, 500, 500]])
    result = draw.draw_boxes(image, boxes, [0, 1, 9], NAMES, [0.9, 0.8, 0.7])
    assert result.shape == image.shape and changed(image, result).any()


def test_no_boxes_and_labels_without_a_name():
    image = grey(50, 50)
    assert (draw.draw_boxes(image, np.zeros((0, 4), np.float32), np.zeros(0, int), [], np.zeros(0)) == image).all()
    assert changed(image, draw.draw_boxes(image, [[5, 5, 40, 40]], [7], [], [0.5])).any()


def test_higher_score_lies_on_top_whatever_the_order():
    boxes, labels, colours = np.array([[50.0, 50, 150, 150]] * 2), np.array([0, 1]), draw.class_colours(2)
    for scores in ([0.9, 0.4], [0.4, 0.9]):
        assert (draw.draw_boxes(grey(200, 200), boxes, labels, NAMES, np.array(scores))[149, 100] == colours[np.argmax(scores)]).all()


def test_label_plates_stay_inside_and_hide_nothing():
    boxes = np.array([[60, 60, 140, 150], [60, 52, 150, 150], [70, 60, 200, 160], [0, 0, 40, 190], [250, 190, 300, 200], [5, 5, 9, 9]])
    sizes = [(70, 12)] * len(boxes)
    corners = plates.place_plates(sizes, boxes, (300, 200))
    places = np.hstack([corners, corners + sizes]).astype(float)
    assert (places[:, :2] >= 0).all() and (places[:, 2:] <= (300, 200)).all()
    assert (plates.overlap(places, places) > 0).sum() == len(boxes)                     # each with itself alone
    assert corners[0].tolist() == [60, 48]                                              # the surest one has the usual place
    alone = plates.place_plates([(70, 12)], [[60, 5, 140, 60]], (300, 200))
    assert alone.tolist() == [[60, 60]]                                                 # no room above: below, not over the object
    assert plates.place_plates([(500, 12)], [[0, 0, 9, 9]], (300, 8)).tolist() == [[0, 0]]
    image = grey(300, 400)
    mask = changed(image, draw.draw_boxes(image, [[350, 100, 390, 200]], [0], ["x" * 12], [0.5]))
    assert mask[:100].sum() > 1000 and not mask[:70].any()                              # above the box


def test_a_plate_is_what_pillow_writes_on_the_ground():
    font, pad, ground, ink = draw.open_font(None, 13), 3, (200, 60, 30), (255, 255, 255)
    strength = draw.letters("gq 0.53", font, pad)
    image = Image.new("RGB", strength.shape[::-1], ground)
    ImageDraw.Draw(image).text((pad, 0), "gq 0.53", fill=ink, font=font)
    assert (draw.between(ground, ink)[strength] == np.array(image)).all() and strength.max() == 255


def test_of_many_boxes_only_the_best_have_names():
    drawn = [(i, None, None) for i in range(40)]
    scores, labels = np.linspace(0.1, 0.9, 40), np.array([1] * 10 + [0] * 30)
    texts = [text for text, _, _ in draw.label_texts(drawn, labels, NAMES, scores, 30, False)]
    assert texts[0] == "0.10" and texts[9] == f"{NAMES[1]} 0.28" and texts[19] == "0.49" and texts[20] == f"{NAMES[0]} 0.51"
    assert [text for text, _, _ in draw.label_texts(drawn[:2], labels, NAMES, scores, 30, True)] == ["1  0.10", "1  0.12"]


def test_truth_is_dashed_and_what_is_not_sure_dotted():
    image = grey(200, 200)
    drawn = draw.draw_boxes(image, [[20, 60, 180, 180]], [0], NAMES, show_labels=False, truth=[[40, 80, 160, 160]])
    side = drawn[90:150, 40]
    assert {(0, 0, 0), (255, 255, 255)} == {tuple(pixel) for pixel in side.tolist()}
    dotted = draw.draw_boxes(image, [[20, 60, 180, 180]], [0], NAMES, show_labels=False, dotted=True)
    assert {tuple(draw.class_colours(1)[0]), (100, 100, 100)} == {tuple(pixel) for pixel in dotted[60:180, 20].tolist()}


def test_line_and_font_grow_with_the_image():
    assert draw.line_and_font_size(200, 200) == (2, 10)
    line, font = draw.line_and_font_size(4000, 4000)
    assert line >= 8 and font >= 60


def test_class_colours_are_distinct_and_stable():
    colours = draw.class_colours(80)
    assert colours.shape == (80, 3) and colours.dtype == np.uint8
    assert len({tuple(colour) for colour in colours.tolist()}) == 80
    assert (draw.class_colours(5) == colours[:5]).all()
    distance = np.linalg.norm(colours[:20, None].astype(float) - colours[None, :20], axis=2) + 999 * np.eye(20)
    assert distance.min() > 40
    assert draw.text_colour((255, 255, 0)) == (0, 0, 0) and draw.text_colour((0, 0, 180)) == (255, 255, 255)


def test_chinese_name_without_a_font_says_so_once(monkeypatch, capsys):
    monkeypatch.setattr(draw, "chinese_font", lambda: None)
    monkeypatch.setattr(draw, "own_fonts", list)
    monkeypatch.setattr(draw, "_told", set())
    assert draw.label_text(["a", "行人"], 1, 20)[0] == "class 1"
    image = grey(200, 200)
    drawn = draw.draw_boxes(image, [[20, 60, 180, 180]], [1], ["a", "行人"])
    assert (drawn == draw.draw_boxes(image, [[20, 60, 180, 180]], [1], ["a", "class 1"])).all()
    said = capsys.readouterr().out
    assert said.count("model_data/") == 1 and "行人" in said


def test_chinese_name_with_a_font(monkeypatch, capsys):
    path = draw.chinese_font()
    if path is None:
        pytest.skip("no Chinese font is installed")
    monkeypatch.setattr(draw, "_told", set())
    text, font = draw.label_text(["行人"], 0, 20)
    assert text == "行人" and draw.can_write(font, "行人鸟") and capsys.readouterr().out == ""


def test_a_font_in_model_data_comes_first(monkeypatch, tmp_path):
    installed = draw.chinese_font()
    if installed is None:
        pytest.skip("no Chinese font is installed")
    (tmp_path / "model_data").mkdir()
    own = tmp_path / "model_data" / f"我的 font{installed.suffix.upper()}"
    own.write_bytes(installed.read_bytes())
    (tmp_path / "model_data" / "broken.ttf").write_bytes(b"no font")
    monkeypatch.setattr(draw, "ROOT", tmp_path)
    draw.chinese_font.cache_clear()
    try:
        assert draw.chinese_font() == own
    finally:
        draw.chinese_font.cache_clear()


def test_accents_and_greek_need_no_installed_font(monkeypatch):
    monkeypatch.setattr(draw, "chinese_font", lambda: None)
    assert draw.label_text(["café Ω"], 0, 20)[0] == "café Ω"


def test_grid():
    images = [grey(40, 80, 10), grey(300, 100, 20), grey(1, 1, 30)]
    plain, captioned = draw.grid(images, 2, 100), draw.grid(images, 2, 100, ["a", "一二三" * 30, "long" * 40])
    assert plain.shape[1] == captioned.shape[1] and captioned.shape[0] > plain.shape[0]
    for value, pixels in ((10, 100 * 50), (20, 33 * 100), (30, 100 * 100)):
        assert (plain == value).all(axis=2).sum() == pixels
    assert draw.grid([], 4, 50).ndim == 3 and draw.grid(images[:1], 4, 50).shape == (54, 54, 3)


def test_save_image_never_over_its_source(tmp_path):
    path = save(tmp_path / "a.png", grey(4, 4))
    with pytest.raises(UserError, match="never overwrite"):
        media.save_image(tmp_path / "x" / ".." / "a.png", grey(4, 4, 9), path)
    with pytest.raises(UserError, match=r"\.jpg"):
        media.save_image(tmp_path / "a.xyz", grey(4, 4))
    for suffix in media.SUFFIXES:
        media.save_image(tmp_path / "新 folder" / f"b{suffix}", grey(20, 30))
        assert Image.open(tmp_path / "新 folder" / f"b{suffix}").size == (30, 20)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be written"):
        media.save_image(tmp_path / "file" / "b.png", grey(4, 4))
    with pytest.raises(UserError, match="Nothing can be written"):
        media.check_output(tmp_path / "file" / "results")


def test_crops_are_clipped_and_empty_ones_left_out(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    boxes = [[-9, 30.5, 12.2, 99], [10, 10, 10, 20], [70, 0, 90, 9], [20, 5, 31, 9]]
    media.save_crops(tmp_path, "a", image, [{"label": "x", "xyxy": box} for box in boxes])
    assert results(tmp_path) == ["a_1_x.png", "a_4_x.png"]
    assert (np.array(Image.open(tmp_path / "a_1_x.png")) == image[30:40, :13]).all()
    assert (np.array(Image.open(tmp_path / "a_4_x.png")) == image[5:9, 20:31]).all()


def test_fresh_and_file_name(tmp_path):
    assert media.fresh(tmp_path, "v1.2").name == "v1.2"
    (tmp_path / "v1.2").mkdir()
    (tmp_path / "v1.2_2").mkdir()
    assert media.fresh(tmp_path, "v1.2").name == "v1.2_3"
    assert media.file_name("../a:b c*") == "a_b_c" and media.file_name("行人") == "行人" and media.file_name("//") == "_"


def test_one_image(go, tmp_path):
    path = save(tmp_path / "in put" / "猫.jpg", grey(100, 200, 150))
    before = path.read_bytes()
    said = go(source=f'"{path}"', count=True)
    assert "猫.jpg: 2 boxes" in said and "a/b dog  0.90  1 2 100 50" in said and "cat  0.60  100 50 209 109" in said
    assert "person" not in said
    assert "count, here: a/b dog 1, cat 1" in said
    picture = np.array(Image.open(tmp_path / "out" / "猫.jpg"))
    assert picture.shape == (100, 200, 3) and changed(picture, grey(100, 200, 150)).any()
    go(source=path, save_json=True, save_csv=True)
    assert results(tmp_path / "out") == ["猫.csv", "猫.jpg", "猫.json", "猫_2.jpg"] and path.read_bytes() == before


def test_nothing_found_says_how_far_it_was(go, tmp_path):
    assert 'nothing reaches confidence=0.3; the best was "a/b dog" with 0.120' in go(source=save(tmp_path / "a.png", grey(50, 50, 30)))
    assert "no box has even 0.001" in go(source=save(tmp_path / "b.png", grey(50, 50, 0)))
    assert "1 box\n" in go(source=tmp_path / "a.png", confidence=0.1)
    assert "3 boxes" in go(source=save(tmp_path / "c.png", grey(50, 50, 90)), confidence=0.0)
    assert results(tmp_path / "out") == ["a.png", "a_2.png", "b.png", "c.png"]


def test_folder_with_junk_json_csv_and_crops(go, tmp_path):
    folder = tmp_path / "photos"
    for name in ("a.jpg", "a.png", "sub/a.jpg", "v1.2.bmp", "v1.3.JPG"):
        save(folder / name, grey(60, 80, 150))
    save(folder / "dark.gif", grey(60, 80, 30))
    (folder / "broken.jpg").write_bytes((folder / "a.jpg").read_bytes()[:300])
    (folder / "page.png").write_text("<html>")
    said = go(source=folder, output=folder / "out", save_json=True, save_csv=True, crop=True, count=True)
    assert 'mode = "folder"' in said and "6 images, 2 skipped: broken.jpg, page.png" in said
    assert "count, all images: a/b dog 5, cat 5" in said
    made = results(folder / "out" / "photos")
    pictures = [name for name in made if not name.startswith(("boxes", "crops"))]
    assert pictures == ["a.jpg", "a.png", "dark.png", "sub/a.jpg", "v1.2.png", "v1.3.JPG"]
    assert len(made) == 6 + 2 + 10 and "crops/sub/a_1_a_b_dog.png" in made and "crops/v1.2_2_cat.png" in made
    assert Image.open(folder / "out/photos/crops/a_2_cat.png").size == (40, 30)                     # clipped to the image
    records = json.loads((folder / "out/photos/boxes.json").read_text(encoding="utf-8"))
    assert len(records) == 6 and (records[0]["width"], records[0]["height"]) == (80, 60)
    assert records[0]["boxes"][0] == {"label": "a/b dog", "score": 0.9, "xyxy": [1.0, 2.0, 40.0, 30.0]}
    with open(folder / "out/photos/boxes.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["file", "label", "score", "x1", "y1", "x2", "y2"] and len(rows) == 1 + 10
    assert rows[1][1:] == ["a/b dog", "0.9", "1.0", "2.0", "40.0", "30.0"] and rows[1][0].endswith("photos/a.jpg")
    again = go(source=folder, output=folder / "out", save_json=False, save_csv=False, crop=False)
    assert "6 images, 2 skipped" in again and "is not read" in again                                # results are not read as images
    assert sorted(results(folder / "out" / "photos_2")) == pictures


def test_same_names_with_another_suffix_do_not_collide(go, tmp_path):
    for name in ("a.png", "a.bmp", "a.gif"):
        save(tmp_path / "x" / name, grey(40, 40, 150))
    go(source=tmp_path / "x")
    assert results(tmp_path / "out") == ["x/a.png", "x/a_2.png", "x/a_3.png"]


def test_errors_are_sentences(go, tmp_path):
    save(tmp_path / "in" / "street.jpg", grey(20, 20))
    with pytest.raises(UserError, match='Did you mean "street.jpg"'):
        go(source=tmp_path / "in" / "streeet.jpg")
    with pytest.raises(UserError, match="output is the folder that is read"):
        go(source=tmp_path / "in", output=tmp_path / "in" / "." / "")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no image or video in"):
        go(source=tmp_path / "empty")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_bytes(b"x")
    (tmp_path / "bad" / "b.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="None of the 2 images"):
        go(source=tmp_path / "bad")
    with pytest.raises(UserError, match="a.jpg"):
        go(source=tmp_path / "bad" / "a.jpg")
    with pytest.raises(UserError, match="confidence=30"):
        go(source=tmp_path / "in", confidence=30)
    assert results(tmp_path / "in") == ["street.jpg"] and not (tmp_path / "out" / "bad").exists()


def test_script_ends_with_one_sentence():
    run = subprocess.run([sys.executable, str(ROOT / "predict.py"), "source=no_such_picture.jpg"], capture_output=True, text=True,
                         encoding="utf-8", timeout=120)
    assert run.returncode == 1 and "no_such_picture.jpg" in run.stderr and "Traceback" not in run.stderr


@pytest.fixture
def official(monkeypatch, tmp_path, capsys):
    """A function: predict.main with weights as they are published, on a picture in tmp_path -> what it printed, what the .json says."""
    path = save(tmp_path / "street 街.png", picture(150, 200))

    def run(**variables):
        usual = {"device": "cpu", "output": tmp_path / "out", "source": path, "save_json": True, "confidence": 0.1, "max_boxes": 100,
                 "input_shape": None, "fit": None, "nms_iou": None}
        for name, value in (usual | variables).items():
            monkeypatch.setattr(predict, name, str(value) if isinstance(value, Path) else value)
        predict.main(read_settings(vars(predict), []))
        records = [json.loads(file.read_text(encoding="utf-8")) for file in (tmp_path / "out").glob("*.json")]
        return capsys.readouterr().out, records[0][0] if records else None
    return run


def test_darknet_weights_work_at_once(official, tmp_path):
    torch.manual_seed(0)
    weight_file(tmp_path / "yolov4-tiny.weights", nets.build("yolov4_tiny", 80), "yolov4_tiny")
    said, record = official(net="yolov4_tiny", model_path=tmp_path / "yolov4-tiny.weights")
    assert "yolov4_tiny, 80 classes, input at most 416 x 416" in said
    model, info = nets.load(tmp_path / "yolov4-tiny.weights", "cpu", "yolov4_tiny")
    (expected,) = detect(model, [picture(150, 200)], (416, 416), 0.1, 0.45, 100, "rect")
    assert len(record["boxes"]) == len(expected["boxes"]) > 10 and info["class_names"][0] == "person"
    assert [box["label"] for box in record["boxes"]] == [info["class_names"][label] for label in expected["labels"]]
    assert np.abs([box["xyxy"] for box in record["boxes"]] - expected["boxes"]).max() < 0.01
    assert "input 320 x 320" in official(net="yolov4_tiny", model_path=tmp_path / "yolov4-tiny.weights", input_shape=320, fit="letterbox")[0]
    with pytest.raises(UserError, match="name no test list.*source=photo.jpg"):
        official(net="yolov4_tiny", model_path=tmp_path / "yolov4-tiny.weights", source="")
    with pytest.raises(UserError, match="Say which network it is, like net=ssd300"):
        official(net="", model_path=tmp_path / "yolov4-tiny.weights")


def test_torchvisions_ssd_works_at_once(official, tmp_path, monkeypatch):
    """The whole picture is warped to 300 x 300, and the boxes lie in the picture."""
    torch.manual_seed(0)
    asked = []
    monkeypatch.setattr(torch_engine, "detect", lambda *words, **rules: asked.append(words) or detect(*words, **rules))
    with torch.device("meta"):                                                  # its own first weights take two seconds
        theirs = ssd300_vgg16(weights=None, weights_backbone=None).state_dict()
    torch.save({name: 0.02 * torch.randn(tensor.shape) for name, tensor in theirs.items()}, tmp_path / "ssd300_vgg16_coco-b556d3b4.pth")
    said, record = official(net="ssd300", model_path=tmp_path / "ssd300_vgg16_coco-b556d3b4.pth", confidence=0.0)
    assert "ssd300, 90 classes, input 300 x 300" in said
    assert asked[0][2] == (300, 300) and not asked[0][3].any() and asked[0][4:] == (0.45, 100, "stretch")
    boxes = np.array([box["xyxy"] for box in record["boxes"]])
    assert len(boxes) == 100 and boxes.min() >= 0 and 150 < boxes[:, 2].max() <= 200 and 110 < boxes[:, 3].max() <= 150


def test_torchvisions_deeplab_works_at_once(official, tmp_path):
    torch.manual_seed(0)
    theirs = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, aux_loss=True)
    torch.save(theirs.state_dict(), tmp_path / "deeplabv3.pth")
    said, record = official(net="deeplabv3", net_options={"backbone": "mobilenet_v3_large"}, model_path=tmp_path / "deeplabv3.pth",
                            input_shape=(128, 160))
    assert "deeplabv3, 21 classes, input 160 x 128" in said and sum(row["pixels"] for row in record["classes"]) == 150 * 200
