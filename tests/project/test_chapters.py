"""The chapters of the networks: the same headings everywhere, numbers by hand that the code gives too, exercises with answers;
and the path: lessons whose files, functions and commands are there.
"""
import doctest
import re

import pytest

import nets
from benchmarks.networks import page_of
from utils.settings import ROOT

HEADINGS = {"en": ["Why", "Picture", "The idea", "Walk through the file", "Numbers by hand", "What goes wrong", "Exercises", "Answers", "Sources"],
            "zh": ["为什么", "图", "思路", "跟着代码走一遍", "手算一遍", "容易出错的地方", "练习", "答案", "出处"]}
WAITING = 3                                                 # networks whose page has the old form yet; this may only fall
ALL = sorted({page_of(name) for name in nets.NETS})
NAMES = [name for name in ALL if "\n## Why\n" in (ROOT / "docs" / "en" / f"{name}.md").read_text(encoding="utf-8")]
CHAPTERS = [(name, language) for name in NAMES for language in HEADINGS]
LESSONS = 13                                                # the tour, and twelve


def read(name, language):
    return (ROOT / "docs" / language / f"{name}.md").read_text(encoding="utf-8")


def sections(text):
    """-> dict heading -> text, in order."""
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in re.split(r"^## ", text, flags=re.M)[1:]}


def test_every_network_has_a_chapter():
    assert len(ALL) - len(NAMES) <= WAITING, "CONTRIBUTING.md says what a chapter has"


@pytest.mark.parametrize("name, language", CHAPTERS)
def test_a_chapter_has_all_headings_in_order(name, language):
    found = sections(read(name, language))
    assert [heading for heading in found if heading in HEADINGS[language]] == HEADINGS[language]
    assert all(len(found[heading].strip()) > 40 for heading in HEADINGS[language])


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_by_hand_are_those_of_the_code(name):
    """The code is run; both languages have the same (test_twins). A number in the text with a point is in the code, too."""
    for language in HEADINGS:
        section = sections(read(name, language))[HEADINGS[language][4]]
        (code,) = re.findall(r"```python\n(.*?)```", section, re.S)
        test = doctest.DocTestParser().get_doctest(code, {}, name, f"docs/{language}/{name}.md", 0)
        assert len(test.examples) > 3
        by_hand = set(re.findall(r"(?<![\w.])\d+\.\d+", section.partition("```python")[0] + section.rpartition("```")[2]))
        assert by_hand and all(number in code for number in by_hand), f"{language}: {by_hand}"
        if language == "en":
            problems = []
            doctest.DocTestRunner(verbose=False).run(test, out=problems.append)
            assert not problems, "".join(problems)


@pytest.mark.parametrize("name", NAMES)
def test_exercises_have_answers_and_a_code_block_a_result(name):
    for language, headings in HEADINGS.items():
        found = sections(read(name, language))
        asked, answers = (re.findall(r"^(\d+)\. ", found[headings[part]], re.M) for part in (6, 7))
        assert asked == answers == [str(number) for number in range(1, len(asked) + 1)] and len(asked) in (2, 3, 4)
        assert found[headings[7]].strip().startswith('<details markdown="1">') and "</details>" in found[headings[7]]
        assert "arxiv.org" in found[headings[8]]


# The path

def lessons(language):
    """-> list of (number, text) of each lesson."""
    return re.findall(r"^## (\d+) (.*?)(?=^<a id|\Z)", read("path", language), re.S | re.M)


@pytest.mark.parametrize("language", HEADINGS)
def test_every_lesson_is_whole(language):
    """Why, what to read, one command, what to look at, and when one can go on; all of them add up to what the page promises."""
    text, found = read("path", language), lessons(language)
    assert [number for number, _ in found] == [str(number) for number in range(LESSONS)]
    for number, lesson in found:
        assert len(re.findall(r"^```bash\n", lesson, re.M)) == 1, f"lesson {number}"
        assert len(re.findall(r"^\*\*", lesson, re.M)) >= 4 and len(lesson) > 500 - 250 * (language == "zh"), f"lesson {number}"
    minutes = [int(row) for row in re.findall(r"^\| \d+ \| \[.*?\]\(#lesson-\d+\) \| (\d+) \|", text, re.M)]
    hours, rest = re.search(r"(\d+) (?:hours and|小时) (\d+) (?:minutes|分钟)", text).groups()
    assert len(minutes) == LESSONS and sum(minutes) == 60 * int(hours) + int(rest)


@pytest.mark.parametrize("language", HEADINGS)
def test_what_a_lesson_says_to_read_is_there(language):
    """`loss` of `AnchorYOLO`, `match` in a file: every name in backticks of the part Read is in one of the files named there."""
    for number, lesson in lessons(language):
        part = re.search(r"\*\*(?:Read\.|读。)\*\*(.*?)\n\n", lesson, re.S)[1]
        codes = re.findall(r"`([\w./]+)`", part)
        files = [code for code in codes if code.endswith(".py")]
        source = "\n".join((ROOT / file).read_text(encoding="utf-8") for file in files)
        for name in set(codes) - set(files):
            assert re.search(rf"\b(def|class) {name}\b|^{name} = ", source, re.M), f"lesson {number}: {name}"
