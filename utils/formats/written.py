"""Boxes with their images as a new dataset: a VOC folder, YOLO or COCO. What utils/formats reads, it can
write.

A dataset is its class names and dict list name -> list of samples (image path, size (w, h), objects); an
object is dict(name, box, difficult) as in foreign.py. The list "all" means that there are no lists.
"""
import json
import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections import Counter

from utils.formats.foreign import DEVICES, STEERING
from utils.lists import format_box
from utils.system.files import printable, write_text


def safe_names(splits):
    """dict image path -> name (without suffix) in the new folder, see `safe_name`."""
    names, taken = {}, set()
    for image in sorted({sample[0] for some in splits.values() for sample in some}):
        names[image] = safe_name(image, taken)
    return names


def safe_name(image, taken):
    """A name (without suffix) for an image that is harmless on every system.

    taken: set of names in small letters, changed in place: a.jpg and A.jpg are the same file on some systems.
    """
    stem = STEERING.sub("_", image.stem.strip())
    stem = re.sub(r'[<>:"/\\|?*]', "_", stem).rstrip(" .") or "_"
    stem = f"_{stem}" if DEVICES.fullmatch(stem) else stem

    # 1.jpg of several folders: the folder's name before it says more than a number, which comes last.
    folder = STEERING.sub("_", image.parent.name)
    numbered = (f"{stem}_{number}" for number in range(2, len(taken) + 3))
    name = next(choice for choice in (stem, f"{folder}_{stem}", *numbered) if choice.lower() not in taken)
    taken.add(name.lower())
    return name


def place_image(image, target, link):
    """Copy an image, or make a hard link to it where the disk can."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        try:
            os.link(image, target)
            return
        except OSError:
            pass                                            # another disk, or a file system without links
    shutil.copyfile(image, target)


def box_counts(objects):
    """How many boxes, and how many of them are difficult, as `Counter.update` takes it."""
    return {"boxes": len(objects), "difficult": sum(thing["difficult"] for thing in objects)}


def write_voc(folder, names, splits, stems, link):
    """JPEGImages, Annotations, ImageSets/Main. Corners count pixels from 1, as VOC does.

    -> Counter of boxes and difficult ones.
    """
    counts, done = Counter(), set()
    for samples in splits.values():
        # VOC has one folder for all images; an image in two lists is written once.
        for image, size, objects in samples:
            if image in done:
                continue
            done.add(image)
            name = stems[image] + image.suffix
            place_image(image, folder / "JPEGImages" / name, link)
            write_text(folder / "Annotations" / f"{stems[image]}.xml", voc_xml(name, size, objects))
            counts.update(box_counts(objects))

    # The class names have no place in VOC, so they get a file.
    write_text(folder / "classes.txt", "".join(name + "\n" for name in names))
    if list(splits) == ["all"]:
        return counts

    # Other programs expect trainval.txt.
    sets = folder / "ImageSets" / "Main"
    for split, samples in splits.items():
        write_text(sets / f"{split}.txt", "".join(stems[image] + "\n" for image, *_ in samples))
    both = dict.fromkeys(stems[image] for split in ("train", "val") for image, *_ in splits.get(split, []))
    write_text(sets / "trainval.txt", "".join(stem + "\n" for stem in both))
    return counts


def voc_xml(name, size, objects):
    """The text of an xml file. size: (w, h)."""
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = name
    sides = ElementTree.SubElement(root, "size")
    for tag, value in zip(("width", "height", "depth"), (*size, 3)):
        ElementTree.SubElement(sides, tag).text = str(value)

    # The first pixel of VOC is 1 and xmax is the last pixel of the box, so only the upper left corner moves.
    for thing in objects:
        node = ElementTree.SubElement(root, "object")
        called = thing["name"] if thing["name"].isprintable() else printable(thing["name"])
        ElementTree.SubElement(node, "name").text = called
        ElementTree.SubElement(node, "difficult").text = str(int(thing["difficult"]))
        box = ElementTree.SubElement(node, "bndbox")
        x1, y1, x2, y2 = thing["box"]
        corners = format_box((x1 + 1, y1 + 1, x2, y2, 0)).split(",")
        for tag, text in zip(("xmin", "ymin", "xmax", "ymax"), corners):
            ElementTree.SubElement(box, tag).text = text
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def write_yolo(folder, names, splits, stems, link):
    """data.yaml, images/train, labels/train ... -> Counter of boxes and difficult ones."""
    counts = Counter()
    numbers = {name: number for number, name in enumerate(names)}
    for split, samples in splits.items():
        for image, size, objects in samples:
            place_image(image, folder / "images" / split / (stems[image] + image.suffix), link)
            lines = "".join(yolo_line(numbers[thing["name"]], thing["box"], size) for thing in objects)
            write_text(folder / "labels" / split / f"{stems[image]}.txt", lines)
            counts.update(box_counts(objects))

    # A name with a colon or a # would mean something else in YAML: in quotes it is only a name.
    text = "".join(f"{split}: images/{split}\n" for split in splits) + f"nc: {len(names)}\nnames:\n"
    for number, name in enumerate(names):
        text += f"  {number}: {json.dumps(name, ensure_ascii=not name.isprintable())}\n"
    write_text(folder / "data.yaml", text)
    return counts


def yolo_line(number, box, size):
    """A line of a label file: class number, centre, width, height, as shares of the image. size: (w, h)."""
    width, height = size
    x1, y1, x2, y2 = box
    centre = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height
    sides = (x2 - x1) / width, (y2 - y1) / height
    return " ".join([str(number), *(f"{share:.8f}" for share in (*centre, *sides))]) + "\n"


def write_coco(folder, names, splits, stems, link):
    """annotations/instances_train.json, images/train ... -> Counter of boxes and difficult ones.

    Difficult becomes iscrowd: COCO's evaluation ignores those objects too.
    """
    counts = Counter()
    numbers = {name: number for number, name in enumerate(names, 1)}
    categories = [{"id": number, "name": name, "supercategory": "object"} for name, number in numbers.items()]
    for split, samples in splits.items():
        images, annotations = [], []
        for image, (width, height), objects in samples:
            name = stems[image] + image.suffix
            place_image(image, folder / "images" / split / name, link)
            images.append({"id": len(images) + 1, "file_name": name, "width": width, "height": height})

            # COCO's box is x and y of its upper left corner, width, height; the area would be the outline's.
            for thing in objects:
                x1, y1, x2, y2 = thing["box"]
                box = [round(value, 4) for value in (x1, y1, x2 - x1, y2 - y1)]
                annotations.append({"id": len(annotations) + 1, "image_id": len(images),
                                    "category_id": numbers[thing["name"]], "bbox": box,
                                    "area": round(box[2] * box[3], 4), "iscrowd": int(thing["difficult"]),
                                    "segmentation": []})
            counts.update(box_counts(objects))
        content = {"images": images, "annotations": annotations, "categories": categories}
        text = json.dumps(content, ensure_ascii=False) + "\n"
        write_text(folder / "annotations" / f"instances_{split}.json", text)
    return counts


WRITERS = {"voc": write_voc, "yolo": write_yolo, "coco": write_coco}
