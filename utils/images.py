"""The one way to open an image or a mask, and the one way to fit it into the network's input.

Images are numpy uint8 (H, W, 3) RGB. Pixel (0, 0) covers 0..1, so a box that covers the whole image is
(0, 0, W, H). Masks are numpy uint8 (H, W), one class number per pixel.
"""
import base64
import contextlib
import io
import re
import struct
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from utils import depth
from utils.errors import UserError, did_you_mean
from utils.settings import shown
from utils.system.files import check_file

FITS = ("letterbox", "rect", "stretch", "short_side")       # how a picture meets the input, see `fitted_size`
GREY = 114                      # what is beside a picture that does not fill the input
MEAN = (124, 116, 104)          # the same where fit="short_side": ImageNet's mean colour, 0 once normalised
STEP = 32                       # the sides of a "rect" or "short_side" input divide by this
IGNORED = 255                   # in a mask: not labelled, counts nowhere; so is what is beside a mask
ORIENTATION = 0x0112            # the EXIF tag
ON_ITS_SIDE = (5, 6, 7, 8)      # its values that swap height and width
DECODER_ERRORS = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, struct.error,
                  ImageCms.PyCMSError)                      # what Pillow raises when a file is damaged
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)     # the latter if warnings are errors
LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF")     # may change pixel values: no good for class numbers
# No others are opened, whatever the suffix: Pillow would start Ghostscript for one; each decoder is a risk.
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "WEBP", "TIFF", "GIF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")
MAX_PIXELS = 178_000_000        # more is refused before memory is taken: 48 kB can become 400 million pixels
HUGE_PIXELS = 50_000_000        # from here on a note says that a picture takes its time
MAX_BYTES = 2_000_000_000       # so is a larger file
Image.MAX_IMAGE_PIXELS = MAX_PIXELS      # Pillow warns from here on; check_pixels comes before
# How files begin that are often taken for pictures, and what they are.
OTHERS = (
    (rb"....ftyp(heic|heix|heim|heis|hevc|mif1|msf1)", "a HEIC picture, as phones make them"),
    (rb"....ftypavi[fs]", "an AVIF picture"),
    (rb"....ftyp|\x1aE\xdf\xa3|RIFF....AVI ", "a video"),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (rb"8BPS", "a Photoshop file"),
    (rb"%PDF|%!PS", "a PDF or PostScript page"),
    (rb"(?i)\s*(<!doctype html|<html)", "a web page: the download did not work"),
    (rb"\s*(<\?xml|<svg)", "an XML or SVG file"),
    (rb"version https://git-lfs", "a pointer of Git LFS, not the file itself: run git lfs pull"),
    (rb"PK\x03\x04|\x1f\x8b|Rar!|7z", "an archive"),
    (rb"P[1-7]\s", "a PNM picture"),
    (rb"\x00\x00\x01\x00", "an icon"),
    (rb"\s*[{\[]", "a JSON or text file"))


def open_image(path, value_range=None):
    """An image file -> (H, W, 3) uint8 RGB, upright (EXIF orientation applied), transparency on white.

    value_range: (low, high) of the dataset, for files of more than 8 bits, see utils/depth.py; None: by the
    values of this one.
    Errors: missing, not an image, cut off, far too large; each names the file.
    """
    return decode_image(path, value_range=value_range)[0]


def open_shrunken(path, input_shape, exact=True, fit="letterbox", value_range=None):
    """An image for the network: no larger than what fits into input_shape (H, W), never grown. -> image,
    original size (h, w).

    exact=False lets the JPEG decoder leave out, by a factor of 2, 4 or 8, what would be shrunk away: twice as
    fast, nearly equal.
    fit: see `fitted_size`; a picture to be stretched that is too long on one side only gets its final size on
    both, so that it is resized once.  value_range: see `open_image`.
    """
    image, size = decode_image(path, None if exact else input_shape, fit, value_range)
    height, width = fitted_size(*size, input_shape, fit)
    if height < size[0] or width < size[1]:
        image = resize(image, height, width)
    return image, size


def decode_image(path, at_least=None, fit="letterbox", value_range=None):
    """-> image (H, W, 3) uint8 RGB, true size (h, w). at_least: (H, W) that a reduced JPEG still fills."""
    with opened(path) as image:
        # First, for getexif() may decode the picture.
        if depth.is_deep(image):
            values = depth.values_of(image, reopened(image), upright)
            picture = depth.to_picture(values, image, value_range)
            return np.array(to_rgb(Image.fromarray(picture))), values.shape[:2]
        turned = image.getexif().get(ORIENTATION, 1)
        on_its_side = turned in ON_ITS_SIDE

        # A JPEG can be decoded at a half, a quarter, an eighth of its size; its true size is known before.
        reduced = at_least and image.format == "JPEG"
        if reduced:
            size = image.size if on_its_side else image.size[::-1]          # (h, w)
            needed = fitted_size(*size, at_least, fit)
            image.draft("RGB", needed if on_its_side else needed[::-1])

        pixels = np.array(to_rgb(upright(image)))
        return pixels, size if reduced else pixels.shape[:2]


def open_values(path):
    """Some of the numbers in a picture of more than 8 bits: (n,) float64; None: it has 8 bits."""
    with opened(path) as image:
        if not depth.is_deep(image):
            return None
        return depth.some_of(depth.values_of(image, reopened(image), upright))


def reopened(image):
    """The file of an opened Pillow image a second time."""
    return Image.open(io.BytesIO(image.fp.getbuffer()), formats=FORMATS)


@contextlib.contextmanager
def opened(path, kind="image"):
    """with opened(path) as image: a Pillow image, not yet decoded. Errors inside name the file."""
    path = Path(path)
    try:
        check_file(path, "not_an_image")
        if path.stat().st_size > MAX_BYTES:
            gigabytes = path.stat().st_size / 1e9
            raise UserError(f"{shown(path)} has {gigabytes:.1f} GB: not a picture.", kind="image_too_large")

        # Nothing is decoded that would fill the memory, or become another picture.
        content = io.BytesIO(path.read_bytes())             # Pillow reads a file in small pieces: slow
        with Image.open(content, formats=FORMATS) as image:
            check_pixels(image, path)
            if what := depth.wrongly_read(image):
                raise unread(path, what)
            yield image
    except FileNotFoundError:
        raise UserError(f"There is no {kind} {shown(path)}.", kind="file_missing") from None
    except (*BOMBS, *DECODER_ERRORS) as error:
        raise complaint(error, path) from None


def check_pixels(image, path):
    """Error when a picture that is not yet decoded would take too much memory."""
    if image.width * image.height > MAX_PIXELS:
        raise too_large(path, f", {image.width} x {image.height} pixels", image.width * image.height)


def too_large(path, size, pixels, most=MAX_PIXELS):
    """-> UserError. size: words that follow "is too large".  pixels: how many; None: not known."""
    megapixels = f": {pixels / 1e6:.0f} megapixels" if pixels else ""
    return UserError(f"{shown(path)} is too large{size}{megapixels}, at most {most / 1e6:.0f} megapixels are "
                     "opened. Cut it into tiles or shrink it. "
                     "If the file is small, it may have been made to do harm.",
                     kind="image_too_large")


def complaint(error, path):
    """What Pillow could not open or decode -> a UserError that says in words why."""
    if isinstance(error, BOMBS):
        pixels = re.search(r"([0-9]+) pixels", str(error))
        return too_large(path, "", int(pixels[1]) if pixels else None)
    if not isinstance(error, UnidentifiedImageError):
        reason = error or type(error).__name__
        return UserError(f"{shown(path)} cannot be read, it is cut off or damaged: {reason}",
                         kind="image_damaged")

    with contextlib.suppress(*DECODER_ERRORS):
        if what := depth.unread_tiff(path):
            return unread(path, what)

    # No picture that Pillow knows: its first bytes tell what it is instead.
    with open(path, "rb") as file:
        start = file.read(64)
    other = next((what for pattern, what in OTHERS if re.match(pattern, start, re.DOTALL)), None)
    if not start:
        what = "it is empty"
    elif other:
        what = f"it is {other}, whatever its suffix says. Save it as JPEG or PNG"
    else:
        what = f"{path.stat().st_size} bytes that begin with {start[:12]}"
    return UserError(f"{shown(path)} is not an image: {what}.", kind="not_an_image")


def unread(path, what):
    """-> UserError. what: the bands and the type of a TIFF, in words."""
    return UserError(f"{shown(path)} is a TIFF of {what}, which is not read. Save it with 1, 3 or 4 "
                     "bands of 8 or 16 bits, unsigned, pixel by pixel, or 1 band of 32 bits.",
                     kind="image_kind")


def upright(image):
    """A Pillow image, its EXIF orientation applied; one without any stays as it is."""
    return ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) != 1 else image


def open_mask(path, top=IGNORED, lossy=False):
    """A mask file -> (H, W) uint8, upright: the numbers as they are in the file, whatever its palette, its
    bits, its alpha.

    top: the largest number it may hold, 65535 gives uint16.
    lossy: whether a format that may have changed the numbers a little is read, as shades of grey.
    Errors: missing, damaged, lossy, coloured, numbers that are not whole or not 0-255; each names the file.
    """
    with opened(path, "mask") as image:
        if is_lossy(image):
            check_lossless(image, path, lossy)
            return np.array(upright(image).convert("L"))
        if image.format == "TIFF" and image.n_frames > 1:
            raise UserError(f"{shown(path)} has {image.n_frames} pages: a mask has one.", kind="mask_pages")
        bits, kind = png_header(image)
        if bits == 16 and kind != 0:           # Pillow would keep the upper half of each value only
            raise UserError(f"{shown(path)} has 16 bits for each of several channels. "
                            "Save it as a grey PNG of 8 bits.", kind="mask_deep")
        turned = upright(image)
        pixels = np.array(turned.convert("RGB") if image.mode in ("CMYK", "YCbCr", "LAB") else turned)

        if image.mode == "P" and pixels.size and pixels.max() < 2:
            pixels = white_is_1(pixels, turned)

    # One number a pixel, as it is in the file: Pillow stretches grey values of few bits to 0-255.
    if pixels.ndim == 3:
        pixels = one_channel(pixels, path)
    if kind == 0 and bits in (2, 4):
        pixels = pixels // (255 // (2**bits - 1))

    # Values that change when they become whole and small are no class numbers.
    kept = np.uint8 if top == IGNORED else np.uint16
    if pixels.dtype != np.uint8 and pixels.size:
        with np.errstate(invalid="ignore"):
            wrong = pixels != pixels.astype(kept)
        if wrong.any():
            meaning = ", which means ignored." if top == IGNORED else ""
            value, count = pixels[wrong][0], int(wrong.sum())
            raise UserError(f"{shown(path)} holds the value {value}, {count} pixels are like that: expected "
                            f"class numbers, whole and from 0 to {top}{meaning}", kind="mask_numbers")
    return pixels.astype(kept, copy=False)


def white_is_1(pixels, image):
    """The numbers 0 and 1 of a mask with a palette of black and white: in some files white comes first."""
    used = np.unique(pixels).tolist()
    colours = [tuple(image.getpalette("RGB")[3 * number:3 * number + 3]) for number in used]
    if not set(colours) <= {(0, 0, 0), (255, 255, 255)}:
        return pixels
    table = np.arange(2, dtype=np.uint8)
    table[used] = [colour[0] > 0 for colour in colours]
    return table[pixels]


def open_colours(path):
    """A mask in colours -> (H, W, 3) uint8 RGB, upright, without its alpha. Errors: see open_mask."""
    with opened(path, "mask") as image:
        check_lossless(image, path)
        turned = upright(image)
        if turned.mode == "P":
            turned = turned.convert("RGB" if "transparency" not in turned.info else "RGBA")
        elif turned.mode not in ("RGB", "RGBA"):
            turned = turned.convert("RGB")
        return np.array(turned)[..., :3]


def is_lossy(image):
    """Whether the compression of a mask may have changed its numbers."""
    return image.format in LOSSY or image.info.get("compression") == "jpeg"


def mask_in_text(text, size):
    """A mask of one object, a PNG as the base64 text of a JSON -> (H, W) bool.

    size: the (width, height) that it must have. Errors: it has another one, or is no PNG.
    """
    try:
        content = io.BytesIO(base64.b64decode(text, validate=True))
        with Image.open(content, formats=("PNG",)) as image:
            if image.size != size:
                sizes = "its PNG is {} x {} pixels, its corners say {} x {}"
                raise UserError(sizes.format(*image.size, *size))
            check_pixels(image, Path("the mask"))
            pixels = np.array(image) != 0
    except (*BOMBS, *DECODER_ERRORS):
        raise UserError("it is not a PNG as base64 text") from None
    return pixels if pixels.ndim == 2 else pixels[..., :3].any(2)


def check_lossless(image, path, allowed=False):
    """Error when the compression of a mask may have changed its numbers, and that is not allowed."""
    if is_lossy(image) and not allowed:
        raise UserError(f"{shown(path)} is a {image.format} file, whose compression may change pixel values "
                        "a little, and so turn class numbers into others. Export the masks again as PNG; "
                        "renaming or converting this file does not bring them back.", kind="mask_lossy")


def png_header(image):
    """Bits per channel, kind of colour (0: grey) of a PNG, which Pillow does not tell; else (None, None)."""
    if image.format != "PNG":
        return None, None
    return tuple(image.fp.getbuffer()[24:26])


def one_channel(pixels, path):
    """pixels: (H, W, 2-4), equal channels, perhaps alpha -> (H, W). Error: they differ, or only alpha says
    something."""
    red, last = pixels[..., 0], pixels[..., -1]
    has_alpha = pixels.shape[2] in (2, 4) and pixels.size
    if has_alpha and np.ptp(last) and not np.ptp(pixels[..., :-1], (0, 1)).any():
        values = np.unique(last).tolist()
        some = " and ".join(map(str, values)) if len(values) < 4 else f"{len(values)} values"
        raise UserError(f"{shown(path)} holds one colour only, but its alpha channel holds {some}: is the "
                        "label in there?", kind="mask_alpha")
    if pixels.shape[2] == 2 or ((red == pixels[..., 1]) & (red == pixels[..., 2])).all():
        return red

    # Which colours there are, the three most frequent ones first: it helps to recognise the mask.
    numbers = pixels[..., :3].astype(np.int64) @ (65536, 256, 1)
    colours, counts = np.unique(numbers, return_counts=True)
    frequent = colours[np.argsort(-counts, kind="stable")[:3]].tolist()
    common = ", ".join(f"({c >> 16}, {c >> 8 & 255}, {c & 255})" for c in frequent)
    raise UserError(f"{shown(path)} is a colour picture with {len(colours)} colours, mostly {common}: masks "
                    "must hold class numbers, one per pixel (0 for the first class, 1 for the second ...).",
                    kind="mask_colour")


def is_moving(path):
    """Whether a file holds several pictures, like a moving .gif. One that cannot be read does not."""
    try:
        with opened(path) as image:
            return getattr(image, "is_animated", False)
    except UserError:
        return False


def pages_of(path):
    """How many pages a TIFF has; 1 of all other files, whose further pictures are its movement."""
    if not str(path).lower().endswith((".tif", ".tiff")):
        return 1
    with opened(path) as image:
        return image.n_frames if image.format == "TIFF" else 1


def open_alpha(path):
    """The alpha channel of a mask file as the mask: (H, W) uint8, upright. Error: it has none."""
    with opened(path, "mask") as image:
        check_lossless(image, path)
        if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
            raise UserError(f"{shown(path)} has no alpha channel.", kind="mask_alpha")
        return np.array(upright(image).convert("RGBA"))[..., 3]


def image_size(path):
    """(width, height) in pixels, EXIF orientation applied; only the header is read."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            check_pixels(image, path)
            width, height = image.size

            # Where the orientation is to be found depends on the format.
            if image.format == "TIFF":              # its own tags: only new Pillows turn the size of a TIFF
                exif = image.tag_v2
                width, height = exif[256], exif[257]
            elif image.format == "PNG" and not {"exif", "Raw profile type exif"} & set(image.info):
                exif = {}                           # getexif() would decode the whole picture to find some
            else:
                exif = image.getexif()
            return (height, width) if exif.get(ORIENTATION, 1) in ON_ITS_SIDE else (width, height)
    except FileNotFoundError:
        raise UserError(f"There is no image {shown(path)}.", kind="file_missing") from None
    except (*BOMBS, *DECODER_ERRORS) as error:
        raise complaint(error, Path(path)) from None


def to_rgb(image):
    """A Pillow image of any mode -> mode RGB."""
    if image.mode == "RGB":
        return image
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")

    # What is transparent is shown on white.
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def resize(image, height, width):
    """-> image of (height, width, 3). Shrinking takes the mean of the covered pixels, growing is bilinear."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = height * width < image.shape[0] * image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def check_fit(fit):
    """Error: it is none of FITS."""
    if fit not in FITS:
        raise UserError(f'fit="{fit}" is not known.{did_you_mean(str(fit), FITS)} Use "letterbox" (whole, '
                        'undistorted, grey beside it), "rect" (the same with as little grey as can be), '
                        '"stretch" (warped to the input) or "short_side" (undistorted, its short side as '
                        "long as wanted).")


def fitted_size(height, width, input_shape, fit="letterbox"):
    """The size (h, w) in whole pixels that a picture has in the network's input.

    fit: "letterbox": the largest one with (nearly) the picture's aspect ratio that fits into input_shape
    (H, W). "rect": the same size.
    "stretch": input_shape itself, whatever the picture's aspect ratio.
    "short_side": input_shape is (short, long). The short side becomes `short`, or less if the long one would
    become longer than `long`; rounded down, exactly as torchvision does it (500 x 334 at 800, 1333 is 1197 x
    799: 334 * (800 / 334) is below 800).
    """
    if fit == "stretch":
        return tuple(input_shape)
    if fit == "short_side":
        scale = min(min(input_shape) / min(height, width), max(input_shape) / max(height, width))
        return max(1, int(height * scale)), max(1, int(width * scale))
    most_high, most_wide = input_shape
    scale = min(most_high / height, most_wide / width)
    return max(1, min(most_high, round(height * scale))), max(1, min(most_wide, round(width * scale)))


def fit_image(image, input_shape, fit="letterbox", size=None):
    """A picture as the network's input: scaled to `fitted_size`. Letterboxed it is in the middle, grey
    around; so it is with "rect", but the input is only as large as the picture needs, in steps of 32. With
    "short_side" it is that too, and the picture is at its top left, the mean colour to the right and below.

    image: (h, w, 3) uint8.  input_shape: see `fitted_size`.  size: (h, w) of the original, when image is a
    shrunken copy of it.
    -> canvas (H, W, 3) uint8, transform (scale x, scale y, left, top): input = original * scale +
    (left, top).
    """
    height, width = size or image.shape[:2]
    new_height, new_width = fitted_size(height, width, input_shape, fit)

    # The canvas, and where the picture begins on it.
    shape = input_shape
    if fit in ("rect", "short_side"):
        shape = (round_up(new_height), round_up(new_width))
    if fit == "short_side":
        left, top, colour = 0, 0, MEAN
    else:
        left, top, colour = (shape[1] - new_width) // 2, (shape[0] - new_height) // 2, GREY

    canvas = np.full((*shape, 3), colour, np.uint8)
    canvas[top:top + new_height, left:left + new_width] = resize(image, new_height, new_width)
    return canvas, (new_width / width, new_height / height, left, top)


def round_up(side):
    """The next multiple of STEP."""
    return -(-side // STEP) * STEP


def stack(images, colour=MEAN):
    """Network inputs (H, W, 3) uint8 -> one array (B, H, W, 3).

    colour: where their sizes differ, of what is to the right of the smaller ones and below them.
    """
    if len({image.shape for image in images}) == 1:
        return np.stack(images)
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    batch = np.full((len(images), height, width, 3), colour, np.uint8)
    for canvas, image in zip(batch, images):
        canvas[:image.shape[0], :image.shape[1]] = image
    return batch


def resize_mask(mask, height, width):
    """mask: (H, W) -> (height, width). Nearest pixel: a label in between two others would be a third one."""
    if mask.shape == (height, width):
        return mask
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def letterbox_mask(mask, input_shape, size=None):
    """The mask of a picture letterboxed into the input, IGNORED around it. mask: (h, w) uint8 -> (H, W)."""
    new_height, new_width = fitted_size(*(size or mask.shape), input_shape)
    top, left = (input_shape[0] - new_height) // 2, (input_shape[1] - new_width) // 2
    canvas = np.full(input_shape, IGNORED, np.uint8)
    canvas[top:top + new_height, left:left + new_width] = resize_mask(mask, new_height, new_width)
    return canvas


def to_input(boxes, transform):
    """boxes: (G, 4) xyxy px of the original -> px of the input."""
    scale_x, scale_y, left, top = transform
    return boxes * np.array([scale_x, scale_y] * 2, boxes.dtype) + np.array([left, top] * 2, boxes.dtype)


def from_input(boxes, transform, size=None):
    """The exact inverse of to_input. size: (h, w) of the original, at whose border the boxes are cut."""
    scale_x, scale_y, left, top = transform
    boxes = (boxes - np.array([left, top] * 2, boxes.dtype)) / np.array([scale_x, scale_y] * 2, boxes.dtype)
    if size is not None:
        boxes = boxes.clip(0, np.array([size[1], size[0]] * 2, boxes.dtype))
    return boxes


def stride_of(network, options):
    """What the height and width of the input must divide by."""
    return options.get("downsample_factor", network.stride)


def nearest_shape(network, input_shape, options):
    """The (H, W) nearest to input_shape that the network, a class of NETS, can take with these options."""
    step = stride_of(network, options)
    least = -(-getattr(network, "smallest", step) // step)  # SSD's pyramid ends below a certain size
    return tuple(max(least, round(side / step)) * step for side in input_shape)
