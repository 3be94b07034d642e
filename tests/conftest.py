import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from utils import settings  # noqa: E402


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder that takes the place of the repository, with a space and Chinese in its path."""
    folder = (tmp_path / "仓库 root").resolve()
    folder.mkdir()
    monkeypatch.setattr(settings, "ROOT", folder)
    return folder
