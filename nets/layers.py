"""Layers that several networks share, and what their recipes share."""
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)                   # of RGB 0-1, as torchvision's backbones were trained
IMAGENET_STD = (0.229, 0.224, 0.225)

# A `recipe` in a network's file holds the defaults for a user's own data, chosen by measurement. "steps" is
# how many optimizer steps a training takes: train.py derives the epochs from it and the number of images.
# `shapes`, where a network has it, is what differs for the built-in dataset. The papers' own schedules, with
# the figures they aim at, are in recipes/*.py.

# What the segmenters' recipes share. Pictures vary as in DeepLab and PSPNet: random scale 0.5 to 2, and crop.
SEGMENTATION_RECIPE = {
    "input_shape": (512, 512), "fit": "letterbox", "steps": 1300, "batch_size": 4,
    "optimizer": "adamw", "lr": 0.004, "momentum": 0.9, "weight_decay": 1e-2,
    "warmup_epochs": 1.0, "schedule": "poly", "backbone_lr": 0.1,
    "scale": (0.5, 1.5), "aspect": 0.0, "translate": 0.0, "small_share": 0.0,
    "colours": (0.015, 0.7, 0.4), "rotate": 0.0, "blur": 0.0, "mosaic": 0.0, "mixup": 0.0,
    "distort": 0.0, "zoom_out": 0.0, "iou_crop": 0.0}

# What the detectors' recipes share. SSD, RetinaNet and Faster R-CNN vary the pictures in their own way.
DETECTION_RECIPE = {
    "fit": "letterbox", "steps": 1500, "batch_size": 8,
    "optimizer": "adamw", "momentum": 0.9, "weight_decay": 5e-4,
    "warmup_epochs": 1.0, "schedule": "cosine", "backbone_lr": 1.0,
    "scale": (0.5, 1.5), "aspect": 0.3, "translate": 0.1, "small_share": 0.0,
    "colours": (0.015, 0.7, 0.4), "rotate": 0.0, "blur": 0.0, "mosaic": 0.5, "mixup": 0.0,
    "distort": 0.0, "zoom_out": 0.0, "iou_crop": 0.0}


def normalise(images, mean=IMAGENET_MEAN, std=IMAGENET_STD):
    """(B, 3, H, W) RGB 0-1 -> the same shape with about mean 0 and deviation 1, as ImageNet weights expect
    it.
    """
    mean, std = (torch.tensor(values, device=images.device, dtype=images.dtype) for values in (mean, std))      # (3,), (3,)
    return (images - mean[:, None, None]) / std[:, None, None]                  # (B, 3, H, W)


def enlarge(x, like):
    """Bilinear, to the height and width of `like`. x: (B, C, m, n), like: (B, D, h, w) -> (B, C, h, w)."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)          # (B, C, h, w)


class Depthwise(nn.Conv2d):
    """A convolution in each channel by itself: cheap. It mixes no channels; the 1x1 next to it does.

    On a CPU it stays in float32 when the rest is in bfloat16: with a stride or a dilation oneDNN (torch
    2.15) takes up to thirty times as long for the gradient in bfloat16, and on a map a single cell wide it
    never writes the gradient of the weights, which then holds whatever was in the memory before.
    """

    def __init__(self, channels, kernel=3, stride=1, dilation=1, bias=False, times=1):
        """times: so many channels are made of each."""
        super().__init__(channels, times * channels, kernel, stride, padding=kernel // 2 * dilation,
                         dilation=dilation, groups=channels, bias=bias)

    def forward(self, x):
        """x: (B, C, m, n) -> (B, C, h, w), with h = m / stride, rounded up."""
        if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(x)                                           # (B, C, h, w)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float()).to(x.dtype)


def with_depthwise(network):
    """Turns the plain depthwise convolutions of a ready-made network into Depthwise, in place: the same
    weights, the same results. -> the network.
    """
    for layer in network.modules():
        if type(layer) is nn.Conv2d and layer.groups == layer.in_channels > 1:
            layer.__class__ = Depthwise
    return network


def conv_norm_act(c_in, c_out, kernel, stride=1, act=None, norm=nn.BatchNorm2d, depthwise=False):
    """Convolution without bias, normalisation, activation (LeakyReLU unless said otherwise); an odd kernel
    keeps h, w (or halves them at stride 2).
    """
    if depthwise:
        conv = Depthwise(c_in, kernel, stride)
    else:
        conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=norm(c_out), act=act or nn.LeakyReLU(0.1, inplace=True)))


def pyramid_pool(x):
    """Spatial pyramid pooling as the YOLOs use it: the largest values within 5x5, 9x9 and 13x13 cells of
    every cell.

    x: (B, C, h, w) -> x and its three poolings, (B, C, h, w) each.
    Source: YOLOv4, section 3.4, after arXiv 1406.4729.
    """
    # The largest of the 5x5 of all cells within 5x5 is that within 9x9: small poolings are enough.
    within5 = F.max_pool2d(x, 5, 1, padding=2)                                  # (B, C, h, w)
    within9 = F.max_pool2d(within5, 5, 1, padding=2)                            # (B, C, h, w)
    within13 = F.max_pool2d(within9, 5, 1, padding=2)                           # (B, C, h, w)
    return [x, within5, within9, within13]                                      # (B, C, h, w) each


class PooledBatchNorm(nn.BatchNorm2d):
    """BatchNorm behind a global pooling, where a batch of one image leaves one value per channel and no
    statistics.

    Then, and only then, it normalises with its running statistics, as in evaluation; they stay as they are.
    """

    def forward(self, x):
        """x: (B, C, h, w) -> (B, C, h, w)."""
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)                                               # (B, C, h, w)


class FPN(nn.Module):
    """Feature pyramid: every map gets as many channels and, from the coarser maps above it, what they know.

    Source: Feature Pyramid Networks, arXiv 1612.03144, section 3.
    """

    def __init__(self, channels, c_out=256):
        """channels: of the maps that come in, fine to coarse."""
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, c_out, 1) for c in channels)
        self.smooth = nn.ModuleList(nn.Conv2d(c_out, c_out, 3, padding=1) for _ in channels)
        for conv in (*self.lateral, *self.smooth):
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)

    def forward(self, maps):
        """maps: fine to coarse, (B, C, h, w) each -> as many maps of the same sizes, (B, c_out, h, w)."""
        # From the coarsest to the finest: each map adds the one above it, enlarged to its own size.
        merged, found = None, []
        for x, lateral, smooth in zip(maps[::-1], self.lateral[::-1], self.smooth[::-1]):
            x = lateral(x)                                                      # (B, 256, h, w)
            if merged is None:
                merged = x                                                      # (B, 256, h, w)
            else:
                merged = x + F.interpolate(merged, x.shape[2:])                 # (B, 256, h, w)

            # A 3x3 smooths the steps that enlarging leaves.
            out = smooth(merged)                                                # (B, 256, h, w)
            found.append(out)
        return found[::-1]                                                      # (B, 256, h, w) each


def make_cell_anchors(sizes, ratios):
    """The anchors of a cell at 0, 0, their corners rounded to whole px. -> (M, A, 4) xyxy px: for every
    ratio all sizes.

    sizes: for each of M maps, S of them: root of the area, px.  ratios: R times height / width.  A = R*S.
    """
    sizes = torch.tensor(sizes, dtype=torch.float32)                            # (M, S)
    stretch = torch.tensor(ratios).sqrt()                                       # (R,)

    # Height / width is the ratio and width * height the size squared: one is stretched as the other shrinks.
    widths = 1 / stretch[:, None] * sizes[:, None]                              # (M, R, S)
    heights = stretch[:, None] * sizes[:, None]                                 # (M, R, S)
    far = torch.stack([widths, heights], -1).flatten(1, 2) / 2                  # (M, R*S, 2)
    return torch.cat([-far, far], -1).round()                                   # (M, R*S, 4)


def grid_anchors(cell_anchors, maps, strides):
    """The anchors of every cell of every map. -> list of (h*w*A, 4) xyxy px, in the order row, column,
    anchor.

    cell_anchors: per map (A, 4) xyxy px around 0, 0.  maps: per map (h, w).  strides: per map (down,
    across) px.
    """
    levels = []
    for cell, (h, w), (down, across) in zip(cell_anchors, maps, strides):
        y = torch.arange(h, device=cell.device) * down                          # (h,)
        x = torch.arange(w, device=cell.device) * across                        # (w,)
        y, x = torch.meshgrid(y, x, indexing="ij")                              # (h, w), (h, w)
        corners = torch.stack([x, y, x, y], -1).view(-1, 1, 4)                  # (h*w, 1, 4)
        anchors = (corners + cell).view(-1, 4)                                  # (h*w*A, 4)
        levels.append(anchors)
    return levels                                                               # (M, 4) each
