"""Images, folders, videos and cameras in; files out."""
import csv
import io
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from utils.errors import UserError, did_you_mean
from utils.images import SUFFIXES
from utils.results.report import remove_empty
from utils.settings import find, shown
from utils.system.files import write_text

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".wmv", ".flv", ".mpg", ".mpeg", ".3gp",
                  ".ts", ".gif")
MODES = ("image", "folder", "video", "camera")
SYSTEM_FOLDERS = ("__MACOSX", "$RECYCLE.BIN", "System Volume Information", "@eaDir")
CAMERAS = 4                     # numbers that are tried when a camera gives no picture
PATIENCE = 30                   # reads in a row without a picture, after which a camera or stream has ended


def find_place(source, mode):
    """The variables source and mode -> kind, place. What the source is decides;
    mode does where that leaves a choice.

    kind: one of MODES.  place: Path; the number of a camera or the address of a stream as text;
    None where mode image has no source.
    Errors: an unknown mode, nothing there.
    """
    text = unquote(source)
    if mode not in MODES:
        raise UserError(f'mode="{mode}" is not known.{did_you_mean(mode, MODES)} '
                        f'It can be {", ".join(MODES)}.')
    if not text and mode == "image":
        return "image", None
    if not text and mode != "camera":
        raise UserError(f'mode = "{mode}" needs a source: set source to the path of a {mode}.')

    # A number is a camera, unless a file or folder is called like that.
    if "://" in text:
        kind, place, meaning = "camera", text, "a stream"
    elif not text or text.isdigit() and not find(text).exists():
        kind, place, meaning = "camera", text or "0", "the number of a camera"
    else:
        place = find_source(text)
        kind, meaning = kind_of_file(place, mode)
    if kind != mode:
        print(f'source is {meaning}, so this run has mode = "{kind}" (the variable says "{mode}").')
    return kind, place


def kind_of_file(path, mode):
    """-> one of MODES, and the same in words. A .gif can be an image or a video: there mode decides."""
    suffix = path.suffix.lower()
    if path.is_dir():
        return "folder", "a folder"
    if suffix in VIDEO_SUFFIXES and (suffix not in SUFFIXES or mode == "video"):
        return "video", "a video"
    if suffix in SUFFIXES or mode != "video":
        return "image", "one image"
    return "video", "one image"


def find_source(text):
    """A path as people write or paste it (quotes or spaces around it)
    -> Path of a file or folder that is there.

    Errors: nothing there; the message names the nearest thing that is.
    """
    text = unquote(text)
    try:
        path = find(text)
        if path.exists():
            return path
    except (OSError, ValueError, RuntimeError) as error:        # a name too long, no permission, ~nobody
        raise UserError(f'"{text}" cannot be used as a path: {error}.') from None

    # Of a long path only its first part that does not exist is a mistake.
    missing = path
    while not missing.parent.is_dir() and missing.parent != missing:
        missing = missing.parent
    try:
        names = os.listdir(missing.parent)
    except OSError:
        names = []
    hint = did_you_mean(missing.name, names)
    raise UserError(f'There is no file or folder "{text}": no "{missing.name}" in {missing.parent}.{hint}')


def unquote(text):
    """Without the spaces and quotes that come along when a path is copied from a file manager."""
    return str(text).strip().strip("'\"“”‘’").strip()


def list_images(folder, leave_out=None):
    """Every image below a folder, sorted; hidden files and those of the operating system are no images.

    leave_out: a resolved folder whose content is not listed (results inside the source), or None.
    """
    found = []
    for base, folders, names in os.walk(folder):
        base = Path(base)
        visible = [name for name in folders if not name.startswith(".") and name not in SYSTEM_FOLDERS]
        folders[:] = [name for name in visible if (base / name).resolve() != leave_out]     # walked into
        images = [name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
        found += [base / name for name in images]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def check_output(text, source=None):
    """The variable output -> Path of the folder for results. Nothing is made here.

    source: the file or folder that is read, or None; results may not go into the very folder that is read.
    """
    # The first folder above it that is there tells whether it can be made.
    try:
        folder = find(unquote(text)).resolve()
        taken = next(path for path in (folder, *folder.parents) if path.exists())
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f'output="{text}" cannot be used as a folder: {error}.') from None

    if isinstance(source, Path) and source.is_dir() and source.resolve() == folder:
        raise UserError(f'output is the folder that is read ({shown(folder)}): set output to another one, '
                        'for example "img_out".')
    if not taken.is_dir():
        raise UserError(f"Nothing can be written to {shown(folder)} ({shown(taken)} is a file): "
                        "set output to another folder.")
    return folder


@contextmanager
def output_folder(folder):
    """`with output_folder(path) as folder`: made and tried out, before a full run ends in vain.

    If nothing is written into it, it disappears again, with the folders above it that were made for it.
    """
    # Those that are made here may be removed here; an empty folder of the user stays.
    missing = [path for path in (folder, *folder.parents) if not path.exists()]

    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise UserError(f"Nothing can be written to {shown(folder)} ({error.strerror or error}): "
                            "set output to another folder.") from None

        yield folder
    finally:
        remove_empty(missing)


def fresh(folder, name, suffix=""):
    """folder/name.suffix, or the first of name_2, name_3 ... that does not exist:
    no result overwrites anything."""
    path, attempt = Path(folder) / (name + suffix), 1
    while os.path.lexists(path):
        attempt += 1
        path = path.with_name(f"{name}_{attempt}{suffix}")
    return path


def file_name(text):
    """A text (a class name) as a part of a file name, on every system."""
    return re.sub(r'[\\/:*?"<>|\s\x00-\x1f]+', "_", str(text)).strip("_.") or "_"


def save_image(path, image, source=None, palette=None):
    """Write an image; the suffix decides the format (JPEG with quality 95). Folders are made.

    image: (H, W, 3) uint8 RGB, or (H, W, 4) RGBA for a .png.
    source: the file that was read, which is never overwritten.
    palette: (256, 3) uint8; then image is (H, W) uint8, numbers that are saved as they are and shown in
    these colours.
    """
    path = Path(path)
    if source is not None and path.resolve() == Path(source).resolve():
        raise UserError(f"{shown(path)} is the image that was read: results never overwrite it, "
                        "choose another name.")
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f'{shown(path)}: images are saved as {", ".join(SUFFIXES)}, not as "{path.suffix}".')

    # Pillow's usual JPEG blurs thin coloured lines, which is what boxes are.
    options = {"quality": 95, "subsampling": 0} if path.suffix.lower() in (".jpg", ".jpeg") else {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(image)
        if palette is not None:
            picture.putpalette(palette.ravel().tolist())
        picture.save(path, **options)
    except OSError as error:
        raise UserError(f"{shown(path)} cannot be written: {error.strerror or error}.") from None


def save_crops(folder, name, image, boxes):
    """Each box as an image of its own, folder/name_number_class.png.

    image: (H, W, 3) uint8 RGB.  boxes: list of dict label (text), xyxy px;
    clipped to the image, and what is empty then is left out.
    """
    for position, box in enumerate(boxes, 1):
        x1, y1, x2, y2 = np.clip(box["xyxy"], 0, (image.shape[1], image.shape[0]) * 2)
        part = image[math.floor(y1):math.ceil(y2), math.floor(x1):math.ceil(x2)]
        if x2 > x1 and y2 > y1:
            save_image(fresh(folder, f"{name}_{position}_{file_name(box['label'])}", ".png"), part)


def save_json(folder, name, records):
    """name.json: list of {"file", "width", "height"} and what was found,
    "boxes": [{"label", "score", "xyxy"}] or "classes": [{"label", "pixels", "share"}].  -> its path"""
    path = fresh(folder, name, ".json")
    write_text(path, json.dumps(records, ensure_ascii=False, indent=1) + "\n")
    return path


def save_csv(folder, name, records):
    """name.csv: the same records, one row per box or per class.  -> its path"""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")

    # Segmentation has a row for each class, detection for each box.
    if records and "classes" in records[0]:
        table.writerow(["file", "label", "pixels", "share"])
        for record in records:
            table.writerows([record["file"], *row.values()] for row in record["classes"])
    else:
        table.writerow(["file", "label", "score", "x1", "y1", "x2", "y2"])
        for record in records:
            table.writerows([record["file"], box["label"], box["score"], *box["xyxy"]]
                            for box in record["boxes"])

    path = fresh(folder, name, ".csv")
    write_text(path, text.getvalue())
    return path


def frames(source):
    """Open a video file, a camera (its number) or a stream (its address) -> images, fps, count.

    images: generator of (H, W, 3) uint8 RGB, the first frame included.
    fps: frames per second, 25 where the source does not know.
    count: frames that the file says it has, 0 where unknown.  Errors: it cannot be opened, it holds no frame.
    """
    quiet_opencv()
    source = str(source)
    live = source.isdigit() or "://" in source
    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    first = capture.read()[1] if capture.isOpened() else None
    if first is None:
        capture.release()
        raise UserError(cannot_open(source))

    # Both numbers are what the file's header claims, which may be nonsense.
    fps, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    fps = fps if 0 < fps <= 1000 else 25.0
    count = int(count) if not live and math.isfinite(count) and count > 0 else 0
    return read_all(capture, first, live), fps, count


def quiet_opencv():
    """OpenCV and FFmpeg would print their own lines about a source that does not open;
    the user gets a sentence instead."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    getattr(cv2.utils, "logging", cv2).setLogLevel(0)                               # it has moved in OpenCV 5


def read_all(capture, image, live):
    """Frames until the end, the given `image` first. live: a camera or stream, which may miss some reads."""
    missed = 0
    try:
        while missed <= (PATIENCE if live else 0):
            # What is missing now may be there a moment later.
            if image is None:
                missed += 1
                time.sleep(0.03)
            else:
                missed = 0
                yield np.ascontiguousarray(image[..., ::-1])                        # OpenCV's colours are BGR

            image = capture.read()[1]
    finally:
        capture.release()


def cannot_open(source):
    """The sentence for a video or camera that gives no picture, with what was tried."""
    if source.isdigit():
        working = ", ".join(str(camera) for camera in range(CAMERAS) if camera_works(camera))
        return (f"Camera {source} gives no picture; tried 0 to {CAMERAS - 1}, working: {working or 'none'}. "
                "Is it plugged in, allowed for this program and not in use by another?")
    tried = ", ".join(cv2.videoio_registry.getBackendName(b)
                      for b in cv2.videoio_registry.getStreamBackends())
    place = source if "://" in source else shown(source)
    return (f"{place} gives no picture: damaged, cut off, "
            f"or in a format that OpenCV {cv2.__version__} does not read (tried {tried}). "
            "If a player shows it, convert it: ffmpeg -i input -c:v libx264 output.mp4")


def camera_works(camera):
    """Whether the camera of this number gives a picture."""
    capture = cv2.VideoCapture(camera)
    try:
        return capture.isOpened() and capture.read()[0]
    finally:
        capture.release()


class VideoFile:
    """A video being written. It takes its size from the first image.

    It tries MPEG-4 (.mp4), then Motion JPEG (.avi). `close()` counts what can be read back, because OpenCV's
    writer reports no error: not for a wrong size, not for a full disk.
    """

    def __init__(self, folder, name, fps):
        self.folder, self.name, self.fps = Path(folder), name, fps
        self.path = self.writer = None
        self.written = 0

    def open(self, image):
        """Start a new file folder/name with the size of the image."""
        self.shape = height, width = image.shape[:2]
        # Codecs cut odd sizes, OpenCV 5 crashes on tiny ones.
        self.size = max(16, width + width % 2), max(16, height + height % 2)
        self.folder.mkdir(parents=True, exist_ok=True)

        for codec, suffix in (("mp4v", ".mp4"), ("MJPG", ".avi")):
            self.path = fresh(self.folder, self.name, suffix)
            self.writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter_fourcc(*codec), self.fps, self.size)
            if self.writer.isOpened():
                return
            self.path.unlink(missing_ok=True)           # the empty file of the failed attempt

        raise UserError(f"No video can be written to {shown(self.folder)}: OpenCV {cv2.__version__} opened "
                        f"neither mp4v in .mp4 nor MJPG in .avi for {width}x{height} at {self.fps:g} fps. "
                        "Is there space, and the right to write?")

    def write(self, image):
        """Add one (H, W, 3) uint8 RGB image. One of another size than the first (a stream may change) is
        fitted to that size."""
        if self.writer is None:
            self.open(image)
        if image.shape[:2] != self.shape:
            image = np.array(Image.fromarray(image).resize(self.shape[::-1]))
        right, below = self.size[0] - self.shape[1], self.size[1] - self.shape[0]
        image = np.pad(image, ((0, below), (0, right), (0, 0)), mode="edge")
        self.writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        self.written += 1

    def close(self):
        """Finish the file -> frames that can be read back from it."""
        if self.writer is None:
            return 0
        self.writer.release()
        return count_frames(self.path)


def count_frames(path):
    """Frames of a video file, counted one by one."""
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.grab():
        count += 1
    capture.release()
    return count


def has_display():
    """Whether a window can be opened. Tried in a process of its own: without a display Qt does not raise,
    it ends the program."""
    on_linux = sys.platform not in ("win32", "darwin")
    if on_linux and not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        return False
    try:
        trial = [sys.executable, "-c", "import cv2; cv2.namedWindow('trial'); cv2.destroyAllWindows()"]
        return subprocess.run(trial, capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def show_image(image, wait):
    """Show an image in the window. wait: ms, 0 = until a key is pressed or the window is closed.
    -> False after Esc or q."""
    name = "PlainVision"
    cv2.namedWindow(name, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
    cv2.imshow(name, np.ascontiguousarray(image[..., ::-1]))
    key = cv2.waitKey(wait or 50)
    while not wait and key == -1 and cv2.getWindowProperty(name, cv2.WND_PROP_VISIBLE) >= 1:
        key = cv2.waitKey(50)
    return key & 0xFF not in (27, ord("q"))
