import os
import signal
import sys
from pathlib import Path

import pytest

workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
if workers > 1:                 # they share the cores, also with the scripts that they start; each alone would take all of them
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

for name in ("SIGINT", "SIGHUP"):       # what a shell in the background, or nohup, took away: the scripts under test inherit it
    if signal.getsignal(getattr(signal, name, signal.SIGINT)) == signal.SIG_IGN:
        signal.signal(getattr(signal, name), signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS.parent), str(TESTS / "helpers")]

os.environ["PLAINVISION_OFFLINE"] = "1"                  # official weights that nobody asked for are not fetched in tests
os.environ["PLAINVISION_LANGUAGE"] = "en"                # what a test reads is the same on every computer

from utils import settings  # noqa: E402


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder that takes the place of the repository, with a space and Chinese in its path."""
    folder = (tmp_path / "仓库 root").resolve()
    folder.mkdir()
    monkeypatch.setattr(settings, "ROOT", folder)
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Runs trainings and kills them, see torture.py."""
    from torture import Server
    with Server(tmp_path_factory.mktemp("torture")) as one:
        yield one
