"""The part of YAML that a data.yaml of YOLO consists of: `key: value`, lists and tables of plain words, on one line or several.

Why not PyYAML: nothing else here needs it, it unfolds aliases without limit (a "billion laughs" file), it turns a class called `no` or
`1e3` into something else, and it does not tell in which line a value stood. What is no such plain word is an error that names the line.
"""
import json
import re

from utils.errors import UserError
from utils.settings import shown
from utils.system.files import read_raw_lines

KEY = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s#:'"\[\]{},&*!|>%@`-](?:[^:#]*[^:#\s])?)\s*:(?:\s+(.*))?""")
WORD = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^,\[\]{}]*)""")
MAX_BYTES = 2_000_000


def read_yaml(path, keys):
    """dict key -> (value, line number) for those of the keys that the file has. A value is text, None, a list of text, or a dict text -> text.

    What stands under other keys is skipped, whatever it is.
    """
    lines = read_raw_lines(path, MAX_BYTES)
    found, at = {}, 0
    while at < len(lines):
        start, (text, quote) = at, uncommented(lines[at])
        at += 1
        if not text.strip() or text.strip() in ("---", "..."):
            continue
        where = f"{shown(path)}, line {start + 1}"
        match = KEY.fullmatch(text.rstrip())
        if not match:
            raise UserError(f"{where}: {text.strip()[:60]!r} is not a line of a data.yaml, expected  key: value")
        key, value = word(match[1], where), (match[2] or "").strip()
        if value[:1] in ("[", "{"):
            while not closed(value) and at < len(lines):
                more, quote = uncommented(lines[at].strip(), quote)
                value, at = f"{value} {more.rstrip()}", at + 1
        block = []
        while at < len(lines) and belongs(lines[at]):
            block.append((at + 1, lines[at]))
            at += 1
        if key not in keys:
            continue
        if key in found:
            raise UserError(f'{where}: "{key}" stands in line {found[key][1]} already. Delete one of them.')
        block = [(number, text) for number, line in block if (text := uncommented(line)[0]).strip()]
        if value and block:
            raise UserError(f"{shown(path)}, line {block[0][0]}: {block[0][1].strip()[:60]!r} is not understood here. Write {key} on one line.")
        found[key] = (read_block(block, path) if block else read_value(value, where)), start + 1
    return found


def belongs(line):
    """Whether a line belongs to the key above it: indented, an item of a list, a comment, or blank."""
    return not line.strip() or line[0] in " \t#" or line == "-" or line.startswith("- ")


def uncommented(line, quote=None):
    """-> the line without its comment, and the quotation mark that is open at its end; a # within quotes or within a word is no comment.

    quote: the mark that was open at its beginning.
    """
    for at, letter in enumerate(line):
        if quote:
            quote = None if letter == quote and not (quote == '"' and line[at - 1] == "\\") else quote
        elif letter in "'\"" and (at == 0 or line[at - 1] in " \t[{,:"):
            quote = letter
        elif letter == "#" and (at == 0 or line[at - 1] in " \t"):
            return line[:at], None
    return line, quote


def closed(text):
    """Whether the bracket that a value begins with is closed again."""
    return bool(text.rstrip()) and text.rstrip()[-1] == {"[": "]", "{": "}"}[text[0]]


def read_value(text, where):
    """What stands behind a key on its line."""
    if text[:1] not in ("[", "{"):
        return word(text, where)
    if not closed(text):
        raise UserError(f"{where}: the bracket {text[0]} is not closed.")
    items, at, inner = [], 0, text.rstrip()[1:-1]
    while at < len(inner):
        if text[0] == "{":
            match = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^,:\[\]{}]+?)\s*:(?=\s|$)""").match(inner, at)
            if not match and not inner[at:].strip():
                break
            if not match:
                raise UserError(f"{where}: {inner[at:].strip()[:60]!r} is not understood, expected  number: name")
            key, at = word(match[1], where), match.end()
        match = WORD.match(inner, at)
        value, at = match[1].strip(), match.end()
        rest = re.compile(r"\s*(,|$)").match(inner, at)
        if not rest:
            raise UserError(f"{where}: {inner[at:].strip()[:60]!r} is not understood, expected a comma.")
        at = rest.end()
        if value or rest[1]:
            items.append((key, word(value, where)) if text[0] == "{" else word(value, where))
    return table(items, where) if text[0] == "{" else items


def read_block(block, path):
    """Lines below a key: all `- item`, or all `key: value`. block: list of (line number, line)."""
    items = []
    indent = len(block[0][1]) - len(block[0][1].lstrip(" "))
    as_list = block[0][1].lstrip(" ").startswith("-")
    for number, line in block:
        where, text = f"{shown(path)}, line {number}", line.strip()
        match = None if as_list else KEY.fullmatch(text) or re.fullmatch(r"(-?\d+)\s*:(?:\s+(.*))?", text)
        if len(line) - len(line.lstrip(" ")) != indent or line.lstrip(" ").startswith("\t") or not (match or as_list and re.match(r"-(\s|$)", text)):
            raise UserError(f"{where}: {text[:60]!r} is not understood, expected " + ("  - name" if as_list else "  number: name")
                            + f" with {indent} spaces before it.")
        items.append(word(text[1:], where) if as_list else (word(match[1], where), word(match[2] or "", where)))
    return items if as_list else table(items, f"{shown(path)}, line {block[0][0]}")


def table(items, where):
    """Pairs -> dict. Error: a key twice."""
    result = dict(items)
    if len(result) < len(items):
        keys = [key for key, _ in items]
        raise UserError(f"{where}: the number {next(key for key in keys if keys.count(key) > 1)} stands there twice.")
    return result


def word(text, where):
    """A plain or quoted word; None when there is none."""
    text = text.strip()
    if text in ("", "~", "null"):
        return None
    if text[0] == '"' == text[-1] and len(text) > 1:
        try:
            return json.loads(re.sub(r"(\\\\)|\\x([0-9a-fA-F]{2})", lambda match: match[1] or rf"\u00{match[2]}", text))
        except ValueError:
            raise UserError(f"{where}: {text[:60]} is not understood. Write it without backslashes.") from None
    if text[0] == "'" == text[-1] and len(text) > 1:
        return text[1:-1].replace("''", "'")
    if text[0] in "&*!|>%@`[]{},\"'" or text.startswith(("- ", "? ")) or ": " in text:
        raise UserError(f'{where}: {text[:60]!r} is not understood: expected a plain word; put it in quotes "..." if it is one.')
    return text
