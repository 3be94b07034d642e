"""utils/depth.py: pictures of more than 8 bits are shown by the values that occur, all of a dataset alike; what is read wrongly is named."""
import cv2
import numpy as np
import pytest
from PIL import Image

import get_map
from tests.helpers.tiff import tiff
from utils import depth
from utils.checks import prepare
from utils.dataset import DetectionData
from utils.errors import UserError
from utils.formats.sweep import range_of_set
from utils.images import open_image, open_values
from utils.settings import read_settings

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 4096, (30, 40, 3)).astype(np.uint16)                       # 12 bits in files of 16


def scene(ground, warm, hot, kind=np.uint16):
    """A calm ground from and to, with two objects."""
    values = np.linspace(*ground, 120 * 160).reshape(120, 160)
    values[10:40, 20:60], values[60:90, 90:130] = warm, hot
    return values.astype(kind)


SCENES = {
    "thermal, 16 bits": scene((7200, 7350), 7785, 8055), "12 bits": scene((0, 680), 2667, 3891), "10 bits": scene((20, 150), 700, 1000),
    "kelvin": scene((29300, 29583), 30405, 30915), "14 bits": scene((300, 2000), 9000, 15000),
    "signed": scene((-1000, -800), 200, 1000, np.int16), "float 0 to 1": scene((0.1, 0.2), 0.6, 0.9, np.float32),
    "float narrow": scene((291.2, 293.5), 305.0, 309.9, np.float32), "float negative": scene((-0.9, -0.7), 0.2, 0.8, np.float32),
    "32 bits unsigned": scene((3_000_000_000, 3_000_100_000), 3_000_400_000, 3_000_600_000, np.uint32),
    "bright ground": scene((3600, 4000), 200, 1500),
}


@pytest.mark.parametrize("name", SCENES)
def test_ground_and_objects_are_told_apart(tmp_path, name):
    values = SCENES[name]
    (tmp_path / "a.tif").write_bytes(tiff(values[..., None]))
    shown = open_image(tmp_path / "a.tif")[..., 0].astype(int)
    ground, warm, hot = shown[:8], shown[20, 30], shown[70, 100]
    assert len(np.unique(shown)) >= (20 if name in ("float 0 to 1", "bright ground") else 50)
    for one, other in ((ground.min(), warm), (ground.max(), warm), (ground.min(), hot), (ground.max(), hot), (warm, hot)):
        assert abs(one - other) >= 50, (ground.min(), ground.max(), warm, hot)
    order = np.argsort(values.ravel(), kind="stable")
    assert (np.diff(shown.ravel()[order]) >= 0).all()                              # never turned round


def test_one_range_for_all_of_a_set(tmp_path, capsys):
    paths = []
    for number, (warm, hot) in enumerate([(7785, 8055), (7500, 7600), (7400, 8000)]):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(scene((7200, 7350), warm, hot)).save(paths[-1])
    chosen = range_of_set(paths)
    assert "3 of 3 pictures" in capsys.readouterr().out and depth.is_range(chosen)
    shades = {}
    for path in paths:
        for value, shade in zip(np.asarray(Image.open(path)).ravel().tolist(), open_image(path, chosen)[..., 0].ravel().tolist()):
            assert shades.setdefault(value, shade) == shade
    Image.new("RGB", (4, 4)).save(tmp_path / "8.png")
    assert range_of_set([tmp_path / "8.png"]) is None and range_of_set(paths, "type") == "type" and not capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bands", [3, 4])
def test_colours_of_16_bits(tmp_path, suffix, bands):
    """Files that use all bits look as ever, to the bit; those of 12 bits are not dark."""
    for values, exact in ((NOISE * 16 + 15, True), (NOISE, False)):
        if bands == 4:
            values = np.dstack([values, np.full_like(values[..., 0], 65535)])
        order = [2, 1, 0, 3][:bands]                                               # as OpenCV has them
        path = tmp_path / f"{exact}{suffix}"
        path.write_bytes(cv2.imencode(suffix, values[..., order])[1].tobytes())
        expected = values[..., :3] >> 8 if exact else (values[..., :3] * np.float32(255 / 4095)).astype(np.uint8)
        assert np.array_equal(open_image(path), expected)
        assert np.array_equal(open_image(path, depth.AS_TYPE), values[..., :3] >> 8)
        assert (open_values(path).max() > 4095) == exact


def test_old_weights_see_what_they_saw():
    """The range of the type, which versions before value_range took, is still there for their weights."""
    assert depth.saved_range({"fit": "letterbox"}) == depth.AS_TYPE and depth.saved_range({"value_range": None}) is None
    values = np.array([[0, 7200, 65535]], np.uint16)
    assert depth.type_range(values, "I;16") == (0, 65535) and depth.type_range(values / 65535, "F") == (0, 1)
    assert depth.type_range(values // 300, "I") == (0, 255) and depth.type_range(values.astype(np.int64) * 100, "I")[1] == 6553500


def test_choose_range():
    ramp = np.linspace(0, 1, 10_000)
    usual = {1: 1, 200: 255, 255: 255, 900: 1023, 4000: 4095, 15000: 16383, 40000: 65535, 65535: 65535}
    assert {top: depth.choose_range(np.round(ramp * top, 3))[1] for top in usual} == usual
    hot = np.append(np.round(ramp * 4000), [65535, 65535])                         # two broken pixels
    assert depth.choose_range(hot) == (0, 4095)
    assert depth.choose_range(np.full(9, 77.0)) == (0, 255) and depth.choose_range(np.full(9, -7.0)) == (-7, -6)
    assert depth.choose_range(np.array([])) == (0, 255)
    assert all(depth.is_range(depth.choose_range(np.round(RNG.normal(1000, spread, 500)))) for spread in (0.3, 2, 50, 900))


@pytest.mark.parametrize("value, good", [(None, True), ("type", True), ((0, 4095), True), ([0, 3, 9.5], True), ((5, 5), False), ((0,), False),
                                         ((9, 0), False), ("0-9", False), ((0, float("nan")), False), ((0, "a"), False), (True, False), (7, False)])
def test_is_range(value, good):
    assert depth.is_range(value) is good


@pytest.mark.parametrize("words, content", [
    ("3 bands of 16 bits, unsigned, band after band", tiff(NOISE, planar=True)), ("6 bands of 16 bits", tiff(np.dstack([NOISE, NOISE]))),
    ("2 bands of 16 bits", tiff(NOISE[..., :2])), ("1 band of 64 bits, float", tiff(NOISE[..., :1].astype(np.float64))),
    ("1 band of 16 bits, float", tiff(NOISE[..., :1].astype(np.float16))), ("3 bands of 32 bits, float", tiff(NOISE.astype(np.float32))),
    ("1 band of 8 bits, signed", tiff(NOISE[..., :1].astype(np.int8)))])
def test_kinds_that_are_not_read_are_named(tmp_path, words, content):
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(UserError, match=f"a.tif is a TIFF of {words}.* is not read") as caught:
        open_image(tmp_path / "a.tif")
    assert caught.value.kind == "image_kind"


def test_kinds_that_are_read(tmp_path):
    bytes_of = (NOISE >> 4).astype(np.uint8)
    for content, expected in ((tiff(bytes_of, planar=True), bytes_of), (tiff(np.dstack([bytes_of, bytes_of])), bytes_of)):
        (tmp_path / "a.tif").write_bytes(content)
        assert np.array_equal(open_image(tmp_path / "a.tif"), expected)
    for photometric in (0, 1):                              # white is 0, or black is
        (tmp_path / f"{photometric}.tif").write_bytes(tiff(NOISE[..., :1], photometric=photometric))
    assert np.array_equal(255 - open_image(tmp_path / "0.tif"), open_image(tmp_path / "1.tif"))


def test_preparing_says_it_and_all_scripts_follow(root, capsys):
    for number in range(4):
        place = root / "Heat/JPEGImages" / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene((7200, 7350 + number), 7785, 8055)).save(place)
        label = root / "Heat/Annotations" / f"{number}.xml"
        label.parent.mkdir(exist_ok=True)
        box = "<bndbox><xmin>20</xmin><ymin>10</ymin><xmax>60</xmax><ymax>40</ymax></bndbox>"
        label.write_text(f"<annotation><object><name>warm</name>{box}</object></annotation>")
    _, lists = prepare.prepare("Heat")
    assert "Depth       more than 8 bits" in capsys.readouterr().out
    info = {"class_names": ["warm"], "settings": {"value_range": [7000, 9000]}, "epoch": 1, "input_shape": (64, 64)}
    s = read_settings(vars(get_map), [f"list_path={lists['test']}", "input_shape=64,64", "fit=letterbox"])
    assert get_map.open_list(s, info).value_range == [7000, 9000] and not capsys.readouterr().out
    info["settings"] = {}
    assert get_map.open_list(s, info).value_range == depth.AS_TYPE
    info["settings"] = {"value_range": None}                # trained with 8 bits: these pictures have a range of their own
    assert depth.is_range(get_map.open_list(s, info).value_range) and "Depth" in capsys.readouterr().out
    data = DetectionData(lists["train"], ["warm"], (120, 160), value_range=(7000, 9000))
    image, _ = data[0, 0]
    assert abs(int(image[0, 20, 30]) - int((7785 - 7000) * 255 / 2000)) <= 1 and np.array_equal(data.whole_image(0), image.permute(1, 2, 0).numpy())
