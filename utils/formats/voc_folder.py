"""A VOC folder on the disk: is it one, and which of its images are for training, validation and testing."""
import contextlib
import os
import random
import re
from collections import Counter
from pathlib import Path

from utils.errors import UserError, did_you_mean
from utils.findings import Finding, as_error
from utils.formats.stratify import classes_in, deal_evenly
from utils.images import SUFFIXES
from utils.settings import shown
from utils.system.files import read_lines, replace_text

SPLITS = ("trainval", "train", "val", "test")
LABELS = {"detection": ("Annotations", (".xml",), "xml file", "Main"),          # task -> folder of the labels, their suffix, what one
          "segmentation": ("SegmentationClass", (".png",), "mask", "Segmentation")}     # is called, folder of the lists in ImageSets


def survey(folder, suffixes):
    """stem -> path, sorted, of the files with one of the suffixes in any case, and what is wrong with the names; hidden files are no data.

    The stem is all before the last dot, without spaces at its ends, because a line of a list cannot hold those.
    Findings: a stem twice (the first file is taken), a stem that cannot stand in a list.
    """
    folder, files, findings = Path(folder), {}, []
    with os.scandir(folder) if folder.is_dir() else contextlib.nullcontext(()) as entries:
        names = sorted(entry.name for entry in entries
                       if entry.name.lower().endswith(suffixes) and not entry.name.startswith(".") and entry.is_file())
    for name in names:
        path, stem = folder / name, os.path.splitext(name)[0].strip()
        if not is_plain(stem):
            findings.append(Finding("bad_name", path))
        elif stem in files:
            findings.append(Finding("stem_twice", path, None, f"{files[stem].name} is the same before the suffix"))
        else:
            files[stem] = path
    return files, findings


def find_files(folder, suffixes):
    """stem -> path, see `survey`. Errors: what is found there."""
    files, findings = survey(folder, suffixes)
    if findings:
        raise as_error(findings[0])
    return files


def find_images(folder):
    """stem -> path of the images of a folder, see find_files."""
    return find_files(folder, SUFFIXES)


def is_plain(name):
    """Whether this can be the name of an image without its suffix; a list from a stranger must not lead out of the folder."""
    return name not in ("", ".", "..") and not re.search(r"[/\\:\x00-\x1f\x7f\ud800-\udfff]", name)


def check_id(name, where):
    """The name, if it is plain; else an error."""
    if not is_plain(name):
        raise UserError(f"{where}: {name!r} is not a plain file name (valid text without / \\ : and control characters).")
    return name


def survey_ids(path):
    """The ids of an ImageSets list in its order, id -> number of its first line, and findings: lines that are no plain names."""
    lines = [(number, line) for number, line in enumerate(read_lines(path), 1) if line]
    findings = [Finding("list_name", Path(path), number, f"{line[:80]!r}") for number, line in lines if not is_plain(line)]
    ids = {}
    for number, line in lines:
        if is_plain(line):
            ids.setdefault(line, number)
    return ids, findings


def read_ids(path):
    """The ids of an ImageSets list, in its order, each once. Errors: one that is not a plain name."""
    ids, findings = survey_ids(path)
    if findings:
        raise as_error(findings[0])
    return list(ids)


def share(n, fraction, least=1):
    """How many of n stay in the first part: at least `least`, at least one is left for the second, unless fraction is 1."""
    return n if fraction == 1 or n <= least else min(max(round(n * fraction), least), n - 1)


def make_split(stems, trainval_percent=0.9, train_percent=0.9, seed=0, classes=None):
    """Deal the names out: dict trainval, train, val, test -> sorted names. The order of `stems` does not matter.

    trainval_percent: share of all that is not test.  train_percent: share of those that is train.  1 means all of it.
    classes: dict name -> the classes in that image; then every class comes as evenly as possible into train, val and test.
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
    if classes is not None:
        dealt = deal_evenly({stem: classes[stem] for stem in stems}, [len(part) for part in parts[1:]], seed)
        parts = (dealt[0] + dealt[1], *dealt)
    return {name: sorted(part) for name, part in zip(SPLITS, parts)}


def read_sets(folder, names=(), new_split=False, task="detection"):
    """The lists of ImageSets/Main (Segmentation) that are there: dict list name -> {id: line number}; and findings.

    names: other lists to read than the four of VOC.  new_split: those four are not asked, for they will be made anew.
    """
    sets, findings = {}, []
    files, _ = survey(Path(folder) / "ImageSets" / LABELS[task][3], (".txt",))
    for name in sorted({*SPLITS, *names} & files.keys()):
        if not (new_split and name in SPLITS):
            sets[name], found = survey_ids(files[name])
            findings += found
    return sets, findings


def missing_sets(sets, names, folder, task="detection"):
    """Findings: lists to train with that are not there. They are made when neither train nor val is given."""
    made = [] if "train" in sets or "val" in sets else SPLITS
    sets_folder = Path(folder) / "ImageSets" / LABELS[task][3]
    known = sorted(survey(sets_folder, (".txt",))[0])
    return [Finding("list_missing", sets_folder / f"{name}.txt", None, f"there {'are' if len(known) != 1 else 'is'} only {', '.join(known)}."
                    f"{did_you_mean(name, known)}") for name in dict.fromkeys(names) if name not in sets and name not in made]


def make_sets(folder, usable, sets, trainval_percent=0.9, train_percent=0.9, seed=0, task="detection", stratify=False):
    """Complete the ids of `sets` (dict list name -> ids) with those of the four VOC lists that are not there, made from the usable ids.

    usable: dict id -> Sample; stratify: every class as evenly as possible in all the parts.
    A list that is there is respected and never changed. The new ones are written, an old one that has no place any more is kept as .bak.
    """
    if "train" in sets or "val" in sets:
        return sets                                         # the user's own split, even if it has no test
    given = "trainval" in sets or "test" in sets            # then only the division into train and val is missing
    pool = [stem for stem in sets["trainval"] if stem in usable] if "trainval" in sets else sorted(set(usable) - set(sets.get("test", [])))
    classes = {stem: classes_in(usable[stem].truth) for stem in pool} if stratify else None
    made = make_split(pool, 1 if given else trainval_percent, train_percent, seed, classes)
    sets = dict(sets)
    for name in SPLITS[:3] if given else SPLITS:
        if name not in sets:
            sets[name] = made[name]
            replace_text(Path(folder) / "ImageSets" / LABELS[task][3] / f"{name}.txt", "".join(stem + "\n" for stem in made[name]))
    numbers = ", ".join(f"{name} {len(sets[name])}" for name in SPLITS[1:] if name in sets)
    print(f"{shown(folder)}: a new split is written to ImageSets/{LABELS[task][3]}: {numbers} images")
    return sets


def check_layout(folder, task="detection"):
    """The (images, label files) of a VOC folder, each stem -> path, and findings; label files are xml files or masks. Error when it is
    no such folder: the expected tree with a tick or a cross per part, and the nearest folder found."""
    folder, lines = Path(folder), []
    part, suffixes, kind, sets = LABELS[task]
    (images, findings), (labels, found) = survey(folder / "JPEGImages", SUFFIXES), survey(folder / part, suffixes)
    if images and labels:
        return images, labels, findings + found
    other = "detection" if task == "segmentation" else "segmentation"
    if images and survey(folder / LABELS[other][0], LABELS[other][1])[0]:
        raise UserError(f"{shown(folder)} has {LABELS[other][2]}s ({LABELS[other][0]}) but no {kind}s ({part}): it is a dataset for {other}, "
                        f"not for {task}.", kind="layout")
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
                    + "".join(lines) + pictures_below(folder)
                    + (f"Found nearby: {near}" if near else "No VOC folder was found nearby."), kind="layout")


def pictures_below(folder, most=10_000):
    """A line about images without labels: perhaps somebody only wants to see what a network makes of them."""
    count = sum(name.lower().endswith(SUFFIXES) for _, (_, _, names) in zip(range(most), os.walk(folder)) for name in names)
    if not count or any(path.is_relative_to(folder) for path in nearby_datasets(folder)):
        return ""
    return f"It holds {count} images, but no labels of their objects: label them (LabelImg, labelme), or give them to predict.py.\n"


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
