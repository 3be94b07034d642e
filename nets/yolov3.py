"""YOLOv3: a deep residual backbone, three heads for three sizes of objects, three anchors a cell.

Paper: YOLOv3: An Incremental Improvement, arXiv 1804.02767. The layers are those of the published yolov3.cfg:
61,949,149 parameters at 80 classes, and its official weight files load. Here a family begins, and the file is
whole: blocks, backbone, heads, decoding, assignment, loss. yolov4.py and yolov4_tiny.py import from here what
they kept, and say what they changed.

    stage       layers                                              output
    backbone    conv 3x3                                              32 x H    x W
                conv 3x3/2,  1 residual block                         64 x H/2  x W/2
                conv 3x3/2,  2 residual blocks                       128 x H/4  x W/4
                conv 3x3/2,  8 residual blocks                       256 x H/8  x W/8  -> c3
                conv 3x3/2,  8 residual blocks                       512 x H/16 x W/16 -> c4
                conv 3x3/2,  4 residual blocks                      1024 x H/32 x W/32 -> c5
    neck        p5 = 5 convs of c5                                   512 x H/32 x W/32
                p4 = 5 convs of [upsampled conv 1x1 of p5, c4]       256 x H/16 x W/16
                p3 = 5 convs of [upsampled conv 1x1 of p4, c3]       128 x H/8  x W/8
    head, each  conv 3x3, conv 1x1                                  A(5+K) x h x w, with A = 3

A head's channels are, anchor by anchor: tx ty tw th, objectness, K classes. The centre is the cell's corner
plus sigmoid(tx, ty) cells, the size the anchor's times e^(tw, th), a class's score sigmoid(objectness) *
sigmoid(class) (section 2.1). An object is assigned to the anchor of all nine whose shape is most like its
own, in the cell of its centre. Losses, summed over the cells, mean over the images: the box (below);
objectness and classes as binary cross-entropy, where a prediction that is not assigned to an object but
overlaps one by more than 0.7 counts neither as object nor as background. The derivative of each of these by
tx, ty, tw, th, objectness and class is "prediction minus truth", which is how the paper and darknet state
them.

What differs from the paper and from darknet, and why:
* The paper ignores from an overlap of 0.5 on, yolov3.cfg from 0.7: the cfg's.
* Of two objects assigned to one prediction, darknet uses the box of the one that is listed later. Here both
  pull.
* Objectness starts at the probability 0.01 (prior bias), so that the empty cells do not drown the first
  steps.
* `recipe` is AdamW for a user's own data (see nets/layers.py). The cfg's SGD is meant for 500,200 steps of 64
  images.
* Anchors are in pixels of the input, as in darknet, so that official weights mean the same at every input
  size. They do not scale with input_shape, unless they come from a file that says what it was made for
  (tools/kmeans_anchors.py, option `anchors`).
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

from nets.layers import DETECTION_RECIPE, conv_norm_act
from utils.anchors import find_anchors
from utils.boxes import cxcywh_to_xyxy, pairwise_iou, size_iou, xyxy_to_cxcywh
from utils.losses import sigmoid_focal, smooth_labels
from utils.weights import download, load_weights

ANCHORS = (((10, 13), (16, 30), (33, 23)),              # width, height in px, at stride 8 (cfg: mask 0,1,2)
           ((30, 61), (62, 45), (59, 119)),             # at stride 16 (cfg: mask 3,4,5)
           ((116, 90), (156, 198), (373, 326)))         # at stride 32 (cfg: mask 6,7,8)
STAGES = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))     # channels, residual blocks (table 1)
IGNORE_IOU = 0.7                                        # a good box of a neighbouring cell is no background
PRIOR = 0.01
MAX_LOG_SIZE = 10.0                                     # e^10 anchors wide: keeps a diverging step finite
PRETRAINED = "https://pjreddie.com/media/files/darknet53.conv.74"
COCO = "https://pjreddie.com/media/files/yolov3.weights"


class Residual(nn.Module):
    """conv 1x1 to fewer channels, conv 3x3 back, and the input added to it."""

    def __init__(self, channels, hidden, conv=conv_norm_act):
        super().__init__()
        self.conv1 = conv(channels, hidden, 1)
        self.conv2 = conv(hidden, channels, 3)

    def forward(self, x):
        """x: (B, C, h, w) -> (B, C, h, w)."""
        y = self.conv1(x)                                                       # (B, D, h, w)
        y = self.conv2(y)                                                       # (B, C, h, w)
        return x + y                                                            # (B, C, h, w)


def five_convs(c_in, c):
    """To c channels with kernel 1, to 2c with kernel 3, and again; ends with kernel 1 and c channels."""
    return nn.Sequential(
        conv_norm_act(c_in, c, 1),
        conv_norm_act(c, 2 * c, 3),
        conv_norm_act(2 * c, c, 1),
        conv_norm_act(c, 2 * c, 3),
        conv_norm_act(2 * c, c, 1))


def make_head(c_in, c, channels):
    """conv 3x3 to c channels, conv 1x1 to the A(5+K) of a head."""
    return nn.Sequential(conv_norm_act(c_in, c, 3), nn.Conv2d(c, channels, 1))


def residual_stage(c, blocks):
    """Halves the map to c channels, then residual blocks."""
    halve = conv_norm_act(c // 2, c, 3, stride=2)
    return nn.Sequential(halve, *(Residual(c, c // 2) for _ in range(blocks)))


class Darknet53(nn.Module):
    def __init__(self, conv, stages):
        """conv: the first convolution, to 32 channels.  stages: five, each halves the map and doubles C."""
        super().__init__()
        self.conv = conv
        self.stage1, self.stage2, self.stage3, self.stage4, self.stage5 = stages

    def forward(self, images):
        x = self.conv(images)                                                   # (B, 32, H, W)
        x = self.stage1(x)                                                      # (B, 64, H/2, W/2)
        x = self.stage2(x)                                                      # (B, 128, H/4, W/4)
        c3 = self.stage3(x)                                                     # (B, 256, H/8, W/8)
        c4 = self.stage4(c3)                                                    # (B, 512, H/16, W/16)
        c5 = self.stage5(c4)                                                    # (B, 1024, H/32, W/32)
        return c3, c4, c5


class AnchorYOLO(nn.Module):
    """What YOLOv3, v4 and v4-tiny share: what the numbers of the heads mean, which of them learn an object,
    and the loss. What a network has to say itself is declared here.
    """

    task = "detection"
    stride = 32
    official = {"classes": "coco"}
    strides = None                                      # px, a number for each head, fine head first
    scale_xy = None                                     # for each head: how far a centre can move, in cells

    def __init__(self, num_classes, input_shape, anchors, assign_iou, box_weight, label_smoothing,
                 focal, focal_alpha, focal_gamma):
        """num_classes: K, foreground classes.
        anchors: per head, fine head first, A pairs (width, height) in px of the input; or the path of a
        file of tools/kmeans_anchors.py.
        assign_iou: an object is assigned to its best anchor, and to every other one whose shape has a
        larger IoU with its own than this; 1: to the best one only.
        box_weight: of the box loss.  label_smoothing: 0.1 makes the class targets 0.95 and 0.05.
        focal: focal loss for the objectness, with focal_alpha and focal_gamma.
        """
        super().__init__()
        self.num_classes = num_classes
        self.assign_iou = assign_iou
        self.box_weight = box_weight
        self.label_smoothing = label_smoothing
        self.focal = (focal_alpha, focal_gamma) if focal else None

        anchors = find_anchors(anchors, input_shape, len(self.strides))
        self.options = {"anchors": anchors.tolist()}    # what a file became: for the checkpoint
        self.register_buffer("anchors", anchors, persistent=False)

    def head_channels(self):
        return self.anchors.shape[1] * (5 + self.num_classes)

    def begin_heads(self, *heads):
        """The first weights of the heads, in place: small, and objectness says PRIOR."""
        for head in heads:
            nn.init.normal_(head[1].weight, std=0.01)
            nn.init.zeros_(head[1].bias)
            head[1].bias.data.view(-1, 5 + self.num_classes)[:, 4] = -math.log((1 - PRIOR) / PRIOR)

    def decode(self, outputs):
        """outputs -> boxes (B, N, 4) xyxy in input px, scores (B, N, K) in 0-1.

        N: fine head first, then anchor, row, column.
        """
        boxes, t = self.read(outputs)                                           # (B, N, 4), (B, N, 5+K)
        scores = t[..., 4:5].sigmoid() * t[..., 5:].sigmoid()                   # (B, N, K)
        return boxes, scores

    def read(self, outputs):
        """outputs -> boxes (B, N, 4) xyxy px, t (B, N, 5+K): the numbers as the heads say them; float32."""
        # One list of all predictions: anchor by anchor, row by row.
        t = []
        for output in outputs:
            B, _, h, w = output.shape
            level = output.float().view(B, self.anchors.shape[1], -1, h, w)     # (B, A, 5+K, h, w)
            level = level.permute(0, 1, 3, 4, 2)                                # (B, A, h, w, 5+K)
            t.append(level.reshape(B, -1, level.shape[-1]))
        t = torch.cat(t, 1)                                                     # (B, N, 5+K)

        # What the numbers mean: a place in the cell, and how many times as large as the anchor.
        cell, stride, scale, anchor = self.locate([output.shape[2:] for output in outputs])     # (N, 2), (N, 1), (N, 1), (N, 2)
        place = t[..., :2].sigmoid() * scale - (scale - 1) / 2                  # (B, N, 2)
        centres = (place + cell) * stride                                       # (B, N, 2)
        sizes = t[..., 2:4].clamp(max=MAX_LOG_SIZE).exp() * anchor              # (B, N, 2)
        boxes = cxcywh_to_xyxy(torch.cat([centres, sizes], -1))                 # (B, N, 4)
        return boxes, t

    def locate(self, maps):
        """Where each of the N predictions of maps [(h, w)] is, and which anchor it has.

        -> cell (N, 2) column, row; stride (N, 1) px; scale (N, 1), see scale_xy; anchor (N, 2) px.
        """
        levels = []
        for (h, w), stride, scale, anchors in zip(maps, self.strides, self.scale_xy, self.anchors):
            row, column = torch.meshgrid(torch.arange(h, device=anchors.device),
                                         torch.arange(w, device=anchors.device), indexing="ij")                 # (h, w), (h, w)
            cell = torch.stack([column, row], -1).float()                       # (h, w, 2)

            # Every cell has all anchors of its head: the whole map with the first, then with the second ...
            cell = cell.expand(len(anchors), h, w, 2).reshape(-1, 2)            # (n, 2)
            anchor = anchors[:, None, None].expand(-1, h, w, 2).reshape(-1, 2)  # (n, 2)
            stride = torch.full_like(cell[:, :1], stride)                       # (n, 1)
            scale = torch.full_like(cell[:, :1], scale)                         # (n, 1)
            levels.append((cell, stride, scale, anchor))
        return [torch.cat(parts) for parts in zip(*levels)]                     # (N, 2), (N, 1), (N, 1), (N, 2)

    def assign(self, true_boxes, maps):
        """Which predictions are responsible for which objects: best anchors by shape, in the cell of the
        centre.

        true_boxes: (G, 4) xyxy px.  maps: [(h, w)] of the heads.
        -> truth (P,) row of true_boxes, prediction (P,) index into N; every object has one at least.
        """
        # Which anchors: those whose shape is like the object's, wherever it is. They also say which head.
        sizes = true_boxes[:, 2:] - true_boxes[:, :2]                           # (G, 2)
        fit = size_iou(sizes, self.anchors.flatten(0, 1))                       # (G, M)
        chosen = (fit > self.assign_iou) | (fit == fit.amax(1, keepdim=True))   # (G, M)
        truth, anchor = chosen.nonzero(as_tuple=True)                           # (P,), (P,)
        A = self.anchors.shape[1]
        level, anchor = anchor // A, anchor % A                                 # (P,), (P,)

        # Of these heads: the map's height, width and stride, and the number of its first prediction.
        firsts = [0]
        for h, w in maps[:-1]:
            firsts.append(firsts[-1] + A * h * w)
        table = torch.tensor([*zip(*maps), self.strides, firsts], device=true_boxes.device)     # (4, S)
        heights, widths, strides, first = table[:, level]                       # (P,), (P,), (P,), (P,)

        # Which cell: that of the object's centre; a centre on the border belongs to the last cell.
        centres = ((true_boxes[:, :2] + true_boxes[:, 2:]) / 2)[truth]          # (P, 2)
        column, row = (centres / strides[:, None]).long().unbind(1)             # (P,), (P,)
        column = column.clamp(min=0).minimum(widths - 1)                        # (P,)
        row = row.clamp(min=0).minimum(heights - 1)                             # (P,)
        prediction = first + (anchor * heights + row) * widths + column         # (P,)
        return truth, prediction

    def loss(self, outputs, targets):
        """-> {"box", "objectness", "class"}: 0-d float32, sums over the predictions, mean over the images."""
        boxes, t = self.read(outputs)                                           # (B, N, 4), (B, N, 5+K)
        maps = [output.shape[2:] for output in outputs]
        B = len(targets)

        # The objects of all images in one list; `image` says to which each belongs.
        counts = torch.tensor([len(target["labels"]) for target in targets], device=boxes.device)           # (B,)
        true_boxes = torch.cat([target["boxes"] for target in targets]).to(boxes)               # (G, 4)
        true_labels = torch.cat([target["labels"] for target in targets]).to(boxes.device)      # (G,)
        image = torch.repeat_interleave(torch.arange(B, device=boxes.device), counts)           # (G,)

        # Which predictions are responsible for which objects; P pairs.
        truth, prediction = self.assign(true_boxes, maps)                       # (P,), (P,)
        where = (image[truth], prediction)                                      # (P,), (P,)

        # The box, for the responsible predictions alone.
        box_loss = self.box_loss(boxes[where], t[where], true_boxes[truth], prediction, maps)   # ()
        box_loss = box_loss * self.box_weight                                   # ()

        # Objectness: all are asked, except those that found an object without being responsible.
        objectness = t[..., 4]                                                  # (B, N)
        wanted = torch.zeros_like(objectness)                                   # (B, N)
        wanted[where] = 1.0
        ignored = self.measure_overlap(boxes, targets) > IGNORE_IOU             # (B, N)
        if self.focal:
            per_box = sigmoid_focal(objectness, wanted, *self.focal)            # (B, N)
        else:
            per_box = F.binary_cross_entropy_with_logits(objectness, wanted, reduction="none")  # (B, N)
        objectness_loss = (per_box * (~ignored | (wanted > 0))).sum()           # ()

        # Which one: a yes or no for each class, again of the responsible predictions.
        one_hot = F.one_hot(true_labels[truth], self.num_classes).to(t)         # (P, K)
        one_hot = smooth_labels(one_hot, self.label_smoothing)                  # (P, K)
        class_loss = F.binary_cross_entropy_with_logits(t[where][:, 5:], one_hot, reduction="sum")          # ()
        return {"box": box_loss / B, "objectness": objectness_loss / B, "class": class_loss / B}

    def box_loss(self, boxes, t, true_boxes, prediction, maps):
        """A network says how wrong the boxes of P predictions are: a sum -> () float32.

        boxes, true_boxes: (P, 4) xyxy px.  t: (P, 5+K), see `read`.  prediction: (P,) index into N.
        maps: [(h, w)] of the heads.
        """
        raise NotImplementedError

    @torch.no_grad()
    def measure_overlap(self, boxes, targets):
        """Each prediction's best IoU with an object of its image.

        boxes: (B, N, 4) xyxy px -> (B, N) in 0-1.
        """
        # One empty box more: then also an image without objects has a best one.
        true_boxes = [target["boxes"].to(boxes) for target in targets]          # (G, 4) each
        padded = nn.utils.rnn.pad_sequence(true_boxes, batch_first=True)        # (B, G, 4)
        padded = F.pad(padded, (0, 0, 0, 1))                                    # (B, G+1, 4)
        best = pairwise_iou(boxes, padded).amax(2)                              # (B, N)
        return best


class YOLOv3(AnchorYOLO):
    strides = (8, 16, 32)
    scale_xy = (1.0, 1.0, 1.0)
    recipe = DETECTION_RECIPE | {"input_shape": (416, 416), "lr": 0.002, "nms_iou": 0.45, "backbone_lr": 0.1}

    def __init__(self, num_classes, input_shape=(416, 416), pretrained=False, anchors=ANCHORS, assign_iou=1.0,
                 box_weight=1.0, label_smoothing=0.0, focal=False, focal_alpha=0.25, focal_gamma=2.0):
        """pretrained: True fetches the official backbone, trained on ImageNet; "coco" the whole detector.
        The others: see AnchorYOLO.
        """
        super().__init__(num_classes, input_shape, anchors, assign_iou, box_weight, label_smoothing,
                         focal, focal_alpha, focal_gamma)

        # Registered in the order of the cfg, which is the order of the official weight files.
        stages = (residual_stage(c, blocks) for c, blocks in STAGES)
        self.backbone = Darknet53(conv_norm_act(3, 32, 3), stages)
        self.neck5 = five_convs(1024, 512)
        self.head5 = make_head(512, 1024, self.head_channels())
        self.lateral5 = conv_norm_act(512, 256, 1)
        self.neck4 = five_convs(256 + 512, 256)
        self.head4 = make_head(256, 512, self.head_channels())
        self.lateral4 = conv_norm_act(256, 128, 1)
        self.neck3 = five_convs(128 + 256, 128)
        self.head3 = make_head(128, 256, self.head_channels())

        self.begin_heads(self.head3, self.head4, self.head5)
        if pretrained:
            print(load_weights(self, download(COCO if pretrained == "coco" else PRETRAINED)))

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> outputs, losses.

        outputs: three maps, fine to coarse, of (B, A(5+K), h, w).
        """
        c3, c4, c5 = self.backbone(images)                                      # (B, 256, H/8, W/8), (B, 512, H/16, W/16), (B, 1024, H/32, W/32)

        # The way up: a coarse map knows what there is; enlarged, it tells the next finer one.
        p5 = self.neck5(c5)                                                     # (B, 512, H/32, W/32)
        large5 = F.interpolate(self.lateral5(p5), scale_factor=2.0)             # (B, 256, H/16, W/16)
        p4 = self.neck4(torch.cat([large5, c4], 1))                             # (B, 256, H/16, W/16)
        large4 = F.interpolate(self.lateral4(p4), scale_factor=2.0)             # (B, 128, H/8, W/8)
        p3 = self.neck3(torch.cat([large4, c3], 1))                             # (B, 128, H/8, W/8)

        outputs = [self.head3(p3), self.head4(p4), self.head5(p5)]              # (B, 3*(5+K), h, w) each
        losses = {} if targets is None else self.loss(outputs, targets)
        return outputs, losses

    def box_loss(self, boxes, t, true_boxes, prediction, maps):
        """How wrong the boxes of P predictions are: a sum -> () float32. Arguments: see AnchorYOLO.box_loss.

        Binary cross-entropy of the centre's place in its cell, less its least value (a place is no yes or
        no: it has an entropy), and half the squared error of the logarithm of the size. Both times 2 minus
        the object's
        share of the picture: for a small one a pixel is much.
        """
        # What the numbers should be: the inverse of what `read` does with them.
        cell, stride, _, anchor = [part[prediction] for part in self.locate(maps)]              # (P, 2), (P, 1), (P, 2)
        truth = xyxy_to_cxcywh(true_boxes)                                      # (P, 4)
        place = (truth[:, :2] / stride - cell).clamp(0, 1)                      # (P, 2)
        growth = truth[:, 2:] / anchor                                          # (P, 2)
        growth = growth.clamp(min=math.exp(-MAX_LOG_SIZE)).log()                # (P, 2)

        # How far they are from it.
        least = torch.special.entr(place) + torch.special.entr(1 - place)       # (P, 2)
        centre = F.binary_cross_entropy_with_logits(t[:, :2], place, reduction="none") - least  # (P, 2)
        size = 0.5 * (t[:, 2:4] - growth).pow(2)                                # (P, 2)

        # The smaller the object, the more it counts.
        picture = math.prod(maps[-1]) * self.strides[-1] ** 2
        weight = 2 - truth[:, 2:].prod(1, keepdim=True) / picture               # (P, 1)
        return (weight * (centre + size)).sum()                                 # ()
