"""What a script answers to --help: its variables with their values and comments, in its groups.

The script is read, not run: no package is loaded.
"""
import ast
import codecs
import re
import sys
import tokenize
from pathlib import Path

from utils import language
from utils.errors import speak_plainly


def print_help(path: str | Path) -> None:
    """Every variable of a script with its value and the comment beside it."""
    path = Path(path)
    speak_plainly()
    groups = groups_of(path)
    plain = codecs.lookup(sys.stdout.encoding or "ascii").name == "ascii"
    width = max(len(assignment) for _, rows in groups for assignment, _ in rows)
    print(f"python {path.name} [recipe.py] [name=value ...]")
    for title, rows in groups:
        print(f"\n{without_chinese(title) if plain else title}" if title else "")
        for assignment, comment in rows:
            comment = without_chinese(comment) if plain else chinese_first(comment)
            print(f"  {assignment:<{width}}  {comment}".rstrip())


def without_chinese(comment: str) -> str:
    """A bilingual comment without its second half, for a console that would show it as question marks."""
    return re.sub(r"\s*[^\x00-\x7f].*", "", comment)


def chinese_first(comment: str) -> str:
    """A bilingual comment; where Chinese is spoken with that half in front."""
    found = re.fullmatch(r"# (.*?)\s{2,}([^\x00-\x7f].*)", comment)
    return f"# {found[2]}  {found[1]}" if found and language.spoken["zh"] else comment


def groups_of(path: Path) -> list[tuple[str, list[tuple[str, str]]]]:
    """The variables of a script, as its source groups them.

    -> list of (title or "", list of ("name = value", comment)).
    """
    # Line number -> comment; one at the left margin is a title.
    with open(path, "rb") as file:
        tokens = list(tokenize.tokenize(file.readline))
    comments = {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}
    titles = {token.start[0] for token in tokens if token.type == tokenize.COMMENT and token.start[1] == 0}

    groups: list[tuple[str, list[tuple[str, str]]]] = []
    last = 0
    for node in ast.parse(path.read_bytes()).body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        if not node.targets[0].id.islower():                # a constant, like LIMIT
            continue

        # A blank line or a title begins another group.
        above = node.lineno - 1
        if not groups or above > last:
            title = re.sub("  +", "  ", comments[above].lstrip("# ")) if above in titles else ""
            groups.append((title, []))
        last = node.end_lineno or node.lineno
        groups[-1][1].append((ast.unparse(node), comments.get(last, "")))
    return groups
