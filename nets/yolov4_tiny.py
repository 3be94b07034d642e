"""YOLOv4-tiny: a small backbone of cross-stage-partial blocks, two heads, three anchors a cell.

Papers: YOLOv4, arXiv 2004.10934; Scaled-YOLOv4, arXiv 2011.08036, section 4.3 (the tiny network). The
layers are those of the published yolov4-tiny.cfg: 6,056,606 parameters at 80 classes, and its official
weight files load.

    stage          layers                                        output
    backbone       conv 3x3/2, conv 3x3/2                         64 x H/4  x W/4
                   CSP block, pool                               128 x H/8  x W/8
                   CSP block, pool                               256 x H/16 x W/16
                   CSP block (its 256 channels before the        256 x H/16 x W/16 -> c4
                   doubling are c4), pool, conv 3x3              512 x H/32 x W/32 -> c5
    neck           p5 = conv 1x1 of c5                           256 x H/32 x W/32
                   p4 = [upsampled conv 1x1 of p5, c4]           384 x H/16 x W/16
    head, each     conv 3x3, conv 1x1                            A(5+K) x h x w, with A = 3

This file has the layers and the anchors. What the network kept is imported: what the numbers of a head
mean, decoding, which anchors learn an object and the losses (AnchorYOLO in yolov3.py), the box loss
(yolov4.py). Read those first.
What it changed: the backbone, whose CSP blocks pass half of the channels on as they are, without a
convolution of their own, and have no residuals; LeakyReLU for Mish; no SPP, no way down, no head for small
objects. A ninth of the work, a tenth of the parameters.

What differs from the published configuration, and why:
* The anchor for an object is sought among the five that a head owns. The cfg also lists 10,14, which no
  head has, and assigns an object that fits it best to nobody.
* An object is assigned to its best anchor and to every other one with IoU > 0.213, the rule of the large
  YOLOv4: more positives, so that a small dataset trains. `assign_iou=1` is the rule of the tiny cfg.
* `recipe` is AdamW for a user's own data (see nets/layers.py). The cfg's SGD is meant for 500,200 steps of 64
  images; after 25 epochs of Shapes it had reached mAP50 0.78, AdamW 0.92 (benchmarks/results.md).
* The weight of the box loss, prior bias, anchors: as in yolov4.py and yolov3.py.
"""
import torch
import torch.nn.functional as F
from torch import nn

from nets.layers import DETECTION_RECIPE, conv_norm_act
from nets.yolov3 import AnchorYOLO, make_head
from nets.yolov4 import ASSIGN_IOU, BOX_WEIGHT, ciou_loss
from utils.weights import download, load_weights

ANCHORS = (((23, 27), (37, 58), (81, 82)),              # width, height in px, at stride 16 (cfg: mask 1,2,3)
           ((81, 82), (135, 169), (344, 319)))          # at stride 32 (cfg: mask 3,4,5)
PRETRAINED = "https://github.com/AlexeyAB/darknet/releases/download/darknet_yolo_v4_pre/yolov4-tiny.conv.29"
COCO = "https://github.com/AlexeyAB/darknet/releases/download/darknet_yolo_v4_pre/yolov4-tiny.weights"


class CSPBlock(nn.Module):
    """One half of the channels goes through two convolutions, everything is joined again; then the map is
    halved.
    """

    def __init__(self, channels):
        super().__init__()
        self.entry = conv_norm_act(channels, channels, 3)
        self.inner1 = conv_norm_act(channels // 2, channels // 2, 3)
        self.inner2 = conv_norm_act(channels // 2, channels // 2, 3)
        self.merge = conv_norm_act(channels, channels, 1)

    def forward(self, x):
        """x: (B, C, h, w) -> pooled (B, 2C, h/2, w/2), merged (B, C, h, w)."""
        x = self.entry(x)                                                       # (B, C, h, w)

        # One half goes through two convolutions, and the result of each is used.
        half = x.chunk(2, dim=1)[1]                                             # (B, C/2, h, w)
        inner1 = self.inner1(half)                                              # (B, C/2, h, w)
        inner2 = self.inner2(inner1)                                            # (B, C/2, h, w)
        merged = self.merge(torch.cat([inner2, inner1], dim=1))                 # (B, C, h, w)

        # All channels also go past these convolutions; then the map is halved.
        joined = torch.cat([x, merged], dim=1)                                  # (B, 2*C, h, w)
        pooled = F.max_pool2d(joined, 2)                                        # (B, 2*C, h/2, w/2)
        return pooled, merged                                                   # (B, 2*C, h/2, w/2), (B, C, h, w)


class CSPDarknetTiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = conv_norm_act(3, 32, 3, stride=2)
        self.conv2 = conv_norm_act(32, 64, 3, stride=2)
        self.block1 = CSPBlock(64)
        self.block2 = CSPBlock(128)
        self.block3 = CSPBlock(256)
        self.conv3 = conv_norm_act(512, 512, 3)

    def forward(self, images):
        x = self.conv1(images)                                                  # (B, 32, H/2, W/2)
        x = self.conv2(x)                                                       # (B, 64, H/4, W/4)
        x, _ = self.block1(x)                                                   # (B, 128, H/8, W/8)
        x, _ = self.block2(x)                                                   # (B, 256, H/16, W/16)
        x, c4 = self.block3(x)                                                  # (B, 512, H/32, W/32), (B, 256, H/16, W/16)
        c5 = self.conv3(x)                                                      # (B, 512, H/32, W/32)
        return c4, c5


class YOLOv4Tiny(AnchorYOLO):
    strides = (16, 32)
    scale_xy = (1.05, 1.05)
    box_loss = ciou_loss
    recipe = DETECTION_RECIPE | {"input_shape": (416, 416), "lr": 0.003, "nms_iou": 0.45}

    def __init__(self, num_classes, input_shape=(416, 416), pretrained=False, anchors=ANCHORS,
                 assign_iou=ASSIGN_IOU, box_weight=BOX_WEIGHT, label_smoothing=0.0,
                 focal=False, focal_alpha=0.25, focal_gamma=2.0):
        """pretrained: True fetches the official backbone, trained on COCO; "coco" the whole detector.
        The others: see AnchorYOLO.
        """
        super().__init__(num_classes, input_shape, anchors, assign_iou, box_weight, label_smoothing,
                         focal, focal_alpha, focal_gamma)

        # Registered in the order of the cfg, which is the order of the official weight files.
        self.backbone = CSPDarknetTiny()
        self.reduce5 = conv_norm_act(512, 256, 1)
        self.head5 = make_head(256, 512, self.head_channels())
        self.lateral = conv_norm_act(256, 128, 1)
        self.head4 = make_head(384, 256, self.head_channels())

        self.begin_heads(self.head4, self.head5)
        if pretrained:
            print(load_weights(self, download(COCO if pretrained == "coco" else PRETRAINED)))

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> outputs, losses. outputs: two maps, fine first, of (B, A(5+K), h,
        w).
        """
        c4, c5 = self.backbone(images)                                          # (B, 256, H/16, W/16), (B, 512, H/32, W/32)

        # The way up: the coarse map knows what there is; enlarged, it tells the fine one.
        p5 = self.reduce5(c5)                                                   # (B, 256, H/32, W/32)
        large5 = F.interpolate(self.lateral(p5), scale_factor=2.0)              # (B, 128, H/16, W/16)
        p4 = torch.cat([large5, c4], dim=1)                                     # (B, 384, H/16, W/16)

        outputs = [self.head4(p4), self.head5(p5)]                              # (B, 3*(5+K), H/16, W/16), (B, 3*(5+K), H/32, W/32)
        losses = {} if targets is None else self.loss(outputs, targets)
        return outputs, losses
