"""Dirty datasets: a clean one in memory, and single faults to put into it, each with what the check pass must report about it, exactly.

A dataset is a dict: path below the dataset's folder -> bytes. `CLASSES` stands for the classes file beside it. A fault is a function
(data, stem) -> {(path, kind)} that changes the data; `stem` is an image that no other fault touches.
"""
import io
import random
import struct
import zlib
from functools import cache

import numpy as np
from PIL import Image

from tests.helpers.tiff import tiff

CLASSES = "classes.txt"
TRAIN, VAL, TEST = [f"t{i:02d}" for i in range(30)], ["v0", "v1", "v2"], ["x0", "x1", "x2"]
SIZE = (24, 18)                 # width, height
LISTS = {"detection": "ImageSets/Main", "segmentation": "ImageSets/Segmentation"}


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@cache
def picture(number, kind="JPEG", size=SIZE, **options):
    noise = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return saved(Image.fromarray(noise), kind, **options)


def mask(values=(0, 1, 2), size=SIZE, kind="PNG", dtype=np.uint8, **options):
    pixels = np.resize(np.repeat(np.array(values, dtype), 5), size[::-1])
    return saved(Image.fromarray(pixels), kind, **options)


def tag(name, value):
    return f"<{name}>{value}</{name}>"


def thing(name="cat", box=(3, 4, 10, 12), difficult="0"):
    corners = "".join(map(tag, ("xmin", "ymin", "xmax", "ymax"), box))
    return f"<object>{tag('name', name)}{tag('difficult', difficult)}<bndbox>{corners}</bndbox></object>\n"


def annotation(*things, size=SIZE):
    return f"<annotation>\n<size>{tag('width', size[0])}{tag('height', size[1])}</size>\n{''.join(things)}</annotation>\n"


def clean(task):
    """36 images in three lists; detection: two objects in each; segmentation: three classes in each mask."""
    data = {}
    for number, stem in enumerate(TRAIN + VAL + TEST):
        data[f"JPEGImages/{stem}.jpg"] = picture(number)
        if task == "detection":
            data[f"Annotations/{stem}.xml"] = annotation(thing(), thing("dog", (9, 5, 20, 17))).encode()
        else:
            data[f"SegmentationClass/{stem}.png"] = mask()
    for name, stems in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        data[f"{LISTS[task]}/{name}.txt"] = "".join(f"{stem}\n" for stem in stems).encode()
    data[CLASSES] = b"cat\ndog\n" if task == "detection" else b"background\na\nb\n"
    return data


# ---- what faults are made of

def image_of(stem):
    return f"JPEGImages/{stem}.jpg"


def label_of(data, stem):
    return f"Annotations/{stem}.xml" if task_of(data) == "detection" else f"SegmentationClass/{stem}.png"


def task_of(data):
    return "detection" if any(path.startswith("ImageSets/Main") for path in data) else "segmentation"


def list_of(data, name="train"):
    return f"{LISTS[task_of(data)]}/{name}.txt"


def unlist(data, stem):
    for path in [path for path in data if path.startswith("ImageSets/")]:
        data[path] = b"".join(line + b"\n" for line in data[path].split(b"\n") if line and line != stem.encode())


def enlist(data, line, name="train"):
    data[list_of(data, name)] += line.encode() + b"\n"


def replaced(kind, content, part=image_of):
    """A fault: the image (or label) becomes `content`."""
    def change(data, stem):
        path = part(stem) if part is image_of else part(data, stem)
        data[path] = content() if callable(content) else content
        return {(path, kind)}
    return change


def xml(kind, *things, text=None, **options):
    return replaced(kind, (text if isinstance(text, bytes) else (text or annotation(*things, **options)).encode()), label_of)


def said(kind, old, new):
    """A fault: in a good annotation `old` becomes `new`."""
    return xml(kind, text=annotation(thing("dog"), thing(box=(5, 6, 19, 16))).replace(old, new))


def png_of(bits, colour, width, height):
    """A PNG whose header promises a size; its data are only a few bytes."""
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)) \
        + chunk(b"IDAT", zlib.compress(bytes(2000))) + chunk(b"IEND", b"")


def turned(number):
    exif = Image.Exif()
    exif[0x0112] = 6
    return picture(number, exif=exif.tobytes())


JUNK = {
    "empty": b"", "html": b"<!DOCTYPE html><html><body>404</body></html>", "text": b"hello, this is no image\n", "xml": b"<?xml version='1.0'?><a/>",
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "zip": b"PK\x03\x04" + bytes(60),
    "json": b'{"shapes": []}',
    "zeros": bytes(500),
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "mp4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "pdf": b"%PDF-1.4\n1 0 obj\n",
}


def cut(kind, share, **options):
    whole = picture(1000, kind, (64, 48), **options)
    return whole[:int(len(whole) * share)]


DAMAGED = {f"jpeg {share}": cut("JPEG", share) for share in (0.4, 0.6, 0.8, 0.95)}
DAMAGED |= {f"png {share}": cut("PNG", share) for share in (0.3, 0.6, 0.9)}
DAMAGED |= {"progressive": cut("JPEG", 0.7, progressive=True), "bmp": cut("BMP", 0.7), "webp": cut("WEBP", 0.7),
"tiff": cut("TIFF", 0.6, compression="raw"),
            "flipped png": (lambda whole: whole[:300] + bytes([whole[300] ^ 255]) + whole[301:])(picture(1001, "PNG", (64, 48)))}


# ---- faults that both tasks can have

def unlisted_without_image(data, stem):
    unlist(data, stem)
    del data[image_of(stem)]
    return {(label_of(data, stem), "label_without_image")}


def unlisted_without_label(data, stem):
    unlist(data, stem)
    del data[label_of(data, stem)]
    return {(image_of(stem), "image_without_label")}


def listed_without_image(data, stem):
    del data[image_of(stem)]
    return {(list_of(data), "list_no_image")}


def listed_without_label(data, stem):
    del data[label_of(data, stem)]
    return {(list_of(data), "list_no_label")}


def not_listed(data, stem):
    unlist(data, stem)
    return {(image_of(stem), "not_listed")}


def list_line(line, kind, name="train"):
    def change(data, stem):
        enlist(data, line.format(stem=stem), name)
        return {(list_of(data, name), kind)}
    return change


def twice(name):
    """A second image of the same stem."""
    def change(data, stem):
        data[f"JPEGImages/{name.format(stem=stem)}"] = picture(2000)
        return {(max(image_of(stem), f"JPEGImages/{name.format(stem=stem)}"), "stem_twice")}
    return change


def label_twice(data, stem):
    path = label_of(data, stem)
    other = path[:-4] + path[-4:].upper()
    data[other] = data[path]
    return {(max(path, other), "stem_twice")}


def file_added(path, content, kind):
    def change(data, stem):
        data[path.format(stem=stem)] = content
        return {(path.format(stem=stem), kind)}
    return change


def copy_of(other, kind):
    """The same picture as another one."""
    def change(data, stem):
        data[image_of(max(stem, other))] = data[image_of(min(stem, other))]
        return {(image_of(max(stem, other)), kind)}
    return change


def classes(content, kind):
    def change(data, stem):
        data[CLASSES] = content
        return {(CLASSES, kind)}
    return change


def no_classes(data, stem):
    del data[CLASSES]
    return {(CLASSES, "classes_missing")}


def no_list(name):
    def change(data, stem):
        del data[list_of(data, name)]
        return {(list_of(data, name), "list_missing")} | {(image_of(stem), "not_listed") for stem in {"train": TRAIN, "val": VAL}[name]}
    return change


def few(data, stem):
    for other in TRAIN[15:]:
        unlist(data, other)
    return {("", "few_images")} | {(image_of(other), "not_listed") for other in TRAIN[15:]}


def no_folder(name):
    def change(data, stem):
        for path in [path for path in data if path.startswith(name)]:
            del data[path]
        return {("", "layout")}
    return change


def nested(data, stem):
    for path in [path for path in data if path != CLASSES]:
        data[f"VOC2007/{path}"] = data.pop(path)
    return {("", "layout")}


DEEP = np.random.default_rng(7).integers(0, 4096, (18, 24, 3)).astype(np.uint16)


def of_pages(data, stem):
    """The image is a TIFF of two pages."""
    del data[image_of(stem)]
    pages = [Image.fromarray((DEEP >> 4).astype(np.uint8)), Image.new("RGB", SIZE)]
    data[f"JPEGImages/{stem}.tif"] = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    return {(f"JPEGImages/{stem}.tif", "image_pages")}


COMMON = {
    **{f"image {name}": replaced("not_an_image", content) for name, content in JUNK.items()},
    **{f"image cut {name}": replaced("image_damaged", content) for name, content in DAMAGED.items()},
    "image bomb": replaced("image_too_large", png_of(8, 2, 30000, 30000)),
    "xml or mask alone": unlisted_without_image, "image alone": unlisted_without_label,
    "list without image": listed_without_image, "list without label": listed_without_label, "not listed": not_listed,
    "list line up": list_line("../no_{stem}", "list_name"), "list line absolute": list_line("/etc/passwd", "list_name"),
    "list line steering": list_line("a\x1b[2Jb", "list_name"), "list line drive": list_line("C:\\no_{stem}", "list_name"),
    "list line unknown": list_line("no_such_{stem}", "list_no_image"),
    "train and val": list_line("{stem}", "in_train_and_val", "val"), "train and test": list_line("{stem}", "in_test", "test"),
    "val and test": list_line("v1", "in_test", "test"),
    "same picture": copy_of("t29", "same_picture"), "same across": copy_of("v2", "same_across"),
    "same in test": copy_of("x2", "same_across"),
    "stem twice png": twice("{stem}.png"), "stem twice JPG": twice("{stem}.JPG"), "stem twice space": twice("{stem} .jpg"),
    "label twice": label_twice,
    "name with drive": file_added("JPEGImages/C:{stem}.jpg", picture(3000), "bad_name"),
    "name with bell": file_added("JPEGImages/{stem}\x07.jpg", picture(3001), "bad_name"),
    "name with backslash": file_added("JPEGImages/{stem}\\a.jpg", picture(3002), "bad_name"),
    "tiff planar": replaced("image_kind", lambda: tiff(DEEP, planar=True)),
    "tiff float 64": replaced("image_kind", lambda: tiff(DEEP[..., :1].astype(np.float64))),
    "tiff bands": replaced("image_kind", lambda: tiff(np.dstack([DEEP, DEEP]))), "tiff pages": of_pages,
    "notes": file_added("JPEGImages/notes_{stem}.txt", b"x", "other_suffix"),
    "heic": file_added("JPEGImages/h_{stem}.HEIC", b"x", "other_suffix"),
}
# they concern all of a dataset: not to be mixed with others of their kind
COMMON_WHOLE = {
    "classes missing": no_classes, "classes empty": classes(b" \n\n", "classes_empty"),
    "no train list": no_list("train"), "no val list": no_list("val"), "few images": few, "no images": no_folder("JPEGImages"),
    "nested": nested,
}


# ---- detection

NUMBERS = ["nan", "inf", "-inf", "12,5", "１２", "1_0", "abc", "1e9", "0x10", "1 2", "--1", "", "1e400", "½"]


def on_its_side(data, stem):
    """The label was drawn before the image was turned."""
    data[image_of(stem)] = turned(4000 + int(stem[1:]))
    data[label_of(data, stem)] = annotation(thing(), thing("dog", (9, 5, 17, 17))).encode()
    return {(label_of(data, stem), "size_turned")}


def second_class(name):
    def change(data, stem):
        data[label_of(data, stem)] = annotation(thing(), thing(name)).encode()
        return {(label_of(data, stem), "unknown_class")}
    return change


def corner_is_size(data, stem):
    """All boxes of the dataset hold width and height; it shows where a width is less than its xmin."""
    expected = set()
    for number, other in enumerate(TRAIN + VAL + TEST):
        big = number % 2
        data[label_of(data, other)] = annotation(thing(box=(2, 2, 9, 8) if big else (12, 10, 6, 5)), thing("dog", (3, 3, 8, 8))).encode()
        expected |= set() if big else {(label_of(data, other), "corner_is_size")}
    return expected


def right_to_left(data, stem):
    """Many boxes are drawn from right to left; that they hold no sizes shows in the others, which would not fit."""
    for other in TRAIN:
        data[label_of(data, other)] = annotation(thing(box=(12, 10, 6, 5)), thing("dog", (9, 5, 20, 17))).encode()
    return {(label_of(data, other), "box_swapped") for other in TRAIN}


def no_objects(data, stem):
    for other in TRAIN + VAL + TEST:
        data[label_of(data, other)] = annotation().encode()
    return {("", "no_objects")}


def nothing_left(data, stem):
    for other in TRAIN:
        data[label_of(data, other)] = b""
    return {(label_of(data, other), "xml_empty") for other in TRAIN} | {("", "nothing_left")}


GOOD = annotation(thing(), thing("dog"))
LABELME = b'{"version": "5.0", "imagePath": "../JPEGImages/t29.jpg", "imageHeight": 18, "imageWidth": 24, ' \
          b'"shapes": [{"label": "cat", "shape_type": "rectangle", "points": [[3, 4], [10, 12]]}]}'
DETECTION = COMMON | {
    "black": replaced("one_colour", lambda: saved(Image.new("RGB", SIZE), "JPEG")),
    "one colour": replaced("one_colour", lambda: saved(Image.new("RGB", SIZE, (9, 120, 200)), "PNG")),
    "xml empty": xml("xml_empty", text=b""), "xml blank": xml("xml_empty", text=b" \r\n\t"),
    **{f"xml cut {share}": xml("xml_broken", text=GOOD[:int(len(GOOD) * share)]) for share in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)},
    "xml text": xml("xml_broken", text="0 0.5 0.5 0.2 0.2\n"), "xml json": xml("xml_broken", text='{"shapes": []}'),
    "xml two": xml("xml_broken", text=GOOD * 2),
    "xml garbage": xml("label_encoding", text=b"<annotation>\xff\xff\xff\x81</annotation>"),
    "xml noise": xml("label_encoding", text=bytes(range(128, 256)) * 9),
    "xml html": xml("xml_schema", text="<html><body>404</body></html>"), "xml svg": xml("xml_schema", text="<svg/>"),
    "xml cvat": xml("xml_schema", text="<annotations><image/></annotations>"), "xml object": xml("xml_schema", text=thing()),
    "xml doctype": xml("xml_harmful", text="<!DOCTYPE annotation><annotation/>"),
    "xml entity": xml("xml_harmful", text='<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>'),
    "xml large": xml("label_too_large", text=b"<annotation>" + b" " * 5_000_000 + b"</annotation>"),
    "no name": said("tag_missing", tag("name", "cat"), ""), "empty name": said("tag_missing", tag("name", "cat"), "<name></name>"),
    "blank name": said("tag_missing", tag("name", "cat"), "<name> </name>"), "no bndbox": said("tag_missing", "bndbox", "box"),
    "no xmin": said("tag_missing", tag("xmin", 5), ""), "no ymin": said("tag_missing", tag("ymin", 6), ""),
    "no xmax": said("tag_missing", tag("xmax", 19), ""), "no ymax": said("tag_missing", tag("ymax", 16), ""),
    "width and height": said("tag_missing", tag("xmax", 19), tag("w", 19)),
    "rolabelimg": said("rotated_box", "bndbox", "robndbox"), "polygon": said("rotated_box", "bndbox", "polygon"),
    "segmentation": said("rotated_box", "bndbox", "segmentation"),
    **{f"number {text!r}": said("bad_number", tag("xmax", 19), tag("xmax", text)) for text in NUMBERS},
    **{f"difficult {text!r}": said("bad_difficult", tag("difficult", 0), tag("difficult", text))
       for text in ("2", "-1", "yes", "是", "nan", "0,5", "hard")},
    "swapped x": xml("box_swapped", thing(box=(20, 4, 3, 12)), thing("dog")),
    "swapped y": xml("box_swapped", thing(box=(3, 14, 20, 5)), thing("dog")),
    "swapped both": xml("box_swapped", thing(box=(20, 14, 3, 4)), thing("dog")),
    "no width": xml("box_empty", thing(box=(5, 4, 5, 12)), thing("dog")),
    "no height": xml("box_empty", thing(box=(5, 4, 9, 4)), thing("dog")),
    "point": xml("box_empty", thing(box=(5, 4, 5, 4)), thing("dog")), "all zero": xml("box_empty", thing(box=(0, 0, 0, 0)), thing("dog")),
    "outside right": xml("box_outside", thing(box=(30, 4, 40, 12)), thing("dog")),
    "outside left": xml("box_outside", thing(box=(-20, 4, -3, 12)), thing("dog")),
    "outside below": xml("box_outside", thing(box=(3, 30, 9, 40)), thing("dog")),
    "outside above": xml("box_outside", thing(box=(3, -30, 9, -4)), thing("dog")),
    "mostly outside": xml("box_outside", thing(box=(20, 10, 200, 17)), thing("dog")),
    "clipped right": xml("box_clipped", thing(box=(5, 4, 30, 12)), thing("dog")),
    "clipped left": xml("box_clipped", thing(box=(-4, 4, 15, 12)), thing("dog")),
    "clipped below": xml("box_clipped", thing(box=(3, 4, 9, 25)), thing("dog")),
    "clipped above": xml("box_clipped", thing(box=(3, -5, 9, 12)), thing("dog")),
    "empty object": xml("shape_flat", "<object/>", thing(), thing("dog")),
    "shares": xml("shares_for_pixels", thing(box=(.1, .2, .6, .7)), thing("dog", (.3, .3, .9, 1))),
    "box twice": xml("box_twice", thing(), thing(), thing("dog")),
    "size doubled": xml("size_wrong", thing(), thing("dog"), size=(48, 36)),
    "size by one": xml("size_wrong", thing(), thing("dog"), size=(25, 18)),
    "size exchanged": xml("size_turned", thing(), thing("dog"), size=(18, 24)), "exif": on_its_side,
    "class typo": second_class("catt"), "class case": second_class("Cat"), "class wide letters": second_class("ｃａｔ"),
    "class other": second_class("bird"),
    "labelme": file_added("Annotations/l_{stem}.json", LABELME, "labelme_file"),
    "yolo": file_added("Annotations/y_{stem}.txt", b"0 0.5 0.5 0.25 0.25\n", "yolo_file"),
    "readme": file_added("Annotations/read_{stem}.md", b"x", "other_suffix"),
    "other text": file_added("Annotations/n_{stem}.txt", b"notes\n", "other_suffix"),
}
DETECTION_WHOLE = COMMON_WHOLE | {
    "classes blank": classes(b"cat\n\ndog\n", "classes_blank"),
    "classes twice": classes(b"cat\ndog\ncat\n", "classes_twice"), "class absent": classes(b"cat\ndog\nbird\n", "class_absent"),
    "corner is size": corner_is_size, "right to left": right_to_left,
    "no objects": no_objects, "nothing left": nothing_left, "no xml files": no_folder("Annotations"),
    "classes file of others": lambda data, stem: classes(b"person\ncar\n", "class_absent")(data, stem)
    | {(label_of(data, other), "unknown_class") for other in TRAIN + VAL + TEST},
}


# ---- segmentation

def masked(kind, content):
    return replaced(kind, content, label_of)


def colours(mode):
    def make():
        pixels = np.zeros((SIZE[1], SIZE[0], 4), np.uint8)
        pixels[::2] = (60, 16, 152, 255)
        return saved(Image.fromarray(pixels).convert(mode), "TIFF" if mode == "CMYK" else "PNG")
    return make


def all_masks(values, kind, per_file, without_classes=False):
    def change(data, stem):
        for other in TRAIN + VAL + TEST:
            data[label_of(data, other)] = mask(values)
        if without_classes:
            del data[CLASSES]
        return {(label_of(data, other), kind) for other in TRAIN + VAL + TEST} if per_file else {("SegmentationClass", kind)}
    return change


def in_alpha(mode):
    alpha = Image.fromarray(np.resize(np.repeat(np.array((0, 255), np.uint8), 5), SIZE[::-1]))
    picture = Image.new(mode, SIZE)
    picture.putalpha(alpha)
    return saved(picture, "PNG")


def pages_of_mask():
    first, second = (Image.fromarray(np.full(SIZE[::-1], number, np.uint8)) for number in (0, 1))
    return saved(first, "TIFF", save_all=True, append_images=[second])


def smoothed():
    """Black, grey and white, with much in between at an edge."""
    pixels = np.repeat(np.array([[0, 128, 255]], np.uint8), 8, 1).repeat(SIZE[1], 0)
    pixels[:, 8] = np.linspace(14, 114, SIZE[1])
    return saved(Image.fromarray(pixels), "PNG")


def all_smoothed(data, stem):
    """Every mask; no classes file says what the numbers mean."""
    for other in TRAIN + VAL + TEST:
        data[label_of(data, other)] = smoothed()
    del data[CLASSES]
    return {("SegmentationClass", "mask_strays")}


def void_named(data, stem):
    data[CLASSES] = b"background\na\nvoid\n"
    return {("SegmentationClass", "void_class")}


def lossy(suffix, kind):
    """The mask is a file of another suffix."""
    def change(data, stem):
        del data[label_of(data, stem)]
        data[f"SegmentationClass/{stem}{suffix}"] = mask(kind=kind)
        return {(f"SegmentationClass/{stem}{suffix}", "mask_lossy")}
    return change


def mask_against_exif(data, stem):
    data[image_of(stem)] = turned(5000 + int(stem[1:]))
    return {(label_of(data, stem), "mask_turned")}


def no_masks_left(data, stem):
    for other in TRAIN:
        data[label_of(data, other)] = b""
    return {(label_of(data, other), "not_an_image") for other in TRAIN} | {("", "nothing_left")}


SEGMENTATION = COMMON | {
    **{f"mask {name}": masked("not_an_image", content) for name, content in JUNK.items()},
    **{f"mask cut {share}": masked("image_damaged", cut("PNG", share)) for share in (0.3, 0.6, 0.9)},
    "mask bomb": masked("image_too_large", png_of(8, 0, 30000, 30000)),
    "mask jpeg": masked("mask_lossy", lambda: mask(kind="JPEG")), "mask webp": masked("mask_lossy", lambda: mask(kind="WEBP")),
    "mask tiff with jpeg": masked("mask_lossy", lambda: mask(kind="TIFF", compression="jpeg")),
    "mask .jpg": lossy(".jpg", "JPEG"), "mask .jpeg": lossy(".jpeg", "JPEG"), "mask .webp": lossy(".webp", "WEBP"),
    **{f"mask {mode}": masked("mask_colour", colours(mode)) for mode in ("RGB", "RGBA", "CMYK")},
    "mask alpha": masked("mask_alpha", lambda: in_alpha("RGBA")), "mask grey alpha": masked("mask_alpha", lambda: in_alpha("LA")),
    "mask pages": masked("mask_pages", lambda: pages_of_mask()),
    "mask deep": masked("mask_deep", png_of(16, 2, 3, 2)), "mask deep alpha": masked("mask_deep", png_of(16, 4, 3, 2)),
    "mask 16 bits": masked("mask_numbers", lambda: mask((0, 1, 508), dtype=np.uint16)),
    "mask negative": masked("mask_numbers", lambda: mask((0, 1, -1), dtype=np.int32, kind="TIFF")),
    "mask float": masked("mask_numbers", lambda: mask((0, 1, 0.5), dtype=np.float32, kind="TIFF")),
    "mask doubled": masked("mask_size", lambda: mask(size=(48, 36))), "mask halved": masked("mask_size", lambda: mask(size=(12, 9))),
    "mask by one": masked("mask_size", lambda: mask(size=(25, 18))), "mask by two": masked("mask_size", lambda: mask(size=(24, 16))),
    "mask turned": masked("mask_turned", lambda: mask(size=SIZE[::-1])), "mask exif": mask_against_exif,
    **{f"value {value}": masked("mask_values", lambda value=value: mask((0, 1, value))) for value in (3, 4, 7, 100, 128, 200, 254)},
    "values 0 128": masked("mask_values", lambda: mask((0, 128))), "values brightness": masked("mask_values", lambda: mask((0, 38, 75))),
    "value 3 and nothing": masked("mask_values", lambda: mask((0, 255, 3))),
    "values 0 255": masked("mask_0_255", lambda: mask((0, 255))), "values 0 255 one bit": masked("mask_0_255", lambda: mask((0, 0, 255))),
    "mask notes": file_added("SegmentationClass/notes_{stem}.txt", b"x", "other_suffix"),
    "mask bmp": file_added("SegmentationClass/{stem}_b.bmp", b"x", "other_suffix"),
}
SEGMENTATION_WHOLE = COMMON_WHOLE | {
    "classes blank": classes(b"background\n\na\nb\n", "classes_blank"),
    "classes twice": classes(b"background\na\na\n", "classes_twice"), "class absent": classes(b"background\na\nb\nc\n", "class_absent"),
    "two classes absent": classes(b"background\na\nb\nc\nd\n", "class_absent"),
    "all 0 255": all_masks((0, 255), "masks_0_255", True), "all 255": all_masks((255,), "masks_0_255", True),
    "all 0 255 without classes": all_masks((0, 255), "masks_0_255", True, True), "all 0": all_masks((0,), "masks_one_class", False),
    "all 1": all_masks((1,), "masks_one_class", False), "all 0 128": all_masks((0, 128), "masks_brightness", False, True),
    "all brightness": all_masks((0, 38, 75), "masks_brightness", False, True), "no masks": no_folder("SegmentationClass"),
    "no masks left": no_masks_left, "void": void_named, "all smoothed": all_smoothed,
}

SINGLE = {"detection": DETECTION | DETECTION_WHOLE, "segmentation": SEGMENTATION | SEGMENTATION_WHOLE}
MIXABLE = {"detection": DETECTION, "segmentation": SEGMENTATION}
WITHOUT_CLASSES = ("all 0 255 without classes", "all 0 128", "all brightness", "all smoothed")      # cases in which no classes file is given


def single(task, name):
    """-> data, expected findings."""
    data = clean(task)
    return data, SINGLE[task][name](data, "t03")


def mixture(task, number, count=5):
    """`count` faults of different images. -> data, expected findings, their names."""
    rng = random.Random(f"{task} {number}")
    names, data, expected = rng.sample(sorted(MIXABLE[task]), count), clean(task), set()
    for name, stem in zip(names, rng.sample(TRAIN[:29], count)):
        expected |= MIXABLE[task][name](data, stem)
    return data, expected, names
