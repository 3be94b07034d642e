"""What the torture tests share: a small project, a server that runs and kills trainings (torture_server.py), and how two runs are compared."""
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from user import copy_project, run

import nets

ROOT = Path(__file__).resolve().parents[2]
RANKS = Path(__file__).with_name("torture_ranks.py")   # what one process of torchrun runs
SMALL = ("input_shape=64", "batch_size=4", "epochs=3", "freeze_epochs=1", "freeze_batch_size=8", "eval_every=2", "save_minutes=1.5",
         "optimizer=adamw", "lr=0.002", "amp=False", "mosaic=0.5", "seed=3")                    # a save every second step
FAMILIES = {"yolo": ("net=yolov4_tiny", *SMALL, "input_shape=64,96", "small_share=0.4"),
            "ssd": ("net=ssdlite320_mobilenet_v3", *SMALL, "input_shape=96", "zoom_out=0.5", "iou_crop=0.5", "optimizer=sgd", "lr=0.05"),
            "deeplab": ("net=deeplabv3plus", *SMALL, "input_shape=32", "class_weights=balanced", "loss={'cross_entropy': 1.0, 'focal': 0.5}")}
TUNED = ("net=yolov4_tiny", *SMALL, "input_shape=64,96", "model_path=start.pth", "amp=None", "num_workers=2")
TRAIN = 18                                              # pictures: the last step of an epoch has two
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "2000000000", "MALLOC_TRIM_THRESHOLD_": "4000000000"}      # memory stays with the process: a fifth faster
KNOWN = 0.125                                           # the first value of the weights of write_start
TIMES = {"seconds", "clock", "machine"}                 # what two equal runs need not have in common
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="forks and adopts orphans as Linux does")


class Server:
    """with Server(folder) as server: server.run("net=...", at=[12]) -> the answer of torture_server.py."""

    def __init__(self, parent, train=TRAIN, **environment):
        self.project = copy_project(Path(parent), train=train)
        self.kept, self.always = self.project / "kept", []      # always: faults of every run
        self.kept.mkdir()
        self.start(**environment)

    def start(self, **environment):
        whole = os.environ | {"PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | MALLOC | environment
        whole.pop("DEBUG", None)
        self.process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("torture_server.py")), str(self.project)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=whole)

    def stop(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def run(self, *words, status=None, **command):
        """status: the exit code it must have; None: any."""
        command["faults"] = [*self.always, *command.get("faults", ())]
        self.process.stdin.write(json.dumps({"words": list(words), **command}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert "Traceback" not in answer["out"], answer["out"][-4000:]
        assert not answer["left"], "a process of the run lived on"
        assert status is None or answer["status"] == status, (answer["status"], answer["out"][-3000:])
        return answer

    def listed(self, task="detection"):
        """The lines of the training list, which a training makes that finds none."""
        path = self.project / f"Shapes{'_segmentation' if task == 'segmentation' else ''}_train.txt"
        if not path.exists():
            run(self.project, "voc_annotation.py")
        return path.read_text(encoding="utf-8").splitlines(True)

    def logs(self):
        return self.project / "logs"

    def keep(self, name):
        """The only run below logs/ becomes a folder elsewhere. -> Path."""
        (run,) = self.logs().iterdir()
        shutil.rmtree(self.kept / name, ignore_errors=True)
        shutil.move(run, self.kept / name)
        return self.kept / name

    def clear(self):
        shutil.rmtree(self.logs(), ignore_errors=True)

    def whole(self, *words, **command):
        """A run that nothing happens to. -> its answer, fingerprint."""
        self.clear()
        answer = self.run(*words, status=0, **command)
        return answer, self.result()

    def finish(self, *words, **command):
        """Go on with the run that was killed, or begin it where it had not begun; a finished one needs nothing. -> fingerprint."""
        begun = any(self.logs().glob("*/settings.py"))
        answer = self.run(*(("resume=True", *command.pop("more", ())) if begun else words), **command)
        assert answer["status"] == 0 or "already done" in answer["out"], answer["out"][-3000:]
        return self.result()

    def result(self):
        """The fingerprint of the newest run that has begun. A folder without settings.py belongs to a run that was killed before that."""
        (folder,) = (path.parent for path in self.logs().glob("*/last.pth"))
        assert not list(folder.glob("*.part*"))
        assert_every_epoch_is_logged(folder)
        return fingerprint(folder)


def write_start(path):
    """Weights to start from, known by one value: `precision_by_weights` of torture_faults.py looks for it."""
    torch.manual_seed(1)
    model = nets.build("yolov4_tiny", 6, (64, 96))
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] = KNOWN
    torch.save(model.state_dict(), path)


def assert_every_epoch_is_logged(run):
    """The table of epochs in train.log has a line for each that was done, no line twice."""
    if (run / "train.log").exists():                        # else nothing could be written
        done = torch.load(run / "last.pth", weights_only=True)["epoch"]
        lines = (run / "train.log").read_text(encoding="utf-8").splitlines()
        assert [int(line.split("/")[0]) for line in lines if re.match(r" +\d+/\d+  ", line)] == list(range(1, done + 1)), "\n".join(lines)


def fingerprint(run):
    """Everything in a finished run that must be the same to the bit: hashes of all tensors and values of last.pth, of the bytes of best.pth."""
    last = torch.load(run / "last.pth", weights_only=True)
    leaves = {}

    def walk(value, name):
        if isinstance(value, dict):
            for key, one in value.items():
                if key not in TIMES:
                    walk(one, f"{name}.{key}")
        elif isinstance(value, (list, tuple)):
            for number, one in enumerate(value):
                walk(one, f"{name}.{number}")
        elif isinstance(value, torch.Tensor):
            leaves[name] = hashlib.blake2b(value.contiguous().numpy()).hexdigest()
        else:
            leaves[name] = repr(value)
    walk(last, "last")
    leaves["best.pth"] = hashlib.blake2b((run / "best.pth").read_bytes()).hexdigest()
    return leaves


def differences(one, two):
    """Names of what is not the same in two fingerprints."""
    assert len(one) > 100
    return sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
