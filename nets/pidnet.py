"""PIDNet: three branches, for what things are, where they lie and where they end; made to segment a camera's
pictures as they come.

Paper: PIDNet: A Real-time Semantic Segmentation Network Inspired by PID Controllers, arXiv 2206.02066. The
layers are those of MMSegmentation 1.2.2, size S: 7,720,871 parameters at 19 classes; its files load.

    branch        layers                                                       output
    stem          two conv 3x3/2, 2 basic blocks, 2 basic blocks/2             64 x H/8 x W/8
    I, integral   3 basic blocks/2, 3 basic blocks/2, 2 bottlenecks/2          512 x H/64 x W/64
                  pyramid: means of 5, 9, 17 cells and of the image            128 x H/64 x W/64
    P, detail     2 basic blocks, 2 basic blocks, 1 bottleneck; takes from I   128 x H/8 x W/8
                  what fits, at H/16 and H/32
    D, edges      1 basic block, 2 bottlenecks; I is added                     128 x H/8 x W/8
    bag           where D sees an edge P counts, elsewhere I                   128 x H/8 x W/8
    head          conv 3x3 of the bag, conv 1x1                                K x H/8 x W/8, then K x H x W
    helpers       the same of P, behind its first stage; of D one number       in training only
                  a cell: whether an edge is near

A branch for meaning sees the whole picture and smears the outlines. Adding the fine branch to it, as BiSeNet
does, lets the coarse map overrule the fine one there ("overshoot" of a controller that only sums up). So a
third branch learns where outlines are, and the bag lets the fine branch decide at these places.

Losses: that of the head; of the helper of P, counted 0.4; of the edges, counted 20; and that of the head
once more at the pixels where the edges are sure.

What differs from the paper, and why:
1. An edge is what lies within two pixels of another class. The authors find edges with Canny's filter and
   make them wider.
2. The authors take OHEM for both losses of the head: loss={"ohem": 1.0} says so, as for every network.
3. Only size S. M and L have other blocks in the pyramid and the bag.
"""
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

from nets.backbones.resnet import init_kaiming
from nets.layers import SEGMENTATION_RECIPE, PooledBatchNorm, conv_norm_act, enlarge, normalise
from utils.images import IGNORED
from utils.losses import SegmentationLoss, class_scores, mean_over

C = 32                                                  # the first convolution's channels; all others follow
POOLS = ((5, 2), (9, 4), (17, 8))                       # of the pyramid: side of a window, stride
BRANCH = 96                                             # channels of each of its scales
AUX_WEIGHT, EDGE_WEIGHT = 0.4, 20.0                     # section 3.4
SURE = 0.8                                              # an edge that counts in the last loss
NEAR = 2                                                # pixels


def conv(c_in, c_out, kernel=3, stride=1, relu=True):
    act = nn.ReLU(inplace=True) if relu else nn.Identity()
    return conv_norm_act(c_in, c_out, kernel, stride, act)


def norm_relu_conv(c_in, c_out, kernel, groups=1, norm=nn.BatchNorm2d):
    """The other way round: the convolution comes last."""
    layer = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(norm=norm(c_in), act=nn.ReLU(), conv=layer))


class Block(nn.Module):
    """Basic: two 3x3. Bottleneck (deep): 1x1, 3x3, 1x1 to twice the channels. The input is added; without a
    ReLU behind it where the next layer begins with one.
    """

    def __init__(self, c_in, width, stride=1, deep=False, relu=True):
        super().__init__()
        c_out = 2 * width if deep else width
        self.conv1 = conv(c_in, width, 1) if deep else conv(c_in, width, stride=stride)
        self.conv2 = conv(width, width, stride=stride) if deep else conv(width, width, relu=False)
        self.conv3 = conv(width, c_out, 1, relu=False) if deep else nn.Identity()
        self.downsample = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.downsample = conv(c_in, c_out, 1, stride, relu=False)
        self.relu = nn.ReLU() if relu else nn.Identity()

    def forward(self, x):
        """x: (B, C, m, n) -> (B, D, h, w), with h = m / stride."""
        y = self.conv3(self.conv2(self.conv1(x)))                               # (B, D, h, w)
        return self.relu(y + self.downsample(x))                                # (B, D, h, w)


def stage(c_in, width, count, stride=1):
    """Basic blocks, the last one without a ReLU."""
    first = Block(c_in, width, stride)
    middle = [Block(width, width) for _ in range(count - 2)]
    return nn.Sequential(first, *middle, Block(width, width, relu=False))


class Fits(nn.Module):
    """P takes from I where both look alike: a cell's product of the two says how much ("Pag", figure 4)."""

    def __init__(self, channels, width):
        super().__init__()
        self.f_i = conv(channels, width, 1, relu=False)
        self.f_p = conv(channels, width, 1, relu=False)

    def forward(self, p, i):
        """p: (B, C, h, w), i: (B, C, m, n) -> (B, C, h, w)."""
        alike = self.f_p(p) * enlarge(self.f_i(i), p)                           # (B, D, h, w)
        share = alike.sum(1, keepdim=True).sigmoid()                            # (B, 1, h, w)
        return share * enlarge(i, p) + (1 - share) * p                          # (B, C, h, w)


class Pyramid(nn.Module):
    """A map and its means over ever larger windows, each a branch of its own ("PAPPM", figure 5)."""

    def __init__(self, c_in, c_out):
        super().__init__()
        pools = [nn.AvgPool2d(side, stride, padding=side // 2) for side, stride in POOLS]
        pools.append(nn.AdaptiveAvgPool2d(1))
        self.scales = nn.ModuleList([
            norm_relu_conv(c_in, BRANCH, 1),
            *[nn.Sequential(pool, norm_relu_conv(c_in, BRANCH, 1, norm=PooledBatchNorm)) for pool in pools]])
        others = len(pools)
        self.processes = norm_relu_conv(others * BRANCH, others * BRANCH, 3, groups=others)
        self.compression = norm_relu_conv((others + 1) * BRANCH, c_out, 1)
        self.shortcut = norm_relu_conv(c_in, c_out, 1)

    def forward(self, x):
        """x: (B, C, h, w) -> (B, D, h, w)."""
        own, *others = [enlarge(scale(x), x) for scale in self.scales]          # (B, 96, h, w) each
        means = torch.cat([other + own for other in others], 1)                 # (B, 4*96, h, w)
        joined = torch.cat([own, self.processes(means)], 1)                     # (B, 5*96, h, w)
        return self.compression(joined) + self.shortcut(x)                      # (B, D, h, w)


class Bag(nn.Module):
    """Where D sees an edge P counts, elsewhere I (section 3.3, the light one)."""

    def __init__(self, channels):
        super().__init__()
        self.f_p = conv(channels, channels, 1, relu=False)
        self.f_i = conv(channels, channels, 1, relu=False)

    def forward(self, p, i, d):
        """p, i, d: (B, C, h, w) -> (B, C, h, w)."""
        edge = d.sigmoid()                                                      # (B, C, h, w)
        return self.f_p(p + (1 - edge) * i) + self.f_i(i + edge * p)            # (B, C, h, w)


class ThreeBranches(nn.Module):
    """The backbone. Registered and numbered as in MMSegmentation's files."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            conv(3, C, stride=2), conv(C, C, stride=2),
            stage(C, C, 2), nn.ReLU(), stage(C, 2 * C, 2, 2), nn.ReLU())
        self.relu = nn.ReLU()

        # Three stages of each branch; P and D stay at H/8.
        self.i_branch_layers = nn.ModuleList([
            stage(2 * C, 4 * C, 3, 2), stage(4 * C, 8 * C, 3, 2),
            nn.Sequential(Block(8 * C, 8 * C, 2, True, False), Block(16 * C, 8 * C, 1, True, False))])
        self.p_branch_layers = nn.ModuleList([
            stage(2 * C, 2 * C, 2), stage(2 * C, 2 * C, 2),
            nn.Sequential(Block(2 * C, 2 * C, 1, True, False))])
        self.d_branch_layers = nn.ModuleList([
            Block(2 * C, C, relu=False), nn.Sequential(Block(C, C, 1, True, False)),
            nn.Sequential(Block(2 * C, 2 * C, 1, True, False))])

        # What they tell each other.
        self.compression_1 = conv(4 * C, 2 * C, 1, relu=False)
        self.compression_2 = conv(8 * C, 2 * C, 1, relu=False)
        self.pag_1, self.pag_2 = Fits(2 * C, C), Fits(2 * C, C)
        self.diff_1 = conv(4 * C, C, relu=False)
        self.diff_2 = conv(8 * C, 2 * C, relu=False)
        self.spp = Pyramid(16 * C, 4 * C)
        self.dfm = Bag(4 * C)

    def forward(self, images):
        """images: (B, 3, H, W), normalised -> all three together, P and D on the way, at H/8 x W/8."""
        x = self.stem(images)                                                   # (B, 64, H/8, W/8)
        i = self.relu(self.i_branch_layers[0](x))                               # (B, 128, H/16, W/16)
        p = self.pag_1(self.p_branch_layers[0](x), self.compression_1(i))       # (B, 64, H/8, W/8)
        d = self.d_branch_layers[0](x)                                          # (B, 32, H/8, W/8)
        d = d + enlarge(self.diff_1(i), d)                                      # (B, 32, H/8, W/8)
        detail = p

        # The second stage of each.
        i = self.relu(self.i_branch_layers[1](i))                               # (B, 256, H/32, W/32)
        p = self.pag_2(self.p_branch_layers[1](self.relu(p)), self.compression_2(i))            # (B, 64, H/8, W/8)
        d = self.d_branch_layers[1](self.relu(d))                               # (B, 64, H/8, W/8)
        d = d + enlarge(self.diff_2(i), d)                                      # (B, 64, H/8, W/8)
        edges = d

        # The third; then the bag.
        i = self.spp(self.i_branch_layers[2](i))                                # (B, 128, h, w)
        p = self.p_branch_layers[2](self.relu(p))                               # (B, 128, H/8, W/8)
        d = self.d_branch_layers[2](self.relu(d))                               # (B, 128, H/8, W/8)
        return self.dfm(p, enlarge(i, p), d), detail, edges                     # (B, 128, H/8, W/8), (B, 64, H/8, W/8), (B, 64, H/8, W/8)


def head(c_in, width, outputs):
    return nn.Sequential(OrderedDict(
        conv=norm_relu_conv(c_in, width, 3), norm=nn.BatchNorm2d(width), act=nn.ReLU(inplace=True),
        classify=nn.Conv2d(width, outputs, 1)))


def near_edges(masks):
    """Which labelled pixels lie within NEAR pixels of another class. (B, H, W) int64 -> (B, H, W) bool"""
    labelled = masks != IGNORED                                                 # (B, H, W)
    side = 2 * NEAR + 1

    # The largest and the least label around; ignored pixels are neither.
    largest = F.max_pool2d(masks.where(labelled, -1).float(), side, 1, NEAR)    # (B, H, W)
    least = -F.max_pool2d(-masks.float(), side, 1, NEAR)                        # (B, H, W); IGNORED is 255, the largest
    return labelled & (largest != least)                                        # (B, H, W)


class PIDNet(nn.Module):
    task = "segmentation"
    stride = 32
    official = {"classes": "cityscapes", "input_shape": (1024, 2048)}
    recipe = SEGMENTATION_RECIPE

    def __init__(self, num_classes, input_shape=(512, 512), aux=True, loss=None, class_weights=None,
                 sigmoid=False):
        """num_classes: K, background included.  aux: with the helper of P and that of D, the edges.
        loss, class_weights, sigmoid: see utils/losses.py, SegmentationLoss.
        """
        super().__init__()
        self.criterion = SegmentationLoss(num_classes, loss, class_weights, sigmoid)
        outputs = self.criterion.channels
        self.backbone = ThreeBranches()
        self.head = head(4 * C, 4 * C, outputs)
        self.aux, self.edges = None, None
        if aux:
            self.aux = head(2 * C, 4 * C, outputs)
            self.edges = head(2 * C, C, 1)
        init_kaiming(self)

        # Small answers at first, as in MMSegmentation: logits of hundreds are all rounding and no gradient.
        for part in (self.head, self.aux, self.edges):
            if part is not None:
                nn.init.normal_(part.classify.weight, std=0.01)

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> logits (B, K, H, W), losses."""
        x, detail, edges = self.backbone(normalise(images))                     # (B, 128, H/8, W/8), (B, 64, H/8, W/8), (B, 64, H/8, W/8)
        logits = enlarge(self.head(x), images)                                  # (B, K, H, W)
        losses = {} if targets is None else self.loss(logits, detail, edges, targets)           # () each
        return logits, losses

    def decode(self, logits):
        """logits -> scores (B, K, H, W) in 0-1."""
        scores = class_scores(logits)                                           # (B, K, H, W)
        return scores

    def loss(self, logits, detail, edges, targets):
        """logits: (B, K, H, W).  detail, edges: (B, 64, h, w), of the branches P and D.
        -> dict of weighted 0-d losses.
        """
        losses = self.criterion(logits, targets)                                # () each
        if self.aux is None:
            return losses
        aux = enlarge(self.aux(detail), logits)                                 # (B, K, H, W)
        losses |= self.criterion(aux, targets, weight=AUX_WEIGHT, prefix="aux_")                # () each

        # Whether an edge is near: yes or no at each pixel. Few are, so both answers together count the same.
        masks = torch.stack([target["mask"] for target in targets])             # (B, H, W)
        labelled, near = masks != IGNORED, near_edges(masks)                    # (B, H, W), (B, H, W)
        guess = enlarge(self.edges(edges), logits)[:, 0].float()                # (B, H, W)
        share = near.sum() / labelled.sum().clamp(min=1)                        # ()
        wrong = F.binary_cross_entropy_with_logits(guess, near.float(), reduction="none")       # (B, H, W)
        wrong = wrong * torch.where(near, 1 - share, share)                     # (B, H, W)
        losses["edges"] = EDGE_WEIGHT * mean_over(wrong, labelled, masks)       # ()

        # And what the classes are where an edge is sure.
        sure = guess.detach().sigmoid() > SURE                                  # (B, H, W)
        there = [{"mask": mask} for mask in masks.where(sure, IGNORED)]
        losses |= self.criterion(logits, there, prefix="edge_")                 # () each
        return losses                                                           # () each


# The names of MMSegmentation's files -> ours.
PIDNet.official_names = [
    (r"\.bn\.", ".norm."),
    (r"^decode_head\.conv_seg\.", "head.classify."),
    (r"^decode_head\.i_head\.", "head."),
    (r"^decode_head\.p_head\.", "aux."), (r"^decode_head\.p_cls_seg\.", "aux.classify."),
    (r"^decode_head\.d_head\.", "edges."), (r"^decode_head\.d_cls_seg\.", "edges.classify."),
]
