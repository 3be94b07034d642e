"""What a training is going to do, before any data is touched.

Every setting is checked, and those that are None get their values.
"""
from utils.checks.prepare import tasks_of
from utils.depth import is_range
from utils.errors import NoWeights, UserError
from utils.images import check_fit, nearest_shape, stride_of
from utils.lists import list_lines, read_classes
from utils.settings import (
    check,
    fill,
    find,
    keep_in,
    number,
    one_of,
    optional,
    several,
    text,
    whole,
    yes_or_no,
)
from utils.system import distributed
from utils.system.device import choose_device
from utils.system.download import in_time
from utils.system.files import writable_folder
from utils.weights import check_weights

SHAPES, SHAPES_INPUT = "VOCdevkit/Shapes", (224, 224)       # the built-in dataset, and a size quick to learn
FOR_SHAPES = "chosen for Shapes"                            # where a setting came from
NET_OF_SHAPES = "yolov8"                                    # net=None, see docs/en/training.md for the tables
NET_OF = {"detection": "yolov4_tiny", "segmentation": "deeplabv3plus"}
PATIENCE = 120                                              # seconds for weights that nobody asked for
FEWEST, MOST = 10, 300                                      # epochs, when they follow from a number of steps
OPTIMIZERS, SCHEDULES = ("sgd", "adam", "adamw"), ("cosine", "poly", "step", "constant")
FOREIGN = {"detection": {"loss": None, "class_weights": None, "binary_sigmoid": False, "ignore_labels": []},
           "segmentation": {"mixup": 0.0, "zoom_out": 0.0, "iou_crop": 0.0, "fit": "letterbox"}}


def choose_net(s, state=None):
    """net, where it is None: the one that learned most of the built-in set, or of a few pictures.

    state: what a resumed run saved, or None.
    -> its name, which s gets too.  Weights that train.py saved say theirs; a dataset that has masks only asks
    for a segmenter.  Error: weights to begin with that cannot be read.
    """
    begins = s.model_path and not state                     # a resumed run has its weights already
    saved = check_weights(find(s.model_path)) if begins else None
    if s.net is None and saved:
        s.put("net", saved, f"that of {s.model_path}")
    elif s.net is None and is_built_in(s):
        s.put("net", NET_OF_SHAPES, FOR_SHAPES)
    elif s.net is None:
        task = task_of(s)
        s.put("net", NET_OF[task], f"chosen for your own data, {task}")
    return s.net


def is_built_in(s):
    """Whether it learns from Shapes as they are drawn."""
    return s.dataset == SHAPES and s.train_list is None


def task_of(s):
    """What there is to learn: the lines of a list of masks have a tab, a dataset is asked for its labels."""
    if s.train_list is not None:
        _, first = list_lines(s.train_list)[0]
        return "segmentation" if "\t" in first else "detection"
    try:
        return tasks_of(s.dataset, say=lambda *_: None)[0]
    except (UserError, OSError):                            # the data check says what is wrong with it
        return "detection"


def complete(s, network, state=None, try_to_build=None):
    """Give every setting that is None its value and check them all.

    Two follow from the number of images, see `choose_epochs`.
    s: the settings of train.py, changed in place.  network: its class.
    state: what a resumed run saved, or None.  try_to_build: nets.try_to_build; None: neither is the network
    tried nor are weights fetched that nobody asked for.
    Errors: what would fail only later.
    """
    # What is None takes what suits the built-in set, where that is used, else what the network's recipe says.
    if is_built_in(s):
        fill(s, on_shapes(s, network), FOR_SHAPES)
    fill(s, network.recipe, f"recipe of {s.net}")

    # A mistake ends here, with a sentence.
    check_values(s)
    check_files(s)
    keep_in(writable_folder(s.output))
    choose_device(s.device, say=lambda *_: None)
    say_foreign(s, network.task)
    if try_to_build:
        try_to_build(s.net, s.input_shape, **build_options(s, network, state))
        choose_weights(s, network, state, try_to_build)

    # What follows from the others.
    if s.freeze_batch_size is None:
        s.put("freeze_batch_size", 2 * s.batch_size, "chosen")
    if s.origin["backbone_lr"].startswith("recipe") and not is_trained(s):
        s.put("backbone_lr", 1.0, "chosen")                 # nothing in it is worth keeping yet
    if s.origin["small_share"] == FOR_SHAPES and smaller_input(s, network) == tuple(s.input_shape):
        s.put("small_share", 0.0, "chosen")                 # the user only set a small input
    small_input(s, network)


def check_values(s):
    """Error: a value that no training can work with."""
    share = number(0, 1)
    check(s,
          # which files
          classes_path=optional(text()), train_list=optional(text()), val_list=optional(text()),
          test_list=optional(text()), output=text(),
          # how long, how much at once
          epochs=optional(whole(1)), freeze_epochs=optional(whole(0)), patience=whole(0), eval_every=whole(1),
          batch_size=whole(1), freeze_batch_size=optional(whole(1)), accumulate=whole(1),
          input_shape=several(2, whole(1)), small_share=number(0, 0.9),
          # how the weights change
          optimizer=one_of(OPTIMIZERS), momentum=share, weight_decay=number(0),
          schedule=one_of(SCHEDULES), lr=number(0), min_lr=share, backbone_lr=number(0),
          warmup_epochs=number(0), clip_norm=number(0), ema=yes_or_no(),
          # how the pictures are varied
          scale=several(2, number(0.01)), aspect=number(0), translate=number(0), flip=share,
          rotate=number(0, 180), blur=share, colours=several(3, share), distort=share,
          zoom_out=share, iou_crop=share, mosaic=share, mixup=share, plain_share=share,
          # the data, segmentation
          value_range=value_range(),
          threshold=share, binary_sigmoid=yes_or_no(), class_weights=class_weights(), ignore_labels=labels(),
          # the machine
          amp=one_of((None, True, False, "bfloat16", "float16")), compile=yes_or_no(),
          deterministic=yes_or_no(), num_workers=optional(whole(0, 512)), save_minutes=number(0),
          cache=yes_or_no(), seed=whole(0))
    check_fit(s.fit)

    # Every process takes its share of a batch.
    if s.batch_size % distributed.world() or (s.freeze_batch_size or 0) % distributed.world():
        raise UserError(f"batch_size={s.batch_size} and freeze_batch_size={s.freeze_batch_size} "
                        f"must be divisible by the number of processes, {distributed.world()}: "
                        "each takes its share of a batch.")


def class_weights():
    """A rule for `check`."""
    def good(value):
        if isinstance(value, (list, tuple)):
            return all(number(0)[0](one) for one in value)
        return value in (None, "balanced")
    return good, 'None, "balanced", or a number per class, like [0.5, 1, 2]'


def value_range():
    """A rule for `check`."""
    return is_range, "None, or rising numbers, like (0, 4095)"


def labels():
    """A rule for `check`."""
    def good(value):
        return isinstance(value, (list, tuple)) and all(whole(0)[0](one) and one <= 255 for one in value)
    return good, "whole numbers from 0 to 255, like [0]"


def check_files(s):
    """Error: a file that the user names and that is not there, or not what it should be."""
    if s.classes_path:
        read_classes(find(s.classes_path))
    for path in filter(None, (s.train_list, s.val_list)):
        list_lines(path)


def say_foreign(s, task):
    """Name the settings that were changed and have no effect on a network for this task."""
    for name, value in FOREIGN[task].items():
        if getattr(s, name) != value:
            print(f"NOTE: {name}={getattr(s, name)!r} has no effect on {s.net} ({task}).")


def on_shapes(s, network):
    """What suits the built-in dataset better than the recipe -> dict name -> value.

    A smaller input, where the network can have it; from random weights also what the network's `shapes` says.
    """
    values = {}
    if nearest_shape(network, SHAPES_INPUT, s.net_options) == SHAPES_INPUT:
        values["input_shape"] = SHAPES_INPUT
    if not is_trained(s):
        values |= getattr(network, "shapes", {})
    return values


def choose_weights(s, network, state, try_to_build):
    """pretrained, where it is None: whether a network begins from official weights.

    On a user's own data it does, if there are some for it that are free to use, and they lie in model_data/
    or arrive in time. Few pictures teach a network that has seen a million others far more.
    """
    if s.pretrained is not None:
        return
    s.put("pretrained", False, "chosen")
    if state or is_built_in(s) or is_trained(s) or "pretrained" in s.net_options:
        return

    # Of several processes the first one fetches, and all of them do as it did.
    fetched = distributed.rank() == 0 and fetch_weights(s, network, try_to_build)
    if distributed.first_says(fetched):
        s.put("pretrained", True, "official weights, free to use")


def fetch_weights(s, network, try_to_build):
    """-> whether the network could be built with official weights. A refusal costs nothing but a sentence."""
    try:
        with in_time(PATIENCE):
            try_to_build(s.net, s.input_shape, **build_options(s, network, None) | {"pretrained": True})
    except NoWeights as reason:
        print(f"NOTE: {s.net} begins from random weights. {reason}")
        return False
    return True


def is_trained(s):
    """Whether the backbone, at least, begins with trained weights."""
    return bool(s.model_path or s.pretrained or s.net_options.get("pretrained"))


def choose_epochs(s, network, images):
    """epochs and freeze_epochs, where they are None. images: how many there are to learn from.

    The recipe names a number of steps, for that is what learning takes: few images are seen more often.
    """
    if s.epochs is None:
        steps = network.recipe["steps"]
        epochs = min(max(round(steps * s.batch_size / images), FEWEST), MOST)
        limited = "" if FEWEST < epochs < MOST else f", but {FEWEST} to {MOST} epochs"
        s.put("epochs", epochs, f"{steps:,} steps{limited}")
    if s.freeze_epochs is None:
        s.put("freeze_epochs", s.epochs // 5 if is_trained(s) else 0, "chosen")


def small_input(s, network):
    """The (H, W) of the first epochs when small_share is set, else None.

    Error: the network should not have a smaller input.
    """
    if not s.small_share:
        return None
    half = smaller_input(s, network)
    if half == tuple(s.input_shape):
        raise UserError(f"small_share={s.small_share}: {s.net} should not have a smaller input "
                        f"than {half[0]} x {half[1]}. Set it to 0.")
    return half


def smaller_input(s, network):
    """About half the input; the input itself where it should not be smaller."""
    # At least two cells: BatchNorm needs more than one value, even of a single picture.
    least = 2 * stride_of(network, s.net_options)
    sides = [min(side, max(side / 2, least)) for side in s.input_shape]
    return nearest_shape(network, sides, s.net_options)


def network_options(s, task):
    """What the network is built with; travels in the checkpoint."""
    options = {name: value for name, value in s.net_options.items() if name != "pretrained"}
    if task == "segmentation":
        options |= {"loss": s.loss, "class_weights": s.class_weights, "sigmoid": s.binary_sigmoid}
    return options


def build_options(s, network, state):
    """The arguments of nets.build.

    Of a resumed run what it was built with; of a new one also whether official weights are fetched.
    """
    options = (state["options"] if state else {}) | network_options(s, network.task)
    fetch = not state and not s.model_path and (s.net_options.get("pretrained") or s.pretrained)
    return options | ({"pretrained": fetch} if fetch else {})
