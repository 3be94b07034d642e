"""The scripts speak Chinese: every sentence of the source has one in utils/words/zh.txt, and what is printed is exchanged for it."""
import io
import re
import sys

import pytest
from sentences import sentences

from utils import language
from utils.errors import Harmless, UserError, show_sentence_only
from utils.help import print_help
from utils.settings import ROOT, counted, read_settings
from utils.training import log

TABLE = list(language.pairs(language.TABLE.read_text(encoding="utf-8")))
# Values as they occur. What follows a sentence, or another value, begins in its own way.
NUMBER, NAME, MORE, APPENDED = "12", "données1/图a.png", ' Did you mean "unet"?', " (两张)"


@pytest.fixture
def chinese(monkeypatch):
    monkeypatch.setenv(language.ASKED, "zh")
    language.use("auto")
    yield
    monkeypatch.setenv(language.ASKED, "en")
    language.use("auto")


def bare(english):
    return re.sub(r"\{(\d+)#\}", r"{\1}", english)


def filled(template, values):
    return language.VALUE.sub(lambda place: values[int(place[1])], template)


def likely_values(english):
    """number -> a value that may stand there."""
    parts = language.VALUE.split(english)
    values = {}
    for number, kind, before in zip(parts[1::3], parts[2::3], parts[0::3]):
        after_value = not before and number != "1"
        values[int(number)] = NUMBER if kind else MORE if re.search(r"[.?!]$", before) else APPENDED if after_value else NAME
    return values


def test_every_sentence_of_the_source_has_its_chinese():
    known = {bare(english) for english, _ in TABLE}
    missing = [f"{place}: {sentence}" for sentence, place in sentences().items() if sentence not in known]
    assert not missing, "add to utils/words/zh.txt, each with its Chinese below it:\n" + "\n".join(missing)


def test_no_chinese_for_a_sentence_that_is_gone():
    """Words that `counted` writes, and words that stand alone as a value, are no sentences of their own."""
    source = set(sentences())
    alone = [english for english, _ in TABLE if "#" in english or len(re.findall(r"\b[a-z]{2,}\b", bare(english).lower())) < 2]
    gone = [english for english, _ in TABLE if bare(english) not in source and english not in alone and not english.startswith("== ")]
    assert not gone, "delete from utils/words/zh.txt, each with its Chinese:\n" + "\n".join(gone)


def test_every_sentence_once_and_with_the_same_values():
    assert len({bare(english) for english, _ in TABLE}) == len(TABLE) > 1000
    for english, chinese in TABLE:
        numbers = [sorted(re.findall(r"\{(\d+)#?\}", text)) for text in (english, chinese)]
        assert numbers[0] == sorted(set(numbers[0])) == numbers[1], english
        untranslated = not re.search("[\u4e00-\u9fff]", chinese) and re.search("[a-z]{3}", re.sub(r"[\w-]+\.\w+", "", chinese))
        assert not untranslated or any(name in chinese for name in NAMES), english


NAMES = ("python -m zipfile", "Export task dataset", "Parquet", "dlib", "datum convert")          # of other programs: the same in both languages


def test_every_sentence_is_exchanged_and_its_values_stay(chinese):
    for english, its_chinese in TABLE:
        values = likely_values(english)
        said = language.translated(filled(english, values))
        expected = filled(its_chinese, {number: language.translated(text).strip() for number, text in values.items()})
        assert said == expected, english


def test_what_is_not_in_the_table_stays(chinese):
    for text in ("cat  0.98  12 33 123 55", "", "\n", "日本語 text", "    1/30   0.001    2.345", "A sentence that nobody wrote.", "x" * 5000):
        assert language.translated(text) == text


def test_names_of_the_user_are_left_alone(chinese):
    """A class called "images" or "all images" is no sentence."""
    said = language.translated('NOTE: every labelled pixel was predicted as "all images".')
    assert "“all images”" in said and "注意" in said


def test_lines_of_a_report_are_exchanged_one_by_one(chinese):
    lines = [f"VOCdevkit/x: {counted(2, 'finding')} (1 must be fixed, 1 skipped): stops", "! Images without a label: 1   [label: works]", "    b.jpg"]
    expected = ["VOCdevkit/x：2 个问题（1 个必须修正，1 个跳过）：停止", "! 图片没有标注：1   [label：仅提示]", "    b.jpg"]
    assert language.translated("\n".join(lines)) == "\n".join(expected)


def console(encoding="utf-8"):
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")


def shown(stream):
    stream.flush()
    return stream.buffer.getvalue().decode(stream.encoding)


@pytest.mark.parametrize("encoding, expected", [("utf-8", "什么也没有写入。"), ("gbk", "什么也没有写入。"), ("ascii", "Nothing was written.")])
def test_only_a_console_that_can_show_it_gets_chinese(chinese, encoding, expected):
    stream = console(encoding)
    print("Nothing was written.", file=Harmless(stream, "\n\t"))
    assert shown(stream).strip() == expected


def test_errors_are_chinese_and_the_log_is_english(chinese, tmp_path, monkeypatch):
    out, err = console(), console()
    monkeypatch.setattr(sys, "stdout", Harmless(out, "\n\t"))
    monkeypatch.setattr(sys, "stderr", Harmless(err, "\n\t"))
    show_sentence_only(UserError, UserError("epochs=1.5: expected None, or a whole number, 1 or more."), None)
    assert shown(err) == "\n已停止：epochs=1.5：应为None 或整数，不小于 1。\n"

    log.logger(tmp_path)("Backbone frozen: only neck and heads learn.")
    assert shown(out).strip() == "主干已冻结：只学习 neck 和检测头。"
    assert (tmp_path / "train.log").read_text(encoding="utf-8") == "Backbone frozen: only neck and heads learn.\n"


@pytest.mark.parametrize("words, variable, environment, expected", [
    ([], "auto", "zh", True), ([], "auto", "en", False), ([], "zh", "en", True), (["language=en"], "zh", "zh", False),
    (["--language=zh"], "auto", "en", True), ([], "en", "zh", False),
])
def test_command_line_before_variable_before_environment(monkeypatch, words, variable, environment, expected):
    monkeypatch.setenv(language.ASKED, environment)
    read_settings({"__file__": str(ROOT / "predict.py"), "language": variable}, words)
    assert bool(language.spoken["zh"]) is expected
    language.use("en")


def test_an_unknown_language():
    with pytest.raises(UserError, match=r"language='fr': expected \"auto\" or \"en\" or \"zh\""):
        read_settings({"__file__": str(ROOT / "predict.py"), "language": "auto"}, ["language=fr"])
    language.use("en")


@pytest.mark.parametrize("name, value, expected", [("LANG", "zh_CN.UTF-8", True), ("LC_ALL", "zh_TW", True), ("LANG", "en_US.UTF-8", False)])
def test_the_computers_language(monkeypatch, name, value, expected):
    monkeypatch.delenv(language.ASKED)
    for other in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    language.use("auto")
    assert bool(language.spoken["zh"]) is expected
    monkeypatch.setenv(language.ASKED, "en")
    language.use("auto")


def test_without_its_table_everything_stays_english(tmp_path):
    assert language.read_sentences(tmp_path / "none.txt") == {}


@pytest.mark.parametrize("script", sorted(path.relative_to(ROOT).as_posix() for folder in ("", "tools/") for path in ROOT.glob(f"{folder}*.py")))
def test_every_script_has_the_variable(script, capsys):
    text = (ROOT / script).read_text(encoding="utf-8")
    assert ("\nlanguage = \"auto\" " in text) is ("read_settings(globals())" in text and script != "tools/reading.py")


def test_help_puts_the_chinese_first(chinese, capsys):
    print_help(ROOT / "predict.py")
    line = next(line for line in capsys.readouterr().out.splitlines() if line.lstrip().startswith("confidence = "))
    assert re.search(r"confidence = None +# [\u4e00-\u9fff].*[a-z]", line)
