"""EfficientNet-B0 to B7: images -> c2, c3, c4, c5. One small network, found by a search, and a rule that
makes it deeper and wider.

Paper: EfficientNet, arXiv 1905.11946, table 1. Names are timm's (conv_stem, blocks.0.0.conv_dw ...), without
the last 1x1 and the classifier; timm's and torchvision's ImageNet files load.

    blocks    expansion, kernel, channels, blocks (B0)      H, W divided by
    stem      conv 3x3/2, 32                                2
    0         1, 3x3, 16, 1                                 2
    1         6, 3x3, 24, 2                                 4   -> c2
    2         6, 5x5, 40, 2                                 8   -> c3
    3, 4      6, 3x3, 80, 3; 6, 5x5, 112, 3                 16  -> c4
    5, 6      6, 5x5, 192, 4; 6, 3x3, 320, 1                32  -> c5

Two flavours of the same tensors, with weights that are right for one of them only:
* "tf", as in Google's TensorFlow: where a stride meets an even map, the padding is one cell less on the left
  and top ("SAME"); BatchNorm has eps 1e-3 and momentum 0.01.
* "plain", as in PyTorch's own trainings: as much padding on each side; BatchNorm as PyTorch has it (B5 to B7
  of torchvision: eps 1e-3 and momentum 0.01 too).

What differs from the paper: no block is left out at random in training (stochastic depth).
"""
import math

import torch.nn.functional as F
from torch import nn

from nets.layers import Depthwise
from utils.errors import UserError, did_you_mean
from utils.weights import download, load_weights

STAGES = ((1, 3, 1, 16, 1),                             # expansion, kernel, stride of the first block,
          (6, 3, 2, 24, 2),                             # channels, blocks
          (6, 5, 2, 40, 2),
          (6, 3, 2, 80, 3),
          (6, 5, 1, 112, 3),
          (6, 5, 2, 192, 4),
          (6, 3, 1, 320, 1))
STEM = 32
TAPS = (1, 2, 4, 6)                                     # the stages whose last map is c2, c3, c4, c5
SCALES = {"b0": (1.0, 1.0), "b1": (1.0, 1.1),           # times the channels, times the blocks (section 5.1)
          "b2": (1.1, 1.2), "b3": (1.2, 1.4),
          "b4": (1.4, 1.8), "b5": (1.6, 2.2),
          "b6": (1.8, 2.6), "b7": (2.0, 3.1)}
FLAVOURS = ("tf", "plain")
TF_NORM = {"eps": 1e-3, "momentum": 0.01}
SITE = "https://download.pytorch.org/models/efficientnet_"
PRETRAINED = {name: f"{SITE}{file}.pth" for name, file in {
    "b0": "b0_rwightman-7f5810bc", "b1": "b1_rwightman-bac287d4", "b2": "b2_rwightman-c35c1473",
    "b3": "b3_rwightman-b3899882", "b4": "b4_rwightman-23ab8bcd", "b5": "b5_lukemelas-1a07897c",
    "b6": "b6_lukemelas-24a108a5", "b7": "b7_lukemelas-c5b4e57e"}.items()}


def round_channels(channels):
    """To whole eights, but never by more than a tenth down."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class SqueezeExcite(nn.Module):
    """The mean of the whole map decides how much each channel counts. Source: arXiv 1709.01507."""

    def __init__(self, channels, squeezed):
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, squeezed, 1)
        self.conv_expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x):
        """x: (B, C, h, w) -> (B, C, h, w)."""
        share = x.mean((2, 3), keepdim=True)                                    # (B, C, 1, 1)
        share = self.conv_expand(F.silu(self.conv_reduce(share)))               # (B, C, 1, 1)
        return x * share.sigmoid()                                              # (B, C, h, w)


class MBConv(nn.Module):
    """1x1 to many channels, a window in each channel by itself, squeeze and excite, 1x1 to few channels
    without activation; the input is added if it fits. At expansion 1 the first 1x1 is left out.
    """

    def __init__(self, c_in, c_out, expansion, kernel, stride, norm, same):
        """norm: makes a BatchNorm from its number of channels.  same: TensorFlow's padding."""
        super().__init__()
        wide = expansion * c_in
        self.expands = expansion > 1
        self.adds = stride == 1 and c_in == c_out

        # The names are timm's, which counts the norms in the order of their use.
        if self.expands:
            self.conv_pw = nn.Conv2d(c_in, wide, 1, bias=False)
            self.bn1 = norm(wide)
        self.conv_dw = Depthwise(wide, kernel, stride)
        self.padding = pad_before(self.conv_dw) if same and stride == 2 else None
        self.add_module("bn2" if self.expands else "bn1", norm(wide))
        self.se = SqueezeExcite(wide, max(1, c_in // 4))
        self.add_module("conv_pwl" if self.expands else "conv_pw", nn.Conv2d(wide, c_out, 1, bias=False))
        self.add_module("bn3" if self.expands else "bn2", norm(c_out))

    def forward(self, x):
        """x: (B, C, m, n) -> (B, D, h, w), with h = m / stride."""
        y = F.silu(self.bn1(self.conv_pw(x))) if self.expands else x            # (B, T, m, n)
        if self.padding:
            y = F.pad(y, self.padding)                                          # (B, T, s, t)
        norm_dw, out, norm_out = ((self.bn2, self.conv_pwl, self.bn3) if self.expands
                                  else (self.bn1, self.conv_pw, self.bn2))
        y = F.silu(norm_dw(self.conv_dw(y)))                                    # (B, T, h, w)
        y = norm_out(out(self.se(y)))                                           # (B, D, h, w)
        return x + y if self.adds else y                                        # (B, D, h, w)


def pad_before(conv):
    """TensorFlow's padding of a convolution with stride 2, for an even map: left, right, top, bottom. It is
    then done beforehand, so the convolution itself loses its own, in place.
    """
    half = conv.kernel_size[0] // 2
    conv.padding = (0, 0)
    return (half - 1, half, half - 1, half)


class EfficientNet(nn.Module):
    def __init__(self, name, flavour):
        """name: "b0" ... "b7".  flavour: "tf" or "plain", see above."""
        super().__init__()
        width, depth = SCALES[name]
        options = TF_NORM if flavour == "tf" or name in ("b5", "b6", "b7") else {}

        def norm(channels):
            return nn.BatchNorm2d(channels, **options)

        # The stem, also wider for the larger ones.
        c_in = round_channels(STEM * width)
        self.conv_stem = nn.Conv2d(3, c_in, 3, 2, padding=1, bias=False)
        self.padding = pad_before(self.conv_stem) if flavour == "tf" else None
        self.bn1 = norm(c_in)

        # Seven stages; only the first block of one changes the size.
        stages = []
        for expansion, kernel, stride, channels, count in STAGES:
            c_out, blocks = round_channels(channels * width), []
            for _ in range(math.ceil(count * depth)):
                blocks.append(MBConv(c_in, c_out, expansion, kernel, stride, norm, flavour == "tf"))
                c_in, stride = c_out, 1
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.ModuleList(stages)
        self.channels = tuple(round_channels(STAGES[i][3] * width) for i in TAPS)       # of c2, c3, c4, c5

        # Start values: normal, variance 2 / (values that one input reaches).
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                reached = part.weight[0, 0].numel() * part.out_channels // part.groups
                nn.init.normal_(part.weight, std=(2 / reached) ** 0.5)

    def forward(self, images):
        """images: (B, 3, H, W), normalised -> c2, c3, c4, c5."""
        x = F.pad(images, self.padding) if self.padding else images             # (B, 3, s, t)
        x = F.silu(self.bn1(self.conv_stem(x)))                                 # (B, C1, H/2, W/2)
        x = self.blocks[0](x)                                                   # (B, D, H/2, W/2)
        c2 = self.blocks[1](x)                                                  # (B, C2, H/4, W/4)
        c3 = self.blocks[2](c2)                                                 # (B, C3, H/8, W/8)
        x = self.blocks[3](c3)                                                  # (B, T, H/16, W/16)
        c4 = self.blocks[4](x)                                                  # (B, C4, H/16, W/16)
        x = self.blocks[5](c4)                                                  # (B, P, H/32, W/32)
        c5 = self.blocks[6](x)                                                  # (B, C5, H/32, W/32)
        return c2, c3, c4, c5


def efficientnet(name, flavour="plain", pretrained=False):
    """name: "b0" ... "b7".  flavour: "tf" or "plain".
    pretrained: True fetches torchvision's ImageNet weights; they are right for "plain".
    """
    if flavour not in FLAVOURS:
        raise UserError(f'There is no EfficientNet of the flavour "{flavour}".'
                        f'{did_you_mean(flavour, FLAVOURS)} Known: {", ".join(FLAVOURS)}.')
    backbone = EfficientNet(name, flavour)
    if pretrained:
        print(load_weights(backbone, download(PRETRAINED[name])))
    return backbone


def stage_before(found):
    """torchvision counts the stem as a stage."""
    return f"blocks.{int(found[1]) - 1}."


# torchvision's names -> timm's, which are ours.
EfficientNet.official_names = [
    (r"^features\.0\.0\.", "conv_stem."), (r"^features\.0\.1\.", "bn1."),
    (r"^features\.([1-7])\.", stage_before),
    (r"\.block\.(\d)\.fc1\.", ".se.conv_reduce."), (r"\.block\.(\d)\.fc2\.", ".se.conv_expand."),
    (r"^(blocks\.0\.\d+)\.block\.0\.0\.", r"\1.conv_dw."), (r"^(blocks\.0\.\d+)\.block\.0\.1\.", r"\1.bn1."),
    (r"^(blocks\.0\.\d+)\.block\.2\.0\.", r"\1.conv_pw."), (r"^(blocks\.0\.\d+)\.block\.2\.1\.", r"\1.bn2."),
    (r"\.block\.0\.0\.", ".conv_pw."), (r"\.block\.0\.1\.", ".bn1."),
    (r"\.block\.1\.0\.", ".conv_dw."), (r"\.block\.1\.1\.", ".bn2."),
    (r"\.block\.3\.0\.", ".conv_pwl."), (r"\.block\.3\.1\.", ".bn3."),
]
