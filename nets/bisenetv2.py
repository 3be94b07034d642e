"""BiSeNetV2: two branches, one wide and shallow for outlines, one narrow and deep for meaning; made to
segment a camera's pictures as they come.

Paper: BiSeNet V2: Bilateral Network with Guided Aggregation, arXiv 2004.02147. The layers are those of
MMSegmentation 1.2.2: 14,804,255 parameters at 19 classes, of which 11,445,372 are helpers that only training
needs; its files load.

    branch      layers                                                           output
    detail      conv 3x3/2, conv | conv/2, 2 conv | conv/2, 2 conv               128 x H/8 x W/8
    semantic    stem: conv 3x3/2, then two ways side by side (1x1, 3x3/2;        16 x H/4 x W/4    -> helper 1
                max-pool 3x3/2), conv 3x3
                2 gather-and-expand blocks                                       32 x H/8 x W/8    -> helper 2
                2 gather-and-expand blocks                                       64 x H/16 x W/16  -> helper 3
                4 gather-and-expand blocks                                       128 x H/32 x W/32 -> helper 4
                context: the mean of the image is added to every cell, conv      128 x H/32 x W/32
    guide       each branch decides how much the other one counts, at both       128 x H/8 x W/8
                sizes; their sum, conv 3x3
    head        conv 3x3 to 1024, dropout 0.1, conv 1x1                          K x H/8 x W/8, then K x H x W
    helpers     two conv 3x3 to 16, 64, 256, 1024, conv 1x1; in training         K x H x W

A detail is local: a few layers at H/8 x W/8 see enough of it, but need many channels. What a thing is takes
the whole picture: many layers, which are cheap at H/32 x W/32. So neither branch does the work of the other.

What differs from the paper, and why (so that MMSegmentation's files fit):
1. Behind the last depthwise convolution of a block is a ReLU, which figure 5 does not draw.
2. The mean of the image passes through a BatchNorm: one image alone has one value per channel there, and
   takes the running statistics (PooledBatchNorm).
"""
from collections import OrderedDict

import torch
from torch import nn

from nets.backbones.resnet import init_kaiming
from nets.layers import SEGMENTATION_RECIPE, Depthwise, PooledBatchNorm, conv_norm_act, enlarge, normalise
from utils.losses import SegmentationLoss, class_scores

DETAIL = ((64, 64), (64, 64, 64), (128, 128, 128))      # channels; the first of each has a stride of 2
STEM = 16
SEMANTIC = ((32, 2), (64, 2), (128, 4))                 # channels and blocks
EXPAND = 6                                              # a block's middle is so many times wider
HEAD, HELPERS = 1024, (16, 64, 256, 1024)               # the width of what stands before the last convolution


def conv(c_in, c_out, kernel=3, stride=1, relu=True, norm=nn.BatchNorm2d):
    act = nn.ReLU(inplace=True) if relu else nn.Identity()
    return conv_norm_act(c_in, c_out, kernel, stride, act, norm)


def depthwise(channels, stride=1, times=1, relu=False):
    act = nn.ReLU(inplace=True) if relu else nn.Identity()
    layer = Depthwise(channels, stride=stride, times=times)
    return nn.Sequential(OrderedDict(conv=layer, norm=nn.BatchNorm2d(times * channels), act=act))


class Stem(nn.Module):
    """Two ways to halve a map, side by side: convolve, or keep the largest (figure 4a)."""

    def __init__(self):
        super().__init__()
        self.first = conv(3, STEM, stride=2)
        self.convs = nn.Sequential(conv(STEM, STEM // 2, 1), conv(STEM // 2, STEM, stride=2))
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        self.join = conv(2 * STEM, STEM)

    def forward(self, x):
        """x: (B, 3, H, W) -> (B, 16, H/4, W/4)."""
        x = self.first(x)                                                       # (B, 16, H/2, W/2)
        both = torch.cat([self.convs(x), self.pool(x)], 1)                      # (B, 32, H/4, W/4)
        return self.join(both)                                                  # (B, 16, H/4, W/4)


class GatherExpand(nn.Module):
    """A 3x3 gathers what lies around, a depthwise one works on six times as many channels, a 1x1 comes back;
    the input is added (figure 5).
    """

    def __init__(self, c_in, c_out, stride):
        super().__init__()
        wide = EXPAND * c_in
        self.gather = conv(c_in, c_in)
        self.narrow = conv(wide, c_out, 1, relu=False)
        self.relu = nn.ReLU(inplace=True)
        if stride == 1:
            self.expand = nn.Sequential(depthwise(c_in, times=EXPAND, relu=True))
            self.shortcut = nn.Identity()
        else:
            self.expand = nn.Sequential(depthwise(c_in, stride, EXPAND), depthwise(wide, relu=True))
            self.shortcut = nn.Sequential(depthwise(c_in, stride), conv(c_in, c_out, 1, relu=False))

    def forward(self, x):
        """x: (B, C, m, n) -> (B, D, h, w), with h = m / stride."""
        y = self.gather(x)                                                      # (B, C, m, n)
        y = self.narrow(self.expand(y))                                         # (B, D, h, w)
        return self.relu(y + self.shortcut(x))                                  # (B, D, h, w)


class Context(nn.Module):
    """What the whole image looks like is added to every cell (figure 4b)."""

    def __init__(self, channels):
        super().__init__()
        self.norm = PooledBatchNorm(channels)
        self.mean = conv(channels, channels, 1, norm=PooledBatchNorm)
        self.last = conv(channels, channels)

    def forward(self, x):
        """x: (B, C, h, w) -> (B, C, h, w)."""
        mean = self.norm(x.mean((2, 3), keepdim=True))                          # (B, C, 1, 1)
        return self.last(x + self.mean(mean))                                   # (B, C, h, w)


class Guide(nn.Module):
    """Each branch at the size of the other, and a sigmoid of the other's says how much of it counts
    (figure 6).
    """

    def __init__(self, channels):
        super().__init__()
        self.detail_fine = nn.Sequential(depthwise(channels), nn.Conv2d(channels, channels, 1))
        self.detail_coarse = nn.Sequential(
            conv(channels, channels, stride=2, relu=False), nn.AvgPool2d(3, 2, padding=1))
        self.semantic_fine = conv(channels, channels, relu=False)
        self.semantic_coarse = nn.Sequential(depthwise(channels), nn.Conv2d(channels, channels, 1))
        self.join = conv(channels, channels)

    def forward(self, detail, semantic):
        """detail: (B, C, h, w), semantic: (B, C, h/4, w/4) -> (B, C, h, w)."""
        fine = self.detail_fine(detail)                                         # (B, C, h, w)
        fine = fine * enlarge(self.semantic_fine(semantic), fine).sigmoid()     # (B, C, h, w)
        coarse = self.semantic_coarse(semantic).sigmoid()                       # (B, C, m, n)
        coarse = coarse * self.detail_coarse(detail)                            # (B, C, m, n)
        return self.join(fine + enlarge(coarse, fine))                          # (B, C, h, w)


class TwoBranches(nn.Module):
    """The backbone: both branches, and what brings them together."""

    def __init__(self):
        super().__init__()
        self.detail, c_in = nn.Sequential(), 3
        for widths in DETAIL:
            stage = nn.Sequential()
            for number, width in enumerate(widths):
                stage.append(conv(c_in, width, stride=1 if number else 2))
                c_in = width
            self.detail.append(stage)

        # The semantic branch: a stem, three stages, and the view of the whole.
        self.stem, self.stages, c_in = Stem(), nn.ModuleList(), STEM
        for width, count in SEMANTIC:
            blocks = [GatherExpand(c_in, width, 2)]
            blocks += [GatherExpand(width, width, 1) for _ in range(count - 1)]
            self.stages.append(nn.Sequential(*blocks))
            c_in = width
        self.context = Context(c_in)
        self.guide = Guide(c_in)

    def forward(self, images):
        """images: (B, 3, H, W), normalised -> (B, 128, H/8, W/8), and four maps of the semantic branch."""
        detail = self.detail(images)                                            # (B, 128, H/8, W/8)
        maps = [self.stem(images)]                                              # (B, 16, H/4, W/4)
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        semantic = self.context(maps[-1])                                       # (B, 128, H/32, W/32)
        return self.guide(detail, semantic), *maps                              # (B, C, m, n) each


class Head(nn.Module):
    def __init__(self, c_in, width, outputs, count=1):
        """count: of 3x3 convolutions."""
        super().__init__()
        self.convs = nn.Sequential(*[conv(width if i else c_in, width) for i in range(count)])
        self.dropout = nn.Dropout2d(0.1)
        self.classify = nn.Conv2d(width, outputs, 1)

    def forward(self, x):
        """x: (B, C, h, w) -> logits (B, K, h, w)."""
        x = self.dropout(self.convs(x))                                         # (B, D, h, w)
        return self.classify(x)                                                 # (B, K, h, w)


class BiSeNetV2(nn.Module):
    task = "segmentation"
    stride = 32
    official = {"classes": "cityscapes", "input_shape": (1024, 2048)}
    recipe = SEGMENTATION_RECIPE

    def __init__(self, num_classes, input_shape=(512, 512), aux=True, loss=None, class_weights=None,
                 sigmoid=False):
        """num_classes: K, background included.  aux: with the helper heads.
        loss, class_weights, sigmoid: see utils/losses.py, SegmentationLoss.
        """
        super().__init__()
        self.criterion = SegmentationLoss(num_classes, loss, class_weights, sigmoid)
        outputs = self.criterion.channels
        self.backbone = TwoBranches()
        self.head = Head(DETAIL[-1][-1], HEAD, outputs)
        self.aux = None
        if aux:
            channels = (STEM, *[width for width, _ in SEMANTIC])
            self.aux = nn.ModuleList(Head(c, width, outputs, 2) for c, width in zip(channels, HELPERS))
        init_kaiming(self)

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> logits (B, K, H, W), losses."""
        maps = self.backbone(normalise(images))                                 # (B, C, m, n) each
        logits = enlarge(self.head(maps[0]), images)                            # (B, K, H, W)
        losses = {} if targets is None else self.loss(logits, maps[1:], targets)                # () each
        return logits, losses

    def decode(self, logits):
        """logits -> scores (B, K, H, W) in 0-1."""
        scores = class_scores(logits)                                           # (B, K, H, W)
        return scores

    def loss(self, logits, maps, targets):
        """logits: (B, K, H, W).  maps: (B, C, m, n) each, of the semantic branch.
        -> dict of weighted 0-d losses.

        The helpers count as much as the head itself; what is shown is their sum.
        """
        losses = self.criterion(logits, targets)                                # () each
        for x, head in zip(maps, self.aux or []):
            aux = enlarge(head(x), logits)                                      # (B, K, H, W)
            for name, value in self.criterion(aux, targets, prefix="aux_").items():
                losses[name] = losses.get(name, 0) + value                      # ()
        return losses                                                           # () each


# The names of MMSegmentation's files -> ours.
BiSeNetV2.official_names = [
    (r"\.bn\.", ".norm."),
    (r"^backbone\.detail\.detail_branch\.", "backbone.detail."),
    (r"^backbone\.semantic\.stage1\.conv_first\.", "backbone.stem.first."),
    (r"^backbone\.semantic\.stage1\.fuse_last\.", "backbone.stem.join."),
    (r"^backbone\.semantic\.stage1\.", "backbone.stem."),
    (r"^backbone\.semantic\.stage(\d)\.",
     lambda stage: f"backbone.stages.{int(stage[1]) - 2}."),
    (r"^backbone\.semantic\.stage4_CEBlock\.gap\.1\.", "backbone.context.norm."),
    (r"^backbone\.semantic\.stage4_CEBlock\.conv_gap\.", "backbone.context.mean."),
    (r"^backbone\.semantic\.stage4_CEBlock\.conv_last\.", "backbone.context.last."),
    # the blocks of the semantic branch
    (r"\.conv1\.", ".gather."), (r"\.dwconv\.", ".expand."), (r"\.conv2\.0\.", ".narrow."),
    (r"\.shortcut\.0\.depthwise_conv\.", ".shortcut.0."),
    (r"\.shortcut\.0\.pointwise_conv\.", ".shortcut.1."),
    # what brings both together
    (r"^backbone\.bga\.detail_dwconv\.", "backbone.guide.detail_fine."),
    (r"^backbone\.bga\.detail_down\.", "backbone.guide.detail_coarse."),
    (r"^backbone\.bga\.semantic_conv\.0\.", "backbone.guide.semantic_fine."),
    (r"^backbone\.bga\.semantic_dwconv\.", "backbone.guide.semantic_coarse."),
    (r"^backbone\.bga\.conv\.", "backbone.guide.join."),
    (r"^(backbone\.guide\.\w+)\.0\.depthwise_conv\.", r"\1.0."),
    (r"^(backbone\.guide\.\w+)\.0\.pointwise_conv\.conv\.", r"\1.1."),
    # the heads
    (r"^decode_head\.", "head."), (r"^auxiliary_head\.", "aux."), (r"\.conv_seg\.", ".classify."),
]
