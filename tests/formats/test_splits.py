"""Which images are for training: own lists, splits that depend on the seed only, every class evenly."""
import random
import re

import numpy as np
import pytest
from PIL import Image
from sources import XML, image, make_coco, make_yolo, read, text, tree

from utils import lists
from utils.checks import prepare
from utils.formats import stratify, voc_folder
from utils.system import files


def test_own_lists_and_a_missing_val_list(root, capsys):
    folder = make_yolo(root / "y", "train: images/train\ntest: images/val\nnames: [a, b]", count=10)
    names, splits = read(folder)
    assert [len(splits[split]) for split in splits] == [9, 1, 10] and "its own test list of 10 is kept" in capsys.readouterr().out
    names, splits = read(folder, new_split=True, seed=2)
    assert [len(splits[split]) for split in splits] == [16, 2, 2]


def test_splits_do_not_depend_on_the_order_of_creation_or_the_place(root):
    made = []
    for number, order in enumerate((range(20), reversed(range(20)), random.Random(1).sample(range(20), 20))):
        for i in order:
            image(root / f"place {number}" / "x" / "images" / f"{i}.png")
            text(root / f"place {number}" / "x" / "images" / f"{i}.txt", "0 .5 .5 .2 .2")
        text(root / f"place {number}" / "x" / "classes.txt", "a\n")
        for stratified in (False, True):
            splits = read(root / f"place {number}" / "x", stratify=stratified)[1]
            made.append([[path.name for path, _ in splits[split]] for split in splits])
    assert made[0] == made[2] == made[4] and made[1] == made[3] == made[5]
    assert read(root / "place 0" / "x", seed=1)[1] != read(root / "place 0" / "x", seed=0)[1]


@pytest.mark.parametrize("seed", range(5))
def test_stratified(seed):
    """Every class as evenly as possible, in exactly the sizes of a plain split; far better than by chance for rare classes."""
    rng = random.Random(seed)
    classes = {f"{n:03}": {label for label,
                           share in (("a", 0.9), ("b", 0.3), ("rare", 0.04), ("c", 0.1)) if rng.random() < share} for n in range(300)}
    plain = voc_folder.make_split(classes, 0.8, 0.75, seed)
    made = voc_folder.make_split(classes, 0.8, 0.75, seed, classes)
    assert {name: len(some) for name, some in made.items()} == {name: len(some) for name, some in plain.items()}
    assert sorted(made["train"] + made["val"] + made["test"]) == sorted(classes) and made["trainval"] == sorted(made["train"] + made["val"])
    for label in ("a", "b", "rare", "c"):
        total = sum(label in some for some in classes.values())
        for split, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
            assert abs(sum(label in classes[name] for name in made[split]) - share * total) <= 1.5, (label, split)
    assert voc_folder.make_split(dict(sorted(classes.items(), reverse=True)), 0.8, 0.75, seed, classes) == made
    assert voc_folder.make_split(classes, 0.8, 0.75, seed + 1, classes) != made


@pytest.mark.parametrize("n", range(6))
def test_stratified_small(n):
    classes = {str(i): {"a"} if i % 2 else set() for i in range(n)}
    plain, made = voc_folder.make_split(classes), voc_folder.make_split(classes, classes=classes)
    assert {name: len(some) for name, some in made.items()} == {name: len(some) for name, some in plain.items()}


def test_a_class_with_three_images_comes_into_every_part():
    classes = {f"{i:02}": {"common"} | ({"rare"} if i in (3, 11, 17) else set()) for i in range(30)}
    for seed in range(10):
        parts = stratify.deal_evenly(classes, [10, 10, 10], seed)
        assert [sum("rare" in classes[name] for name in part) for part in parts] == [1, 1, 1]


def test_stratify_of_voc_folders_and_masks(root):
    for number in range(30):
        image(root / "v" / "JPEGImages" / f"{number}.png")
        text(root / "v" / "Annotations" / f"{number}.xml", XML.format("rare" if number < 3 else "cat"))
        (root / "v" / "SegmentationClass").mkdir(exist_ok=True)
        mask = np.zeros((30, 40), np.uint8)
        mask[:5] = 2 if number < 3 else 1
        Image.fromarray(mask).save(root / "v" / "SegmentationClass" / f"{number}.png")
    for task in ("detection", "segmentation"):
        _, lists = prepare.prepare("v", task=task, stratify=True, trainval_percent=0.66, train_percent=0.5)
        for path in lists.values():
            assert len(re.findall(r"JPEGImages/[012]\.png", (root / path).read_text(encoding="utf-8"))) == 1, (task, path)


@pytest.mark.parametrize("seed", range(5))
def test_parts_have_the_sizes_they_are_given(seed):
    """Also where every image has classes, so that nothing is left to fill up with."""
    rng = random.Random(seed)
    classes = {f"{i:02}": set(rng.sample("abcdefgh", rng.randint(1, 2))) for i in range(30)}
    assert [len(part) for part in stratify.deal_evenly(classes, [18, 6, 6], seed)] == [18, 6, 6]


def make_voc(folder, names):
    """A VOC folder without lists. -> the folder."""
    for name in names:
        image(folder / "JPEGImages" / f"{name}.png")
        text(folder / "Annotations" / f"{name}.xml", XML)
    return folder


def listed(split, dataset="Set"):
    """The stems in a list file."""
    return [re.search(r"([^/]+)\.png ", line)[1] for line in lists.find(f"{dataset}_{split}.txt").read_text().splitlines()]


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_a_data_set_that_is_read_only(root, task, capsys):
    """Split and masks are kept in the repository; in the data not even the time of a folder changes."""
    folder = make_coco(root.parent / "share" / "Set") if task == "segmentation" else make_voc(root.parent / "share" / "Set", "abcdefghij")
    places = [folder, *folder.rglob("*")]
    for place in places:
        place.chmod(0o555 if place.is_dir() else 0o444)
    times, before = [place.stat().st_mtime_ns for place in places], tree(folder)
    try:
        _, made = prepare.prepare(str(folder), task=task)
        assert len(made) == 3 and all((root / path).read_text() for path in made.values())
        assert tree(folder) == before and [place.stat().st_mtime_ns for place in places] == times
        assert list((root / "prepared").glob("Set_*/*")) == list((root / "prepared").glob("Set_*/[Im]*s"))
    finally:
        for place in places:
            place.chmod(0o755)


def test_own_lists_that_come_later_count(root):
    """A split that was made counts as long as the data set's own lists are those that it was made beside."""
    folder = make_voc(root / "Set", "abcdefghij")
    prepare.prepare("Set")
    made = listed("train")
    for name, stems in (("train", "ab"), ("val", "cd")):
        text(folder / "ImageSets" / "Main" / f"{name}.txt", "\n".join(stems))
    prepare.prepare("Set")
    assert (listed("train"), listed("val")) == (["a", "b"], ["c", "d"]) != (made, ["c", "d"])
    own = tree(folder)
    prepare.prepare("Set", new_split=True)                  # asked for: over lists of its own, which stay
    assert listed("train") == made and tree(folder) == own
    prepare.prepare("Set")
    assert listed("train") == made
    text(folder / "ImageSets" / "Main" / "val.txt", "e\n")
    prepare.prepare("Set")
    assert (listed("train"), listed("val")) == (["a", "b"], ["e"])


def test_a_data_set_that_was_moved_keeps_its_split(root, capsys):
    """What was learnt from must not become what is tested on, because the folder was renamed."""
    folder = make_voc(root / "Set", "abcdefghijklmnop")
    prepare.prepare("Set", new_split=True, seed=7)
    parts = [listed(split) for split in ("train", "val", "test")]
    make_voc(folder, "uvw")                                 # pictures that came since
    folder.rename(root / "Renamed")
    capsys.readouterr()
    prepare.prepare("Renamed")
    assert [listed(split, "Renamed") for split in ("train", "val", "test")] == parts
    assert "Renamed: the split from where these images were before is written to prepared/Renamed_" in capsys.readouterr().out
    make_voc(root / "Other", "abcdefghijklmno")             # "p" is not there: these are other data
    prepare.prepare("Other")
    assert len(sum((listed(split, "Other") for split in ("train", "val", "test")), [])) == 15
    assert listed("train", "Other") != [name for name in parts[0] if name != "p"]


def test_a_split_that_was_cut_off_is_made_again(root, monkeypatch):
    make_voc(root / "Set", "abcdefghij")
    def replace(part, path, *rest):
        if path.name == voc_folder.RECORD:                  # the last of the split's files
            raise KeyboardInterrupt
        return original(part, path, *rest)
    original = files.replace
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(files, "replace", replace)
        prepare.prepare("Set", seed=3)
    lists_folder = voc_folder.made_folder(root / "Set", "detection")
    assert voc_folder.set_files(root / "Set") == {} and (lists_folder / "train.txt").is_file()
