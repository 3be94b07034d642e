"""DeepLabV3: a dilated backbone keeps the map fine, parallel dilated convolutions (ASPP) see several scales.

Paper: Rethinking Atrous Convolution for Semantic Image Segmentation, arXiv 1706.05587. The layers and their
names are those of torchvision's deeplabv3_resnet50, _resnet101 and _mobilenet_v3_large: 42,004,074,
60,996,202 and 11,029,328 parameters at 21 classes, and its official COCO files load.

    stage             layers                                        output (ResNet; MobileNetV3)
    backbone          ResNet, layer3 and 4 dilated by 2 and 4       2048 x H/8  x W/8  -> c5
                      or MobileNetV3-Large, last stage by 2          960 x H/16 x W/16 -> c5
    classifier.0      ASPP: of c5 a conv 1x1, three dilated conv     256 x h x w
                      3x3 and the image's mean, 256 channels each;
                      joined, conv 1x1, dropout 0.5
    classifier.1-4    conv 3x3, conv 1x1                               K x h x w, enlarged to H x W
    aux_classifier    of c4 (MobileNetV3: c3) conv 3x3 to a quarter    K x h x w, enlarged to H x W
                      of the channels, dropout 0.1, conv 1x1

The auxiliary head is a second, smaller classifier on an earlier map: it brings gradient to the middle of the
backbone while it is trained, and is not run at all afterwards. C5 are the channels of c5. It is a whole FCN,
and like the choice of the backbone it comes from fcn.py.

What differs from the paper, and why (1-3 so that torchvision's files fit):
1. Behind the ASPP there is one more 3x3 convolution.
2. The paper trains at stride 16 with the dilations 6, 12, 18, and doubles them at stride 8. Here a ResNet
   has stride 8 always, and MobileNetV3 has stride 16 with 12, 24, 36 all the same.
3. There is no multi-grid: the blocks of the last stage are dilated by 2 (the first: see resnet.py), 4 and 4.
4. The loss of the auxiliary head counts 0.5: torchvision's training has it, the paper has no such head.
"""
import torch
import torch.nn.functional as F
from torch import nn

from nets.fcn import AUX_WEIGHT, dilated_backbone, head
from nets.layers import SEGMENTATION_RECIPE, PooledBatchNorm, enlarge, normalise
from utils.losses import SegmentationLoss, class_scores

RATES = (12, 24, 36)                                    # dilations of the ASPP, section 4.1, at stride 8


class Dilated(nn.Conv2d):
    """A 3x3 convolution whose taps lie `dilation` cells apart.

    On a map no wider than this the eight outer taps only ever meet the padding, and a 1x1 convolution is
    all that is left (section 3.3).
    Then it is computed as one: the same result, and small inputs cost less.
    """

    def __init__(self, c_in, c_out, dilation):
        super().__init__(c_in, c_out, 3, padding=dilation, dilation=dilation, bias=False)

    def forward(self, x):
        """x: (B, C, h, w) -> (B, D, h, w)."""
        if torch.onnx.is_in_onnx_export() or max(x.shape[2:]) > self.dilation[0]:
            return super().forward(x)                                           # (B, D, h, w)
        return F.conv2d(x, self.weight[:, :, 1:2, 1:2], self.bias)              # (B, D, h, w)


def conv_norm_relu(c_in, c_out, kernel, dilation=1):
    """A list, not a Sequential: the parts are numbered where they are put, as in torchvision's names."""
    if dilation > 1:
        conv = Dilated(c_in, c_out, dilation)
    else:
        conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]


class ImageMean(nn.Sequential):
    """What the whole image looks like, told to every cell: mean over the map, conv 1x1, spread out again
    (section 3.3).
    """

    def __init__(self, c_in, c_out):
        # Number 0 is the pooling in torchvision's names; here forward does it.
        conv = nn.Conv2d(c_in, c_out, 1, bias=False)
        super().__init__(nn.Identity(), conv, PooledBatchNorm(c_out), nn.ReLU(inplace=True))

    def forward(self, x):
        """x: (B, C, h, w) -> (B, D, h, w)."""
        mean = x.mean((2, 3), keepdim=True)                                     # (B, C, 1, 1)
        mean = super().forward(mean)                                            # (B, D, 1, 1)
        return mean.expand(-1, -1, *x.shape[2:])                                # (B, D, h, w)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: one map seen through five windows (section 3.3)."""

    def __init__(self, c_in, rates=RATES, c_out=256, dropout=0.5):
        """rates: dilations of the three 3x3 convolutions."""
        super().__init__()
        narrow = nn.Sequential(*conv_norm_relu(c_in, c_out, 1))
        dilated = [nn.Sequential(*conv_norm_relu(c_in, c_out, 3, rate)) for rate in rates]
        self.convs = nn.ModuleList([narrow, *dilated, ImageMean(c_in, c_out)])
        self.project = nn.Sequential(*conv_norm_relu(5 * c_out, c_out, 1), nn.Dropout(dropout))

    def forward(self, x):
        """x: (B, C, h, w) -> (B, 256, h, w)."""
        windows = [conv(x) for conv in self.convs]                              # (B, 256, h, w) each
        joined = torch.cat(windows, 1)                                          # (B, 5*256, h, w)
        return self.project(joined)                                             # (B, 256, h, w)


class DeepLabV3(nn.Module):
    task = "segmentation"
    stride = 8
    official = {"classes": "voc_segmentation"}
    recipe = SEGMENTATION_RECIPE

    def __init__(self, num_classes, input_shape=(512, 512), pretrained=False, backbone="resnet50", aux=True,
                 loss=None, class_weights=None, sigmoid=False):
        """num_classes: K, background included.  pretrained: True fetches the backbone, trained on ImageNet.
        backbone: one of BACKBONES in fcn.py.  aux: with the auxiliary head.
        loss, class_weights, sigmoid: see utils/losses.py, SegmentationLoss.
        """
        super().__init__()
        self.criterion = SegmentationLoss(num_classes, loss, class_weights, sigmoid)
        self.backbone, self.aux_level = dilated_backbone("DeepLabV3", backbone, pretrained)

        # Registered and numbered as in torchvision's files.
        self.classifier = nn.Sequential(
            ASPP(self.backbone.channels[3]),
            *conv_norm_relu(256, 256, 3),
            nn.Conv2d(256, self.criterion.channels, 1))
        self.aux_classifier = None
        if aux:
            self.aux_classifier = head(self.backbone.channels[self.aux_level], self.criterion.channels)

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> logits (B, K, H, W), losses."""
        x = normalise(images)                                                   # (B, 3, H, W)
        maps = self.backbone(x)                                                 # (B, C, h, w) each: c2, c3, c4, c5
        middle = maps[self.aux_level]                                           # (B, C, m, n)
        c5 = maps[3]                                                            # (B, C5, h, w)

        # What each cell is, then what each pixel is.
        logits = self.classifier(c5)                                            # (B, K, h, w)
        logits = enlarge(logits, images)                                        # (B, K, H, W)
        losses = {} if targets is None else self.loss(logits, middle, targets)
        return logits, losses

    def decode(self, logits):
        """logits -> scores (B, K, H, W) in 0-1."""
        scores = class_scores(logits)                                           # (B, K, H, W)
        return scores

    def loss(self, logits, middle, targets):
        """logits: (B, K, H, W).  middle: (B, C, h, w), the map that the auxiliary head looks at.
        -> dict of weighted 0-d losses.
        """
        losses = self.criterion(logits, targets)                                # () each
        if self.aux_classifier is not None:
            aux = self.aux_classifier(middle)                                   # (B, K, h, w)
            aux = enlarge(aux, logits)                                          # (B, K, H, W)
            losses |= self.criterion(aux, targets, weight=AUX_WEIGHT, prefix="aux_")            # () each
        return losses                                                           # () each
