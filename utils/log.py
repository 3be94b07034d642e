"""The run folder and what is written into it while training."""
import csv
import time

from tqdm import tqdm

from utils.settings import ROOT


def new_run(net):
    """Make logs/<net>_<time>/, a fresh folder for every run. -> Path."""
    name = f"{net}_{time.strftime('%Y_%m_%d_%H_%M_%S')}"
    for number in range(1, 1000):
        folder = ROOT / "logs" / (name if number == 1 else f"{name}_{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise RuntimeError(f"could not make a folder {name}")


def logger(run):
    """-> a function like print whose lines also go to train.log of the run."""
    def say(*words):
        text = " ".join(str(word) for word in words)
        tqdm.write(text)
        with open(run / "train.log", "a", encoding="utf-8", newline="\n") as file:
            file.write(text + "\n")
    return say


def write_history(run, history):
    """history: list of dicts, one an epoch -> metrics.csv, written anew; a value an epoch does not have stays empty."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    with open(run / "metrics.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else "" if v is None else v for k, v in row.items()} for row in history)


def duration(seconds):
    """75 -> '1 min 15 s'."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
