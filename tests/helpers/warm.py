"""Starts scripts in real processes that need not import PyTorch anew: half of what most of these tests would otherwise do.

    python tests/helpers/warm.py        then on stdin, one JSON a line: {"script": path, "words": [...], "folder": path, "out": file, "error": file}

It has imported the packages of requirements.txt, nothing of the project, and forks itself for each script. The answer is the exit code on a line.
"""
import atexit
import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGES = ("numpy", "cv2", "PIL.Image", "matplotlib.figure", "tqdm", "torch", "torchvision", "torch.utils.data")


class Warm:
    """Such a process, seen from a test."""

    def __init__(self):
        environment = os.environ | {"PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        atexit.register(self.process.stdin.close)

    def run(self, script, words, folder):
        """-> exit code, what the script printed, what it printed as errors."""
        with tempfile.TemporaryDirectory() as place:
            out, error = Path(place) / "out", Path(place) / "error"
            order = {"script": str(script), "words": [str(word) for word in words], "folder": str(folder), "out": str(out), "error": str(error)}
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
            status = int(self.process.stdout.readline())
            return status, *(path.read_text(encoding="utf-8", errors="replace") for path in (out, error))


def become(order):
    """Turn this fork into a script that was just started."""
    for number, name in ((1, "out"), (2, "error")):
        file = os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = open(0, closefd=False, encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False, encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", closefd=False, encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115

    os.chdir(order["folder"])
    sys.argv = [order["script"], *order["words"]]
    sys.path[0] = os.path.dirname(order["script"])


def run_as_main(script):
    """-> exit code, as Python itself would end."""
    try:
        runpy.run_path(script, run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def main():
    for name in PACKAGES:
        importlib.import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            become(json.loads(line))
            os._exit(run_as_main(sys.argv[0]))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
