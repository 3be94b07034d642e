"""Xception-65 as DeepLabv3+ changed it: images -> c2, c3, c4, c5, nearly all of it depthwise separable
convolutions.

Paper: Encoder-Decoder with Atrous Separable Convolution, arXiv 1802.02611, figure 4 (from Xception, arXiv
1610.02357: more blocks, strides in place of pooling, BatchNorm behind every depthwise convolution).
37,867,312 parameters without the classifier. Layers and names are those of timm's xception65. torchvision
has no such network, hence no file for pretrained=True.

    part         layers                                     channels     H, W divided by, at downsample_factor
                                                                           32  16                8
    stem         conv 3x3/2, conv 3x3                       64             2   2                 2
    blocks.0     3 separable convs, the last with stride 2  128            4   4                 4
    blocks.1     the same                                   256  (-> c2)   8   8                 8
    blocks.2     the same                                   728  (-> c3)   16  16                8
    blocks.3-18  16 x 3 separable convs                     728            16  16                8, dilation 2
    blocks.19    3 separable convs, the last with stride 2  1024 (-> c4)   32  16                8, dilation 2
    blocks.20    3 separable convs, no shortcut             2048 -> c5     32  16, dilation 2    8, dilation 4

c2, c3 and c4 are taken inside the blocks that follow a stride, before their own last convolution halves the
map (section 4.1: "before striding"), behind its ReLU: strides 4, 8 and 16 or at most downsample_factor.
Where a block loses its stride, what follows is dilated in its place, and the block itself is not yet (see
resnet.py).
"""
from collections import OrderedDict

import torch.nn.functional as F
from torch import nn

from nets.backbones.resnet import dilated_strides
from nets.layers import Depthwise
from utils.errors import NoWeights

# Channels of the three separable convolutions of each block.
ENTRY = ((128, 128, 128), (256, 256, 256), (728, 728, 728))
MIDDLE = ((728, 728, 728),) * 16
EXIT = ((728, 1024, 1024), (1536, 1536, 2048))
STRIDES = (2, 2, 2) + (1,) * 16 + (2, 1)                # of the blocks
TAPS = (1, 2, 19)                                       # the blocks inside which c2, c3, c4 are taken
EPS = 1e-3                                              # of every BatchNorm: the authors' code


def conv_norm(c_in, c_out, kernel, stride=1):
    return nn.Sequential(OrderedDict(
        conv=nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False),
        bn=nn.BatchNorm2d(c_out, EPS)))


def three_separable(c_in, channels, stride, dilation, relu):
    """Three separable convolutions, the last one with the stride. channels: of the three."""
    c1, c2, c3 = channels
    return nn.Sequential(OrderedDict(
        conv1=Separable(c_in, c1, 1, dilation, relu),
        conv2=Separable(c1, c2, 1, dilation, relu),
        conv3=Separable(c2, c3, stride, dilation, relu)))


class Separable(nn.Module):
    """3x3 in each channel by itself, then 1x1 over the channels, a BatchNorm behind each."""

    def __init__(self, c_in, c_out, stride, dilation, relu):
        """relu: True for a ReLU behind each BatchNorm (the last block only)."""
        super().__init__()
        self.conv_dw = Depthwise(c_in, 3, stride, dilation)
        self.bn_dw = nn.BatchNorm2d(c_in, EPS)
        self.conv_pw = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.bn_pw = nn.BatchNorm2d(c_out, EPS)
        self.act = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, x):
        """x: (B, C, m, n) -> (B, D, h, w), with h = m / stride."""
        x = self.act(self.bn_dw(self.conv_dw(x)))                               # (B, C, h, w)
        x = self.act(self.bn_pw(self.conv_pw(x)))                               # (B, D, h, w)
        return x


class Block(nn.Module):
    """Three separable convolutions, a ReLU in front of each, and a shortcut around them: the input, or a
    1x1 where it would not fit.
    """

    def __init__(self, c_in, channels, stride, dilation):
        """channels: of the three convolutions."""
        super().__init__()
        fits = stride == 1 and c_in == channels[-1]
        self.shortcut = nn.Identity() if fits else conv_norm(c_in, channels[-1], 1, stride)
        self.stack = three_separable(c_in, channels, stride, dilation, relu=False)

    def forward(self, x):
        """x: (B, C, m, n) -> (B, D, h, w), with h = m / stride; (B, T, m, n), what goes into the last
        convolution.
        """
        inner = self.stack.conv1(F.relu(x))                                     # (B, M, m, n)
        inner = self.stack.conv2(F.relu(inner))                                 # (B, T, m, n)
        inner = F.relu(inner)                                                   # (B, T, m, n)
        y = self.stack.conv3(inner) + self.shortcut(x)                          # (B, D, h, w)
        return y, inner                                                         # (B, D, h, w), (B, T, m, n)


class Xception65(nn.Module):
    channels = (256, 728, 1024, 2048)                                           # of c2, c3, c4, c5

    def __init__(self, downsample_factor=16):
        super().__init__()
        plan = dilated_strides(STRIDES, downsample_factor, 2)

        # A block has the dilation of those before it; where it loses its stride, the next ones are dilated.
        blocks, c_in = [], 64
        for channels, (stride, before, _, _) in zip(ENTRY + MIDDLE + EXIT[:1], plan):
            blocks.append(Block(c_in, channels, stride, before))
            c_in = channels[-1]

        # The last block has no shortcut, and its ReLUs are behind the convolutions.
        stack = three_separable(c_in, EXIT[1], stride=1, dilation=plan[-1][1], relu=True)
        blocks.append(nn.Sequential(OrderedDict(stack=stack)))

        self.stem = nn.Sequential(conv_norm(3, 32, 3, 2), conv_norm(32, 64, 3))
        self.blocks = nn.Sequential(*blocks)
        self.strides = tuple(plan[block - 1][3] for block in TAPS) + (plan[-1][3],)     # of c2, c3, c4, c5

    def forward(self, images):
        """images: (B, 3, H, W), normalised -> c2, c3, c4, c5."""
        _, _, s4, s5 = self.strides                     # 16, 32, or at most downsample_factor
        x = F.relu(self.stem[0](images))                                        # (B, 32, H/2, W/2)
        x = F.relu(self.stem[1](x))                                             # (B, 64, H/2, W/2)

        # Some blocks also hand out the map that they are about to halve.
        maps = []
        for index, block in enumerate(self.blocks[:-1]):
            x, inner = block(x)                                                 # (B, C, h, w), (B, D, m, n)
            if index in TAPS:
                maps.append(inner)
        c2, c3, c4 = maps                                                       # (B, 256, H/4, W/4), (B, 728, H/8, W/8), (B, 1024, H/s4, W/s4)
        c5 = self.blocks[-1](x)                                                 # (B, 2048, H/s5, W/s5)
        return c2, c3, c4, c5


def xception65(downsample_factor=16, pretrained=False):
    """downsample_factor: 32, 16 or 8, the largest stride.  pretrained: True is an error, torchvision offers
    no weights.
    """
    if pretrained:
        raise NoWeights("There is no ImageNet file for xception65 (torchvision does not have this network): "
                        "set pretrained=False, or choose a backbone that has one, such as resnet50.")
    return Xception65(downsample_factor)
