"""Faster R-CNN: a first stage proposes places where something is, a second says what is there, and where.

Papers: Faster R-CNN, arXiv 1506.01497; its feature pyramid (FPN), arXiv 1612.03144; RoIAlign (Mask R-CNN),
arXiv 1703.06870. The layers are those of torchvision's fasterrcnn_resnet50_fpn: 41,808,406 parameters at 90
classes (41,755,286 with frozen BatchNorm), and its official COCO file loads.

    stage        what it does                                          output
    backbone     ResNet-50 or ResNet-101                               256 x H/4 ... 2048 x H/32 -> c2 ... c5
    neck         FPN: every map gets 256 channels and knows what       256 x H/4 ... 256 x H/32 -> p2 ... p5
                 the coarser ones know; p6 = every second cell of p5   256 x H/64, rounded up -> p6
    1st stage    is there anything, and where about?
      rpn        the same conv 3x3, conv 1x1 on p2 ... p6              objectness N, deltas N x 4, with
                                                                       N = 3 anchors x all cells
      propose    the best 1000 anchors of each map, moved by their     P proposals an image, P <= 1000
                 deltas; NMS at IoU 0.7; the best 1000 of all
    2nd stage    what is it, and where exactly?
      sample     to learn only: of proposals and truths at most 512    R regions, of all images together
                 an image, at most a quarter of them on an object
      head       RoIAlign: 7 x 7 cells out of the map (p2 ... p5)      R x 256 x 7 x 7
                 that goes with the region's size
                 two fully connected layers                            R x 1024
                 the classes, background in column 0                   logits R x (K+1)
                 for each class a box, as deltas from the region       deltas R x (K+1) x 4

Loss: RPN, 256 sampled anchors an image: cross-entropy of the objectness + smooth L1 of the deltas; head,
sampled regions: cross-entropy of the classes + smooth L1 of the true class's deltas. No gradient flows
through the proposals themselves: for the head they are given.

What differs from the paper, and why (1-7 are torchvision's choices, so that its files keep their meaning;
1-3 come from the FPN paper):
1. ResNet and FPN instead of VGG-16 and one map of stride 16. The anchors have one size per map (32 ... 512)
   and three ratios.
2. Both stages are trained in one step from the start. The paper trains them in turns, four times, and the
   joint training is a variant.
3. 512 regions an image (Fast R-CNN: 64), and background is all below IoU 0.5, not 0.1 to 0.5. 2000
   proposals in training, 1000 in use (paper: 300): five maps offer more of them. NMS, and the choice before
   it, treat each map alone.
4. RoIAlign, two samples a cell and direction, instead of RoIPool, which rounds regions to whole cells. It
   is its first version, without the shift by half a pixel that later codes have.
5. Objectness is one sigmoid, not a softmax of two. The box losses are smooth L1 with its bend at 1/9, not
   at 1, divided by the number of all samples; the paper divides that of the first stage by the number of
   anchor places and weighs it with 10.
6. Anchors that stick out of the picture take part in training. Their corners are rounded to whole pixels.
   The anchors of p6 are as far apart as the input divided by the map, rounded down: 64 px only where the
   input divides by 64.
7. The head's deltas are multiplied by 10, 10, 5, 5, which brings them to a deviation of about 1; the paper
   measures mean and deviation.
8. `norm="batch"` is the default: with random weights frozen BatchNorms would leave a ResNet without any.
   From ImageNet weights they are frozen, from torchvision's detector frozen with eps 0 (see resnet.py).
   torchvision never trains the stem and the first stage of a pretrained backbone, the paper not the first
   four layers; here the freeze stage of train.py rests all of it for a while.
9. `recipe` is AdamW at a fixed input, for a user's own data (see nets/layers.py); SGD for VOC is in
   recipes/voc0712_faster_rcnn.py.
"""
import torch
import torch.nn.functional as F
from torch import nn

from nets.backbones.resnet import NORMS, find_norm, resnet
from nets.layers import DETECTION_RECIPE, FPN, grid_anchors, make_cell_anchors, normalise
from utils.boxes import BACKGROUND, box_area, clip, decode, encode, hard_nms, match, pairwise_iou
from utils.errors import UserError
from utils.weights import download, load_weights

ANCHOR_SIZES = (32, 64, 128, 256, 512)                  # root of the area, px, of p2 ... p6 (FPN, 4.1)
RATIOS = (0.5, 1.0, 2.0)                                # height / width (Faster R-CNN, section 3.3)
RPN_IOU = (0.7, 0.3)                                    # an object from here on, background below (3.1.2)
RPN_SAMPLES, RPN_SHARE = 256, 0.5                       # anchors of an image, share on an object (3.1.3)
PROPOSALS = (2000, 1000)                                # in training, in use: of each map before NMS,
                                                        # of all after it (FPN, section 5.2)
PROPOSAL_IOU = 0.7                                      # section 3.3
HEAD_IOU = 0.5                                          # Fast R-CNN, arXiv 1504.08083, section 2.3
HEAD_SAMPLES, HEAD_SHARE = 512, 0.25                    # regions of an image (FPN, section 5.2), share of
                                                        # those on an object (Fast R-CNN, section 2.3)
HEAD_WEIGHTS = (10.0, 10.0, 5.0, 5.0)                   # of x, y, width, height in the head's deltas
BETA = 1 / 9                                            # where smooth L1 bends from square to straight
CELLS, POINTS = 7, 2                                    # of RoIAlign: cells a side, samples a side of a cell
CANONICAL = 224                                         # px; so large a region is read from p4 (FPN, eq. 1)
LEAST = 1e-3, 1e-2                                      # px; a narrower proposal, a narrower result is none
COCO = "https://download.pytorch.org/models/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"


class RPN(nn.Module):
    """The head of the first stage, the same for every map (section 3.1)."""

    def __init__(self, channels, anchors):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness = nn.Conv2d(channels, anchors, 1)
        self.deltas = nn.Conv2d(channels, 4 * anchors, 1)
        for conv in (self.conv, self.objectness, self.deltas):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)

    def forward(self, maps):
        """maps: (B, 256, h, w) each -> objectness (B, N) logits, deltas (B, N, 4). N: map, row, column,
        anchor.
        """
        objectness, deltas = [], []
        for x in maps:
            x = F.relu(self.conv(x))                                            # (B, 256, h, w)
            yes = self.objectness(x).permute(0, 2, 3, 1)                        # (B, h, w, A)
            shift = self.deltas(x).permute(0, 2, 3, 1)                          # (B, h, w, 4*A)
            objectness.append(yes.flatten(1))
            deltas.append(shift.flatten(1).unflatten(1, (-1, 4)))
        objectness = torch.cat(objectness, 1).float()                           # (B, N)
        deltas = torch.cat(deltas, 1).float()                                   # (B, N, 4)
        return objectness, deltas


class Head(nn.Module):
    """The second stage: regions of the maps -> what each of them is, and its box."""

    def __init__(self, channels, num_classes, width=1024):
        super().__init__()
        self.fc6 = nn.Linear(channels * CELLS * CELLS, width)   # named after VGG's layers: the paper's head
        self.fc7 = nn.Linear(width, width)
        self.classes = nn.Linear(width, num_classes + 1)
        self.deltas = nn.Linear(width, 4 * (num_classes + 1))

        # Start values: Fast R-CNN, section 2.3.
        for layer, std in ((self.classes, 0.01), (self.deltas, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, maps, regions):
        """maps: p2 ... p5.  regions: per image (N, 4) xyxy px -> logits (R, K+1), deltas (R, K+1, 4)."""
        x = self.pool(maps, regions)                                            # (R, 256, 7, 7)
        x = F.relu(self.fc6(x.flatten(1)))                                      # (R, 1024)
        x = F.relu(self.fc7(x))                                                 # (R, 1024)
        logits = self.classes(x).float()                                        # (R, K+1)
        deltas = self.deltas(x).float().unflatten(1, (-1, 4))                   # (R, K+1, 4)
        return logits, deltas

    def pool(self, maps, regions):
        """RoIAlign: out of every region, large or small, a map of 7 x 7 cells. -> (R, 256, 7, 7)."""
        from torchvision import ops  # takes seconds, so only where it is needed

        # One list of all regions, each with the number of its image in front.
        image = [torch.full_like(boxes[:, :1], number) for number, boxes in enumerate(regions)]     # (N, 1) each
        boxes = torch.cat(regions)                                              # (R, 4)
        rois = torch.cat([torch.cat(image), boxes], 1)                          # (R, 5)

        # Which map a region is read from: half the size, one map finer.
        size = box_area(boxes).sqrt()                                           # (R,)
        level = torch.floor(4 + torch.log2(size / CANONICAL) + 1e-6)            # (R,)
        level = level.clamp(2, 5)                                               # (R,)

        # Map by map, back in the order of the list.
        pooled = boxes.new_zeros(boxes.shape[0], maps[0].shape[1], CELLS, CELLS)    # (R, 256, 7, 7)
        for number, x in enumerate(maps, 2):
            here = (level == number).nonzero()[:, 0]                            # (T,)
            pooled[here] = ops.roi_align(x.float(), rois[here], CELLS, 1 / 2 ** number, POINTS)         # (T, 256, 7, 7)
        return pooled                                                           # (R, 256, 7, 7)


class FasterRCNN(nn.Module):
    task = "detection"
    stride = 32
    recipe = DETECTION_RECIPE | {"input_shape": (800, 800), "lr": 0.0008, "nms_iou": 0.5,
                                 "weight_decay": 1e-4, "backbone_lr": 0.1, "aspect": 0.0, "mosaic": 0.0}
    official = {"classes": "coco_91", "fit": "short_side", "input_shape": (800, 1333),
                "options": {"norm": "frozen_eps0"}}

    def __init__(self, num_classes, input_shape=(800, 800), pretrained=False, backbone="resnet50", norm=None,
                 anchor_sizes=ANCHOR_SIZES, proposals=PROPOSALS, samples=HEAD_SAMPLES):
        """num_classes: K, foreground classes.
        pretrained: True fetches the ResNet trained on ImageNet, "coco" the whole network.
        backbone: "resnet50" or "resnet101".
        norm: of the ResNet, "batch", "frozen" or "frozen_eps0", see resnet.py.
        anchor_sizes: px, of p2 ... p6; halve them for small objects, or for an input far below 600.
        proposals: how many an image has, in training and in use; fewer are faster, the paper shows 300 to
        be enough.
        samples: regions of an image that the second stage learns from; fewer need less memory.
        """
        super().__init__()
        if len(anchor_sizes) != len(ANCHOR_SIZES) or min(anchor_sizes) <= 0:
            raise UserError(f"anchor_sizes={anchor_sizes}: expected five sizes in pixels, "
                            f"of the maps p2 to p6, like {ANCHOR_SIZES}.")
        self.num_classes = num_classes
        self.proposals = proposals
        self.samples = samples
        norm = find_norm(norm, pretrained)
        self.options = {"norm": norm}                   # what the default became: for the checkpoint

        self.backbone = resnet(backbone, 32, pretrained and pretrained != "coco", norm=NORMS[norm])
        self.neck = FPN(self.backbone.channels)
        self.rpn = RPN(256, len(RATIOS))
        self.head = Head(256, num_classes)

        # The anchors of one cell of each map; `make_anchors` lays them on all cells.
        cell_anchors = make_cell_anchors([[size] for size in anchor_sizes], RATIOS)
        self.register_buffer("cell_anchors", cell_anchors, persistent=False)
        if pretrained == "coco":
            print(load_weights(self, download(COCO)))

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> outputs, losses.

        outputs: dict of logits (R, K+1) and deltas (R, K+1, 4) for the regions, a list of (N, 4) xyxy px per
        image, and input_shape (H, W). The regions are the proposals; in training, when there are targets, the
        sampled ones, for which the losses hold. In eval mode the losses come from a sample of the proposals,
        too: a second pass of the head.
        """
        input_shape = images.shape[2:]
        x = normalise(images)                                                   # (B, 3, H, W)
        maps = self.neck(self.backbone(x))                                      # (B, 256, h, w) each: p2, p3, p4, p5
        p6 = F.max_pool2d(maps[3], 1, stride=2)                                 # (B, 256, (H+32)//64, (W+32)//64)

        # First stage: is there anything, and where about?
        objectness, shifts = self.rpn([*maps, p6])                              # (B, N), (B, N, 4)
        anchors = self.make_anchors([*maps, p6], input_shape)                   # (M, 4) each: of p2 ... p6
        proposals = self.propose(objectness, shifts, anchors, input_shape)      # (P, 4) each: of an image

        # What is learnt: the first stage from its anchors, the second from a sample of the proposals.
        losses = {}
        if targets is not None:
            losses |= self.first_loss(objectness, shifts, torch.cat(anchors), targets)          # () each
            regions, labels, truths = self.sample_regions(proposals, targets)   # (T, 4), (R,), (P, 4)
            logits, deltas = self.head(maps, regions)                           # (R, K+1), (R, K+1, 4)
            losses |= self.second_loss(logits, deltas, torch.cat(regions), labels, truths)      # () each

        # Second stage: what is it, and where exactly? In training the sample has been asked already.
        if targets is None or not self.training:
            regions = proposals
            logits, deltas = self.head(maps, regions)                           # (S, K+1), (S, K+1, 4)
        outputs = {"logits": logits, "deltas": deltas, "regions": regions, "input_shape": input_shape}
        return outputs, losses

    def decode(self, outputs):
        """outputs -> boxes (B, N, K, 4) xyxy in input px, scores (B, N, K) in 0-1.

        Every region has a box of its own for every class. N is that of the image with the most regions; the
        others are filled up with rows of score 0.
        """
        # Column 0, the background, is left out.
        regions = torch.cat(outputs["regions"])                                 # (R, 4)
        boxes = decode(outputs["deltas"][:, 1:], regions[:, None], HEAD_WEIGHTS)                # (R, K, 4)
        boxes = clip(boxes, outputs["input_shape"])                             # (R, K, 4)
        scores = outputs["logits"].softmax(1)[:, 1:]                            # (R, K)

        # Of some boxes the border has left nothing.
        narrowest = (boxes[..., 2:] - boxes[..., :2]).amin(2)                   # (R, K)
        scores = scores * (narrowest >= LEAST[1])                               # (R, K)

        # Image by image; one alone needs no filling, and ONNX knows none.
        if len(outputs["regions"]) == 1:
            return boxes[None], scores[None]
        counts = [len(some) for some in outputs["regions"]]
        boxes = nn.utils.rnn.pad_sequence(boxes.split(counts), batch_first=True)                # (B, N, K, 4)
        scores = nn.utils.rnn.pad_sequence(scores.split(counts), batch_first=True)              # (B, N, K)
        return boxes, scores

    def make_anchors(self, maps, input_shape):
        """maps: (B, C, h, w) each -> list of (3*h*w, 4) xyxy px."""
        H, W = input_shape
        sizes = [x.shape[2:] for x in maps]
        strides = [(H // h, W // w) for h, w in sizes]
        return grid_anchors(self.cell_anchors, sizes, strides)                  # (M, 4) each

    @torch.no_grad()
    def propose(self, objectness, shifts, anchors, input_shape):
        """The anchors most like an object, moved by their deltas and cut at the border; of near-duplicates
        the best (section 3.3).

        objectness: (B, N) logits.  shifts: (B, N, 4) deltas.  anchors: per map (n, 4) xyxy px.
        -> list of B (P, 4) xyxy px, best first.
        """
        # The best anchors of each map; `level` says from which map each of them is.
        limit = self.proposals[0] if self.training else self.proposals[1]
        best, level, first = [], [], 0
        for number, anchors_here in enumerate(anchors):
            n = len(anchors_here)
            part = objectness[:, first:first + n]                               # (B, n)
            rows = first + part.topk(min(limit, n)).indices                     # (B, T)
            best.append(rows)
            level.append(torch.full_like(rows[0], number))
            first += n
        level = torch.cat(level)                                                # (M,)
        best = torch.cat(best, 1)                                               # (B, M)

        # Their boxes: moved by the deltas, cut at the border.
        scores = objectness.gather(1, best).sigmoid()                           # (B, M)
        shifts = shifts.gather(1, best[..., None].expand(-1, -1, 4))            # (B, M, 4)
        boxes = clip(decode(shifts, torch.cat(anchors)[best]), input_shape)     # (B, M, 4)

        # Of boxes on the same object the best is kept, in each map by itself.
        proposals = []
        for image_boxes, image_scores in zip(boxes, scores):
            sizes = image_boxes[:, 2:] - image_boxes[:, :2]                     # (M, 2)
            large = (sizes >= LEAST[0]).all(1)                                  # (M,)
            image_boxes = image_boxes[large]                                    # (T, 4)
            keep = hard_nms(image_boxes, image_scores[large], level[large], PROPOSAL_IOU)[:limit]       # (P,)
            proposals.append(image_boxes[keep])
        return proposals                                                        # (P, 4) each

    @staticmethod
    def first_loss(objectness, shifts, anchors, targets):
        """-> {"objectness", "proposal"}: 0-d float32, sums over the sampled anchors divided by their number
        (section 3.1.2).

        objectness: (B, N) logits.  shifts: (B, N, 4) deltas.  anchors: (N, 4) xyxy px.
        """
        yes_or_no, off, count = 0.0, 0.0, 0
        for logits, deltas, target in zip(objectness, shifts, targets):
            # Which anchors are asked: some on an object, some on background.
            boxes = target["boxes"].to(anchors)                                 # (G, 4)
            truth = match(pairwise_iou(boxes, anchors), *RPN_IOU, rescue=True)  # (N,)
            positive, negative = sample(truth, RPN_SAMPLES, RPN_SHARE)          # (P,), (M,)
            count += len(positive) + len(negative)

            # Binary cross-entropy of a logit x is softplus(-x) where it should say yes, softplus(x) where no.
            yes_or_no += F.softplus(-logits[positive]).sum() + F.softplus(logits[negative]).sum()               # ()

            # How the positives are to be moved.
            aims = encode(boxes[truth[positive]], anchors[positive])            # (P, 4)
            off += F.smooth_l1_loss(deltas[positive], aims, beta=BETA, reduction="sum")         # ()
        return {"objectness": yes_or_no / count, "proposal": off / count}       # () each

    def sample_regions(self, proposals, targets):
        """What the second stage learns from: a part of the proposals.

        proposals: list of B (N, 4) xyxy px.
        -> regions: list of B (M, 4) xyxy px; labels (R,) of all of them, 0 for background, k + 1 for class k;
        truths (P, 4) xyxy px, the object of each region that is no background.
        """
        regions, labels, truths = [], [], []
        for boxes, target in zip(proposals, targets):
            # The true boxes are among them, so that there are good ones from the start.
            true_boxes = target["boxes"].to(boxes)                              # (G, 4)
            boxes = torch.cat([boxes, true_boxes])                              # (N, 4)
            truth = match(pairwise_iou(true_boxes, boxes), HEAD_IOU, HEAD_IOU, rescue=False)    # (N,)
            positive, negative = sample(truth, self.samples, HEAD_SHARE)        # (P,), (M,)

            # Those on an object first, then the background, whose label is 0.
            truth = truth[positive]                                             # (P,)
            image_labels = target["labels"].to(truth)[truth] + 1                # (P,)
            image_labels = F.pad(image_labels, (0, len(negative)))              # (P+M,)
            regions.append(boxes[torch.cat([positive, negative])])
            labels.append(image_labels)
            truths.append(true_boxes[truth])
        labels, truths = torch.cat(labels), torch.cat(truths)                   # (R,), (P, 4)
        return regions, labels, truths

    @staticmethod
    def second_loss(logits, deltas, regions, labels, truths):
        """-> {"class", "box"}: 0-d float32, sums over the regions divided by their number.

        logits: (R, K+1).  deltas: (R, K+1, 4).  regions: (R, 4) xyxy px.  labels, truths: see sample_regions.
        """
        # Only the deltas of the true class are asked.
        positive = labels.nonzero()[:, 0]                                       # (P,)
        aims = encode(truths, regions[positive], HEAD_WEIGHTS)                  # (P, 4)
        moves = deltas[positive, labels[positive]]                              # (P, 4)
        off = F.smooth_l1_loss(moves, aims, beta=BETA, reduction="sum")         # ()
        class_loss = F.cross_entropy(logits, labels)                            # ()
        return {"class": class_loss, "box": off / len(labels)}                  # () each


def sample(truth, count, share):
    """At most share * count of those on an object, drawn by chance, and background to fill up to count.

    truth: (N,) of one image, from utils.boxes.match.  -> positive (P,), negative (M,): indices into N.
    """
    positive = (truth >= 0).nonzero()[:, 0]                                     # (S,)
    chosen = torch.randperm(len(positive), device=truth.device)[:int(count * share)]            # (P,)
    positive = positive[chosen]                                                 # (P,)

    negative = (truth == BACKGROUND).nonzero()[:, 0]                            # (T,)
    chosen = torch.randperm(len(negative), device=truth.device)[:count - len(positive)]         # (M,)
    negative = negative[chosen]                                                 # (M,)
    return positive, negative


# torchvision's names, today's and those of the released file, -> ours.
FasterRCNN.official_names = [
    (r"^backbone\.body\.", "backbone."),
    (r"^backbone\.fpn\.inner_blocks\.(\d)(\.0)?\.", r"neck.lateral.\1."),
    (r"^backbone\.fpn\.layer_blocks\.(\d)(\.0)?\.", r"neck.smooth.\1."),
    (r"^rpn\.head\.conv(\.0\.0)?\.", "rpn.conv."),
    (r"^rpn\.head\.cls_logits\.", "rpn.objectness."),
    (r"^rpn\.head\.bbox_pred\.", "rpn.deltas."),
    (r"^roi_heads\.box_head\.", "head."),
    (r"^roi_heads\.box_predictor\.cls_score\.", "head.classes."),
    (r"^roi_heads\.box_predictor\.bbox_pred\.", "head.deltas."),
]
