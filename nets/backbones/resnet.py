"""ResNet-18, 34, 50 and 101: images -> c2, c3, c4, c5; stages without stride, dilated instead, for
segmentation.

Paper: Deep Residual Learning, arXiv 1512.03385, table 1. Layers and names are torchvision's (conv1, bn1,
layer1.0.conv1 ...), without the classifier `fc`, so its ImageNet files load.

    stage     layers                          channels       H, W divided by, at downsample_factor
                                                             32    16                8
    stem      conv 7x7/2, max pool 3x3/2      64             4     4                 4
    layer1    3 bottlenecks                   256  -> c2     4     4                 4
    layer2    4 bottlenecks                   512  -> c3     8     8                 8
    layer3    6 bottlenecks (ResNet-101: 23)  1024 -> c4     16    16                8, dilation 2
    layer4    3 bottlenecks                   2048 -> c5     32    16, dilation 2    8, dilation 4

ResNet-18 and 34 have basic blocks (two 3x3) instead, 2 2 2 2 and 3 4 6 3 of them, and a quarter of the
channels: 64, 128, 256, 512.

What differs from the paper, and why:
* The stride of a bottleneck is in its 3x3, not in its first 1x1, as in torchvision ("v1.5"): a 1x1 with a
  stride skips cells unseen.
* Where a stage loses its stride, its first block keeps the dilation of the stage before and the others take
  the
  new one: torchvision's rule. `dilate_first=True` gives the first block the new dilation as well: the rule
  of the PSPNet authors. The tensors have the same names and shapes under both rules, but weights trained
  under one are wrong under the other.
* `deep_stem=True` is the stem of the PSPNet authors: three 3x3 convolutions, conv1 (stride 2) bn1, conv2
  bn2, conv3 bn3, to 128 channels instead of one 7x7 to 64. torchvision's files have no such stem: it and
  the two 1x1 behind it are then initialised from scratch.
* `norm`: detectors train with two to four large pictures a GPU, too few for statistics, so from ImageNet
  weights they keep the BatchNorms as they came ("frozen": constants, no parameters), a choice of detection
  codes, not of the paper. torchvision trained its detectors with eps 0 in these, and its files keep their
  meaning only so: "frozen_eps0".
"""
from functools import partial

from torch import nn

from utils.errors import UserError, did_you_mean
from utils.weights import download, load_weights

COUNTS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3),                   # blocks per stage
          "resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
BASIC = ("resnet18", "resnet34")                        # their blocks are basic ones
WIDTHS = (64, 128, 256, 512)
STRIDES = (1, 2, 2, 2)
PRETRAINED = {"resnet18": "https://download.pytorch.org/models/resnet18-f37072fd.pth",
              "resnet34": "https://download.pytorch.org/models/resnet34-b627a593.pth",
              "resnet50": "https://download.pytorch.org/models/resnet50-0676ba61.pth",
              "resnet101": "https://download.pytorch.org/models/resnet101-63fe2227.pth"}


def frozen_norm(channels, eps=1e-5):
    """A BatchNorm of constants."""
    from torchvision.ops import FrozenBatchNorm2d  # takes seconds, so only where it is needed
    return FrozenBatchNorm2d(channels, eps)


NORMS = {"batch": nn.BatchNorm2d,
         "frozen": frozen_norm,
         "frozen_eps0": partial(frozen_norm, eps=0.0)}


class BasicBlock(nn.Module):
    """Two 3x3 of C channels, the first one has the stride; the input is added, through a 1x1 where the shape
    changes.
    """
    expansion = 1                                       # channels out of it: so many times its width

    def __init__(self, c_in, width, stride=1, dilation=1, norm=nn.BatchNorm2d):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, width, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut_layer(c_in, width, stride, norm)

    def forward(self, x):
        """x: (B, D, m, n) -> (B, C, h, w), with h = m / stride."""
        y = self.relu(self.bn1(self.conv1(x)))                                  # (B, C, h, w)
        y = self.bn2(self.conv2(y))                                             # (B, C, h, w)
        shortcut = x if self.downsample is None else self.downsample(x)         # (B, C, h, w)
        return self.relu(y + shortcut)                                          # (B, C, h, w)


class Bottleneck(nn.Module):
    """1x1 to C channels, 3x3 (has the stride and the dilation), 1x1 to 4C; the input is added, through a
    1x1 where the shape changes.
    """
    expansion = 4

    def __init__(self, c_in, width, stride=1, dilation=1, norm=nn.BatchNorm2d):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = norm(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut_layer(c_in, 4 * width, stride, norm)

    def forward(self, x):
        """x: (B, D, m, n) -> (B, 4C, h, w), with h = m / stride."""
        y = self.relu(self.bn1(self.conv1(x)))                                  # (B, C, m, n)
        y = self.relu(self.bn2(self.conv2(y)))                                  # (B, C, h, w)
        y = self.bn3(self.conv3(y))                                             # (B, 4*C, h, w)
        shortcut = x if self.downsample is None else self.downsample(x)         # (B, 4*C, h, w)
        return self.relu(y + shortcut)                                          # (B, 4*C, h, w)


def shortcut_layer(c_in, c_out, stride, norm):
    """What the shortcut of a block passes through; None: it is the input itself, no shape changes."""
    if stride == 1 and c_in == c_out:
        return None
    conv = nn.Conv2d(c_in, c_out, 1, stride, bias=False)
    return nn.Sequential(conv, norm(c_out))


class ResNet(nn.Module):
    def __init__(self, counts, downsample_factor=32, dilate_first=False, deep_stem=False,
                 norm=nn.BatchNorm2d, block=Bottleneck, widths=WIDTHS):
        """counts: blocks per stage.  downsample_factor: 32, 16 or 8, the largest stride.
        norm: makes a normalisation from its number of channels.  block: the class of its blocks.
        widths: C of the blocks of each stage.
        The others: see above.
        """
        super().__init__()
        self.deep_stem = deep_stem
        self.channels = tuple(block.expansion * width for width in widths)      # of c2, c3, c4, c5

        # The stem: one large convolution, or three small ones.
        if deep_stem:
            self.conv1 = nn.Conv2d(3, 64, 3, 2, padding=1, bias=False)
            self.bn1 = norm(64)
            self.conv2 = nn.Conv2d(64, 64, 3, padding=1, bias=False)
            self.bn2 = norm(64)
            self.conv3 = nn.Conv2d(64, 128, 3, padding=1, bias=False)
            self.bn3 = norm(128)
            c_in = 128
        else:
            self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
            self.bn1 = norm(64)
            c_in = 64
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)

        # Four stages. The first block of each has the stride, or the dilation of the stage before.
        stages = []
        plan = dilated_strides(STRIDES, downsample_factor, 4)
        for count, width, (stride, before, dilation, _) in zip(counts, widths, plan):
            c_out = block.expansion * width
            blocks = [block(c_in, width, stride, dilation if dilate_first else before, norm)]
            blocks += [block(c_out, width, 1, dilation, norm) for _ in range(count - 1)]
            stages.append(nn.Sequential(*blocks))
            c_in = c_out
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.strides = tuple(reached for *_, reached in plan)                   # of c2, c3, c4, c5
        init_kaiming(self)

    def forward(self, images):
        """images: (B, 3, H, W), normalised -> c2, c3, c4, c5."""
        _, _, s4, s5 = self.strides                     # 16, 32, or at most downsample_factor
        x = self.relu(self.bn1(self.conv1(images)))                             # (B, 64, H/2, W/2)
        if self.deep_stem:
            x = self.relu(self.bn2(self.conv2(x)))                              # (B, 64, H/2, W/2)
            x = self.relu(self.bn3(self.conv3(x)))                              # (B, 128, H/2, W/2)
        x = self.maxpool(x)                                                     # (B, C1, H/4, W/4)

        # Stage by stage fewer cells, or cells that see further, and more channels.
        c2 = self.layer1(x)                                                     # (B, C2, H/4, W/4)
        c3 = self.layer2(c2)                                                    # (B, C3, H/8, W/8)
        c4 = self.layer3(c3)                                                    # (B, C4, H/s4, W/s4)
        c5 = self.layer4(c4)                                                    # (B, C5, H/s5, W/s5)
        return c2, c3, c4, c5


def dilated_strides(strides, downsample_factor, reached):
    """Which stages keep their stride, and what dilation the others take in its place.

    strides: of the stages.  downsample_factor: 32, 16 or 8, the largest stride of the whole.
    reached: the stride before the first stage.
    -> per stage (its stride, the dilation of the stage before, its dilation, stride of the whole behind it).
    """
    if downsample_factor not in (8, 16, 32):
        raise UserError(f"downsample_factor={downsample_factor}: choose 8 (finer, slower), 16 or 32.")
    plan, dilation = [], 1
    for stride in strides:
        before = dilation

        # Too coarse: the stage keeps the size of its map, and looks at cells twice as far apart instead.
        if reached * stride > downsample_factor:
            dilation *= stride
            stride = 1
        reached *= stride
        plan.append((stride, before, dilation, reached))
    return plan


def init_kaiming(module):
    """Start values as in torchvision's backbones, in place: normal, variance 2 / (values that one input
    reaches).
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")


def find_norm(word, pretrained):
    """The key of NORMS that a detector is built with.

    word: a key, or None: the one that goes with what the detector starts from.
    pretrained: False, True (ImageNet weights of the backbone) or "coco" (torchvision's file of the whole
    detector).
    """
    # Without a word: as the weights that the detector starts from were trained.
    if word:
        chosen = word
    elif pretrained == "coco":
        chosen = "frozen_eps0"
    elif pretrained:
        chosen = "frozen"
    else:
        chosen = "batch"

    if chosen not in NORMS:
        raise UserError(f'There is no normalisation "{chosen}".{did_you_mean(chosen, NORMS)} '
                        f'Known: {", ".join(NORMS)}.')
    return chosen


def resnet(name, downsample_factor=32, pretrained=False, dilate_first=False, deep_stem=False,
           norm=nn.BatchNorm2d):
    """name: "resnet18", "resnet34", "resnet50" or "resnet101".
    pretrained: True fetches torchvision's ImageNet weights.
    norm: makes a normalisation from its number of channels, a value of NORMS.  The others: see ResNet.
    """
    if name not in COUNTS:
        raise UserError(f'There is no ResNet "{name}".{did_you_mean(name, COUNTS)} '
                        f'Known: {", ".join(COUNTS)}.')
    block = BasicBlock if name in BASIC else Bottleneck
    backbone = ResNet(COUNTS[name], downsample_factor, dilate_first, deep_stem, norm, block)
    if pretrained:
        print(load_weights(backbone, download(PRETRAINED[name])))
    return backbone
