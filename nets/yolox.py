"""YOLOX: no anchors, branches of their own for class and box, an assignment that asks the predictions.

Paper: YOLOX: Exceeding YOLO Series in 2021, arXiv 2107.08430. Layers and losses are those of the authors'
release, and its .pth files load. Six sizes, at 80 classes: nano 912,159 parameters, tiny 5,055,855,
s 8,968,255, m 25,326,495, l 54,208,895, x 99,071,455. The channels are times the width w of a size (nano 1/4,
tiny 3/8, s 1/2, m 3/4, l 1, x 5/4). C1 ... C5 and P3 ... P5 are the channels of c1 ... c5 and of p3 ... p5.

    stage          layers                                           output
    backbone       Focus (2x2 pixels -> 12 channels), conv 3x3        64w x H/2  x W/2  -> c1
                   conv 3x3/2, CSP layer                             128w x H/4  x W/4  -> c2
                   conv 3x3/2, CSP layer                             256w x H/8  x W/8  -> c3
                   conv 3x3/2, CSP layer                             512w x H/16 x W/16 -> c4
                   conv 3x3/2, SPP, CSP layer                       1024w x H/32 x W/32 -> c5
    neck           down the pyramid, then up again                   256w x H/8  x W/8  -> p3
                   (PAFPN, see its forward)                          512w x H/16 x W/16 -> p4
                                                                    1024w x H/32 x W/32 -> p5
    head, each     conv 1x1, then two branches of two conv 3x3: one   5+K x h x w
                   says the classes, the other box and objectness

A head's channels are tx ty tw th, objectness, K classes: one prediction a cell. Its box has the centre
cell corner + (tx, ty) * stride and the size exp(tw, th) * stride. Losses, divided by the number of positives
of the batch: 5 (1 - IoU^2) + objectness + classes.

The design keeps of YOLOv4: the halves that CSP takes apart, SPP and the way up after the way down (what the
files share is in nets/layers.py). New: the stem, SiLU, the decoupled head, one prediction a cell instead of
three anchors, and SimOTA instead of the fixed rule "cell and shape".

What differs from the release, and why:
* It is fed R,G,B in 0-1 and makes B,G,R in 0-255 of it, what the official weights were trained on.
* The release puts a picture into the upper left corner of the input; here it is in the middle, as for every
  other network.
* All images of a batch are assigned at once; objects are padded to the same number. exp stops at e^10, so
  that a diverging step stays finite.
* The paper adds an L1 loss in the last 15 of 300 epochs. Here it is an option (`l1`), off or on for a whole
  training.
* `recipe` is AdamW for a user's own data (nets/layers.py). The release's SGD is meant for 300 epochs of COCO.
"""
import functools
import math

import torch
import torch.nn.functional as F
from torch import nn

from nets.layers import DETECTION_RECIPE, conv_norm_act, grid_anchors, pyramid_pool
from utils.boxes import cxcywh_to_xyxy, pairwise_iou, xyxy_to_cxcywh
from utils.errors import UserError, did_you_mean
from utils.system.distributed import batch_mean
from utils.weights import download, load_weights

SIZES = {"nano": (0.33, 0.25),                          # depth, width
         "tiny": (0.33, 0.375),
         "s": (0.33, 0.5),
         "m": (0.67, 0.75),
         "l": (1.0, 1.0),
         "x": (1.33, 1.25)}
STRIDES = (8, 16, 32)
RADIUS = 1.5                                            # strides from an object's centre ("Multi positives")
MOST = 10                                               # predictions of an object; IoUs that say how many
IOU_COST = 3.0                                          # lambda of eq. 1
FAR = 1e6                                               # cost of a cell near another object only
BOX_WEIGHT = 5.0
PRIOR = 0.01
MAX_LOG_SIZE = 10.0
PRETRAINED = "https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/yolox_{}.pth"

NORM = functools.partial(nn.BatchNorm2d, eps=1e-3, momentum=0.03)


def conv_silu(c_in, c_out, kernel, stride=1, depthwise=False):
    """Convolution, BatchNorm, SiLU; depthwise: first every channel by itself, then a 1x1 that mixes them."""
    def layer(*shape, **options):
        return conv_norm_act(*shape, act=nn.SiLU(inplace=True), norm=NORM, **options)
    if depthwise:
        return nn.Sequential(layer(c_in, c_in, kernel, stride, depthwise=True), layer(c_in, c_out, 1))
    return layer(c_in, c_out, kernel, stride)


class Bottleneck(nn.Module):
    """Two convolutions, 1x1 and 3x3; with a shortcut their input is added to what they make of it."""

    def __init__(self, channels, shortcut, depthwise=False):
        super().__init__()
        self.conv1 = conv_silu(channels, channels, 1)
        self.conv2 = conv_silu(channels, channels, 3, depthwise=depthwise)
        self.shortcut = shortcut

    def forward(self, x):
        """x: (B, C, h, w) -> (B, C, h, w)."""
        y = self.conv1(x)                                                       # (B, C, h, w)
        y = self.conv2(y)                                                       # (B, C, h, w)
        return x + y if self.shortcut else y                                    # (B, C, h, w)


class CSPLayer(nn.Module):
    """Cross stage partial: half of the channels passes the bottlenecks, half goes past; a 1x1 joins."""

    def __init__(self, c_in, c_out, depth, shortcut=True, depthwise=False):
        """depth: how many bottlenecks."""
        super().__init__()
        half = c_out // 2
        self.conv1 = conv_silu(c_in, half, 1)
        self.conv2 = conv_silu(c_in, half, 1)
        self.conv3 = conv_silu(c_out, c_out, 1)
        self.blocks = nn.Sequential(*(Bottleneck(half, shortcut, depthwise) for _ in range(depth)))

    def forward(self, x):
        """x: (B, c_in, h, w) -> (B, c_out, h, w)."""
        through = self.blocks(self.conv1(x))                                    # (B, C/2, h, w)
        past = self.conv2(x)                                                    # (B, C/2, h, w)
        return self.conv3(torch.cat([through, past], 1))                        # (B, C, h, w)


class SPP(nn.Module):
    """Every cell also sees the largest values around it, within 5, 9 and 13 cells."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = conv_silu(channels, channels // 2, 1)
        self.conv2 = conv_silu(2 * channels, channels, 1)

    def forward(self, x):
        """x: (B, C, h, w) -> (B, C, h, w)."""
        x = self.conv1(x)                                                       # (B, C/2, h, w)
        x = torch.cat(pyramid_pool(x), 1)                                       # (B, 2*C, h, w)
        return self.conv2(x)                                                    # (B, C, h, w)


class CSPDarknet(nn.Module):
    def __init__(self, channels, depth, depthwise):
        """channels: C1 ... C5.  depth: bottlenecks in the first and last CSP layer; in the two between three
        times as many.
        """
        super().__init__()
        conv = functools.partial(conv_silu, kernel=3, stride=2, depthwise=depthwise)
        layer = functools.partial(CSPLayer, depthwise=depthwise)
        c1, c2, c3, c4, c5 = channels

        self.stem = conv_silu(12, c1, 3)
        self.stage2 = nn.Sequential(conv(c1, c2), layer(c2, c2, depth))
        self.stage3 = nn.Sequential(conv(c2, c3), layer(c3, c3, 3 * depth))
        self.stage4 = nn.Sequential(conv(c3, c4), layer(c4, c4, 3 * depth))
        self.stage5 = nn.Sequential(conv(c4, c5), SPP(c5), layer(c5, c5, depth, shortcut=False))

    def forward(self, images):
        # Focus: the four pixels of every 2x2 square, column by column, become channels of one.
        pixels = [images[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]        # (B, 3, H/2, W/2) each
        x = torch.cat(pixels, 1)                                                # (B, 12, H/2, W/2)

        c1 = self.stem(x)                                                       # (B, C1, H/2, W/2)
        c2 = self.stage2(c1)                                                    # (B, C2, H/4, W/4)
        c3 = self.stage3(c2)                                                    # (B, C3, H/8, W/8)
        c4 = self.stage4(c3)                                                    # (B, C4, H/16, W/16)
        c5 = self.stage5(c4)                                                    # (B, C5, H/32, W/32)
        return c3, c4, c5


class PAFPN(nn.Module):
    """Down the pyramid what is seen, up again where it is. Source: PANet, arXiv 1803.01534, section 3.1."""

    def __init__(self, channels, depth, depthwise):
        """channels: C3, C4, C5; p3, p4, p5 have as many.  depth: bottlenecks in every CSP layer."""
        super().__init__()
        shrink = functools.partial(conv_silu, kernel=3, stride=2, depthwise=depthwise)
        layer = functools.partial(CSPLayer, depth=depth, shortcut=False, depthwise=depthwise)
        c3, c4, c5 = channels

        # Before a map goes down it gets the channels of the finer one (lateral).
        self.lateral5 = conv_silu(c5, c4, 1)
        self.down4 = layer(c4 + c4, c4)
        self.lateral4 = conv_silu(c4, c3, 1)
        self.down3 = layer(c3 + c3, c3)
        self.shrink3 = shrink(c3, c3)
        self.up4 = layer(c3 + c3, c4)
        self.shrink4 = shrink(c4, c4)
        self.up5 = layer(c4 + c4, c5)

    def forward(self, c3, c4, c5):
        # Down: a coarse map knows what there is; enlarged, it tells the next finer one.
        m5 = self.lateral5(c5)                                                  # (B, C4, H/32, W/32)
        large5 = F.interpolate(m5, scale_factor=2.0)                            # (B, C4, H/16, W/16)
        x = self.down4(torch.cat([large5, c4], 1))                              # (B, C4, H/16, W/16)
        m4 = self.lateral4(x)                                                   # (B, C3, H/16, W/16)
        large4 = F.interpolate(m4, scale_factor=2.0)                            # (B, C3, H/8, W/8)
        p3 = self.down3(torch.cat([large4, c3], 1))                             # (B, P3, H/8, W/8)

        # Up again: a fine map knows where it is; halved, it tells the next coarser one.
        small3 = self.shrink3(p3)                                               # (B, P3, H/16, W/16)
        p4 = self.up4(torch.cat([small3, m4], 1))                               # (B, P4, H/16, W/16)
        small4 = self.shrink4(p4)                                               # (B, P4, H/32, W/32)
        p5 = self.up5(torch.cat([small4, m5], 1))                               # (B, P5, H/32, W/32)
        return p3, p4, p5


class Head(nn.Module):
    """The decoupled head of one level: what it is and where it is are asked in branches of their own."""

    def __init__(self, c_in, width, num_classes, depthwise):
        super().__init__()
        conv = functools.partial(conv_silu, width, width, 3, depthwise=depthwise)
        self.stem = conv_silu(c_in, width, 1)
        self.class_conv = nn.Sequential(conv(), conv())
        self.box_conv = nn.Sequential(conv(), conv())
        self.class_pred = nn.Conv2d(width, num_classes, 1)
        self.box_pred = nn.Conv2d(width, 4, 1)
        self.object_pred = nn.Conv2d(width, 1, 1)

        # At first nearly every cell says "nothing here", as is right for nearly every cell.
        for pred in (self.class_pred, self.object_pred):
            nn.init.constant_(pred.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, x):
        x = self.stem(x)                                                        # (B, C, h, w)
        what = self.class_conv(x)                                               # (B, C, h, w)
        where = self.box_conv(x)                                                # (B, C, h, w)
        return torch.cat([self.box_pred(where), self.object_pred(where), self.class_pred(what)], 1)     # (B, 5+K, h, w)


class YOLOX(nn.Module):
    task = "detection"
    stride = 32
    official = {"classes": "coco", "options": {"size": "s"}, "input_shape": (640, 640)}
    recipe = DETECTION_RECIPE | {"input_shape": (640, 640), "lr": 0.003, "nms_iou": 0.65}

    def __init__(self, num_classes, input_shape=(640, 640), pretrained=False, size="s", l1=False):
        """num_classes: K, foreground classes.  pretrained: True fetches the official weights, of COCO.
        size: "nano", "tiny", "s", "m", "l" or "x".  l1: also the L1 loss of the last epochs.
        """
        super().__init__()
        if size not in SIZES:
            raise UserError(f'yolox has no size "{size}".{did_you_mean(str(size), SIZES)} '
                            f'It has {", ".join(SIZES)}.')
        self.num_classes, self.l1 = num_classes, l1

        # What a size means: bottlenecks and channels; nano alone also has depthwise convolutions.
        depth, width = round(3 * SIZES[size][0]), SIZES[size][1]
        channels = [int(width * c) for c in (64, 128, 256, 512, 1024)]
        levels = channels[2:]
        depthwise = size == "nano"

        self.backbone = CSPDarknet(channels, depth, depthwise)
        self.neck = PAFPN(levels, depth, depthwise)
        self.head3, self.head4, self.head5 = (Head(c, levels[0], num_classes, depthwise) for c in levels)
        if pretrained:
            print(load_weights(self, download(PRETRAINED.format(size))))

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> outputs, losses. outputs: three maps (B, 5+K, h, w), fine first."""
        images = images.flip(1) * 255                                           # (B, 3, H, W) BGR 0-255
        c3, c4, c5 = self.backbone(images)                                      # (B, C3, H/8, W/8), (B, C4, H/16, W/16), (B, C5, H/32, W/32)
        p3, p4, p5 = self.neck(c3, c4, c5)                                      # (B, P3, H/8, W/8), (B, P4, H/16, W/16), (B, P5, H/32, W/32)

        outputs = [self.head3(p3), self.head4(p4), self.head5(p5)]              # (B, 5+K, H/8, W/8), (B, 5+K, H/16, W/16), (B, 5+K, H/32, W/32)
        losses = {} if targets is None else self.loss(outputs, targets)
        return outputs, losses

    def decode(self, outputs):
        """outputs -> boxes (B, N, 4) xyxy in input px, scores (B, N, K) in 0-1. N: level, row, column."""
        raw, boxes, _ = self.predictions(outputs)                               # (B, N, 5+K), (B, N, 4)
        scores = raw[..., 4:5].sigmoid() * raw[..., 5:].sigmoid()               # (B, N, K)
        return boxes, scores

    @staticmethod
    def predictions(outputs):
        """All levels in one list of N cells, float32.

        outputs -> raw (B, N, 5+K), boxes (B, N, 4) xyxy px,
        cells (N, 4) xyxy px: the squares of the input that the cells are.
        """
        raw = torch.cat([output.flatten(2) for output in outputs], 2).transpose(1, 2)           # (B, N, 5+K)
        raw = raw.to(torch.promote_types(raw.dtype, torch.float32))             # (B, N, 5+K)

        # A cell is a square of the input, whose side is the stride.
        squares = [raw.new_tensor([[0, 0, stride, stride]]) for stride in STRIDES]              # (1, 4) each
        shapes = [output.shape[2:] for output in outputs]
        cells = torch.cat(grid_anchors(squares, shapes, [(s, s) for s in STRIDES]))             # (N, 4)
        corners = cells[:, :2]                                                  # (N, 2)
        strides = cells[:, 2:] - corners                                        # (N, 2)

        # The box: its centre from the cell's corner, its size, both in strides.
        centres = raw[..., :2] * strides + corners                              # (B, N, 2)
        sizes = raw[..., 2:4].clamp(max=MAX_LOG_SIZE).exp() * strides           # (B, N, 2)
        boxes = cxcywh_to_xyxy(torch.cat([centres, sizes], -1))                 # (B, N, 4)
        return raw, boxes, cells

    @staticmethod
    @torch.no_grad()
    def assign(raw, boxes, cells, true_boxes, true_labels, real):
        """SimOTA: which objects go to which predictions. These decide: the answer changes with the network.

        raw, boxes, cells: see `predictions`.  true_boxes, true_labels, real: see `pad_targets`.
        -> (B, N) int64: row of the image's objects, -1 where there is none.
        Source: YOLOX section 2.1 ("SimOTA"), simplified from OTA, arXiv 2103.14259.
        """
        # Who may: cells whose centre is near the centre of an object, of any object.
        reach = RADIUS * (cells[:, 2:] - cells[:, :2])                          # (N, 2)
        cell_centres = xyxy_to_cxcywh(cells)[:, :2]                             # (N, 2)
        true_centres = xyxy_to_cxcywh(true_boxes)[..., :2]                      # (B, G, 2)
        near = ((cell_centres - true_centres[:, :, None]).abs() < reach).all(-1) & real[..., None]          # (B, G, N)

        # The n cells of an image that can get one, and what is said there.
        some = near_cells(near)                                                 # (B, n)
        near = near.gather(2, some[:, None].expand(-1, near.shape[1], -1))      # (B, G, n)
        pair = near.any(1, keepdim=True) & real[..., None]                      # (B, G, n)
        raw = raw.transpose(1, 2).gather(2, some[:, None].expand(-1, raw.shape[2], -1)).transpose(1, 2)         # (B, n, 5+K)
        boxes = boxes.gather(1, some[..., None].expand(-1, -1, 4))              # (B, n, 4)

        # What it would cost: how wrong the class is (cross-entropy of all classes), and the box.
        iou = pairwise_iou(true_boxes, boxes) * pair                            # (B, G, n)
        joint = (raw[..., 4:5].sigmoid() * raw[..., 5:].sigmoid()).sqrt()       # (B, n, K)
        if_true = -joint.log().clamp(min=-100)                                  # (B, n, K)
        if_false = -torch.log1p(-joint).clamp(min=-100)                         # (B, n, K)
        labels = true_labels[..., None].expand_as(pair)                         # (B, G, n)
        cost = if_false.sum(2)[:, None] + (if_true - if_false).transpose(1, 2).gather(1, labels)            # (B, G, n)
        cost = cost - IOU_COST * torch.log(iou + 1e-8) + FAR * ~near            # (B, G, n)
        cost = cost.where(pair, torch.inf)                                      # (B, G, n)

        # Each object takes the k cheapest, k being the sum of its best IoUs.
        most = min(MOST, some.shape[1])
        k = iou.topk(most).values.sum(-1).long().clamp(min=1)                   # (B, G)
        cheapest = cost.topk(most, largest=False)
        taken = (torch.arange(most, device=k.device) < k[..., None]) & cheapest.values.isfinite()           # (B, G, T)
        taken = torch.zeros_like(pair).scatter(2, cheapest.indices, taken)      # (B, G, n)

        # A prediction taken twice goes to the object to which it costs least.
        times = taken.sum(1)                                                    # (B, n)
        truth = torch.where(times > 1, cost.argmin(1), taken.byte().argmax(1))  # (B, n)
        truth = truth.where(times > 0, -1)                                      # (B, n)
        return torch.full_like(truth[:, :1], -1).repeat(1, len(cells)).scatter(1, some, truth)                  # (B, N)

    def loss(self, outputs, targets):
        """-> {"box", "objectness", "class"} and, with l1, "l1": 0-d float32, sums of the batch divided by its
        positives.
        """
        # Which objects go to which predictions; P pairs.
        raw, boxes, cells = self.predictions(outputs)                           # (B, N, 5+K), (B, N, 4), (N, 4)
        true_boxes, true_labels, real = pad_targets(targets, boxes)             # (B, G, 4), (B, G), (B, G)
        truth = self.assign(raw, boxes, cells, true_boxes, true_labels, real)   # (B, N)
        image, prediction = (truth >= 0).nonzero(as_tuple=True)                 # (P,), (P,)
        row = truth[image, prediction]                                          # (P,)
        true_boxes, true_labels = true_boxes[image, row], true_labels[image, row]               # (P, 4), (P,)
        raw_positive = raw[image, prediction]                                   # (P, 5+K)

        # The box, for the positives alone.
        iou = pairwise_iou(boxes[image, prediction][:, None], true_boxes[:, None])[:, 0, 0]     # (P,)
        box = BOX_WEIGHT * (1 - iou**2).sum()                                   # ()

        # Objectness: all predictions are asked.
        positive = (truth >= 0).to(raw)                                         # (B, N)
        objectness = F.binary_cross_entropy_with_logits(raw[..., 4], positive, reduction="sum")                 # ()

        # Which one: the positives are to be as sure as their box is good.
        wanted = F.one_hot(true_labels, self.num_classes) * iou.detach()[:, None]               # (P, K)
        class_loss = F.binary_cross_entropy_with_logits(raw_positive[:, 5:], wanted, reduction="sum")           # ()
        losses = {"box": box, "objectness": objectness, "class": class_loss}    # ()

        # The four numbers of the box themselves.
        if self.l1:
            cells = cells[prediction]                                           # (P, 4)
            strides = cells[:, 2:] - cells[:, :2]                               # (P, 2)
            centres, sizes = xyxy_to_cxcywh(true_boxes).split(2, 1)             # (P, 2), (P, 2)
            aims = torch.cat([(centres - cells[:, :2]) / strides, torch.log(sizes / strides + 1e-8)], 1)        # (P, 4)
            losses["l1"] = (raw_positive[:, :4] - aims).abs().sum()             # ()

        total = batch_mean((truth >= 0).sum(), 1)                               # ()
        return {name: value / total for name, value in losses.items()}


def near_cells(near):
    """near: (B, G, N) bool, which cells are near which objects -> (B, n) int64: the cells to look at.

    On a CPU those near any object, rising; where an image has fewer than others, also some that are not. A
    GPU would have to wait until it is known how many they are: all cells cost it less.
    """
    near = near.any(1)                                                          # (B, N)
    if near.device.type != "cpu":
        return torch.arange(near.shape[1], device=near.device).expand_as(near)
    most = max(int(near.sum(1).max()), MOST)
    first = near.byte().sort(dim=1, descending=True, stable=True).indices[:, :most]  # (B, n)
    return first.sort(1).values                                                 # (B, n)


def pad_targets(targets, like):
    """The objects of all images in one tensor, each image's followed by empty rows, at least one.

    targets: list of B dicts, see the contract.  like: a tensor with the device and the precision wanted.
    -> boxes (B, G, 4) xyxy px, labels (B, G) int64, real (B, G) bool: False in the empty rows.
    """
    boxes = [target["boxes"].to(like) for target in targets]
    labels = [target["labels"].to(like.device) for target in targets]
    counts = torch.tensor([len(one) for one in labels], device=like.device)     # (B,)

    boxes = nn.utils.rnn.pad_sequence(boxes, batch_first=True)                  # (B, G, 4)
    labels = nn.utils.rnn.pad_sequence(labels, batch_first=True)                # (B, G)
    boxes, labels = F.pad(boxes, (0, 0, 0, 1)), F.pad(labels, (0, 1))           # (B, G+1, 4), (B, G+1)
    real = torch.arange(labels.shape[1], device=like.device) < counts[:, None]  # (B, G+1)
    return boxes, labels, real


# The tensors' names in the official files -> ours.
YOLOX.official_names = [
    (r"^backbone\.backbone\.", "backbone."), (r"\.dark(\d)\.", r".stage\1."),
    (r"\.stem\.conv\.(conv|bn)\.", r".stem.\1."),
    (r"^backbone\.lateral_conv0\.", "neck.lateral5."), (r"^backbone\.reduce_conv1\.", "neck.lateral4."),
    (r"^backbone\.C3_p(\d)\.", r"neck.down\1."),
    (r"^backbone\.bu_conv2\.", "neck.shrink3."), (r"^backbone\.bu_conv1\.", "neck.shrink4."),
    (r"^backbone\.C3_n3\.", "neck.up4."), (r"^backbone\.C3_n4\.", "neck.up5."),
    (r"^head\.(\w+)s\.(\d)\.", lambda found: f"head{3 + int(found[2])}.{found[1]}."),
    (r"\.cls_", ".class_"), (r"\.reg_", ".box_"), (r"\.obj_", ".object_"),
    (r"\.m\.", ".blocks."), (r"\.dconv\.", ".0."), (r"\.pconv\.", ".1."), (r"\.bn\.", ".norm."),
]
