"""What a training leaves behind while it runs: weights, history, curves, pages of predictions, messages."""
import math
import time

from utils.checkpoint import save_checkpoint
from utils.errors import UserError
from utils.results.filters import NO_CONFIDENCE
from utils.results.media import save_image
from utils.results.pages import prediction_page
from utils.settings import ROOT, as_dict, find, shown
from utils.system import distributed, lock, signals
from utils.system.device import memory_used
from utils.training import log
from utils.training.plan import network_options
from utils.training.resume import split_settings, training_state

GOALS = {"detection": "map50", "segmentation": "miou"}      # what best.pth is chosen by
MEASURES = {"detection": ("map50", "map50_95"), "segmentation": ("miou", "mpa", "accuracy")}
SCRIPTS = {"detection": "get_map.py ", "segmentation": "get_miou.py"}
HEAD_EVERY = 20                                             # lines of the table of epochs
FORECAST = 20                                               # steps after which the time is estimated
MINUTE = 60.0                                               # seconds between two lines where there is no bar


def end_epoch(s, training, row):
    """An epoch is done: it enters the history, the curves are drawn, best.pth and last.pth are written.

    row: what train.py measured.
    """
    progress, goal = training.progress, GOALS[training.model.task]
    ruined = [name for name, value in row.items() if not math.isfinite(value)]
    if ruined:
        raise UserError(f"After epoch {progress.epoch + 1} {', '.join(ruined)} is NaN or infinite. "
                        "best.pth still holds the best earlier epoch. Try a third of lr. "
                        "More: docs/en/faq.md#nan")

    # As long as nothing is found the newest weights are the best.
    better = goal in row and (row[goal] > progress.best or progress.best <= 0)

    # The report comes before the save: a kill in between repeats both.
    with signals.undisturbed():
        progress.end_epoch(row, goal, better)
        log.write_epoch(training.run, progress.history, progress.seconds, training.board, training.say,
                        stages(s))
        say_epoch(s, training, row)
        save(s, training, better)


def stages(s):
    """(epoch after which something changes, what), for the curves."""
    ends = (s.epochs - round(s.plain_share * s.epochs), "mosaic ends" if s.mosaic else "mixup ends")
    grows = (round((s.small_share or 0) * s.epochs), "full input size")
    return [(s.freeze_epochs, "backbone unfrozen"), grows, *([ends] if s.mosaic or s.mixup else [])]


def say_epoch(s, training, row):
    """One line of the table of epochs, now and then below its head."""
    progress = training.progress
    each = (time.perf_counter() - training.began) / (progress.epoch - training.first)
    left = each * (s.epochs - progress.epoch)
    measures = MEASURES[training.model.task]
    head, line = log.epoch_lines(row, measures, progress.seconds[-1], len(training.train_data), left)
    if (progress.epoch - training.first) % HEAD_EVERY == 1 % HEAD_EVERY:
        training.say(head)
    training.say(line)


def save(s, training, better=False):
    """last.pth: all that resuming needs; best.pth, when this epoch is the best so far: what predicting needs.

    -> whether it worked.
    """
    if distributed.rank() > 0:
        return True
    progress, model = training.progress, training.model

    # What travels with the weights, so that predict.py and get_map.py need no settings.
    goal = GOALS[model.task]
    settings, machine = split_settings(as_dict(s))
    options = network_options(s, model.task) | getattr(model, "options", {})    # and what its defaults became
    about = {"net": s.net,
             "options": options,
             "class_names": training.train_data.class_names,
             "input_shape": list(s.input_shape),
             "settings": settings,
             "epoch": progress.epoch,
             "confidence": progress.confidence,
             goal: progress.history[-1].get(goal) if progress.history else None}
    weights = (training.average.model if training.average else model).state_dict()

    # best.pth comes first: after a kill in between, the resumed run repeats the epoch and writes it again.
    training.saved = True
    try:
        if better:
            save_checkpoint(training.run / "best.pth", model=weights, **about)
        state = training_state(training) | {"machine": machine}
        save_checkpoint(training.run / "last.pth", model=weights, training=state, **about)
    except UserError as error:
        training.say(f"NOTE: {error} The training goes on and tries again at the next save.")
        training.saved = False
    return training.saved


def end_training(s, training, seconds):
    """All is learnt: the last words. Error: the last save failed, and so does another try."""
    progress, goal = training.progress, GOALS[training.model.task]
    with signals.undisturbed():
        training.loader = training.val_loader = None        # their processes end

    # Said aloud: that it ended early, or that its last save failed.
    if progress.epoch < s.epochs:
        training.say(f"The last {s.patience} evaluations were not better than the best: "
                     f"stopped early (patience={s.patience}).")
    if not training.saved and not save(s, training):
        raise UserError("The last save failed, see above: "
                        "make room and run  python train.py resume=True  again.")
    training.say(f"Done in {log.duration(seconds)}. Best {goal} on the validation list {progress.best:.4f}: "
                 f"{training.folder}/best.pth")
    which = "" if find(s.output) == ROOT / "logs" else f" model_path={shown(training.run / 'best.pth')}"
    training.say(f"Now run\n  python {SCRIPTS[training.model.task]}{which}     "
                 f"to measure it on the test list\n  python predict.py {which}     to see what it finds")
    lock.release(training.run)
    distributed.end()


def save_predictions(training, found, data):
    """The page of the first validation images with what was found in them.

    found: of utils.evaluate.evaluate.
    """
    page = training.run / f"predictions_epoch_{training.progress.epoch + 1:03d}.png"
    confidence = training.progress.confidence or NO_CONFIDENCE
    log.attempt(training.say, lambda: save_image(page, prediction_page(data, found, confidence)))


def show_progress(bar, s, training):
    """How it goes within an epoch: the mean losses so far and the memory in use, behind the epoch's bar.

    Without a terminal there is no bar: then it is a line a minute.
    After the first steps it is also said, once, how long all of it will take.
    """
    progress, now = training.progress, time.perf_counter()
    training.steps += 1

    # The first step is slow and the first seconds are start-up, so the estimate waits a little.
    if training.steps == FORECAST:
        left = s.epochs * bar.total - progress.epoch * bar.total - progress.step
        each = (now - training.began) / FORECAST
        training.say(f"At this pace the training takes about {log.duration(each * left)}, "
                     "evaluations not counted.")

    # A bar is refreshed every tenth step; where there is none, the log gets a line a minute.
    too_soon = now - training.spoken < MINUTE if bar.disable else progress.step % 10
    if too_soon:
        return
    losses = {name: f"{float(value) / progress.seen:.3f}" for name, value in progress.sums.items()}
    if bar.disable:
        training.spoken = now
        training.say(f"epoch {progress.epoch + 1}/{s.epochs}, step {progress.step}/{bar.total}: "
                     + ", ".join(f"{name} {value}" for name, value in losses.items()))
        return
    memory = memory_used(training.device)
    bar.set_postfix(losses | ({"GiB": f"{memory:.1f}"} if memory else {}))


def tell_damaged(training, targets):
    """Training pictures that can be read no more: each is named once."""
    tell_once(training, [text for target in targets for text in target.get("damaged", [])])


def tell_once(training, sentences):
    for text in sentences:
        if text not in training.told:
            training.told.add(text)
            training.say(f"NOTE: {text} The next picture of the list takes its place.")
