"""Boxes with labels on an image, and contact sheets of many images. Pillow only."""
import colorsys
import os
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.settings import ROOT

FONT_SUFFIXES = (".ttf", ".ttc", ".otf")
CHINESE_FONTS = ("notosanscjk", "notosanssc", "sourcehansans", "sourcehanserif", "notoserifcjk", "wqy",
                 "msyh", "simhei", "pingfang", "hiraginosansgb", "stheiti", "simsun", "droidsansfallback",
                 "uming", "ukai", "arialunicode")
_told = set()


def draw_boxes(image, boxes, labels, class_names, scores=None, line_width=None, show_labels=True):
    """A copy of the image with boxes and their labels drawn on it.

    image: (H, W, 3) uint8 RGB.  boxes: (P, 4) xyxy px of this image, clipped here;
    what is empty after that is left out.
    labels: (P,) int.  class_names: list of text.  scores: (P,) 0..1 or None;
    a higher score is drawn over a lower one.
    line_width: px, None: fits the image.  show_labels: False: boxes alone.
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    height, width = image.shape[:2]
    line, size = line_and_font_size(width, height)
    line = line_width or line
    colours = class_colours(max([len(class_names), *(int(label) + 1 for label in labels)]))

    # From the lowest score to the highest, so that the surest box is on top.
    order = range(len(boxes)) if scores is None else np.argsort(scores, kind="stable")
    drawn = []
    for i in order:
        corners = whole_pixels(boxes[i], width, height)
        if corners is None:
            continue
        x1, y1, x2, y2 = corners
        colour = tuple(int(c) for c in colours[int(labels[i])])
        inside = max(1, min(line, (x2 - x1) // 2, (y2 - y1) // 2))      # else Pillow paints past a thin box
        draw.rectangle((x1, y1, x2 - 1, y2 - 1), outline=colour, width=inside)
        drawn.append((i, x1, y1, colour))

    # The labels after all boxes, so that no line crosses them. On a tiny image only the name has room.
    for i, x1, y1, colour in drawn if show_labels else []:
        name, font = label_text(class_names, int(labels[i]), size)
        text = name if scores is None else f"{name} {scores[i]:.2f}"
        if draw.textlength(text, font) + 2 * line > width:
            text = name
        draw_plate(draw, text, font, x1, y1, colour, line, (width, height))
    return np.array(picture)


def whole_pixels(box, width, height):
    """xyxy px -> the same clipped to the image and rounded, at least one pixel large;
    None when nothing of it is in the image."""
    x1, y1, x2, y2 = np.clip(box, 0, (width, height, width, height))
    if not (x2 > x1 and y2 > y1):                                               # also drops NaN
        return None
    x1 = min(round(x1), width - 1)
    y1 = min(round(y1), height - 1)
    x2 = max(round(x2), x1 + 1)
    y2 = max(round(y2), y1 + 1)
    return x1, y1, x2, y2


def draw_plate(draw, text, font, x, y, colour, pad, limits):
    """Text on a plate at the box's upper left corner (x, y); moved so that it stays inside limits (W, H)."""
    ascent, descent = font.getmetrics()
    width = round(draw.textlength(text, font)) + 2 * pad
    height = ascent + descent
    top = y - height if y >= height else y              # above the box, or inside it at the upper edge
    left = max(0, min(x, limits[0] - width))
    top = max(0, min(top, limits[1] - height))
    draw.rectangle((left, top, left + width - 1, top + height - 1), fill=colour)
    draw.text((left + pad, top), text, fill=text_colour(colour), font=font)


def line_and_font_size(width, height):
    """Line width and font size in px for an image: 1 and 10 at 200 px, 10 and 86 at 4000 px."""
    side = (width + height) / 2
    return max(1, round(0.5 + side * 0.0024)), max(10, round(6 + side * 0.02))


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
    """Accents, Greek and Cyrillic: the font that comes with matplotlib."""
    import matplotlib
    return Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"


def grid(images, columns, cell, captions=None):
    """Many images on one sheet, row by row, each fitted into a square cell.

    images: list of (H, W, 3) uint8 RGB of any sizes.  columns: cells per row.  cell: side of a cell in px.
    captions: one text per image or None; written below its image.  -> (H', W', 3) uint8 RGB.
    """
    gap, size = max(2, cell // 80), max(10, cell // 20)
    strip = size * 3 // 2 if captions is not None else 0
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
        if captions is not None:
            draw_caption(draw, str(captions[i]), left, top + cell, cell, size)
    return np.array(sheet)


def draw_caption(draw, text, left, top, width, size):
    """One line of text, shortened to the width: in the middle, where a file name says least."""
    font = text_font(text, size) or open_font(None, size)
    keep, short = len(text), text
    while draw.textlength(short, font) > width and keep > 2:
        keep -= 1
        short = text[:(keep + 1) // 2] + ".." + text[len(text) - keep // 2:]
    draw.text((left, top + size // 8), short, fill=(40, 40, 40), font=font)
