"""The networks. `NETS` is the whole list: the name a user writes -> the class, in the order the papers
build on each other.
"""
import contextlib
import inspect
import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from nets.bisenetv2 import BiSeNetV2
from nets.centernet import CenterNet
from nets.contract import Network
from nets.deeplabv3 import DeepLabV3
from nets.deeplabv3plus import DeepLabV3Plus
from nets.detr import DETR
from nets.efficientdet import EfficientDet
from nets.faster_rcnn import FasterRCNN
from nets.fcn import FCN
from nets.hrnet import HRNetSegmenter
from nets.lraspp import LRASPP
from nets.pidnet import PIDNet
from nets.pspnet import PSPNet
from nets.retinanet import RetinaNet
from nets.rtdetr import RTDETR
from nets.segformer import SegFormer
from nets.ssd import SSD300, SSD512
from nets.ssdlite import SSDLite320
from nets.unet import UNet
from nets.yolo11 import YOLO11
from nets.yolov3 import YOLOv3
from nets.yolov4 import YOLOv4
from nets.yolov4_tiny import YOLOv4Tiny
from nets.yolov8 import YOLOv8
from nets.yolox import YOLOX
from utils.checkpoint import is_darknet, read_checkpoint
from utils.errors import UserError, did_you_mean
from utils.images import nearest_shape, stride_of
from utils.lists import read_classes
from utils.metadata import check_metadata
from utils.settings import ROOT, AnyPath, brief, printable, shown
from utils.weights import load_weights, not_finite

Device = str | torch.device
NETS: dict[str, type[Network]] = {
    "yolov3": YOLOv3,
    "yolov4": YOLOv4,
    "yolov4_tiny": YOLOv4Tiny,
    "yolox": YOLOX,
    "yolov8": YOLOv8,
    "yolo11": YOLO11,
    "ssd300": SSD300,
    "ssd512": SSD512,
    "ssdlite320_mobilenet_v3": SSDLite320,
    "faster_rcnn": FasterRCNN,
    "retinanet": RetinaNet,
    "centernet": CenterNet,
    "efficientdet": EfficientDet,
    "detr": DETR,
    "rtdetr": RTDETR,
    "fcn": FCN,
    "unet": UNet,
    "pspnet": PSPNet,
    "deeplabv3": DeepLabV3,
    "deeplabv3plus": DeepLabV3Plus,
    "lraspp": LRASPP,
    "segformer": SegFormer,
    "hrnet": HRNetSegmenter,
    "bisenetv2": BiSeNetV2,
    "pidnet": PIDNet,
}

MOST_PIXELS = 4096 * 4096       # of an input: no file and no slip of the keyboard decides over the memory

# What the checkpoints of train.py hold, and other files do not.
OURS = {"net", "options", "class_names", "input_shape", "model"}


def find_net(name: str) -> type[Network]:
    """The class of a network; an unknown name is an error that lists the known ones."""
    if name not in NETS:
        raise UserError(f'There is no network "{name}".{did_you_mean(name, NETS)} Known: {", ".join(NETS)}.')
    return NETS[name]


def build(name: str, num_classes: int, input_shape: Sequence[int] | None = None, **options: Any) -> Network:
    """A network with random weights, in training mode.

    name: a key of NETS.  num_classes: see the contract (foreground classes in detection).
    input_shape: (H, W) px, default the recipe's.  options: the network's own, see its constructor.
    """
    network = find_net(name)

    # The input must have a size that the strides of the network divide.
    input_shape = tuple(input_shape or network.recipe["input_shape"])
    if len(input_shape) != 2:
        raise UserError(f"input_shape={input_shape}: expected height and width, like (416, 416).")
    positive = all(isinstance(side, int) and side > 0 for side in input_shape)
    if not positive or math.prod(input_shape) > MOST_PIXELS:
        raise UserError(f"input_shape={brief(input_shape)}: expected height and width of together at most "
                        f"{MOST_PIXELS / 1e6:.0f} million pixels.")
    near = nearest_shape(network, input_shape, options)
    if near != input_shape:
        least = f", at least {network.smallest}" if hasattr(network, "smallest") else ""
        raise UserError(f"input_shape={input_shape}: {name} needs a height and width divisible by "
                        f"{stride_of(network, options)}{least}. The nearest is {near}.")

    # Values that no network can make sense of.
    if num_classes < 1:
        raise UserError(f"{name} needs at least one class, got {num_classes}. Is the classes file empty?")
    if options.get("pretrained") not in (None, False, True, "coco"):
        raise UserError(f'pretrained={options["pretrained"]!r}: True is for the weights of the backbone, '
                        '"coco" for a whole detector. A file of your own is model_path.')

    # Asked of the signature, so that an error inside the network is not blamed on the options.
    try:
        inspect.signature(network).bind(num_classes, input_shape, **options)
    except TypeError as error:
        known = list(inspect.signature(network).parameters)[2:]
        raise UserError(f"{name} does not take these options: {options} ({error}). "
                        f"It knows: {', '.join(known)}.") from None
    return network(num_classes, input_shape, **options)


def try_to_build(name: str, input_shape: Sequence[int], **options: Any) -> None:
    """Error: the network cannot be built so. It is tried without memory (on the device "meta"), which takes
    no time. Official weights that the options ask for are fetched here.
    """
    # One for each class, and how many classes there are is not known yet.
    if "class_weights" in options:
        options["class_weights"] = None

    # The warnings say that weights are not copied into a tensor without memory.
    with torch.device("meta"), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        build(name, 2, input_shape, **options)


def load(path: AnyPath, device: Device = "cpu", net: str = "",
         options: dict[str, Any] | None = None) -> tuple[Network, dict[str, Any]]:
    """A trained network, in eval mode: from a checkpoint of train.py, or the official weights of the
    network called `net`.

    net, options: only for official weights, which do not say what they belong to.
    -> model, info: dict with net, class_names, input_shape (H, W), settings, epoch.
    """
    # Without what train.py writes beside the weights it is somebody else's file.
    checkpoint = None if is_darknet(Path(path)) else read_checkpoint(path)
    if not isinstance(checkpoint, dict) or not OURS.issubset(checkpoint):
        return load_official(path, device, net, options or {})

    check_metadata(checkpoint, path)
    if net and net != checkpoint["net"]:
        raise UserError(f'{shown(path)} holds the network "{checkpoint["net"]}", not "{net}".')
    find_net(checkpoint["net"])

    # Tried without memory first: what the file says decides how large the network is.
    try:
        with torch.device("meta"):
            rebuild(checkpoint).load_state_dict(checkpoint["model"], assign=True)
        model = rebuild(checkpoint)
        model.load_state_dict(checkpoint["model"])
    except UserError as error:
        raise UserError(f"{shown(path)}: {error}") from None
    except Exception as error:                          # options of any kind can fail anywhere
        lines = str(error).splitlines() or [type(error).__name__]
        reason = lines[min(1, len(lines) - 1)].strip()  # PyTorch's first line is only a title
        raise UserError(f"{shown(path)} does not fit nets/{checkpoint['net']}.py as it is now "
                        f"({printable(reason[:200])}). "
                        "Was the network changed since that training? "
                        "More: docs/en/faq.md#changed-net") from None
    if ruined := not_finite(checkpoint["model"]):
        print(f"NOTE: {shown(path)}: {ruined}. What it says means nothing: "
              "use an earlier checkpoint.")

    # What else the file holds, but for the weights and the state of the training.
    info = {key: value for key, value in checkpoint.items() if key not in ("model", "training")}
    return model.to(device).eval(), info


def rebuild(checkpoint: dict[str, Any]) -> Network:
    """The network of a checkpoint, with random weights."""
    options = {name: value for name, value in checkpoint["options"].items() if name != "pretrained"}
    return build(checkpoint["net"], len(checkpoint["class_names"]), checkpoint["input_shape"], **options)


def load_official(path: AnyPath, device: Device, net: str,
                  options: dict[str, Any]) -> tuple[Network, dict[str, Any]]:
    """The weights that a network's authors (or torchvision) published, with the classes they were trained on.

    The arguments and the result: see `load`.
    """
    # Which network: the file does not say.
    if not net:
        known = ", ".join(name for name, network in NETS.items() if hasattr(network, "official"))
        raise UserError(f"{shown(path)} holds bare weights: no network name, no classes. "
                        f"Say which network it is, like net=ssd300 ({known}), or give it to train.py as "
                        "model_path; what train.py saves (best.pth) can be used as it is.")
    network = find_net(net)
    if not hasattr(network, "official"):
        raise UserError(f"There are no official weights of {net} with a trained head: "
                        f"give {shown(path)} to train.py as model_path.")

    # The network as its authors trained it.
    names = read_classes(ROOT / f"model_data/{network.official['classes']}_classes.txt")
    options = network.official.get("options", {}) | options
    input_shape = network.official.get("input_shape", network.recipe["input_shape"])
    model = build(net, len(names), nearest_shape(network, input_shape, options), **options)
    # Every weight must have been in the file: one from scratch makes all results meaningless.
    report = load_weights(model, path)
    if report.different or report.missing:
        raise UserError(f"{report}\nThese are not the official weights of {net} for {len(names)} classes, "
                        "so its results would mean nothing. Give the file to train.py as model_path, "
                        "and use the best.pth of that training.")

    fit = network.official.get("fit", network.recipe.get("fit", "letterbox"))
    settings = {"fit": fit, "value_range": None}
    info = {"net": net, "options": options, "class_names": names, "input_shape": input_shape,
            "settings": settings, "epoch": None}
    return model.to(device).eval(), info
