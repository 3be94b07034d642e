"""The web server for this computer: only its own pages may ask, nothing of the disk is a path, everything has a limit."""
import http.client
import json
import re
import socket
import threading
import time

import pytest

from utils.errors import UserError
from utils.system import web


def echo(request):
    return web.Answer(request.body[::-1], "text/plain")


def fail(request):
    raise ZeroDivisionError


def refuse(request):
    raise UserError("No, because.", kind="some_kind")


@pytest.fixture(scope="module")
def server():
    routes = {("GET", "/"): lambda request: web.html("<style>p {}</style><script>1</script>"), ("POST", "/echo"): echo, ("GET", "/fail"): fail,
              ("POST", "/refuse"): refuse, ("GET", "/endless"): lambda request: web.Answer(iter([b"a"] * 5), "text/plain")}
    one = web.open_server(routes, 0, most_bytes=1000)
    threading.Thread(target=one.serve_forever, args=(0.02,), daemon=True).start()
    yield one
    one.shutdown()
    one.server_close()


def ask(server, method="GET", path="/", body=None, **headers):
    """-> status, headers, body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, answer.headers, data


def test_it_listens_on_this_computer_alone(server):
    assert server.server_address[0] == "127.0.0.1" and server.url == f"http://127.0.0.1:{server.server_port}/"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{}", "127.0.0.1", "127.0.0.1:1", "", "127.0.0.1:{}.evil.example", "[::1]:{}"])
def test_a_name_that_was_given_this_address_is_refused(server, host):
    """DNS rebinding: the browser believes that it talks to evil.example."""
    status, _, body = ask(server, Host=host.format(server.server_port))
    assert status == 403 and "only for this computer" in json.loads(body)["error"]


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:{}", "http://127.0.0.1:1", "http://127.0.0.1:{}.x.example", ""])
def test_a_page_of_another_site_is_refused(server, origin):
    status, headers, body = ask(server, "POST", "/echo", b"abc", Origin=origin.format(server.server_port))
    assert status == 403 and "another site" in json.loads(body)["error"] and "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_its_own_page_is_answered(server, name):
    own = f"{name}:{server.server_port}"
    assert ask(server, "POST", "/echo", b"abc", Host=own, Origin=f"http://{own}")[::2] == (200, b"cba")
    assert ask(server, "POST", "/echo", b"abc", Host=own)[::2] == (200, b"cba")          # a program, not a page


@pytest.mark.parametrize("path", ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/..\\..\\x", "/page.py", "/\u00e9"])
def test_no_path_leads_to_the_disk(server, path):
    with socket.create_connection(("127.0.0.1", server.server_port), 20) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(9999), b""))
    assert answer.startswith(b"HTTP/1.1 404") and b"There is nothing at" in answer


def test_a_page_runs_only_its_own_script(server):
    _, headers, _ = ask(server)
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert len(re.findall("'sha256-[^']{44}'", policy)) == 2
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store" and "Python" not in headers["Server"]


def test_too_many_bytes(server):
    assert ask(server, "POST", "/echo", b"x" * 1000)[0] == 200
    status, _, body = ask(server, "POST", "/echo", b"x" * 3_000_000)
    assert status == 413 and json.loads(body) == {"error": "3 MB are too large: at most 0 MB.", "kind": "too_many_bytes"}


def raw(server, head, then=b""):
    """What comes back for these bytes, with a pause before the last ones."""
    with socket.create_connection(("127.0.0.1", server.server_port), 20) as connection:
        connection.sendall(head.format(server.server_port).encode())
        time.sleep(0.05)
        connection.sendall(then)
        return b"".join(iter(lambda: connection.recv(9999), b""))


@pytest.mark.parametrize("head, status", [
    ("POST /echo HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: -5\r\n\r\n", 400),
    ("POST /echo HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: 1e3\r\n\r\n", 400),
    ("POST /echo HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
    ("GET / HTTP/1.1\r\n\r\n", 403), ("BREW / HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", 501),
    ("GET /" + "a" * 70_000 + " HTTP/1.1\r\n\r\n", 414)])
def test_requests_that_are_none(server, head, status):
    answer = raw(server, head, b"\r\n\r\n")
    assert re.match(rb"HTTP/1.1 (\d+)", answer)[1] == str(status).encode()
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]


def test_who_sends_too_slowly_is_sent_away(server, monkeypatch):
    monkeypatch.setattr(web, "PATIENCE", 0.02)
    answer = raw(server, "POST /echo HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: 5\r\n\r\nab", b"c")
    assert answer.startswith(b"HTTP/1.1 408") and b"too slowly" in answer
    monkeypatch.setattr(web.Handler, "timeout", 0.05)
    begin = time.monotonic()
    answer = raw(server, "POST /echo HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: 5\r\n\r\nab")
    assert answer.startswith(b"HTTP/1.1 408") and time.monotonic() - begin < 5
    assert raw(server, "GET / HT") == b""                                      # not even its first line


def test_too_many_at_a_time(server):
    held = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(web.CONNECTIONS)]
    time.sleep(0.1)
    with socket.create_connection(("127.0.0.1", server.server_port), 10) as one_more:
        assert one_more.recv(10) == b""
    for connection in held:
        connection.close()
    end = time.monotonic() + 10
    while True:
        try:
            assert ask(server)[0] == 200
            break
        except (OSError, http.client.HTTPException):
            assert time.monotonic() < end


def test_mistakes_become_sentences(server, capsys):
    status, _, body = ask(server, "POST", "/refuse")
    assert (status, json.loads(body)) == (400, {"error": "No, because.", "kind": "some_kind"})
    status, _, body = ask(server, path="/fail")
    assert status == 500 and "ZeroDivisionError" in json.loads(body)["error"] and "ZeroDivisionError" in capsys.readouterr().err
    assert ask(server, path="/endless?x=1")[::2] == (200, b"aaaaa")


def test_a_port_that_is_taken(server, monkeypatch):
    other = web.open_server({}, server.server_port)
    assert server.server_port < other.server_port < server.server_port + web.PORTS
    other.server_close()
    monkeypatch.setattr(web, "PORTS", 1)
    with pytest.raises(UserError, match="are not free .*Choose another one with port="):
        web.open_server({}, server.server_port)
