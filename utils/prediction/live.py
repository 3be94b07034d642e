"""Cameras and streams: a thread reads all the time and keeps the newest frame alone.

A camera does not wait for the network. Frames that come while it computes would pile up, and the picture
would fall further and further behind; so all but the newest are dropped. A stream that breaks off is opened
again, and every failure has its sentence.
"""
import contextlib
import math
import re
import socket
import threading
import time
from collections import deque
from urllib.parse import urlsplit

import cv2
import numpy as np
from tqdm import tqdm

from utils.errors import UserError
from utils.results.address import answer_of
from utils.results.video import PATIENCE, cannot_open, pixel_aspect, quiet_opencv
from utils.settings import counted
from utils.system.files import printable

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)     # seconds before each try to open a lost stream again
TIMEOUT = 10                    # seconds for a connection, and for the next frame
RATE_OVER = 2.0                 # seconds over which the frame rate is measured
MOST_FRAMES = 1e8               # of a film; what says that it has more has no end
PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322, "rtmp": 1935}     # that speak TCP
# What an RTSP server answers -> what that means.
RTSP = {401: "it asks for a name and a password: rtsp://name:password@...", 404: "it has no such stream"}


def open_live(name):
    """The number of a camera or an address -> LiveSource; None for a film at an address, which has an end and
    is read frame by frame, like a file.  Error: it gives no picture."""
    capture = open_capture(name)
    if capture is None:
        raise UserError(why_no_picture(name))
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    if math.isfinite(count) and 0 < count < MOST_FRAMES and not name.isdigit():
        capture.release()
        return None
    return LiveSource(name, capture)


def open_capture(name):
    """-> cv2.VideoCapture, None where there is nothing."""
    quiet_opencv()
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT * 1000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT * 1000]
    if name.isdigit():
        capture = cv2.VideoCapture(int(name))
    else:
        capture = cv2.VideoCapture(name, cv2.CAP_ANY, limits)
    if capture.isOpened():
        return capture
    capture.release()
    return None


class LiveSource:
    """A camera or a stream, being read.

    fps: frames per second that it says it sends, 25 where it does not know; `rate()` is what really comes.
    arrived, seen: frames that have come, and those that `frames` has given.
    Error: it gives no frame.
    """

    def __init__(self, name, capture):
        self.name, self.capture = name, capture
        self.title = f"Camera {name}" if name.isdigit() else without_password(name)
        self.arrived = self.seen = 0
        self.newest, self.ended, self.closing = None, False, threading.Event()
        self.news = threading.Condition()
        self.coming = Rate()

        # What the source says of itself may be nonsense.
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= 240 else 25.0
        self.aspect = pixel_aspect(capture)

        # The first frame tells whether it works at all.
        image = first_frame(capture)
        if image is None:
            capture.release()
            raise UserError(why_no_picture(name))
        self.begin = time.monotonic()
        self.put(image)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        """In its own thread: every frame as soon as it comes, until the source has ended."""
        missed = 0
        while not self.closing.is_set():
            good, image = self.capture.read()
            if good:
                self.put(image)
                missed = 0
                continue

            # What is missing now may be there a moment later.
            missed += 1
            if missed < PATIENCE:
                self.closing.wait(0.03)
            elif not self.reconnect():
                break
        self.capture.release()
        with self.news:
            self.ended = True
            self.news.notify()

    def put(self, image):
        """A frame has come: the one before it is dropped if nobody took it."""
        self.arrived += 1
        with self.news:
            self.newest = image, time.monotonic() - self.begin
            self.coming.count()
            self.news.notify()

    def reconnect(self):
        """Try to open a source that gives no more frames. -> whether it is there again"""
        self.capture.release()
        came = counted(self.arrived, "frame")
        for attempt, pause in enumerate(PAUSES, 1):
            say(f"{self.title} gives no more pictures after {came}; opening it again ({attempt} of "
                f"{len(PAUSES)}).")
            if self.closing.wait(pause):
                return False

            # A server may be there again and still have no picture.
            capture = open_capture(self.name)
            image = capture and first_frame(capture)
            if image is not None:
                say(f"{self.title} is there again.")
                self.capture = capture
                self.put(image)
                return True
            if capture:
                capture.release()
        say(f"{self.title} has ended: {why_no_picture(self.name)}")
        return False

    def rate(self):
        """Frames per second that have come during the last moments."""
        with self.news:
            return self.coming.rate()

    def frames(self, patience=0.1):
        """-> generator of the newest image (H, W, 3) uint8 RGB, its time in s; ends with the source.

        (None, time) while there is none: whoever has a window can look after it.
        """
        while True:
            with self.news:
                if self.newest is None and not self.ended:
                    self.news.wait(patience)
                found, self.newest = self.newest, None
                if found is None and self.ended:
                    return

            # Not while the lock is held: the reader must not wait for the network.
            if found is None:
                yield None, time.monotonic() - self.begin
            else:
                self.seen += 1
                yield np.ascontiguousarray(found[0][..., ::-1]), found[1]           # OpenCV's colours are BGR

    def close(self):
        """Stop reading. The thread may be waiting for a frame: it releases the source when it wakes up."""
        self.closing.set()
        self.thread.join(timeout=1)


class Rate:
    """How often something happens, over the last moments."""

    def __init__(self):
        self.times = deque()

    def count(self):
        self.times.append(time.monotonic())

    def rate(self):
        """-> times per second."""
        while self.times and self.times[0] < time.monotonic() - RATE_OVER:
            self.times.popleft()
        spread = self.times[-1] - self.times[0] if self.times else 0
        return (len(self.times) - 1) / spread if spread else 0.0


def first_frame(capture):
    """-> the first frame of a capture, None where it gives none."""
    for _ in range(3):
        good, image = capture.read()
        if good:
            return image
    return None


def say(sentence):
    """A line above the bar, from a thread."""
    tqdm.write(printable(sentence))


def why_no_picture(name):
    """The sentence for a camera or a stream that gives no picture: the server is asked what is wrong."""
    if name.isdigit():
        return cannot_open(name)
    parts = urlsplit(name)

    # Over TCP it can be asked; a stream over UDP comes or does not come.
    try:
        usual = PORTS.get(parts.scheme.lower())
        port = usual and (parts.port or usual)
        if parts.scheme.lower() in ("http", "https"):
            with answer_of(name):
                pass
        elif port and parts.hostname:
            with socket.create_connection((parts.hostname, port), TIMEOUT) as connection:
                return no_answer(name, connection) or cannot_open(name)
    except UserError as error:
        return str(error)
    except socket.gaierror:
        return f"There is no computer called {parts.hostname} in this network."
    except (OSError, ValueError) as error:
        place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        return f"Nothing answers at {place} ({reason_of(error)}). Is it switched on, and the address right?"
    return cannot_open(name)


def reason_of(error):
    """An error of a connection in words."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return "no answer" if isinstance(error, TimeoutError) else getattr(error, "strerror", None) or str(error)


def without_password(address):
    """rtsp://name:word@10.0.0.7/live -> rtsp://10.0.0.7/live: what may be printed."""
    return re.sub("(?<=://)[^/@]*@", "", address)


def no_answer(name, connection):
    """What an RTSP server says against a stream, "" where it says nothing.  Source: RFC 2326, DESCRIBE."""
    if not name.lower().startswith("rtsp://"):
        return ""
    connection.sendall(f"DESCRIBE {name} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n".encode())
    with contextlib.suppress(ValueError, IndexError):
        status = int(connection.recv(100).split()[1])
        if status >= 400:
            meaning = RTSP.get(status, "it does not give this stream")
            return f"{without_password(name)}: the server says {status}, {meaning}."
    return ""
