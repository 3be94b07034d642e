"""The figures of the docs are what docs/figures draws today, and their captions quote numbers that were computed."""
import html
import json
import re

import pytest

from docs.figures import make
from utils.settings import ROOT

PICTURES = ROOT / "docs" / "pictures"
TRAINED = ("assignment", "assign_yolox", "assign_yolov8")           # a small network learns the photo first: some seconds
MOST = 150_000                                                      # bytes
APART = 0.6                                                         # px: what another computer may round otherwise


def read(name):
    return (PICTURES / f"{name}.svg").read_text(encoding="utf-8")


def facts(text):
    """The numbers that were noted while the figure was drawn."""
    return json.loads(html.unescape(re.search(r"<desc>(.*?)</desc>", text, re.S)[1]))


def photos(text):
    """The lengths of the embedded pictures."""
    return [len(content) for content in re.findall(r'base64,([^"]*)"', text)]


def without_photos(text):
    """-> the text without its numbers, its numbers."""
    text = re.sub(r'base64,[^"]*"', '"', text)
    return re.sub(r"-?\d+(\.\d+)?", "0", text), [float(word) for word in re.findall(r"-?\d+(?:\.\d+)?", text)]


def differences(old, new):
    """What a reader would see changed. -> list of words"""
    (words, numbers), (new_words, new_numbers) = without_photos(old), without_photos(new)
    if words != new_words:
        return ["other shapes or words"]
    found = [f"{one} is {other}" for one, other in zip(numbers, new_numbers) if abs(one - other) > APART]
    found += [f"a photo of {one} is {other} long" for one, other in zip(photos(old), photos(new)) if abs(one - other) > 0.05 * one]
    return found


def captions(path):
    """Figure -> the paragraph below it, of one page."""
    return dict(re.findall(r"!\[[^\]]*\]\(\.\./pictures/(\w+)\.svg\)\n\n\*([^\n]*)\*\n", path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", make.FIGURES)
def test_the_file_is_there_and_small(name):
    text = read(name)
    assert len(text.encode()) <= MOST and facts(text) and text.startswith("<svg ")


@pytest.mark.parametrize("name", make.FIGURES)
def test_both_languages_show_it_with_numbers_that_were_computed(name):
    computed = {str(value) for value in facts(read(name)).values()}
    for language in ("en", "zh"):
        pages = {path.name: captions(path)[name] for path in sorted((ROOT / "docs" / language).glob("*.md")) if name in captions(path)}
        assert pages, f"no page of docs/{language} shows {name} with a caption"
        for page, caption in pages.items():
            said = set(re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?!\w)", re.sub(r"`[^`]*`|\]\([^)]*\)", "", caption)))
            assert said, f"{language}/{page}: the caption of {name} quotes no number"
            assert said <= computed, f"{language}/{page}: {sorted(said - computed)} of the caption of {name} were not computed"


def test_the_list_names_every_figure():
    text = (ROOT / "docs" / "figures" / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.M) == list(make.FIGURES)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in TRAINED else name for name in make.FIGURES])
def test_it_is_drawn_the_same_again(name):
    assert not differences(read(name), make.FIGURES[name]().written())


def test_a_changed_figure_is_seen():
    old = read("assign_yolo")
    assert not differences(old, old)
    assert differences(old, old.replace(">man 1<", ">man 2<"))
    assert differences(old, old.replace('<polyline', '<polygon', 1).replace("<circle", "<ellipse", 1).replace("<rect", "<line", 1))
    assert differences(old, re.sub(r'base64,[^"]*"', 'base64,AAAA"', old))
