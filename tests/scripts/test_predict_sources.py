"""What predict.py looks at: folders, patterns, lists, several sources, addresses, standard input."""
import contextlib
import http.server
import io
import os
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from fake_detector import NAMES, go_fixture, grey, results, save  # noqa: F401
from PIL import Image

from utils.errors import UserError
from utils.results import address, filters, sources, video


def test_list_images_in_a_junk_folder(tmp_path):
    good = ["a.jpg", "A b.JPG", "c.Jpeg", "sub/深/d.png", "sub/e.TIF", "f.tiff", "g.bmp", "h.webp", "i.gif", "v1.2.jpg"]
    junk = ["._a.jpg", ".hidden.png", "Thumbs.db", "notes.txt", "x.jpg.part", "__MACOSX/a.jpg", ".git/b.png", "$RECYCLE.BIN/c.jpg", "jpg"]
    for name in good + junk:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    images, videos, others = sources.list_files(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in images] == sorted(good) and videos == []
    assert [path.name for path in others] == ["jpg", "notes.txt", "x.jpg.part"]
    assert len(sources.list_files(tmp_path, leave_out=(tmp_path / "sub").resolve())[0]) == len(good) - 2


def test_find_source_takes_pasted_paths_and_names_the_nearest(tmp_path):
    path = save(tmp_path / "my photos" / "street.jpg", grey(4, 4))
    for text in (f' "{path}" ', f"'{path}'", f"{path} ", f"“{path}”"):
        assert [item.place for item in sources.find_items(sources.split_sources(text), "image")[0]] == [path]
    with pytest.raises(UserError, match='"street.jpg"'):
        sources.find_source(str(path.with_name("stret.jpg")))
    with pytest.raises(UserError, match='"my photos"'):
        sources.find_source(str(tmp_path / "my photo" / "deep" / "street.jpg"))
    with pytest.raises(UserError):
        sources.find_source("x" * 5000)


@pytest.mark.parametrize("mode, source, kind", [
    ("image", "{}/a.jpg", "image"), ("image", "{}", "folder"), ("image", "{}/v.MP4", "video"), ("folder", "{}/a.jpg", "image"),
    ("video", "{}/a.gif", "video"), ("image", "{}/a.gif", "image"), ("video", "{}/v.odd", "video"), ("image", "3", "camera"),
    ("camera", "", "camera"), ("video", "rtsp://x/y", "camera"), ("image", "/dev/video0", "camera"), ("video", "{}/a.jpg", "image")])
def test_mode_follows_the_source_and_says_so(tmp_path, capsys, monkeypatch, mode, source, kind):
    if source.startswith("/dev"):
        monkeypatch.setattr(sources, "existing", Path)                      # this computer may have no camera
    for name in ("a.jpg", "v.MP4", "a.gif", "v.odd"):
        (tmp_path / name).write_bytes(b"")
    if kind == "folder":
        save(tmp_path / "b.jpg", grey(4, 4))
    items, left_out = sources.find_items(sources.split_sources(source.format(tmp_path)), mode)
    assert [item.kind for item in items] == [kind] * len(items) or kind == "folder"
    assert (f'mode = "{kind}"' in capsys.readouterr().out) == (kind != mode)


def test_find_place_refuses():
    with pytest.raises(UserError, match='"folder"'):
        sources.find_items([], "foldr")
    with pytest.raises(UserError, match="needs a source"):
        sources.find_items([], "video")


def test_no_source_takes_the_test_list(go, tmp_path):
    with pytest.raises(UserError, match="my test.txt"):
        go(source="")
    lines = [f"{save(tmp_path / 'VOC 2007' / f'{i:03}.jpg', grey(60, 80, 150))} 1,2,30,40,0\n" for i in range(11)]
    (tmp_path / "my test.txt").write_text("".join(lines), encoding="utf-8")
    said = go(source="")
    assert "8 images, 0 skipped" in said and results(tmp_path / "out") == [f"my test/{i:03}.jpg" for i in range(8)]


def clip(path, frames=4):
    """A small video."""
    made = video.VideoFile(path.parent, path.name, 10)
    for number in range(frames):
        made.write(grey(48, 64, 50 * number))
    made.close()
    return made.path


def test_a_folder_with_images_and_videos(go, tmp_path):
    """Everything is looked at, and what is not is named with the reason."""
    folder = tmp_path / "photos"
    save(folder / "a.jpg", grey(60, 80, 150))
    save(folder / "sub" / "b.png", grey(60, 80, 150))
    one, two = clip(folder / "film"), clip(folder / "sub" / "film")
    frames = [Image.fromarray(grey(48, 64, value)) for value in (9, 99, 200)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    (folder / "cut.mp4").write_bytes(b"nothing")
    (folder / "notes.txt").write_text("shopping")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.jpg")
    said = go(source=folder)
    suffix = one.suffix
    assert results(tmp_path / "out") == sorted(["photos/a.jpg", "photos/sub/b.png", f"photos/film{suffix}", f"photos/sub/film{suffix}",
                                                f"photos/moving{suffix}"])
    assert "2 images, 0 skipped" in said and "3 videos, 1 skipped" in said and "skipped: " in said and "cut.mp4 gives no picture" in said
    assert "Left out, neither an image nor a video: notes.txt." in said and two.is_file()
    assert ("Left out, no file that can be read: pipe.jpg." in said) == hasattr(os, "mkfifo")
    again = go(source=folder, output=folder / "out")
    assert "is inside the source and is not read" in again and "2 images, 0 skipped" in again


def test_a_folder_of_videos_alone_and_of_none_that_works(go, tmp_path):
    path = clip(tmp_path / "films" / "a")
    assert "4 frames in" in go(source=tmp_path / "films") and results(tmp_path / "out") == [f"films/{path.name}"]
    for name in "ab":
        (tmp_path / "bad").mkdir(exist_ok=True)
        (tmp_path / "bad" / f"{name}.mp4").write_bytes(b"nothing")
    with pytest.raises(UserError, match="None of the 2 videos could be read"):
        go(source=tmp_path / "bad")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a")
    with pytest.raises(UserError, match="no image or video in"):
        go(source=tmp_path / "texts")


def test_a_list_written_on_windows(tmp_path):
    save(tmp_path / "im" / "a.png", np.zeros((8, 8), np.uint8))
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbfim\\a.png\r\nim\\b.png\r\n")
    items, left_out = sources.find_items(sources.split_sources(str(tmp_path / "names.txt")), "image")
    assert [item.place for item in items] == [tmp_path / "im" / "a.png"] and left_out == [("im\\b.png", "no file is there")]


def test_patterns(go, tmp_path):
    for name in ("f1.jpg", "f2.jpg", "g1.jpg", "sub/f3.jpg", "f[4].jpg"):
        save(tmp_path / "pics" / name, grey(60, 80, 150))
    (tmp_path / "pics" / "f.csv").write_text("a")
    assert "3 images, 0 skipped" in go(source=f"{tmp_path}/pics/f*.jpg")
    assert results(tmp_path / "out") == ["pics/f1.jpg", "pics/f2.jpg", "pics/f[4].jpg"]
    said = go(source=f"{tmp_path}/pics/**/f*")
    assert "4 images, 0 skipped" in said and "Left out, neither an image nor a video: f.csv." in said
    assert "1 image," not in go(source=f"{tmp_path}/pics/g?.jpg") and "g1.jpg" in results(tmp_path / "out")
    go(source=f"{tmp_path}/pics/f[4].jpg")                                  # the file of this name, not f4.jpg
    assert "f[4].jpg" in results(tmp_path / "out")
    with pytest.raises(UserError, match=r'No file is called like ".*h\*"'):
        go(source=f"{tmp_path}/pics/h*")
    with pytest.raises(UserError, match="None of the 1 file called like .*csv"):
        go(source=f"{tmp_path}/pics/*.csv")


def test_lists(go, tmp_path):
    """Paths beside the list, lists of voc_annotation.py of both tasks, comments, a BOM, a video; what is missing is named."""
    for name in ("f0.jpg", "f 1.jpg", "f2.png"):
        save(tmp_path / "pics" / name, grey(60, 80, 150))
    path = clip(tmp_path / "pics" / "film")
    lines = ["\ufeff# my choice", "pics/f0.jpg", "", f"{tmp_path}/pics/f 1.jpg 1,2,30,40,0 5,5,9,9,1,1", "pics/f2.png\tpics/mask.png",
             "pics/none.jpg", "words", f"pics/{path.name}"]
    (tmp_path / "names.txt").write_text("\r\n".join(lines), encoding="utf-8")
    said = go(source=tmp_path / "names.txt")
    assert "3 images, 0 skipped" in said and "4 frames in" in said and "Left out, no file is there: pics/none.jpg, words." in said
    assert results(tmp_path / "out") == sorted(["names/f 1.jpg", "names/f0.jpg", "names/f2.png", f"names/{path.name}"])
    (tmp_path / "shopping.txt").write_text("milk\nbread\n")
    with pytest.raises(UserError, match='names no image or video that can be read .2 no file is there, the first "milk"'):
        go(source=tmp_path / "shopping.txt")
    (tmp_path / "empty.txt").write_text("\n# nothing\n")
    with pytest.raises(UserError, match="it is empty"):
        go(source=tmp_path / "empty.txt")


@pytest.mark.parametrize("form", ["list", "text", "bare", "stdin"])
def test_several_sources(go, tmp_path, monkeypatch, form):
    one, two = save(tmp_path / "a b.jpg", grey(60, 80, 150)), save(tmp_path / "more" / "c.jpg", grey(60, 80, 150))
    texts = [str(one), str(two.parent), f"{tmp_path}/a*.jpg"]
    source = {"list": texts, "text": repr(texts), "bare": f"[{', '.join(texts)}]", "stdin": "-"}[form]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join([*texts, ""])))
    said = go(source=source, save_json=True)
    assert "3 images, 0 skipped" in said
    assert results(tmp_path / "out") == ["a b.jpg", "a b_2.jpg", "boxes.json", "more/c.jpg"]
    assert results(tmp_path).count("boxes.json") == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    with pytest.raises(UserError, match="there was none"):
        go(source="-")
    with pytest.raises(UserError, match='"0" is a camera or a stream, which has no end'):
        go(source=[str(one), "0"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
def test_a_pipe_is_no_image(go, tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UserError, match="a pipe, a device"):
        go(source=tmp_path / "pipe.jpg")


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers that a server may give, by path."""

    def log_message(self, *words):
        pass

    def do_GET(self):
        name = self.path.partition("?")[0].strip("/")
        picture = io.BytesIO()
        Image.fromarray(grey(60, 80, 150)).save(picture, "JPEG")
        data, kind = picture.getvalue(), {"page.jpg": "text/html", "page": "text/html; charset=utf-8"}.get(name, "image/jpeg")
        if name == "none.jpg":
            return self.send_error(404, "Not Found")
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if name == "short.jpg":
            self.send_header("Content-Length", str(len(data) + 9))
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(10**6 if name == "endless.jpg" else 50 if name == "slow.jpg" else 1):
                self.wfile.write(b"no picture" if name == "broken.jpg" else data)
                time.sleep(0.05 if name == "slow.jpg" else 0)
        return None


@pytest.fixture(scope="module")
def server():
    """-> its address."""
    offline = os.environ.pop("PLAINVISION_OFFLINE", None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
    if offline is not None:
        os.environ["PLAINVISION_OFFLINE"] = offline


def test_an_image_by_its_address(go, tmp_path, server):
    """With a suffix or told by what the server says; in a list too."""
    said = go(source=f"{server}/a/my cat%20.jpg?size=3", save_json=True)
    assert "2 boxes" in said and results(tmp_path / "out") == ["my cat .jpg", "my cat .json"]
    assert f'"file": "{server}/a/my cat%20.jpg?size=3"' in (tmp_path / "out" / "my cat .json").read_text()
    go(source=f"{server}/photo")
    assert "photo.png" in results(tmp_path / "out")
    (tmp_path / "names.txt").write_text(f"{server}/1.jpg\n{server}/none.jpg\n")
    said = go(source=tmp_path / "names.txt")
    assert "1 image, 1 skipped: none.jpg" in said and "the server says 404" in said


@pytest.mark.parametrize("name, words", [
    ("none.jpg", r"the server says 404 \(Not Found\)"), ("page.jpg", "is no image but text/html"), ("page", "is a page .text/html., not an image"),
    ("broken.jpg", "broken.jpg is not an image"), ("short.jpg", "broke off"), ("endless.jpg", "is larger than 0 MB"),
    ("slow.jpg", "not complete after 1 s")])
def test_failures_of_an_address_are_sentences(go, tmp_path, monkeypatch, server, name, words):
    monkeypatch.setattr(address, "LARGEST", 200_000)
    monkeypatch.setattr(address, "PATIENCE", 0.6)
    with pytest.raises(UserError, match=words) as error:
        go(source=f"{server}/{name}")
    assert "/tmp" not in str(error.value) and not (tmp_path / "out").exists()


def test_no_server_answers(go, monkeypatch):
    monkeypatch.delenv("PLAINVISION_OFFLINE", raising=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=f"127.0.0.1:{port} gives no answer"):
        go(source=f"http://127.0.0.1:{port}/a.jpg")
    with pytest.raises(UserError, match="is no address"):
        go(source="http://[::1/a.jpg")
    with monkeypatch.context() as offline:
        offline.setenv("PLAINVISION_OFFLINE", "1")
        with pytest.raises(UserError, match="is not fetched: PLAINVISION_OFFLINE is set"):
            go(source=f"http://127.0.0.1:{port}/a.jpg")
    monkeypatch.setattr(address, "PAUSE", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(UserError, match="does not answer within|gives no answer"):
            go(source=f"http://127.0.0.1:{silent.getsockname()[1]}/a.jpg")


def test_classes_and_thresholds(go, tmp_path):
    """The made-up detector finds a dog with 0.9, a cat with 0.6 and a person with 0.2."""
    path = save(tmp_path / "a.png", grey(50, 50, 150))
    assert "2 boxes" in go(source=path)
    said = go(source=path, classes=["cat"])
    assert "1 box\n    cat  0.60" in said
    assert "1 box\n    cat  0.60" in go(source=path, classes="cat")
    assert "2 boxes" in go(source=path, classes="[cat, 1]", class_confidence={"cat": 0.5, "a/b dog": 0.9})
    assert "1 box\n    a/b dog  0.90" in go(source=path, class_confidence={"cat": 0.61}, classes=None)
    assert "3 boxes" in go(source=path, class_confidence={"person": 0.1})
    with pytest.raises(UserError, match='no class \'catt\'. Did you mean .cat.. Their classes: cat, a/b dog, person'):
        go(source=path, classes=["catt"])
    with pytest.raises(UserError, match="class_confidence: these weights know no class 7"):
        go(source=path, classes=None, class_confidence={7: 0.5})
    with pytest.raises(UserError, match="class_confidence: 'cat' has 5, expected a number from 0 to 1"):
        go(source=path, class_confidence={"cat": 5})
    with pytest.raises(UserError, match="expected names of classes"):
        go(source=path, class_confidence={}, classes=[])


def test_wanted_classes():
    assert filters.chosen_classes(None, NAMES) is None and filters.chosen_classes(("cat", 2, "1"), NAMES) == [0, 2, 1]
    assert filters.chosen_classes("cat, person", NAMES) == [0, 2] and filters.chosen_classes("a, b", ["a, b"]) == [0]


def test_lines_and_labels_of_boxes(go, tmp_path):
    path = save(tmp_path / "a.png", grey(50, 90, 150))
    go(source=path)
    go(source=path, show_labels=False)
    go(source=path, show_labels=False, line_width=4)
    plain, bare, wide = (np.array(Image.open(tmp_path / "out" / f"a{end}.png")) for end in ("", "_2", "_3"))
    counts = [int((image != 150).any(2).sum()) for image in (plain, bare, wide)]
    colour = wide[2, 10]
    assert counts[0] > counts[1] < counts[2] and (wide[2:6, 10:40] == colour).all()
    assert (bare[2:4, 10:40] == colour).all() and (bare[4, 10:40] < 60).all() and not (bare[5:7, 10:40] != 150).any()     # with a dark hairline
    with pytest.raises(UserError, match="line_width=0"):
        go(source=path, line_width=0)
    with pytest.raises(UserError, match="nms='sft'"):
        go(source=path, line_width=None, nms="sft")
