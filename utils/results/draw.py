"""Boxes with labels on an image, and contact sheets of many images. Pillow writes every text."""
import colorsys
import importlib.util
import os
import sys
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.results.plates import place_plates
from utils.settings import ROOT

FONT_SUFFIXES = (".ttf", ".ttc", ".otf")
CHINESE_FONTS = ("notosanscjk", "notosanssc", "sourcehansans", "sourcehanserif", "notoserifcjk", "wqy",
                 "msyh", "simhei", "pingfang", "hiraginosansgb", "stheiti", "simsun", "droidsansfallback",
                 "uming", "ukai", "arialunicode")
HAIRLINE = (25, 25, 25)
MANY = 20                       # boxes on a picture: of more, not all have a name
_told = set()


def draw_boxes(image, boxes, labels, class_names, scores=None, line_width=None, show_labels=True,
               truth=(), dotted=False, numbers=False):
    """A copy of the image with boxes and their labels drawn on it.

    image: (H, W, 3) uint8 RGB.  boxes: (P, 4) xyxy px of this image, clipped here;
    what is empty after that is left out.
    labels: (P,) int.  class_names: list of text.  scores: (P,) 0..1 or None;
    a higher score is drawn over a lower one.
    line_width: px, None: fits the image.  show_labels: False: boxes alone.
    truth: (G, 4) boxes that are drawn as thin dashes.  dotted: the others as dots.
    numbers: a class is shown as its number, for a page with a legend.
    """
    picture = np.array(image, order="C")                    # OpenCV draws into nothing else
    height, width = image.shape[:2]
    line, size = line_and_font_size(width, height)
    line = line_width or line
    colours = class_colours(max([len(class_names), *(int(label) + 1 for label in labels)]))

    # From the lowest score to the highest, so that the surest box is on top.
    order = range(len(boxes)) if scores is None else np.argsort(scores, kind="stable")
    places, drawn = whole_pixels(boxes, width, height), []
    for i in order:
        corners = places[i]
        if corners is None:
            continue
        colour = tuple(int(c) for c in colours[int(labels[i])])
        if dotted:
            draw_dashes(picture, corners, line, 2 * line, (colour, None))
        else:
            draw_outline(picture, corners, colour, line)
        drawn.append((i, corners, colour))
    for corners in filter(None, whole_pixels(truth, width, height)):
        draw_dashes(picture, corners, max(1, line // 2), 3 * line, ((255, 255, 255), (0, 0, 0)))

    # The labels after all boxes, so that no line crosses them.
    if show_labels and drawn:
        texts = label_texts(drawn, labels, class_names, scores, size, numbers)
        draw_labels(picture, drawn, texts, line)
    return picture


def draw_outline(picture, corners, colour, line):
    """A box of px inside corners, and a dark hairline in it: so it shows on a ground of its own colour."""
    x1, y1, x2, y2 = corners
    shorter = min(x2 - x1, y2 - y1)
    if shorter > 6 * line:
        draw_frame(picture, (x1 + line, y1 + line, x2 - line, y2 - line), HAIRLINE, 1)
    draw_frame(picture, corners, colour, max(1, min(line, shorter // 2)))


def draw_frame(picture, corners, colour, line):
    """The border of a box, `line` px wide."""
    x1, y1, x2, y2 = corners
    fill_box(picture, (x1, y1, x2, y1 + line), colour)
    fill_box(picture, (x1, y2 - line, x2, y2), colour)
    fill_box(picture, (x1, y1, x1 + line, y2), colour)
    fill_box(picture, (x2 - line, y1, x2, y2), colour)


def fill_box(picture, corners, colour):
    """A box in one colour, in place; corners: xyxy px. OpenCV counts the last column and row in."""
    x1, y1, x2, y2 = corners
    cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), colour, cv2.FILLED)


def draw_dashes(picture, corners, line, length, colours):
    """A box of dashes, each `length` px long, in these colours in turn; None is a gap."""
    x1, y1, x2, y2 = corners
    for number, x in enumerate(range(x1, x2, length)):
        for y in (y1, max(y1, y2 - line)):
            if colour := colours[number % len(colours)]:
                fill_box(picture, (x, y, min(x + length, x2), min(y + line, y2)), colour)
    for number, y in enumerate(range(y1, y2, length)):
        for x in (x1, max(x1, x2 - line)):
            if colour := colours[number % len(colours)]:
                fill_box(picture, (x, y, min(x + line, x2), min(y + length, y2)), colour)


def label_texts(drawn, labels, class_names, scores, size, numbers):
    """What is written beside each box -> list of (text, the same without its score, font).

    Among many boxes the letters are smaller, and only the best ones, and the best one of each class, have
    names: the others have their score, and the class is the colour.
    """
    many = len(drawn) > MANY and scores is not None
    size = max(10, round(0.7 * size)) if many else size
    best = {int(labels[i]): i for i, _, _ in drawn}         # the last one drawn is the surest
    named = {i for i, _, _ in drawn[-MANY:]} | set(best.values())

    # Numbers are for a page with a legend; everywhere else names.
    texts = []
    for i, _, _ in drawn:
        label = int(labels[i])
        name, font = (str(label), open_font(None, size)) if numbers else label_text(class_names, label, size)
        score = "" if scores is None else f"{scores[i]:.2f}"
        if many and i not in named:
            name, score = score, ""
        gap = "  " if name[-1:].isdigit() else " "          # class 4  0.50
        texts.append(((name + gap + score).strip(), name, font))
    return texts


def draw_labels(picture, drawn, texts, line):
    """Plates with texts, see `label_texts`; the surest box's plate has the best place and lies on top.

    drawn: list of (index, corners, colour).
    """
    # On a tiny image only the name has room.
    limits, pad = picture.shape[1::-1], max(2, line // 2)
    plates = []
    for (_, _, colour), (text, name, font) in zip(drawn, texts):
        strength = letters(text, font, pad)                                     # (h, w)
        if strength.shape[1] > limits[0]:
            strength = letters(name, font, pad)                                 # (h, w)
        plates.append(between(colour, text_colour(colour))[strength])           # (h, w, 3)

    # The surest box, drawn last, chooses first.
    sizes = [plate.shape[1::-1] for plate in plates]
    places = place_plates(sizes[::-1], [corners for _, corners, _ in drawn[::-1]], limits)
    for (left, top), plate in zip(places[::-1].tolist(), plates):
        free = picture[top:top + plate.shape[0], left:left + plate.shape[1]]
        free[:] = plate[:free.shape[0], :free.shape[1]]


@lru_cache(maxsize=512)
def letters(text, font, pad):
    """How much of each pixel of a plate the text covers, 0 to 255: (h, w) uint8. pad: px on either side.

    Kept, because scores and names come again in the next picture.
    """
    width = round(font.getlength(text)) + 2 * pad
    plate = Image.new("L", (width, sum(font.getmetrics())))
    ImageDraw.Draw(plate).text((pad, 0), text, fill=255, font=font)
    return np.array(plate)


@lru_cache(maxsize=512)
def between(colour, ink):
    """-> (256, 3) uint8: the colours from one, at 0, to the other, at 255."""
    return np.linspace(colour, ink, 256).round().astype(np.uint8)


def whole_pixels(boxes, width, height):
    """(P, 4) xyxy px -> list of the same, clipped to the image and rounded, at least one pixel large;
    None where nothing of a box is in the image."""
    boxes = np.asarray(boxes, float).reshape(-1, 4).clip(0, (width, height, width, height))
    there = (boxes[:, 2:] > boxes[:, :2]).all(1)                                # (P,), False with NaN
    places = []
    for seen, corners in zip(there, boxes.round().tolist()):
        if not seen:
            places.append(None)
            continue
        x1, y1, x2, y2 = map(int, corners)
        x1, y1 = min(x1, width - 1), min(y1, height - 1)
        places.append((x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)))
    return places


def line_and_font_size(width, height):
    """Line width and font size in px for an image: 2 and 10 at 200 px, 10 and 86 at 4000 px."""
    side = (width + height) / 2
    return max(2, round(0.5 + side * 0.0024)), max(10, round(6 + side * 0.02))


@lru_cache(maxsize=64)
def class_colours(count):
    """(count, 3) uint8 RGB. The colour of a class depends on its number only,
    and neighbours differ strongly."""
    rows = []
    for i in range(count):
        hue = (0.02 + i * 0.618034) % 1                 # steps of the golden ratio never come near a used hue
        saturation, value = ((0.90, 1.0), (0.55, 1.0), (0.95, 0.66), (0.45, 0.75))[i // 6 % 4]
        rows.append(colorsys.hsv_to_rgb(hue, saturation, value))
    return (np.array(rows).reshape(-1, 3) * 255).round().astype(np.uint8)


def text_colour(plate):
    """Black on a light plate, white on a dark one (luma of ITU-R BT.601)."""
    return (0, 0, 0) if plate[0] * 0.299 + plate[1] * 0.587 + plate[2] * 0.114 > 140 else (255, 255, 255)


def label_text(class_names, label, size):
    """-> text, font of `size` px that has every character of it.
    Where no font has them, the text is "class 3"."""
    name = str(class_names[label]) if label < len(class_names) else f"class {label}"
    font = text_font(name, size)

    # Said once, not for every box.
    if font is None:
        if "glyphs" not in _told:
            _told.add("glyphs")
            print(f'No font on this computer can write "{name}", '
                  f'so the pictures say "class {label}" instead. To see the names, '
                  "put a font file that has these characters (for example simhei.ttf or "
                  "NotoSansCJK-Regular.ttc) into model_data/.")
        name = f"class {label}"
        font = open_font(None, size)
    return name, font


def text_font(text, size):
    """A font of `size` px that can write the text, or None: Pillow's own, one in model_data/, a Chinese one,
    DejaVu of matplotlib."""
    font = open_font(None, size)
    if can_write(font, text):
        return font
    for path in (*own_fonts(), chinese_font(), dejavu_font):
        path = path() if callable(path) else path
        font = path and open_font(path, size)
        if font and can_write(font, text):
            return font
    return None


@lru_cache(maxsize=64)
def open_font(path, size):
    """A font file at a size in px, or None when Pillow cannot use it (bitmap fonts, broken files).
    path None: Pillow's own font."""
    try:
        return ImageFont.truetype(str(path), size) if path else ImageFont.load_default(size)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def can_write(font, text):
    """Whether a font has all characters of a text: a missing one looks like U+FFFF,
    which is no character and in no font."""
    empty = glyph(font, "\uffff")
    return all(character.isspace() or glyph(font, character) != empty for character in text)


def glyph(font, character):
    mask = font.getmask(character)
    return mask.size, bytes(mask)


def own_fonts():
    """Font files that the user put into model_data/."""
    return sorted(path for path in (ROOT / "model_data").glob("*") if path.suffix.lower() in FONT_SUFFIXES)


@lru_cache(maxsize=1)
def chinese_font():
    """Path of a font with Chinese characters, or None: one in model_data/, else a well-known installed one,
    else any."""
    def rank(path):
        stem = path.stem.lower().replace(" ", "").replace("-", "").replace("_", "")
        places = [place for place, known in enumerate(CHINESE_FONTS) if known in stem]
        return (places[0] if places else len(CHINESE_FONTS), "regular" not in stem, str(path))

    for path in (*own_fonts(), *sorted(installed_fonts(), key=rank)):
        font = open_font(path, 16)
        if font and can_write(font, "中鸟"):                # 鸟: a simplified form, which Japanese fonts lack
            return path
    return None


def installed_fonts():
    """All font files in the usual folders of Windows, macOS and Linux."""
    home = Path.home()
    # Windows and macOS each have their places; elsewhere the desktop says where shared files are.
    if sys.platform == "win32":
        folders = [Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts",
                   home / "AppData/Local/Microsoft/Windows/Fonts"]
    elif sys.platform == "darwin":
        folders = [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts",
                   Path("/System/Library/AssetsV2")]
    else:
        shared = os.environ.get("XDG_DATA_DIRS", "/usr/local/share:/usr/share").split(":")
        folders = [Path(base) / "fonts" for base in (*shared, home / ".local/share")] + [home / ".fonts"]

    found = []
    for folder in folders:
        for base, _, names in os.walk(folder):
            found += [Path(base) / name for name in names if name.lower().endswith(FONT_SUFFIXES)]
    return found


def dejavu_font():
    """Accents, Greek and Cyrillic: the font that comes with matplotlib, which need not be imported for it."""
    found = importlib.util.find_spec("matplotlib")
    return found and Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"


def grid(images, columns, cell, captions=None):
    """Many images on one sheet, row by row, each fitted into a square cell.

    images: list of (H, W, 3) uint8 RGB of any sizes.  columns: cells per row.  cell: side of a cell in px.
    captions: one text per image or None; written below its image, line by line.
    -> (H', W', 3) uint8 RGB.
    """
    gap, size = max(2, cell // 80), max(10, cell // 24)
    captions = captions and [str(text) for text in captions]
    strip = size * 4 // 3 * max(text.count("\n") + 1 for text in captions) + size // 3 if captions else 0
    columns = max(1, min(columns, len(images)))
    rows = max(1, -(-len(images) // columns))
    sheet = Image.new("RGB", (columns * (cell + gap) + gap, rows * (cell + strip + gap) + gap),
                      (246, 246, 246))
    draw = ImageDraw.Draw(sheet)

    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        left = gap + column * (cell + gap)
        top = gap + row * (cell + strip + gap)
        draw.rectangle((left, top, left + cell - 1, top + cell - 1), fill=(225, 225, 225))

        # The longer side fills the cell; Pillow averages when it shrinks, so thin lines survive.
        height, width = image.shape[:2]
        scale = cell / max(height, width)
        fitted = max(1, round(width * scale)), max(1, round(height * scale))
        small = Image.fromarray(image).resize(fitted, Image.Resampling.BICUBIC)
        sheet.paste(small, (left + (cell - fitted[0]) // 2, top + (cell - fitted[1]) // 2))
        for number, text in enumerate(captions[i].split("\n") if captions else ()):
            draw_caption(draw, text, left, top + cell + number * size * 4 // 3, cell, size)
    return np.array(sheet)


def draw_caption(draw, text, left, top, width, size):
    """One line of text, shortened to the width: in the middle, where a file name says least."""
    font = text_font(text, size) or open_font(None, size)
    keep, short = len(text), text
    while draw.textlength(short, font) > width and keep > 2:
        keep -= 1
        short = text[:(keep + 1) // 2] + ".." + text[len(text) - keep // 2:]
    draw.text((left, top + size // 8), short, fill=(40, 40, 40), font=font)
