"""What the scripts say, in the language of the reader.

Every sentence is written once, in English, where it belongs.
words/zh.txt holds the Chinese of each: the English sentence, where {1}, {2} ... stand for the values in it,
and indented below it the Chinese one. All that is printed passes one place, `Harmless` in errors.py, and
there a line that fits an English sentence is exchanged. What fits none stays English, and so does every
file that is written: who searches train.log for a sentence finds it.
"""
import contextlib
import functools
import os
import re
import sys
from pathlib import Path

LANGUAGES = ("auto", "en", "zh")
ASKED = "PLAINVISION_LANGUAGE"  # an environment variable: one of these
TABLE = Path(__file__).parent / "words" / "zh.txt"
LONGEST = 4000                  # letters of a line in which sentences are looked for
MARGIN = re.compile(r"[\s✗✓!·]*(?:-> )?")                  # what a line begins with, before its sentence
VALUE = re.compile(r"\{(\d+)(#?)\}")                        # of a sentence; with #: a number
JOINTS = {". ": "", ": ": "：", "; ": "；", ", ": "，"}      # between two sentences in a line -> in Chinese
spoken = {"zh": None}                                       # the table, once Chinese is spoken


def use(asked):
    """From now on scripts speak this language, one of LANGUAGES."""
    if asked == "auto":
        asked = os.environ.get(ASKED, "auto").lower()
    chinese = asked == "zh" or asked not in LANGUAGES[1:] and is_chinese_here()
    spoken["zh"] = (spoken["zh"] or read_sentences()) if chinese else None


def asked_for(words):
    """The value of language=... on the command line, before that is understood; "auto" without one."""
    given = [word.partition("=")[2] for word in words if word.lstrip("-").startswith("language=")]
    return given[-1] if given else "auto"


def is_chinese_here():
    """Whether this computer speaks Chinese to its user."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if os.environ.get(name):
            return os.environ[name].lower().startswith("zh")
    if sys.platform == "win32":
        import ctypes

        with contextlib.suppress(AttributeError, OSError):
            return ctypes.windll.kernel32.GetUserDefaultUILanguage() & 0x3FF == 0x04
    return False


def can_show(stream):
    """Whether a console, or the file that the output goes to, has Chinese characters."""
    try:
        return bool("中".encode(getattr(stream, "encoding", None) or "ascii"))
    except (UnicodeError, LookupError):
        return False


def read_sentences(path=TABLE):
    """-> dict word -> list of (English, Chinese), the most exact first: sentences by one of their words."""
    table = {}
    with contextlib.suppress(OSError):                      # without the file everything stays English
        for sentence in sorted(pairs(path.read_text(encoding="utf-8")), key=exactness):
            table.setdefault(longest_word(sentence[0]), []).append(sentence)
    return table


def pairs(text):
    """-> (English, Chinese) of a table's text."""
    english = None
    for line in text.splitlines():
        if line.startswith("    ") and english:
            yield MARGIN.sub("", english, 1), MARGIN.sub("", line, 1)
        english = line if line and not line.startswith(("#", " ")) else None


def longest_word(english):
    """A word that every line with this sentence holds whole; "": there is none."""
    words = re.findall(r"(?<![\w}])\w+(?![\w{])", VALUE.sub("{}", english))
    return max(words, key=len, default="")


def exactness(sentence):
    """For sorting: the English sentence with the most letters of its own comes first."""
    return -len(VALUE.sub("", sentence[0]))


@functools.cache
def pattern_of(english):
    """A regular expression for what the sentence becomes with values in it; they are its groups."""
    parts = VALUE.split(english)                            # text, number, "#" or "", text, ...
    pattern = re.escape(parts[0])

    # What may follow a sentence or a value begins in its own way, or it is not there.
    for number, kind, before, after in zip(parts[1::3], parts[2::3], parts[0::3], parts[3::3]):
        value = ".*?"
        if kind:
            value = r"[\d.,]+"
        elif re.search(r"[.?!]$", before):
            value = "(?: .*)?"
        elif not before and number != "1":
            value = r"(?:(?:[,;:]| \().*?)?"
        pattern += f"({value})" + re.escape(after)
    return re.compile(pattern)


def translated(text):
    """What is printed, in the language that is spoken; text: any number of lines."""
    if not spoken["zh"] or len(text) > LONGEST or not re.search("[A-Za-z]", text):
        return text
    return "\n".join(in_chinese(line) for line in text.split("\n"))


def in_chinese(line):
    """A line, or a value within one: as a sentence, or as several that follow each other."""
    margin = MARGIN.match(line)[0]
    line = line[len(margin):]
    whole = exchanged(line)
    if whole is not None:
        return margin + whole

    # Where it can be cut so that one of the two parts is a sentence.
    for joint in re.finditer(r"(?<=[.?!]) |[:;,] |(?<= )(?=[✗✓-] )", line):
        before, after = line[:joint.start()], line[joint.end():]
        first, rest = exchanged(before), exchanged(after)
        if first is not None or rest is not None:
            mark = JOINTS.get(joint[0], "")
            first = in_chinese(before) if first is None else first
            return margin + first + mark + (in_chinese(after) if rest is None else rest)
    return margin + line


def exchanged(line):
    """A line that is one sentence of the table, in Chinese; None: it is none. Of several the most exact."""
    table = spoken["zh"]
    known = [one for word in {"", *re.findall(r"\w+", line)} for one in table.get(word, ())]
    for english, chinese in sorted(known, key=exactness):
        found = pattern_of(english).fullmatch(line)
        if found:
            return with_values(chinese, english, found.groups())
    return None


def with_values(chinese, english, values):
    """The Chinese sentence with the values of the English one. A value may be a sentence too, but not what
    is in quotes: that is a name of the user's."""
    quoted = {int(number) for number in re.findall(r'"\{(\d+)\}"', english)}
    said = [text if number in quoted else in_chinese(text) for number, text in enumerate(values, 1)]
    return VALUE.sub(lambda place: said[int(place[1]) - 1].strip(), chinese)
