"""Variables at the top of a script <-> recipe file <-> command line.

    python train.py [recipe.py] [name=value ...]

A script calls `override(globals())`. What may be set are its lower-case module variables holding plain values.
A recipe file is a few assignments of plain values; it is parsed, never executed.
"""
import ast
import sys
import tokenize
from pathlib import Path

from utils.errors import UserError, did_you_mean, show_sentence_only

ROOT = Path(__file__).resolve().parent.parent        # the repository; paths in variables and lists are relative to it
PLAIN = (bool, int, float, str, list, tuple, dict, type(None))


def find(path):
    """A path as the user wrote it -> absolute Path. Relative ones belong to the repository;
    only what exists below the current folder and not there is taken from the current folder."""
    path = Path(path).expanduser()
    inside = ROOT / path
    return path.resolve() if not inside.exists() and path.exists() else inside


def shown(path):
    """A path for people: relative to the repository when it lies inside, with / on every system."""
    path = Path(path)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.as_posix()


def settable(variables):
    """The names of a script that a recipe or the command line may set, in the script's order."""
    return [name for name, value in variables.items()
            if name.islower() and not name.startswith("_") and isinstance(value, PLAIN)]


def override(variables, arguments=None):
    """Set a script's variables from recipe files and name=value words, the later one wins.

    variables: the script's globals().  arguments: list of words, default the command line.
    Errors: unknown name (with the nearest one), wrong type, a recipe that is not there or holds more than values.
    """
    sys.excepthook = show_sentence_only
    for stream in (sys.stdout, sys.stderr):                 # a console that cannot show a character shows ? instead
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    script = Path(variables.get("__file__", "script.py")).name
    names = settable(variables)
    origin = dict.fromkeys(names, script)
    defaults = {name: variables[name] for name in names}    # a later word need not be like an earlier one
    for word in sys.argv[1:] if arguments is None else arguments:
        name, equals, text = word.partition("=")
        if word in ("-h", "--help", "help"):
            print_help(variables, names)
            raise SystemExit(0)
        if equals:
            check_name(name, names, f"python {script} {word}")
            variables[name] = check_type(name, from_text(text, defaults[name]), defaults[name])
            origin[name] = "command line"
        elif word.endswith(".py"):
            for name, value, line in read_recipe(find(word)):
                check_name(name, names, f"{word}, line {line}")
                variables[name] = check_type(name, value, defaults[name])
                origin[name] = word
        else:
            meant = f'Did you mean source="{word}"?' if "source" in names else f"Example: python {script} {names[0]}={variables[names[0]]}"
            raise UserError(f'"{word}" is neither name=value nor a recipe file ending in .py. {meant}')
    variables["_origin"] = origin


def fill_from_recipe(variables, recipe, where):
    """Give every variable that is None the value of the network's recipe (`where` names it); check the types of the others.

    What the recipe says beyond the script's variables is not for this script.
    """
    for name, value in ((name, value) for name, value in recipe.items() if name in variables):
        if variables[name] is None:
            variables[name] = value
            variables.setdefault("_origin", {})[name] = where
        else:
            variables[name] = check_type(name, variables[name], value)


def as_dict(variables):
    """name -> value of all settings, plain values only, to be saved with a run."""
    return {name: variables[name] for name in settable(variables)}


def as_table(variables):
    """The settings as text: name, value, where it came from."""
    origin = variables.get("_origin", {})
    rows = [(name, repr(variables[name]), origin.get(name, "")) for name in settable(variables)]
    widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
    return "\n".join(f"  {name:<{widths[0]}}  {value:<{min(widths[1], 44)}}  {source}" for name, value, source in rows)


def whole(low):
    """A rule for `check`: a whole number, at least low."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= low, f"a whole number, {low} or more"


def number(low, high=float("inf")):
    """A rule for `check`: a number from low to high."""
    kind = f"a number, {low} or more" if high == float("inf") else f"a number from {low} to {high}"
    return lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high, kind


def optional(rule):
    """A rule for `check`: what the other rule says, or None."""
    return lambda value: value is None or rule[0](value), f"None, or {rule[1]}"


def several(count, rule):
    """A rule for `check`: count values, for each of which the other rule holds."""
    return lambda value: isinstance(value, (list, tuple)) and len(value) == count and all(map(rule[0], value)), f"{count} values, each {rule[1]}"


def yes_or_no():
    """A rule for `check`: True or False, and nothing that only looks like it."""
    return lambda value: isinstance(value, bool), "True or False"


def check(variables, **rules):
    """Stop at the first variable whose value breaks its rule: what would fail only later, or silently do something else."""
    for name, (good, expected) in rules.items():
        if not good(variables[name]):
            raise UserError(f"{name}={variables[name]!r}: expected {expected}.")


def check_name(name, names, where):
    if name not in names:
        raise UserError(f'{where}: there is no variable "{name}".{did_you_mean(name, names)} All names: {", ".join(names)}')


def from_text(text, default):
    """A word of the command line -> value. A variable that is text takes the word as it stands."""
    if text == "None":
        return None
    if isinstance(default, str):
        return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def check_type(name, value, default):
    """The value, converted where nothing is lost (3 -> 3.0, [a, b] -> (a, b)); else an error that says what is expected."""
    if value is None or default is None:
        return value
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, (list, tuple)) and isinstance(value, (list, tuple)):
        return type(default)(value)
    if isinstance(default, (list, tuple)) and isinstance(value, (int, float)) and len(default) == 2:
        return type(default)((value, value))                # input_shape=416
    if type(value) is not type(default):
        kinds = {bool: "True or False", int: "a whole number", float: "a number", str: "text", dict: "a dict {...}"}
        raise UserError(f"{name}={value!r}: expected {kinds.get(type(default), 'values')}, like {default!r}.")
    return value


def read_recipe(path):
    """[(name, value, line number)] of a recipe file."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        folder = path.parent
        known = [shown(p) for p in sorted(folder.glob("*.py"))] if folder.is_dir() else []
        raise UserError(f"There is no recipe {shown(path)}.{did_you_mean(shown(path), known)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{shown(path)} cannot be read as a recipe, which is a text file in utf-8: {error}") from None
    except SyntaxError as error:
        raise UserError(f"{shown(path)}, line {error.lineno}: not Python: {error.msg}") from None
    rows = []
    for node in tree.body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue                                        # the docstring
        try:
            (target,) = node.targets
            rows.append((target.id, ast.literal_eval(node.value), node.lineno))
        except (AttributeError, ValueError):
            raise UserError(f"{shown(path)}, line {node.lineno}: a recipe holds only lines like  lr = 0.01") from None
    return rows


def print_help(variables, names):
    """Every variable with its value and the comment that stands beside it in the script."""
    path = Path(variables["__file__"])
    comments = {}
    with open(path, "rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT and "=" in token.line:
                comments[token.line.split("=")[0].strip()] = token.string
    print(f"python {path.name} [recipe.py] [name=value ...]\n")
    for name in names:
        print(f"  {name} = {variables[name]!r}   {comments.get(name, '')}")
