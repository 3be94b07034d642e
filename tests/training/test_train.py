"""train.py up to the data: what the variables become before anything is trained. Nothing is read or written here."""
import importlib.util
from types import SimpleNamespace

import pytest

import nets
from utils.errors import UserError
from utils.settings import ROOT, as_dict, as_table, override
from utils.training.resume import Progress

OPEN = {"classes_path", "train_list", "val_list", "test_list", "resume", "freeze_epochs", "freeze_batch_size", "loss", "class_weights", "amp",
        "num_workers"}                                  # what is None for other reasons than the recipe


class Stop(Exception):
    pass


def stop(*_):
    raise Stop


def fresh(*words, until="complete_settings"):
    """A copy of the script of its own, run with these words until it calls the function `until`, which is kept as `stopped_at`."""
    spec = importlib.util.spec_from_file_location("train_copy", ROOT / "train.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.make_shapes = lambda folder: None
    script.current_lists = lambda *_: {"classes_path": "model_data/shapes_classes.txt", "train_list": "t.txt", "val_list": "v.txt", "test_list": "x"}
    script.check_before_training = lambda *_: None
    override(vars(script), list(words))
    script.stopped_at = getattr(script, until)
    setattr(script, until, stop)
    with pytest.raises(Stop):
        script.main()
    return script


@pytest.mark.parametrize("words, shape, origin", [
    ([], (224, 224), "chosen for Shapes"), (["net=unet"], (224, 224), "chosen for Shapes"), (["net=ssd300"], (300, 300), "recipe of ssd300"),
    (["dataset=VOCdevkit/VOC2007"], (640, 640), "recipe of yolov8"), (["train_list=mine.txt"], (640, 640), "recipe of yolov8"),
    (["input_shape=320"], (320, 320), "command line"), (["net=ssd300", "input_shape=300,512"], (300, 512), "command line"),
    (["net=deeplabv3plus"], (112, 112), "chosen for Shapes"), (["net=deeplabv3plus", "pretrained=True"], (224, 224), "chosen for Shapes"),
    (["net=deeplabv3plus", "net_options={'pretrained': True}"], (224, 224), "chosen for Shapes"),
    (["net=deeplabv3plus", "dataset=VOCdevkit/VOC2007"], (512, 512), "recipe of deeplabv3plus")])
def test_input_shape(words, shape, origin):
    script = fresh(*words)
    assert script.input_shape == shape and script._origin["input_shape"] == origin
    (line,) = [line for line in as_table(vars(script)).splitlines() if line.split()[0] == "input_shape"]
    assert str(shape) in line and line.endswith(origin)


@pytest.mark.parametrize("net", nets.NETS)
def test_every_recipe_says_what_the_script_leaves_open(net):
    script = fresh(f"net={net}")
    settings = {name: value for name, value in vars(script).items() if name in script._origin}
    assert {name for name, value in settings.items() if value is None} <= OPEN
    assert script.fit in ("letterbox", "stretch")
    unknown = set(nets.NETS[net].recipe) - set(settings)
    assert unknown <= {"nms_iou"} and not unknown & set(as_dict(vars(script)))     # and what is saved with the run is a recipe again


def test_recipe_and_command_line_reach_the_data():
    words = ["net=ssd300", "zoom_out=0.25", "mixup=0.125", "scale=0.5,2", "aspect=0.1", "translate=0.2", "flip=0.4", "rotate=3", "blur=0.7",
             "colours=0.1,0.2,0.3", "mosaic=0.6", "seed=7", "epochs=10", "iou_crop=0.35", "distort=0.45"]
    script, made = fresh(*words, until="make_data"), []

    def record(*arguments, **options):
        made.append((arguments, options))
        if len(made) == 2:
            stop()
    script.DetectionData = record
    with pytest.raises(Stop):
        script.stopped_at("detection", ["a"])
    (arguments, options), (validation, plain) = made
    assert arguments == ("t.txt", ["a"], (300, 300)) and validation == ("v.txt", ["a"], (300, 300))
    assert options == {"fit": "stretch", "cache": True, "scale": (0.5, 2), "aspect": 0.1, "translate": 0.2, "flip_chance": 0.4, "rotation": 3,
                       "blur_chance": 0.7, "colours": (0.1, 0.2, 0.3), "distort_chance": 0.45, "mosaic_chance": 0.6, "plain_from": 7, "seed": 7,
                       "train": True, "mixup_chance": 0.125, "zoom_out_chance": 0.25, "iou_crop_chance": 0.35}
    assert plain == {"fit": "stretch", "cache": True}


@pytest.mark.parametrize("words, small", [(["net=yolov3", "input_shape=160,96"], ((64, 64), 4)), (["net=ssd300"], ((268, 268), 4)),
                                          (["epochs=1"], ((128, 128), 0))])
def test_small_share_reaches_the_training_data(words, small):
    """Half the input, rounded to what the network takes, for so many epochs; validation is as ever."""
    script, made = fresh("epochs=10", "small_share=0.4", *words, until="make_data"), []

    def record(*arguments, **options):
        made.append(options)
        if len(made) == 2:
            stop()
    script.DetectionData = record
    with pytest.raises(Stop):
        script.stopped_at("detection", ["a"])
    training, validation = made
    assert (training["small_shape"], training["small_until"]) == small and "small_until" not in validation


def test_small_share_of_what_is_small_already():
    script = fresh("net=yolov3", "input_shape=64,32", "small_share=0.5", until="make_data")
    with pytest.raises(UserError, match="small_share=0.5: yolov3 should not have a smaller input than 64 x 32"):
        script.stopped_at("detection", ["a"])


def test_small_share_of_shapes_gives_way():
    """A user who only sets the input is not told off for a small_share that he never set."""
    script = fresh("net=deeplabv3plus", "input_shape=32", "dataset=VOCdevkit/Shapes", until="make_data")
    assert script.on_shapes(nets.find_net("deeplabv3plus"))["small_share"] > 0
    assert script.small_input() == {} and script.small_share == 0 and script._origin["small_share"] == "chosen"


def test_what_means_nothing_to_a_segmenter_is_said(capsys):
    fresh("net=unet", "zoom_out=0.5", "fit=stretch", until="make_data")
    said = capsys.readouterr().out
    assert "zoom_out=0.5 means nothing to unet" in said and "fit='stretch' means nothing" in said and "iou_crop" not in said
    fresh("zoom_out=0.5", "fit=stretch", until="make_data")
    assert "NOTE" not in capsys.readouterr().out


@pytest.mark.parametrize("fit, sentence", [("short_side", "get_map.py and predict.py can use it"), ("strech", 'Did you mean "stretch"')])
def test_fits_that_cannot_be(fit, sentence):
    script = fresh(f"fit={fit}", until="make_data")
    with pytest.raises(UserError, match=sentence):
        script.stopped_at("detection", ["a"])


@pytest.mark.parametrize("name", ["zoom_out", "iou_crop", "distort"])
def test_chances(name):
    with pytest.raises(UserError, match=f"{name}=2.0: expected a number from 0 to 1"):
        fresh(f"{name}=2", until="make_data")


def test_pretrained_may_be_what_the_network_knows():
    """net_options={'pretrained': 'coco'} is handed on as it is, and its backbone is frozen at first."""
    for words, value in ((["pretrained=True"], True), (["net_options={'pretrained': 'coco'}"], "coco"), ([], None),
                         (["pretrained=True", "model_path=a.pth"], None)):
        script, seen = fresh(*words, until="make_data"), {}
        assert (script.freeze_epochs > 0) == bool(words)

        def build(net, num_classes, input_shape, seen=seen, **options):
            seen.update(options)
            stop()
        script.nets = type("Nets", (), {"NETS": nets.NETS, "build": staticmethod(build)})
        with pytest.raises(Stop):
            script.make_model(6, None)
        assert seen.get("pretrained") == value


def test_a_resumed_run_is_built_as_it_was_begun():
    """What the defaults became when the run began (here frozen BatchNorm, because of pretrained=True) travels in the checkpoint."""
    script = fresh("net=retinanet", "input_shape=64", "net_options={'backbone': 'resnet50'}", until="make_data")
    model, _ = script.make_model(3, {"options": {"norm": "frozen"}})
    assert model.options["norm"] == "frozen"
    script.run_of = []
    script.save_checkpoint = lambda path, **content: script.run_of.append(content["options"])
    nothing = {"state_dict": lambda self: {}}
    solver, scaler = type("Solver", (), nothing)(), type("Scaler", (), nothing)()
    script.save(SimpleNamespace(run=ROOT, model=model, average=None, solver=solver, scaler=scaler, class_names=["a", "b", "c"],
                                progress=Progress(history=[{"epoch": 1, "map50": 0.0}])))
    assert script.run_of == [{"backbone": "resnet50", "norm": "frozen"}]
