"""RT-DETR, version 2: DETR made fast to run and fast to train. Three maps instead of one, queries chosen
from the picture, attention to a few points, boxes refined layer by layer, and a training aid: boxes to be
repaired.

Papers: DETRs Beat YOLOs on Real-time Object Detection, arXiv 2304.08069; RT-DETRv2, arXiv 2407.17140.
Layers are those of the authors' rtdetrv2_pytorch, whose files load: 20,184,464 parameters (S, 80 classes),
31,441,668 (M*, called "m" here), 36,647,020 (M with ResNet-50, "m50"), 42,944,620 (L).

    stage          layers                                           output
    backbone       ResNet-18 vd (backbones/resnet_vd.py)             128 x H/8  x W/8  -> c3
                                                                     256 x H/16 x W/16 -> c4
                                                                     512 x H/32 x W/32 -> c5
    encoder        1x1 each; attention over c5 alone; down the       256 x the same    -> p3, p4, p5
                   pyramid and up again with RepVGG blocks
    selection      linear, LayerNorm; class and box of every token   300 of all T tokens
    decoder        3 x (attention among queries, deformable          300 x 256
                   attention to the maps, MLP 1024)
    heads          of every layer: class, and a step of the box      300 x K, 300 x 4

From nets/detr.py come attention, sine positions, the assignment at the least price, and the idea. New here:

* Only the coarsest map has attention among all its cells; the other two are mixed in by convolutions.
* The queries are no learned numbers. Every cell of the three maps is asked for its classes and a box, and the
  300 best become the queries: what they know is the cell's features, where they look is its box (`select`).
* Deformable attention: a query looks at 4 points of each map, at places that it chooses relative to its box,
  instead of at all cells. `Deformable` does that with grid_sample, in plain PyTorch.
* Each layer moves the boxes a little: box = sigmoid(step + inverse sigmoid of the box before).
* There is no class "none": each class is a yes or no, wanted as much as the box overlaps its object (VFL).
* Denoising: the true boxes, shaken and some with a wrong class, are put in beside the queries, and have to
  come out repaired. Who belongs to whom is known then, so the decoder learns from the first step on, before
  the assignment is of any use. Real queries must not see them (`denoising`).

What differs from the authors' code, and why:
* Positions are row by row. Theirs are column by column, which is the same only for a square input; so are the
  numbers in transformers' implementation.
* M* is named m. X (ResNet-101, a wider encoder) is left out.
* The noise is drawn with torch's random numbers, in an order of its own.
* `recipe` is for a user's own data (nets/layers.py); the authors' schedule is in recipes/coco_rtdetr.py.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

from nets.backbones.resnet import NORMS
from nets.backbones.resnet_vd import conv_norm, resnet_vd
from nets.detr import MLP, Attention, EncoderLayer, objects_of, pairs
from nets.layers import DETECTION_RECIPE
from utils.boxes import cxcywh_to_xyxy, generalized_iou, pairwise_iou, xyxy_to_cxcywh
from utils.errors import NoWeights, UserError, did_you_mean
from utils.system.distributed import batch_mean

# ResNet, layers of the decoder, layer that answers in use, channels inside a fusion block as a share.
SIZES = {"s": ("resnet18", 3, 3, 0.5),
         "m": ("resnet34", 4, 4, 0.5),
         "m50": ("resnet50", 6, 3, 0.5),
         "l": ("resnet50", 6, 6, 1.0)}
WIDTH, HEADS, HIDDEN = 256, 8, 1024                     # D, heads of an attention, middle of an MLP
LEVELS, POINTS = 3, 4                                   # maps, and points on each that a head looks at
REPEATS = 3                                             # RepVGG blocks in a fusion block
REACH = 0.5                                             # an offset of 4 reaches so far, in sides of the box
ANCHOR = 0.05                                           # side of a cell's first box on the finest map
EDGE = 0.01                                             # a first box with a number so near 0 or 1 is no query
PRIOR = 0.01                                            # score of every class at first
CLASS_COST, BOX_COST, GIOU_COST = 2.0, 5.0, 2.0         # prices of a pair
COST_ALPHA, COST_GAMMA = 0.25, 2.0                      # of the focal price of a class
VFL_ALPHA, VFL_GAMMA = 0.75, 2.0                        # of the class loss
BOX_WEIGHT, GIOU_WEIGHT = 5.0, 2.0
DENOISING = 100                                         # truths that are put in, about
SMALLEST = 1e-5                                         # of a shaken box's numbers; 1 less it is the largest
CLASS_NOISE, BOX_NOISE = 0.25, 1.0                      # chance of another class; shift in half sides


def inverse_sigmoid(x, eps=1e-5):
    """log(x / (1 - x)), cut at eps and 1 - eps. (...) -> (...)"""
    x = x.clamp(0, 1)                                                           # (...,)
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))                 # (...,)


def conv_norm_silu(c_in, c_out, kernel, stride=1):
    return nn.Sequential(conv_norm(c_in, c_out, kernel, stride), nn.SiLU())


class RepVGG(nn.Module):
    """A 3x3 and a 1x1 side by side. After the training they could be added to one 3x3 (arXiv 2101.03697)."""

    def __init__(self, channels):
        super().__init__()
        self.conv3 = conv_norm(channels, channels, 3)
        self.conv1 = conv_norm(channels, channels, 1)

    def forward(self, x):
        """x: (B, C, h, w) -> (B, C, h, w)."""
        return F.silu(self.conv3(x) + self.conv1(x))                            # (B, C, h, w)


class Fusion(nn.Module):
    """Two maps, joined, become one: half of the work by RepVGG blocks, half by a single 1x1."""

    def __init__(self, share):
        """share: of WIDTH, the channels inside."""
        super().__init__()
        inside = int(WIDTH * share)
        self.deep = conv_norm_silu(2 * WIDTH, inside, 1)
        self.flat = conv_norm_silu(2 * WIDTH, inside, 1)
        self.blocks = nn.Sequential(*(RepVGG(inside) for _ in range(REPEATS)))
        self.merge = nn.Identity() if inside == WIDTH else conv_norm_silu(inside, WIDTH, 1)

    def forward(self, one, other):
        """one, other: (B, D, h, w) -> (B, D, h, w)."""
        x = torch.cat([one, other], 1)                                          # (B, 2*D, h, w)
        return self.merge(self.blocks(self.deep(x)) + self.flat(x))             # (B, D, h, w)


class HybridEncoder(nn.Module):
    """Attention on the coarsest map, convolutions between the maps (RT-DETR, section 4.2)."""

    def __init__(self, channels, share):
        """channels: C3, C4, C5."""
        super().__init__()
        self.project = nn.ModuleList(conv_norm(c, WIDTH, 1) for c in channels)
        self.attention = EncoderLayer(WIDTH, HEADS, HIDDEN, dropout=0.0, act=F.gelu)
        self.lateral5 = conv_norm_silu(WIDTH, WIDTH, 1)
        self.lateral4 = conv_norm_silu(WIDTH, WIDTH, 1)
        self.down4, self.down3 = Fusion(share), Fusion(share)
        self.shrink3 = conv_norm_silu(WIDTH, WIDTH, 3, stride=2)
        self.shrink4 = conv_norm_silu(WIDTH, WIDTH, 3, stride=2)
        self.up4, self.up5 = Fusion(share), Fusion(share)

    def forward(self, c3, c4, c5):
        c3, c4, c5 = (conv(c) for conv, c in zip(self.project, (c3, c4, c5)))   # (B, D, H/8, W/8), (B, D, H/16, W/16), (B, D, H/32, W/32)

        # The coarsest map as a list of tokens, which listen to each other.
        everywhere = torch.ones_like(c5[:, 0], dtype=torch.bool)                # (B, H/32, W/32)
        positions = positions_of(everywhere).to(c5.dtype)               # (B, T, D)
        tokens = self.attention(c5.flatten(2).transpose(1, 2), positions)       # (B, T, D)
        c5 = tokens.transpose(1, 2).view_as(c5)                                 # (B, D, H/32, W/32)

        # Down the pyramid what is seen.
        m5 = self.lateral5(c5)                                                  # (B, D, H/32, W/32)
        m4 = self.down4(F.interpolate(m5, scale_factor=2.0), c4)                # (B, D, H/16, W/16)
        m4 = self.lateral4(m4)                                                  # (B, D, H/16, W/16)
        p3 = self.down3(F.interpolate(m4, scale_factor=2.0), c3)                # (B, D, H/8, W/8)

        # Up again where it is.
        p4 = self.up4(self.shrink3(p3), m4)                                     # (B, D, H/16, W/16)
        p5 = self.up5(self.shrink4(p4), m5)                                     # (B, D, H/32, W/32)
        return p3, p4, p5


def positions_of(cells):
    """Where each cell is: all sines of y, all cosines of y, the same of x, of the row and column numbers.

    cells: (B, h, w) -> (B, h*w, D) float32. Not DETR's: a cell counts 0, 1, 2 ..., whatever the size of the
    map.
    """
    h, w = cells.shape[1:]
    steps = torch.arange(WIDTH // 4, device=cells.device) / (WIDTH // 4)        # (64,)
    angles = [torch.arange(n, device=cells.device)[:, None] / 10000**steps for n in (h, w)]
    down, across = (torch.cat([angle.sin(), angle.cos()], 1) for angle in angles)           # (h, 128), (w, 128)
    places = torch.cat([down[:, None].expand(-1, w, -1), across[None].expand(h, -1, -1)], 2)            # (h, w, 256)
    return places.flatten(0, 1).expand(len(cells), -1, -1)                      # (B, h*w, 256)


class Deformable(nn.Module):
    """Attention to 4 points of each map, which the query chooses itself.

    Source: Deformable DETR, arXiv 2010.04159, section 4.1; version 2 of RT-DETR for the reach of an offset.
    """

    def __init__(self):
        super().__init__()
        each = HEADS * LEVELS * POINTS
        self.offsets = nn.Linear(WIDTH, 2 * each)
        self.shares = nn.Linear(WIDTH, each)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

        # At first each head looks in a direction of its own, 1, 2, 3 and 4 steps far, at all points alike.
        angle = torch.arange(HEADS, device="cpu") * (2 * math.pi / HEADS)       # (8,)
        direction = torch.stack([angle.cos(), angle.sin()], 1)                  # (8, 2)
        direction = direction / direction.abs().amax(1, keepdim=True)           # (8, 2)
        steps = direction[:, None, None] * torch.arange(1, POINTS + 1, device="cpu")[:, None]               # (8, 1, 4, 2)
        with torch.no_grad():
            self.offsets.bias.copy_(steps.expand(-1, LEVELS, -1, -1).flatten())
        for layer in (self.offsets, self.shares):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.shares.bias)
        for layer in (self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, asks, boxes, tokens, sizes):
        """asks: (B, N, D), boxes: (B, N, 4) cxcywh as shares of the input, tokens: (B, T, D) of all maps,
        sizes: (h, w) of each map. -> (B, N, D)
        """
        # Where each head looks: from the centre of the box so many of its sides away.
        offsets = self.offsets(asks).unflatten(2, (HEADS, LEVELS, POINTS, 2))   # (B, N, heads, 3, 4, 2)
        centre, sides = boxes[:, :, None, None, None].split(2, dim=-1)          # (B, N, 1, 1, 1, 2), (B, N, 1, 1, 1, 2)
        places = centre + offsets / POINTS * sides * REACH                      # (B, N, heads, 3, 4, 2)
        places = 2 * places - 1                                                 # (B, N, heads, 3, 4, 2); the picture is -1 to 1
        shares = self.shares(asks).unflatten(2, (HEADS, LEVELS * POINTS))       # (B, N, heads, 12)
        shares = shares.softmax(-1)                                             # (B, N, heads, 12)

        # What is there: on each map, for every head a map of its own, values between cells are mixed.
        values = self.value(tokens).unflatten(2, (HEADS, -1))                   # (B, T, heads, C)
        values = values.split([h * w for h, w in sizes], dim=1)                 # (B, M, heads, C) each
        seen = []
        for level, (value, (h, w)) in enumerate(zip(values, sizes)):
            maps = value.permute(0, 2, 3, 1).flatten(0, 1).unflatten(2, (h, w))             # (B*heads, C, h, w)
            grid = places[:, :, :, level].transpose(1, 2).flatten(0, 1)         # (B*heads, N, 4, 2)
            found = F.grid_sample(maps, grid.to(maps.dtype), align_corners=False)           # (B*heads, C, N, 4)
            seen.append(found)

        # The twelve values of each query and head, in their shares.
        seen = torch.cat(seen, -1).unflatten(0, (-1, HEADS))                    # (B, heads, C, N, 12)
        heard = (seen * shares.transpose(1, 2)[:, :, None]).sum(-1)             # (B, heads, C, N)
        return self.out(heard.flatten(1, 2).transpose(1, 2))                    # (B, N, D)


class DeformableLayer(nn.Module):
    """The queries listen to each other, look at the maps, think."""

    def __init__(self):
        super().__init__()
        self.among = Attention(WIDTH, HEADS)
        self.attention = Deformable()
        self.mlp = MLP(WIDTH, HIDDEN, 0.0, F.relu)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(WIDTH) for _ in range(3))

    def forward(self, x, places, boxes, tokens, sizes, allowed):
        """x: (B, N, D), places: (B, N, D) made of the boxes, the others: see Deformable, denoising."""
        asks = x + places                                                       # (B, N, D)
        x = self.norm1(x + self.among(asks, asks, x, allowed))                  # (B, N, D)
        x = self.norm2(x + self.attention(x + places, boxes, tokens, sizes))    # (B, N, D)
        return self.norm3(x + self.mlp(x))                                      # (B, N, D)


def layers(*widths):
    """Linear layers with ReLU between them."""
    found = []
    for c_in, c_out in zip(widths, widths[1:]):
        found += [nn.Linear(c_in, c_out), nn.ReLU()]
    return nn.Sequential(*found[:-1])


class RTDETR(nn.Module):
    task = "detection"
    stride = 32
    official = {"classes": "coco", "input_shape": (640, 640), "fit": "stretch"}
    recipe = DETECTION_RECIPE | {"input_shape": (640, 640), "lr": 0.0004, "nms_iou": 1.0, "steps": 3000,
                                 "weight_decay": 1e-4, "backbone_lr": 0.5, "mosaic": 0.0}

    def __init__(self, num_classes, input_shape=(640, 640), pretrained=False, size="s", queries=300,
                 norm=None):
        """num_classes: K, foreground classes.  pretrained: must be False; official files are given as
        model_path.
        size: "s", "m", "m50" or "l".  queries: chosen from the picture.
        norm: of the backbone, "batch" or "frozen" (as the official l was trained); None: "batch".
        """
        super().__init__()
        if size not in SIZES:
            raise UserError(f'rtdetr has no size "{size}".{did_you_mean(str(size), SIZES)} '
                            f'It has {", ".join(SIZES)}.')
        norm = norm or "batch"
        if norm not in NORMS:
            raise UserError(f'There is no normalisation "{norm}".{did_you_mean(norm, NORMS)} '
                            f'Known: {", ".join(NORMS)}.')
        if pretrained:
            raise NoWeights("The official weights of rtdetr are not fetched: download a file from "
                            "https://github.com/lyuwenyu/storage/releases and give it as model_path. "
                            "Those of yolov4_tiny and yolox can be fetched: net=yolov4_tiny.")
        self.num_classes, self.queries = num_classes, queries
        name, depth, self.answers, share = SIZES[size]

        self.backbone = resnet_vd(name, NORMS[norm])
        self.encoder = HybridEncoder(self.backbone.channels[1:], share)

        # The choice of the queries.
        self.project = nn.ModuleList(conv_norm(WIDTH, WIDTH, 1) for _ in range(LEVELS))
        self.select_features = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH))
        self.select_class = nn.Linear(WIDTH, num_classes)
        self.select_box = layers(WIDTH, WIDTH, WIDTH, 4)

        # The decoder, and what each of its layers says.
        self.place = layers(4, 2 * WIDTH, WIDTH)
        self.noisy_class = nn.Embedding(num_classes + 1, WIDTH)
        self.decoder = nn.ModuleList(DeformableLayer() for _ in range(depth))
        self.class_heads = nn.ModuleList(nn.Linear(WIDTH, num_classes) for _ in range(depth))
        self.box_heads = nn.ModuleList(layers(WIDTH, WIDTH, WIDTH, 4) for _ in range(depth))
        init_weights(self)

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> outputs, losses.

        outputs: dict of logits (M, B, N, K), boxes (M, B, N, 4) cxcywh as shares of the input; input_shape
        (H, W); with targets also first_logits, first_boxes of the selection, and in training the same of
        the denoising. M: layers of the decoder; without targets only the last one is asked.
        """
        _, c3, c4, c5 = self.backbone(images)                                   # (B, C3, H/8, W/8), (B, C4, H/16, W/16), (B, C5, H/32, W/32)
        maps = self.encoder(c3, c4, c5)                                         # (B, D, H/8, W/8), (B, D, H/16, W/16), (B, D, H/32, W/32)
        maps = [project(p) for project, p in zip(self.project, maps)]           # (B, D, H/8, W/8), (B, D, H/16, W/16), (B, D, H/32, W/32)
        sizes = [p.shape[2:] for p in maps]
        tokens = torch.cat([p.flatten(2).transpose(1, 2) for p in maps], 1)     # (B, T, D)

        # Which tokens become queries; in training some shaken truths are put in front of them.
        x, first_logits, first_boxes = self.select(tokens, sizes)               # (B, N, D), (B, N, K), (B, N, 4)
        boxes = first_boxes.detach()                                            # (B, N, 4)
        input_shape, noise, allowed = images.shape[2:], None, None
        if targets is not None and self.training:
            true_boxes, labels = objects_of(targets, input_shape, boxes)        # (G, 4), (G,)
            counts = [len(target["labels"]) for target in targets]
            if sum(counts):
                noise = denoising(true_boxes, labels, counts, self.num_classes, x.shape[1])
                x = torch.cat([self.noisy_class(noise["labels"]).to(x.dtype), x], 1)        # (B, P, D)
                boxes = torch.cat([noise["boxes"], boxes], 1)                   # (B, P, 4)
                allowed = noise["allowed"]                                      # (P, P)
        logits, boxes = self.decode_queries(x, boxes, tokens, sizes, allowed, targets is not None)          # (M, B, P, K), (M, B, P, 4)

        # Apart again.
        count = 0 if noise is None else noise["labels"].shape[1]
        outputs = {"logits": logits[:, :, count:], "boxes": boxes[:, :, count:], "input_shape": input_shape}
        if targets is None:
            return outputs, {}
        outputs |= {"first_logits": first_logits, "first_boxes": first_boxes}
        if noise is not None:
            outputs["noise"] = noise | {"logits": logits[:, :, :count], "found": boxes[:, :, :count]}
        return outputs, self.loss(outputs, targets)

    def select(self, tokens, sizes):
        """Every token is asked for its classes and its box; the best become queries.

        tokens: (B, T, D). -> x (B, N, D) what they know, without gradient; what they answer themselves:
        logits (B, N, K), boxes (B, N, 4) cxcywh, which is also where they look.
        """
        anchors, real = first_boxes(sizes, tokens.device)                       # (T, 4), (T, 1)
        features = self.select_features(tokens * real)                          # (B, T, D)
        logits = self.select_class(features)                                    # (B, T, K)
        count = min(self.queries, tokens.shape[1])
        best = logits.amax(-1).topk(count, dim=1).indices                       # (B, N)

        # The box of a chosen token: its anchor, moved.
        image = torch.arange(len(best), device=best.device)[:, None]            # (B, 1)
        x = features[image, best]                                               # (B, N, D)
        steps = self.select_box(x).float() + anchors[best]                      # (B, N, 4)
        boxes = steps.sigmoid()                                                 # (B, N, 4)
        return x.detach(), logits[image, best], boxes                           # (B, N, D), (B, N, K), (B, N, 4)

    def decode_queries(self, x, boxes, tokens, sizes, allowed, every):
        """The layers of the decoder one after the other, each moving the boxes.

        x: (B, N, D), boxes: (B, N, 4).  every: what all layers say, else only the one that answers in use.
        -> logits (M, B, N, K), boxes (M, B, N, 4)
        """
        depth = len(self.decoder) if every else self.answers
        logits, found, before = [], [], None
        for i in range(depth):
            x = self.decoder[i](x, self.place(boxes.to(x.dtype)), boxes, tokens, sizes, allowed)            # (B, N, D)
            step = self.box_heads[i](x).float()                                 # (B, N, 4)
            moved = (step + inverse_sigmoid(boxes)).sigmoid()                   # (B, N, 4)

            # The loss also reaches the step of the layer before; the next layer begins with a plain number.
            if every or i == depth - 1:
                base = boxes if before is None else before                      # (B, N, 4)
                found.append((step + inverse_sigmoid(base)).sigmoid())
                logits.append(self.class_heads[i](x))
            before, boxes = moved, moved.detach()                               # (B, N, 4), (B, N, 4)
        return torch.stack(logits), torch.stack(found)                          # (M, B, N, K), (M, B, N, 4)

    def decode(self, outputs):
        """outputs -> boxes (B, N, 4) xyxy in input px, scores (B, N, K) in 0-1."""
        h, w = outputs["input_shape"]
        last = self.answers - 1 if len(outputs["boxes"]) > 1 else 0
        boxes = cxcywh_to_xyxy(outputs["boxes"][last].float())                  # (B, N, 4)
        boxes = boxes * boxes.new_tensor([w, h, w, h])                          # (B, N, 4)
        scores = outputs["logits"][last].float().sigmoid()                      # (B, N, K)
        return boxes, scores

    def candidates(self, outputs):
        """How many enter the suppression, see utils.boxes.nms."""
        return {"max_candidates": self.queries}

    @staticmethod
    @torch.no_grad()
    def assign(logits, boxes, true_boxes, true_labels, counts):
        """Which query answers for which object, see DETR.assign; the class has a focal price."""
        p = logits.sigmoid()[..., true_labels]                                  # (M, B, N, G)
        no = (1 - COST_ALPHA) * p**COST_GAMMA * -torch.log(1 - p + 1e-8)        # (M, B, N, G)
        yes = COST_ALPHA * (1 - p)**COST_GAMMA * -torch.log(p + 1e-8)           # (M, B, N, G)
        far = (boxes[..., None, :] - true_boxes).abs().sum(-1)                  # (M, B, N, G)
        overlap = generalized_iou(cxcywh_to_xyxy(boxes)[..., None, :], cxcywh_to_xyxy(true_boxes))          # (M, B, N, G)
        return pairs(CLASS_COST * (yes - no) + BOX_COST * far - GIOU_COST * overlap, counts)

    def loss(self, outputs, targets):
        """-> {"class", "box", "giou"}: 0-d float32, sums over the layers of the decoder, the selection and,
        in training, the denoising.
        """
        logits, boxes = outputs["logits"].float(), outputs["boxes"].float()     # (M, B, N, K), (M, B, N, 4)
        logits = torch.cat([logits, outputs["first_logits"][None].float()])     # (L, B, N, K)
        boxes = torch.cat([boxes, outputs["first_boxes"][None].float()])        # (L, B, N, 4)
        true_boxes, labels = objects_of(targets, outputs["input_shape"], boxes) # (G, 4), (G,)
        counts = [len(target["labels"]) for target in targets]
        total = batch_mean(boxes.new_tensor(sum(counts)), 1)                    # ()
        places = self.assign(logits, boxes, true_boxes, labels, counts)         # (P,), (P,), (P,), (P,)
        losses = set_loss(logits, boxes, true_boxes, labels, places, total)

        # What was shaken has to come out repaired: the assignment is given. So often more objects, so often
        # less.
        noise = outputs.get("noise")
        if noise is not None:
            logits, boxes = noise["logits"].float(), noise["found"].float()     # (M, B, S, K), (M, B, S, 4)
            layer = torch.arange(len(logits), device=logits.device)             # (M,)
            given = [place.repeat(len(layer)) for place in noise["places"]]     # (Q,), (Q,), (Q,)
            layer = layer.repeat_interleave(len(noise["places"][0]))            # (Q,)
            more = set_loss(logits, boxes, true_boxes, labels, (layer, *given), total * noise["groups"])
            losses = {name: value + more[name] for name, value in losses.items()}
        else:
            nothing = 0 * self.noisy_class.weight.sum()                         # ()
            losses["class"] = losses["class"] + nothing                         # ()
        return losses


def set_loss(logits, boxes, true_boxes, true_labels, places, total):
    """The losses of predictions whose objects are known.

    logits: (M, B, N, K), boxes: (M, B, N, 4).  places: layer, image, query, truth (P,) each.  total: ()
    what it is divided by. -> {"class", "box", "giou"}
    """
    layer, image, query, truth = places
    found, aims = boxes[layer, image, query], true_boxes[truth]                 # (P, 4), (P, 4)
    corners, true_corners = cxcywh_to_xyxy(found), cxcywh_to_xyxy(aims)         # (P, 4), (P, 4)

    # VFL: a class is wanted as much as the box overlaps its object; what is wanted nowhere counts focally.
    overlap = paired_iou(corners, true_corners).detach()                        # (P,)
    wanted = torch.zeros_like(logits)                                           # (M, B, N, K)
    wanted[layer, image, query, true_labels[truth]] = overlap
    mine = torch.zeros_like(logits, dtype=torch.bool)                           # (M, B, N, K)
    mine[layer, image, query, true_labels[truth]] = True
    p = logits.detach().sigmoid()                                               # (M, B, N, K)
    weights = torch.where(mine, wanted, VFL_ALPHA * p**VFL_GAMMA)               # (M, B, N, K)
    wrong = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")            # (M, B, N, K)
    class_loss = (weights * wrong).sum() / total                                # ()

    # The box, as four numbers and as an overlap.
    box_loss = (found - aims).abs().sum() / total                               # ()
    giou_loss = (1 - generalized_iou(corners, true_corners)).sum() / total      # ()
    return {"class": class_loss, "box": BOX_WEIGHT * box_loss, "giou": GIOU_WEIGHT * giou_loss}


def paired_iou(boxes1, boxes2):
    """IoU of matching rows, (P, 4) xyxy each -> (P,)."""
    return pairwise_iou(boxes1[:, None], boxes2[:, None])[:, 0, 0]              # (P,)


def first_boxes(sizes, device):
    """The box that each token begins with: its cell's centre, and a size that doubles from map to map.

    sizes: (h, w) of each map. -> anchors (T, 4) inverse sigmoid of cxcywh, infinite where a token is no
    query; real (T, 1) bool: where it is one.
    """
    found = []
    for level, (h, w) in enumerate(sizes):
        y, x = ((torch.arange(n, device=device) + 0.5) / n for n in (h, w))     # (h,), (w,)
        y, x = torch.meshgrid(y, x, indexing="ij")                              # (h, w), (h, w)
        side = torch.full_like(x, ANCHOR * 2**level)                            # (h, w)
        found.append(torch.stack([x, y, side, side], -1).flatten(0, 1))
    boxes = torch.cat(found)                                                    # (T, 4)
    real = ((boxes > EDGE) & (boxes < 1 - EDGE)).all(1, keepdim=True)           # (T, 1)
    return torch.where(real, torch.log(boxes / (1 - boxes)), math.inf), real    # (T, 4), (T, 1)


def denoising(true_boxes, true_labels, counts, num_classes, queries):
    """Truths to be repaired: in each of several groups every object twice, once shaken a little, once so
    much that it is no object any more.

    true_boxes: (G, 4) cxcywh, true_labels: (G,) of all images.  counts: of each image.  queries: the real
    ones.
    -> dict of labels (B, P), boxes (B, P, 4) cxcywh, allowed (P + queries, P + queries) bool, places:
    image, query, truth (Q,) of those that have an object, groups: how many. P = groups * 2 * the most
    objects of an image.
    """
    most, device = max(counts), true_boxes.device
    groups = max(1, DENOISING // most)
    shape = len(counts), groups, 2, most

    # The objects side by side; an image with fewer has empty ones, of a class that is none.
    rows = torch.arange(most, device=device)                                    # (G,)
    have = torch.tensor(counts, device=device)[:, None]                         # (B, 1)
    before = have.cumsum(0) - have                                              # (B, 1)
    truth = (before + rows).clamp(max=len(true_labels) - 1)                     # (B, G)
    there = (rows < have)[:, None, None].expand(shape)                          # (B, R, 2, G)
    truth = truth[:, None, None].expand(shape)                                  # (B, R, 2, G)

    # Some get another class.
    labels = true_labels[truth]                                                 # (B, R, 2, G)
    other = torch.randint_like(labels, num_classes)                             # (B, R, 2, G)
    swap = torch.rand(shape, device=device) < CLASS_NOISE                       # (B, R, 2, G)
    labels = torch.where(swap, other, labels)                                   # (B, R, 2, G)
    labels = torch.where(there, labels, num_classes)                            # (B, R, 2, G)

    boxes = shaken(true_boxes[truth] * there[..., None])                        # (B, R, 2, G, 4)

    # Who may listen to whom: a group to itself and to the real queries, these to themselves.
    group = torch.arange(groups, device=device).repeat_interleave(2 * most)     # (P,)
    group = F.pad(group, (0, queries), value=-1)                                # (S,)
    allowed = (group[:, None] == group) | (group < 0)                           # (S, S)

    # The first copies that are an object have to become it.
    first = there.clone()                                                       # (B, R, 2, G)
    first[:, :, 1] = False
    image, query = first.flatten(1).nonzero(as_tuple=True)                      # (Q,), (Q,)
    places = image, query, truth.flatten(1)[image, query]                       # (Q,), (Q,), (Q,)
    return {"labels": labels.flatten(1), "boxes": boxes.flatten(1, 3), "allowed": allowed, "places": places,
            "groups": groups}


def shaken(boxes):
    """Every corner is moved by 0 to 1 half sides, in the second copy by 1 to 2.

    boxes: (B, R, 2, G, 4) cxcywh -> the same.
    """
    half = (boxes[..., 2:] / 2).repeat(1, 1, 1, 1, 2)                           # (B, R, 2, G, 4)
    far = torch.rand(boxes.shape, device=boxes.device)                          # (B, R, 2, G, 4)
    far[:, :, 1] += 1
    sign = torch.randint(2, boxes.shape, device=boxes.device) * 2 - 1           # (B, R, 2, G, 4)
    corners = cxcywh_to_xyxy(boxes) + sign * far * half * BOX_NOISE             # (B, R, 2, G, 4)
    boxes = xyxy_to_cxcywh(corners.clamp(0, 1))                                 # (B, R, 2, G, 4)
    return boxes.clamp(SMALLEST, 1 - SMALLEST)                                  # (B, R, 2, G, 4)


def init_weights(model):
    """Start values of the authors' code, in place: no class is likely, no box moves."""
    for head in (model.select_class, *model.class_heads):
        nn.init.constant_(head.bias, -math.log((1 - PRIOR) / PRIOR))
    for head in (model.select_box, *model.box_heads):
        nn.init.zeros_(head[-1].weight)
        nn.init.zeros_(head[-1].bias)
    nn.init.xavier_uniform_(model.select_features[0].weight)
    for layer in (model.place[0], model.place[2]):
        nn.init.xavier_uniform_(layer.weight)
    nn.init.normal_(model.noisy_class.weight)
    nn.init.zeros_(model.noisy_class.weight[-1])


# Query, key and value are one tensor in the authors' files.
RTDETR.official_parts = [
    (r"\.self_attn\.in_proj_", 0, (".self_attn.query.", ".self_attn.key.", ".self_attn.value.")),
]
# The authors' names -> ours.
RTDETR.official_names = [
    # the backbone
    (r"^backbone\.conv1\.conv1_(\d)\.", lambda found: f"backbone.stem.{int(found[1]) - 1}."),
    (r"^backbone\.res_layers\.(\d)\.blocks\.(\d+)\.short\.(conv\.)?(conv|norm)\.",
     r"backbone.stages.\1.\2.short.\4."),
    (r"^backbone\.res_layers\.(\d)\.blocks\.(\d+)\.branch2([abc])\.",
     lambda found: f"backbone.stages.{found[1]}.{found[2]}.convs.{'abc'.index(found[3])}."),
    # the encoder
    (r"^encoder\.input_proj\.", "encoder.project."),
    (r"^encoder\.encoder\.0\.layers\.0\.self_attn\.", "encoder.attention.attention."),
    (r"^encoder\.encoder\.0\.layers\.0\.", "encoder.attention."),
    (r"^encoder\.lateral_convs\.([01])\.", lambda found: f"encoder.lateral{5 - int(found[1])}.0."),
    (r"^encoder\.fpn_blocks\.([01])\.", lambda found: f"encoder.down{4 - int(found[1])}."),
    (r"^encoder\.downsample_convs\.([01])\.", lambda found: f"encoder.shrink{3 + int(found[1])}.0."),
    (r"^encoder\.pan_blocks\.([01])\.", lambda found: f"encoder.up{4 + int(found[1])}."),
    (r"\.bottlenecks\.(\d)\.conv1\.", r".blocks.\1.conv3."),
    (r"\.bottlenecks\.(\d)\.conv2\.", r".blocks.\1.conv1."),
    (r"^(encoder\.(?:down|up)\d)\.conv1\.", r"\1.deep.0."),
    (r"^(encoder\.(?:down|up)\d)\.conv2\.", r"\1.flat.0."),
    (r"^(encoder\.(?:down|up)\d)\.conv3\.", r"\1.merge.0."),
    # the selection and the decoder
    (r"^decoder\.input_proj\.", "project."),
    (r"^decoder\.enc_output\.proj\.", "select_features.0."),
    (r"^decoder\.enc_output\.norm\.", "select_features.1."),
    (r"^decoder\.enc_score_head\.", "select_class."),
    (r"^decoder\.enc_bbox_head\.layers\.(\d)\.", lambda found: f"select_box.{2 * int(found[1])}."),
    (r"^decoder\.query_pos_head\.layers\.(\d)\.", lambda found: f"place.{2 * int(found[1])}."),
    (r"^decoder\.denoising_class_embed\.", "noisy_class."),
    (r"^decoder\.dec_score_head\.", "class_heads."),
    (r"^decoder\.dec_bbox_head\.(\d)\.layers\.(\d)\.",
     lambda found: f"box_heads.{found[1]}.{2 * int(found[2])}."),
    (r"^decoder\.decoder\.layers\.(\d)\.self_attn\.", r"decoder.\1.among."),
    (r"^decoder\.decoder\.layers\.(\d)\.cross_attn\.", r"decoder.\1.attention."),
    (r"^decoder\.decoder\.layers\.", "decoder."),
    (r"\.out_proj\.|\.output_proj\.", ".out."), (r"\.value_proj\.", ".value."),
    (r"\.sampling_offsets\.", ".offsets."), (r"\.attention_weights\.", ".shares."),
    (r"\.linear1\.", ".mlp.widen."), (r"\.linear2\.", ".mlp.narrow."),
]
