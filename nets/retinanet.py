"""RetinaNet: anchors all over a feature pyramid, and a loss (focal) in which the many easy ones count little.

Paper: Focal Loss for Dense Object Detection, arXiv 1708.02002. The layers, anchors, losses and results are
those of torchvision's retinanet_resnet50_fpn: 34,068,119 parameters at 90 classes (34,014,999 with frozen
BatchNorm), and its official file loads.

    stage          layers                                           output
    backbone       ResNet-50 (nets/backbones/resnet.py)              512 x H/8  x W/8   -> c3
                                                                    1024 x H/16 x W/16  -> c4
                                                                    2048 x H/32 x W/32  -> c5
    neck           FPN of c3, c4, c5                                 256 x the same     -> p3, p4, p5
                   conv 3x3/2 of p5                                  256 x H/64 x W/64  -> p6 (rounded up)
                   ReLU, conv 3x3/2 of p6                            256 x H/128 x W/128 -> p7 (rounded up)
    class head     4 x (conv 3x3, ReLU), conv 3x3                    A(1+K) x h x w, every level, with A = 9
    box head       the same, with its own weights                    A*4 x h x w

N counts level (fine to coarse), row, column, anchor. A class is a yes or no of its own (sigmoid); the
deltas are those of utils.boxes.encode. Losses: focal for the classes, over all anchors but the doubtful ones;
L1 for the deltas of the positives.

What differs from the paper, and why (torchvision's choices, so that its weights keep their meaning, unless
something else is said):
* p6 is made from p5, in the paper from c5.
* The three sizes of an anchor are cut to whole pixels (40 instead of 40.3), its corners around the cell are
  rounded, and it is placed around the upper left corner of its cell. Cells are as far apart as the input
  divided by the map, rounded down: where the input does not divide by 128, the anchors of p6 and p7 are
  closer than 64 and 128 px. The paper says nothing of all this.
* The class head has a column for the background in front, never wanted, left out of the scores: nobody
  needs it, but the files have it.
* The deltas are learnt with L1, in the paper with smooth L1.
* Losses are divided by the positives of each image, then comes the mean over the images; the paper divides
  by "the anchors assigned to a truth".
* An object that no anchor overlaps by half gets those that overlap it most. In the paper it gets none.
* `norm="batch"` is the default: with random weights frozen BatchNorms would leave a ResNet without any.
  From ImageNet weights they are frozen, as everywhere in detection, from torchvision's detector frozen with
  eps 0 (see resnet.py).
* torchvision never trains the stem and the first stage of a pretrained backbone. Here the freeze stage of
  train.py rests all of it for a while, and then all of it learns.
* `recipe` is AdamW at a fixed input, for a user's own data (see nets/layers.py); the paper's SGD is in
  recipes/voc0712_retinanet.py.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

from nets.backbones.resnet import NORMS, find_norm, resnet
from nets.layers import DETECTION_RECIPE, FPN, grid_anchors, make_cell_anchors, normalise
from utils.boxes import NO_PART, clip, decode, encode, match, pairwise_iou
from utils.errors import UserError
from utils.losses import sigmoid_focal
from utils.weights import download, load_weights

SIZES = (32, 64, 128, 256, 512)                         # px, of the anchors on p3 ... p7 (4, "Anchors")
OCTAVES = (1, 2 ** (1 / 3), 2 ** (2 / 3))               # every size comes three times
RATIOS = (0.5, 1.0, 2.0)                                # height / width
A = len(OCTAVES) * len(RATIOS)                          # anchors per cell
HIGH, LOW = 0.5, 0.4                                    # IoU: from HIGH on an object, below LOW background,
                                                        # between them no part (section 4)
ALPHA, GAMMA = 0.25, 2.0                                # of the focal loss (section 5.1)
PRIOR = 0.01                                            # score of every class at first (section 4.1)
CANDIDATES = 1000                                       # the best of each level enter NMS (4.1, "Inference")
COCO = "https://download.pytorch.org/models/retinanet_resnet50_fpn_coco-eeacb38b.pth"


class Neck(FPN):
    """The pyramid of FPN with two coarser levels on top."""

    def __init__(self, channels):
        super().__init__(channels)
        self.p6 = nn.Conv2d(256, 256, 3, 2, padding=1)
        self.p7 = nn.Conv2d(256, 256, 3, 2, padding=1)
        for conv in (self.p6, self.p7):
            nn.init.kaiming_uniform_(conv.weight, a=1)
            nn.init.zeros_(conv.bias)

    def forward(self, maps):
        """maps: c3, c4, c5 -> p3, p4, p5, p6, p7."""
        p3, p4, p5 = super().forward(maps)                                      # (B, 256, H/8, W/8), (B, 256, H/16, W/16), (B, 256, H/32, W/32)
        p6 = self.p6(p5)                                                        # (B, 256, (H+63)//64, (W+63)//64)
        p7 = self.p7(F.relu(p6))                                                # (B, 256, (H+127)//128, (W+127)//128)
        return [p3, p4, p5, p6, p7]                                             # (B, 256, h, w) each


class Head(nn.Sequential):
    """Four convolutions, the same on every level, and one that says `columns` numbers for every anchor."""

    def __init__(self, columns):
        layers = []
        for _ in range(4):
            layers += [nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(inplace=True)]
        layers.append(nn.Conv2d(256, A * columns, 3, padding=1))
        super().__init__(*layers)
        self.columns = columns
        for conv in layers[::2]:
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)

    def forward(self, maps):
        """maps: (B, 256, h, w) each -> (B, N, columns)."""
        levels = []
        for x in maps:
            x = super().forward(x)                                              # (B, 9*T, h, w)
            x = x.permute(0, 2, 3, 1)                                           # (B, h, w, 9*T)
            levels.append(x.reshape(x.shape[0], -1, self.columns))
        return torch.cat(levels, 1)                                             # (B, N, T)


class RetinaNet(nn.Module):
    task = "detection"
    stride = 32
    official = {"classes": "coco_91", "options": {"norm": "frozen_eps0"},
                "input_shape": (800, 1333), "fit": "short_side"}
    recipe = DETECTION_RECIPE | {"input_shape": (512, 512), "lr": 0.0006, "nms_iou": 0.5,
                                 "weight_decay": 1e-4, "backbone_lr": 0.1, "mosaic": 0.0}

    def __init__(self, num_classes, input_shape=(512, 512), pretrained=False, backbone="resnet50", norm=None,
                 anchor_sizes=SIZES):
        """num_classes: K, foreground classes.
        pretrained: True fetches the backbone, trained on ImageNet; "coco" the whole detector.
        backbone: "resnet50" or "resnet101".
        norm: of the backbone, "batch", "frozen" or "frozen_eps0"; None: what goes with pretrained.
        anchor_sizes: px, of p3 ... p7; halve them for small objects, or for an input far below 600.
        """
        super().__init__()
        if pretrained == "coco" and backbone != "resnet50":
            raise UserError('The file that pretrained="coco" downloads is of a RetinaNet with resnet50, '
                            f"not {backbone}: set pretrained=True for the backbone's own weights, "
                            "or leave out the option backbone.")
        self.num_classes = num_classes
        norm = find_norm(norm, pretrained)
        self.options = {"norm": norm}                   # what the default became: for the checkpoint

        self.backbone = resnet(backbone, 32, pretrained and pretrained != "coco", norm=NORMS[norm])
        self.neck = Neck(self.backbone.channels[1:])
        self.class_head = Head(1 + num_classes)
        self.box_head = Head(4)

        # At first every anchor says "nothing here", as is right for nearly every anchor.
        nn.init.constant_(self.class_head[-1].bias, -math.log((1 - PRIOR) / PRIOR))

        # The anchors of one cell of each level; forward lays them on all cells.
        sizes = [[int(size * octave) for octave in OCTAVES] for size in anchor_sizes]
        self.register_buffer("cell_anchors", make_cell_anchors(sizes, RATIOS), persistent=False)
        if pretrained == "coco":
            print(load_weights(self, download(COCO)))

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> outputs, losses.

        outputs: dict of logits (B, N, 1+K), deltas (B, N, 4), anchors (N, 4) xyxy px,
        levels: how many of N belong to p3 ... p7, input_shape (H, W).
        """
        x = normalise(images)                                                   # (B, 3, H, W)
        _, c3, c4, c5 = self.backbone(x)                                        # (B, 512, H/8, W/8), (B, 1024, H/16, W/16), (B, 2048, H/32, W/32)
        maps = self.neck([c3, c4, c5])                                          # (B, 256, h, w) each
        logits = self.class_head(maps)                                          # (B, N, 1+K)
        deltas = self.box_head(maps)                                            # (B, N, 4)

        # Where the N anchors are: those of one cell, again and again.
        H, W = images.shape[2:]
        sizes = [p.shape[2:] for p in maps]
        strides = [(H // h, W // w) for h, w in sizes]
        levels = grid_anchors(self.cell_anchors, sizes, strides)                # (M, 4) each
        outputs = {"logits": logits, "deltas": deltas, "anchors": torch.cat(levels),
                   "levels": [level.shape[0] for level in levels], "input_shape": (H, W)}
        losses = {} if targets is None else self.loss(outputs, targets)
        return outputs, losses

    def decode(self, outputs):
        """outputs -> boxes (B, N, 4) xyxy in input px, cut at its border, scores (B, N, K) in 0-1, no
        background.
        """
        boxes = decode(outputs["deltas"].float(), outputs["anchors"])           # (B, N, 4)
        boxes = clip(boxes, outputs["input_shape"])                             # (B, N, 4)
        scores = outputs["logits"][..., 1:].float().sigmoid()                   # (B, N, K)
        return boxes, scores

    def candidates(self, outputs):
        """How many enter the suppression, see utils.boxes.nms."""
        return {"max_candidates": CANDIDATES, "parts": outputs["levels"]}

    @staticmethod
    def assign(anchors, targets):
        """Which object each anchor is assigned to, by overlap. anchors: (N, 4) xyxy px.

        -> (B, N) int64: row among the objects of all images together, -1 background, -2 takes no part.
        """
        found, first = [], 0
        for target in targets:
            iou = pairwise_iou(target["boxes"].to(anchors), anchors)            # (G, N)
            row = match(iou, HIGH, LOW, rescue=True)                            # (N,)
            row = torch.where(row >= 0, row + first, row)                       # (N,)
            found.append(row)
            first += len(iou)
        return torch.stack(found)                                               # (B, N)

    def loss(self, outputs, targets):
        """-> {"class", "box"}: 0-d float32, sums over the anchors divided by the positives of the image,
        mean over the images.
        """
        anchors = outputs["anchors"]                                            # (N, 4)
        logits = outputs["logits"].float()                                      # (B, N, 1+K)
        deltas = outputs["deltas"].float()                                      # (B, N, 4)
        true_boxes = torch.cat([target["boxes"] for target in targets]).to(anchors)             # (G, 4)
        true_labels = torch.cat([target["labels"] for target in targets]).to(anchors.device)    # (G,)

        # Which anchors are to find which objects; P pairs. What one counts depends on its image.
        matched = self.assign(anchors, targets)                                 # (B, N)
        positive = matched >= 0                                                 # (B, N)
        image, prediction = positive.nonzero(as_tuple=True)                     # (P,), (P,)
        truth = matched[positive]                                               # (P,)
        share = 1 / (positive.sum(1).clamp(min=1) * len(targets))               # (B,)

        # A yes or no for each class, of all anchors but those that take no part.
        wanted = torch.zeros_like(logits)                                       # (B, N, 1+K)
        wanted[image, prediction, 1 + true_labels[truth]] = 1.0
        per_anchor = sigmoid_focal(logits, wanted, ALPHA, GAMMA).sum(2)         # (B, N)
        class_loss = (per_anchor * (matched != NO_PART) * share[:, None]).sum()  # ()

        # The box, for the positives alone.
        aims = encode(true_boxes[truth], anchors[prediction])                   # (P, 4)
        off = (deltas[positive] - aims).abs().sum(1)                            # (P,)
        box_loss = (off * share[image]).sum()                                   # ()
        return {"class": class_loss, "box": box_loss}


# torchvision's names, today's and those of the released file, -> ours.
RetinaNet.official_names = [
    (r"^backbone\.body\.", "backbone."), (r"^backbone\.fpn\.extra_blocks\.", "neck."),
    (r"^backbone\.fpn\.inner_blocks\.(\d)(\.0)?\.", r"neck.lateral.\1."),
    (r"^backbone\.fpn\.layer_blocks\.(\d)(\.0)?\.", r"neck.smooth.\1."),
    (r"^head\.classification_head\.", "class_head."), (r"^head\.regression_head\.", "box_head."),
    # The convolutions: as torchvision writes them today, and as in the released file.
    (r"_head\.conv\.(\d)\.0\.", lambda found: f"_head.{2 * int(found[1])}."),
    (r"_head\.conv\.", "_head."),
    (r"_head\.(cls_logits|bbox_reg)\.", "_head.8."),
]
