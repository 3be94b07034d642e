"""Trainings that die at a chosen moment. A process that has imported everything once and forks itself for each run:

    python tests/torture_server.py <project>        then on stdin, one JSON a line: {"words": [...], "at": 12, "signal": 9, "fault": ...}

The run calls train.main with these words. What it does is counted: before and after every function of TICKS there is a moment. At moment
`at` the process sends itself `signal` (9: kill -9). The answer is a line of JSON: {"status": exit code or -signal, "moments": [names], "out": text}.
fault: the name of a function in FAULTS below that changes the program first.
"""
import importlib
import json
import os
import signal
import sys
import tempfile
import traceback

TICKS = ["train.complete_settings", "train.make_data", "train.new_folder", "utils.log.write_settings", "train.begin_training",
         "utils.accidents.check_precision", "utils.accidents.try_step", "train.make_solver", "train.restore", "utils.fit.set_frozen",
         "utils.fit.add_gradients", "torch.nn.utils.clip_grad_norm_", "torch.optim.AdamW.step", "utils.fit.MovingAverage.update", "train.save",
         "utils.checkpoint.size_of", "torch.save", "utils.checkpoint.seal", "os.fsync", "os.replace", "train.evaluate_epoch",
         "utils.evaluate.suppress", "utils.evaluate.classify", "train.save_image", "utils.resume.Progress.end_epoch", "utils.log.report"]


def place(name):
    """'utils.fit.MovingAverage.update' -> the object that holds it, its last name."""
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


def count_moments(log, at, number):
    """Wrap TICKS; moment `at` gets the signal."""
    count = [0]

    def moment(name):
        os.write(log, (name + "\n").encode())
        if count[0] == at:
            os.kill(os.getpid(), number)
        count[0] += 1

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


def child(command, log, out):
    import train
    from utils.settings import override
    os.setpgrp()                                        # Ctrl-C is for this one and its workers
    os.dup2(out, 1)
    os.dup2(out, 2)
    if command.get("fault"):
        import torture_faults
        getattr(torture_faults, command["fault"])()
    count_moments(log, command.get("at", -1), command.get("signal", signal.SIGKILL))
    status = 0
    try:
        override(vars(train), command["words"])
        train.signals.run(train.main)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        if os.environ.get("DEBUG"):
            traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def serve(project):
    sys.path[:0] = [project, os.path.dirname(os.path.abspath(__file__))]
    os.chdir(project)
    import torch
    torch.set_num_threads(1)
    for name in ("train", "nets", "matplotlib.pyplot"):
        importlib.import_module(name)
    for line in sys.stdin:
        command = json.loads(line)
        with tempfile.TemporaryFile() as log, tempfile.TemporaryFile() as out:
            pid = os.fork()
            if not pid:
                child(command, log.fileno(), out.fileno())
            _, status = os.waitpid(pid, 0)
            log.seek(0)
            out.seek(0)
            answer = {"status": os.waitstatus_to_exitcode(status), "moments": log.read().decode().split("\n")[:-1],
                      "out": out.read().decode(errors="replace"), "pid": pid}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
