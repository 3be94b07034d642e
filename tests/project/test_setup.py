"""What a fresh or broken installation says."""
import subprocess
import sys
from pathlib import Path

import pytest

import utils

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
