"""Checkpoints and weight files: whole or refused, with a sentence."""
import hashlib
import http.server
import socket
import subprocess
import threading
import time
import zipfile

import pytest
import torch
import torchvision

import nets
from utils import checkpoint
from utils.checkpoint import read_checkpoint, save_checkpoint
from utils.errors import UserError
from utils.system import download
from utils.weights import load_weights


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return nets.build("yolov4_tiny", 3, (64, 64))


@pytest.fixture
def saved(model, tmp_path):
    path = tmp_path / "best.pth"
    about = {"net": "yolov4_tiny", "options": {}, "class_names": ["a", "b", "c"], "input_shape": [64, 64], "settings": {}, "epoch": 1}
    save_checkpoint(path, model=model.state_dict(), **about)
    return path


def test_round_trip(model, saved):
    again, info = nets.load(saved)
    assert info["class_names"] == ["a", "b", "c"] and not again.training
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values()))
    assert not list(saved.parent.glob("*.part"))


def test_every_flipped_bit_is_refused(saved):
    raw = bytearray(saved.read_bytes())
    with zipfile.ZipFile(saved) as archive:
        largest = max(archive.infolist(), key=lambda record: record.file_size)
    for place in (largest.header_offset + 500, len(raw) // 3, len(raw) // 2, len(raw) - 2000):
        broken = raw.copy()
        broken[place] ^= 4
        saved.write_bytes(broken)
        with pytest.raises(UserError, match=r"best\.pth"):
            nets.load(saved)


@pytest.mark.parametrize("content, sentence", [
    (b"<!doctype html><html></html>", "web page"), (b"version https://git-lfs.github.com/spec/v1\noid 1", "LFS pointer"), (b"", "cannot be read"),
    (b"PK\x03\x04 half a file", "cannot be read"), (b"\x00" * 3000, "cannot be read|more than tensors")])
def test_what_is_not_a_weight_file(tmp_path, content, sentence):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read_checkpoint(tmp_path / "w.pth")


def test_missing_names_what_is_there(saved):
    with pytest.raises(UserError, match=r"no weight file .*bst\.pth.*best\.pth"):
        read_checkpoint(saved.with_name("bst.pth"))


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_foreign_pickles_are_refused(tmp_path, capsys):
    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="more than tensors"):
        load_weights(nets.build("yolov4_tiny", 3), tmp_path / "evil.pth")
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s}, lambda s: {"model": {f"module.{k}": v for k, v in s.items()}},
                                  lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()}])
def test_wrappers_of_others(model, tmp_path, wrap):
    torch.save(wrap(model.state_dict()), tmp_path / "w.pth")
    report = load_weights(nets.build("yolov4_tiny", 3), tmp_path / "w.pth")
    assert len(report.loaded) == 99 and report.backbone == 1.0 and not report.unused and not report.missing


def test_weights_of_another_network_stop(tmp_path):
    from torchvision.models import resnet18
    torch.save(resnet18().state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(UserError, match="(?s)0 of 99 tensors.*belong to a different network"):
        load_weights(nets.build("yolov4_tiny", 3), tmp_path / "resnet18.pth")
    assert load_weights(nets.build("yolov4_tiny", 3), tmp_path / "resnet18.pth", allow_partial=True).backbone == 0


@pytest.mark.parametrize("name", ["yolov4-tiny.weights", "yolov4-tiny.conv.29"])
def test_darknet_files_are_for_training(tmp_path, name):
    (tmp_path / name).write_bytes(bytes(100))
    with pytest.raises(UserError, match="Say which network it is, like net=ssd300.*train.py"):
        nets.load(tmp_path / name)
    with pytest.raises(UserError, match="darknet file.*train.py"):
        read_checkpoint(tmp_path / name)
    (tmp_path / name).write_bytes(b"<html>")
    for read in (lambda path: nets.load(path, net="yolov4_tiny"), lambda path: load_weights(nets.build("yolov4_tiny", 3), path)):
        with pytest.raises(UserError, match="web page"):
            read(tmp_path / name)


def test_loading_a_resumable_file_leaves_the_training_behind(model, saved):
    save_checkpoint(saved, **read_checkpoint(saved) | {"training": {"model": model.state_dict()}})
    assert set(nets.load(saved)[1]) == {"format", "net", "options", "class_names", "input_shape", "settings", "epoch"}


def test_bare_weights_cannot_predict(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "bare.pth")
    with pytest.raises(UserError, match="bare weights"):
        nets.load(tmp_path / "bare.pth")


def test_a_failed_save_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def full(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(checkpoint.torch, "save", full)
    with pytest.raises(UserError, match="No space left.*untouched"):
        save_checkpoint(saved, model={})
    assert saved.read_bytes() == before and not list(saved.parent.glob("*.part"))


CONTENT = bytes(range(250)) * 800
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server on this machine that gives 200,000 bytes, all or from where it is asked, or breaks off, or says no.
    -> its address; server.asked: (path, range) of each request."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            asked.append((self.path, wanted))
            first = int(wanted[6:-1]) if wanted and "deaf" not in self.path else 0
            again = sum(path == self.path for path, _ in asked) > 1
            self.send_response(404 if "missing" in self.path else 503 if "busy" in self.path and not again else 206 if first else 200)
            self.send_header("Content-Length", str(len(CONTENT) - first))
            self.end_headers()
            breaks = "broken" in self.path or "once" in self.path and not again
            content = CONTENT[first:first + 1000] if breaks else CONTENT[first:]
            if "slow" in self.path:
                for start in range(0, len(content), 20):
                    self.wfile.write(content[start:start + 20])
                    time.sleep(0.02)
            self.wfile.write(content)

        def log_message(self, *words):
            pass
    monkeypatch.delenv(download.OFFLINE)
    monkeypatch.setattr(download, "ROOT", tmp_path)
    monkeypatch.setattr(download, "PAUSE", 0.01)
    (tmp_path / "model_data").mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield Address(f"http://127.0.0.1:{running.server_port}", asked)
        running.shutdown()


class Address(str):
    def __new__(cls, address, asked):
        self = super().__new__(cls, address)
        self.asked = asked
        return self


def test_download(server, tmp_path):
    path = download.download(f"{server}/a.weights")
    assert path == tmp_path / "model_data" / "a.weights" and path.stat().st_size == 200000
    assert download.download("http://127.0.0.1:9/a.weights") == path                      # it is there, nothing is fetched


@pytest.mark.parametrize("name, options, tries", [("missing.weights", {}, 1), ("broken.weights", {"timeout": 2}, 3),
                                                  ("good.weights", {"sha256": "0" * 64}, 3)])
def test_failed_downloads(server, tmp_path, name, options, tries):
    """Nothing passes for the file; what another try cannot change is tried once."""
    with pytest.raises(UserError, match=f"(?s){name}.*by hand.*model_data/{name}"):
        download.download(f"{server}/{name}", **options)
    assert not (tmp_path / "model_data" / name).exists() and len(server.asked) == tries


@pytest.mark.parametrize("name, second", [("once.pth", "bytes=1000-"), ("once-deaf.pth", "bytes=1000-"), ("busy.pth", None)])
def test_a_second_try_goes_on_where_the_first_broke_off(server, tmp_path, capsys, name, second):
    """Also where the server does not know ranges and sends all of it; the checksum is that of the whole file."""
    path = download.download(f"{server}/{name}", sha256=CHECKSUM)
    assert path.read_bytes() == CONTENT and [asked for _, asked in server.asked] == [None, second]
    assert capsys.readouterr().err.count("try 2 of 3") == 1 and [one.name for one in path.parent.iterdir()] == [name]


def test_without_a_checksum_it_begins_anew(server, tmp_path):
    """Nothing could tell that the two parts are of one file."""
    assert download.download(f"{server}/once.weights").read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, None]


def test_the_next_run_goes_on_too(server, tmp_path):
    """A killed run's beginning is taken over; what does not fit is found by the checksum and fetched anew."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    for number, beginning in enumerate((CONTENT[:150_000], b"other" * 10_000)):
        name = f"file{number}.pth"
        (tmp_path / "model_data" / f"{name}.{dead.pid}.plainvision.part").write_bytes(beginning)
        assert download.download(f"{server}/{name}", sha256=CHECKSUM).read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == ["bytes=150000-", "bytes=50000-", None]
    assert {one.name for one in (tmp_path / "model_data").iterdir()} == {"file0.pth", "file1.pth"}


def test_a_kept_beginning_is_said(server, tmp_path):
    with pytest.raises(UserError, match="What arrived is kept: the next try goes on from there"):
        download.download(f"{server}/broken.pth", sha256=CHECKSUM)
    (part,) = (tmp_path / "model_data").iterdir()
    assert part.read_bytes() == CONTENT[:3000]                                # a thousand with each try


def test_the_time_is_limited_however_slowly_it_drips(server):
    """A byte now and then keeps a connection alive for ever."""
    began = time.monotonic()
    with pytest.raises(UserError, match="more than 0.3 s"), download.in_time(0.3):
        download.download(f"{server}/slow.weights", timeout=5)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("mirror, asked", [("{server}/mine/", "/mine/a.weights"), ("{server}/get?name={{name}}", "/get?name=a.weights"),
                                           ("{server}/{{url}}", "/https://example.org/x/a.weights")])
def test_a_mirror(server, monkeypatch, mirror, asked):
    monkeypatch.setenv(download.MIRROR, mirror.format(server=server))
    assert download.download("https://example.org/x/a.weights").name == "a.weights" and server.asked == [(asked, None)]


OK, CHUNKED = b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ANSWERS = {
    "no status": b"hello\r\n\r\n", "another protocol": b"SSH-2.0-OpenSSH_9\r\n", "nothing": b"", "a status of text": b"HTTP/1.1 abc OK\r\n\r\n",
    "a length of text": OK + b"Content-Length: many\r\n\r\nabc", "a length below zero": OK + b"Content-Length: -5\r\n\r\nabc",
    "too short": OK + b"Content-Length: 50\r\n\r\nabc", "a chunk of text": CHUNKED + b"zz\r\n", "a chunk cut off": CHUNKED + b"ff\r\nabc",
    "a long line": b"HTTP/1.1 200 " + b"x" * 70_000 + b"\r\n\r\n", "many headers": OK + b"a: b\r\n" * 200 + b"\r\n",
    "to nowhere": b"HTTP/1.1 302 F\r\nLocation: http://[::1\r\n\r\n", "steering": b"HTTP/1.1 500 \x1b[2J\r\n\r\n",
    "to a file": b"HTTP/1.1 302 F\r\nLocation: file:///etc/passwd\r\n\r\n"}


@pytest.mark.parametrize("name", ANSWERS)
def test_odd_answers_are_one_sentence(tmp_path, monkeypatch, name):
    """A server that answers with what no server should: nothing that passes for the file is left in model_data."""
    monkeypatch.setattr(download, "ROOT", tmp_path)
    monkeypatch.delenv(download.OFFLINE)
    monkeypatch.setattr(download, "PAUSE", 0.01)
    (tmp_path / "model_data").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        def answer():
            for _ in range(download.TRIES):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(ANSWERS[name])
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with pytest.raises(UserError, match="Could not download .* by hand") as error:
            download.download(f"http://127.0.0.1:{listening.getsockname()[1]}/odd.pth", timeout=3)
    assert len(str(error.value)) < 800 and "\n" not in str(error.value) and "\x1b" not in str(error.value)
    assert not (tmp_path / "model_data/odd.pth").exists()


def test_no_network_is_one_sentence(server):
    with pytest.raises(UserError, match="Could not download"):
        download.download("http://127.0.0.1:9/b.weights", timeout=2)


@pytest.mark.parametrize("name, fits", [("wrong-00000000.pth", False), (f"right-{CHECKSUM[:8]}.pth", True)])
def test_the_checksum_in_a_name_is_checked(server, tmp_path, name, fits):
    """resnet50-0676ba61.pth: eight digits of the SHA-256, as torchvision and others name their files."""
    if fits:
        assert download.download(f"{server}/{name}").is_file()
    else:
        with pytest.raises(UserError, match="checksum"):
            download.download(f"{server}/{name}")


@pytest.mark.parametrize("net, options, theirs", [
    ("deeplabv3plus", {"backbone": "resnet50"}, torchvision.models.resnet50),
    ("deeplabv3plus", {}, torchvision.models.mobilenet_v2),
    ("unet", {"backbone": "vgg16"}, torchvision.models.vgg16),
])
def test_imagenet_files_load_into_the_backbone(net, options, theirs, tmp_path):
    """model_path = the file of a whole classifier, as torchvision publishes it."""
    classifier = theirs(weights=None)
    torch.save(classifier.state_dict(), tmp_path / "imagenet.pth")
    model = nets.build(net, 3, (64, 64), **options)
    report = load_weights(model, tmp_path / "imagenet.pth")
    assert report.backbone == 1.0 and all(name.startswith("backbone.") for name in report.loaded) and report.unused
    own, whole = model.state_dict(), classifier.state_dict()
    assert all(torch.equal(own[name], whole[name.removeprefix("backbone.")]) for name in report.loaded)
