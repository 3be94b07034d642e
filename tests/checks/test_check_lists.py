"""check_before_training: what train.py's lists hold, read once and remembered."""
import json
import os
import shutil
import time

import dirty
import numpy as np
import pytest
from PIL import Image

from utils import lists
from utils.checks import lists as check_lists
from utils.checks import prepare
from utils.checks.lists import check_before_training, look_at_lists_of
from utils.errors import UserError
from utils.formats import sweep as look
from utils.images import open_image

LISTS = {task: {split: f"Set{'_segmentation' * (task == 'segmentation')}_{split}.txt" for split in ("train", "val", "test")}
         for task in ("detection", "segmentation")}


@pytest.fixture(params=LISTS)
def prepared(root, request, capsys):
    """A clean dataset with its lists. -> its folder, the task."""
    for path, content in dirty.clean(request.param).items():
        place = root / path if path == dirty.CLASSES else root / "Set" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    prepare.prepare("Set", dirty.CLASSES, task=request.param)
    capsys.readouterr()
    return root, request.param


def found(task, **options):
    return {(finding.kind, finding.file.name, finding.line) for finding in look_at_lists_of(task, LISTS[task], dirty.CLASSES, **options)[0]}


def change(path, *pairs):
    text = path.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def lists_of(task, split="train"):
    return LISTS[task][split]


def test_clean(prepared, capsys):
    root, task = prepared
    assert found(task) == set()
    check_before_training(task, LISTS[task], dirty.CLASSES, (64, 64), 8)
    out = capsys.readouterr().out
    assert "36 images" in out and "no problems found" in out


def test_the_second_time_nothing_is_read(prepared, monkeypatch):
    root, task = prepared
    read = []
    for name in ("look_at_image", "look_at_mask"):
        real = getattr(look, name)
        monkeypatch.setattr(check_lists, name, lambda path, real=real: (read.append(path.name), real(path))[1])
    each = 36 * (1 + (task == "segmentation"))
    assert found(task) == set() and len(read) == each
    assert found(task) == set() and len(read) == each
    path = root / "Set" / dirty.image_of("t05")
    os.utime(path, ns=(1, 1))                                                   # another time: read again, alone
    assert found(task) == set() and read[each:] == ["t05.jpg"]
    path.write_bytes(path.read_bytes()[:300])
    assert found(task) == {("image_damaged", "t05.jpg", None)} and read[each + 1:] == ["t05.jpg"]
    assert found(task) == {("image_damaged", "t05.jpg", None)} and len(read) == each + 2


def test_a_damaged_memory_is_made_again(prepared):
    root, task = prepared
    assert found(task) == set()
    (memory,) = (root / check_lists.MEMORY).iterdir()
    whole = memory.read_bytes()
    for damaged in (b"", b"{", whole[:-9], whole.replace(b"24", b"25", 1), b"\xff\xfe\x00", json.dumps({"version": 1}).encode(),
                    whole.split(b"\n")[0] + b"\n[1]", b"[" * 100000):
        memory.write_bytes(damaged)
        assert found(task) == set()
        assert memory.read_bytes() == whole
    memory.unlink()
    memory.mkdir()                                                              # cannot be written: no reason to stop
    assert found(task) == set()


def test_faults_of_the_files(prepared):
    root, task = prepared
    folder = root / "Set"
    (folder / dirty.image_of("t01")).write_bytes(b"<html>")
    (folder / dirty.image_of("t02")).unlink()
    (folder / dirty.image_of("v1")).write_bytes(dirty.cut("JPEG", 0.5))
    (folder / dirty.image_of("x1")).write_bytes(dirty.cut("JPEG", 0.5))
    expected = {("not_an_image", "t01.jpg", None), ("listed_missing", lists_of(task), 3), ("listed_unusable", "v1.jpg", None),
                ("image_damaged", "x1.jpg", None)}
    if task == "segmentation":
        (folder / "SegmentationClass/t04.png").write_bytes(dirty.mask(kind="JPEG"))
        (folder / "SegmentationClass/t05.png").write_bytes(dirty.mask(size=(12, 9)))
        (folder / "SegmentationClass/t06.png").unlink()
        (folder / "SegmentationClass/t07.png").write_bytes(dirty.mask((0, 9)))
        (folder / "SegmentationClass/x2.png").write_bytes(b"")
        expected |= {("listed_unusable", "t04.png", None), ("listed_unusable", "t05.png", None), ("listed_missing", lists_of(task), 7),
                     ("mask_values", "t07.png", None), ("not_an_image", "x2.png", None)}
    assert found(task) == expected


def test_faults_of_the_lists(prepared):
    root, task = prepared
    first = (root / lists_of(task)).read_text().splitlines()
    (root / lists_of(task)).write_text("\n".join([*first[:4], "what is this", *first[4:], "a.jpg\tb.png\tc.png"]) + "\n")
    (root / lists_of(task, "val")).write_text((root / lists_of(task, "val")).read_text() + first[7] + "\n")
    shutil.copy(root / "Set" / dirty.image_of("t09"), root / "Set" / dirty.image_of("x0"))
    assert found(task) == {("list_line", lists_of(task), 5), ("list_line", lists_of(task), 32), ("in_train_and_val", lists_of(task, "val"), 4),
                           ("same_across", "x0.jpg", None)}


def test_boxes(root, prepared):
    root, task = prepared
    if task == "segmentation":
        return
    change(root / "Set_train.txt", ("t03.jpg 2,3,10,12,0", "t03.jpg 2,3,10,12,2"), ("t04.jpg 2,3,10,12,0", "t04.jpg 2,3,40,12,0"),
           ("t05.jpg 2,3,10,12,0", "t05.jpg 30,3,90,12,0"), ("t06.jpg 2,3,10,12,0", "t06.jpg 8,4,20,17,1"),
           ("t07.jpg 2,3,10,12,0", "t07.jpg 2,3,2,12,0"))
    expected = {("list_class", "Set_train.txt", 4), ("box_clipped", "Set_train.txt", 5), ("box_outside", "Set_train.txt", 6),
                ("box_twice", "Set_train.txt", 7), ("box_empty", "Set_train.txt", 8)}
    assert found(task) == expected
    tiny = {line for kind, _, line in found(task, input_shape=(18, 24), stride=10) - expected if kind == "box_tiny"}
    assert tiny == set(range(1, 31)) - {4 + i for i in range(5)} | {4, 8}         # 8 x 9 px at the input, a cell has 10
    assert found(task, input_shape=(18, 24), stride=9) - expected == set()
    assert found(task, input_shape=(9, 12), stride=9, fit="stretch") - expected != set()


def test_classes_and_absent_lists(prepared):
    root, task = prepared
    classes = root / dirty.CLASSES
    classes.write_text(classes.read_text() + "more\n")
    assert found(task) == {("class_absent", dirty.CLASSES, 3 + (task == "segmentation"))}
    classes.write_text("a\n\nb\nb\n")
    assert {("classes_blank", dirty.CLASSES, 2), ("classes_twice", dirty.CLASSES, 4)} <= found(task)
    (root / lists_of(task, "test")).unlink()                                      # training does not need it
    (root / lists_of(task, "val")).unlink()
    assert ("list_absent", lists_of(task, "val"), None) in found(task) and not any(name == lists_of(task, "test") for _, name, _ in found(task))
    (root / lists_of(task)).write_text("\n")
    assert ("list_empty", lists_of(task), None) in found(task)


def test_what_stops_is_an_error_with_all_of_it(prepared):
    root, task = prepared
    (root / "Set" / dirty.image_of("t02")).unlink()
    (root / dirty.CLASSES).write_text("a\na\n")
    said = []
    with pytest.raises(UserError) as caught:
        check_before_training(task, LISTS[task], dirty.CLASSES, (64, 64), 8, say=said.append)
    text = str(caught.value)
    assert f"{lists_of(task)}, line 3" in text and f"{dirty.CLASSES}, line 2" in text and len(said) == 1
    assert 'python voc_annotation.py "dataset=..."' in text             # of lists whose dataset is not known
    (root / "Set").rename(root / "Moved")
    assert {kind for kind, *_ in found(task)} >= {"listed_moved"}


def test_lists_without_objects(prepared):
    root, task = prepared
    if task == "detection":
        for split in LISTS[task].values():
            text = (root / split).read_text()
            (root / split).write_text("".join(line.split(" ")[0] + "\n" for line in text.splitlines()))
        assert found(task) == {("no_objects", "Set_train.txt", None)}


@pytest.mark.parametrize("prepared", ["detection"], indirect=True)
def test_only_difficult_objects(prepared, capsys):
    """Nothing is learned from them: a training stops at its list, and the making of the list warned."""
    root, _ = prepared
    for label in (root / "Set/Annotations").iterdir():
        label.write_text(label.read_text().replace("<difficult>0", "<difficult>1"))
    _, lists = prepare.prepare("Set", dirty.CLASSES)
    out = capsys.readouterr().out
    assert "WARNING: of the objects to learn from all 60 are difficult" in out and out.count("none to learn from!") == 2
    with pytest.raises(UserError) as caught:
        check_before_training("detection", lists, dirty.CLASSES)
    assert "[no_objects: stops]" in str(caught.value) and "all 60 are difficult, and those are not taught" in str(caught.value)
    change(root / lists["train"], (",0,1", ",0"))           # a single one is enough to begin
    assert "no_objects" not in {finding.kind for finding in check_before_training("detection", lists, dirty.CLASSES)}


def test_it_is_quick_when_nothing_changed(root):
    """2000 images: the second time well under a second. Small images, for reading them is not what is measured."""
    (root / "images").mkdir()
    content = dirty.picture(0)
    for i in range(2000):
        (root / f"images/{i}.jpg").write_bytes(content[:2] + b"\xff\xfe\x00\x06" + f"{i:04d}".encode() + content[2:])
    boxes = [(1, 1, 9, 9, 0), (3, 3, 20, 15, 0), (2, 2, 9, 9, 0)]
    for split, part in (("train", range(100, 2000)), ("val", range(100))):
        lists.write_list(f"{split}.txt", [(f"images/{i}.jpg", boxes) for i in part])
    (root / "c.txt").write_text("a\n")
    written, times = {"train": "train.txt", "val": "val.txt"}, []
    for _ in range(3):
        began = time.process_time()
        check_before_training("detection", written, "c.txt", (416, 416), 8, say=lambda text: None)
        times.append(time.process_time() - began)
    assert min(times[1:]) < 0.5 and min(times[1:]) < times[0] / 2, times


@pytest.mark.parametrize("kind", ["JPEG", "progressive", "grey", "CMYK", "PNG", "BMP", "WEBP", "GIF", "TIFF"])
def test_the_quick_decoding_judges_as_the_whole_one(tmp_path, kind):
    """Cut off anywhere, bytes changed anywhere: look_at_image complains exactly when open_image does."""
    stream = np.random.default_rng(1)
    picture = Image.fromarray(stream.integers(0, 256, (40, 56, 3), np.uint8)).resize((112, 80))
    picture = {"grey": picture.convert("L"), "CMYK": picture.convert("CMYK")}.get(kind, picture)
    options = {"progressive": True} if kind == "progressive" else {}
    whole = dirty.saved(picture, "JPEG" if kind in ("progressive", "grey", "CMYK") else kind, **options)
    samples = [whole[:int(end)] for end in np.linspace(len(whole) - 1, 20, 25)] + [whole[:-end] for end in range(1, 6)]
    for _ in range(40):
        broken = bytearray(whole)
        for place in stream.integers(2, len(whole), stream.integers(1, 12)):
            broken[place] = stream.integers(0, 256)
        samples.append(bytes(broken))
    path, judged = tmp_path / "x.jpg", []
    for content in [whole, *samples]:
        path.write_bytes(content)
        judged.append([outcome(function, path) for function in (look.look_at_image, open_image)])
    assert all(quick == whole for quick, whole in judged) and judged[0] == ["good", "good"] and sum(one[0] != "good" for one in judged) > 5


def outcome(function, path):
    try:
        function(path)
        return "good"
    except UserError as error:
        return error.kind
