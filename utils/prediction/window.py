"""Where pictures are shown while the network works: OpenCV's window, Tk's, or a page in the browser.

Each of them has  show(picture, wait) -> what was pressed, and close().
"""
import os
import subprocess
import sys
import time

import cv2
import numpy as np
from PIL import Image, ImageDraw

from utils.prediction.live_page import PageWindow
from utils.results.draw import label_text, line_and_font_size

NAME = "PlainVision"
SHOWS = (None, True, False, "page")
CLOSED = "closed"               # what `show` says once the user has closed the window
ENDS = (CLOSED, "escape", "q")
SHARE = 0.85                    # of the screen that a window takes at most
TRIAL = "import cv2; cv2.namedWindow('trial'); cv2.waitKey(1); cv2.destroyAllWindows()"


def choose_window(show, live):
    """The variable show -> a window, None where nothing is to be shown.

    None: a window for what is live, a camera or a stream.  "page": a page in the browser.
    """
    if show is False or show is None and not live:
        return None
    window = None if show == "page" else open_window()
    if window or show != "page" and not live:
        if not window:
            print("show=True: no window can be opened here (no display, or neither OpenCV nor Python has "
                  "one), so the results are only saved. show=page shows them in the browser.")
        return window

    # A camera that nobody can see is no use: a page needs no display.
    window = PageWindow()
    why = "" if show == "page" else "No window can be opened here. "
    print(f"{why}See it in the browser of this computer: {window.url}", flush=True)
    return window


def open_window():
    """-> the first kind of window that works here, None where none does."""
    if not has_screen():
        return None
    if opencv_works():
        return OpenCVWindow()
    try:
        return TkWindow()
    except (ImportError, OSError, RuntimeError):
        return None


def has_screen():
    """Whether this process can have a screen at all."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def opencv_works():
    """Whether OpenCV can open a window. Tried in a process of its own: where there is no screen Qt does not
    raise, it ends the program."""
    if "GUI:                           NONE" in cv2.getBuildInformation():          # the headless edition
        return False
    try:
        return subprocess.run([sys.executable, "-c", TRIAL], capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


class OpenCVWindow:
    """The window of opencv-python."""

    def __init__(self):
        self.closed = self.open = False

    def show(self, picture, wait=1):
        """picture: (H, W, 3) uint8 RGB.  wait: ms for a key, 0: until one is pressed.
        -> "" or the key: a letter, "escape", CLOSED."""
        if self.closed:
            return CLOSED
        if not self.open:
            os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")        # it complains about fonts
            cv2.namedWindow(NAME, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
            cv2.resizeWindow(NAME, *fitted(picture.shape[1::-1], (1600, 900)))
            self.open = True
        cv2.imshow(NAME, np.ascontiguousarray(picture[..., ::-1]))

        # The cross takes the window away; showing the next picture would open it again.
        while True:
            key = cv2.waitKey(wait or 50)
            if not self.visible():
                self.closed = True
                return CLOSED
            if key != -1:
                return "escape" if key & 0xFF == 27 else chr(key & 0xFF)
            if wait:
                return ""

    def visible(self):
        try:
            return cv2.getWindowProperty(NAME, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:                                   # Qt says so when its last window is gone
            return False

    def close(self):
        if self.open and not self.closed:
            cv2.destroyWindow(NAME)
            cv2.waitKey(1)


class TkWindow:
    """The window that comes with Python, for the headless edition of OpenCV.

    Errors: ImportError where Python is without Tk, RuntimeError where there is no screen.
    """

    def __init__(self):
        import tkinter

        from PIL import ImageTk
        self.photo_of = ImageTk.PhotoImage
        try:
            self.root = tkinter.Tk(className=NAME)
        except tkinter.TclError as error:
            raise RuntimeError(str(error)) from None
        self.key, self.shown_at = "", None

        # It comes out of hiding with the first picture, whose size it takes.
        self.root.title(NAME)
        self.root.configure(background="black")
        self.label = tkinter.Label(self.root, background="black", borderwidth=0)
        self.label.pack(expand=True, fill="both")
        self.root.bind("<Key>", self.pressed)
        self.root.protocol("WM_DELETE_WINDOW", self.crossed)
        self.root.withdraw()

    def pressed(self, event):
        self.key = event.keysym.lower()

    def crossed(self):
        self.key = CLOSED

    def show(self, picture, wait=1):
        """See OpenCVWindow."""
        if self.root is None:
            return CLOSED
        size = picture.shape[1::-1]                         # (w, h)
        if self.shown_at is None:
            room = round(SHARE * self.root.winfo_screenwidth()), round(SHARE * self.root.winfo_screenheight())
            self.shown_at = fitted(size, room)
            self.root.geometry("{}x{}".format(*self.shown_at))
            self.root.deiconify()
            self.root.update()

        # In the size that the user has given the window.
        inside = fitted(size, (self.root.winfo_width(), self.root.winfo_height()), enlarge=True)
        self.photo = self.photo_of(Image.fromarray(picture).resize(inside, Image.Resampling.BILINEAR))
        self.label.configure(image=self.photo)
        self.key = ""
        self.root.update()
        while not wait and not self.key:
            time.sleep(0.03)
            self.root.update()
        if self.key == CLOSED:
            self.close()
        return self.key

    def close(self):
        if self.root is not None:
            self.root.destroy()
            self.root = None


def fitted(size, room, enlarge=False):
    """(w, h) -> the largest (w, h) of the same shape that fits into room."""
    scale = min(room[0] / size[0], room[1] / size[1])
    if not enlarge:
        scale = min(scale, 1)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def caption(picture, text):
    """A copy of the picture with one line of text at its lower left corner."""
    height, width = picture.shape[:2]
    line, size = line_and_font_size(width, height)
    image = Image.fromarray(picture)
    words, font = label_text([text], 0, size)
    pen, tall = ImageDraw.Draw(image), sum(font.getmetrics())
    wide = pen.textlength(words, font) + 4 * line
    pen.rectangle((0, height - tall, wide, height), fill=(32, 32, 32))
    pen.text((2 * line, height - tall), words, fill="white", font=font)
    return np.array(image)
