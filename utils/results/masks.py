"""Masks as pictures: tinted images, palette files, cut-outs, error maps, legends.
numpy, OpenCV and Pillow only.

Files of numbers and of colours alone have the colours of VOC, as other programs expect. Over a photo these
are too dark to be told apart, so there a class has the bright colour that its boxes have in draw.py.

labels: (h, w) uint8, the class of every pixel, IGNORED = 255 where there is none;
images are (h, w, 3) uint8 RGB.
"""
import cv2
import numpy as np
from PIL import Image, ImageDraw

from utils.images import IGNORED
from utils.labels import label_table
from utils.results.draw import class_colours, label_text, open_font
from utils.results.media import fresh, save_image
from utils.settings import check, counted, number, optional, several, yes_or_no

BACKGROUND_NAMES = ("background", "_background_", "__background__", "背景")     # names of the first class
WRONG, GREY = (240, 30, 30), (170, 170, 170)        # of the error map
PAPER, INK = (255, 255, 255), (40, 40, 40)          # of the legend
GAP = 4                                             # white pixels between pictures side by side


def voc_palette():
    """The colours of VOC masks, (256, 3) uint8: the bits of the number, dealt out to red, green,
    blue in turn."""
    labels = np.arange(256)
    channels = [sum((labels >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8))
                for channel in range(3)]
    return np.stack(channels, 1).astype(np.uint8)


def background_of(class_names):
    """0 when the first class is called background, else None: then every class is a thing of its own."""
    return 0 if class_names and str(class_names[0]).strip().lower() in BACKGROUND_NAMES else None


def mask_colours(class_names):
    """(256, 3) uint8 by label: those of VOC. Without a background its black is not used,
    and every class has the next colour."""
    colours = voc_palette()
    if background_of(class_names) is None:
        colours[:IGNORED] = np.roll(colours[:IGNORED], -1, 0)
    return colours


def colour_picture(labels, class_names):
    """Every pixel in the colour of its class. -> (h, w, 3) uint8"""
    return mask_colours(class_names)[labels]


def bright_colours():
    """(256, 3) uint8 by label: those of boxes, for what lies over a photo."""
    return np.vstack([class_colours(IGNORED), voc_palette()[IGNORED:]])


def blend(image, labels, class_names, opacity=0.6):
    """The image, tinted by class, each region with an outline in its colour; the background stays as it is.
    opacity: 0 the image alone .. 1 the colours alone."""
    if not opacity:
        return image.copy()
    # Below the colour the image loses its own, so that red over green is no brown.
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    pale = cv2.addWeighted(grey, opacity, image, 1 - opacity, 0)
    colours = bright_colours()[labels]
    tinted = cv2.addWeighted(colours, opacity, pale, 1 - opacity, 0)

    edge = edges(labels, max(1, round(sum(labels.shape) / 1000)))
    tinted[edge] = colours[edge]
    if background_of(class_names) is not None:
        clear = labels == background_of(class_names)
        tinted[clear] = image[clear]
    return tinted


def heat_overlay(image, heat):
    """A map (h, w) 0-1 as colours over an image, from nothing to red. -> (h, w, 3) uint8"""
    levels = (heat.clip(0, 1) * 255).round().astype(np.uint8)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[..., ::-1]
    strength = 0.15 + 0.55 * np.sqrt(heat.clip(0, 1))[..., None]
    return (image * (1 - strength) + colours * strength).round().astype(np.uint8)


def edges(labels, width):
    """Where another label is within `width` px. -> (h, w) bool"""
    around = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    return cv2.dilate(labels, around) != cv2.erode(labels, around)


def index_png(path, labels):
    """Write the numbers themselves as a palette image, which looks coloured: what VOC masks are."""
    save_image(path, labels, palette=voc_palette())


def without_background(image, labels, class_names):
    """All that is not background, (h, w, 4) uint8 RGBA: the rest is transparent,
    and white for whoever cannot show that."""
    keep = labels != background_of(class_names)
    return np.dstack([np.where(keep[..., None], image, 255), keep * 255]).astype(np.uint8)


def save_kinds(folder, name, image, labels, info, index=False, colour=False, cut_out=False):
    """What predict.py saves beside the blended picture: folder/index/name.png and so on, as wanted.
    name: Path without suffix.

    The index image holds the numbers of the training's masks: with ignore_labels they are not the labels.
    """
    def place(kind):
        return fresh(folder / kind / name.parent, name.name, ".png")

    names = info["class_names"]
    if index:
        table = label_table(names, info.get("settings", {}).get("ignore_labels") or ())
        index_png(place("index"), np.flatnonzero(table < len(names)).astype(np.uint8)[labels])
    if colour:
        save_image(place("colour"), colour_picture(labels, names))
    if cut_out and background_of(names) is not None:
        save_image(place("cut_out"), without_background(image, labels, names))


def error_map(image, truth, labels):
    """Where the labels are wrong: red; where the truth is ignored: grey;
    where they are right: the image, dark and without colours."""
    known = truth != IGNORED
    picture = np.repeat(image.mean(2, keepdims=True).astype(np.uint8) // 3, 3, 2)
    for where, colour in ((known & (labels != truth), WRONG), (~known, GREY)):
        picture[where] = picture[where] // 2 + np.array(colour, np.uint8) // 4 * 3
    return picture


def panels(image, truth, labels, class_names, opacity=0.6):
    """-> image, truth, prediction with its errors outlined in red, error map: four pictures of the image's
    size."""
    true = blend(image, truth, class_names, opacity)
    predicted = blend(image, labels, class_names, opacity)
    wrong = ((truth != IGNORED) & (labels != truth)).astype(np.uint8)
    predicted[edges(wrong, 1) & (wrong > 0)] = WRONG
    return [image, true, predicted, error_map(image, truth, labels)]


def side_by_side(image, truth, labels, class_names, opacity=0.6, errors=False):
    """image | truth | prediction, and with errors=True | error map, as one picture (h, w', 3)."""
    shown = panels(image, truth, labels, class_names, opacity)[:4 if errors else 3]
    gap = np.full((len(image), GAP, 3), 255, np.uint8)
    return np.hstack([part for picture in shown for part in (picture, gap)][:-1])


def legend(width, class_names, classes=None, errors=False, size=None, most_rows=10, numbers=False):
    """A strip to put below a picture: each colour with its class, and the share of the pixels.
    -> (h, width, 3) uint8 RGB.

    classes: the result of `pixel_shares`; None: all class names, without shares.
    errors: also what the colours of an error map mean.  numbers: each class with its number.
    size: of the letters in px.  most_rows: what does not fit into so many is left out,
    and the strip says how much.
    """
    size = size or max(10, round(8 + 0.012 * width))
    entries = legend_entries(class_names, classes, errors, size, numbers)
    return strip_of(entries, width, size, most_rows)


def strip_of(entries, width, size, most_rows=10):
    """(text, font, colour or None) from left to right, row by row -> (h, width, 3) uint8 RGB."""
    entries, places = arrange(entries, width, size, most_rows)

    # A square of its colour before each name.
    height = (places[-1][1] if places else 0) + size * 3 // 2
    strip = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(strip)
    for (x, y), (text, font, colour) in zip(places, entries):
        if colour:
            pen.rectangle((x, y, x + size, y + size), fill=colour, outline=INK)
        pen.text((x + size * 3 // 2, y + size // 2), text, fill=INK, font=font, anchor="lm")
    return np.array(strip)


def legend_entries(class_names, classes, errors, size, numbers=False):
    """-> list of (text, font, colour), one for each class of a legend; see `legend` for the arguments."""
    if classes is None:
        rows = [(label, None) for label in range(len(class_names))]
    else:
        rows = [(class_names.index(row["label"]), row["share"]) for row in classes]

    # The background is not tinted, so its colour is that of the paper.
    colours, entries = bright_colours(), []
    for label, share in rows:
        name, font = label_text(class_names, label, size)
        name = f"{label} {name}" if numbers else name
        colour = PAPER if label == background_of(class_names) else tuple(colours[label].tolist())
        entries.append((name if share is None else f"{name} {percent(share)}", font, colour))

    if errors:
        plain = open_font(None, size)
        entries += [("wrong", plain, WRONG), ("ignored", plain, GREY)]
    return entries


def arrange(entries, width, size, most_rows):
    """Entries of a legend from left to right, row by row.

    -> entries, the last one replaced by "... more" if they are too many; (x, y) px of each that has a place.
    """
    entries, places = list(entries), []
    x, row = size // 2, 0
    for i, (text, font, _) in enumerate(entries):
        wide = round(font.getlength(text)) + 5 * size // 2
        if x > size // 2 and x + wide > width:
            x, row = size // 2, row + 1

        # No room for this one: the last that had room says how many are missing.
        if row == most_rows:
            entries[i - 1] = (f"... {len(entries) - i + 1} more", open_font(None, size), None)
            break
        places.append((x, row * size * 3 // 2 + size // 4))
        x += wide
    return entries, places


def pixel_shares(labels, class_names):
    """Which classes there are, the largest first: list of dict label (the name), pixels,
    share (0-1 of all pixels)."""
    counts = np.bincount(labels.ravel(), minlength=len(class_names))[:len(class_names)]
    return [{"label": class_names[i], "pixels": int(counts[i]),
             "share": round(float(counts[i] / max(1, labels.size)), 6)}
            for i in np.argsort(-counts, kind="stable") if counts[i]]


def percent(share):
    """0.123 -> '12.3 %'; what is there is never '0.0 %'."""
    return "<0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def check_settings(s):
    """The settings that predict.py and get_miou.py share."""
    sizes = max(1, len(s.scales)) if isinstance(s.scales, (list, tuple)) else 1
    check(s, opacity=number(0, 1), threshold=optional(number(0, 1)), slide=yes_or_no(), flip=yes_or_no(),
          scales=several(sizes, number(0.1, 10)))


def choose_threshold(threshold, info):
    """The script's threshold, or where that is None the one of the training.
    It decides between two classes; more have none."""
    if threshold is None:
        threshold = info.get("settings", {}).get("threshold")
    elif len(info["class_names"]) != 2:
        print(f"NOTE: threshold={threshold:g} has no effect: "
              f"of {counted(len(info['class_names']), 'class')} the one with the highest score is chosen.")
    return 0.5 if threshold is None else threshold
