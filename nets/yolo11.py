"""YOLO11: YOLOv8 with blocks that are thinner inside, attention on the coarsest map, and cheaper class heads.

There is no paper of it. The network that Ultralytics publishes under this name has the outputs of this file;
none of that project's code (AGPL) was used. Its weights load after a conversion, see docs/en/yolo11.md.
Five sizes, at 80 classes: n 2,624,080 parameters, s 9,458,752, m 20,114,688, l 25,372,160, x 56,966,176.
The channels are times the width w of a size (n 1/4, s 1/2, m and l 1, x 3/2); of the 1024 m, l and x keep
512.
C1 ... C5 and P3 ... P5 are the channels of c1 ... c5 and of p3 ... p5.

    stage          layers                                           output
    backbone       conv 3x3/2                                         64w x H/2  x W/2  -> c1
                   conv 3x3/2, C3k2                                  256w x H/4  x W/4  -> c2
                   conv 3x3/2, C3k2                                  512w x H/8  x W/8  -> c3
                   conv 3x3/2, C3k2                                  512w x H/16 x W/16 -> c4
                   conv 3x3/2, C3k2, SPP, C2PSA                     1024w x H/32 x W/32 -> c5
    neck           down the pyramid, then up again, with C3k2        256w x H/8  x W/8  -> p3
                                                                     512w x H/16 x W/16 -> p4
                                                                    1024w x H/32 x W/32 -> p5
    head, each     conv 3x3, conv 3x3, conv 1x1 for the sides         64 x h x w: 4 sides, 16 numbers each
                   twice (depthwise 3x3, conv 1x1), conv 1x1          K x h x w

Kept of YOLOv8 (nets/yolov8.py): the stem, SPP, the box branch, `decode`, the assignment TAL, the losses.
New, each a block below:
* C3k2 is C2f whose inner blocks are thinner. Where it counts (coarse maps, or everywhere in m, l and x) the
  inner block is C3k: again a fork, of which one arm passes two bottlenecks.
* C2PSA, after SPP: attention. Every cell of the coarsest map asks all others what to take from them.
* The class branch mixes space and channels one after the other (MobileNet's idea, arXiv 1704.04861): the full
  3x3 convolutions there were a third of YOLOv8's small sizes.

What differs from the published training is what differs in nets/yolov8.py, and is said there.
"""
import functools
import math

import torch
import torch.nn.functional as F
from torch import nn

from nets.layers import conv_norm_act
from nets.yolov8 import BINS, FALL, LEAST_SIDE, SPP, Heads, YOLOv8, conv_silu
from utils.errors import NoWeights, UserError, did_you_mean

# blocks in a C3k2, width, most channels before the width, C3k everywhere
SIZES = {"n": (1, 0.25, 1024, False),
         "s": (1, 0.50, 1024, False),
         "m": (1, 1.00, 512, True),
         "l": (2, 1.00, 512, True),
         "x": (2, 1.50, 512, True)}
HEAD_CHANNELS = 64                                      # of one head of the attention
norm = functools.partial(nn.BatchNorm2d, eps=1e-3, momentum=0.03)


def depthwise_silu(channels):
    """A 3x3 in every channel by itself, BatchNorm, SiLU."""
    return conv_norm_act(channels, channels, 3, act=nn.SiLU(inplace=True), norm=norm, depthwise=True)


def conv_plain(c_in, c_out):
    """A 1x1 and its BatchNorm, no activation: what comes out is added, or compared, and may be negative."""
    return conv_norm_act(c_in, c_out, 1, act=nn.Identity(), norm=norm)


class Bottleneck(nn.Module):
    """Two 3x3 with `inner` channels between them; their input is added to what they make of it."""

    def __init__(self, channels, inner):
        super().__init__()
        self.conv1 = conv_silu(channels, inner, 3)
        self.conv2 = conv_silu(inner, channels, 3)

    def forward(self, x):
        """x: (B, C, h, w) -> (B, C, h, w)."""
        y = self.conv1(x)                                                       # (B, D, h, w)
        y = self.conv2(y)                                                       # (B, C, h, w)
        return x + y                                                            # (B, C, h, w)


class C3k(nn.Module):
    """A fork: half of the channels passes two bottlenecks, the other half goes around them."""

    def __init__(self, channels):
        super().__init__()
        half = channels // 2
        self.conv1 = conv_silu(channels, half, 1)
        self.conv2 = conv_silu(channels, half, 1)
        self.conv3 = conv_silu(2 * half, channels, 1)
        self.blocks = nn.Sequential(*(Bottleneck(half, half) for _ in range(2)))

    def forward(self, x):
        """x: (B, C, h, w) -> (B, C, h, w)."""
        through = self.conv1(x)                                                 # (B, C/2, h, w)
        through = self.blocks(through)                                          # (B, C/2, h, w)
        around = self.conv2(x)                                                  # (B, C/2, h, w)
        return self.conv3(torch.cat([through, around], 1))                      # (B, C, h, w)


class C3k2(nn.Module):
    """C2f with other blocks: D channels pass them, and what each says is joined with 2 D untouched ones."""

    def __init__(self, c_in, c_out, depth, forked, share=0.5):
        """depth: how many blocks.  forked: blocks are C3k, else bottlenecks.  share: of c_out that D has."""
        super().__init__()
        inner = int(c_out * share)
        self.split = conv_silu(c_in, 2 * inner, 1)
        self.merge = conv_silu((2 + depth) * inner, c_out, 1)
        self.blocks = nn.ModuleList(
            C3k(inner) if forked else Bottleneck(inner, inner // 2) for _ in range(depth))

    def forward(self, x):
        """x: (B, c_in, h, w) -> (B, c_out, h, w)."""
        x = self.split(x)                                                       # (B, 2*D, h, w)
        part = x.chunk(2, dim=1)[1]                                             # (B, D, h, w)
        parts = [x]
        for block in self.blocks:
            part = block(part)                                                  # (B, D, h, w)
            parts.append(part)
        return self.merge(torch.cat(parts, 1))                                  # (B, C, h, w)


class Attention(nn.Module):
    """Every cell asks all cells of the map: the attention of nets/segformer.py, without shrinking the map.

    A token is a cell of the map, T = h w. A head has D = 64 channels of the value, but compares 32 of them.
    """

    def __init__(self, channels):
        super().__init__()
        self.heads = max(channels // HEAD_CHANNELS, 1)
        self.size = channels // self.heads
        self.compared = self.size // 2
        self.qkv = conv_plain(channels, channels + 2 * self.heads * self.compared)
        self.proj = conv_plain(channels, channels)
        self.place = conv_norm_act(channels, channels, 3, act=nn.Identity(), norm=norm, depthwise=True)

    def forward(self, x):
        """x: (B, C, h, w) -> (B, C, h, w)."""
        # Query, key and value of all heads come from one 1x1; a head's three lie side by side.
        qkv = self.qkv(x).unflatten(1, (self.heads, -1)).flatten(3)             # (B, A, 2*D, T)
        query, key, value = qkv.split([self.compared, self.compared, self.size], 2)             # (B, A, D/2, T), (B, A, D/2, T), (B, A, D, T)

        # For each cell a softmax over the cells that it asks: shares that sum to 1, taken of their values.
        taken = F.scaled_dot_product_attention(query.mT, key.mT, value.mT)      # (B, A, T, D)
        taken = taken.mT.flatten(1, 2).unflatten(2, x.shape[2:])                # (B, C, h, w)

        # Attention does not know where a cell lies; a 3x3 over the values says what is beside it.
        values = value.flatten(1, 2).unflatten(2, x.shape[2:])                  # (B, C, h, w)
        return self.proj(taken + self.place(values))                            # (B, C, h, w)


class AttentionBlock(nn.Module):
    """Attention between the cells, then two 1x1 within each cell; both add to what is there."""

    def __init__(self, channels):
        super().__init__()
        self.attention = Attention(channels)
        self.ffn = nn.Sequential(conv_silu(channels, 2 * channels, 1), conv_plain(2 * channels, channels))

    def forward(self, x):
        """x: (B, C, h, w) -> (B, C, h, w)."""
        x = x + self.attention(x)                                               # (B, C, h, w)
        return x + self.ffn(x)                                                  # (B, C, h, w)


class C2PSA(nn.Module):
    """A fork: half of the channels passes the attention, the other half goes around it."""

    def __init__(self, channels, depth):
        super().__init__()
        self.split = conv_silu(channels, channels, 1)
        self.merge = conv_silu(channels, channels, 1)
        self.blocks = nn.Sequential(*(AttentionBlock(channels // 2) for _ in range(depth)))

    def forward(self, x):
        """x: (B, C, h, w) -> (B, C, h, w)."""
        around, through = self.split(x).chunk(2, 1)                             # (B, C/2, h, w), (B, C/2, h, w)
        through = self.blocks(through)                                          # (B, C/2, h, w)
        return self.merge(torch.cat([around, through], 1))                      # (B, C, h, w)


class Backbone(nn.Module):
    """Five times half the size; the fine stages are thin inside, the coarse ones forked."""

    def __init__(self, channels, depth, forked):
        """channels: of the stem, of the first convolution and the end of stage 2 and 3, C4, C5.
        depth: blocks in a C3k2.
        """
        super().__init__()
        c1, first2, c2, first3, c3, c4, c5 = channels
        self.stem = conv_silu(3, c1, 3, stride=2)
        self.stage2 = nn.Sequential(conv_silu(c1, first2, 3, stride=2),
                                    C3k2(first2, c2, depth, forked, 0.25))
        self.stage3 = nn.Sequential(conv_silu(c2, first3, 3, stride=2),
                                    C3k2(first3, c3, depth, forked, 0.25))
        self.stage4 = nn.Sequential(conv_silu(c3, c4, 3, stride=2), C3k2(c4, c4, depth, True))
        self.stage5 = nn.Sequential(conv_silu(c4, c5, 3, stride=2), C3k2(c5, c5, depth, True),
                                    SPP(c5), C2PSA(c5, depth))

    def forward(self, images):
        c1 = self.stem(images)                                                  # (B, C1, H/2, W/2)
        c2 = self.stage2(c1)                                                    # (B, C2, H/4, W/4)
        c3 = self.stage3(c2)                                                    # (B, C3, H/8, W/8)
        c4 = self.stage4(c3)                                                    # (B, C4, H/16, W/16)
        c5 = self.stage5(c4)                                                    # (B, C5, H/32, W/32)
        return c3, c4, c5


class Neck(nn.Module):
    """The way of YOLOv8's neck: down the pyramid what is seen, up again where it is. With C3k2."""

    def __init__(self, channels, levels, depth, forked):
        """channels: C3, C4, C5.  levels: P3, P4, P5.  depth: blocks in a C3k2."""
        super().__init__()
        (c3, c4, c5), (p3, p4, p5) = channels, levels
        self.down4 = C3k2(c5 + c4, p4, depth, forked)
        self.down3 = C3k2(p4 + c3, p3, depth, forked)
        self.shrink3 = conv_silu(p3, p3, 3, stride=2)
        self.up4 = C3k2(p3 + p4, p4, depth, forked)
        self.shrink4 = conv_silu(p4, p4, 3, stride=2)
        self.up5 = C3k2(p4 + c5, p5, depth, True)

    def forward(self, c3, c4, c5):
        # Down: a coarse map knows what there is; enlarged, it tells the next finer one.
        large5 = F.interpolate(c5, scale_factor=2.0)                            # (B, C5, H/16, W/16)
        m4 = self.down4(torch.cat([large5, c4], 1))                             # (B, P4, H/16, W/16)
        large4 = F.interpolate(m4, scale_factor=2.0)                            # (B, P4, H/8, W/8)
        p3 = self.down3(torch.cat([large4, c3], 1))                             # (B, P3, H/8, W/8)

        # Up again: a fine map knows where it is; halved, it tells the next coarser one.
        small3 = self.shrink3(p3)                                               # (B, P3, H/16, W/16)
        p4 = self.up4(torch.cat([small3, m4], 1))                               # (B, P4, H/16, W/16)
        small4 = self.shrink4(p4)                                               # (B, P4, H/32, W/32)
        p5 = self.up5(torch.cat([small4, c5], 1))                               # (B, P5, H/32, W/32)
        return p3, p4, p5


class ClassHeads(nn.ModuleList):
    """What is it, at every level: twice a 3x3 that mixes no channels and a 1x1 that mixes nothing else."""

    def __init__(self, channels, width, outputs):
        """channels: P3, P4, P5.  width: channels between the convolutions.  outputs: K."""
        super().__init__(
            nn.Sequential(nn.Sequential(depthwise_silu(c), conv_silu(c, width, 1)),
                          nn.Sequential(depthwise_silu(width), conv_silu(width, width, 1)),
                          nn.Conv2d(width, outputs, 1))
            for c in channels)

    def forward(self, maps):
        """maps: p3, p4, p5 -> as many maps, (B, K, h, w) each."""
        return [head(x) for head, x in zip(self, maps)]                         # (B, K, H/8, W/8), (B, K, H/16, W/16), (B, K, H/32, W/32)


class YOLO11(YOLOv8):
    def __init__(self, num_classes, input_shape=(640, 640), pretrained=False, size="n",
                 least_side=LEAST_SIDE, fall=FALL):
        """num_classes: K, foreground classes.  pretrained: must be False, no plain tensors can be fetched.
        size: "n", "s", "m", "l" or "x".  least_side, fall: as in nets/yolov8.py.
        """
        nn.Module.__init__(self)
        if size not in SIZES:
            raise UserError(f'yolo11 has no size "{size}".{did_you_mean(str(size), SIZES)} '
                            f'It has {", ".join(SIZES)}.')
        if pretrained:
            raise NoWeights("The official weights of yolo11 are no plain tensors: convert them "
                            "(docs/en/yolo11.md) and give them as model_path. "
                            "Those of yolov4_tiny and yolox can be fetched: net=yolov4_tiny.")
        self.num_classes, self.least_side = num_classes, least_side

        # What a size means: channels, rounded up to whole eights; the depth; where the blocks are forked.
        depth, width, most, forked = SIZES[size]
        channels = [math.ceil(min(c, most) * width / 8) * 8 for c in (64, 128, 256, 256, 512, 512, 1024)]
        levels = [channels[2], *channels[5:]]

        # The parts, registered in the order of the official files.
        self.backbone = Backbone(channels, depth, forked)
        self.neck = Neck(channels[4:], levels, depth, forked)
        self.side_heads = Heads(levels, max(levels[0] // 4, 4 * BINS), 4 * BINS)
        self.class_heads = ClassHeads(levels, max(levels[0], min(num_classes, 100)), num_classes)
        self.begin(fall)


# The tensors' names in the converted files -> ours; there a layer is its place in the list of layers.
YOLO11.official_names = [
    (r"^(model\.)+0\.", "backbone.stem."),
    (r"^(model\.)+(9|10)\.", lambda found: f"backbone.stage5.{int(found[2]) - 7}."),
    (r"^(model\.)+([1-8])\.",
     lambda found: f"backbone.stage{(int(found[2]) + 3) // 2}.{(int(found[2]) + 1) % 2}."),
    (r"^(model\.)+13\.", "neck.down4."), (r"^(model\.)+16\.", "neck.down3."),
    (r"^(model\.)+17\.", "neck.shrink3."), (r"^(model\.)+19\.", "neck.up4."),
    (r"^(model\.)+20\.", "neck.shrink4."), (r"^(model\.)+22\.", "neck.up5."),
    (r"^(model\.)+23\.cv2\.", "side_heads."), (r"^(model\.)+23\.cv3\.", "class_heads."),
    (r"^(model\.)+23\.dfl\.conv\.", "mean."),
    (r"\.m\.(\d+)\.m\.(\d+)\.cv", r".blocks.\1.blocks.\2.conv"), (r"\.m\.(\d+)\.cv", r".blocks.\1.conv"),
    (r"\.m\.(\d+)\.attn\.", r".blocks.\1.attention."), (r"\.m\.(\d+)\.ffn\.", r".blocks.\1.ffn."),
    (r"\.pe\.", ".place."), (r"(stage5\.2)\.cv", r"\1.conv"),
    (r"\.cv1\.", ".split."), (r"\.cv2\.", ".merge."), (r"\.bn\.", ".norm."),
]
