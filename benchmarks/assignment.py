"""What the losses cost a CPU, the assignment of objects to predictions above all: few and many objects.

    python benchmarks/assignment.py [networks=['yolov8']] [rounds=5]

YOLOv8-n against Ultralytics' where that is installed, with the same weights, on the same pictures and boxes,
loss and backward; the others alone. CPU time of the loss of outputs that are there already, both sides in
turn, medians of the ratios; and the memory that it takes at its highest beyond what was there (Linux).
"""
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402

import nets  # noqa: E402
from utils.results.report import text_table  # noqa: E402
from utils.settings import read_settings  # noqa: E402
from utils.weights import load_weights  # noqa: E402

networks = ["yolov8", "yolox", "retinanet", "ssd300"]       # which                          哪些网络
rounds = 5                          # repetitions                                           重复次数
cases = [(64, 50, 320), (64, 7, 320), (4, 300, 640)]        # images, boxes in each, side    图像数, 每幅框数, 边长
CLASSES = 80


def main(s):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = [["network", "images x boxes, side", "ours, ms", "peak, MB", "theirs, ms", "peak, MB", "ratio"]]
    for name in s.networks:
        for count, boxes, side in s.cases:
            if name != "yolov8":
                count = min(count, 4)                       # their outputs are far larger
            side = 300 if name == "ssd300" else side
            rows.append([name, f"{count} x {boxes}, {side}", *compare(s, name, count, boxes, side)])
    print(f"torch {torch.__version__}, 1 thread, medians of {s.rounds}\n", *text_table(rows), sep="\n")


def compare(s, name, count, boxes, side):
    """-> the cells of a row."""
    targets = crowd(count, boxes, side)
    options = {"size": "nano"} if name == "yolox" else {}
    model = nets.build(name, CLASSES, (side, side), **options).train()
    sides = [None]
    if name == "yolov8" and (peer := ultralytics(model, targets, side)):
        sides.append(peer)
    sides[0] = side_of(model.to(memory_format=torch.channels_last), targets, side)

    # The first turn warms up.
    found = [[measure(*one) for one in sides] for _ in range(s.rounds + 1)][1:]
    cells = []
    for times in zip(*found):
        cells += [f"{median(ms for ms, _ in times):.0f}", f"{median(peak for _, peak in times):.0f}"]
    if len(sides) == 1:
        return [*cells, "", "", ""]
    return [*cells, f"{median(ours[0] / theirs[0] for ours, theirs in found):.2f}"]


def crowd(count, boxes, side):
    """Targets with boxes of 8 px to a third of the picture."""
    targets = []
    for _ in range(count):
        size = 8 + torch.rand(boxes, 2) * side / 3
        corner = torch.rand(boxes, 2) * (side - size)
        targets.append({"boxes": torch.cat([corner, corner + size], 1), "labels": torch.randint(0, CLASSES, (boxes,))})
    return targets


def side_of(model, targets, side):
    """-> outputs of few pictures repeated to as many as there are targets, function (outputs) -> the loss."""
    with torch.no_grad():
        images = torch.rand(2, 3, side, side).to(memory_format=torch.channels_last)
        outputs = model(images)[0]
    return repeated(outputs, len(targets)), lambda outputs: sum(model.loss(outputs, targets).values())


def repeated(outputs, count):
    """The same structure with `count` images, in the memory order of the first; what has no images is kept."""
    if isinstance(outputs, dict):
        return {name: repeated(value, count) for name, value in outputs.items()}
    if isinstance(outputs, (list, tuple)):
        return type(outputs)(repeated(value, count) for value in outputs)
    if not isinstance(outputs, torch.Tensor) or outputs.ndim < 3:
        return outputs
    last = outputs.ndim == 4 and outputs.is_contiguous(memory_format=torch.channels_last)
    form = torch.channels_last if last else torch.contiguous_format
    return torch.cat([outputs] * -(-count // 2))[:count].contiguous(memory_format=form)


def ultralytics(model, targets, side):
    """Theirs with the weights that it begins with, which ours get too. -> as `side_of`; None: not installed."""
    try:
        from ultralytics import YOLO
        from ultralytics.cfg import get_cfg
    except ImportError:
        return None
    theirs = YOLO("yolov8n.yaml").model.train()
    theirs.args = get_cfg()
    with tempfile.TemporaryDirectory() as folder:
        torch.save(theirs.state_dict(), Path(folder) / "weights.pth")
        load_weights(model, Path(folder) / "weights.pth")

    # Boxes of the whole batch in one list: the number of the image, centre and size as shares of it.
    corners = torch.cat([target["boxes"] for target in targets]) / side
    boxes = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
    labels = torch.cat([target["labels"] for target in targets])[:, None].float()
    numbers = torch.arange(len(targets)).repeat_interleave(len(boxes) // len(targets)).float()
    told = {"img": torch.rand(len(targets), 3, 1, 1), "bboxes": boxes, "cls": labels, "batch_idx": numbers}
    with torch.no_grad():
        outputs = theirs(torch.rand(2, 3, side, side))
    return repeated(outputs, len(targets)), lambda outputs: theirs.loss(told, outputs)[0].sum()


def measure(outputs, loss):
    """One loss with its backward -> milliseconds of CPU time, highest memory beyond that before, MB."""
    leaves = learnable(outputs)
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    before = 0
    if reset.exists():
        reset.write_text("5")                               # the peak begins anew
        before = kilobytes(status, "VmRSS")
    began = time.process_time()
    loss(leaves).backward()
    spent = time.process_time() - began
    peak = kilobytes(status, "VmHWM") - before if reset.exists() else 0
    return spent * 1e3, peak / 1e3


def learnable(outputs):
    """The same structure, of which every tensor with images gets a gradient."""
    if isinstance(outputs, dict):
        return {name: learnable(value) for name, value in outputs.items()}
    if isinstance(outputs, (list, tuple)):
        return type(outputs)(learnable(value) for value in outputs)
    if not isinstance(outputs, torch.Tensor) or outputs.ndim < 3:
        return outputs
    return outputs.detach().requires_grad_()


def kilobytes(status, name):
    line = next(line for line in status.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


if __name__ == "__main__":
    main(read_settings(globals()))
