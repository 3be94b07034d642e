"""A web server for the browser on this computer: standard library, 127.0.0.1 only.

A page in the browser may send requests to 127.0.0.1 whatever site it comes from, and a site may give its own
name the address 127.0.0.1. So every request must name this server as its Host, and one that a page sent must
come from a page of this server (Origin). No path of a request is ever a path of the disk: what can be asked
for is a table.
"""
import base64
import contextlib
import hashlib
import json
import re
import sys
import threading
import time
import traceback
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from utils.errors import UserError

ADDRESS = "127.0.0.1"
PORTS = 20                      # are tried, from the wanted one on, when it is taken
MOST_BYTES = 30_000_000         # of a request
PAUSE, PATIENCE = 10.0, 60.0    # seconds without a byte, and for a whole request
CONNECTIONS = 24                # at a time; more are closed at once
PIECE = 1 << 16                 # bytes that are read at a time
# Nothing from elsewhere, nothing kept, not inside another site's page.
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
           "Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin"}
POLICY = ("default-src 'none'; img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; "
          "form-action 'none'; frame-ancestors 'none'; script-src {script}; style-src {style}")

# kind: the Content-Type.  body: bytes, or an iterator of bytes that goes on until the browser leaves.
Answer = namedtuple("Answer", "body kind headers", defaults=({},))
# path: without its query.  body: bytes.  headers: as http.server has them.
Request = namedtuple("Request", "path body headers")


class Declined(UserError):
    """A request that is not answered. status: of HTTP."""

    def __init__(self, sentence, status=400, kind=None):
        super().__init__(sentence, kind=kind)
        self.status = status


def html(text):
    """-> Answer: a page whose own script and style run, and no others."""
    hashes = {}
    for tag in ("script", "style"):
        parts = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in parts)
        hashes[tag] = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return Answer(text.encode(), "text/html; charset=utf-8",
                  {"Content-Security-Policy": POLICY.format(**hashes)})


def as_json(values):
    """-> Answer."""
    return Answer(json.dumps(values, ensure_ascii=False).encode(), "application/json")


class WebServer(ThreadingHTTPServer):
    """routes: dict (method, path) -> function of a Request that returns an Answer. Each request is answered in
    a thread of its own."""

    daemon_threads = True
    request_queue_size = CONNECTIONS
    allow_reuse_address = sys.platform != "win32"           # there it would let two programs have one port

    def __init__(self, routes, port, most_bytes=MOST_BYTES):
        self.routes, self.most_bytes = routes, most_bytes
        self.free = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__((ADDRESS, port), Handler)
        self.hosts = tuple(f"{name}:{self.server_port}" for name in (ADDRESS, "localhost"))
        self.url = f"http://{self.hosts[0]}/"

    def process_request(self, request, client_address):
        if self.free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.free.release()

    def handle_error(self, request, client_address):
        """A browser that leaves is no error."""
        if not isinstance(sys.exc_info()[1], OSError):
            traceback.print_exc()


def open_server(routes, port, most_bytes=MOST_BYTES):
    """-> WebServer at this port, or at the next one that is free. Port 0: any. Error: none is free."""
    reason = None
    for number in range(port, min(port + PORTS, 65536)):
        try:
            return WebServer(routes, number, most_bytes)
        except OSError as error:                            # taken, or reserved for the system
            reason = error.strerror
    raise UserError(f"No page can be opened at {ADDRESS}: the ports {port} to {port + PORTS - 1} "
                    f"are not free ({reason}). Choose another one with port=.")


class Handler(BaseHTTPRequestHandler):
    """One connection: its requests, one after the other."""

    protocol_version, server_version, sys_version = "HTTP/1.1", "PlainVision", ""
    timeout = PAUSE

    def do_GET(self):
        self.serve()

    def do_POST(self):
        self.serve()

    def serve(self):
        """Answer one request; whatever goes wrong becomes a sentence."""
        # The table decides, before anything of the request is read.
        try:
            self.check_sender()
            path = urlsplit(self.path).path
            route = self.server.routes.get((self.command, path))
            if route is None:
                raise Declined(f"There is nothing at {path[:100]}.", 404)
            answer = route(Request(path, self.read_body(), self.headers))

        # What the sender can do something about; what nobody can; what the terminal has to show.
        except UserError as error:
            self.send_error(getattr(error, "status", 400), str(error), error.kind)
        except ConnectionError:                             # the browser has left
            self.close_connection = True
        except Exception as error:
            traceback.print_exc()
            self.send_error(500, f"A mistake of this program ({type(error).__name__}): "
                                 "the terminal shows where.")
        else:
            self.send(200, answer)

    def check_sender(self):
        """Error: the request is not meant for this server, or another site's page sent it."""
        if self.headers.get("Host", "").lower() not in self.server.hosts:
            raise Declined(f"This page is only for this computer: open {self.server.url}", 403)
        origin = self.headers.get("Origin")
        if origin is not None and origin.lower() not in [f"http://{host}" for host in self.server.hosts]:
            raise Declined("A page of another site sent this.", 403)

    def read_body(self):
        """-> the bytes that were sent. Errors: no length, too many, too slow."""
        if self.headers.get("Transfer-Encoding"):
            raise Declined("A request must say how long it is.", 411)
        length = self.headers.get("Content-Length") or "0"
        if not re.fullmatch("[0-9]{1,15}", length):
            raise Declined("The length of this request is no number.", 400)
        size = int(length)
        if size > self.server.most_bytes:
            self.skip(size)
            raise Declined(f"{size / 1e6:.0f} MB are too large: at most "
                           f"{self.server.most_bytes / 1e6:.0f} MB.", 413, "too_many_bytes")

        # In pieces, so that the time of the whole can be limited too.
        end, pieces = time.monotonic() + PATIENCE, []
        while size:
            piece = self.read_piece(size)
            if not piece or time.monotonic() > end:
                raise Declined("This request did not arrive completely, or too slowly.", 408)
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def read_piece(self, size):
        """-> some of the next size bytes, b"" where none came for a while."""
        try:
            return self.rfile.read1(min(size, PIECE))
        except TimeoutError:
            return b""

    def skip(self, size):
        """Let a browser send what is not wanted, up to a point: it reads no answer before."""
        end = time.monotonic() + PAUSE
        while size and time.monotonic() < end and (piece := self.read_piece(size)):
            size -= len(piece)

    def send(self, status, answer):
        endless = not isinstance(answer.body, bytes)
        self.close_connection = self.close_connection or endless or status != 200
        self.send_response(status)
        for name, value in {**HEADERS, **answer.headers, "Content-Type": answer.kind}.items():
            self.send_header(name, value)
        if not endless:
            self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")

        # The browser may leave at any time.
        with contextlib.suppress(OSError):
            self.end_headers()
            for part in [answer.body] if not endless else answer.body:
                self.wfile.write(part)

    def send_error(self, code, message=None, explain=None):
        """Also for what http.server itself refuses. explain: the kind of a UserError."""
        self.send(code, as_json({"error": message or "This request is not understood.", "kind": explain}))

    def log_message(self, *words):
        """Requests are not printed."""
