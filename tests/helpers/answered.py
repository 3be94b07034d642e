"""Which answer belongs to which question that users asked: docs/coverage.md out of tests/data/questions.tsv.

    python tests/helpers/answered.py

A line of the table: number, question in our words, anchor of its answer in docs/en/faq.md and docs/zh/faq.md, and, where the
program itself answers it, the test that shows this. tests/project/test_faq.py compares.
"""
import csv
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE, PAGE = ROOT / "tests" / "data" / "questions.tsv", ROOT / "docs" / "coverage.md"
HEAD = """# Who asked what, and where the answer is

Users of four collections of tutorials and tools asked {count} questions in public lists. Here they are, in our own words, each with its
answer in [English](en/faq.md) and [Chinese](zh/faq.md); {shown} of them are also answered by what the program does, which the test named
shows. The letter of a number is that of the list: P PaddleSeg, C PaddleClas, M MMSegmentation, B and Bs the tutorials of bubbliiiing.
This page is made by `python tests/helpers/answered.py`.

| number | question | answer | shown by |
|---|---|---|---|
"""


def questions():
    """-> list of (number, question, anchor, test); test is "" where only the text answers."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return [tuple(row) for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def anchors(page):
    """The anchors of a page, in order."""
    return re.findall(r'<a id="([\w-]+)"></a>', page.read_text(encoding="utf-8"))


def coverage():
    """The text of docs/coverage.md."""
    rows = questions()
    lines = [f"| {number} | {question} | [{anchor}](en/faq.md#{anchor}) · [中文](zh/faq.md#{anchor}) | {f'`{test}`' if test else ''} |"
             for number, question, anchor, test in rows]
    return HEAD.format(count=len(rows), shown=sum(bool(test) for *_, test in rows)) + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(coverage(), encoding="utf-8", newline="\n")
