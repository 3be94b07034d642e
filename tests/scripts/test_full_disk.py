"""A disk that is full, an output that nobody reads, a machine that gives no memory: whatever a script writes is there whole or not at all, and the
end is one sentence or silence, with an exit code that is not 0 where something is missing.

A full disk is made without root: no file may grow beyond some bytes (RLIMIT_FSIZE), or opening or renaming fails from the k-th time on.
"""
import errno
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from colour_net import ColourNet, draw, save_weights
from PIL import Image
from torture import LINUX

import get_miou
import nets
import predict
import voc_annotation
from tools import export, fix_masks, kmeans_anchors
from utils.anchors import write_anchors
from utils.errors import UserError
from utils.formats.shapes import make_shapes
from utils.lists import write_list, write_mask_list
from utils.results import media, plots, report, tables
from utils.results.masks import index_png
from utils.settings import ROOT, read_settings
from utils.system import files
from utils.system.files import CannotWrite, clear_leftovers, replace_text, together, write_bytes, write_text
from utils.training import log

pytestmark = LINUX
NOISE = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
BOXES = [{"label": "猫", "score": 0.5, "xyxy": [3.0, 4.0, 50.0, 40.0]}] * 9
ROWS = [{"epoch": 1, "epochs": 3, "lr": 0.1, "train_box": 2.0, "val_box": 3.0, "map50": 0.1}] * 3
RESULTS = {"per_class": [{"name": "a", "iou": 0.5}] * 5, "miou": 0.5}
SCRIPTS = ["train.py", "predict.py", "get_map.py", "get_miou.py", "export_onnx.py", "voc_annotation.py", "summary.py",
           *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tools").glob("*.py") if path.name != "__init__.py")]


@contextmanager
def room_for(size):
    """No file may grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


WRITERS = {
    "text": (write_text, "a.txt", "x" * 500), "bytes": (write_bytes, "a.bin", b"x" * 500), "replaced": (replace_text, "a.txt", "x" * 500),
    "png": (media.save_image, "a.png", NOISE), "jpg": (media.save_image, "a.jpg", NOISE), "bmp": (media.save_image, "a.bmp", NOISE),
    "tif": (media.save_image, "a.tif", NOISE), "mask": (index_png, "a.png", NOISE[..., 0]),
    "crops": (lambda path, boxes: media.save_crops(path.parent, "a", NOISE, boxes), "a_1_猫.png", BOXES[:1]),
    "json": (lambda path, boxes: tables.save_json(path.parent, "a", [{"file": "b", "boxes": boxes}]), "a.json", BOXES),
    "csv": (lambda path, boxes: tables.save_csv(path.parent, "a", [{"file": "b" * 300, "boxes": boxes}]), "a.csv", BOXES),
    "results": (lambda path, results: report.write_results(path.parent, results, "x" * 500, ""), "results.txt", RESULTS),
    "table": (report.write_csv, "a.csv", [["x" * 300] * 3]), "bars": (lambda path, rows: plots.class_bars(
        {"per_class": [{"name": "a", "iou": 0.5, "pa": 0.5, "precision": None}], "miou": 0.5, "mpa": 0.5, "mprecision": None}, path), "a.png", None),
    "history": (lambda path, rows: log.write_history(path.parent, rows * 9, [1.0]), "metrics.csv", ROWS),
    "settings": (lambda path, settings: log.write_settings(path.parent, settings), "settings.py", {"a": "x" * 500}),
    "list": (write_list, "a.txt", [("x" * 200 + ".jpg", [(1, 2, 3, 4, 0)])] * 3),
    "mask list": (write_mask_list, "a.txt", [("x" * 200 + ".jpg", "y.png")] * 3),
    "shapes": (lambda path, _: make_shapes(path, train=1, val=0, test=0), "Shapes", None),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer(tmp_path, name):
    """With room for a part of it only: nothing of it is there, and the sentence says what is missing. An old file stays, byte for byte."""
    write, file, content = WRITERS[name]
    path = tmp_path / file
    if name != "shapes" and name not in ("crops", "json", "csv"):           # these never write over anything
        path.write_bytes(b"the old one")
    before = tree(tmp_path)
    with room_for(100), pytest.raises(CannotWrite, match=r"cannot be written .*File too large.*: (.* are needed, )?[\d.]+ MiB are free"):
        write(path, content)
    assert tree(tmp_path) == before
    write(path, content)
    assert tree(tmp_path) != before and not list(tmp_path.glob("*.part*"))


def test_a_long_name_has_room_for_its_part(tmp_path):
    path = tmp_path / ("长" * 80 + ".txt")
    write_text(path, "x")
    assert path.read_text() == "x" and len(list(tmp_path.iterdir())) == 1


def fails_from(real, count, once=False):
    """open or os.replace: after `count` good calls that write there is no room, for once or from then on."""
    left = [count]

    def call(path, mode="w", *arguments, **options):
        if isinstance(mode, str) and "w" not in mode:
            return real(path, mode, *arguments, **options)
        left[0] -= 1
        if left[0] < 0 and (left[0] == -1 or not once):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return real(path, mode, *arguments, **options)
    return call


def no_room(patch, what, count):
    if what == "open":
        patch.setattr(files, "open", fails_from(open, count), raising=False)
    else:
        patch.setattr(files.os, "replace", fails_from(os.replace, count, once=True))


@pytest.mark.parametrize("what", ["open", "replace"])
def test_files_together(tmp_path, monkeypatch, what):
    """Three new files, one changed, one as it was: at whatever point the room ends, all are as before; else all are new."""
    for name in ("changed", "same"):
        (tmp_path / name).write_text("old")
    before, ends = tree(tmp_path), 0
    for count in range(20):
        with monkeypatch.context() as patch:
            no_room(patch, what, count)
            try:
                with together():
                    replace_text(tmp_path / "sets/a", "a")
                    kept = replace_text(tmp_path / "changed", "new")
                    with together():
                        replace_text(tmp_path / "same", "old")
                    replace_text(tmp_path / "b", "b")
            except CannotWrite:
                ends += 1
                assert {name: one for name, one in tree(tmp_path).items() if name != "sets"} == before
                continue
        break
    assert ends == 5 and kept == tmp_path / "changed.bak"
    assert tree(tmp_path) == before | {"sets": None, "sets/a": b"a", "changed": b"new", "changed.bak": b"old", "b": b"b"}


def test_nothing_of_a_broken_group_stays(tmp_path):
    with pytest.raises(KeyboardInterrupt), together():
        replace_text(tmp_path / "a", "a")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir()) and files.group["files"] is None


@pytest.fixture
def dataset(root):
    """A VOC folder of both tasks without ImageSets, in a repository of its own."""
    folder = root / "VOCdevkit/Set"
    for number in range(12):
        draw(folder / f"JPEGImages/{number:02d}.png", folder / f"SegmentationClass/{number:02d}.png", labels=(1 + number % 3, 2))
        xml = "<annotation><size><width>120</width><height>90</height></size><object><name>x</name><bndbox><xmin>8</xmin><ymin>8</ymin>" \
              "<xmax>36</xmax><ymax>38</ymax></bndbox></object></annotation>"
        write_text(folder / f"Annotations/{number:02d}.xml", xml)
    return root


@pytest.mark.parametrize("what", ["open", "replace"])
def test_voc_annotation(dataset, monkeypatch, what):
    """The lists of both tasks, class names and ImageSets of one call appear together or none does; old lists are kept whole."""
    def go(*words):
        voc_annotation.main(read_settings(vars(voc_annotation), ["dataset=VOCdevkit/Set", *words]))
    go()
    before = tree(dataset)
    assert sum(name.endswith("_train.txt") for name in before) == 2 and any(name.endswith("ImageSets/Main/train.txt") for name in before)
    ends = 0
    for count in (0, 1, 2, 3, 5, 8, 13, 21, 34, 55):
        with monkeypatch.context() as patch:
            no_room(patch, what, count)
            try:
                go("new_split=True", "seed=5")
            except UserError as error:
                assert "cannot be written (No space left on device)" in str(error) and "are free" in str(error)
                ends += 1
                assert tree(dataset) == before
                continue
        break
    after = tree(dataset)
    assert ends >= 5 and all(after[name + ".bak"] == before[name] for name in before if name.endswith("_train.txt"))
    assert not [name for name in after if ".part" in name]


@pytest.fixture
def miou(dataset, monkeypatch):
    monkeypatch.setitem(nets.NETS, "colour_net", ColourNet)
    monkeypatch.setattr(nets, "ROOT", dataset)
    lines = [f"VOCdevkit/Set/JPEGImages/{n:02d}.png\tVOCdevkit/Set/SegmentationClass/{n:02d}.png\n" for n in range(3)]
    write_text(dataset / "list.txt", "".join(lines))
    save_weights(dataset / "logs/run/best.pth", settings={"test_list": "list.txt"})
    return dataset


def words(*more):
    return ["model_path=logs/run/best.pth", "device=cpu", *more]


@pytest.mark.parametrize("count", [0, 1, 4, 9])
def test_get_miou(miou, monkeypatch, count):
    """Of a measurement that finds no room no half results stay."""
    before = tree(miou)
    with monkeypatch.context() as patch:
        no_room(patch, "open", count)
        with pytest.raises(CannotWrite, match=r"No space left on device.*are free.*Nothing of .*miou_out/.* is left"):
            get_miou.main(read_settings(vars(get_miou), words("save_pictures=True", "num_workers=0")))
    assert tree(miou) == before


@pytest.mark.parametrize("count", [0, 1, 4])
def test_predict(miou, monkeypatch, count):
    """What was written before the disk was full is whole; nothing else is there."""
    with monkeypatch.context() as patch:
        no_room(patch, "open", count)
        with pytest.raises(CannotWrite, match="No space left on device.*are needed"):
            predict.main(read_settings(vars(predict), words("source=VOCdevkit/Set/JPEGImages", "output=out", "save_json=True", "save_index=True")))
    written = [path for path in miou.glob("out/**/*") if path.is_file() and path.name != ".plainvision_results"]
    assert len(written) == count and not [path for path in written if ".part" in path.name]
    for path in written:
        Image.open(path).load()


def test_tools(dataset, monkeypatch, tmp_path):
    """A new folder appears whole or not at all, a new file too."""
    before = tree(dataset)
    monkeypatch.chdir(dataset)
    for count in (0, 5):
        with monkeypatch.context() as patch:
            no_room(patch, "open", count)
            for act in (lambda: export.export("VOCdevkit/Set", "yolo", out=str(dataset / "new")),
                        lambda: fix_masks.main(read_settings(vars(fix_masks), ["masks=VOCdevkit/Set/SegmentationClass", "values={1: 2}"]))):
                with pytest.raises(CannotWrite, match="No space left on device.*Nothing of it is left"):
                    act()
    with room_for(10), pytest.raises(CannotWrite):
        write_anchors("anchors.txt", kmeans_anchors.torch.ones(3, 2), (64, 64), "list.txt")
    assert tree(dataset) == before


def test_leftovers(tmp_path, capsys):
    """Of writers that were killed: their files go, their folders are named; of those that live nothing is touched, nor what is none of ours."""
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True).stdout.strip()
    left = [f"a.txt.{dead}.plainvision.part", f"film.mp4.{dead}.plainvision.part.mp4"]
    mine = [f"b.txt.{os.getpid()}.plainvision.part", f"archive.{dead}.part", "c.part", f"d.{dead}.plainvision.part.txt.bak"]
    for name in (*left, *mine):
        (tmp_path / name).touch()
    (tmp_path / f"Shapes.{dead}.plainvision.part").mkdir()
    clear_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*mine, f"Shapes.{dead}.plainvision.part"}
    out = capsys.readouterr().out
    assert out.count("NOTE: ") == 1 and f"Shapes.{dead}.plainvision.part was left by a run that was killed" in out


def start(script, *words, **options):
    environment = os.environ | {"PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([sys.executable, str(ROOT / script), *words], stderr=subprocess.PIPE, text=True, encoding="utf-8", env=environment,
                          timeout=200, **options)


def into_a_closed_pipe(script, *words):
    read, write = os.pipe()
    os.close(read)
    try:
        return start(script, *words, stdout=write)
    finally:
        os.close(write)


HELP = [name if name in ("train.py", "summary.py", "tools/doctor.py") else pytest.param(name, marks=pytest.mark.torture) for name in SCRIPTS]


@pytest.mark.parametrize("script", HELP)
def test_nobody_reads_the_help(script):
    """python train.py --help | head -1"""
    assert into_a_closed_pipe(script, "--help").stderr == ""


@pytest.mark.torture
@pytest.mark.parametrize("script", SCRIPTS)
def test_nobody_reads_the_output(script, tmp_path):
    """python predict.py | head: silence, or the sentence that it would have said anyway; never a traceback."""
    words = {"train.py": ["dataset=none"], "predict.py": ["source=none.jpg"], "tools/doctor.py": ["dataset=none", f"out={tmp_path}"],
             "tools/make_shapes.py": [f"folder={tmp_path / 'Shapes'}", "train=2", "val=1", "test=1"], "voc_annotation.py": ["dataset=none"],
             "tools/export.py": ["dataset=none"], "tools/fix_masks.py": ["masks=none"], "tools/kmeans_anchors.py": ["train_list=none.txt"]}
    error = into_a_closed_pipe(script, *words.get(script, [])).stderr
    assert "Traceback" not in error and "Exception ignored" not in error and len(error.splitlines()) < 12, error


def test_the_output_goes_to_a_full_disk():
    with open("/dev/full", "w") as full:
        done = start("summary.py", "--help", stdout=full)
    assert done.returncode == 1 and done.stderr.strip() == "Stopped: the output cannot be written: No space left on device."


@pytest.mark.parametrize("script", ["train.py", *(pytest.param(name, marks=pytest.mark.torture) for name in SCRIPTS if name != "train.py")])
def test_no_memory_at_the_start(script, tmp_path):
    """ulimit -v: a sentence that names it."""
    words = ["dataset=none"] if script in ("train.py", "voc_annotation.py", "tools/doctor.py", "tools/export.py") else []
    limit = 6 * 10**8
    done = start(script, *words, stdout=subprocess.DEVNULL, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
    assert "Traceback" not in done.stderr, done.stderr
    if script in ("train.py", "predict.py", "get_map.py", "get_miou.py", "summary.py"):
        assert done.returncode == 1 and "there is no more memory for this program" in done.stderr and "0.6 GiB (ulimit -v)" in done.stderr


def test_every_script_is_here():
    assert len(SCRIPTS) > 10 and all(Path(ROOT / name).is_file() for name in SCRIPTS)
