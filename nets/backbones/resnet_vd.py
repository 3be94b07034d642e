"""ResNet-18, 34, 50 and 101 "vd": images -> c2, c3, c4, c5. ResNet with a stem of three small convolutions,
and with shortcuts that no longer skip three cells of four.

Paper: Bag of Tricks for Image Classification, arXiv 1812.01187, section 4 ("ResNet-D"). Layers are those of
RT-DETR's backbone (PResNet), whose file loads as a part of RT-DETR's.

    stage       layers                                               channels        H, W divided by
    stem        conv 3x3/2 32, conv 3x3 32, conv 3x3 64, max pool    64              4
    stages.0    2 or 3 blocks, no stride                             64  -> c2       4
    stages.1    2 to 4 blocks                                        128 -> c3       8
    stages.2    2 to 23 blocks                                       256 -> c4       16
    stages.3    2 or 3 blocks                                        512 -> c5       32

50 and 101 have bottlenecks, with four times as many channels. What differs from nets/backbones/resnet.py, but
for the stem: where a block halves the map, its shortcut takes the mean of 2x2 cells before its 1x1.
"""
from collections import OrderedDict

import torch.nn.functional as F
from torch import nn

from nets.backbones.resnet import BASIC, COUNTS, STRIDES, WIDTHS, init_kaiming


def conv_norm(c_in, c_out, kernel, stride=1, norm=nn.BatchNorm2d):
    """Convolution without bias, normalisation; an odd kernel keeps h, w (or halves them at stride 2)."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=norm(c_out)))


class BlockD(nn.Module):
    """Two 3x3, or 1x1, 3x3 and 1x1 to four times the channels; the input is added."""

    def __init__(self, c_in, width, stride, first, basic, norm):
        """first: of its stage: its shortcut has a 1x1."""
        super().__init__()
        c_out = width if basic else 4 * width

        # The stride is in the first 3x3.
        if basic:
            self.convs = nn.ModuleList([conv_norm(c_in, width, 3, stride, norm),
                                        conv_norm(width, width, 3, norm=norm)])
        else:
            self.convs = nn.ModuleList([conv_norm(c_in, width, 1, norm=norm),
                                        conv_norm(width, width, 3, stride, norm),
                                        conv_norm(width, c_out, 1, norm=norm)])

        # The shortcut: the mean of 2x2 cells has no weights.
        self.short = conv_norm(c_in, c_out, 1, norm=norm) if first else None
        self.halves = stride == 2

    def forward(self, x):
        """x: (B, D, m, n) -> (B, C, h, w), with h = m / stride."""
        y = x                                                                   # (B, D, m, n)
        for conv in self.convs[:-1]:
            y = F.relu(conv(y))                                                 # (..., h, w)
        y = self.convs[-1](y)                                                   # (B, C, h, w)

        # The shortcut: of four cells their mean, where a stride of 2 would take one.
        if self.halves:
            x = F.avg_pool2d(x, 2, ceil_mode=True)                              # (B, D, h, w)
        if self.short is not None:
            x = self.short(x)                                                   # (B, C, h, w)
        return F.relu(x + y)                                                    # (B, C, h, w)


class ResNetVD(nn.Module):
    def __init__(self, counts, basic, norm=nn.BatchNorm2d, widths=WIDTHS):
        """counts: blocks per stage.  basic: their kind.  widths: C of the blocks of each stage."""
        super().__init__()
        self.stem = nn.ModuleList([conv_norm(3, 32, 3, 2, norm), conv_norm(32, 32, 3, norm=norm),
                                   conv_norm(32, 64, 3, norm=norm)])

        # Only the first block of a stage changes size and channels.
        stages, c_in = [], 64
        for count, width, stride in zip(counts, widths, STRIDES):
            blocks = []
            for i in range(count):
                blocks.append(BlockD(c_in, width, 1 if i else stride, i == 0, basic, norm))
                c_in = width if basic else 4 * width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.channels = tuple(width if basic else 4 * width for width in widths)        # of c2, c3, c4, c5
        init_kaiming(self)

    def forward(self, images):
        """images: (B, 3, H, W) -> c2, c3, c4, c5."""
        x = images                                                              # (B, 3, H, W)
        for conv in self.stem:
            x = F.relu(conv(x))                                                 # (..., H/2, W/2)
        x = F.max_pool2d(x, 3, 2, padding=1)                                    # (B, 64, H/4, W/4)
        c2 = self.stages[0](x)                                                  # (B, C2, H/4, W/4)
        c3 = self.stages[1](c2)                                                 # (B, C3, H/8, W/8)
        c4 = self.stages[2](c3)                                                 # (B, C4, H/16, W/16)
        c5 = self.stages[3](c4)                                                 # (B, C5, H/32, W/32)
        return c2, c3, c4, c5


def resnet_vd(name, norm=nn.BatchNorm2d):
    """name: "resnet18", "resnet34", "resnet50" or "resnet101".  norm: makes a normalisation."""
    return ResNetVD(COUNTS[name], name in BASIC, norm)
