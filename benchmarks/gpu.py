"""For somebody with a GPU: how fast every network trains on it, and how much memory that takes.

    python benchmarks/gpu.py

It ends by itself soon after `minutes`, and prints the table that has empty cells in benchmarks/gpu.md.
Every network trains at its recipe's input and batch on random pictures with 8 objects each, that wait on
the device: forward, loss, backward, clipped gradient, AdamW. Four ways: float32; bf16; bf16 with channels
last, as train.py does it; the same with the backbone compiled (compile=True), as far as the time allows.
Beside it in the last way but one: torchvision's network of the same name, and Ultralytics' YOLOv8-n where it
is installed. At last the share of the time that the device waits for pictures from loader processes.
"""
import contextlib
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from torchvision.models import detection, segmentation  # noqa: E402

import nets  # noqa: E402
from utils.augment import Augmentation  # noqa: E402
from utils.dataset import DetectionData, make_loader  # noqa: E402
from utils.evaluate import to_device  # noqa: E402
from utils.lists import write_list  # noqa: E402
from utils.results.media import save_image  # noqa: E402
from utils.settings import read_settings  # noqa: E402
from utils.system.device import autocast, choose_device  # noqa: E402

device = "auto"                     # "auto", "cuda", "cuda:1", "cpu"                       设备
networks = None                     # which; None: all                                      哪些网络
input_shape = None                  # height, width; None: the recipe's                     输入尺寸
batch_size = None                   # images a step; None: the recipe's                     批大小
seconds = 2.0                       # of every measurement, after its warm-up               每次测量的秒数
minutes = 6.5                       # after these nothing new begins                        总时长上限（分钟）
compiled = True                     # also with compile=True                                是否也测编译
pictures = 512                      # of 640 x 480, for the loader                          加载测试的图像数

CLASSES, OBJECTS, WARM_UP = 20, 8, 3
WAYS = ("float32", "bf16", "bf16, channels last", "the same, compiled")
PEER_WAY = WAYS[2]

# name -> torchvision's builder; a detector gets our input, a segmenter takes any
PEERS = {"ssd300": detection.ssd300_vgg16, "ssdlite320_mobilenet_v3": detection.ssdlite320_mobilenet_v3_large,
         "retinanet": detection.retinanet_resnet50_fpn, "faster_rcnn": detection.fasterrcnn_resnet50_fpn,
         "fcn": segmentation.fcn_resnet50, "deeplabv3": segmentation.deeplabv3_resnet50,
         "lraspp": segmentation.lraspp_mobilenet_v3_large}


def main(s):
    torch.manual_seed(0)
    s.device, end = choose_device(s.device), time.monotonic() + 60 * s.minutes
    names = s.networks or list(nets.NETS)
    cells = {name: {} for name in names}

    # First what is quick for all networks; compiling, which takes up to a minute each, at last.
    for way in WAYS[:3]:
        for name in names:
            fill(s, cells[name], way, end, lambda name=name, way=way: our_step(s, name, way))
    for name in names:
        fill(s, cells[name], "peer", end, lambda name=name: peer_step(s, name))
    waits = wait_for_data(s) if time.monotonic() < end else ""
    for name in names if s.compiled else ():
        fill(s, cells[name], WAYS[3], end, lambda name=name: our_step(s, name, WAYS[3]))
    report(s, cells, waits)


def fill(s, cells, way, end, build):
    """Measure one way of one network into `cells`. build: function () -> step, images a step; None: no peer."""
    if time.monotonic() > end:
        return
    try:
        found = build()
        if found:
            cells[way] = measure(s, *found)
    except torch.OutOfMemoryError:
        cells[way] = "too large"

    # What one network took is free again before the next one begins.
    found = build = None
    torch.compiler.reset()
    if s.device.type == "cuda":
        torch.cuda.empty_cache()


def measure(s, step, images):
    """-> text: images a second and peak memory of a step()."""
    wait = torch.cuda.synchronize if s.device.type == "cuda" else time.monotonic
    for _ in range(WARM_UP):
        step()
    wait()

    # As many steps as fit into the time; the clock is read when the device has done them.
    if s.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(s.device)
    count, began = 0, time.monotonic()
    while not count or time.monotonic() - began < s.seconds:
        step()
        wait()
        count += 1
    rate = count * images / (time.monotonic() - began)
    if s.device.type != "cuda":
        return f"{rate:.1f}/s"
    return f"{rate:.0f}/s, {torch.cuda.max_memory_allocated(s.device) / 2**30:.1f} GiB"


def setting(s, name):
    """-> (H, W), images a step."""
    recipe = nets.NETS[name].recipe
    return tuple(s.input_shape or recipe["input_shape"]), s.batch_size or recipe["batch_size"]


def our_step(s, name, way):
    """-> function () that does one training step of our network, images a step."""
    shape, batch = setting(s, name)
    model = nets.build(name, CLASSES, shape).to(s.device).train()
    images, targets = batch_of(s, nets.NETS[name].task, shape, batch)
    if "channels last" in way or "compiled" in way:
        model = model.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    if "compiled" in way:
        model.backbone.compile()
    precision = None if way == "float32" else torch.bfloat16
    return stepper(s, model, precision, lambda: sum(model(images, targets)[1].values())), batch


def batch_of(s, task, shape, batch):
    """Random pictures (B, 3, H, W) 0-1 on the device, and their targets."""
    targets = []
    for _ in range(batch):
        if task == "segmentation":
            target = {"mask": torch.randint(0, CLASSES, shape)}
        else:
            size = torch.tensor(shape[::-1])
            corners = torch.rand(OBJECTS, 2) * 0.6 * size
            boxes = torch.cat([corners, corners + (0.05 + 0.3 * torch.rand(OBJECTS, 2)) * size], 1)
            target = {"boxes": boxes, "labels": torch.randint(0, CLASSES, (OBJECTS,))}
        targets.append({part: value.to(s.device) for part, value in target.items()})
    return torch.rand(batch, 3, *shape, device=s.device), targets


def stepper(s, model, precision, loss):
    """-> function () that does one training step. loss: function () -> 0-d tensor, with a graph."""
    weights = [p for p in model.parameters() if p.requires_grad]
    solver = torch.optim.AdamW(weights, lr=1e-6)

    def step():
        with autocast(s.device, precision):
            total = loss()
        total.backward()
        torch.nn.utils.clip_grad_norm_(weights, 10.0)
        solver.step()
        solver.zero_grad()
    return step


def peer_step(s, name):
    """The same for the peer's network of this name. -> as `our_step`; None: there is no peer."""
    shape, batch = setting(s, name)
    if name == "yolov8":
        return ultralytics_step(s, shape, batch)
    if name not in PEERS:
        return None
    task = nets.NETS[name].task
    images, targets = batch_of(s, task, shape, batch)
    images = images.to(memory_format=torch.channels_last)

    # A segmenter of theirs has no loss of its own; its auxiliary head weighs 0.4, as in their training.
    if task == "segmentation":
        extra = {} if name == "lraspp" else {"aux_loss": True}
        model = PEERS[name](weights=None, weights_backbone=None, num_classes=CLASSES, **extra)
        masks = torch.stack([target["mask"] for target in targets])

        def loss():
            outputs = model(images)
            return sum((0.4 if part == "aux" else 1.0) * torch.nn.functional.cross_entropy(scores, masks)
                       for part, scores in outputs.items())
    else:
        sizes = {} if "ssd" in name else {"min_size": min(shape), "max_size": max(shape)}
        model = PEERS[name](weights=None, weights_backbone=None, num_classes=CLASSES + 1, **sizes)
        own = [{**target, "labels": target["labels"] + 1} for target in targets]    # 0 is their background

        def loss():
            return sum(model(list(images), own).values())
    model.to(s.device, memory_format=torch.channels_last).train()
    return stepper(s, model, torch.bfloat16, loss), batch


def ultralytics_step(s, shape, batch):
    """Ultralytics' YOLOv8-n; None where it is not installed."""
    try:
        from ultralytics import YOLO
        from ultralytics.cfg import get_cfg
    except ImportError:
        return None
    model = YOLO("yolov8n.yaml").model.to(s.device, memory_format=torch.channels_last).train()
    model.args = get_cfg()

    # Boxes of the whole batch in one list: the number of the image, centre and size as shares of it.
    images, targets = batch_of(s, "detection", shape, batch)
    corners = torch.cat([target["boxes"] for target in targets]) / torch.tensor([*shape[::-1]] * 2, device=s.device)
    boxes = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
    labels = torch.cat([target["labels"] for target in targets])[:, None].float()
    told = {"img": images.to(memory_format=torch.channels_last), "bboxes": boxes, "cls": labels,
            "batch_idx": torch.arange(batch, device=s.device).repeat_interleave(OBJECTS).float()}
    return stepper(s, model, torch.bfloat16, lambda: model.loss(told)[0].sum()), batch


def wait_for_data(s):
    """-> text: how long a training of YOLOv8-n waits for its loader processes, as make_loader chooses them."""
    shape, batch = setting(s, "yolov8")
    with tempfile.TemporaryDirectory() as folder:
        data = draw(s, Path(folder), shape)
        loader = make_loader(data, batch, device=s.device)
        model = nets.build("yolov8", CLASSES, shape).to(s.device, memory_format=torch.channels_last).train()
        spans = [[], []]                                    # each epoch's: seconds in all, of them waiting

        # The second epoch finds the pictures in memory, as all later ones do.
        for epoch in range(2):
            loader.batch_sampler.epoch = epoch
            waited, began, batches = 0.0, time.monotonic(), iter(loader)
            with contextlib.suppress(StopIteration):
                while True:
                    asked = time.monotonic()
                    images, targets = next(batches)
                    waited += time.monotonic() - asked
                    images, targets = to_device(images, targets, s.device)
                    stepper(s, model, torch.bfloat16, lambda i=images, t=targets: sum(model(i, t)[1].values()))()
                    if s.device.type == "cuda":
                        torch.cuda.synchronize()
            spans[epoch] = waited, time.monotonic() - began

    first, second = (f"{100 * waited / whole:.0f} %" for waited, whole in spans)
    return (f"The device waits for pictures {first} of the time in the first epoch, {second} in the second "
            f"(yolov8, {shape[0]} x {shape[1]}, batch {batch}, {loader.num_workers} loader processes).")


def draw(s, folder, shape):
    """JPEGs of 640 x 480 with objects, and their list. -> the training data."""
    stream, lines = np.random.default_rng(0), []
    for number in range(s.pictures):
        small = stream.integers(0, 256, (48, 64, 3)).astype(np.uint8)
        path = folder / f"{number}.jpg"
        save_image(path, cv2.resize(small, (640, 480), interpolation=cv2.INTER_CUBIC))
        corners = stream.uniform(0, 300, (OBJECTS, 2))
        ends = corners + stream.uniform(20, 150, (OBJECTS, 2))
        lines.append((path, [(*a, *b, int(stream.integers(CLASSES)), 0) for a, b in zip(corners, ends)]))
    write_list(folder / "list.txt", lines)
    names = [str(number) for number in range(CLASSES)]
    return DetectionData(str(folder / "list.txt"), names, shape, augmentation=Augmentation(mosaic=0.5))


def report(s, cells, waits):
    """The table, ready to be pasted into gpu.md."""
    what = torch.cuda.get_device_name(s.device) if s.device.type == "cuda" else "CPU"
    print(f"\n{what}, torch {torch.__version__}, CUDA {torch.version.cuda}\n")
    ways = [*WAYS, "peer"]
    print(f"| network | input, batch | {' | '.join(ways)} |\n|{'---|' * (len(ways) + 2)}")
    for name, found in cells.items():
        shape, batch = setting(s, name)
        row = [f"`{name}`", f"{shape[0]} x {shape[1]}, {batch}", *(found.get(way, "") for way in ways)]
        print(f"| {' | '.join(row)} |")
    print(f"\n{waits}")


if __name__ == "__main__":
    main(read_settings(globals()))
