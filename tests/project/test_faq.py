"""The questions and answers: every question has one, every link to one leads somewhere, and every word that the scripts print is explained."""
import importlib
import re
import shlex
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from answered import PAGE, ROOT, anchors, coverage, questions
from words import entries, unexplained

import nets
import train
from utils.images import nearest_shape
from utils.losses import PARTS
from utils.results.report import COLUMNS, PIXEL_COLUMNS, PIXEL_MEANS
from utils.settings import fill, read_settings
from utils.training.accidents import EARLY, nothing_note
from utils.training.keep import MEASURES
from utils.training.log import TITLES, epoch_lines
from utils.training.plan import NET_OF, check_values

ENGLISH, CHINESE = ROOT / "docs" / "en", ROOT / "docs" / "zh"
NUMBERS = [f"{letter}{number}" for letter, last in (("P", 7), ("C", 37), ("M", 8), ("B", 95), ("Bs", 12)) for number in range(1, last + 1)]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))]


def test_every_question_once():
    rows = questions()
    assert len(NUMBERS) == 159 and sorted(number for number, *_ in rows) == sorted(NUMBERS)
    assert len({question for _, question, *_ in rows}) == len(rows)


def test_every_answer_is_asked_for_and_there_in_both_languages():
    asked = {anchor for _, _, anchor, _ in questions()}
    english, chinese = anchors(ENGLISH / "faq.md"), anchors(CHINESE / "faq.md")
    assert english == chinese and set(english) == asked
    assert max(Counter(english).values()) == 1


def test_every_test_that_shows_an_answer_is_there():
    for number, _, _, test in questions():
        file, _, name = test.partition("::")
        assert not test or f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), f"{number}: {test}"


def test_the_page_is_made_of_the_table():
    assert PAGE.read_text(encoding="utf-8") == coverage(), "python tests/helpers/answered.py"


@pytest.mark.parametrize("name", ["faq.md", "glossary.md"])
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_to_answers_and_words(path, name):
    """`](#nan)` within a page, `](faq.md#nan)` from others."""
    text = path.read_text(encoding="utf-8")
    found = [(path.parent / link, anchor) for link, anchor in re.findall(rf"\]\(([^)#\s]*{re.escape(name)})#([^)]+)\)", text)]
    found += [(path, anchor) for anchor in re.findall(r"\]\(#([^)]+)\)", text) if path.name == name]
    for page, anchor in found:
        assert anchor in anchors(page), f"{path.name} links to {page.name}#{anchor}"


@pytest.mark.parametrize("path", [ENGLISH / "faq.md", CHINESE / "faq.md"], ids=lambda path: path.parent.name)
def test_an_answer_is_short(path):
    """A heading, then 1 to 9 lines of text and commands, so that two answers fit on a screen."""
    for anchor, answer in re.findall(r'<a id="([\w-]+)"></a>\n### [^\n]+\n(.*?)(?=\n<a id|\n## |\Z)', path.read_text(encoding="utf-8"), re.S):
        lines = [line for line in answer.splitlines() if line.strip() and not line.startswith("```")]
        assert 1 <= len(lines) <= 9, f"{anchor}: {len(lines)} lines"
        assert max(map(len, lines)) <= 160, anchor


def test_the_glossary_has_all_words_in_order():
    found = entries()
    english = [name.casefold() for _, name, *_ in found]
    assert len(found) >= 120 and english == sorted(english) and len(set(english)) == len(english)
    assert [anchor for anchor, *_ in found] == anchors(ENGLISH / "glossary.md") == anchors(CHINESE / "glossary.md")


def test_both_glossaries_have_the_same_names_in_both_languages():
    assert entries(CHINESE / "glossary.md") == entries()
    for _, english, name, _ in entries():
        latin = set(re.findall(r"\w+", name.casefold())) <= set(re.findall(r"\w+", english.casefold()))        # said so in Chinese too
        assert re.search("[\u4e00-\u9fff]", name) or latin, f"{english} has no Chinese name"


@pytest.mark.parametrize("task", MEASURES)
def test_every_column_of_the_table_of_epochs_is_explained(task):
    losses = dict.fromkeys(["train_box", "val_box"], 1.0)
    row = {"epoch": 1, "epochs": 2, "lr": 0.1} | losses | dict.fromkeys(MEASURES[task], 0.5)
    head, _ = epoch_lines(row, MEASURES[task], 1.0, 10, 5.0)
    assert not unexplained(re.split("  +", head.strip()))


def test_every_word_of_the_reports_is_explained():
    """The titles that other tests do not see: those of tables for people. Losses, metrics.csv and results.json are asked where they are made."""
    titles = [*TITLES, *TITLES.values(), *COLUMNS, *PIXEL_COLUMNS, *PARTS]
    titles += [word for name, key, _ in PIXEL_MEANS for word in (name, key)]
    assert not unexplained([*titles, "mAP50_95", "AP75", "APs", "APm", "APl"])
    assert unexplained(["box", "train_no_such_loss"]) == {"train_no_such_loss"}


# Sentences of the program that end in the address of an answer: those that people meet most, and that need more than a line.
LED = {"nan", "oom", "oom-free", "one-picture", "map0", "black", "shape-train", "no-module", "worker", "camera", "changed-net"}


def test_sentences_lead_to_answers():
    """`docs/en/faq.md#nan` in the source: there is this answer, and each of those above is led to."""
    files = [*ROOT.glob("*.py"), *(path for room in ("utils", "nets", "tools") for path in (ROOT / room).rglob("*.py"))]
    found = {anchor for path in files for anchor in re.findall(r"docs/en/faq\.md#([\w-]+)", path.read_text(encoding="utf-8"))}
    assert found <= set(anchors(ENGLISH / "faq.md")) and LED - {"map0", "black"} <= found <= LED
    for task, best in (("detection", {"scores": np.array([0.01])}), ("segmentation", np.zeros((2, 2), np.uint8))):
        note = nothing_note([best], task, EARLY, ["a", "b"])
        assert note.endswith("docs/en/faq.md#" + {"detection": "map0", "segmentation": "black"}[task])


def commands():
    """The commands of the answers, as lists of words."""
    blocks = re.findall(r"^```bash\n(.*?)^```", (ENGLISH / "faq.md").read_text(encoding="utf-8"), re.S | re.M)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def test_commands_of_the_answers_are_accepted():
    """Their words and values, and the options of the networks. The files that they name only the reader has."""
    known, trainings = {path.name for path in ROOT.glob("*.py")}, 0
    for words in commands():
        if words[0] != "python" or words[1] not in known or "--help" in words:
            continue
        module = importlib.import_module(Path(words[1]).stem)
        s = read_settings(vars(module), words[2:])
        if module is train:
            network = nets.find_net(s.net or NET_OF["detection"])
            fill(s, network.recipe, "recipe")
            check_values(s)
            if s.net_options:
                nets.try_to_build(s.net, s.input_shape, **s.net_options)
            assert nearest_shape(network, s.input_shape, s.net_options) == tuple(s.input_shape), words
            trainings += 1
    assert trainings > 30
