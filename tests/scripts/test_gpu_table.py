"""benchmarks/gpu.py, the one command for somebody with a GPU, on this CPU at a tiny size: its tables are whole."""
import re

import pytest

from benchmarks import gpu
from utils.settings import Settings


@pytest.fixture
def settings():
    return Settings({"device": "cpu", "networks": ["yolov8", "lraspp"], "input_shape": (64, 64), "batch_size": 2, "seconds": 0, "minutes": 5,
                     "compiled": False, "pictures": 2}, "gpu.py")


def test_every_way_is_measured(settings, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "WARM_UP", 0)
    gpu.main(settings)
    said = capsys.readouterr().out
    head, _, yolov8, lraspp = ([cell.strip() for cell in line[1:-1].split("|")] for line in re.findall(r"^\|.*", said, re.MULTILINE))
    assert head == ["network", "input, batch", "float32", "bf16", "bf16, channels last", "the same, compiled", "peer"]
    assert all(re.fullmatch(r"[0-9.]+/s", cell) for row in (yolov8, lraspp) for cell in row[2:5])
    assert lraspp[-2] == "" and lraspp[-1].endswith("/s") and re.search(r"waits for pictures \d+ % of the time in the first epoch, \d+ %", said)


def test_it_ends_in_time(settings, capsys):
    """Cells for which no time is left stay empty."""
    settings.minutes = 0
    gpu.main(settings)
    assert "| `lraspp` | 64 x 64, 2 |  |  |  |  |  |" in capsys.readouterr().out
