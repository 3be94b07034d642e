"""Videos: frames in, frames out. The way without PyAV is always tested, the other one where it is installed."""
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from fake_detector import fake_detect, go_fixture, grey, results, save  # noqa: F401
from PIL import Image

import predict
from utils.errors import UserError
from utils.prediction import torch_engine
from utils.results import h264, video
from utils.settings import ROOT
from utils.system import signals

needs_pyav = pytest.mark.skipif(h264.pyav() is None, reason="PyAV is not installed (optional)")


@pytest.fixture(params=[pytest.param("h264", marks=needs_pyav), "opencv"])
def writer(request, monkeypatch):
    """Each way of writing a video."""
    monkeypatch.setattr(video, "_told", set())
    if request.param == "opencv":
        monkeypatch.setattr(h264, "pyav", lambda: None)
    return request.param


def make_video(folder, frames, width, height, name="clip", moments=None):
    made = video.VideoFile(folder, name, 12)
    for number in range(frames):
        made.write(grey(height, width, 20 + 20 * number), moments and moments[number])
    assert made.close() == frames
    return made.path


def read_frames(path):
    """-> images, times in s, holes before them."""
    return zip(*video.VideoSource(path).frames())


def motion_jpeg(path, frames=30, without=(), cut=None):
    """A video each of whose frames is a JPEG, which is easy to damage. without: frames that are overwritten with zeros.
    cut: the frame in which the file ends."""
    made = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for number in range(frames):
        made.write(grey(48, 64, 10 + 200 * number // frames))
    made.release()
    data = path.read_bytes()
    starts = [place for place in range(len(data)) if data[place:place + 3] == b"\xff\xd8\xff"]
    assert len(starts) == frames
    for number in without:
        data = data[:starts[number]] + bytes(200) + data[starts[number] + 200:]
    path.write_bytes(data[:starts[cut]] if cut else data)
    return path


@pytest.mark.parametrize("width, height", [(64, 48), (65, 49), (31, 200), (1, 1)])
def test_video_round_trip(tmp_path, writer, width, height):
    path = make_video(tmp_path / "new", 7, width, height)
    source = video.VideoSource(path)
    images, moments, holes = zip(*source.frames())
    assert len(images) == source.count == video.count_frames(path) == 7 and source.fps == pytest.approx(12, rel=0.01)
    assert images[0].shape[0] >= height and images[0].shape[1] >= width and images[0].dtype == np.uint8
    means = [image[:height, :width].mean() for image in images]
    assert np.abs(np.subtract(means, range(20, 160, 20))).max() < 8           # every frame, the first one too, in order
    assert moments == pytest.approx([number / 12 for number in range(7)], abs=0.002) and not any(holes)
    assert source.complaint() == ""


def test_video_colours_are_not_swapped(tmp_path, writer):
    made = video.VideoFile(tmp_path, "red", 25)
    for _ in range(3):
        made.write(np.tile(np.uint8([220, 30, 30]), (32, 32, 1)))
    made.close()
    images, *_ = read_frames(made.path)
    assert np.abs(images[0][16, 16] - [220.0, 30, 30]).max() < 16


def test_video_of_changing_size_and_an_empty_one(tmp_path, writer):
    made = video.VideoFile(tmp_path, "clip", 25)
    for size in (40, 40, 50, 20):
        made.write(grey(size, size))
    assert made.close() == made.written == 4
    empty = video.VideoFile(tmp_path, "none", 25)
    assert empty.close() == 0 and empty.complaint() == "" and len(results(tmp_path)) == 1


def test_what_opencv_writes_instead(tmp_path, monkeypatch):
    """VP8 for browsers, else MPEG-4, else Motion JPEG, each with its sentence."""
    monkeypatch.setattr(h264, "pyav", lambda: None)
    monkeypatch.setattr(video, "_told", set())
    codecs = video.CODECS
    for number, words in enumerate(("a video is VP8, without sound", "browsers do not show", "browsers do not show")):
        monkeypatch.setattr(video, "CODECS", codecs[number:])
        made = video.VideoFile(tmp_path, "clip", 12)
        for value in (0, 20, 40):
            made.write(grey(48, 64, value))
        assert made.close() == 3 and made.path.name == f"clip{codecs[number][1]}"
        said = made.complaint()
        assert words in said and "pip install av" in said
        assert made.complaint() == ""                                       # said once
    assert results(tmp_path) == ["clip.avi", "clip.mp4", "clip.webm"]
    monkeypatch.setattr(video, "CODECS", [("none", ".odd")])
    with pytest.raises(UserError, match="neither VP8 in .webm, mp4v"):
        make_video(tmp_path, 3, 64, 48)


def test_times_of_a_variable_frame_rate(tmp_path, writer):
    """With PyAV each frame keeps its time; without it their mean distance is kept, and a sentence says so."""
    moments = [0.0, 0.04, 0.08, 0.12, 0.6, 1.4, 1.5]
    made = video.VideoFile(tmp_path, "clip", 7 / 1.6)
    for number, moment in enumerate(moments):
        made.write(grey(48, 64, 20 * number), moment)
    assert made.close() == 7
    _, found, _ = read_frames(made.path)
    if writer == "h264":
        assert found == pytest.approx(moments, abs=0.001) and made.complaint() == ""
    else:
        assert found[-1] == pytest.approx(6 / 7 * 1.6, abs=0.01) and "without sound" in made.complaint()


def test_nonsense_times_are_not_believed(tmp_path, writer):
    """Times that stand still, fall, or jump by days: as if there were none."""
    path = make_video(tmp_path, 6, 64, 48, moments=[0.0, 0.0, 99999.0, 0.1, 0.1001, float("nan")])
    assert read_frames(path) and list(read_frames(path))[1] == pytest.approx([number / 12 for number in range(6)], abs=0.002)


def test_a_hole_is_bridged_and_counted(go, tmp_path, writer):
    path = motion_jpeg(tmp_path / "hit.avi", without=(10, 11, 12, 13, 20))
    said = go(source=path)
    assert "25 frames in" in said and "5 frames could not be read" in said and "cut off" not in said
    (made,) = (tmp_path / "out").iterdir()
    assert video.count_frames(made) == 30
    images, *_ = read_frames(made)
    means = [image[30:, :30].mean() for image in images]                    # away from the boxes drawn
    assert max(abs(mean - means[9]) for mean in means[10:14]) < 3 and means[14] > means[13] + 15


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_a_video_that_is_cut_off(go, tmp_path, suffix):
    path = motion_jpeg(tmp_path / f"cut{suffix}", cut=14)
    said = go(source=path)
    assert "14 of 30 frames: the rest is not in the file" in said and "could not be read" not in said
    assert video.count_frames(next((tmp_path / "out").iterdir())) == 14


def test_holes_at_the_beginning_and_longer_than_patience(go, tmp_path):
    gone = (0, 1, *range(5, 5 + video.PATIENCE + 10))
    said = go(source=motion_jpeg(tmp_path / "hit.avi", frames=60, without=gone))
    assert f"{60 - len(gone)} frames in" in said and f"{len(gone)} frames could not be read" in said
    assert video.count_frames(next((tmp_path / "out").iterdir())) == 60


def test_video_that_is_none(go, tmp_path):
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(UserError, match="a.mp4 gives no picture"):
        go(source=tmp_path / "a.mp4")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["cctv.mts", "raw.h264", "dvd.vob", "a.mpeg", "b.m2ts"])
def test_suffixes_of_videos(go, tmp_path, name):
    """What is no video says that it gives no picture, not that it is no image."""
    (tmp_path / name).write_bytes(b"no video")
    with pytest.raises(UserError, match=f"{name} gives no picture"):
        go(source=tmp_path / name)
    (tmp_path / "clip.odd").write_bytes(b"no video")
    with pytest.raises(UserError, match="clip.odd.*If it is a video, say mode=video"):
        go(source=tmp_path / "clip.odd")


def test_video(go, tmp_path, writer):
    path = make_video(tmp_path, 6, 65, 49, name="100% clip one")
    said = go(source=path, count=True, show=True, crop=True)
    assert 'mode = "video"' in said and "6 frames in" in said
    assert f"{path.name}: 6 frames, 12 per second" in said and ("pip install av" in said) == (writer == "opencv")
    assert video.count_frames(tmp_path / "out" / path.name) == 6
    assert "count, all frames together" in said and "only the video is saved" in said


def test_a_moving_gif_is_a_video(go, tmp_path):
    frames = [Image.fromarray(grey(48, 64, 20 * number)) for number in range(5)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:], duration=100)
    frames[0].save(tmp_path / "still.gif")
    said = go(source=tmp_path / "moving.gif")
    assert 'source is a moving .gif, so this run has mode = "video"' in said and "5 frames in" in said
    go(source=tmp_path / "still.gif")
    assert "still.png" in results(tmp_path / "out")


def test_video_that_lost_frames_is_an_error(go, tmp_path, monkeypatch):
    path = make_video(tmp_path, 4, 64, 48)
    monkeypatch.setattr(video, "count_frames", lambda path: 1)
    with pytest.raises(UserError, match="holds 1 of 4 frames"):
        go(source=path)


@needs_pyav
def test_h264_is_what_browsers_play(tmp_path):
    """H.264 in yuv420p, said to be BT.601, an ordinary .mp4 with its table of contents; the pixels' shape is kept."""
    av = h264.pyav()
    made = video.VideoFile(tmp_path, "clip", 25, aspect=video.Fraction(4, 3))
    for number in range(5):
        made.write(grey(49, 65, 20 * number))
    made.close()
    with av.open(str(made.path)) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt, stream.frames) == ("h264", "yuv420p", 5)
        assert stream.codec_context.colorspace == 5 and stream.sample_aspect_ratio == video.Fraction(4, 3)
        assert float(stream.duration * stream.time_base) == pytest.approx(0.2, abs=0.01)
    data = made.path.read_bytes()
    assert b"moov" in data and b"moof" not in data.replace(data[data.index(b"mdat"):data.rindex(b"moov")], b"")


def film_with_sound(path, codec="aac"):
    """Two seconds of video at 25 frames per second, with a tone."""
    av = h264.pyav()
    with av.open(str(path), "w") as file:
        pictures = file.add_stream("mpeg4", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sound = file.add_stream(codec, rate=44100, layout="mono")
        for number in range(50):
            file.mux(pictures.encode(av.VideoFrame.from_ndarray(grey(48, 64, 4 * number), format="rgb24")))
        kind = sound.codec_context.format.name
        wave = np.sin(np.arange(88200) / 20)
        samples = (wave * 20000).astype(np.int16) if kind.startswith("s16") else wave.astype(np.float32)
        for begin in range(0, 88200, 1024):
            frame = av.AudioFrame.from_ndarray(samples[None, begin:begin + 1024], format=kind, layout="mono")
            frame.sample_rate, frame.pts = 44100, begin
            file.mux(sound.encode(frame))
        file.mux(pictures.encode())
        file.mux(sound.encode())
    return path


@needs_pyav
def test_sound_is_copied(go, tmp_path):
    av = h264.pyav()
    said = go(source=film_with_sound(tmp_path / "film.mp4"))
    assert "50 frames in" in said and "The sound of" not in said
    sizes = []
    for path in (tmp_path / "film.mp4", tmp_path / "out" / "film.mp4"):
        with av.open(str(path)) as file:
            assert file.streams.audio[0].codec_context.name == "aac"
            sizes.append([packet.size for packet in file.demux(file.streams.audio[0]) if packet.size])
    # Without the packet before the first picture, in which the encoder warms up, and those behind the last one.
    assert len(sizes[0]) - 4 <= len(sizes[1]) and sizes[1] == sizes[0][1:][:len(sizes[1])]
    assert video.count_frames(tmp_path / "out" / "film.mp4") == 50


@needs_pyav
def test_sound_that_does_not_fit_is_named(go, tmp_path):
    said = go(source=film_with_sound(tmp_path / "film.avi", "pcm_s16le"))
    assert "The sound of" in said and "pcm_s16le" in said and "50 frames in" in said


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from utils.results import h264
from utils.results.video import VideoFile
if sys.argv[3] == "opencv":
    h264.pyav = lambda: None
made = VideoFile(sys.argv[2], "clip", 25)
for number in range(100):
    made.write(np.full((48, 64, 3), 2 * number, np.uint8))
os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("how", [pytest.param("h264", marks=needs_pyav), "opencv"])
def test_kill_leaves_a_video_that_plays(tmp_path, how):
    run = subprocess.run([sys.executable, "-c", KILLED, str(ROOT), str(tmp_path), how], capture_output=True, timeout=120)
    assert run.returncode == -signal.SIGKILL, run.stderr
    (path,) = tmp_path.iterdir()
    end = time.monotonic() + 60
    while video.count_frames(path) < 97 and time.monotonic() < end:         # the process that encodes has to notice
        time.sleep(0.05)
    assert video.count_frames(path) >= 97


@pytest.fixture
def handlers():
    """What signals do, as it was before."""
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    signals.asked.update(signal=None, at=0.0, busy=False)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a program without asking it")
@pytest.mark.parametrize("number", sorted(signals.SIGNALS), ids=lambda number: signal.Signals(number).name)
def test_signals_leave_a_whole_video(go, tmp_path, monkeypatch, capsys, handlers, writer, number):
    """Ctrl-C, SIGTERM ...: the exit code says so, the video has every frame that was looked at."""
    seen = []

    def detect(*words, **rules):
        seen.append(1)
        if len(seen) == 8:
            os.kill(os.getpid(), number)
        return fake_detect(*words, **rules)
    monkeypatch.setattr(torch_engine, "detect", detect)
    monkeypatch.setattr(predict, "main", lambda s, main=predict.main: signals.run(main, s))
    with pytest.raises(SystemExit) as end:
        go(source=motion_jpeg(tmp_path / "long.avi", frames=20))
    assert end.value.code == 128 + number
    (made,) = (tmp_path / "out").iterdir()
    assert f"{made.name}: 7 frames" in capsys.readouterr().out and video.count_frames(made) == 7
