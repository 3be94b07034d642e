"""A VOC folder on the disk: is it one, and which of its images are for training, validation and testing."""
import contextlib
import hashlib
import json
import os
import random
import re
from collections import Counter, defaultdict
from pathlib import Path

from utils import settings
from utils.errors import UserError, did_you_mean
from utils.findings import Finding, as_error
from utils.formats.sniff import what_lies_there
from utils.formats.stratify import classes_in, deal_evenly
from utils.images import SUFFIXES
from utils.lists import PREPARED, prepared_folder
from utils.settings import as_listed, find, printable, shown
from utils.system.files import read_bytes, read_lines, read_record, replace_text

SPLITS = ("trainval", "train", "val", "test")
# What folders and files are called in datasets -> our name of the list.
SPLIT_NAMES = {"train": "train", "training": "train",
               "val": "val", "valid": "val", "validation": "val", "dev": "val",
               "test": "test", "testing": "test"}
# task -> folder of the labels, their suffixes, what one is called, folder of the lists in ImageSets
LABELS = {"detection": ("Annotations", (".xml",), "xml file", "Main"),
          "segmentation": ("SegmentationClass", (".png",), "mask", "Segmentation")}
RECORD = "made_for.json"        # beside a made split: of which dataset, with which lists of its own


def survey(folder, suffixes, below=False):
    """stem -> path, sorted, of the files with one of the suffixes in any case; findings about names.

    The stem is everything before the last dot, without spaces at its ends, because a line of a list cannot
    hold those. Hidden files are no data.
    below: in the folders of this folder too; their stems begin with the names of these folders, as sub/a.
    Findings: what is no file, a stem twice (the first file is used), a stem not allowed in a list.
    """
    known = names_in(str(folder), suffixes, below)
    findings = [Finding("no_file", Path(folder, name)) for name in sorted(known) if not known[name]]

    # The stem is what image, label and list have in common, so it must be there once.
    files = {}
    for name in sorted(name for name, readable in known.items() if readable):
        path, stem = Path(folder, name), os.path.splitext(name)[0].strip()
        if not all(is_plain(part) for part in stem.split("/")):
            findings.append(Finding("bad_name", path))
        elif stem in files:
            detail = f"{files[stem].name} is the same before the suffix"
            findings.append(Finding("stem_twice", path, None, detail))
        else:
            files[stem] = path
    return files, findings


def names_in(folder, suffixes, below, seen=()):
    """The names in a folder with one of the suffixes, with / for those in folders of it -> whether it can be
    read to its end: no folder, pipe or device, no link to nowhere.

    seen: the folders on the way here, so that links in a circle come to an end.
    """
    # scandir knows what is a file without asking the disk again: much faster for 100,000 images.
    names, seen = {}, (*seen, os.path.realpath(folder))
    with os.scandir(folder) if os.path.isdir(folder) else contextlib.nullcontext(()) as entries:
        for entry in entries:
            if entry.name.startswith((".", "__")):
                continue
            if below and is_kind(entry.is_dir) and os.path.realpath(entry.path) not in seen:
                inside = names_in(entry.path, suffixes, below, seen)
                names |= {f"{entry.name}/{name}": readable for name, readable in inside.items()}
            elif entry.name.lower().endswith(suffixes):
                names[entry.name] = is_kind(entry.is_file)
    return names


def is_kind(ask):
    """What a question about an entry of scandir says; a link to itself is nothing at all."""
    try:
        return ask()
    except OSError:
        return False


def find_images(folder):
    """stem -> path of the images of a folder, see `survey`.

    Errors: its findings, but for names behind which is no file.
    """
    files, findings = survey(folder, SUFFIXES)
    for finding in findings:
        if finding.kind != "no_file":
            raise as_error(finding)
    return files


def is_plain(name):
    """Whether this can be the name of an image without its suffix; a list from a stranger must not lead out
    of the folder."""
    return name not in ("", ".", "..") and not re.search(r"[/\\\x00-\x1f\x7f\ud800-\udfff]", name) \
        and not has_drive(name)


def has_drive(name):
    """Whether a colon in a name makes it a place on Windows: C:a.jpg. Elsewhere 10:30.jpg is a name."""
    return bool(re.match("[A-Za-z]:", name)) or os.name == "nt" and ":" in name


def survey_ids(path, known=()):
    """The ids of an ImageSets list in its order, id -> number of its first line. known: those that exist.

    Findings: lines that are no plain names.
    """
    ids, findings, bare = {}, [], Counter(bare_name(stem) for stem in known)
    only = {bare_name(stem): stem for stem in known if bare[bare_name(stem)] == 1}
    for number, line in enumerate(read_lines(path), 1):
        meant = meant_id(line, known, only)
        if meant or line and is_plain(line):
            ids.setdefault(meant or line, number)
        elif line:
            findings.append(Finding("list_name", Path(path), number, f"{line[:80]!r}"))
    return ids, findings


def bare_name(stem):
    """sub/a -> a."""
    return stem.rpartition("/")[2]


def meant_id(line, known, only):
    """The id that a line of a list means, without what some programs write around it; None without one.

    JPEGImages/a.jpg, C:\\data\\a.jpg, a.xml, and "a  1" or "a -1", which say whether a class is in the image.
    known: the ids that exist.  only: bare name -> the only id that ends so.
    """
    for word in (line, re.sub(r"\s+(-1|0|1)$", "", line)):
        if word in known:
            return word

        # From the whole path to its last part, each with and without a suffix.
        parts = [part for part in re.split(r"[/\\]+", word) if part]
        for start in range(len(parts)):
            name = "/".join(parts[start:])
            stem, suffix = os.path.splitext(name)
            for one in (name, stem) if suffix.lower() in (*SUFFIXES, ".xml") else (name,):
                if one in known:
                    return one
                if len(parts) == 1 and one in only:
                    return only[one]
    return None


def read_ids(path):
    """The ids of an ImageSets list, in its order, each once. Errors: one that is not a plain name."""
    ids, findings = survey_ids(path)
    if findings:
        raise as_error(findings[0])
    return list(ids)


def share(n, fraction, least=1):
    """How many of n are in the first part: at least `least`, and one less than n unless fraction is 1."""
    if fraction == 1 or n <= least:
        return n
    return min(max(round(n * fraction), least), n - 1)


def make_split(stems, trainval_percent=0.9, train_percent=0.9, seed=0, classes=None):
    """Deal the names out: dict trainval, train, val, test -> sorted names. The order of `stems` is free.

    trainval_percent: share of all that is not test.  train_percent: share of those that is train.
    1 means all.
    classes: dict name -> the classes in that image; then every class comes as evenly as possible into train,
    val and test. train, val and test have no name in common. Each has at least one name if there are three
    (of two names none is for val, a single one is for train).
    """
    for name, value in (("trainval_percent", trainval_percent), ("train_percent", train_percent)):
        if not 0 < value <= 1:
            raise UserError(f"{name}={value}: expected a share above 0 and at most 1, like 0.9.")

    # Sorted before the shuffle: the split depends on the seed alone, not on the order of the disk.
    stems = sorted(stems)
    random.Random(seed).shuffle(stems)
    least = 2 if len(stems) > 2 and train_percent < 1 else 1            # one for train, one for val
    trainval = stems[:share(len(stems), trainval_percent, least)]
    train = trainval[:share(len(trainval), train_percent)]
    val = trainval[len(train):]
    test = stems[len(trainval):]

    # The evenly dealt parts have the same sizes as those drawn at random.
    if classes is not None:
        sizes = [len(train), len(val), len(test)]
        train, val, test = deal_evenly({stem: classes[stem] for stem in stems}, sizes, seed)
        trainval = train + val
    return {name: sorted(part) for name, part in zip(SPLITS, (trainval, train, val, test))}


def own_set_files(folder, task="detection"):
    """list name -> file of the user's lists in ImageSets/Main (Segmentation), else in ImageSets.

    Train.txt and Validation.txt are lists train and val, as long as there are no files of these names.
    """
    place = Path(folder) / "ImageSets"
    files = survey(place / LABELS[task][3], (".txt",))[0] or survey(place, (".txt",))[0]
    for stem, path in list(files.items()):
        name = SPLIT_NAMES.get(stem.lower(), stem.lower())
        if name in SPLITS:
            files.setdefault(name, path)
    return files


def set_files(folder, task="detection"):
    """list name -> its file: the user's own in ImageSets, and over them those of a split that was made.

    A made split counts when it is whole and the user's own lists are those that it was made beside.
    """
    own = own_set_files(folder, task)
    place = made_folder(folder, task)
    made, record = survey(place, (".txt",))[0], read_record(place / RECORD)
    whole = record.get("own") == digest_of_lists(own) and record.get("made") == digest_of_lists(made)
    return own | made if whole else own


def set_file(folder, name, task="detection"):
    """The file of one list; where there is none, that which the user would write."""
    own = Path(folder) / "ImageSets" / LABELS[task][3] / f"{name}.txt"
    return set_files(folder, task).get(name, own)


def made_folder(folder, task):
    """Where the split that is made for a folder is kept: in the repository, for the data may be read-only."""
    return prepared_folder(folder) / "ImageSets" / LABELS[task][3]


def digest_of_lists(files):
    """A word that changes with the four lists of VOC. files: list name -> path."""
    return digest_of_texts({name: read_bytes(files[name]).decode("utf-8", "replace")
                            for name in SPLITS if name in files})


def digest_of_texts(texts):
    """The same of what they hold. texts: list name -> text."""
    digest = hashlib.sha256()
    for name in SPLITS:
        if name in texts:
            digest.update(f"{name}\n{texts[name]}".encode("utf-8", "replace"))
    return digest.hexdigest()


def read_sets(folder, names=(), new_split=False, task="detection", known=()):
    """The lists of ImageSets/Main (Segmentation) that exist: dict list name -> {id: line}; and findings.

    names: lists to read besides the four of VOC.  new_split: those four are not read but made again later.
    known: the ids that exist.
    """
    sets, findings = {}, []
    files = set_files(folder, task)
    for name in sorted({*SPLITS, *names} & files.keys()):
        if not (new_split and name in SPLITS):
            sets[name], found = survey_ids(files[name], known)
            findings += found
    return sets, findings


def missing_sets(sets, names, folder, task="detection"):
    """Findings: missing lists to train with. Without train and val the four of VOC are made."""
    made = [] if "train" in sets or "val" in sets else SPLITS
    sets_folder = Path(folder) / "ImageSets" / LABELS[task][3]
    known = sorted(set_files(folder, task))
    there = f"the lists here are: {', '.join(known)}."

    findings = []
    for name in dict.fromkeys(names):
        if name not in sets and name not in made:
            detail = there + did_you_mean(name, known)
            findings.append(Finding("list_missing", sets_folder / f"{name}.txt", None, detail))
    return findings


def make_sets(folder, usable, sets, trainval_percent=0.9, train_percent=0.9, seed=0, task="detection",
              stratify=False, new_split=False):
    """Complete the ids of `sets` (dict list name -> ids) with the missing ones of the four VOC lists, made
    from the usable ids.

    usable: dict id -> Sample; stratify: every class as evenly as possible in all the parts.
    new_split: not one that was made for these data at another place.
    The user's lists are never changed: the new ones are kept in the repository; one of them that is replaced
    is kept as .bak.
    """
    # The user's own split is used as it is, even if it has no test.
    if "train" in sets or "val" in sets:
        return sets

    # With a trainval or a test list only the division into train and val is missing.
    given = "trainval" in sets or "test" in sets
    if "trainval" in sets:
        pool = [stem for stem in sets["trainval"] if stem in usable]
    else:
        pool = sorted(set(usable) - set(sets.get("test", [])))
    missing = [name for name in (SPLITS[:3] if given else SPLITS) if name not in sets]
    made = None if new_split else split_of_moved(folder, pool, missing, task)
    what = "the split from where these images were before"
    if made is None:
        what = "a new split"
        classes = {stem: classes_in(usable[stem].truth) for stem in pool} if stratify else None
        made = make_split(pool, 1 if given else trainval_percent, train_percent, seed, classes)

    sets = sets | {name: made[name] for name in missing}
    place = write_split(folder, {name: made[name] for name in missing}, task)
    counts = ", ".join(f"{name} {len(sets[name])}" for name in SPLITS[1:] if name in sets)
    print(f"{shown(folder)}: {what} is written to {shown(place)}: {counts} images")
    return sets


def write_split(folder, made, task):
    """Keep a split, dict list name -> ids. -> its folder."""
    place = made_folder(folder, task)
    texts = {name: "".join(stem + "\n" for stem in stems) for name, stems in made.items()}
    for name, text in texts.items():
        replace_text(place / f"{name}.txt", text)

    # Lists that are not those of the record do not count: a split that is cut off half-way is made again.
    record = {"dataset": printable(as_listed(find(folder).resolve())),
              "own": digest_of_lists(own_set_files(folder, task)), "made": digest_of_texts(texts)}
    replace_text(place / RECORD, json.dumps(record) + "\n")
    return place


def split_of_moved(folder, pool, names, task):
    """The lists of these names that were made when the data were at another place, which is gone; else None.

    A dataset that was moved or renamed keeps its split: what was learnt from must not become what is tested
    on. They are the same data when every name of those lists is there, and most of the names are in them.
    """
    pool = set(pool)
    for file in sorted(settings.kept("").glob(f"{PREPARED}/*/ImageSets/{LABELS[task][3]}/{RECORD}")):
        former = read_record(file).get("dataset")
        lists = survey(file.parent, (".txt",))[0]
        if not isinstance(former, str) or find(former).exists() or not set(names) <= lists.keys():
            continue
        made = {name: list(survey_ids(lists[name])[0]) for name in names}
        used = {stem for stems in made.values() for stem in stems}
        if used and used <= pool and 2 * len(used) >= len(pool):
            return made
    return None


def check_layout(folder, task="detection"):
    """The images and label files (xml files or masks) of a VOC folder, each stem -> path, and findings.

    Error when it is no such folder: the expected tree with a tick or a cross per part, and where to look.
    """
    folder = Path(folder)
    part, suffixes, kind, _ = LABELS[task]
    images, findings = survey(folder / "JPEGImages", SUFFIXES, below=True)
    labels, found = survey(folder / part, suffixes, below=True)
    if images and labels:
        return images, with_bare_names(images, labels), findings + found

    # A good folder, but for the other task?
    other = "detection" if task == "segmentation" else "segmentation"
    other_part, other_suffixes, other_kind, _ = LABELS[other]
    if images and survey(folder / other_part, other_suffixes, below=True)[0]:
        raise UserError(f"{shown(folder)} has {other_kind}s ({other_part}) but no {kind}s ({part}): it is a "
                        f"dataset for {other}, not for {task}.", kind="layout")

    # Beginners meet this error first: it shows what is missing, and where a good folder might be.
    what = "is not a VOC folder" if folder.is_dir() else "does not exist"
    near = ", ".join(f'dataset = "{shown(path)}"' for path in nearby_datasets(folder)[:3])
    advice = f"Found nearby: {near}" if near else "No VOC folder was found nearby."

    # Labels of another program, or none: then somebody perhaps wants to see what a network detects there.
    below = any(path.is_relative_to(folder) for path in nearby_datasets(folder))
    seen = "" if below or not folder.is_dir() else what_lies_there(folder)
    raise UserError(f"{shown(folder)} {what}. Expected:\n  {shown(folder)}\n"
                    f"{tree_of(folder, images, labels, task)}{seen}{advice}", kind="layout")


def with_bare_names(images, labels):
    """The labels by the stems of their images: where only images or only labels are in folders of their own,
    as sub/a, the last part of the name counts, if it is there once."""
    alone, lonely = images.keys() - labels.keys(), labels.keys() - images.keys()
    owners, count = defaultdict(list), Counter(bare_name(stem) for stem in lonely)
    for stem in alone:
        owners[bare_name(stem)].append(stem)

    # Both without a partner, and each the only one of its name.
    found = {}
    for stem, path in labels.items():
        name = bare_name(stem)
        only = owners[name][0] if count[name] == len(owners[name]) == 1 else ""
        bare = only and (stem == name or only == name)
        found[only if stem in lonely and bare else stem] = path
    return found


def tree_of(folder, images, labels, task):
    """The lines of an error: each part of a VOC folder and whether it is there."""
    part, _, kind, sets = LABELS[task]
    kinds = "masks (.png)" if kind == "mask" else f"{kind}s"
    lines = []
    for name, what, files in (("JPEGImages", "images", images), (part, kinds, labels)):
        # A folder with files of another kind was probably filled by another program.
        if files:
            state = f"✓ {len(files)} {what}"
        elif (folder / name).is_dir():
            state = f"✗ no {what} in it"
            for suffix, count in count_suffixes(folder / name).most_common(1):
                state += f", but {count} {suffix} files"
        else:
            state = f"✗ there is no such folder.{did_you_mean(name, subfolders(folder))}"
        lines.append(f"    {name:<24}{state}\n")

    state = "✓" if (folder / "ImageSets" / sets).is_dir() else "- missing; a split is made then"
    return "".join([*lines, f"    {f'ImageSets/{sets}':<24}{state}\n"])


def count_suffixes(folder):
    """Counter of the suffixes of the files in a folder."""
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    return Counter(path.suffix.lower() for path in files)


def subfolders(folder):
    """The names of the folders in a folder, sorted; none where it cannot be read."""
    try:
        return sorted(path.name for path in folder.iterdir()
                      if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []


def nearby_datasets(folder):
    """VOC folders around `folder`, which may be a level off or misspelled; similar names first."""
    above = [folder, *folder.parents[:2]]
    found = [path for path in above[1:] if (path / "JPEGImages").is_dir()]
    for start in above:
        level = [] if found else [start]
        for _ in range(4):
            found += [path for path in level if path != folder and (path / "JPEGImages").is_dir()]
            level = [path / name for path in level for name in subfolders(path)]
            level = level[:500]                             # enough for datasets, little of a home folder
    return sorted(found, key=lambda path: not did_you_mean(folder.name, [path.name]))
