"""utils/checks/masks.py: what the masks of a dataset say together, and that the advice made of it works on these very masks."""
import re
import shlex

import numpy as np
import pytest
from PIL import Image

from tests.helpers import dirty
from tools import fix_masks
from utils.checks import prepare
from utils.checks.lists import check_before_training
from utils.errors import UserError
from utils.settings import read_settings

NAMES = [f"{number:02d}" for number in range(24)]
RNG = np.random.default_rng(0)


def write(folder, make, images="images", suffix=".png", masks="masks", end="", **options):
    """24 images with the masks that make(number) gives, (48, 64) or a Pillow image."""
    for number, name in enumerate(NAMES):
        for place in (folder / images, folder / masks):
            place.mkdir(parents=True, exist_ok=True)
        mask = make(number)
        (folder / images / f"{name}.jpg").write_bytes(dirty.picture(number, size=(64, 48)))
        (mask if isinstance(mask, Image.Image) else Image.fromarray(mask)).save(folder / masks / f"{name}{end}{suffix}", **options)


def scene(*values):
    """The first value everywhere, the others as squares."""
    def make(number):
        mask = np.full((48, 64), values[0], np.uint8)
        for place, value in enumerate(values[1:]):
            mask[8 + number % 8:24 + number % 8, 4 + 20 * place:18 + 20 * place] = value
        return mask
    return make


def smooth(*values):
    def make(number):
        larger = Image.fromarray(scene(*values)(number)).resize((128, 96), Image.Resampling.BILINEAR)
        return larger.resize((64, 48), Image.Resampling.BICUBIC)
    return make


def in_alpha(number):
    picture = Image.new("RGBA", (64, 48))
    picture.putalpha(Image.fromarray(scene(0, 255)(number)))
    return picture


def refused(**options):
    with pytest.raises(UserError) as caught:
        prepare.prepare("Set", task="segmentation", **options)
    return str(caught.value)


def follow(root, text):
    """Run the command of fix_masks.py that a report names, and put the new masks into the place of the old ones, as it says."""
    command = re.search(r"python tools/fix_masks.py (.*?)(  |$)", text, re.MULTILINE)[1]
    s = read_settings(vars(fix_masks), shlex.split(command))
    fix_masks.main(s)
    folder = root / s.masks
    folder.rename(folder.with_name(folder.name + "_old"))
    folder.with_name(folder.name + "_fixed").rename(folder)


@pytest.mark.parametrize("name, make, kind, words, classes, options", [
    ("alpha", in_alpha, "mask_alpha", "its alpha channel holds 0 and 255", 2, {}),
    ("white", scene(0, 255), "masks_0_255", "0 and 255", 2, {}),
    ("three greys", scene(0, 128, 255), "masks_brightness", "{128: 1, 255: 2}", 3, {}),
    ("four greys", scene(0, 85, 170, 255), "masks_brightness", "{85: 1, 170: 2, 255: 3}", 4, {}),
    ("ADE20K", scene(0, 3, 13, 150), "masks_brightness", "150 class names", 3, {"ignore_labels": [0]}),
    ("no zero", scene(40, 80, 120), "masks_brightness", "{40: 0, 80: 1, 120: 2}", 3, {}),
    ("smoothed", smooth(0, 255), "mask_strays", "0 and 255, and", 2, {}),
    ("smoothed greys", smooth(0, 128, 255), "mask_strays", "{0: 0, 128: 1, 255: 2}", 3, {}),
])
def test_the_advice_works(root, name, make, kind, words, classes, options):
    write(root / "Set", make, images="images/all", masks="masks/all")
    text = refused(**options)
    assert f"[{kind}: stops]" in text and words in text, text
    follow(root, text)
    path, lists = prepare.prepare("Set", task="segmentation", **options)
    assert len((root / path).read_text().split()) == classes
    check_before_training("segmentation", lists, path, ignore_labels=options.get("ignore_labels", ()))


@pytest.mark.parametrize("images, masks, end, suffix", [
    ("all", "all", "_mask", ".png"), ("all", "all", "", ".png"), ("all", "all", "", ".bmp"), ("images", "masks", "_mask", ".tif"),
    ("train", "train_masks", "_mask", ".png")])
def test_the_advice_works_wherever_the_masks_are(root, images, masks, end, suffix):
    write(root / "Set", scene(0, 255), images, suffix, masks, end)
    text = refused()
    assert "masks_0_255" in text
    follow(root, text)
    _, lists = prepare.prepare("Set", task="segmentation")
    assert sum(len((root / path).read_text().splitlines()) for path in lists.values()) == 24


def test_lossy_masks_of_black_and_white_are_saved(root):
    write(root / "Set", scene(0, 255), suffix=".jpg", quality=80)
    text = refused()
    assert "mask_lossy" in text or "nothing_left" in text
    s = read_settings(vars(fix_masks), ["masks=Set/masks"])
    with pytest.raises(UserError) as caught:
        fix_masks.main(s)
    follow(root, str(caught.value))
    path, _ = prepare.prepare("Set", task="segmentation")
    assert (root / path).read_text().split() == ["background", "class_1"]


def test_numbers_of_many_classes_are_taken_with_their_names(root, capsys):
    """ADE20K as it is published: 150 names, 0 is ignored."""
    write(root / "Set", scene(0, 3, 13, 150))
    (root / "names.txt").write_text("".join(f"thing {number}\n" for number in range(150)))
    _, lists = prepare.prepare("Set", "names.txt", task="segmentation", ignore_labels=[0])
    out = capsys.readouterr().out
    assert "150 -> thing 149" in out and "  3 -> thing 2" in out and len(lists) == 3


@pytest.mark.parametrize("values", [(0, 1, 255), (0, 11, 13, 255), (1, 2, 255), (0, 5, 18, 255)])
def test_numbers_of_classes_with_areas_of_255_are_no_strays(root, capsys, values):
    """As in Cityscapes, where what is not labelled fills areas; 11 and 13 are not what smoothing leaves between 0 and 255."""
    write(root / "Set", scene(*values))
    prepare.prepare("Set", task="segmentation")
    assert "255 -> ignored" in capsys.readouterr().out


@pytest.mark.parametrize("values", [(0,), (3,), (0, 0, 0)])
@pytest.mark.parametrize("names", [None, "background\n", "background\nthing\n"])
def test_one_class_stops(root, values, names):
    write(root / "Set", scene(*values) if values != (3,) or names is None else scene(0))
    if names:
        (root / "names.txt").write_text(names)
    assert "masks_one_class" in refused(classes_path="names.txt" if names else None)


def trimap(number):
    """An object with a seam of 3 around it, as in Oxford's pets."""
    mask = np.full((48, 64), 2, np.uint8)
    mask[8:38, 10 + number:40 + number] = 3
    mask[10:36, 12 + number:38 + number] = 1
    return mask


def street(number):
    """Five classes in stripes and blocks; the last one lies at all of them, here and there."""
    mask = np.repeat(np.arange(5, dtype=np.uint8), 13)[:64][None].repeat(48, 0)
    for value in range(5):
        mask[number:number + 9, 13 * value + 4:13 * value + 8] = 5
    return mask


@pytest.mark.parametrize("name, make, expected", [
    ("trimap", trimap, "value 3: it forms thin seams between the others"),
    ("street", street, "value 5: it is the last number, and it touches all the others"),
    ("objects", scene(0, 1, 2), ""), ("shape in shape", scene(0, 1, 2, 3), "")])
def test_a_class_that_may_mean_not_labelled_is_asked_about(root, capsys, name, make, expected):
    write(root / "Set", make)
    path, _ = prepare.prepare("Set", task="segmentation")
    out = capsys.readouterr().out
    assert expected in out and out.count("void_class") == bool(expected), out
    if expected:
        value = int(re.search(r"ignore_labels=\[(\d+)\]", out)[1])
        (root / path).unlink()
        prepare.prepare("Set", task="segmentation", ignore_labels=[value], new_split=True)
        assert "void_class" not in capsys.readouterr().out


def test_a_thin_class_is_no_seam(root, capsys):
    """A crack or a wire: it has only one neighbour."""
    def crack(number):
        mask = scene(0, 2)(number)
        mask[40:42, number:number + 30] = 1
        return mask
    write(root / "Set", crack)
    prepare.prepare("Set", task="segmentation")
    assert "void_class" not in capsys.readouterr().out
