"""Pictures of more than 8 bits a channel: which of their values is black, and which is white.

The type of a file does not say it: a camera of 12 bits writes files of 16, and a thermal one counts from
7200 to 8100. So a whole dataset has one `value_range`, found in the values that occur: (low, high), of which
low becomes black and high white in all of its pictures; or more rising numbers, which become evenly spaced
greys. It is a setting of the training and travels with the weights.
"""
import numpy as np
from PIL import TiffImagePlugin

from utils.settings import counted

AS_TYPE = "type"                # the whole range of the type: so weights without a value_range were trained
USUAL = (1, 255, 1023, 4095, 16383, 65535)      # the largest value of floats, and of 8, 10, 12, 14, 16 bits
PLAIN = (1, 255, 65535)         # those that are stretched as they are, however the values lie in them
COVERED = 0.375                 # share of a usual range that the values span, or they get one of their own
MOST, CROWDED = 80, 0.25        # when so many percent of the pixels have so small a part of the greys, ...
EVENED = 0.2                    # ... so much of the greys is dealt out by how frequent the values are, ...
KNOTS = 5                       # ... by so many numbers
TAILS = (0.05, 99.95)           # percent: the values beyond them are hot pixels and the like
LOOKED_AT = 2**16               # values of a picture that are enough to see its range
GREY = ("I", "F")               # Pillow's modes of one channel of more than 8 bits, besides those like "I;16"
BITS, FORMAT, BANDS, LAYOUT, WHITE_IS_0 = 258, 339, 277, 284, 262       # tags of a TIFF
FORMATS = {1: "unsigned", 2: "signed", 3: "float"}
TWINS = {"B": "L", "L": "B", "N": "B"}          # Pillow keeps the upper byte of two: with these, the lower


def bits_of(image):
    """Bits a channel of an opened Pillow image, of which its mode tells only a part."""
    if image.format == "PNG":
        return image.fp.getbuffer()[24]
    return max(image.tag_v2.get(BITS, (8,))) if image.format == "TIFF" else 8


def is_deep(image):
    """Whether an opened Pillow image, not yet decoded, has more than 8 bits a channel."""
    if image.mode in GREY or image.mode.startswith("I;16"):
        return True
    return image.mode in ("RGB", "RGBA") and bits_of(image) > 8


def set_lower_bytes(image):
    """Make a Pillow image of 16 bits for each of several channels decode to its lower bytes. It is changed.

    Pillow decodes such files to their upper bytes: with the order of the bytes turned, to the others.
    -> which of the channels are then the lower bytes of the picture's.
    """
    # Grey with transparency has no such twin; its four bytes a pixel are read as they are.
    if image.format == "PNG" and image.tile[0][3] == "LA;16B":
        image.tile = [rebuilt(tile, "RGBA") for tile in image.tile]
        return [1, 1, 1, 3]

    # The decoder is a word like "RGB;16B", alone or first of several.
    tiles = []
    for tile in image.tile:
        word = tile[3] if isinstance(tile[3], str) else tile[3][0]
        twin = word[:-1] + TWINS[word[-1]]
        turned = twin if isinstance(tile[3], str) else (twin, *tile[3][1:])
        tiles.append(rebuilt(tile, turned))
    image.tile = tiles
    return list(range(len(image.getbands())))


def rebuilt(tile, arguments):
    """A tile of a Pillow image with other arguments for its decoder."""
    make = getattr(type(tile), "_make", tuple)              # a named tuple in the newer versions
    return make((*tile[:3], arguments))


def values_of(image, again, upright):
    """The numbers in a picture of more than 8 bits a channel: (H, W), or (H, W, 3 or 4) uint16 with alpha.

    image, again: the opened file, twice, not yet decoded.  upright: a function that applies its orientation.
    """
    if image.mode not in ("RGB", "RGBA"):
        return grey_values(np.asarray(upright(image)), image)
    channels = set_lower_bytes(again)
    lower = np.asarray(upright(again), np.uint16)[..., channels]
    return np.asarray(upright(image), np.uint16) << 8 | lower


def to_picture(values, image, value_range):
    """The numbers of `values_of` as they are shown: uint8 of the same shape. value_range: see `choose_range`;
    None: that of these values; AS_TYPE."""
    if values.ndim == 2:
        if value_range == AS_TYPE:
            value_range = type_range(values, image.mode)
        grey = to_bytes(values, value_range or choose_range(some_of(values)))

        # The largest number may be black; Pillow minds that up to 8 bits only.
        negative = image.format == "TIFF" and image.tag_v2.get(WHITE_IS_0) == 0
        return 255 - grey if negative else grey

    # All 16 bits are used: the upper ones are the picture, as Pillow reads it. Alpha always uses all.
    picture = (values >> 8).astype(np.uint8)
    if value_range != AS_TYPE:
        value_range = tuple(value_range or choose_range(some_of(values)))
    if value_range not in (AS_TYPE, (0, 65535)):
        picture[..., :3] = to_bytes(values[..., :3], value_range)
    return picture


def grey_values(values, image):
    """The numbers of a picture of one channel. values: as Pillow decodes it.  image: as it was opened."""
    tags = image.tag_v2 if image.format == "TIFF" else {}
    if values.dtype == np.int32 and tags.get(FORMAT, (1,))[0] == 1 and tags.get(BITS) == (32,):
        values = values.view(np.uint32)                     # Pillow has no such mode, and calls them signed
    return values


def to_bytes(values, value_range):
    """Numbers -> uint8 of the same shape: value_range becomes 0 to 255; NaN and infinity are black."""
    # Of 16 bits there are fewer values than pixels.
    if values.dtype == np.uint16 and values.size > 2**16:
        return to_bytes(np.arange(2**16, dtype=np.int64), value_range)[values]
    low, high = value_range[0], value_range[-1]
    values = np.nan_to_num(np.asarray(values, np.float64), nan=low, posinf=low, neginf=low)
    if len(value_range) > 2:
        return np.interp(values, value_range, np.linspace(0, 255, len(value_range))).astype(np.uint8)
    above = (values - low).astype(np.float32)
    return (above * (255.0 / (high - low))).clip(0, 255).astype(np.uint8)


def some_of(values):
    """About LOOKED_AT of a picture's values, evenly from all of it, without alpha and NaN: (n,) float64."""
    flat = (values if values.ndim == 2 else values[..., :3]).reshape(-1)
    some = flat[::max(1, flat.size // LOOKED_AT)].astype(np.float64)
    return some[np.isfinite(some)]


def choose_range(values):
    """A value_range for these values, (n,): the usual range that they fill to a good part, else their own."""
    if not len(values):
        return 0, 255
    low, high = np.percentile(values, TAILS).tolist()
    if low >= 0:
        for top in USUAL:
            if high <= top and high - low >= COVERED * top:
                return (0, top) if top in PLAIN or not is_crowded(values, top) else evened(values, 0, high)

    # A single value says nothing of a range.
    if low == high:
        top = next((top for top in USUAL if 0 <= low <= top), None)
        return (0, top) if top else (low, low + 1)

    # A range of their own.
    return evened(values, low, high) if is_crowded(values, high - low) else in_digits(values, (low, high))


def words_of_range(value_range):
    """For people."""
    low, *between, high = (f"{number:.10g}" for number in value_range)
    evenly = f", with {', '.join(between)} evenly in between" if between else ""
    return f"{low} becomes black and {high} white{evenly}"


def is_crowded(values, width):
    """Whether most of the pixels have values of a small part of the range, as a calm ground has."""
    percents = np.percentile(values, range(101))
    return (percents[MOST:] - percents[:-MOST]).min() < CROWDED * width


def evened(values, low, high):
    """Rising numbers from low to high, closer where values are frequent: a ground keeps some contrast."""
    grid = np.linspace(low, high, 1025)
    share = np.searchsorted(np.sort(values), grid, "right") / len(values)
    level = (1 - EVENED) * np.linspace(0, 1, len(grid)) + EVENED * share
    level = (level - level[0]) / (level[-1] - level[0])
    knots = np.interp(np.linspace(0, 1, KNOTS), level, grid).tolist()
    found = in_digits(values, knots)
    return found if all(one < other for one, other in zip(found, found[1:])) else (found[0], found[-1])


def in_digits(values, numbers):
    """The numbers as people write them: whole ones for whole values, else with the digits that matter."""
    if numbers[-1] - numbers[0] > KNOTS and (values == values.round()).all():
        return tuple(round(number) for number in numbers)
    return tuple(float(f"{number:.6g}") for number in numbers)


def type_range(values, mode):
    """(low, high) as AS_TYPE means it: the first usual white of this mode that no value exceeds."""
    most = float(np.nan_to_num(np.asarray(values, np.float32), posinf=0.0, neginf=0.0).max(initial=0))
    usual = (255.0, 65535.0)
    if mode.startswith("I;16"):
        usual = (65535.0,)
    elif mode == "F":
        usual = (1.0, 255.0, 65535.0)
    return 0.0, next((top for top in usual if most <= top), most)


def saved_range(settings):
    """The value_range that weights were trained with. settings: those of their training.

    None: only pictures of 8 bits were seen.
    """
    return settings.get("value_range", AS_TYPE)


def is_range(value):
    """Whether a setting is a value_range: None, AS_TYPE or rising numbers."""
    if value is None or isinstance(value, str):
        return value in (None, AS_TYPE)
    if not isinstance(value, (list, tuple)) or len(value) < 2:
        return False
    numbers = all(type(one) in (int, float) and np.isfinite(one) for one in value)
    return numbers and all(one < other for one, other in zip(value, value[1:]))


def wrongly_read(image):
    """What a TIFF is that Pillow opens and decodes to something else, "" when it does not."""
    if image.format != "TIFF":
        return ""
    tags = image.tag_v2
    bits, kind = tags.get(BITS, (1,)), tags.get(FORMAT, (1,))
    planar = tags.get(LAYOUT, 1) == 2 and len(bits) > 1 and max(bits) > 8
    return words_of(tags) if planar or bits == (8,) and kind[0] == 2 else ""


def unread_tiff(path):
    """What a TIFF is whose bands or type Pillow does not know; "" for one that has another fault."""
    with open(path, "rb") as file:
        start = file.read(8)
        if start[:4] not in (b"II*\0", b"MM\0*"):
            return ""
        tags = TiffImagePlugin.ImageFileDirectory_v2(start)
        file.seek(tags.next)
        tags.load(file)

    # What utils/images.py makes a picture of.
    bits, bands, kind = set(tags.get(BITS, (1,))), tags.get(BANDS, 1), tags.get(FORMAT, (1,))[0]
    if bands == 1:
        known = bits <= {32} if kind == 3 else bits <= {1, 2, 4, 8, 12, 16, 32}
    else:
        known = bands in (3, 4) and kind == 1 and bits in ({8}, {16})
    return "" if known else words_of(tags)


def words_of(tags):
    """The tags of a TIFF in words: "3 bands of 16 bits, unsigned, band after band"."""
    bits, bands = tags.get(BITS, (1,)), tags.get(BANDS, 1)
    kind = FORMATS.get(tags.get(FORMAT, (1,))[0], "of an unknown type")
    layout = ", band after band" if tags.get(LAYOUT, 1) == 2 and bands > 1 else ""
    return f"{counted(bands, 'band')} of {max(bits)} bits, {kind}{layout}"
