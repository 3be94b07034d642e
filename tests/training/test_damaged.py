"""Checkpoints that were damaged on their way or made by an enemy: refused in a sentence, before anything is used, run or filled."""
import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from utils.checkpoint import read_checkpoint, save_checkpoint
from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "last.pth"
    save_checkpoint(path, model={"conv.weight": torch.arange(6.0), "bn.count": torch.tensor(3)}, net="yolov4_tiny", epoch=7, settings={"lr": 0.01})
    return path


def refused(path, raw):
    """Whether a file with these bytes is refused, with its name and nothing but a sentence."""
    path.write_bytes(raw)
    try:
        read_checkpoint(path)
    except UserError as error:
        return path.name in str(error)
    return False


@pytest.mark.parametrize("bits", [1, pytest.param(8, marks=pytest.mark.torture)])
def test_every_byte(small, bits):
    """Of a whole checkpoint with two tensors: one random bit, or each, of every byte."""
    raw, rng = small.read_bytes(), random.Random(0)
    accepted = []
    for place in range(len(raw)):
        for bit in rng.sample(range(8), bits):
            broken = bytearray(raw)
            broken[place] ^= 1 << bit
            if not refused(small, broken):
                accepted.append((place, bit))
    assert not accepted and len(raw) > 1500


@pytest.mark.parametrize("count", [40, pytest.param(2000, marks=pytest.mark.torture)])
def test_a_real_one(tmp_path, count):
    """A checkpoint as trainings make it: bits flipped anywhere, cut off anywhere, parts of it exchanged, doubled, left out, taken from another."""
    torch.manual_seed(0)
    size = 20_000                                       # the same structure with smaller tensors: thousands of files are written
    paths = [tmp_path / "one.pth", tmp_path / "two.pth"]
    for number, path in enumerate(paths):
        save_checkpoint(path, model={f"layer{i}.weight": torch.rand(size) + number for i in range(3)}, epoch=number,
                        training={"optimizer": {"state": {i: {"step": torch.tensor(1.0)} for i in range(20)}}})
    raw, other = (path.read_bytes() for path in paths)
    rng, path = random.Random(1), tmp_path / "last.pth"
    for _ in range(count):
        broken = bytearray(raw)
        broken[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        assert refused(path, broken)
    for _ in range(count // 10):
        assert refused(path, raw[:rng.randrange(len(raw))])
        first, second = sorted(rng.sample(range(len(raw)), 2))
        for splice in (raw[:first] + raw[second:], raw[:second] + raw[first:], raw[:first] + other[first:], raw[first:], raw + raw[first:],
                       raw[:first] + other[first:second] + raw[second:], raw[:first] + bytes(second - first) + raw[second:]):
            assert splice in (raw, other) or refused(path, splice)
    path.write_bytes(raw)
    assert read_checkpoint(path)["epoch"] == 0


def test_without_its_seal(small):
    """An older file has none and is read, with the checksums of its records; one of this version that lost it is refused."""
    raw = small.read_bytes()
    bare = bytearray(raw[:raw.rindex(b"sha256:")])
    bare[-2:] = b"\0\0"
    assert refused(small, bare)
    torch.save({"model": {"a": torch.arange(1000.0)}, "format": 1}, small)
    assert read_checkpoint(small)["format"] == 1
    raw = small.read_bytes()
    place = raw.index(torch.arange(500.0, 510.0).numpy().tobytes())
    assert refused(small, raw[:place] + b"\xff" + raw[place + 1:])


def archive(path, *records, packed=False):
    """A file like those of torch.save. records: (name, bytes)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as file:
        for name, content in (("a/version", b"3\n"), ("a/byteorder", b"little"), *records):
            file.writestr(name, content)


def number(value):
    return b"\x8a\x08" + struct.pack("<q", value)


def call(module, name, *arguments):
    """A pickle that calls module.name(*arguments)."""
    return b"\x80\x02c%s\n%s\n(" % (module, name) + b"".join(arguments) + b"tR."


def tensor(numbers, stride, key=b"0"):
    """A pickle of one tensor: so many numbers, of a storage that claims as many (stride 1) or one (stride 0)."""
    held = numbers if stride else 1
    return (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0" + key + b"X\x03\0\0\0cpu"
            + number(held) + b"tQK\0(" + number(numbers) + b"t(" + number(stride) + b"t\x89ccollections\nOrderedDict\n)RtR.")


def overlapping(path):
    """A hundred names in the directory of the archive for one record of a MB, as in the better zip bombs."""
    archive(path, ("a/data.pkl", b"\x80\x02]."), ("a/data/0", bytes(2**20)))
    raw = path.read_bytes()
    end = raw.rindex(b"PK\x05\x06")
    size, start = struct.unpack("<II", raw[end + 12:end + 20])
    directory = raw[start:start + size]
    entry = directory[directory.rindex(b"PK\x01\x02"):]
    more = b"".join(entry.replace(b"a/data/0", b"a/dat%03d" % i) for i in range(100))
    tail = bytearray(raw[end:])
    tail[8:16] = struct.pack("<HHI", 104, 104, size + len(more))
    path.write_bytes(raw[:start] + directory + more + bytes(tail))


BOMBS = {
    "a tensor of 10^12 numbers made of one": lambda path: archive(path, ("a/data.pkl", tensor(10**12, 0)), ("a/data/0", bytes(4))),
    "a storage that claims 10^12 numbers": lambda path: archive(path, ("a/data.pkl", tensor(10**12, 1)), ("a/data/0", bytes(4))),
    "a storage that claims 10^9 numbers": lambda path: archive(path, ("a/data.pkl", tensor(10**9, 1)), ("a/data/0", bytes(4))),
    "compressed": lambda path: archive(path, ("a/data.pkl", tensor(10**8, 1)), ("a/data/0", bytes(4 * 10**8)), packed=True),
    "one name twice": lambda path: archive(path, ("a/data.pkl", b"\x80\x02]."), ("a/data.pkl", tensor(10**9, 0)), ("a/data/0", bytes(4))),
    "overlapping records": overlapping,
    "a pickle of 70 MB": lambda path: archive(path, ("a/data.pkl", b"\x80\x02(" + b"]" * 70_000_000 + b"t.")),
    "four million lists": lambda path: archive(path, ("a/data.pkl", b"\x80\x02(" + b"}" * 4_000_000 + b"t.")),
    "a byte array of 4 GB": lambda path: archive(path, ("a/data.pkl", call(b"builtins", b"bytearray", number(4 * 10**9)))),
    "a byte array of 4 GB, old format": lambda path: path.write_bytes(call(b"builtins", b"bytearray", number(4 * 10**9))),
    "a tensor by its size": lambda path: archive(path, ("a/data.pkl", call(b"torch", b"FloatTensor", number(10**12)))),
    "a million records": lambda path: archive(path, *((f"a/data/{i}", b"") for i in range(110_000))),
    "a string that says it is longer": lambda path: archive(path, ("a/data.pkl", b"\x80\x02X\xff\xff\xff\x7f.")),
    "only an end": lambda path: path.write_bytes(b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, 2**32 - 1, 0, 0)),
}
READ = """
import json, resource, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch, zipfile
from utils.checkpoint import read_checkpoint
from utils.errors import UserError
torch.save({"a": torch.zeros(3)}, sys.argv[2] + ".first")
read_checkpoint(sys.argv[2] + ".first")
resource.setrlimit(resource.RLIMIT_AS, (16 * 2**30, 16 * 2**30))
before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
try:
    said = f"accepted: {type(read_checkpoint(Path(sys.argv[2])))}"
except UserError as error:
    said = str(error)
print(json.dumps([said, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, time.process_time() - began]))
"""


@pytest.mark.skipif(os.name != "posix", reason="measures the memory as POSIX systems do")
@pytest.mark.parametrize("name", [name if i % 5 == 3 else pytest.param(name, marks=pytest.mark.torture) for i, name in enumerate(BOMBS)])
def test_bombs(tmp_path, name):
    path = tmp_path / "bomb.pth"
    BOMBS[name](path)
    reader = subprocess.run([sys.executable, "-c", READ, str(ROOT), str(path)], capture_output=True, text=True, timeout=120,
                            env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert reader.returncode == 0 and reader.stdout.startswith("["), reader.stderr[-3000:]
    said, megabytes, seconds = json.loads(reader.stdout)
    assert "bomb.pth" in said and len(said) < 600 and "Traceback" not in said
    assert megabytes < 300 and seconds < 2, (megabytes, seconds)


class Evil:
    """Calls function(*arguments) where it is loaded without care."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def evil_files(canary):
    """name -> function(path) that writes a file which would make the file `canary`."""
    code = f"open({str(canary)!r}, 'w').close()"
    system, touch = Evil(os.system, f"touch '{canary}'"), Evil(subprocess.check_call, ["touch", str(canary)])
    run, text = Evil(exec, code), Evil(eval, code)

    def tar(path):
        with tarfile.open(path, "w") as file:
            for name in ("sys_info", "pickle", "storages", "tensors"):
                raw = pickle.dumps(system if name == "pickle" else 0)
                entry = tarfile.TarInfo(name)
                entry.size = len(raw)
                file.addfile(entry, io.BytesIO(raw))
    return {
        "system": lambda path: torch.save(system, path),
        "in a dict": lambda path: torch.save({"model": {"a": torch.zeros(2), "b": system}}, path),
        "deep": lambda path: torch.save({"training": {"optimizer": {"state": [({"x": [text]},)]}}}, path),
        "exec": lambda path: torch.save([run], path),
        "process": lambda path: torch.save({"model": touch}, path),
        "as a key": lambda path: torch.save({(1, text): 2}, path),
        "old format": lambda path: torch.save({"model": system}, path, _use_new_zipfile_serialization=False),
        "plain pickle": lambda path: path.write_bytes(pickle.dumps({"model": run})),
        "pickle 0": lambda path: path.write_bytes(pickle.dumps([system], 0)),
        "pickle 5": lambda path: path.write_bytes(pickle.dumps([text], 5)),
        "oldest format": tar,
        "a class": lambda path: torch.save({"model": torch.nn.Linear(2, 2), "b": run}, path),
        "setstate": lambda path: archive(path, ("a/data.pkl", b"\x80\x02" + pickle.dumps(system, 2)[2:-1] + b"}X\x01\0\0\0aK\x01sb.")),
        "by getattr": lambda path: torch.save([Evil(getattr, Evil(__import__, "os"), "system")], path),
    }


@pytest.mark.parametrize("name", evil_files(""))
def test_foreign_code_does_not_run(tmp_path, name):
    canary, path = tmp_path / "canary", tmp_path / "evil.pth"
    evil_files(canary)[name](path)
    with pytest.raises(UserError, match=r"evil\.pth (holds more than tensors|cannot be read)") as error:
        read_checkpoint(path)
    assert not canary.exists()
    if name in ("system", "in a dict", "exec"):
        assert any(word in str(error.value) for word in ("posix.system", "nt.system", "builtins.exec"))     # it says what is in it
