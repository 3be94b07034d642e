"""A camera in the network: Motion JPEG over HTTP on 127.0.0.1. Each picture carries the time at which it was sent."""
import contextlib
import http.server
import io
import socket
import threading
import time

import numpy as np
from PIL import Image

BLOCK, BITS = 16, 20            # a bit is a square of so many pixels; a time is so many bits of milliseconds
SIZE = 96, 320                  # height, width


def stamp(seconds):
    """-> picture (96, 320, 3) uint8: the time in black and white squares of its first row."""
    bits = int(seconds * 1000) >> np.arange(BITS) & 1
    picture = np.full((*SIZE, 3), 90, np.uint8)
    picture[:BLOCK] = np.repeat(bits * 255, BLOCK).astype(np.uint8)[None, :, None]
    return picture


def read_stamp(picture):
    """The seconds in such a picture."""
    middle = picture[BLOCK // 2, BLOCK // 2::BLOCK].mean(1)[:BITS] > 127
    return int((middle << np.arange(BITS)).sum()) / 1000


def as_jpeg(picture):
    data = io.BytesIO()
    Image.fromarray(picture).save(data, format="JPEG", quality=95, subsampling=0)
    return data.getvalue()


class Camera:
    """with Camera(fps=10) as camera: camera.url. pictures: how many each connection gets, None: without end.  now(): its clock, s."""

    def __init__(self, fps=10, pictures=None, port=0):
        self.fps, self.pictures, self.start, self.sent, self.connections = fps, pictures, time.monotonic(), 0, []
        camera = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                if self.path != "/video":
                    return self.send_error(404, "Not Found")
                camera.connections.append(self.connection)
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.stream()
                return None

            def stream(self):
                begin, number = time.monotonic(), 0
                while camera.pictures is None or number < camera.pictures:
                    data = as_jpeg(stamp(camera.now()))
                    self.wfile.write(f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data + b"\r\n")
                    camera.sent += 1
                    number += 1
                    time.sleep(max(0, begin + number / camera.fps - time.monotonic()))

            def log_message(self, *words):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}/video"

    def now(self):
        return time.monotonic() - self.start

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        """Switched off: open connections end too."""
        self.server.shutdown()
        self.server.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
