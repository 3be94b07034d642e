"""FCN: a classifier that gives its answer at every cell of its last map; the network with which semantic
segmentation by deep learning began.

Paper: Fully Convolutional Networks for Semantic Segmentation, arXiv 1411.4038. The layers and their names are
those of torchvision's fcn_resnet50 and fcn_resnet101: 35,322,218 and 54,314,346 parameters at 21 classes, and
its official COCO files load.

    stage            layers                                         output (ResNet; MobileNetV3)
    backbone         ResNet, layer3 and 4 dilated by 2 and 4        2048 x H/8  x W/8  -> c5
                     or MobileNetV3-Large, last stage by 2           960 x H/16 x W/16 -> c5
    classifier       of c5 conv 3x3 to a quarter of the channels,      K x h x w, enlarged to H x W
                     dropout 0.1, conv 1x1
    aux_classifier   the same of c4 (MobileNetV3: c3), in training     K x h x w, enlarged to H x W

The idea (section 3.1): a classifier ends in a mean over the map and a linear layer, one answer for the whole
image. A linear layer at each cell is a 1x1 convolution. Leave the mean out, and every cell answers for what
it sees.

What differs from the paper, and why (1-3 so that torchvision's files fit):
1. The paper's backbone is VGG-16 at stride 32, and its map is fine-tuned with two earlier ones (FCN-16s,
   FCN-8s). A ResNet whose last two stages are dilated has stride 8 from the beginning.
2. It enlarges by transposed convolutions that are learned; bilinear is where those begin, too.
3. There is a 3x3 convolution before the last one, and an auxiliary head, whose loss counts 0.5.
4. backbone="mobilenet_v3_large" is ours, for computers without a GPU; no official file has it.
"""
from torch import nn

from nets.backbones.mobilenet import mobilenet_v3_large
from nets.backbones.resnet import resnet
from nets.layers import SEGMENTATION_RECIPE, enlarge, normalise
from utils.errors import UserError, did_you_mean
from utils.losses import SegmentationLoss, class_scores

BACKBONES = ("resnet50", "resnet101", "mobilenet_v3_large")
AUX_WEIGHT = 0.5


def head(c_in, outputs):
    """What each cell is, from what it sees."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_in // 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(c_in // 4),
        nn.ReLU(inplace=True),
        nn.Dropout(0.1),
        nn.Conv2d(c_in // 4, outputs, 1))


def dilated_backbone(title, backbone, pretrained):
    """-> the backbone; which of its maps c2, c3, c4, c5 an auxiliary head looks at: 0, 1, 2 or 3.

    title: of the network, for the error: backbone is none of BACKBONES.
    """
    if backbone not in BACKBONES:
        raise UserError(f'{title} has no backbone "{backbone}".{did_you_mean(backbone, BACKBONES)} '
                        f'Known: {", ".join(BACKBONES)}.')
    if backbone == "mobilenet_v3_large":
        return mobilenet_v3_large(pretrained), 1
    return resnet(backbone, 8, pretrained), 2


class FCN(nn.Module):
    task = "segmentation"
    stride = 8
    official = {"classes": "voc_segmentation"}
    recipe = SEGMENTATION_RECIPE

    def __init__(self, num_classes, input_shape=(512, 512), pretrained=False, backbone="resnet50", aux=True,
                 loss=None, class_weights=None, sigmoid=False):
        """num_classes: K, background included.  pretrained: True fetches the backbone, trained on ImageNet.
        backbone: one of BACKBONES.  aux: with the auxiliary head.
        loss, class_weights, sigmoid: see utils/losses.py, SegmentationLoss.
        """
        super().__init__()
        self.criterion = SegmentationLoss(num_classes, loss, class_weights, sigmoid)
        self.backbone, self.aux_level = dilated_backbone("FCN", backbone, pretrained)
        self.classifier = head(self.backbone.channels[3], self.criterion.channels)
        self.aux_classifier = None
        if aux:
            self.aux_classifier = head(self.backbone.channels[self.aux_level], self.criterion.channels)

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> logits (B, K, H, W), losses."""
        x = normalise(images)                                                   # (B, 3, H, W)
        maps = self.backbone(x)                                                 # (B, C, h, w) each: c2, c3, c4, c5
        middle = maps[self.aux_level]                                           # (B, D, r, s)
        logits = self.classifier(maps[3])                                       # (B, K, m, n)
        logits = enlarge(logits, images)                                        # (B, K, H, W)
        losses = {} if targets is None else self.loss(logits, middle, targets)  # () each
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
            aux = enlarge(self.aux_classifier(middle), logits)                  # (B, K, H, W)
            losses |= self.criterion(aux, targets, weight=AUX_WEIGHT, prefix="aux_")            # () each
        return losses                                                           # () each
