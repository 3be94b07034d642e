"""What the torture tests share: a small project, a server that runs and kills trainings (torture_server.py), and how two runs are compared."""
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from user import copy_project

SMALL = ("input_shape=64", "batch_size=4", "epochs=3", "freeze_epochs=1", "freeze_batch_size=8", "eval_every=2", "save_minutes=0.0",
         "optimizer=adamw", "lr=0.002", "amp=False", "mosaic=0.5", "seed=3")
FAMILIES = {"yolo": ("net=yolov4_tiny", *SMALL), "ssd": ("net=ssdlite320_mobilenet_v3", *SMALL, "input_shape=96", "zoom_out=0.5", "iou_crop=0.5"),
            "deeplab": ("net=deeplabv3plus", *SMALL)}
TIMES = {"seconds", "clock", "machine"}                 # what two equal runs need not have in common


class Server:
    """with Server(folder) as server: server.run("net=...", at=12) -> the answer of torture_server.py."""

    def __init__(self, parent, train=24):
        self.project = copy_project(Path(parent), train=train)
        environment = os.environ | {"PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        self.process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("torture_server.py")), str(self.project)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(timeout=30)

    def run(self, *words, status=None, **command):
        """status: the exit code it must have; None: any."""
        self.process.stdin.write(json.dumps({"words": list(words), **command}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert "Traceback" not in answer["out"], answer["out"][-4000:]
        assert status is None or answer["status"] == status, (answer["status"], answer["out"][-3000:])
        return answer

    def logs(self):
        return self.project / "logs"

    def keep(self, name):
        """The only run below logs/ becomes a folder elsewhere. -> Path."""
        (run,) = self.logs().iterdir()
        target = self.project / "kept" / name
        target.parent.mkdir(exist_ok=True)
        shutil.move(run, target)
        return target

    def clear(self):
        shutil.rmtree(self.logs(), ignore_errors=True)


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
            leaves[name] = hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
        else:
            leaves[name] = repr(value)
    walk(last, "last")
    leaves["best.pth"] = hashlib.sha256((run / "best.pth").read_bytes()).hexdigest()
    return leaves


def differences(one, two):
    """Names of what is not the same in two fingerprints."""
    return sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
