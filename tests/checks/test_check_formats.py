"""The check pass over other formats: dirty datasets (dirty_formats.py) of which every fault is known, and what is reported about them."""
import os
import re
import subprocess
import sys
from pathlib import Path

import dirty_formats as dirty
import pytest
from dirty import CLASSES
from test_check import OTHER_FORMATS, REPOSITORY, fingerprints, judge, write

from tools import doctor, export
from utils import findings
from utils.checks import prepare as preparing
from utils.errors import UserError
from utils.findings import KINDS, WITHOUT
from utils.formats import sweep as look
from utils.settings import read_settings

CASES = [(kind, name) for kind in dirty.SINGLE for name in dirty.SINGLE[kind]]
MIXTURES = [(kind, number) for kind in dirty.MIXABLE for number in range(3)]
QUICK = {"yolo": ["number nan", "6 numbers", "class 2", "two faults", "no txt", "no image", "pixels", "no names", "list", "in both",
                  "corners", "tracks", "no test", "no labels of val"],
         "coco": ["bbox [1, 2, 3]", "category", "crowd", "no such image", "image twice", "turned", "mostly outside", "cut",
                  "outline odd", "corners", "shares", "test without labels"],
         "labelme": ["cut", "steering name", "point", "no points", "renamed", "copy", "no json", "no image"],
         "xml": ["number", "elsewhere", "swapped", "cut"],
         "masks": ["rgb", "stem twice", "no mask"], "colours": ["no line", "lies", "palette"], "outlines": ["box"]}
PARTS = ("shape_flat", "outline_broken", "part_without_labels")         # these cost a part of an image, or no image at all
OFTEN = ("yolo", "coco", "labelme", "masks")
SLOW = [pytest.param(*case, marks=() if case[1] in QUICK[case[0]] else pytest.mark.slow) for case in CASES]


def prepare(kind):
    return preparing.prepare("Set", CLASSES if kind == "masks" else None, task=dirty.TASKS[kind])


def check(root, capsys, kind, data, expected, case, lost):
    """The report, the end, the tree. lost: stems of the images that must be in no list."""
    data = dirty.as_bytes(data)
    write(data, root)
    before = fingerprints(root)
    try:
        classes, lists = prepare(kind)
        stopped, error = False, ""
    except UserError as raised:
        stopped, error, classes, lists = True, str(raised), "", {}
    text = capsys.readouterr().out + error
    judge(text, stopped, expected, data, case)
    assert ": /" not in text                                # all names are whole
    for one in {one for _, one in expected}:
        assert re.split(r'[{"]', KINDS[one][2])[0] in text, (case, one)           # the remedy
    after = fingerprints(root)
    assert {name: after.get(name) for name in before} == before, case
    new = {name for name in after.keys() - before.keys() if not name.startswith("prepared/")}
    assert new == (set(lists.values()) | {classes} - {CLASSES} if lists else set()), case
    for name in lists.values():
        listed = {Path(re.split(r"[\t ]", line)[0]).stem for line in (root / name).read_text().splitlines()}
        assert listed and not listed & lost, (case, listed & lost)
    if lists and lost:                                      # nothing else is left out
        assert len((root / lists["train"]).read_text().splitlines()) == 30 - len(lost), case
    return text


def lost_by(name, expected, stem):
    """The images that a fault leaves out."""
    kinds = {kind for _, kind in expected if KINDS[kind][0] == WITHOUT and not kind.startswith("box_") and kind not in PARTS}
    return {stem} if kinds and name not in dirty.KEEPING else set()


def test_there_are_enough_of_them():
    faults = [name for kind, name in CASES]
    assert len(faults) > 150 and len(MIXTURES) >= 15
    used = set()
    for kind, name in CASES:
        used |= {one for _, one in dirty.single(kind, name)[1]}
    assert used >= OTHER_FORMATS


@pytest.mark.parametrize("kind", dirty.SINGLE)
def test_clean_data(root, capsys, kind):
    check(root, capsys, kind, dirty.clean(kind), set(), "clean", set())


@pytest.mark.parametrize("kind, name", SLOW)
def test_single_faults(root, capsys, monkeypatch, kind, name):
    monkeypatch.setattr(findings, "SHOWN", 1000)
    data, expected = dirty.single(kind, name)
    check(root, capsys, kind, data, expected, (kind, name), set() if name in dirty.WHOLE[kind] else lost_by(name, expected, "t03"))


@pytest.mark.parametrize("kind, number", [pytest.param(kind, number, marks=() if number == 0 and kind in OFTEN else pytest.mark.slow)
                                          for kind, number in MIXTURES])
def test_mixtures(root, capsys, monkeypatch, kind, number):
    monkeypatch.setattr(findings, "SHOWN", 1000)
    data, expected, names, by_stem = dirty.mixture(kind, number)
    lost = set().union(*(lost_by(name, found, stem) for name, (stem, found) in zip(names, by_stem.items())))
    check(root, capsys, kind, data, expected, names, lost)


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=() if kind in OFTEN else pytest.mark.slow) for kind in dirty.MIXABLE])
def test_the_order_is_that_of_the_files(root, capsys, monkeypatch, kind):
    """Whatever the threads do, the report is the same to the letter; and all faults of the mixture are in it, in the order of their files."""
    monkeypatch.setattr(findings, "SHOWN", 1000)
    data = dirty.clean(kind)
    for stem in dirty.TRAIN[:12]:
        data[dirty.image_of(data, stem)] = b"junk"
    write(dirty.as_bytes(data), root)
    texts = set()
    for threads, chunk in ((1, 16), (8, 1), (5, 2)):
        monkeypatch.setattr(look, "cores", lambda threads=threads: threads)
        monkeypatch.setattr(look, "CHUNK", chunk)
        _, found = preparing.look_at(root / "Set", dirty.TASKS[kind], doctor.WANTED, False)
        texts.add(findings.report(found))
    (text,) = texts
    assert re.findall(r"(t\d\d)\.jpg: is not an image", text) == dirty.TRAIN[:12]


def test_doctor(root, capsys, monkeypatch):
    data, _ = dirty.single("yolo", "two faults")
    write(dirty.as_bytes(data), root)
    monkeypatch.setattr(doctor, "check_environment", list)
    monkeypatch.setattr(doctor, "dataset", "Set")
    monkeypatch.setattr(doctor, "samples", 0)
    with pytest.raises(SystemExit):
        doctor.main(read_settings(vars(doctor), []))
    out = capsys.readouterr().out
    assert "Set/labels/train/t03.txt, line 3: 'x' is not a number" in out and "Set/labels/train/t03.txt, line 4: class 7, but there" in out
    assert "[class_number: stops]" in out and out.splitlines()[-1].startswith("Verdict: training would not work: 1 ")
    (root / "Set" / "data.yaml").write_bytes(b"train: images/train\n")
    with pytest.raises(SystemExit):
        doctor.main(read_settings(vars(doctor), []))
    assert "Set/data.yaml: has no class names" in capsys.readouterr().out


@pytest.mark.parametrize("kind, name, left", [("yolo", "number nan", 35), ("coco", "crowd", 35), ("labelme", "no json", 35), ("yolo", "class 2", 0),
                                              ("coco", "cut", 0), ("yolo", "all broken", 6)])
def test_export(root, capsys, kind, name, left):
    """The same report; what cannot be used is not written, and what stops writes nothing."""
    data, expected = dirty.single(kind, name)
    write(dirty.as_bytes(data), root)
    before = fingerprints(root)
    try:
        export.export("Set", "voc", str(root / "out"))
        error = ""
    except UserError as raised:
        error = str(raised)
    text = capsys.readouterr().out + error
    assert all(f"[{one}: " in text for _, one in expected if one != "nothing_left") and bool(error) == (left == 0)
    after = fingerprints(root)
    assert {path: after.get(path) for path in before} == before and (root / "out").exists() == (left > 0) and not list(root.glob("*.part"))
    assert len([path for path in after if path.startswith("out/JPEGImages/")]) == left


@pytest.mark.slow
@pytest.mark.parametrize("kind, name", [(kind, name) for kind in QUICK for name in QUICK[kind]])
def test_by_the_command_line(root, kind, name):
    """The real script in a process of its own: the exit code, no traceback."""
    data, expected = dirty.single(kind, name)
    data = dirty.as_bytes(data)
    write(data, root)
    words = [f"dataset={root / 'Set'}", f"task={dirty.TASKS[kind]}", *([f"classes_path={root / CLASSES}"] if kind == "masks" else [])]
    code = f"import runpy, sys; sys.path.insert(0, {str(REPOSITORY)!r}); from pathlib import Path; from utils import settings, findings; " \
           f"settings.ROOT = Path({str(root)!r}); findings.SHOWN = 1000; " \
           f"runpy.run_path({str(REPOSITORY / 'voc_annotation.py')!r}, run_name='__main__')"
    found = subprocess.run([sys.executable, "-c", code, *words], cwd=root, capture_output=True, timeout=60,
                           env=os.environ | {"PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1"})
    assert found.returncode in (0, 1)
    judge((found.stdout + found.stderr).decode("utf-8", "replace"), found.returncode == 1, expected, data, (kind, name))
