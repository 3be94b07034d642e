"""Images through an engine: found, drawn, saved, said."""
from collections import Counter
from pathlib import Path

from utils.depth import saved_range
from utils.errors import UserError
from utils.formats.sweep import range_of_set
from utils.images import HUGE_PIXELS, open_image
from utils.prediction.answers import find_objects, find_regions, tally
from utils.prediction.words import print_count, print_record
from utils.results import masks, media, sources
from utils.results.address import open_address
from utils.settings import counted, shown

NAMED = 10                  # skipped files that are named at the end


def predict_images(s, engine, items, folders, window):
    """Every image: find, draw, save, print. What cannot be read is skipped and named at the end."""
    records, skipped, total = [], [], Counter()
    files = [item.place for item in items if isinstance(item.place, Path)]
    value_range = range_of_set(files, saved_range(engine.info["settings"]))
    try:
        for item in items:
            try:
                image = open_item(item, value_range)
            except UserError as error:
                if len(items) == 1:
                    raise
                print(f"skipped: {error}")
                skipped.append((item, error))
                continue
            if image.shape[0] * image.shape[1] > HUGE_PIXELS:
                print(f"{title_of(item)} has {image.shape[1]} x {image.shape[0]} pixels: it takes its time.")
            picture, found = predict_image(s, engine, image, item, folders[item.group])
            record = {"file": title_of(item), "width": image.shape[1], "height": image.shape[0]}
            records.append(record | found)
            total += tally(found)
            window = window and media.show_image(picture, 0)
    finally:
        # Also after Ctrl-C: what was found before it is kept.
        groups = {item.group for item in items}
        place = folders[items[0].group if len(groups) == 1 else ""]
        if records:
            save_records(s, place, items[0].name.name if len(items) == 1 else None, records)

    if skipped and not records:
        raise UserError(f"None of the {len(items)} images could be read. The first: {skipped[0][1]}")
    if len(items) > 1:
        names = [Path(item.place).name for item, _ in skipped]
        which = ", ".join(names[:NAMED]) + " ..." * (len(names) > NAMED)
        print(f"{counted(len(records), 'image')}, {len(skipped)} skipped{': ' + which if skipped else ''}. "
              f"Results: {shown(place)}")
        print_count(s, "all images", engine.task, total)


def open_item(item, value_range=None):
    """-> the picture of an item, (h, w, 3) uint8 RGB. value_range: see utils.images.open_image."""
    if not isinstance(item.place, Path):
        return open_address(item.place)
    try:
        return open_image(item.place, value_range)
    except UserError as error:
        known = item.place.suffix.lower() in sources.SUFFIXES
        raise error if known else UserError(f"{error} If it is a video, say mode=video.") from None


def title_of(item):
    """Path or address of an item, as it is shown."""
    return shown(item.place) if isinstance(item.place, Path) else item.place


def predict_image(s, engine, image, item, folder):
    """One image: find, draw, save, print. -> picture with the result drawn on it,
    what was found as the .json has it."""
    look_for = find_regions if engine.task == "segmentation" else find_objects
    picture, found, note, labels = look_for(s, engine, image)

    # A photo stays a .jpg; everything else is saved without loss.
    name, given = item.name, sources.suffix_of(item.place)
    suffix = given if given.lower() in (".jpg", ".jpeg") else ".png"
    target = media.fresh(folder / name.parent, name.name, suffix)
    media.save_image(target, picture, item.place if isinstance(item.place, Path) else None)
    print_record(s, shown(target), found, note)

    if s.crop and "boxes" in found:
        media.save_crops(folder / "crops" / name.parent, name.name, image, found["boxes"])
    if labels is not None:
        masks.save_kinds(folder, name, image, labels, engine.info, index=s.save_index, colour=s.save_colour,
                         cut_out=s.save_cut_out)
    return picture, found


def save_records(s, folder, name, records):
    """The .json and .csv that were asked for. name: of the only image, None where there are several."""
    kind = "boxes" if "boxes" in records[0] else "classes"
    for wanted, save in ((s.save_json, media.save_json), (s.save_csv, media.save_csv)):
        if wanted:
            written = save(folder, name or kind, records)
            print(f"{shown(written)}: the {kind} of {counted(len(records), 'image')}")
