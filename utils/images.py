"""The one way to open an image or a mask, and the one way to fit it into the network's input.

Images are numpy uint8 (H, W, 3) RGB. Pixel (0, 0) covers 0..1, so a box that covers the whole image is (0, 0, W, H).
Masks are numpy uint8 (H, W), one class number per pixel.
"""
import contextlib
import io
import re
import struct
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from utils.errors import UserError, did_you_mean
from utils.settings import shown

FITS = ("letterbox", "stretch", "short_side")               # the ways a picture meets the network's input, see `fitted_size`
GREY = 114                      # what stands beside a picture that does not fill the input
MEAN = (124, 116, 104)          # the same where fit="short_side": ImageNet's mean colour, about 0 to a network with an ImageNet backbone
STEP = 32                       # the sides of a "short_side" input divide by this
IGNORED = 255                   # in a mask: not labelled, counts nowhere; also what stands beside a mask that does not fill the input
ORIENTATION = 0x0112            # the EXIF tag
DECODER_ERRORS = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, struct.error, ImageCms.PyCMSError)    # of damage
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)                       # the latter where warnings are made errors
LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF")         # these may change pixel values: nothing for class numbers
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "WEBP", "TIFF", "GIF")       # no others are opened, whatever the suffix: Pillow would start
                                                                            # Ghostscript for one, and each decoder is a risk of its own
MAX_PIXELS = 178_000_000        # a larger picture is refused before memory is taken: a file of 48 kB can unfold to 400 million pixels
MAX_BYTES = 2_000_000_000       # so is a larger file
OTHERS = ((rb"....ftyp(heic|heix|heim|heis|hevc|mif1|msf1)", "a HEIC picture, as phones make them"), (rb"....ftypavi[fs]", "an AVIF picture"),
          (rb"....ftyp|\x1aE\xdf\xa3|RIFF....AVI ", "a video"), (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
          (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 picture"), (rb"8BPS", "a Photoshop file"),
          (rb"%PDF|%!PS", "a PDF or PostScript page"),
          (rb"(?i)\s*(<!doctype html|<html)", "a web page: the download did not work"), (rb"\s*(<\?xml|<svg)", "an XML or SVG file"),
          (rb"version https://git-lfs", "a pointer of Git LFS, not the file itself: run git lfs pull"),
          (rb"PK\x03\x04|\x1f\x8b|Rar!|7z", "an archive"),
          (rb"P[1-7]\s", "a PNM picture"), (rb"\x00\x00\x01\x00", "an icon"), (rb"\s*[{\[]", "a JSON or text file"))
Image.MAX_IMAGE_PIXELS = MAX_PIXELS      # Pillow warns from here on and refuses twice as much; check_pixels comes before both
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")


def open_image(path):
    """An image file -> (H, W, 3) uint8 RGB, upright (EXIF orientation applied), transparency on white, 16 bit scaled to 8.

    Errors: missing, not an image, cut off, far too large; each names the file.
    """
    return decode(path)[0]


def open_shrunken(path, input_shape, exact=True, fit="letterbox"):
    """An image for the network: no larger than what fits into input_shape (H, W), never grown. -> image, original size (h, w).

    exact=False lets the JPEG decoder leave out, by a factor of 2, 4 or 8, what would be shrunk away: twice as fast, nearly equal.
    fit: see `fitted_size`; a picture to be stretched that is too long on one side only gets its final size on both, so that it is resized once.
    """
    image, size = decode(path, None if exact else input_shape, fit)
    height, width = fitted_size(*size, input_shape, fit)
    return (resize(image, height, width) if height < size[0] or width < size[1] else image), size


def decode(path, at_least=None, fit="letterbox"):
    """-> image (H, W, 3) uint8 RGB, its true size (h, w). at_least: (H, W) that a reduced JPEG must still fill, fitted in this way."""
    with opened(path) as image:
        reduced = at_least and image.format == "JPEG"
        turned = image.getexif().get(ORIENTATION, 1)
        on_its_side = turned in (5, 6, 7, 8)
        if reduced:
            size = image.size if on_its_side else image.size[::-1]          # (h, w), known before decoding
            needed = fitted_size(*size, at_least, fit)
            image.draft("RGB", needed if on_its_side else needed[::-1])
        pixels = np.array(to_rgb(ImageOps.exif_transpose(image) if turned != 1 else image))
        return pixels, size if reduced else pixels.shape[:2]


@contextlib.contextmanager
def opened(path, kind="image"):
    """with opened(path) as image: a Pillow image, not yet decoded. What goes wrong in there ends in a sentence that names the file."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{shown(path)} has {path.stat().st_size / 1e9:.1f} GB: not a picture.", kind="image_too_large")
        with Image.open(io.BytesIO(path.read_bytes()), formats=FORMATS) as image:       # Pillow reads a file in small pieces: slow
            check_pixels(image, path)
            yield image
    except FileNotFoundError:
        raise UserError(f"There is no {kind} {shown(path)}.", kind="file_missing") from None
    except (*BOMBS, *DECODER_ERRORS) as error:
        raise complaint(error, path) from None


def check_pixels(image, path):
    """Error when a picture that is not yet decoded would take too much memory."""
    if image.width * image.height > MAX_PIXELS:
        millions = image.width * image.height / 1e6
        raise UserError(f"{shown(path)} is too large, {image.width} x {image.height} pixels: {millions:.0f} megapixels, at most "
                        f"{MAX_PIXELS / 1e6:.0f} are opened. Cut it into tiles or shrink it. If it is small on the disk, it may be made to do harm.",
                        kind="image_too_large")


def complaint(error, path):
    """What Pillow could not open or decode -> a UserError that says in words why."""
    if isinstance(error, BOMBS):
        pixels = re.search(r"([0-9]+) pixels", str(error))
        return UserError(f"{shown(path)} is too large{f': {int(pixels[1]) / 1e6:.0f} megapixels' if pixels else ''}, at most {MAX_PIXELS / 1e6:.0f} "
                         "megapixels are opened. Cut it into tiles or shrink it. If it is small on the disk, it may be made to do harm.",
                         kind="image_too_large")
    if isinstance(error, UnidentifiedImageError):
        with open(path, "rb") as file:
            start = file.read(64)
        other = next((what for pattern, what in OTHERS if re.match(pattern, start, re.DOTALL)), None)
        what = "it is empty" if not start else f"it is {other}, whatever its suffix says. Save it as JPEG or PNG" if other else \
            f"{path.stat().st_size} bytes that begin with {start[:12]}"
        return UserError(f"{shown(path)} is not an image: {what}.", kind="not_an_image")
    return UserError(f"{shown(path)} cannot be read, it is cut off or damaged: {error or type(error).__name__}", kind="image_damaged")


def open_mask(path, top=IGNORED):
    """A mask file -> (H, W) uint8, upright: the numbers as they stand in the file, whatever its palette, its bits, its alpha.

    top: the largest number it may hold, 65535 gives uint16.
    Errors: missing, damaged, lossy, coloured, numbers that are not whole or not 0-255; each names the file.
    """
    kept = np.uint8 if top == IGNORED else np.uint16
    with opened(path, "mask") as image:
        check_lossless(image, path)
        depth, kind = png_header(image)
        if depth == 16 and kind != 0:                                       # Pillow would keep the upper half of each value only
            raise UserError(f"{shown(path)} has 16 bits for each of several channels. Save it as a grey PNG of 8 bits.", kind="mask_deep")
        upright = ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) != 1 else image
        pixels = np.array(upright.convert("RGB") if image.mode in ("CMYK", "YCbCr", "LAB") else upright)
    if pixels.ndim == 3:
        pixels = one_channel(pixels, path)
    if kind == 0 and depth in (2, 4):
        pixels = pixels // (255 // (2**depth - 1))                          # Pillow stretches grey values of few bits to 0-255
    if pixels.dtype != np.uint8 and pixels.size:
        with np.errstate(invalid="ignore"):
            wrong = pixels != pixels.astype(kept)
        if wrong.any():
            raise UserError(f"{shown(path)} holds the value {pixels[wrong][0]}, {int(wrong.sum())} pixels are like that: expected class numbers, "
                            f"whole and from 0 to {top}" + ", which means ignored." * (top == IGNORED), kind="mask_numbers")
    return pixels.astype(kept, copy=False)


def open_colours(path):
    """A mask in colours -> (H, W, 3) uint8 RGB exactly as in the file, upright, without regard to alpha. Errors: as open_mask."""
    with opened(path, "mask") as image:
        check_lossless(image, path)
        upright = ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) != 1 else image
        if upright.mode == "P":
            return np.array(upright.convert("RGB" if "transparency" not in upright.info else "RGBA"))[..., :3]
        return np.array(upright if upright.mode in ("RGB", "RGBA") else upright.convert("RGB"))[..., :3]


def check_lossless(image, path):
    """Error when the compression of a mask may have changed its numbers."""
    if image.format in LOSSY or image.info.get("compression") == "jpeg":
        raise UserError(f"{shown(path)} is a {image.format} file, whose compression may change pixel values a little, and so turn class numbers "
                        "into others. Export the masks anew as PNG; renaming or converting this file does not bring the numbers back.",
                        kind="mask_lossy")


def png_header(image):
    """Bits per channel, kind of colour (0 is grey) of a PNG file; (None, None) of others. Pillow does not tell."""
    if image.format != "PNG":
        return None, None
    return tuple(image.fp.getbuffer()[24:26])


def one_channel(pixels, path):
    """Channels that are all the same, and perhaps alpha, -> one. pixels: (H, W, 2-4). Error: they differ, it is a colour picture."""
    if pixels.shape[2] == 2 or ((pixels[..., 0] == pixels[..., 1]) & (pixels[..., 0] == pixels[..., 2])).all():
        return pixels[..., 0]
    numbers = pixels[..., :3].astype(np.int64) @ (65536, 256, 1)
    colours, counts = np.unique(numbers, return_counts=True)
    common = [f"({c >> 16}, {c >> 8 & 255}, {c & 255})" for c in colours[np.argsort(-counts, kind="stable")[:3]].tolist()]
    raise UserError(f"{shown(path)} is a colour picture with {len(colours)} colours, mostly {', '.join(common)}: "
                    "masks must hold class numbers, one per pixel (0 for the first class, 1 for the second ...).", kind="mask_colour")


def image_size(path):
    """(width, height) in pixels as the image is shown, its EXIF orientation applied; only the header is read."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            check_pixels(image, path)
            width, height = image.size
            if image.format == "TIFF":                      # its own tags: new Pillows turn the size of a TIFF, old ones do not
                exif, width, height = image.tag_v2, image.tag_v2[256], image.tag_v2[257]
            elif image.format == "PNG" and not {"exif", "Raw profile type exif"} & set(image.info):
                exif = {}                                   # getexif() would decode the whole picture in search of some
            else:
                exif = image.getexif()
            return (height, width) if exif.get(ORIENTATION, 1) in (5, 6, 7, 8) else (width, height)
    except FileNotFoundError:
        raise UserError(f"There is no image {shown(path)}.", kind="file_missing") from None
    except (*BOMBS, *DECODER_ERRORS) as error:
        raise complaint(error, Path(path)) from None


def to_rgb(image):
    """A Pillow image of any mode -> mode RGB."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(image, dtype=np.float32), posinf=0.0, neginf=0.0)       # NaN and infinity: no data, black
        most = float(values.max(initial=0))
        usual = (65535.0,) if image.mode.startswith("I;16") else (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
        top = next((top for top in usual if most <= top), most)             # what white is in such files; beyond all: the largest value
        return Image.fromarray((values * (255.0 / top)).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "LAB":
        return ImageCms.profileToProfile(image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def resize(image, height, width):
    """image: (H, W, 3) -> (height, width, 3). Shrinking takes the mean of the covered pixels, growing is bilinear."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = height * width < image.shape[0] * image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def check_fit(fit):
    """Error: it is none of FITS."""
    if fit not in FITS:
        raise UserError(f'fit="{fit}" is not known.{did_you_mean(str(fit), FITS)} Use "letterbox" (whole, undistorted, grey beside it), "stretch" '
                        '(warped to the input) or "short_side" (undistorted, its short side as long as wanted).')


def fitted_size(height, width, input_shape, fit="letterbox"):
    """The size (h, w) in whole pixels that a picture has in the network's input.

    fit: "letterbox": the largest one with (nearly) the picture's aspect ratio that fits into input_shape (H, W).
    "stretch": input_shape itself, whatever the picture's aspect ratio.
    "short_side": input_shape is (short, long). The short side becomes `short`, or less if the long one would become longer than `long`;
    rounded down, exactly as torchvision does it (500 x 334 at 800, 1333 is 1197 x 799, for 334 * (800 / 334) is a little below 800).
    """
    if fit == "stretch":
        return tuple(input_shape)
    if fit == "short_side":
        scale = min(min(input_shape) / min(height, width), max(input_shape) / max(height, width))
        return max(1, int(height * scale)), max(1, int(width * scale))
    scale = min(input_shape[0] / height, input_shape[1] / width)
    return max(1, min(input_shape[0], round(height * scale))), max(1, min(input_shape[1], round(width * scale)))


def fit_image(image, input_shape, fit="letterbox", size=None):
    """A picture as the network's input: scaled to `fitted_size`. Letterboxed it stands in the middle, grey around; with "short_side" it
    stands at the top left, the mean colour to the right and below, and the input is as large as it needs, in steps of 32.

    image: (h, w, 3) uint8.  input_shape: see `fitted_size`.  size: (h, w) of the original, when image is a shrunken copy of it.
    -> canvas (H, W, 3) uint8, transform (scale x, scale y, left, top): input = original * scale + (left, top).
    """
    height, width = size or image.shape[:2]
    new_height, new_width = fitted_size(height, width, input_shape, fit)
    if fit == "short_side":
        shape, left, top = (-(-new_height // STEP) * STEP, -(-new_width // STEP) * STEP), 0, 0
    else:
        shape, left, top = input_shape, (input_shape[1] - new_width) // 2, (input_shape[0] - new_height) // 2
    canvas = np.full((*shape, 3), MEAN if fit == "short_side" else GREY, np.uint8)
    canvas[top:top + new_height, left:left + new_width] = resize(image, new_height, new_width)
    return canvas, (new_width / width, new_height / height, left, top)


def stack(images):
    """Network inputs (H, W, 3) uint8 -> one array (B, H, W, 3); where their sizes differ, MEAN stands to the right of and below the smaller ones."""
    if len({image.shape for image in images}) == 1:
        return np.stack(images)
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    batch = np.full((len(images), height, width, 3), MEAN, np.uint8)
    for canvas, image in zip(batch, images):
        canvas[:image.shape[0], :image.shape[1]] = image
    return batch


def resize_mask(mask, height, width):
    """mask: (H, W) -> (height, width). Nearest pixel: a label in between two others would be a third one."""
    return mask if mask.shape == (height, width) else cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def letterbox_mask(mask, input_shape, size=None):
    """The mask of a picture that is letterboxed into the input; IGNORED stands around. mask: (h, w) uint8 -> (H, W)."""
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
    """The exact inverse of to_input; boxes are cut at the border when size (h, w) of the original is given."""
    scale_x, scale_y, left, top = transform
    boxes = (boxes - np.array([left, top] * 2, boxes.dtype)) / np.array([scale_x, scale_y] * 2, boxes.dtype)
    if size is not None:
        boxes = boxes.clip(0, np.array([size[1], size[0]] * 2, boxes.dtype))
    return boxes


def stride_of(network, options):
    """What the height and width of the input must divide by."""
    return options.get("downsample_factor", network.stride)


def nearest_shape(network, input_shape, options):
    """The (H, W) nearest to input_shape that the network (a class of NETS, built with these options) can take."""
    step = stride_of(network, options)
    least = -(-getattr(network, "smallest", step) // step)                  # SSD's pyramid ends below a certain size
    return tuple(max(least, round(side / step)) * step for side in input_shape)
