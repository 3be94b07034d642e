"""What a fresh or broken installation says."""
import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import train
import utils
from utils.settings import read_settings

ROOT = Path(__file__).resolve().parents[2]


def run(code):
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, encoding="utf-8")


@pytest.mark.parametrize("module", utils.PACKAGES)
def test_a_missing_package_is_a_sentence(module):
    hide = f"import importlib.util as u; real = u.find_spec; u.find_spec = lambda name, *rest: None if name == {module!r} else real(name, *rest)"
    found = run(f"{hide}\nimport utils")
    assert found.returncode == 1 and utils.PACKAGES[module] in found.stderr and "pip install -r requirements.txt" in found.stderr
    assert sys.executable in found.stderr and "Traceback" not in found.stderr


def test_opencv_that_cannot_load(tmp_path):
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    found = run(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import utils")
    assert found.returncode == 1 and "libGL.so.1" in found.stderr and "opencv-python-headless" in found.stderr and "Traceback" not in found.stderr


def test_every_package_is_required():
    required = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert all(f"\n{package}>=" in "\n" + required for package in utils.PACKAGES.values())


def commands_of_readme():
    return [line.strip() for line in (ROOT / "README.md").read_text(encoding="utf-8").replace("`", "\n").splitlines()]


def test_the_dockerfile_installs_what_the_readme_says():
    """It cannot be built in a test: its lines are those of the README, its files are there, its command has variables that exist."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    installed = [line.removeprefix("RUN ").replace("--no-cache-dir ", "") for line in lines if line.startswith("RUN ")]
    cpu, rest = installed
    assert cpu in commands_of_readme() and f"{rest} && python train.py" in commands_of_readme()
    for line in lines:
        if line.startswith("COPY "):
            assert all((ROOT / name).exists() for name in line.split()[1:-1])
    command = json.loads(next(line for line in lines if line.startswith("CMD ")).removeprefix("CMD "))
    assert command[0] == "python" and read_settings(vars(train), command[2:]).output == "/work"
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    assert {"logs", ".git", "VOCdevkit/*"} <= set(ignored) and "model_data" not in ignored


def test_the_notebook_runs_the_lines_of_the_readme():
    notebook = json.loads((ROOT / "docs/colab.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4 and all(cell["source"] for cell in notebook["cells"])
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    shell = [line[1:] for cell in code for line in cell.splitlines() if line.startswith("!")]
    assert shell[0].startswith("git clone") and len(shell) == 4 and set(shell[1:]) <= set(commands_of_readme())
    for cell in code:
        ast.parse("\n".join(line for line in cell.splitlines() if not line.startswith(("!", "%"))))
    assert all(not cell.get("outputs") for cell in notebook["cells"])
