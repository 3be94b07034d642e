"""DeepLabv3+: DeepLabV3's map of the whole scene, sharpened along borders by a fine map from early on.

Paper: Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation, arXiv 1802.02611.
Several networks share this name. This is the one whose results on VOC12aug are often cited, 71.1 mIoU with
MobileNetV2 and 77.2 with ResNet-50 (repository VainF/DeepLabV3Plus-Pytorch); its layers have the same names
here. Parameters at 21 classes: MobileNetV2 5,225,717, ResNet-50 39,761,845, ResNet-101 58,753,973,
Xception-65 54,121,125.

    stage                  layers                                     output, s = downsample_factor (16 or 8)
    backbone               MobileNetV2, ResNet or Xception-65,         C2 x H/4 x W/4 -> c2
                           the stages past stride s dilated            C5 x H/s x W/s -> c5
    classifier.aspp        of c5: conv 1x1, three dilated conv 3x3,   256 x H/s x W/s
                           the image's mean; conv 1x1, dropout
    classifier.project     of c2: conv 1x1                             48 x H/4 x W/4
    classifier.classifier  both joined: conv 3x3, conv 1x1              K x H/4 x W/4, enlarged to H x W

C2 and C5, the channels of c2 and c5: MobileNetV2 24 and 320, ResNet 256 and 2048, Xception 256 and 2048.

What it kept of DeepLabV3 is imported from deeplabv3.py: the ASPP. New is the decoder.

Dilation: the first block of a stage that lost its stride keeps the dilation of the stage before, as in
torchvision, so torchvision's ImageNet backbones and, at downsample_factor 8, the backbones of its DeepLabV3
files fit. Other networks of this name dilate the first
block as well: their tensors have the same shapes, but their weights do not work here.

What differs from the paper, and why (1 and 2 belong to the layout above):
1. The 3x3 convolutions of ASPP and decoder are dense; the paper's Xception version has separable ones,
   cheaper by a lot.
2. The decoder has one 3x3 convolution; the paper found two a little better (table 2).
3. The backbones have no multi-grid, and ResNet has its stride in the 3x3, because that is how their
   ImageNet weights were trained.
What differs from that repository: its MobileNetV2 pads in front of the 1x1 of a block and not at all in the
stem; here it is torchvision's, whose ImageNet weights both load. Its Xception is another one (37,050,525
parameters).
"""
import torch
from torch import nn

from nets.backbones.mobilenet import mobilenet_v2
from nets.backbones.resnet import resnet
from nets.backbones.xception import xception65
from nets.deeplabv3 import ASPP, conv_norm_relu, enlarge
from nets.layers import SEGMENTATION_RECIPE, normalise
from utils.errors import UserError, did_you_mean
from utils.losses import SegmentationLoss, class_scores

BACKBONES = ("mobilenet_v2", "resnet50", "resnet101", "xception65")
RATES = {16: (6, 12, 18), 8: (12, 24, 36)}              # dilations of the ASPP by downsample_factor (4.1)
LOW_LEVEL = 48                                          # table 1: more channels of c2 make it worse
DROPOUT = 0.1                                           # the authors' code; DeepLabV3 in torchvision: 0.5


class Decoder(nn.Module):
    """c2, which knows where, and c5, which knows what -> class by class a map at H/4."""

    def __init__(self, c2, c5, rates, channels):
        """c2, c5: their channels.  rates: dilations of the ASPP.  channels: of the output."""
        super().__init__()
        self.project = nn.Sequential(*conv_norm_relu(c2, LOW_LEVEL, 1))
        self.aspp = ASPP(c5, rates, dropout=DROPOUT)
        self.classifier = nn.Sequential(*conv_norm_relu(LOW_LEVEL + 256, 256, 3),
                                        nn.Conv2d(256, channels, 1))

    def forward(self, c2, c5):
        """c2: (B, C2, m, n), c5: (B, C5, h, w) -> (B, K, m, n)."""
        low = self.project(c2)                                                  # (B, 48, m, n)
        high = self.aspp(c5)                                                    # (B, 256, h, w)
        high = enlarge(high, low)                                               # (B, 256, m, n)
        joined = torch.cat([low, high], 1)                                      # (B, 48+256, m, n)
        return self.classifier(joined)                                          # (B, K, m, n)


class DeepLabV3Plus(nn.Module):
    task = "segmentation"
    stride = 16
    recipe = SEGMENTATION_RECIPE
    # What differs for the built-in dataset: random weights, twelve minutes on two cores. What a shape is can
    # be learnt at 64 x 64 pixels, where a step is quick. The overlap of each class (dice) counts as much as
    # the pixels, most of which are background.
    shapes = {"input_shape": (112, 112), "small_share": 0.6, "epochs": 80, "batch_size": 8,
              "lr": 0.045, "weight_decay": 0.1, "scale": (0.9, 1.1), "colours": (0.015, 0.2, 0.2),
              "loss": {"cross_entropy": 1.0, "dice": 1.0}}

    def __init__(self, num_classes, input_shape=(512, 512), pretrained=False, backbone="mobilenet_v2",
                 downsample_factor=16, loss=None, class_weights=None, sigmoid=False):
        """num_classes: K, background included.  pretrained: True fetches the backbone, trained on ImageNet.
        backbone: one of BACKBONES.  downsample_factor: 16, or 8 for a finer c5 at two to three times the
        work.
        loss, class_weights, sigmoid: see SegmentationLoss.
        """
        super().__init__()
        if backbone not in BACKBONES:
            raise UserError(f'DeepLabv3+ has no backbone "{backbone}".{did_you_mean(backbone, BACKBONES)} '
                            f'Known: {", ".join(BACKBONES)}.')
        if downsample_factor not in RATES:
            raise UserError(f"downsample_factor={downsample_factor}: DeepLabv3+ knows 16, "
                            "and 8 (finer and slower).")

        # The decoder sees the first and the last map of the backbone.
        self.criterion = SegmentationLoss(num_classes, loss, class_weights, sigmoid)
        self.backbone = find_backbone(backbone, downsample_factor, pretrained)
        c2, _, _, c5 = self.backbone.channels
        self.classifier = Decoder(c2, c5, RATES[downsample_factor], self.criterion.channels)

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> logits (B, K, H, W), losses."""
        _, _, _, s = self.backbone.strides              # downsample_factor
        x = normalise(images)                                                   # (B, 3, H, W)
        c2, _, _, c5 = self.backbone(x)                                         # (B, C2, H/4, W/4), (B, C5, H/s, W/s)
        logits = self.classifier(c2, c5)                                        # (B, K, H/4, W/4)
        logits = enlarge(logits, images)                                        # (B, K, H, W)
        losses = {} if targets is None else self.criterion(logits, targets)     # () each
        return logits, losses

    def decode(self, logits):
        """logits -> scores (B, K, H, W) in 0-1."""
        scores = class_scores(logits)                                           # (B, K, H, W)
        return scores


def find_backbone(name, downsample_factor, pretrained):
    if name == "mobilenet_v2":
        return mobilenet_v2(downsample_factor, pretrained)
    if name == "xception65":
        return xception65(downsample_factor, pretrained)
    return resnet(name, downsample_factor, pretrained)
