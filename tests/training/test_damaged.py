"""Checkpoints that were damaged on their way or made by an enemy: refused in a sentence, before anything is used, run or filled."""
import io
import json
import os
import pickle
import random
import re
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch
import torchvision
from hostile import archive, call, families, number

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
    for place, path in enumerate(paths):
        save_checkpoint(path, model={f"layer{i}.weight": torch.rand(size) + place for i in range(3)}, epoch=place,
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
first = Path(sys.argv[2]) / "first"
torch.save({"a": torch.zeros(3)}, first)
read_checkpoint(first)
first.unlink()
resource.setrlimit(resource.RLIMIT_AS, (16 * 2**30, 16 * 2**30))

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def memory(word):                       # Linux can forget the most that there was: each file counts for itself
    status = Path("/proc/self/status")
    if not status.exists():
        return most()
    if word == "VmRSS":
        Path("/proc/self/clear_refs").write_text("5")
    return int(status.read_text().split(word + ":")[1].split()[0])

for path in sorted(Path(sys.argv[2]).iterdir()):
    before, began = memory("VmRSS"), time.process_time()
    try:
        said = f"accepted: {type(read_checkpoint(path))}"
    except UserError as error:
        said = str(error)
    print(json.dumps([path.name, said, (memory("VmHWM") - before) / 1024, time.process_time() - began]), flush=True)
"""


def judge(folder):
    """Every file of a folder is refused in a sentence with its name, in no time, in no memory: one process reads all of them. -> how many."""
    ran = subprocess.run([sys.executable, "-c", READ, str(ROOT), str(folder)], capture_output=True, text=True, timeout=300,
                         env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stdout[-300:] + ran.stderr[-3000:]
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    for name, said, megabytes, seconds in rows:
        assert name in said and len(said) < 600 and "Traceback" not in said and "accepted" not in said, said
        assert megabytes < 300 and seconds < 2, (name, megabytes, seconds)
    return len(rows)


@pytest.mark.skipif(os.name != "posix", reason="measures the memory as POSIX systems do")
@pytest.mark.parametrize("every", [19, pytest.param(1, marks=pytest.mark.torture)])
def test_hostile_files(tmp_path, every):
    """Lists that hold themselves, that hold each other, bytes of bytes, storages and views of terabytes, zip bombs ...: some 260 of them."""
    files = [*families(), *BOMBS.items()][::every]
    for place, (name, make) in enumerate(files):
        make(tmp_path / f"{place} {re.sub('[^a-z0-9 ]', '', name)[:40]}.pth")
    assert judge(tmp_path) == len(files) and len(families()) > 250


KINDS = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.uint16)
ONE = torch.ones(3, 4)
LEGITIMATE = {
    "official": lambda path: torch.save(torchvision.models.squeezenet1_1().state_dict(), path),
    "official, old format": lambda path: torch.save(torchvision.models.squeezenet1_1().state_dict(), path,
                                                    _use_new_zipfile_serialization=False),
    "parameters": lambda path: torch.save(dict(torch.nn.Linear(3, 4).named_parameters()), path),
    "of every kind": lambda path: torch.save({str(kind): torch.zeros(3, 2).to(kind) for kind in KINDS}, path),
    "views": lambda path: torch.save({"a": ONE, "b": ONE, "c": ONE.detach(), "d": ONE.t(), "e": ONE[1:], "empty": ONE[:0]}, path),
    "plain values": lambda path: torch.save({"a": b"abc\xff", "b": {"x", "y"}, "c": torch.float32, "d": torch.device("cpu"), "e": torch.Size([1]),
                                             "f": {(1, 2): None, 3: -4.5}, "g": [[0.9, 0.99]] * 50, "h": list(range(2500))}, path),
    "a thousand tensors": lambda path: torch.save({f"layer.{i}.weight": torch.zeros(2) for i in range(1000)}, path),
}


@pytest.mark.parametrize("name", LEGITIMATE)
def test_legitimate_files(tmp_path, name):
    """What is no attack is read, to the bit."""
    LEGITIMATE[name](tmp_path / "a.pth")
    content, expected = read_checkpoint(tmp_path / "a.pth"), torch.load(tmp_path / "a.pth", weights_only=True)
    assert content.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(content[key].view(torch.uint8), value.view(torch.uint8)) if "torch.fl" in key else repr(content[key]) == repr(value)


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
