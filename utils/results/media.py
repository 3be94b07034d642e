"""Results into files."""
import io
import math
import os
import re
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from utils.errors import UserError
from utils.images import SUFFIXES
from utils.results.report import remove_empty
from utils.settings import find, shown
from utils.system.files import cannot_write, clear_leftovers, write_bytes

MARK = ".plainvision_results"           # in a folder that was made for results: no source of a later run


def unquote(text):
    """Without the spaces and quotes that come along when a path is copied from a file manager."""
    return str(text).strip().strip("'\"“”‘’").strip()


def check_output(text):
    """The variable output -> Path of the folder for results. Nothing is made here."""
    # The first folder above it that is there tells whether it can be made.
    try:
        folder = find(unquote(text)).resolve()
        taken = next(path for path in (folder, *folder.parents) if path.exists())
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f'output="{text}" cannot be used as a folder: {error}.') from None

    if not taken.is_dir():
        raise UserError(f"Nothing can be written to {shown(folder)} ({shown(taken)} is a file): "
                        "set output to another folder.")
    return folder


@contextmanager
def output_folder(folder):
    """`with output_folder(path) as folder`: made and tried out, before a full run ends in vain.

    If nothing is written into it, it disappears again, with the folders above it that were made for it.
    """
    # Those that are made here may be removed here; an empty folder of the user stays.
    missing = [path for path in (folder, *folder.parents) if not path.exists()]

    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
            clear_leftovers(folder, "**/*.part*")
        except OSError as error:
            raise UserError(f"Nothing can be written to {shown(folder)} ({error.strerror or error}): "
                            "set output to another folder.") from None

        yield folder
    finally:
        remove_empty(missing)


@contextmanager
def group_folders(folder, groups):
    """`with group_folders(...) as folders`: a new folder for the results of each group, in a dict; "" is the
    folder itself. Those that stay empty disappear again."""
    folders = {"": folder}
    try:
        for group in dict.fromkeys(filter(None, groups)):
            folders[group] = fresh_folder(folder, group)
        yield folders
    finally:
        for group in folders.keys() - {""}:
            drop_unused(folders[group])
            remove_empty([folders[group]])


def fresh_folder(folder, name):
    """Make folder/name, or the first of name_2, name_3 ... that is not there, and mark it as results.
    Of two programs at the same moment each gets its own."""
    while True:
        path = fresh(folder, name)
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue                                        # the other one was quicker
        (path / MARK).touch()
        return path


def drop_unused(folder):
    """Take the mark from a folder that holds nothing else."""
    if folder.is_dir() and [path.name for path in folder.iterdir()] == [MARK]:
        (folder / MARK).unlink(missing_ok=True)


def fresh(folder, name, suffix="", taken=()):
    """folder/name.suffix, or the first of name_2, name_3 ... that does not exist and is not in `taken`:
    no result overwrites anything."""
    path, attempt = Path(folder) / (name + suffix), 1
    while os.path.lexists(path) or path in taken:
        attempt += 1
        path = path.with_name(f"{name}_{attempt}{suffix}")
    return path


def file_name(text):
    """A text (a class name) as a part of a file name, on every system."""
    return re.sub(r'[\\/:*?"<>|\s\x00-\x1f]+', "_", str(text)).strip("_.") or "_"


def save_image(path, image, source=None, palette=None):
    """Write an image; the suffix decides the format (JPEG with quality 95). Folders are made.

    image: (H, W, 3) uint8 RGB, or (H, W, 4) RGBA for a .png.
    source: the file that was read, which is never overwritten.
    palette: (256, 3) uint8; then image is (H, W) uint8, numbers that are saved as they are and shown in
    these colours.
    """
    path = Path(path)
    if source is not None and path.resolve() == Path(source).resolve():
        raise UserError(f"{shown(path)} is the image that was read: results never overwrite it, "
                        "choose another name.")
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f'{shown(path)}: images are saved as {", ".join(SUFFIXES)}, not as "{path.suffix}".')

    # Pillow's usual JPEG blurs thin coloured lines, which is what boxes are.
    options = {"quality": 95, "subsampling": 0} if path.suffix.lower() in (".jpg", ".jpeg") else {}
    picture = Image.fromarray(image)
    if palette is not None:
        picture.putpalette(palette.ravel().tolist())

    # In memory first, so that the file is written in one go.
    Image.init()
    data = io.BytesIO()
    try:
        picture.save(data, format=Image.EXTENSION[path.suffix.lower()], **options)
    except OSError as error:                                # a format that cannot hold such a picture
        raise cannot_write(path, error) from None
    write_bytes(path, data.getvalue())


def save_crops(folder, name, image, boxes):
    """Each box as an image of its own, folder/name_number_class.png.

    image: (H, W, 3) uint8 RGB.  boxes: list of dict label (text), xyxy px;
    clipped to the image, and what is empty then is left out.
    """
    for position, box in enumerate(boxes, 1):
        x1, y1, x2, y2 = np.clip(box["xyxy"], 0, (image.shape[1], image.shape[0]) * 2)
        part = image[math.floor(y1):math.ceil(y2), math.floor(x1):math.ceil(x2)]
        if x2 > x1 and y2 > y1:
            save_image(fresh(folder, f"{name}_{position}_{file_name(box['label'])}", ".png"), part)


