"""Every command that the project advises is run here, on the very data that the advice was printed for, and ends in success.

The advice is taken out of what the program prints. A sentence in the source that advises a command, and that nobody follows here, fails a test.
"""
import ast
import contextlib
import functools
import importlib
import io
import re
import shlex
from pathlib import Path

import dirty
import dirty_formats
import pytest
from user import copy_project
from user import run as start

import nets
import predict
from tests.checks.test_mask_values import scene
from tests.checks.test_mask_values import write as write_masks
from tests.formats.test_foreign import READERS, pictures
from tools import doctor
from utils import settings
from utils.checks import environment, prepare
from utils.checks.lists import check_before_training
from utils.dataset import DetectionData
from utils.errors import UserError
from utils.findings import KINDS
from utils.formats import sniff
from utils.settings import read_settings

ROOT = Path(__file__).resolve().parents[2]
COMMAND = re.compile(r'python (?:-m )?[\w/]+(?:\.py)?(?: +(?:"[^"]*"|[a-z_]+=[^\s;"]+|\w+\.py))*')


def run(command):
    """A command as it was printed, in this process."""
    _, script, *words = shlex.split(command)
    module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
    module.main(read_settings(vars(module), words))


def command_in(text):
    commands = COMMAND.findall(text)
    assert len(commands) == 1, commands
    return commands[0]


def said(function, *arguments, **options):
    """What a function prints, and the error it ends with."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            function(*arguments, **options)
        except UserError as error:
            out.write(f"\n{error}")
    return out.getvalue()


def advice(text, kind):
    """What the report says about a kind."""
    match = re.search(rf"\[{kind}: [\w ]+\]\n.*?^    -> (.*)$", text, re.M | re.S)
    assert match, text
    return match[1]


def save(data, root):
    for path, content in dirty_formats.as_bytes(data).items():
        place = root / path if path == dirty.CLASSES else root / "Set" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)


slow = pytest.mark.slow
KIND_CASES = {
    "labelme_file": ("detection", "labelme"),
    "other_image_path": ("labelme", "renamed"), "list_no_image": ("detection", "list without image"),
    "list_no_label": ("segmentation", "list without label"), "found_elsewhere": ("yolo", "list of elsewhere"),
    "list_missing": ("detection", "no train list"),
    "not_listed": ("detection", "not listed"), "in_train_and_val": ("detection", "train and val"),
    "in_test": ("detection", "val and test"), "numbers_unused": ("yolo", "key points"), "label_ambiguous": ("yolo", "two readings"),
    "no_outline": ("outlines", "boxes only"), "box_swapped": ("detection", "swapped x"),
    "size_wrong": ("detection", "size doubled"), "size_turned": ("detection", "exif"),
    "mask_size": ("masks", "doubled"), "mask_values": ("masks", "value"), "mask_0_255": ("masks", "0 255"),
}


def look(task, classes):
    return said(prepare.prepare, "Set", classes, task=task)


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=slow if kind in ("box_swapped", "size_turned") else ()) for kind in KIND_CASES])
def test_the_remedies_of_the_table_work(root, monkeypatch, kind):
    """What a report says about a fault, done: then it is gone."""
    monkeypatch.setattr(doctor, "check_environment", lambda: [environment.check_python()])
    form, name = KIND_CASES[kind]
    data, _ = (dirty if form in dirty.SINGLE else dirty_formats).single(form, name)
    save(data, root)
    task = dirty_formats.TASKS.get(form, form)
    classes = dirty.CLASSES if dirty.CLASSES in data else None
    words = advice(look(task, classes), kind)
    command = command_in(words)
    print(words)
    run(command)
    if "fix_masks" in command:
        take_fixed(root, command)
    if "doctor" not in command and re.search('"dataset=Set"(?! task=detection)', command):
        again = look(task, classes)
        assert f"[{kind}:" not in again and "Written:" in again, again


def take_fixed(root, command):
    """The new masks come into the place of the old ones."""
    folder = root / re.search('"masks=(.*?)"', command)[1]
    folder.rename(folder.with_name(folder.name + "_old"))
    folder.with_name(folder.name + "_fixed").rename(folder)


# ---- kinds of the lists

def drop_line(root):
    (root / "Set_train.txt").unlink()


def add_line(root):
    path = root / "Set_train.txt"
    path.write_text(path.read_text() + "what is this\n")


def delete_image(root):
    (root / "Set" / dirty.image_of("t02")).unlink()


def cut_image(root):
    (root / "Set" / dirty.image_of("v1")).write_bytes(dirty.cut("JPEG", 0.5))


def fewer_classes(root):
    (root / "model_data/set_classes.txt").write_text("cat\n")


def empty_list(root):
    (root / "Set_train.txt").write_text("\n")


LISTS = {split: f"Set_{split}.txt" for split in ("train", "val", "test")}


LIST_CASES = {"list_absent": drop_line, "list_line": add_line, "listed_missing": delete_image, "list_empty": empty_list,
              "listed_unusable": cut_image, "list_class": fewer_classes}


@pytest.mark.parametrize("kind", LIST_CASES)
def test_the_remedies_of_lists_work(root, kind):
    """Before a training: the lists no longer fit to what is there."""
    save({path: content for path, content in dirty.clean("detection").items() if path != dirty.CLASSES and not path.startswith("ImageSets")}, root)
    classes, lists = prepare.prepare("Set")
    LIST_CASES[kind](root)
    words = advice(said(check_before_training, "detection", lists, classes, dataset=prepare.dataset_words("Set", "detection", classes)), kind)
    if "deleted:" in words:
        (root / classes).unlink()
    run(command_in(words))
    assert f"[{kind}:" not in said(check_before_training, "detection", lists, classes, dataset=prepare.dataset_words("Set", "detection", classes))


# ---- sentences of the programs; each case says by some of its words which sentence it follows

RUN = {}                                                    # words of a sentence -> the test that follows it


def follows(*words):
    def note(test):
        RUN.update(dict.fromkeys(words, test.__name__))
        return test
    return note


def error_of(function, *arguments, **options):
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    return str(caught.value)


def voc(root, name="Set", lists=False):
    """A clean VOC folder of boxes without lists."""
    for path, content in dirty.clean("detection").items():
        if path != dirty.CLASSES and (lists or not path.startswith("ImageSets")):
            (root / name / path).parent.mkdir(parents=True, exist_ok=True)
            (root / name / path).write_bytes(content)


@follows("exists already and is left as it is")
def test_shapes_are_there(root):
    (root / "VOCdevkit/Shapes").mkdir(parents=True)
    text = error_of(run, "python tools/make_shapes.py train=2 val=1 test=1")
    run(command_in(text) + " train=2 val=1 test=1")
    assert len(list((root / "VOCdevkit/Shapes2/JPEGImages").iterdir())) == 4


@follows("There is no list file", "images are missing, the first is")
def test_lists_are_made_anew(root):
    voc(root)
    text = error_of(DetectionData, "Set_train.txt", ["cat", "dog"], (64, 64))
    run(command_in(text).replace("...", "Set"))
    (path,) = {line.split(" ")[0] for line in (root / "Set_train.txt").read_text().splitlines()[:1]}
    (root / path).unlink()
    text = error_of(DetectionData, "Set_train.txt", ["cat", "dog"], (64, 64))
    assert "images are missing" in text
    run(command_in(text).replace("...", "Set"))
    assert len(DetectionData("Set_train.txt", ["cat", "dog"], (64, 64)))


@follows("Use it: python voc_annotation.py")
@pytest.mark.parametrize("form", ["voc", "yolo", "coco"])
def test_an_export_is_used(root, monkeypatch, form):
    monkeypatch.chdir(root)
    voc(root)
    run(command_in(said(run, f"python tools/export.py dataset=Set to={form}")))
    assert (root / f"Set_{form}_train.txt").is_file()


@follows("NOTE: files came or went in")
def test_files_came(root):
    voc(root)
    given = dict.fromkeys(("classes_path", "train_list", "val_list", "test_list"))
    prepare.current_lists("Set", given)
    (root / "Set/JPEGImages/new.jpg").write_bytes(dirty.picture(99))
    (root / "Set/Annotations/new.xml").write_bytes((root / "Set/Annotations/t00.xml").read_bytes())
    run(command_in(said(prepare.current_lists, "Set", given)))
    assert "NOTE" not in said(prepare.current_lists, "Set", given)
    assert sum("new.jpg" in path.read_text() for path in root.glob("Set_*.txt")) == 1


def test_a_command_keeps_what_was_set(root):
    """Masks are made from outlines only by who asks for it: what is advised then asks for it too, and names the user's own classes file."""
    save(dirty_formats.clean("outlines") | {"data.yaml": dirty_formats.YAML.replace(b"images/train", b"[images/train, images/val]")}, root)
    (root / "my.txt").write_text("background\ncat\ndog\n")
    command = command_in(advice(look("segmentation", "my.txt"), "in_train_and_val"))
    assert 'task=segmentation "classes_path=my.txt"' in command
    run(command)
    assert not (root / "model_data").exists() and (root / "Set_segmentation_train.txt").is_file() and not (root / "Set_train.txt").exists()


@follows("Give the folder that holds JPEGImages", "set classes_path=... to the file of this dataset")
def test_what_the_table_says_to_set(root):
    voc(root, "Set/VOC2007")
    text = look("detection", None)
    assert "dataset=..." in advice(text, "layout")
    run("python voc_annotation.py " + re.search('Found nearby: (dataset = ".*?")', text)[1].replace(" ", ""))
    (root / "others.txt").write_text("person\n")
    text = said(run, "python voc_annotation.py dataset=Set/VOC2007 classes_path=others.txt")
    word = re.search(r"classes_path=\.\.\.", advice(text, "unknown_class"))[0].replace("...", "model_data/2007_classes.txt")
    run(f"python voc_annotation.py dataset=Set/VOC2007 {word}")


@follows("look like one mask for each")
def test_masks_of_single_objects(root):
    for number in range(4):
        for place, content in ((f"images/p{number}.png", dirty.picture(number, "PNG")), (f"masks/p{number}/0.png", dirty.mask((0, 1))),
                               (f"masks/p{number}/1.png", dirty.mask((0, 0, 1)))):
            (root / "Set" / place).parent.mkdir(parents=True, exist_ok=True)
            (root / "Set" / place).write_bytes(content)
    run("python voc_annotation.py dataset=Set " + re.search(r"It can be read: (task=\w+)", look("detection", None))[1])


@follows("Did you mean source=")
def test_a_word_without_a_name():
    text = error_of(read_settings, vars(predict), ["street.jpg"])
    assert read_settings(vars(predict), shlex.split(re.search('Did you mean (source=".*?")', text)[1])).source == "street.jpg"


@follows("objects are beyond every anchor")
def test_more_anchors(root):
    voc(root)
    boxes = [(1, 1, 23, 2), (1, 1, 2, 17), (1, 1, 23, 17), (1, 1, 3, 3)]
    for number, path in enumerate((root / "Set/Annotations").iterdir()):
        path.write_text(dirty.annotation(dirty.thing(box=boxes[number % 4]), dirty.thing("dog", boxes[number // 4 % 4])))
    run("python voc_annotation.py dataset=Set")
    text = said(run, "python tools/kmeans_anchors.py dataset=Set count=2")
    run("python tools/kmeans_anchors.py dataset=Set " + re.search(r"\((count=\d+)\)", text)[1])


@follows("Set values, palette or images: python tools/fix_masks.py --help")
def test_how_masks_are_repaired(root):
    write_masks(root / "Set", scene(0, 1, 2))
    command = re.search(r"python (tools/fix_masks.py) (--help)", error_of(run, "python tools/fix_masks.py masks=Set/masks"))
    assert "palette" in start(ROOT, *command.groups())


@follows("These are colour masks. Their")
def test_colours_are_listed_and_translated(root):
    """The remedy of mask_colour without its palette lists the colours; the new message leads on."""
    data = dirty_formats.clean("colours")
    del data["palette.txt"]
    data["masks/train/t00.png"] = dirty_formats.coloured((1, 2, 3), dirty_formats.ROAD)
    save(data, root)
    command = command_in(advice(look("segmentation", None), "mask_colour"))
    assert "palette=..." in command
    command = command_in(error_of(run, command.replace(" palette=...", "")))
    run(command)
    take_fixed(root, command)
    assert "Written:" in look("segmentation", None)


@follows("To turn 255 into class 1:")
def test_white_is_the_object(root):
    write_masks(root / "Set", scene(0, 255))
    command = command_in(error_of(run, "python tools/fix_masks.py masks=Set/masks"))
    run(command)
    take_fixed(root, command)
    assert "no problems found" in look("segmentation", None)


def test_few_numbers_of_lossy_masks_are_saved(root):
    write_masks(root / "Set", scene(0, 255), suffix=".jpg", quality=80)
    command = command_in(advice(look("segmentation", None), "mask_lossy"))
    run(command)
    take_fixed(root, command)
    assert "no problems found" in look("segmentation", None)


def test_a_table_without_names_is_looked_at(root, monkeypatch):
    monkeypatch.setattr(doctor, "check_environment", lambda: [environment.check_python()])
    (root / "Set").mkdir()
    for number in range(4):
        (root / "Set" / f"f{number}.jpg").write_bytes(dirty.picture(number, size=(64, 48)))
    (root / "Set/t.csv").write_text("".join(f"f{number}.jpg,10,8,50,38,car\n" for number in range(4)))
    run(command_in(advice(look("detection", None), "two_readings")))


def test_yolo_labels_get_a_folder_of_their_own(root):
    """What is advised of YOLO files among xml files, done as it is said."""
    voc(root)
    (root / "Set/Annotations/t00.xml").unlink()
    (root / "Set/Annotations/t00.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    assert "classes.txt of the class names" in advice(look("detection", None), "yolo_file")
    (root / "own").mkdir()
    (root / "Set/Annotations/t00.txt").rename(root / "own/t00.txt")
    (root / "Set/JPEGImages/t00.jpg").rename(root / "own/t00.jpg")
    (root / "own/classes.txt").write_text("cat\n")
    run("python voc_annotation.py dataset=own")
    assert "yolo_file" not in look("detection", None)


@follows('python voc_annotation.py "dataset={file}"', 'python voc_annotation.py "dataset={folder}"')
@pytest.mark.parametrize("kind", ["via", "wider_face", "kitti", "visdrone", "coco", "labelme"])
def test_a_format_that_is_read_is_given_as_it_says(root, kind):
    if kind in READERS:
        names = [f"f{number}.jpg" for number in range(3)]
        pictures(root / "Set", kind, names)
        READERS[kind](root / "Set", names)
    else:
        save({path: content for path, content in dirty_formats.clean(kind).items() if "val" not in path and "test" not in path}, root)
    command = re.search(r"It can be read: (python .*?\")\.", sniff.what_lies_there(root / "Set"))[1]
    run(command)


@follows("holds masks: it is a dataset for segmentation")
def test_masks_are_for_segmentation(root):
    write_masks(root / "Set", scene(0, 1, 2))
    word = re.search(r"Set (task=\w+)", look("detection", None))[1]
    run(f"python voc_annotation.py dataset=Set {word}")


@follows("To make masks from its outlines:")
def test_masks_from_outlines(root):
    save(dirty_formats.clean("outlines"), root)
    word = re.search(r"task=\w+", said(run, "python voc_annotation.py dataset=Set"))[0]
    run(f"python voc_annotation.py dataset=Set {word}")
    assert (root / "Set_segmentation_train.txt").is_file()


@follows('or model_path="" to do without', "needs classes_path=...:", "give your own with dataset=...")
def test_the_doctor_can_do_without(root, monkeypatch):
    monkeypatch.setattr(doctor, "check_environment", lambda: [environment.check_python()])
    monkeypatch.chdir(root)                         # the repository may have its Shapes already
    voc(root)
    assert "give your own with dataset=..." in said(run, "python tools/doctor.py")
    run("python voc_annotation.py dataset=Set")
    (root / "bad.pth").write_bytes(b"hello")
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
        run("python tools/doctor.py dataset=Set model_path=bad.pth")
    word = re.search('or (model_path="") to do without', out.getvalue())[1]
    run(f"python tools/doctor.py dataset=Set {word}")
    text = error_of(run, "python tools/doctor.py train_list=Set_train.txt")
    run("python tools/doctor.py train_list=Set_train.txt " + re.search("classes_path=...", text)[0].replace("...", "model_data/set_classes.txt"))


@follows("is there already: nothing is overwritten")
def test_another_place_for_fixed_masks(root):
    write_masks(root / "Set", scene(0, 255))
    run('python tools/fix_masks.py masks=Set/masks "values={255: 1}"')
    text = error_of(run, 'python tools/fix_masks.py masks=Set/masks "values={255: 1}"')
    run('python tools/fix_masks.py masks=Set/masks "values={255: 1}" ' + re.search(r"out=\.\.\.", text)[0].replace("...", "elsewhere"))


@follows("nearest=True needs the numbers that are meant")
def test_the_numbers_that_are_meant(root):
    write_masks(root / "Set", scene(0, 128, 255))
    word = re.search('"values=.*?"', error_of(run, "python tools/fix_masks.py masks=Set/masks nearest=True"))[0]
    run(f"python tools/fix_masks.py masks=Set/masks nearest=True {word}")


@follows("Set pretrained=False, or net_options", "set pretrained=False, or choose a backbone")
@pytest.mark.parametrize("name, options, words", [
    ("unet", {}, "pretrained=False"), ("unet", {}, '{"backbone": "vgg16"}'),
    ("deeplabv3plus", {"backbone": "xception65"}, "pretrained=False")])
def test_networks_without_a_file(name, options, words):
    text = error_of(nets.build, name, 2, (64, 64), pretrained=True, **options)
    assert words in text, text
    changed = options | ast.literal_eval(words) if "{" in words else options
    assert nets.build(name, 2, (64, 64), pretrained=False, **changed)


# ---- with a trained network

SMALL = ("net=yolov4_tiny", "input_shape=64,96", "batch_size=8", "freeze_epochs=0", "num_workers=0", "amp=False", "eval_every=50")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A copy of the project in which a training of one epoch was done. -> its folder, what each command printed."""
    project = copy_project(tmp_path_factory.mktemp("advice"), train=8)
    first = start(project, "predict.py", status=1)
    said = start(project, *script_and_words(first), *SMALL, "epochs=1")
    return project, {"first": first, "train": said}


def script_and_words(text):
    """The command in a text: its script and words."""
    return shlex.split(command_in(text))[1:]


@slow
@follows("There is no trained network yet", "to measure it on the test list")
def test_what_to_do_after_a_training(trained):
    """It was begun by the command that predict.py names; both commands that it ends with are run."""
    project, texts = trained
    assert "There is no trained network yet" in texts["first"]
    commands = COMMAND.findall(texts["train"])
    assert [command.strip() for command in commands] == ["python get_map.py", "python predict.py"]
    for command in commands:
        start(project, *shlex.split(command)[1:])


@slow
@follows("To go on: epochs=", "so it cannot be resumed. To start a new run")
def test_to_go_on_with_a_run(trained):
    project, _ = trained
    text = start(project, "train.py", "resume=True", "epochs=1", status=1)
    word = re.search(r"To go on: (epochs=\d+)", text)[1]
    text = start(project, "train.py", "resume=True", word, "optimizer=sgd", status=1)
    start(project, "train.py", "resume=True", word)
    start(project, "train.py", *SMALL, "epochs=1", "optimizer=sgd", *re.findall('"(model_path=.*?)"', text))


@slow
@follows("get_map.py and predict.py can use it with the trained network")
def test_a_short_side(trained):
    project, _ = trained
    text = start(project, "train.py", *SMALL, "fit=short_side", status=1)
    script, *words = re.search("python (get_map.py) (fit=short_side) (input_shape=[0-9,]+)", text).groups()
    start(project, script, *words)
    assert "fit=short_side" in " ".join(words)


@slow
@follows("a network for {}: measure it with python get_map.py")
def test_the_other_measure(trained):
    project, _ = trained
    weights = next((project / "logs").glob("*/best.pth"))
    start(project, *script_and_words(start(project, "get_miou.py", f"model_path={weights}", status=1)), f"model_path={weights}")


@slow
@follows("python train.py train_list={file}")
def test_a_list_is_given_to_a_training(trained, monkeypatch):
    project, _ = trained
    monkeypatch.setattr(settings, "ROOT", project)
    place = project / "listed"
    place.mkdir()
    (place / "a.jpg").write_bytes(next((project / "VOCdevkit/Shapes/JPEGImages").iterdir()).read_bytes())
    (place / "mine.txt").write_text((project / "Shapes_train.txt").read_text())
    command = re.search(r"(python train.py .*?) +trains from it", sniff.what_lies_there(place))[1]
    start(project, *shlex.split(command.replace("...", "model_data/shapes_classes.txt"))[1:], *SMALL, "epochs=1")


# ---- no sentence is forgotten

# sentences that another test follows
MASK_VALUES = "checks/test_mask_values.py::test_the_advice_works"
ELSEWHERE = {
    "Stopped and saved. To go on:": "training/test_signals.py::test_stopped_again_and_again",
    "make room and run": "training/test_saves.py::test_when_the_last_save_fails_it_says_so",
    "is not the dataset that this run learns from": "training/test_moved.py::test_the_data_set_is_moved",
    "The loss or its gradient became NaN": "training/test_accidents.py::test_nan",
    "What was saved last is whole; end that process": "training/test_processes.py::test_one_of_two_stands_still",
    'python tools/fix_masks.py "masks={}" "values={{}}"{}': MASK_VALUES, "If these are class numbers, write a file of the {}": MASK_VALUES,
    "means 'not labelled': ignore_labels=": "checks/test_mask_values.py::test_a_class_that_may_mean_not_labelled_is_asked_about",
    "try confidence={}, or train longer": "scripts/test_predict_pipeline.py::test_many_images_have_one_summary",
    "Unpack it first, into a folder": "formats/test_foreign.py::test_archives_are_unpacked_first",
    "has its suppression inside": "scripts/test_onnx.py::test_what_the_file_cannot_do",
    "learns from pictures of the training": "scripts/test_onnx.py::test_whole_numbers",
    "Leave scales out, or set slide=True": "scripts/test_onnx.py::test_segmentation_in_every_way",
    "Choose another one with port=": "prediction/test_web.py::test_a_port_that_is_taken",
    "set output to a folder of your own": "scripts/test_places.py::test_an_output_elsewhere_holds_the_lists_too",
    "predict.py confidence={}": "scripts/test_predict.py::test_nothing_found_says_how_far_it_was",
    "python -m zipfile": "formats/test_foreign.py::test_archives_are_unpacked_first",
}

KINDS_ELSEWHERE = {
    "masks_0_255": MASK_VALUES, "mask_alpha": MASK_VALUES, "listed_moved": "training/test_moved.py::test_the_data_set_is_moved",
    "mask_colour": "project/test_advice.py::test_colours_are_listed_and_translated",
    "mask_lossy": "project/test_advice.py::test_few_numbers_of_lossy_masks_are_saved",
    "two_readings": "project/test_advice.py::test_a_table_without_names_is_looked_at",
    "outline_broken": "formats/test_foreign.py::test_segmentation",
}
EXCUSED = {
    # nothing is advised: what was done, or what a word means
    "would cut the curves off": "no advice: says what is done", "evaluations were not better than the best": "no advice",
    "must be divisible by the number of processes": "no advice: several processes", "resume=True passes over it": "no advice",
    "continuing from the same image": "no advice", "Every batch is therefore cut": "no advice", "GPU: Apple silicon": "no advice",
    "the numbers of pictures must be 0 or more": "no advice", "In all pictures {}": "no advice", "nothing reaches confidence=": "no advice",
    "has no effect: of": "no advice", "no window can be opened here": "no advice: says what is done",
    "cannot be exported with opset={}": "no advice",
    # a part of commands, or the same as one that is followed
    '"dataset={}"': "a part of others", '"classes_path={}"': "a part of others",
    "list_path=2007_test.txt": "an example with a list of the user's", "list_path=mydata_test.txt": "an example with a list of the user's",
    "to take images from: set source": "an example with a picture of the user's",
    "measure it with python get_miou.py": "as that of get_map.py, for a network of masks",
    "can be exported for one size only": "needs official weights", "Use it: python predict.py": "an example with a picture of the user's",
    "pip install onnxruntime-gpu": "needs a GPU",
    # needs another program, hardware, or data
    "leftImg8bit and gtFine": "needs Cityscapes", "does not fit this run": "needs a last.pth of another version",
    "go on with resume=True accumulate=": "needs a full memory",
    "If it is a video, say mode=video": "needs a video of an unknown suffix", "Could not download": "needs the internet",
    "for at most {} s": "needs the internet", "There is no official COCO file of ssd512": "needs the internet",
    "The file that pretrained=": "needs the internet", "The authors' weights of SegFormer": "needs the internet",
    "The official weights of yolov8": "needs the internet", "The official weights of yolo11": "needs the internet",
    "The official weights of rtdetr": "needs the internet", "There is no official COCO file of centernet": "needs the internet",
    'The files that pretrained="coco" downloads': "needs the internet",
    "holds bare weights": "needs official weights", "go on with resume=True compile=False": "needs a compiler that is missing",
    "Take {} from https://pytorch.org": "needs another PyTorch", "Close other programs": "needs a full memory", "In docker:": "needs docker",
    "torchrun started": "needs GPUs", "cannot compute in": "needs another GPU",
}


def settings_of_scripts():
    """The names of all variables that can be set."""
    files = [*ROOT.glob("*.py"), *(ROOT / "tools").glob("*.py")]
    lines = [line for path in files for line in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(line, ast.Assign)]
    return {target.id for line in lines for target in line.targets if isinstance(target, ast.Name) and target.id.islower()}


def text_of(node):
    """A string of the source; what is filled in stands as {}."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    return "".join("{}" if isinstance(part, ast.FormattedValue) else part.value for part in node.values) if isinstance(node, ast.JoinedStr) else ""


@functools.cache
def sentences():
    """(file, text) of all strings of the source, without comments in front of functions and parts of other strings."""
    found = []
    for path in [*ROOT.glob("*.py"), *(path for room in ("utils", "nets", "tools") for path in (ROOT / room).rglob("*.py"))]:
        tree, passed = ast.parse(path.read_text(encoding="utf-8")), set()
        for node in ast.walk(tree):
            passed |= set(map(id, node.values)) if isinstance(node, ast.JoinedStr) else {id(node.value)} if isinstance(node, ast.Expr) else set()
        for node in ast.walk(tree):
            if id(node) not in passed and (text := text_of(node)):
                found.append((path.relative_to(ROOT).as_posix(), " ".join(text.split())))
    return found


def advising():
    """Those that advise a command, or to set a variable. What a sentence begins with is only what the user wrote: "count=3: expected ..."."""
    names = settings_of_scripts()
    return [(file, text) for file, text in sentences() if advises(text, names)]


def advises(text, names):
    words = re.findall(r"(?<![\w/{.])([a-z_]+)=(?=[^=\s])", re.sub(r"^[a-z_]+=", "", text))
    return bool(re.search(r"\bpython (-m|[\w/]+\.py)", text) or names & set(words))


def test_every_advice_is_followed_or_excused():
    texts = [text for file, text in advising() if file != "utils/findings.py"]
    known = [*RUN, *ELSEWHERE, *EXCUSED]
    assert not [text for text in texts if not any(words in text for words in known)]
    every = [text for _, text in sentences()]
    assert not [words for words in known if not any(words in text for text in every)]


def test_every_advice_of_the_table_is_followed():
    known = KIND_CASES | LIST_CASES | KINDS_ELSEWHERE
    names = settings_of_scripts()
    missing = [kind for kind, (_, _, advice) in KINDS.items() if kind not in known and advises(advice, names)]
    assert not [kind for kind in missing if not any(words in KINDS[kind][2] for words in RUN)]


def test_the_tests_that_are_named_are_there():
    for place in [*ELSEWHERE.values(), *KINDS_ELSEWHERE.values()]:
        file, _, name = place.partition("::")
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), place
