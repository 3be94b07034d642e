"""Variables <-> recipe <-> command line."""
import subprocess
import sys

import pytest

from utils import settings
from utils.errors import UserError, did_you_mean


def script(**changes):
    return {"__file__": "train.py", "epochs": 30, "lr": 0.01, "net": "yolov4_tiny", "ema": True, "input_shape": (224, 224), "momentum": None,
            "net_options": {}, "NETS": 3, "_hidden": 1, "main": print} | changes


def read(*words, **changes):
    return settings.read_settings(script(**changes), list(words))


@pytest.mark.parametrize("word, name, value", [
    ("epochs=5", "epochs", 5), ("lr=1", "lr", 1.0), ("lr=1e-3", "lr", 0.001), ("net=ssd300", "net", "ssd300"), ("net=123", "net", "123"),
    ("ema=false", "ema", False), ("input_shape=320", "input_shape", (320, 320)), ("input_shape=320,416", "input_shape", (320, 416)),
    ("input_shape=[320, 416]", "input_shape", (320, 416)), ("momentum=0.9", "momentum", 0.9), ("lr=None", "lr", None),
    ("input_shape=320x416", "input_shape", (320, 416)), ("input_shape='[320, 416]'", "input_shape", (320, 416)),
    ("net_options={'focal': True}", "net_options", {"focal": True}), ("net=a=b", "net", "a=b"), ("net='a b'", "net", "a b")])
def test_words(word, name, value):
    found = getattr(read(word), name)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("word, sentence", [
    ("epoch=5", 'no variable "epoch".*Did you mean "epochs"'), ("NETS=5", "no variable"), ("_hidden=2", "no variable"), ("main=1", "no variable"),
    ("epochs=five", "epochs='five': expected a whole number"), ("epochs=2.5", "expected a whole number"), ("ema=1", "expected True or False"),
    ("--epochs", "without dashes and with =, like  python train.py epochs="), ("--lr0=0.1", "python train.py lr=..."),
    ("imgsz=320", 'what other programs call "imgsz" is called input_shape here'), ("lr0=0.1", "is called lr here"),
    ("50", "a number without a name.*epochs=50"), ("0.5", "a number without a name"),
    ("lr=quick", "expected a number"), ("lr=True", "expected a number"), ("fast", "neither name=value nor a recipe")])
def test_wrong_words(word, sentence):
    with pytest.raises(UserError, match=sentence):
        read(word)


def test_recipe_and_order(tmp_path):
    recipe = tmp_path / "my recipe.py"
    recipe.write_text('"""Mine."""\n# more\nepochs = 7\nlr = 0.5\ninput_shape = [96, 64]\n', encoding="utf-8")
    s = read(str(recipe), "lr=0.25")
    assert (s.epochs, s.lr, s.input_shape) == (7, 0.25, (96, 64))
    assert s.origin["epochs"].endswith("my recipe.py") and s.origin["lr"] == "command line" and s.origin["net"] == "train.py"
    table = settings.as_table(s)
    assert "0.25" in table and "my recipe.py" in table


def test_a_later_word_need_not_be_like_an_earlier_one():
    """What counts is the line in the script."""
    assert read("momentum=1", "momentum=0.8,0.9").momentum == (0.8, 0.9)         # None in the script: any kind
    assert read("lr=None", "lr=1").lr == 1.0
    with pytest.raises(UserError, match="expected a number"):
        read("lr=None", "lr=quick")


@pytest.mark.parametrize("text, sentence", [
    ("import os\n", "line 1: a recipe holds only"), ("epochs = 3\nlr = print('x')\n", "line 2"), ("epochs = \n", "line 1: not Python"),
    ("epoch = 3\n", 'Did you mean "epochs"')])
def test_wrong_recipes(tmp_path, text, sentence):
    (tmp_path / "r.py").write_text(text)
    with pytest.raises(UserError, match=sentence):
        read(str(tmp_path / "r.py"))


def test_missing_recipe_names_the_nearest():
    with pytest.raises(UserError, match="recipes/voc2007.py"):
        read("recipes/voc2008.py")


def test_fill():
    s = read("lr=0.5")
    settings.fill(s, {"lr": 0.01, "momentum": 0.937, "nms_iou": 0.5}, "recipe of x")
    assert "nms_iou" not in s and not hasattr(s, "nms_iou")             # no variable of this script
    assert s.lr == 0.5 and s.momentum == 0.937 and s.origin["momentum"] == "recipe of x"
    with pytest.raises(UserError, match="momentum='high': expected a number"):
        settings.fill(read("momentum=high"), {"momentum": 0.937}, "recipe of x")


def test_the_variables_stay_as_they_are():
    variables = script()
    settings.read_settings(variables, ["epochs=5"]).put("lr", 3.0, "chosen")
    assert variables == script()


def test_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "only here.txt").write_text("x")
    assert settings.find("only here.txt") == tmp_path / "only here.txt"
    assert settings.find("train.py") == settings.ROOT / "train.py"
    assert settings.find("nowhere/x") == settings.ROOT / "nowhere/x"
    assert settings.shown(settings.ROOT / "a" / "b") == "a/b"


def test_did_you_mean():
    assert did_you_mean("yolov4tiny", ["yolov4_tiny", "ssd"]) == ' Did you mean "yolov4_tiny"?' and did_you_mean("zzz", ["ssd"]) == ""


def test_help_and_wrong_name_end_as_they_should():
    run = [sys.executable, str(settings.ROOT / "summary.py")]
    shown = subprocess.run([*run, "--help"], capture_output=True, text=True, encoding="utf-8", check=True).stdout
    assert "num_classes = 80" in shown and "类别数" in shown
    wrong = subprocess.run([*run, "clases=3"], capture_output=True, text=True, encoding="utf-8")
    assert wrong.returncode == 1 and 'Did you mean "num_classes"?' in wrong.stderr and "Traceback" not in wrong.stderr


SCRIPTS = sorted(path.relative_to(settings.ROOT).as_posix() for path in [*settings.ROOT.glob("*.py"), *settings.ROOT.glob("tools/*.py")])


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_loads_nothing_large(script):
    """Every variable is shown, and neither torch nor NumPy is imported for it: the answer comes at once."""
    words = [sys.executable, "-X", "importtime", str(settings.ROOT / script), "--help"]
    ran = subprocess.run(words, capture_output=True, text=True, encoding="utf-8", check=True)
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in ran.stderr.splitlines() if line.startswith("import time:")}
    assert "utils" in loaded and not loaded & {"torch", "numpy", "cv2", "PIL", "matplotlib"}
    names = [name for _, rows in settings.groups_of(settings.ROOT / script) for name, _ in rows]
    assert names and all(name in ran.stdout for name in names)


def test_help_is_in_groups():
    titles = [title for title, _ in settings.groups_of(settings.ROOT / "train.py")]
    assert len(titles) == 8 and all(titles) and "优化" in titles[4]


def test_errors_of_workers_show_their_sentence(capsys):
    from utils.errors import show_sentence_only
    wrapped = UserError("Caught UserError in DataLoader worker process 0.\nTraceback ...\nutils.errors.UserError: a.jpg is cut off")
    show_sentence_only(UserError, wrapped, None)
    assert capsys.readouterr().err.strip() == "Stopped: a.jpg is cut off"
