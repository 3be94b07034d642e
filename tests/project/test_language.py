"""Plain English and unified Chinese terms in README, docs, messages and comments."""
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGLISH = [ROOT / "README.md", ROOT / "CHANGELOG.md"]
ENGLISH += [path for pages in ("docs/en/*.md", "benchmarks/*.md", "recipes/*.py") for path in sorted(ROOT.glob(pages))]
CHINESE = [ROOT / "README.zh-CN.md", ROOT / "VOCdevkit" / "README.md", *sorted((ROOT / "docs" / "zh").glob("*.md"))]
CODE = sorted(path for scripts in ("*.py", "nets/**/*.py", "utils/**/*.py", "tools/*.py") for path in ROOT.glob(scripts))

# A phrase (a regular expression, case ignored) -> what to write instead.
BANNED = {
    # the field has a word for it
    r"\bstarts? new\b": "is re-initialised, is initialised from scratch",
    r"\bstarted new\b": "initialised from scratch",
    r"\btaught to\b": "assigned to",
    r"\bteach(es)? an object\b": "assigns an object",
    r"\bdrops? the doubles\b": "removes duplicates (NMS)",
    r"\bsuppression of\b": "non-maximum suppression",
    r"\bnot? (a )?numbers? any ?more\b": "NaN or infinite",
    r"\bnumbers? that (is|are) none\b": "NaN",
    r"\btaken for others\b": "get the wrong class",
    r"\blearnt by heart\b": "learned by heart",
    r"\bdata sets?\b": "dataset",
    r"\bmeans nothing to\b": "has no effect on",
    # who does what, in the order of the action
    r"\bput (it|them|that)? ?right\b": "fixed",
    r"(?-i:\b(Is|Are)) (nothing|it|there) [^.?:]{0,40}: ": "If ...",
    r"\btells? all\b": "reports every problem",
    r"\btold at once\b": "reported in one go",
    r"\ball that is wrong\b": "every problem",
    r"\bput where\b": "arrange like",
    r"\blooks? whether\b": "check that",
    r"\bit is said\b": "a note says so",
    r"\bwhen nothing is said\b": "the default",
    r"\bbegins? anew\b": "restarts",
    r"\bgo(es)? on with (the|an?|that) (newest|interrupted|run|training)\b": "resume",
    r"\bin the night\b": "hours into the run",
    r"\bwas no run\b": "leaves nothing to resume",
    r"\bbrought to the disk\b": "flushed to the disk",
    r"\btake it elsewhere\b": "export your data",
    r"\blays? the classes\b": "overlays the classes",
    r"\bmake rare classes count\b": "give rare classes more weight",
    r"\bwants? to know\b": "needs",
    r"\bas the paper's recipe says\b": "the network's default",
    r"\bspeaks of other classes\b": "the classes are others",
    r"\bbetween the seeds is none\b": "means nothing",
    r"\bheight and width that divide by\b": "a height and width divisible by",
    r"\bweights are of another\b": "belong to a different",
    r"\bclasses file lacks\b": "is missing from the classes file",
    r"\babove 0.01 is not taken\b": "values above 0.01 are ignored",
    # files lie and stand nowhere, only geometry does
    r"(?<!centre )(?<!box )(?<!pixel )\b(lies|stands) in\b": "is in",
    r"\bstands? (beside|twice|once|there|as)\b": "is beside, is listed twice",
    r"\bAll of it lies\b": "Results are in",
    r"\bwhere VOC data lies\b": "like Pascal VOC",
    r"\blies? on (its|their) side\b": "is rotated by 90 degrees",
    r"\bin the place of\b": "instead of",
}

# The Chinese word to use -> those it replaces, as regular expressions.
ROWS = (ROOT / "docs" / "zh" / "terms.txt").read_text(encoding="utf-8").splitlines()
TERMS = dict(row.split("\t") for row in ROWS if not row.startswith("#"))


def readable(path):
    """The prose of a page: without code, and without the titles of findings in docs/en/data.md."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.S | re.M)
    if path.name == "data.md":
        text = re.sub(r"^\| `\w+` \|.*$", "", text, flags=re.M)
    return re.sub(r"`[^`\n]*`", "`code`", text)


def words_of(path):
    """The strings and comments of a Python file, as pairs of line number and text."""
    with tokenize.open(path) as file:
        source = file.read()
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", None)}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [(token.start[0], token.string) for token in tokens if token.type in kinds]


def banned_in(text):
    """-> list of 'phrase: what to write instead'. A line break is a space."""
    text = re.sub(r"\s+", " ", text)
    found = [(re.search(phrase, text, re.IGNORECASE), better) for phrase, better in BANNED.items()]
    return [f'"{match[0]}": write "{better}"' for match, better in found if match]


@pytest.mark.parametrize("path", ENGLISH, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_english_pages(path):
    assert not banned_in(readable(path))


@pytest.mark.parametrize("path", CODE, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_english_messages_and_comments(path):
    assert not [f"line {line}: {problem}" for line, text in words_of(path) for problem in banned_in(text)]


def unknown_terms(text):
    """-> list of 'word: the one to use'."""
    found = [(re.search(others, text), term) for term, others in TERMS.items()]
    return [f'"{match[0]}": write {term}' for match, term in found if match]


@pytest.mark.parametrize("path", [*CHINESE, ROOT / "utils" / "words" / "zh.txt"], ids=lambda p: p.relative_to(ROOT).as_posix())
def test_chinese_terms(path):
    assert not unknown_terms(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", CODE, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_chinese_terms_in_comments(path):
    assert not [problem for _, text in words_of(path) for problem in unknown_terms(text)]


@pytest.mark.parametrize("path", CHINESE, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_anchors_are_explained_at_their_first_use(path):
    """先验框（anchor）; SSD's 默认框 says that it is one."""
    text = path.read_text(encoding="utf-8")
    first = text.find("先验框")
    assert first < 0 or "anchor" in text[first:first + 12]
    if "默认框" in text:
        assert "即先验框" in text and path.stem in ("ssd300", "ssdlite320_mobilenet_v3", "README.zh-CN", "glossary")


def test_the_lists_find_what_they_should():
    old = (
        "4 start new, their shape differs",
        "An object is taught to\nthe anchors",
        "keeps the best and drops the doubles",
        "All of it lies in map_out",
        "After epoch 3 val_box are not numbers any more",
        "1 to be put right first",
        "Is nothing in the picture: write",
        "a mask stands in the place of the XML",
        "and tells all that is wrong at once",
        "None means: as the paper's recipe says",
        "Masks that lie on their side",
    )
    assert all(banned_in(text) for text in old)
    for good in ("The last convolution is re-initialised", "the box lies inside the image", "If the image has no objects: write"):
        assert not banned_in(good)
    assert unknown_terms("权值文件") and unknown_terms("得分门限") and not unknown_terms("权重文件，得分阈值")
