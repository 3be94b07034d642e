"""YOLOv8: a box as four distances, each a distribution; positives are chosen by how well class and box agree.

There is no paper of it. Its parts are those of YOLOX (arXiv 2107.08430), Generalized Focal Loss (the
distributions, arXiv 2006.04388) and TOOD (the assignment, arXiv 2108.07755). The network that Ultralytics
publishes under this name is equal to this file in outputs and losses; none of that project's code (AGPL) was
used. Its weights load after a conversion, see docs/en/yolov8.md.
Five sizes, at 80 classes: n 3,157,200 parameters, s 11,166,560, m 25,902,640, l 43,691,520, x 68,229,648.
The channels are times the width w of a size (n 1/4, s 1/2, m 3/4, l 1, x 5/4); of the 1024 m keeps 768, l and
x 512. C1 ... C5 and P3 ... P5 are the channels of c1 ... c5 and of p3 ... p5.

    stage          layers                                           output
    backbone       conv 3x3/2                                         64w x H/2  x W/2  -> c1
                   conv 3x3/2, C2f                                   128w x H/4  x W/4  -> c2
                   conv 3x3/2, C2f                                   256w x H/8  x W/8  -> c3
                   conv 3x3/2, C2f                                   512w x H/16 x W/16 -> c4
                   conv 3x3/2, C2f, SPP                             1024w x H/32 x W/32 -> c5
    neck           down the pyramid, then up again, with C2f         256w x H/8  x W/8  -> p3
                                                                     512w x H/16 x W/16 -> p4
                                                                    1024w x H/32 x W/32 -> p5
    head, each     conv 3x3, conv 3x3, conv 1x1 for the sides         64 x h x w: 4 sides, 16 numbers each
                   the same for the classes                            K x h x w

One prediction a cell. The 16 numbers of a side (left, top, right, bottom) are a distribution (softmax) over
the distances 0 ... 15 from the cell's centre, in strides; its mean is the side. There is no objectness, the
class scores say it. Losses, divided by the sum of all wanted scores: 7.5 (1 - CIoU) and 1.5 distribution
focal loss, both times the wanted score, and 0.5 binary cross-entropy of all class scores.

The design keeps of YOLOX: convolution + SiLU, the bottleneck (3x3, 3x3 now), SPP, the neck without its 1x1s.
New: C2f, a plain stem, a head without stem and objectness, distributions, and TAL instead of SimOTA.
All of it is in this file. Imported are the grid of cells, CIoU and the mean over several processes.

What differs from the published training, and why:
* There the loss is multiplied by the batch size B; here it is not, so that a recipe's learning rate fits any
  batch. The loss there = B * (box + class + dfl here); the single losses that it prints are these.
* `recipe` is AdamW for a user's own data (nets/layers.py). The published one is meant for 500 epochs of COCO.
* There the 64 numbers of a cell begin equal: the first boxes are 15 cells wide, 120, 240 and 480 px. TAL then
  gives large objects to fine levels, and the coarse one learns nothing for a long time. Here they begin with
  small distances (`fall`; 0: as there): on few pictures of large objects that decides, see docs/en/yolov8.md.
* Versions differ. This is 8.4: the 64 numbers start at 2.0 (before: 1.0), and a small object is looked for in
  a larger square (`least_side`; 0 is the rule before). Two versions that built another network (8.3.0, 8.4.0)
  are not followed.
"""
import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

from nets.layers import DETECTION_RECIPE, grid_anchors
from utils.boxes import complete_iou
from utils.errors import NoWeights, UserError, did_you_mean
from utils.system.distributed import batch_mean

SIZES = {"n": (0.33, 0.25, 1024),                       # depth, width, most channels before the width
         "s": (0.33, 0.50, 1024),
         "m": (0.67, 0.75, 768),
         "l": (1.00, 1.00, 512),
         "x": (1.00, 1.25, 512)}
STRIDES = (8, 16, 32)
BINS = 16                                               # distances 0 ... 15 (GFL: n, of little weight)
TOPK, ALPHA, BETA = 10, 0.5, 6.0                        # of the assignment (TOOD, section 3.2: 13, 1, 6)
EPS = 1e-9
LEAST_SIDE = 16.0                                       # px
FALL = math.log(1.5)                                    # at first each distance is 2/3 as likely as the last
BOX_WEIGHT, CLASS_WEIGHT, DFL_WEIGHT = 7.5, 0.5, 1.5


def conv_silu(c_in, c_out, kernel, stride=1):
    """Convolution without bias, BatchNorm, SiLU; an odd kernel keeps h, w (or halves them at stride 2)."""
    return nn.Sequential(OrderedDict(
        conv=nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False),
        norm=nn.BatchNorm2d(c_out, eps=1e-3, momentum=0.03),
        act=nn.SiLU(inplace=True)))


class Bottleneck(nn.Module):
    """Two convolutions 3x3; with a shortcut their input is added to what they make of it."""

    def __init__(self, channels, shortcut):
        super().__init__()
        self.conv1 = conv_silu(channels, channels, 3)
        self.conv2 = conv_silu(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x):
        """x: (B, C, h, w) -> (B, C, h, w)."""
        y = self.conv1(x)                                                       # (B, C, h, w)
        y = self.conv2(y)                                                       # (B, C, h, w)
        return x + y if self.shortcut else y                                    # (B, C, h, w)


class C2f(nn.Module):
    """Cross stage partial: half of the channels passes the bottlenecks; what each of them says is joined."""

    def __init__(self, c_in, c_out, depth, shortcut):
        """depth: how many bottlenecks."""
        super().__init__()
        half = c_out // 2
        self.split = conv_silu(c_in, c_out, 1)
        self.merge = conv_silu((2 + depth) * half, c_out, 1)
        self.blocks = nn.ModuleList(Bottleneck(half, shortcut) for _ in range(depth))

    def forward(self, x):
        """x: (B, c_in, h, w) -> (B, c_out, h, w)."""
        x = self.split(x)                                                       # (B, C, h, w)
        half = x.chunk(2, dim=1)[1]                                             # (B, C/2, h, w)
        parts = [x]
        for block in self.blocks:
            half = block(half)                                                  # (B, C/2, h, w)
            parts.append(half)
        return self.merge(torch.cat(parts, 1))                                  # (B, C, h, w)


class SPP(nn.Module):
    """Spatial pyramid pooling: every cell also sees the largest values within 5x5, 9x9 and 13x13 cells."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = conv_silu(channels, channels // 2, 1)
        self.conv2 = conv_silu(2 * channels, channels, 1)

    def forward(self, x):
        """x: (B, C, h, w) -> (B, C, h, w)."""
        x = self.conv1(x)                                                       # (B, C/2, h, w)

        # The largest of the 5x5 of all cells within 5x5 is that within 9x9: small poolings are enough.
        within5 = F.max_pool2d(x, 5, stride=1, padding=2)                       # (B, C/2, h, w)
        within9 = F.max_pool2d(within5, 5, stride=1, padding=2)                 # (B, C/2, h, w)
        within13 = F.max_pool2d(within9, 5, stride=1, padding=2)                # (B, C/2, h, w)
        x = torch.cat([x, within5, within9, within13], 1)                       # (B, 2*C, h, w)
        return self.conv2(x)                                                    # (B, C, h, w)


class Backbone(nn.Module):
    """Five times half the size: from the picture to maps that know what there is."""

    def __init__(self, channels, shallow, deep):
        """channels: C1 ... C5.  shallow: bottlenecks in the first and last C2f.  deep: in the two between."""
        super().__init__()
        c1, c2, c3, c4, c5 = channels
        self.stem = conv_silu(3, c1, 3, stride=2)
        self.stage2 = nn.Sequential(conv_silu(c1, c2, 3, stride=2), C2f(c2, c2, shallow, shortcut=True))
        self.stage3 = nn.Sequential(conv_silu(c2, c3, 3, stride=2), C2f(c3, c3, deep, shortcut=True))
        self.stage4 = nn.Sequential(conv_silu(c3, c4, 3, stride=2), C2f(c4, c4, deep, shortcut=True))
        self.stage5 = nn.Sequential(conv_silu(c4, c5, 3, stride=2), C2f(c5, c5, shallow, shortcut=True),
                                    SPP(c5))

    def forward(self, images):
        c1 = self.stem(images)                                                  # (B, C1, H/2, W/2)
        c2 = self.stage2(c1)                                                    # (B, C2, H/4, W/4)
        c3 = self.stage3(c2)                                                    # (B, C3, H/8, W/8)
        c4 = self.stage4(c3)                                                    # (B, C4, H/16, W/16)
        c5 = self.stage5(c4)                                                    # (B, C5, H/32, W/32)
        return c3, c4, c5


class Neck(nn.Module):
    """Down the pyramid what is seen, up again where it is. Source: PANet, arXiv 1803.01534, section 3.1."""

    def __init__(self, channels, depth):
        """channels: C3, C4, C5; p3, p4, p5 have as many.  depth: bottlenecks in every C2f."""
        super().__init__()
        c3, c4, c5 = channels
        self.down4 = C2f(c5 + c4, c4, depth, shortcut=False)
        self.down3 = C2f(c4 + c3, c3, depth, shortcut=False)
        self.shrink3 = conv_silu(c3, c3, 3, stride=2)
        self.up4 = C2f(c3 + c4, c4, depth, shortcut=False)
        self.shrink4 = conv_silu(c4, c4, 3, stride=2)
        self.up5 = C2f(c4 + c5, c5, depth, shortcut=False)

    def forward(self, c3, c4, c5):
        # Down: a coarse map knows what there is; enlarged, it tells the next finer one.
        large5 = F.interpolate(c5, scale_factor=2.0)                            # (B, C5, H/16, W/16)
        m4 = self.down4(torch.cat([large5, c4], 1))                             # (B, C4, H/16, W/16)
        large4 = F.interpolate(m4, scale_factor=2.0)                            # (B, C4, H/8, W/8)
        p3 = self.down3(torch.cat([large4, c3], 1))                             # (B, P3, H/8, W/8)

        # Up again: a fine map knows where it is; halved, it tells the next coarser one.
        small3 = self.shrink3(p3)                                               # (B, P3, H/16, W/16)
        p4 = self.up4(torch.cat([small3, m4], 1))                               # (B, P4, H/16, W/16)
        small4 = self.shrink4(p4)                                               # (B, P4, H/32, W/32)
        p5 = self.up5(torch.cat([small4, c5], 1))                               # (B, P5, H/32, W/32)
        return p3, p4, p5


class Heads(nn.ModuleList):
    """One question, asked at every level in a branch of its own."""

    def __init__(self, channels, width, outputs):
        """channels: P3, P4, P5.  width: channels between the convolutions.  outputs: numbers of a cell."""
        super().__init__(
            nn.Sequential(conv_silu(c, width, 3), conv_silu(width, width, 3), nn.Conv2d(width, outputs, 1))
            for c in channels)

    def forward(self, maps):
        """maps: p3, p4, p5 -> as many maps, (B, outputs, h, w) each."""
        return [head(x) for head, x in zip(self, maps)]                         # (B, C, H/8, W/8), (B, C, H/16, W/16), (B, C, H/32, W/32)


class YOLOv8(nn.Module):
    task = "detection"
    stride = 32
    official = {"classes": "coco", "input_shape": (640, 640)}       # official_names: at the end of the file
    recipe = DETECTION_RECIPE | {"input_shape": (640, 640), "lr": 0.005, "nms_iou": 0.7}

    def __init__(self, num_classes, input_shape=(640, 640), pretrained=False, size="n",
                 least_side=LEAST_SIDE, fall=FALL):
        """num_classes: K, foreground classes.  pretrained: must be False, no plain tensors can be fetched.
        size: "n", "s", "m", "l" or "x".  least_side: px, least square in which an object's cells are sought.
        fall: of the first distributions from one distance to the next, a logarithm; 0: none, as published.
        """
        super().__init__()
        if size not in SIZES:
            raise UserError(f'yolov8 has no size "{size}".{did_you_mean(str(size), SIZES)} '
                            f'It has {", ".join(SIZES)}.')
        if pretrained:
            raise NoWeights("The official weights of yolov8 are no plain tensors: convert them "
                            "(docs/en/yolov8.md) and give them as model_path. "
                            "Those of yolov4_tiny and yolox can be fetched: net=yolov4_tiny.")
        self.num_classes, self.least_side = num_classes, least_side

        # What a size means: channels, rounded up to whole eights, and bottlenecks.
        depth, width, most = SIZES[size]
        channels = [math.ceil(min(c, most) * width / 8) * 8 for c in (64, 128, 256, 512, 1024)]
        levels = channels[2:]
        shallow, deep = max(round(3 * depth), 1), max(round(6 * depth), 1)

        # The parts, registered in the order of the official files.
        self.backbone = Backbone(channels, shallow, deep)
        self.neck = Neck(levels, shallow)
        self.side_heads = Heads(levels, max(levels[0] // 4, 4 * BINS), 4 * BINS)
        self.class_heads = Heads(levels, max(levels[0], min(num_classes, 100)), num_classes)

        self.begin(fall)

    def begin(self, fall):
        """What is the same for all sizes: the distances, the cells, and what the heads say at first."""
        # The distances 0 ... 15, as published the weights of a convolution: counted, but never learnt.
        self.mean = nn.Conv2d(BINS, 1, 1, bias=False).requires_grad_(False)
        self.mean.weight.copy_(torch.arange(BINS).view(1, -1, 1, 1))

        # The first cell of each level, xyxy px; `predictions` lays them side by side.
        cells = torch.tensor([[[0.0, 0.0, s, s]] for s in STRIDES], dtype=torch.float32)
        self.register_buffer("cells", cells, persistent=False)

        # What the heads say at first: short distances are likelier, which makes boxes about four cells wide,
        # 32, 64 and 128 px: so every level finds its objects from the start. 5 objects in 640 x 640.
        first = 2.0 - fall * torch.arange(BINS).repeat(4)                       # (64,)
        for sides, classes, stride in zip(self.side_heads, self.class_heads, STRIDES):
            sides[-1].bias.data.copy_(first)
            nn.init.constant_(classes[-1].bias, math.log(5 / self.num_classes / (640 / stride) ** 2))

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> outputs, losses. outputs: {"sides", "classes"}, each a list of
        three maps, fine to coarse, of (B, 64, h, w) or (B, K, h, w) logits.
        """
        c3, c4, c5 = self.backbone(images)                                      # (B, C3, H/8, W/8), (B, C4, H/16, W/16), (B, C5, H/32, W/32)
        maps = self.neck(c3, c4, c5)                                            # (B, P3, H/8, W/8), (B, P4, H/16, W/16), (B, P5, H/32, W/32)
        sides = self.side_heads(maps)                                           # (B, 64, H/8, W/8), (B, 64, H/16, W/16), (B, 64, H/32, W/32)
        classes = self.class_heads(maps)                                        # (B, K, H/8, W/8), (B, K, H/16, W/16), (B, K, H/32, W/32)

        outputs = {"sides": sides, "classes": classes}
        losses = {} if targets is None else self.loss(outputs, targets)
        return outputs, losses

    def decode(self, outputs):
        """outputs -> boxes (B, N, 4) xyxy in input px, scores (B, N, K) in 0-1. N: level, row, column."""
        sides, classes, points, strides = self.predictions(outputs)             # (B, N, 4, 16), (B, N, K), (N, 2), (N, 1)
        boxes = self.boxes(sides.softmax(-1), points) * strides                 # (B, N, 4)
        scores = classes.sigmoid()                                              # (B, N, K)
        return boxes, scores

    def decode_above(self, outputs, least):
        """`decode` of the M cells alone that have a score above `least`, in any image: few, and so quicker.

        outputs -> boxes (B, M, 4) xyxy in input px, scores (B, M, K) in 0-1.
        """
        sides, classes, points, strides = self.predictions(outputs)             # (B, N, 4, 16), (B, N, K), (N, 2), (N, 1)
        good = (classes.amax(-1).sigmoid() > least).any(0)                      # (N,)
        boxes = self.boxes(sides[:, good].softmax(-1), points[good]) * strides[good]            # (B, M, 4)
        scores = classes[:, good].sigmoid()                                     # (B, M, K)
        return boxes, scores

    def predictions(self, outputs):
        """All levels in one list of N cells, float32: what the heads say, and where each cell is.

        outputs -> sides (B, N, 4, 16) logits, classes (B, N, K) logits,
        points (N, 2): x, y of the cells' centres in strides, strides (N, 1) px.
        """
        sides = one_list(outputs["sides"])                                      # (B, N, 64)
        sides = sides.unflatten(2, (4, BINS))                                   # (B, N, 4, 16)
        classes = one_list(outputs["classes"])                                  # (B, N, K)

        # A cell is a square of the input, whose side is the stride.
        shapes = [x.shape[2:] for x in outputs["sides"]]
        cells = grid_anchors(self.cells.to(sides), shapes, [(s, s) for s in STRIDES])           # (M, 4) each
        cells = torch.cat(cells)                                                # (N, 4)
        strides = cells[:, 2:3] - cells[:, :1]                                  # (N, 1)
        points = cells[:, :2] / strides + 0.5                                   # (N, 2)
        return sides, classes, points, strides

    def boxes(self, p, points):
        """Each side is the mean of its distribution. p: (..., 4, 16) in 0-1, points: (..., 2) in strides ->
        (..., 4) xyxy in strides.
        """
        distances = (p * self.mean.weight.flatten()).sum(-1)                    # (..., 4)
        return torch.cat([points - distances[..., :2], points + distances[..., 2:]], -1)        # (..., 4)

    @torch.no_grad()
    def assign(self, boxes, classes, points, true_boxes, true_labels, real):
        """TAL, task-aligned assignment: an object goes to the cells inside it that fit best, class and box.

        boxes: (B, N, 4) xyxy px, classes: (B, N, K) logits, points: (N, 2) px.
        true_boxes, true_labels, real: see `pad_targets`.
        -> truth (B, N) row of the image's objects,
        wanted (B, N) in 0-1: the score that the truth's class should have; 0: background.
        """
        # Who may: cells whose centre is inside the object, strictly; a small object is widened for this.
        sizes = true_boxes[..., 2:] - true_boxes[..., :2]                       # (B, G, 2)
        grow = (self.least_side - sizes).clamp(min=0) / 2                       # (B, G, 2)
        squares = torch.cat([true_boxes[..., :2] - grow, true_boxes[..., 2:] + grow], -1)       # (B, G, 4)
        left, top, right, bottom = squares[:, :, None].unbind(-1)               # (B, G, 1), (B, G, 1), (B, G, 1), (B, G, 1)
        x, y = points.unbind(-1)                                                # (N,), (N,)
        inside = (x > left) & (x < right) & (y > top) & (y < bottom) & real[..., None]          # (B, G, N)

        # How well they do, class and box together; outside not at all. Each object takes its TOPK best.
        image, row, cell = pairs_of(inside)                                     # (M,), (M,), (M,)
        fit = complete_iou(true_boxes[image, row], boxes[image, cell]).clamp(min=0)             # (M,)
        fit = fit * inside[image, row, cell]                                    # (M,)
        score = classes[image, cell, true_labels[image, row]].sigmoid()         # (M,)
        overlap, metric = fit.new_zeros(2, *inside.shape)                       # (B, G, N), (B, G, N)
        overlap[image, row, cell] = fit
        metric[image, row, cell] = score**ALPHA * fit**BETA
        best, prediction = metric.topk(TOPK)                                    # (B, G, 10), (B, G, 10)

        # By whom each cell is taken, and how often. What several objects take goes to the one, of all, that
        # it overlaps most.
        taken, prediction = (best > 0).long(), prediction.flatten(1)            # (B, G, 10), (B, 10*G)
        row = torch.arange(true_boxes.shape[1], device=boxes.device)[:, None]   # (G, 1)
        none = torch.zeros_like(inside[:, 0], dtype=torch.int64)                # (B, N)
        times = none.scatter_add(1, prediction, taken.flatten(1))               # (B, N)
        taker = none.scatter_reduce(1, prediction, (taken * row).flatten(1), "amax")            # (B, N)
        truth = torch.where(times > 1, overlap.max(1).indices, taker)           # (B, N)

        # The best of an object is to score as high as its box overlaps, the others in proportion to it.
        metric = metric.gather(1, truth[:, None])[:, 0] * (times > 0)           # (B, N)
        overlap = overlap.gather(1, truth[:, None])[:, 0] * (times > 0)         # (B, N)
        none = torch.zeros_like(true_boxes[..., 0])                             # (B, G)
        highest = none.scatter_reduce(1, truth, metric, "amax")                 # (B, G)
        share = none.scatter_reduce(1, truth, overlap, "amax") / (highest + EPS)                # (B, G)
        wanted = metric * share.gather(1, truth)                                # (B, N)
        return truth, wanted

    def loss(self, outputs, targets):
        """-> {"box", "class", "dfl"}: 0-d float32, sums of the batch divided by that of the wanted scores."""
        # Which objects go to which cells. It depends on what the cells say now; no gradient passes here.
        sides, classes, points, strides = self.predictions(outputs)             # (B, N, 4, 16), (B, N, K), (N, 2), (N, 1)
        true_boxes, true_labels, real = pad_targets(targets, points)            # (B, G, 4), (B, G), (B, G)
        boxes = self.boxes(sides.detach().softmax(-1), points) * strides        # (B, N, 4)
        truth, wanted = self.assign(boxes, classes, points * strides, true_boxes, true_labels, real)            # (B, N), (B, N)
        total = batch_mean(wanted.sum(), 1)                                     # ()

        # All positives, and some others whose wanted score is 0: so P is known without waiting for the GPU.
        wanted, prediction = wanted.topk(min(TOPK * true_boxes.shape[1], len(points)))          # (B, P), (B, P)
        image = torch.arange(len(boxes), device=boxes.device)[:, None]          # (B, 1)
        truth = truth[image, prediction]                                        # (B, P)
        points, strides = points[prediction], strides[prediction]               # (B, P, 2), (B, P, 1)
        true_boxes = true_boxes[image, truth] / strides                         # (B, P, 4)
        true_labels = true_labels[image, truth]                                 # (B, P)

        # Binary cross-entropy of a logit x with the wanted score t is softplus(x) - t x; nearly all t are 0.
        logits = classes[image, prediction, true_labels]                        # (B, P)
        class_loss = F.softplus(classes).sum() - (wanted * logits).sum()        # ()

        # The box as a whole, from the means of the four distributions.
        log_p = sides[image, prediction].log_softmax(-1)                        # (B, P, 4, 16)
        boxes = self.boxes(log_p.exp(), points)                                 # (B, P, 4)
        box_loss = (wanted * (1 - complete_iou(boxes, true_boxes))).sum()       # ()

        # Distribution focal loss (GFL, eq. 6): a true side is between two bins; the nearer is wanted more.
        aims = torch.cat([points - true_boxes[..., :2], true_boxes[..., 2:] - points], -1)      # (B, P, 4)
        aims = aims.clamp(0, BINS - 1.01)                                       # (B, P, 4)
        below = aims.long()                                                     # (B, P, 4)
        share = aims - below                                                    # (B, P, 4)
        near = log_p.gather(-1, below[..., None])[..., 0]                       # (B, P, 4)
        far = log_p.gather(-1, below[..., None] + 1)[..., 0]                    # (B, P, 4)
        dfl = -((1 - share) * near + share * far).mean(-1)                      # (B, P)
        dfl_loss = (wanted * dfl).sum()                                         # ()

        return {"box": BOX_WEIGHT * box_loss / total,
                "class": CLASS_WEIGHT * class_loss / total,
                "dfl": DFL_WEIGHT * dfl_loss / total}


def one_list(maps):
    """Maps (B, C, h, w), fine to coarse -> (B, N, C), float32 at least; N: level, row, column."""
    cells = [x.permute(0, 2, 3, 1).flatten(1, 2) for x in maps]                 # (B, M, C) each
    cells = torch.cat(cells, 1)                                                 # (B, N, C)
    return cells.to(torch.promote_types(cells.dtype, torch.float32))            # (B, N, C)


def pairs_of(inside):
    """inside: (B, G, N) bool -> image, row, cell of the pairs of object and cell to work out, (M,) each.

    A CPU works out those inside alone. A GPU would have to wait until it is known which they are: all of
    them, as indices (B, 1, 1), (G, 1) and (N,), cost it less.
    """
    if inside.device.type == "cpu":
        return inside.nonzero(as_tuple=True)                                    # (M,), (M,), (M,)
    image, row, cell = (torch.arange(size, device=inside.device) for size in inside.shape)
    return image[:, None, None], row[:, None], cell


def pad_targets(targets, like):
    """The objects of all images in one tensor, each image's followed by empty rows, at least one.

    targets: list of B dicts, see the contract.  like: a tensor with the device and the precision wanted.
    -> boxes (B, G, 4) xyxy px, labels (B, G) int64, real (B, G) bool: False in the empty rows.
    """
    counts = [len(target["labels"]) for target in targets]
    B, G = len(counts), max(counts) + 1
    boxes = torch.zeros(B, G, 4, dtype=like.dtype, device=like.device)          # (B, G, 4)
    labels = torch.zeros(B, G, dtype=torch.int64, device=like.device)           # (B, G)
    real = torch.zeros(B, G, dtype=torch.bool, device=like.device)              # (B, G)

    for image, (target, count) in enumerate(zip(targets, counts)):
        boxes[image, :count] = target["boxes"]
        labels[image, :count] = target["labels"]
        real[image, :count] = True
    return boxes, labels, real


# The tensors' names in the converted files -> ours; there a layer is its place in the list of layers.
YOLOv8.official_names = [
    (r"^(model\.)+0\.", "backbone.stem."),
    (r"^(model\.)+9\.", "backbone.stage5.2."),
    (r"^(model\.)+([1-8])\.",
     lambda found: f"backbone.stage{(int(found[2]) + 3) // 2}.{(int(found[2]) + 1) % 2}."),
    (r"^(model\.)+12\.", "neck.down4."), (r"^(model\.)+15\.", "neck.down3."),
    (r"^(model\.)+16\.", "neck.shrink3."), (r"^(model\.)+18\.", "neck.up4."),
    (r"^(model\.)+19\.", "neck.shrink4."), (r"^(model\.)+21\.", "neck.up5."),
    (r"^(model\.)+22\.cv2\.", "side_heads."), (r"^(model\.)+22\.cv3\.", "class_heads."),
    (r"^(model\.)+22\.dfl\.conv\.", "mean."),
    (r"\.m\.(\d+)\.cv", r".blocks.\1.conv"), (r"(stage5\.2)\.cv", r"\1.conv"),
    (r"\.cv1\.", ".split."), (r"\.cv2\.", ".merge."), (r"\.bn\.", ".norm."),
]
