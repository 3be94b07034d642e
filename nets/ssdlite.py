"""SSDLite: SSD for phones, on MobileNetV3, with depthwise separable convolutions in extra layers and heads.

Papers: MobileNetV2, arXiv 1801.04381, section 6.2 (SSDLite); Searching for MobileNetV3, arXiv 1905.02244,
section 6.3 (this backbone). Layers and numbers are those of torchvision's ssdlite320_mobilenet_v3_large:
3,440,060 parameters at 90 classes (2,469,860 at 20), and its official COCO file loads. Default boxes,
matching and loss are SSD's (nets/ssd.py).

    stage                 layers                                             output at 320 x 320
    backbone.features.0   MobileNetV3-Large up to the 1x1 of the block       672 x 20 x 20 -> c4
                          that goes to stride 32, before its stride
    backbone.features.1   the rest; with a reduced tail all channels         480 x 10 x 10 -> c5
                          halved (with the full tail 960)
    extras.0 ... 3        conv 1x1, 3x3/2 in each channel by itself,         512 x 5 x 5, 256 x 3 x 3,
                          conv 1x1                                           256 x 2 x 2, 128 x 1 x 1
    heads                 on each map 3x3 in each channel by itself, conv    3234 x (K+1), 3234 x 4
                          1x1, for the classes and again for the boxes

C5 are the channels of c5. Six boxes in every cell, of the sizes 0.2, 0.35 ... 0.95 of the input, with the
ratios 1, 1, 2, 1/2, 3, 1/3; the cells share the input out evenly.

What differs from the papers, and why (torchvision's choices, so that its file fits):
* Six boxes on the first map, too; in the paper's code three. A box larger than the input is cut to it (see
  nets/ssd.py).
* Every BatchNorm has eps 0.001 and momentum 0.03, every new convolution starts with deviation 0.03 (the
  MobileNets' detection code).
* `reduced_tail` is the paper's, and torchvision's COCO file has it. ImageNet files do not, so with
  pretrained=True the tail is the full one.
* Pictures come as -1 to 1, also to the ImageNet backbone, which was trained with another mean and deviation.
* As in torchvision's test at most 300 boxes of a class enter the suppression, at IoU 0.55. Its other
  limits, score 0.001 and 300 results, are also those of get_map.py.
* A BatchNorm that sees a single value per channel (the last map, one image a step) keeps its statistics:
  torchvision's refuses.
"""
from functools import partial

from torch import nn

from nets.backbones.mobilenet import PRETRAINED_V3, conv_norm_relu6, depthwise_norm_relu6
from nets.layers import PooledBatchNorm, normalise, with_depthwise
from nets.ssd import SSD, Extras, Heads
from utils.weights import download, load_weights

SIZES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)          # shares of the input (MobileNetV2's detection code)
EXTRAS = (512, 256, 256, 128)                           # channels
HALF = (0.5, 0.5, 0.5)
NORM = partial(PooledBatchNorm, eps=0.001, momentum=0.03)
CUT = 13                                                # the block of MobileNetV3 that goes to stride 32
COCO = "https://download.pytorch.org/models/ssdlite320_mobilenet_v3_large_coco-a79551df.pth"


class Backbone(nn.Module):
    """torchvision's own MobileNetV3-Large (see nets/backbones/mobilenet.py) in two parts."""

    def __init__(self, reduced_tail, pretrained):
        super().__init__()
        import torchvision  # takes seconds, so only where it is needed
        network = torchvision.models.mobilenet_v3_large(weights=None, reduced_tail=reduced_tail,
                                                        norm_layer=NORM)
        network = with_depthwise(init_normal(network))

        # Before it is taken apart: the file has the names of the whole network.
        if pretrained:
            print(load_weights(network, download(PRETRAINED_V3), allow_partial=True))

        # Cut inside the block that goes to stride 32: c4 is what its first 1x1 makes.
        layers = network.features
        self.c5_channels = layers[-1].out_channels
        block = layers[CUT].block
        self.features = nn.Sequential(nn.Sequential(*layers[:CUT], block[0]),
                                      nn.Sequential(block[1:], *layers[CUT + 1:]))

    def forward(self, images):
        """images: (B, 3, H, W) in -1 to 1 -> c4, c5."""
        c4 = self.features[0](images)                                           # (B, 672, H/16, W/16)
        c5 = self.features[1](c4)                                               # (B, C5, H/32, W/32)
        return c4, c5


def init_normal(module):
    """The first values of every convolution, in place. -> the module."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, std=0.03)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    return module


def extra_layer(c_in, c_out):
    """1x1 to half the channels, 3x3 in each channel by itself, which halves the map, 1x1 to all channels."""
    middle = c_out // 2
    return nn.Sequential(conv_norm_relu6(c_in, middle, 1, norm=NORM),
                         depthwise_norm_relu6(middle, stride=2, norm=NORM),
                         conv_norm_relu6(middle, c_out, 1, norm=NORM))


def separable_head(c_in, c_out):
    return nn.Sequential(depthwise_norm_relu6(c_in, norm=NORM), nn.Conv2d(c_in, c_out, 1))


class SSDLite320(SSD):
    official = {"classes": "coco_91", "input_shape": (320, 320)}
    per_class = 300
    recipe = SSD.recipe | {"input_shape": (320, 320), "lr": 0.004, "nms_iou": 0.55}

    def __init__(self, num_classes, input_shape=(320, 320), pretrained=False, reduced_tail=None):
        """num_classes: K, foreground classes.
        pretrained: True fetches the backbone, trained on ImageNet; "coco" the whole detector.
        reduced_tail: see above; None: what goes with pretrained.
        """
        super().__init__(num_classes, SIZES, ((2, 3),) * 6)
        imagenet = bool(pretrained) and pretrained != "coco"
        if reduced_tail is None:
            reduced_tail = not imagenet
        self.options = {"reduced_tail": reduced_tail}   # what the default became: for the checkpoint

        # Every extra layer makes a smaller map from the one before; the heads look at all six maps.
        self.backbone = Backbone(reduced_tail, imagenet)
        channels = [672, self.backbone.c5_channels, *EXTRAS]
        extras = [extra_layer(c_in, c_out) for c_in, c_out in zip(channels[1:], EXTRAS)]
        self.extras = init_normal(Extras(extras))
        self.class_heads = self.make_heads(channels, num_classes + 1)
        self.box_heads = self.make_heads(channels, 4)
        if pretrained == "coco":
            print(load_weights(self, download(COCO)))

    def make_heads(self, channels, columns):
        """channels: of the maps.  columns: what a head says of each default box."""
        heads = [separable_head(c, count * columns) for c, count in zip(channels, self.counts)]
        return init_normal(Heads(heads, columns))

    def pyramid(self, images):
        """images: (B, 3, H, W) RGB 0-1 -> the maps that the heads look at, fine to coarse."""
        x = normalise(images, HALF, HALF)                                       # (B, 3, H, W)
        c4, c5 = self.backbone(x)                                               # (B, 672, H/16, W/16), (B, C5, H/32, W/32)
        maps = [c4, c5, *self.extras(c5)]                                       # (B, C, h, w) each
        return maps


# torchvision's names -> ours.
SSDLite320.official_names = [
    (r"^backbone\.extra\.", "extras."), (r"^head\.classification_head\.module_list\.", "class_heads."),
    (r"^head\.regression_head\.module_list\.", "box_heads."),
]
