"""A real window on a real (virtual) screen: opened, drawn into, closed by Esc and by its cross; and what there is without a screen."""
import http.client
import importlib.util
import json
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import screen
from fake_detector import go_fixture, grey, save  # noqa: F401

from utils.errors import UserError
from utils.prediction import live_page, window
from utils.settings import ROOT

on_screen = pytest.mark.skipif(bool(screen.MISSING), reason=f"not installed: {', '.join(screen.MISSING)}")
HAS_TK = importlib.util.find_spec("_tkinter") is not None and importlib.util.find_spec("PIL.ImageTk") is not None
HAS_OPENCV = "GUI:                           NONE" not in cv2.getBuildInformation()
KINDS = [pytest.param("TkWindow", marks=[pytest.mark.slow, pytest.mark.skipif(not HAS_TK, reason="this Python has no Tk")]),
         pytest.param("OpenCVWindow", marks=[pytest.mark.slow, pytest.mark.skipif(not HAS_OPENCV, reason="OpenCV is the headless edition")]),
         pytest.param("any", marks=pytest.mark.skipif(not HAS_TK and not HAS_OPENCV, reason="neither OpenCV nor this Python has a window"))]

# One window, while the program goes on (1 ms for a key), or while it waits for a key (0).
SHOWS = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from utils.prediction import window
picture = np.full((240, 320, 3), (250, 20, 40), np.uint8)
picture[:120] = 20, 250, 40
shown = window.open_window() if sys.argv[2] == "any" else getattr(window, sys.argv[2])()
print(type(shown).__name__, flush=True)
key = ""
while key not in window.ENDS:
    key = shown.show(picture, int(sys.argv[3]))
    if key:
        print(key, flush=True)
if key == window.CLOSED:
    print("still", shown.show(picture, 0), flush=True)                      # it is not opened again
shown.close()
print("gone", flush=True)
sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def display():
    with screen.Screen() as one:
        yield one


def until(get, seconds=30):
    end = time.monotonic() + seconds
    while not (value := get()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)
    return value


def colours(display):
    """How many pixels of the screen are red, and green."""
    pixels = np.array(display.picture()).reshape(-1, 3)
    return [int((np.abs(pixels.astype(int) - colour).max(1) < 30).sum()) for colour in ((250, 20, 40), (20, 250, 40))]


@on_screen
@pytest.mark.parametrize("end, wait", [("Escape", 1), ("cross", 0), pytest.param("q", 0, marks=pytest.mark.slow),
                                       pytest.param("cross", 1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_window_is_opened_drawn_into_and_closed(display, kind, end, wait):
    program = subprocess.Popen([sys.executable, "-c", SHOWS, str(ROOT), kind, str(wait)], env=display.environment, stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    assert program.stdout.readline().strip() == (kind if kind != "any" else "OpenCVWindow" if HAS_OPENCV else "TkWindow")
    number = until(lambda: display.window(window.NAME))
    until(lambda: min(colours(display)) > 10_000)                           # both halves of the picture
    display.press(number, "s")
    assert program.stdout.readline() == "s\n"
    if end == "cross":
        display.cross(number)
        assert program.stdout.readline() + program.stdout.readline() == "closed\nstill closed\n"
    else:
        display.press(number, end)
        assert program.stdout.readline() == end.lower() + "\n"
    assert program.stdout.readline() == "gone\n" and max(colours(display)) == 0 and display.window(window.NAME) is None
    program.communicate("\n", timeout=20)
    assert program.returncode == 0


@pytest.fixture
def no_screen(monkeypatch):
    monkeypatch.setattr(window.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


def test_no_window_without_a_screen(monkeypatch, no_screen, capsys):
    assert not window.has_screen() and window.open_window() is None
    assert window.choose_window(True, live=False) is None
    assert "no window can be opened here" in capsys.readouterr().out
    assert window.choose_window(False, live=True) is None and window.choose_window(None, live=False) is None
    monkeypatch.setenv("DISPLAY", ":77")                                    # a display that is not there
    assert window.has_screen() and window.open_window() is None

    def broken(*arguments, **options):
        raise OSError
    monkeypatch.setattr(window.cv2, "getBuildInformation", lambda: "GUI: QT")
    monkeypatch.setattr(window.subprocess, "run", broken)
    assert window.opencv_works() is False


def test_show_is_checked(go, tmp_path):
    with pytest.raises(UserError, match='show=\'yes\': expected None or True or False or "page"'):
        go(source=save(tmp_path / "a.png", grey(50, 60)), show="yes")


def ask(url, method="GET", path="", body=None):
    host, _, word = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=20)
    connection.request(method, f"/{word}{path}", body)
    return connection.getresponse()


def test_without_a_screen_a_camera_is_a_page(no_screen, capsys):
    """The newest picture in the browser; s and Esc work there too; nobody without the address sees it."""
    shown = window.choose_window(None, live=True)
    said = capsys.readouterr().out
    assert said == f"No window can be opened here. See it in the browser of this computer: {shown.url}\n"
    try:
        assert shown.show(np.full((40, 60, 3), 200, np.uint8)) == ""
        pictures = ask(shown.url, path="pictures")
        assert pictures.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=picture"
        assert pictures.fp.readline() == b"--picture\r\n" and pictures.fp.readline() == b"Content-Type: image/jpeg\r\n"
        assert ask(shown.url, "POST", "key", "s").status == 200
        assert [shown.show(grey(40, 60)) for _ in range(2)] == ["s", ""]
        assert ask(shown.url, "POST", "key", "escape").status == 200 and shown.show(grey(40, 60)) == "escape"
        assert ask(shown.url, "POST", "key", "x").status == 400
        assert json.loads(ask(shown.url, path="state").read()) == {"number": 4}
        assert ask(shown.server.url).status == ask(shown.server.url, path="pictures").status == 404
        assert b"live" not in ask(shown.url).read() and len(shown.url) > len(shown.server.url) + 12
    finally:
        shown.close()
    assert int(shown.url.split(":")[2].split("/")[0]) >= live_page.PORT


def test_what_fits():
    assert window.fitted((1920, 1080), (960, 960)) == (960, 540) and window.fitted((10, 20), (100, 100)) == (10, 20)
    assert window.fitted((10, 20), (100, 100), enlarge=True) == (50, 100) and window.fitted((10, 9000), (100, 100)) == (1, 100)
