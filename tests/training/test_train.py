"""train.py up to its first step: what the settings become, what the data and the network are made with. Nothing is trained here."""
from dataclasses import fields
from types import SimpleNamespace

import pytest
import torch

import nets
import train
from utils.augment import Augmentation
from utils.errors import UserError
from utils.settings import ROOT, as_dict, as_table, read_settings
from utils.training import begin, keep
from utils.training.circumstances import changes, choose_start, circumstances
from utils.training.plan import build_options, choose_epochs, choose_net, complete
from utils.training.resume import Progress

OPEN = {"classes_path", "train_list", "val_list", "test_list", "resume", "epochs", "freeze_epochs", "loss", "class_weights", "amp",
        "num_workers", "pretrained", "value_range"}                   # what is None for other reasons than the recipe


class Made(list):
    """Stands for a dataset, of which only the length counts here."""
    paths = ()


def plan(*words):
    """-> settings as they are when the data is about to be read, the network's class."""
    s = read_settings(vars(train), list(words))
    network = nets.find_net(choose_net(s))
    complete(s, network)
    return s, network


def data_of(monkeypatch, *words):
    """What the two datasets are made with: [(arguments, options) of the training data, the same of the validation data]."""
    made = []

    def record(*arguments, **options):
        made.append((arguments, options))
        return Made([None] * 400)
    for name in ("DetectionData", "SegmentationData"):
        monkeypatch.setattr(begin, name, record)
    for name in ("make_lists", "check_before_training", "check_augmentation"):
        monkeypatch.setattr(begin, name, lambda *_, **__: None)
    monkeypatch.setattr(begin, "read_classes", lambda _: ["a"])
    monkeypatch.setattr(begin, "list_lines", lambda _: range(400))
    monkeypatch.setattr(begin, "class_counts", lambda *_, **__: {"a": 1})
    s, network = plan(*words)
    s.classes_path, s.train_list, s.val_list = "c.txt", "t.txt", "v.txt"
    begin.make_data(s, network)
    return made


@pytest.mark.parametrize("words, shape, origin", [
    ([], (224, 224), "chosen for Shapes"), (["net=unet"], (224, 224), "chosen for Shapes"), (["net=ssd300"], (300, 300), "recipe of ssd300"),
    (["dataset=VOCdevkit/VOC2007"], (416, 416), "recipe of yolov4_tiny"), (["train_list=README.md"], (416, 416), "recipe of yolov4_tiny"),
    (["net=yolov8", "dataset=VOCdevkit/VOC2007"], (640, 640), "recipe of yolov8"),
    (["input_shape=320"], (320, 320), "command line"), (["net=ssd300", "input_shape=300,512"], (300, 512), "command line"),
    (["net=deeplabv3plus"], (112, 112), "chosen for Shapes"), (["net=deeplabv3plus", "pretrained=True"], (224, 224), "chosen for Shapes"),
    (["net=deeplabv3plus", "net_options={'pretrained': True}"], (224, 224), "chosen for Shapes"),
    (["net=deeplabv3plus", "dataset=VOCdevkit/VOC2007"], (512, 512), "recipe of deeplabv3plus")])
def test_input_shape(words, shape, origin):
    s, _ = plan(*words)
    assert s.input_shape == shape and s.origin["input_shape"] == origin
    (line,) = [line for line in as_table(s).splitlines() if line.split()[0] == "input_shape"]
    assert str(shape) in line and line.endswith(origin)


@pytest.mark.parametrize("net", nets.NETS)
def test_every_recipe_says_what_the_script_leaves_open(net):
    s, network = plan(f"net={net}")
    assert {name for name, value in as_dict(s).items() if value is None} <= OPEN
    assert s.fit in ("letterbox", "stretch")
    assert set(network.recipe) - set(as_dict(s)) <= {"nms_iou", "steps"}                # and what is saved with the run is a recipe again


def test_the_script_stays_as_it_is():
    """Settings are read once and never written back: a second run in the same process begins with the same variables."""
    before = {name: value for name, value in vars(train).items() if name.islower() and not callable(value)}
    plan("net=deeplabv3plus", "epochs=3", "lr=0.5")
    assert {name: value for name, value in vars(train).items() if name.islower() and not callable(value)} == before
    assert train.net is None and train.epochs is None


@pytest.mark.parametrize("words, images, epochs, where", [
    ([], 400, 30, "1,500 steps"), (["net=unet", "dataset=x"], 400, 13, "1,300 steps"), (["epochs=7"], 400, 7, "command line"),
    ([], 100, 120, "1,500 steps"), (["batch_size=32"], 1000, 48, "1,500 steps"),
    ([], 20, 300, "1,500 steps, but 10 to 300 epochs"), ([], 10_000, 10, "1,500 steps, but 10 to 300 epochs"),
    (["net=deeplabv3plus"], 400, 80, "chosen for Shapes")])
def test_epochs_follow_from_steps(words, images, epochs, where):
    """A recipe names steps: few images are seen more often, many less; where the number came from is said."""
    s, network = plan(*words)
    choose_epochs(s, network, images)
    assert (s.epochs, s.origin["epochs"]) == (epochs, where)


@pytest.mark.parametrize("words, images, warned", [
    (["epochs=20", "net=unet", "dataset=x"], 100, False), (["epochs=4", "net=unet", "dataset=x"], 100, True),
    (["epochs=4", "net=retinanet", "pretrained=True"], 100, False), ([], 20, False), (["epochs=5"], 400, True)])
def test_few_steps_from_random_weights_are_said(words, images, warned):
    """And what is advised, epochs=None, is as many epochs as the note says."""
    s, network = plan(*words)
    choose_epochs(s, network, images)
    said = []
    begin.say_pace(s, network.recipe, 0.001, None, images, said.append)
    notes = [line for line in said if "from random weights" in line]
    assert bool(notes) == warned
    if warned:
        s.epochs = None
        choose_epochs(s, network, images)
        assert f"here {s.epochs} epochs" in notes[0]


def test_settings_reach_the_data(monkeypatch):
    words = ["net=ssd300", "zoom_out=0.25", "mixup=0.125", "scale=0.5,2", "aspect=0.1", "translate=0.2", "flip=0.4", "rotate=3", "blur=0.7",
             "colours=0.1,0.2,0.3", "mosaic=0.6", "seed=7", "epochs=10", "iou_crop=0.35", "distort=0.45"]
    (arguments, options), (validation, plain) = data_of(monkeypatch, *words)
    assert arguments == ("t.txt", ["a"], (300, 300)) and validation == ("v.txt", ["a"], (300, 300))
    augmentation = Augmentation(scale=(0.5, 2), aspect=0.1, translate=0.2, flip=0.4, rotate=3, blur=0.7, colours=(0.1, 0.2, 0.3),
                                distort=0.45, zoom_out=0.25, iou_crop=0.35, mosaic=0.6, mixup=0.125, plain_from=7)
    assert options == {"fit": "stretch", "cache": True, "augmentation": augmentation, "seed": 7}
    assert plain == {"fit": "stretch", "cache": True}


def test_the_augmentation_has_the_names_of_the_script():
    """One name for one setting, from train.py's variable to the function that uses it."""
    names = {field.name for field in fields(Augmentation)} - {"plain_from"}             # which follows from plain_share and epochs
    assert names <= {name for name in vars(train) if name.islower()}


@pytest.mark.parametrize("words, small", [(["net=yolov3", "input_shape=160,96"], ((64, 64), 4)), (["net=ssd300"], ((268, 268), 4)),
                                          (["epochs=1"], ((128, 128), 0))])
def test_small_share_reaches_the_training_data(monkeypatch, words, small):
    """Half the input, rounded to what the network takes, for so many epochs; validation is as ever."""
    (_, training), (_, validation) = data_of(monkeypatch, "epochs=10", "small_share=0.4", *words)
    assert (training["small_shape"], training["small_until"]) == small and "small_until" not in validation


def test_small_share_of_what_is_small_already():
    with pytest.raises(UserError, match="small_share=0.5: yolov3 should not have a smaller input than 64 x 32"):
        plan("net=yolov3", "input_shape=64,32", "small_share=0.5")


def test_small_share_of_shapes_gives_way():
    """A user who only sets the input is not told off for a small_share that he never set."""
    s, network = plan("net=deeplabv3plus", "input_shape=32", "dataset=VOCdevkit/Shapes")
    assert network.shapes["small_share"] > 0 and s.small_share == 0 and s.origin["small_share"] == "chosen"


def test_what_means_nothing_to_a_segmenter_is_said(capsys):
    plan("net=unet", "zoom_out=0.5", "fit=stretch")
    said = capsys.readouterr().out
    assert "zoom_out=0.5 has no effect on unet" in said and "fit='stretch' has no effect" in said and "iou_crop" not in said
    plan("zoom_out=0.5", "fit=stretch")
    assert "NOTE" not in capsys.readouterr().out


@pytest.mark.parametrize("words, sentence", [
    (["fit=strech"], 'Did you mean "stretch"'), (["zoom_out=2"], "zoom_out=2.0: expected a number from 0 to 1"),
    (["iou_crop=2"], "iou_crop=2.0: expected"), (["distort=2"], "distort=2.0: expected"), (["optimizer=sdg"], 'optimizer=.sdg.: expected "sgd" or'),
    (["schedule=cos"], 'schedule=.cos.: expected "cosine" or'), (["device=gpu"], 'device="gpu" is not known'),
    (["model_path=none.pth"], "none.pth"), (["model_path=a.weights"], "no weight file a.weights"), (["classes_path=none.txt"], "none.txt"),
    (["train_list=none.txt"], "no list file none.txt"), (["class_weights=balance"], 'class_weights=.balance.: expected None, "balanced"'),
    (["net=unet", "class_weights=1,-2"], "class_weights=.*expected"), (["ignore_labels=[300]"], "ignore_labels=.*from 0 to 255")])
def test_mistakes_come_before_the_data(words, sentence):
    with pytest.raises(UserError, match=sentence):
        plan(*words)


@pytest.mark.parametrize("words, sentence", [
    (["input_shape=415"], "The nearest is"), (["net_options={'sise': 's'}"], "does not take these options"),
    (["net_options={'size': 'y'}"], 'no size "y"'), (["net=deeplabv3plus", "net_options={'backbone': 'resnet5'}"], 'Did you mean "resnet50"'),
    (["net=unet", "loss={'cross': 1.0}"], "cross"), (["pretrained=True"], "no plain tensors")])
def test_a_network_that_cannot_be_built(words, sentence):
    s, network = plan(*words)
    with pytest.raises(UserError, match=sentence):
        nets.try_to_build(s.net, s.input_shape, **build_options(s, network, None))


@pytest.mark.parametrize("net", nets.NETS)
def test_trying_to_build_takes_no_memory(net):
    """Every network of the table can be tried, and a try does not move the random numbers of the real one."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    s, network = plan(f"net={net}")
    nets.try_to_build(s.net, s.input_shape, **build_options(s, network, None))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("words, value", [(["net=retinanet", "pretrained=True"], True), ([], None),
                                          (["net=retinanet", "net_options={'pretrained': 'coco'}"], "coco"),
                                          (["net=yolov8", "pretrained=True", "model_path=tests/data/checkpoint_0.4.0.pth"], None)])
def test_pretrained_may_be_what_the_network_knows(words, value):
    """net_options={'pretrained': 'coco'} is handed on as it is, and its backbone is frozen at first."""
    s, network = plan(*words)
    choose_epochs(s, network, 400)
    assert (s.freeze_epochs > 0) == bool(words)
    assert build_options(s, network, None).get("pretrained") == value


def test_a_resumed_run_is_built_as_it_was_begun(monkeypatch):
    """What the defaults became when the run began (here frozen BatchNorm, because of pretrained=True) travels in the checkpoint."""
    s, network = plan("net=retinanet", "input_shape=64", "net_options={'backbone': 'resnet50'}")
    model = nets.build(s.net, 3, s.input_shape, **build_options(s, network, {"options": {"norm": "frozen"}}))
    assert model.options["norm"] == "frozen"

    saved = []
    monkeypatch.setattr(keep, "save_checkpoint", lambda path, **content: saved.append(content["options"]))
    nothing = SimpleNamespace(state_dict=dict)
    keep.save(s, SimpleNamespace(run=ROOT, model=model, average=None, solver=nothing, scaler=nothing, saved=True, lists={}, circumstances={},
                                 train_data=SimpleNamespace(class_names=["a", "b", "c"]),
                                 progress=Progress(history=[{"epoch": 1, "map50": 0.0}])))
    assert saved == [{"backbone": "resnet50", "norm": "frozen"}]


THEN = {"device": "cuda", "threads": 8, "torch": "2.6.0", "start": "spawn"}


def test_what_changed_since_a_run_began_is_said():
    """The bits of the sums depend on it, so nobody should be left to find out."""
    assert changes(THEN, THEN) == [] and changes(None, THEN) == []
    now = circumstances(torch.device("cpu"), choose_start(THEN))
    said = " ".join(changes(THEN, now))
    assert "began on the device cuda and goes on on the device cpu" in said and "with 8 threads" in said and "PyTorch 2.6.0" in said
    assert "loader processes" not in said and now["start"] == "spawn"       # this system can do as it was done then
    assert "started by strange" in " ".join(changes(THEN | {"start": "strange"}, now | {"start": choose_start({"start": "strange"})}))


def test_the_network_follows_from_the_data(tmp_path):
    """net=None: the built-in set's own; of your data what its labels are for, and boxes where it has none (the data check says so)."""
    (tmp_path / "masks/JPEGImages").mkdir(parents=True)
    (tmp_path / "masks/JPEGImages/a.png").write_bytes(b"a")
    (tmp_path / "masks/SegmentationClass").mkdir()
    (tmp_path / "masks/SegmentationClass/a.png").write_bytes(b"a")
    (tmp_path / "masks.txt").write_text("a.jpg\ta.png\n")
    (tmp_path / "boxes.txt").write_text("a.jpg 1,2,30,40,0\n")
    for words, net in (([], "yolov8"), ([f"dataset={tmp_path / 'nowhere'}"], "yolov4_tiny"),
                       ([f"dataset={tmp_path / 'masks'}"], "deeplabv3plus"), ([f"train_list={tmp_path / 'masks.txt'}"], "deeplabv3plus"),
                       ([f"train_list={tmp_path / 'boxes.txt'}"], "yolov4_tiny"),
                       (["net=ssd300", f"dataset={tmp_path / 'masks'}"], "ssd300")):
        s = read_settings(vars(train), words)
        assert choose_net(s) == s.net == net, words
        assert s.origin["net"].startswith("command line" if net == "ssd300" else "chosen for")

    # Weights that train.py saved say whose they are; of a resumed run the file may have gone long ago.
    with pytest.raises(UserError, match="There is no weight file gone.pth"):
        choose_net(read_settings(vars(train), ["model_path=gone.pth"]))
    assert choose_net(read_settings(vars(train), ["model_path=gone.pth", "net=ssd300"]), {"options": {}}) == "ssd300"
    s = read_settings(vars(train), ["model_path=tests/data/checkpoint_0.4.0.pth", f"dataset={tmp_path / 'masks'}"])
    assert choose_net(s) == torch.load("tests/data/checkpoint_0.4.0.pth", weights_only=False)["net"]
