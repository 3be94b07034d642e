"""How readable is the code? Bodies without paragraphs, long functions, wide lines, names used twice.

    python tools/reading.py [show=True]

CONTRIBUTING.md has the rules; tests/project/test_reading.py holds the counts to limits that only fall.
"""
import ast
import io
import sys
import tokenize
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import utils  # noqa: E402, F401, I001  first: it says in a sentence which package is missing
from utils.settings import ROOT, read_settings, shown  # noqa: E402

show = False                    # True: also every place that was counted, as file:line    列出每一处的位置

ROOMS = {"nets": ["nets/**/*.py"], "utils": ["utils/**/*.py"], "scripts": ["*.py", "tools/*.py"]}
TALL, LONG = 12, 15             # lines of a body
SCREEN, WIDE = 50, 110          # lines of a function, columns
COUNTS = {
    "long_plain": f"bodies of {LONG}+ lines with neither a blank line nor a comment line",
    "tall_plain": f"bodies of {TALL}+ lines without both of them",
    "over_screen": f"functions over {SCREEN} lines",
    "wide": f"lines over {WIDE} columns, outside the shape column",
    "twice": "names defined in two modules or more",
}
SIZES = {
    "long": f"bodies of {LONG}+ lines",
    "tall": f"bodies of {TALL}+ lines",
    "code": "lines of code",
    "lines": "lines in all",
}
LAYOUT = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def main(s):
    rooms = {room: count(files_of(room)) for room in ROOMS}
    for name, words in (COUNTS | SIZES).items():
        numbers = "  ".join(f"{room} {total(rooms[room][name]):>6}" for room in ROOMS)
        print(f"{words:<68}{numbers}")

    # A function that two rooms define is seen only when all files are looked at together.
    everywhere = count([path for room in ROOMS for path in files_of(room)])
    print(f"names defined in two modules or more, all rooms together: {len(everywhere['twice'])}")

    if s.show:
        for name, words in COUNTS.items():
            print(f"\n{words}:", *everywhere[name], sep="\n  ")


def files_of(room):
    """The files of a room, in the order of their names."""
    return sorted(path for pattern in ROOMS[room] for path in ROOT.glob(pattern))


def total(found):
    """A size is a number, a count is a list of places."""
    return found if isinstance(found, int) else len(found)


def count(paths):
    """-> dict: for each name of COUNTS the places, "file:line what", for each name of SIZES a number."""
    found = {name: [] for name in COUNTS} | dict.fromkeys(SIZES, 0)
    homes = defaultdict(list)                               # name of a function or class -> its files
    for path in paths:
        source = path.read_text(encoding="utf-8")
        for name, values in count_file(source, shown(path)).items():
            found[name] += values
        for node in ast.parse(source).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name != "main":
                homes[node.name].append(shown(path))

    # Every script has its main; any other name should mean one thing.
    for name, files in sorted(homes.items()):
        if len(files) > 1:
            found["twice"].append(f"{name}: {', '.join(files)}")
    return found


def count_file(source, path):
    """The counts of `count` for one file, all but "twice"."""
    found = {name: [] for name in COUNTS if name != "twice"} | dict.fromkeys(SIZES, 0)
    lines = source.splitlines()
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    tree = ast.parse(source)

    # Tokens, not text: a blank line within a text of three quotes is no paragraph.
    blank = {token.start[0] for token in tokens if token.type == tokenize.NL and not token.line.strip()}
    comments = {token.start[0]: token for token in tokens if token.type == tokenize.COMMENT}
    alone = {line for line, token in comments.items() if token.line.lstrip().startswith("#")}

    # A wide line: what counts is where the code ends, when a comment of shapes follows it.
    for number, line in enumerate(lines, 1):
        comment = comments.get(number)
        if comment and comment.string.startswith("# (") and number not in alone:
            line = line[:comment.start[1]].rstrip()
        if len(line) > WIDE:
            found["wide"].append(f"{path}:{number} {len(line)} columns")

    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            count_function(function, blank, alone, path, found)

    # Code is every line that holds something, but for comments and docstrings.
    busy = set()
    for token in tokens:
        if token.type not in LAYOUT and token.type != tokenize.COMMENT:
            busy.update(range(token.start[0], token.end[0] + 1))
    found["code"] = len(busy - docstring_lines(tree))
    found["lines"] = len(lines)
    return found


def count_function(function, blank, alone, path, found):
    """Add a function to `found`. blank, alone: numbers of blank lines, and of lines with only a comment."""
    place = f"{path}:{function.lineno} {function.name}"
    if function.end_lineno - function.lineno + 1 > SCREEN:
        found["over_screen"].append(place)

    statements = function.body[ast.get_docstring(function) is not None:]
    if not statements:
        return

    # The docstring is no part of the body, and its blank lines are no paragraphs.
    body = set(range(statements[0].lineno, function.end_lineno + 1))
    if len(body) >= TALL:
        found["tall"] += 1
        if not (body & blank and body & alone):
            found["tall_plain"].append(place)
    if len(body) >= LONG:
        found["long"] += 1
        if not body & (blank | alone):
            found["long_plain"].append(place)


def docstring_lines(tree):
    """The numbers of all lines that belong to docstrings."""
    homes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    lines = set()
    for node in ast.walk(tree):
        if isinstance(node, homes) and ast.get_docstring(node) is not None:
            text = node.body[0]
            lines.update(range(text.lineno, text.end_lineno + 1))
    return lines


if __name__ == "__main__":
    main(read_settings(globals()))
