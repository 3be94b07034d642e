"""HRNet: images -> c2, c3, c4, c5; the finest map is kept from the beginning to the end, and coarser ones run
beside it.

Paper: Deep High-Resolution Representation Learning for Visual Recognition, arXiv 1908.07919, section 3.
Layers and names are the authors' (conv1, layer1.0.conv1, stage2.0.branches.0.0.conv1 ...), without the
classifier's neck, so their ImageNet files load. C is 18, 32 or 48.

    stage     layers                                           maps, with channels
    stem      two conv 3x3/2                                   64 x H/4 x W/4
    layer1    4 bottlenecks (those of ResNet)                  256 x H/4 x W/4
    stage2    1 module of 2 branches                           C, 2C            at H/4, H/8
    stage3    4 modules of 3 branches                          C, 2C, 4C        at H/4, H/8, H/16
    stage4    3 modules of 4 branches                          C, 2C, 4C, 8C    at H/4 ... H/32 -> c2 ... c5

A module: in every branch 4 basic blocks (two conv 3x3, the input is added), then an exchange: each map
becomes the sum of all maps, the coarser ones enlarged, the finer ones halved by conv 3x3/2 as often as it
takes. Before a stage its new branch is made from the coarsest map by a conv 3x3/2.

Other backbones go down to H/32 and come back up in the neck: what was lost on the way has to be guessed.

What differs from the paper, and why: nothing. But the authors' networks for ImageNet enlarge by repeating
cells in the exchange, and those for segmentation bilinearly, as here; both have the same tensors.
"""
from torch import nn

from nets.backbones.resnet import BasicBlock, Bottleneck
from nets.layers import enlarge
from utils.errors import UserError, did_you_mean
from utils.weights import download, load_weights

WIDTHS = {"w18": 18, "w32": 32, "w48": 48}              # C, the channels of the finest map
MODULES = (1, 4, 3)                                     # of stage2, stage3, stage4
BLOCKS = 4                                              # in each branch of a module
# The authors' ImageNet files, published again by the timm library.
RELEASE = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-hrnet/"
PRETRAINED = {"w18": RELEASE + "hrnetv2_w18-8cb57bb9.pth",
              "w32": RELEASE + "hrnetv2_w32-90d8c5fb.pth",
              "w48": RELEASE + "hrnetv2_w48-abd2e6ab.pth"}


def conv_norm(c_in, c_out, kernel, stride=1, relu=True):
    """Convolution without bias, BatchNorm, and ReLU unless the result is still to be added to others."""
    layers = [nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(c_out)]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def from_to(source, goal, channels):
    """What brings the map number `source` to the channels of the map number `goal`: 0 is the finest. A
    coarser one is enlarged afterwards, in Module.
    """
    if source == goal:
        return nn.Identity()
    if source > goal:
        return conv_norm(channels[source], channels[goal], 1, relu=False)

    # Halved once for every map in between; the channels change in the last step.
    halvings = [conv_norm(channels[source], channels[source], 3, 2) for _ in range(goal - source - 1)]
    return nn.Sequential(*halvings, conv_norm(channels[source], channels[goal], 3, 2, relu=False))


class Module(nn.Module):
    """Each map by itself, then each map hears of all others (section 3.2)."""

    def __init__(self, channels):
        """channels: of the maps, fine to coarse."""
        super().__init__()
        numbers = range(len(channels))
        self.branches = nn.ModuleList(
            nn.Sequential(*[BasicBlock(width, width) for _ in range(BLOCKS)]) for width in channels)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(from_to(source, goal, channels) for source in numbers) for goal in numbers)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps):
        """maps: (B, C, h, w) each, fine to coarse -> as many of the same sizes."""
        maps = [branch(x) for branch, x in zip(self.branches, maps)]            # (B, C, h, w) each
        exchanged = []
        for goal, ways in zip(maps, self.fuse_layers):
            total = 0
            for way, x in zip(ways, maps):
                x = way(x)                                                      # (B, D, m, n)
                # Of another size only where it came from a coarser map.
                total = total + (x if x.shape[2:] == goal.shape[2:] else enlarge(x, goal))      # (B, D, h, w)
            exchanged.append(self.relu(total))
        return exchanged                                                        # (B, C, h, w) each


class HRNet(nn.Module):
    def __init__(self, width):
        """width: C, the channels of the finest map."""
        super().__init__()
        self.channels = (width, 2 * width, 4 * width, 8 * width)                # of c2, c3, c4, c5
        self.conv1 = nn.Conv2d(3, 64, 3, 2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, 2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(Bottleneck(64, 64), *[Bottleneck(256, 64) for _ in range(3)])

        # Before each stage: the maps that are there stay as they are, one more begins. The very first finest
        # map has other channels; registered and numbered as in the authors' files.
        self.transition1 = nn.ModuleList([
            conv_norm(256, width, 3), nn.Sequential(conv_norm(256, 2 * width, 3, 2))])
        self.transition2, self.transition3 = (
            nn.ModuleList([*[nn.Identity()] * there,
                           nn.Sequential(conv_norm(self.channels[there - 1], self.channels[there], 3, 2))])
            for there in (2, 3))
        self.stage2, self.stage3, self.stage4 = (
            nn.Sequential(*[Module(self.channels[:branches]) for _ in range(count)])
            for branches, count in zip((2, 3, 4), MODULES))
        init_normal(self)

    def forward(self, images):
        """images: (B, 3, H, W), normalised -> c2, c3, c4, c5."""
        x = self.relu(self.bn1(self.conv1(images)))                             # (B, 64, H/2, W/2)
        x = self.relu(self.bn2(self.conv2(x)))                                  # (B, 64, H/4, W/4)
        x = self.layer1(x)                                                      # (B, 256, H/4, W/4)
        maps = self.stage2([begin(x) for begin in self.transition1])            # (B, C, h, w) each

        # One more map, then all of them talk.
        maps = self.stage3([*maps, self.transition2[2](maps[-1])])              # (B, C, h, w) each
        maps = self.stage4([*maps, self.transition3[3](maps[-1])])              # (B, C, h, w) each
        return maps                                                             # (B, C, h, w) each: c2, c3, c4, c5


def init_normal(module):
    """Start values of the authors' code, in place: convolutions normal with deviation 0.001."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, std=0.001)


def hrnet(size, pretrained=False):
    """size: "w18", "w32" or "w48".  pretrained: True fetches the authors' ImageNet weights."""
    if size not in WIDTHS:
        raise UserError(f'There is no HRNet "{size}".{did_you_mean(size, WIDTHS)} '
                        f'Known: {", ".join(WIDTHS)}.')
    backbone = HRNet(WIDTHS[size])
    if pretrained:
        print(load_weights(backbone, download(PRETRAINED[size])))
    return backbone
