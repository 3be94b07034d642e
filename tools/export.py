"""A dataset in one format -> a new folder in another: boxes of VOC, YOLO, COCO, labelme as VOC, YOLO, COCO.

    python tools/export.py dataset=VOCdevkit/Shapes to=yolo out=shapes_yolo

The dataset is only read. What is wrong with it is reported and skipped, as voc_annotation.py does it. `out`
must not exist yet (or be empty); it appears when all of it is written.
"""
import json
import os
import re
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from utils.checks.prepare import look_at  # noqa: E402
from utils.errors import UserError  # noqa: E402
from utils.findings import STOPS, Finding, tell, worst  # noqa: E402
from utils.formats.foreign import DEVICES, STEERING, deal  # noqa: E402
from utils.formats.recognise import home  # noqa: E402
from utils.lists import folder_name, format_box  # noqa: E402
from utils.settings import find, read_settings, shown  # noqa: E402
from utils.system.files import printable, whole_folder, write_text  # noqa: E402

dataset = "VOCdevkit/Shapes"    # a VOC folder, a data.yaml, a COCO .json, a labelme folder ...    数据集
to = "yolo"                     # "voc", "yolo" or "coco"    目标格式
out = None                      # the new folder; None: ./<dataset>_<format>    输出文件夹
link = False                    # True: hard links instead of copies of the images, to save room    用硬链接代替复制
seed = 0                        # of the split, where the dataset has none    随机种子

SPLITS = ("train", "val", "test")


def main(s):
    folder = export(s.dataset, s.to, s.out, s.link, s.seed)
    print(f'Use it:  python voc_annotation.py "dataset={shown(folder)}"')


def export(dataset, to, out=None, link=False, seed=0):
    """Write the boxes of a dataset in another format. Arguments: the variables above. -> the new folder."""
    writers = {"voc": write_voc, "yolo": write_yolo, "coco": write_coco}
    if to not in writers:
        raise UserError(f'to={to!r}: expected "voc", "yolo" or "coco".')
    source = find(dataset)
    names, splits = usable(source, seed)
    target = new_target(out, source, to)

    # Written beside it under another name: what breaks off half way never looks like a dataset.
    with whole_folder(target) as part:
        counts = writers[to](part, names, splits, safe_names(splits), link)

    # What the new format cannot express is said, not lost in silence.
    images = ", ".join(f"{split} {len(some)}" for split, some in splits.items()) + " images"
    boxes = f"{counts['boxes']} boxes of {len(names)} classes"
    print(f"Written: {shown(target)} ({to}), {images}, {boxes}")
    if counts["difficult"] and to == "yolo":
        print("NOTE: YOLO labels cannot say that an object is difficult: "
              f"{counts['difficult']} are written like the others.")
    return target


def usable(source, seed):
    """-> class names of a dataset, its usable samples: dict split -> list of (image path, size, objects).

    What is wrong is printed. Error: something must be fixed first.
    """
    wanted = dict(zip(SPLITS, SPLITS))
    part, findings = look_at(source, "detection", wanted, False, seed=seed)
    splits = {}
    if part and part.fixed:
        splits = {split: [part.samples[image] for image in ids] for split, ids in part.sets.items()}

    # A VOC folder with a train list alone: the val list is dealt from it, so it is not missing.
    elif part:
        lists = {"all": part.samples}
        if "train" in part.sets:
            findings = [finding for finding in findings if finding.kind != "list_missing"]
            lists = {name: ids for name, ids in part.sets.items() if name in SPLITS}
        usable_ones = {name: [part.samples[stem] for stem in ids if stem in part.samples]
                       for name, ids in lists.items()}
        splits = deal(usable_ones, source, wanted, findings, seed=seed)
    if part and not part.samples and worst(findings) != STOPS:
        findings.append(Finding("nothing_left", source))

    # This stops with an error when a finding is a serious one, or when there is nothing to export at all.
    count = len(part.samples) if part else 0
    tell(findings, f"{count} labelled images of {shown(source)}", "Nothing was written.")
    in_use = {thing["name"] for sample in part.samples.values() for thing in sample.truth}
    chosen = {split: [(one.image, one.size, one.truth) for one in some]
              for split, some in splits.items() if some}
    return part.names or sorted(in_use), chosen


def new_target(out, source, to):
    """The folder to write. Errors: it holds something; it and the dataset are inside one another."""
    target = Path(out).expanduser().absolute() if out else Path.cwd() / f"{folder_name(source)}_{to}"
    folder = home(source).resolve()
    is_empty = target.is_dir() and not any(target.iterdir())
    if target.is_symlink() or target.exists() and not is_empty:
        raise UserError(f"{shown(target)} is there already: nothing is ever overwritten. "
                        "Set out to a new folder.")

    # Inside one another, reading and writing would get mixed up: the next export would find its own images.
    place = target.resolve()
    if place == folder or place.is_relative_to(folder) or folder.is_relative_to(place):
        raise UserError(f"{shown(target)} and the dataset {shown(folder)} are inside one another. "
                        "Set out to a folder beside it.")
    return target


def safe_names(splits):
    """dict image path -> name (without suffix) in the new folder.

    Names are unique, also where a.jpg and A.jpg are the same file, and harmless on every system.
    """
    names, taken = {}, set()
    for image in sorted({sample[0] for some in splits.values() for sample in some}):
        stem = STEERING.sub("_", image.stem.strip())
        stem = re.sub(r'[<>:"/\\|?*]', "_", stem).rstrip(" .") or "_"
        stem = f"_{stem}" if DEVICES.fullmatch(stem) else stem

        # 1.jpg of several folders: the folder's name before it says more than a number, which comes last.
        folder = STEERING.sub("_", image.parent.name)
        numbered = [f"{stem}_{number}" for number in range(2, len(taken) + 3)]
        choices = [stem, f"{folder}_{stem}", *numbered]
        names[image] = next(choice for choice in choices if choice.lower() not in taken)
        taken.add(names[image].lower())
    return names


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
    sets = folder / "ImageSets" / "Main"
    for split, samples in splits.items():
        write_text(sets / f"{split}.txt", "".join(stems[image] + "\n" for image, *_ in samples))

        # VOC has one folder for all images; an image in two lists is written once.
        for image, size, objects in samples:
            if image in done:
                continue
            done.add(image)
            name = stems[image] + image.suffix
            place_image(image, folder / "JPEGImages" / name, link)
            write_text(folder / "Annotations" / f"{stems[image]}.xml", voc_xml(name, size, objects))
            counts.update(box_counts(objects))

    # Other programs expect trainval.txt; the class names have no place in VOC, so they get a file.
    both = dict.fromkeys(stems[image] for split in ("train", "val") for image, *_ in splits.get(split, []))
    write_text(sets / "trainval.txt", "".join(stem + "\n" for stem in both))
    write_text(folder / "classes.txt", "".join(name + "\n" for name in names))
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


if __name__ == "__main__":
    main(read_settings(globals()))
