"""DETR: a hundred questions to the picture, each answered with one object or none; who answers for which
object is settled by the cheapest assignment of all. No anchors, no NMS.

Paper: End-to-End Object Detection with Transformers, arXiv 2005.12872. Layers and names are the authors',
whose files load: 41,521,941 parameters at 80 classes (ResNet-50 with frozen BatchNorm).

    stage          layers                                           output
    backbone       ResNet-50 (nets/backbones/resnet.py)             2048 x H/32 x W/32 -> c5
    project        1x1                                               256 x H/32 x W/32, as a list of T tokens
    encoder        6 x (attention, MLP 2048)                         T x 256: each has listened to all others
    decoder        6 x (attention, attention to the tokens, MLP)     100 x 256, from 100 learned queries
    class head     linear                                            100 x (K+1), the last one: no object
    box head       3 linear layers, sigmoid                          100 x 4: centre and size as shares

Attention is explained in nets/segformer.py. What is new here:

* Tokens do not know where they are, so sines and cosines of their place, of many wavelengths, are added to
  what they ask with and are found by (`sine_positions`), never to what they say.
* A query is a row of 256 learned numbers. In the decoder the queries listen to each other (who has which
  object?) and to the picture. Each becomes one prediction: one class, or none, and one box.
* In training each object must be predicted once, by one query. All pairs of a query and an object get a
  price, and `cheapest` finds the assignment with the least total (the Hungarian algorithm). A second query
  on the same object is then wrong, and learns to say "no object": so nothing is left for NMS to remove.
* Every layer of the decoder is asked in training, with the same heads, and assigned anew.

What differs from the paper, and why:
* Its pictures are padded to one size in a batch, and no token listens to the padding. Here letterboxes are
  grey at the edge and the padding is listened to; fit="short_side", as the official weights want it, has
  none.
* The stem and the first stage of the ResNet also learn, after the freeze stage.
* A query may come back with two classes, if both have a score that counts; there only with the better one.
* norm="batch" is the default with random weights, see nets/retinanet.py.
* `recipe` is for a user's own data and starts from the authors' weights, if it is to learn in hours: from an
  ImageNet backbone alone they needed 300 to 500 epochs of COCO. Their schedule is in recipes/coco_detr.py.
"""
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from nets.backbones.resnet import NORMS, find_norm, resnet
from nets.layers import DETECTION_RECIPE, normalise
from utils.boxes import cxcywh_to_xyxy, generalized_iou, xyxy_to_cxcywh
from utils.errors import NoWeights, UserError
from utils.system.distributed import batch_mean
from utils.weights import download, load_weights

WIDTH, HEADS, HIDDEN = 256, 8, 2048                     # D, heads of an attention, middle of an MLP (A.4)
DROPOUT = 0.1
TEMPERATURE = 10000                                     # the longest wavelength of a position, in 2 pi
CLASS_COST, BOX_COST, GIOU_COST = 1.0, 5.0, 2.0         # prices of a pair (section 3.1)
BOX_WEIGHT, GIOU_WEIGHT = 5.0, 2.0                      # of the losses (A.4)
NO_OBJECT = 0.1                                         # what a query without an object counts (section 3.1)
SITE = "https://dl.fbaipublicfiles.com/detr/detr-{}.pth"
COCO = {("resnet50", 32): "r50-e632da11", ("resnet50", 16): "r50-dc5-f0fb7ef5",
        ("resnet101", 32): "r101-2c7b67e5", ("resnet101", 16): "r101-dc5-a2e86def"}


class Attention(nn.Module):
    """What is asked gets the values of the tokens whose keys answer; see nets/segformer.py, line by line."""

    def __init__(self, width, heads, dropout=0.0):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, asks, keys, values, allowed=None):
        """asks: (B, N, D), keys, values: (B, T, D) -> (B, N, D).

        allowed: bool, broadcast to (B, heads, N, T), True where one may listen to the other; None:
        everywhere.
        """
        heads = self.heads
        q = self.query(asks).unflatten(2, (heads, -1)).transpose(1, 2)          # (B, heads, N, C)
        k = self.key(keys).unflatten(2, (heads, -1)).transpose(1, 2)            # (B, heads, T, C)
        v = self.value(values).unflatten(2, (heads, -1)).transpose(1, 2)        # (B, heads, T, C)
        dropout = self.dropout if self.training else 0.0
        heard = F.scaled_dot_product_attention(q, k, v, allowed, dropout)       # (B, heads, N, C)
        return self.out(heard.transpose(1, 2).flatten(2))                       # (B, N, D)


class MLP(nn.Module):
    """Each token by itself: D numbers, many, D."""

    def __init__(self, width, hidden, dropout, act):
        super().__init__()
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)
        self.act = act

    def forward(self, x):
        """x: (B, T, D) -> (B, T, D)."""
        return self.narrow(self.dropout(self.act(self.widen(x))))               # (B, T, D)


class EncoderLayer(nn.Module):
    """Listen to all tokens, then think. The norm comes behind each sum ("post-norm")."""

    def __init__(self, width=WIDTH, heads=HEADS, hidden=HIDDEN, dropout=DROPOUT, act=F.relu):
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.mlp = MLP(width, hidden, dropout, act)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, positions, allowed=None):
        """x: (B, T, D), positions: (B, T, D) -> (B, T, D)."""
        placed = x + positions                                                  # (B, T, D)
        x = self.norm1(x + self.dropout(self.attention(placed, placed, x, allowed)))        # (B, T, D)
        return self.norm2(x + self.dropout(self.mlp(x)))                        # (B, T, D)


class DecoderLayer(nn.Module):
    """The queries listen to each other, then to the picture, then think."""

    def __init__(self):
        super().__init__()
        self.among = Attention(WIDTH, HEADS, DROPOUT)
        self.attention = Attention(WIDTH, HEADS, DROPOUT)
        self.mlp = MLP(WIDTH, HIDDEN, DROPOUT, F.relu)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(WIDTH) for _ in range(3))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x, queries, tokens, placed, allowed=None):
        """x: (B, N, D) what the queries know by now, queries: (N, D) who they are.
        tokens: (B, T, D) of the picture, placed: the same with their positions. -> (B, N, D)
        """
        asks = x + queries                                                      # (B, N, D)
        x = self.norm1(x + self.dropout(self.among(asks, asks, x)))             # (B, N, D)
        heard = self.attention(x + queries, placed, tokens, allowed)            # (B, N, D)
        x = self.norm2(x + self.dropout(heard))                                 # (B, N, D)
        return self.norm3(x + self.dropout(self.mlp(x)))                        # (B, N, D)


class DETR(nn.Module):
    task = "detection"
    stride = 32
    official = {"classes": "coco_91", "options": {"norm": "frozen"},
                "input_shape": (800, 1333), "fit": "short_side"}
    recipe = DETECTION_RECIPE | {"input_shape": (512, 512), "lr": 0.0004, "nms_iou": 1.0, "steps": 6000,
                                 "weight_decay": 1e-4, "backbone_lr": 0.1, "mosaic": 0.0}

    def __init__(self, num_classes, input_shape=(512, 512), pretrained=False, backbone="resnet50", norm=None,
                 downsample_factor=32, queries=100, layers=6):
        """num_classes: K, foreground classes.
        pretrained: True fetches the backbone, trained on ImageNet; "coco" the whole detector.
        backbone: "resnet50", "resnet101" or a smaller one.
        norm: of the backbone, "batch" or "frozen"; None: what goes with pretrained.
        downsample_factor: 32, or 16: the last stage is dilated ("DC5"), four times as many tokens.
        queries: at most so many objects in a picture.  layers: of the encoder, and of the decoder.
        """
        super().__init__()
        if queries < 1 or layers < 1:
            raise UserError(f"queries={queries}, layers={layers}: detr needs at least one of each.")
        official = (backbone, downsample_factor) in COCO and (queries, layers) == (100, 6)
        if pretrained == "coco" and not official:
            raise NoWeights('The files that pretrained="coco" downloads are of resnet50 and resnet101 with '
                            "100 queries and 6 layers: leave out the other options, or set pretrained=True "
                            "for the weights of the backbone.")
        self.num_classes = num_classes
        norm = "frozen" if pretrained == "coco" and norm is None else find_norm(norm, pretrained)
        self.options = {"norm": norm}                   # what the default became: for the checkpoint

        self.backbone = resnet(backbone, downsample_factor, pretrained is True, norm=NORMS[norm])
        self.project = nn.Conv2d(self.backbone.channels[-1], WIDTH, 1)
        self.encoder = nn.ModuleList(EncoderLayer() for _ in range(layers))
        self.decoder = nn.ModuleList(DecoderLayer() for _ in range(layers))
        self.norm = nn.LayerNorm(WIDTH)
        self.queries = nn.Parameter(torch.randn(queries, WIDTH))
        self.class_head = nn.Linear(WIDTH, num_classes + 1)
        self.box_head = three_layers(WIDTH, 4)

        # Start values of the authors' code. Query, key and value are one matrix there, which makes them
        # smaller.
        for name, part in [*self.encoder.named_modules(), *self.decoder.named_modules()]:
            if isinstance(part, nn.Linear):
                together = name.endswith(("query", "key", "value"))
                nn.init.xavier_uniform_(part.weight, gain=0.5**0.5 if together else 1.0)
            if isinstance(part, Attention):
                for layer in part.children():
                    nn.init.zeros_(layer.bias)
        if pretrained == "coco":
            print(load_weights(self, download(SITE.format(COCO[backbone, downsample_factor]))))

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> outputs, losses.

        outputs: dict of logits (M, B, N, K+1), boxes (M, B, N, 4) cxcywh as shares of the input, and
        input_shape (H, W). M: layers of the decoder; without targets only the last one is asked.
        """
        x = normalise(images)                                                   # (B, 3, H, W)
        _, _, _, c5 = self.backbone(x)                                          # (B, C5, h, w)
        known = self.transform(c5)                                              # (B, N, D) each
        if targets is None:
            known = known[-1:]                                                  # (B, N, D) each
        x = torch.stack(known)                                                  # (M, B, N, D)
        logits = self.class_head(x)                                             # (M, B, N, K+1)
        boxes = self.box_head(x).sigmoid()                                      # (M, B, N, 4)
        outputs = {"logits": logits, "boxes": boxes, "input_shape": images.shape[2:]}
        losses = {} if targets is None else self.loss(outputs, targets)
        return outputs, losses

    def transform(self, c5, valid=None):
        """The last map -> what the queries know behind each layer of the decoder, (B, N, D) each.

        c5: (B, C, h, w).  valid: (B, h, w) bool, the cells that are picture and no padding; None: all.
        """
        # The map as a list of tokens, each with its place.
        tokens = self.project(c5)                                               # (B, D, h, w)
        everywhere = torch.ones_like(tokens[:, 0], dtype=torch.bool)            # (B, h, w)
        cells = everywhere if valid is None else valid                          # (B, h, w)
        positions = sine_positions(cells, WIDTH // 2).to(tokens.dtype)          # (B, T, D)
        tokens = tokens.flatten(2).transpose(1, 2)                              # (B, T, D)
        allowed = None if valid is None else valid.flatten(1)[:, None, None]
        for layer in self.encoder:
            tokens = layer(tokens, positions, allowed)                          # (B, T, D)

        # The queries begin with nothing: who they are is added wherever they ask.
        placed = tokens + positions                                             # (B, T, D)
        x = torch.zeros_like(tokens[:, :1]).expand(-1, len(self.queries), -1)   # (B, N, D)
        known = []
        for layer in self.decoder:
            x = layer(x, self.queries, tokens, placed, allowed)                 # (B, N, D)
            known.append(self.norm(x))
        return known                                                            # (B, N, D) each

    def decode(self, outputs):
        """outputs -> boxes (B, N, 4) xyxy in input px, scores (B, N, K) in 0-1."""
        h, w = outputs["input_shape"]
        boxes = cxcywh_to_xyxy(outputs["boxes"][-1].float())                    # (B, N, 4)
        boxes = boxes * boxes.new_tensor([w, h, w, h])                          # (B, N, 4)
        scores = outputs["logits"][-1].float().softmax(-1)[..., :-1]            # (B, N, K)
        return boxes, scores

    def candidates(self, outputs):
        """How many enter the suppression, see utils.boxes.nms."""
        return {"max_candidates": len(self.queries)}

    @staticmethod
    @torch.no_grad()
    def assign(logits, boxes, true_boxes, true_labels, counts):
        """Which query answers for which object, at the least price in total, in every layer and image.

        logits: (M, B, N, K+1), boxes: (M, B, N, 4) cxcywh.  true_boxes: (G, 4) cxcywh, true_labels: (G,),
        of all images one after the other.  counts: how many of G belong to each image.
        -> layer, image, query, truth (P,) each, int64, with P = M * G where the queries suffice.
        """
        # The price of every pair: a sure class, a near box and a large overlap make it cheap.
        p = logits.softmax(-1)[..., true_labels]                                # (M, B, N, G)
        far = (boxes[..., None, :] - true_boxes).abs().sum(-1)                  # (M, B, N, G)
        overlap = generalized_iou(cxcywh_to_xyxy(boxes)[..., None, :], cxcywh_to_xyxy(true_boxes))          # (M, B, N, G)
        price = BOX_COST * far - CLASS_COST * p - GIOU_COST * overlap           # (M, B, N, G)
        return pairs(price, counts)

    def loss(self, outputs, targets):
        """-> {"class", "box", "giou"}: 0-d float32, sums over the layers of the decoder."""
        logits, boxes = outputs["logits"].float(), outputs["boxes"].float()     # (M, B, N, K+1), (M, B, N, 4)
        true_boxes, true_labels = objects_of(targets, outputs["input_shape"], boxes)            # (G, 4), (G,)
        counts = [len(target["labels"]) for target in targets]
        layer, image, query, truth = self.assign(logits, boxes, true_boxes, true_labels, counts)    # (P,), (P,), (P,), (P,)
        total = batch_mean(boxes.new_tensor(sum(counts)), 1)                    # ()

        # The class of every query. Most have no object, so these count a tenth.
        wanted = torch.full_like(logits[..., 0], self.num_classes, dtype=torch.int64)           # (M, B, N)
        wanted[layer, image, query] = true_labels[truth]
        weights = torch.where(wanted == self.num_classes, NO_OBJECT, 1.0)       # (M, B, N)
        wrong = F.cross_entropy(logits.flatten(0, 2), wanted.flatten(), reduction="none")       # (M*B*N,)
        wrong = wrong.view_as(weights) * weights                                # (M, B, N)
        share = torch.stack([batch_mean(one.sum()) for one in weights])         # (M,)
        class_loss = (wrong.sum((1, 2)) / share).sum()                          # ()

        # The boxes of those that have one.
        found, aims = boxes[layer, image, query], true_boxes[truth]             # (P, 4), (P, 4)
        box_loss = (found - aims).abs().sum() / total                           # ()
        overlap = generalized_iou(cxcywh_to_xyxy(found), cxcywh_to_xyxy(aims))  # (P,)
        giou_loss = (1 - overlap).sum() / total                                 # ()
        return {"class": class_loss,
                "box": BOX_WEIGHT * box_loss,
                "giou": GIOU_WEIGHT * giou_loss}


def three_layers(width, outputs):
    """A small network of its own: D, D, D, outputs."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                         nn.Linear(width, outputs))


def sine_positions(valid, numbers):
    """Where each cell is, as sines and cosines of y and of x, of `numbers` wavelengths from 2 pi up.

    valid: (B, h, w) bool: the picture is measured where it is True. -> (B, h*w, 2*numbers) float32: y, then
    x. Source: Attention Is All You Need, arXiv 1706.03762, section 3.5, in two dimensions.
    """
    places = []
    for dim in (1, 2):
        # The place as a share of the whole, 0 to 2 pi.
        count = valid.cumsum(dim, dtype=torch.float32)                          # (B, h, w)
        last = count.narrow(dim, valid.shape[dim] - 1, 1)                       # (...,)
        angle = count / (last + 1e-6) * 2 * math.pi                             # (B, h, w)

        # Slower and slower; a sine and a cosine of each wavelength, side by side.
        steps = torch.arange(0, numbers, 2, device=valid.device) / numbers      # (T,)
        angle = angle[..., None] / TEMPERATURE**steps                           # (B, h, w, T)
        place = torch.stack([angle.sin(), angle.cos()], -1).flatten(3)          # (B, h, w, 2*T)
        places.append(place)
    return torch.cat(places, -1).flatten(1, 2)                                  # (B, T, D)


def objects_of(targets, input_shape, like):
    """The objects of all images, one after the other. -> boxes (G, 4) cxcywh as shares of the input,
    labels (G,).
    """
    h, w = input_shape
    boxes = torch.cat([target["boxes"] for target in targets]).to(like)         # (G, 4)
    labels = torch.cat([target["labels"] for target in targets]).to(like.device)            # (G,)
    boxes = xyxy_to_cxcywh(boxes / boxes.new_tensor([w, h, w, h]))              # (G, 4)
    return boxes, labels                                                        # (G, 4), (G,)


def pairs(price, counts):
    """The cheapest assignment in every layer and image.

    price: (M, B, N, G), of all images' objects; only an image's own ones matter.  counts: G of each image.
    -> layer, image, query, truth (P,) each.
    """
    table = np.nan_to_num(price.cpu().numpy(), nan=1e6, posinf=1e6)
    found = [(layer, image, query, first + row)
             for layer, images in enumerate(table)
             for image, (prices, count, first) in enumerate(zip(images, counts, np.cumsum([0, *counts])))
             for row, query in cheapest(prices[:, first:first + count].T)]
    rows = torch.tensor(found, dtype=torch.int64, device=price.device).view(-1, 4)          # (P, 4)
    return rows.unbind(1)                                                       # (P,), (P,), (P,), (P,)


def cheapest(price):
    """One column for each row, no column twice, at the least price in total. The Hungarian algorithm.

    price: numpy (rows, columns). -> list of (row, column) by row; where rows are more than columns, only as
    many as there are columns.

    Rows are settled one by one. Each looks for the cheapest chain: a column that is free, or one whose row
    can be moved to another column, and so on. What rows and columns "owe" (`paid_row`, `paid_column`) keeps
    every price left at 0 or more, so that the search is a shortest path. Source: Jonker and Volgenant 1987.
    """
    if price.shape[0] > price.shape[1]:
        return sorted((row, column) for column, row in cheapest(price.T))
    rows, columns = price.shape
    paid_row, paid_column = np.zeros(rows), np.zeros(columns)
    owner = np.full(columns, -1)                        # the row of each column, -1: free

    for row in range(rows):
        # How far it is to each column by the cheapest chain, and which column comes before it in the chain.
        distance, before = np.full(columns, np.inf), np.full(columns, -1)
        done = np.zeros(columns, bool)
        at, column, reached = row, -1, 0.0
        while True:
            through = reached + price[at] - paid_row[at] - paid_column
            shorter = ~done & (through < distance)
            distance[shorter], before[shorter] = through[shorter], column

            # The nearest column that is not done: if it is free, the chain ends, else its row must move.
            column = int(np.where(done, np.inf, distance).argmin())
            done[column], reached = True, distance[column]
            if owner[column] < 0:
                break
            at = owner[column]

        # What the chain cost is paid, so that no price falls below 0.
        passed = done & (owner >= 0)
        paid_row[row] += reached
        paid_row[owner[passed]] += reached - distance[passed]
        paid_column[passed] -= reached - distance[passed]

        # From the end of the chain to its beginning every column gets the row of the one before.
        while before[column] >= 0:
            owner[column] = owner[before[column]]
            column = before[column]
        owner[column] = row
    return sorted((int(row), int(column)) for column, row in enumerate(owner) if row >= 0)


# Query, key and value are one tensor in the authors' files.
DETR.official_parts = [
    (r"\.self_attn\.in_proj_", 0, (".self_attn.query.", ".self_attn.key.", ".self_attn.value.")),
    (r"\.multihead_attn\.in_proj_", 0,
     (".multihead_attn.query.", ".multihead_attn.key.", ".multihead_attn.value.")),
]
# Their class 0 is no class: COCO's numbers begin with 1.
DETR.official_rows = [(r"^class_embed\.", 92, slice(1, None))]
# The authors' names -> ours.
DETR.official_names = [
    (r"^backbone\.0\.body\.", "backbone."), (r"^input_proj\.", "project."),
    (r"^transformer\.decoder\.norm\.", "norm."),
    (r"^transformer\.(en|de)coder\.layers\.", r"\1coder."),
    (r"^(encoder\.\d+)\.self_attn\.", r"\1.attention."), (r"^(decoder\.\d+)\.self_attn\.", r"\1.among."),
    (r"\.multihead_attn\.", ".attention."), (r"\.out_proj\.", ".out."),
    (r"^(encoder|decoder)\.(\d+)\.linear1\.", r"\1.\2.mlp.widen."),
    (r"^(encoder|decoder)\.(\d+)\.linear2\.", r"\1.\2.mlp.narrow."),
    (r"^query_embed\.weight$", "queries"), (r"^class_embed\.", "class_head."),
    (r"^bbox_embed\.layers\.(\d)\.", lambda found: f"box_head.{2 * int(found[1])}."),
]
