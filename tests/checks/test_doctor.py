"""tools/doctor.py: environment, data, weights, the page of pictures, the verdict."""
import os
import subprocess
import sys
from pathlib import Path

import dirty
import numpy as np
import pytest
import torch
from PIL import Image

import nets
from tools import doctor
from utils.checkpoint import save_checkpoint
from utils.checks import environment, prepare
from utils.findings import STOPS, WORKS
from utils.settings import read_settings

REPOSITORY = Path(__file__).resolve().parents[2]


def write(root, task, *faults):
    data = dirty.clean(task)
    for number, name in enumerate(faults):
        dirty.SINGLE[task][name](data, f"t{number:02d}")
    for path, content in data.items():
        place = root / path if path == dirty.CLASSES else root / "Set" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(monkeypatch, capsys, **settings):
    """The doctor in this process. -> exit code, what it printed, the written report."""
    for name, value in {"dataset": "Set", "classes_path": dirty.CLASSES, **settings}.items():
        monkeypatch.setattr(doctor, name, value)
    monkeypatch.setattr(doctor, "check_environment", lambda: [environment.check_python()])
    try:
        doctor.main(read_settings(vars(doctor), []))
        code = 0
    except SystemExit as end:
        code = end.code
    (newest,) = sorted(Path(doctor.find("doctor_out")).iterdir())[-1:]
    return code, capsys.readouterr().out, newest


@pytest.mark.parametrize("task", dirty.SINGLE)
def test_good_data(root, monkeypatch, capsys, task):
    write(root, task)
    before = tree(root)
    code, out, folder = run(monkeypatch, capsys)
    assert code == 0 and out.rstrip().endswith("Verdict: training would work.") and "36 usable images" in out
    assert {path.name for path in folder.iterdir()} == {"report.txt", "page.png"}
    report = (folder / "report.txt").read_text(encoding="utf-8")
    assert f"Data for {task}" in report and report.endswith("Verdict: training would work.\n") and "Python 3" in report
    after = tree(root)
    assert {name: after[name] for name in before} == before and all(name.startswith("doctor_out/") for name in after.keys() - before.keys())
    page = np.asarray(Image.open(folder / "page.png"))
    assert page.shape[0] > 1500 and page.shape[1] > 1200 and len(set(map(tuple, page[::9, ::9].reshape(-1, 3).tolist()))) > 300


def test_the_page_shows_the_boxes(root, monkeypatch, capsys):
    """The first cell holds a sample with its boxes in the colours of their classes."""
    from utils.results.draw import class_colours
    write(root, "detection")
    _, _, folder = run(monkeypatch, capsys, samples=4)
    page = np.asarray(Image.open(folder / "page.png")).astype(int)[:360]
    for colour in class_colours(2).astype(int):
        assert (np.abs(page - colour).max(2) < 40).sum() > 100


@pytest.mark.parametrize("task, fault, words", [
    ("detection", "xml cut 0.5", []), ("detection", "class typo", ['"catt"', "Did you mean"]), ("segmentation", "all 0 255", ["values={255: 1}"]),
    ("segmentation", "mask RGB", ["palette="]), ("detection", "no train list", ["train.txt"]), ("detection", "box twice", []),
    ("detection", "nested", ["is not a VOC folder"]), ("segmentation", "classes blank", ["classes.txt, line 2"]),
])
def test_bad_data(root, monkeypatch, capsys, task, fault, words):
    write(root, task, fault)
    stops = any(doctor.KINDS[kind][0] == STOPS for _, kind in dirty.single(task, fault)[1])
    code, out, folder = run(monkeypatch, capsys, task=task, samples=0)
    assert code == int(stops) and all(word in out for word in words)
    assert ("Verdict: training would not work" in out.splitlines()[-1]) == stops
    assert "[" in (folder / "report.txt").read_text(encoding="utf-8")


def test_many_files_are_all_in_the_written_report(root, monkeypatch, capsys):
    write(root, "detection")
    for stem in dirty.TRAIN[:14]:
        (root / f"Set/Annotations/{stem}.xml").write_bytes(b"")
    code, out, folder = run(monkeypatch, capsys, samples=0)
    assert code == 0 and "... and 4 more" in out and "t13.xml" not in out and "t13.xml" in (folder / "report.txt").read_text(encoding="utf-8")


def test_lists(root, monkeypatch, capsys):
    write(root, "segmentation")
    prepare.prepare("Set", dirty.CLASSES, task="segmentation")
    capsys.readouterr()
    settings = {"train_list": "Set_segmentation_train.txt", "val_list": "Set_segmentation_val.txt"}
    code, out, folder = run(monkeypatch, capsys, **settings)
    assert code == 0 and "33 usable images" in out and (folder / "page.png").is_file()
    (root / "Set/JPEGImages/v0.jpg").unlink()
    code, out, _ = run(monkeypatch, capsys, **settings, samples=0)
    assert code == 1 and "Set_segmentation_val.txt, line 1" in out
    code, out, _ = run(monkeypatch, capsys, train_list=None, val_list=None)      # the dataset's own lists are looked at as well
    assert code == 1 and "listed_missing" in out and "list_no_image" in out


def test_small_objects_depend_on_the_input(root, monkeypatch, capsys):
    write(root, "detection")
    assert "box_tiny" not in run(monkeypatch, capsys, net="yolov4_tiny", input_shape=(64, 64), samples=0)[1]
    assert "box_tiny: works" in run(monkeypatch, capsys, net="yolov4_tiny", input_shape=(32, 32), samples=0)[1]


def checkpoint(path, names, spoil=False):
    torch.manual_seed(0)
    model = nets.build("yolov4_tiny", len(names), (64, 64))
    state = model.state_dict()
    if spoil:
        state["head4.1.weight"][0] = float("nan")
    save_checkpoint(path, net="yolov4_tiny", options={}, class_names=names, input_shape=[64, 64], model=state, settings={}, epoch=3)


def test_weights(root, monkeypatch, capsys):
    names = ["cat", "dog"]
    for name, theirs, words in (("a.pth", names, ["yolov4_tiny", "2 classes", "3 epochs"]), ("b.pth", ["dog", "cat"], ["in another order"]),
                                ("c.pth", ["person"], ["are not those of the data", "data: cat, dog"])):
        checkpoint(root / name, theirs)
        checks = doctor.look_at_weights(root / name, names)
        assert all(word in doctor.lines_of(checks) for word in words) and [check.effect for check in checks] == [""] + [WORKS] * (name != "a.pth")
    checkpoint(root / "nan.pth", names, spoil=True)
    (root / "page.pth").write_text("<!DOCTYPE html>")
    (root / "cut.pth").write_bytes((root / "a.pth").read_bytes()[:5000])
    for name, words in (("nan.pth", "NaN"), ("page.pth", "page.pth"), ("cut.pth", "cut.pth"), ("none.pth", "There is no weight file")):
        assert [check.effect for check in doctor.look_at_weights(root / name, names)] == [STOPS]
        assert words in doctor.lines_of(doctor.look_at_weights(root / name, names))
    torch.save(nets.build("yolov4_tiny", 2, (64, 64)).state_dict(), root / "bare.pth")
    assert "weights to start from" in doctor.lines_of(doctor.look_at_weights(root / "bare.pth", names))
    write(root, "detection")
    code, out, _ = run(monkeypatch, capsys, model_path="cut.pth", samples=0)
    assert code == 1 and "== Weights\n✗" in out


def test_the_real_command_line(root):
    write(root, "detection", "class typo")
    words = [f"dataset={root / 'Set'}", f"classes_path={root / dirty.CLASSES}", f"out={root / 'out'}", "samples=0"]
    result = subprocess.run([sys.executable, REPOSITORY / "tools/doctor.py", *words], cwd=root, capture_output=True, timeout=120,
                            env=os.environ | {"PYTHONIOENCODING": "utf-8"})
    out = result.stdout.decode()
    assert result.returncode == 1 and result.stderr == b"" and "requirements" not in out
    for package in ("torch ", "numpy ", "pillow ", "PyTorch and NumPy work together", "CPU cores", "GPU", "free on the disk"):
        assert package in out
    assert out.splitlines()[-1].startswith("Verdict: training would not work") and '"catt"' in out


# ---- the environment

def test_python():
    assert environment.check_python((3, 9, 1)).effect == STOPS and environment.check_python((3, 10, 0)).effect == ""


def test_packages(tmp_path, monkeypatch):
    (tmp_path / "r.txt").write_text("torch>=2.6\n# a comment\nnumpy>=1.26\nopencv-python-headless>=4.9\nother>=1\n")
    have = {"torch": "2.10.0+cu126", "numpy": "1.26.4", "opencv-python": "5.0.0.93"}
    monkeypatch.setattr(environment, "installed", have.get)
    checks = environment.check_packages(tmp_path / "r.txt")
    assert [check.effect for check in checks] == ["", "", "", STOPS]
    assert "other: not installed" in checks[3].text and "pip install" in checks[3].remedy
    have |= {"torch": "2.5.1", "opencv-python-headless": "4.8.1", "other": "1.0"}
    checks = environment.check_packages(tmp_path / "r.txt")
    assert [check.effect for check in checks] == [STOPS, "", STOPS, WORKS, ""] and '"torch>=2.6"' in checks[0].remedy


def test_bridge(monkeypatch):
    assert environment.check_bridge().effect == ""

    def broken(array):
        raise RuntimeError("Numpy is not available")
    monkeypatch.setattr(environment.torch, "from_numpy", broken)
    check = environment.check_bridge()
    assert check.effect == STOPS and "Numpy is not available" in check.text and torch.__version__ in check.text and np.__version__ in check.text


@pytest.mark.parametrize("capability, arches, good, words", [
    ((8, 6), ["sm_80", "sm_86", "sm_90"], True, ""), ((8, 9), ["sm_80", "sm_86"], True, ""), ((9, 0), ["sm_90a"], True, ""),
    ((12, 0), ["sm_80", "sm_90"], False, "newer PyTorch"), ((6, 1), ["sm_75", "sm_80"], False, "older PyTorch"),
    ((12, 0), ["sm_80", "compute_90"], True, ""), ((5, 0), ["sm_50", "sm_60"], True, ""), ((7, 0), ["sm_75", "sm_80"], False, "older PyTorch"),
])
def test_cards(capability, arches, good, words):
    check = environment.check_card("Some GPU", capability, arches, 8 * 2**30)
    assert (check.effect == "") == good and words in check.remedy and "Some GPU" in check.text and "8 GiB" in check.text


def test_gpu_that_is_not_used(monkeypatch):
    monkeypatch.setattr(environment.torch.version, "cuda", None)
    monkeypatch.setattr(environment, "driver", lambda: "NVIDIA X, 560.1")
    (check,) = environment.check_gpu()
    assert check.effect == WORKS and "NVIDIA X" in check.text and "built without CUDA" in check.text
    monkeypatch.setattr(environment, "driver", lambda: None)
    assert environment.check_gpu()[0].effect == ""
    monkeypatch.setattr(environment.torch.version, "cuda", "12.6")
    monkeypatch.setattr(environment.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(environment, "driver", lambda: "NVIDIA X, 470")
    (check,) = environment.check_gpu()
    assert check.effect == WORKS and "driver" in check.remedy and "12.6" in check.text


def test_memory_and_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "machine_memory", lambda: 2 * 2**30)
    assert environment.check_memory().effect == WORKS and "2.0 GiB" in environment.check_memory().text
    monkeypatch.setattr(environment, "machine_memory", lambda: 16 * 2**30)
    assert environment.check_memory().effect == ""
    usage = type("usage", (), {"free": 2**29, "total": 2**26})
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda path: usage)
    assert environment.check_disk(tmp_path).effect == WORKS and environment.check_shared_memory(tmp_path).effect == WORKS
    monkeypatch.setattr(environment.os, "access", lambda *_: False)
    assert environment.check_disk(tmp_path).effect == STOPS
    assert environment.check_shared_memory(tmp_path / "none") is None


def test_labels_of_another_program_are_named(root, monkeypatch, capsys):
    (root / "Set" / "images").mkdir(parents=True)
    (root / "Set" / "labelTxt").mkdir()
    for number in range(3):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(root / "Set" / "images" / f"{number}.png")
        (root / "Set" / "labelTxt" / f"{number}.txt").write_text("imagesource:x\ngsd:1\n1 1 9 1 9 9 1 9 plane 0\n")
    code, out, folder = run(monkeypatch, capsys, classes_path=None)
    assert code == 1 and "3 .txt files like Set/labelTxt/0.txt look like DOTA (rotated boxes) (3 of 3 opened)" in out
    assert "labels.csv with the columns filename,class,xmin,ymin,xmax,ymax" in (folder / "report.txt").read_text(encoding="utf-8")
