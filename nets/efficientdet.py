"""EfficientDet: a pyramid that is passed down and up several times, and one number that makes all of it
larger.

Paper: EfficientDet: Scalable and Efficient Object Detection, arXiv 1911.09070. Layers, anchors, losses and
names are those of effdet 0.4.1 (Ross Wightman), whose files load: 3,880,067 parameters (D0, 90 classes) to
51,871,782 (D7). Both of its flavours: "tf" (Google's weights) and "plain".

    stage          layers                                           output, D0
    backbone       EfficientNet-B0 (backbones/efficientnet.py)        40 x H/8   x W/8   -> c3
                                                                     112 x H/16  x W/16  -> c4
                                                                     320 x H/32  x W/32  -> c5
    p6, p7         1x1 of c5, max pool 3x3/2; the same pool           64 x H/64  x W/64, H/128 x W/128
    neck           3 x BiFPN cell, 64 channels                        64 x the five sizes, p3 ... p7
    class head     3 x (separable conv 3x3, BatchNorm, SiLU),         9K x h x w, every level
                   separable conv 3x3
    box head       the same, with its own weights                     36 x h x w

What an option `size` = "d0" ... "d7" changes is in SIZES: the backbone, the width and the number of the
cells, the depth of the heads. For N, levels, anchors and focal loss see nets/retinanet.py; new are:

* BiFPN: a cell passes the pyramid down (td4, td5, td6) and up again (out3 ... out7), as the neck of YOLOv4
  does, but with edges more: what came in is also added on the way up. Where several maps meet, each counts as
  much as a learned number says ("fast normalised fusion", section 3.3); D6 and D7 add them plainly.
* Separable convolutions everywhere: a 3x3 in each channel by itself, then a 1x1.
* The heads share their convolutions over the five levels as RetinaNet's do, but every level has BatchNorms of
  its own, for its numbers are spread in another way.

What differs from the paper, and why (effdet's choices, and Google's code's, so that their weights keep their
meaning, unless something else is said):
* Activation comes before the convolution in a cell, and the "tf" flavour has biases in front of BatchNorms.
* An anchor from IoU 0.5 on is positive, every other one negative: there is no band between as in RetinaNet.
* A coordinate whose wanted delta is exactly 0 has no box loss.
* Boxes are drawn y first there; here the head's answers are read in that order and x first from then on.
* Any input that 32 divides; there it must be the size of the config, divisible by 128.
* `recipe` is AdamW for a user's own data (nets/layers.py); the paper's SGD is in
  recipes/coco_efficientdet.py.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

from nets.backbones.efficientnet import TF_NORM, efficientnet
from nets.layers import DETECTION_RECIPE, Depthwise, grid_anchors, normalise
from utils.boxes import BACKGROUND, clip, decode, encode, pairwise_iou
from utils.errors import NoWeights, UserError, did_you_mean
from utils.losses import sigmoid_focal
from utils.system.distributed import batch_mean
from utils.weights import download, load_weights

# Table 1: EfficientNet, channels and cells of the BiFPN, convolutions of a head; weighted fusion or plain
# sum, anchors in strides; input of the official file, and what its name ends in.
SIZES = {"d0": ("b0", 64, 3, 3, True, 4, 512, "34-f153e0cf"),
         "d1": ("b1", 88, 4, 3, True, 4, 640, "40-a30f94af"),
         "d2": ("b2", 112, 5, 3, True, 4, 768, "43-8107aa99"),
         "d3": ("b3", 160, 6, 4, True, 4, 896, "47-0b525f35"),
         "d4": ("b4", 224, 7, 4, True, 4, 1024, "49-f56376d9"),
         "d5": ("b5", 288, 7, 4, True, 4, 1280, "51-c79f9be6"),
         "d6": ("b6", 384, 8, 5, False, 4, 1280, "52-4eda3773"),
         "d7": ("b6", 384, 8, 5, False, 5, 1536, "53-6d1d7a95")}
STRIDES = (8, 16, 32, 64, 128)
OCTAVES = (1, 2 ** (1 / 3), 2 ** (2 / 3))               # every anchor comes in three sizes
SHAPES = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))           # and three shapes: times width, times height
A = len(OCTAVES) * len(SHAPES)                          # anchors per cell
HIGH = 0.5                                              # IoU from which an anchor is positive
ALPHA, GAMMA = 0.25, 1.5                                # of the focal loss (section 5.1)
DELTA, BOX_WEIGHT = 0.1, 50.0                           # of the Huber loss
PRIOR = 0.01                                            # score of every class at first
FUSION_EPS = 1e-4                                       # section 3.3
CANDIDATES = 5000                                       # the best of all enter NMS
COCO = "https://github.com/rwightman/efficientdet-pytorch/releases/download/v0.1/tf_efficientdet_{}_{}.pth"


class Separable(nn.Module):
    """A 3x3 in each channel by itself, then a 1x1."""

    def __init__(self, channels, outputs, bias):
        super().__init__()
        self.conv_dw = Depthwise(channels)
        self.conv_pw = nn.Conv2d(channels, outputs, 1, bias=bias)

    def forward(self, x):
        """x: (B, C, h, w) -> (B, D, h, w)."""
        return self.conv_pw(self.conv_dw(x))                                    # (B, D, h, w)


def projection(c_in, c_out, bias):
    """1x1 to other channels."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1, bias=bias), nn.BatchNorm2d(c_out, **TF_NORM))


def pool(x, same):
    """Max pool 3x3/2. same: TensorFlow's padding, else one cell on each side. (B, C, m, n) -> (B, C, h, w)"""
    if not same:
        return F.max_pool2d(x, 3, 2, padding=1)                                 # (B, C, h, w)
    m, n = x.shape[2:]
    x = F.pad(x, (n % 2, 1, m % 2, 1), value=-math.inf)                         # (B, C, s, t)
    return F.max_pool2d(x, 3, 2)                                                # (B, C, h, w)


class Node(nn.Module):
    """Where maps meet: their weighted mean, SiLU, a separable convolution, BatchNorm."""

    def __init__(self, c_in, channels, inputs, weighted, bias):
        """c_in: channels of the first map.  inputs: how many maps meet.
        weighted: each with a weight, else their plain sum.
        """
        super().__init__()
        self.weights = nn.Parameter(torch.ones(inputs)) if weighted else None
        self.project = None if c_in == channels else projection(c_in, channels, bias)
        self.conv = Separable(channels, channels, bias)
        self.norm = nn.BatchNorm2d(channels, **TF_NORM)

    def forward(self, first, *others):
        """first: (B, D, h, w), others: (B, C, h, w) each -> (B, C, h, w)."""
        if self.project is not None:
            first = self.project(first)                                         # (B, C, h, w)

        # The weights are not negative and add up to nearly 1: a softmax would cost more and gain nothing.
        if self.weights is None:
            x = first + sum(others)                                             # (B, C, h, w)
        else:
            weights = F.relu(self.weights)                                      # (T,)
            total = weights.sum() + FUSION_EPS                                  # ()
            x = sum(one * weight for one, weight in zip((first, *others), weights)) / total     # (B, C, h, w)
        return self.norm(self.conv(F.silu(x)))                                  # (B, C, h, w)


class BiFPN(nn.Module):
    """One cell: what the coarse maps know goes down, what the fine ones know goes up (figure 2, d)."""

    def __init__(self, c_in, channels, weighted, same, bias):
        """c_in: channels of p3, p4, p5 as they come; p6 and p7 have `channels`."""
        super().__init__()
        c3, c4, c5 = c_in
        self.same = same
        self.td6 = Node(channels, channels, 2, weighted, bias)
        self.td5 = Node(c5, channels, 2, weighted, bias)
        self.td4 = Node(c4, channels, 2, weighted, bias)
        self.out3 = Node(c3, channels, 2, weighted, bias)
        self.out4 = Node(c4, channels, 3, weighted, bias)
        self.out5 = Node(c5, channels, 3, weighted, bias)
        self.out6 = Node(channels, channels, 3, weighted, bias)
        self.out7 = Node(channels, channels, 2, weighted, bias)

    def forward(self, p3, p4, p5, p6, p7):
        """(B, C, h, w) each, fine to coarse -> five maps of the same sizes."""
        # Down: from coarse to fine, each map hears the one above it.
        td6 = self.td6(p6, grown(p7, p6))                                       # (B, C, h6, w6)
        td5 = self.td5(p5, grown(td6, p5))                                      # (B, C, h5, w5)
        td4 = self.td4(p4, grown(td5, p4))                                      # (B, C, h4, w4)
        out3 = self.out3(p3, grown(td4, p3))                                    # (B, C, h3, w3)

        # Up again: from fine to coarse, and what came in is heard once more.
        out4 = self.out4(p4, td4, pool(out3, self.same))                        # (B, C, h4, w4)
        out5 = self.out5(p5, td5, pool(out4, self.same))                        # (B, C, h5, w5)
        out6 = self.out6(p6, td6, pool(out5, self.same))                        # (B, C, h6, w6)
        out7 = self.out7(p7, pool(out6, self.same))                             # (B, C, h7, w7)
        return out3, out4, out5, out6, out7


def grown(x, like):
    """Twice as large, every cell repeated. x: (B, C, m, n), like: (B, D, h, w) -> (B, C, h, w)."""
    return F.interpolate(x, size=like.shape[2:])                                # (B, C, h, w)


class Head(nn.Module):
    """One question to all anchors. Convolutions are shared by the levels, BatchNorms are not."""

    def __init__(self, channels, depth, columns, bias):
        """columns: numbers of an anchor."""
        super().__init__()
        self.columns = columns
        self.convs = nn.ModuleList(Separable(channels, channels, bias) for _ in range(depth))
        self.norms = nn.ModuleList(
            nn.ModuleList(nn.BatchNorm2d(channels, **TF_NORM) for _ in STRIDES) for _ in range(depth))
        self.predict = Separable(channels, A * columns, bias=True)

    def forward(self, maps):
        """maps: p3 ... p7, (B, C, h, w) each -> (B, N, columns)."""
        found = []
        for level, x in enumerate(maps):
            for conv, norms in zip(self.convs, self.norms):
                x = F.silu(norms[level](conv(x)))                               # (B, C, h, w)

            # Each cell has A anchors, and each of them so many numbers.
            x = self.predict(x).permute(0, 2, 3, 1)                             # (B, h, w, 9*T)
            found.append(x.reshape(x.shape[0], -1, self.columns))
        return torch.cat(found, 1)                                              # (B, N, T)


class EfficientDet(nn.Module):
    task = "detection"
    stride = 32
    official = {"classes": "coco_91", "input_shape": (512, 512), "options": {"flavour": "tf"}}
    recipe = DETECTION_RECIPE | {"input_shape": (512, 512), "lr": 0.003, "nms_iou": 0.5,
                                 "weight_decay": 4e-5, "backbone_lr": 0.3}

    def __init__(self, num_classes, input_shape=(512, 512), pretrained=False, size="d0", flavour=None):
        """num_classes: K, foreground classes.
        pretrained: True fetches the backbone, trained on ImageNet; "coco" the whole detector.
        size: "d0" ... "d7".
        flavour: "tf" or "plain", see backbones/efficientnet.py; None: what goes with pretrained.
        """
        super().__init__()
        if size not in SIZES:
            raise UserError(f'efficientdet has no size "{size}".{did_you_mean(str(size), SIZES)} '
                            f'It has {", ".join(SIZES)}.')
        if flavour is None:
            flavour = "plain" if pretrained is True else "tf"
        if pretrained == "coco" and flavour == "plain":
            raise NoWeights('The files that pretrained="coco" downloads are of the flavour "tf": leave out '
                            'the option flavour, or set pretrained=True for the weights of the backbone.')
        self.num_classes = num_classes
        self.options = {"flavour": flavour}             # what the default became: for the checkpoint
        name, channels, cells, depth, weighted, strides, _, file = SIZES[size]
        self.same = bias = flavour == "tf"

        # The pyramid begins with three maps of the backbone; all five have `channels` behind the first cell.
        self.backbone = efficientnet(name, flavour, pretrained is True)
        c_in = self.backbone.channels[1:]
        self.p6 = projection(c_in[-1], channels, bias)
        self.neck = nn.ModuleList(BiFPN(c_in if cell == 0 else [channels] * 3, channels, weighted, self.same,
                                        bias) for cell in range(cells))
        self.class_head = Head(channels, depth, num_classes, bias)
        self.box_head = Head(channels, depth, 4, bias)

        self.anchor_strides = strides
        init_weights(self)
        if pretrained == "coco":
            print(load_weights(self, download(COCO.format(size, file))))

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> outputs, losses.

        outputs: dict of logits (B, N, K), deltas (B, N, 4) x first, anchors (N, 4) xyxy px,
        input_shape (H, W). N: level (fine to coarse), row, column, anchor.
        """
        x = normalise(images)                                                   # (B, 3, H, W)
        _, c3, c4, c5 = self.backbone(x)                                        # (B, C3, H/8, W/8), (B, C4, H/16, W/16), (B, C5, H/32, W/32)
        p6 = pool(self.p6(c5), self.same)                                       # (B, C, h, w)
        p7 = pool(p6, self.same)                                                # (B, C, m, n)
        maps = c3, c4, c5, p6, p7
        for cell in self.neck:
            maps = cell(*maps)

        # What the heads say of every anchor, and where it is.
        logits = self.class_head(maps)                                          # (B, N, K)
        deltas = self.box_head(maps).unflatten(2, (2, 2))                       # (B, N, 2, 2): dy dx, dh dw
        deltas = deltas.flip(3).flatten(2)                                      # (B, N, 4): dx dy dw dh
        anchors = make_anchors([p.shape[2:] for p in maps], self.anchor_strides).to(images.device)      # (N, 4)
        outputs = {"logits": logits, "deltas": deltas, "anchors": anchors, "input_shape": images.shape[2:]}
        losses = {} if targets is None else self.loss(outputs, targets)
        return outputs, losses

    def decode(self, outputs):
        """outputs -> boxes (B, N, 4) xyxy in input px, cut at its border, scores (B, N, K) in 0-1."""
        boxes = decode(outputs["deltas"].float(), outputs["anchors"])           # (B, N, 4)
        boxes = clip(boxes, outputs["input_shape"])                             # (B, N, 4)
        scores = outputs["logits"].float().sigmoid()                            # (B, N, K)
        return boxes, scores

    def candidates(self, outputs):
        """How many enter the suppression, see utils.boxes.nms."""
        return {"max_candidates": CANDIDATES}

    @staticmethod
    def assign(anchors, boxes):
        """Which object of an image each anchor gets. anchors: (N, 4), boxes: (G, 4) xyxy px -> (N,) int64:
        row of the object, BACKGROUND for none.
        """
        if not len(boxes):
            return torch.full_like(anchors[:, 0], BACKGROUND, dtype=torch.int64)            # (N,)
        iou = pairwise_iou(boxes, anchors)                                      # (G, N)
        best, nearest = iou.max(0)                                              # (N,), (N,)
        matched = torch.where(best >= HIGH, nearest, BACKGROUND)                # (N,)

        # Each object also gets its own best anchor; an anchor that is the best of several: the first of them.
        rows = torch.arange(len(boxes), 0, -1, device=anchors.device)           # (G,): G for the first, 1 for the last
        wish = torch.zeros_like(iou, dtype=torch.int64).scatter(1, iou.argmax(1, keepdim=True), rows[:, None])  # (G, N)
        first = wish.amax(0)                                                    # (N,)
        return torch.where(first > 0, len(boxes) - first, matched)              # (N,)

    def loss(self, outputs, targets):
        """-> {"class", "box"}: 0-d float32, sums of the batch divided by its positives and one more."""
        anchors = outputs["anchors"]                                            # (N, 4)
        logits = outputs["logits"].float()                                      # (B, N, K)
        wanted = torch.zeros_like(logits)                                       # (B, N, K)
        found, aims = [], []
        for target, deltas, row in zip(targets, outputs["deltas"].float(), wanted):
            boxes, labels = target["boxes"].to(anchors), target["labels"].to(anchors.device)        # (G, 4), (G,)
            matched = self.assign(anchors, boxes)                               # (N,)
            (prediction,) = (matched >= 0).nonzero(as_tuple=True)               # (P,)
            truth = matched[prediction]                                         # (P,)
            row[prediction, labels[truth]] = 1.0
            found.append(deltas[prediction])
            aims.append(encode(boxes[truth], anchors[prediction]))
        found, aims = torch.cat(found), torch.cat(aims)                         # (P, 4), (P, 4)
        count = batch_mean(wanted.new_tensor(len(aims))) + 1                    # ()

        # A yes or no for each class, of all anchors; the four numbers of the positives.
        class_loss = sigmoid_focal(logits, wanted, ALPHA, GAMMA).sum() / count  # ()
        huber = F.huber_loss(found, aims, reduction="none", delta=DELTA)        # (P, 4)
        box_loss = (huber * (aims != 0)).sum() / (4 * count)                    # ()
        return {"class": class_loss, "box": BOX_WEIGHT * box_loss}


def make_anchors(sizes, strides):
    """sizes: (h, w) of every level.  strides: side of the smallest square anchor, in strides of its level.
    -> (N, 4) xyxy px, float32.

    Rounded only at the end: for a small object many anchors are equally good, and the last bit of their area
    decides which of them gets it, here as there.
    """
    shapes = torch.tensor(SHAPES, dtype=torch.float64)                          # (3, 2)
    octaves = torch.tensor(OCTAVES, dtype=torch.float64)                        # (3,)
    half = (octaves[:, None, None] * shapes).view(-1, 2) * strides / 2          # (9, 2)
    one = torch.cat([0.5 - half, 0.5 + half], 1)                                # (9, 4)
    cells = torch.tensor(STRIDES)[:, None, None] * one                          # (5, 9, 4)
    anchors = torch.cat(grid_anchors(cells, sizes, [(s, s) for s in STRIDES]))  # (N, 4)
    return anchors.float()                                                      # (N, 4)


def init_weights(model):
    """Start values of Google's code for all but the backbone, in place."""
    for part in (model.p6, model.neck):
        for conv in part.modules():
            if isinstance(conv, nn.Conv2d):
                nn.init.xavier_uniform_(conv.weight)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)

    # Normal with the variance 1 / (values that make one output), without its tails.
    for head in (model.class_head, model.box_head):
        for conv in head.modules():
            if isinstance(conv, nn.Conv2d):
                deviation = conv.weight[0].numel() ** -0.5 / 0.88
                nn.init.trunc_normal_(conv.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)
    nn.init.constant_(model.class_head.predict.conv_pw.bias, -math.log((1 - PRIOR) / PRIOR))


NODES = ("td6", "td5", "td4", "out3", "out4", "out5", "out6", "out7")       # effdet counts them in this order

# effdet's names -> ours.
EfficientDet.official_names = [
    (r"^fpn\.resample\.3\.conv\.conv\.", "p6.0."), (r"^fpn\.resample\.3\.conv\.bn\.", "p6.1."),
    (r"^fpn\.cell\.(\d)\.fnode\.(\d)\.", lambda found: f"neck.{found[1]}.{NODES[int(found[2])]}."),
    (r"\.combine\.edge_weights$", ".weights"),
    (r"\.combine\.resample\.\d\.conv\.conv\.", ".project.0."),
    (r"\.combine\.resample\.\d\.conv\.bn\.", ".project.1."),
    (r"\.after_combine\.conv\.bn\.", ".norm."), (r"\.after_combine\.conv\.", ".conv."),
    (r"^class_net\.", "class_head."), (r"^box_net\.", "box_head."),
    (r"\.conv_rep\.", ".convs."), (r"\.bn_rep\.(\d)\.(\d)\.bn\.", r".norms.\1.\2."),
]
