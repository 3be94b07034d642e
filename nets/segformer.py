"""SegFormer: the backbone is a transformer, in which a cell may listen to any other cell of the map, and the
head is little more than four linear layers.

Paper: SegFormer: Simple and Efficient Design for Semantic Segmentation with Transformers, arXiv 2105.15203.
The layers are the authors': 3,719,541 parameters (B0, 21 classes) to 84,609,493 (B5), and their files load.

    stage     a token for   tokens of     D, numbers a     heads  keys and values    blocks               map
                            512 x 512     token: B0; else         from a cell of     B0 B1 B2 B3 B4 B5
    stages.0  4 x 4 px      128 x 128      32;  64         1      8 x 8 tokens        2  2  3  3  3  3    c2
    stages.1  8 x 8 px       64 x 64       64; 128         2      4 x 4 tokens        2  2  4  4  8  6    c3
    stages.2  16 x 16 px     32 x 32      160; 320         5      2 x 2 tokens        2  2  6 18 27 40    c4
    stages.3  32 x 32 px     16 x 16      256; 512         8      1 token             2  2  3  3  3  3    c5
    head      c2 ... c5, each by a linear layer to 256 channels (B2-B5: 768), enlarged to H/4 x W/4, mixed by
              a 1x1; conv 1x1 to K x H/4 x W/4, enlarged to H x W

Attention, from the beginning. A convolution looks at the cells next to it, always with the same weights.
Attention looks at all cells, and finds the weights in what the cells hold:
* The map is written as a list, row by row: T = h * w *tokens*, each a row of D numbers. (B, D, h, w) is now
  (B, T, D).
* Three linear layers make three rows out of each token: the query (what it looks for), the key (what it can
  be found by) and the value (what it has to say).
* The product of a query with a key is one number: how well that key answers that query. A softmax over all
  keys turns these numbers, for each query, into shares that add up to 1.
* What a token gets is the sum of all values in these shares. Where a share is nearly 1, it is a copy; where
  all are alike, it is the mean of the map.
* The D numbers are cut into `heads` pieces, and each piece does all this by itself: a token may look for
  several things at once.
docs/en/segformer.md works it out for two tokens, with a pencil.

Every token asking every other is T * T products: 16,384 * 16,384 in stages.0, far too many. So there the
queries remain, but keys and values are made of a smaller map (section 3.1, "efficient self-attention").

What differs from the paper, and why:
1. The head mixes every map before it enlarges it. The paper enlarges and joins them first. Both are sums with
   fixed weights, so the order is free, and this one costs a quarter.
2. Dropout in the head, the linear layers' start values and the eps of the LayerNorms are those of the
   authors' code; the paper does not say.
"""
import torch
import torch.nn.functional as F
from torch import nn

from nets.layers import SEGMENTATION_RECIPE, Depthwise, enlarge, normalise
from utils.errors import NoWeights, UserError, did_you_mean
from utils.losses import SegmentationLoss, class_scores

# Table 6: widths D of the four stages, blocks of each, channels of the head.
NARROW, WIDE = (32, 64, 160, 256), (64, 128, 320, 512)
SIZES = {"b0": (NARROW, (2, 2, 2, 2), 256),
         "b1": (WIDE, (2, 2, 2, 2), 256),
         "b2": (WIDE, (3, 4, 6, 3), 768),
         "b3": (WIDE, (3, 4, 18, 3), 768),
         "b4": (WIDE, (3, 8, 27, 3), 768),
         "b5": (WIDE, (3, 6, 40, 3), 768)}
HEADS = (1, 2, 5, 8)                                    # of the four stages: 32 or 64 numbers a head
REDUCTIONS = (8, 4, 2, 1)                               # a key for so many cells across and down
WIDER = 4                                               # times D: the middle of an MLP
EPS = 1e-6                                              # of the LayerNorms of blocks and stages; others 1e-5


def to_tokens(x):
    """A map as a list of its cells, row by row. (B, D, h, w) -> (B, h*w, D)."""
    return x.flatten(2).transpose(1, 2)                                         # (B, T, D)


def to_map(x, h, w):
    """The list as a map again. (B, h*w, D) -> (B, D, h, w)."""
    return x.transpose(1, 2).unflatten(2, (h, w))                               # (B, D, h, w)


class Attention(nn.Module):
    """Each token gets the values of the tokens whose keys answer its query (section 3.1)."""

    def __init__(self, width, heads, reduction):
        """width: D.  reduction: keys and values come from a map so many times smaller, each way."""
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

        # reduction x reduction cells become one; at 1 there is nothing to do.
        self.reduce, self.norm = None, None
        if reduction > 1:
            self.reduce = nn.Conv2d(width, width, reduction, stride=reduction)
            self.norm = nn.LayerNorm(width)

    def forward(self, x, h, w):
        """x: (B, T, D), the tokens of a map of h x w cells -> (B, T, D)."""
        # Who may be listened to: all tokens, or S of a smaller map.
        others = x                                                              # (B, T, D)
        if self.reduce is not None:
            smaller = self.reduce(to_map(x, h, w))                              # (B, D, m, n)
            others = self.norm(to_tokens(smaller))                              # (B, m*n, D)

        # What each token looks for, is found by, has to say; a piece of the D numbers for each head.
        heads = self.heads
        q = self.query(x).unflatten(2, (heads, -1)).transpose(1, 2)             # (B, heads, T, D//heads)
        k = self.key(others).unflatten(2, (heads, -1)).transpose(1, 2)          # (B, heads, S, D//heads)
        v = self.value(others).unflatten(2, (heads, -1)).transpose(1, 2)        # (B, heads, S, D//heads)

        # softmax(q k^T / sqrt(D/heads)) v: the shares are (B, heads, T, S), and PyTorch never writes them
        # down as a whole. The root keeps the products near 1, where a softmax is not yet all or nothing.
        heard = F.scaled_dot_product_attention(q, k, v)                         # (B, heads, T, D//heads)

        # The pieces side by side again; one more linear layer, for the heads know nothing of each other.
        heard = heard.transpose(1, 2).flatten(2)                                # (B, T, D)
        return self.out(heard)                                                  # (B, T, D)


class MixFFN(nn.Module):
    """Each token thinks for itself: D numbers, 4D, D. In between it glances at its eight neighbours.

    Attention does not know where a token is: a shuffled map would give the shuffled result. Other
    transformers add numbers for the position, which fit one input size only. Here the padding of the 3x3 does
    it: at the edge it meets zeros, and layer by layer the news spreads (section 3.1).
    """

    def __init__(self, width):
        super().__init__()
        self.widen = nn.Linear(width, WIDER * width)
        self.depthwise = Depthwise(WIDER * width, bias=True)
        self.narrow = nn.Linear(WIDER * width, width)

    def forward(self, x, h, w):
        """x: (B, T, D) of h x w cells -> (B, T, D)."""
        x = self.widen(x)                                                       # (B, T, 4*D)
        x = self.depthwise(to_map(x, h, w))                                     # (B, 4*D, h, w)
        x = F.gelu(to_tokens(x))                                                # (B, T, 4*D)
        return self.narrow(x)                                                   # (B, T, D)


class DropPath(nn.Module):
    """In training a block's contribution is left out for some pictures, drawn anew each time: no block comes
    to rely on the one before. What remains counts more, so that the mean is the same (arXiv 1603.09382).
    """

    def __init__(self, chance):
        """chance: of being left out, 0-1."""
        super().__init__()
        self.chance = chance

    def forward(self, x):
        """x: (B, T, D) -> (B, T, D)."""
        if not self.training or self.chance == 0:
            return x                                                            # (B, T, D)
        stays = torch.rand(len(x), 1, 1, device=x.device) >= self.chance        # (B, 1, 1)
        return x * stays / (1 - self.chance)                                    # (B, T, D)


class Block(nn.Module):
    """Listen to others, then think: both only add to what the token holds already."""

    def __init__(self, width, heads, reduction, drop):
        """drop: chance of leaving out each half."""
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        self.attention = Attention(width, heads, reduction)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        self.mlp = MixFFN(width)
        self.drop = DropPath(drop)

    def forward(self, x, h, w):
        """x: (B, T, D) of h x w cells -> (B, T, D)."""
        x = x + self.drop(self.attention(self.norm1(x), h, w))                  # (B, T, D)
        x = x + self.drop(self.mlp(self.norm2(x), h, w))                        # (B, T, D)
        return x


class Stage(nn.Module):
    """A map becomes tokens, these pass through the blocks, and become a map again."""

    def __init__(self, c_in, width, kernel, stride, heads, reduction, drops):
        """drops: for every block its chance of being left out."""
        super().__init__()
        # The patches overlap: the kernel is wider than the stride, so no outline falls between two patches.
        self.embed = nn.Conv2d(c_in, width, kernel, stride, padding=kernel // 2)
        self.embed_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, heads, reduction, drop) for drop in drops)
        self.norm = nn.LayerNorm(width, eps=EPS)

    def forward(self, x):
        """x: (B, C, m, n) -> (B, D, h, w), with h = m / stride."""
        x = self.embed(x)                                                       # (B, D, h, w)
        h, w = x.shape[2:]
        x = self.embed_norm(to_tokens(x))                                       # (B, h*w, D)
        for block in self.blocks:
            x = block(x, h, w)                                                  # (B, h*w, D)
        return to_map(self.norm(x), h, w)                                       # (B, D, h, w)


class MixTransformer(nn.Module):
    """The backbone, "MiT": four stages, each with fewer and wider tokens (section 3.1)."""

    def __init__(self, channels, counts, drop_path):
        """channels: D of each stage.  counts: blocks of each.  drop_path: chance of the last block."""
        super().__init__()
        self.channels = channels

        # The first blocks are hardly ever left out, the last one most often.
        drops = torch.linspace(0, drop_path, sum(counts), device="cpu").tolist()
        stages, c_in = [], 3
        for stage, (width, count) in enumerate(zip(channels, counts)):
            kernel, stride = (3, 2) if stage else (7, 4)
            own, drops = drops[:count], drops[count:]
            stages.append(Stage(c_in, width, kernel, stride, HEADS[stage], REDUCTIONS[stage], own))
            c_in = width
        self.stages = nn.ModuleList(stages)

    def forward(self, images):
        """images: (B, 3, H, W), normalised -> c2, c3, c4, c5."""
        c2 = self.stages[0](images)                                             # (B, C2, H/4, W/4)
        c3 = self.stages[1](c2)                                                 # (B, C3, H/8, W/8)
        c4 = self.stages[2](c3)                                                 # (B, C4, H/16, W/16)
        c5 = self.stages[3](c4)                                                 # (B, C5, H/32, W/32)
        return c2, c3, c4, c5


class Head(nn.Module):
    """The four maps become one: no window, no pyramid, for the transformer has seen the whole picture."""

    def __init__(self, channels, width, outputs):
        """channels: of c2 ... c5.  outputs: of the logits."""
        super().__init__()
        self.unify = nn.ModuleList(nn.Linear(c_in, width) for c_in in channels)
        self.mix = nn.ModuleList(nn.Conv2d(width, width, 1, bias=False) for _ in channels)
        self.norm = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(0.1)
        self.classify = nn.Conv2d(width, outputs, 1)

    def forward(self, maps):
        """maps: c2, c3, c4, c5 -> logits (B, K, h, w), the size of c2."""
        mixed = 0
        for x, unify, mix in zip(maps, self.unify, self.mix):
            m, n = x.shape[2:]
            x = to_map(unify(to_tokens(x)), m, n)                               # (B, D, m, n)
            mixed = mixed + enlarge(mix(x), maps[0])                            # (B, D, h, w)

        # What each cell is.
        mixed = F.relu(self.norm(mixed))                                        # (B, D, h, w)
        return self.classify(self.dropout(mixed))                               # (B, K, h, w)


class SegFormer(nn.Module):
    task = "segmentation"
    stride = 32
    official = {"classes": "cityscapes", "input_shape": (1024, 2048)}
    # The paper's learning rates (section 4.1: 6e-5 at 16 pictures a step, the head ten times that).
    recipe = SEGMENTATION_RECIPE | {"lr": 0.0012}

    def __init__(self, num_classes, input_shape=(512, 512), pretrained=False, size="b0", drop_path=0.1,
                 loss=None, class_weights=None, sigmoid=False):
        """num_classes: K, background included.  size: "b0" ... "b5".
        pretrained: True is an error, see NO_FILE; the authors' files are given as model_path.
        drop_path: how often, in training, the last block is left out.
        loss, class_weights, sigmoid: see utils/losses.py, SegmentationLoss.
        """
        super().__init__()
        if size not in SIZES:
            raise UserError(f'There is no SegFormer "{size}".{did_you_mean(size, SIZES)} '
                            f'Known: {", ".join(SIZES)}.')
        if not 0 <= drop_path < 1:
            raise UserError(f"drop_path={drop_path}: expected a share, 0 or more and below 1.")
        if pretrained:
            raise NoWeights(NO_FILE.format(size=size))
        self.criterion = SegmentationLoss(num_classes, loss, class_weights, sigmoid)
        channels, counts, width = SIZES[size]
        self.backbone = MixTransformer(channels, counts, drop_path)
        self.head = Head(channels, width, self.criterion.channels)
        init_weights(self)

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> logits (B, K, H, W), losses."""
        x = normalise(images)                                                   # (B, 3, H, W)
        maps = self.backbone(x)                                                 # (B, C, h, w) each: c2, c3, c4, c5
        logits = self.head(maps)                                                # (B, K, H/4, W/4)
        logits = enlarge(logits, images)                                        # (B, K, H, W)
        losses = {} if targets is None else self.criterion(logits, targets)     # () each
        return logits, losses

    def decode(self, logits):
        """logits -> scores (B, K, H, W) in 0-1."""
        scores = class_scores(logits)                                           # (B, K, H, W)
        return scores


NO_FILE = ("The authors' weights of SegFormer are for non-commercial use only, so they are not downloaded. "
           "If that suits you, put pytorch_model.bin of https://huggingface.co/nvidia/mit-{size} into "
           "model_data and give it as model_path; else set pretrained=False.")


def init_weights(module):
    """Start values of the authors' code, in place; those of LayerNorm and BatchNorm are PyTorch's own."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
        elif isinstance(part, nn.Conv2d):
            reached = part.out_channels * part.weight[0, 0].numel() // part.groups
            nn.init.normal_(part.weight, std=(2 / reached) ** 0.5)
        if isinstance(part, nn.Linear | nn.Conv2d) and part.bias is not None:
            nn.init.zeros_(part.bias)


def stage_before(found):
    """The authors count the stages from 1."""
    return f"backbone.stages.{int(found[2]) - 1}."


# Tensors of the authors' files that hold several of ours, side by side: pattern, dimension, the parts' names.
SegFormer.official_parts = [
    (r"\.attn\.kv\.", 0, (".attn.k.", ".attn.v.")),
    (r"^decode_head\.linear_fuse(\.conv)?\.weight$", 1, tuple(f"head.mix.{i}.weight" for i in (3, 2, 1, 0))),
]
# The names of the authors' files (patch_embed1 ...), of the hub's (segformer.encoder ...) and of today's
# transformers (segformer.stages ...) -> ours.
SegFormer.official_names = [
    # where
    (r"^(backbone\.)?patch_embed(\d)\.", lambda found: stage_before(found) + "patch_embed."),
    (r"^(backbone\.)?block(\d)\.", lambda found: stage_before(found) + "blocks."),
    (r"^(backbone\.)?norm(\d)\.", lambda found: stage_before(found) + "norm."),
    (r"^segformer\.encoder\.patch_embeddings\.(\d)\.", r"backbone.stages.\1.patch_embed."),
    (r"^segformer\.encoder\.block\.(\d)\.", r"backbone.stages.\1.blocks."),
    (r"^segformer\.encoder\.layer_norm\.(\d)\.", r"backbone.stages.\1.norm."),
    (r"^segformer\.stages\.(\d)\.layer_norm\.", r"backbone.stages.\1.norm."),
    (r"^segformer\.stages\.(\d)\.patch_embeddings\.", r"backbone.stages.\1.patch_embed."),
    (r"^segformer\.stages\.", "backbone.stages."),
    # tokens and their attention
    (r"\.patch_embed\.proj\.", ".embed."), (r"\.patch_embed\.(layer_)?norm\.", ".embed_norm."),
    (r"\.layer_norm_(\d)\.", r".norm\1."),
    (r"\.layernorm_before\.", ".norm1."), (r"\.layernorm_after\.", ".norm2."),
    (r"\.attn\.proj\.|\.attention\.output\.dense\.|\.attention\.o_proj\.", ".attention.out."),
    (r"\.(attn|attention\.self)\.sr\.|\.sequence_reduction\.sequence_reduction\.", ".attention.reduce."),
    (r"\.attn\.norm\.|\.(attention\.self|sequence_reduction)\.layer_norm\.", ".attention.norm."),
    (r"\.(attn|attention\.self|attention)\.(q|query|q_proj)\.", ".attention.query."),
    (r"\.(attn|attention\.self|attention)\.(k|key|k_proj)\.", ".attention.key."),
    (r"\.(attn|attention\.self|attention)\.(v|value|v_proj)\.", ".attention.value."),
    (r"\.attention\.attention\.", ".attention."),
    (r"\.mlp\.(fc1|dense1)\.", ".mlp.widen."), (r"\.mlp\.(fc2|dense2)\.", ".mlp.narrow."),
    (r"\.mlp\.dwconv\.dwconv\.", ".mlp.depthwise."),
    # the head
    (r"^decode_head\.linear_c(\d)\.proj\.", lambda found: f"head.unify.{int(found[1]) - 1}."),
    (r"^decode_head\.(linear_c|linear_projections)\.(\d)\.proj\.", r"head.unify.\2."),
    (r"^decode_head\.(linear_fuse\.bn|batch_norm)\.", "head.norm."),
    (r"^decode_head\.(linear_pred|classifier)\.", "head.classify."),
]
