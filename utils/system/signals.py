"""Ctrl-C, SIGTERM and a closed terminal: the step that is being done is finished and saved; a second signal
means now."""
import multiprocessing
import os
import signal
import sys
import time
from contextlib import contextmanager

from utils.errors import mute

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
PIPE = getattr(signal, "SIGPIPE", 13)       # Windows has none
NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM",
         PIPE: "a broken pipe: nobody reads the output any more"}
ECHO = 5.0                      # seconds in which torchrun passes Ctrl-C on as SIGTERM: not a second signal

asked = {"signal": None, "at": 0.0, "busy": False}


class Stopped(BaseException):
    """Not an Exception: whoever handles errors must not swallow it."""

    def __init__(self, number):
        super().__init__(number)
        self.number = number


def set_handlers(handler):
    """What these signals do from now on. `nohup` has SIGHUP ignored, and so it stays."""
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


class Voice:
    """stdout or stderr that never fails: what nobody can see any more is not said.

    Of a terminal that is closed nothing else follows here (SIGHUP says what does); a pipe whose reader has
    ended stops the training, as it stops any program.
    """

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        try:
            return self.stream.write(text)
        except OSError as error:
            return self.fall_silent(error)

    def flush(self):
        try:
            self.stream.flush()
        except OSError as error:
            self.fall_silent(error)

    def fall_silent(self, error):
        mute(self.stream)
        if isinstance(error, BrokenPipeError) and asked["signal"] is None:
            handle(PIPE, None)


def run(main, *arguments):
    """Run main of a script; stopped, its exit code is 128 and the signal's number: 130 after Ctrl-C."""
    set_handlers(handle)
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(Voice, streams)
    try:
        main(*arguments)

        # All is saved. While Python ends by itself a signal may do what it always does.
        set_handlers(signal.SIG_DFL)
    except Stopped as stop:
        name = NAMES.get(stop.number, "SIGHUP: the terminal was closed")
        print(f"\nStopped by {name}.", file=sys.stderr)
        raise SystemExit(128 + stop.number) from None

    # With several processes the death of one makes the next exchange of gradients fail in all others.
    except RuntimeError as error:
        others = group()
        if not others or not others.is_alone(error):
            raise
        print("\nStopped: another process has ended (its own lines say why), so all of them end.",
              file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        sys.stdout, sys.stderr = streams


def group():
    """utils.system.distributed if this process is one of several, else None.

    Before PyTorch is imported it cannot be, and a prediction may never import it.
    """
    module = sys.modules.get("utils.system.distributed")
    world = getattr(module, "world", None)              # a signal may come in the middle of its import
    return module if world and world() > 1 else None


def let_children_die():
    """A loader's process that dies is noticed when its batch is asked for.

    PyTorch's own handler would raise its error at once, in the middle of a step.
    """
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def handle(number, _):
    """Raise Stopped: at once where nothing is changing, else at the end of `undisturbed`."""
    is_echo = group() is not None and time.monotonic() <= asked["at"] + ECHO
    again = asked["signal"] is not None and not is_echo
    if again:
        leave_now(number)

    # Several processes must stop after the same step, so none of them raises by itself: see `raise_if_asked`.
    if asked["signal"] is None:
        asked.update(signal=number, at=time.monotonic())
        if not asked["busy"] and not group():
            raise Stopped(number)


def leave_now(number):
    """Without another line of Python; no process of ours stays behind."""
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(128 + number)


@contextmanager
def undisturbed():
    """with undisturbed(): weights or files change; a signal waits for the end."""
    asked["busy"] = True
    try:
        yield
    finally:
        asked["busy"] = False
    if not group():
        raise_if_asked()


def raise_if_asked():
    """Raise Stopped if a signal came, with several processes in all of them after the same step."""
    others, stops = group(), asked["signal"] is not None
    if others.anywhere(stops) if others else stops:
        raise Stopped(asked["signal"] or signal.SIGTERM)


def for_workers():
    """In a loader's process: Ctrl-C reaches the whole group, but the parent decides. SIGTERM ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)        # the parent decides about that as well
