"""A VOC folder on the disk: is it one, and which of its images are for training, validation and testing."""
import random
from collections import Counter
from pathlib import Path

from utils.errors import UserError, did_you_mean
from utils.settings import shown
from utils.voc import LABELS, SPLITS, find_files, find_images, read_ids, replace_text


def share(n, fraction, least=1):
    """How many of n stay in the first part: at least `least`, at least one is left for the second, unless fraction is 1."""
    return n if fraction == 1 or n <= least else min(max(round(n * fraction), least), n - 1)


def make_split(stems, trainval_percent=0.9, train_percent=0.9, seed=0):
    """Deal the names out: dict trainval, train, val, test -> sorted names. The order of `stems` does not matter.

    trainval_percent: share of all that is not test.  train_percent: share of those that is train.  1 means all of it.
    train, val and test have no name in common, and at least one name each from three names on (two: no val, one: only train).
    """
    for name, value in (("trainval_percent", trainval_percent), ("train_percent", train_percent)):
        if not 0 < value <= 1:
            raise UserError(f"{name}={value}: expected a share above 0 and at most 1, like 0.9.")
    stems = sorted(stems)
    random.Random(seed).shuffle(stems)
    trainval = stems[:share(len(stems), trainval_percent, least=2 if len(stems) > 2 and train_percent < 1 else 1)]
    train = trainval[:share(len(trainval), train_percent)]
    parts = (trainval, train, trainval[len(train):], stems[len(trainval):])
    return {name: sorted(part) for name, part in zip(SPLITS, parts)}


def read_or_make_sets(folder, labelled, names=(), trainval_percent=0.9, train_percent=0.9, seed=0, new_split=False, task="detection"):
    """The ids in the lists of ImageSets/Main (Segmentation): dict list name -> ids. A list that is there is respected and never changed;
    the four of VOC are made from the `labelled` ids and written when they are not there.

    names: other lists to read.  new_split: make the four anew all the same, the old ones are kept as .bak.
    """
    _, _, kind, part = LABELS[task]
    sets_folder = Path(folder) / "ImageSets" / part
    files = find_files(sets_folder, (".txt",))
    sets = {name: read_ids(files[name]) for name in {*SPLITS, *names} & files.keys() if not (new_split and name in SPLITS)}
    if "train" in sets or "val" in sets:
        return sets                                         # the user's own split, even if it has no test
    given = "trainval" in sets or "test" in sets            # then only the division into train and val is missing
    pool = sets["trainval"] if "trainval" in sets else sorted(set(labelled) - set(sets.get("test", [])))
    if not pool:
        raise UserError(f"{shown(folder)}: there is no image to train on; {len(labelled)} images have a label ({kind}), "
                        + (f"and all are in the lists of ImageSets/{part} already." if given and labelled else "or trainval.txt is empty."))
    made = make_split(pool, 1 if given else trainval_percent, train_percent, seed)
    for name in SPLITS[:3] if given else SPLITS:
        if name not in sets:
            sets[name] = made[name]
            replace_text(sets_folder / f"{name}.txt", "".join(stem + "\n" for stem in made[name]))
    numbers = ", ".join(f"{name} {len(sets[name])}" for name in SPLITS[1:] if name in sets)
    print(f"{shown(folder)}: a new split is written to ImageSets/{part}: {numbers} images")
    return sets


def check_layout(folder, task="detection"):
    """The (images, label files) of a VOC folder, each stem -> path; label files are xml files or masks. Error when it is none: the
    expected tree with a tick or a cross per part, and the nearest folder found."""
    folder, lines = Path(folder), []
    part, suffixes, kind, sets = LABELS[task]
    images, labels = find_images(folder / "JPEGImages"), find_files(folder / part, suffixes)
    if images and labels:
        return images, labels
    other = "detection" if task == "segmentation" else "segmentation"
    if images and find_files(folder / LABELS[other][0], LABELS[other][1]):
        raise UserError(f"{shown(folder)} has {LABELS[other][2]}s ({LABELS[other][0]}) but no {kind}s ({part}): it is a dataset for {other}, "
                        f"not for {task}.")
    for name, what, files in (("JPEGImages", "images", images), (part, f"{kind}s" + " (.png)" * (kind == "mask"), labels)):
        if files:
            state = f"✓ {len(files)} {what}"
        elif (folder / name).is_dir():
            others = other_suffixes(folder / name, ())
            state = f"✗ no {what} in it" + "".join(f", but {count} {suffix} files" for suffix, count in others.most_common(1))
        else:
            state = f"✗ there is no such folder.{did_you_mean(name, subfolders(folder))}"
        lines.append(f"    {name:<24}{state}\n")
    lines.append(f"    {f'ImageSets/{sets}':<24}{'✓' if (folder / 'ImageSets' / sets).is_dir() else '- not there; a split is made then'}\n")
    near = ", ".join(f'dataset = "{shown(path)}"' for path in nearby_datasets(folder)[:3])
    raise UserError(f"{shown(folder)} {'is not a VOC folder' if folder.is_dir() else 'does not exist'}. Expected:\n  {shown(folder)}\n"
                    + "".join(lines) + (f"Found nearby: {near}" if near else "No VOC folder was found nearby."))


def other_suffixes(folder, suffixes):
    """Counter of the suffixes of the files in a folder that are none of `suffixes`."""
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    return Counter(path.suffix.lower() for path in files if path.suffix.lower() not in suffixes)


def subfolders(folder):
    try:
        return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []


def nearby_datasets(folder):
    """VOC folders around `folder`, similar names first: it may be a level too high or too low, nested twice or spelled wrong."""
    above = [folder, *folder.parents[:2]]
    found = [path for path in above[1:] if (path / "JPEGImages").is_dir()]
    for start in above:
        level = [] if found else [start]
        for _ in range(4):
            found += [path for path in level if path != folder and (path / "JPEGImages").is_dir()]
            level = [path / name for path in level for name in subfolders(path)][:500]     # enough for datasets, little of a home folder
    return sorted(found, key=lambda path: not did_you_mean(folder.name, [path.name]))
