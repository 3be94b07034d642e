"""Every sentence that the source can print, as a template: "{1} holds no images." Read from the source, nothing is executed."""
import ast
import functools
import re
from pathlib import Path

from utils.language import MARGIN

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("utils", "nets", "tools", "plainvision")
# What is written into pictures, as matplotlib and labels draw it, is not what a terminal shows; tools/reading.py is for those who change the code.
PICTURES = ("utils/results/plots.py", "utils/checks/data_page.py", "utils/results/misses.py", "utils/results/encoder.py",
            "utils/language.py", "tools/reading.py")
# Strings that nobody reads: patterns, addresses, commands alone, names of tensors, headers, lists of names, words of other programs' errors.
NOT_SAID = re.compile(r"""^https?:// | \(\?P?[<:] | \\d | <PlainVision | ^<\w+>\w | ^<(filename|source|size|xmin|name|bndbox) | ^\w+\ =\ "\{1\}"$ | %Y
    | ^(backbone|head|import|torch\.save|default-src|Content-|Accept:|text/html|multipart|body\ |path\ body|net,\ net_options|\#\ )
    | ^(python\ [\w/]+\.py|"\{1\}"\ -m\ pip|\{1\}\ (un)?install)
      (?!.*(makes|lists|writes|includes|without|resizes|turns|to\ see|to\ measure|\.py\]|trains))
    | ^(tta\ flip|output\ out|traffic\ (light|sign)|x\ y\ width\ height|kind\ place\ group\ name|"Labeled\ Data"|\w+=\w+|val\ loss)$
    | ^(annot|can't)\ allocate | ^Cannot\ allocate | ^(out\ of\ memory|bad\ allocation|failed\ to\ map\ segment|new\ thread|nsufficient\ memory)$
    | ^(worker\ exited|shared\ memory|paging\ file|score\ label\ only|axes\ fraction|upper\ left|Raw\ profile.*|more\ than\ 1\ value\ per.*)$
    | ^(could\ not\ find\ expected.*|another\ document|unknown\ escape|mapping\ values|cannot\ start\ any\ token|character\ '.*)$
    | ^(list_path\ train_list|confidence\ score_threshold|save_labels\ save_json|dataset\ list_path|foreign\ code|height\ and\ width)$
    | ^(Timed\ out|Broken\ pipe|Bus\ error|System\ Volume\ Information|torchvision,\ BSD.*|RGB,\ 0\ to\ 1:.*)$
    | ^(Python\ \{1\},.*|\{1\}(\ \{2\}\ order|\ grain|\ and\ \{2\}|\ like\ \{2\}|\ values|\ numbers))$""", re.X)

VALUE = "\0"                                            # stands for a value while a template is put together


def text_of(node):
    """The template of an expression that is text, with VALUE for every value in it; None: it is no text."""
    if isinstance(node, ast.Constant):
        return with_values(node.value) if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else VALUE for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = text_of(node.left), text_of(node.right)
        if left is not None or right is not None:
            return (VALUE if left is None else left) + (VALUE if right is None else right)
    return None


def with_values(text):
    """Text that str.format fills: "{folder} holds {{255: 1}}"; other braces stay."""
    filled = re.sub(r"(?<!\{)\{(\w*)(:[.\w]*)?\}(?!\})", VALUE, text)
    return filled.replace("{{", "{").replace("}}", "}") if filled != text or "{{" in text else text


def values_in(node):
    """The expressions whose values stand in a template: they can be sentences themselves."""
    if isinstance(node, ast.JoinedStr):
        return [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
    if isinstance(node, ast.BinOp):
        return [inner for side in (node.left, node.right)
                for inner in (values_in(side) if text_of(side) is not None else [side])]
    return []


def texts(tree):
    """-> (line, template) of all text in a tree, without docstrings."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        template = text_of(node)
        if template is not None:
            yield node.lineno, template
            waiting += values_in(node)
        elif not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
            waiting += ast.iter_child_nodes(node)


def numbered(template):
    """Its values get numbers, in the order of the English sentence: "{1} of {2}"."""
    parts = template.split(VALUE)
    return parts[0] + "".join(f"{{{number}}}{part}" for number, part in enumerate(parts[1:], 1))


def is_sentence(text):
    """Two words or more, or one beside a value: another word alone is a name or a key."""
    if " " not in text.strip():
        return False
    words = re.findall(r"(?<![\w/.=-])[A-Za-z]?[a-z]{2,}(?![\w/=(])|\b[a-z]\b", re.sub(r"\{\d*\}", " ", text))
    enough = len(words) > 1 or "docs/en/" in text or "{1}" in text and any(len(word) > 3 for word in words)
    return enough and not NOT_SAID.search(text.strip())


def sources():
    return [*sorted(ROOT.glob("*.py")), *sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]


@functools.cache
def sentences():
    """-> dict template -> the first place of it, like "utils/lists.py:96"; one line of a text of several is one sentence."""
    found = {}
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        if name in PICTURES:
            continue
        for line, text in texts(ast.parse(path.read_bytes())):
            for part in text.split("\n"):
                if is_sentence(numbered(part)):
                    found.setdefault(MARGIN.sub("", numbered(part).strip(), count=1), f"{name}:{line}")
    return found
