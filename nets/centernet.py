"""CenterNet: an object is a peak of a map, and what the peak's cell says of its size. No anchors, no NMS.

Paper: Objects as Points, arXiv 1904.07850. The layers are those of the authors' ResNet version, without its
deformable convolutions: 15,820,372 parameters (ResNet-18), 25,928,532 (34), 34,443,348 (50) and 53,435,476
(101) at 80 classes.

    stage          layers                                           output
    backbone       ResNet-18 (nets/backbones/resnet.py)              512 x H/32 x W/32 -> c5 (50, 101: 2048)
    deconv         3 x (transposed conv 4x4/2, BatchNorm, ReLU)      256 x H/4  x W/4
    centre head    conv 3x3, ReLU, conv 1x1                            K x H/4  x W/4, a map for each class
    size head      the same                                            2 x H/4  x W/4, width and height
    offset head    the same                                            2 x H/4  x W/4, where in its cell

How it answers: a cell whose score is the highest of its 3x3 neighbours is an object. That is all that NMS
does elsewhere, in one line (`decode`); so `recipe` has nms_iou 1.0, which removes nothing.

How it learns (`assign`): an object belongs to one cell, the one that its centre falls into. Cells around it
would give nearly the same box, so they are not blamed as much for a high score: in the wanted map the 1 of
the cell fades away around it as a bell (a Gaussian). The bell is as wide as two corners may be off and their
box still have an IoU of 0.7 (`bell_radius`). The centre loss is a focal loss in which a negative counts
(1 - wanted)^4; size and offset are learned with L1, in cells of 4 px, by the cells of the objects alone.

What differs from the paper, and why:
* Its numbers for ResNet have a deformable convolution before each transposed one, compiled for its GPU. The
  plain net here is the one of the paper's human pose baseline; there are no official weights of it for boxes.
* The authors feed B, G, R with means of their own. Here it is R, G, B as the ImageNet weights were trained.
* Of the three solutions in `bell_radius` two divide by 2 where the formula for a root says 2a. The radius is
  then another one than said, but every published number has it.
* A negative width is cut to 0 in `decode`, so that a box is never turned inside out.
* `recipe` is AdamW for a user's own data (nets/layers.py); the paper's Adam is in recipes/coco_centernet.py.
"""

import torch
import torch.nn.functional as F
from torch import nn

from nets.backbones.resnet import resnet
from nets.layers import DETECTION_RECIPE, normalise
from utils.boxes import xyxy_to_cxcywh
from utils.errors import NoWeights
from utils.system.distributed import batch_mean

STRIDE = 4                                              # px of a cell of the three maps
WIDTHS = (256, 256, 256)                                # channels of the transposed convolutions (section 5)
HEAD_WIDTH = 64
OVERLAP = 0.7                                           # IoU of which a bell's radius is made (section 3)
ALPHA, BETA = 2, 4                                      # exponents of the focal loss (eq. 1)
CENTRE_WEIGHT, SIZE_WEIGHT, OFFSET_WEIGHT = 1.0, 0.1, 1.0       # section 3
DEVIATION = 0.001                                       # of the first weights of the last layers
PRIOR = -2.19                                           # logit: at first every cell scores 0.1
MOST = 100                                              # peaks of a picture (section 3, "From points")


def deconvolutions(c_in):
    """Three times twice as large: from H/32 to H/4."""
    layers = []
    for width in WIDTHS:
        layers += [nn.ConvTranspose2d(c_in, width, 4, 2, padding=1, bias=False),
                   nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        c_in = width
    return nn.Sequential(*layers)


def head(outputs):
    """One question to every cell."""
    return nn.Sequential(nn.Conv2d(WIDTHS[-1], HEAD_WIDTH, 3, padding=1), nn.ReLU(inplace=True),
                         nn.Conv2d(HEAD_WIDTH, outputs, 1))


class CenterNet(nn.Module):
    task = "detection"
    stride = 32
    recipe = DETECTION_RECIPE | {"input_shape": (512, 512), "lr": 0.001, "nms_iou": 1.0, "backbone_lr": 0.3}

    def __init__(self, num_classes, input_shape=(512, 512), pretrained=False, backbone="resnet18"):
        """num_classes: K, foreground classes.  pretrained: True fetches the backbone, trained on ImageNet.
        backbone: "resnet18", "resnet34", "resnet50" or "resnet101".
        """
        super().__init__()
        if pretrained == "coco":
            raise NoWeights("There is no official COCO file of centernet with plain convolutions: "
                            "set pretrained=True for the weights of the backbone. "
                            "Those of a whole yolov4_tiny or retinanet can be fetched.")
        self.num_classes = num_classes
        self.backbone = resnet(backbone, 32, pretrained)
        self.deconv = deconvolutions(self.backbone.channels[-1])
        self.centre_head = head(num_classes)
        self.size_head = head(2)
        self.offset_head = head(2)

        # At first small answers everywhere: no object is likely, no box is large.
        for layer in (*self.deconv[::3], self.size_head[-1], self.offset_head[-1]):
            nn.init.normal_(layer.weight, std=DEVIATION)
        nn.init.zeros_(self.size_head[-1].bias)
        nn.init.zeros_(self.offset_head[-1].bias)
        nn.init.constant_(self.centre_head[-1].bias, PRIOR)

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> outputs, losses.

        outputs: dict of centres (B, K, h, w) logits, sizes and offsets (B, 2, h, w) in cells of 4 px.
        """
        x = normalise(images)                                                   # (B, 3, H, W)
        _, _, _, c5 = self.backbone(x)                                          # (B, C5, H/32, W/32)
        x = self.deconv(c5)                                                     # (B, C, H/4, W/4)

        # Three answers of every cell.
        centres = self.centre_head(x)                                           # (B, K, H/4, W/4)
        sizes = self.size_head(x)                                               # (B, 2, H/4, W/4)
        offsets = self.offset_head(x)                                           # (B, 2, H/4, W/4)
        outputs = {"centres": centres, "sizes": sizes, "offsets": offsets}
        losses = {} if targets is None else self.loss(outputs, targets)
        return outputs, losses

    def decode(self, outputs):
        """outputs -> boxes (B, N, 4) xyxy in input px, scores (B, N, K) in 0-1, 0 where there is no peak.
        N: row, column.
        """
        # A peak is the largest within 3x3 cells: every other cell scores nothing.
        scores = outputs["centres"].float().sigmoid()                           # (B, K, h, w)
        highest = F.max_pool2d(scores, 3, 1, padding=1)                         # (B, K, h, w)
        scores = scores * (scores == highest)                                   # (B, K, h, w)

        # Where the cell is, where in it the centre is, and half of the size to each side.
        h, w = scores.shape[2:]
        y, x = (torch.arange(n, device=scores.device) for n in (h, w))          # (h,), (w,)
        y, x = torch.meshgrid(y, x, indexing="ij")                              # (h, w), (h, w)
        centres = torch.stack([x, y]) + outputs["offsets"].float()              # (B, 2, h, w)
        half = outputs["sizes"].float().clamp(min=0) / 2                        # (B, 2, h, w)
        boxes = torch.cat([centres - half, centres + half], 1) * STRIDE         # (B, 4, h, w)

        # As everywhere: a list of all cells.
        boxes = boxes.flatten(2).transpose(1, 2)                                # (B, h*w, 4)
        scores = scores.flatten(2).transpose(1, 2)                              # (B, h*w, K)
        return boxes, scores

    def candidates(self, outputs):
        """How many enter the suppression, see utils.boxes.nms."""
        return {"max_candidates": MOST}

    @torch.no_grad()
    def assign(self, target, like):
        """What one picture's maps should say.  like: (K, h, w), its centre map.

        -> wanted (K, h, w) in 0-1, cells (G,) row * w + column of the objects' centres, sizes (G, 2) and
        offsets (G, 2) in cells. G: the objects that are left after cutting their boxes at the border.
        """
        # The boxes in cells. The last cell's far edge is beyond the map for the authors, so it is here.
        h, w = like.shape[1:]
        boxes = target["boxes"].to(like) / STRIDE                               # (G, 4)
        limits = boxes.new_tensor([w - 1, h - 1, w - 1, h - 1])                 # (4,)
        boxes = xyxy_to_cxcywh(boxes.clamp(min=0).minimum(limits))              # (G, 4)
        there = (boxes[:, 2:] > 0).all(1)                                       # (G,)
        boxes, labels = boxes[there], target["labels"].to(like.device)[there]   # (P, 4), (P,)
        centres, sizes = boxes[:, :2], boxes[:, 2:]                             # (P, 2), (P, 2)
        cells = centres.long()                                                  # (P, 2)

        # Around each cell a bell: how far away in x times how far away in y.
        radius = bell_radius(sizes.ceil())                                      # (P,)
        places = [torch.arange(n, device=like.device) for n in (w, h)]          # (w,), (h,)
        across, down = (bell(place - cell[:, None], radius) for place, cell in zip(places, cells.unbind(1)))    # (P, w), (P, h)
        bells = down[:, :, None] * across[:, None]                              # (P, h, w)

        # Of the bells of one class the highest counts.
        wanted = torch.zeros_like(like).flatten(1)                              # (K, h*w)
        row = labels[:, None].expand(-1, h * w)                                 # (P, h*w)
        wanted = wanted.scatter_reduce(0, row, bells.flatten(1), "amax").view_as(like)          # (K, h, w)
        return wanted, cells[:, 1] * w + cells[:, 0], sizes, centres - cells    # (K, h, w), (P,), (P, 2), (P, 2)

    def loss(self, outputs, targets):
        """-> {"centre", "size", "offset"}: 0-d float32. Centres are divided by the objects' cells, sizes and
        offsets by two numbers for each object.
        """
        logits = outputs["centres"].float()                                     # (B, K, h, w)
        aims = [self.assign(target, like) for target, like in zip(targets, logits)]
        wanted = torch.stack([one for one, _, _, _ in aims])                    # (B, K, h, w)

        # Focal loss of all cells. Near a centre a negative counts little: (1 - wanted)^4.
        p = logits.sigmoid().clamp(1e-4, 1 - 1e-4)                              # (B, K, h, w)
        centre = wanted == 1                                                    # (B, K, h, w)
        missed = (1 - p)**ALPHA * p.log()                                       # (B, K, h, w)
        wrongly = (1 - wanted)**BETA * p**ALPHA * (1 - p).log()                 # (B, K, h, w)
        count = batch_mean(centre.sum().to(p.dtype), 1)                         # ()
        centre_loss = -torch.where(centre, missed, wrongly).sum() / count       # ()

        # Size and offset, of the objects' cells alone.
        objects = [torch.cat(parts) for parts in zip(*(rest for _, *rest in aims))]             # (P,), (P, 2), (P, 2)
        cells, true_sizes, true_offsets = objects                               # (P,), (P, 2), (P, 2)
        image = torch.repeat_interleave(
            torch.arange(len(aims), device=cells.device),
            torch.tensor([len(one) for _, one, _, _ in aims], device=cells.device))             # (P,)
        sizes = outputs["sizes"].float().flatten(2)[image, :, cells]            # (P, 2)
        offsets = outputs["offsets"].float().flatten(2)[image, :, cells]        # (P, 2)
        count = 2 * batch_mean(wanted.new_tensor(len(cells))) + 1e-4            # ()
        size_loss = (sizes - true_sizes).abs().sum() / count                    # ()
        offset_loss = (offsets - true_offsets).abs().sum() / count              # ()
        return {"centre": CENTRE_WEIGHT * centre_loss,
                "size": SIZE_WEIGHT * size_loss,
                "offset": OFFSET_WEIGHT * offset_loss}


def bell_radius(sizes):
    """How far both corners of a box may be off for an IoU of OVERLAP. sizes: (P, 2) -> (P,) whole cells.

    Three cases: one corner inside and one outside, both inside, both outside; the least counts.
    Source: CornerNet, arXiv 1808.01244, section 3.2, as its authors compute it, see the top.
    """
    total, area = sizes.sum(1), sizes.prod(1)                                   # (P,), (P,)
    o = OVERLAP

    # a r^2 - b r + c = 0, for r.
    cases = [(1, total, area * (1 - o) / (1 + o)),
             (4, 2 * total, area * (1 - o)),
             (4 * o, -2 * o * total, area * (o - 1))]
    roots = [(b + (b * b - 4 * a * c).clamp(min=0).sqrt()) / 2 for a, b, c in cases]            # (P,) each
    return torch.stack(roots).amin(0).floor().clamp(min=0)                      # (P,)


def bell(distance, radius):
    """exp(-distance^2 / 2 sigma^2), with the radius three sigma and half a cell; 0 beyond it.

    distance: (P, n) in cells.  radius: (P,) -> (P, n) in 0-1.
    """
    radius = radius[:, None]                                                    # (P, 1)
    sigma = (2 * radius + 1) / 6                                                # (P, 1)
    height = torch.exp(-distance**2 / (2 * sigma**2))                           # (P, n)
    return height * (distance.abs() <= radius)                                  # (P, n)


# The tensors' names in the authors' files -> ours.
CenterNet.official_names = [
    (r"^hm\.", "centre_head."), (r"^wh\.", "size_head."), (r"^reg\.", "offset_head."),
    (r"^deconv_layers\.", "deconv."),
    (r"^(conv1|bn1|layer\d)\.", r"backbone.\1."),
]
