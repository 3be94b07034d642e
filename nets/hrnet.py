"""HRNet for segmentation: a backbone that never gives up its finest map, and on it the smallest head; with
ocr=True each pixel also asks what its object looks like as a whole.

Papers: Deep High-Resolution Representation Learning for Visual Recognition ("HRNetV2"), arXiv 1908.07919, and
Object-Contextual Representations ("OCR"), arXiv 1909.11065. The layers are the authors' (HRNet-Semantic-
Segmentation): at 21 classes 9,641,661 parameters (W18), 29,547,477 (W32), 65,860,821 (W48); with OCR
12,082,386, 32,955,882, 70,375,146. Their files load.

    stage       layers                                                     output
    backbone    HRNet, see backbones/hrnet.py                              c2 ... c5 at H/4 ... H/32
    joined      all four enlarged to the size of c2, side by side          15C x H/4 x W/4
    head        conv 1x1, conv 1x1                                         K x H/4 x W/4, enlarged to H x W

    ocr=True: the same head is called `aux`, its answer is the first guess, and behind `joined` follows
    features    conv 3x3                                                   512 x H/4 x W/4
    regions     for each class the mean of the features, each pixel        512 x K
                counted as much as the guess says that it belongs there
    attention   every pixel asks the K regions (query, key and value       512 x H/4 x W/4
                of 256 numbers), and hears a mixture of them
    head        [what it heard, features] conv 1x1, dropout 0.05,          K x H/4 x W/4, enlarged to H x W
                conv 1x1

A pixel on a white wall looks like one on a white car. If the first guess has found the car somewhere, the
region "car" knows what this car looks like, and the pixel can ask it. It is the attention of segformer.py
with K tokens to listen to instead of all the pixels.

What differs from the papers, and why:
1. The first convolution of the heads and the one to `features` keep a bias that the BatchNorm behind it makes
   useless: the authors' files have it.
2. Key and value of the regions pass through a BatchNorm over B * K numbers; where that is a single number, it
   takes the running statistics.
"""
import torch
import torch.nn.functional as F
from torch import nn

from nets.backbones.hrnet import hrnet, init_normal
from nets.layers import SEGMENTATION_RECIPE, PooledBatchNorm, enlarge, normalise
from utils.losses import SegmentationLoss, class_scores

FEATURES, KEYS = 512, 256                               # OCR, section 3.3
AUX_WEIGHT = 0.4                                        # OCR, section 4.2


def norm_relu(channels, norm=nn.BatchNorm2d):
    return nn.Sequential(norm(channels), nn.ReLU(inplace=True))


def classifier(c_in, outputs):
    """What each cell is. Numbered as in the authors' files."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_in, 1), nn.BatchNorm2d(c_in), nn.ReLU(inplace=True), nn.Conv2d(c_in, outputs, 1))


class ObjectContext(nn.Module):
    """Every pixel asks the regions of all classes (OCR, section 3.2)."""

    def __init__(self):
        super().__init__()
        self.query = nn.Sequential(
            nn.Conv2d(FEATURES, KEYS, 1, bias=False), norm_relu(KEYS),
            nn.Conv2d(KEYS, KEYS, 1, bias=False), norm_relu(KEYS))
        self.key = nn.Sequential(
            nn.Conv2d(FEATURES, KEYS, 1, bias=False), norm_relu(KEYS, PooledBatchNorm),
            nn.Conv2d(KEYS, KEYS, 1, bias=False), norm_relu(KEYS, PooledBatchNorm))
        self.value = nn.Sequential(nn.Conv2d(FEATURES, KEYS, 1, bias=False), norm_relu(KEYS, PooledBatchNorm))
        self.out = nn.Sequential(nn.Conv2d(KEYS, FEATURES, 1, bias=False), norm_relu(FEATURES))

    def forward(self, features, guess):
        """features: (B, D, h, w), guess: (B, K, h, w), logits -> (B, D, h, w)."""
        h, w = features.shape[2:]

        # What each class looks like in this picture: its shares over all pixels add up to 1.
        shares = guess.flatten(2).softmax(2)                                    # (B, K, h*w)
        pixels = features.flatten(2).transpose(1, 2)                            # (B, h*w, D)
        regions = (shares @ pixels).transpose(1, 2)[..., None]                  # (B, D, K, 1)

        # Attention: queries of the pixels, keys and values of the regions.
        q = self.query(features).flatten(2).transpose(1, 2)                     # (B, h*w, 256)
        k = self.key(regions).flatten(2).transpose(1, 2)                        # (B, K, 256)
        v = self.value(regions).flatten(2).transpose(1, 2)                      # (B, K, 256)
        heard = F.scaled_dot_product_attention(q, k, v)                         # (B, h*w, 256)
        heard = heard.transpose(1, 2).unflatten(2, (h, w))                      # (B, 256, h, w)
        return self.out(heard)                                                  # (B, D, h, w)


class OCRHead(nn.Module):
    def __init__(self, c_in, outputs):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(c_in, FEATURES, 3, padding=1), nn.BatchNorm2d(FEATURES), nn.ReLU(inplace=True))
        self.context = ObjectContext()
        self.join = nn.Sequential(
            nn.Conv2d(2 * FEATURES, FEATURES, 1, bias=False), norm_relu(FEATURES), nn.Dropout2d(0.05))
        self.classify = nn.Conv2d(FEATURES, outputs, 1)

    def forward(self, x, guess):
        """x: (B, C, h, w), guess: (B, K, h, w), logits -> logits (B, K, h, w)."""
        features = self.features(x)                                             # (B, 512, h, w)
        heard = self.context(features, guess)                                   # (B, 512, h, w)
        joined = self.join(torch.cat([heard, features], 1))                     # (B, 512, h, w)
        return self.classify(joined)                                            # (B, K, h, w)


class HRNetSegmenter(nn.Module):
    task = "segmentation"
    stride = 32
    official = {"classes": "cityscapes", "input_shape": (1024, 2048), "options": {"size": "w48"}}
    recipe = SEGMENTATION_RECIPE

    def __init__(self, num_classes, input_shape=(512, 512), pretrained=False, size="w18", ocr=False,
                 loss=None, class_weights=None, sigmoid=False):
        """num_classes: K, background included.  pretrained: True fetches the backbone, trained on ImageNet.
        size: "w18", "w32" or "w48".  ocr: with the OCR head.
        loss, class_weights, sigmoid: see utils/losses.py, SegmentationLoss.
        """
        super().__init__()
        self.criterion = SegmentationLoss(num_classes, loss, class_weights, sigmoid)
        self.backbone = hrnet(size, pretrained)
        joined, outputs = sum(self.backbone.channels), self.criterion.channels

        # With OCR the small head only guesses, and its guess has a loss of its own.
        self.aux = classifier(joined, outputs) if ocr else None
        self.head = OCRHead(joined, outputs) if ocr else classifier(joined, outputs)
        for part in (self.aux, self.head):
            if part is not None:
                init_normal(part)

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> logits (B, K, H, W), losses."""
        maps = self.backbone(normalise(images))                                 # (B, C, h, w) each: c2, c3, c4, c5
        joined = torch.cat([enlarge(x, maps[0]) for x in maps], 1)              # (B, 15*C2, H/4, W/4)

        # What each cell is; with OCR a guess first.
        guess = None
        if self.aux is None:
            logits = self.head(joined)                                          # (B, K, H/4, W/4)
        else:
            guess = self.aux(joined)                                            # (B, K, H/4, W/4)
            logits = self.head(joined, guess)                                   # (B, K, H/4, W/4)
        logits = enlarge(logits, images)                                        # (B, K, H, W)
        losses = {} if targets is None else self.loss(logits, guess, targets)   # () each
        return logits, losses

    def decode(self, logits):
        """logits -> scores (B, K, H, W) in 0-1."""
        scores = class_scores(logits)                                           # (B, K, H, W)
        return scores

    def loss(self, logits, guess, targets):
        """logits: (B, K, H, W).  guess: (B, K, h, w), or None without OCR.
        -> dict of weighted 0-d losses.
        """
        losses = self.criterion(logits, targets)                                # () each
        if guess is not None:
            guess = enlarge(guess, logits)                                      # (B, K, H, W)
            losses |= self.criterion(guess, targets, weight=AUX_WEIGHT, prefix="aux_")          # () each
        return losses                                                           # () each


# The names of the authors' files (segmentation: model.conv1 ..., or without "model.") -> ours.
HRNetSegmenter.official_names = [
    (r"^model\.", ""),
    (r"^(conv1|bn1|conv2|bn2|layer1|transition\d|stage\d)\.", r"backbone.\1."),
    (r"^last_layer\.", "head."),
    (r"^aux_head\.", "aux."),
    (r"^conv3x3_ocr\.", "head.features."),
    (r"^ocr_distri_head\.object_context_block\.f_pixel\.", "head.context.query."),
    (r"^ocr_distri_head\.object_context_block\.f_object\.", "head.context.key."),
    (r"^ocr_distri_head\.object_context_block\.f_down\.", "head.context.value."),
    (r"^ocr_distri_head\.object_context_block\.f_up\.", "head.context.out."),
    (r"^ocr_distri_head\.conv_bn_dropout\.", "head.join."),
    (r"^cls_head\.", "head.classify."),
]
