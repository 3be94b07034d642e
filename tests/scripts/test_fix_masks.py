"""tools/fix_masks.py: a new folder of masks beside the old one, which stays as it is."""
import os

import numpy as np
import pytest
from PIL import Image

from tools import fix_masks
from utils.checks import prepare
from utils.errors import UserError
from utils.images import open_mask
from utils.settings import read_settings

PIXELS = np.array([[0, 0, 255], [0, 255, 255]], np.uint8)
COLOURS = np.array([[[0, 0, 0], [128, 64, 128], [0, 0, 0]], [[0, 0, 0], [60, 16, 152], [0, 0, 0]]], np.uint8)


def save(folder, name, pixels, kind="PNG"):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / name, kind)


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(monkeypatch, root, **settings):
    """The tool -> masks of the new folder; what was there before is untouched."""
    before = tree(root)
    for name, value in {"masks": "Set/masks", "values": {}, "palette": None, "images": None, "out": None, **settings}.items():
        monkeypatch.setattr(fix_masks, name, value)
    try:
        fix_masks.main(read_settings(vars(fix_masks), []))
    finally:
        after = tree(root)
        assert {name: after.get(name) for name in before} == before and not [name for name in after if ".part" in name]
    folder = root / (settings.get("out") or "Set/masks_fixed")
    return {path.stem: open_mask(path).tolist() for path in sorted(folder.iterdir())}


def error_of(*arguments, **options):
    with pytest.raises(UserError) as caught:
        run(*arguments, **options)
    return str(caught.value)


def test_renumber(root, monkeypatch, capsys):
    save(root / "Set/masks", "a b.png", PIXELS)
    save(root / "Set/masks", "图.PNG", np.array([[1, 2]], np.uint8))
    assert run(monkeypatch, root, values={255: 1, 2: 0}) == {"a b": [[0, 0, 1], [0, 1, 1]], "图": [[1, 0]]}
    out = capsys.readouterr().out
    assert "2 masks (2 renumbered)" in out and "rename masks to masks_old" in out
    assert "is there already" in error_of(monkeypatch, root, values={255: 1})
    assert run(monkeypatch, root, values={255: 1}, out="other")["a b"] == [[0, 0, 1], [0, 1, 1]]


def test_values_are_exchanged_at_once(root, monkeypatch):
    save(root / "Set/masks", "a.png", np.array([[0, 1, 2]], np.uint8))
    assert run(monkeypatch, root, values={0: 1, 1: 2, 2: 0}) == {"a": [[1, 2, 0]]}


def test_colours(root, monkeypatch, capsys):
    save(root / "Set/masks", "a.png", COLOURS)
    message = error_of(monkeypatch, root)
    assert "3 colours" in message and "Set/masks_palette.txt" in message and "palette=" in message
    palette = root / "Set/masks_palette.txt"
    assert palette.read_text() == "0,0,0 class_0\n60,16,152 class_1\n128,64,128 class_2\n"
    palette.write_text("0,0,0 background\n128,64,128 road\n60,16,152 building\n")
    assert "3 colours" in error_of(monkeypatch, root) and "road" in palette.read_text()                 # what the user wrote stays
    assert run(monkeypatch, root, palette="Set/masks_palette.txt") == {"a": [[0, 1, 0], [0, 2, 0]]}
    assert "1 road" in capsys.readouterr().out
    palette.write_text("0,0,0 background\n128,64,128 road\n")
    assert "60,16,152" in error_of(monkeypatch, root, palette="Set/masks_palette.txt", out="again")     # nothing can be used, nothing is written
    assert not (root / "again").exists()


def test_resize(root, monkeypatch):
    save(root / "Set/masks", "a.png", np.array([[0, 1], [2, 3]], np.uint8))
    save(root / "Set/masks", "b.png", np.array([[5, 6, 7, 8]], np.uint8))
    save(root / "Set/images", "a.jpg", np.zeros((4, 4, 3), np.uint8), "JPEG")
    save(root / "Set/images", "b.jpg", np.zeros((1, 4, 3), np.uint8), "JPEG")
    assert run(monkeypatch, root, images="Set/images") == {
        "a": [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]], "b": [[5, 6, 7, 8]]}


def test_what_cannot_be_used_is_named_and_left_out(root, monkeypatch, capsys):
    save(root / "Set/masks", "a.png", PIXELS)
    save(root / "Set/masks", "b.png", PIXELS, "JPEG")
    save(root / "Set/masks", "c.png", np.zeros((4, 2), np.uint8))
    save(root / "Set/masks", "d.png", PIXELS)
    for name, size in (("a", (2, 3)), ("b", (2, 3)), ("c", (2, 4))):
        save(root / "Set/images", f"{name}.png", np.zeros((*size, 3), np.uint8))
    assert list(run(monkeypatch, root, images="Set/images", values={255: 1})) == ["a"]
    out = capsys.readouterr().out
    assert "b.png" in out and "c.png is rotated by 90 degrees" in out and "d.png has no image" in out and "3 masks are skipped" in out


@pytest.mark.parametrize("settings, words", [
    ({"masks": "nowhere"}, "no folder nowhere"), ({"masks": "Set"}, "holds no masks"), ({"values": {255: 300}}, "expected whole numbers"),
    ({"values": {"a": 1}}, "expected whole numbers"), ({"images": "Set"}, "no images"), ({"palette": "none.txt"}, "none.txt"),
    ({}, 'values={255: 1}'),
])
def test_mistakes(root, monkeypatch, settings, words):
    save(root / "Set/masks", "a.png", PIXELS)
    assert words in error_of(monkeypatch, root, **settings) and not (root / "Set/masks_fixed").exists()


def test_photos_are_no_masks(root, monkeypatch):
    save(root / "Set/masks", "a.png", np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))
    assert "no classes" in error_of(monkeypatch, root) and not (root / "Set/masks_palette.txt").exists()


def test_a_full_disk_leaves_nothing(root, monkeypatch):
    save(root / "Set/masks", "a.png", PIXELS)

    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "replace", full)
    assert "No space left" in error_of(monkeypatch, root, values={255: 1}) and not (root / "Set/masks_fixed").exists()


def test_the_remedy_of_the_report_works(root, monkeypatch, capsys):
    """From the first report to lists, by the command that the report names."""
    for i in range(24):
        save(root / "Set/SegmentationClass", f"{i}.png", PIXELS)
        save(root / "Set/JPEGImages", f"{i}.png", np.full((2, 3, 3), i, np.uint8))
    with pytest.raises(UserError) as caught:
        prepare.prepare("Set", task="segmentation")
    assert 'python tools/fix_masks.py "masks=Set/SegmentationClass" "values={255: 1}"' in str(caught.value)
    for name, value in {"masks": "Set/SegmentationClass", "values": {255: 1}, "palette": None, "images": None, "out": None}.items():
        monkeypatch.setattr(fix_masks, name, value)
    fix_masks.main(read_settings(vars(fix_masks), []))
    (root / "Set/SegmentationClass").rename(root / "Set/SegmentationClass_old")
    (root / "Set/SegmentationClass_fixed").rename(root / "Set/SegmentationClass")
    capsys.readouterr()
    prepare.prepare("Set", task="segmentation")
    assert "no problems found" in capsys.readouterr().out and (root / "Set_segmentation_train.txt").is_file()
