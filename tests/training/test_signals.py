"""Ctrl-C and SIGTERM: the step is finished, everything saved, exit code 130 or 143, no process left; a second signal means now."""
import errno
import io
import os
import random
import signal
import subprocess
import sys

import pytest
from torture import FAMILIES, LINUX, differences

from utils.checkpoint import read_checkpoint
from utils.system import signals

pytestmark = LINUX
NAMES = {129: "SIGHUP: the terminal was closed", 130: "Ctrl-C", 143: "SIGTERM"}
KINDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MOMENTS = (["before torch.optim.AdamW.step", 1], ["before os.replace", 3], ["before utils.training.begin.make_loader", 1],
           ["before utils.evaluate.suppress", 0], ["after utils.training.resume.Progress.end_epoch", 0])


@pytest.mark.parametrize("moments", [MOMENTS[::2], pytest.param(MOMENTS, marks=pytest.mark.torture)], ids=len)
def test_stopped_again_and_again(server, moments):
    """In a step, in a save, between the stages, in an evaluation, between the end of an epoch and its save; Ctrl-C and a closed terminal reach the
    loader's processes as well. Stopped and resumed so often, it ends with the bits of the run that nobody stopped."""
    words = FAMILIES["yolo"]
    _, whole = server.whole(*words)
    server.clear()
    for number, moment in enumerate(moments):
        kind = KINDS[number % 3]
        workers = (1, 0, 2)[number % 3]                     # some whenever the signal reaches the whole group
        answer = server.run(*(("resume=True",) if number else words), f"num_workers={workers}", at=[moment], signal=kind, status=128 + kind,
                            group=kind != signal.SIGTERM)
        assert "Stopped and saved. To go on:  python train.py resume=logs/" in answer["out"] and NAMES[128 + kind] in answer["out"]
        (path,) = server.logs().glob("*/last.pth")
        read_checkpoint(path)
    assert not differences(whole, server.finish())


def test_a_second_signal_means_now(server):
    """The first one waits for the end of a step; the second, in the same step, does not: nothing is saved any more, and what was saved is whole."""
    server.clear()
    answer = server.run(*FAMILIES["yolo"], "num_workers=2", at=[["before torch.nn.utils.clip_grad_norm_", 3], ["before torch.optim.AdamW.step", 3]],
                        signal=signal.SIGINT, status=130)
    assert answer["moments"][-1] == "before torch.optim.AdamW.step" and "Stopped" not in answer["out"]
    (path,) = server.logs().glob("*/last.pth")
    saved = read_checkpoint(path)                       # of the end of the freeze stage, the step before
    assert (saved["epoch"], saved["training"]["step"]) == (1, 0)


def test_before_there_is_anything_to_save(server):
    server.clear()
    for number, moment in ((signal.SIGINT, "before train.make_data"), (signal.SIGTERM, "before utils.training.accidents.try_step")):
        answer = server.run(*FAMILIES["yolo"], at=[[moment, 0]], signal=number, status=128 + number)
        assert answer["moments"][-1] == moment and f"Stopped by {NAMES[128 + number]}" in answer["out"]


@pytest.mark.torture
@pytest.mark.parametrize("number", range(50))
def test_at_any_time(server, number):
    """SIGINT and SIGHUP (to the whole group, as a terminal does it), SIGTERM, one of them twice; at a random time; with and without workers."""
    rng = random.Random(number)
    family = list(FAMILIES)[number % 3]
    words, kind = (*FAMILIES[family], f"num_workers={2 * (number // 3 % 2)}"), KINDS[number // 6 % 3]
    twice = number % 4 == 3
    if not (server.kept / family).exists():
        server.clear()
        server.run(*FAMILIES[family], status=0)
        server.keep(family)
        server.results = getattr(server, "results", {})
        from torture import fingerprint
        server.results[family] = fingerprint(server.kept / family)
    server.clear()
    answer = server.run(*words, after=rng.uniform(0.2, 8.0), signal=kind, group=kind != signal.SIGTERM,
                        **({"again": [rng.uniform(0.0, 0.6)]} if twice else {}))
    begun = "before train.complete" in answer["moments"] and "Done in" not in answer["out"]
    edge = not begun or twice and f"Stopped by {NAMES[128 + kind]}" in answer["out"]      # Python's own first and last moments, without our handler
    assert answer["status"] in ((128 + kind, 0, -kind) if edge else (128 + kind, 0)), answer["out"][-2000:]
    for path in server.logs().glob("*/*.pth"):
        read_checkpoint(path)
    if not twice and begun and answer["status"] and "before torch.nn.utils.clip_grad_norm_" in answer["moments"]:       # at least one real step
        assert "Stopped and saved" in answer["out"]
    assert not differences(server.results[family], server.finish(*words))


def test_after_the_end_a_signal_is_the_system_s():
    """One that comes when all is done, while Python ends, must not end in a traceback."""
    before, during = [signal.getsignal(number) for number in signals.SIGNALS], []
    try:
        signals.run(lambda: during.extend(signal.getsignal(number) for number in signals.SIGNALS))
        assert during == [signals.handle] * 3
        assert [signal.getsignal(number) for number in signals.SIGNALS] == [signal.SIG_DFL] * 3
    finally:
        for number, handler in zip(signals.SIGNALS, before):
            signal.signal(number, handler)


def test_nohup_stays_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    others = [signal.getsignal(number) for number in signals.SIGNALS[:2]]
    try:
        signals.set_handlers(signals.handle)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN and signal.getsignal(signal.SIGTERM) == signals.handle
    finally:
        for number, handler in zip(signals.SIGNALS, [*others, before]):
            signal.signal(number, handler)


class Gone(io.StringIO):
    """A terminal or pipe that is there no more."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def write(self, text):
        raise OSError(self.number, os.strerror(self.number))
    flush = close = lambda self: self.write("")


def test_a_voice_that_nobody_hears(monkeypatch):
    """A closed terminal costs the words alone; a pipe that nobody reads stops the training as a signal would, after the step."""
    monkeypatch.setattr(signals, "asked", {"signal": None, "at": 0.0, "busy": False})
    for number in (errno.EIO, errno.ENOSPC):
        voice = signals.Voice(Gone(number))
        voice.write("x")
        voice.flush()
    assert signals.asked["signal"] is None
    done = []
    with pytest.raises(signals.Stopped) as stop, signals.undisturbed():
        print("x", file=signals.Voice(Gone(errno.EPIPE)))
        done.append("step")
    assert done == ["step"] and stop.value.number == signal.SIGPIPE


@pytest.mark.torture
def test_nobody_reads_a_training(server):
    """python train.py | head -1: it saves, ends with 141, and goes on to the same bits."""
    words = (*FAMILIES["yolo"], "epochs=3")
    _, whole = server.whole(*words)
    server.clear()
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    process = subprocess.Popen([sys.executable, str(server.project / "train.py"), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env=environment, text=True, encoding="utf-8")
    while "Folder " not in process.stdout.readline():
        assert process.poll() is None
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=200) == 141 and error.strip() == "Stopped by a broken pipe: nobody reads the output any more."
    assert not differences(whole, server.finish())


def test_handler(monkeypatch):
    """The rules by themselves: at once where nothing changes, at the end where something does, and now for the second one."""
    left = []
    monkeypatch.setattr(signals, "asked", {"signal": None, "at": 0.0, "busy": False})
    monkeypatch.setattr(signals, "leave_now", left.append)
    with pytest.raises(signals.Stopped) as stop:
        signals.handle(signal.SIGTERM, None)
    assert stop.value.number == signal.SIGTERM and not left
    signals.asked.update(signal=None)
    done = []
    with pytest.raises(signals.Stopped), signals.undisturbed():
        signals.handle(signal.SIGINT, None)
        done.append("step")
        assert not left
    assert done == ["step"] and signals.asked["signal"] == signal.SIGINT
    signals.handle(signal.SIGTERM, None)
    assert left == [signal.SIGTERM]
    assert not isinstance(stop.value, Exception)        # who handles errors does not swallow it
