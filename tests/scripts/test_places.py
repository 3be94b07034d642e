"""Where results go: two runs at once, earlier results inside a source, a repository that cannot be written, a console that is gone."""
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from fake_detector import go_fixture, grey, results, save  # noqa: F401

import get_map
import get_miou
import train
import voc_annotation
from utils import lists, settings
from utils.checks import prepare
from utils.errors import UserError
from utils.results import media, sources
from utils.settings import read_settings
from utils.system import bars
from utils.training import plan


def test_two_runs_at_once_have_two_folders(tmp_path, monkeypatch):
    """Both find the name free; who comes second takes the next one."""
    real, first = media.fresh, []

    def late(folder, name, suffix=""):
        path = real(folder, name, suffix)
        if not first:
            first.append(path)
            path.mkdir(parents=True)                                # the other run, between looking and making
        return path

    monkeypatch.setattr(media, "fresh", late)
    assert media.fresh_folder(tmp_path, "junk").name == "junk_2"


def test_folders_that_stay_empty_go_and_those_of_others_stay(tmp_path):
    with media.output_folder(tmp_path / "out") as folder, media.group_folders(folder, ["a", "", "b", "a"]) as folders:
        assert list(folders) == ["", "a", "b"] and (folders["a"] / media.MARK).is_file()
        (folders["a"] / "x.txt").touch()
        (folder / "other").mkdir()
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "out", "out/a", f"out/a/{media.MARK}", "out/a/x.txt", "out/other"]
    with media.output_folder(tmp_path / "none") as folder, media.group_folders(folder, ["a"]):
        pass
    assert not (tmp_path / "none").exists()


def test_earlier_results_are_no_source(go, tmp_path):
    """junk/out/junk holds what an earlier run drew: it is named and not looked at. A folder of the user's is looked at, whatever its name."""
    for name in ("a.png", "b.png", "img_out/mine.png"):
        save(tmp_path / "junk" / name, grey(40, 60, 150))
    go(source=tmp_path / "junk", output=str(tmp_path / "junk/out"))
    said = go(source=tmp_path / "junk")
    assert "3 images" in said and "Left out, results of an earlier run: out/junk." in said
    assert sources.list_files(tmp_path / "junk/out/junk")[0]                                   # named by the user it is a source


def test_output_that_cannot_be_written_comes_before_the_data(tmp_path, monkeypatch):
    """A folder below a file: for the super-user of a test no other folder is closed."""
    (tmp_path / "file").write_text("x")
    place = f"output={tmp_path / 'file' / 'runs'}"
    for script, words in ((train, ["dataset=VOCdevkit/none"]), (voc_annotation, ["dataset=VOCdevkit/none"]), (get_map, ["model_path=none.pth"]),
                          (get_miou, ["model_path=none.pth"])):
        s = read_settings(vars(script), [place, *words])
        with pytest.raises(UserError, match="Nothing can be written to .*set output to a folder of your own"):
            plan.complete(s, train.nets.find_net("yolov8"), None) if script is train else script.main(s)
    assert settings.made_in == []


def test_an_output_elsewhere_holds_the_lists_too(tmp_path, monkeypatch):
    """So a repository that can only be read is enough; inside it everything stays where it was."""
    monkeypatch.setattr(settings, "made_in", [])
    settings.keep_in(settings.ROOT / "logs")
    assert lists.list_name("VOCdevkit/Shapes", "train") == "Shapes_train.txt"
    assert lists.prepared_folder("x").is_relative_to(settings.ROOT / "prepared")
    settings.keep_in(tmp_path)
    assert lists.list_name("VOCdevkit/Shapes", "train") == (tmp_path / "Shapes_train.txt").as_posix()
    assert lists.classes_name("VOCdevkit/Shapes") == (tmp_path / "model_data/shapes_classes.txt").as_posix()
    assert lists.prepared_folder("x").is_relative_to(tmp_path)

    # Masks hold numbers only: their names come along from the repository, where it has enough of them.
    for highest, second in ((6, "circle"), (9, "class_1")):
        part = SimpleNamespace(names=[], samples={"a": SimpleNamespace(truth=np.bincount([0, highest], minlength=256))})
        path, names, made, _ = prepare.settle_classes("VOCdevkit/Shapes", None, [part], "segmentation")
        assert path.startswith(tmp_path.as_posix()) and made and names[1] == second


def test_the_hash_of_a_data_set_does_not_depend_on_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(settings.ROOT)
    at_home = lists.prepared_folder("VOCdevkit/Shapes")
    monkeypatch.chdir(tmp_path)
    assert lists.prepared_folder("VOCdevkit/Shapes") == at_home


def test_a_line_a_minute_where_nobody_sees_a_bar(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(bars.time, "monotonic", lambda: now[0])
    for _ in bars.progress(range(10), "evaluating"):
        now[0] += 25
    assert capsys.readouterr().out.splitlines() == [f"evaluating: {done} of 10, about {left} min left"
                                                    for done, left in ((3, "2.9"), (6, "1.7"), (9, "0.4"))]
    for _ in bars.progress(iter([[1] * 4] * 2), "checking", total=8, size=len):
        now[0] += 61
    assert capsys.readouterr().out.splitlines()[0] == "checking: 4 of 8, about 1.0 min left"
    assert list(bars.progress(np.arange(3), "quiet", off=True)) == [0, 1, 2]


def test_help_into_a_pipe_that_nobody_reads():
    """python predict.py --help | head -1"""
    words = f'"{sys.executable}" "{settings.ROOT / "predict.py"}" --help | head -1'
    ran = subprocess.run(["bash", "-c", words], capture_output=True, text=True, timeout=60)
    assert ran.stdout.startswith("python predict.py") and ran.stderr == ""
