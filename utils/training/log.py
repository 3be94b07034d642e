"""What a training writes into its run folder, line by line."""
import contextlib
import csv
import io
import re
from itertools import zip_longest

from tqdm import tqdm

from utils.errors import UserError, harmless
from utils.results.plots import training_curves
from utils.system import distributed
from utils.system.files import append_line, write_text

# Titles of the columns; what is long has a short one.
TITLES = {"cross_entropy": "entropy", "objectness": "object", "proposal": "region",
          "map50": "mAP50", "map50_95": "mAP50:95", "miou": "mIoU", "mpa": "mPA"}
WIDTHS = {"epoch": 7, "left": 11}
EPOCH = re.compile(r" *(\d+)/\d+  ")                    # how a line of the table of epochs begins


def logger(run):
    """-> a function like print whose lines also go to the run's train.log, if that can be written."""
    def say(*words):
        if distributed.rank():
            return
        text = " ".join(str(word) for word in words)
        tqdm.write(text)
        note(run, text)
    return say


def note(run, text):
    """Lines for train.log alone. A full disk must not end a training."""
    with contextlib.suppress(OSError):
        append_line(run / "train.log", harmless(text))


def attempt(say, write):
    """Write something that is nice to have, in the first process only.

    A full disk, or a table that is open in Excel, must not end a training.
    """
    if distributed.rank():
        return
    try:
        write()
    except (OSError, UserError) as error:
        say(f"NOTE: {str(error).rstrip('.')}; the training goes on.")


def write_settings(run, settings):
    """settings.py of the run: a recipe, so that  python train.py <run>/settings.py  trains the same again."""
    lines = ["# every setting of this run; train.py takes this file as a recipe"]
    lines += [f"{name} = {value!r}" for name, value in settings.items() if name != "resume"]
    write_text(run / "settings.py", "\n".join(lines) + "\n")


def open_board(run):
    """-> a writer of TensorBoard events, or None where TensorBoard is not installed."""
    if distributed.rank():
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
        return SummaryWriter(run)
    except Exception:                                   # not installed, or broken by another package
        return None


def write_board(board, row):
    """One epoch's values as TensorBoard scalars."""
    if board:
        for name, value in row.items():
            part, _, rest = name.partition("_")
            board.add_scalar(f"{part}/{rest}" if part in ("train", "val") else name, value, row["epoch"])
        board.flush()


def write_history(run, history, seconds):
    """metrics.csv, written anew; what an epoch does not have stays empty.

    history: list of dicts, one an epoch.  seconds: a number for each.
    """
    rows = [{**row, "seconds": time} for row, time in zip_longest(history, seconds[:len(history)])]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{value:.6g}" if isinstance(value, float) else value
                         for name, value in row.items()})
    write_text(run / "metrics.csv", text.getvalue())


def write_epoch(run, history, seconds, board, say, stages=()):
    """All of it after an epoch: metrics.csv, curves, TensorBoard. stages: see `training_curves`."""
    attempt(say, lambda: write_history(run, history, seconds))
    attempt(say, lambda: write_board(board, history[-1]))
    attempt(say, lambda: training_curves(run / "metrics.csv", run / "curves.png", stages))


def settle_epochs(run, state, measures, images):
    """Bring the epochs of train.log in line with what a resumed run saved: each once, none missing.

    A kill between the line of an epoch and its save leaves a line too many; a full disk one too few.
    """
    path, done = run / "train.log", state["training"]["history"]
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] if path.exists() else []

    # Of an epoch that was learned twice the last line counts.
    known, kept = set(), []
    for line in reversed(lines):
        found = EPOCH.match(line)
        number = int(found[1]) if found else None
        if found and (number > len(done) or number in known):
            continue
        known.add(number)
        kept.append(line)

    # What is missing follows from the history, apart from the time that was left.
    lost = [(row, time) for row, time in zip(done, state["training"]["seconds"]) if row["epoch"] not in known]
    added = [epoch_lines(row, measures, time, images, None)[1] for row, time in lost]
    settled = kept[::-1] + added
    if settled != lines:
        write_text(path, "".join(line + "\n" for line in settled))


def epoch_lines(row, measures, seconds, images, left):
    """-> the head of the table of epochs, the line of one; at most 100 columns, for any network.

    row: the epoch's entry in the history; all of it is in metrics.csv.
    measures: names of what evaluations give, like ("map50", "map50_95"); empty in an epoch without one.
    seconds: that the epoch took.  images: how many it saw.  left: seconds to go; None: not known.
    """
    losses = {name.removeprefix("train_"): value for name, value in row.items() if name.startswith("train_")}
    val = [value for name, value in row.items() if name.startswith("val_")]

    # Title -> text, from left to right.
    cells = {"epoch": f"{row['epoch']}/{row['epochs']}", "lr": f"{row['lr']:.2g}"}
    cells |= {TITLES.get(name, name): f"{value:.3f}" for name, value in losses.items()}
    cells |= {"val loss": f"{sum(val):.3f}" if val else ""}
    cells |= {TITLES.get(name, name): f"{row[name]:.3f}" if name in row else "" for name in measures}
    cells |= {"images/s": f"{images / max(seconds, 1e-9):.0f}"}
    cells |= {"left": "" if left is None else duration(left)}

    # Both lines have the same widths: the head is said only now and then.
    widths = [max(len(title), WIDTHS.get(title, 7)) for title in cells]
    return ["  ".join(f"{word:>{width}}" for word, width in zip(words, widths))
            for words in (cells.keys(), cells.values())]


def duration(seconds):
    """75 -> "1 min 15 s"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
