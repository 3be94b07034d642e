"""Images a second in training: YOLOv8-n here and in Ultralytics, with the loader and without it.

    python benchmarks/training.py [list_path=BCCD_train.txt] [their_python=/another/venv/bin/python]

their_python is a Python that has ultralytics (pip install ultralytics there).
What is timed, on both sides the same for batch after batch: the loader draws a batch (mosaic on every
picture, the same ranges of scale, translation, colours and flip); then the step: float 0-1, forward, loss,
backward, clipped gradient, AdamW, moving average. "With the loader" is all of it, "the step alone" begins
when the batch is there.
Theirs is `YOLO("yolov8n.yaml").train(...)` with its public callbacks on_train_batch_start and
on_train_batch_end; the first after the batch was drawn, the second after the moving average. It runs with
batch = nbs (an optimizer step for every batch, like ours), optimizer="AdamW", amp=False, workers=0, no
validation, no plots, nothing saved; the rest are its defaults.
Each side is a process of its own and waits while another one works; they take turns in one run, and the
figures are medians. On a CPU the ratios are those of CPU time too, because other work on the machine disturbs
the clock.
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

list_path = "Shapes_train.txt"      # a detection list                                    列表文件
size = 320                          # side of the network's input                         输入边长
batch = 16                          # images a step                                       批大小
rounds = 7                          # turns of every side; the median counts              轮数
steps = 6                           # steps in a turn                                     每轮步数
threads = 1                         # of PyTorch, on every side; 0: as many as it chooses 线程数
device = "cpu"                      # "cpu", "cuda" or "auto"                             设备
their_python = ""                   # a Python that has ultralytics; "": this one    装有 ultralytics 的 Python
their_cache = False                 # theirs keeps its images in memory too               对方也缓存图像


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
        """For "go" from the process that counts; an empty line, or none, is the end."""
        import torch
        if self.threads:
            torch.set_num_threads(self.threads)
        print("\nREADY " + json.dumps({"threads": torch.get_num_threads()}), flush=True)
        if not sys.stdin.readline().strip():
            os._exit(0)                     # the benchmark is over; a training of theirs has no other way out
        self.turn, self.last = [], self.now()

    def drawn(self):
        """The batch is there, the step begins."""
        self.began = self.now()

    def stepped(self):
        """The step is done: note its times, and after the last one of the turn their sums."""
        if self.turn is None:                               # the first steps warm up
            self.turn = []
        end = self.now()
        since_last, since_drawn = getattr(self, "last", end), self.began
        self.turn.append([b - a for since in (since_last, since_drawn) for a, b in zip(since, end)])
        self.last = end

        # Said in one line of its own, because a training prints other lines, too.
        if len(self.turn) >= self.steps:
            sums = [sum(column) for column in zip(*self.turn)]
            times = dict(zip(("loader", "loader_cpu", "step", "step_cpu"), sums))
            print("\nTURN " + json.dumps(times), flush=True)
            self.wait()


def theirs(folder, size, batch, device, cache, turns):
    """Ultralytics' training, in its own Python: nothing of ours is imported here but this file."""
    from ultralytics import YOLO

    model = YOLO("yolov8n.yaml")

    def epoch_begins(trainer):
        turns.last = turns.now()                            # what happens between two epochs is not measured

    model.add_callback("on_train_epoch_start", epoch_begins)
    model.add_callback("on_train_batch_start", lambda trainer: turns.drawn())
    model.add_callback("on_train_batch_end", lambda trainer: turns.stepped())

    # It trains until its turns are over and the process is ended.
    model.train(data=str(Path(folder) / "data.yaml"), imgsz=size, batch=batch, nbs=batch, epochs=10_000,
                optimizer="AdamW", amp=False, workers=0, device=0 if device == "cuda" else "cpu",
                cache="ram" if cache else False, val=False, plots=False, save=False, pretrained=False,
                project=str(Path(folder) / "runs"), verbose=False)


def ours(list_path, size, batch, device, half, turns):
    """The same with our parts, put together as in train.py."""
    import torch

    import nets
    from utils.augment import Augmentation
    from utils.dataset import DetectionData, make_loader
    from utils.evaluate import to_device
    from utils.steps import MovingAverage, make_optimizer
    from utils.system.device import autocast, choose_precision

    # The dataset, with every image in memory: as after the first epoch.
    hardware = torch.device(device)
    precision = choose_precision(None if half else False, hardware)
    names = [str(i) for i in range(classes_of(list_path))]
    augmentation = Augmentation(scale=(0.5, 1.5), aspect=0.0, translate=0.1, flip=0.5, colours=(0.015, 0.7, 0.4),
                                mosaic=1.0)
    data = DetectionData(list_path, names, (size, size), augmentation=augmentation)
    for index in range(len(data)):
        data.load(index)
    loader = make_loader(data, batch, 0, 0, hardware)
    torch.manual_seed(0)
    model = nets.build("yolov8", len(names), (size, size))
    model = model.to(hardware, memory_format=torch.channels_last).train()
    average = MovingAverage(model)
    solver = make_optimizer(model, "adamw", 1e-3, 0.9, 5e-4)
    scaler = torch.amp.GradScaler(hardware.type, enabled=precision == torch.float16)

    # The loop of train.py, until the turns are over and the process is ended.
    for epoch in range(10_000):
        loader.batch_sampler.epoch = epoch
        turns.last = turns.now()
        for images, targets in loader:
            turns.drawn()
            images, targets = to_device(images, targets, hardware)
            with autocast(hardware, precision):
                total = sum(model(images, targets)[1].values())
            solver.zero_grad()
            scaler.scale(total).backward()
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
    boxes = read_list(find(path))[1]
    return 1 + int(max(rows[:, 4].max() for rows in boxes if len(rows)))


def prepare(s, folder):
    """In `folder`: a list of whole batches for ours, the same for Ultralytics. -> number of images."""
    from utils.errors import UserError
    from utils.images import open_image
    from utils.lists import read_list
    from utils.settings import find

    paths, boxes = read_list(find(s.list_path))
    count = len(paths) // s.batch * s.batch
    if not count:
        raise UserError(f"{s.list_path} has {len(paths)} images, that is less than one batch of {s.batch}. "
                        "Choose a smaller batch.")
    text = find(s.list_path).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip()]
    (folder / "list.txt").write_text("\n".join(lines[:count]) + "\n", encoding="utf-8")

    # Theirs finds labels beside the images: class, centre, width and height as shares of the image.
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for number, (path, rows) in enumerate(zip(paths[:count], boxes)):
        picture = find(path)
        (folder / "images" / f"{number:06d}{picture.suffix}").write_bytes(picture.read_bytes())
        height, width = open_image(picture).shape[:2]
        labels = []
        for x1, y1, x2, y2, label, _ in rows:
            centre = f"{(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height}"
            labels.append(f"{int(label)} {centre} {(x2 - x1) / width} {(y2 - y1) / height}")
        (folder / "labels" / f"{number:06d}.txt").write_text("\n".join(labels))
    names = "".join(f"  {i}: c{i}\n" for i in range(classes_of(s.list_path)))
    (folder / "data.yaml").write_text(
        f"path: {folder.as_posix()}\ntrain: images\nval: images\nnames:\n{names}")
    return count


class Side:
    """A side's process, seen from here."""

    def __init__(self, name, python, arguments, folder):
        self.name, self.turns, self.said = name, [], []
        environment = os.environ | {"YOLO_CONFIG_DIR": str(folder), "PYTHONUNBUFFERED": "1"}
        if arguments["threads"]:
            environment["OMP_NUM_THREADS"] = str(arguments["threads"])

        # Its words and its errors come through one pipe, "go" and the end through the other.
        self.process = subprocess.Popen(
            [python, __file__, "--side", json.dumps(arguments)], env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, encoding="utf-8", errors="replace")

    def hear(self, word):
        """-> what the process says after this word. Error: it ended."""
        from utils.errors import UserError
        for line in self.process.stdout:
            if line.startswith(word):
                return json.loads(line[len(word):])
            self.said = [*self.said, line.rstrip()][-12:]
        last = "\n".join(line for line in self.said if line)
        raise UserError(f'The process of "{self.name}" ended. Its last lines:\n{last}')

    def take_turn(self):
        """The process does the steps of a turn, and waits again."""
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
    s.device = choose_device(s.device, lambda line: None).type
    check(s, size=whole(32), batch=whole(1), rounds=whole(1), steps=whole(1), threads=whole(0))
    python = s.their_python or sys.executable
    version = their_version(s, python)
    with tempfile.TemporaryDirectory() as folder:
        count = prepare(s, Path(folder))
        sides = [Side(*side, folder) for side in sides_of(s, folder, python, version)]
        try:
            take_turns(s, sides)
        finally:
            for side in sides:
                side.end()

    # Without Ultralytics the figures of ours are still worth something.
    report(s, sides, count, shown(s.list_path))
    if not version:
        print(f"\nUltralytics is not installed for {python}, so there is nothing to compare with: "
              f'"{python}" -m pip install ultralytics, or their_python=... for another Python that has it.')


def their_version(s, python):
    """The version of Ultralytics in a Python, "" if it is not there."""
    if not s.their_python and not installed_here():
        return ""
    found = subprocess.run([python, "-c", "import ultralytics; print(ultralytics.__version__)"],
                           capture_output=True, text=True,
                           env=os.environ | {"YOLO_CONFIG_DIR": tempfile.gettempdir()})
    return found.stdout.split()[-1] if found.returncode == 0 else ""


def sides_of(s, folder, python, version):
    """-> list of (name, Python, arguments) of all sides."""
    common = {"size": s.size, "batch": s.batch, "steps": s.steps, "threads": s.threads, "device": s.device}
    own = common | {"list_path": str(Path(folder) / "list.txt")}
    sides = [("ours, float32", sys.executable, own | {"half": False})]

    # In float32 both do the same work; what train.py chooses here may be faster, and is what a user gets.
    if half_name(s):
        sides.append((f"ours, {half_name(s)}, as train.py chooses", sys.executable, own | {"half": True}))
    if version:
        other = common | {"folder": folder, "cache": s.their_cache}
        sides.append((f"Ultralytics {version}, float32", python, other))
    return sides


def take_turns(s, sides):
    """One turn of each to warm up, then the rounds; each begins with another side."""
    for side in sides:
        side.threads = side.hear("READY")["threads"]
        side.take_turn()
        side.turns.clear()
    for turn in range(s.rounds):
        first = turn % len(sides)
        for side in sides[first:] + sides[:first]:
            side.take_turn()


def installed_here():
    return importlib.util.find_spec("ultralytics") is not None


def half_name(s):
    """The precision that train.py chooses here, "" for float32."""
    import torch

    from utils.system.device import choose_precision
    precision = choose_precision(None, torch.device(s.device))
    return str(precision)[6:] if precision else ""


def report(s, sides, count, where):
    """Print the figures: images a second of each side, and the ratios if there are two to compare."""
    import torch

    from utils.results.report import text_table
    threads = ", ".join(str(side.threads) for side in sides)
    print(f"torch {torch.__version__}, {s.device}, threads {threads}; {where}, {count} images, "
          f"{s.size} x {s.size}, batch {s.batch}; medians of {s.rounds} turns of {s.steps} steps "
          "(smallest to largest)\n")
    rows = [["images a second", "with the loader", "", "the step alone", ""]]
    for side in sides:
        row = [side.name]
        for part in ("loader", "step"):
            rates = [s.steps * s.batch / turn[part] for turn in side.turns]
            row += [f"{statistics.median(rates):.1f}", f"({min(rates):.1f} to {max(rates):.1f})"]
        rows.append(row)
    print(*text_table(rows), sep="\n")

    # Turn by turn, because two turns side by side meet the same machine.
    if sides[-1].name.startswith("Ultralytics"):
        print()
        print(*text_table(ratios_of(sides[:-1], sides[-1])), sep="\n")


def ratios_of(sides, other):
    """The rows of a table: how many times as fast as the other side."""
    rows = [["times theirs, turn by turn", "with the loader, clock", "with the loader, CPU time",
             "the step alone, clock", "the step alone, CPU time"]]
    for side in sides:
        row = [side.name]
        for part in ("loader", "loader_cpu", "step", "step_cpu"):
            ratios = [theirs_turn[part] / turn[part] for turn, theirs_turn in zip(side.turns, other.turns)]
            row.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        rows.append(row)
    return rows


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        side = json.loads(sys.argv[2])
        side["turns"] = Turns(side.pop("steps"), side.pop("threads"), side["device"])
        train = theirs if "folder" in side else ours
        train(**side)
    else:
        import utils  # noqa: F401  it says in a sentence which package is missing
        from utils.settings import read_settings
        main(read_settings(globals()))
