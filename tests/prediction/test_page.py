"""The page to try a network: what it answers, and that a real browser shows it."""
import base64
import io
import json
import signal
import subprocess
import sys
import threading
import urllib.request
from types import SimpleNamespace

import browser
import numpy as np
import pytest
import torch
from fake_detector import grey
from fake_engine import NAMES, Boxes, Regions
from PIL import Image

from utils.boxes import nms
from utils.errors import UserError
from utils.prediction import page
from utils.results import video
from utils.settings import ROOT
from utils.system.web import Request, open_server

SETTINGS = {"model_path": "logs/x/best.pth", "confidence": 0.3, "nms_iou": 0.5, "max_boxes": 100, "opacity": 0.6, "threshold": 0.5}
in_chromium = [pytest.mark.slow, pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium is installed")]


def as_file(picture, kind="PNG"):
    data = io.BytesIO()
    Image.fromarray(picture).save(data, format=kind)
    return data.getvalue()


def answer_to(engine, path, body=b"", **settings):
    """What the page gets, without a server between."""
    routes = page.Page(engine, SimpleNamespace(**SETTINGS | settings)).routes()
    return json.loads(routes["POST" if body else "GET", path](Request(path, body, {})).body)


def test_what_the_page_knows():
    values = answer_to(Boxes(), "/network")
    assert values["class_names"] == NAMES and values["input"] == "96 × 64" and values["nms_iou"] == 0.5 and len(values["colours"]) == 3
    values = answer_to(Regions(), "/network")
    assert values["background"] == 0 and values["opacity"] == 0.6 and len(values["colours"]) == 3 and "confidence" not in values


def test_boxes_of_a_picture():
    """All of them down to a low score, before suppression: the page does the rest."""
    found = answer_to(Boxes(), "/picture", as_file(grey(50, 100)))
    assert (found["width"], found["height"]) == (100, 50) and len(found["boxes"]) == len(Boxes.rows)
    assert found["boxes"][0] == {"label": 0, "score": pytest.approx(0.92), "xyxy": pytest.approx([10, 10, 50, 40])}
    assert [box["score"] for box in found["boxes"]] == sorted((box["score"] for box in found["boxes"]), reverse=True)


def test_regions_of_a_picture():
    found = answer_to(Regions(), "/picture", as_file(grey(50, 100), "JPEG"))
    assert [(row["label"], row["share"]) for row in found["classes"]] == [("background", 0.5), ("road", 0.25), ("人", 0.25)]
    labels = np.array(Image.open(io.BytesIO(base64.b64decode(found["mask"]))))
    assert labels.shape == (50, 100) and labels[0, 0] == 0 and labels[0, 99] == 1 and labels[49, 99] == 2


@pytest.mark.parametrize("data, kind, words", [
    (b"no picture", "not_an_image", "This file is not an image"), (b"%PDF-1.4", "not_an_image", "PDF"), (b"<svg onload=a()>", "not_an_image", "SVG"),
    (as_file(grey(50, 100))[:60], "image_damaged", "cut off or damaged"), (as_file(grey(300, 400)), "image_too_large", "at most 0 megapixels")])
def test_what_is_no_picture_gets_a_sentence(monkeypatch, data, kind, words):
    monkeypatch.setattr(page, "MOST_PIXELS", 100_000)
    engine = Boxes()
    found = answer_to(engine, "/picture", data)
    assert found["kind"] == kind and words in found["error"] and "tmp" not in found["error"] and engine.asked == 0


def test_a_small_file_that_would_fill_the_memory():
    """A PNG of 12,000 x 12,000 pixels is 0.4 MB; it is refused before it is decoded."""
    small = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(small, format="PNG")
    assert "144 megapixels, at most 40" in answer_to(Boxes(), "/picture", small.getvalue())["error"]


def test_one_picture_at_a_time(monkeypatch):
    monkeypatch.setattr(page, "PATIENCE", 0.01)
    one = page.Page(Boxes(), SimpleNamespace(**SETTINGS))
    with one.turn, pytest.raises(UserError, match="busy with other pictures"):
        one.picture(Request("/picture", as_file(grey(50, 100)), {}))


def kept_by_nms(confidence, nms_iou):
    """Scores that utils.boxes.nms keeps of the boxes that the fake engine finds."""
    table = torch.tensor(Boxes.rows)
    scores = torch.zeros(len(table), len(NAMES))
    scores[torch.arange(len(table)), table[:, 5].long()] = table[:, 4]
    (found,) = nms(table[None, :, :4] * 100, scores[None], confidence, nms_iou, 100)
    return [round(score, 2) for score in found["scores"].tolist()]


@pytest.fixture
def served(request):
    """The page of an engine at an address."""
    engine = request.param()
    server = open_server(page.Page(engine, SimpleNamespace(**SETTINGS)).routes(), 0)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server.url, engine
    server.shutdown()
    server.server_close()


PIXEL = """(() => {
  const pen = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", {willReadFrequently: true});
  pen.drawImage(canvas, 0, 0);
  return [...pen.getImageData(Math.round(%s * canvas.width), Math.round(%s * canvas.height), 1, 1).data].slice(0, 3);
})()"""
SIZES = [pytest.param(1440, 900, marks=in_chromium), pytest.param(390, 844, marks=in_chromium)]
DOWNLOAD = """(async () => {
  const real = URL.createObjectURL; let kept; URL.createObjectURL = blob => { kept = blob; return real(blob); };
  const click = HTMLAnchorElement.prototype.click; HTMLAnchorElement.prototype.click = function () { window.downloaded = this.download; };
  document.getElementById("%s").click();
  while (!kept) await new Promise(done => setTimeout(done, 20));
  URL.createObjectURL = real; HTMLAnchorElement.prototype.click = click;
  return [window.downloaded, kept.type, kept.type.includes("json") ? await kept.text() : (await createImageBitmap(kept)).width];
})()"""


def text_of(one, name):
    return one.run(f"document.getElementById('{name}').innerText")


def move(one, slider, value):
    one.run(f"(() => {{ const s = document.getElementById('{slider}'); s.value = {value}; s.dispatchEvent(new Event('input')); }})()")


def scores_on(one):
    return [float(value) for value in one.run("[...document.querySelectorAll('#found span:last-child')].map(e => e.innerText)")]


@pytest.mark.parametrize("width, height", SIZES)
@pytest.mark.parametrize("served", [Boxes], indirect=True)
def test_boxes_in_chromium(served, tmp_path, width, height):
    url, engine = served
    (tmp_path / "my photo.jpg").write_bytes(as_file(grey(300, 400), "JPEG"))
    (tmp_path / "no.txt").write_text("no picture")
    with browser.Browser(tmp_path, width, height) as one:
        one.open(url)
        one.wait("state.network !== null")
        assert "fake · 3 classes · 96 × 64" in text_of(one, "network") and one.run("document.getElementById('canvas').hidden")
        one.choose_file("#file", tmp_path / "my photo.jpg")
        one.wait("state.result !== null")

        # The sliders act at once, as utils/boxes.py would; the network is not asked again.
        for confidence, nms_iou in ((0.3, 0.5), (0.05, 0.5), (0.3, 0.95), (0.3, 0.2), (0.6, 0.0), (1.0, 0.5)):
            move(one, "confidence", confidence)
            move(one, "nms_iou", nms_iou)
            assert scores_on(one) == kept_by_nms(confidence, nms_iou)
        assert "the best is cat with 0.92" in text_of(one, "summary") and engine.asked == 1

        # What is drawn: the colour of the class at the edge of its box. Names are text, never tags.
        move(one, "confidence", 0.3)
        edge = one.run(PIXEL % (0.101, 0.6))
        assert max(np.abs(np.subtract(edge, one.run("state.network.colours[0]")))) < 12
        assert "<b>人</b>" in text_of(one, "found") and one.run("document.querySelector('#found b')") is None

        # The records of predict.py, and the picture at its own size.
        name, kind, text = one.run(DOWNLOAD % "json")
        (record,) = json.loads(text)
        assert (name, kind) == ("my photo.json", "application/json") and record["file"] == "my photo.jpg" and record["width"] == 400
        assert record["boxes"][0] == {"label": "cat", "score": 0.92, "xyxy": [40.0, 60.0, 200.0, 240.0]}
        assert one.run(DOWNLOAD % "save") == ["my photo_found.png", "image/png", 400]

        # A mistake is a sentence, and what was there stays.
        one.choose_file("#file", tmp_path / "no.txt")
        one.wait("!document.getElementById('error').hidden")
        assert text_of(one, "error").startswith("no.txt is not an image") and len(scores_on(one)) == 4
        one.run("document.getElementById('language').click()")
        assert text_of(one, "error") == "这不是图片，请选择 JPEG 或 PNG 文件。" and text_of(one, "summary").startswith("4 个框")
        assert one.run("document.documentElement.scrollWidth") == width and one.complaints == []


@pytest.mark.parametrize("width, height", SIZES)
@pytest.mark.parametrize("served", [Regions], indirect=True)
def test_regions_in_chromium(served, tmp_path, width, height):
    (tmp_path / "a.png").write_bytes(as_file(grey(300, 400)))
    with browser.Browser(tmp_path, width, height, language="zh") as one:
        one.open(served[0])
        one.wait("state.network !== null")
        assert text_of(one, "summary") == "还没有结果。" and one.run("document.querySelector('[data-task=detection]').hidden")
        one.choose_file("#file", tmp_path / "a.png")
        one.wait("state.result !== null")
        assert text_of(one, "found").split() == ["background", "50.0", "%", "road", "25.0", "%", "人", "25.0", "%"]
        move(one, "opacity", 1)
        colours = [one.run(PIXEL % place) for place in ((0.25, 0.5), (0.75, 0.25), (0.75, 0.75))]
        assert colours == [[100] * 3, *one.run("state.network.colours")[1:]]
        assert one.run("document.documentElement.scrollWidth") == width and one.complaints == []


@pytest.mark.parametrize("width, height", SIZES)
@pytest.mark.parametrize("served", [Boxes], indirect=True)
def test_the_camera_of_chromium(served, tmp_path, width, height):
    url, engine = served
    with browser.Browser(tmp_path, width, height) as one:
        one.open(url)
        one.wait("state.network !== null")
        one.run("document.getElementById('camera').click()")
        one.wait("state.rate > 0 && !document.getElementById('canvas').hidden")
        assert text_of(one, "camera") == "Stop camera" and "pictures per second" in text_of(one, "summary") and engine.asked >= 1
        one.run("document.getElementById('camera').click()")
        one.wait("state.stream === null")
        assert text_of(one, "camera") == "Camera" and len(scores_on(one)) == 4 and one.complaints == []


@pytest.mark.slow
def test_the_script(tmp_path):
    """tools/page.py with a network of its own: the boxes are those of predict.py, and Ctrl-C ends it with a sentence."""
    from small_nets import small

    from utils.checkpoint import save_checkpoint
    model, shape = small("yolov4_tiny")
    path = tmp_path / "best.pth"
    save_checkpoint(path, model=model.state_dict(), net="yolov4_tiny", class_names=NAMES, input_shape=shape, options={}, settings={}, epoch=3)
    program = subprocess.Popen([sys.executable, "tools/page.py", f"model_path={path}", "port=0", "browser=False", "device=cpu"], cwd=ROOT,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = next(line for line in program.stdout if "The page is open" in line)
    url = said.split(": ")[1].split()[0]
    assert url.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(urllib.request.Request(url + "picture", as_file(grey(50, 100))), timeout=60) as answer:
        found = json.loads(answer.read())
    assert found["width"] == 100 and found["height"] == 50 and all(box["score"] >= page.LOWEST for box in found["boxes"])
    program.send_signal(signal.SIGINT)
    out, error = program.communicate(timeout=60)
    assert "The page is closed." in out and error == "" and program.returncode == 0


PLAYED = """(async () => {
  const one = document.createElement("video"); one.muted = true; one.src = "/film"; document.body.append(one);
  await one.play();
  while (one.currentTime < 0.3) await new Promise(done => setTimeout(done, 20));
  return [one.duration, one.videoWidth, one.videoHeight, one.currentTime];
})()"""


@pytest.mark.parametrize("way", [pytest.param("opencv", marks=in_chromium), pytest.param("h264", marks=in_chromium)])
def test_videos_play_in_chromium(tmp_path, monkeypatch, way):
    """What predict.py writes: H.264 with PyAV, VP8 without."""
    from utils.results import h264
    from utils.system import web
    if way == "opencv":
        monkeypatch.setattr(h264, "pyav", lambda: None)
    elif h264.pyav() is None:
        pytest.skip("PyAV is not installed (optional)")
    made = video.VideoFile(tmp_path, "clip", 25)
    for number in range(50):
        made.write(grey(96, 128, 5 * number))
    assert made.close() == 50 and made.path.suffix == {"opencv": ".webm", "h264": ".mp4"}[way]
    kind = {".webm": "video/webm", ".mp4": "video/mp4"}[made.path.suffix]
    routes = {("GET", "/"): lambda request: web.Answer(b"<!DOCTYPE html><link rel=icon href=data:,>", "text/html"),
              ("GET", "/film"): lambda request: web.Answer(made.path.read_bytes(), kind)}
    server = open_server(routes, 0)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    with browser.Browser(tmp_path) as one:
        one.open(server.url)
        duration, wide, high, moment = one.run(PLAYED)
        assert (wide, high) == (128, 96) and moment > 0 and duration == pytest.approx(2, abs=0.1) and one.complaints == []
    server.shutdown()
    server.server_close()
