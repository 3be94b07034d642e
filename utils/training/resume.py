"""How far a training is, and how it resumes after it was stopped: at any moment, to the bit."""
import contextlib
import hashlib
import os.path
from dataclasses import dataclass, field

import torch

from utils import steps
from utils.checkpoint import read_checkpoint
from utils.depth import saved_range
from utils.errors import UserError
from utils.lists import list_name
from utils.metadata import check_metadata
from utils.settings import ROOT, check, check_type, find, optional, printable, read_recipe, shown, whole
from utils.system import distributed, lock
from utils.system.files import clear_leftovers

OF_THE_MACHINE = ("device", "num_workers", "output", "language")    # not what it does: not in best.pth


@dataclass
class Progress:
    """All that a training is made of, besides the tensors of network, average, optimizer and scaler.

    Nothing is random besides (seed, epoch, index) and (seed, epoch, step).
    """
    epoch: int = 0                                      # epochs done
    step: int = 0                                       # steps done of the next one
    batch: int = 0                                      # images a step in that one
    sums: dict = field(default_factory=dict)            # loss name -> sum over this epoch's images so far
    seen: int = 0                                       # these images
    clock: float = 0.0                                  # seconds of this epoch so far
    history: list = field(default_factory=list)         # one dict an epoch
    seconds: list = field(default_factory=list)         # one number an epoch; no two runs have the same
    best: float = -1.0                                  # mAP or mIoU of best.pth
    waited: int = 0                                     # evaluations since then
    confidence: float | None = None                     # score at which the last one had the best F1

    def end_step(self, losses, images):
        """One more step is done.

        losses: name -> 0-d tensor, the mean over this process's images.  images: how many these were.
        """
        self.step += 1
        self.seen += images * distributed.world()
        sums = {name: value * images for name, value in losses.items()}
        for name, value in distributed.added(sums).items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def end_epoch(self, row, goal, better):
        """The next epoch begins, with nothing done of it.

        row: the epoch's entry in the history.  goal: the name of what best.pth is chosen by.
        better: whether that is this epoch.
        """
        self.history.append(row)
        self.seconds.append(self.clock)
        if goal in row:
            self.best = max(self.best, row[goal])
            self.waited = 0 if better else self.waited + 1
        self.epoch += 1
        self.step, self.sums, self.seen, self.clock = 0, {}, 0, 0.0

    def first_step(self, batch):
        """How many steps of this epoch to skip; with a new batch size those of the images already seen."""
        if self.step and batch != self.batch:
            self.step = self.seen // batch
        self.batch = batch
        return self.step


def find_run(s):
    """s.resume -> the run's folder and what it saved, with its settings in s.

    (folder, None) when it was stopped before it had saved anything; (None, None) for a new run.
    Errors: no such run, nothing to go on with.
    """
    folder = folder_of(s.resume, s.output)
    return (folder, load_run(s, folder)) if folder else (None, None)


def folder_of(resume, output="logs"):
    """resume as the user set it -> the run's folder; None for a new run.

    True: the newest run below output, begun or saved.
    """
    # None or False: a new run.
    if resume is None or resume is False:
        return None
    if not isinstance(resume, (bool, str)):
        raise UserError(f"resume={resume!r}: expected True for the newest run, "
                        'or a folder like "logs/yolov4_tiny_...".')

    # The newest has the youngest file; one that was killed before its first save has settings only.
    if resume is True:
        place = ROOT / find(output)
        files = [*place.glob("*/settings.py"), *place.glob("*/last.pth")]
        runs = {path.parent: path.stat().st_mtime for path in files}
        if not runs:
            raise UserError(f"resume=True, but {output}/ holds no last.pth: there is no run to go on with.")
        return newest_at_rest(sorted(runs, key=runs.get, reverse=True))

    # The one that is named.
    folder = find(resume).parent if resume.endswith(".pth") else find(resume)
    refuse_running(folder, lock.holder_of(folder))
    return folder


def newest_at_rest(runs):
    """The first of these folders that no process is training. Error: all are being trained."""
    for folder in runs:
        holder = lock.holder_of(folder)
        if not holder:
            return folder
        if not distributed.is_follower():
            print(f"NOTE: {shown(folder)} is being trained by {holder}: resume=True passes over it.")
    raise UserError("resume=True: every run in logs/ is being trained at this moment, see above. "
                    "There is nothing to go on with.")


def refuse_running(folder, holder):
    """Error: another process is training this run. holder: its name, or ""."""
    if holder:
        raise UserError(f"{shown(folder)} is being trained by {holder}: two trainings in one folder would "
                        "overwrite each other. Wait for its end, stop it with Ctrl-C, or train "
                        "anew without resume.")


def hold_run(folder):
    """From now on this process alone trains in the folder of a run.

    What killed ones left there and beside it goes.  Error: another process does already.
    """
    if folder is None or distributed.rank() > 0:
        return
    refuse_running(folder, lock.take(folder))
    for run in folder.parent.iterdir():
        if run.is_dir() and not lock.holder_of(run):
            clear_leftovers(run)
    for part in folder.glob("*.pth.part"):                  # of versions up to 0.4.0
        with contextlib.suppress(OSError):
            part.unlink()


def load_run(s, folder):
    """The saved state of a run, or None when it was stopped before it had saved any.

    Its settings come back into s, except those of the command line.
    """
    # A run that was stopped before its first save has its settings in settings.py, else they are in last.pth.
    if not (folder / "last.pth").exists() and (folder / "settings.py").is_file():
        state = None
        settings = {name: value for name, value, _ in read_recipe(folder / "settings.py")}
    else:
        state = read_checkpoint(folder / "last.pth")
        if not isinstance(state, dict) or "training" not in state:
            raise UserError(f"{shown(folder / 'last.pth')} was not saved by train.py: it cannot be resumed.")
        check_metadata(state, folder / "last.pth", resumed=True)
        settings = state["settings"] | state["training"].get("machine", {})
    if is_moved(s, settings):
        settings = settings | lists_elsewhere(settings)
    for name, value in settings.items():
        if name != "resume" and name in s and s.origin[name] != "command line":
            s.put(name, check_type(name, value, getattr(s, name)), "resumed run")
    check(s, epochs=optional(whole(1)))

    # A run of the time before this setting goes on as it began.
    if state and "value_range" not in settings:
        s.put("value_range", saved_range(settings), "resumed run")
    if state and s.epochs and state["epoch"] >= s.epochs:
        raise UserError(f"{shown(folder)} has already done its {state['epoch']} epochs. "
                        f"To go on: epochs={state['epoch'] + 10}")
    return state


def is_moved(s, settings):
    """Whether the user names another place for the data of a resumed run. settings: as it was saved."""
    return s.origin["dataset"] == "command line" and find(s.dataset) != find(settings["dataset"])


def lists_elsewhere(settings):
    """Of the settings of a run whose dataset was moved: the lists that bear its name are made anew.

    Lists and a classes file that the user wrote are kept; so is the classes file, which numbers the classes.
    """
    values = {}
    for split in ("train", "val", "test"):
        usual = [list_name(settings["dataset"], split, task) for task in ("detection", "segmentation")]
        if settings[f"{split}_list"] in usual:
            values[f"{split}_list"] = None
    if settings["classes_path"] and not find(settings["classes_path"]).is_file():
        values["classes_path"] = None
    return values


def fingerprint(data):
    """What the list of a dataset holds -> {"images": how many, "names": word, "labels": word}.

    The words stay the same when the dataset is moved: of the paths only what differs between them counts.
    """
    if data.task == "segmentation":
        labels = without_place(data.masks)
    else:
        labels = [boxes.tobytes() for boxes in data.boxes]
    return {"images": len(data), "names": digest(without_place(data.paths)), "labels": digest(labels)}


def without_place(paths):
    """The paths without the folders that all of them begin with, as bytes."""
    parts = [path.split("/") for path in paths]
    common = len(os.path.commonprefix([some[:-1] for some in parts]))
    return ["/".join(some[common:]).encode() for some in parts]


def digest(pieces):
    """A word for a list of bytes."""
    return hashlib.sha256(b"".join(hashlib.sha256(piece).digest() for piece in pieces)).hexdigest()


def check_same_lists(state, s, lists, folder):
    """-> sentences about lists that are not those the run was saved with. lists: split -> `fingerprint`.

    Error: the user named another place for the dataset, and what is there is another one.
    """
    then = state["training"].get("lists")
    moved = is_moved(s, state["settings"])
    if not isinstance(then, dict):                          # saved before version 0.5
        return ["NOTE: this run was saved by an earlier version, which did not note what its lists held: "
                f"whether {s.dataset} holds the same cannot be checked."] * moved

    # One sentence for each list: the first thing in which it differs.
    changes = []
    for split, what in (("train", "training"), ("val", "validation")):
        before, now = then.get(split), lists[split]
        if not isinstance(before, dict) or before == now:
            continue
        if before.get("images") != now["images"]:
            change = f"held {before.get('images')} images and holds {now['images']} now"
        elif before.get("names") != now["names"]:
            change = "holds other images than then"
        else:
            change = "holds the same images with other labels"
        changes.append(f"the {what} list {change}")

    if moved and changes:
        raise UserError(f"{s.dataset} is not the dataset that this run learns from: {'; '.join(changes)}. "
                        "A run keeps its data. To learn from these, begin a new one with its weights:\n  "
                        f'python train.py net={s.net} "dataset={s.dataset}" '
                        f'"model_path={shown(folder / "last.pth")}"')
    return [f"NOTE: {text}. This run was saved before that change and goes on with what is there now."
            for text in changes]


def check_same_run(state, s, class_names, folder):
    """Error: what cannot change within a run did."""
    settings = state["settings"]
    then = {"net": state["net"], "classes": state["class_names"], "input_shape": state["input_shape"],
            "optimizer": settings.get("optimizer"), "ema": settings.get("ema")}
    now = {"net": s.net, "classes": class_names, "input_shape": list(s.input_shape),
           "optimizer": s.optimizer, "ema": s.ema}
    for name, value in now.items():
        if then[name] != value:
            raise UserError(f"This run was begun with {name} {then[name]}; now it is {value}, "
                            "so it cannot be resumed. To start a new run from its weights, write instead of "
                            f'resume:  "model_path={shown(folder / "last.pth")}"')


def split_settings(settings):
    """All settings of a run -> those that are part of what it does, those of the machine."""
    apart = (*OF_THE_MACHINE, "resume")
    return ({name: value for name, value in settings.items() if name not in apart},
            {name: settings[name] for name in OF_THE_MACHINE if name in settings})


def training_state(training):
    """-> tensors and plain values, to be saved."""
    progress, average = training.progress, training.average
    plain = {**vars(progress), "sums": {name: float(value) for name, value in progress.sums.items()}}
    return {"model": training.model.state_dict(),
            "optimizer": training.solver.state_dict(),
            "scaler": training.scaler.state_dict(),
            "lists": training.lists,
            "circumstances": training.circumstances,
            "ema_steps": average.steps if average else 0,
            **plain}


def restore_tensors(state, training):
    """Network, moving average, optimizer and scaler get what was saved, in place."""
    saved, average, scaler = state["training"], training.average, training.scaler
    training.model.load_state_dict(saved["model"])
    if average:
        average.model.load_state_dict(state["model"])
        average.steps = saved["ema_steps"]
    steps.load_moments(training.solver, saved["optimizer"])
    if saved["scaler"] and scaler.is_enabled():
        scaler.load_state_dict(saved["scaler"])


def restore(state, training):
    """Put what was saved back, in place. Error: it is not of this network and this optimizer."""
    try:
        restore_tensors(state, training)
    except Exception as error:                          # PyTorch checks little, so it can fail anywhere
        reason = printable(" ".join(str(error).split())[:200])
        raise UserError(f"{training.folder}/last.pth does not fit this run ({reason}). To start a new run "
                        f"from its weights: model_path={training.folder}/last.pth") from None

    # How far it was, to the step within the epoch.
    saved = state["training"]
    progress = Progress(**{name: saved[name] for name in Progress.__dataclass_fields__ if name in saved})
    progress.epoch = state["epoch"]
    device = training.device
    progress.sums = {name: torch.tensor(value, device=device) for name, value in progress.sums.items()}
    within = f", {progress.step} steps of epoch {progress.epoch + 1}" if progress.step else ""
    training.say(f"Resumed after epoch {progress.epoch}{within}.")

    # Without a readable best.pth any next one is the best.
    try:
        if progress.best >= 0:
            read_checkpoint(training.run / "best.pth")
    except UserError as error:
        training.say(f"NOTE: {error} The next evaluation writes a new one.")
        progress.best = -1.0
    training.progress = progress
