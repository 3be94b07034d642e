"""LR-ASPP: the smallest head that still segments well, on MobileNetV3: for telephones, boards and computers
without a GPU.

Paper: Searching for MobileNetV3, arXiv 1905.02244, section 6.4, figure 10 ("Lite R-ASPP"). The layers and
their names are those of torchvision's lraspp_mobilenet_v3_large: 3,221,538 parameters at 21 classes, and its
official COCO file loads.

    stage                        layers                                     output
    backbone                     MobileNetV3-Large, last stage dilated       40 x H/8  x W/8  -> c3
                                 by 2                                       960 x H/16 x W/16 -> c5
    classifier.cbr               of c5 conv 1x1                             128 x H/16 x W/16
    classifier.scale             of c5 the mean of the image, conv 1x1,     128 x 1 x 1
                                 sigmoid: a factor for each channel
    classifier.high_classifier   their product, enlarged; conv 1x1            K x H/8 x W/8
    classifier.low_classifier    of c3 conv 1x1, added to it                  K x H/8 x W/8, enlarged to H x W

DeepLabV3's ASPP looks at the map through five windows. Here two are left: the cell itself, and the whole
image, which only says how much each of the 128 channels counts (like the squeeze-and-excitation of the
backbone). The finer map c3 knows where outlines are, so it has a say of its own.

What differs from the paper, and why: the mean is that of the whole image. The paper pools windows of 49 x 49
cells in steps of 16 x 20, made for its input of 1024 x 2048; torchvision's files mean the whole image.
"""
from torch import nn

from nets.backbones.mobilenet import mobilenet_v3_large
from nets.layers import SEGMENTATION_RECIPE, enlarge, normalise
from utils.losses import SegmentationLoss, class_scores

WIDTH = 128                                             # channels of the head


class Head(nn.Module):
    """Registered and numbered as in torchvision's file."""

    def __init__(self, c_low, c_high, outputs):
        """c_low, c_high: channels of c3 and c5."""
        super().__init__()
        self.cbr = nn.Sequential(
            nn.Conv2d(c_high, WIDTH, 1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU(inplace=True))
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(c_high, WIDTH, 1, bias=False), nn.Sigmoid())
        self.low_classifier = nn.Conv2d(c_low, outputs, 1)
        self.high_classifier = nn.Conv2d(WIDTH, outputs, 1)

    def forward(self, low, high):
        """low: (B, C, h, w), high: (B, D, h/2, w/2) -> logits (B, K, h, w)."""
        x = self.cbr(high)                                                      # (B, 128, m, n)
        x = x * self.scale(high)                                                # (B, 128, m, n)
        x = enlarge(x, low)                                                     # (B, 128, h, w)
        return self.low_classifier(low) + self.high_classifier(x)               # (B, K, h, w)


class LRASPP(nn.Module):
    task = "segmentation"
    stride = 16
    official = {"classes": "voc_segmentation"}
    recipe = SEGMENTATION_RECIPE

    def __init__(self, num_classes, input_shape=(512, 512), pretrained=False,
                 loss=None, class_weights=None, sigmoid=False):
        """num_classes: K, background included.  pretrained: True fetches the backbone, trained on ImageNet.
        loss, class_weights, sigmoid: see utils/losses.py, SegmentationLoss.
        """
        super().__init__()
        self.criterion = SegmentationLoss(num_classes, loss, class_weights, sigmoid)
        self.backbone = mobilenet_v3_large(pretrained)
        _, c3, _, c5 = self.backbone.channels
        self.classifier = Head(c3, c5, self.criterion.channels)

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> logits (B, K, H, W), losses."""
        x = normalise(images)                                                   # (B, 3, H, W)
        _, c3, _, c5 = self.backbone(x)                                         # (B, 40, H/8, W/8), (B, 960, H/16, W/16)
        logits = self.classifier(c3, c5)                                        # (B, K, H/8, W/8)
        logits = enlarge(logits, images)                                        # (B, K, H, W)
        losses = {} if targets is None else self.criterion(logits, targets)     # () each
        return logits, losses

    def decode(self, logits):
        """logits -> scores (B, K, H, W) in 0-1."""
        scores = class_scores(logits)                                           # (B, K, H, W)
        return scores
