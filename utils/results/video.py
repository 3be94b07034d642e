"""Videos: frames in, frames out. Cameras and streams are in utils/prediction/live.py.

OpenCV reads. PyAV writes where it is installed (pip install av), see h264.py; else OpenCV.
"""
import contextlib
import math
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from utils.errors import UserError
from utils.results.h264 import open_h264
from utils.results.media import fresh
from utils.settings import counted, shown
from utils.system.files import part_name, replace

CAMERAS = 4                     # numbers that are tried when a camera gives no picture
PATIENCE = 30                   # reads in a row without a picture, after which a video has ended
LONGEST_HOLE = 1000             # the same for a file that has not reached the end its header names
LEAST, JUMP = 0.0005, 60.0      # seconds between two frames: less or more, and the times are nonsense
ENCODER = Path(__file__).with_name("encoder.py")
_told = set()                   # what has been said in this run
CODECS = (("VP80", ".webm"), ("mp4v", ".mp4"), ("MJPG", ".avi"))        # of OpenCV, the best one first


class VideoSource:
    """A video with an end, a file or the address of one, opened.

    fps: frames per second, 25 where the source does not know.
    count: frames that the file says it has, 0 where unknown.
    seen, lost: frames that `frames` has given so far, and those that it could not read between them.
    aspect: width of a pixel divided by its height, None for square ones.
    Errors: it cannot be opened, it holds no frame.
    """

    def __init__(self, source):
        quiet_opencv()
        self.name = str(source)
        self.capture = cv2.VideoCapture(self.name)
        self.seen = self.lost = self.missed = 0

        # The first frame tells whether it can be read at all. A file may be damaged at its beginning.
        self.first = None
        while self.capture.isOpened() and self.first is None and self.missed < PATIENCE:
            self.first = self.capture.read()[1]
            self.missed += self.first is None
        if self.first is None:
            self.capture.release()
            raise UserError(cannot_open(self.name))

        # Both numbers are what the file's header claims, which may be nonsense.
        fps, count = self.capture.get(cv2.CAP_PROP_FPS), self.capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.fps = fps if 0 < fps <= 1000 else 25.0
        self.count = int(count) if math.isfinite(count) and count > 0 else 0
        self.aspect = pixel_aspect(self.capture)

    def frames(self):
        """-> generator of image (H, W, 3) uint8 RGB, its time in s, frames that are missing before it."""
        image = self.first
        try:
            while image is not None or not self.at_end():
                # What is missing is counted, and the next frame says how many.
                if image is None:
                    self.missed += 1
                else:
                    hole, self.missed = self.missed, 0
                    self.lost += hole
                    self.seen += 1
                    moment = self.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                    yield np.ascontiguousarray(image[..., ::-1]), moment, hole      # OpenCV's colours are BGR

                image = self.capture.read()[1]
        finally:
            self.capture.release()

    def at_end(self):
        """After a read that failed: a hole in the middle of a file is no end."""
        if self.missed < PATIENCE:
            return False
        before_end = self.seen + self.lost + self.missed < self.count
        return not before_end or self.missed >= LONGEST_HOLE

    def close(self):
        self.capture.release()

    def complaint(self):
        """A sentence about the frames that are missing in a file that was read to its end, or ""."""
        parts = []
        if self.lost:
            parts.append(f"{counted(self.lost, 'frame')} could not be read "
                         "(the one before each is shown longer)")
        if self.seen + self.lost < self.count:
            parts.append(f"{self.seen} of {self.count} frames: the rest is not in the file, "
                         "which looks cut off")
        return f"{shown(self.name)}: {'; '.join(parts)}." if parts else ""


def pixel_aspect(capture):
    """The sample aspect ratio of a capture as it is shown, None for square pixels."""
    wide, high = capture.get(cv2.CAP_PROP_SAR_NUM), capture.get(cv2.CAP_PROP_SAR_DEN)
    if not (0 < wide < 10000 and 0 < high < 10000) or wide == high:
        return None

    # OpenCV turns the picture as its header asks for, but not these two.
    turned = capture.get(cv2.CAP_PROP_ORIENTATION_META) % 180 == 90
    return Fraction(int(high), int(wide)) if turned else Fraction(int(wide), int(high))


def quiet_opencv():
    """OpenCV and FFmpeg would print their own lines about a source that does not open;
    the user gets a sentence instead."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    getattr(cv2.utils, "logging", cv2).setLogLevel(0)                               # it has moved in OpenCV 5


def cannot_open(source):
    """The sentence for a video or camera that gives no picture, with what was tried."""
    if source.isdigit():
        working = ", ".join(str(camera) for camera in range(CAMERAS) if camera_works(camera))
        return (f"Camera {source} gives no picture; tried 0 to {CAMERAS - 1}, working: {working or 'none'}. "
                "Is it plugged in, allowed for this program and not in use by another? "
                "More: docs/en/faq.md#camera")

    # A player can tell the rest.
    if "://" in source:
        return (f"{source} gives no picture. Is the address right, is the camera or server on, "
                "and can this computer reach it?")
    tried = ", ".join(cv2.videoio_registry.getBackendName(b)
                      for b in cv2.videoio_registry.getStreamBackends())
    return (f"{shown(source)} gives no picture: damaged, cut off, "
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

    It tries H.264 (.mp4) through PyAV, then what OpenCV can write, see CODECS. `close()` counts what can be
    read back, because OpenCV's writer reports no error: not for a wrong size, not for a full disk.

    image: the last one.  written: how many there are, with repetitions.  seen: for whoever counts without.
    """

    def __init__(self, folder, name, fps, like=None, aspect=None):
        """like: the video file whose sound is copied, or None.  aspect: see VideoSource."""
        self.folder, self.name, self.fps = Path(folder), name, fps
        self.like, self.aspect = like, aspect
        self.path = self.part = self.writer = self.image = None
        self.written, self.seen, self.last, self.uneven = 0, 0, 0.0, 0.0

    def open(self, image):
        """Start a new file folder/name with the size of the image."""
        self.shape = height, width = image.shape[:2]
        # Codecs cut odd sizes, OpenCV 5 crashes on tiny ones.
        self.size = max(16, width + width % 2), max(16, height + height % 2)
        self.folder.mkdir(parents=True, exist_ok=True)
        quiet_opencv()

        # The best one that opens.
        for codec, suffix in (("H.264", ".mp4"), *CODECS):
            self.codec, self.path = codec, fresh(self.folder, self.name, suffix)
            part = part_name(self.path)
            self.part = part.with_name(part.name + suffix)      # what is written goes by its suffix
            self.writer = self.start(codec)
            if self.writer:
                return
            self.part.unlink(missing_ok=True)           # the empty file of the failed attempt

        raise UserError(f"No video can be written to {shown(self.folder)}: OpenCV {cv2.__version__} opened "
                        f"neither VP8 in .webm, mp4v in .mp4 nor MJPG in .avi for {width}x{height} at "
                        f"{self.fps:g} fps. Is there space, and the right to write?")

    def start(self, codec):
        """-> a writer with this codec at self.part, or None where it cannot be opened."""
        if codec == "H.264":
            return open_h264(self.part, self.fps, self.size, self.aspect, self.like)
        writer = OpenCVWriter(self.part, codec, self.fps, self.size)
        return writer if writer.opened else None

    def write(self, image, moment=None):
        """Add one (H, W, 3) uint8 RGB image. One of another size than the first (a stream may change) is
        fitted to that size.

        moment: s from the beginning at which it is shown; None: one frame after the last.
        """
        if self.writer is None:
            self.open(image)
        self.image = image
        if image.shape[:2] != self.shape:
            image = np.array(Image.fromarray(image).resize(self.shape[::-1]))
        right, below = self.size[0] - self.shape[1], self.size[1] - self.shape[0]
        image = np.pad(image, ((0, below), (0, right), (0, 0)), mode="edge")

        # Times only rise. Some files have none, or jump by hours.
        following = self.last + 1 / self.fps if self.written else 0.0
        if moment is None or not LEAST < moment - self.last < max(JUMP, 10 / self.fps):
            moment = following
        self.uneven = max(self.uneven, abs(moment - self.written / self.fps))
        self.writer.write(image, moment)
        self.last = moment
        self.written += 1

    def close(self):
        """Finish the file -> frames that can be read back from it. One without any is deleted."""
        if self.writer is None:
            return 0
        self.writer.close()
        frames = count_frames(self.part)
        if frames:
            replace(self.part, self.path)
        self.part.unlink(missing_ok=True)
        return frames

    def complaint(self):
        """A sentence about what this file is not, or ""."""
        if self.writer is None:
            return ""
        if self.codec == "H.264":
            return self.writer.complaint

        # Once for all videos of a run.
        uneven = self.uneven > 3 / self.fps
        if (self.codec, uneven) in _told:
            return ""
        _told.add((self.codec, uneven))
        kind = "VP8" if self.codec == "VP80" else "in an old format that browsers do not show"
        times = ", its frames at equal distances, which those of the original are not" if uneven else ""
        return (f"Without PyAV a video is {kind}, without sound{times}. After  pip install av  it is H.264, "
                "with the sound and the times of the original.")


class OpenCVWriter:
    """Frames at equal distances, encoded by another process, see encoder.py.

    opened: whether OpenCV can write this codec there.
    """

    def __init__(self, path, codec, fps, size):
        command = [sys.executable, str(ENCODER), str(path), codec, repr(fps), *map(str, size)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL)          # it complains about every .webm
        self.opened = self.process.stdout.readline().strip() == b"open"
        if not self.opened:
            self.close()

    def write(self, image, moment):
        # If it has ended, frames are missing, which `VideoFile.close` finds.
        with contextlib.suppress(OSError):
            self.process.stdin.write(image.tobytes())
            self.process.stdin.flush()

    def close(self):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def count_frames(path):
    """Frames of a video file, counted one by one."""
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.grab():
        count += 1
    capture.release()
    return count
