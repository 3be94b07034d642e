"""A folder of pictures through YOLOv8-n, read, found, drawn and saved: predict.py, and Ultralytics' predict.

    python benchmarks/predict.py [images=40] [their_python=/another/venv/bin/python]

their_python is a Python that has ultralytics (pip install ultralytics there). Both have the same random
weights (made louder, so that some 50 boxes enter the NMS of a picture) and each its own defaults: inputs of
640 with as little grey as the stride allows, boxes from 0.3 on, pictures saved. "bare" is our network alone,
on inputs of the same size.
Each side is a process of its own and waits while another one works; they take turns in one run. CPU time
counts, because other work on the machine disturbs the clock. The last table is one picture in a new process,
everything that is imported included.
"""
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

images = 200                # of each size                                              每种尺寸的图片数
sizes = ["1280x720", "500x375"]     # width x height of the pictures                    图片尺寸
rounds = 5                  # turns of every side; in each it gets images / rounds      轮数
cold = 3                    # starts for a single picture                               冷启动次数
threads = 1                 # of PyTorch, on every side                                 线程数
their_python = ""           # a Python that has ultralytics; "": this one               装有 ultralytics 的 Python

PAIRS = 50                  # (cell, class) pairs of a picture above the confidence
CONFIDENCE = 0.3


def main(s):
    from utils.results.report import text_table
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for size in s.sizes:
            make_pictures(s, folder / size, *map(int, size.split("x")))
        make_weights(folder, next((folder / s.sizes[0]).glob("*/*.jpg")))
        names = [name for name in ("ours", "bare", "theirs") if name != "theirs" or has_theirs(s)]
        for size in s.sizes:
            turns = take_turns(s, names, folder, size)
            print(f"{size}, {s.images} pictures, {s.threads} threads, medians of {s.rounds} turns")
            print(*text_table(table_of(turns)), sep="\n", end="\n\n")
        print(*text_table(cold_starts(s, names, folder)), sep="\n")


def make_pictures(s, folder, width, height):
    """s.rounds folders of JPEGs that are about as hard to decode as photographs."""
    import cv2
    import numpy as np
    rng = np.random.default_rng(0)
    for number in range(s.images):
        coarse = rng.integers(0, 256, (9, 16, 3), np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
        image = (image + rng.normal(0, 6, image.shape)).clip(0, 255).astype(np.uint8)
        path = folder / str(number % s.rounds) / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())


def make_weights(folder, picture):
    """best.pth for ours; weights.npz, the tensors in the order that both sides have, for theirs."""
    import numpy as np
    import torch

    import nets
    from utils.checkpoint import save_checkpoint
    from utils.images import fit_image, open_image
    torch.manual_seed(0)
    model = nets.build("yolov8", 80).eval()
    canvas, _ = fit_image(open_image(picture), (640, 640), "rect")
    batch = torch.from_numpy(canvas)[None].permute(0, 3, 1, 2).float() / 255            # (1, 3, H, W)

    # Logits that differ from cell to cell, the PAIRS best of them above the confidence.
    with torch.no_grad():
        for head in model.class_heads:
            head[-1].weight.normal_(0, 3)
        logits = torch.cat([x.flatten() for x in model(batch)[0]["classes"]])
        for head in model.class_heads:
            head[-1].weight.mul_(1.5 / logits.std())
            head[-1].bias.zero_()
        logits = torch.cat([x.flatten() for x in model(batch)[0]["classes"]])
        wanted = torch.tensor(CONFIDENCE).logit()
        for head in model.class_heads:
            head[-1].bias.fill_(wanted - logits.topk(PAIRS).values[-1])

    save_checkpoint(folder / "best.pth", net="yolov8", options={}, class_names=[f"c{i}" for i in range(80)],
                    input_shape=[640, 640], epoch=1, settings={}, model=model.state_dict())
    np.savez(folder / "weights.npz", *[tensor.numpy() for tensor in model.state_dict().values()])


def has_theirs(s):
    found = subprocess.run([s.their_python or sys.executable, "-c", "import ultralytics"], capture_output=True)
    if found.returncode:
        print("Ultralytics is not installed there: only ours is measured. See their_python.\n")
    return not found.returncode


def take_turns(s, names, folder, size):
    """-> name of the side -> list of {"cpu", "wall", "boxes", "stages"}, one a turn, ms for each picture."""
    sides, turns = {}, {name: [] for name in names}
    for name in names:
        python = (s.their_python or sys.executable) if name == "theirs" else sys.executable
        environment = os.environ | {"OMP_NUM_THREADS": str(s.threads), "YOLO_CONFIG_DIR": str(folder)}
        job = json.dumps({"side": name, "folder": str(folder), "size": size})
        sides[name] = subprocess.Popen([python, __file__, "--side", job], env=environment, text=True,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    # The first turn warms up; who begins changes from round to round.
    for turn in range(s.rounds + 1):
        for name in names[turn % len(names):] + names[:turn % len(names)]:
            sides[name].stdin.write(f"{turn % s.rounds}\n")
            sides[name].stdin.flush()
            told = next(line for line in sides[name].stdout if line.startswith("TURN "))
            if turn:
                turns[name].append(json.loads(told[5:]))
    for side in sides.values():
        side.stdin.close()
        side.wait()
    return turns


def table_of(turns):
    """Rows: a side, its CPU time, the clock, boxes, the ratio of CPU times turn by turn, its stages."""
    rows = [["", "CPU ms an image", "wall ms", "boxes", "ours / this one, CPU", "stages, ms"]]
    for name, told in turns.items():
        ratios = [ours["cpu"] / this["cpu"] for ours, this in zip(turns["ours"], told)]
        middle = {key: statistics.median(turn[key] for turn in told) for key in ("cpu", "wall", "boxes")}
        stages = {stage: statistics.median(turn["stages"][stage] for turn in told)
                  for stage in told[0]["stages"]}
        rows.append([name, f"{middle['cpu']:.1f}", f"{middle['wall']:.1f}", f"{middle['boxes']:.1f}",
                     f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                     ", ".join(f"{stage} {value:.1f}" for stage, value in stages.items())])
    return rows


def cold_starts(s, names, folder):
    """Rows: CPU seconds and those of the clock from the start of Python to the end, for one picture."""
    picture = str(next((folder / s.sizes[0]).glob("*/*.jpg")))
    script = Path(__file__).resolve().parent.parent / "predict.py"
    commands = {"ours": [sys.executable, str(script), f"model_path={folder / 'best.pth'}", "device=cpu",
                         f"source={picture}", f"output={folder / 'cold'}"],
                "theirs": [s.their_python or sys.executable, __file__, "--side",
                           json.dumps({"side": "theirs", "folder": str(folder), "picture": picture})]}
    times = {name: [] for name in names if name in commands}
    for _ in range(s.cold):
        for name, took in times.items():
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run(commands[name], check=True, capture_output=True,
                           env=os.environ | {"OMP_NUM_THREADS": str(s.threads), "YOLO_CONFIG_DIR": str(folder)})
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            took.append((cpu, time.perf_counter() - began))

    rows = [["one picture in a new process", "CPU s", "wall s", "ours / this one, CPU"]]
    for name, took in times.items():
        ratio = statistics.median(mine[0] / this[0] for mine, this in zip(times["ours"], took))
        rows.append([name, *(f"{statistics.median(column):.2f}" for column in zip(*took)), f"{ratio:.2f}"])
    return rows


# What runs in the process of a side: for every line, a number, the folder of that number.

def side(name, folder, size="", picture=""):
    work = {"ours": ours, "bare": bare, "theirs": theirs}[name](Path(folder))
    if picture:
        work(Path(picture))
        return
    for line in sys.stdin:
        source = Path(folder) / size / line.strip()
        count = len(list(source.iterdir()))
        began = time.process_time(), time.perf_counter()
        boxes, stages = work(source)
        cpu, wall = time.process_time() - began[0], time.perf_counter() - began[1]
        times = {"cpu": 1e3 * cpu / count, "wall": 1e3 * wall / count, "boxes": boxes / count,
                 "stages": {stage: 1e3 * seconds / count for stage, seconds in stages.items()}}
        print("\nTURN " + json.dumps(times), flush=True)


def ours(folder):
    """predict.py from the open network on."""
    import predict
    from utils.prediction import images
    from utils.prediction.pipeline import Clock
    from utils.results import media, sources
    from utils.settings import read_settings
    words = [f"model_path={folder / 'best.pth'}", "device=cpu", f"confidence={CONFIDENCE}", "max_boxes=300"]
    s = read_settings(vars(predict), words)
    engine = predict.open_engine(s)
    drawn, keep = [], images.finish

    def count(*arguments):
        result = keep(*arguments)
        drawn.append(len(result.found["boxes"]))
        return result
    images.finish = count

    def work(source):
        drawn.clear()
        engine.clock = Clock()
        items, _ = sources.find_items([str(source)], "image", folder / "ours")
        target = media.fresh(folder / "ours", "turn")
        images.predict_images(s, engine, items, dict.fromkeys({item.group for item in items}, target), None)
        return sum(drawn), engine.clock.seconds
    return work


def bare(folder):
    """The network alone."""
    import torch

    import predict
    from utils.images import image_size
    from utils.settings import read_settings
    words = [f"model_path={folder / 'best.pth'}", "device=cpu"]
    engine = predict.open_engine(read_settings(vars(predict), words))

    @torch.inference_mode()
    def work(source):
        for path in source.iterdir():
            width, height = image_size(path)
            scale = 640 / max(width, height)
            sides = (-(-round(side * scale) // 32) * 32 for side in (height, width))
            batch = torch.rand(1, 3, *sides).contiguous(memory_format=torch.channels_last)      # (1, 3, H, W)
            engine.model(batch)
        return 0, {}
    return work


def theirs(folder):
    """YOLO(...).predict of a folder, as its documentation shows it."""
    import numpy as np
    import torch
    from ultralytics import YOLO
    yolo = YOLO("yolov8n.yaml")
    with np.load(folder / "weights.npz") as weights:
        tensors = [torch.from_numpy(weights[name]) for name in weights.files]
    yolo.model.load_state_dict(dict(zip(yolo.model.state_dict(), tensors)))

    def work(source):
        results = yolo.predict(str(source), imgsz=640, conf=CONFIDENCE, iou=0.7, max_det=300, save=True,
                               verbose=False, project=str(folder / "theirs"), device="cpu", stream=True)
        boxes, stages = 0, {}
        for result in results:
            boxes += len(result.boxes)
            for stage, value in result.speed.items():
                stages[stage] = stages.get(stage, 0) + value / 1e3
        return boxes, stages
    return work


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        job = json.loads(sys.argv[2])
        side(job.pop("side"), **job)
    else:
        import utils  # noqa: F401  it says in a sentence which package is missing
        from utils.settings import read_settings
        main(read_settings(globals()))
