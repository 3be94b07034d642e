"""Masks that hold other numbers, colours, or another size than needed -> a new folder of masks to train on.

    python tools/fix_masks.py masks=FOLDER "values={255: 1}"    renumber: 255 becomes 1
    python tools/fix_masks.py masks=FOLDER                      list the colours, as a palette file to fill in
    python tools/fix_masks.py masks=FOLDER palette=palette.txt  colours -> class numbers
    python tools/fix_masks.py masks=FOLDER channel=alpha "values={255: 1}"   the label is the transparency
    python tools/fix_masks.py masks=FOLDER "values={0: 0, 255: 1}" nearest=True   the nearest of these counts
    python tools/fix_masks.py masks=FOLDER images=IMAGES        resize to the images, nearest neighbour

FOLDER is that of the masks, VOCdevkit/x/SegmentationClass for example, with the folders below it; IMAGES that
of their images. The old masks stay. Where the images are in the same folder, they are copied. A line of a
palette file is a colour and the name of its class:  128,64,128 road  (see utils/formats/mask_key.py).
The order is palette, values, images. A mask that cannot be read is named and skipped.
"""
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import utils  # noqa: E402, F401, I001  first: it says in a sentence which package is missing, and answers --help
import numpy as np  # noqa: E402

from utils.checks.masks import LOOKED_AT, fix_command, numbered, levels_of  # noqa: E402
from utils.errors import UserError  # noqa: E402
from utils.formats.foreign import by_stem, files_below  # noqa: E402
from utils.formats.mask_key import read_key, translate  # noqa: E402
from utils.formats.pairs import IMAGE_FOLDERS, MASK_FOLDERS, masks_beside  # noqa: E402
from utils.formats.sweep import sweep  # noqa: E402
from utils.images import IGNORED, SUFFIXES, image_size, open_alpha, open_colours, open_mask  # noqa: E402
from utils.images import resize_mask  # noqa: E402
from utils.labels import spans  # noqa: E402
from utils.results.masks import index_png  # noqa: E402
from utils.settings import check, find, one_of, read_settings, shown, yes_or_no  # noqa: E402
from utils.system.files import CannotWrite, replace_text, whole_folder, write_bytes  # noqa: E402

masks = "VOCdevkit/Shapes/SegmentationClass"    # folder of the masks    掩码文件夹
values = {}                                     # what becomes what, {255: 1}; others stay    数值替换
nearest = False                                 # a number counts as the nearest of `values`    取最接近的数值
channel = "colour"                              # "alpha": masks from the transparency    掩码所在的通道
palette = None                                  # palette file: which colour is which class    调色板文件
images = None                                   # folder of images: masks get their size    图像文件夹（按其尺寸缩放）
out = None                                      # the new folder; None: <masks>_fixed    输出文件夹
language = "auto"                               # "auto" (as this computer), "en", "zh"    输出的语言

MOST_COLOURS = 256                              # more are a photo, or colours that a lossy format has smeared


def main(s):
    folder = find(s.masks)
    files, companions, pictures = inputs(s, folder)
    key = read_key(find(s.palette)) if s.palette else None
    target = find(s.out) if s.out else folder.with_name(folder.name + "_fixed")
    if target.exists():
        raise UserError(f"{shown(target)} is there already: nothing is overwritten. "
                        "Delete or rename it, or set out=...")

    # Written under another name and renamed at the end: a run that breaks off leaves no half a folder.
    with whole_folder(target) as part:
        jobs = [(s, path, part / place_of(path, folder, companions), key, pictures) for path in files]
        done = sweep(fix, jobs, "Masks")
        errors = [error for error, _ in done if error]
        if len(errors) == len(done):
            raise UserError(f"None of the {len(done)} masks can be used, the first: {errors[0]}")
        for image in companions:
            copy = part / image.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(copy, image.read_bytes())
    tell_result(target, folder, errors, Counter(change for error, change in done if not error), key)


def inputs(s, folder):
    """-> masks, images among them, dict stem -> image. Error: nothing is there, or nothing was asked for."""
    if not folder.is_dir():
        raise UserError(f"There is no folder {shown(folder)}.")
    files = pictures_of(folder)
    beside = masks_beside(files)
    companions = [path for path in files if path not in beside] if beside else []
    files = sorted(beside) or files
    if not files:
        raise UserError(f"{shown(folder)} holds no masks ({', '.join(SUFFIXES)}).")
    check(s, nearest=yes_or_no(), channel=one_of(("colour", "alpha")))
    check_bytes(s.values)
    if s.nearest and len(s.values) < 2:
        raise UserError('nearest=True needs the numbers that are meant: "values={0: 0, 128: 1, 255: 2}".')
    pictures = by_stem(pictures_of(find(s.images))) if s.images else {}
    if s.images and not pictures:
        raise UserError(f"There are no images in {shown(find(s.images))}.")

    # Nobody knows beforehand what is wrong with masks: look at them, and say what to set.
    if not (s.values or s.palette or s.images or s.channel == "alpha"):
        raise UserError(suggestion(files, folder))
    return files, companions, pictures


def pictures_of(folder):
    """The pictures of a folder and of those below it, none when it is a level too high: when masks and images
    have folders of their own there."""
    below = [path.name.lower() for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    too_high = any(name in (*MASK_FOLDERS, *IMAGE_FOLDERS) for name in below)
    return [] if too_high else files_below(folder)


def place_of(path, folder, companions):
    """Where the new mask goes below the new folder: a .png of its name, if that is no image."""
    place = path.relative_to(folder).with_suffix(".png")
    return place.with_stem(place.stem + "_mask") if folder / place in companions else place


def check_bytes(values):
    """Error: a mask is of bytes, so what becomes what must be whole numbers from 0 to 255."""
    wrong = [f"{old}: {new}" for old, new in values.items() if not (is_byte(old) and is_byte(new))]
    if wrong:
        raise UserError(f"values={{{', '.join(wrong)}}}: expected whole numbers from 0 to 255, "
                        "like {255: 1}.")


def is_byte(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def fix(s, path, place, key, pictures):
    """One mask -> the file `place`. -> a sentence when it cannot be used, else None; what was changed."""
    try:
        labels = read(s, path, key)
        changes = ["translated"] if key else []

        # All at once by a table, so that {1: 2, 2: 1} swaps the two classes instead of joining them.
        if s.values:
            table = np.arange(256, dtype=np.uint8)
            table[list(s.values)] = list(s.values.values())
            if s.nearest:
                known = np.array(list(s.values))
                table = table[known[np.abs(known[:, None] - np.arange(256)).argmin(0)]]
            before, labels = labels, table[labels]
            changes += ["renumbered"] if (labels != before).any() else []
        if pictures:
            height, width = size_of_image(s, path, labels, pictures)
            changes += ["resized"] if labels.shape != (height, width) else []
            labels = resize_mask(labels, height, width)
        place.parent.mkdir(parents=True, exist_ok=True)
        index_png(place, labels)
        return None, ", ".join(changes) or "as it was"
    except CannotWrite:
        raise
    except UserError as error:
        return str(error), None


def size_of_image(s, path, labels, pictures):
    """-> (h, w) of the image of a mask. Error: it has none, or one that is turned against it."""
    picture = pictures.get(path.stem.strip())
    if picture is None:
        raise UserError(f"{shown(path)} has no image in {s.images}.")
    width, height = image_size(picture)
    if labels.shape == (width, height) != (height, width):
        raise UserError(f"{shown(path)} is rotated by 90 degrees relative to its image: "
                        "rotate it back, resizing would only distort it.")
    return height, width


def read(s, path, key):
    """A mask -> (h, w) uint8: its numbers, or what the palette says about its colours."""
    if s.channel == "alpha":
        return open_alpha(path)
    if key is None:
        return open_mask(path, lossy=s.nearest)
    names, meanings, of_colours = key
    return translate(path, meanings, of_colours, find(s.palette))


def suggestion(files, folder):
    """What to set. For colours a palette file to be filled in is written beside the folder."""
    colours, numbers, smeared, some = look_into(files)
    if smeared:
        return f"{shown(folder)} has more than {MOST_COLOURS} colours, up to {shown(smeared)}: no classes, " \
               "but photos or colours that a lossy format has smeared. Export the masks anew as PNG, " \
               "without smoothing."

    # Only a person knows which colour is which class: write the colours, only the names are to be filled in.
    if colours:
        place = folder.with_name(folder.name + "_palette.txt")
        if not place.exists():
            frequent = [colour for colour, _ in colours.most_common()]
            lines = [f"{c >> 16},{c >> 8 & 255},{c & 255} class_{i}\n" for i, c in enumerate(frequent)]
            replace_text(place, "".join(lines))
        return f"These are colour masks. Their {len(colours)} colours are listed in {shown(place)}, the " \
               "most frequent first: write the right class names there, then run  " \
               f'python tools/fix_masks.py "masks={shown(folder)}" "palette={shown(place)}"'

    # Masks of one class are often drawn in black and white; but 255 means ignored.
    found = sorted(numbers)
    if found in ([0, IGNORED], [IGNORED]):
        return f"The masks hold {spans(found)}. To turn 255 into class 1:  " \
               f'python tools/fix_masks.py "masks={shown(folder)}" "values={{255: 1}}"'
    if some and (levels := levels_of(some)):
        return f"The masks hold {spans(levels)}, and other values around them. To make class numbers:  " \
               + fix_command(folder, numbered(levels, ()), " nearest=True")
    if not found:
        seen = f"None of the {len(files)} masks can be read."
    else:
        seen = f"The masks hold the numbers {spans(found)}."
    return f"{seen} Set values, palette or images:  python tools/fix_masks.py --help"


def look_into(files):
    """-> Counter of colours (0xRRGGBB), Counter of numbers of other masks, the path of a photo or None, and
    some of the masks of numbers."""
    colours, numbers, some = Counter(), Counter(), []
    for path in files:
        try:
            mask = open_mask(path, lossy=True)
            some += [mask] if len(some) < LOOKED_AT else []
            found, counts = np.unique(mask, return_counts=True)
            numbers.update(dict(zip(found.tolist(), counts.tolist())))
        except UserError as error:
            if error.kind != "mask_colour":
                continue
            flat = open_colours(path).reshape(-1, 3).astype(np.int64) @ (65536, 256, 1)
            found, counts = np.unique(flat, return_counts=True)
            colours.update(dict(zip(found.tolist(), counts.tolist())))

        # A photo has as many colours as pixels: stop before they fill the memory.
        if len(colours) > MOST_COLOURS:
            return colours, numbers, path, some
    return colours, numbers, None, some


def tell_result(target, folder, errors, changes, key):
    """What was done, what was not, and what to do with it."""
    for error in errors[:10]:
        print(error)
    if len(errors) > 10:
        print("...")
    if errors:
        print(f"{len(errors)} masks are skipped.")
    done = ", ".join(f"{count} {change}" for change, count in changes.items())
    print(f"Written: {shown(target)}, {sum(changes.values())} masks ({done})")

    # The new masks have the numbers of the palette's lines; training wants the names in that order.
    if key:
        print("Class names, for a classes file:")
        for number, name in enumerate(key[0]):
            print(f"  {number} {name}")
    print("Look at some of them. "
          f"To use them, rename {folder.name} to {folder.name}_old and {target.name} to {folder.name}.")


if __name__ == "__main__":
    main(read_settings(globals()))
