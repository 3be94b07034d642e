"""Trainings that die at a chosen moment. A process that has imported everything once and forks itself for each run:

    python tests/helpers/torture_server.py <project>        then on stdin, one JSON a line: {"words": [...], "at": [12], "signal": 9, "faults": [...]}

The run calls train.main with these words. What it does is counted: before and after every function of TICKS there is a moment. At each moment
of the list `at` (numbers, or [name, how manieth time]) the process sends itself `signal` (9: kill -9); with "after": seconds it is sent from
outside after that time. faults: [[name, argument, ...]] of functions in torture_faults.py, which change the program first.
"group": true: it goes to the whole group, as from a terminal.
Pictures and curves, which are no part of a training's state, are only drawn with "draw": true; time is counted in steps of a minute each
unless "clock": true, so save_minutes=3 means a save every fourth step.
"ranks": 2 are as many processes as torchrun would start; when one fails the others get SIGTERM, as from torchrun. "only": only that rank gets
`faults` and `at`. After "limit" seconds (300) everything is killed.
The answer, a line of JSON: {"status": exit code or -signal, "moments": [names], "out": text, "left": processes that still lived 10 s later}.
"""
import contextlib
import ctypes
import importlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
from types import SimpleNamespace

TICKS = ["train.complete", "train.make_data", "utils.training.begin.new_folder", "utils.training.log.write_settings",
         "train.begin_training", "utils.training.accidents.check_precision", "utils.training.accidents.try_step",
         "utils.steps.make_optimizer", "utils.training.begin.restore", "utils.steps.set_frozen", "utils.training.begin.make_loader",
         "train.step", "torch.nn.utils.clip_grad_norm_", "torch.optim.AdamW.step", "torch.optim.SGD.step",
         "utils.steps.MovingAverage.update", "utils.training.keep.save", "utils.checkpoint.size_of", "torch.save", "utils.checkpoint.seal",
         "os.fsync", "os.replace", "train.evaluate_epoch", "utils.evaluate.suppress", "utils.evaluate.classify",
         "utils.training.keep.save_image", "utils.training.resume.Progress.end_epoch", "utils.training.log.write_epoch"]
PATIENCE = 10.0                 # seconds that processes of a run may live on after it
SUBREAPER = 36                  # PR_SET_CHILD_SUBREAPER of Linux: orphans of a run become children of this process


def place(name):
    """'utils.steps.MovingAverage.update' -> the object that holds it, its last name."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            holder = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:-1]:
            holder = getattr(holder, part)
        return holder, parts[-1]
    raise ImportError(name)


def count_moments(log, at, number, group):
    """Wrap TICKS; each moment of the list `at` gets the signal, for this process or its whole group."""
    at, times, own = [tuple(one) if isinstance(one, list) else one for one in at], {}, os.getpid()

    def moment(name):
        if os.getpid() != own:                          # a loader's process
            return
        os.write(log, (name + "\n").encode())
        times[name], times[None] = times.get(name, -1) + 1, times.get(None, -1) + 1
        if times[None] in at or (name, times[name]) in at:
            (os.killpg if group else os.kill)(os.getpgid(0) if group else own, number)

    def wrapped(function, name):
        def run(*arguments, **options):
            moment("before " + name)
            result = function(*arguments, **options)
            moment("after " + name)
            return result
        return run

    for name in TICKS:
        holder, last = place(name)
        setattr(holder, last, wrapped(getattr(holder, last), name))


def count_time_in_steps(train):
    steps, step = [0], train.step

    def counted(*arguments):
        steps[0] += 1
        return step(*arguments)
    train.step, train.time = counted, SimpleNamespace(perf_counter=lambda: 60.0 * steps[0])


def draw_nothing():
    begin, keep, log = (importlib.import_module(f"utils.training.{name}") for name in ("begin", "keep", "log"))
    begin.batch_page = keep.prediction_page = begin.save_image = keep.save_image = log.training_curves = lambda *_: None


def child(command, log, out):
    """The training itself. -> exit code; as train.py's last lines do it."""
    import train
    from utils.settings import read_settings
    os.dup2(out, 1)
    os.dup2(out, 2)
    if not command.get("draw"):
        draw_nothing()
    if not command.get("clock"):
        count_time_in_steps(train)
    if command.get("faults"):
        faults = importlib.import_module("torture_faults")
        for name, *arguments in command["faults"]:
            getattr(faults, name)(*arguments)
    count_moments(log, command.get("at", []), command.get("signal", signal.SIGKILL), command.get("group"))
    try:
        train.signals.run(train.main, read_settings(vars(train), command["words"]))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    return 0


def wait(pids, command):
    """-> how the run ended, how many of its processes were left after PATIENCE. With "leave": true nobody waits for these."""
    pid = pids[0]
    if "after" in command:
        for seconds in (command["after"], *command.get("again", [])):
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                    break
                time.sleep(0.002)
            if command.get("group"):
                os.killpg(pid, command["signal"])       # as a terminal does it
            else:
                os.kill(pid, command["signal"])
    deadline, ended = time.monotonic() + command.get("limit", 300), {}
    while len(ended) < len(pids):
        for one in pids:
            if one not in ended and os.waitid(os.P_PID, one, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                ended[one] = os.waitstatus_to_exitcode(os.waitpid(one, 0)[1])
                if ended[one]:
                    for other in set(pids) - ended.keys():
                        os.kill(other, signal.SIGTERM)
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):   # the last one has just ended
                os.killpg(pid, signal.SIGKILL)
        time.sleep(0.002)
    worst = next((status for status in ended.values() if status), 0)        # of the first that failed
    return worst, 0 if command.get("leave") else count_left(pid)


def count_left(group):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
            os.waitpid(-group, os.WNOHANG)              # orphans that have ended are taken away
        except (ProcessLookupError, ChildProcessError):
            return 0
        time.sleep(0.01)
    os.killpg(group, signal.SIGKILL)
    return 1


def take_away_the_dead():
    """Orphans of earlier runs that nobody waited for."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def serve(project):
    sys.path[:0] = [project, os.path.dirname(os.path.abspath(__file__))]
    os.chdir(project)
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    import torch
    torch.set_num_threads(1)
    importlib.import_module("train")
    from utils.checks.lists import look_at_lists_of
    from utils.checks.prepare import current_lists
    from utils.training.plan import SHAPES
    with contextlib.redirect_stdout(sys.stderr):        # the lists, made and looked at: every run does the same from its first moment on
        for task in ("detection", "segmentation"):
            lists = current_lists(SHAPES, dict.fromkeys(("classes_path", "train_list", "val_list", "test_list")), task)
            look_at_lists_of(task, {name: lists[f"{name}_list"] for name in ("train", "val", "test")}, lists["classes_path"])
    for line in sys.stdin:
        command = json.loads(line)
        take_away_the_dead()
        log, out = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        pids, ranks = [], command.get("ranks", 1)
        if ranks > 1:
            os.environ.update(WORLD_SIZE=str(ranks), LOCAL_WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
        for rank in range(ranks):
            pids.append(os.fork())
            if not pids[-1]:
                os.setpgid(0, pids[0])                  # Ctrl-C is for these and their workers
                if ranks > 1:
                    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
                if rank != command.get("only", rank):
                    command |= {"faults": [], "at": []}
                raise SystemExit(child(command, log.fileno(), out.fileno()))    # through Python's own end: what it does about workers belongs to it
            os.setpgid(pids[-1], pids[0])
        for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            os.environ.pop(name, None)
        status, left = wait(pids, command)
        log.seek(0)
        out.seek(0)
        print(json.dumps({"status": status, "left": left, "moments": log.read().decode().split("\n")[:-1],
                          "out": out.read().decode(errors="replace"), "pid": pids[0]}), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
