"""from plainvision import PlainVision: what it takes, what it answers, and that it can be installed."""
import json
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from colour_net import draw
from loud_net import save_loud
from PIL import Image

import predict
from plainvision import PlainVision, UserError
from plainvision.model import DEFAULTS
from utils.results import video
from utils.settings import ROOT


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return PlainVision(save_loud(tmp_path_factory.mktemp("网") / "best.pth"), device="cpu", confidence=0.05, amp=False)


def test_the_settings_are_those_of_predict():
    assert {name: getattr(predict, name) for name in DEFAULTS} == DEFAULTS


def test_every_kind_of_source(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "in/a.png", size=(60, 90))
    draw(tmp_path / "in/sub/b.png", size=(90, 60))
    found = model("in/a.png")
    assert len(found) == len(found.boxes) == len(found.scores) == len(found.names) > 0 and found.mask is None
    assert set(found.names) <= {"猫", "a b", "c"} and found.path.name == "a.png"

    # The same picture in other forms has the same boxes.
    pixels = np.array(Image.open("in/a.png"))
    same = [model(pixels), model(Image.open("in/a.png")), *model([pixels, "in/a.png"]), next(iter(model("in/*.png")))]
    assert len(same) == 5 and all((one.boxes == found.boxes).all() for one in same)
    assert [one.path.name for one in model("in")] == ["a.png", "b.png"]
    assert len(model(pixels[..., 0]).image.shape) == 3

    made = video.VideoFile(tmp_path, "clip", 10)
    for number in range(3):
        made.write(np.full((64, 96, 3), 60 * number, np.uint8))
    made.close()
    moments = [one.moment for one in model(made.path)]
    assert len(moments) == 3 and moments == sorted(moments)


def test_an_answer(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "a.png", size=(60, 90))
    found = model("a.png")
    said = json.loads(found.to_json())
    assert said["width"] == 90 and len(said["boxes"]) == len(found) and said["boxes"][0]["label"] == found.names[0]
    assert found.plot().shape == (60, 90, 3) and (found.plot() != found.image).any() and found.names[0] in repr(found)
    assert found.save("out.jpg").name == "out.jpg" and found.save("out.jpg").name == "out_2.jpg"
    assert found._repr_png_().startswith(b"\x89PNG")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    found.show()
    assert "found.png" in capsys.readouterr().out and (tmp_path / "found.png").is_file()


@pytest.mark.parametrize("source, words", [
    ("gone.jpg", "There is no file"), (np.zeros((4, 4, 3), np.float32), "expected uint8"), (np.zeros((4, 4, 4), np.uint8), "expected .height"),
    (None, "a path, not NoneType")], ids=str)
def test_mistakes(model, source, words):
    with pytest.raises(UserError, match=words):
        model(source)
    with pytest.raises(UserError, match="did you mean confidence=0.5"):
        PlainVision("best.pth", conf=0.5)
    with pytest.raises(UserError, match="There is no weight file"):
        PlainVision("gone/best.pth")


@pytest.mark.slow
def test_the_wheel(tmp_path):
    """Built, unpacked into an environment of its own, and used from a folder with a utils.py of its own."""
    copy = tmp_path / "copy"                                # building leaves folders behind
    for name in ("plainvision", "nets", "utils", "model_data"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.pth", "*.weights"))
    for name in ("pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, copy)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path), str(copy)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("plainvision-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"plainvision"}
    assert "plainvision/model_data/voc_classes.txt" in names and "plainvision/utils/results/draw.py" in names

    # A new environment, which sees the packages of this one but not the project.
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", str(tmp_path / "venv")], check=True, timeout=300)
    python = next(path for path in (tmp_path / "venv").glob("*/python*") if path.name in ("python", "python.exe"))
    install = [python, "-m", "pip", "install", "-q", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    save_loud(tmp_path / "best.pth")
    draw(tmp_path / "cat.png", size=(60, 90))
    (tmp_path / "utils.py").write_text("mine = 1\n")
    code = "import site, sys; sys.path += [p for p in sys.argv[1].split('|')]\nimport utils\nfrom plainvision import PlainVision\n" \
           "print(utils.mine, len(PlainVision('best.pth', confidence=0.05)('cat.png')) > 0, sys.modules['plainvision'].__file__)"
    packages = "|".join(path for path in sys.path if path.endswith("site-packages"))
    done = subprocess.run([python, "-c", code, packages], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert "1 True" in done.stdout and str(tmp_path / "venv") in done.stdout, done.stdout + done.stderr
