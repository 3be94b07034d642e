"""Images a second in training: YOLOv8-n here and in Ultralytics, with the loader and without it.

    python benchmarks/training.py [list_path=BCCD_train.txt] [their_python=/path/of/another/venv/bin/python]      (pip install ultralytics there)

What is timed, on both sides the same for batch after batch: the loader draws a batch (mosaic on every picture, the same ranges of scale,
translation, colours and flip); then the step: float 0-1, forward, loss, backward, clipped gradient, AdamW, moving average. "With the loader" is
all of it, "the step alone" begins when the batch is there. Theirs is `YOLO("yolov8n.yaml").train(...)` with its public callbacks
on_train_batch_start and on_train_batch_end; the first after the batch was drawn, the second after the moving average. It runs with
batch = nbs (an optimizer step for every batch, like ours), optimizer="AdamW", amp=False, workers=0, no validation, no plots, nothing saved; the rest
are its defaults. Each side is a process of its own and waits while another one works; they take turns in one run, and the figures are medians.
On a CPU the ratios are those of CPU time too, because other work on the machine disturbs the clock.
"""
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

list_path = "Shapes_train.txt"      # a detection list                                                  列表文件
size = 320                          # side of the network's input                                       输入边长
batch = 16                          # images a step                                                     批大小
rounds = 7                          # turns of every side; the median counts                            轮数
steps = 6                           # steps in a turn                                                   每轮步数
threads = 1                         # of PyTorch, on every side; 0: as many as it chooses               线程数
device = "cpu"                      # "cpu", "cuda" or "auto"                                           设备
their_python = ""                   # a Python that has ultralytics; "": this one                       装有 ultralytics 的 Python
their_cache = False                 # theirs keeps its images in memory too                             对方也缓存图像


class Turns:
    """In a side's process: waits for its turn, takes the times of its steps, says them."""

    def __init__(self, steps, threads, device):
        self.steps, self.threads, self.device, self.turn = steps, threads, device, None

    def now(self):
        """-> seconds of the clock and of this process' CPU time, when the device has done all its work."""
        if self.device == "cuda":
            import torch
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    def wait(self):
        import torch
        if self.threads:
            torch.set_num_threads(self.threads)
        print("\nREADY " + json.dumps({"threads": torch.get_num_threads()}), flush=True)
        if not sys.stdin.readline().strip():
            os._exit(0)                                     # the benchmark is over; a training of theirs has no other way out
        self.turn, self.last = [], self.now()

    def drawn(self):
        self.began = self.now()

    def stepped(self):
        if self.turn is None:                               # the first steps warm up
            self.turn = []
        end = self.now()
        self.turn.append([b - a for since in (getattr(self, "last", end), self.began) for a, b in zip(since, end)])
        self.last = end
        if len(self.turn) >= self.steps:
            sums = [sum(column) for column in zip(*self.turn)]
            print("\nTURN " + json.dumps(dict(zip(("loader", "loader_cpu", "step", "step_cpu"), sums))), flush=True)
            self.wait()


def theirs(folder, size, batch, device, cache, turns):
    """Ultralytics' training, in its own Python: nothing of ours is imported here but this file."""
    from ultralytics import YOLO

    model = YOLO("yolov8n.yaml")

    def epoch_begins(trainer):
        turns.last = turns.now()                            # what lies between two epochs is not measured

    model.add_callback("on_train_epoch_start", epoch_begins)
    model.add_callback("on_train_batch_start", lambda trainer: turns.drawn())
    model.add_callback("on_train_batch_end", lambda trainer: turns.stepped())
    model.train(data=str(Path(folder) / "data.yaml"), imgsz=size, batch=batch, nbs=batch, epochs=10_000, optimizer="AdamW", amp=False, workers=0,
                device=0 if device == "cuda" else "cpu", cache="ram" if cache else False, val=False, plots=False, save=False, pretrained=False,
                project=str(Path(folder) / "runs"), verbose=False)


def ours(s, list_path, size, batch, device, half, turns):
    """The same with our parts, put together as in train.py."""
    import torch

    import nets
    from utils.augment import Augmentation
    from utils.dataset import DetectionData, make_loader
    from utils.evaluate import to_device
    from utils.system.device import autocast, choose_precision

    hardware = torch.device(device)
    precision = choose_precision(None if half else False, hardware)
    augmentation = Augmentation(scale=(0.5, 1.5), aspect=0.0, translate=0.1, flip=0.5, colours=(0.015, 0.7, 0.4),
                                mosaic=1.0)
    class_names = [str(i) for i in range(classes_of(list_path))]
    data = DetectionData(list_path, class_names, (size, size), augmentation=augmentation)
    for index in range(len(data)):
        data.load(index)                                    # what the first epoch does
    loader = make_loader(data, batch, 0, 0, hardware)
    torch.manual_seed(0)
    model = nets.build("yolov8", len(data.class_names), (size, size)).to(hardware, memory_format=torch.channels_last).train()
    average, solver = s.steps.MovingAverage(model), s.steps.make_optimizer(model, "adamw", 1e-3, 0.9, 5e-4)
    scaler = torch.amp.GradScaler(hardware.type, enabled=precision == torch.float16)
    for epoch in range(10_000):
        loader.sampler.epoch = epoch
        turns.last = turns.now()
        for images, targets in loader:
            turns.drawn()
            images, targets = to_device(images, targets, hardware)
            with autocast(hardware, precision):
                loss = sum(model(images, targets)[1].values())
            solver.zero_grad()
            scaler.scale(loss).backward()
            scaler.unscale_(solver)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
            scaler.step(solver)
            scaler.update()
            average.update()
            turns.stepped()


def classes_of(path):
    """How many classes a list file has."""
    from utils.lists import read_list
    from utils.settings import find
    return 1 + int(max(rows[:, 4].max() for rows in read_list(find(path))[1] if len(rows)))


def prepare(s, folder):
    """In `folder`: a list of whole batches for ours, the same pictures as Ultralytics wants them. -> number of images."""
    from utils.errors import UserError
    from utils.images import open_image
    from utils.lists import read_list
    from utils.settings import find

    paths, boxes = read_list(find(s.list_path))
    count = len(paths) // s.batch * s.batch
    if not count:
        raise UserError(f"{s.list_path} has {len(paths)} images, that is less than one batch of {s.batch}. Choose a smaller batch.")
    lines = [line for line in find(s.list_path).read_text(encoding="utf-8").splitlines() if line.strip()]
    (folder / "list.txt").write_text("\n".join(lines[:count]) + "\n", encoding="utf-8")
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for number, (path, rows) in enumerate(zip(paths[:count], boxes)):
        picture = find(path)
        (folder / "images" / f"{number:06d}{picture.suffix}").write_bytes(picture.read_bytes())
        height, width = open_image(picture).shape[:2]
        (folder / "labels" / f"{number:06d}.txt").write_text("\n".join(
            f"{int(label)} {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} {(x2 - x1) / width} {(y2 - y1) / height}"
            for x1, y1, x2, y2, label, _ in rows))
    names = "".join(f"  {i}: c{i}\n" for i in range(classes_of(s.list_path)))
    (folder / "data.yaml").write_text(f"path: {folder.as_posix()}\ntrain: images\nval: images\nnames:\n{names}")
    return count


class Side:
    """A side's process, seen from here."""

    def __init__(self, name, python, arguments, folder):
        environment = os.environ | {"YOLO_CONFIG_DIR": str(folder), "PYTHONUNBUFFERED": "1"} | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
        self.name, self.turns, self.said = name, [], []
        self.process = subprocess.Popen([python, __file__, "--side", json.dumps(arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace", env=environment)

    def hear(self, word):
        """-> what the process says after this word. Error: it ended."""
        from utils.errors import UserError
        for line in self.process.stdout:
            if line.startswith(word):
                return json.loads(line[len(word):])
            self.said = [*self.said, line.rstrip()][-12:]
        raise UserError(f'The process of "{self.name}" ended. Its last lines:\n' + "\n".join(line for line in self.said if line))

    def take_turn(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.turns.append(self.hear("TURN"))
        self.hear("READY")

    def end(self):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:                   # it is still preparing
            self.process.kill()


def main(s):
    from utils.settings import check, shown, whole
    from utils.system.device import choose_device
    s["device"] = choose_device(s.device, lambda line: None).type
    check(s, size=whole(32), batch=whole(1), rounds=whole(1), steps=whole(1), threads=whole(0))
    python = s.their_python or sys.executable
    there = subprocess.run([python, "-c", "import ultralytics; print(ultralytics.__version__)"], capture_output=True, text=True,
                           env=os.environ | {"YOLO_CONFIG_DIR": tempfile.gettempdir()}) if s.their_python or installed_here() else None
    with tempfile.TemporaryDirectory() as folder:
        count = prepare(s, Path(folder))
        common = {"size": s.size, "batch": s.batch, "steps": s.steps, "threads": s.threads, "device": s.device}
        own = common | {"list_path": str(Path(folder) / "list.txt")}
        sides = [("ours, float32", sys.executable, own | {"half": False})]
        if half_name(s):
            sides.append((f"ours, {half_name(s)}, as train.py chooses", sys.executable, own | {"half": True}))
        if there and there.returncode == 0:
            version = there.stdout.split()[-1]
            sides.append((f"Ultralytics {version}, float32", python, common | {"folder": folder, "cache": s.their_cache}))
        sides = [Side(*side, folder) for side in sides]
        try:
            for side in sides:
                side.threads = side.hear("READY")["threads"]
                side.take_turn()                            # warms up
                side.turns.clear()
            for number in range(s.rounds):
                for side in sides[number % len(sides):] + sides[:number % len(sides)]:
                    side.take_turn()
        finally:
            for side in sides:
                side.end()
    report(s, sides, count, shown(s.list_path))
    if not there or there.returncode:
        print(f"\nUltralytics is not installed for {python}, so there is nothing to compare with: "
              f'"{python}" -m pip install ultralytics, or their_python=... for another Python that has it.')


def installed_here():
    return importlib.util.find_spec("ultralytics") is not None


def half_name(s):
    """The precision that train.py chooses here, "" for float32."""
    import torch

    from utils.system.device import choose_precision
    precision = choose_precision(None, torch.device(s.device))
    return str(precision)[6:] if precision else ""


def report(s, sides, count, where):
    import torch

    from utils.results.report import text_table
    threads = ", ".join(str(side.threads) for side in sides)
    print(f"torch {torch.__version__}, {s.device}, threads {threads}; {where}, {count} images, {s.size} x {s.size}, "
          f"batch {s.batch}; medians of {s.rounds} turns of {s.steps} steps (smallest to largest)\n")
    rate = lambda turn, part: s.steps * s.batch / turn[part]    # noqa: E731
    rows = [["images a second", "with the loader", "", "the step alone", ""]]
    for side in sides:
        row = [side.name]
        for part in ("loader", "step"):
            rates = [rate(turn, part) for turn in side.turns]
            row += [f"{statistics.median(rates):.1f}", f"({min(rates):.1f} to {max(rates):.1f})"]
        rows.append(row)
    print(*text_table(rows), sep="\n")
    if not sides[-1].name.startswith("Ultralytics"):
        return
    print()
    rows = [["times theirs, turn by turn", *(f"{part}, {how}" for part in ("with the loader", "step") for how in ("clock", "CPU time"))]]
    for side in sides[:-1]:
        row = [side.name]
        for part in ("loader", "loader_cpu", "step", "step_cpu"):
            ratios = [theirs_turn[part] / turn[part] for turn, theirs_turn in zip(side.turns, sides[-1].turns)]
            row.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        rows.append(row)
    print(*text_table(rows), sep="\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        side = json.loads(sys.argv[2])
        side["turns"] = Turns(side.pop("steps"), side.pop("threads"), side["device"])
        (theirs if "folder" in side else ours)(**side)
    else:
        import utils  # noqa: F401  it says in a sentence which package is missing
        from utils.settings import read_settings
        main(read_settings(globals()))
