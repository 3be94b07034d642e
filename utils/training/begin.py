"""How a training begins: its data, first weights and run folder, and all that changes while it learns."""
import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from utils import steps
from utils.augment import Augmentation
from utils.checks.augmentation import check_augmentation
from utils.checks.lists import check_before_training
from utils.checks.prepare import current_lists, dataset_words
from utils.dataset import DetectionData, SegmentationData, class_counts, describe, make_loader
from utils.errors import UserError
from utils.formats.shapes import make_shapes
from utils.formats.sweep import range_of_set
from utils.lists import list_lines, list_name, read_classes
from utils.losses import balanced_weights
from utils.results.media import save_image
from utils.results.pages import batch_page
from utils.results.report import new_folder
from utils.settings import as_dict, as_table, counted, find, shown
from utils.system import distributed, signals
from utils.system.device import choose_device, choose_precision, make_repeatable
from utils.training import accidents, log, threads
from utils.training.circumstances import changes, choose_start, circumstances
from utils.training.keep import GOALS, MEASURES, tell_once
from utils.training.plan import SHAPES, choose_epochs, is_trained, small_input
from utils.training.resume import (
    Progress,
    check_same_lists,
    check_same_run,
    fingerprint,
    hold_run,
    restore,
)
from utils.weights import load_weights

FEW = 1 / 3                     # of a recipe's steps: random weights have learned little by then


@dataclass
class Training:
    """Everything that changes while a network learns, and where that happens."""
    run: Path                                   # its folder
    say: object                                 # like print, also into train.log
    train_data: object
    val_data: object
    model: object
    average: object                             # steps.MovingAverage, or None
    solver: object                              # the optimizer
    scaler: object                              # of the gradients in float16; does nothing otherwise
    full_lr: float                              # the learning rate at its highest, for this batch size
    device: object
    precision: object                           # torch.bfloat16, torch.float16, or None: float32
    workers: object                             # loader processes; None: chosen
    circumstances: dict                         # see circumstances.py
    watch: threads.Watch                        # whether they get their cores
    lists: dict                                 # "train", "val" -> resume.fingerprint
    progress: Progress = field(default_factory=Progress)
    began: float = field(default_factory=time.perf_counter)
    first: int = 0                              # the epoch with which this process began
    steps: int = 0                              # that it has done
    spoken: float = field(default_factory=time.perf_counter)    # when it last said how it goes
    frozen: object = None                       # whether the backbone is; None: not set yet
    step_model: object = None                   # the network, wrapped where several processes share a batch
    loader: object = None
    val_loader: object = None
    board: object = None                        # TensorBoard
    last: object = None                         # images, targets, loss of the last step
    told: set = field(default_factory=set)      # notes that were made; once is enough
    saved: bool = True                          # whether the last save worked

    @property
    def folder(self):
        """The run's folder, for people."""
        return shown(self.run)


def make_data(s, network):
    """-> training data, validation data.

    Lists are made where they are missing; every file that will be read is checked before.
    """
    task = network.task
    with distributed.first_alone():
        make_lists(s, task)
        lists = {"train": s.train_list, "val": s.val_list, "test": s.test_list}
        finest = min(getattr(network, "strides", None) or (8,))
        own = s.train_list == list_name(s.dataset, "train", task)
        made_of = dataset_words(s.dataset, task, s.classes_path) if own else None
        check_before_training(task, lists, s.classes_path, s.input_shape, finest, s.fit, s.ignore_labels,
                              dataset=made_of)
    class_names = read_classes(find(s.classes_path))
    choose_epochs(s, network, len(list_lines(s.train_list)))

    # Only the training pictures are varied.
    if task == "segmentation":
        kind, options = SegmentationData, {"ignore_labels": s.ignore_labels, "cache": s.cache}
    else:
        kind, options = DetectionData, {"fit": s.fit, "cache": s.cache}
    train_data = kind(s.train_list, class_names, s.input_shape, **options, **variations(s, network))
    val_data = kind(s.val_list, class_names, s.input_shape, **options)

    # Of more than 8 bits all pictures are shown alike, here and wherever these weights are used.
    if s.value_range is None and (found := range_of_set(train_data.paths)):
        s.put("value_range", found, "from the pictures")
    train_data.value_range = val_data.value_range = s.value_range

    # What can only be seen now that both are there.
    if len(train_data) < distributed.world():
        raise UserError(f"{s.train_list} holds {counted(len(train_data), 'image')}, "
                        f"fewer than the {distributed.world()} processes. Start fewer.")
    seen = [name for name, count in class_counts(val_data, difficult=False).items() if count]
    if not seen or task == "segmentation" and len(seen) == 1:
        nothing = "no object" if task == "detection" else "no labelled pixel"
        what = f'no class but "{seen[0]}"' if seen else nothing
        print(f"NOTE: {s.val_list} holds {what}, so {GOALS[task]} cannot be measured while training: "
              "best.pth will be the newest epoch.")
    check_augmentation(train_data)
    if s.class_weights == "balanced":
        weights = balanced_weights(list(class_counts(train_data).values()))
        s.put("class_weights", weights, f"balanced, from {s.train_list}")
    return train_data, val_data


def make_lists(s, task):
    """Classes file and lists, where the user named none; the built-in dataset is drawn when it is missing."""
    given = {name: getattr(s, name) for name in ("classes_path", "train_list", "val_list", "test_list")}
    if None not in given.values():
        return
    if s.dataset == SHAPES and not find(s.dataset).exists():
        print(f"Drawing the built-in dataset {SHAPES} ...")
        make_shapes(find(s.dataset))
    for name, value in current_lists(s.dataset, given, task, s.ignore_labels).items():
        if given[name] is None:
            s.put(name, value, "chosen")


def variations(s, network):
    """How the training pictures are varied: what the training data get and their validation twin does not."""
    augmentation = Augmentation(
        scale=s.scale, aspect=s.aspect, translate=s.translate, flip=s.flip, rotate=s.rotate, blur=s.blur,
        colours=s.colours, distort=s.distort, zoom_out=s.zoom_out, iou_crop=s.iou_crop,
        mosaic=s.mosaic, mixup=s.mixup,
        plain_from=s.epochs - round(s.plain_share * s.epochs))
    varied = {"augmentation": augmentation, "seed": s.seed}
    if s.small_share:
        varied |= {"small_shape": small_input(s, network), "small_until": round(s.small_share * s.epochs)}
    return varied


def first_weights(s, model, state):
    """Load what the user named, in place. -> what is to be said about the weights."""
    if state:
        return "as they were when the run stopped"
    if s.model_path:
        return load_weights(model, find(s.model_path))
    official = s.net_options.get("pretrained") or s.pretrained
    if official:
        return "official ones of " + ("the whole detector" if official == "coco" else "the backbone")
    return "random" + ("" if s.freeze_epochs else ", so nothing is frozen")


def begin_training(s, run, model, state, train_data, val_data, machine):
    """Everything that changes while training, restored when there is a saved state.

    run: the folder of a resumed run, or None.  machine: of distributed.begin. -> Training.
    """
    lists, notes = {"train": fingerprint(train_data), "val": fingerprint(val_data)}, []
    if state:
        check_same_run(state, s, train_data.class_names, run)
        notes = check_same_lists(state, s, lists, run)
    weights = first_weights(s, model, state)

    # Only now, with everything checked, does the run get its folder: mistakes leave none behind.
    run, say = open_run(s, run, state, model.task, len(train_data))
    say_what_learns(s, model, weights, train_data, val_data, notes, say)
    device = choose_device(machine, lambda text: say(text.replace("Device ", "Device      ")))
    if s.deterministic:
        make_repeatable()
    if distributed.world() > 1:
        say_shares(s, device, say)

    # Before anything that all processes share is set up: a trial step may fail in one of them alone.
    then = state["training"].get("circumstances") if state else None
    watch, now = threads.as_before(s, device, then), circumstances(device, choose_start(then))
    for text in changes(then, now):
        say(text)
    model = model.to(device, memory_format=torch.channels_last)
    precision = try_steps(s, model, train_data, device, say)
    model = distributed.sync_norms(model, device)
    if s.compile:                                           # the rest depends on the number of objects:
        model.backbone.compile()                            # it would be compiled anew each step

    # What learns, and what keeps account of it.
    full_lr = steps.scaled_lr(s.lr, s.optimizer, s.batch_size)
    say_pace(s, type(model).recipe, full_lr, precision, len(train_data), say)
    say(f"Changed     {changed(s)}\nFolder      {shown(run)}: all settings, train.log, curves, weights")
    training = Training(run, say, train_data, val_data, model,
                        average=steps.MovingAverage(model) if s.ema else None,
                        solver=steps.make_optimizer(model, s.optimizer, full_lr, s.momentum, s.weight_decay),
                        scaler=torch.amp.GradScaler(device.type, enabled=precision == torch.float16),
                        full_lr=full_lr, device=device, precision=precision,
                        workers=s.num_workers, circumstances=now, watch=watch,
                        lists=lists, board=log.open_board(run))
    if state:
        restore(state, training)
    threads.choose_first(s, training)
    training.first = training.progress.epoch

    log.attempt(say, lambda: save_image(run / "first_batches.png", batch_page(train_data, training.first)))
    tell_once(training, train_data.broken.values())
    return training


def open_run(s, run, state, task, images):
    """The folder of the run, held by this process, with its settings. -> its path, what speaks into its log.

    run: of a resumed one, else None.  images: that it learns from.
    """
    if run is None:
        run = distributed.first_says(new_folder(find(s.output), s.net) if distributed.rank() == 0 else None)
        hold_run(run)
    say = log.logger(run)
    if state:
        log.attempt(say, lambda: log.settle_epochs(run, state, MEASURES[task], images))
    log.attempt(say, lambda: log.write_settings(run, as_dict(s)))
    log.note(run, f"Settings\n{as_table(s)}")
    return run, say


def say_what_learns(s, model, weights, train_data, val_data, notes, say):
    """The network, where its weights are from, its data. weights: the words of `first_weights`.

    notes: sentences about lists that changed.
    """
    height, width = s.input_shape
    parameters = sum(p.numel() for p in model.parameters())
    say(f"Network     {s.net}, {parameters:,} parameters, {counted(len(train_data.class_names), 'class')}, "
        f"input {height} x {width}")
    say(f"Weights     {weights}")
    say(f"Training    {describe(train_data)}\nValidation  {describe(val_data)}")
    for text in notes:
        say(text)


def say_shares(s, device, say):
    """What several processes mean for a batch."""
    what = f"{distributed.world()} processes, each with its share of every batch"
    if device.type == "cuda":
        say(f"{what}.")
    else:
        say(f"{what}; on CPUs BatchNorm sees this share only (SyncBatchNorm needs GPUs), "
            "and the first process's statistics are saved.")
    if s.batch_size == distributed.world() and device.type != "cuda":
        say("NOTE: a share is a single picture, which is too little for BatchNorm, so each process takes "
            "the whole batch: several processes gain no time then. Set a larger batch_size, "
            "or train with one process.")


def changed(s):
    """What the user changed, for one line: recipe files, then the words of the command line."""
    recipes = [where for where in s.origin.values() if where.endswith(".py") and where != "train.py"]
    words = [f"{name}={getattr(s, name)!r}" for name, where in s.origin.items()
             if where == "command line" and name != "resume"]
    mine = [*dict.fromkeys(recipes), *words]
    if mine:
        return ", ".join(mine)
    return "nothing, all is as the run began" if s.resume else "nothing, all is as in train.py"


def try_steps(s, model, data, device, say):
    """A trial step of each stage: what does not fit is found now and not hours into the run.

    -> precision; s.amp and s.accumulate may change. The precision is decided once: a resumed run keeps what
    it began with, because with its other weights the trial could end differently.
    """
    # Mixed precision has to give the loss of float32 on the first pictures.
    precision = choose_precision(s.amp, device)
    if s.origin["amp"] != "resumed run" or s.amp is None:
        precision, note = accidents.check_precision(model, data, device, precision, s.seed)
        decided = str(precision).removeprefix("torch.") if precision else False
        s.put("amp", decided, "tested" if s.amp is None else s.origin["amp"])
        if note:
            say(note)

    # One step of each stage, with the batch that it will have.
    sizes = [(False, s.batch_size)] + [(True, s.freeze_batch_size)] * (s.freeze_epochs > 0)
    shares = [(frozen, distributed.share_of(batch)) for frozen, batch in sizes]
    stages = [(frozen, end - first) for frozen, (first, end) in shares]
    parts, notes = accidents.try_stages(model, data, stages, s.accumulate, device, precision, s.seed)
    for text in notes:
        say(text)
    if s.resume and parts != s.accumulate:
        say("NOTE: this run began with fewer pieces a batch: from here on its numbers can differ in their "
            "last digits from those of a run that was not interrupted.")
    s.put("accumulate", parts, s.origin["accumulate"])
    return precision


def say_pace(s, recipe, full_lr, precision, images, say):
    """Batch size, learning rate, how many steps there will be. recipe: the network's."""
    each = math.ceil(images / s.batch_size)
    why = f" (epochs follow from {s.origin['epochs']})" if "steps" in s.origin["epochs"] else ""
    say(f"Steps       {counted(each, 'step')} an epoch, each of {counted(s.batch_size, 'image')}; "
        f"about {each * s.epochs:,} in {counted(s.epochs, 'epoch')}{why}")
    kind = f"mixed precision {str(precision)[6:]}" if precision else "float32"
    say(f"Learning    {s.optimizer}, learning rate {s.lr:g} for {steps.NOMINAL_BATCH} images a step, "
        f"{full_lr:.3g} for {s.batch_size}, {kind}")

    # What works, but not as well as it could.
    total, enough = each * s.epochs, recipe["steps"]
    if not s.resume and not is_trained(s) and total < FEW * enough:
        say(f"NOTE: {counted(total, 'step')} are few for {s.net} from random weights. Its recipe has "
            f"{enough:,}, here {math.ceil(enough / each)} epochs: leave epochs at None, or begin with "
            "trained weights.")
    if s.optimizer != recipe["optimizer"] and s.lr == recipe["lr"]:
        say(f"NOTE: {s.lr:g} is the learning rate for {recipe['optimizer']}; "
            f"{s.optimizer} usually needs another one, set lr.")
    if s.batch_size == 1:
        say("NOTE: with one image a step BatchNorm sees one image at a time (and behind a global pooling, "
            "where that would be a single value, uses its running mean): it works, but 4 or more "
            "train better. The weights stay usable at any batch size.")


def set_stage(s, training):
    """Backbone frozen or not in the coming epoch, and loaders with the batch size that goes with it.

    They are made anew only where that changes.
    """
    progress, data, say = training.progress, training.train_data, training.say

    # small_share: the first epochs have a smaller input.
    if data.small_until and progress.epoch in (training.first, data.small_until):
        height, width = data.shape(progress.epoch)
        small = progress.epoch < data.small_until
        until = f"up to epoch {data.small_until} (small_share)" if small else "from now on"
        say(f"The input is {height} x {width} {until}.")

    # Training mode, or a backbone in which not a bit moves.
    frozen = progress.epoch < s.freeze_epochs
    steps.set_frozen(training.model, frozen)
    if frozen is training.frozen:
        return
    training.frozen = frozen
    if frozen:
        say("Backbone frozen: only neck and heads learn.")
    elif s.freeze_epochs:
        say("Backbone unfrozen: everything learns.")

    # The batch size is another one, so the loaders are; the old ones end their processes.
    training.step_model = distributed.wrap(training.model, training.device)
    batch_size = s.freeze_batch_size if frozen else s.batch_size
    with signals.undisturbed():
        how = {"num_workers": training.workers, "device": training.device,
               "start": training.circumstances["start"]}
        training.loader = make_loader(data, batch_size, seed=s.seed, **how)
        training.val_loader = make_loader(training.val_data, 2 * s.batch_size, **how)
