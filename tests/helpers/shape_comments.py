"""Hold the column of shape comments beside a network's code to the real tensors.

    c4, c5 = self.backbone(images)          # (B, 256, H/16, W/16), (B, 512, H/32, W/32)
    boxes = torch.cat(boxes, 1)             # (B, N, 4) xyxy px
    return boxes, scores                    # (B, N, 4), (B, N, K)

What is a shape comment. A comment that begins with "(": Python tuples, separated by commas; () is a single number, (N,) a
vector, (..., 4) has any leading dimensions. After a space, ";" or ":" words may follow, but no further tuple. It stands on
the last or the first line of an assignment, or of a `return`, inside a function. Anything else that begins with "(" is a
problem, so that a slip of the pen is not taken for prose.

How tuples and values pair up. One tuple per target; a list of tensors takes one tuple per element, or one tuple for all.
A single tuple holds for everything on the left. A target named _ is thrown away and takes none.

What the letters are. The run gives B, K, H and W. Any other name is a local variable of that name with a whole number, or it
takes its value where it is first met and keeps it until the function returns; first met inside a loop, until the next turn
of that loop; first met in one tuple for a whole list, for that element only. 2*C or h/2 with one unknown letter gives the letter.
A division has to come out whole (h//2 rounds down).
"""
import ast
import os
import re
import sys
import tokenize
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral

from utils.settings import shown

OPERATIONS = {ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b,
              ast.Div: lambda a, b: Fraction(a) / b, ast.FloorDiv: lambda a, b: Fraction(a // b)}
LOOPS = (ast.For, ast.AsyncFor, ast.While)


class Mismatch(Exception):
    """Comment and tensor do not agree, or the comment cannot be evaluated; the message says why."""


@dataclass
class Comment:
    where: str          # file:line
    text: str           # the tuples as written
    shapes: list        # per tuple the list of its dimensions, each an ast expression
    targets: list       # per target the code that reads it; None beside a return
    loops: tuple        # the lines of each enclosing loop's header, outermost first


def check(paths, runs):
    """Execute the runs and compare every comment they pass with the tensor just assigned.

    paths: the files under test.  runs: iterable of (known, call); known: {"B": 2, "K": 7, "H": 96, "W": 160}, call: a function
    without arguments. Make `runs` a generator, then what it does between two calls (building a network) is not followed.
    -> problems: list of sentences, one per line of code; checked: {"file:line": tensors compared}, 0 where no run came by.
    """
    files, checked, problems = {}, {}, {}
    for path in paths:
        functions, comments, wrong = read(path)
        files[os.path.realpath(path)] = functions
        checked.update((comment.where, 0) for comment in comments)
        problems.update(wrong)
    lines_of = {}                                           # a function -> its commented lines, None where there are none

    for known, call in runs:
        def enter(frame, event, value, known=known):
            code = frame.f_code                             # no key itself: equal code of two files is equal
            function = code.co_filename, code.co_firstlineno, code.co_name
            if function not in lines_of:
                lines_of[function] = files.get(os.path.realpath(code.co_filename), {}).get(function[1:])
            return follow(lines_of[function], known, checked, problems) if lines_of[function] else None

        before = sys.gettrace()
        sys.settrace(enter)
        try:
            call()
        finally:
            sys.settrace(before)
    return sorted(problems.values(), key=place), checked


def unreached(*checked):
    """The comments that none of several checks came by, as problems. A comment in a shared file needs one network only."""
    total = Counter()
    for counts in checked:
        total.update(counts)
    return sorted((f"{where}: no run reached this comment" for where, times in total.items() if not times), key=place)


def place(problem):
    """What to sort a problem by: file, line."""
    file, line = re.match(r"(.*?):(\d+): ", problem).groups()
    return file, int(line)


def read(path):
    """The shape comments of a file.

    -> functions: {(first line, name): {line: comments of the statement on it}}, comments: list, problems: {"file:line": sentence}
    """
    with open(path, "rb") as file:
        tokens = list(tokenize.tokenize(file.readline))
    with open(path, encoding="utf-8") as file:
        statements = list(statements_of(ast.parse(file.read())))
    functions, comments, problems = {}, [], {}
    for token in tokens:
        text = token.string.lstrip("#").strip()
        if token.type != tokenize.COMMENT or not text.startswith("("):
            continue
        line, where = token.start[0], f"{shown(os.path.realpath(path))}:{token.start[0]}"
        beside = [s for s in statements if s[0].end_lineno == line] or [s for s in statements if s[0].lineno == line]
        try:
            tuples, shapes = parse(text)
            if not beside:
                raise Mismatch("stands beside no assignment of a function")
        except Mismatch as reason:
            problems[where] = f"{where}: comment {text} {reason}"
            continue
        statement, function, loops = beside[-1]
        comment = Comment(where, tuples, shapes, targets_of(statement), loops)
        comments.append(comment)
        lines = functions.setdefault(function, {})
        group = lines.setdefault(statement.lineno, [])
        group.append(comment)
        for number in range(statement.lineno, statement.end_lineno + 1):
            lines[number] = group
    return functions, comments, problems


def statements_of(node, function=None, loops=()):
    """Every assignment and return inside a function: (statement, the function's first line and name, headers of its loops)."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min([child.lineno] + [decorator.lineno for decorator in child.decorator_list])
            yield from statements_of(child, (first, child.name))
        elif isinstance(child, ast.ClassDef):
            yield from statements_of(child)
        elif isinstance(child, LOOPS):
            yield from statements_of(child, function, (*loops, range(child.lineno, child.body[0].lineno)))
        elif function and (isinstance(child, (ast.Assign, ast.AugAssign, ast.Return)) or isinstance(child, ast.AnnAssign) and child.value):
            yield child, function, loops
        elif not isinstance(child, ast.expr):
            yield from statements_of(child, function, loops)


def targets_of(statement):
    """The code that reads what a statement has assigned, target by target; None for a return."""
    if isinstance(statement, ast.Return):
        return None

    def flat(target):
        if isinstance(target, (ast.Tuple, ast.List)):
            return [part for element in target.elts for part in flat(element)]
        return [target.value if isinstance(target, ast.Starred) else target]

    target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
    parts = [ast.unparse(part) for part in flat(target)]
    return [compile(part, "<target>", "eval") for part in parts if part != "_"]


def parse(text):
    """"(B, N, 4), (B, N) px" -> "(B, N, 4), (B, N)", [[B, N, 4], [B, N]] with ast expressions for dimensions."""
    shapes, end = [], 0
    while True:
        start, depth = end, 0
        for end in range(start, len(text)):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            if depth == 0:
                break
        end += 1
        shapes.append(dimensions(text[start:end].strip()))
        comma = re.match(r"\s*,\s*(?=\()", text[end:])
        if not comma:
            break
        end += comma.end()
    words = text[end:]
    if words and not re.match(r"\s+[^\s(,]|[;:]", words):
        raise Mismatch(f'is followed by "{words.strip()}": tuples are separated by commas, words begin after a space, ";" or ":"')
    if re.search(r"\([^()]*,[^()]*\)", words):
        raise Mismatch("has a tuple among its words, where nobody checks it")
    return text[:end], shapes


def dimensions(text):
    """"(B, 2*C)" -> its dimensions as ast expressions."""
    try:
        node = ast.parse(text, mode="eval").body
    except SyntaxError:
        raise Mismatch("is no Python tuple; a comment that begins with a parenthesis is a shape") from None
    if not isinstance(node, ast.Tuple):
        raise Mismatch(f"is no tuple; one dimension is written ({text.strip('()')},)")
    for position, part in enumerate(node.elts):
        plain = all(isinstance(n, (ast.Name, ast.BinOp, ast.UnaryOp, ast.USub, ast.Load, *OPERATIONS)) or isinstance(n, ast.Constant)
                    and type(n.value) is int for n in ast.walk(part))
        if not plain and not (position == 0 and is_dots(part)):
            raise Mismatch(f'has the dimension "{ast.unparse(part)}"; allowed are letters, whole numbers and + - * / //, "..." in front')
    return node.elts


def is_dots(part):
    return isinstance(part, ast.Constant) and part.value is ...


def follow(lines, known, checked, problems):
    """The trace function of one call. A statement has been executed when the next line, or the return, of the same frame comes."""
    letters = {}                                            # name -> (value, loops of the statement that gave it)
    pending, returning = [], []
    headers = {header for group in lines.values() for comment in group for header in comment.loops}

    def look(frame, comments, *returned):
        for comment in comments:
            try:
                values = list(returned) or [eval(target, frame.f_globals, dict(frame.f_locals)) for target in comment.targets]
                checked[comment.where] += compare(comment, values, known, dict(frame.f_locals), letters)
            except Mismatch as reason:
                checked[comment.where] += 1
                problems.setdefault(comment.where, f"{comment.where}: comment says {comment.text}, {reason}")

    def step(frame, event, value):
        nonlocal pending, returning
        if event == "exception":                            # the statement did not come to its end
            pending, returning = [], []
        elif event == "line":
            here = lines.get(frame.f_lineno, [])
            if here is not pending:
                look(frame, [comment for comment in pending if comment.targets is not None])
            for header in headers:
                if frame.f_lineno in header:                # a new turn of this loop
                    for name in [name for name, (_, loops) in letters.items() if header in loops]:
                        del letters[name]
            pending = here
            # kept until the return event: the lines of a `finally` or the end of a `with` may come between
            returning = [comment for comment in here if comment.targets is None] or returning
        elif event == "return":
            look(frame, [comment for comment in pending if comment.targets is not None])
            look(frame, returning, value)
        return step

    return step


def compare(comment, values, known, variables, letters):
    """Compare the values of one executed statement with its comment, binding letters. -> number of tensors compared."""
    shapes, count = comment.shapes, 0
    if len(values) == 1 != len(shapes) and isinstance(values[0], (list, tuple)):
        values = values[0]
    if len(shapes) == 1:
        shapes = shapes * len(values)
    if len(shapes) != len(values):
        raise Mismatch(f"that is {len(shapes)} tuples for {len(values)} values")
    for shape, value in zip(shapes, values):
        elements = tensors_in(value)
        for element in elements:
            if not isinstance(getattr(element, "shape", None), tuple):
                raise Mismatch(f"but the value is {element!r:.60} ({type(element).__name__})")
            alone = element is value                        # else: an element of a list, whose letters are its own
            fit(shape, tuple(element.shape), comment.loops, known, variables, letters if alone else dict(letters))
        count += len(elements)
    return count


def tensors_in(value):
    """What a value holds: itself, or the elements of nested lists, tuples and dicts in order."""
    if isinstance(value, dict):
        value = list(value.values())
    return [tensor for element in value for tensor in tensors_in(element)] if isinstance(value, (list, tuple)) else [value]


def fit(shape, sizes, loops, known, variables, letters):
    """Compare one tuple with the sizes of one tensor; unknown letters get their value (in `letters`). Raises Mismatch."""
    def value_of(name):
        if name in known:
            return known[name]
        if isinstance(variables.get(name), Integral) and not isinstance(variables[name], bool):
            return int(variables[name])
        value, bound_in = letters.get(name, (None, ()))
        return value if bound_in == loops[:len(bound_in)] else None

    def unknown(part):
        return sorted({n.id for n in ast.walk(part) if isinstance(n, ast.Name) and value_of(n.id) is None})

    def difficulty(pair):                                   # checks first, then plain letters, then one letter in an expression
        return 1 if isinstance(pair[0], ast.Name) and unknown(pair[0]) else 2 * len(unknown(pair[0]))

    def wrong(reason):
        values = {n.id: value_of(n.id) for part in shape for n in ast.walk(part) if isinstance(n, ast.Name)}
        return Mismatch(f"tensor is {sizes}: {reason}"
                        + "".join(f"{', ' if i else '; '}{name}={v}" for i, (name, v) in enumerate(values.items()) if v is not None))

    tail, found = shape, sizes
    if shape and is_dots(shape[0]):
        tail = shape[1:]
        found = sizes[max(0, len(sizes) - len(tail)):]
    if len(tail) != len(found):
        raise wrong(f"{len(tail)} dimensions against {len(found)}")
    rest = list(zip(tail, found))
    while rest:
        part, size = pair = min(rest, key=difficulty)
        rest.remove(pair)
        names = unknown(part)
        if len(names) > 1:
            raise wrong(f"{ast.unparse(part)} has the unknown letters {' and '.join(names)}")
        if names:
            value = solve(part, size, names[0], value_of)
            if value is None:
                raise wrong(f"{ast.unparse(part)} = {size} gives no whole {names[0]}")
            letters[names[0]] = (value, loops)
            continue
        value = evaluate(part, value_of)
        if value is None or value.denominator != 1:
            raise wrong(f"{ast.unparse(part)} is not whole")
        if value != size:
            raise wrong(f"{value} is not {size}" if isinstance(part, ast.Constant) else f"{ast.unparse(part)} is {value}, not {size}")


def evaluate(part, value_of):
    """An expression with known letters -> Fraction, or None where it divides by zero."""
    if isinstance(part, ast.Constant):
        return Fraction(part.value)
    if isinstance(part, ast.Name):
        return Fraction(value_of(part.id))
    if isinstance(part, ast.UnaryOp):
        value = evaluate(part.operand, value_of)
        return None if value is None else -value
    sides = evaluate(part.left, value_of), evaluate(part.right, value_of)
    if None in sides or isinstance(part.op, (ast.Div, ast.FloorDiv)) and sides[1] == 0:
        return None
    return OPERATIONS[type(part.op)](*sides)


def solve(part, size, name, value_of):
    """The whole number that makes a linear expression equal to `size`, or None."""
    if isinstance(part, ast.Name):
        return size
    at = [evaluate(part, lambda other, n=n: n if other == name else value_of(other)) for n in (0, 1, 2, 3)]
    if None in at or len({at[1] - at[0], at[2] - at[1], at[3] - at[2]}) > 1 or at[0] == at[1]:
        return None
    value = (size - at[0]) / (at[1] - at[0])
    return int(value) if value.denominator == 1 and value >= 0 else None
