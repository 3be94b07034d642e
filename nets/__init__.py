"""The networks. `NETS` is the whole list: the name a user writes -> the class, in the order the papers build on each other."""
from nets.yolov4_tiny import YOLOv4Tiny
from utils.checkpoint import read_checkpoint
from utils.errors import UserError, did_you_mean

NETS = {
    "yolov4_tiny": YOLOv4Tiny,
}


def find_net(name):
    """The class of a network; an unknown name is an error that lists the known ones."""
    if name not in NETS:
        raise UserError(f'There is no network "{name}".{did_you_mean(name, NETS)} Known: {", ".join(NETS)}.')
    return NETS[name]


def build(name, num_classes, input_shape=None, **options):
    """A network with random weights, in training mode.

    name: a key of NETS.  num_classes: see the contract (foreground classes in detection).
    input_shape: (H, W) px, default the recipe's.  options: the network's own, see its constructor.
    """
    network = find_net(name)
    height, width = input_shape = tuple(input_shape or network.recipe["input_shape"])
    step = network.stride
    if height % step or width % step or min(height, width) < step:
        near = tuple(max(step, round(side / step) * step) for side in input_shape)
        raise UserError(f"input_shape={input_shape}: {name} needs height and width that divide by {step}. The nearest is {near}.")
    if num_classes < 1:
        raise UserError(f"{name} needs at least one class, got {num_classes}. Is the classes file empty?")
    try:
        return network(num_classes, input_shape, **options)
    except TypeError as error:
        raise UserError(f"{name} does not take these options: {options} ({error}).") from None


def load(path, device="cpu"):
    """A trained network from a checkpoint of train.py, in eval mode.

    -> model, info: dict with net, class_names, input_shape (H, W), settings, epoch.
    """
    checkpoint = read_checkpoint(path)
    if "class_names" not in checkpoint:
        raise UserError(f"{path} holds bare weights: no network name, no classes. "
                        "Give it to train.py as model_path; what train.py saves (best.pth) can be used here.")
    model = build(checkpoint["net"], len(checkpoint["class_names"]), checkpoint["input_shape"], **checkpoint["options"])
    model.load_state_dict(checkpoint["model"])
    return model.to(device).eval(), {k: v for k, v in checkpoint.items() if k not in ("model", "optimizer", "ema")}
