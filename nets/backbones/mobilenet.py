"""MobileNetV2 and MobileNetV3-Large: images -> c2, c3, c4, c5, with few parameters.

Papers: MobileNetV2, arXiv 1801.04381, table 2; Searching for MobileNetV3, arXiv 1905.02244, table 1. Layers
and names are torchvision's, without what follows the last feature map, so its ImageNet files load.

    features of V2     blocks (expansion, channels)    channels       H, W divided by, at downsample_factor
                                                                      32    16                8
    0, 1               conv 3x3/2; 1, 16               32, 16         2     2                 2
    2-3                6, 24                           24  -> c2      4     4                 4
    4-6                6, 32                           32  -> c3      8     8                 8
    7-10, 11-13        6, 64; 6, 96                    96  -> c4      16    16                8, dilation 2
    14-16, 17          6, 160; 6, 320                  320 -> c5      32    16, dilation 2    8, dilation 4

Where a stage loses its stride, its first block keeps the dilation of the stage before (see resnet.py).
MobileNetV3-Large is torchvision's own object, dilated: its last stage has H/16. That network was found by a
search, so there is no rule in its table to read.
"""
from torch import nn

from nets.backbones.resnet import dilated_strides, init_kaiming
from nets.layers import Depthwise, with_depthwise
from utils.weights import download, load_weights

STAGES = ((1, 16, 1, 1),                                # expansion, channels, blocks, stride of the first
          (6, 24, 2, 2),                                # one (MobileNetV2, table 2)
          (6, 32, 3, 2),
          (6, 64, 4, 2),
          (6, 96, 3, 1),
          (6, 160, 3, 2),
          (6, 320, 1, 1))
V3_TAPS = (2, 4, 7, 16)                                 # the block that enters each stride; the last one
PRETRAINED_V2 = "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth"
PRETRAINED_V3 = "https://download.pytorch.org/models/mobilenet_v3_large-8738ca79.pth"


def conv_norm_relu6(c_in, c_out, kernel, stride=1, norm=nn.BatchNorm2d):
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, norm(c_out), nn.ReLU6(inplace=True))


def depthwise_norm_relu6(channels, stride=1, dilation=1, norm=nn.BatchNorm2d):
    conv = Depthwise(channels, 3, stride, dilation)
    return nn.Sequential(conv, norm(channels), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """1x1 to many channels, 3x3 in each channel by itself, 1x1 to few channels without activation; the
    input is added if it fits.
    """

    def __init__(self, c_in, c_out, expansion, stride, dilation):
        super().__init__()
        wide = expansion * c_in
        expand = [conv_norm_relu6(c_in, wide, 1)] if expansion > 1 else []
        self.conv = nn.Sequential(*expand, depthwise_norm_relu6(wide, stride, dilation),
                                  nn.Conv2d(wide, c_out, 1, bias=False), nn.BatchNorm2d(c_out))
        self.adds = stride == 1 and c_in == c_out

    def forward(self, x):
        """x: (B, C, m, n) -> (B, D, h, w), with h = m / stride."""
        y = self.conv(x)                                                        # (B, D, h, w)
        return x + y if self.adds else y                                        # (B, D, h, w)


class MobileNetV2(nn.Module):
    channels = (24, 32, 96, 320)                                                # of c2, c3, c4, c5

    def __init__(self, downsample_factor=32):
        super().__init__()
        layers, c_in = [conv_norm_relu6(3, 32, 3, 2)], 32

        # The first block of a stage has the stride, or the dilation of the stage before.
        plan = dilated_strides([stride for *_, stride in STAGES], downsample_factor, 2)
        for (expansion, channels, count, _), (stride, before, dilation, _) in zip(STAGES, plan):
            layers.append(InvertedResidual(c_in, channels, expansion, stride, before))
            layers += [InvertedResidual(channels, channels, expansion, 1, dilation) for _ in range(count - 1)]
            c_in = channels
        self.features = nn.Sequential(*layers)
        self.strides = tuple(plan[stage][3] for stage in (1, 2, 4, 6))          # of c2, c3, c4, c5
        init_kaiming(self)

    def forward(self, images):
        """images: (B, 3, H, W), normalised -> c2, c3, c4, c5."""
        _, _, s4, s5 = self.strides                     # 16, 32, or at most downsample_factor
        c2 = self.features[:4](images)                                          # (B, 24, H/4, W/4)
        c3 = self.features[4:7](c2)                                             # (B, 32, H/8, W/8)
        c4 = self.features[7:14](c3)                                            # (B, 96, H/s4, W/s4)
        c5 = self.features[14:](c4)                                             # (B, 320, H/s5, W/s5)
        return c2, c3, c4, c5


class MobileNetV3Large(nn.Sequential):
    """torchvision's `features` one by one, named 0.0.weight ... as in its DeepLabV3 files; H/16 at most."""
    channels = (24, 40, 80, 960)                                                # of c2, c3, c4, c5
    strides = (4, 8, 16, 16)

    def forward(self, images):
        """images: (B, 3, H, W), normalised -> c2, c3, c4, c5."""
        x, maps = images, []
        for index, layer in enumerate(self):
            x = layer(x)                                                        # (B, C, h, w)
            if index in V3_TAPS:
                maps.append(x)
        c2, c3 = maps[:2]                                                       # (B, 24, H/4, W/4), (B, 40, H/8, W/8)
        c4, c5 = maps[2:]                                                       # (B, 80, H/16, W/16), (B, 960, H/16, W/16)
        return c2, c3, c4, c5


def mobilenet_v2(downsample_factor=32, pretrained=False):
    """downsample_factor: 32, 16 or 8, the largest stride.  pretrained: True fetches torchvision's ImageNet
    weights.
    """
    backbone = MobileNetV2(downsample_factor)
    if pretrained:
        print(load_weights(backbone, download(PRETRAINED_V2)))
    return backbone


def mobilenet_v3_large(pretrained=False):
    """pretrained: True fetches torchvision's ImageNet weights."""
    import torchvision  # takes seconds, so only where it is needed
    network = with_depthwise(torchvision.models.mobilenet_v3_large(weights=None, dilated=True))

    # Before it is taken apart: the file has the names of the whole network.
    if pretrained:
        print(load_weights(network, download(PRETRAINED_V3)))
    return MobileNetV3Large(*network.features)
