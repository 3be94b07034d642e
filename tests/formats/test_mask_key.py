"""utils/formats/mask_key.py and utils/formats/pairs.py: masks in colours or other numbers -> class numbers."""
import numpy as np
import pytest
from PIL import Image
from sources import error_of, image, make_colours, read, text, told

from utils.checks import prepare
from utils.formats import mask_key, recognise
from utils.images import open_mask


@pytest.mark.parametrize("key, name", [
    ("128,64,128 road\n0,0,200 blue sky\n", "palette.txt"), ("# comment\r\n\r\n128 64 128\troad\r\n0 0 200  blue sky\r\n", "palette.txt"),
    ("name,r,g,b\nroad,128,64,128\nblue sky,0,0,200\n", "class_dict.csv"),
    ("# label:color_rgb:parts:actions\nroad:128,64,128::\nblue sky:0,0,200::\n", "labelmap.txt"),
    ("#804080 road\n#0000C8 blue sky\n", "palette.txt"), ("road 128 64 128\nblue sky 0 0 200", "label_colors.txt")])
def test_colours(root, key, name):
    folder = make_colours(root / "m", key, key_name=name)
    assert prepare.tasks_of(str(folder)) == ["segmentation"]
    names, splits = read(folder, "segmentation")
    assert names == ["road", "blue sky"]
    for image_path, (mask, counts) in (pair for some in splits.values() for pair in some):
        expected = np.zeros((30, 40), np.uint8)
        expected[:int(image_path.stem) * 5] = 1
        assert np.array_equal(open_mask(mask), expected) and counts[1] == expected.sum()


@pytest.mark.parametrize("key, words", [
    ("", ["names no class"]), ("128,64 road\n", ["line 1"]),
    ("128,64,300 road\n", ["line 1", "300"]),
    ("128,64,128 road\n128,64,128 sky\n", ["line 2", "already in line 1"]), ("128,64,128 road\n7 sky\n", ["one kind"]),
    ("* road\n", ["line 1", "only be ignored"]),
    ("road\nsky\n", ["line 2", "'sky'"]), ("128,64,128 \x1b[2J\x00\n", ["line 1", "not a class name"]), ("0,0,0 ignored\n", ["names no class"])])
def test_faults_in_a_palette(root, key, words):
    message = error_of(read, make_colours(root / "m", key), "segmentation")
    for word in words:
        assert word in message, message
    assert "\x1b" not in message


def test_colours_without_a_line(root):
    """Every mask that has some is told."""
    message, kinds = told(make_colours(root / "m", "128,64,128 road\n"), "segmentation")
    assert kinds == ["palette_lacks"] * 4 and "* ignored" in message          # the fifth is all road
    assert "m/masks/1.png: holds 1 colours that m/palette.txt has no line for: 0,0,200 (200 pixels)" in message


def test_ignored_colours(root):
    names, splits = read(make_colours(root / "m", "128,64,128 road\n0,0,200 ignored\n"), "segmentation")
    assert names == ["road"] and set(np.unique(open_mask(splits["train"][1][1][0]))) == {0, 255}
    folder = make_colours(root / "n", "128,64,128 road\n* ignored\n")
    names, splits = read(folder, "segmentation")
    assert names == ["road"] and set(np.unique(open_mask(splits["train"][1][1][0]))) == {0, 255}
    given = text(root / "given.csv", "0,0,200 a\n128,64,128 b\n")
    assert read(folder, "segmentation", palette=given)[0] == ["a", "b"]
    assert "no palette" in error_of(read, folder, "segmentation", palette=root / "none.txt")


def test_a_voc_folder_with_colours(root):
    folder = make_colours(root / "v", masks="SegmentationClass")
    (folder / "images").rename(folder / "JPEGImages")
    for name, some in (("train", "012"), ("val", "34")):
        text(folder / "ImageSets" / "Segmentation" / f"{name}.txt", "\n".join(some) + "\n")
    names, splits = read(folder, "segmentation")
    assert names == ["road", "blue sky"] and [len(splits[split]) for split in splits] == [3, 2, 0]
    assert recognise.recognise(folder, "detection")[0] == "voc"
    text(folder / "ImageSets" / "Segmentation" / "train.txt", "0\n7\n../no\n2\n")
    image(folder / "JPEGImages" / "x.png")
    text(folder / "ImageSets" / "Segmentation" / "val.txt", "3\n4\nx\n")
    message, kinds = told(folder, "segmentation")
    assert kinds == ["image_without_label", "list_name", "list_no_image", "list_no_label", "not_listed"]
    assert "v/ImageSets/Segmentation/train.txt, line 2: 7\n" in message and "train.txt, line 3: '../no'" in message
    assert "val.txt, line 3: x\n" in message and "v/JPEGImages/1.png\n" in message


def test_cityscapes(root, capsys):
    for split, city in (("train", "aachen"), ("val", "bonn"), ("test", "mainz")):
        for number in range(2):
            image(root / "c" / "leftImg8bit" / split / city / f"{city}_{number}_leftImg8bit.png")
            for kind, value in (("labelIds", 7), ("instanceIds", 9), ("color", 9)):
                mask = np.full((30, 40), value, np.uint8)
                mask[:10], mask[10:12] = 26, 3              # car, and a number of no class
                (root / "c" / "gtFine" / split / city).mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(root / "c" / "gtFine" / split / city / f"{city}_{number}_gtFine_{kind}.png")
    names, splits = read(root / "c", "segmentation")
    assert len(names) == 19 and [len(splits[split]) for split in splits] == [2, 2, 0]
    mask = open_mask(splits["train"][0][1][0])
    assert (mask[:10] == names.index("car")).all() and (mask[10:12] == 255).all() and (mask[12:] == names.index("road")).all()
    text(root / "c" / "mapping.txt", "7 ground\n3 ground\n26 vehicle\n")
    names, splits = read(root / "c", "segmentation")
    assert names == ["ground", "vehicle"] and set(np.unique(open_mask(splits["train"][0][1][0]))) == {0, 1}
    text(root / "c" / "mapping.txt", "7 ground\n26 vehicle\n")
    message, kinds = told(root / "c", "segmentation")
    assert kinds == ["palette_lacks"] * 4 and "3 (80 pixels)" in message and "gtFine/train/aachen/aachen_0_gtFine_labelIds.png: " in message


def test_folders_of_masks(root):
    """images/ and masks/ of label numbers; train and train_labels as CamVid has them."""
    for place, masks, end in (("a/images", "a/masks", ""), ("b/train", "b/train_labels", "_L"), ("b/val", "b/val_labels", "_L")):
        for number in range(3):
            image(root / place / f"{number}.png")
            (root / masks).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40).clip(0, 2).astype(np.uint8)).save(root / masks / f"{number}{end}.png")
    names, splits = read(root / "a", "segmentation")
    assert names is None and sum(map(len, splits.values())) == 3 and splits["train"][0][1][0].parent == root / "a" / "masks"
    assert [len(some) for some in read(root / "b", "segmentation")[1].values()] == [3, 3, 0]
    Image.new("L", (41, 30)).save(root / "a" / "masks" / "1.png")
    Image.new("RGB", (40, 30), "red").save(root / "a" / "masks" / "4.png")
    text(root / "a" / "masks" / "2.png", b"cut")
    message, kinds = told(root / "a", "segmentation")
    assert kinds == ["label_without_image", "mask_size", "not_an_image"] and "a/masks/4.png\n" in message
    assert "a/masks/1.png: the mask is 41 x 30 pixels, its image 40 x 30" in message and "a/masks/2.png: is not an image" in message
    assert 'fix_masks.py "masks=a/masks" "images=a/images"' in message and len(read(root / "a", "segmentation", findings=[])[1]["train"]) == 1
    assert "holds masks" in error_of(read, root / "a")


def test_numbers_of_colours_are_those_of_the_mask_key(tmp_path):
    names, key, of_colours = mask_key.read_key(text(tmp_path / "p.txt", "0 ignored\n7 road\n8 road\n11 big house\n* ignored\n"))
    assert names == ["road", "big house"] and key == {0: 255, 7: 0, 8: 0, 11: 1, "*": 255} and not of_colours
