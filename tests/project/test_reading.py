"""The rules of reading that can be counted: python tools/reading.py prints the counts, python tools/reading.py show=True the places."""
import ast
import functools

import pytest

from tools import reading
from utils.settings import ROOT, settable

# For each count of tools/reading.py: what it was on the day it was first taken, which nobody changes, and what it may be now.
# Whoever brings a count down writes the new number into `LIMITS`; nobody writes a larger one. "twice" is for utils alone: every
# network has its own Neck and Head, for one paper is one file, and scripts import nothing from each other.
FIRST = {
    "nets": {"long_plain": 7, "tall_plain": 22, "over_screen": 0, "wide": 418},
    "utils": {"long_plain": 95, "tall_plain": 159, "over_screen": 0, "wide": 1354, "twice": 17},
    "scripts": {"long_plain": 21, "tall_plain": 27, "over_screen": 0, "wide": 243},
}
LIMITS = {
    "nets": {"long_plain": 0, "tall_plain": 3, "over_screen": 0, "wide": 0},
    "utils": {"long_plain": 0, "tall_plain": 7, "over_screen": 0, "wide": 2, "twice": 2},
    "scripts": {"long_plain": 0, "tall_plain": 2, "over_screen": 0, "wide": 30},        # wide: the variables of train.py
}
MOST_SETTINGS = 60              # variables at the top of train.py: more, and nobody reads them all

COUNTS = [(room, name) for room in LIMITS for name in LIMITS[room]]


@functools.cache
def counts_of(room):
    return reading.count(reading.files_of(room))


@pytest.mark.parametrize("room, name", COUNTS, ids=lambda word: word)
def test_counts(room, name):
    places = counts_of(room)[name]
    limit = LIMITS[room][name]
    assert len(places) <= limit, f"{len(places)} {reading.COUNTS[name]}, {limit} are allowed:\n" + "\n".join(places)


@pytest.mark.parametrize("room, name", COUNTS, ids=lambda word: word)
def test_limits_only_fall(room, name):
    assert LIMITS[room][name] <= FIRST[room][name]


def test_every_count_has_a_limit():
    assert FIRST.keys() == LIMITS.keys() == reading.ROOMS.keys()
    for room in LIMITS:
        wanted = reading.COUNTS.keys() - (set() if room == "utils" else {"twice"})
        assert FIRST[room].keys() == LIMITS[room].keys() == wanted


def test_train_has_few_settings():
    tree = ast.parse((ROOT / "train.py").read_text(encoding="utf-8"))
    names = [node.targets[0].id for node in tree.body if isinstance(node, ast.Assign)]
    assert {"net", "epochs", "eval_every"} <= set(names)
    assert len(settable(dict.fromkeys(names))) <= MOST_SETTINGS


def function(body):
    """The source of a function with these lines as its body, after a docstring of two paragraphs."""
    return "\n".join(['def f(x):', '    """One.', '', '    # no comment', '    """', *(f"    {line}".rstrip() for line in body)]) + "\n"


def counts(source):
    found = reading.count_file(source, "a.py")
    return {name: reading.total(values) for name, values in found.items()}


@pytest.mark.parametrize("body, tall_plain, long_plain", [
    (["x += 1"] * 11, 0, 0),
    (["x += 1"] * 12, 1, 0),
    (["x += 1"] * 15, 1, 1),
    (["x += 1"] * 12 + [""] + ["x += 1"] * 2, 1, 0),                       # a blank line alone
    (["x += 1"] * 12 + ["# why"] + ["x += 1"] * 2, 1, 0),                  # a comment alone
    (["x += 1"] * 12 + ["", "# why"] + ["x += 1"] * 2, 0, 0),              # a paragraph
    (["x += 1  # no line of its own"] * 15, 1, 1),
    (['x = """', "", "# only text", '"""'] + ["x += 1"] * 12, 1, 1),       # what a text holds is no paragraph
])
def test_paragraphs_are_seen(body, tall_plain, long_plain):
    found = counts(function(body))
    assert (found["tall_plain"], found["long_plain"]) == (tall_plain, long_plain)


def test_a_long_function_is_seen():
    assert [counts(function(["x += 1"] * lines))["over_screen"] for lines in (45, 46)] == [0, 1]           # 5 lines more are its head


@pytest.mark.parametrize("line, wide", [
    ("x = 1" + " " * 60 + "# (" + "B, " * 50 + ")", 0),                    # the column of shapes may go further
    ("x = " + "1 + " * 30 + "1     # (B, C)", 1),                          # the code before it may not
    ("x = 1" + " " * 60 + "# " + "words " * 20, 1),
    ("# (" + "B, " * 50 + ")", 1),                                         # a line of its own is no column
    ("x = " + "1" * 106, 0),
    ("x = " + "1" * 107, 1),
])
def test_wide_lines_are_seen(line, wide):
    assert counts(line + "\n")["wide"] == wide


def test_names_in_two_modules_are_seen(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.py").write_text(f"def main(): pass\ndef only_{name}(): pass\n" + "class Twice: pass\n" * (name != "b"))
    (found,) = reading.count(sorted(tmp_path.iterdir()))["twice"]
    assert found.startswith("Twice: ") and "a.py" in found and "c.py" in found and "b.py" not in found


def test_lines_of_code():
    found = counts('"""Doc."""\n\n# a comment\nx = [\n    1,\n]  # beside code\n\n\ndef f():\n    """Two\n    lines."""\n    return """a\n    b"""\n')
    assert (found["code"], found["lines"]) == (6, 13)
