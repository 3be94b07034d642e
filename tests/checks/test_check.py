"""The check pass: dirty datasets (dirty.py) of which every fault is known, and what is reported about them."""
import hashlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import dirty
import pytest
from harmless import HARMLESS

from utils import findings
from utils.checks import prepare
from utils.errors import UserError
from utils.findings import KINDS, STOPS

REPOSITORY = Path(__file__).resolve().parents[2]
OTHER_FORMATS = {"not_readable", "label_twice", "class_number", "pixels_for_shares", "palette_lacks", "json_broken", "label_broken", "share_beyond",
                 "no_outline", "image_without_txt", "box_layout", "numbers_unused", "label_ambiguous", "part_without_labels", "list_left_out",
                 "found_elsewhere", "outline_broken", "other_image_path", "size_is_corner"}
ROWS = {"label_line", "size_is_corner", "two_readings"}                           # see test_foreign.py
ODD_FILES = {"no_file", "image_huge"}                                             # see test_strangers.py
CASES = [(task, name) for task in dirty.SINGLE for name in dirty.SINGLE[task]]
MIXTURES = [(task, number) for task in dirty.MIXABLE for number in range(30)]


def write(data, folder):
    """The dataset on the disk: folder/Set, and the classes file beside it. -> path of the classes file, or None."""
    folder.mkdir(exist_ok=True, parents=True)
    for path, content in data.items():
        place = folder / path if path == dirty.CLASSES else folder / "Set" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return folder / dirty.CLASSES


def fingerprints(folder):
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def reported(text):
    """The (file, kind) pairs of a report, read from what is printed."""
    found, kind = [], None
    for line in text.splitlines():
        if match := re.search(r"\[(\w+): (?:stops|works|works without these)\]$", line):
            kind = match[1]
        elif kind and line.startswith("    ->"):
            kind = None
        elif kind and line.startswith("    ") and not line.startswith("     "):
            found.append((line[4:], kind))
    return found


def pairs(text, data, folder="Set"):
    """(path in the dataset, kind) of a report. Every line must name a file that can be told."""
    known = {**{f"{folder}/{path}": path for path in data}, dirty.CLASSES: dirty.CLASSES, folder: "",
             f"{folder}/SegmentationClass": "SegmentationClass",
             **{ascii(f"{folder}/{path}"): path for path in data if not path.isprintable()},
             **{f"{folder}/{name}/{part}.txt": f"{name}/{part}.txt" for name in dirty.LISTS.values() for part in ("train", "val", "test")}}
    result = set()
    for line, kind in reported(text):
        if line.startswith("... and"):
            continue
        name = max((name for name in known if line == name or line.startswith((f"{name}: ", f"{name}, line "))), key=len, default=None)
        assert name is not None, line
        result.add((known[name], kind))
    return result


def judge(text, stopped, expected, data, case):
    """All that must be true of every report."""
    found = pairs(text, data)
    assert found == expected, f"{case}: too much {found - expected}, missing {expected - found}"
    assert stopped == any(KINDS[kind][0] == STOPS for _, kind in expected), case
    for kind in {kind for _, kind in expected}:
        words = re.split("[{:]", KINDS[kind][2].replace('"', ""))[0][:30]
        assert words in text.replace('"', ""), (case, kind, words)
    assert "Traceback" not in text


def check(root, capsys, data, expected, task, case, classes=True):
    """In this process: the report, the end, the tree."""
    path = write(data, root)
    before, began = fingerprints(root), time.perf_counter()
    try:
        _, lists = prepare.prepare("Set", dirty.CLASSES if classes else None, task=task)
        stopped, error = False, ""
    except UserError as raised:
        stopped, error, lists = True, str(raised), {}
    assert time.perf_counter() - began < 10
    judge(capsys.readouterr().out + error, stopped, expected, data, case)
    after = fingerprints(root)
    assert {name: after.get(name) for name in before} == before, case
    assert after.keys() - before.keys() == set(lists.values()), case              # what stops writes nothing at all
    assert path.exists() == (dirty.CLASSES in data)
    lost = {stem_of(name) for name, kind in expected if name.startswith(("JPEGImages", "Annotations", "Segm")) and kind in LEAVES_OUT}
    for name in lists.values():
        listed = {stem_of(re.split(r"[\t ]", line)[0]) for line in (root / name).read_text().splitlines()}
        assert not listed & lost and listed, case


def stem_of(name):
    return Path(name).stem


# kinds that leave the image out; of a box only that box is left out, of other files nothing that is listed
LEAVES_OUT = {kind for kind, (effect, *_) in KINDS.items() if effect == findings.WITHOUT and not kind.startswith("box_")} \
    - {"bad_name", "other_suffix", "labelme_file", "yolo_file", "shape_flat"}


def test_there_are_enough_of_them():
    assert len(dirty.SINGLE["detection"]) >= 96 and len(dirty.SINGLE["segmentation"]) >= 64 and len(MIXTURES) == 60
    used = set()
    for task, name in CASES:
        used |= {kind for _, kind in dirty.single(task, name)[1]}
    lists_only = {"list_line", "list_class", "list_absent", "list_empty", "listed_missing", "listed_moved", "listed_unusable", "box_tiny",
                  "file_missing", "near_across"}
    assert set(KINDS) - used == lists_only | OTHER_FORMATS | ROWS | ODD_FILES                         # see test_check_lists.py, test_check_formats.py


@pytest.mark.parametrize("task", dirty.SINGLE)
def test_clean_data(root, capsys, task):
    check(root, capsys, dirty.clean(task), set(), task, "clean")


@pytest.mark.parametrize("task, name", [(task, name) for task in HARMLESS for name in HARMLESS[task]])
def test_what_is_odd_but_no_fault(root, capsys, task, name):
    data = dirty.clean(task)
    check(root, capsys, data, HARMLESS[task][name](data, "t03"), task, name)


@pytest.mark.parametrize("task, name", CASES, ids=lambda part: part.replace(" ", "_"))
def test_single_faults(root, capsys, monkeypatch, task, name):
    monkeypatch.setattr(findings, "SHOWN", 1000)
    data, expected = dirty.single(task, name)
    check(root, capsys, data, expected, task, name, name not in dirty.WITHOUT_CLASSES)


@pytest.mark.parametrize("task, number", MIXTURES)
def test_mixtures(root, capsys, task, number):
    data, expected, names = dirty.mixture(task, number)
    check(root, capsys, data, expected, task, names)


def run_script(folder, data, expected, task, case, classes=True):
    """The same by the real command line, in a process of its own."""
    write(data, folder)
    before = fingerprints(folder)
    words = [f"dataset={folder / 'Set'}", f"task={task}", *([f"classes_path={folder / dirty.CLASSES}"] if classes else [])]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1"}
    code = f"import runpy, sys; sys.path.insert(0, {str(REPOSITORY)!r}); from pathlib import Path; from utils import settings, findings; " \
           f"settings.ROOT = Path({str(folder)!r}); settings.is_home = lambda: True; findings.SHOWN = 1000; " \
           f"runpy.run_path({str(REPOSITORY / 'voc_annotation.py')!r}, run_name='__main__')"
    found = subprocess.run([sys.executable, "-c", code, *words], cwd=folder, env=environment, capture_output=True, timeout=60)
    text = (found.stdout + found.stderr).decode("utf-8", "replace")
    judge(text, found.returncode == 1, expected, data, case)
    assert found.returncode in (0, 1)
    after = fingerprints(folder)
    assert {name: after.get(name) for name in before} == before, case


SAMPLE = [("detection", "xml entity"), ("detection", "class typo"), ("detection", "box twice"), ("detection", "nested"),
          ("segmentation", "all 0 255")]


@pytest.mark.parametrize("task, name", SAMPLE)
def test_a_sample_by_the_command_line(root, task, name):
    data, expected = dirty.single(task, name)
    run_script(root, data, expected, task, name)


@pytest.mark.slow
@pytest.mark.parametrize("task, name", CASES, ids=lambda part: part.replace(" ", "_"))
def test_single_faults_by_the_command_line(root, task, name):
    data, expected = dirty.single(task, name)
    run_script(root, data, expected, task, name, name not in dirty.WITHOUT_CLASSES)


@pytest.mark.slow
@pytest.mark.parametrize("task, number", MIXTURES)
def test_mixtures_by_the_command_line(root, task, number):
    data, expected, names = dirty.mixture(task, number)
    run_script(root, data, expected, task, names)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_kind_stands_in_the_docs(language):
    """Under the heading of what happens, in the order stops, works without these, works; in English word for word."""
    parts = (REPOSITORY / f"docs/{language}/data.md").read_text(encoding="utf-8").split("\n### ")[1:]
    for effect, part in zip(findings.ORDER, parts, strict=True):
        rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", part, re.M)
        assert [kind for kind, _ in rows] == [kind for kind, (what, *_) in KINDS.items() if what == effect]
        assert language == "zh" or [title for _, title in rows] == [KINDS[kind][1] for kind, _ in rows]
