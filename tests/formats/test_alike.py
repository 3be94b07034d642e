"""Pictures that look alike: the same shot in another size or compression has nearly the same word, other pictures have not."""
import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from sources import XML, text

from utils.checks import prepare
from utils.formats import shapes
from utils.formats.alike import NEAR, look_of, most_alike
from utils.formats.sweep import look_at_image


def scene(number, size=(320, 240)):
    """A picture with large and small things in it, of its own for each number."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize(size, Image.BICUBIC)
    fine = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).resize(size, Image.BICUBIC)
    return Image.blend(coarse, fine, 0.3)


def compressed(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def word(image):
    return look_of(np.asarray(image.convert("L")))


def bits(one, two):
    return (int(one, 16) ^ int(two, 16)).bit_count()


@pytest.mark.parametrize("change", [lambda image: image.resize((160, 120)), lambda image: image.resize((800, 600)),
                                    lambda image: compressed(image, 15),
                                    lambda image: ImageEnhance.Brightness(image).enhance(0.8), lambda image: image.resize((300, 240))],
                         ids=["half", "larger", "recompressed", "darker", "narrower"])
def test_the_same_shot(change):
    distances = [bits(word(scene(number)), word(change(scene(number)))) for number in range(30)]
    assert max(distances) <= NEAR, distances


def test_other_pictures():
    words = [word(scene(number)) for number in range(60)]
    assert min(bits(one, two) for position, one in enumerate(words) for two in words[:position]) > NEAR


def test_a_picture_of_one_colour_has_no_word():
    assert word(Image.new("RGB", (90, 60), (10, 200, 30))) == ""


def test_nearest_is_what_a_loop_over_all_pairs_finds():
    rng = np.random.default_rng(0)
    looks = [rng.bytes(8).hex() for _ in range(40)]
    others = [f"{int(looks[i], 16) ^ sum(1 << int(bit) for bit in rng.permutation(64)[:count]):016x}"
              for i, count in enumerate([0, 1, NEAR, NEAR + 1, 20] * 6)]
    slow = [min((bits(look, other), i) for i, look in enumerate(looks)) for other in others]
    assert most_alike(looks, others) == [i if distance <= NEAR else -1 for distance, i in slow]
    assert most_alike([], others) == [-1] * len(others) and most_alike(looks, []) == []


def test_no_hint_on_shapes(tmp_path):
    shapes.make_shapes(tmp_path / "Shapes", train=60, val=10, test=10)
    words = [look_at_image(path)[2].partition(".")[2] for path in sorted((tmp_path / "Shapes" / "JPEGImages").iterdir())]
    assert len(words) == 80 and all(words) and most_alike(words[:40], words[40:]) == [-1] * 40


def test_pairs_across_lists_are_shown(root, capsys):
    """In lists of its own before they are written, in a split as soon as it is made; equal files are another finding."""
    folder = root / "Set"
    (folder / "JPEGImages").mkdir(parents=True)
    for number in range(12):
        scene(number).save(folder / "JPEGImages" / f"s{number:02}.jpg", quality=92)
        text(folder / "Annotations" / f"s{number:02}.xml", XML)
    scene(0).resize((160, 120)).save(folder / "JPEGImages" / "s11.jpg", quality=70)
    scene(1).save(folder / "JPEGImages" / "s10.jpg", quality=92)
    for name, numbers in (("train", range(8)), ("val", (8, 10)), ("test", (9, 11))):
        text(folder / "ImageSets" / "Main" / f"{name}.txt", "".join(f"s{number:02}\n" for number in numbers))
    prepare.prepare("Set")
    out = capsys.readouterr().out
    assert "Nearly the same picture in two lists" in out and "s11.jpg: test, like s00.jpg (train)" in out and out.count("[near_across") == 1
    assert "s10.jpg: the same as s01.jpg (train)" in out and "s10.jpg: val, like" not in out

    prepare.prepare("Set", new_split=True, seed=3)
    out = capsys.readouterr().out
    parts = [set((root / f"Set_{split}.txt").read_text().split()) for split in ("train", "val", "test")]
    apart = not any({f"Set/JPEGImages/s{n}.jpg" for n in ("00", "11")} <= part for part in parts)
    assert ("[near_across" in out) == apart
