"""Draws the built-in dataset: VOCdevkit/Shapes, a real VOC folder of 600 pictures for detection and
segmentation.

Six kinds of paper shapes lie on cluttered ground, rotated, textured, partly hidden by one another, among
other things that are no class at all. A picture is a pure function of (seed, index): the same Pillow draws
the same bytes on every run.
"""
import math
import os
import random

from PIL import Image, ImageChops, ImageColor, ImageDraw, ImageFilter

from utils.errors import UserError
from utils.formats.paper import cut_out, mixed, paste_thing, pick
from utils.results.masks import voc_palette
from utils.settings import find, shown
from utils.system.files import whole_folder, write_text

CLASSES = ("circle", "cross", "ring", "square", "star", "triangle")    # as in model_data/shapes_classes.txt
OTHERS = ("blob", "crescent", "arc", "bar")                            # drawn the same way, but background
SEEN = 0.35                    # no object is hidden so much that a smaller share of it is seen
HARD = 0.5                     # an object with a smaller share seen is difficult
SMALL = 10                     # pixels; no visible part is narrower
EMPTY = 20                     # one picture in so many holds no object

# Ground colours, then colours of things
PALETTES = (
    ("f5ebdd e9d8c3 f0dcc8", "e07a5f 3d405b 81b29a f2b84b 8d5b4c 5f797b"),
    ("12263f 1f3f5b 274c6b", "f6ae2d f26419 86bbd8 f4f1de e56b6f 9ad1b8"),
    ("dff0e6 c8e4d6 eef6ea", "2a6f67 ef8354 4f5d75 e5b34b b5446e 6b9a52"),
    ("e9e4f5 d8d0ee f6eff7", "6a4c93 ff7b72 2e86ab f2a65a 3f3351 4fb0a5"),
    ("22223b 2f2f52 3a3a5e", "f2e9e4 d9a5b3 ff9f80 7fc8c2 f5d06f a88fd6"),
    ("cfe8f5 b7dbef e7f4fa", "1d4e89 f79256 e4572e fbd15b 00a6a6 6d597a"),
    ("ead7b7 d9c19a f3e6cc", "264653 2a9d8f c8553d 7b4b94 f9f6ef 8a6b32"),
    ("fbe3e4 f4cdd2 fff1ec", "b5364f 355070 6d597a e88c51 3c8d88 f0b65a"),
    ("1f3b2f 2b4d3d 35604a", "f1dca7 ffcb69 e8855c d9e5d6 9cc5a1 e56b6f"),
    ("d5d6d2 c3c6c4 e5e4de", "d94452 1d3557 457b9d f1a208 2a9d8f 6b4d57"),
    ("3b1f3f 4e2a52 5c3560", "ffd6a5 ff9b85 9bd3cf f7f0f5 e0a3d0 ffc857"),
    ("fbe9bd f5d990 fdf3d8", "e4572e 17607a 5b2a86 2a9d8f c9184a 33415c"),
)


def make_shapes(folder, seed=0, train=400, val=80, test=120):
    """Draw the whole VOC folder, or leave nothing behind. Returns its Path.

    Errors: UserError when the folder exists already (it is never touched) or cannot be written.
    """
    folder = find(folder)
    if os.path.lexists(folder):
        raise UserError(f"{shown(folder)} exists already and is left as it is. Delete or rename it, "
                        f"or choose another place: python tools/make_shapes.py folder=VOCdevkit/Shapes2")
    if min(train, val, test) < 0:
        raise UserError(f"train={train}, val={val}, test={test}: the numbers of pictures must be 0 or more.")

    with whole_folder(folder) as drawn:
        write_shapes(drawn, seed, {"train": train, "val": val, "test": test})
    return folder


def write_shapes(root, seed, counts):
    """Pictures, annotations, masks and lists below root. counts: split name -> number of pictures."""
    for name in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Main",
                 "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)

    # The pictures are numbered through all splits, so a picture depends on its number alone.
    noise = grain(random.Random(f"{seed} grain"))
    lists, index = {}, 0
    for split, count in counts.items():
        lists[split] = []
        for _ in range(count):
            index += 1
            name = f"{index:06d}"
            picture, instances, objects, quality = draw_picture(seed, index, noise)
            picture.save(root / "JPEGImages" / f"{name}.jpg", quality=quality)
            class_mask(instances, objects).save(root / "SegmentationClass" / f"{name}.png")
            write_text(root / "Annotations" / f"{name}.xml", annotation(name, picture.size, objects))
            lists[split].append(name)

    # The lists of both tasks are the same: every picture has boxes and a mask.
    lists["trainval"] = lists["train"] + lists["val"]
    for split, names in lists.items():
        for kind in ("Main", "Segmentation"):
            write_text(root / "ImageSets" / kind / f"{split}.txt", "".join(name + "\n" for name in names))


def annotation(name, size, objects):
    """The VOC xml of one picture. VOC counts pixels from 1, and xmax is the last one of the object."""
    width, height = size
    lines = ["<annotation>",
             "  <folder>Shapes</folder>",
             f"  <filename>{name}.jpg</filename>",
             "  <source><database>PlainVision Shapes</database></source>",
             f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
             "  <segmented>1</segmented>"]

    # Our edges begin at 0: the first pixel inside is x1 + 1 in VOC's count, the last one x2.
    for thing in objects:
        x1, y1, x2, y2 = thing["xyxy"]
        corners = f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        lines += ["  <object>",
                  f"    <name>{thing['name']}</name>",
                  "    <pose>Unspecified</pose>",
                  *(f"    <{flag}>{int(thing[flag])}</{flag}>"
                    for flag in ("truncated", "occluded", "difficult")),
                  f"    <bndbox>{corners}</bndbox>",
                  "  </object>"]
    return "\n".join(lines + ["</annotation>", ""])


def class_mask(instances, objects):
    """Instance numbers -> VOC mask (mode P): 0 background, class number + 1, 255 along every edge."""
    table = [0] * 256
    for number, thing in enumerate(objects, 1):
        table[number] = CLASSES.index(thing["name"]) + 1
    mask = instances.point(table)

    # An edge is where a pixel differs from its neighbour: both of them become 255.
    width, height = instances.size
    for dx, dy in ((1, 0), (0, 1)):
        here = instances.crop((0, 0, width - dx, height - dy))
        neighbour = instances.crop((dx, dy, width, height))
        change = ImageChops.difference(here, neighbour).point([0] + [255] * 255)
        mask.paste(255, (0, 0), change)
        mask.paste(255, (dx, dy), change)
    mask.putpalette(voc_palette().ravel().tolist())
    return mask


def draw_picture(seed, index, noise=None):
    """One picture of the set.

    Returns: picture (RGB), instances (mode L, 0 background, 1 for the first object ...), objects (list of
    dicts: name, xyxy in pixel edges of what is visible, difficult, truncated, occluded), quality (of the JPEG
    file).
    """
    # Everything is drawn from this one generator: the order of the calls below is part of the picture.
    rng = random.Random(f"{seed} {index}")
    noise = noise or grain(random.Random(f"{seed} grain"))

    # First the ground and its clutter, then the things, like paper on a table.
    size = picture_size(rng)
    ground, inks = ([ImageColor.getrgb("#" + code) for code in codes.split()]
                    for codes in rng.choice(PALETTES))
    picture = background(rng, size, ground, inks)
    scribble(rng, picture, ground, inks)
    count = 0 if index % EMPTY == 7 else pick(rng, {1: 5, 2: 10, 3: 17, 4: 20, 5: 18, 6: 15, 7: 9, 8: 6})
    instances, things = lay_things(rng, picture, inks, count)
    if rng.random() < 0.25:                                 # now and then a line runs across the objects too
        strokes(rng, picture, rng.choice(inks + ground), 1)

    picture = develop(rng, picture, noise)
    return picture, instances, describe_objects(instances, things), rng.randint(70, 95)


def picture_size(rng):
    """(width, height): mostly landscape, some portrait, some square."""
    long = rng.randint(240, 340)
    short = max(200, int(long * rng.uniform(0.66, 0.9)))
    return pick(rng, {(long, short): 45, (short, long): 30, (long, long): 25})


def background(rng, size, ground, inks):
    """Soft clouds of the ground colours: drawn tiny, blurred and enlarged."""
    # A gradient between two of the colours ...
    tiny = Image.new("RGB", (40, 40), rng.choice(ground))
    second = rng.choice(ground)
    gradient = Image.linear_gradient("L").rotate(rng.choice((0, 90, 180, 270)))
    tiny.paste(second, mask=gradient.resize((40, 40)))

    # ... and a few clouds on it.
    pen = ImageDraw.Draw(tiny)
    for _ in range(rng.randint(3, 7)):
        x, y = rng.uniform(0, 40), rng.uniform(0, 40)
        r, squash = rng.uniform(3, 13), rng.uniform(0.5, 1)
        colour = mixed(rng.choice(ground), rng.choice(inks), rng.choice((0, 0.1, 0.25, 0.4)))
        pen.ellipse((x - r, y - r * squash, x + r, y + r * squash), fill=colour)
    return tiny.filter(ImageFilter.GaussianBlur(rng.uniform(1.5, 4))).resize(size, Image.Resampling.BICUBIC)


def scribble(rng, picture, ground, inks):
    """Thin clutter on the ground: curves, short writing, crumbs, each layer in one colour."""
    for _ in range(rng.randint(1, 4)):
        colour = mixed(rng.choice(ground), rng.choice(inks), rng.uniform(0.2, 0.7))
        pick(rng, {strokes: 4, writing: 4, crumbs: 2})(rng, picture, colour, rng.randint(1, 4))


def strokes(rng, picture, colour, count):
    """Long smooth curves."""
    def draw(pen, width, height):
        # A walk that keeps its bend for a while: a smooth curve.
        for _ in range(count):
            x, y = rng.uniform(0, width), rng.uniform(0, height)
            way, bend, points = rng.uniform(0, 2 * math.pi), 0, []

            for _ in range(rng.randint(12, 40)):
                points.append((x, y))
                bend = 0.8 * bend + rng.uniform(-0.25, 0.25)
                way += bend
                x += 18 * math.cos(way)
                y += 18 * math.sin(way)
            pen.line(points, fill=rng.randint(120, 255), width=rng.randint(2, 6))
    layer(picture, colour, draw)


def writing(rng, picture, colour, count):
    """Rows of short strokes that look like words."""
    def draw(pen, width, height):
        # A row of cells, one letter in each, and a gap now and then.
        for _ in range(count):
            x, y = rng.uniform(-40, width * 0.7), rng.uniform(0, height)
            cell, slope = rng.uniform(12, 30), rng.uniform(-0.25, 0.25)

            for _ in range(rng.randint(4, 16)):
                if rng.random() < 0.8:
                    letter = [(x + rng.uniform(0, 0.8) * cell, y + rng.uniform(0, 1.1) * cell)
                              for _ in range(rng.randint(2, 4))]
                    pen.line(letter, fill=230, width=max(2, int(cell / 7)))
                x += cell
                y += cell * slope
    layer(picture, colour, draw)


def crumbs(rng, picture, colour, count):
    """A sprinkling of tiny specks."""
    def draw(pen, width, height):
        for _ in range(count * 15):
            x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(1.5, 4)
            pen.ellipse((x - r, y - r, x + r, y + r), fill=rng.randint(120, 255))
    layer(picture, colour, draw)


def layer(picture, colour, draw):
    """Lay what draw(pen, width, height) paints at double size over the picture, in one colour."""
    sheet = Image.new("L", (picture.width * 2, picture.height * 2))
    draw(ImageDraw.Draw(sheet), *sheet.size)
    picture.paste(colour, mask=sheet.reduce(2))


def lay_things(rng, picture, inks, count):
    """Lay count objects and a few other things on the picture, in random order.

    Returns: instances (mode L, the number of the topmost object at every pixel), things (list of dicts: name,
    and its pixels: area, inside the picture, seen).
    """
    # No class more than twice: the classes stay about equally frequent.
    names = rng.sample(CLASSES * 2, count) + [rng.choice(OTHERS) for _ in range(rng.randint(0, 3))]
    rng.shuffle(names)
    light = rng.uniform(0, 2 * math.pi)
    shadow = rng.choice((0, 0.3, 0.45))

    # For every thing a few attempts to find a place where it does not hide another object too much.
    instances, things = Image.new("L", picture.size), []
    for name in names:
        for attempt in range(12):
            if attempt % 4 == 0:
                alpha, rings = cut_out(rng, name, thing_extent(rng, min(picture.size), len(names)))
                solid = alpha.point([0] * 128 + [255] * 128)
            corner = choose_corner(rng, picture.size, alpha.width)

            # Rather side by side; the last attempt with each size may overlap.
            least = SEEN if attempt % 4 == 3 else 0.8
            trial = try_place(instances, things, name, solid, corner, least)
            if trial:
                instances = trial
                paste_thing(rng, picture, rings, alpha, corner, inks, light, shadow)
                break
    return instances, things


def thing_extent(rng, short, crowd):
    """Diameter in pixels: few are tiny, few are very large, and the more there are the smaller they get."""
    kind = pick(rng, {"tiny": 4, "usual": 86, "large": 10})
    usual = (0.15, 0.42 if crowd < 6 else 0.32)
    low, high = {"tiny": (0.07, 0.13), "usual": usual, "large": (0.4, 0.62)}[kind]
    return short * low * (high / low) ** rng.random()


def choose_corner(rng, size, side):
    """Upper left corner for a tile: mostly inside the picture, sometimes cut by its border."""
    if rng.random() < 0.12:
        return tuple(rng.randint(-side // 2, length - side // 2) for length in size)
    return tuple(rng.randint(0, max(0, length - side)) for length in size)


def try_place(instances, things, name, solid, corner, least=SEEN):
    """The instances with one more thing on top; None when an object would be hidden too much.

    things: changed in place, the new one joins them. solid: mode L, 255 where the thing is.
    """
    number = len(things) + 1 if name in CLASSES else 0
    trial = instances.copy()
    trial.paste(number, corner, solid)

    # Copies, so that a refused trial leaves things as they were.
    seen = trial.histogram()                                # pixels of each number
    known = [dict(thing) for thing in things]
    if number:
        known.append({"name": name, "area": solid.histogram()[255], "inside": seen[number], "seen": 0})

    # Only what changed can be hidden too much, or be left with too narrow a part.
    for i, thing in enumerate(known, 1):
        if seen[i] != thing["seen"]:
            x1, y1, x2, y2 = extent_of(trial, i) or (0, 0, 0, 0)
            if seen[i] < least * thing["area"] or min(x2 - x1, y2 - y1) < SMALL:
                return None
            thing["seen"] = seen[i]
    things[:] = known
    return trial


def extent_of(instances, number):
    """The box of the visible pixels of one object, xyxy in pixel edges."""
    return instances.point([255 * (i == number) for i in range(256)]).getbbox()


def describe_objects(instances, things):
    """The objects as the annotation has them, from what is still visible at the end."""
    objects = []
    for number, thing in enumerate(things, 1):
        area, inside, seen = thing["area"], thing["inside"], thing["seen"]
        objects.append({"name": thing["name"],
                        "xyxy": extent_of(instances, number),
                        "truncated": inside < 0.99 * area,
                        "occluded": seen < 0.97 * inside,
                        "difficult": seen < HARD * area})
    return objects


def grain(rng):
    """Noise of mean 128 and standard deviation 37 (RGB, 512 x 512): averages of four random bytes."""
    def plane():
        a, b, c, d = (Image.frombytes("L", (512, 512), rng.randbytes(512 * 512)) for _ in range(4))
        return Image.blend(Image.blend(a, b, 0.5), Image.blend(c, d, 0.5), 0.5)
    return Image.merge("RGB", [plane() for _ in "rgb"])


def develop(rng, picture, noise):
    """What a camera does to it: a little blur, exposure, contrast, tint, sensor noise."""
    if rng.random() < 0.4:
        picture = picture.filter(ImageFilter.BoxBlur(rng.uniform(0.2, 0.9)))

    # Exposure and contrast are one curve for all channels, the tint is a factor for each.
    gamma, contrast = 2 ** rng.uniform(-0.5, 0.5), rng.uniform(0.8, 1.12)
    tint = [rng.uniform(0.93, 1.05) for _ in "rgb"]
    curve = [128 + contrast * (255 * (v / 255) ** gamma - 128) for v in range(256)]
    picture = picture.point([min(255, max(0, round(level * share))) for share in tint for level in curve])

    # A random piece of the one sheet of noise, made weaker: the same for every picture would be learnt.
    strength = rng.choice((2, 3, 5, 7, 10)) / 37
    x, y = (rng.randint(0, 512 - length) for length in picture.size)
    sheet = noise.crop((x, y, x + picture.width, y + picture.height))
    sheet = sheet.point([round(128 + (v - 128) * strength) for v in range(256)] * 3)
    return ImageChops.add(picture, sheet, 1, -128)
