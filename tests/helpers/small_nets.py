"""Every network at a size that a test can afford, and targets for it: for the tests over all networks."""
import functools

import pytest
import torch

import nets
from nets.backbones.resnet import BasicBlock, ResNet
from nets.backbones.resnet_vd import ResNetVD
from nets.backbones.vgg import VGG

# the smallest backbone, where another is the default; the networks' own tests try all of them
OPTIONS = {"deeplabv3": {"backbone": "mobilenet_v3_large"}, "pspnet": {"backbone": "mobilenet_v2"},
           "fcn": {"backbone": "mobilenet_v3_large"},
           "faster_rcnn": {"proposals": (100, 50), "samples": 32}, "yolox": {"size": "nano"},
           "detr": {"queries": 20, "layers": 1}, "rtdetr": {"queries": 20}}
SHAPES = {"ssd300": (268, 300), "ssd512": (268, 300)}       # of the input, where (64, 96) is too small
DETECTORS = [name for name, network in nets.NETS.items() if network.task == "detection"]
SEGMENTERS = [name for name, network in nets.NETS.items() if network.task == "segmentation"]

# They train by the same code as yolov3, ssd300, deeplabv3 (all segmenters), yolov8, retinanet and detr.
LIKE_ANOTHER = ("yolov4", "ssd512", "fcn", "yolo11", "efficientdet", "rtdetr", "hrnet", "bisenetv2", "pidnet")


def every_day(names):
    """The parameters of a test over all networks that takes long: those like another one wait for the slow tier."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in LIKE_ANOTHER else name for name in names]


# SSD cannot take a small input, and the whole VGG costs a second an image there: an eighth of its channels
thin_vgg = functools.partial(VGG, ((8, 8), (16, 16), (32, 32, 32), (64, 64, 64), (64, 64, 64)))


def thin_resnet(name, downsample_factor=32, pretrained=False, norm=torch.nn.BatchNorm2d):
    """One block a stage and an eighth of the channels, for networks of which only the rest is new."""
    return ResNet((1, 1, 1, 1), downsample_factor, norm=norm, block=BasicBlock, widths=(8, 16, 32, 64))


def thin_resnet_vd(name, norm=torch.nn.BatchNorm2d):
    return ResNetVD((1, 1, 1, 1), True, norm, widths=(8, 16, 32, 64))


THIN = {"nets.ssd.VGG": thin_vgg, "nets.detr.resnet": thin_resnet, "nets.rtdetr.resnet_vd": thin_resnet_vd,
        "nets.rtdetr.DENOISING": 20,
        "nets.efficientdet.SIZES": {"d0": ("b0", 16, 2, 1, True, 4, 512, ""), "d6": ("b0", 16, 1, 1, False, 4, 512, "")},
        "nets.centernet.resnet": thin_resnet, "nets.centernet.WIDTHS": (32, 32, 32),
        "nets.backbones.hrnet.MODULES": (1, 1, 1), "nets.backbones.hrnet.BLOCKS": 1,
        "nets.centernet.DEVIATION": 0.1}                            # else the maps are flat at first, and rounding decides what is a peak


def make_thin(monkeypatch, but=" "):
    """Thin parts, where the options of a network have none that a test can afford.  but: this file stays as it is."""
    for place, thing in THIN.items():
        if not place.startswith(but):
            monkeypatch.setattr(place, thing)


def small(name, num_classes=3):
    """A network on a small, non-square input. -> the network, (H, W)."""
    torch.manual_seed(0)
    shape = SHAPES.get(name, (64, 96))
    return nets.build(name, num_classes, shape, **OPTIONS.get(name, {})), shape


def make_targets(task, shape, *counts, seed=1):
    """One target per image: that many objects, or a mask with so many labelled rows; 0: nothing."""
    torch.manual_seed(seed)
    found = []
    for count in counts:
        if task == "segmentation":
            mask = torch.full(shape, 255)
            mask[:count] = torch.arange(shape[1]) * 3 // shape[1]           # three upright stripes
            found.append({"mask": mask})
            continue
        corners = torch.rand(count, 2) * torch.tensor([shape[1] * 0.5, shape[0] * 0.5])
        sizes = 8 + torch.rand(count, 2) * torch.tensor([shape[1] * 0.4, shape[0] * 0.4])
        boxes = torch.cat([corners, corners + sizes], 1)
        found.append({"boxes": boxes, "labels": torch.randint(0, 3, (count,))})
    return found
