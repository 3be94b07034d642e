"""The scripts as a user runs them: real processes, a copy of the project in a folder with a space and Chinese characters, another current folder."""
import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

from warm import Warm

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("net=yolov4_tiny", "input_shape=64,96", "batch_size=16")


def copy_project(parent, train=24):
    """A copy of the code below the folder `parent`; its Shapes set is small."""
    copy = parent / "白话 视觉"
    copy.mkdir()
    for path in ROOT.glob("*.py"):
        shutil.copy(path, copy)
    for folder in ("nets", "utils", "tools", "model_data", "recipes"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "*.pth", "*.weights", "[0-9]*"))
    run(copy, "tools/make_shapes.py", f"train={train}", "val=6", "test=6")
    return copy


def start(project, script, *words, **options):
    environment = os.environ | {"PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen([sys.executable, str(project / script), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            encoding="utf-8", cwd=project.parent, env=environment, **options)


def run(project, script, *words, status=0):
    """The script in a process of its own, see warm.py; where a process cannot fork itself it is started anew."""
    if hasattr(os, "fork"):
        ended, out, error = warm_process().run(project / script, words, project.parent)
    else:
        process = start(project, script, *words)
        (out, error), ended = process.communicate(timeout=300), process.returncode
    assert ended == status, out[-2000:] + error[-3000:]
    assert "Traceback" not in error, error[-3000:]
    return out + error


@functools.cache
def warm_process():
    return Warm()


def newest(project):
    """The folder of the newest run."""
    return max((project / "logs").iterdir(), key=lambda path: path.stat().st_mtime_ns)
