"""Random damage to images, masks, XML files, lists: only success or our own error, nothing else, and in no time."""
import random
import re
import time

import dirty
import numpy as np
import pytest
from PIL import Image

from utils.checks.folder import look_at_folder, whole_findings
from utils.checks.lists import look_at_lists_of
from utils.errors import UserError
from utils.formats.sweep import look_at_image, look_at_mask
from utils.formats.voc_folder import read_ids
from utils.formats.voc_xml import read_annotation
from utils.formats.yaml_file import read_yaml
from utils.formats.yolo_lists import KEYS, read_data_yaml
from utils.images import open_image, open_mask
from utils.lists import read_classes, read_list, read_mask_list
from utils.system import files

SLOW = 3.0                      # seconds of the processor that one file may take
WORDS = ["<object>", "</object>", "<bndbox>", "<name>", "</annotation>", "<annotation>", "&amp;", "&#0;", "<![CDATA[", "]]>", "<!--", "-->", "<?x ?>",
         "<!DOCTYPE a>", "nan", "1e999", "-", "９", "\x00", "\ufeff", "<xmin/>", "<xmin>1</xmin>", "<a><b>" * 50, "0" * 400, "\u202e", "<size/>"]

YAMLS = ["path: ../p\ntrain: a/b\nval: c\nnc: 2\nnames:\n  0: cat\n  1: big dog  # 狗\n",
         "train: [a, b]\nval:\n- c\n-  d\nnames: [ 'cat',\n  \"do\\x67\", no,\n]\n", "names: {0: cat, 1: 'it''s'}\ntrain: a.txt\nvalid: b\n",
         "---\nx: &x {a: [b, {c: d}]}\ny: *x\nnames:\n- a\ndownload: |\n  import os\n  os.f('x: y')\n...\n"]
YAML_WORDS = [*"[]{},:#-?!&*|>'\"%@`~\\\t\n \r\x1b\x85\u2028\u202e\ufeff\x00", "\n---\n", "\n...\n", ": ", "- ", "&a ", "*a ", "!<a%1b> ", "<<: *a\n",
              "!!python/object:os.x ", "null", "names: ", "\nnames:", "train:\n  ", "\n    ", '"\\e[2J"', '"\\ud800"', '"\\UFFFFFFFF"', "[" * 60,
              "{a: " * 40, "0", "1: x\n", "\U0001f600", "|2-\n", "? a\n", "%YAML 1" + "1" * 4400 + "\n"]


def pictures():
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    rgb, grey = Image.fromarray(noise), Image.fromarray(noise[..., 0] % 4)
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = [(rgb, "JPEG", {}), (rgb, "JPEG", {"progressive": True, "exif": exif.tobytes()}), (rgb, "PNG", {}), (rgb, "WEBP", {}), (rgb, "BMP", {}),
             (rgb, "GIF", {}), (rgb, "TIFF", {}), (rgb, "TIFF", {"compression": "tiff_lzw"}), (rgb.convert("CMYK"), "JPEG", {}),
             (rgb.convert("RGBA"), "PNG", {"exif": exif.tobytes()}), (rgb.quantize(), "PNG", {}), (grey, "PNG", {}),
             (grey, "TIFF", {"exif": exif.tobytes()}), (grey.convert("1"), "PNG", {}),
             (Image.fromarray(noise[..., 0].astype(np.uint16)), "PNG", {}), (grey.convert("F"), "TIFF", {})]
    return [dirty.saved(image, kind, **options) for image, kind, options in kinds]


def spoilt(rng, content):
    """Bytes changed, cut off, doubled, moved."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5, 30))):
        at, what = rng.randrange(len(data) + 1), rng.randrange(6)
        if what == 0:
            data = data[:at]
        elif what == 1:
            data[at:at] = rng.randbytes(rng.randrange(1, 20))
        elif what == 2:
            del data[at:at + rng.randrange(1, 40)]
        elif what == 3:
            data[at:at] = data[at:at + rng.randrange(1, 200)]
        else:
            for place in range(at, min(len(data), at + rng.choice((1, 1, 4)))):
                data[place] = rng.randrange(256)
        data = data or bytearray(b"\x00")
    return bytes(data)


def try_all(functions, path, content):
    """Every function either returns or raises a UserError with a sentence that names the file."""
    path.write_bytes(content)
    for function in functions:
        began = time.process_time()
        try:
            function(path)
        except UserError as error:
            assert path.name in str(error) and "\n" not in str(error).strip()[:60], error
        assert time.process_time() - began < SLOW


def fuzz_images(folder, count):
    rng, seeds = random.Random(1), pictures()
    for number in range(count):
        try_all((look_at_image, open_image, look_at_mask, open_mask), folder / "x.png", spoilt(rng, seeds[number % len(seeds)]))


def fuzz_xml(folder, count):
    rng = random.Random(2)
    seeds = [dirty.annotation(dirty.thing(), dirty.thing("猫", (1, 2, 30, 40), 1))]
    seeds += [seeds[0].replace("cat", word) for word in WORDS[:5]]
    for _ in range(count):
        text = rng.choice(seeds)
        for _ in range(rng.randrange(4)):
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice(WORDS) + text[at + rng.choice((0, 0, 3, 30)):]
        data = text.encode(rng.choice(("utf-8", "utf-8", "gb18030", "utf-16", "utf-16-le")), "replace")
        try_all((lambda path: read_annotation(path, 24, 18),), folder / "x.xml", spoilt(rng, data) if rng.random() < 0.5 else data)


def fuzz_lists(folder, count):
    rng = random.Random(3)
    seeds = ["a b.jpg 1,2,3,4,0 5,6,7,8,1,1\nc.png\n图.JPG 0.5,1,2,3.25,7\n", "a.jpg\tb.png\nc d.jpg\tm/e.png\r\n", "a\nb c\n图\n",
             "cat\ndog\nbird\n"]
    for _ in range(count):
        text = list(rng.choice(seeds))
        for _ in range(rng.randrange(6)):
            text.insert(rng.randrange(len(text) + 1), rng.choice([*WORDS, ",", " ", "\t", "\r", "\n", "/", "..", "1,2,3,4,5", ".jpg", "\\", ":"]))
        data = "".join(text).encode(rng.choice(("utf-8", "utf-8-sig", "gb18030", "utf-16")), "replace")
        try_all((read_list, read_mask_list, read_ids, read_classes), folder / "x.txt", spoilt(rng, data) if rng.random() < 0.4 else data)


def fuzz_yaml(folder, count):
    """Of the disk only what the texts lead to: to write each takes longer than to read it."""
    rng, path = random.Random(5), folder / "x.yaml"
    for _ in range(count):
        text = rng.choice(YAMLS)
        for _ in range(rng.randrange(4)):
            at = rng.randrange(len(text) + 1)
            text = text[:at] + rng.choice(YAML_WORDS) + text[at + rng.choice((0, 0, 1, 3, 20)):]
        data = text.encode(rng.choice(("utf-8", "utf-8", "utf-8-sig", "gb18030", "utf-16")), "replace")
        data = spoilt(rng, data) if rng.random() < 0.4 else data
        began = time.process_time()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "read_bytes", lambda path, limit, data=data: data)
            try:
                check_kinds(read_yaml(path, KEYS))
                read_data_yaml(path, [])
            except UserError as error:                      # its sentence does not steer a terminal
                assert path.name in str(error) and not re.search("[\x00-\x1f\x7f-\x9f\u202e]", str(error)), ascii((data, str(error)))
        assert time.process_time() - began < SLOW


def check_kinds(found):
    """Values are of the kinds that are promised."""
    for value, line in found.values():
        words = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else [value]
        assert line > 0 and all(word is None or isinstance(word, str) for word in words), value


def fuzz_folders(root, count):
    """A whole dataset with many spoilt files at a time: the pass itself, and the pass over the lists."""
    rng = random.Random(4)
    for number in range(count):
        task = ("detection", "segmentation")[number % 2]
        folder = root / f"Set{number}"
        for path, content in dirty.clean(task).items():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(spoilt(rng, content) if rng.random() < 0.3 else content)
        lists = {}
        for split in ("train", "val"):
            lists[split] = folder / f"{split}.txt"
            lines = [f"{folder}/JPEGImages/{stem}.jpg" + (f"\t{folder}/SegmentationClass/{stem}.png" if task == "segmentation" else " 1,2,9,8,0")
                     for stem in (dirty.TRAIN if split == "train" else dirty.VAL)]
            lists[split].write_bytes(spoilt(rng, "\n".join(lines).encode()))
        for function, *arguments in ((whole, folder, task), (look_at_lists_of, task, lists, folder / dirty.CLASSES, (64, 64), 8)):
            try:
                function(*arguments)
            except UserError as error:
                assert "Set" in str(error)


def whole(folder, task):
    part, findings = look_at_folder(folder, task, {"train": "train", "val": "val", "test": "test"})
    findings += whole_findings([part], ["cat", "dog", "x"], folder / "c.txt", task)
    assert all(finding.file for finding in findings)


SHARES = [(fuzz_images, 8000), (fuzz_xml, 6000), (fuzz_lists, 6000), (fuzz_folders, 100),      # 20,000 files, and whole folders
          (fuzz_yaml, 50_000)]


@pytest.mark.parametrize("fuzz, count", SHARES, ids=lambda part: getattr(part, "__name__", None))
def test_a_sample(root, capsys, fuzz, count):
    fuzz(root, count // (10 if fuzz is fuzz_yaml else 50))        # small files, quickly read


@pytest.mark.torture
@pytest.mark.parametrize("fuzz, count", SHARES, ids=lambda part: getattr(part, "__name__", None))
def test_all(root, capsys, fuzz, count):
    fuzz(root, count)


def test_hostile_xml_ends_at_once(tmp_path):
    box = "<object><name>a</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
    bodies = ("<a>" * 200_000 + "</a>" * 200_000, "<object/>" * 40_000, box * 20_000)
    for text in ("<a>" * 200_000, '<?xml version="1.0" encoding="punycode"?>' + "a" * 400_000 + "-" + "b" * 400_000,
                 *(f"<annotation>{body}</annotation>" for body in bodies),
                 '<!DOCTYPE a [<!ENTITY b "' + "c" * 10_000 + '">]><annotation>' + "&b;" * 10_000 + "</annotation>"):
        try_all((lambda path: read_annotation(path, 24, 18),), tmp_path / "x.xml", text.encode())
