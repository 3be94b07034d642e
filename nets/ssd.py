"""SSD: boxes of fixed sizes around every cell of six or seven maps, each asked what it holds and where.

Paper: SSD: Single Shot MultiBox Detector, arXiv 1512.02325. SSD300 is, layer by layer and number by number,
torchvision's ssd300_vgg16: 35,641,826 parameters at 90 classes (26,285,486 at 20), and its official COCO
file loads.

    stage      layers                                       SSD300: output, boxes a cell  SSD512
    backbone   VGG-16 up to conv5_3; pool3 rounds up         512 x 38 x 38 -> c4           512 x 64 x 64
                                                             512 x 19 x 19 -> c5           512 x 32 x 32
    l2norm     of c4: length 1 in every cell, times a        512 x 38 x 38      4          512 x 64 x 64    4
               learnt number per channel, 20 at first
    extras.0   pool 3x3/1; fc6: conv 3x3 dilated by 6;      1024 x 19 x 19      6         1024 x 32 x 32    6
               fc7: conv 1x1
    extras.1   conv 1x1, conv 3x3/2 (conv8_2)                512 x 10 x 10      6          512 x 16 x 16    6
    extras.2   conv 1x1, conv 3x3/2 (conv9_2)                256 x 5 x 5        6          256 x 8 x 8      6
    extras.3   conv 1x1, conv 3x3 (conv10_2; SSD512: /2)     256 x 3 x 3        4          256 x 4 x 4      6
    extras.4   conv 1x1, conv 3x3 (conv11_2; SSD512: /2)     256 x 1 x 1        4          256 x 2 x 2      4
    extras.5   conv 1x1, conv 4x4 (conv12_2)                                               256 x 1 x 1      4
    heads      on each map a conv 3x3 for the classes and   8732 x (K+1)                  24564 x (K+1)
               another for the boxes                        8732 x 4                      24564 x 4

Column 0 of the classes is the background. The boxes come in the order map, row, column, box: sizes s and
sqrt(s * next s) with the ratio 1, then s with 2, 1/2, and where there are six 3, 1/3. Loss: cross-entropy
of the classes, over the boxes that are assigned to an object (positives) and in each image three times as
many others, those with the highest loss; smooth L1 of the deltas; both divided by the number of positives.

What differs from the paper, and why:
* Default boxes wider or higher than the input get its width or height and keep their centre (torchvision).
  The paper's code can cut them at the border, and its SSD300 for VOC does not; ssd.pytorch limits centre
  and size. So boxes near the border are different ones in all three.
* `box_sizes`: "voc" are the paper's for VOC (the smallest 10 % of the input), "coco" those for COCO (7 %),
  with which torchvision trained.
* The cells of the last maps, 100 and 300 px apart at SSD300, share the input out evenly at every input
  size. At 300 and 512 px that is the paper.
* fc6 and fc7 start from random weights (torchvision); in the paper from every third value of VGG's fully
  connected layers.
* As in the paper's test at most 400 boxes of a class enter the suppression, at IoU 0.45. Its other limits
  (torchvision's, too), score 0.01 and 200 results, are up to who calls: get_map.py takes all above 0.001 and
  keeps 300.
* `batch_norm` puts a BatchNorm behind every convolution but the heads: from random weights the network
  learns about twice as fast.
* `recipe` is AdamW for a user's own data (see nets/layers.py); the paper's SGD is in
  recipes/voc0712_ssd300.py and voc0712_ssd512.py.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

from nets.backbones.vgg import VGG
from nets.layers import DETECTION_RECIPE, IMAGENET_MEAN, IMAGENET_STD, PooledBatchNorm, normalise
from utils.boxes import clip, decode, encode, match, pairwise_iou
from utils.errors import UserError
from utils.system.distributed import batch_mean
from utils.weights import download, load_weights

WEIGHTS = (10.0, 10.0, 5.0, 5.0)                        # of the deltas; the paper's code: 1 / "variances"
MATCH_IOU = 0.5                                         # with more overlap a box is assigned (section 2.2)
NEGATIVES = 3                                           # for each positive (2.2, "Hard negative mining")
PER_CLASS = 400                                         # boxes that enter NMS (nms_top_k of the paper's code)
L2_START = 20.0                                         # section 3.1
MEAN = (0.48235, 0.45882, 0.40784)                      # 123, 117, 104 of 255: what VGG's authors took off
STD = (1 / 255,) * 3                                    # and they left the values at 0-255
SPREAD = 64.0                                           # about the deviation of these values

# By batch_norm. ImageNet; 528 MB each; the layers left out here are nine tenths.
PRETRAINED = {False: "https://download.pytorch.org/models/vgg16_features-amdegroot-88682ab5.pth",
              True: "https://download.pytorch.org/models/vgg16_bn-6c64b313.pth"}


def conv_relu(c_in, c_out, kernel, stride=1, padding=0, dilation=1, batch_norm=False):
    """A list, not a Sequential: the parts are numbered where they are put, as in torchvision's names."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, dilation)
    norm = [PooledBatchNorm(c_out)] if batch_norm else []       # the last map is a single cell
    return [init_xavier(conv), *norm, nn.ReLU(inplace=True)]


def init_xavier(conv):
    """Start values of the paper, in place. -> the convolution."""
    nn.init.xavier_uniform_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv


class L2Norm(nn.Module):
    """Every cell gets the length 1, then every channel its own scale: the values of c4 are much larger than
    those of the other maps (ParseNet, arXiv 1506.04579).
    """

    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), L2_START))

    def forward(self, x):
        """x: (B, C, h, w) -> (B, C, h, w)."""
        return F.normalize(x) * self.weight[:, None, None]                      # (B, C, h, w)


def box_shapes(sizes, ratios):
    """The default boxes of a cell, for every map.

    sizes: shares of the input, one more than maps.  ratios: per map those besides 1.
    -> list of (A, 2) width, height as shares of the input. Source: section 2.2, "Choosing scales and aspect
    ratios".
    """
    found = []
    for size, following, others in zip(sizes, sizes[1:], ratios):
        # Two squares, the second half-way to those of the next map.
        between = math.sqrt(size * following)
        pairs = [(size, size), (between, between)]

        # For every other ratio a lying and an upright box of the same area.
        for ratio in others:
            root = math.sqrt(ratio)
            pairs.append((size * root, size / root))
            pairs.append((size / root, size * root))
        shapes = torch.tensor(pairs).clamp(max=1.0)                             # (A, 2)
        found.append(shapes)
    return found


class Extras(nn.ModuleList):
    """The layers behind the backbone, each of which makes a map from the one before."""

    def forward(self, x):
        """x: (B, C, h, w) -> list of maps."""
        maps = []
        for layer in self:
            x = layer(x)                                                        # (B, C, h, w)
            maps.append(x)
        return maps


class Heads(nn.ModuleList):
    """One for each map. They say `columns` numbers about every default box."""

    def __init__(self, heads, columns):
        super().__init__(heads)
        self.columns = columns

    def forward(self, maps):
        """maps: (B, C, h, w) each -> (B, N, columns)."""
        levels = []
        for head, x in zip(self, maps):
            x = head(x)                                                         # (B, D, h, w)
            x = x.permute(0, 2, 3, 1)                                           # (B, h, w, D)
            levels.append(x.reshape(x.shape[0], -1, self.columns))
        return torch.cat(levels, 1)                                             # (B, N, T)


class SSD(nn.Module):
    """What every SSD does with its maps. A network built on it says which maps (`pyramid`), and makes
    `class_heads` and `box_heads`: Heads of K+1 and of 4 columns.
    """

    task = "detection"
    stride = 1
    steps = ()                                          # px from cell to cell, of the first maps; those of
                                                        # the others share the input out evenly
    per_class = PER_CLASS
    recipe = DETECTION_RECIPE | {"backbone_lr": 0.1, "scale": (1.0, 1.0), "aspect": 0.0, "translate": 0.0,
                                 "fit": "stretch", "colours": (0.0, 0.0, 0.0), "mosaic": 0.0,
                                 "zoom_out": 0.5, "iou_crop": 1.0, "distort": 1.0}

    def pyramid(self, images):
        """images: (B, 3, H, W) RGB 0-1 -> the maps that the heads look at, fine to coarse."""
        raise NotImplementedError

    def __init__(self, num_classes, sizes, ratios):
        """num_classes: K, foreground classes.  sizes, ratios: see box_shapes."""
        super().__init__()
        self.num_classes = num_classes
        shapes = box_shapes(sizes, ratios)
        self.counts = [len(some) for some in shapes]
        self.register_buffer("shapes", torch.cat(shapes), persistent=False)

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> outputs, losses.

        outputs: dict of logits (B, N, K+1), deltas (B, N, 4), anchors (N, 4) xyxy px, input_shape (H, W).
        """
        maps = self.pyramid(images)                                             # (B, C, h, w) each
        logits = self.class_heads(maps)                                         # (B, N, K+1)
        deltas = self.box_heads(maps)                                           # (B, N, 4)

        input_shape = images.shape[2:]
        anchors = self.make_default_boxes([x.shape[2:] for x in maps], input_shape)             # (N, 4)
        outputs = {"logits": logits, "deltas": deltas, "anchors": anchors, "input_shape": input_shape}
        losses = {} if targets is None else self.loss(outputs, targets)
        return outputs, losses

    def make_default_boxes(self, maps, input_shape):
        """maps: per map (h, w).  input_shape: (H, W) -> (N, 4) xyxy px."""
        H, W = input_shape
        levels = []
        for level, (shapes, (h, w)) in enumerate(zip(self.shapes.split(self.counts), maps)):
            # How many cells fill the input: not always a whole number where the step is given.
            down, across = h, w
            if level < len(self.steps):
                down, across = H / self.steps[level], W / self.steps[level]

            # All in shares of the input first, as torchvision does it: an object so small that several
            # default boxes hold all of it has the same IoU with them; the last bit says which one it gets.
            y = (torch.arange(h, device=shapes.device) + 0.5) / down            # (h,)
            x = (torch.arange(w, device=shapes.device) + 0.5) / across          # (w,)
            x, y = torch.meshgrid(x, y, indexing="xy")                          # (h, w), (h, w)
            centres = torch.stack([x, y], -1).view(-1, 1, 2)                    # (h*w, 1, 2)
            boxes = torch.cat([centres - shapes / 2, centres + shapes / 2], -1)                 # (h*w, A, 4)
            levels.append(boxes.view(-1, 4))
        return torch.cat(levels) * self.shapes.new_tensor([W, H, W, H])         # (N, 4)

    def decode(self, outputs):
        """outputs -> boxes (B, N, 4) xyxy in input px, cut at its border, scores (B, N, K) in 0-1, no
        background.
        """
        boxes = decode(outputs["deltas"].float(), outputs["anchors"], WEIGHTS)  # (B, N, 4)
        boxes = clip(boxes, outputs["input_shape"])                             # (B, N, 4)
        scores = outputs["logits"].float().softmax(2)[..., 1:]                  # (B, N, K)
        return boxes, scores

    def candidates(self, outputs):
        """How many enter the suppression, see utils.boxes.nms."""
        return {"per_class": self.per_class, "max_candidates": self.per_class * self.num_classes}

    @staticmethod
    def assign(true_boxes, true_labels, anchors):
        """Which object each default box of an image is to find.

        true_boxes: (G, 4) xyxy px.  true_labels: (G,).  anchors: (N, 4) xyxy px.
        -> labels (N,) int64, 0 background, else 1 + class; boxes (N, 4) xyxy px, of no meaning where it is
        background. Source: section 2.2, "Matching strategy".
        """
        # A default box is assigned the object that it overlaps most, from MATCH_IOU on.
        iou = pairwise_iou(true_boxes, anchors)                                 # (G, N)
        matched = match(iou, MATCH_IOU, MATCH_IOU, rescue=False)                # (N,)

        # And every object gets the box that overlaps it most, however little: none is left without one.
        # If two objects want the same box, the later of them gets it.
        best = iou.argmax(1)                                                    # (G,)
        truth = torch.arange(len(iou), device=iou.device)                       # (G,)
        forced = torch.full_like(matched, -1).scatter_reduce(0, best, truth, "amax")            # (N,)
        row = torch.where(forced >= 0, forced, matched)                         # (N,)

        # Background is -1: a row in front of the objects makes it row 0, of class 0.
        labels = F.pad(true_labels + 1, (1, 0))[row + 1]                        # (N,)
        boxes = F.pad(true_boxes, (0, 0, 1, 0))[row + 1]                        # (N, 4)
        return labels, boxes

    def loss(self, outputs, targets):
        """-> {"class", "box"}: 0-d float32, sums over the default boxes divided by the positives."""
        anchors = outputs["anchors"]                                            # (N, 4)
        deltas = outputs["deltas"].float()                                      # (B, N, 4)
        logits = outputs["logits"].float()                                      # (B, N, K+1)

        # Which default boxes are to find which objects, image by image; the others are background.
        labels, boxes = [], []
        for target in targets:
            true_boxes = target["boxes"].to(anchors)                            # (G, 4)
            true_labels = target["labels"].to(anchors.device)                   # (G,)
            image_labels, image_boxes = self.assign(true_boxes, true_labels, anchors)           # (N,), (N, 4)
            labels.append(image_labels)
            boxes.append(image_boxes)
        labels, boxes = torch.stack(labels), torch.stack(boxes)                 # (B, N), (B, N, 4)
        positive = labels > 0                                                   # (B, N)
        total = batch_mean(positive.sum(), 1)                                   # ()

        # The box, for the positives alone.
        aims = encode(boxes[positive], anchors.expand_as(boxes)[positive], WEIGHTS)             # (P, 4)
        box_loss = F.smooth_l1_loss(deltas[positive], aims, reduction="sum")    # ()

        # What it is. Nearly all boxes are background, and easy: in each image only the hardest of them count,
        # NEGATIVES for every positive (hard negative mining).
        per_box = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(positive)   # (B, N)
        hardest = per_box.masked_fill(positive, 0.0).sort(1, descending=True).values            # (B, N)
        count = NEGATIVES * positive.sum(1, keepdim=True)                       # (B, 1)
        taken = torch.arange(len(anchors), device=anchors.device) < count       # (B, N)
        class_loss = per_box[positive].sum() + hardest.where(taken, 0.0).sum()  # ()
        return {"class": class_loss / total, "box": box_loss / total}


class SSDVGG(SSD):
    """SSD on VGG-16. The tables of SSD300 and SSD512 are below."""

    steps = (8, 16, 32, 64)
    smallest = 268                                      # px: below, the last map would have no cell
    extra_layers = None                                 # of each: channels of the 1x1, of the convolution
                                                        # behind it, its kernel, stride, padding
    ratios = None                                       # of each map: those of its default boxes besides 1
    sizes = None                                        # by box_sizes: shares of the input, see box_shapes
    coco = None                                         # address of the official file
    recipe = SSD.recipe | {"lr": 0.0005, "nms_iou": 0.45}

    def __init__(self, num_classes, input_shape=None, pretrained=False, box_sizes=None, batch_norm=False):
        """num_classes: K, foreground classes.
        pretrained: True fetches the backbone, trained on ImageNet; "coco" the whole detector.
        box_sizes: "voc" or "coco", see above; None: what goes with pretrained.  batch_norm: see above.
        """
        if not box_sizes:
            box_sizes = "coco" if pretrained == "coco" else "voc"
        if box_sizes not in self.sizes:
            raise UserError(f'There are no default boxes "{box_sizes}". Known: {", ".join(self.sizes)}.')
        super().__init__(num_classes, self.sizes[box_sizes], self.ratios)
        self.options = {"box_sizes": box_sizes}         # what the defaults became: for the checkpoint

        # VGG with torchvision's rounding in pool3, so that 300 gives 38 cells and not 37.
        self.backbone = VGG(batch_norm=batch_norm)
        self.backbone.features[self.backbone.starts[3]].ceil_mode = True

        # Without BatchNorm the input is 0-255, as VGG's authors had it. The first weights are made smaller,
        # so that also with random weights all layers begin with values of about 1.
        self.means = (IMAGENET_MEAN, IMAGENET_STD) if batch_norm else (MEAN, STD)
        if not batch_norm:
            self.backbone.features[0].weight.data /= SPREAD
        c4, c5 = self.backbone.channels[3:]
        self.l2norm = L2Norm(c4)

        # Behind the backbone: fc6 and fc7 of VGG as convolutions, then map by map a smaller one.
        pool = nn.MaxPool2d(3, 1, padding=1)
        fc6 = conv_relu(c5, 1024, 3, padding=6, dilation=6, batch_norm=batch_norm)
        fc7 = conv_relu(1024, 1024, 1, batch_norm=batch_norm)
        extras = [nn.Sequential(pool, *fc6, *fc7)]
        channels = [c4, 1024]
        for middle, c_out, *geometry in self.extra_layers:
            narrow = conv_relu(channels[-1], middle, 1, batch_norm=batch_norm)
            shrink = conv_relu(middle, c_out, *geometry, batch_norm=batch_norm)
            extras.append(nn.Sequential(*narrow, *shrink))
            channels.append(c_out)
        self.extras = Extras(extras)

        self.class_heads = self.make_heads(channels, num_classes + 1)
        self.box_heads = self.make_heads(channels, 4)
        self.load_pretrained(pretrained, batch_norm)

    def make_heads(self, channels, columns):
        """channels: of the maps.  columns: what a head says of each default box."""
        heads = []
        for c, count in zip(channels, self.counts):
            heads.append(init_xavier(nn.Conv2d(c, count * columns, 3, padding=1)))
        return Heads(heads, columns)

    def load_pretrained(self, pretrained, batch_norm):
        """Fetches official weights and loads them, in place. The arguments: see __init__."""
        if pretrained == "coco":
            if not self.coco:
                raise UserError("There is no official COCO file of ssd512: "
                                'pretrained=True fetches its backbone, "coco" is for ssd300.')
            print(load_weights(self, download(self.coco)))
        elif pretrained:
            print(load_weights(self.backbone, download(PRETRAINED[batch_norm])))

    def pyramid(self, images):
        """images: (B, 3, H, W) RGB 0-1 -> the maps that the heads look at, fine to coarse."""
        x = normalise(images, *self.means)                                      # (B, 3, H, W)
        _, _, _, c4, c5 = self.backbone(x)                                      # (B, 512, H/8, W/8), (B, 512, H/16, W/16)
        maps = [self.l2norm(c4), *self.extras(c5)]                              # (B, C, h, w) each
        return maps


class SSD300(SSDVGG):
    official = {"classes": "coco_91", "options": {"box_sizes": "coco"}, "input_shape": (300, 300)}
    coco = "https://download.pytorch.org/models/ssd300_vgg16_coco-b556d3b4.pth"
    recipe = SSDVGG.recipe | {"input_shape": (300, 300)}
    extra_layers = ((256, 512, 3, 2, 1),
                    (128, 256, 3, 2, 1),
                    (128, 256, 3, 1, 0),
                    (128, 256, 3, 1, 0))
    ratios = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))

    # "voc": 30, 60, 111, 162, 213, 264, 315 px of 300 (section 3.1).  "coco": section 3.4.
    sizes = {"voc": (0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05),
             "coco": (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05)}


class SSD512(SSDVGG):
    recipe = SSDVGG.recipe | {"input_shape": (512, 512)}
    extra_layers = ((256, 512, 3, 2, 1),
                    (128, 256, 3, 2, 1),
                    (128, 256, 3, 2, 1),
                    (128, 256, 3, 2, 1),
                    (128, 256, 4, 1, 1))
    ratios = ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,))

    # "voc": 35.84 ... 537.6 px of 512 (section 3.3 and the paper's code).
    sizes = {"voc": (0.07, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05),
             "coco": (0.04, 0.1, 0.26, 0.42, 0.58, 0.74, 0.9, 1.06)}


# torchvision's names -> ours.
SSDVGG.official_names = [
    (r"^backbone\.scale_weight$", "l2norm.weight"),
    (r"^backbone\.extra\.0\.([135])\.", lambda found: f"backbone.features.{23 + int(found[1])}."),
    (r"^backbone\.extra\.0\.7\.", "extras.0."),
    (r"^backbone\.extra\.", "extras."),
    (r"^head\.classification_head\.module_list\.", "class_heads."),
    (r"^head\.regression_head\.module_list\.", "box_heads."),
]
