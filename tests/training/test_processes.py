"""Two processes train what one would: the same pictures in the same order, the same gradients, the same evaluation; and end together.

The processes are forked (torture_server.py) with the environment that torchrun gives them; what torchrun itself does when one fails
is tested with torchrun.
"""
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from torture import FAMILIES, LINUX, RANKS, SMALL, differences, fingerprint

from utils import evaluate
from utils.dataset import KeySampler
from utils.system import distributed, heartbeat

pytestmark = LINUX
TOLERANCE = 1e-6                                        # of every weight after all steps
PLAIN = ("optimizer=sgd", "lr=0.01")                    # Adam divides by the gradients: it makes their last bits large
NETS = {**FAMILIES, "yolov8": ("net=yolov8", *SMALL), "yolox": ("net=yolox", *SMALL, "net_options={'size': 'nano'}"),
        "retinanet": ("net=retinanet", *SMALL), "unet": ("net=unet", *SMALL),
        "pspnet": ("net=pspnet", *SMALL, "net_options={'backbone': 'mobilenet_v2'}")}
FROZEN = [["norms_frozen"]]


def state(server):
    (path,) = server.logs().glob("*/last.pth")
    return torch.load(path, weights_only=True)


def farthest(one, two):
    """The largest difference of any weight or statistic."""
    return max(float((one["training"]["model"][name].double() - value.double()).abs().max()) for name, value in two["training"]["model"].items())


@pytest.mark.parametrize("name", ["ssd", *(pytest.param(name, marks=pytest.mark.torture) for name in NETS if name != "ssd")])
def test_two_are_one(server, name):
    """With the BatchNorm statistics frozen all weights of two processes are those of one, up to the order of sums, and so is what is measured.
    (A ResNet-50 with random weights and nothing normalised has gradients so large that RetinaNet's last bits need smaller steps.)"""
    words = (*NETS[name], *PLAIN, *(("lr=0.001",) if name == "retinanet" else ()), *(("epochs=2", "freeze_epochs=0") if name == "ssd" else ()))
    states = []
    for ranks in (1, 2):
        server.clear()
        server.run(*words, faults=FROZEN, ranks=ranks, status=0)
        states.append(state(server))
    one, two = states
    assert 0 <= farthest(one, two) <= TOLERANCE
    for a, b in zip(one["training"]["history"], two["training"]["history"]):
        assert a.keys() == b.keys() and all(a[key] == pytest.approx(b[key], rel=1e-4, abs=1e-6) for key in a)


@pytest.mark.torture
def test_no_process_sees_a_picture_alone(server):
    """BatchNorm at work, and shares that would be single pictures: each process takes the whole batch, and two are one."""
    words = (*FAMILIES["yolo"], *PLAIN, "epochs=1", "freeze_epochs=0", "batch_size=2")
    states, outs = [], []
    for ranks in (1, 2):
        server.clear()
        outs.append(server.run(*words, ranks=ranks, status=0)["out"])
        states.append(state(server))
    assert "gain no time" in outs[1] and "gain no time" not in outs[0]
    assert farthest(*states) <= TOLERANCE
    for a, b in zip(*(one["training"]["history"] for one in states)):
        assert a.keys() == b.keys() and all(a[key] == pytest.approx(b[key], rel=1e-4, abs=1e-6) for key in a)


class Store:
    """What the processes share, as heartbeat.py uses it."""

    def __init__(self):
        self.values = {}

    def set(self, key, value):
        self.values[key] = value if isinstance(value, bytes) else value.encode()

    def get(self, key):
        return self.values[key]

    def check(self, keys):
        return all(key in self.values for key in keys)


@pytest.mark.parametrize("ending, alarmed", [
    ("stands still", True), ("ends", False), ("goes on", False), ("store ends", False), ("store hangs", True)])
def test_heartbeat(monkeypatch, ending, alarmed):
    """One process counts, the other watches it."""
    monkeypatch.setattr(heartbeat, "BEAT", 0.01)
    store, alarms = Store(), []
    counts = [{"theirs": None, "lost": False, "last": None} for _ in range(2)]
    stops, hang = [threading.Event() for _ in range(2)], threading.Event()
    threads = [threading.Thread(target=heartbeat.exchange, args=(store, str(i), str(1 - i), counts[i], stops[i])) for i in range(2)]
    threads.append(threading.Thread(target=heartbeat.guard, args=(counts[0], stops[0], lambda: alarms.append(1))))
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    assert not alarms and counts[0]["theirs"]
    if ending == "ends":
        counts[1]["last"] = heartbeat.DONE
    if ending == "store ends":
        def refused(*_):
            raise RuntimeError("Connection reset by peer")
        monkeypatch.setattr(store, "set", refused)
    if ending == "store hangs":
        monkeypatch.setattr(store, "get", lambda _: hang.wait(5))
    if ending in ("stands still", "ends"):
        stops[1].set()
    time.sleep(0.5)
    assert bool(alarms) == alarmed
    hang.set()
    for stop in stops:
        stop.set()
    for thread in threads:
        thread.join(5)


@pytest.mark.torture
@pytest.mark.parametrize("still", [0, 1])
def test_one_of_two_stands_still(server, still):
    """SIGSTOP: the other one ends within 60 s, with a sentence; the run goes on to the same end."""
    words = (*FAMILIES["yolo"], "epochs=2")
    _, whole = server.whole(*words, ranks=2)
    server.clear()
    began = time.monotonic()
    answer = server.run(*words, ranks=2, only=still, at=[["before torch.nn.utils.clip_grad_norm_", 3]], signal=signal.SIGSTOP, limit=75)
    assert answer["status"] == 1 and f"process {still} has not answered for 30 s" in answer["out"], (answer["status"], answer["out"][-2000:])
    assert time.monotonic() - began < 90                    # the server itself waits for the one that stands still
    assert not differences(whole, server.finish(*words, ranks=2))


@pytest.mark.torture
@pytest.mark.parametrize("name", FAMILIES)
def test_the_evaluation_is_shared_exactly(server, name):
    """Nothing learned (lr=0, frozen statistics): losses and mAP or mIoU of two processes are those of one to the last bit."""
    histories = []
    for ranks in (1, 2):
        server.clear()
        server.run(*FAMILIES[name], *PLAIN, "lr=0.0", "weight_decay=0.0", "epochs=1", "batch_size=2", "freeze_batch_size=2",
                   f"val_list=Shapes{'_segmentation' if name == 'deeplab' else ''}_train.txt", faults=FROZEN, ranks=ranks, status=0)
        histories.append(state(server)["training"]["history"][0])
    measured = [{key: value for key, value in history.items() if not key.startswith("train")} for history in histories]
    assert measured[0] == measured[1] and len(measured[0]) >= 6


@pytest.mark.torture
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("moment", [["after train.step", 2], ["before os.replace", 3], ["before utils.steps.set_frozen", 4],
                                    ["before train.evaluate_epoch", 0]])
def test_killed_and_resumed(server, name, moment):
    """One of two processes is killed, the other ends by itself; resumed, they end with the bits of two that nobody touched. Twice run: equal."""
    words = FAMILIES[name]
    folder = server.kept / f"two {name}"
    if not folder.exists():
        server.whole(*words, ranks=2)
        server.keep(folder.name)
    server.clear()
    answer = server.run(*words, ranks=2, at=[moment], only=0)
    assert answer["status"] == -9
    assert not differences(fingerprint(folder), server.finish(*words, ranks=2))


@pytest.mark.torture
def test_from_two_to_one_and_back(server):
    """A run goes on with another number of processes, in the middle of an epoch."""
    words = (*FAMILIES["yolo"], *PLAIN)
    server.clear()
    server.run(*words, faults=FROZEN, status=0)
    whole = state(server)
    for ranks in ((2, 1), (1, 2)):
        server.clear()
        assert server.run(*words, ranks=ranks[0], faults=[*FROZEN], at=[["before torch.optim.SGD.step", 6]], signal=signal.SIGTERM)["status"] == 143
        assert state(server)["training"]["step"] > 0
        server.run("resume=True", ranks=ranks[1], faults=FROZEN, status=0)
        assert farthest(whole, state(server)) <= TOLERANCE
        for a, b in zip(whole["training"]["history"], state(server)["training"]["history"]):
            assert all(a[key] == pytest.approx(b[key], rel=1e-4, abs=1e-6) for key in a)


@pytest.mark.torture
@pytest.mark.parametrize("count, batch", [(7, 4), (3, 4), (5, 2), (2, 2), (1, 2)])
def test_few_pictures(server, count, batch):
    """What does not divide by two: nobody waits for a batch that does not come."""
    (server.project / "few.txt").write_text("".join(server.listed()[:count]), encoding="utf-8")
    server.clear()
    answer = server.run(*FAMILIES["yolo"], f"batch_size={batch}", f"freeze_batch_size={batch}", "train_list=few.txt", "epochs=1", "freeze_epochs=0",
                        ranks=2, limit=120)
    if count == 1:
        assert answer["status"] == 1 and "few.txt" in answer["out"]
    else:
        assert answer["status"] == 0, answer["out"][-2000:]


@pytest.mark.torture
def test_memory_of_one_of_two(server):
    """The trial step does not fit in one process only: both cut the batch, and the run is what it would have been with accumulate=2."""
    words = (*FAMILIES["ssd"], "epochs=1", "freeze_epochs=0")      # whose loss is divided by a number of the whole batch
    _, asked = server.whole(*words, "accumulate=2", ranks=2)
    server.clear()
    answer = server.run(*words, ranks=2, only=1, faults=[["out_of_memory", 1]], limit=120, status=0)
    assert "accumulate=2" in answer["out"] and not differences(asked, server.result())


def torchrun(server, *words, faults=(), then=None, after=None):
    """-> exit code, seconds until all had ended, what they said. then: a signal for torchrun, `after` these words in its output."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(RANKS),
               str(server.project), json.dumps(list(faults)), *words]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONUNBUFFERED": "1"}
    path = server.kept / "out.txt"
    with open(path, "w", encoding="utf-8") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment, cwd=server.project.parent, start_new_session=True)
        said, began = lambda: path.read_text(encoding="utf-8", errors="replace"), None
        while process.poll() is None:
            time.sleep(0.05)
            if began is None and ((after or "FAULT NOW") in said()):
                began = time.monotonic()
                if then:
                    process.send_signal(then)
            if began and time.monotonic() - began > 60:
                os.killpg(process.pid, signal.SIGKILL)
                raise AssertionError(said()[-3000:])
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)                       # nobody is left of the session
    return process.returncode, time.monotonic() - (began or time.monotonic()), said()


@pytest.mark.torture
def test_torchrun(server):
    """The real one: its run is that of the forked processes."""
    words = (*FAMILIES["yolo"], "epochs=2")
    _, forked = server.whole(*words, ranks=2)
    server.clear()
    status, _, out = torchrun(server, *words)
    assert status == 0 and out.count("\n    2/2  ") == 1 and not differences(forked, server.result())


@pytest.mark.torture
@pytest.mark.parametrize("fault, sentence", [(["raises"], "a bolt broke"), (["dies"], "Signal 9"), (["nan_in", "loss", 3], "became NaN or infinite")])
def test_one_of_two_ends(server, fault, sentence):
    """It raises, is killed, or its loss is no number: both end within 60 s (far less), with an exit code and the reason."""
    server.clear()
    status, seconds, out = torchrun(server, *FAMILIES["yolo"], faults=[[1, *fault]])
    assert status != 0 and seconds < 60 and sentence in out, out[-3000:]


@pytest.mark.torture
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_torchrun_is_stopped(server, number):
    """Ctrl-C and SIGTERM for torchrun: all processes finish the step, the first one saves, and the run goes on to the same end."""
    words = FAMILIES["yolo"]
    _, whole = server.whole(*words, ranks=2)
    server.clear()
    status, seconds, out = torchrun(server, *words, then=number, after="Backbone unfrozen")
    assert status != 0 and seconds < 60 and "Stopped and saved" in out, out[-3000:]
    assert not differences(whole, server.finish(*words, ranks=2))


def test_results_come_back_in_order(monkeypatch):
    monkeypatch.setattr(distributed, "gather", lambda rows: [[(0, {"a": 1.0}), (2, {"a": 1e-16})], [(1, {"a": -1.0})]])
    assert [number for number, _ in evaluate.in_order([])] == [0, 1, 2] and evaluate.summed([]) == {"a": 1e-16}


def test_sampler_shares(monkeypatch):
    """Together the processes see each batch of one process, in its order; a training batch is shared, an evaluation's batches are dealt out."""
    for count, batch, train in ((18, 4, True), (7, 4, True), (9, 4, True), (18, 4, False), (5, 2, False), (1, 4, False)):
        for world in (2, 4):
            shares = []
            for rank in range(world):
                monkeypatch.setattr(distributed, "world", lambda world=world: world)
                monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
                sampler = KeySampler(count, batch, 3, train)
                sampler.epoch = 5
                shares.append(list(sampler))
                assert len(shares[-1]) == len(sampler)
                sampler.first = 1
                assert list(sampler) == shares[-1][1:] or not train
            alone = [sampler.share(number) == 1 for number in range(len(shares[0]))]        # then each takes all of them
            monkeypatch.setattr(distributed, "world", lambda: 1)
            monkeypatch.setattr(distributed, "rank", lambda: 0)
            whole = KeySampler(count, batch, 3, train)
            whole.epoch = 5
            if train:
                steps = [list(step) for step in zip(*shares)]
                assert all(step == [step[0]] * world if one else min(map(len, step)) > 1 for step, one in zip(steps, alone))
                together = [step[0] if one else [key for share in step for key in share] for step, one in zip(steps, alone)]
                assert len({len(share) for share in shares}) == 1 and all(len(set(map(len, step))) == 1 for step in zip(*shares))
                assert all(batch == full[:len(batch)] for batch, full in zip(together, whole))
                assert sum(map(len, together)) >= count - world
            else:
                dealt = [batch for step in range(max(map(len, shares))) for share in shares for batch in share[step:step + 1]]
                assert dealt == list(whole)
