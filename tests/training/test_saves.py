"""A save is whole or not at all: killed at any time there is a file that can be loaded; a disk that is full or broken costs only that save.

kill -9 cannot show a missing fsync (what a process wrote stays with the system), so a disk that forgets what was not synced is simulated as well.
"""
import contextlib
import errno
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections import namedtuple
from pathlib import Path

import pytest
import torch
import user
from torture import FAMILIES, LINUX, differences, fingerprint

from utils import checkpoint
from utils.checkpoint import read_checkpoint, save_checkpoint
from utils.errors import UserError
from utils.system import files, lock
from utils.training import log, resume

Usage = namedtuple("Usage", "total used free")
WORDS = FAMILIES["yolo"]


def content(number, size=200_000):
    """A checkpoint of about two MB that says in every part which one it is."""
    return {"step": number, "model": {f"layer{i}.weight": torch.full((size + i,), float(number)) for i in range(3)}}


def is_whole(found, at_least=0):
    return found["step"] >= at_least and all((t == found["step"]).all() for t in found["model"].values())


@LINUX
@pytest.mark.parametrize("kills", [6, pytest.param(200, marks=pytest.mark.torture)])
def test_killed_while_saving(server, kills):
    """Saves back to back, killed at a random time: what is there afterwards is whole, and not older than the last one that was reported."""
    path, rng, reached = server.kept / "saves.pth", random.Random(kills), []
    while len(reached) < kills or (sum(reached) <= 2 * kills and len(reached) < 10 * kills):      # a busy machine saves slowly
        save_checkpoint(path, **content(0))
        answer = server.run(faults=[["save_back_to_back", str(path)]], after=rng.uniform(0.05, 0.25), signal=9)
        said = [int(line) for line in answer["out"].splitlines()]
        assert answer["status"] == -9 and is_whole(read_checkpoint(path), said[-1] if said else 0)
        reached.append(len(said))
    assert sum(reached) > 2 * kills                        # it was saving indeed


@LINUX
@pytest.mark.parametrize("looks", [30, pytest.param(200, marks=pytest.mark.torture)])
def test_two_writers(tmp_path, looks):
    """Two processes save back to back into one file, as where a file system has no locks: at every look it is whole."""
    path, made = tmp_path / "last.pth", [content(number, 20_000) for number in (1, 2)]
    save_checkpoint(path, **made[0])
    writers = []
    for one in made:
        writers.append(os.fork())
        if not writers[-1]:
            torch.set_num_threads(1)
            while True:
                save_checkpoint(path, **one)
    seen, end = [], time.monotonic() + 60
    try:
        while len(seen) < looks or (len({one["step"] for one in seen}) < 2 and time.monotonic() < end):
            seen.append(read_checkpoint(path))
    finally:
        for writer in writers:
            os.kill(writer, signal.SIGKILL)
            os.waitpid(writer, 0)
    assert all(map(is_whole, seen)) and len({one["step"] for one in seen}) == 2


@pytest.fixture
def another(root):
    """-> function(folder): another process holds the lock of this run; it gives the process's number."""
    children = []

    def hold(folder):
        ready, tell = os.pipe()
        children.append(os.fork())
        if not children[-1]:
            os.write(tell, lock.take(folder).encode() or b"taken")
            time.sleep(60)
            os._exit(0)
        assert os.read(ready, 100) == b"taken"
        return children[-1]
    yield hold
    for child in children:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


@LINUX
def test_one_training_a_folder(root, another, monkeypatch, capsys):
    """A run that is being trained is passed over by resume=True, refused where it is named, and free again once its process was killed."""
    monkeypatch.setattr(resume, "ROOT", root)
    old, new = root / "logs/old", root / "logs/new"
    for number, folder in enumerate((old, new)):
        folder.mkdir(parents=True)
        (folder / "last.pth").touch()
        os.utime(folder / "last.pth", (number, number))
    assert resume.folder_of(True) == new
    process = another(new)
    who = f"process {process} on {socket.gethostname()} since 20"
    assert who in (new / lock.NAME).read_text()
    assert resume.folder_of(True) == old and f"logs/new is being trained by {who}" in capsys.readouterr().out
    for name in ("logs/new", "logs/new/last.pth"):
        with pytest.raises(UserError, match=f"logs/new is being trained by {who}.*two trainings"):
            resume.folder_of(name)
    with pytest.raises(UserError, match=who):
        resume.hold_run(new)
    another(old)
    with pytest.raises(UserError, match="every run in logs/ is being trained"):
        resume.folder_of(True)

    # Killed: the system gives the lock back, and what its saves left goes.
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    (new / f"last.pth.{process}.plainvision.part").touch()
    assert resume.folder_of(True) == resume.folder_of("logs/new") == new
    resume.hold_run(new)
    assert who not in (new / lock.NAME).read_text() and f"process {os.getpid()} " in (new / lock.NAME).read_text()
    assert not list(new.glob("*.part")) and lock.holder_of(new) == ""
    lock.release(new)
    assert not (new / lock.NAME).exists()


def test_a_lock_that_cannot_be_is_no_reason_to_stop(tmp_path):
    assert lock.take(tmp_path / "gone") == "" and lock.holder_of(tmp_path / "gone") == ""
    (tmp_path / lock.NAME).mkdir()
    assert lock.take(tmp_path) == "" and lock.holder_of(tmp_path) == ""


@LINUX
@pytest.mark.torture
def test_a_second_training_of_the_same_run(server):
    """Two real processes: the second ends in a sentence that names the first, which goes on and ends with the same bits."""
    words = (*WORDS, "epochs=2", "num_workers=2")
    _, whole = server.whole(*words)
    server.clear()
    first = user.start(server.project, "train.py", *words)
    while not list(server.logs().glob("*/last.pth")):
        assert first.poll() is None
        time.sleep(0.1)
    (folder,) = server.logs().iterdir()
    first.send_signal(signal.SIGSTOP)                       # so that it is still there
    try:
        for word in ("resume=True", f"resume=logs/{folder.name}"):
            out = user.run(server.project, "train.py", word, status=1)
            assert f"is being trained by process {first.pid} on " in out
    finally:
        first.send_signal(signal.SIGCONT)
    assert first.wait(timeout=200) == 0
    first.stdout.close(), first.stderr.close()
    assert not (folder / lock.NAME).exists() and not differences(whole, server.result())


class Disk:
    """Which bytes of a folder would be there after a power cut: a file has those of its last fsync, a name is that of the last synced folder."""

    def __init__(self, path):
        self.path, self.synced, self.named, self.cuts = path, {}, path.read_bytes(), []

    def fsync(self, handle, real=os.fsync):
        real(handle)
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            self.named = self.renamed
        else:
            self.synced[os.fstat(handle).st_ino] = Path(f"/proc/self/fd/{handle}").read_bytes()
        self.cut()

    def replace(self, one, two, real=os.replace):
        self.renamed = self.synced.get(os.stat(one).st_ino, b"")
        real(one, two)
        self.named = random.choice([self.named, self.renamed])      # the system may write a name down earlier, if it likes
        self.cut()

    def cut(self):
        self.cuts.append(self.named)


@LINUX
def test_a_power_cut(tmp_path, monkeypatch):
    """At every moment of a save the disk holds a whole file, and after it the new one."""
    path = tmp_path / "last.pth"
    for number in range(8):
        save_checkpoint(path, **content(number, 1000))
        disk = Disk(path)
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint.os, "fsync", disk.fsync)
            patch.setattr(checkpoint.os, "replace", disk.replace)
            save_checkpoint(path, **content(number + 1, 1000))
        assert len(disk.cuts) >= 3
        for cut, raw in enumerate(disk.cuts):
            (tmp_path / "cut.pth").write_bytes(raw)
            assert is_whole(read_checkpoint(tmp_path / "cut.pth"), number + (cut == len(disk.cuts) - 1))


def failing(number, real, count=0):
    """A function of os that fails with this error after `count` good calls."""
    left = [count]

    def call(*arguments, **options):
        left[0] -= 1
        if left[0] >= 0:
            return real(*arguments, **options)
        raise OSError(number, os.strerror(number), str(arguments[0]))
    return call


def limited(share):
    def fault(path, patch):
        """No file may grow beyond this share of what is needed."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * path.stat().st_size) if isinstance(share, float) else share, before[1]))
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    return fault


def patched(name, number, count=0):
    def fault(path, patch):
        patch.setattr(files.time, "sleep", lambda seconds: None)
        if name == "open":
            patch.setattr(checkpoint, "open", failing(number, open, count), raising=False)
        else:
            patch.setattr(checkpoint.os, name, failing(number, getattr(os, name), count))
    return fault


def full_device(path, patch):
    """What is written goes to /dev/full."""
    patch.setattr(checkpoint, "open", lambda path, mode: open("/dev/full" if "w" in mode else path, mode), raising=False)  # noqa: SIM115


def no_room(path, patch):
    patch.setattr(files.shutil, "disk_usage", lambda folder: Usage(10**9, 10**9 - 10**5, 10**5))


def torch_says(words):
    def fault(path, patch):
        def save(content, file):
            file.write(b"PK half a file")
            raise RuntimeError(words)
        patch.setattr(checkpoint.torch, "save", save)
    return fault


FAULTS = {**{f"limit {share}": limited(share) for share in (0, 1, 64, 1000, 4096, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.9999)},
          "/dev/full": full_device, "no room": no_room,
          **{f"{name} {errno.errorcode[number]}": patched(name, number) for name in ("open", "fsync", "replace")
             for number in (errno.EIO, errno.EROFS, errno.ENOSPC)},
          "open EACCES": patched("open", errno.EACCES), "replace EACCES": patched("replace", errno.EACCES),
          "open EMFILE": patched("open", errno.EMFILE),
          "torch": torch_says("PytorchStreamWriter failed writing file data/3: file write failed"),
          "torch 2": torch_says("[enforce fail at inline_container.cc:603] . unexpected pos 600704 vs 600656")}


@pytest.mark.skipif(os.name != "posix", reason="limits of files, /dev/full")
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_disk_that_fails(tmp_path, monkeypatch, fault):
    """The old file is byte for byte the same, the sentence has path, bytes needed and free; nothing else stays behind, and the next save works."""
    path = tmp_path / "last.pth"
    save_checkpoint(path, **content(1))
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        undo = fault(path, patch)
        try:
            with pytest.raises(UserError, match=r"last\.pth cannot be written \(.+\): \d+\.\d MiB are needed, \d+\.\d MiB are free.*untouched"):
                save_checkpoint(path, **content(2))
        finally:
            if undo:
                undo()
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["last.pth"]
    save_checkpoint(path, **content(3))
    assert is_whole(read_checkpoint(path), 3)


def test_a_disk_that_does_not_tell_its_room(tmp_path, monkeypatch):
    """Some network folders cannot say how much is free: that is no reason not to save."""
    def unknown(folder):
        raise OSError(errno.ENOSYS, "Function not implemented")
    monkeypatch.setattr(files.shutil, "disk_usage", unknown)
    save_checkpoint(tmp_path / "last.pth", **content(1))
    assert is_whole(read_checkpoint(tmp_path / "last.pth"), 1)


@LINUX
@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root can mount")
def test_a_full_little_disk(tmp_path):
    """A real file system of 4 MiB: a file of 2.3 MiB is saved, the next one does not fit beside it; once the old one is moved away it does."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        path = disk / "last.pth"
        save_checkpoint(path, **content(1))
        before = path.read_bytes()
        with pytest.raises(UserError, match=r"last\.pth cannot be written.*2\.\d MiB are needed, 1\.\d MiB are free"):
            save_checkpoint(path, **content(2))
        assert path.read_bytes() == before and len(list(disk.iterdir())) == 1
        shutil.move(path, tmp_path)
        save_checkpoint(path, **content(3))
        assert is_whole(read_checkpoint(path), 3)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@LINUX
def test_training_outlives_saves_that_fail(server):
    """Two saves find no room, and no line, table or picture can be written either: it is said, the run goes on, and ends with the same bits."""
    words = (*WORDS, "epochs=1")
    _, whole = server.whole(*words)
    answer, result = server.whole(*words, draw=True, faults=[["saves_fail", [1, 2]], ["nothing_else_can_be_written"]])
    assert not differences(whole, result)
    notes = [line for line in answer["out"].splitlines() if line.startswith("NOTE: ")]
    failed = [line for line in notes if "tries again at the next save" in line]
    assert len(failed) == 2 and all("cannot be written (" in line and "MiB are needed" in line for line in failed)
    for name in ("settings.py", "metrics.csv", "first_batches.png", "predictions_epoch_001.png"):
        assert any(name in line and line.endswith("; the training goes on.") for line in notes), name
    (folder,) = server.logs().iterdir()
    assert {path.name for path in folder.iterdir()} == {"last.pth", "best.pth"}


@LINUX
@pytest.mark.torture
def test_when_the_last_save_fails_it_says_so(server):
    words = (*WORDS, "epochs=1", "save_minutes=100.0")
    _, whole = server.whole(*words)
    server.clear()
    answer = server.run(*words, status=1, faults=[["saves_fail", list(range(3, 9))]])
    assert "The last save failed" in answer["out"] and "python train.py resume=True" in answer["out"]
    assert not differences(whole, server.finish())


def test_train_log_follows_the_history(tmp_path):
    """An epoch that was learned again after a kill has one line, one whose save was lost none, one that a full disk swallowed gets its own."""
    rows = [{"epoch": number, "epochs": 4, "lr": 0.1, "train_box": float(number)} for number in range(1, 5)]
    lines = [log.epoch_lines(row, (), 2.0, 10, 5.0)[1] for row in rows]
    path, state = tmp_path / "train.log", {"training": {"history": rows[:3], "seconds": [2.0] * 3}}
    path.write_text("\n".join(["Settings", "  lr  1/4", lines[0], lines[0], "Resumed", lines[2], lines[3]]) + "\n", encoding="utf-8")
    log.settle_epochs(tmp_path, state, (), 10)
    found = path.read_text(encoding="utf-8").splitlines()
    assert found[:5] == ["Settings", "  lr  1/4", lines[0], "Resumed", lines[2]] and len(found) == 6
    assert found[5].startswith("    2/4  ") and found[5].split()[:4] == lines[1].split()[:4]
    before = path.stat().st_mtime_ns
    log.settle_epochs(tmp_path, state, (), 10)
    assert path.stat().st_mtime_ns == before


def test_a_full_disk_leaves_no_half_of_a_line(tmp_path):
    path = tmp_path / "train.log"
    log.note(tmp_path, "whole")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30, limit[1]))
    try:
        log.note(tmp_path, "x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    log.note(tmp_path, "next")
    assert path.read_text() == "whole\nnext\n"


def test_the_fingerprint_sees_everything(tmp_path):
    """Of what the torture tests compare: every tensor, every plain value, but no times."""
    state = {"model": {f"{i}": torch.zeros(3) for i in range(120)}, "training": {"history": [{"box": 1.5}], "seconds": [1.0], "ema_steps": 3}}

    def mark(**change):
        torch.save(state | change, tmp_path / "last.pth")
        (tmp_path / "best.pth").write_bytes(b"best")
        return fingerprint(tmp_path)
    first = mark()
    assert not differences(first, mark()) and not differences(first, mark(training=state["training"] | {"seconds": [2.0]}))
    assert differences(first, mark(model=state["model"] | {"7": torch.tensor([0, 0, 1e-30])})) == ["last.model.7"]
    assert differences(first, mark(training=state["training"] | {"history": [{"box": 1.5000001}]})) == ["last.training.history.0.box"]
