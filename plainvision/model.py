"""PlainVision: a trained network that is asked about pictures."""
from pathlib import Path

import numpy as np
from PIL import Image

from plainvision.found import Found
from plainvision.utils.depth import saved_range
from plainvision.utils.errors import UserError
from plainvision.utils.formats.sweep import range_of_set
from plainvision.utils.images import open_image, to_rgb
from plainvision.utils.peers import what_is_meant
from plainvision.utils.prediction.answers import ask
from plainvision.utils.prediction.engine import open_engine
from plainvision.utils.results import masks, sources
from plainvision.utils.results.address import open_address
from plainvision.utils.results.filters import check_filters
from plainvision.utils.results.video import VideoSource
from plainvision.utils.settings import Settings, check, check_type, number, optional, shown, whole

# Named and meant as in predict.py.
DEFAULTS = {
    "net": "", "net_options": {}, "input_shape": None, "fit": None, "device": "auto", "amp": None,
    "confidence": None, "class_confidence": {}, "classes": None, "nms": "hard", "nms_iou": None,
    "agnostic_nms": False, "max_boxes": 100, "max_per_class": None, "line_width": None, "show_labels": True,
    "opacity": 0.6, "threshold": None, "slide": False, "scales": (1.0,), "flip": False, "tiles": None,
    "tile_overlap": 0.2}


class PlainVision:
    """A trained network. Called with a picture it says what is in it."""

    def __init__(self, model="", **settings):
        """model: best.pth, an .onnx file, official weights (with net="ssd300" or the like); "": the newest
        training's.  settings: those of predict.py, like confidence=0.5.

        Error: UserError, with a sentence that says what to do.
        """
        s = Settings({"model_path": here(model), **DEFAULTS}, "plainvision")
        for name, value in settings.items():
            if name not in s:
                raise UserError(f'PlainVision has no "{name}"{what_is_meant(name, s, repr(value))} '
                                "Its settings are those of predict.py.")
            s.put(name, check_type(name, value, getattr(s, name)), "PlainVision(...)")
        check(s, confidence=optional(number(0, 1)), nms_iou=optional(number(0, 1)), max_boxes=whole(1),
              max_per_class=optional(whole(1)), line_width=optional(whole(1)))

        # Opened once; asked as often as one likes.
        self.engine, self.settings = open_engine(s), s
        self.task, self.class_names = self.engine.task, self.engine.class_names
        if self.task == "detection":
            check_filters(s, self.class_names)
        self.value_range = saved_range(self.engine.info["settings"])

    def __call__(self, source):
        """source: a picture, as an array (h, w, 3) uint8 RGB, a Pillow image, a path or an address -> Found.

        A list or tuple of pictures -> a list of Found. A folder, a pattern like "photos/*.jpg", a video, a
        camera (its number) or a stream -> an iterator of Found, one picture or frame after the other.
        """
        if isinstance(source, (np.ndarray, Image.Image)):
            return self.look(as_picture(source))
        if isinstance(source, (list, tuple)):
            return [self(one) for one in source]
        if not isinstance(source, (str, Path, int)) or isinstance(source, bool):
            raise UserError(f"A picture is an array, a Pillow image or a path, not {type(source).__name__}.")

        # One picture is an answer, everything else is as many as it has.
        items, left_out = sources.find_items([here(source)], "camera" if isinstance(source, int) else "image")
        sources.tell_left_out(left_out)
        if len(items) == 1 and items[0].kind == "image" and not holds_several(here(source)):
            return self.open_and_look(items[0].place)
        return self.one_by_one(items)

    def one_by_one(self, items):
        """-> iterator of Found. A picture that cannot be read is said and skipped."""
        for item in items:
            if item.kind != "image":
                yield from self.frames(item.place)
                continue
            try:
                found = self.open_and_look(item.place)
            except UserError as error:
                print(f"skipped: {error}")
                continue
            yield found

    def frames(self, place):
        """Every frame of a video, a camera or a stream."""
        video = VideoSource(place)
        try:
            for image, moment, _ in video.frames():
                yield self.look(image, place, moment)
        finally:
            video.close()

    def open_and_look(self, place):
        """place: Path, or the address of a picture."""
        if isinstance(place, Path):
            return self.look(open_image(place, range_of_set([place], self.value_range)), place)
        return self.look(open_address(place), place)

    def look(self, image, path=None, moment=None):
        """image: (h, w, 3) uint8 RGB -> Found"""
        (answer,) = ask(self.settings, self.engine, [image])
        return Found(self.settings, self.engine, image, answer, path, moment)

    def __repr__(self):
        background = masks.background_of(self.class_names) is not None
        classes = len(self.class_names) - (self.task == "segmentation" and background)
        return f"<PlainVision {self.engine.info['net']}, {self.task}, {classes} classes, " \
               f"{shown(self.settings.model_path) or 'newest training'}>"


def here(source):
    """A path as the current folder sees it; what is not there is left as it is, for the repository."""
    text = str(source).strip()
    try:
        return str(Path(text).expanduser().resolve()) if text and Path(text).expanduser().exists() else text
    except (OSError, ValueError, RuntimeError):             # too long for a path, like some addresses
        return text


def holds_several(text):
    """Whether a source is a folder, a pattern or a list, also where there is only one picture in it."""
    if "://" in text or Path(text).is_file():
        return text.lower().endswith(".txt")
    return Path(text).is_dir() or bool(set("*?[") & set(text))


def as_picture(source):
    """An array or a Pillow image -> (h, w, 3) uint8 RGB. Error: another kind of array."""
    if isinstance(source, Image.Image):
        return np.array(to_rgb(source))
    if source.dtype != np.uint8:
        raise UserError(f"An array of {source.dtype}: expected uint8, values 0 to 255.")
    if source.ndim == 2:
        return np.repeat(source[..., None], 3, 2)
    if source.ndim != 3 or source.shape[2] != 3 or not source.size:
        raise UserError(f"An array of shape {source.shape}: expected (height, width, 3), RGB. "
                        "OpenCV's pictures are BGR: hand over  image[..., ::-1]")
    return np.ascontiguousarray(source)
