"""A screen for tests: Xvfb, with what a hand does on it (keys by xdotool, the cross by the message that window managers send)."""
import ctypes
import os
import shutil
import subprocess

from PIL import ImageGrab, features

MISSING = [name for name in ("Xvfb", "xdotool") if not shutil.which(name)] + ([] if features.check("xcb") else ["Pillow with XCB"])


class Message(ctypes.Structure):
    """XClientMessageEvent of Xlib.h."""
    _fields_ = [("kind", ctypes.c_int), ("serial", ctypes.c_ulong), ("sent", ctypes.c_int), ("display", ctypes.c_void_p), ("window", ctypes.c_ulong),
                ("type", ctypes.c_ulong), ("format", ctypes.c_int), ("data", ctypes.c_long * 5), ("room", ctypes.c_long * 24)]


class Screen:
    """with Screen() as screen: programs started with screen.environment have this display."""

    def __enter__(self):
        ours, theirs = os.pipe()
        self.process = subprocess.Popen(["Xvfb", "-displayfd", str(theirs), "-screen", "0", "800x600x24", "-nolisten", "tcp"],
                                        pass_fds=[theirs], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(theirs)
        with os.fdopen(ours) as file:
            self.name = f":{int(file.readline())}"
        self.environment = {name: value for name, value in os.environ.items() if name != "WAYLAND_DISPLAY"} | {"DISPLAY": self.name}
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(20)

    def do(self, *words):
        return subprocess.run(["xdotool", *words], env=self.environment, capture_output=True, text=True, timeout=20).stdout

    def window(self, name):
        """-> the number of the visible window of this name, None while there is none."""
        found = self.do("search", "--onlyvisible", "--name", f"^{name}$").split()
        return found[-1] if found else None

    def press(self, window, key):
        self.do("windowfocus", "--sync", window)
        self.do("key", key)

    def cross(self, window):
        """What a click on the cross sends to a program: WM_DELETE_WINDOW."""
        x11 = ctypes.CDLL("libX11.so.6")
        x11.XOpenDisplay.restype = ctypes.c_void_p
        x11.XInternAtom.restype = ctypes.c_ulong
        display = ctypes.c_void_p(x11.XOpenDisplay(self.name.encode()))
        protocols, delete = (x11.XInternAtom(display, word, 0) for word in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW"))
        message = Message(kind=33, window=int(window), type=protocols, format=32)
        message.data[0] = delete
        x11.XSendEvent(display, ctypes.c_ulong(int(window)), 0, 0, ctypes.byref(message))
        x11.XCloseDisplay(display)

    def picture(self):
        """What is on the screen, RGB."""
        return ImageGrab.grab(xdisplay=self.name).convert("RGB")
