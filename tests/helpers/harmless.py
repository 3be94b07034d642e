"""What looks odd in a dataset and is no fault: the check pass must say nothing about it. The form is that of the faults in dirty.py."""
import numpy as np
from dirty import CLASSES, GOOD, SIZE, annotation, image_of, label_of, mask, saved, thing
from PIL import Image


def harmless(content, part=image_of):
    def change(data, stem):
        data[part(stem) if part is image_of else part(data, stem)] = content
        return set()
    return change


def renamed(suffix):
    def change(data, stem):
        data[image_of(stem)[:-4] + suffix] = data.pop(image_of(stem))
        return set()
    return change


def without_tags(*tags):
    text = annotation(thing(), thing("dog"))
    for name in tags:
        start, end = text.index(f"<{name}>"), text.index(f"</{name}>") + len(name) + 3
        text = text[:start] + text[end:]
    return harmless(text.encode(), label_of)


def mode(name):
    noise = np.random.default_rng(77).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    if name == "I;16":
        return saved(Image.fromarray(noise[..., 0].astype(np.uint16) * 256), "PNG")
    return saved(Image.fromarray(noise).convert(name), {"CMYK": "TIFF", "F": "TIFF", "YCbCr": "JPEG"}.get(name, "PNG"))


def mask_mode(name):
    pixels = np.resize(np.repeat(np.array([0, 1, 2], np.uint8), 5), SIZE[::-1])
    image = Image.fromarray(pixels)
    if name == "P":
        image = Image.frombytes("P", SIZE, pixels.tobytes())
        image.putpalette([value for number in range(256) for value in (number * 7 % 256, 255 - number, 3)])
    elif name in ("LA", "RGB", "RGBA"):
        bands = [image] * (1 if name == "LA" else 3) + [Image.new("L", SIZE, 9)] * (name[-1] == "A")
        image = Image.merge(name, bands)
    elif name == "I;16":
        image = Image.fromarray(pixels.astype(np.uint16))
    elif name == "1":
        image = Image.fromarray((pixels > 0) * np.uint8(255)).convert("1")
    return saved(image, "PNG")


def hidden_files(data, stem):
    data.update(dict.fromkeys(("JPEGImages/.x.jpg", "JPEGImages/Thumbs.db", "Annotations/.DS_Store", "Annotations/._t00.xml"), b""))
    return set()


WORDS = "猫"
HARMLESS = {
    "detection": {
        **{f"image {name}": harmless(mode(name)) for name in ("L", "LA", "RGBA", "P", "1", "I;16", "CMYK", "F", "YCbCr")},
        **{f"image {suffix}": renamed(suffix) for suffix in (".JPG", ".jpeg", ".JPEG", ".png")},
        **{f"xml {encoding}": harmless(GOOD.replace("<size>", f"<source>{WORDS}</source><size>").encode(encoding), label_of)
           for encoding in ("utf-8-sig", "gbk", "gb18030", "utf-16", "utf-16-le", "utf-16-be")},
        "xml declares gbk": harmless(f'<?xml version="1.0" encoding="gbk"?>{GOOD}<!-- {WORDS} -->'.encode("gbk"), label_of),
        "floats": harmless(annotation(thing(box=(3.5, 4.25, 10.75, 12.0)), thing("dog")).encode(), label_of),
        "exponent": harmless(annotation(thing(box=("3e0", "+4", "1.0e1", " 12 ")), thing("dog")).encode(), label_of),
        "to the last pixel": harmless(annotation(thing(box=(0, 0, 24, 18)), thing("dog", (1, 1, 25, 19))).encode(), label_of),
        "empty image": harmless(annotation().encode(), label_of), "no objects at all": harmless(b"<annotation/>", label_of),
        **{f"difficult {text!r}": harmless(annotation(thing(difficult=text), thing("dog")).encode(), label_of)
           for text in ("1", "true", "False", "0.0", "Unspecified", "")},
        "no difficult": without_tags("difficult"), "no size": without_tags("size"),
        "size zero": harmless(annotation(thing(), thing("dog"), size=(0, 0)).encode(), label_of),
        "spaces in a name": harmless(annotation(thing("  cat "), thing("dog")).encode(), label_of),
        **{f"classes {name}": harmless(content, lambda data, stem: CLASSES)
           for name, content in (("BOM", b"\xef\xbb\xbfcat\ndog\n"), ("CRLF", b"cat\r\ndog\r\n"), ("blank end", b"cat\ndog\n\n \n"))},
        "hidden files": hidden_files,
    },
    "segmentation": {
        **{f"mask {name}": harmless(mask_mode(name), label_of) for name in ("1", "L", "P", "LA", "RGB", "RGBA", "I;16")},
        "not labelled": harmless(mask((0, 1, 255)), label_of), "one class": harmless(mask((1,)), label_of), "suffix": renamed(".PNG"),
    },
}
