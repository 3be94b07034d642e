"""utils/images.py: every kind of file opens, what cannot be opened is named, what would fill the memory is refused."""
import io
import random
import re
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from utils import images
from utils.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
RAMP = np.linspace(0, 255, 64 * 48).reshape(48, 64)         # grey from black to white


def colours():
    """(48, 64, 3) smooth, so that JPEG changes little."""
    return np.stack([RAMP, RAMP[::-1], np.full_like(RAMP, 90)], 2).astype(np.uint8)


def big_endian_tiff(path):
    """16 bits a pixel, the high byte first, uncompressed: Pillow does not write such."""
    values = (RAMP * 257).astype(">u2")
    entries = [(256, 3, 64), (257, 3, 48), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 3, 48), (279, 4, values.nbytes)]
    ifd = struct.pack(">H", len(entries))
    for tag, kind, value in entries:
        ifd += struct.pack(">HHI", tag, kind, 1) + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value))
    path.write_bytes(b"MM\0*" + struct.pack(">I", 8 + values.nbytes) + values.tobytes() + ifd + b"\0\0\0\0")


def save(mode=None, image=None, suffix=".png", **options):
    """A function that writes a file."""
    def write(path):
        picture = image() if image else Image.fromarray(colours()).convert(mode) if mode else Image.fromarray(colours())
        picture.save(path, **options)
    return suffix, write


def grey(array):
    return lambda: Image.fromarray(array)


def with_palette():
    return Image.fromarray(colours()).quantize(64)


def frames(kind):
    def write(path):
        first, second = Image.fromarray(colours()), Image.new("RGB", (64, 48), "red")
        first.save(path, format=kind, save_all=True, append_images=[second], **({"lossless": True} if kind == "WEBP" else {}))
    return write


KINDS = {                                                   # name: ((suffix, how it is written), expected (48, 64, 3), tolerance)
    "RGB": (save(), colours(), 0),
    "grey": (save("L"), None, 1),
    "LA": (save("LA"), None, 1),
    "RGBA": (save("RGBA"), colours(), 0),
    "palette": (save(image=with_palette), colours(), 40),
    "palette with transparency": (save(image=with_palette, transparency=0), None, 255),
    "1 bit": (save("1"), None, 255),
    "CMYK JPEG": (save("CMYK", suffix=".jpg", quality=95), colours(), 12),
    "YCbCr JPEG": (save("YCbCr", suffix=".jpeg", quality=95), colours(), 12),
    "YCbCr TIFF": (save("YCbCr", suffix=".tif", compression="jpeg"), colours(), 20),
    "CMYK TIFF": (save("CMYK", suffix=".tiff"), colours(), 2),
    "LAB TIFF": (save(image=lambda: lab(), suffix=".tif"), colours(), 40),
    "16 bit PNG": (save(image=grey((RAMP * 257).astype(np.uint16))), RAMP, 1),
    "16 bit PNG, dark": (save(image=grey((RAMP * 100).astype(np.uint16))), RAMP * (100 / 257), 1),
    "16 bit TIFF": (save(image=grey((RAMP * 257).astype(np.uint16)), suffix=".TIF", format="TIFF"), RAMP, 1),
    "16 bit TIFF, big end first": ((".tif", big_endian_tiff), RAMP, 1),
    "32 bit TIFF": (save(image=grey((RAMP * 257).astype(np.int32)), suffix=".tif"), RAMP, 1),
    "32 bit TIFF to 255": (save(image=grey(RAMP.astype(np.int32)), suffix=".tif"), RAMP, 1),
    "32 bit TIFF to a million": (save(image=grey((RAMP * 4000).astype(np.int32)), suffix=".tif"), RAMP, 1),
    "float TIFF to 1": (save(image=grey((RAMP / 255).astype(np.float32)), suffix=".tif"), RAMP, 1),
    "float TIFF to 255": (save(image=grey(RAMP.astype(np.float32)), suffix=".tif"), RAMP, 1),
    "float TIFF to 4000": (save(image=grey((RAMP * 257).astype(np.float32)), suffix=".tif"), RAMP, 1),
    "animated GIF": ((".gif", frames("GIF")), colours(), 60),
    "animated WebP": ((".webp", frames("WEBP")), colours(), 8),
    "APNG": ((".png", frames("PNG")), colours(), 0),
    "TIFF of pages": ((".tiff", frames("TIFF")), colours(), 0),
    "BMP": (save(suffix=".bmp"), colours(), 0),
    "PNG called jpg": (save(suffix=".jpg", format="PNG"), colours(), 0),
    "JPEG called png": (save(suffix=".PNG", format="JPEG", quality=95), colours(), 12),
}


def lab():
    from PIL import ImageCms
    return ImageCms.profileToProfile(Image.fromarray(colours()), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB")


@pytest.mark.parametrize("name", KINDS)
def test_every_kind(tmp_path, name):
    (suffix, write), expected, slack = KINDS[name]
    path = tmp_path / f"图 {name.replace(',', '')}{suffix}"
    write(path)
    image = images.open_image(path)
    assert image.dtype == np.uint8 and image.shape == (48, 64, 3) and images.image_size(path) == (64, 48)
    if expected is None:
        expected = np.asarray(Image.fromarray(colours()).convert("L"))
    expected = expected[..., None].repeat(3, 2) if expected.ndim == 2 else expected
    assert np.abs(image.astype(int) - np.round(expected).astype(int)).max() <= slack
    assert abs(image.mean() - expected.mean()) <= (2 if "palette with" not in name else 40)


def test_transparency_is_white(tmp_path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "a.png")
    Image.new("LA", (4, 4), (0, 128)).save(tmp_path / "b.png")
    picture = Image.new("P", (4, 4), 1)
    picture.putpalette([0, 0, 0, 200, 0, 0])
    picture.save(tmp_path / "c.png", transparency=1)
    assert [int(images.open_image(tmp_path / f"{name}.png").mean()) for name in "abc"] == [255, 127, 255]


def test_nan_is_black(tmp_path):
    values = RAMP.astype(np.float32)
    values[:3], values[3] = np.nan, np.inf
    Image.fromarray(values).save(tmp_path / "a.tif")
    image = images.open_image(tmp_path / "a.tif")
    assert image[:4].max() == 0 and np.abs(image[4:, :, 0] - RAMP[4:]).max() <= 1


@pytest.mark.parametrize("kind", ["16 bit TIFF", "float TIFF to 1", "grey", "palette", "1 bit", "YCbCr JPEG", "RGBA"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_of_every_mode(tmp_path, kind, orientation):
    (suffix, _), *_ = KINDS[kind]
    other = {"16 bit TIFF": grey((RAMP * 257).astype(np.uint16)), "float TIFF to 1": grey((RAMP / 255).astype(np.float32)),
             "palette": with_palette, "grey": grey(RAMP.astype(np.uint8))}
    picture = other[kind]() if kind in other else Image.fromarray(colours()).convert({"1 bit": "1", "RGBA": "RGBA"}.get(kind, "RGB"))
    exif = Image.Exif()
    exif[images.ORIENTATION] = orientation
    path = tmp_path / f"a{suffix}"
    picture.save(path, exif=exif, **({"quality": 100, "subsampling": 0} if suffix == ".jpeg" else {}))
    plain = tmp_path / f"b{suffix}"
    picture.save(plain, **({"quality": 100, "subsampling": 0} if suffix == ".jpeg" else {}))
    raw, turned = images.open_image(plain), images.open_image(path)
    where = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, -1),
             7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: lambda a: np.rot90(a)}[orientation]
    assert np.array_equal(turned, where(raw)) and images.image_size(path) == turned.shape[1::-1]


@pytest.mark.parametrize("start, word", [
    (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"), (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "AVIF"), (b"\0\0\0\x18ftypmp42", "video"),
    (b"\xff\x0a\xfa\x1f", "JPEG XL"), (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"), (b"8BPS\0\1", "Photoshop"), (b"%!PS-Adobe-3.0 EPSF", "PostScript"),
    (b"<!DOCTYPE html><html>", "web page"), (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"), (b"PK\x03\x04", "archive"),
    (b"P6 3 3 255\n", "PNM"), (b'{"shapes": []}', "JSON"), (b"", "empty"), (b"\x01\x02\x03", "3 bytes that begin with")])
def test_what_is_no_image_is_named(tmp_path, start, word):
    path = tmp_path / "照片.jpg"
    path.write_bytes(start)
    for function in (images.open_image, images.image_size, images.open_mask, images.open_colours):
        with pytest.raises(UserError) as caught:
            function(path)
        assert word in str(caught.value) and "照片.jpg is not an image" in str(caught.value) and caught.value.kind == "not_an_image"


def test_no_other_decoder_is_started(tmp_path):
    """Pillow would read these, by Ghostscript or by decoders that are seldom looked after."""
    for kind in ("EPS", "PPM", "ICO", "PCX", "TGA", "SGI", "PDF"):
        path = tmp_path / f"a{kind}.png"
        Image.fromarray(colours()).save(path, format=kind)
        with pytest.raises(UserError, match="is not an image"):
            images.open_image(path)


def png(width, height, bits=1, kind=0, data=None):
    """A PNG of one colour, as small as it can be."""
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    data = data if data is not None else zlib.compress(bytes(height * (1 + width * bits // 8)), 9)
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bombs(folder):
    """Small files that unfold to 400 million pixels and more."""
    (folder / "400.png").write_bytes(png(20000, 20000))
    (folder / "header.png").write_bytes(png(2_000_000_000, 2_000_000_000, data=b""))
    gif = io.BytesIO()
    Image.new("P", (2, 2)).save(gif, "GIF")
    (folder / "screen.gif").write_bytes(gif.getvalue()[:6] + struct.pack("<HH", 65535, 65535) + gif.getvalue()[10:])
    tiff = io.BytesIO()
    Image.new("L", (64, 64)).save(tiff, "TIFF")
    data = bytearray(tiff.getvalue())
    at = struct.unpack_from("<I", data, 4)[0] + 2
    for entry in range(at, at + 24, 12):
        data[entry:entry + 12] = struct.pack("<HHII", struct.unpack_from("<H", data, entry)[0], 4, 1, 60000)
    (folder / "tiff.tif").write_bytes(data)
    webp = io.BytesIO()
    Image.new("RGB", (16, 16)).save(webp, "WEBP", lossless=True)
    data = bytearray(webp.getvalue())
    data[21:25] = struct.pack("<I", (16383 & 0x3fff) | (16383 & 0x3fff) << 14)
    (folder / "webp.webp").write_bytes(data)
    bmp = io.BytesIO()
    Image.new("1", (8, 8)).save(bmp, "BMP")
    data = bytearray(bmp.getvalue())
    data[18:26] = struct.pack("<ii", 200000, 200000)
    (folder / "bmp.bmp").write_bytes(data)
    return sorted(folder.iterdir())


MEASURE = """
import resource, sys, time
sys.path.insert(0, sys.argv[1])
from utils import images
from utils.errors import UserError
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
try:
    getattr(images, sys.argv[2])(sys.argv[3])
    print("opened")
except UserError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, time.perf_counter() - began)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no resource module")
def test_a_bomb_is_refused_before_memory_is_taken(tmp_path):
    (tmp_path / "b").mkdir()
    paths = bombs(tmp_path / "b")
    assert 40_000 < (tmp_path / "b" / "400.png").stat().st_size < 60_000
    for path in paths:
        for function in ("open_image", "image_size", "open_mask") if path.name == "400.png" else ("open_image",):
            process = subprocess.run([sys.executable, "-W", "error", "-c", MEASURE, str(REPOSITORY), function, str(path)],
                                     capture_output=True, text=True)
            *message, numbers = process.stdout.strip().split("\n")
            assert process.returncode == 0, process.stderr
            growth, seconds = map(float, numbers.split())
            assert growth < 100 and seconds < 1, f"{path.name}: {growth} MB, {seconds} s"
            assert path.name in message[0] and message[0] != "opened"
            if path.name in ("400.png", "screen.gif", "tiff.tif"):
                assert re.search(r"\d+ megapixels, at most 178", message[0]) and "Cut it into tiles or shrink it" in message[0], message
            if path.name == "400.png":
                assert "20000 x 20000" in message[0] or "400 megapixels" in message[0]


def test_below_the_limit_nothing_is_said(tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr(images, "MAX_PIXELS", 64 * 48)
    Image.fromarray(colours()).save(tmp_path / "a.png")
    assert images.open_image(tmp_path / "a.png").shape == (48, 64, 3) and not recwarn.list
    monkeypatch.setattr(images, "MAX_PIXELS", 64 * 48 - 1)
    for function in (images.open_image, images.image_size, images.open_mask, images.open_colours):
        with pytest.raises(UserError, match="a.png is too large, 64 x 48 pixels") as caught:
            function(tmp_path / "a.png")
        assert caught.value.kind == "image_too_large"
    monkeypatch.setattr(images, "MAX_BYTES", 10)
    with pytest.raises(UserError, match="not a picture"):
        images.open_image(tmp_path / "a.png")


def test_colours_of_a_mask_are_exact(tmp_path):
    for mode in ("RGB", "RGBA", "P"):
        picture = Image.fromarray(colours() // 64 * 64)
        picture = picture.quantize(256) if mode == "P" else picture.convert(mode)
        expected = np.asarray(picture.convert("RGB"))
        picture.save(tmp_path / "a.png")
        assert np.array_equal(images.open_colours(tmp_path / "a.png"), expected)
    picture.convert("RGB").save(tmp_path / "a.png", format="JPEG")
    with pytest.raises(UserError, match="compression"):
        images.open_colours(tmp_path / "a.png")
    Image.new("RGBA", (2, 2), (9, 8, 7, 0)).save(tmp_path / "a.png")
    assert images.open_colours(tmp_path / "a.png")[0, 0].tolist() == [9, 8, 7]


def test_masks_of_larger_numbers(tmp_path):
    values = np.arange(4000, dtype=np.uint16).reshape(50, 80)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.array_equal(images.open_mask(tmp_path / "a.png", top=65535), values)
    with pytest.raises(UserError, match="from 0 to 255"):
        images.open_mask(tmp_path / "a.png")


def fuzz(folder, count, seed):
    """Files of every kind with bytes changed, cut off, doubled: they open, or end in our error."""
    rng, originals, opened = random.Random(seed), [], 0
    for name, ((suffix, write), *_) in KINDS.items():
        path = folder / f"{len(originals)}{suffix}"
        write(path)
        originals.append((name, path.read_bytes(), suffix))
    began = time.perf_counter()
    for number in range(count):
        name, data, suffix = originals[number % len(originals)]
        data = bytearray(data)
        for _ in range(rng.choice([1, 1, 2, 5, 30])):
            at = rng.randrange(min(len(data), rng.choice([64, 400, len(data)])))
            what = rng.random()
            if what < 0.6:
                data[at] = rng.randrange(256)
            elif what < 0.8:
                data[at:at + 4] = rng.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\1\0"])
            elif what < 0.9:
                del data[at:at + rng.randrange(1, 50)]
            else:
                data[at:at] = data[at:at + rng.randrange(1, 50)]
            if not data:
                break
        path = folder / f"fuzz{suffix}"
        path.write_bytes(data)
        for function in (images.open_image, images.image_size, images.open_mask, images.open_colours):
            try:
                function(path)
                opened += 1
            except UserError as error:
                assert "fuzz" in str(error) and error.kind, f"{name}, seed {seed}, number {number}"
            except MemoryError:
                raise
            except Exception as error:
                raise AssertionError(f"{name}, seed {seed}, number {number}, {function.__name__}: {type(error).__name__}: {error}") from error
    return opened, time.perf_counter() - began


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_open_or_are_named(tmp_path):
    opened, _ = fuzz(tmp_path, 280, seed=1)
    assert opened > 100                                     # not everything is refused


@pytest.mark.torture
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(100, 110))
def test_damaged_files_open_or_are_named_torture(tmp_path, seed):
    fuzz(tmp_path, 1000, seed)
