"""What a network learns from few pictures: ours and a peer, the same lists, size, epochs and seeds.

    python benchmarks/accuracy.py dataset=VOCdevkit/BCCD their_python=/peers/bin/python
    python benchmarks/accuracy.py dataset=VOCdevkit/nuclei "networks=['deeplabv3plus']" peer=smp

their_python has what the peer needs: pip install ultralytics segmentation-models-pytorch. All begin from
random weights, each training on one thread of its own. A side is a network and the settings that are not its
defaults. One evaluator (ours) judges the test list, with the weights that each side's own validation chose;
the curves are these validations. Seconds are CPU time of the whole training, evaluations included.
Every finished training is kept in `output`; the same command goes on where it was ended.
Linux only: the CPU time of a training that runs is read from /proc.
"""
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from utils.settings import ROOT, read_settings  # noqa: E402

dataset = "VOCdevkit/BCCD"      # VOC folder with given splits                              数据集
classes_path = None             # class names, one a line; None: as in train.py             类别文件
networks = ["yolov8"]           # of ours; more settings after a space: "yolov8 lr=0.01"    我们的网络（可带设置）
peer = "ultralytics"            # "ultralytics", "smp" or "": none                          对比的项目
peer_options = [{}, {"nbs": 8}]     # one side for each: what differs from its defaults     对方的设置
their_python = ""               # the Python that has it; "": this one                      对方的 Python
input_shape = 320               # side of the input, on all sides                           输入边长
epochs = 30                     # passes over the training list, on all sides               轮数
batch_size = 8                  # images a batch, on all sides                              批大小
seeds = [0, 1, 2]               # one training of each side for each                        随机种子
every = 5                       # epochs between two evaluations of ours (and of smp)       验证间隔
output = "accuracy_out"         # what was measured                                         结果文件夹

GOALS = {"detection": ("map50", "map50_95"), "segmentation": ("miou",)}
TITLES = {"map50": "mAP50", "map50_95": "mAP50:95", "miou": "mIoU"}


def main(s):
    from utils.lists import folder_name
    segments = s.peer == "smp" or any(is_segmenter(name) for name in s.networks[:1])
    task = "segmentation" if segments else "detection"
    words = [f"dataset={s.dataset}", f"task={task}"]
    words += [f"classes_path={s.classes_path}"] if s.classes_path else []
    say(run_script("voc_annotation.py", words).splitlines()[-1])

    # One training after the other, seed by seed, so that all sides have run when it is ended early.
    folder = ROOT / s.output / f"{folder_name(s.dataset)}_{s.input_shape}_{s.epochs}"
    sides = dict.fromkeys(s.networks, run_ours)
    sides |= {" ".join([s.peer, *(f"{key}={value}" for key, value in options.items())]): run_peer
              for options in (s.peer_options if s.peer else [])}
    for seed in s.seeds:
        for name, run in sides.items():
            place = folder / f"{re.sub(r'[^a-z0-9_.=-]+', '-', name)}_{seed}.json"
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                result = run(s, name, seed, task, place.with_suffix(""))
                place.write_text(json.dumps({"name": name, "seed": seed} | result), encoding="utf-8")
                say(f"{name}, seed {seed}: " + ", ".join(f"{key} {result[key]:.3f}" for key in GOALS[task])
                    + f", {result['seconds']:.0f} s")

    # All that is there, also of earlier commands.
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    from utils.results.report import text_table
    say("\n" + "\n".join(text_table(table(results, task))))
    draw(results, task, folder / "curves.png")
    say(f"\nCurves: {folder / 'curves.png'}")


def say(text):
    print(text, flush=True)


def is_segmenter(words):
    import nets
    return nets.find_net(words.split()[0]).task == "segmentation"


def run_script(script, words, watch=None):
    """One of our scripts in a process of one thread -> all that it said.

    watch: called with its process id now and then.  Error: it failed, with its last lines.
    """
    from utils.errors import UserError
    with tempfile.TemporaryFile() as file:
        process = subprocess.Popen([sys.executable, str(ROOT / script), *words], stdout=file, cwd=ROOT,
                                   stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1"})
        while process.poll() is None:
            time.sleep(0.2)
            if watch:
                watch(process.pid)
        file.seek(0)
        text = file.read().decode("utf-8", "replace")
    if process.returncode:
        raise UserError(f"{script} {' '.join(words)} failed:\n" + "\n".join(text.splitlines()[-12:]))
    return text


def run_ours(s, name, seed, task, place):
    """Train one of ours, measure its best.pth on the test list -> metrics, seconds, steps, curve."""
    net, *extra = name.split()
    words = [f"net={net}", f"dataset={s.dataset}", f"input_shape={s.input_shape}", f"epochs={s.epochs}",
             f"batch_size={s.batch_size}", f"seed={seed}", f"eval_every={s.every}", "num_workers=0",
             "pretrained=False", *extra]
    words += [f"classes_path={s.classes_path}"] if s.classes_path else []

    # The seconds at which an epoch was done: seen from outside, when metrics.csv grows.
    known = set((ROOT / "logs").glob("*")) if (ROOT / "logs").exists() else set()
    marks, spent = {}, [0.0]

    def watch(pid):
        spent[0] = max(spent[0], cpu_seconds(pid))
        for path in set((ROOT / "logs").glob("*/metrics.csv")):
            if path.parent not in known:
                marks.setdefault(len(path.read_text(encoding="utf-8").splitlines()) - 1, spent[0])

    text = run_script("train.py", words, watch)
    run = ROOT / re.search(r"(logs/\S+)/best\.pth", text).group(1)
    per_epoch = int(re.search(r"(\d+) steps? an epoch", text).group(1))
    from utils.results.plots import read_columns
    columns = read_columns(run / "metrics.csv")
    goal = GOALS[task][0]
    curve = [[int(epoch) * per_epoch, marks.get(int(epoch), spent[0]), value]
             for epoch, value in zip(columns["epoch"], columns[goal]) if value is not None and value == value]

    script = "get_map.py" if task == "detection" else "get_miou.py"
    said = run_script(script, [f"model_path={run / 'best.pth'}", f"list_path={list_of(s, task, 'test')}"])
    measured = re.search(r"Results are in (\S+?):", said).group(1)
    results = json.loads((ROOT / measured / "results.json").read_text(encoding="utf-8"))
    return {key: results[key] for key in GOALS[task]} | {
        "seconds": spent[0], "steps": per_epoch * s.epochs, "curve": curve, "run": str(run)}


def cpu_seconds(pid):
    """User and system time of a process so far, that of its ended children included."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:                                         # it has just ended
        return 0.0
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def list_of(s, task, split):
    """The list of a split; a set without test images is measured on its validation list."""
    from utils.lists import list_lines, list_name
    path = ROOT / list_name(s.dataset, split, task)
    return path if path.exists() and list_lines(path) else ROOT / list_name(s.dataset, "val", task)


def run_peer(s, name, seed, task, place):
    """The same for the peer: it trains in its own Python, its findings are judged here."""
    place.mkdir(exist_ok=True)
    options = {}
    for word in name.split()[1:]:
        key, _, value = word.partition("=")
        options[key] = json.loads(value)
    job = {"peer": s.peer, "options": options, "folder": str(place), "size": s.input_shape, "epochs": s.epochs,
           "batch": s.batch_size, "seed": seed, "every": s.every} | describe(s, task, place)
    (place / "job.json").write_text(json.dumps(job), encoding="utf-8")

    from utils.errors import UserError
    environment = os.environ | {"OMP_NUM_THREADS": "1", "YOLO_CONFIG_DIR": str(place)}
    done = subprocess.run([s.their_python or sys.executable, str(Path(__file__).with_name("peers.py")), "job.json"],
                          cwd=place, env=environment, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise UserError(f"The peer failed:\n{done.stdout[-500:]}\n{done.stderr[-1500:]}")
    curve = json.loads((place / "curve.json").read_text())
    return judge(s, task, place) | {"seconds": curve[-1][1], "steps": curve[-1][0], "curve": curve}


def describe(s, task, place):
    """The lists in the peer's form: for detection a data.yaml beside labels, for masks pairs of paths."""
    import shutil

    import numpy as np

    from utils.dataset import SegmentationData
    from utils.images import open_image
    from utils.lists import classes_name, read_classes, read_list
    from utils.settings import find
    names = read_classes(find(s.classes_path or classes_name(s.dataset, task)))
    parts = {split: list_of(s, task, split) for split in ("train", "val", "test")}

    # Pictures as we read them, masks with our class numbers.
    if task == "segmentation":
        job = {"classes": len(names)}
        for split, path in parts.items():
            data = SegmentationData(str(path), names, (s.input_shape, s.input_shape), cache=False)
            job[split] = []
            for index, image in enumerate(data.paths):
                pair = [str(place / f"{split}_{index}_{kind}.npy") for kind in ("image", "mask")]
                np.save(pair[0], open_image(find(image)))
                np.save(pair[1], data.truth(index))
                job[split].append(pair)
        return job

    # Labels beside the images: class, centre, width and height as shares of the image.
    job = {}
    for split, path in parts.items():
        for kind in ("images", "labels"):
            (place / kind / split).mkdir(parents=True, exist_ok=True)
        job[split] = []
        for number, (image, rows) in enumerate(zip(*read_list(path))):
            copy = place / "images" / split / f"{number:05d}{Path(image).suffix}"
            shutil.copy(find(image), copy)
            height, width = open_image(find(image)).shape[:2]
            lines = [f"{int(label)} {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} "
                     f"{(x2 - x1) / width} {(y2 - y1) / height}" for x1, y1, x2, y2, label, _ in rows]
            (place / "labels" / split / f"{number:05d}.txt").write_text("\n".join(lines))
            job[split].append(str(copy))
    lines = [f"path: {place.as_posix()}", "train: images/train", "val: images/val", "names:"]
    lines += [f"  {number}: c{number}" for number in range(len(names))]
    (place / "data.yaml").write_text("\n".join(lines) + "\n")
    return job


def judge(s, task, place):
    """What the peer found on the test images, measured with our evaluator."""
    import numpy as np

    from utils.dataset import SegmentationData
    from utils.lists import classes_name, read_classes, read_list
    from utils.metrics import detection_results
    from utils.miou import count_confusion, segmentation_results
    from utils.settings import find
    names = read_classes(find(s.classes_path or classes_name(s.dataset, task)))
    path = list_of(s, task, "test")
    found = np.load(place / "found.npz")
    if task == "segmentation":
        data = SegmentationData(str(path), names, (s.input_shape, s.input_shape), cache=False)
        matrix = sum(count_confusion(data.truth(i), found[f"map_{i}"], len(names)) for i in range(len(data)))
        return {"miou": segmentation_results(matrix, names)["miou"]}

    truths, detections = [], []
    for number, rows in enumerate(read_list(path)[1]):
        truths.append({"boxes": rows[:, :4], "labels": rows[:, 4].astype(int), "difficult": rows[:, 5] > 0})
        detections.append({key: found[f"{key}_{number}"] for key in ("boxes", "scores", "labels")})
    results = detection_results(detections, truths, names)
    return {key: results[key] for key in GOALS["detection"]}


def table(results, task):
    """Rows of text: for each side the mean over the seeds, at equal epochs and at equal CPU seconds."""
    shortest = min(result["seconds"] for result in results)
    goals = GOALS[task]
    rows = [["side", *(f"test {TITLES[goal]}" for goal in goals), "seeds", "steps", "CPU s",
             f"validation after {shortest:.0f} CPU s"]]

    # A row for each side: the mean, and in brackets each seed, because they differ by more than most changes.
    for name in dict.fromkeys(result["name"] for result in results):
        mine = [result for result in results if result["name"] == name]
        row = [name]
        for goal in goals:
            values = [result[goal] for result in mine]
            row.append(f"{statistics.mean(values):.3f} ({' '.join(f'{value:.3f}' for value in values)})")

        # How far it had come when the quickest one was done.
        early = [max((value for _, at, value in result["curve"] if at <= shortest), default=0.0) for result in mine]
        rows.append([*row, str(len(mine)), str(mine[0]["steps"]),
                     f"{statistics.median(result['seconds'] for result in mine):.0f}",
                     f"{statistics.mean(early):.3f}"])
    return rows


def draw(results, task, path):
    """Two pictures side by side: the validation metric over steps, and over CPU seconds."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(12, 4.5))
    axes = figure.subplots(1, 2, sharey=True)

    # A colour for each side, named once; a line for each seed.
    names = list(dict.fromkeys(result["name"] for result in results))
    for result in results:
        number = names.index(result["name"])
        values = [value for _, _, value in result["curve"]]
        first = result["seed"] == min(r["seed"] for r in results if r["name"] == result["name"])
        for column, axis in enumerate(axes):
            axis.plot([point[column] for point in result["curve"]], values, color=f"C{number}", alpha=0.8,
                      label=result["name"] if first else None)

    # The same height on both sides: only what is below differs.
    for axis, title in zip(axes, ("steps of the optimizer", "CPU seconds")):
        axis.set_xlabel(title)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel(f"validation {TITLES[GOALS[task][0]]}")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(read_settings(globals()))
