"""YOLOv8: a box as four distances, each of them a distribution, and positives chosen by how well class and box agree.

There is no paper of it. Its parts are those of YOLOX (arXiv 2107.08430), Generalized Focal Loss (arXiv 2006.04388: the distributions) and TOOD
(arXiv 2108.07755: the assignment). The network that Ultralytics publishes under this name is equal to this file in outputs and losses; none of
that project's code (AGPL) was used. Its weights load after a conversion, see docs/en/yolov8.md.
Five sizes, at 80 classes: n 3,157,200 parameters, s 11,166,560, m 25,902,640, l 43,691,520, x 68,229,648.
The channels are times the width w of a size (n 1/4, s 1/2, m 3/4, l 1, x 5/4); of the 1024 m keeps 768, l and x 512.

    stage          layers                                           output
    backbone       conv 3x3/2                                         64w x H/2  x W/2
                   conv 3x3/2, C2f                                   128w x H/4  x W/4
                   conv 3x3/2, C2f                                   256w x H/8  x W/8  -> c3
                   conv 3x3/2, C2f                                   512w x H/16 x W/16 -> c4
                   conv 3x3/2, C2f, SPP                             1024w x H/32 x W/32 -> c5
    neck           down the pyramid, then up again, with C2f         256w x H/8  x W/8  -> p3
                                                                     512w x H/16 x W/16 -> p4
                                                                    1024w x H/32 x W/32 -> p5
    head, each     conv 3x3, conv 3x3, conv 1x1 for the sides         64 x h x w: left, top, right, bottom, 16 numbers each
                   the same for the classes                            K x h x w

One prediction a cell. The 16 numbers of a side are a distribution (softmax) over the distances 0 ... 15 from the cell's centre, in strides; its
mean is the side. There is no objectness, the class scores say it. Losses, divided by the sum of all wanted scores: 7.5 (1 - CIoU) and
1.5 distribution focal loss, both times the wanted score, and 0.5 binary cross-entropy of all class scores.

From YOLOX it keeps convolution + SiLU, the bottleneck (3x3, 3x3 now), SPP, the neck without its two 1x1, and how objects are padded.
New: C2f, a plain stem, a head without stem and objectness, distributions, and TAL in the place of SimOTA.

What differs from the published training, and why:
* There the loss is multiplied by the batch size B; here it is not, so that a recipe's learning rate fits any batch (utils/steps.py).
  The loss there = B * (box + class + dfl here); the single losses that it prints are these.
* The recipe is AdamW for the built-in Shapes. The published one is meant for 500 epochs of COCO.
* Versions differ. This is 8.4: the 64 numbers start at 2.0 (before: 1.0), and a small object is looked for in a larger square
  (`least_side`; 0 is the rule before). Two versions that built another network (8.3.0, 8.4.0) are not followed.
"""
import functools
import math

import torch
import torch.nn.functional as F
from torch import nn

from nets.layers import DETECTION_RECIPE, grid_anchors
from nets.yolox import PAFPN, SPP, Bottleneck, conv_silu, pad_targets
from utils.boxes import complete_iou
from utils.errors import UserError, did_you_mean
from utils.system.distributed import batch_mean

SIZES = {"n": (0.33, 0.25, 1024), "s": (0.33, 0.5, 1024), "m": (0.67, 0.75, 768), "l": (1.0, 1.0, 512), "x": (1.0, 1.25, 512)}
#        depth, width, most channels before the width
STRIDES = (8, 16, 32)
BINS = 16                                               # distances 0 ... 15 (GFL: n, which it finds to matter little)
TOPK, ALPHA, BETA = 10, 0.5, 6.0                        # of the assignment (TOOD, section 3.2: 13, 1, 6)
EPS = 1e-9
LEAST_SIDE = 16.0                                       # px
BOX_WEIGHT, CLASS_WEIGHT, DFL_WEIGHT = 7.5, 0.5, 1.5


class C2f(nn.Module):
    """A CSP layer that joins what every one of its bottlenecks says, not only the last."""

    def __init__(self, c_in, c_out, depth, shortcut):
        super().__init__()
        self.split = conv_silu(c_in, c_out, 1)
        self.merge = conv_silu((2 + depth) * c_out // 2, c_out, 1)
        self.blocks = nn.ModuleList(Bottleneck(c_out // 2, shortcut, kernels=(3, 3)) for _ in range(depth))

    def forward(self, x):
        """x: (B, c_in, h, w) -> (B, c_out, h, w)."""
        parts = [self.split(x)]                                                 # (B, 2*C, h, w)
        last = parts[0].chunk(2, 1)[1]                                          # (B, C, h, w)
        for block in self.blocks:
            last = block(last)                                                  # (B, C, h, w)
            parts.append(last)
        return self.merge(torch.cat(parts, 1))                                  # (B, 2*C, h, w)


class Backbone(nn.Module):
    def __init__(self, channels, depth):
        """channels: of the stem and of the four stages.  depth: bottlenecks in the first and the last C2f; the two between have twice as many."""
        super().__init__()
        stem, c2, c3, c4, c5 = channels
        shallow, deep = depth
        self.stem = conv_silu(3, stem, 3, 2)
        self.stage2 = nn.Sequential(conv_silu(stem, c2, 3, 2), C2f(c2, c2, shallow, True))
        self.stage3 = nn.Sequential(conv_silu(c2, c3, 3, 2), C2f(c3, c3, deep, True))
        self.stage4 = nn.Sequential(conv_silu(c3, c4, 3, 2), C2f(c4, c4, deep, True))
        self.stage5 = nn.Sequential(conv_silu(c4, c5, 3, 2), C2f(c5, c5, shallow, True), SPP(c5, c5))

    def forward(self, images):
        x = self.stem(images)                                                   # (B, C, H/2, W/2)
        x = self.stage2(x)                                                      # (B, 2*C, H/4, W/4)
        c3 = self.stage3(x)                                                     # (B, 4*C, H/8, W/8)
        c4 = self.stage4(c3)                                                    # (B, 8*C, H/16, W/16)
        c5 = self.stage5(c4)                                                    # (B, D, H/32, W/32)
        return c3, c4, c5


class Heads(nn.ModuleList):
    """One question, asked at every level in a branch of its own."""

    def __init__(self, channels, width, outputs):
        super().__init__(nn.Sequential(conv_silu(c, width, 3), conv_silu(width, width, 3), nn.Conv2d(width, outputs, 1)) for c in channels)

    def forward(self, maps):
        return [head(x) for head, x in zip(self, maps)]     # (B, D, H/8, W/8), (B, D, H/16, W/16), (B, D, H/32, W/32)


class YOLOv8(nn.Module):
    task = "detection"
    stride = 32
    official = {"classes": "coco", "input_shape": (640, 640)}
    # the tensors' names in the converted files -> ours; a layer is its place in the list of layers
    official_names = [(r"^(model\.)+0\.", "backbone.stem."), (r"^(model\.)+9\.", "backbone.stage5.2."),
                      (r"^(model\.)+([1-8])\.", lambda found: f"backbone.stage{(int(found[2]) + 3) // 2}.{(int(found[2]) + 1) % 2}."),
                      (r"^(model\.)+12\.", "neck.down4."), (r"^(model\.)+15\.", "neck.down3."), (r"^(model\.)+16\.", "neck.shrink3."),
                      (r"^(model\.)+18\.", "neck.up4."), (r"^(model\.)+19\.", "neck.shrink4."), (r"^(model\.)+21\.", "neck.up5."),
                      (r"^(model\.)+22\.cv2\.", "side_heads."), (r"^(model\.)+22\.cv3\.", "class_heads."),
                      (r"^(model\.)+22\.dfl\.conv\.", "mean."), (r"\.m\.(\d+)\.cv", r".blocks.\1.conv"),
                      (r"(stage5\.2)\.cv", r"\1.conv"), (r"\.cv1\.", ".split."), (r"\.cv2\.", ".merge."), (r"\.bn\.", ".norm.")]
    recipe = DETECTION_RECIPE | {"input_shape": (640, 640), "lr": 0.005, "nms_iou": 0.7}

    def __init__(self, num_classes, input_shape=(640, 640), pretrained=False, size="n", least_side=LEAST_SIDE):
        """num_classes: K, foreground classes.  pretrained: must be False, there is no file of plain tensors to fetch.
        size: "n", "s", "m", "l" or "x".  least_side: px; the cells for an object are sought in a square at least so large.
        """
        super().__init__()
        if size not in SIZES:
            raise UserError(f'yolov8 has no size "{size}".{did_you_mean(str(size), SIZES)} It has {", ".join(SIZES)}.')
        if pretrained:
            raise UserError("The official weights of yolov8 are no plain tensors: convert them (docs/en/yolov8.md) and give them as model_path. "
                            "Those of yolov4_tiny and yolox can be fetched: net=yolov4_tiny.")
        depth, width, most = SIZES[size]
        channels = [math.ceil(min(c, most) * width / 8) * 8 for c in (64, 128, 256, 512, 1024)]
        shallow, deep = max(round(3 * depth), 1), max(round(6 * depth), 1)
        levels = channels[2:]
        self.num_classes, self.least_side = num_classes, least_side
        # registered in the order of the official files
        self.backbone = Backbone(channels, (shallow, deep))
        shrink, layer = functools.partial(conv_silu, kernel=3, stride=2), functools.partial(C2f, depth=shallow, shortcut=False)
        self.neck = PAFPN(levels, shrink, layer, lateral=False)
        self.side_heads = Heads(levels, max(levels[0] // 4, 4 * BINS), 4 * BINS)
        self.class_heads = Heads(levels, max(levels[0], min(num_classes, 100)), num_classes)
        self.mean = nn.Conv2d(BINS, 1, 1, bias=False).requires_grad_(False)     # its weights are the distances; counted, but never learnt
        self.mean.weight.copy_(torch.arange(BINS).view(1, -1, 1, 1))
        self.register_buffer("cells", torch.tensor([[[0.0, 0.0, s, s]] for s in STRIDES], dtype=torch.float32), persistent=False)   # the first ones
        for sides, classes, stride in zip(self.side_heads, self.class_heads, STRIDES):
            nn.init.constant_(sides[-1].bias, 2.0)
            nn.init.constant_(classes[-1].bias, math.log(5 / num_classes / (640 / stride) ** 2))        # 5 objects in a picture of 640 x 640

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> outputs: dict of sides and classes, each a list, fine to coarse, of (B, 64 or K, h, w); losses."""
        c3, c4, c5 = self.backbone(images)                                      # (B, C, H/8, W/8), (B, 2*C, H/16, W/16), (B, D, H/32, W/32)
        maps = self.neck(c3, c4, c5)                                            # (B, C, H/8, W/8), (B, 2*C, H/16, W/16), (B, D, H/32, W/32)
        sides = self.side_heads(maps)                                           # (B, 64, H/8, W/8), (B, 64, H/16, W/16), (B, 64, H/32, W/32)
        classes = self.class_heads(maps)                                        # (B, K, H/8, W/8), (B, K, H/16, W/16), (B, K, H/32, W/32)
        outputs = {"sides": sides, "classes": classes}
        return outputs, {} if targets is None else self.loss(outputs, targets)

    def decode(self, outputs):
        """outputs -> boxes (B, N, 4) xyxy in input px, scores (B, N, K) in 0-1. N: level (fine to coarse), row, column."""
        sides, classes, points, strides = self.predictions(outputs)             # (B, N, 4, 16), (B, N, K), (N, 2), (N, 1)
        boxes = self.boxes(sides.softmax(-1), points) * strides                 # (B, N, 4)
        scores = classes.sigmoid()                                              # (B, N, K)
        return boxes, scores

    def predictions(self, outputs):
        """outputs -> sides (B, N, 4, 16) logits, classes (B, N, K) logits, points (N, 2) x, y of the cells' centres in strides, strides (N, 1) px;
        float32."""
        sides, classes = (torch.cat([x.permute(0, 2, 3, 1).flatten(1, 2) for x in outputs[name]], 1)
                          for name in ("sides", "classes"))                     # (B, N, 64), (B, N, K)
        sides, classes = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (sides, classes))          # (B, N, 64), (B, N, K)
        cells = grid_anchors(self.cells.to(sides), [x.shape[2:] for x in outputs["sides"]], [(s, s) for s in STRIDES])      # (M, 4) each
        cells = torch.cat(cells)                                                # (N, 4)
        strides = cells[:, 2:3] - cells[:, :1]                                  # (N, 1)
        points = cells[:, :2] / strides + 0.5                                   # (N, 2)
        return sides.unflatten(2, (4, BINS)), classes, points, strides          # (B, N, 4, 16), (B, N, K), (N, 2), (N, 1)

    def boxes(self, p, points):
        """Each side is the mean of its distribution. p: (..., 4, 16) in 0-1, points: (..., 2) -> (..., 4) xyxy; all in strides."""
        distances = (p * self.mean.weight.flatten()).sum(-1)                    # (..., 4)
        return torch.cat([points - distances[..., :2], points + distances[..., 2:]], -1)        # (..., 4)

    @torch.no_grad()
    def assign(self, boxes, classes, points, true_boxes, true_labels, real):
        """TAL, task-aligned assignment: an object is taught to the cells inside it whose class and box fit it best already.

        boxes: (B, N, 4) xyxy px, classes: (B, N, K) logits, points: (N, 2).  true_boxes, true_labels, real: see `pad_targets`.
        -> truth (B, N) row of the image's objects, wanted (B, N) in 0-1: the score that the truth's class should have; 0: background.
        """
        # Who may: cells whose centre is inside the object, strictly.
        grow = (self.least_side - (true_boxes[..., 2:] - true_boxes[..., :2])).clamp(min=0) / 2                 # (B, G, 2)
        squares = torch.cat([true_boxes[..., :2] - grow, true_boxes[..., 2:] + grow], -1)                       # (B, G, 4)
        left, top, right, bottom = squares[:, :, None].unbind(-1)               # (B, G, 1), (B, G, 1), (B, G, 1), (B, G, 1)
        x, y = points.unbind(-1)                                                # (N,), (N,)
        inside = (x > left) & (x < right) & (y > top) & (y < bottom) & real[..., None]          # (B, G, N)

        # How well they do: class and box together. The TOPK best of each object are taken.
        overlap = complete_iou(true_boxes[:, :, None], boxes[:, None]).clamp(min=0) * inside    # (B, G, N)
        image = torch.arange(len(boxes), device=boxes.device)[:, None]          # (B, 1)
        score = classes[image, :, true_labels].sigmoid()                        # (B, G, N)
        metric = score**ALPHA * overlap**BETA                                   # (B, G, N)
        best, prediction = metric.topk(TOPK)                                    # (B, G, 10), (B, G, 10)
        taken = torch.zeros_like(inside).scatter(2, prediction, best > 0)       # (B, G, N)

        # What several objects take goes to the one, of all, that it overlaps most.
        nearest = overlap.max(1, keepdim=True).indices == torch.arange(true_boxes.shape[1], device=boxes.device)[:, None]    # (B, G, N)
        taken = torch.where(taken.sum(1, keepdim=True) > 1, nearest, taken)     # (B, G, N)

        # The best of an object is wanted to score as high as its box overlaps, the others in proportion to it.
        metric, overlap = metric * taken, overlap * taken                       # (B, G, N), (B, G, N)
        metric = metric * (overlap.amax(2, keepdim=True) / (metric.amax(2, keepdim=True) + EPS))                # (B, G, N)
        wanted, truth = metric.max(1)                                           # (B, N), (B, N)
        return truth, wanted

    def loss(self, outputs, targets):
        """-> {"box", "class", "dfl"}: 0-d float32, summed over the batch, divided by the sum of the wanted scores."""
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
        true_boxes, true_labels = true_boxes[image, truth] / strides, true_labels[image, truth]                 # (B, P, 4), (B, P)

        # Binary cross-entropy of a logit x with the wanted score t is softplus(x) - t x, and t is 0 nearly everywhere.
        class_loss = F.softplus(classes).sum() - (wanted * classes[image, prediction, true_labels]).sum()       # ()

        log_p = sides[image, prediction].log_softmax(-1)                        # (B, P, 4, 16)
        boxes = self.boxes(log_p.exp(), points)                                 # (B, P, 4)
        box_loss = (wanted * (1 - complete_iou(boxes, true_boxes))).sum()       # ()

        # Distribution focal loss (GFL, eq. 6): a true side lies between two bins, and each is wanted the more, the nearer it is.
        aims = torch.cat([points - true_boxes[..., :2], true_boxes[..., 2:] - points], -1).clamp(0, BINS - 1.01)        # (B, P, 4)
        below = aims.long()                                                     # (B, P, 4)
        share = aims - below                                                    # (B, P, 4)
        near, far = (log_p.gather(-1, bins[..., None])[..., 0] for bins in (below, below + 1))                  # (B, P, 4), (B, P, 4)
        dfl = -((1 - share) * near + share * far).mean(-1)                      # (B, P)
        dfl_loss = (wanted * dfl).sum()                                         # ()
        return {"box": BOX_WEIGHT * box_loss / total, "class": CLASS_WEIGHT * class_loss / total, "dfl": DFL_WEIGHT * dfl_loss / total}
