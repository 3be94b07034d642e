"""Variables <-> recipe <-> command line."""
import subprocess
import sys

import pytest

from utils import help, settings
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
    ("epoch=5", 'There is no "epoch": did you mean epochs=5\\? python train.py --help lists all'), ("NETS=5", 'There is no "NETS"'),
    ("_hidden=2", 'There is no "_hidden"'), ("main=1", 'There is no "main"'), ("qqq=1", 'There is no "qqq"\\. python train.py --help'),
    ("epochs=five", "epochs='five': expected a whole number"), ("epochs=2.5", "expected a whole number"), ("ema=1", "expected True or False"),
    ("--epochs", '"--epochs" has no value. Write  python train.py epochs='), ("--lr0=0.1", 'There is no "lr0": did you mean lr=0.1'),
    ("imgsz=320", 'There is no "imgsz": did you mean input_shape=320'), ("lr0=0.1", "did you mean lr=0.1"), ("batch-size", "neither name=value"),
    ("model=ssd300", "did you mean net=ssd300"),
    ("50", "a number without a name.*epochs=50"), ("0.5", "a number without a name"),
    ("lr=quick", "expected a number"), ("lr=True", "expected a number"), ("fast", "neither name=value nor a recipe")])
def test_wrong_words(word, sentence):
    with pytest.raises(UserError, match=sentence):
        read(word)


@pytest.mark.parametrize("words, name, value", [
    (["--epochs", "5"], "epochs", 5), (["--epochs=5"], "epochs", 5), (["--input-shape", "320"], "input_shape", (320, 320)),
    (["-lr", "1e-3"], "lr", 0.001),
    (["--ema"], "ema", True), (["--ema", "False", "epochs=3"], "ema", False), (["--ema", "epochs=3"], "epochs", 3), (["--net", "a=b"], "net", "a=b")])
def test_options_of_other_programs(words, name, value):
    """--name value, --name=value and switches."""
    assert getattr(read(*words), name) == value


def test_peers_are_answered_with_what_this_script_has():
    """The name that a script has, with the value that was written."""
    words = {"conf=0.5": "confidence=0.5", "iou=0.6": "nms_iou=0.6", "max_det=9": "max_boxes=9", "image=a": "source=a", "save_txt=True": "save_",
             "model=a.pt": "model_path=a.pt", "weights=x": "model_path=x"}
    answers = {"predict": words, "get_map": {"conf=0.5": "confidence=0.5", "data=a.txt": "list_path=a.txt", "workers=2": "num_workers=2"},
               "train": {"data=a.yaml": "dataset=a.yaml", "batch=8": "batch_size=8", "project=a": "output=a", "workers=2": "num_workers=2"}}
    for script_name, some in answers.items():
        groups = help.groups_of(settings.ROOT / f"{script_name}.py")
        variables = {row.split(" = ")[0]: None for _, rows in groups for row, _ in rows}
        for word, ours in some.items():
            for form in ([word], ["--" + word], ["--" + word.partition("=")[0], word.partition("=")[2]]):
                with pytest.raises(UserError, match=f"did you mean {ours}"):
                    settings.read_settings(variables | {"__file__": f"{script_name}.py"}, form)


def test_a_path_alone_is_the_source(tmp_path, monkeypatch):
    """One or several, patterns and addresses too; weights are the network; what is not there is explained."""
    monkeypatch.chdir(tmp_path)
    for name in ("a b.jpg", "c=d.jpg", "best.pth"):
        (tmp_path / name).touch()
    more = {"source": "", "model_path": ""}
    assert read("a b.jpg", **more).source == "a b.jpg" and read("c=d.jpg", **more).source == "c=d.jpg"
    s = read("a b.jpg", "best.pth", "*.png", "http://a/b.jpg", "epochs=3", **more)
    assert s.source == ["a b.jpg", "*.png", "http://a/b.jpg"] and s.model_path == "best.pth" and s.epochs == 3
    with pytest.raises(UserError, match='Did you mean source="none.jpg"'):
        read("none.jpg", **more)
    with pytest.raises(UserError, match="neither"):
        read("a b.jpg")                                             # a script that looks at nothing


def test_a_recipe_of_another_script(tmp_path):
    (tmp_path / "r.py").write_text("conf = 1\n")
    with pytest.raises(UserError, match='line 1: there is no "conf": did you mean confidence'):
        read(str(tmp_path / "r.py"), confidence=0.3)
    (tmp_path / "r.py").write_text("mosaic = 1.0\n")
    with pytest.raises(UserError, match=r"is this a recipe of train.py\?"):
        settings.read_settings({"__file__": "predict.py", "source": ""}, [str(tmp_path / "r.py")])


def test_the_table_of_what_is_not_default():
    assert settings.as_table(read(), changed=True) == ""
    (line,) = settings.as_table(read("epochs=5"), changed=True).splitlines()
    assert line.split() == ["epochs", "5", "command", "line"]


def test_paths_are_whole_for_who_is_elsewhere(tmp_path, monkeypatch):
    """Results that are printed as img_out/a.jpg would be looked for in the current folder."""
    monkeypatch.chdir(settings.ROOT)
    assert settings.shown(settings.ROOT / "img_out/a.jpg") == "img_out/a.jpg"
    monkeypatch.chdir(tmp_path)
    assert settings.shown(settings.ROOT / "img_out/a.jpg") == (settings.ROOT / "img_out/a.jpg").as_posix()
    assert settings.as_listed(settings.ROOT / "img_out/a.jpg") == "img_out/a.jpg"                # lists stay as they are


def test_help_where_chinese_cannot_be_shown(monkeypatch, capsys):
    """No question marks: the English half alone."""
    assert help.without_chinese("passes over the images  总训练轮数") == "passes over the images"
    monkeypatch.setattr(settings, "speak_plainly", lambda: None)
    monkeypatch.setattr(sys, "stdout", type("Ascii", (), {"encoding": "ANSI_X3.4-1968", "write": sys.stdout.write, "flush": sys.stdout.flush})())
    help.print_help(settings.ROOT / "summary.py")
    shown = capsys.readouterr().out
    assert "num_classes = 80" in shown and shown.isascii()


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
    ("epoch = 3\n", 'did you mean epochs')])
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
    assert settings.as_listed(settings.ROOT / "a" / "b") == "a/b"


def test_did_you_mean():
    assert did_you_mean("yolov4tiny", ["yolov4_tiny", "ssd"]) == ' Did you mean "yolov4_tiny"?' and did_you_mean("zzz", ["ssd"]) == ""


def test_help_and_wrong_name_end_as_they_should():
    run = [sys.executable, str(settings.ROOT / "summary.py")]
    shown = subprocess.run([*run, "--help"], capture_output=True, text=True, encoding="utf-8", check=True).stdout
    assert "num_classes = 80" in shown and "类别数" in shown
    wrong = subprocess.run([*run, "clases=3"], capture_output=True, text=True, encoding="utf-8")
    assert wrong.returncode == 1 and "did you mean num_classes=3?" in wrong.stderr and "Traceback" not in wrong.stderr


SCRIPTS = sorted(path.relative_to(settings.ROOT).as_posix() for path in [*settings.ROOT.glob("*.py"), *settings.ROOT.glob("tools/*.py")])


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_loads_nothing_large(script):
    """Every variable is shown, and neither torch nor NumPy is imported for it: the answer comes at once."""
    words = [sys.executable, "-X", "importtime", str(settings.ROOT / script), "--help"]
    ran = subprocess.run(words, capture_output=True, text=True, encoding="utf-8", check=True)
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in ran.stderr.splitlines() if line.startswith("import time:")}
    assert "utils" in loaded and not loaded & {"torch", "numpy", "cv2", "PIL", "matplotlib"}
    names = [name for _, rows in help.groups_of(settings.ROOT / script) for name, _ in rows]
    assert names and all(name in ran.stdout for name in names)


def test_help_is_in_groups():
    titles = [title for title, _ in help.groups_of(settings.ROOT / "train.py")]
    assert len(titles) == 8 and all(titles) and "优化" in titles[4]


def test_errors_of_workers_show_their_sentence(capsys):
    from utils.errors import show_sentence_only
    wrapped = UserError("Caught UserError in DataLoader worker process 0.\nTraceback ...\nutils.errors.UserError: a.jpg is cut off")
    show_sentence_only(UserError, wrapped, None)
    assert capsys.readouterr().err.strip() == "Stopped: a.jpg is cut off"
