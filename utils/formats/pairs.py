"""Images and their labels found by name: masks in a folder of their own (CamVid, Cityscapes, images/ and
masks/), or VOC xml files beside the images or in a folder of their own (LabelImg).
"""
from collections import defaultdict
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.findings import Finding
from utils.formats.foreign import class_names, files_below, folder_split, pair_split
from utils.formats.image_names import images_named, index_names, other_split
from utils.formats.mask_key import CITYSCAPES, KEY_FILES, read_key, translate
from utils.formats.sweep import look_at_pair, look_at_sample, size_finding, sweep
from utils.formats.voc_folder import set_file, survey_ids
from utils.formats.voc_xml import parse_tree
from utils.formats.yolo_lists import class_files
from utils.images import IGNORED, open_colours, open_mask
from utils.settings import shown
from utils.system.files import printable, read_lines

# How people call the folders and files of images and masks, in small letters.
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "leftimg8bit")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "segmentationclass", "gtfine", "gt",
                "annot", "labelled", "labels_colored")
FOLDER_ENDS = ("_labels", "_label", "_masks", "_mask", "annot", "_annot")       # train_labels beside train
MASK_ENDS = ("_mask", "-mask", "_masks", "_label", "_labels", "_seg", "_gt", "_l")      # beside the image
FILE_ENDS = ("_leftimg8bit", "_gtfine_labelids", "_image", "_img", *MASK_ENDS)
LABEL_FILES = (".xml", ".json", ".txt")
LOOKED_AT = 8                   # pairs that are opened to see which of the two is the mask
FEW_COLOURS = 256               # a mask has no more, a photo has


def read_xml_pairs(folder, findings):
    """-> class names, dict list name -> samples; see foreign.py."""
    images = files_below(folder)
    files = files_below(folder, (".xml",))
    owners = match_xml(images, files, folder, findings)

    lists = {}
    jobs = [("detection", image, file) for image, file in owners.items()]
    looked = sweep(look_at_pair, jobs, f"Checking {shown(folder)}")
    for image, (sample, found) in zip(owners, looked):
        findings += found
        some = lists.setdefault(pair_split(image, owners[image], folder), [])
        some += [sample] if sample else []

    # An image whose xml could not be matched is reported already, by that file.
    told = {file.stem for file in files}
    findings += [Finding("image_without_label", image) for image in images
                 if image not in owners and image.stem not in told]

    # LabelImg keeps a file of class names: their order counts, names found in the labels follow.
    known = next(iter(class_files(folder)), None)
    named = class_names(read_lines(known), shown(known)) if known else []
    found = {thing["name"] for some in lists.values() for sample in some for thing in sample.truth}
    return [*named, *sorted(found - set(named))], lists


def match_xml(images, files, folder, findings):
    """dict image -> its xml file. Findings: an xml without an image, two for one image, two images for it."""
    beside, by_name, index = defaultdict(list), defaultdict(list), index_names(images)
    for image in images:
        beside[image.with_suffix("")].append(image)
        by_name[image.stem].append(image)
    owners = {}

    for file in files:
        # In the same folder first, else the only image of this name anywhere, else the one that it names.
        found = beside[file.with_suffix("")] or by_name[file.stem]
        found = found or images_named(named_in(file), index, folder)
        if len(found) > 1 and found[0].parent == found[1].parent:
            detail = f"{' and '.join(image.name for image in found)} are the same before the suffix"
            findings.append(Finding("stem_twice", file, None, detail))
        elif len(found) != 1:
            several = " (several images have this name)" if found else ""
            detail = f"there is no image {printable(file.stem)}{several}: put it beside the file"
            findings.append(Finding("label_without_image", file, None, detail))
        elif found[0] in owners:
            detail = f"{shown(owners[found[0]])} belongs to {printable(found[0].name)} too"
            findings.append(Finding("label_twice", file, None, detail))
        else:
            owners[found[0]] = file
    return owners


def named_in(file):
    """The <filename> of an xml file, "" without one."""
    try:
        root, _ = parse_tree(file)
    except UserError:
        return ""
    return root.findtext("filename", "").strip()


def split_pairs(folder, findings):
    """The images and masks of a folder by their names: images, masks, each dict key -> path.

    Findings: two files with the same key.
    """
    files = files_below(folder)
    beside = masks_beside(files) if not any(is_mask_folder(path.parent, folder) for path in files) else {}
    images, masks = {}, {}
    for path in files:
        # The folders that tell images from masks are left out of the key, so that the two keys are equal:
        # images/train/a.jpg and masks/train/a.png both become ("train", "a").
        parts = []
        for name in path.relative_to(folder).parts[:-1]:
            if name.lower() not in (*MASK_FOLDERS, *IMAGE_FOLDERS):
                parts.append(name.lower().removesuffix(mask_end(name)))
        is_mask = path in beside or is_mask_folder(path.parent, folder)

        # Cityscapes has more pictures beside each mask, of colours and of instances.
        stem = path.stem
        if is_mask and "_gtFine_" in stem and not stem.endswith("_gtFine_labelIds"):
            continue

        end = next((end for end in FILE_ENDS if stem.lower().endswith(end)), "")
        key = (*parts, stem[:len(stem) - len(end)])
        some = masks if is_mask else images
        if key in some:
            what = f"{'mask' if is_mask else 'image'} {printable(key[-1])}"
            detail = f"it could be the {what}, and so could {shown(some[key])}"
            findings.append(Finding("stem_twice", path, None, detail))
        some.setdefault(key, path)
    match_rest(images, masks, folder)
    return images, masks


def mask_end(name):
    """The end that makes a folder's name that of masks, like train_labels; "" when it has none."""
    return next((end for end in FOLDER_ENDS if name.lower().endswith(end) and name.lower() != end), "")


def is_mask_folder(place, root):
    """Whether a folder, or one between it and root, has a name for masks."""
    return any(name.lower() in MASK_FOLDERS or mask_end(name) for name in place.relative_to(root).parts)


def masks_beside(files):
    """Those of the files that are the masks of others in the same folder: 001_mask.png beside 001.jpg, or
    001.png beside 001.bmp. Which of two with one name is the mask, what is in them tells."""
    named = {path.with_suffix("") for path in files}
    masks, pairs = set(), {}
    for path in files:
        stem = path.stem.lower()
        end = next((end for end in MASK_ENDS if stem.endswith(end) and stem != end), None)
        if end and path.with_name(path.stem[:-len(end)]) in named:
            masks.add(path)
        else:
            pairs.setdefault(path.with_suffix(""), []).append(path)

    # The same name twice, in most of the folder, and no file of labels of that name.
    if masks or not files:
        return masks
    twice = {stem: sorted(pair, key=lambda path: path.suffix.lower()) for stem, pair in pairs.items()
             if len(pair) == 2}
    stems = [stem for stem in twice
             if not any(stem.with_name(stem.name + end).exists() for end in LABEL_FILES)]
    if 2 * len(stems) < len(pairs):
        return set()
    some = [twice[stem] for stem in stems[::-(-len(stems) // LOOKED_AT)]]
    alike = {tuple(is_mask_like(path) for path in pair) for pair in some}
    if alike not in ({(True, False)}, {(False, True)}):
        return set()
    return {twice[stem][alike == {(False, True)}] for stem in stems}


def is_mask_like(path):
    """Whether a picture has as few values or colours as a mask. A lossy one is none."""
    try:
        return len(np.unique(open_mask(path))) <= FEW_COLOURS / 4
    except UserError as error:
        if error.kind != "mask_colour":
            return False
    colours = open_colours(path).reshape(-1, 3).astype(np.int64) @ (65536, 256, 1)
    return len(np.unique(colours)) <= FEW_COLOURS


def match_rest(images, masks, folder):
    """Images and masks whose folders differ, images/all/a.jpg and masks/a.png: in place a mask gets the key
    of the image of its name, if there is only one of each."""
    alone = {}
    for key in images.keys() - masks.keys():
        folders = [name.lower() for name in images[key].relative_to(folder).parts[:-1]]
        if set(folders) & set(IMAGE_FOLDERS):
            alone.setdefault(key[-1], []).append(key)
    others = {}
    for key in masks.keys() - images.keys():
        others.setdefault(key[-1], []).append(key)

    # train/a.jpg is not the image of val/a.png, though nothing else is called a.
    for name in alone.keys() & others.keys():
        (image, *more), (mask, *several) = alone[name], others[name]
        if not more and not several and not other_split(image[:-1], mask[:-1]):
            masks[image] = masks.pop(mask)


def has_masks(folder):
    """Whether there are images and masks in folders of these names, or side by side."""
    images, masks = split_pairs(folder, [])
    return bool(images.keys() & masks.keys())


def key_file(folder, given=None):
    """The file that says what the masks' colours or numbers mean, or None."""
    if given is not None:
        if not Path(given).is_file():
            raise UserError(f"There is no palette {shown(given)}: a text file with lines like  128,64,128 "
                            "road  or  7 road")
        return Path(given)
    return next((folder / name for name in KEY_FILES if (folder / name).is_file()), None)


def read_mask_pairs(folder, findings, given=None):
    """-> class names or None, dict list name -> samples, jobs for made_masks.make_masks or None when the
    samples hold the truth already.

    given: the file of colours or numbers; None: one in the folder, else Cityscapes' own numbers, else the
    masks hold labels already.
    """
    # The masks of Cityscapes' test images are empty.
    images, masks = split_pairs(folder, findings)
    cityscapes = (folder / "gtFine").is_dir()
    if cityscapes:
        images = {key: path for key, path in images.items() if folder_split(path, folder) != "test"}
        masks = {key: path for key, path in masks.items() if folder_split(path, folder) != "test"}

    both = sorted(images.keys() & masks.keys())
    if not both:
        raise UserError(f"{shown(folder)}: no image has a mask. Found {len(images)} images and {len(masks)} "
                        f"masks (in folders like {', '.join(MASK_FOLDERS[:4])}); image and mask "
                        "must have the same name.")
    findings += [Finding("image_without_label", images[key]) for key in sorted(images.keys() - masks.keys())]
    findings += [Finding("label_without_image", masks[key]) for key in sorted(masks.keys() - images.keys())]

    # With a key the masks are translated later; without one they hold class numbers, counted now.
    path = key_file(folder, given)
    names, key, of_colours = read_key(path) if path else cityscapes_key()
    translated = path is not None or cityscapes
    look = look_at_untranslated if translated else look_at_numbers
    looked = sweep(look, [(images[name], masks[name]) for name in both], f"Checking {shown(folder)}")
    findings += [finding for _, found in looked for finding in found]

    samples = {images[name]: sample for name, (sample, _) in zip(both, looked)}
    lists = own_lists(folder, samples, images, findings)
    if not translated:
        return None, lists, None

    if path is None:
        print(f"{shown(folder)}: the 19 classes of Cityscapes; for others write a file mapping.txt with "
              "lines like  7 road")
    print(f"What the masks mean, by {shown(path) if path else 'the numbers of Cityscapes'}: {len(key)} "
          f"{'colours' if of_colours else 'numbers'}, {len(names)} classes")
    used = [sample for some in lists.values() for sample in some]
    return names, lists, translation_jobs(used, key, of_colours, path)


def cityscapes_key():
    """Cityscapes' own numbers, as read_key would return them."""
    key = {value: label for label, value in enumerate(CITYSCAPES)}
    return list(CITYSCAPES.values()), key | {"*": IGNORED}, False


def look_at_numbers(image, mask):
    """-> Sample of an image whose mask holds class numbers, None when one of the two cannot be used;
    findings."""
    return look_at_pair("segmentation", image, mask)


def look_at_untranslated(image, mask):
    """-> Sample of an image whose mask has to be translated first, None when it cannot be used; findings."""
    sample, findings = look_at_sample(image)
    return sample and sample._replace(label=mask), findings


def translation_jobs(samples, key, of_colours, path):
    """Jobs for made_masks.make_masks, see there, that translate masks by a key."""
    jobs, meaning = {}, repr(sorted(key.items(), key=str))
    for image, mask, size, *_ in samples:
        def make(size=size, mask=mask):
            labels = translate(mask, key, of_colours, path)
            for finding in size_finding(mask, labels.shape[::-1], size):
                raise UserError(finding.detail, kind=finding.kind)
            return labels

        # Another mask file or another key: the mask is made again.
        state = mask.stat()
        fingerprint = repr((mask.name, state.st_size, state.st_mtime_ns, meaning))
        jobs[image] = mask, fingerprint, make
    return jobs


def own_lists(folder, samples, images, findings):
    """dict list name -> samples, by the lists of a VOC folder, else by the names of the folders.

    samples: dict image path -> Sample, or None.  images: dict of all of them, key -> path.
    Findings: names in a list that have no pair.
    """
    lists = {}
    stems = {image.stem: image for image in samples}
    alone = {image.stem for image in images.values()}       # some of them have no mask

    for name in ("train", "val", "test"):
        path = set_file(folder, name, "segmentation")
        if path.is_file():
            ids, found = survey_ids(path, alone)
            findings += found
            lists[name] = [stems[stem] for stem in ids if stem in stems]
            for stem, line in ids.items():
                if stem not in stems:
                    kind = "list_no_label" if stem in alone else "list_no_image"
                    findings.append(Finding(kind, path, line, printable(stem)))

    # Without a train list these lists are useless: then the folders say what is for training.
    if "train" in lists:
        lists["all"] = sorted(samples.keys() - {image for some in lists.values() for image in some})
    else:
        lists = {}
        for image in samples:
            split = folder_split(image, folder)
            if samples[image]:
                split = pair_split(image, samples[image].label, folder)
            lists.setdefault(split, []).append(image)
    return {name: [samples[image] for image in some if samples[image]] for name, some in lists.items()}
