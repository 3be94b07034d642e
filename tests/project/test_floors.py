"""What may import what, what may stand at the top of a script, what must not be called: read from the source, nothing is executed."""
import ast
import io
import re
import tokenize

import pytest

from utils.settings import ROOT

SCRIPTS = {path.stem for path in ROOT.glob("*.py")}
FOLDERS = ("utils", "nets", "plainvision", "tools", "recipes", "benchmarks", "docs")
# Every room and its floor; of a module the longest name that fits counts, and no import goes to a larger number.
# A library is below all of them, a script of the root is on the floor of the tools.
ROOMS = {"utils.errors": 0, "utils.help": 0, "utils.language": 0, "utils.peers": 0, "utils.settings": 0, "utils.system": 1,
         "utils": 2, "utils.results": 3, "utils.formats": 4, "utils.checks": 5, "utils.training": 6, "nets": 7, "utils.prediction": 8,
         "tools": 9, "plainvision": 9, "recipes": 10, "benchmarks": 10, "docs": 10, "tests": 10}
SHARED = ("layers", "backbones")                            # below nets/, for every network
PURE = {"bool", "dict", "enumerate", "float", "frozenset", "int", "len", "list", "max", "min", "range", "round", "set", "sorted", "str",
        "sum", "tuple", "zip"}                              # what the top of a script may call: it only computes
DECODERS = ("cv2.imdecode", "PIL.Image.open", "torchvision.io")
YAML = ("yaml.compose", "yaml.BaseLoader", "yaml.AliasEvent", "yaml.ScalarNode", "yaml.SequenceNode", "yaml.MappingNode", "yaml.YAMLError",
        "yaml.MarkedYAMLError", "yaml.reader")              # none of these constructs anything of what a file says
BANNED = {
    **dict.fromkeys(("cv2.imread", "cv2.imwrite"), "fails without a word on a path it cannot encode; see utils/images.py, utils/results/media.py"),
    **dict.fromkeys(DECODERS, "only utils/images.py opens images"),
    "torch.load": "only utils/checkpoint.py loads, always with weights_only=True",
    **dict.fromkeys(("pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"), "executes what is in the file"),
    "yaml": "can execute what is in the file; only utils/formats/yaml_file.py reads YAML, and constructs nothing of it",
    **dict.fromkeys(("os.system", "os.popen"), "a file name becomes a command; use subprocess.run with a list"),
    **dict.fromkeys(("matplotlib.pyplot", "matplotlib.pylab", "pylab"), "global state and a display; use matplotlib.figure.Figure"),
    **dict.fromkeys(("eval", "exec"), "executes text"),
}
# names that NumPy has not had in all versions from 1.26 to 2.4
NUMPY = """int float bool object str complex long ulong unicode
    float_ complex_ string_ unicode_ cfloat longfloat singlecomplex clongfloat longcomplex
    Inf Infinity infty NaN NAN PINF NINF PZERO NZERO alltrue sometrue product cumproduct round_ in1d trapz msort mat asfarray cast
    find_common_type issubclass_ issubsctype issctype obj2sctype sctype2char maximum_sctype sctypes compat disp deprecate lookfor who source
    safe_eval recfromcsv recfromtxt byte_bounds set_string_function format_parser RankWarning DataSource
    acos acosh asin asinh atan atan2 atanh astype bitwise_count bitwise_invert bitwise_left_shift bitwise_right_shift concat cumulative_prod
    cumulative_sum isdtype matrix_transpose matvec permute_dims pow trapezoid unique_all unique_counts unique_inverse unique_values unstack
    vecdot vecmat"""
BANNED.update((f"numpy.{name}", "is not in every supported NumPy") for name in NUMPY.split())
PILLOW = ("textsize", "multiline_textsize", "getsize", "getsize_multiline", "getoffset", "ANTIALIAS")      # gone since Pillow 10


def imported(tree, path):
    """(line, full dotted name) of everything a file imports; relative imports are resolved by its path."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.split("/")[:-node.level] if node.level else []
            base = [*package, *([node.module] if node.module else [])]
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)


def network_order(source):
    """The network files in the order of the dict NETS in nets/__init__.py: ["yolov3", "yolov4", ...]."""
    tree = ast.parse(source)
    home = {alias.asname or alias.name: node.module.removeprefix("nets").strip(".") or alias.name
            for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module for alias in node.names}
    (table,) = (node.value for node in tree.body if isinstance(node, (ast.Assign, ast.AnnAssign))
                and ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target) == "NETS")
    return list(dict.fromkeys(home[ast.unparse(value).split(".")[0]] for value in table.values))


def floor_of(module, default=-1):
    """The floor of a module, like "utils.results.draw"."""
    fitting = [room for room in ROOMS if f"{module}.".startswith(f"{room}.")]
    if fitting:
        return ROOMS[max(fitting, key=len)]
    return ROOMS["tools"] if module.split(".")[0] in SCRIPTS else default


def upward(source, path, order):
    """Imports that go up a floor, from a script to a script, or between networks against the order of the papers."""
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    own, rest = floor_of(module, ROOMS["tools"]), path.removesuffix(".py").partition("/")[2]
    for line, name in imported(ast.parse(source), path):
        # The package shares its own files, and knows the rooms by a longer name.
        if rest and path.startswith("plainvision/"):
            name = re.sub(r"^plainvision\.(?=(utils|nets)\b)", "", name)
            if name.startswith("plainvision"):
                continue
        parts = name.split(".")[1:]
        floor = floor_of(name)
        if floor > own:
            yield line, f"imports {name}, which stands above it"
        elif own == floor == ROOMS["tools"]:
            yield line, f"imports {name}: scripts and tools share nothing with each other, only with utils and nets"
        elif own == floor == ROOMS["nets"] and rest != "__init__":
            if not parts or parts[0] not in (*SHARED, *order):
                yield line, f"imports {name}: from nets only layers, backbones and networks of NETS"
            elif parts[0] in order and rest not in order[order.index(parts[0]) + 1:]:
                yield line, f"imports {name}, which does not come earlier in NETS"


def effects(source, path):
    """Statements at the top of a script that do more than define something."""
    def plain(node):
        return all(ast.unparse(part.func) in PURE for part in ast.walk(node) if isinstance(part, ast.Call))

    for node in ast.parse(source).body:
        text = ast.unparse(node).split("\n")[0]
        if isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)):
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            continue
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value and plain(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if all(isinstance(part, (ast.Name, ast.Tuple, ast.Store)) for target in targets for part in ast.walk(target)):
                continue
        if text == "if __name__ == '__main__':" and not node.orelse:
            continue
        if "/" in path and text.startswith("sys.path.insert(0, str(Path(__file__)."):
            continue                                        # a file in tools/ has to find utils/
        yield node.lineno, f"does something on import: {text[:60]}"


def banned(source, path):
    """Calls and names that the project does without (the table BANNED and what is no matter of names)."""
    tree = ast.parse(source)
    real = {}                                               # the name in this file -> the full name
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            real.update((alias.asname or alias.name.split(".")[0], alias.name if alias.asname else alias.name.split(".")[0])
                        for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            real.update((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)

    def full(node):
        if isinstance(node, ast.Attribute):
            return f"{full(node.value)}.{node.attr}"
        return real.get(node.id, node.id) if isinstance(node, ast.Name) else "?"

    found = list(imported(tree, path))
    right = set()                                           # the one way in which torch.load may stand
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            words = {word.arg: word.value for word in node.keywords}
            if path == "utils/checkpoint.py" and full(node.func) == "torch.load" and is_literal(words.get("weights_only"), True):
                right.add(node.func)
            for word, why in (("shell", "a file name becomes a command"), ("allow_pickle", "executes what is in the file")):
                if word in words and not is_literal(words[word], False):
                    yield node.lineno, f"{word}={ast.unparse(words[word])}: {why}"
        elif isinstance(node, (ast.Attribute, ast.Name)) and node not in right:
            found.append((node.lineno, full(node)))
            if isinstance(node, ast.Attribute) and node.attr in PILLOW and not full(node).startswith("os.path."):
                yield node.lineno, f"{full(node)}: Pillow has it no more"
        elif isinstance(node, ast.ExceptHandler) and node.type is None:
            yield node.lineno, "bare except: hides every mistake, and Ctrl-C"
    for line, name in found:
        for key, why in BANNED.items():
            if (name == key or name.startswith(key + ".")) and not allowed(name, path):
                yield line, f"{name}: {why}"


def allowed(name, path):
    """Exceptions to BANNED. `import pickle` for the error that torch.load raises is no unpickling."""
    if path == "utils/formats/yaml_file.py" and (name == "yaml" or name.startswith("yaml.")):
        return name == "yaml" or any(name == safe or name.startswith(safe + ".") for safe in YAML)
    return path == "utils/images.py" and name.startswith(DECODERS) or name in ("pickle", "pickle.UnpicklingError")


def is_literal(node, value):
    return isinstance(node, ast.Constant) and node.value is value


def uncommented(source, path):
    """Settable variables of a script without an English comment and a Chinese half-line after it."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        for name in [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]:
            both = comments.get(node.lineno, "") + comments.get(node.end_lineno, "") * (node.end_lineno > node.lineno)
            if name.islower() and not name.startswith("_") and not re.match(r"#[^\u4e00-\u9fff]*[A-Za-z]{2}.*[\u4e00-\u9fff]", both):
                yield node.lineno, f"{name} needs a comment in English and then in Chinese"


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def judge(rule, paths, *more):
    """A rule over files -> "file:line: sentence", each once."""
    return sorted({f"{path}:{line}: {words}" for path in paths for line, words in rule(read(path), path, *more)})


PROJECT = sorted(path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")) \
    + sorted(f"{name}.py" for name in SCRIPTS)
STARTED = [path for path in PROJECT if "/" not in path or path.split("/")[0] in ("tools", "recipes", "benchmarks")]
REAL = {
    upward: (PROJECT, network_order(read("nets/__init__.py"))),
    banned: (PROJECT,),
    effects: (STARTED,),
    uncommented: ([path for path in PROJECT if "/" not in path or path.startswith("tools/")],),
}


@pytest.mark.parametrize("rule", REAL, ids=lambda rule: rule.__name__)
def test_project(rule):
    problems = judge(rule, *REAL[rule])
    assert not problems, "\n" + "\n".join(problems)


def test_the_rules_see_the_project():
    """A rule that is given no files finds nothing: the list itself is looked at."""
    assert {"train.py", "predict.py", "get_map.py", "get_miou.py", "utils/images.py", "utils/checkpoint.py", "nets/yolov4_tiny.py",
            "tools/make_shapes.py"} <= set(PROJECT)
    assert {"train.py", "tools/make_shapes.py"} <= set(REAL[uncommented][0]) <= set(STARTED)
    assert "yolov4_tiny" in REAL[upward][1]


ORDER = ["yolov3", "yolov4", "ssd"]
# rule, file, source; the problem's line ends in <-
BAD = [
    (upward, "utils/a.py", "import nets  # <-"),
    (upward, "utils/a.py", "import os\ndef f():\n    from nets.layers import conv  # <-"),
    (upward, "utils/a.py", "import train  # <-"),
    (upward, "utils/a.py", "from tools.make_shapes import draw  # <-"),
    (upward, "utils/a.py", "from ..nets import layers  # <-"),
    (upward, "utils/a.py", "from utils.results import draw  # <-"),
    (upward, "utils/settings.py", "from utils.images import open_image  # <-"),
    (upward, "utils/system/a.py", "from utils import lists  # <-"),
    (upward, "utils/results/a.py", "from utils.formats.yolo import read_yolo  # <-"),
    (upward, "utils/formats/a.py", "import utils.checks.folder  # <-"),
    (upward, "utils/checks/a.py", "from ..training import log  # <-"),
    (upward, "utils/training/a.py", "from nets import build  # <-"),
    (upward, "nets/ssd.py", "from utils.prediction import engine  # <-"),
    (upward, "utils/prediction/a.py", "from predict import main  # <-"),
    (upward, "predict.py", "from train import save  # <-"),
    (upward, "train.py", "from tools.make_shapes import folder  # <-"),
    (upward, "tools/a.py", "from tools.export import write  # <-"),
    (upward, "nets/ssd.py", "import train  # <-"),
    (upward, "nets/ssd.py", "import nets  # <-"),
    (upward, "nets/ssd.py", "from nets import build  # <-"),
    (upward, "nets/ssd.py", "from . import ssd  # <-"),
    (upward, "nets/yolov3.py", "from nets.yolov4 import x  # <-"),
    (upward, "nets/yolov3.py", "from .ssd import x  # <-"),
    (upward, "nets/layers.py", "from nets.yolov3 import x  # <-"),
    (upward, "nets/backbones/vgg.py", "from nets.yolov3 import x  # <-"),
    (upward, "nets/not_in_nets.py", "from nets.yolov3 import x  # <-"),
    (upward, "train.py", "import benchmarks.speed  # <-"),
    (effects, "train.py", "print(1)  # <-"),
    (effects, "train.py", "x = open('a')  # <-"),
    (effects, "train.py", "x = [f(i) for i in range(3)]  # <-"),
    (effects, "train.py", "for i in range(3):  # <-\n    x = i"),
    (effects, "train.py", "import os\nos.environ['A'] = '1'  # <-"),
    (effects, "train.py", "import os\nos.sep = '1'  # <-"),
    (effects, "train.py", "if True:  # <-\n    x = 1"),
    (effects, "train.py", "try:  # <-\n    import a\nexcept ImportError:\n    a = None"),
    (effects, "train.py", "sys.path.insert(0, str(Path(__file__).parent))  # <-"),
    (effects, "train.py", "if __name__ == '__main__':  # <-\n    main()\nelse:\n    main()"),
    (effects, "tools/a.py", "sys.path.append('/tmp')  # <-"),
    (effects, "tools/a.py", "main()  # <-"),
    (banned, "utils/a.py", "import cv2\ncv2.imread('a')  # <-"),
    (banned, "utils/images.py", "import cv2 as c\nc.imread('a')  # <-"),
    (banned, "utils/a.py", "from cv2 import imwrite  # <-"),
    (banned, "utils/a.py", "import cv2\nx = cv2.imdecode(b, 1)  # <-"),
    (banned, "utils/a.py", "from PIL import Image\nImage.open('a')  # <-"),
    (banned, "train.py", "import torch\ntorch.load('a', weights_only=True)  # <-"),
    (banned, "utils/checkpoint.py", "import torch\ntorch.load('a')  # <-"),
    (banned, "utils/checkpoint.py", "import torch\ntorch.load('a', weights_only=False)  # <-"),
    (banned, "utils/checkpoint.py", "import torch\nsafe = True\ntorch.load('a', weights_only=safe)  # <-"),
    (banned, "utils/checkpoint.py", "import torch\nread = torch.load  # <-"),
    (banned, "nets/a.py", "from torch import load as read  # <-"),
    (banned, "utils/a.py", "import pickle\npickle.loads(b)  # <-"),
    (banned, "utils/a.py", "from pickle import load  # <-"),
    (banned, "utils/formats/yaml_file.py", "import yaml\nyaml.load(text)  # <-"),
    (banned, "utils/formats/yaml_file.py", "import yaml\nyaml.load(text, Loader=yaml.BaseLoader)  # <-"),
    (banned, "utils/formats/yaml_file.py", "import yaml\nyaml.unsafe_load_all(text)  # <-"),
    (banned, "utils/formats/yaml_file.py", "import yaml\nyaml.compose(text, Loader=yaml.Loader)  # <-"),
    (banned, "utils/formats/yaml_file.py", "import yaml as y\nread = y.full_load  # <-"),
    (banned, "utils/formats/yaml_file.py", "from yaml import load  # <-"),
    (banned, "utils/a.py", "import yaml  # <-"),
    (banned, "utils/a.py", "import numpy as np\nnp.load('a', allow_pickle=True)  # <-"),
    (banned, "utils/a.py", "import os\nos.system('ls')  # <-"),
    (banned, "utils/a.py", "import subprocess\nsubprocess.run('ls', shell=True)  # <-"),
    (banned, "utils/a.py", "try:\n    f()\nexcept:  # <-\n    pass"),
    (banned, "utils/a.py", "eval('1')  # <-"),
    (banned, "utils/a.py", "exec('x = 1')  # <-"),
    (banned, "utils/a.py", "import matplotlib.pyplot as plt  # <-"),
    (banned, "utils/a.py", "from matplotlib import pyplot  # <-"),
    (banned, "utils/a.py", "import numpy as np\nx = a.astype(np.int)  # <-"),
    (banned, "utils/a.py", "from numpy import trapz  # <-"),
    (banned, "utils/a.py", "size = draw.textsize('a')  # <-"),
    (banned, "utils/a.py", "size = ImageFont.truetype('a').getsize('a')  # <-"),
    (banned, "utils/a.py", "from PIL import Image\nx.resize((1, 1), Image.ANTIALIAS)  # <-"),
    (uncommented, "train.py", "epochs = 3  # <-"),
    (uncommented, "train.py", "epochs = 3  # passes over the images <-"),
    (uncommented, "train.py", "epochs = 3  # 训练轮数 <-"),
    (uncommented, "train.py", "epochs = 3  # 训练轮数 passes <-"),
    (uncommented, "train.py", "# passes  轮数\nepochs: int = 3  # <-"),
    (uncommented, "train.py", "epochs = [  # <-\n    3,  # passes  轮数\n]"),
]
GOOD = [
    (upward, "utils/a.py", "import torch\nfrom utils import boxes\nfrom . import errors"),
    (upward, "nets/yolov4.py", "from nets.yolov3 import Darknet\nfrom nets import layers\n"
                              "from .backbones.vgg import VGG\nfrom utils import boxes"),
    (upward, "nets/__init__.py", "from nets.ssd import SSD"),
    (upward, "train.py", "import nets\nfrom utils.formats.shapes import make_shapes\nfrom utils.training import log"),
    (upward, "utils/checks/a.py", "from utils.formats import yolo\nfrom utils import lists, settings\nfrom . import folder"),
    (upward, "utils/lists.py", "from utils.system.files import write_text\nfrom utils.settings import find"),
    (effects, "train.py", '"""Doc."""\nimport os\nlr = -1e-3\nsize = (2 * 8, 8)\nN = sum(i for i in range(3))\na, b = 1, 2'),
    (effects, "train.py", '@wrap(1)\ndef main():\n    print(1)\nclass A:\n    pass\nif __name__ == "__main__":\n    main()'),
    (effects, "tools/a.py", "import sys\nsys.path.insert(0, str(Path(__file__).resolve().parent.parent))"),
    (banned, "utils/images.py", "import cv2\nfrom PIL import Image\ncv2.imdecode(b, 1)\nImage.open('a')"),
    (banned, "utils/formats/yaml_file.py", "import yaml\nyaml.compose(text, Loader=yaml.BaseLoader)\nyaml.reader.ReaderError"),
    (banned, "utils/checkpoint.py", "import pickle\nimport torch\ntry:\n    torch.load('a', weights_only=True)\n"
                                    "except pickle.UnpicklingError:\n    pass"),
    (banned, "utils/a.py", "import os\nimport numpy as np\nmodel.eval()\nos.path.getsize('a')\nnp.int64(3)\n"
                           "np.load('a')\nload('a')\nimages.open('a')"),
    (uncommented, "train.py", "lr = 0.1  # learning rate  学习率\nLIMIT = 3\n_x = 1\nsizes = [\n    1,\n]  # pixels  尺寸"),
]


@pytest.mark.parametrize("rule, path, source", BAD)
def test_bad_samples_are_found(rule, path, source):
    lines = source.split("\n")
    expected = next(number for number, line in enumerate(lines, 1) if line.endswith("<-"))
    found = {line for line, _ in rule(source.replace("  # <-", "").replace(" <-", ""), path, *([ORDER] if rule is upward else []))}
    assert found == {expected}


@pytest.mark.parametrize("rule, path, source", GOOD)
def test_good_samples_pass(rule, path, source):
    assert list(rule(source, path, *([ORDER] if rule is upward else []))) == []


@pytest.mark.parametrize("source", [
    "from nets.yolov3 import YOLOv3\nfrom nets.ssd import SSD\nNETS = {'yolov3': YOLOv3, 'ssd300': SSD, 'ssd512': SSD}",
    "from nets import ssd, yolov3\nNETS = {'yolov3': yolov3.YOLOv3, 'ssd': ssd.SSD}",
    "from .ssd import SSD\nfrom .yolov3 import YOLOv3\nNETS: dict[str, type] = {'yolov3': YOLOv3, 'ssd': SSD}",
])
def test_network_order(source):
    assert network_order(source) == ["yolov3", "ssd"]
