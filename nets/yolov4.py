"""YOLOv4: YOLOv3 with a cross-stage-partial backbone, a wide view (SPP), a second way through the neck (PAN),
and a box loss that is the IoU's.

Paper: YOLOv4: Optimal Speed and Accuracy of Object Detection, arXiv 2004.10934. The layers are those of the
published yolov4.cfg: 64,363,101 parameters at 80 classes, and its official weight files load.

    stage       layers                                              output
    backbone    conv 3x3                                              32 x H    x W
                conv 3x3/2, CSP stage of 1 residual block             64 x H/2  x W/2
                conv 3x3/2, CSP stage of 2                           128 x H/4  x W/4
                conv 3x3/2, CSP stage of 8                           256 x H/8  x W/8  -> c3
                conv 3x3/2, CSP stage of 8                           512 x H/16 x W/16 -> c4
                conv 3x3/2, CSP stage of 4                          1024 x H/32 x W/32 -> c5
    neck, up    p5 = SPP of c5: 3 convs, pools, 3 convs              512 x H/32 x W/32
                p4 = 5 convs of [conv 1x1 of c4, upsampled           256 x H/16 x W/16
                     conv 1x1 of p5]
                p3 = 5 convs of [conv 1x1 of c3, the same of p4]     128 x H/8  x W/8
    neck, down  n4 = 5 convs of [conv 3x3/2 of p3, p4]               256 x H/16 x W/16
                n5 = 5 convs of [conv 3x3/2 of n4, p5]               512 x H/32 x W/32
    head, each  of p3, n4, n5: conv 3x3, conv 1x1                   A(5+K) x h x w, with A = 3

What it kept (imported from yolov3.py, to be read first): the order of the stages, residual blocks, five
convs, heads and what their numbers mean, decoding, the assignment, objectness and classes of the loss.
What it changed:
* The backbone: only half of the channels goes through a stage's residual blocks (CSPNet, arXiv 1911.11929),
  and its activation is Mish.
* SPP: each cell of c5 also sees the largest value of the 5x5, 9x9 and 13x13 cells around it.
* PAN: after the way up the maps go down again, so that also the coarse heads get what the fine maps know of
  borders.
* The centre: sigmoid(tx, ty) is stretched by 1.2, 1.1, 1.05, so that it can reach the border of its cell
  ("grid sensitivity").
* Larger anchors for small objects; an object is assigned to every anchor with IoU > 0.213 by shape, not to
  the best one only.
* The box loss is 1 - CIoU: it looks at the box as a whole. YOLOv3 has a loss for the centre and another for
  the size, as if they had nothing to do with each other.

What differs from the published configuration, and why:
* The box loss weighs 2, not 0.07 (cfg: iou_normalizer). darknet takes the derivative of CIoU in units of
  the whole picture and leaves out the step back to tx and ty, a factor of 1/52 to 1/13 at 416; autograd
  does not leave it out.
* darknet's limit of 5 for every derivative (max_delta) is not there: train.py limits the length of the
  whole gradient.
* Of the paper's many ways to vary the pictures the cfg keeps mosaic; here every second picture is one, not
  every one.
* Suppression is the common one, by IoU; the cfg's also looks at the distance of the centres.
* Prior bias, `recipe` and anchors: as in yolov3.py.
"""
import torch
import torch.nn.functional as F
from torch import nn

from nets.layers import DETECTION_RECIPE, conv_norm_act, pyramid_pool
from nets.yolov3 import STAGES, AnchorYOLO, Darknet53, Residual, five_convs, make_head
from utils.boxes import complete_iou
from utils.weights import download, load_weights

ANCHORS = (((12, 16), (19, 36), (40, 28)),              # width, height in px, at stride 8 (cfg: mask 0,1,2)
           ((36, 75), (76, 55), (72, 146)),             # at stride 16 (cfg: mask 3,4,5)
           ((142, 110), (192, 243), (459, 401)))        # at stride 32 (cfg: mask 6,7,8)
PARTS = (64, 64, 128, 256, 512)                         # channels that go either way in a CSP stage: half;
                                                        # in the first stage all
ASSIGN_IOU = 0.213                                      # cfg: iou_thresh
BOX_WEIGHT = 2.0                                        # cfg: iou_normalizer 0.07, see "What differs"
PRETRAINED = "https://github.com/AlexeyAB/darknet/releases/download/darknet_yolo_v3_optimal/yolov4.conv.137"
COCO = "https://github.com/AlexeyAB/darknet/releases/download/darknet_yolo_v3_optimal/yolov4.weights"


def conv_mish(c_in, c_out, kernel, stride=1):
    return conv_norm_act(c_in, c_out, kernel, stride, act=nn.Mish(inplace=True))


class CSPStage(nn.Module):
    """Halves the map. Then one part of the channels goes through residual blocks, another one beside them;
    both are joined again.
    """

    def __init__(self, c_in, c, blocks, part):
        """c: channels that come out.  part: channels that go either way."""
        super().__init__()
        self.down = conv_mish(c_in, c, 3, stride=2)
        self.beside = conv_mish(c, part, 1)
        self.entry = conv_mish(c, part, 1)
        self.blocks = nn.Sequential(*(Residual(part, c // 2, conv_mish) for _ in range(blocks)))
        self.exit = conv_mish(part, part, 1)
        self.merge = conv_mish(2 * part, c, 1)

    def forward(self, x):
        """x: (B, C, 2h, 2w) -> (B, 2C, h, w)."""
        x = self.down(x)                                                        # (B, 2*C, h, w)
        beside = self.beside(x)                                                 # (B, D, h, w)
        through = self.exit(self.blocks(self.entry(x)))                         # (B, D, h, w)
        return self.merge(torch.cat([through, beside], 1))                      # (B, 2*C, h, w)


def csp_darknet53():
    """Darknet-53 with CSP stages instead of the residual ones."""
    stages = (CSPStage(c // 2, c, blocks, part) for (c, blocks), part in zip(STAGES, PARTS))
    return Darknet53(conv_mish(3, 32, 3), stages)


def three_convs(c_in, c):
    """To c channels with kernel 1, to 2c with kernel 3, back to c with kernel 1."""
    return nn.Sequential(
        conv_norm_act(c_in, c, 1),
        conv_norm_act(c, 2 * c, 3),
        conv_norm_act(2 * c, c, 1))


class SPP(nn.Module):
    """Spatial pyramid pooling: the largest values of wider and wider surroundings beside the value itself
    (section 3.4).
    """

    def __init__(self, c_in, c):
        super().__init__()
        self.before = three_convs(c_in, c)
        self.after = three_convs(4 * c, c)

    def forward(self, x):
        """x: (B, 2C, h, w) -> (B, C, h, w)."""
        x = self.before(x)                                                      # (B, C, h, w)

        # The widest first: so the cfg joins them, and so the official weights mean them.
        pooled = pyramid_pool(x)[::-1]                                          # (B, C, h, w) each
        return self.after(torch.cat(pooled, 1))                                 # (B, C, h, w)


def ciou_loss(network, boxes, t, true_boxes, prediction, maps):
    """The sum of 1 - CIoU: the box_loss of a network. The arguments: see AnchorYOLO.box_loss."""
    return (1 - complete_iou(boxes, true_boxes)).sum()                          # ()


class YOLOv4(AnchorYOLO):
    strides = (8, 16, 32)
    scale_xy = (1.2, 1.1, 1.05)
    box_loss = ciou_loss
    recipe = DETECTION_RECIPE | {"input_shape": (416, 416), "lr": 0.002, "nms_iou": 0.45}

    def __init__(self, num_classes, input_shape=(416, 416), pretrained=False, anchors=ANCHORS,
                 assign_iou=ASSIGN_IOU, box_weight=BOX_WEIGHT, label_smoothing=0.0,
                 focal=False, focal_alpha=0.25, focal_gamma=2.0):
        """pretrained: True fetches the official backbone and most of the neck, trained on COCO; "coco" the
        whole detector.  The others: see AnchorYOLO.
        """
        super().__init__(num_classes, input_shape, anchors, assign_iou, box_weight, label_smoothing,
                         focal, focal_alpha, focal_gamma)

        # Registered in the order of the cfg, which is the order of the official weight files.
        self.backbone = csp_darknet53()
        self.spp = SPP(1024, 512)

        # The way up, from p5 to p3.
        self.up5 = conv_norm_act(512, 256, 1)
        self.lateral4 = conv_norm_act(512, 256, 1)
        self.merge4 = five_convs(512, 256)
        self.up4 = conv_norm_act(256, 128, 1)
        self.lateral3 = conv_norm_act(256, 128, 1)
        self.merge3 = five_convs(256, 128)
        self.head3 = make_head(128, 256, self.head_channels())

        # The way down, with a head at every level.
        self.down3 = conv_norm_act(128, 256, 3, stride=2)
        self.join4 = five_convs(512, 256)
        self.head4 = make_head(256, 512, self.head_channels())
        self.down4 = conv_norm_act(256, 512, 3, stride=2)
        self.join5 = five_convs(1024, 512)
        self.head5 = make_head(512, 1024, self.head_channels())

        self.begin_heads(self.head3, self.head4, self.head5)
        if pretrained:
            print(load_weights(self, download(COCO if pretrained == "coco" else PRETRAINED)))

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> outputs, losses.

        outputs: three maps, fine to coarse, of (B, A(5+K), h, w).
        """
        c3, c4, c5 = self.backbone(images)                                      # (B, 256, H/8, W/8), (B, 512, H/16, W/16), (B, 1024, H/32, W/32)
        p5 = self.spp(c5)                                                       # (B, 512, H/32, W/32)

        # The way up: a coarse map knows what there is; enlarged, it tells the next finer one.
        large5 = F.interpolate(self.up5(p5), scale_factor=2.0)                  # (B, 256, H/16, W/16)
        p4 = self.merge4(torch.cat([self.lateral4(c4), large5], 1))             # (B, 256, H/16, W/16)
        large4 = F.interpolate(self.up4(p4), scale_factor=2.0)                  # (B, 128, H/8, W/8)
        p3 = self.merge3(torch.cat([self.lateral3(c3), large4], 1))             # (B, 128, H/8, W/8)

        # The way down: a fine map knows where it is; halved, it tells the next coarser one.
        n4 = self.join4(torch.cat([self.down3(p3), p4], 1))                     # (B, 256, H/16, W/16)
        n5 = self.join5(torch.cat([self.down4(n4), p5], 1))                     # (B, 512, H/32, W/32)

        outputs = [self.head3(p3), self.head4(n4), self.head5(n5)]              # (B, 3*(5+K), h, w) each
        losses = {} if targets is None else self.loss(outputs, targets)
        return outputs, losses
