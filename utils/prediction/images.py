"""Images through an engine: read, found, drawn, saved, said."""
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from utils.depth import saved_range
from utils.errors import UserError
from utils.formats.sweep import range_of_set
from utils.images import HUGE_PIXELS, open_image
from utils.prediction.answers import add_heat, ask, draw_answer, draw_heat, found_in, hint_of, tally
from utils.prediction.counting import Counting
from utils.prediction.pipeline import InOrder, in_batches, read_ahead
from utils.prediction.pseudo_labels import PseudoLabels
from utils.prediction.window import ENDS
from utils.prediction.words import print_record, print_sums
from utils.results import masks, media, sources, tables
from utils.results.address import open_address
from utils.settings import counted, shown
from utils.system.machine import cores

MOST_THREADS = 8                # that read, and as many that draw and save


@dataclass
class Picture:
    """An item that was read, or the error why it was not; fitted: see `Engine.fit_picture`."""

    item: Any
    image: Any = None
    fitted: Any = None
    error: UserError | None = None

    @property
    def pixels(self):
        return 0 if self.error else self.image.shape[0] * self.image.shape[1]

    @property
    def shape(self):
        """Pictures of one shape can be in one batch. None: there is no picture."""
        if self.error:
            return None
        return self.fitted[0].shape if self.fitted else self.image.shape


@dataclass
class Result:
    """A picture that is done: the file it became, and what was found in it, None if it could not be read."""

    picture: Picture
    target: Path
    found: dict | None = None
    labels: Any = None              # (h, w), the class of every pixel
    hint: Any = None
    drawn: Any = None               # to be shown in the window


class Sums:
    """What has become of a run's images."""

    def __init__(self, s, engine, place):
        """place: the folder of the results."""
        self.records = tables.Records() if s.save_json or s.save_csv or s.save_coco else None
        self.labels = PseudoLabels(place, s.save_labels, engine.class_names) if s.save_labels else None
        self.skipped, self.hints, self.total, self.done = [], [], Counter(), 0

    def add(self, result):
        item, image = result.picture.item, result.picture.image
        if result.picture.error:
            self.skipped.append((item, result.picture.error))
            return
        self.done += 1
        self.total += tally(result.found)
        if result.hint:
            self.hints.append(result.hint)

        # What will be written at the end.
        if self.records is not None:
            record = {"file": title_of(item), "width": image.shape[1], "height": image.shape[0]}
            self.records.append(record | result.found)
        if self.labels is not None:
            self.labels.add(item.place, image, result.found, result.labels)


def predict_images(s, engine, items, folders, window):
    """Every image: read, find, draw, save, say. What cannot be read is skipped and named at the end.

    Reading, the network, and drawing with saving overlap, see pipeline.py.
    """
    groups, taken = {item.group for item in items}, set()
    place = folders[items[0].group if len(groups) == 1 else ""]
    sums, several, threads = Sums(s, engine, place), len(items) > 1, count_threads(s, engine)
    bar = tqdm(total=len(items), unit="image", disable=None if several and not s.verbose else True)
    line, began = InOrder(threads), time.monotonic()
    try:
        with bar, closing(answer_all(s, engine, items, threads)) as answered:
            for picture, answer in answered:
                folder = folders[picture.item.group]
                target = target_of(picture.item, folder, taken)
                line.put(finish, s, engine, picture, answer, target, folder)
                for result in line.take(threads):
                    window = say_result(s, sums, result, bar, several, window)
            for result in line.take():
                window = say_result(s, sums, result, bar, several, window)
    finally:
        # Also after Ctrl-C: what was found before it is kept.
        for result in line.rest():
            sums.add(result)
        line.close()
        save_records(s, engine, place, None if several else items[0].name.name, sums)

    if sums.skipped and not sums.done:
        raise UserError(f"None of the {len(items)} images could be read. The first: {sums.skipped[0][1]}")
    if several:
        print_sums(s, engine, sums, place, time.monotonic() - began)


def count_threads(s, engine):
    """How many read, and as many draw and save. A processor that computes the network has few to spare, and
    files that share a name get their numbers one after the other."""
    one = engine.on_cpu or s.crop or s.save_index or s.save_colour or s.save_cut_out or s.heat
    return 1 if one else max(1, min(MOST_THREADS, cores() // 2))


def answer_all(s, engine, items, threads):
    """-> generator of (Picture, the engine's answer) for every item, in their order."""
    files = [item.place for item in items if isinstance(item.place, Path)]
    value_range = range_of_set(files, saved_range(engine.info["settings"]))
    size = s.batch_size or engine.batch

    def read(item):
        return read_picture(engine, item, value_range)

    # In this thread, where the network is.
    def answer(pictures):
        for picture in pictures:
            if picture.pixels > HUGE_PIXELS:
                height, width, _ = picture.image.shape
                tqdm.write(f"{title_of(picture.item)} has {width} x {height} pixels: it takes its time.")
        images, fitted = zip(*((picture.image, picture.fitted) for picture in pictures))
        answers = ask(s, engine, images, fitted if all(fitted) else None)
        if s.heat:
            add_heat(s, engine, images, answers)
        return answers

    with closing(read_ahead(read, items, threads, max(threads, size))) as pictures:
        yield from in_batches(pictures, size, answer)


def read_picture(engine, item, value_range):
    """-> Picture of an item; one that cannot be read holds the error."""
    try:
        with engine.clock("read"):
            image = open_item(item, value_range)
    except UserError as error:
        return Picture(item, error=error)
    return Picture(item, image, engine.fit_picture(image) if engine.task == "detection" else None)


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


def target_of(item, folder, taken):
    """-> the file that an item's result becomes. taken: those that were given away before; it is added.

    A photo stays a .jpg; everything else is saved without loss.
    """
    given = sources.suffix_of(item.place)
    suffix = given if given.lower() in (".jpg", ".jpeg") else ".png"
    target = media.fresh(folder / item.name.parent, item.name.name, suffix, taken)
    taken.add(target)
    return target


def finish(s, engine, picture, answer, target, folder):
    """Draw and save what was found in one picture. -> Result"""
    if picture.error:
        return Result(picture, target)
    item, name = picture.item, picture.item.name
    with engine.clock("draw"):
        found = found_in(engine, answer)
        drawn = draw_answer(s, engine, picture.image, answer, found)
        if s.regions:
            drawn, found = count_regions(s, picture.image, drawn, found)

    # The picture itself, and what was asked for besides.
    with engine.clock("save"):
        media.save_image(target, drawn, item.place if isinstance(item.place, Path) else None)
        if s.crop and "boxes" in found:
            media.save_crops(folder / "crops" / name.parent, name.name, picture.image, found["boxes"])
        if engine.task == "segmentation":
            masks.save_kinds(folder, name, picture.image, answer["labels"], engine.info, index=s.save_index,
                             colour=s.save_colour, cut_out=s.save_cut_out)
        if s.heat:
            page = draw_heat(engine, picture.image, drawn, answer)
            media.save_image(media.fresh(folder / "heat" / name.parent, name.name, ".jpg"), page)
    return Result(picture, target, found, answer.get("labels"), hint_of(engine, answer, found), drawn)


def count_regions(s, image, drawn, found):
    """-> the picture with the regions and their counts, what was found with the counts."""
    counting = Counting(s.regions)
    counting.add(found["boxes"], image.shape[:2])
    return counting.draw(drawn), found | counting.record()


def say_result(s, sums, result, bar, several, window):
    """Add a result to the sums, and say or show it. -> the window, None once it was closed"""
    error = result.picture.error
    if error and not several:
        raise error
    sums.add(result)
    bar.update()
    if error:
        bar.write(f"skipped: {error}")
        return window

    # Of several images the bar and the sums at the end say enough.
    if s.verbose or not several:
        print_record(s, shown(result.target), result.found, None if several else result.hint)
    ended = window and window.show(result.drawn, wait=0) in ENDS
    return None if ended else window


def save_records(s, engine, folder, name, sums):
    """The tables and labels that were asked for. name: of the only image, None where there are several."""
    if sums.records is not None and len(sums.records):
        kind = "boxes" if engine.task == "detection" else "classes"
        for path in tables.save_tables(s, folder, name or kind, sums.records, engine.class_names):
            print(f"{shown(path)}: the {kind} of {counted(len(sums.records), 'image')}")
    if sums.labels is not None and (said := sums.labels.finish()):
        print(said)
