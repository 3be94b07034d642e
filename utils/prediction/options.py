"""The variables for better answers and for what a run leaves besides pictures: checked before anything is
written, and said where they have no effect."""
from utils.errors import UserError
from utils.prediction.counting import read_shapes
from utils.prediction.pseudo_labels import check_kind
from utils.results import masks
from utils.results.filters import class_number
from utils.settings import check, number, optional, several, whole, yes_or_no

CORNERS = (3, 1000)                     # of a region, at least and at most
LEAST_TILE = 32                         # px


def check_options(s, engine, items):
    """Errors: a value that means nothing, or what this network or file cannot do."""
    check(s, track=yes_or_no(), save_coco=yes_or_no(), tile_overlap=number(0, 0.9),
          tiles=one_or_two(whole(LEAST_TILE)))
    check_kind(s.save_labels, engine.task)
    s.regions = read_shapes(s.regions, "regions", CORNERS)
    s.lines = read_shapes(s.lines, "lines", (2, 2))
    s.tiles = (s.tiles, s.tiles) if isinstance(s.tiles, int) else s.tiles

    # What another program than PyTorch may not be able to do.
    if s.heat and engine.heat_maps is None:
        raise UserError("heat needs gradients, which an .onnx file does not have: set model_path to the "
                        "best.pth that it was exported from.")
    if isinstance(s.heat, str):
        class_number(s.heat, engine.class_names, "heat")
    if engine.task == "detection" and tuple(s.scales) != (1.0,) and not engine.takes_scales:
        raise UserError(f"scales={tuple(s.scales)}: this file takes inputs of one size. Leave scales out.")
    say_unused(s, engine, {item.kind for item in items})


def one_or_two(rule):
    """A rule for `check`: None, a value, or two of them, for height and width."""
    value, pair = optional(rule), several(2, rule)
    return lambda given: value[0](given) or pair[0](given), f"{value[1]}; or two of them, height and width"


def say_unused(s, engine, kinds):
    """What was asked for and has no effect, with this network or with these kinds of items."""
    if engine.task == "segmentation":
        say_for_boxes(s, engine.class_names)
    elif s.save_index or s.save_colour or s.save_cut_out:
        print("save_index, save_colour and save_cut_out are for segmentation; "
              "this network finds boxes: see crop.")

    # Lines are crossed by tracks, and these take time.
    if s.lines and not s.track:
        s.put("track", True, "for lines")
    if kinds == {"image"} and (s.track or s.lines):
        print("track and lines are for videos; here are only images.")
    if "image" not in kinds and (s.heat or s.save_labels):
        print("heat and save_labels are for images; a video is saved with its boxes drawn.")


def say_for_boxes(s, names):
    """The same of a network that finds the class of every pixel. names: of its classes."""
    if s.fit != "letterbox":
        print(f'fit="{s.fit}" is for boxes; '
              'for a network that finds the class of every pixel images are letterboxed.')
    if s.classes is not None or s.class_confidence:
        print("classes and class_confidence are for boxes; here every pixel keeps its class.")
    if s.crop:
        print("crop=True is for boxes; this network finds the class of every pixel: see save_cut_out.")
    if s.save_cut_out and masks.background_of(names) is None:
        print(f'save_cut_out=True needs a first class called "background"; '
              f'here it is "{names[0]}", so nothing is cut out.')

    # What follows from boxes does nothing either.
    for name in ("tiles", "track", "regions", "lines", "save_coco"):
        if getattr(s, name):
            instead = ": see slide." if name == "tiles" else "."
            print(f"{name} is for boxes; this network finds the class of every pixel{instead}")
    s.track, s.save_coco, s.regions, s.lines = False, False, {}, {}
