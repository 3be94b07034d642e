"""YOLOv4-tiny: a small backbone of cross-stage-partial blocks, two heads, three anchors a cell.

Papers: YOLOv4, arXiv 2004.10934; Scaled-YOLOv4, arXiv 2011.08036, section 4.3 (the tiny network). The layers are those of
the published yolov4-tiny.cfg: 6,056,606 parameters at 80 classes, and its official weight files load.

    stage          layers                                        output
    backbone       conv 3x3/2, conv 3x3/2                         64 x H/4  x W/4
                   CSP block, pool                               128 x H/8  x W/8
                   CSP block, pool                               256 x H/16 x W/16
                   CSP block (its 256 channels before the        256 x H/16 x W/16 -> c4
                   doubling are c4), pool, conv 3x3              512 x H/32 x W/32 -> c5
    neck           p5 = conv 1x1 of c5                           256 x H/32 x W/32
                   p4 = [upsampled conv 1x1 of p5, c4]           384 x H/16 x W/16
    head, each     conv 3x3, conv 1x1                            A(5+K) x h x w, with A = 3

A head's channels are, anchor by anchor: tx ty tw th, objectness, K classes. Loss as darknet trains, summed over the cells,
mean over the images: 2 (1 - CIoU) + objectness + classes, the last two as binary cross-entropy.

What differs from the published configuration, and why:
* The anchor for a truth is sought among the five that a head owns. The cfg also lists 10,14, which no head has, and
  gives an object that fits it best to nobody.
* Beside its best anchor a truth also gets every anchor with IoU > 0.213, the rule of the large YOLOv4: more positives,
  so that a small data set trains. `assign_iou=1` is the rule of the tiny cfg.
* The box loss weighs 2, not 0.07 (cfg: iou_normalizer). darknet takes the derivative of CIoU in units of the whole picture
  and leaves out the step back to tx and ty, a factor of about 1/26 or 1/13; autograd does not leave it out.
* Objectness starts at the probability 0.01 (prior bias), so that the empty cells do not drown the first steps.
* The recipe is AdamW. The cfg's SGD is meant for 500,200 steps of 64 images; after 25 epochs of Shapes it stood at mAP50 0.78,
  AdamW at 0.92 (benchmarks/results.md).
* Anchors are in pixels of the input, as in darknet, so that official weights mean the same at every input size.
  They do not scale with input_shape: give your own (option `anchors`) for an input far from 416.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

from nets.layers import conv_norm_act
from utils.boxes import complete_iou, cxcywh_to_xyxy, pairwise_iou, size_iou
from utils.losses import sigmoid_focal, smooth_labels
from utils.weights import download, load_weights

ANCHORS = (((23, 27), (37, 58), (81, 82)),              # width, height in px, of the head at stride 16 (cfg: mask 1,2,3)
           ((81, 82), (135, 169), (344, 319)))          # at stride 32 (cfg: mask 3,4,5)
STRIDES = (16, 32)
SCALE_XY = 1.05                                         # lets a centre reach the border of its cell (YOLOv4, "grid sensitivity")
ASSIGN_IOU = 0.213                                      # yolov4.cfg: iou_thresh
IGNORE_IOU = 0.7                                        # a good box on a neighbouring cell is not punished as background
BOX_WEIGHT = 2.0                                        # cfg: iou_normalizer 0.07, see "What differs"
PRIOR = 0.01
MAX_LOG_SIZE = 10.0                                     # e^10 anchors wide: keeps a diverging step finite
PRETRAINED = "https://github.com/AlexeyAB/darknet/releases/download/darknet_yolo_v4_pre/yolov4-tiny.conv.29"


class CSPBlock(nn.Module):
    """One half of the channels goes through two convolutions, everything is joined again; then the map is halved."""

    def __init__(self, channels):
        super().__init__()
        self.entry = conv_norm_act(channels, channels, 3)
        self.inner1 = conv_norm_act(channels // 2, channels // 2, 3)
        self.inner2 = conv_norm_act(channels // 2, channels // 2, 3)
        self.merge = conv_norm_act(channels, channels, 1)

    def forward(self, x):
        """x: (B, C, h, w) -> pooled (B, 2C, h/2, w/2), merged (B, C, h, w)."""
        x = self.entry(x)                                                       # (B, C, h, w)
        half = x.chunk(2, dim=1)[1]                                             # (B, C/2, h, w)
        inner1 = self.inner1(half)                                              # (B, C/2, h, w)
        inner2 = self.inner2(inner1)                                            # (B, C/2, h, w)
        merged = self.merge(torch.cat([inner2, inner1], dim=1))                 # (B, C, h, w)
        joined = torch.cat([x, merged], dim=1)                                  # (B, 2*C, h, w)
        pooled = F.max_pool2d(joined, 2)                                        # (B, 2*C, h/2, w/2)
        return pooled, merged


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


class YOLOv4Tiny(nn.Module):
    task = "detection"
    stride = 32
    recipe = {"input_shape": (416, 416), "epochs": 30, "batch_size": 8, "optimizer": "adamw", "lr": 0.003, "momentum": 0.9, "weight_decay": 5e-4,
              "warmup_epochs": 1.0, "schedule": "cosine", "backbone_lr": 1.0, "scale": (0.5, 1.5), "aspect": 0.3, "translate": 0.1,
              "rotate": 0.0, "blur": 0.0, "colours": (0.015, 0.7, 0.4), "mosaic": 0.5, "mixup": 0.0}

    def __init__(self, num_classes, input_shape=(416, 416), pretrained=False, anchors=ANCHORS, assign_iou=ASSIGN_IOU,
                 box_weight=BOX_WEIGHT, label_smoothing=0.0, focal=False, focal_alpha=0.25, focal_gamma=2.0):
        """num_classes: K, foreground classes.  pretrained: True fetches the official backbone, trained on COCO.
        anchors: per head (fine, coarse) three (width, height) in px of the input.  assign_iou: see above.
        label_smoothing: 0.1 makes the class targets 0.95 and 0.05.  focal: focal loss for the objectness.
        """
        super().__init__()
        self.num_classes, self.assign_iou, self.box_weight, self.label_smoothing = num_classes, assign_iou, box_weight, label_smoothing
        self.focal = (focal_alpha, focal_gamma) if focal else None
        self.register_buffer("anchors", torch.tensor(anchors, dtype=torch.float32), persistent=False)
        channels = self.anchors.shape[1] * (5 + num_classes)
        # registered in the order of the cfg, which is the order of the official weight files
        self.backbone = CSPDarknetTiny()
        self.reduce5 = conv_norm_act(512, 256, 1)
        self.head5 = nn.Sequential(conv_norm_act(256, 512, 3), nn.Conv2d(512, channels, 1))
        self.lateral = conv_norm_act(256, 128, 1)
        self.head4 = nn.Sequential(conv_norm_act(384, 256, 3), nn.Conv2d(256, channels, 1))
        for head in (self.head4, self.head5):
            nn.init.normal_(head[1].weight, std=0.01)
            nn.init.zeros_(head[1].bias)
            head[1].bias.data.view(-1, 5 + num_classes)[:, 4] = -math.log((1 - PRIOR) / PRIOR)
        if pretrained:
            print(load_weights(self, download(PRETRAINED)))

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> outputs [(B, A(5+K), H/16, W/16), (B, A(5+K), H/32, W/32)], losses."""
        c4, c5 = self.backbone(images)                                          # (B, 256, H/16, W/16), (B, 512, H/32, W/32)
        p5 = self.reduce5(c5)                                                   # (B, 256, H/32, W/32)
        up5 = F.interpolate(self.lateral(p5), scale_factor=2.0)                 # (B, 128, H/16, W/16)
        p4 = torch.cat([up5, c4], dim=1)                                        # (B, 384, H/16, W/16)
        outputs = [self.head4(p4), self.head5(p5)]                              # (B, 3*(5+K), H/16, W/16), (B, 3*(5+K), H/32, W/32)
        return outputs, {} if targets is None else self.loss(outputs, targets)

    def decode(self, outputs):
        """outputs -> boxes (B, N, 4) xyxy in input px, scores (B, N, K) in 0-1. N: stride 16 first, then anchor, row, column."""
        boxes, objectness, classes = self.predictions(outputs)                  # (B, N, 4), (B, N), (B, N, K)
        scores = objectness.sigmoid()[..., None] * classes.sigmoid()            # (B, N, K)
        return boxes, scores

    def predictions(self, outputs):
        """outputs -> boxes (B, N, 4) xyxy px, objectness (B, N) logits, classes (B, N, K) logits; all float32."""
        boxes, rest = [], []
        for output, anchors, stride in zip(outputs, self.anchors, STRIDES):
            B, _, h, w = output.shape
            t = output.float().view(B, len(anchors), -1, h, w)                  # (B, A, 5+K, h, w)
            t = t.permute(0, 1, 3, 4, 2)                                        # (B, A, h, w, 5+K)
            cells = torch.stack(torch.meshgrid(torch.arange(w, device=t.device), torch.arange(h, device=t.device), indexing="xy"), -1)  # (h, w, 2)
            centres = (t[..., :2].sigmoid() * SCALE_XY - (SCALE_XY - 1) / 2 + cells) * stride    # (B, A, h, w, 2)
            sizes = t[..., 2:4].clamp(max=MAX_LOG_SIZE).exp() * anchors[:, None, None]           # (B, A, h, w, 2)
            level = cxcywh_to_xyxy(torch.cat([centres, sizes], -1))             # (B, A, h, w, 4)
            boxes.append(level.reshape(B, -1, 4))
            rest.append(t[..., 4:].reshape(B, -1, t.shape[-1] - 4))
        boxes = torch.cat(boxes, 1)                                             # (B, N, 4)
        rest = torch.cat(rest, 1)                                               # (B, N, 1+K)
        return boxes, rest[..., 0], rest[..., 1:]

    def assign(self, true_boxes, maps):
        """Which predictions are responsible for which objects (darknet: best anchor by shape, in the cell of the centre).

        true_boxes: (G, 4) xyxy px.  maps: [(h, w)] of the heads.
        -> truth (P,) row of true_boxes, prediction (P,) index into N; an object may have several, none has zero.
        """
        boxes = true_boxes
        sizes = boxes[:, 2:] - boxes[:, :2]                                     # (G, 2)
        fit = size_iou(sizes, self.anchors.flatten(0, 1))                       # (G, 2*A)
        chosen = (fit > self.assign_iou) | (fit == fit.amax(1, keepdim=True))   # (G, 2*A)
        truth, anchor = chosen.nonzero(as_tuple=True)                           # (P,), (P,)
        A = self.anchors.shape[1]
        level, anchor = anchor // A, anchor % A                                 # (P,), (P,)
        strides, heights, widths = (torch.tensor(v, device=boxes.device)[level] for v in (STRIDES, *zip(*maps)))    # (P,), (P,), (P,)
        first = torch.tensor([0, A * maps[0][0] * maps[0][1]], device=boxes.device)[level]      # (P,)
        centres = ((boxes[:, :2] + boxes[:, 2:]) / 2)[truth]                    # (P, 2)
        column, row = (centres / strides[:, None]).long().unbind(1)             # (P,), (P,)
        column, row = column.clamp(min=0).minimum(widths - 1), row.clamp(min=0).minimum(heights - 1)    # (P,), (P,)
        prediction = first + (anchor * heights + row) * widths + column         # (P,)
        return truth, prediction

    def loss(self, outputs, targets):
        """-> {"box", "objectness", "class"}: 0-d float32, summed over the predictions, mean over the images."""
        boxes, objectness, classes = self.predictions(outputs)                  # (B, N, 4), (B, N), (B, N, K)
        B = len(targets)
        counts = torch.tensor([len(t["labels"]) for t in targets], device=boxes.device)         # (B,)
        true_boxes = torch.cat([t["boxes"] for t in targets]).to(boxes)         # (G, 4)
        true_labels = torch.cat([t["labels"] for t in targets]).to(boxes.device)                # (G,)
        image = torch.repeat_interleave(torch.arange(B, device=boxes.device), counts)           # (G,)
        truth, prediction = self.assign(true_boxes, [o.shape[2:] for o in outputs])             # (P,), (P,)
        where = (image[truth], prediction)                                      # (P,), (P,)

        box = (1 - complete_iou(boxes[where], true_boxes[truth])).sum() * self.box_weight

        wanted = torch.zeros_like(objectness)                                   # (B, N)
        wanted[where] = 1.0
        ignored = self.overlap(boxes, targets) > IGNORE_IOU                     # (B, N)
        if self.focal:
            per_box = sigmoid_focal(objectness, wanted, *self.focal)            # (B, N)
        else:
            per_box = F.binary_cross_entropy_with_logits(objectness, wanted, reduction="none")  # (B, N)
        objectness_loss = (per_box * (~ignored | (wanted > 0))).sum()

        one_hot = F.one_hot(true_labels[truth], self.num_classes).to(classes)   # (P, K)
        one_hot = smooth_labels(one_hot, self.label_smoothing)                  # (P, K)
        class_loss = F.binary_cross_entropy_with_logits(classes[where], one_hot, reduction="sum")
        return {"box": box / B, "objectness": objectness_loss / B, "class": class_loss / B}

    @torch.no_grad()
    def overlap(self, boxes, targets):
        """Each prediction's best IoU with an object of its image. boxes: (B, N, 4) -> (B, N) in 0-1."""
        padded = nn.utils.rnn.pad_sequence([t["boxes"].to(boxes) for t in targets], batch_first=True)   # (B, G, 4)
        padded = F.pad(padded, (0, 0, 0, 1))                                    # (B, G+1, 4)
        best = pairwise_iou(boxes, padded).amax(2)                              # (B, N)
        return best
