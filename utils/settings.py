"""Variables at the top of a script <-> recipe file <-> command line.

    python train.py [recipe.py] [name=value ...]

A script ends in  main(read_settings(globals())) : its lower-case module variables that hold plain values
are read once, into an object that is handed from function to function. Nothing is ever written back.
A recipe file is a few assignments of plain values; it is parsed, never executed.
"""
import ast
import glob
import os
import re
import sys
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from utils import language
from utils.errors import STEERING, UserError, did_you_mean, shortened, speak_plainly
from utils.help import groups_of, print_help
from utils.peers import WEIGHTS, check_name, explain_word, what_is_meant

# The repository; paths in variables and lists are relative to it.
ROOT = Path(__file__).resolve().parent.parent
PLAIN = (bool, int, float, str, list, tuple, dict, type(None))
HELP = ("-h", "--help", "help")
OFFLINE = "PLAINVISION_OFFLINE"  # an environment variable: when it is set nothing is ever fetched
MOST = 10**12                   # of any number in a setting: what is larger is a slip of the keyboard
LONGEST_WORD = 4096             # letters of a word on the command line, and of a path, as systems have it
AnyPath = str | Path
made_in: list[Path] = []        # of `keep_in`; empty: the repository
Rule = tuple[Callable[[Any], bool], str]             # what `check` asks of a value, and that in words


class Settings:
    """The settings of one run: s.epochs, s.lr ...; s.origin says of each name where its value came from."""

    def __init__(self, values: dict[str, Any], where: str) -> None:
        """values: dict name -> value.  where: the script's name."""
        self.script, self.origin = where, dict.fromkeys(values, where)
        vars(self).update(values)

    def __contains__(self, name: str) -> bool:
        return name in self.origin

    def put(self, name: str, value: Any, where: str) -> None:
        """Another value for a setting that is there.

        where: "command line", "recipe of ssd300", "chosen" ...
        """
        setattr(self, name, value)
        self.origin[name] = where


def read_settings(variables: dict[str, Any], arguments: list[str] | None = None) -> Settings:
    """A script's variables, changed by recipe files and name=value words; the later one wins -> Settings.

    variables: the script's globals(), which stay as they are.
    arguments: list of words, default the command line.
    Errors: unknown name (with the nearest one), wrong type, a recipe missing or with more than values.
    """
    speak_plainly()
    script = as_listed(Path(variables.get("__file__", "script.py")))
    s = Settings({name: variables[name] for name in settable(variables)}, script)
    defaults = as_dict(s)                                   # a later word need not be like an earlier one
    sources: list[str] = []
    given = sys.argv[1:] if arguments is None else arguments
    speak(s, language.asked_for([f"language={variables.get('language') or 'auto'}", *given]))

    # Word by word, so that the later one wins; a recipe is as many words as it has lines.
    for word in plain_words(given, s):
        name, equals, text = word.partition("=")
        if word in HELP:
            print_help(variables["__file__"])
            raise SystemExit(0)
        if equals and (name in s or not is_source(word, s)):
            check_name(name, s, text)
            s.put(name, check_type(name, from_text(text, defaults[name]), defaults[name]), "command line")
        elif word.endswith(".py"):
            for name, value, line in read_recipe(find(word)):
                check_recipe(word, line, name, s)
                s.put(name, check_type(name, value, defaults[name]), word)
        elif "model_path" in s and word.endswith(WEIGHTS) and is_there(word):
            s.put("model_path", word, "command line")
        elif is_source(word, s):
            sources.append(word)
            s.put("source", word if len(sources) == 1 else sources, "command line")
        else:
            raise explain_word(word, s)
    speak(s, getattr(s, "language", None) or "auto")                # a recipe may have said it too
    return s


def speak(s: Settings, asked: str) -> None:
    """From here on this language, if the script lets one choose it."""
    if "language" in s:
        if asked not in language.LANGUAGES:
            raise UserError(f"language={brief(asked)}: expected {one_of(language.LANGUAGES)[1]}.")
        language.use(asked)


def plain_words(words: list[str], s: Settings) -> list[str]:
    """Options as other programs want them -> name=value: --name=value, --name value, --switch."""
    plain, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        if len(word) > LONGEST_WORD:
            raise UserError(f'"{word[:60]} ...": a word of {len(word):,} letters; at most {LONGEST_WORD:,} '
                            "are understood. Write long values into a recipe.")
        name, equals, text = word.lstrip("-").partition("=")
        name = name.replace("-", "_")
        if not word.startswith("-") or word in HELP or not name.isidentifier():
            plain.append(word)
            continue

        # A switch stands alone; of a name that is not known that is likely, if nothing follows.
        follows = bool(rest) and not rest[0].startswith("--") and not rest[0].endswith(".py")
        switch = isinstance(getattr(s, name, None), bool) or name not in s
        if switch and not equals and (not follows or rest[0].lower() not in ("true", "false")):
            alone = name in s or not follows
            equals, text = "=", "True" if alone else rest.pop(0)
        elif not equals and follows:
            equals, text = "=", rest.pop(0)
        if not equals:
            raise UserError(f'"{shortened(word)}" has no value. Write  python {s.script} {name}=...')
        plain.append(f"{name}={text}")
    return plain


def keep_in(folder: Path) -> None:
    """Where scripts keep what they make beside results: lists, classes files, what is prepared.

    folder: of the results. Inside the repository it changes nothing; one outside holds all of it, for the
    repository may be one that can only be read.
    """
    made_in[:] = [] if folder.is_relative_to(ROOT) else [folder]


def kept(path: str) -> Path:
    """The place of something that scripts make, by its path below the repository; see `keep_in`."""
    return (made_in[0] if made_in else ROOT) / path


def is_there(word: str) -> bool:
    """Whether a word is the path of something that exists."""
    try:
        return find(word).exists()
    except (UserError, OSError):
        return False


def is_source(word: str, s: Settings) -> bool:
    """Whether a word alone is what a script should look at: a path, a pattern, an address."""
    return "source" in s and (word == "-" or "://" in word or bool(glob.has_magic(word)) or is_there(word))


def settable(variables: dict[str, Any]) -> list[str]:
    """The names of a script that a recipe or the command line may set, in the script's order."""
    return [name for name, value in variables.items()
            if name.islower() and not name.startswith("_") and isinstance(value, PLAIN)]


def fill(s: Settings, values: dict[str, Any], where: str) -> None:
    """Give every setting that is None its value in `values`; check the types of the others against it.

    values: dict name -> value; names that the script does not have are skipped.
    where: what is said of where they came from.
    """
    for name, value in values.items():
        if name not in s:
            continue
        if getattr(s, name) is None:
            s.put(name, value, where)
        else:
            setattr(s, name, check_type(name, getattr(s, name), value))


def as_dict(s: Settings) -> dict[str, Any]:
    """name -> value of all settings, plain values only, to be saved with a run."""
    return {name: getattr(s, name) for name in s.origin}


def as_table(s: Settings, changed: bool = False) -> str:
    """The settings as text: name, value, where it came from. changed: without those that are as in the
    script; "" where all are."""
    rows = [(name, repr(getattr(s, name)), where) for name, where in s.origin.items()
            if not changed or where != s.script]
    wide = max((len(name) for name, _, _ in rows), default=0)
    value_wide = min(max((len(value) for _, value, _ in rows), default=0), 44)
    return "\n".join(f"  {name:<{wide}}  {value:<{value_wide}}  {where}" for name, value, where in rows)


def find(path: AnyPath) -> Path:
    """A path as the user wrote it -> absolute Path.

    Relative ones belong to the repository; what exists only below the current folder is found there.
    """
    if not isinstance(path, (str, Path)):
        raise UserError(f"{brief(path)} is no path: expected text.")
    try:
        if "\0" in str(path):
            raise ValueError("it holds a NUL character")
        path = Path(path).expanduser()
        inside = ROOT / path
        return path.resolve() if not inside.exists() and path.exists() else inside
    except (OSError, ValueError, RuntimeError) as error:    # ~nobody, a name too long, a link to itself
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{brief(str(path))} cannot be used as a path: {why}.") from None


def several_paths(words: str) -> list[str]:
    """A variable that is one path, or several as Python writes a list: ["a", "b"].

    Error: it begins like a list and is none of paths.
    """
    if not words.startswith("["):
        return [words]
    paths = as_python(words)
    good = isinstance(paths, list) and all(isinstance(one, str) and one.strip() for one in paths)
    if not good or not paths:
        raise UserError(f'{brief(words)}: expected a path, or a list like ["VOCdevkit/VOC2007", '
                        '"VOCdevkit/VOC2012"].')
    return paths


def as_python(words: str) -> Any:
    """The value that Python would read, or None when it is none; thousands of brackets are none."""
    if len(words) > LONGEST_WORD:
        return None
    try:
        with warnings.catch_warnings():                     # about words like "\\d" in it
            warnings.simplefilter("ignore")
            return ast.literal_eval(words)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def as_listed(path: AnyPath) -> str:
    """A path as lists have it: relative to the repository when it is inside, with / on every system."""
    path = Path(path)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.as_posix()


def shown(path: AnyPath) -> str:
    """A path for people: see `as_listed`. Who works in another folder would look for it there, so for them
    it is whole."""
    return printable(as_listed(path) if is_home() else Path(path).as_posix())


def is_home() -> bool:
    """Whether the repository is the current folder."""
    try:
        return os.path.samefile(".", Path(__file__).parent.parent)
    except OSError:                                         # a folder that was deleted
        return False


def printable(text: str) -> str:
    """A name as it can be printed: what is in it from a stranger must neither steer the terminal nor begin
    a line of its own."""
    return ascii(text) if STEERING.search(text) else text


def counted(number: int, word: str) -> str:
    """1, "image" -> "1 image"; 3, "class" -> "3 classes"."""
    plural = word + ("es" if word.endswith(("s", "x")) else "s")
    return f"{number} {word if number == 1 else plural}"


def brief(value: Any) -> str:
    """A value for a message: of a long one only its beginning."""
    try:
        written = repr(value)
    except (ValueError, RecursionError):                    # a number of thousands of digits
        written = f"a {type(value).__name__}"
    return shortened(written)


def whole(low: int, high: int = MOST) -> Rule:
    """A rule for `check`: a whole number, at least low."""
    def good(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    return good, f"a whole number, {low} or more"


def number(low: float = -MOST, high: float = MOST) -> Rule:
    """A rule for `check`: a number from low to high."""
    def good(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
    if high != MOST:
        return good, f"a number from {low} to {high}"
    return good, "a number" if low == -MOST else f"a number, {low} or more"


def text() -> Rule:
    """A rule for `check`: text of one line."""
    return lambda value: isinstance(value, str) and len(value) < LONGEST_WORD, "text"


def optional(rule: Rule) -> Rule:
    """A rule for `check`: what the other rule says, or None."""
    return lambda value: value is None or rule[0](value), f"None, or {rule[1]}"


def several(count: int, rule: Rule) -> Rule:
    """A rule for `check`: count values, for each of which the other rule holds."""
    def good(value: Any) -> bool:
        return isinstance(value, (list, tuple)) and len(value) == count and all(map(rule[0], value))
    return good, f"{count} values, each {rule[1]}"


def yes_or_no() -> Rule:
    """A rule for `check`: True or False, and nothing that only looks like it."""
    return lambda value: isinstance(value, bool), "True or False"


def one_of(known: Collection[str]) -> Rule:
    """A rule for `check`: one of these words."""
    def good(value: Any) -> bool:                           # 1 == True, but it is another word
        return any(value is word or isinstance(word, str) and value == word for word in known)
    return good, " or ".join(f'"{word}"' if isinstance(word, str) else repr(word) for word in known)


def check(s: Settings, **rules: Rule) -> None:
    """Stop at the first setting whose value breaks its rule.

    Without that it would fail only later, or silently do something else.
    """
    for name, (good, expected) in rules.items():
        value = getattr(s, name)
        if not good(value):
            raise UserError(f"{name}={brief(value)}: expected {expected}.")


def check_recipe(word: str, line: int, name: str, s: Settings) -> None:
    """Error: a recipe sets a variable that the script does not have."""
    if name in s:
        return
    owners = [path.name for path in ROOT.glob("*.py") if path.name != s.script
              and any(row.split(" = ")[0] == name for _, rows in groups_of(path) for row, _ in rows)]
    owner = "train.py" if "train.py" in owners else (*owners, "")[0]
    whose = f" {owner} has it: is this a recipe of {owner}?" if owner else ""
    raise UserError(f'{word}, line {line}: there is no "{shortened(name)}"{what_is_meant(name, s)}{whose} '
                    f"python {s.script} --help lists all.")


def from_text(text: str, default: Any) -> Any:
    """A word of the command line -> value."""
    if text == "None":
        return None

    # Quotes around the whole word are those of a shell that left them there. A variable that is text takes
    # the word as it is: net=123 is a name.
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    if isinstance(default, str):
        return text

    # Two ways of writing that Python does not know, then whatever Python does.
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if re.fullmatch(r"[0-9]{1,9}x[0-9]{1,9}", text):                # input_shape=416x416
        return tuple(int(side) for side in text.split("x"))
    value = as_python(text)
    return text if value is None else value


def check_type(name: str, value: Any, default: Any) -> Any:
    """The value, converted to the default's type where nothing is lost: 3 -> 3.0, [a, b] -> (a, b).

    Error: it cannot be converted; it says what is expected.
    """
    if value is None and isinstance(default, (str, dict, list)):
        return type(default)()                              # model_path=None: no path
    if value is None or default is None:                    # None says nothing about a type
        return value

    # What is meant is clear, only written in another way.
    if isinstance(default, float) and type(value) is int and abs(value) <= MOST:
        return float(value)
    if isinstance(default, (list, tuple)) and isinstance(value, (list, tuple)):
        return type(default)(value)
    if isinstance(default, (list, tuple)) and isinstance(value, (int, float)) and len(default) == 2:
        return type(default)((value, value))                # type: ignore[misc]    # input_shape=416

    # Compared exactly: to isinstance, True would be a whole number.
    if type(value) is not type(default):
        kinds = {bool: "True or False", int: "a whole number", float: "a number", str: "text",
                 dict: "a dict {...}"}
        expected = kinds.get(type(default), "values")
        raise UserError(f"{name}={brief(value)}: expected {expected}, like {default!r}.")
    return value


def read_recipe(path: Path) -> list[tuple[str, Any, int]]:
    """[(name, value, line number)] of a recipe file."""
    # Parsed, not run: a recipe from elsewhere can do no harm.
    try:
        if path.exists() and not path.is_file():            # a pipe or a device may never end
            raise OSError("it is not a file")
        tree = ast.parse(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        folder = path.parent
        known = [shown(p) for p in sorted(folder.glob("*.py"))] if folder.is_dir() else []
        raise UserError(f"There is no recipe {shown(path)}.{did_you_mean(shown(path), known)}") from None
    except SyntaxError as error:
        raise UserError(f"{shown(path)}, line {error.lineno}: not Python: {error.msg}") from None
    except (OSError, ValueError, MemoryError, RecursionError) as error:
        raise UserError(f"{shown(path)} cannot be read as a recipe, a text file in utf-8: "
                        f"{error or 'its brackets are nested too deeply'}") from None

    # Nothing but a docstring and assignments of plain values.
    rows = []
    statements: list[Any] = tree.body                       # only an assignment has targets
    for node in statements:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue                                        # the docstring
        try:
            (target,) = node.targets
            rows.append((target.id, ast.literal_eval(node.value), node.lineno))
        except (AttributeError, ValueError, TypeError, MemoryError, RecursionError):
            place = f"{shown(path)}, line {node.lineno}"
            raise UserError(f"{place}: a recipe holds only lines like  lr = 0.01") from None
    return rows
