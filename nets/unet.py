"""U-Net: down a contracting path, up again, and on every floor the map from the way down joins the way up.

Paper: U-Net: Convolutional Networks for Biomedical Image Segmentation, arXiv 1505.04597, figure 1.

    floor    the way down                          the way up                                    K x H x W
    1        c1  64 x H    x W     ------------->  up1: [x, c1], two conv 3x3   64 x H   x W   -> conv 1x1
    2        c2 128 x H/2  x W/2   ------------->  up2: [x, c2], two conv 3x3  128 x H/2 x W/2
    3        c3 256 x H/4  x W/4   ------------->  up3: [x, c3], two conv 3x3  256 x H/4 x W/4
    4        c4 512 x H/8  x W/8   ------------->  up4: [x, c4], two conv 3x3  512 x H/8 x W/8
    5                    c5 1024 x H/16 x W/16

A floor of the way down is two conv 3x3 and a pooling behind them. 31,037,698 parameters at 2 classes. No
ImageNet weights exist for it.

backbone="vgg16" or "resnet50" uses a network with ImageNet weights as the way down. It reaches H/32, one
floor deeper; the way up is narrower, enlarges by repeating pixels, and climbs the last floor (`top`) without
a map beside it:

    handed across    vgg16 128, 256, 512, 512 (H/2 ... H/16); resnet50 64, 256, 512, 1024 (H/2 ... H/16)
    bottom           vgg16 pooled c5, two conv 3x3, 512 x H/32 x W/32; resnet50 c5, 2048 x H/32 x W/32
    the way up       256, 128, 64, 32, 16 channels (up4 ... up1, top), then conv 3x3

These are the widely used layouts, with 23,751,141 and 32,524,005 parameters at 21 classes.

What differs from the paper, and why:
* Convolutions are padded. In the paper each one takes a pixel off every side, so that the output is smaller
  than the input (572 -> 388) and the maps handed across are cropped. With padding every pixel of the input
  gets its answer.
* BatchNorm behind every convolution: it is younger than the paper, and without it the training is slow and
  needs care.
* No dropout at the bottom, and no extra weight for the borders between touching cells in the loss.
* `stride` is 32, though the paper's own way down needs only 16: one rule for all backbones. Other sizes run
  as well, a map on the way up takes the size of the one beside it, but then pixels shift a little.
"""
import torch
import torch.nn.functional as F
from torch import nn

from nets.backbones.resnet import COUNTS, PRETRAINED, ResNet
from nets.backbones.vgg import vgg16
from nets.layers import SEGMENTATION_RECIPE, conv_norm_act, normalise
from utils.errors import NoWeights, UserError, did_you_mean
from utils.losses import SegmentationLoss, class_scores
from utils.weights import download, load_weights

WIDTHS = (64, 128, 256, 512, 1024)                      # figure 1, from the first floor to the bottom
NARROW = (256, 128, 64, 32, 16)                         # the way up beside a backbone with ImageNet weights
ACROSS = {"unet": WIDTHS,                               # channels of c1 ... c4, which go across, and c5
          "vgg16": (128, 256, 512, 512, 512),
          "resnet50": (64, 256, 512, 1024, 2048)}


def two_convs(c_in, c_out):
    return nn.Sequential(conv_norm_act(c_in, c_out, 3, act=nn.ReLU(inplace=True)),
                         conv_norm_act(c_out, c_out, 3, act=nn.ReLU(inplace=True)))


def as_large(x, other):
    """x by repeating pixels in the size of the other map; x itself when it has that size.

    x: (B, C, m, n), other: (B, D, h, w) -> (B, C, h, w).
    """
    if x.shape[2:] == other.shape[2:]:
        return x                                                                # (B, C, h, w)
    return F.interpolate(x, size=other.shape[2:])                               # (B, C, h, w)


def init_fan_in(module):
    """Start values of the paper, section 3, in place: normal, deviation sqrt(2 / values that make one)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")


class Up(nn.Module):
    """One floor up: enlarged, joined to the map from across, two convolutions."""

    def __init__(self, c_in, c_across, c_out, learned):
        """learned: enlarge by a transposed convolution, which halves the channels, and not by repeating
        pixels.
        """
        super().__init__()
        if learned:
            self.enlarge = nn.ConvTranspose2d(c_in, c_in // 2, 2, stride=2)
            c_in = c_in // 2
        else:
            self.enlarge = nn.Identity()
        self.convs = two_convs(c_in + c_across, c_out)

    def forward(self, x, across):
        """x: (B, C or 2C, h/2, w/2), across: (B, D, h, w) -> (B, T, h, w)."""
        x = as_large(self.enlarge(x), across)                                   # (B, C, h, w)
        x = torch.cat([x, across], dim=1)                                       # (B, C+D, h, w)
        return self.convs(x)                                                    # (B, T, h, w)


class ContractingPath(nn.Module):
    """The paper's way down."""

    def __init__(self):
        super().__init__()
        c1, c2, c3, c4, c5 = WIDTHS
        self.down1 = two_convs(3, c1)
        self.down2 = two_convs(c1, c2)
        self.down3 = two_convs(c2, c3)
        self.down4 = two_convs(c3, c4)
        self.down5 = two_convs(c4, c5)
        init_fan_in(self)

    def forward(self, images):
        c1 = self.down1(images)                                                 # (B, 64, H, W)
        c2 = self.down2(F.max_pool2d(c1, 2))                                    # (B, 128, H/2, W/2)
        c3 = self.down3(F.max_pool2d(c2, 2))                                    # (B, 256, H/4, W/4)
        c4 = self.down4(F.max_pool2d(c3, 2))                                    # (B, 512, H/8, W/8)
        c5 = self.down5(F.max_pool2d(c4, 2))                                    # (B, 1024, H/16, W/16)
        return c1, c2, c3, c4, c5


class ResNetDown(ResNet):
    """A ResNet which also gives c1, what its stem has before the pooling: the finest map there is to hand
    across.
    """

    def forward(self, images):
        c1 = self.relu(self.bn1(self.conv1(images)))                            # (B, 64, H/2, W/2)
        c2 = self.layer1(self.maxpool(c1))                                      # (B, 256, H/4, W/4)
        c3 = self.layer2(c2)                                                    # (B, 512, H/8, W/8)
        c4 = self.layer3(c3)                                                    # (B, 1024, H/16, W/16)
        c5 = self.layer4(c4)                                                    # (B, 2048, H/32, W/32)
        return c1, c2, c3, c4, c5


class UNet(nn.Module):
    task = "segmentation"
    stride = 32
    recipe = SEGMENTATION_RECIPE

    def __init__(self, num_classes, input_shape=(512, 512), pretrained=False, backbone="unet",
                 loss=None, class_weights=None, sigmoid=False):
        """num_classes: K, background included.  backbone: "unet" (the paper's), "vgg16" or "resnet50".
        pretrained: True fetches torchvision's ImageNet weights of vgg16 or resnet50.
        loss, class_weights, sigmoid: see utils/losses.py, SegmentationLoss.
        """
        super().__init__()
        if backbone not in ACROSS:
            raise UserError(f'unet has no backbone "{backbone}".{did_you_mean(backbone, ACROSS)} '
                            f'Known: {", ".join(ACROSS)}.')
        if backbone == "unet" and pretrained:
            raise NoWeights("There are no ImageNet weights for the way down of the U-Net paper. "
                            'Set pretrained=False, or net_options={"backbone": "vgg16"} '
                            'or {"backbone": "resnet50"}.')
        self.criterion = SegmentationLoss(num_classes, loss, class_weights, sigmoid)
        self.kind = backbone

        # The way down: the paper's own, or a network with ImageNet weights.
        if backbone == "unet":
            self.backbone = ContractingPath()
        elif backbone == "vgg16":
            self.backbone = vgg16(pretrained)
        else:
            self.backbone = ResNetDown(COUNTS[backbone])
            if pretrained:
                print(load_weights(self.backbone, download(PRETRAINED[backbone])))

        # The way up: as wide as the way down, or narrower, from the bottom to the last floor.
        own = backbone == "unet"
        c1, c2, c3, c4, deep = ACROSS[backbone]
        n4, n3, n2, n1, n0 = (c4, c3, c2, c1, c1) if own else NARROW
        self.bottom = two_convs(deep, deep) if backbone == "vgg16" else None
        self.up4 = Up(deep, c4, n4, learned=own)
        self.up3 = Up(n4, c3, n3, learned=own)
        self.up2 = Up(n3, c2, n2, learned=own)
        self.up1 = Up(n2, c1, n1, learned=own)
        self.top = nn.Identity() if own else two_convs(n1, n0)
        kernel = 1 if own else 3
        self.head = nn.Conv2d(n0, self.criterion.channels, kernel, padding=kernel // 2)

        # The way down has its start values already.
        for part in (self.bottom, self.up4, self.up3, self.up2, self.up1, self.top):
            if part is not None:
                init_fan_in(part)

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> logits (B, K, H, W) (one channel with sigmoid), losses."""
        across, bottom = self.go_down(images)                                   # (B, C, m, n), (B, C5, h/16, w/16)
        c1, c2 = across[:2]                                                     # (B, C1, h, w), (B, C2, h/2, w/2)
        c3, c4 = across[2:]                                                     # (B, C3, h/4, w/4), (B, C4, h/8, w/8)

        # Up again: on every floor the map from across says where things are.
        p4 = self.up4(bottom, c4)                                               # (B, P4, h/8, w/8)
        p3 = self.up3(p4, c3)                                                   # (B, P3, h/4, w/4)
        p2 = self.up2(p3, c2)                                                   # (B, P2, h/2, w/2)
        p1 = self.up1(p2, c1)                                                   # (B, P1, h, w)

        # With an ImageNet backbone one floor is left.
        x = self.top(as_large(p1, images))                                      # (B, D, H, W)
        logits = self.head(x)                                                   # (B, K, H, W)
        losses = {} if targets is None else self.criterion(logits, targets)     # () each
        return logits, losses

    def go_down(self, images):
        """The way down: images -> the four maps that are handed across, each half as large as the one
        before, and the map at the bottom.
        """
        if self.kind == "unet":
            *across, bottom = self.backbone(images)                             # (B, C, m, n), (B, 1024, H/16, W/16)
        elif self.kind == "resnet50":
            *across, bottom = self.backbone(normalise(images))                  # (B, C, m, n), (B, 2048, H/32, W/32)
        else:
            # VGG's finest map stays behind: the way up begins one floor deeper.
            _, *across = self.backbone(normalise(images))                       # (B, C, m, n) each
            bottom = self.bottom(F.max_pool2d(across[-1], 2))                   # (B, 512, H/32, W/32)
        return across, bottom

    def decode(self, logits):
        """logits -> scores (B, K, H, W) in 0-1; K is 2 with sigmoid."""
        scores = class_scores(logits)                                           # (B, K, H, W)
        return scores
