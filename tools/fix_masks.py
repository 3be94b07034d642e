"""Masks that hold other numbers, colours, or another size than needed -> a new folder of masks that can be trained on. The old ones stay.

    python tools/fix_masks.py masks=VOCdevkit/x/SegmentationClass "values={255: 1}"               renumber: 255 becomes 1
    python tools/fix_masks.py masks=VOCdevkit/x/SegmentationClass                                 list the colours, as a palette file to fill in
    python tools/fix_masks.py masks=VOCdevkit/x/SegmentationClass palette=palette.txt             colours -> class numbers
    python tools/fix_masks.py masks=VOCdevkit/x/SegmentationClass images=VOCdevkit/x/JPEGImages   resize to the images, nearest neighbour

A line of a palette file is a colour and the name of its class:  128,64,128 road  (see utils/formats/mask_key.py). What is done is done in the order
palette, values, images. A mask that cannot be read is named and left out.
"""
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from utils.errors import UserError  # noqa: E402
from utils.formats.mask_key import read_key, translate  # noqa: E402
from utils.formats.sweep import sweep  # noqa: E402
from utils.formats.voc_folder import survey  # noqa: E402
from utils.images import IGNORED, SUFFIXES, image_size, open_colours, open_mask, resize_mask  # noqa: E402
from utils.labels import spans  # noqa: E402
from utils.results.masks import index_png  # noqa: E402
from utils.settings import find, read_settings, shown  # noqa: E402
from utils.system.files import replace_text  # noqa: E402

masks = "VOCdevkit/Shapes/SegmentationClass"    # folder of the masks    掩码文件夹
values = {}                                     # what becomes what, {255: 1}; others stay    数值替换
palette = None                                  # palette file: which colour is which class    调色板文件
images = None                                   # folder of the images, whose size the masks get    图像文件夹（按其尺寸缩放）
out = None                                      # the new folder; None: <masks>_fixed    输出文件夹

MOST_COLOURS = 256                              # more are no classes but a photo, or colours that a lossy format has smeared


def main(s):
    folder = find(s.masks)
    files, _ = survey(folder, SUFFIXES)
    if not files:
        raise UserError(f"{shown(folder)} holds no masks ({', '.join(SUFFIXES)})." if folder.is_dir() else f"There is no folder {shown(folder)}.")
    check_values(s.values)
    pictures = survey(find(s.images), SUFFIXES)[0] if s.images else {}
    if s.images and not pictures:
        raise UserError(f"There are no images in {shown(find(s.images))}.")
    if not (s.values or s.palette or s.images):
        raise UserError(suggestion(files, folder))
    key = read_key(find(s.palette)) if s.palette else None
    target = find(s.out) if s.out else folder.with_name(folder.name + "_fixed")
    if target.exists():
        raise UserError(f"{shown(target)} is there already: nothing is overwritten. Delete or rename it, or set out=...")
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        done = sweep(lambda path: fix(s, path, part, key, pictures), [(path,) for path in files.values()], "Masks")
        errors = [error for error, _ in done if error]
        if len(errors) == len(done):
            raise UserError(f"None of the {len(done)} masks can be used, the first: {errors[0]}")
        os.replace(part, target)
    except OSError as error:
        raise UserError(f"{shown(target)} cannot be written: {error.strerror}.") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    tell(target, folder, errors, Counter(change for error, change in done if not error), key)


def check_values(values):
    wrong = [f"{a}: {b}" for a, b in values.items() for v in (a, b) if not isinstance(v, int) or isinstance(v, bool) or not 0 <= v <= 255]
    if wrong:
        raise UserError(f"values={{{', '.join(wrong)}}}: expected whole numbers from 0 to 255, like {{255: 1}}.")


def fix(s, path, part, key, pictures):
    """One mask -> part/<name>.png. -> a sentence when it cannot be used, else None; what was changed."""
    try:
        labels = read(s, path, key)
        before, change = labels, []
        if s.values:
            table = np.arange(256, dtype=np.uint8)
            table[list(s.values)] = list(s.values.values())
            labels = table[labels]
            change += ["renumbered"] if (labels != before).any() else []
        if pictures:
            picture = pictures.get(path.stem.strip())
            if picture is None:
                raise UserError(f"{shown(path)} has no image in {s.images}.")
            width, height = image_size(picture)
            if labels.shape == (width, height) != (height, width):
                raise UserError(f"{shown(path)} lies on its side against its image: turn it, resizing would only warp it.")
            change += ["resized"] if labels.shape != (height, width) else []
            labels = resize_mask(labels, height, width)
        index_png(part / f"{path.stem}.png", labels)
        return None, ", ".join(["translated"] * bool(key) + change) or "as it was"
    except UserError as error:
        return str(error), None


def read(s, path, key):
    """A mask -> (h, w) uint8: its numbers, or what the palette says about its colours."""
    if key is None:
        return open_mask(path)
    names, meanings, of_colours = key
    return translate(path, meanings, of_colours, find(s.palette))


def suggestion(files, folder):
    """What to set. For colours a palette file to be filled in is written beside the folder."""
    colours, numbers = Counter(), Counter()
    for path in files.values():
        try:
            found, counts = np.unique(open_mask(path), return_counts=True)
            numbers.update(dict(zip(found.tolist(), counts.tolist())))
        except UserError as error:
            if error.kind != "mask_colour":
                continue
            flat = open_colours(path).reshape(-1, 3).astype(np.int64) @ (65536, 256, 1)
            found, counts = np.unique(flat, return_counts=True)
            colours.update(dict(zip(found.tolist(), counts.tolist())))
        if len(colours) > MOST_COLOURS:
            return f"{shown(folder)} has more than {MOST_COLOURS} colours, up to {shown(path)}: no classes, but photos or colours that a lossy " \
                   "format has smeared. Export the masks anew as PNG, without smoothing."
    if colours:
        place = folder.with_name(folder.name + "_palette.txt")
        if not place.exists():
            replace_text(place, "".join(f"{c >> 16},{c >> 8 & 255},{c & 255} class_{i}\n" for i, (c, _) in enumerate(colours.most_common())))
        return f"These are colour masks. Their {len(colours)} colours, the most frequent first, stand in {shown(place)}: write the right class " \
               f'names there, then run  python tools/fix_masks.py "masks={shown(folder)}" "palette={shown(place)}"'
    found = sorted(numbers)
    if found in ([0, IGNORED], [IGNORED]):
        return f'The masks hold {spans(found)}. To turn 255 into class 1:  python tools/fix_masks.py "masks={shown(folder)}" "values={{255: 1}}"'
    return (f"The masks hold the numbers {spans(found)}." if found else f"None of the {len(files)} masks can be read.") \
        + ' Set values, palette or images:  python tools/fix_masks.py --help'


def tell(target, folder, errors, changes, key):
    print("\n".join(errors[:10]) + ("\n..." if len(errors) > 10 else "") + "\n" * bool(errors), end="")
    if errors:
        print(f"{len(errors)} masks are left out.")
    print(f"Written: {shown(target)}, {sum(changes.values())} masks (" + ", ".join(f"{count} {change}" for change, count in changes.items()) + ")")
    if key:
        print("Class names, for a classes file:\n" + "\n".join(f"  {number} {name}" for number, name in enumerate(key[0])))
    print(f"Look at some of them. To use them, rename {folder.name} to {folder.name}_old and {target.name} to {folder.name}.")


if __name__ == "__main__":
    main(read_settings(globals()))
