"""The newest picture as a page in the browser, where no window can be opened."""
import io
import secrets
import threading
from pathlib import Path

from PIL import Image

from utils.system.web import Answer, Declined, as_json, html, open_server

PAGE = Path(__file__).with_name("live_page.html")
PORT = 8000
KEYS = ("escape", "s")          # that the page sends
QUALITY = 85                    # of its JPEGs
BOUNDARY = "picture"


class PageWindow:
    """Shows pictures like the windows of window.py, at `url`: for the browser of this computer.

    The address holds a word that nobody can guess: on a computer with several users all of them can reach
    127.0.0.1, and a camera is private.
    """

    def __init__(self, port=PORT):
        self.news = threading.Condition()
        self.picture, self.number, self.key, self.open = None, 0, "", True
        word = secrets.token_urlsafe(12)
        routes = {("GET", ""): self.page, ("GET", "pictures"): self.pictures, ("GET", "state"): self.state,
                  ("POST", "key"): self.press}
        routes = {(method, f"/{word}/{name}"): answer for (method, name), answer in routes.items()}
        self.server = open_server(routes, port, most_bytes=100)
        self.url = f"{self.server.url}{word}/"
        threading.Thread(target=self.server.serve_forever, args=(0.1,), daemon=True).start()

    def show(self, picture, wait=1):
        """picture: (H, W, 3) uint8 RGB.  -> what was pressed on the page since the last time, or ""."""
        with self.news:
            self.picture, self.number = picture, self.number + 1
            self.news.notify_all()
            key, self.key = self.key, ""
        return key

    def close(self):
        with self.news:
            self.open = False
            self.news.notify_all()
        self.server.shutdown()
        self.server.server_close()

    def page(self, request):
        return html(PAGE.read_text(encoding="utf-8"))

    def state(self, request):
        return as_json({"number": self.number})

    def press(self, request):
        key = request.body.decode("ascii", "replace")
        if key not in KEYS:
            raise Declined("There is no such key.")
        self.key = key
        return as_json({})

    def pictures(self, request):
        return Answer(self.parts(), f"multipart/x-mixed-replace; boundary={BOUNDARY}")

    def parts(self):
        """-> generator of the newest picture, again and again, as browsers show it in an <img>."""
        seen = 0
        while True:
            with self.news:
                while self.open and self.number == seen:
                    self.news.wait()
                if not self.open:
                    return
                picture, seen = self.picture, self.number

            # Only who looks costs the time of a JPEG.
            data = io.BytesIO()
            Image.fromarray(picture).save(data, format="JPEG", quality=QUALITY)
            head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {data.tell()}\r\n\r\n"
            yield head.encode() + data.getvalue() + b"\r\n"
