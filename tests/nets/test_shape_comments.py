"""The column of shape comments in nets/ is complete and right; and the checker that says so can say no."""
import functools
import importlib.util
import inspect
import itertools
import re
import sys

import pytest
import torch
from shape_comments import check, unreached
from small_nets import make_thin

import nets
from utils.settings import ROOT, shown

FILES = sorted((ROOT / "nets").rglob("*.py"))
CLASSES = 7                                                 # no other size of a tensor here is 7
# options besides the default ones, without which some lines of a network are not reached
OPTIONS = {"yolov4_tiny": [{"focal": True}], "unet": [{"backbone": "vgg16"}, {"backbone": "resnet50"}],
           "deeplabv3": [{"backbone": "mobilenet_v3_large"}], "deeplabv3plus": [{"backbone": "xception65"}],
           "fcn": [{"backbone": "resnet50"}], "hrnet": [{"ocr": True}], "yolox": [{"l1": True}],
           "efficientdet": [{"size": "d6", "flavour": "plain"}]}
# options for every run of a network: the same lines in less time
FASTER = {"fcn": {"backbone": "mobilenet_v3_large"}, "faster_rcnn": {"proposals": (100, 50), "samples": 32}, "yolox": {"size": "nano"},
          "detr": {"queries": 20, "layers": 1}, "rtdetr": {"queries": 20}}
LEAST = 10                                                  # comments a network file must have (with those it is built on)
SLOW = ("ssd300", "ssd512")                                 # a second an image: one size with objects, the other without targets
# (size, training, objects in the two images): every size, mode and number of objects; the slow tier takes each with each
FEW = ((0, True, (6, 2)), (0, False, (5, 0)), (1, True, (0, 0)), (1, False, (6, 2)), (1, False, None))
EACH = tuple(itertools.product((0, 1), (True, False), ((6, 2), (5, 0), (0, 0), None)))


def input_shapes(network):
    """Two sizes, neither square, one wide and one high: what is equal by chance in one is not in the other."""
    unit = network.stride * -(-32 // network.stride)
    low = max(3, -(-getattr(network, "smallest", 0) // unit))
    return (low * unit, (low + 2) * unit), ((low + 2) * unit, (low + 1) * unit)


def target(task, count, height, width):
    """One image's target with `count` objects, from small to as large as the image. 0 objects in a mask: background and ignored."""
    if task == "segmentation":
        mask = torch.zeros(height, width, dtype=torch.int64)
        mask[: height // 4] = 255
        if count:
            mask[height // 2:] = torch.randint(CLASSES, (height - height // 2, width))
        return {"mask": mask}
    size = torch.tensor([width, height]) * torch.linspace(0.1, 1.0, count)[:, None]
    corner = torch.rand(count, 2) * (torch.tensor([width, height]) - size)
    return {"boxes": torch.cat([corner, corner + size], 1), "labels": torch.randint(CLASSES, (count,))}


def runs_of(name, cases=FEW):
    """What a network is put through: every size, mode, with objects, with one empty image, without any, without targets; every option once."""
    torch.manual_seed(0)
    network = nets.NETS[name]
    for options in [{}, *OPTIONS.get(name, [])]:
        for size, (height, width) in enumerate(input_shapes(network)):
            known = {"B": 2, "K": CLASSES, "H": height, "W": width}
            built = []
            yield known, functools.partial(build_into, built, name, (height, width), FASTER.get(name, {}) | options)
            model = built.pop()
            images = torch.rand(2, 3, height, width)
            once = ((size, True, None if size else (6, 2)),)
            for _, training, counts in (case for case in (once if name in SLOW or options else cases) if case[0] == size):
                model.train(training)
                targets = [target(network.task, count, height, width) for count in counts] if counts else None
                yield known, functools.partial(pass_through, model, images, targets)


def build_into(built, name, input_shape, options):
    """Building a network is a run, too: its anchors are made then."""
    built.append(nets.build(name, CLASSES, input_shape, **options))


@torch.no_grad()
def pass_through(model, images, targets):
    outputs, _ = model(images, targets)
    model.decode(outputs)
    if hasattr(model, "decode_above"):
        model.decode_above(outputs, 0.0)


@functools.cache
def column(name):
    """problems, checked of one network, over all files below nets/. Those with comments in letters may be thin."""
    with pytest.MonkeyPatch.context() as patch:
        make_thin(patch, but="nets.ssd")
        return check(FILES, runs_of(name))


@pytest.mark.parametrize("name", nets.NETS)
def test_column_is_right(name):
    problems, checked = column(name)
    assert not problems, "\n" + "\n".join(problems)
    files = {shown(inspect.getsourcefile(one)) for one in nets.NETS[name].__mro__ if one.__module__.startswith("nets.")}
    own = [where for where, tensors in checked.items() if tensors and where.split(":")[0] in files]
    assert len(own) >= LEAST, f"{files}: only {len(own)} shape comments"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in nets.NETS if name not in SLOW])
def test_column_is_right_in_every_case(name):
    problems, _ = check(FILES, runs_of(name, EACH))
    assert not problems, "\n" + "\n".join(problems)


def test_every_comment_is_reached():
    lost = unreached(*(column(name)[1] for name in nets.NETS))
    assert not lost, "\n" + "\n".join(lost)


def load(path, source):
    """Write a module and import it."""
    path.write_text(source, encoding="utf-8", newline="\n")
    spec = importlib.util.spec_from_file_location("sample", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def verdict(tmp_path):
    """source -> {line: the problem's words}: the module is written, and its function `run` is called under the checker."""
    def judge(source, **known):
        path = tmp_path / "sample 样.py"
        module = load(path, "import numpy as np\nzeros = np.zeros\n" + source)
        problems, checked = check([path], [(known, module.run)] if hasattr(module, "run") else [])
        found = {}
        for problem in problems + unreached(checked):
            line, words = re.match(r".*\.py:(\d+): (.*)", problem).groups()
            found[int(line) - 2] = words                    # -2: lines of `source`, counted from 1
        return found
    return judge


RIGHT = {
    "forms of a statement": """\
class Block:
    def forward(self, x):
        self.kept = x * 2               # (B, 3, h, w)
        y: object = self.kept           # (B, 3, h, w) pixels
        y += 1                          # (B, 3, h, w); in place
        y[:, 0] = 0                     # (B, h, w)
        first, (_, *rest) = y[0, 0], (1, y, y)          # (h, w), (B, 3, h, w)
        scalar = y.sum()                # ()
        flat = y.reshape(               # (B, 3, h*w)
            2, 3, -1)
        flat = zeros(
            flat.shape[1:])             # (3, h*w): on the last line
        return flat, y                  # (3, h*w), (..., w)
def run():
    Block().forward(zeros((2, 3, 4, 5)))
""",
    "known letters": """\
def run():
    x = zeros((2, 10, 4, 6))            # (B, 2*(K+2), H/8, W//8)
    x = zeros((2, -2 + 4))              # (B, -K+5)
""",
    "lists": """\
def run():
    levels = [zeros((2, 8, n, n)) for n in (4, 2)]      # (B, C, n, n) each level
    levels = [zeros((2, 8, n, n)) for n in (4, 2)]      # (B, C, h, w), (B, C, h/2, w/2)
    named = {"a": levels[0], "b": [levels[1]]}          # (B, C, m, m)
    for n in (0, 3):
        boxes = [zeros((n, 4))] * n     # (N, 4) each, also when there are none
""",
    "letters of an expression": """\
def run():
    pooled, skip = zeros((64, 3, 5)), zeros((32, 6, 10))    # (2*C, h/2, w/2), (C, h, w)
    tokens = zeros((60, 32))            # (h*w, C)
    both = zeros((15, 3, 5))            # (m*n, m, n)
    N = True
    some = zeros(4)                     # (N,)
    none = zeros((0, 4))                # (P, 4)
""",
    "a local variable gives the letter": """\
def run():
    for n in (1, 2, 3):
        h, w = n, n + 1
        x = zeros((n, n + 1))           # (h, w)
    h = zeros(3)                        # (T,)
    x = zeros((9, 9))                   # (h, 9)
""",
    "letters of a loop are new in every turn": """\
def run():
    D = zeros((5, 8))                   # (N, D)
    for n in (1, 2):
        for m in (3, 4):
            x = zeros((5, n, m))        # (N, T, m)
            x = zeros((n, m, m))        # (T, P, P)
    n = 0
    while True:
        n += 1
        x = zeros((n, 8))               # (T, D)
        if n == 3:
            break
    x = zeros(9)                        # (T,)
""",
    "every call has its own letters": """\
def half(x, depth):
    y = x[::2, ::2]                     # (h/2, w/2)
    if depth:
        half(y, depth - 1)
    z = zeros(x.shape)                  # (h, w)
    return y                            # (h/2, w/2)
def run():
    half(zeros((8, 16)), 2)
    half(zeros((4, 4)), 0)
""",
    "comprehensions, lambdas, inner and decorated functions": """\
@(lambda function: function)
def run():
    def inner(n):
        return zeros((n, 2))            # (N, 2)
    x = [inner(n)[:, :1] for n in (1, 2, 3) if (lambda k: k)(n)]    # (N, 1) each
    y = sum(map(lambda n: zeros((3,)),  # (3,)
                range(4)))
    z = np.stack([inner(n) for n in
                  (2, 2)])              # (2, N, 2)
""",
    "exceptions": """\
def fails(x):
    y = x.reshape(7)                    # (N,)
def run():
    fails(zeros(7))
    x = zeros(4)                        # (N,)
    try:
        x = zeros(8)                    # (2*N,)
        fails(x)
    except ValueError:
        x = x[:2]                       # (P,)
    for side in (1, 9, 2):
        try:
            x = x.reshape(side, 2 // side)      # (side, T)
        except ValueError:
            continue
    try:
        return x.T                      # (1, 2)
    finally:
        x = None
""",
    "ordinary comments": """\
# a note (B, 3)
STEP = 4                                # pixels (of the input)
def run():                              # see (a, b)
    x = zeros(3)                        # a vector, not (B, 3)
""",
}


@pytest.mark.parametrize("case", RIGHT)
def test_right_comments_pass(case, verdict):
    assert verdict(RIGHT[case], B=2, K=3, H=32, W=48) == {}


# source with the problem in the line that ends in <-, and words of the sentence
WRONG = {
    "wrong size": ("x = zeros((2, 3))  # (B, 4) <-", "tensor is (2, 3): 4 is not 3"),
    "wrong letter": ("x = zeros((2, 3))  # (B, K) <-", "K is 5, not 3; B=2, K=5"),
    "too few dimensions": ("x = zeros((2, 3))  # (B,) <-", "1 dimensions against 2"),
    "dots and too many": ("x = zeros(3)  # (..., 4, 3) <-", "2 dimensions against 1"),
    "unreached": ("if not zeros:\n    x = zeros(3)  # (3,) <-", "no run reached"),
    "beside a call": ("zeros(3)  # (3,) <-", "beside no assignment"),
    "on its own line": ("# (3,) <-\nx = zeros(3)", "beside no assignment"),
    "beside an if": ("if zeros:  # (3,) <-\n    x = zeros(3)", "beside no assignment"),
    "in the middle of a statement": ("x = zeros(\n  3  # (3,) <-\n  )", "beside no assignment"),
    "inconsistent in a call": ("x = zeros((5, 4))  # (N, 4)\ny = zeros(6)  # (N,) <-", "N is 5, not 6; N=5"),
    "inconsistent in one comment": ("x, y = zeros(5), zeros(6)  # (N,), (N,) <-", "N is 5, not 6"),
    "inconsistent in one turn": ("for n in (5, 6):\n    x = zeros(n)  # (N,)\n    y = zeros(5)  # (N,) <-", "N is 6, not 5"),
    "third turn": ("for n in (3, 3, 4):\n    x = zeros(n)  # (3,) <-", "tensor is (4,)"),
    "second call": ("def f(n):\n    x = zeros(n)  # (3,) <-\nf(3)\nf(4)", "tensor is (4,)"),
    "after an inner call": ("def f(n):\n    x = zeros(n)  # (N,)\n    if n: f(0)\n    y = zeros(0)  # (N,) <-\nf(2)", "N is 2, not 0"),
    "division not whole": ("h = 7\nx = zeros((3, 7))  # (h/2, h) <-", "h / 2 is not whole"),
    "division by zero": ("h = 0\nx = zeros(3)  # (3/h,) <-", "3 / h is not whole"),
    "unknown not whole": ("x = zeros(7)  # (2*C,) <-", "2 * C = 7 gives no whole C"),
    "unknown not linear": ("x = zeros(9)  # (C*C,) <-", "gives no whole C"),
    "unknown that cancels out": ("x = zeros(1)  # (C-C,) <-", "gives no whole C"),
    "two unknowns": ("x = zeros(12)  # (h*w,) <-", "has the unknown letters h and w"),
    "local that is no number": ("N = 'a'\nx = zeros((3, 4))  # (N, N) <-", "N is 3, not 4"),
    "return": ("return zeros(3)  # (4,) <-", "tensor is (3,)"),
    "return through finally": ("try:\n    return zeros(3)  # (4,) <-\nfinally:\n    x = 1", "tensor is (3,)"),
    "last line before an error": ("try:\n    x = zeros(3)  # (4,) <-\n    1 / 0\nexcept ZeroDivisionError:\n    pass", "tensor is (3,)"),
    "statement that failed": ("try:\n    x = zeros(3).reshape(7)  # (7,) <-\nexcept ValueError:\n    pass", "no run reached"),
    "return that failed": ("try:\n    return zeros(3).reshape(7)  # (7,) <-\nexcept ValueError:\n    pass", "no run reached"),
    "element of a list": ("x = [zeros(3), zeros(4)]  # (3,) <-", "tensor is (4,)"),
    "an empty list shows nothing": ("x = [zeros(n) for n in ()]  # (3,) <-", "no run reached"),
    "number of tuples": ("x = [zeros(3), zeros(3)]  # (3,), (3,), (3,) <-", "3 tuples for 2 values"),
    "no tensor": ("x = zeros(3).shape  # (3,) <-", "the value is 3 (int)"),
    "None": ("x = None  # (3,) <-", "the value is None"),
    "missing comma inside": ("x = zeros((2, 3))  # (B 3) <-", "no Python tuple"),
    "missing comma between": ("x, y = zeros(2), zeros(3)  # (B,) (3,) <-", 'is followed by "(3,)'),
    "tuple among the words": ("x = zeros((2, 3))  # (B, 3) or (3, B) <-", "among its words"),
    "no tuple": ("x = zeros(2)  # (B) <-", "one dimension is written (B,)"),
    "unclosed": ("x = zeros(2)  # (B, <-", "no Python tuple"),
    "a call in it": ("x = zeros(2)  # (len(x),) <-", 'dimension "len(x)"'),
    "dots behind": ("x = zeros((2, 3))  # (B, ...) <-", 'dimension "..."'),
}


@pytest.mark.parametrize("case", WRONG)
def test_problems_are_reported_on_their_line(case, verdict):
    body, words = WRONG[case]
    source = "def run():\n" + "".join(f"    {line}\n" for line in body.split("\n"))
    line = next(number for number, text in enumerate(source.split("\n"), 1) if text.endswith("<-"))
    found = verdict(source.replace(" <-", ""), B=2, K=5)
    assert list(found) == [line]
    assert words in found[line]


def test_a_comment_outside_functions_is_a_problem(verdict):
    assert list(verdict("MEAN = zeros(3)  # (3,)\nclass A:\n    mean = zeros(3)  # (3,)\n")) == [1, 3]


def test_runs_add_up(tmp_path):
    """A comment is lost only if no run of any check came by; a wrong one is reported once, with its first mismatch."""
    path = tmp_path / "sample.py"
    module = load(path, "class T:\n    shape = (3,)\ndef f(n):\n    if n == 1:\n        x = T()  # (3,)\n    elif n == 2:\n"
                        "        x = T()  # (3,)\n    else:\n        x = T()  # (N, 4)\n")
    one = check([path], [({}, lambda: module.f(1))])
    many = check([path], (({"N": n}, lambda n=n: module.f(n)) for n in (2, 3, 4)))
    assert one[0] == [] and len(unreached(one[1])) == 2
    assert len(many[0]) == 1 and many[0][0].endswith(":9: comment says (N, 4), tensor is (3,): 2 dimensions against 1; N=3")
    assert unreached(one[1], many[1]) == []


def test_an_error_of_the_network_is_not_swallowed_and_tracing_ends():
    before = sys.gettrace()
    with pytest.raises(ZeroDivisionError):
        check([], [({}, lambda: 1 / 0)])
    assert sys.gettrace() is before


def test_two_files_with_the_same_code_are_two(tmp_path):
    source = "class T:\n    shape = (3,)\ndef f():\n    return T()  # (3,)\n"
    paths = [tmp_path / "a.py", tmp_path / "b.py"]
    modules = [load(paths[0], source), load(paths[1], source.replace("# (3,)", "# (4,)"))]
    problems, checked = check(paths, [({}, module.f) for module in modules])
    assert len(problems) == 1 and "/b.py:4: comment says (4,)" in problems[0]
    assert list(checked.values()) == [1, 1]
