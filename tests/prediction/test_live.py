"""Cameras and streams: the newest frame, a true rate, a video as long as the scene, streams that break off."""
import socket
import threading
import time

import cv2
import numpy as np
import pytest
from fake_detector import go_fixture, grey, results  # noqa: F401
from mjpeg import Camera, read_stamp

from utils.errors import UserError
from utils.prediction import cameras, live, torch_engine, window
from utils.results import h264, video

NOTHING = {"boxes": np.zeros((0, 4), np.float32), "scores": np.zeros(0, np.float32), "labels": np.zeros(0, np.int64)}


@pytest.fixture(autouse=True)
def online(monkeypatch):
    """The servers of these tests are on this computer."""
    monkeypatch.delenv("PLAINVISION_OFFLINE")


@pytest.fixture
def quick(monkeypatch):
    """A lost stream is noticed and looked for at once."""
    monkeypatch.setattr(live, "PATIENCE", 2)
    monkeypatch.setattr(live, "PAUSES", (0.05, 0.05, 0.3, 0.05, 0.05))


def slow_network(camera, seconds, pictures, seen):
    """A detector that takes so long, notes when each picture was sent and when it came, and is stopped by Ctrl-C after so many."""
    def detect(model, images, *words, **rules):
        seen.append((read_stamp(images[0]), camera.now()))
        time.sleep(seconds)
        if len(seen) > pictures:
            seen.append((camera.now(), camera.now()))
            raise KeyboardInterrupt
        return [NOTHING]
    return detect


def watch_slowly(go, monkeypatch, folder, fps, pictures):
    """-> seconds each picture was behind, how long it all took, what was said, the pictures of the video with their times."""
    seen = []
    with Camera(fps) as camera:
        monkeypatch.setattr(torch_engine, "detect", slow_network(camera, 0.4, pictures, seen))
        said = go(source=camera.url, show=False)
    (made,) = (folder / "out").iterdir()
    images, moments, _ = zip(*video.VideoSource(made).frames())
    sent, came = np.transpose(seen)
    return came - sent, sent[-1] - sent[0], said, images, np.array(moments)


def check_times(images, moments, seconds):
    """Every picture of the video is shown at its time, and the video is as long as the scene."""
    stamps = np.array([read_stamp(image) for image in images])
    starts = np.flatnonzero(np.diff(stamps, prepend=-1))[1:]

    # The first picture waits while the stream is opened; all others are as late as each other.
    late = (stamps - stamps[0])[starts] - moments[starts]
    assert np.abs(late - np.median(late)).max() < 0.08 and np.abs(late).max() < 0.2     # a picture without PyAV is 0.04 s long
    assert moments[-1] == pytest.approx(seconds, abs=max(0.08, 0.02 * seconds))


@pytest.mark.parametrize("way", [pytest.param("h264", marks=pytest.mark.skipif(h264.pyav() is None, reason="PyAV is not installed (optional)")),
                                 "opencv"])
def test_a_slow_network_is_never_behind(go, tmp_path, monkeypatch, way):
    if way == "opencv":
        monkeypatch.setattr(h264, "pyav", lambda: None)
    behind, seconds, said, images, moments = watch_slowly(go, monkeypatch, tmp_path, fps=20, pictures=4)
    assert behind.max() < 1 and "4 frames in" in said and "always the newest" in said
    check_times(images, moments, seconds)


@pytest.mark.torture
def test_600_frames_with_a_slow_network(go, tmp_path, monkeypatch):
    """Before there was a reader's thread: 11 s behind after 36 frames, and 36 s of video for 6 s."""
    behind, seconds, said, images, moments = watch_slowly(go, monkeypatch, tmp_path, fps=10, pictures=150)
    assert behind.max() < 1 and "150 frames in" in said
    check_times(images, moments, seconds)


def test_the_rate_is_the_real_one():
    with Camera(fps=20) as camera:
        source = live.open_live(camera.url)
        time.sleep(1)
        assert source.fps == 25 and source.rate() == pytest.approx(20, rel=0.2)     # OpenCV says 25 of every such stream
        source.close()


def test_a_stream_that_comes_back_and_then_ends(capsys, quick):
    """Each try is said; what came meanwhile is not lost, and the end is the end."""
    with Camera(fps=30) as camera:
        source = live.open_live(camera.url)
        frames = source.frames()
        assert next(frames)[0] is not None
    before, end = source.arrived, time.monotonic() + 20
    with Camera(fps=30, port=camera.port):
        while source.arrived < before + 5:
            assert time.monotonic() < end
            next(frames)
    left = [image for image, _ in frames if image is not None]              # ends by itself
    said = capsys.readouterr().out
    assert len(left) <= 1 and source.ended
    assert "opening it again (1 of 5)" in said and f"{camera.url} is there again." in said
    assert "opening it again (5 of 5)" in said and "has ended: " in said and "Connection refused" in said


def test_a_stream_that_ends_leaves_its_video(go, tmp_path, monkeypatch, quick):
    """A quick network sees every picture of a short stream."""
    monkeypatch.setattr(live, "PAUSES", (0.01,))
    monkeypatch.setattr(torch_engine, "detect", lambda model, images, *words, **rules: [NOTHING])
    opened = []

    def open_once(name, open_capture=live.open_capture):
        opened.append(name)
        return open_capture(name) if len(opened) == 1 else None
    monkeypatch.setattr(live, "open_capture", open_once)
    with Camera(fps=10, pictures=6) as camera:
        said = go(source=camera.url)
    assert "opening it again (1 of 1)" in said and "has ended" in said
    (made,) = (tmp_path / "out").iterdir()
    images, moments, _ = zip(*video.VideoSource(made).frames())
    assert moments[-1] == pytest.approx(0.5, abs=0.15) and read_stamp(images[-1]) == pytest.approx(0.5, abs=0.15)


def answering(text):
    """A server on this computer that says one thing. -> its port"""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(1000)
                connection.sendall(text)
    threading.Thread(target=serve, daemon=True).start()
    return server


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def test_why_there_is_no_picture(go):
    port = free_port()
    with pytest.raises(UserError, match=rf"^Nothing answers at rtsp://127.0.0.1:{port} \(connection refused\)"):
        go(source=f"rtsp://me:secret@127.0.0.1:{port}/live")
    with pytest.raises(UserError, match="There is no computer called nobody.invalid in this network"):
        go(source="rtsp://nobody.invalid/live")
    with answering(b"RTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n") as server:
        address = f"rtsp://127.0.0.1:{server.getsockname()[1]}/live"
        assert live.why_no_picture(address) == f"{address}: the server says 404, it has no such stream."
    with answering(b"RTSP/1.0 401 Unauthorized\r\n\r\n") as server:
        assert "asks for a name and a password" in live.why_no_picture(f"rtsp://127.0.0.1:{server.getsockname()[1]}/live")
    with answering(b"nonsense") as server:
        assert "gives no picture" in live.why_no_picture(f"rtsp://127.0.0.1:{server.getsockname()[1]}/live")
    with Camera() as camera, pytest.raises(UserError, match="the server says 404"):
        go(source=camera.url + "/none")


class FakeWindow:
    """Presses these keys, one for each picture."""

    def __init__(self, keys):
        self.keys, self.pictures = list(keys), []

    def show(self, picture, wait=1):
        self.pictures.append(picture)
        return self.keys.pop(0) if self.keys else "escape"

    def close(self):
        pass


class FakeCapture:
    """A camera: these pictures, None where one is missing, and nothing behind them."""

    def __init__(self, values):
        self.left = list(values)

    def isOpened(self):
        return bool(self.left)

    def read(self):
        time.sleep(0.03)
        value = self.left.pop(0) if self.left else None
        return value is not None, None if value is None else grey(96, 128, value)

    def get(self, name):
        return -1.0 if name == cv2.CAP_PROP_FRAME_COUNT else 0.0

    def release(self):
        pass


def test_a_camera_of_this_computer(monkeypatch, capsys):
    """A picture that is missing is no end; a camera that has none says which cameras there are."""
    monkeypatch.setattr(live, "PATIENCE", 3)
    monkeypatch.setattr(live, "PAUSES", (0.01,))
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda source, *words: FakeCapture([20, 40, None, None, 60, 80] if source == 0 else []))
    source = live.open_live("0")
    monkeypatch.setattr(live, "open_capture", lambda name: None)
    assert [int(image[0, 0, 0]) for image, _ in source.frames() if image is not None] == [20, 40, 60, 80] and source.fps == 25
    assert "Camera 0 gives no more pictures after 4 frames; opening it again (1 of 1)" in capsys.readouterr().out
    monkeypatch.undo()
    monkeypatch.setattr(video.cv2, "VideoCapture", lambda source, *words: FakeCapture([20] if source == 2 else []))
    with pytest.raises(UserError, match="Camera 7 gives no picture; tried 0 to 3, working: 2"):
        live.open_live("7")


@pytest.mark.parametrize("end", window.ENDS)
def test_keys(go, tmp_path, monkeypatch, end):
    """s keeps a picture, Esc, q and the cross end; the window shows more than the video: the rate and the keys."""
    shown = FakeWindow(["", "s", "", end])
    monkeypatch.setattr(live, "open_capture", lambda name: FakeCapture([100] * 200))
    monkeypatch.setattr("predict.choose_window", lambda show, live: shown)
    said = go(mode="camera", source="")
    assert "Esc in the window or Ctrl-C" in said and "camera0_frame.jpg is saved" in said and "4 frames in" in said
    made = results(tmp_path / "out")
    assert len(made) == 2 and made[1] == "camera0_frame.jpg"
    images, *_ = zip(*video.VideoSource(tmp_path / "out" / made[0]).frames())
    difference = np.abs(shown.pictures[0].astype(int) - images[0])
    assert difference[-12:, :60].mean() > 40 > 15 > difference[60:80, 100:].mean()    # the caption is in the window alone


def test_a_password_is_neither_printed_nor_kept(go, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "open_capture", lambda name: FakeCapture([100] * 200))
    monkeypatch.setattr("predict.choose_window", lambda show, live: FakeWindow(["", "", "escape"]))
    said = go(mode="camera", source="rtsp://me:secret@127.0.0.1/live", save_json=True)
    assert "Camera or stream rtsp://127.0.0.1/live" in said and "secret" not in said
    (table,) = (tmp_path / "out").glob("*.json")
    assert "rtsp://127.0.0.1/live" in table.read_text() and "secret" not in table.read_text()
    assert not [name for name in results(tmp_path / "out") if "secret" in name]


def test_a_pause_of_minutes_stays_a_pause(tmp_path):
    """The stream was lost for long; the video is as long as the scene all the same."""
    made = video.VideoFile(tmp_path, "clip", 2)
    for moment in (0.0, 1.0, 200.0, 201.0):
        cameras.record(made, grey(48, 64, int(50 + moment / 2)), moment)
    made.close()
    _, moments, _ = zip(*video.VideoSource(made.path).frames())
    assert moments[-1] == pytest.approx(201, abs=0.5)
