"""Images and their labels found by name: masks in a folder of their own (CamVid, Cityscapes, images/ and masks/), or VOC xml files beside
the images or in a folder of their own (LabelImg).
"""
from pathlib import Path

from utils.errors import UserError
from utils.foreign import by_stem, class_names, files_below, folder_split, raise_all, readable_size, tell_lost
from utils.images import image_size
from utils.mask_key import CITYSCAPES, KEY_FILES, read_key, translate
from utils.settings import shown
from utils.voc import read_ids, read_lines
from utils.voc_xml import parse_xml
from utils.yolo_format import CLASSES

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "leftimg8bit")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "segmentationclass", "gtfine", "gt", "annot", "labelled", "labels_colored")
MASK_ENDS = ("_labels", "_label", "_masks", "_mask", "annot", "_annot")         # of folders: train_labels beside train
NAME_ENDS = ("_leftimg8bit", "_gtfine_labelids", "_image", "_img", "_mask", "_label", "_labels", "_seg", "_gt", "_l")     # of files


def read_xml_pairs(folder):
    """-> class names, dict list name -> [(image path, objects)], see foreign.py. xml files belong to the image called alike."""
    images = files_below(folder)
    beside, stems = {image.with_suffix(""): image for image in images}, by_stem(images)
    lists, errors, lost, owners = {}, [], [], {}
    for file in files_below(folder, (".xml",)):
        try:
            image = beside.get(file.with_suffix("")) or stems.get(file.stem)
            if image is None:
                several = " (several images are called so)" if file.stem in stems else ""
                raise UserError(f"{shown(file)} has no image {file.stem}{several}: put the image beside it.")
            if image in owners:
                raise UserError(f"{shown(file)} and {shown(owners[image])} both belong to {shown(image)}. Delete one of them.")
            owners[image] = file
            size = readable_size(image, lost)
            if size:
                lists.setdefault(folder_split(image, folder), []).append((image, parse_xml(file, *size)))
        except UserError as error:
            errors.append(str(error))
    raise_all(errors, folder)
    tell_lost(lost, folder)
    if len(owners) < len(images):
        print(f"{shown(folder)}: {len(images) - len(owners)} images have no xml file and are left out")
    known = next((file for file in files_below(folder, CLASSES) if file.name in CLASSES), None)
    found = sorted({thing["name"] for some in lists.values() for _, objects in some for thing in objects})
    named = class_names(read_lines(known), shown(known)) if known else []
    return [*named, *(name for name in found if name not in named)], lists


def split_pairs(folder):
    """The images and masks of a folder by what they are called: images, masks, each dict key -> path."""
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
            raise UserError(f"{shown(path)} and {shown(some[key])} could both be the {'mask' if is_mask else 'image'} {key[-1]}. Rename one of them.")
        some[key] = path
    return images, masks


def has_masks(folder):
    """Whether there are images and masks in folders of these names."""
    images, masks = split_pairs(folder)
    return bool(images.keys() & masks.keys())


def key_file(folder, given=None):
    """The file that says what the masks' colours or numbers mean, or None."""
    if given is not None:
        if not Path(given).is_file():
            raise UserError(f"There is no palette {shown(given)}: a text file with lines like  128,64,128 road  or  7 road")
        return Path(given)
    return next((folder / name for name in KEY_FILES if (folder / name).is_file()), None)


def read_mask_pairs(folder, given=None):
    """-> class names or None, dict list name -> [(image path, mask path)], jobs for made_masks.make_masks or None.

    given: the file of colours or numbers; None: one in the folder, else Cityscapes' own numbers, else the masks hold labels already.
    """
    images, masks = split_pairs(folder)
    pairs = [(images[key], masks[key]) for key in sorted(images.keys() & masks.keys())]
    cityscapes = (folder / "gtFine").is_dir()
    if cityscapes:
        pairs = [pair for pair in pairs if folder_split(pair[0], folder) != "test"]     # the masks of its test images are empty
    if not pairs:
        raise UserError(f"{shown(folder)}: no image has a mask. Found {len(images)} images and {len(masks)} masks (in folders like "
                        f"{', '.join(MASK_FOLDERS[:4])}); image and mask must be called alike.")
    for number, what in ((len(images.keys() - masks.keys()), "images without a mask"), (len(masks.keys() - images.keys()), "masks without an image")):
        if number:
            print(f"{shown(folder)}: {number} {what} are left out")
    lists = own_lists(folder, pairs)
    path = key_file(folder, given)
    if path is None and not cityscapes:
        return None, lists, None
    names, key, of_colours = read_key(path) if path else (list(CITYSCAPES.values()), {v: n for n, v in enumerate(CITYSCAPES)} | {"*": 255}, False)
    if path is None:
        print(f"{shown(folder)}: the 19 classes of Cityscapes; for others write a file mapping.txt with lines like  7 road")
    print(f"What the masks mean, by {shown(path) if path else 'the numbers of Cityscapes'}: {len(key)} "
          f"{'colours' if of_colours else 'numbers'}, {len(names)} classes")
    return names, lists, translation_jobs(pairs, key, of_colours, path)


def translation_jobs(pairs, key, of_colours, path):
    """Jobs for made_masks.make_masks: dict image path -> (fingerprint, function that gives the mask)."""
    jobs, meaning = {}, repr(sorted(key.items(), key=str))
    for image, mask in pairs:
        state = mask.stat()

        def make(image=image, mask=mask):
            labels, size = translate(mask, key, of_colours, path), image_size(image)
            if labels.shape[::-1] != tuple(size):
                raise UserError(f"{shown(mask)} is {labels.shape[1]} x {labels.shape[0]} pixels, but its image is {size[0]} x {size[1]}. "
                                "Export the mask anew, or resize it with nearest neighbour.")
            return labels

        jobs[image] = repr((mask.name, state.st_size, state.st_mtime_ns, meaning)), make
    return jobs


def own_lists(folder, pairs):
    """dict list name -> pairs, by the lists of a VOC folder, else by the names of the folders."""
    sets = folder / "ImageSets" / "Segmentation"
    stems = {image.stem: (image, mask) for image, mask in pairs}
    lists = {name: [stems[stem] for stem in read_ids(sets / f"{name}.txt") if stem in stems] for name in ("train", "val", "test")
             if (sets / f"{name}.txt").is_file()}
    if "train" in lists:
        return lists
    lists = {}
    for pair in pairs:
        lists.setdefault(folder_split(pair[0], folder), []).append(pair)
    return lists
