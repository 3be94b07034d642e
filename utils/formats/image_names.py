"""The image that a label file means, when its path is one of another computer.

/home/worker/project/images/a.jpg, D:\\project\\a.jpg, ../../media/upload/4/1a2b3c4d-a.jpg,
/data/local-files/?d=images/a%20b.jpg: such paths lead nowhere here, or out of the dataset. Then the image of
the dataset is meant that has the same name, if there is only one; of several the one whose folders agree
with the end of the path. Nothing but images that were found in the dataset is ever returned.
"""
import re
from collections import defaultdict
from urllib.parse import unquote

from utils.formats.foreign import SPLIT_NAMES, agreement

# Label Studio writes such a word before a name: 1a2b3c4d-a.jpg. With a letter: 20240131-a.jpg has a date.
PREFIX = re.compile(r"(?=[0-9]*[a-f])[0-9a-f]{6,8}(-|__)(?=.)")


def index_names(images):
    """dict name in small letters, with and without Label Studio's prefix -> images, for `images_named`."""
    index = defaultdict(list)
    for image in images:
        name = image.name.casefold()
        for key in {name, PREFIX.sub("", name, count=1)}:
            index[key].append(image)
    return index


def images_named(name, index, root):
    """The images that a path can mean: [] none, [image] this one, several: nobody knows which.

    index: as `index_names` returns it.  root: the folder of the dataset.
    """
    # The path of an address: local-files/?d=images/a.jpg, .../a.jpg?token=...
    path = re.sub(r"^.*\?d=", "", name, flags=re.DOTALL)
    folders, literal = re.split(r"[/\\]+", unquote(path.split("?")[0])), re.split(r"[/\\]+", path)[-1]
    asked = folders.pop()
    bare = PREFIX.sub("", asked.casefold(), count=1)

    # The closest name counts. A prefix may be missing on one side; two different ones are two images.
    pool = dict.fromkeys(image for key in (literal.casefold(), asked.casefold(), bare)
                         for image in index.get(key, ()))
    ranks = defaultdict(list)
    for image in pool:
        small = image.name.casefold()
        fits = (image.name == literal, image.name == asked, small == asked.casefold(),
                small == bare or PREFIX.sub("", small, count=1) == asked.casefold())
        if any(fits) and not other_split(folders, folders_of(image, root)):
            ranks[fits.index(True)].append(image)
    closest = ranks[min(ranks)] if ranks else []

    # train/1.jpg and val/1.jpg: the one that has more folders in common with the end of the path.
    common = [common_end(folders, folders_of(image, root)) for image in closest]
    return [image for image, count in zip(closest, common) if count == max(common)]


def folders_of(image, root):
    """The names of the folders from root to an image."""
    return image.relative_to(root).parts[:-1] if image.is_relative_to(root) else image.parts[:-1]


def other_split(*paths):
    """Whether one path ends in train and the other in val, or the like: train/a.jpg, train/images/a.jpg."""
    asked, found = ({SPLIT_NAMES[name.lower()] for name in folders[-2:] if name.lower() in SPLIT_NAMES}
                    for folders in paths)
    return bool(asked and found and not asked & found)


def common_end(some, others):
    """How many names at the end of two paths are the same."""
    return agreement(*([name.casefold() for name in reversed(names)] for names in (some, others)))
