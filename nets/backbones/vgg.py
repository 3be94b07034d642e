"""VGG-16: thirteen 3x3 convolutions in five groups, a pooling between the groups; as in the paper, or with
BatchNorm.

Paper: Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv 1409.1556, table 1, column D,
without its three fully connected layers: 14,714,688 parameters. Layers are named as in torchvision's vgg16
(features.0 ... features.28) or, with a BatchNorm behind every convolution, vgg16_bn (features.0 ...
features.41).

    group    convolutions    output
    1        2                64 x H    x W    -> c1
    2        2               128 x H/2  x W/2  -> c2
    3        3               256 x H/4  x W/4  -> c3
    4        3               512 x H/8  x W/8  -> c4
    5        3               512 x H/16 x W/16 -> c5
"""
from torch import nn

from utils.weights import download, load_weights

GROUPS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# ImageNet; 528 MB; the layers left out here are nine tenths.
PRETRAINED = "https://download.pytorch.org/models/vgg16-397923af.pth"


class VGG(nn.Module):
    """The groups one after the other in `features`; a group begins with the pooling of the one before."""

    def __init__(self, groups=GROUPS, batch_norm=False):
        """groups: channels of the convolutions of each group."""
        super().__init__()
        self.channels = tuple(group[-1] for group in groups)                    # of c1 ... c5

        # All layers in one list, as torchvision numbers them; `starts`: where each group begins in it.
        layers, self.starts, c_in = [], [], 3
        for group in groups:
            self.starts.append(len(layers))
            if c_in != 3:
                layers.append(nn.MaxPool2d(2))
            for c_out in group:
                layers.append(nn.Conv2d(c_in, c_out, 3, padding=1))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(c_out))
                layers.append(nn.ReLU(inplace=True))
                c_in = c_out
        self.features = nn.Sequential(*layers)

        # Without BatchNorm the signal would fade on its way through thirteen layers.
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, x):
        """x: (B, 3, H, W) normalised -> c1 ... c5, each before the pooling that follows it."""
        s1, s2, s3, s4, s5 = self.starts
        c1 = self.features[s1:s2](x)                                            # (B, 64, H, W)
        c2 = self.features[s2:s3](c1)                                           # (B, 128, H/2, W/2)
        c3 = self.features[s3:s4](c2)                                           # (B, 256, H/4, W/4)
        c4 = self.features[s4:s5](c3)                                           # (B, 512, H/8, W/8)
        c5 = self.features[s5:](c4)                                             # (B, 512, H/16, W/16)
        return c1, c2, c3, c4, c5


def vgg16(pretrained=False):
    """VGG-16. pretrained: True fetches torchvision's ImageNet weights."""
    backbone = VGG()
    if pretrained:
        print(load_weights(backbone, download(PRETRAINED)))
    return backbone
