"""Images and their labels found by name: masks in a folder of their own (CamVid, Cityscapes, images/ and masks/), or VOC xml files beside
the images or in a folder of their own (LabelImg).
"""
from pathlib import Path

from utils.errors import UserError
from utils.findings import Finding
from utils.formats.foreign import by_stem, class_names, files_below, folder_split
from utils.formats.mask_key import CITYSCAPES, KEY_FILES, read_key, translate
from utils.formats.sweep import look_at_pair, look_at_sample, size_finding, sweep
from utils.formats.voc_folder import survey_ids
from utils.formats.yolo import CLASSES
from utils.settings import shown
from utils.system.files import printable, read_lines

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "leftimg8bit")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "segmentationclass", "gtfine", "gt", "annot", "labelled", "labels_colored")
MASK_ENDS = ("_labels", "_label", "_masks", "_mask", "annot", "_annot")         # of folders: train_labels beside train
NAME_ENDS = ("_leftimg8bit", "_gtfine_labelids", "_image", "_img", "_mask", "_label", "_labels", "_seg", "_gt", "_l")     # of files


def read_xml_pairs(folder, findings):
    """-> class names, dict list name -> samples, see foreign.py. xml files belong to the image called alike."""
    images, files = files_below(folder), files_below(folder, (".xml",))
    beside, stems = {image.with_suffix(""): image for image in images}, by_stem(images)
    owners, told = {}, {file.stem for file in files}
    for file in files:
        image = beside.get(file.with_suffix("")) or stems.get(file.stem)
        if image is None:
            several = " (several images are called so)" if file.stem in stems else ""
            findings.append(Finding("label_without_image", file, None, f"there is no image {printable(file.stem)}{several}: put it beside the file"))
        elif image in owners:
            findings.append(Finding("label_twice", file, None, f"{shown(owners[image])} belongs to {printable(image.name)} too"))
        else:
            owners[image] = file
    lists = {}
    looked = sweep(look_at_pair, [("detection", *pair) for pair in owners.items()], f"Checking {shown(folder)}")
    for image, (sample, found) in zip(owners, looked):
        findings += found
        some = lists.setdefault(folder_split(image, folder), [])
        some += [sample] if sample else []
    findings += [Finding("image_without_label", image) for image in images if image not in owners and image.stem not in told]
    known = next((file for file in files_below(folder, CLASSES) if file.name in CLASSES), None)
    found = sorted({thing["name"] for some in lists.values() for sample in some for thing in sample.truth})
    named = class_names(read_lines(known), shown(known)) if known else []
    return [*named, *(name for name in found if name not in named)], lists


def split_pairs(folder, findings):
    """The images and masks of a folder by what they are called: images, masks, each dict key -> path; findings: two are called alike."""
    images, masks = {}, {}
    for path in files_below(folder):
        parts, is_mask = [], False
        for part in path.relative_to(folder).parts[:-1]:
            low = part.lower()
            end = next((end for end in MASK_ENDS if low.endswith(end) and low != end), "")
            is_mask |= low in MASK_FOLDERS or bool(end)
            parts += [] if low in (*MASK_FOLDERS, *IMAGE_FOLDERS) else [low.removesuffix(end)]
        stem = path.stem
        if is_mask and "_gtFine_" in stem and not stem.endswith("_gtFine_labelIds"):
            continue                                        # Cityscapes' other pictures: colours, instances
        end = next((end for end in NAME_ENDS if stem.lower().endswith(end)), "")
        some, key = masks if is_mask else images, (*parts, stem[:len(stem) - len(end)])
        if key in some:
            findings.append(Finding("stem_twice", path, None, f"it could be the {'mask' if is_mask else 'image'} {printable(key[-1])}, and so could "
                                    f"{shown(some[key])}"))
        some.setdefault(key, path)
    return images, masks


def has_masks(folder):
    """Whether there are images and masks in folders of these names."""
    images, masks = split_pairs(folder, [])
    return bool(images.keys() & masks.keys())


def key_file(folder, given=None):
    """The file that says what the masks' colours or numbers mean, or None."""
    if given is not None:
        if not Path(given).is_file():
            raise UserError(f"There is no palette {shown(given)}: a text file with lines like  128,64,128 road  or  7 road")
        return Path(given)
    return next((folder / name for name in KEY_FILES if (folder / name).is_file()), None)


def read_mask_pairs(folder, findings, given=None):
    """-> class names or None, dict list name -> samples, jobs for made_masks.make_masks; None: the samples hold the truth already.

    given: the file of colours or numbers; None: one in the folder, else Cityscapes' own numbers, else the masks hold labels already.
    """
    images, masks = split_pairs(folder, findings)
    cityscapes = (folder / "gtFine").is_dir()
    if cityscapes:                                          # the masks of its test images are empty
        images, masks = ({key: path for key, path in some.items() if folder_split(path, folder) != "test"} for some in (images, masks))
    both = sorted(images.keys() & masks.keys())
    if not both:
        raise UserError(f"{shown(folder)}: no image has a mask. Found {len(images)} images and {len(masks)} masks (in folders like "
                        f"{', '.join(MASK_FOLDERS[:4])}); image and mask must be called alike.")
    findings += [Finding("image_without_label", images[key]) for key in sorted(images.keys() - masks.keys())]
    findings += [Finding("label_without_image", masks[key]) for key in sorted(masks.keys() - images.keys())]
    path = key_file(folder, given)
    names, key, of_colours = read_key(path) if path else (list(CITYSCAPES.values()), {v: n for n, v in enumerate(CITYSCAPES)} | {"*": 255}, False)
    made = path is not None or cityscapes
    looked = sweep(look_at_uncounted if made else look_at_numbers, [(images[name], masks[name]) for name in both], f"Checking {shown(folder)}")
    findings += [finding for _, found in looked for finding in found]
    lists = own_lists(folder, {images[name]: sample for name, (sample, _) in zip(both, looked)}, images, findings)
    if not made:
        return None, lists, None
    if path is None:
        print(f"{shown(folder)}: the 19 classes of Cityscapes; for others write a file mapping.txt with lines like  7 road")
    print(f"What the masks mean, by {shown(path) if path else 'the numbers of Cityscapes'}: {len(key)} "
          f"{'colours' if of_colours else 'numbers'}, {len(names)} classes")
    return names, lists, translation_jobs([sample for some in lists.values() for sample in some], key, of_colours, path)


def look_at_numbers(image, mask):
    return look_at_pair("segmentation", image, mask)


def look_at_uncounted(image, mask):
    """-> Sample of an image whose mask has to be translated first, None when the image cannot be used; findings."""
    sample, findings = look_at_sample(image)
    return sample and sample._replace(label=mask), findings


def translation_jobs(samples, key, of_colours, path):
    """Jobs for made_masks.make_masks: dict image path -> (mask path, fingerprint, function that gives the mask)."""
    jobs, meaning = {}, repr(sorted(key.items(), key=str))
    for image, mask, size, *_ in samples:
        state = mask.stat()

        def make(size=size, mask=mask):
            labels = translate(mask, key, of_colours, path)
            for finding in size_finding(mask, labels.shape[::-1], size):
                raise UserError(finding.detail, kind=finding.kind)
            return labels

        jobs[image] = mask, repr((mask.name, state.st_size, state.st_mtime_ns, meaning)), make
    return jobs


def own_lists(folder, samples, images, findings):
    """dict list name -> samples, by the lists of a VOC folder, else by the names of the folders. Findings: names in a list that have no pair.

    samples: dict image path -> Sample, or None.  images: dict of all of them, key -> path.
    """
    sets, lists = folder / "ImageSets" / "Segmentation", {}
    stems, alone = {image.stem: image for image in samples}, {image.stem for image in images.values()}
    for path in [sets / f"{name}.txt" for name in ("train", "val", "test")]:
        if path.is_file():
            ids, found = survey_ids(path)
            lists[path.stem] = [stems[stem] for stem in ids if stem in stems]
            findings += found + [Finding("list_no_label" if stem in alone else "list_no_image", path, line, printable(stem))
                                 for stem, line in ids.items() if stem not in stems]
    if "train" in lists:
        lists["all"] = sorted(samples.keys() - {image for some in lists.values() for image in some})
    else:
        lists = {}
        for image in samples:
            lists.setdefault(folder_split(image, folder), []).append(image)
    return {name: [samples[image] for image in some if samples[image]] for name, some in lists.items()}
