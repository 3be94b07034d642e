"""The networks. `NETS` is the whole list: the name a user writes -> the class, in the order the papers build on each other."""
import inspect

from nets.deeplabv3 import DeepLabV3
from nets.deeplabv3plus import DeepLabV3Plus
from nets.pspnet import PSPNet
from nets.unet import UNet
from nets.yolov4_tiny import YOLOv4Tiny
from utils.checkpoint import read_checkpoint
from utils.errors import UserError, did_you_mean
from utils.settings import shown

NETS = {
    "yolov4_tiny": YOLOv4Tiny,
    "unet": UNet,
    "pspnet": PSPNet,
    "deeplabv3": DeepLabV3,
    "deeplabv3plus": DeepLabV3Plus,
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
    input_shape = tuple(input_shape or network.recipe["input_shape"])
    if len(input_shape) != 2:
        raise UserError(f"input_shape={input_shape}: expected height and width, like (416, 416).")
    height, width = input_shape
    step = options.get("downsample_factor", network.stride)
    if height % step or width % step or min(height, width) < step:
        near = tuple(max(step, round(side / step) * step) for side in input_shape)
        raise UserError(f"input_shape={input_shape}: {name} needs height and width that divide by {step}. The nearest is {near}.")
    if num_classes < 1:
        raise UserError(f"{name} needs at least one class, got {num_classes}. Is the classes file empty?")
    try:
        inspect.signature(network).bind(num_classes, input_shape, **options)
    except TypeError as error:
        known = list(inspect.signature(network).parameters)[2:]
        raise UserError(f"{name} does not take these options: {options} ({error}). It knows: {', '.join(known)}.") from None
    return network(num_classes, input_shape, **options)


def load(path, device="cpu"):
    """A trained network from a checkpoint of train.py, in eval mode.

    -> model, info: dict with net, class_names, input_shape (H, W), settings, epoch.
    """
    checkpoint = read_checkpoint(path)
    if not isinstance(checkpoint, dict) or not {"net", "options", "class_names", "input_shape", "model"} <= checkpoint.keys():
        raise UserError(f"{shown(path)} holds bare weights: no network name, no classes. "
                        "Give it to train.py as model_path; what train.py saves (best.pth) can be used here.")
    model = build(checkpoint["net"], len(checkpoint["class_names"]), checkpoint["input_shape"], **checkpoint["options"])
    try:
        model.load_state_dict(checkpoint["model"])
    except RuntimeError as error:
        raise UserError(f"{shown(path)} does not fit nets/{checkpoint['net']}.py as it is now ({str(error).splitlines()[1].strip()}). "
                        "Was the network changed since that training?") from None
    return model.to(device).eval(), {k: v for k, v in checkpoint.items() if k not in ("model", "training")}
