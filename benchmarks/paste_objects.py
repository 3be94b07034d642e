"""A set of a few pictures with large objects of one class, made of two folders of photos: one to learn from in minutes.

    python benchmarks/paste_objects.py objects=clothing backgrounds=photos out=VOCdevkit/garments

Each picture is a piece of a background with one or two photos of objects laid on it, cut out as an ellipse; the
first is a third to nine tenths of the picture, a second one smaller. benchmarks/results.md used the photos of
github.com/alexeygrigorev/clothing-dataset-small (CC0) on street scenes.
"""
import random
import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from utils.errors import UserError  # noqa: E402
from utils.formats.written import voc_xml  # noqa: E402
from utils.images import open_image  # noqa: E402
from utils.results.media import save_image  # noqa: E402
from utils.settings import find, read_settings  # noqa: E402
from utils.system.files import write_text  # noqa: E402

objects = ""                    # folder with photos of one object each                     目标照片的文件夹
backgrounds = ""                # folder with photos of anything else                       背景照片的文件夹
out = "VOCdevkit/pasted"        # the VOC folder that is made                               生成的 VOC 文件夹
name = "object"                 # the one class                                             类别名称
images = {"train": 127, "val": 30, "test": 60}      # how many in each list                 各列表的图片数
side = 320                      # of the pictures, px                                       图片边长
seed = 0                        # same seed, same pictures                                  随机种子


def main(s):
    rng, folder = random.Random(s.seed), find(s.out)
    if folder.exists():
        raise UserError(f"{s.out} exists already: give out another name.")
    things, scenes = (sorted(find(place).rglob("*.jpg")) for place in (s.objects, s.backgrounds))
    if not things or not scenes:
        raise UserError("objects and backgrounds must be folders with .jpg pictures.")
    rng.shuffle(things)

    # Each photo of an object is used once, and only then a second time.
    used = 0
    for split, count in s.images.items():
        for number in range(count):
            canvas, boxes = piece_of(open_image(rng.choice(scenes)), s.side, rng), []
            for low, high in ((0.35, 0.9), (0.2, 0.4))[:rng.choice((1, 1, 1, 2))]:
                thing = scaled(open_image(things[used % len(things)]), rng.uniform(low, high) * s.side)
                box, used = place_for(thing, s.side, rng), used + 1
                if not any(overlap(box, other) for other in boxes):
                    paste(canvas, thing, box)
                    boxes.append(box)
            write(folder, f"{split}_{number:03d}", canvas, boxes, s.name)
        names = "".join(f"{split}_{number:03d}\n" for number in range(count))
        write_text(folder / "ImageSets/Main" / f"{split}.txt", names)
    print(f"Written: {s.out}, {sum(s.images.values())} pictures")


def piece_of(scene, side, rng):
    """A square piece of a photo -> (side, side, 3)."""
    height, width = scene.shape[:2]
    size = int(rng.uniform(0.4, 1.0) * min(height, width))
    y, x = rng.randrange(height - size + 1), rng.randrange(width - size + 1)
    return cv2.resize(scene[y:y + size, x:x + size], (side, side), interpolation=cv2.INTER_AREA)


def scaled(photo, longest):
    ratio = longest / max(photo.shape[:2])
    height, width = (max(8, round(length * ratio)) for length in photo.shape[:2])
    return cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)


def place_for(thing, side, rng):
    """-> x1, y1, x2, y2 px, all of it inside."""
    height, width = thing.shape[:2]
    y, x = rng.randrange(side - height + 1), rng.randrange(side - width + 1)
    return x, y, x + width, y + height


def overlap(one, other):
    """Whether two boxes share more than an edge of 20 px."""
    return (min(one[2], other[2]) - max(one[0], other[0]) > 20
            and min(one[3], other[3]) - max(one[1], other[1]) > 20)


def paste(canvas, thing, box):
    """The ellipse inside the box, in place: a sharp frame would give the box away."""
    x1, y1, x2, y2 = box
    centre = ((x2 - x1) // 2, (y2 - y1) // 2)
    inside = cv2.ellipse(np.zeros(thing.shape[:2], np.uint8), centre, centre, 0, 0, 360, 1, -1) > 0
    canvas[y1:y2, x1:x2][inside] = thing[inside]


def write(folder, stem, canvas, boxes, name):
    """A picture and its annotation."""
    save_image(folder / "JPEGImages" / f"{stem}.jpg", canvas)
    objects = [{"name": name, "box": box, "difficult": False} for box in boxes]
    write_text(folder / "Annotations" / f"{stem}.xml", voc_xml(f"{stem}.jpg", canvas.shape[1::-1], objects))


if __name__ == "__main__":
    main(read_settings(globals()))
