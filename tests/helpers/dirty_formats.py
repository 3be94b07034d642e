"""Dirty datasets of other formats, in the manner of dirty.py: clean ones, and single faults with what must be reported about each, exactly.

A dataset is a dict: path below its folder -> bytes, or what becomes JSON. A fault is a function (data, stem) -> {(path, kind)} that changes
the data; `stem` is a training image that no other fault touches.
"""
import json
import random

from dirty import CLASSES, DAMAGED, JUNK, SIZE, TEST, TRAIN, VAL, annotation, colours, mask, picture, png_of, saved, tag, thing
from PIL import Image

SPLITS = {"train": TRAIN, "val": VAL, "test": TEST}
TASKS = {"yolo": "detection", "coco": "detection", "labelme": "detection", "xml": "detection", "masks": "segmentation", "colours": "segmentation",
         "outlines": "segmentation"}
YAML = b"train: images/train\nval: images/val\ntest: images/test\nnames: [cat, dog]\n"
LINES = "0 0.3 0.4 0.25 0.4\n1 .6 .6 .3 .5\n"
JSON = "annotations/instances_{}.json"
ROAD, SKY = (128, 64, 128), (0, 0, 200)
PALETTE = b"128,64,128 road\n0,0,200 sky\n"
IMAGES = {"yolo": "images/{}/{}.jpg", "outlines": "images/{}/{}.jpg", "masks": "images/{}/{}.jpg", "colours": "images/{}/{}.jpg"}
LABELS = {"yolo": "labels/train/{}.txt", "outlines": "labels/train/{}.txt", "labelme": "train/{}.json", "xml": "train/{}.xml",
          "masks": "masks/train/{}.png", "colours": "masks/train/{}.png"}


def shape(points=((3, 4), (10, 12)), label="cat", kind="rectangle"):
    return {"label": label, "shape_type": kind, "points": points}


def coloured(*colours, size=SIZE, kind="PNG"):
    picture = Image.new("RGB", size)
    picture.putdata([colours[n * len(colours) // (size[0] * size[1])] for n in range(size[0] * size[1])])
    return saved(picture, kind)


def coco_image(number, stem):
    """-> its record, and those of its two objects."""
    return {"id": number, "file_name": f"{stem}.jpg", "width": SIZE[0], "height": SIZE[1]}, [
        {"id": 2 * number + half, "image_id": number, "category_id": half + 1, "bbox": [3 + half, 4, 8, 9], "iscrowd": 0} for half in (0, 1)]


def clean(kind):
    """36 images in three lists, with two objects or two classes each."""
    data, number = {}, 0
    for split, stems in SPLITS.items():
        content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]}
        for stem in stems:
            number += 1
            data[IMAGES.get(kind, "{}/{}.jpg").format(split, stem)] = picture(number)
            record, annotations = coco_image(number, stem)
            content["images"].append(record)
            content["annotations"] += annotations
            if kind == "labelme":
                data[f"{split}/{stem}.json"] = {"version": "5.5.0", "shapes": [shape(), shape(((8, 5), (20, 5), (15, 16)), "dog", "polygon")],
                                                "imagePath": f"{stem}.jpg", "imageHeight": SIZE[1], "imageWidth": SIZE[0]}
            elif kind == "xml":
                data[f"{split}/{stem}.xml"] = annotation(thing(), thing("dog", (9, 5, 20, 17))).encode()
            elif kind in ("masks", "colours"):
                data[f"masks/{split}/{stem}.png"] = coloured(ROAD, SKY) if kind == "colours" else mask()
            elif kind != "coco":
                data[f"labels/{split}/{stem}.txt"] = (LINES if kind == "yolo" else "0 .1 .1 .4 .1 .4 .8\n1 .5 .5 .9 .5 .9 .9\n").encode()
        if kind == "coco":
            data[JSON.format(split)] = content
    data |= {"data.yaml": YAML} if kind in ("yolo", "outlines") else {"palette.txt": PALETTE} if kind == "colours" else {}
    data |= {CLASSES: b"background\na\nb\n"} if kind == "masks" else {}
    return data


# ---- what faults are made of; `kind` is that of the finding

def format_of(data):
    return next(kind for kind, path in (("coco", JSON.format("train")), ("labelme", "train/t29.json"), ("xml", "train/t29.xml"),
                                        ("masks", CLASSES), ("colours", "palette.txt"), ("yolo", "data.yaml")) if path in data)


def image_of(data, stem):
    return IMAGES.get(format_of(data), "{}/{}.jpg").format("train", stem)


def label_of(data, stem):
    return LABELS[format_of(data)].format(stem)


def image(kind, content):
    """The image becomes something else."""
    def change(data, stem):
        data[image_of(data, stem)] = content
        return {(image_of(data, stem), kind)}
    return change


def label(kind, content, *more):
    """The label does."""
    def change(data, stem):
        data[label_of(data, stem)] = content() if callable(content) else content.encode() if isinstance(content, str) else content
        return {(label_of(data, stem), one) for one in (kind, *more)}
    return change


def line(kind, text, *more):
    """A line is added to a YOLO label."""
    return label(kind, LINES + text + "\n", *more)


def without_label(kind):
    def change(data, stem):
        del data[label_of(data, stem)]
        return {(image_of(data, stem), kind)}
    return change


def without_image(data, stem):
    del data[image_of(data, stem)]
    return {(label_of(data, stem), "label_without_image")}


def same_picture(data, stem):
    other = image_of(data, stem).replace("train", "test").replace(stem, "x2")
    data[other] = data[image_of(data, stem)]
    return {(other, "same_across")}


def steering_name(data, stem):
    """A good image with a good label whose name no list can hold."""
    name, text = image_of(data, stem).replace(stem, f"{stem}\x07"), label_of(data, stem).replace(stem, f"{stem}\x07")
    content = data[label_of(data, stem)]
    data[name], data[text] = picture(3001), dict(content, imagePath="") if isinstance(content, dict) else content
    return {(name, "bad_name")}


def files(kind, expected, change):
    """Something else is done to the files: change(data, stem). expected: where it is told."""
    def apply(data, stem):
        change(data, stem)
        return {(expected.format(stem=stem), kind)}
    return apply


PICTURES = {"image html": image("not_an_image", JUNK["html"]), "image empty": image("not_an_image", b""),
            "image cut": image("image_damaged", picture(4242)[:-200]), "image bomb": image("image_too_large", png_of(8, 2, 30000, 30000)),
            "same across": same_picture}
NUMBERS = ("nan", "0,5", "１", "0x1", "cat", "1e999", "1_0")

YOLO = PICTURES | {
    **{f"number {text}": line("bad_number", f"0 .5 {text} .1 .1") for text in NUMBERS}, "class is a name": line("bad_number", "cat .5 .5 .1 .1"),
    **{f"{len(text.split())} numbers": line("label_broken", text) for text in ("0", "0 .5 .5 .1", "0 .5 .5 .1 .1 .9", "0 .1 .1 .2 .2 .3 .3 .4")},
    **{f"class {number}": line("class_number", f"{number} .5 .5 .1 .1") for number in ("2", "-1", "0.5", "99")},
    **{f"share {share}": line("share_beyond", f"0 .5 {share} .1 .1") for share in ("1.2", "-0.5", "12")},
    "no width": line("box_empty", "0 .5 .5 0 .2"), "cut off": line("box_clipped", "0 .9 .5 .5 .2"), "twice": line("box_twice", LINES.split("\n")[0]),
    "outline without area": line("box_empty", "0 .1 .5 .4 .5 .9 .5"), "two faults": line("bad_number", "0 .5 .5 x .1\n7 .5 .5 .1 .1", "class_number"),
    "noise": label("label_encoding", b"\x81\xff\xff\xff"), "too large": label("label_too_large", lambda: b"\n" * 20_000_001),
    "stem twice": files("stem_twice", "images/train/{stem}.png", lambda data, stem: data.update({f"images/train/{stem}.png": picture(9, "PNG")})),
    "no txt": without_label("image_without_txt"), "no image": without_image, "steering name": steering_name,
}


def coco(kind, *place_and_value):
    """In the JSON something becomes something else: ("annotation", "bbox", [1, 2]) in the first annotation of the image."""
    def change(data, stem):
        content, where = data[JSON.format("train")], place_and_value
        record = next(one for one in content["images"] if isinstance(one, dict) and one.get("file_name") == f"{stem}.jpg")
        some = [one for one in content["annotations"] if isinstance(one, dict) and one["image_id"] == record["id"]]
        target = record if where[0] == "image" else some[0]
        if where[0] == "image" and where[1] == "id":        # its annotations would be without an image
            content["annotations"] = [one for one in content["annotations"] if one not in some]
        target[where[1]] = where[2](target) if callable(where[2]) else where[2]
        return {(JSON.format("train"), kind)}
    return change


def coco_added(kind, what, *records):
    return files(kind, JSON.format("train"), lambda data, stem: data[JSON.format("train")][what].extend(records))


def coco_image_twice(data, stem):
    data[JSON.format("train")]["images"].append({"id": 1000, "file_name": f"{stem}.jpg"})
    return {(JSON.format("train"), "label_twice")}


COCO = PICTURES | {
    **{f"bbox {str(box)[:20]}": coco("label_broken", "annotation", "bbox", box) for box in ([1, 2, 3], "abc", [1, 2, -3, 4])},
    **{f"bbox {box}": coco("box_empty", "annotation", "bbox", box) for box in (None, {}, [])},
    **{f"number {str(number)[:9]}": coco("bad_number", "annotation", "bbox", [1, 2, number, 4])
       for number in ("3", float("nan"), True, 1e9, None, 10**400)},
    **{f"outline {name}": coco(kind, "annotation", "segmentation", value) for name, kind, value in (
        ("text", "outline_broken", "abc"), ("odd", "outline_broken", [[1, 2, 3, 4, 5]]), ("short", "shape_flat", [[1, 2, 3, 4]]),
        ("nan", "outline_broken", [[1, 2, 3, 4, 5, float("nan")]]), ("runs", "outline_broken", {"size": [18, 24], "counts": [1, 2]}),
        ("size", "outline_broken", {"size": [24, 18], "counts": [432]}))},
    "crowd": coco("bad_difficult", "annotation", "iscrowd", 2), "category": coco("class_number", "annotation", "category_id", 99),
    "no category": coco("label_broken", "annotation", "category_id", None), "image id": coco("label_without_image", "annotation", "image_id", 999),
    "no image id": coco("label_without_image", "annotation", "image_id", None), "no size": coco("box_empty", "annotation", "bbox", [5, 5, 0, 3]),
    "outside": coco("box_outside", "annotation", "bbox", [30, 5, 8, 8]),
    "mostly outside": coco("box_outside", "annotation", "bbox", [22, 5, 20, 8]), "cut off": coco("box_clipped", "annotation", "bbox", [20, 5, 8, 8]),
    "no dict": coco_added("label_without_image", "annotations", 3), "no image dict": coco_added("label_broken", "images", "x"),
    "no id": coco("label_broken", "image", "id", None), "id twice": coco("label_twice", "image", "id", 30), "image twice": coco_image_twice,
    "no such image": coco("label_without_image", "image", "file_name", "no.jpg"),
    "name leads out": coco("bad_name", "image", "file_name", "../x.jpg"),
    "name steers": coco("bad_name", "image", "file_name", "a\x1b[2J.jpg"), "no name": coco("label_broken", "image", "file_name", None),
    "width": coco("size_wrong", "image", "width", 48), "turned": coco("size_turned", "image", "height", lambda image: image.update(width=18) or 24),
    "twice": files("box_twice", JSON.format("train"), lambda data, stem: data[JSON.format("train")]["annotations"].append(
        dict(data[JSON.format("train")]["annotations"][2 * int(stem[1:])], id=5000))),
}


def labelme(kind, *shapes, **more):
    """The labelme file gets other shapes, or other entries."""
    def change(data, stem):
        data[label_of(data, stem)] |= {"shapes": [*shapes, shape()] if shapes else [shape(((4, 4), (9, 9)))]} | more
        return {(label_of(data, stem), kind)}
    return change


def labelme_copy(data, stem):
    data[f"train/{stem}_copy.json"] = data[label_of(data, stem)]
    return {(f"train/{stem}_copy.json", "label_twice")}


LABELME = PICTURES | {
    "cut": label("json_broken", '{"version": "5", "imagePath": "a.jpg", "shapes": ['), "empty": label("json_broken", b""),
    "deep": label("json_broken", b"[" * 100_000), "noise": label("label_encoding", b"\x81\xff\xff"),
    "no label": labelme("label_broken", {"points": [[1, 2], [3, 4]]}), "blank label": labelme("label_broken", shape(label=" ")),
    "one point": labelme("shape_flat", shape(((1, 2),))), "two points": labelme("shape_flat", shape(kind="polygon")),
    "no points": labelme("shape_flat", shape((), kind="polygon")), "points null": labelme("shape_flat", shape(None)),
    "mask without a picture": labelme("outline_broken", shape(kind="mask")), "renamed": labelme("other_image_path", imagePath="IMG_0001.jpg"),
    "half a point": labelme("label_broken", shape(((1, 2), (3,)))), "unknown shape": labelme("label_broken", shape(kind="banana")),
    "shape is no dict": labelme("label_broken", 3), "no shapes": labelme("label_broken", shapes=None),
    **{f"number {str(number)[:9]}": labelme("bad_number", shape(((1, 2), (9, number)))) for number in ("3", float("nan"), True, 1e9, None)},
    "point": labelme("shape_flat", shape(((1, 2),), kind="point")), "line": labelme("shape_flat", shape(kind="line")),
    "no size": labelme("box_empty", shape(((3, 4), (3, 12)))), "outside": labelme("box_outside", shape(((30, 4), (40, 12)))),
    "cut off": labelme("box_clipped", shape(((15, 4), (30, 12)))), "twice": labelme("box_twice", shape()),
    "width": labelme("size_wrong", imageWidth=48), "turned": labelme("size_turned", imageWidth=SIZE[1], imageHeight=SIZE[0]),
    "no image": without_image, "no json": without_label("image_without_label"), "copy": labelme_copy,
    "name steers": labelme("bad_name", imagePath="a\x1b[2J.jpg"), "steering name": steering_name,
}

GOOD = annotation(thing(), thing("dog"))


def said(kind, old, new):
    return label(kind, annotation(thing("dog"), thing(box=(5, 6, 19, 16))).replace(old, new))


def xml_elsewhere(data, stem):
    data[f"train/z/{stem}.xml"] = data[label_of(data, stem)]
    return {(f"train/z/{stem}.xml", "label_twice")}


XML = PICTURES | {
    "empty": label("xml_empty", b""), "cut": label("xml_broken", GOOD[:90]), "html": label("xml_schema", "<html></html>"),
    "doctype": label("xml_harmful", "<!DOCTYPE annotation><annotation/>"), "noise": label("label_encoding", bytes(range(128, 256))),
    "too large": label("label_too_large", lambda: b" " * 5_000_001), "no name": said("tag_missing", tag("name", "cat"), ""),
    "rotated": said("rotated_box", "bndbox", "robndbox"), "number": said("bad_number", tag("xmax", 19), tag("xmax", "12,5")),
    "difficult": said("bad_difficult", tag("difficult", 0), tag("difficult", "2")),
    "no width": label("box_empty", annotation(thing(box=(5, 4, 5, 9)))),
    "outside": label("box_outside", annotation(thing(box=(30, 4, 40, 12)), thing())),
    "cut off": label("box_clipped", annotation(thing(box=(5, 4, 30, 9)))),
    "swapped": label("box_swapped", annotation(thing(box=(20, 4, 3, 12)))), "twice": label("box_twice", annotation(thing(), thing())),
    "size": label("size_wrong", annotation(thing(), size=(48, 36))), "turned": label("size_turned", annotation(thing(), size=SIZE[::-1])),
    "no image": without_image, "no xml": without_label("image_without_label"), "elsewhere": xml_elsewhere, "steering name": steering_name,
}

MASKS = PICTURES | {
    "html": label("not_an_image", JUNK["html"]), "cut": label("image_damaged", DAMAGED["png 0.6"]),
    "jpeg": label("mask_lossy", lambda: mask(kind="JPEG")), "rgb": label("mask_colour", colours("RGB")),
    "deep": label("mask_deep", png_of(16, 2, 3, 2)), "doubled": label("mask_size", lambda: mask(size=(48, 36))),
    "lies": label("mask_turned", lambda: mask(size=SIZE[::-1])),
    "value": label("mask_values", lambda: mask((0, 1, 7))),
    "0 255": label("mask_0_255", lambda: mask((0, 255))), "no image": without_image, "no mask": without_label("image_without_label"),
    "stem twice": files("stem_twice", "images/train/{stem}.png", lambda data, stem: data.update({f"images/train/{stem}.png": picture(9, "PNG")})),
    "mask twice": files("stem_twice", "masks/train/{stem}_mask.png", lambda data, stem: data.update({f"masks/train/{stem}_mask.png": mask()})),
}

COLOURS = PICTURES | {
    "html": label("not_an_image", JUNK["html"]), "cut": label("image_damaged", DAMAGED["png 0.6"]),
    "jpeg": label("mask_lossy", lambda: coloured(ROAD, SKY, kind="JPEG")), "doubled": label("mask_size", lambda: coloured(ROAD, SKY, size=(48, 36))),
    "lies": label("mask_turned", lambda: coloured(ROAD, SKY, size=SIZE[::-1])), "no line": label("palette_lacks", lambda: coloured(ROAD, (1, 2, 3))),
    "no image": without_image, "no mask": without_label("image_without_label"),
}

OUTLINES = {"box": lambda data, stem: {(image_of(data, stem), kind) for _, kind in line("no_outline", "")(data, stem)},
            "number": line("bad_number", "0 .1 .1 .2 x .3 .3"), "image html": PICTURES["image html"], "image cut": PICTURES["image cut"]}

# ---- faults that concern a whole dataset: not to be mixed


def yaml(kind, text, *expected, **more):
    def change(data, stem):
        data |= {"data.yaml": text.encode(), **{name.replace("_", "."): content for name, content in more.items()}}
        return {(path, kind) for path in expected}
    return change


def every(kind, content, then=()):
    """The labels of all training images."""
    def change(data, stem):
        for other in TRAIN:
            data[label_of(data, other)] = content
        return {(label_of(data, other), kind) for other in TRAIN if kind} | set(then)
    return change


def in_both(data, stem):
    data["data.yaml"] = YAML.replace(b"images/train", b"[images/train, images/val]")
    return {(f"images/val/{other}.jpg", "in_train_and_val") for other in VAL}


def no_txt_at_all(data, stem):
    for path in [path for path in data if path.startswith("labels/")]:
        del data[path]
    return {("data.yaml", "not_readable")}


def empty_txt(data, stem):
    data |= {path: b"" for path in data if path.startswith("labels/")}
    return {("", "no_objects")}


def changed_json(change):
    def apply(data, stem):
        change(data)
        return {("", "not_readable")}
    return apply


def pixels(data, stem):
    for other in TRAIN[:10]:
        data[label_of(data, other)] = b"0 12 9 5 8\n1 3 4 5 6\n"
    return {(label_of(data, other), "pixels_for_shares") for other in TRAIN[:10]}


def all_lines(kind, lines):
    """The labels of all lists hold these lines; the first file is named."""
    def change(data, stem):
        for path in [path for path in data if path.startswith("labels/")]:
            data[path] = lines.encode()
        return {(label_of(data, TRAIN[0]), kind)}
    return change


def no_labels_of_val(data, stem):
    for path in [path for path in data if path.startswith("labels/val/")]:
        del data[path]
    return {("data.yaml", "part_without_labels")}


def every_box(box, *kinds):
    """The boxes of all training images become this one."""
    def change(data, stem):
        for record in data[JSON.format("train")]["annotations"]:
            record["bbox"] = box
        return {("" if kind == "no_objects" else JSON.format("train"), kind) for kind in kinds}
    return change


def test_without_labels(data, stem):
    del data[JSON.format("test")]["annotations"]
    return {(JSON.format("test"), "part_without_labels")}


BY_LIST = YAML.decode().replace("images/train", "train.txt")
LIST = "".join(f"images/train/{stem}.jpg\n" for stem in TRAIN).encode()
WHOLE = {
    "yolo": {"pixels": pixels, "in both": in_both, "no txt at all": no_txt_at_all, "empty txt": empty_txt,
             "no names": yaml("not_readable", "train: images/train\nval: images/val\n", "data.yaml"),
             "names twice": yaml("not_readable", "train: images/train\nval: images/val\nnames: [cat, cat]\n", "data.yaml"),
             "no folder": yaml("not_readable", "train: images/training\nval: images/val\nnames: [cat, dog]\n", "data.yaml"),
             "no train": yaml("list_missing", "val: images/val\nnames: [cat, dog]\n", ""),
             "list": yaml("list_no_image", BY_LIST, "train.txt", train_txt=LIST + b"images/train/no.jpg\n"),
             "list leads out": yaml("list_name", BY_LIST, "train.txt", train_txt=LIST + b"../../x.jpg\n"),
             "list of others": yaml("list_name", BY_LIST, "train.txt", train_txt=LIST + b"data.yaml\n"),
             "corners": all_lines("box_layout", "0 .1 .1 .3 .9\n1 .2 .2 .9 .9\n"),
             "tracks": all_lines("numbers_unused", "0 .3 .4 .25 .4 7\n1 .6 .6 .3 .5 12\n"),
             "key points": all_lines("numbers_unused", "0 .3 .4 .25 .4 .3 .4 2\n1 .6 .6 .3 .5 .7 .6 0\n"),
             "two readings": all_lines("label_ambiguous", "0 .5 .5 .6 .5 .6 .6 .5 .6\n"),
             "no labels of val": no_labels_of_val,
             "no test": yaml("list_left_out", YAML.decode().replace("images/test", "images/none"), "data.yaml"),
             "list of elsewhere": yaml("found_elsewhere", BY_LIST, "train.txt", train_txt=LIST.replace(b"images", b"/home/me/pets/images")),
             "all broken": every("label_broken", b"0 .5 .5\n", [("", "nothing_left")])},
    "coco": {"cut": changed_json(lambda data: data.update({JSON.format("val"): json.dumps(data[JSON.format("val")]).encode()[:-9]})),
             "category twice": changed_json(lambda data: data[JSON.format("train")]["categories"].append({"id": 3, "name": "cat"})),
             "no images": changed_json(lambda data: data[JSON.format("train")].update(images=None)),
             "corners": every_box([12, 9, 20, 17], "size_is_corner", "box_clipped"),
             "shares": every_box([0.1, 0.2, 0.3, 0.4], "shares_for_pixels", "box_empty", "no_objects"),
             "test without labels": test_without_labels,
             "two for one list": changed_json(lambda data: data.update({"train.json": data[JSON.format("train")]}))},
    "labelme": {"all cut": every("json_broken", b"{", [("", "nothing_left")])},
    "xml": {"all empty": every("xml_empty", b"", [("", "nothing_left")])},
    "masks": {"all 0 255": lambda data, stem: {(f"masks/{split}/{one}.png", "masks_0_255") for split in SPLITS for one in SPLITS[split]
                                               if not data.update({f"masks/{split}/{one}.png": mask((0, 255))})}},
    "colours": {"palette": files("not_readable", "", lambda data, stem: data.update({"palette.txt": b"128,64,300 road\n"})),
                "number": files("not_readable", "", lambda data, stem: data.update({"palette.txt": b"128,64,128 road\n7 sky\n"}))},
    "outlines": {"boxes only": every("", LINES.encode(), [*((f"images/train/{one}.jpg", "no_outline") for one in TRAIN), ("", "nothing_left")])},
}
# these add something, or touch an annotation whose image is not known; their image itself is used
KEEPING = ("steering name", "no dict", "no image dict", "image id", "no image id")
MIXABLE = {"yolo": YOLO, "coco": COCO, "labelme": LABELME, "xml": XML, "masks": MASKS, "colours": COLOURS, "outlines": OUTLINES}
SINGLE = {kind: MIXABLE[kind] | WHOLE[kind] for kind in MIXABLE}


def single(kind, name):
    """-> data, expected findings."""
    data = clean(kind)
    return data, SINGLE[kind][name](data, "t03")


def mixture(kind, number, count=5):
    """`count` faults of different images. -> data, expected findings, their names, dict stem -> what was expected about it."""
    rng = random.Random(f"{kind} {number}")
    names, data, expected = rng.sample(sorted(MIXABLE[kind]), min(count, len(MIXABLE[kind]))), clean(kind), {}
    for name, stem in zip(names, rng.sample(TRAIN[:29], len(names))):
        expected[stem] = MIXABLE[kind][name](data, stem)
    return data, set().union(*expected.values()), names, expected


def as_bytes(data):
    """What is written on the disk."""
    return {path: content if isinstance(content, bytes) else json.dumps(content).encode() for path, content in data.items()}
