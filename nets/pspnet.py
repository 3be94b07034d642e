"""PSPNet: the last feature map is also looked at from far away, in 1, 4, 9 and 36 large cells.

Paper: Pyramid Scene Parsing Network, arXiv 1612.01105, figure 3. With ResNet-50 the network of the paper's
authors (github.com/hszhao/semseg): 46,716,373 parameters at 21 classes, and 2,365,205 of the auxiliary
head, which only training needs.

    stage        layers                                               output, at downsample_factor 8
    backbone     ResNet-50, dilated (see backbones/resnet.py)         c4 1024 x H/8 x W/8, c5 2048 x H/8 x W/8
    pyramid      c5 averaged to 1x1, 2x2, 3x3, 6x6 cells, each        4 x 512 x H/8 x W/8
                 conv 1x1 to a quarter of c5's channels, enlarged
    head         [c5, pyramid], conv 3x3, dropout, conv 1x1           K x H/8 x W/8, enlarged to K x H x W
    aux          c4, conv 3x3, dropout, conv 1x1; in training only    K x H/8 x W/8, enlarged to K x H x W

C4 and C5 are the channels of c4 and c5. Loss: that of the head + 0.4 that of aux. resnet101 is the same
network, deeper; with mobilenet_v2 (not in the paper) c4 and c5 have 96 and 320 channels, and every width
follows from c5: 2,377,413 parameters at 21 classes without aux.

What differs between PSPNets, and why it matters:
* The ResNet has a deep stem (three 3x3 convolutions), and in a dilated stage every block has the new
  dilation: the authors' rule. Weights of a network with torchvision's rule fit by name and shape, and give
  wrong answers here.
* `pretrained=True` fetches the ImageNet weights of that very ResNet, trained by GluonCV (resnet50_v1s,
  resnet101_v1s) and published as .pth files for the timm library. `deep_stem=False` takes torchvision's
  plain stem, and then pretrained its weights.
* Maps are enlarged with align_corners=True: corner pixels fall on corner pixels, as the authors have it.
  Exact for 8n + 1 pixels; for 8n, as here, cells and pixels are up to 7 pixels apart at the right and
  bottom border. Training copes with it.
* The branch of one cell has one value per channel and image. One image alone has no statistics there: its
  BatchNorm then uses the running ones (PooledBatchNorm), so that batches of one can be trained.
"""
import torch
import torch.nn.functional as F
from torch import nn

from nets.backbones.mobilenet import mobilenet_v2
from nets.backbones.resnet import resnet
from nets.layers import SEGMENTATION_RECIPE, PooledBatchNorm, conv_norm_act, normalise
from utils.errors import UserError, did_you_mean
from utils.losses import SegmentationLoss, class_scores
from utils.weights import download, load_weights

BINS = (1, 2, 3, 6)                                     # section 3.2: cells per side
AUX_WEIGHT = 0.4                                        # section 3.3
DROPOUT = 0.1                                           # the authors' code; whole channels
BACKBONES = ("resnet50", "resnet101", "mobilenet_v2")
RELEASE = "https://github.com/rwightman/pytorch-pretrained-gluonresnet/releases/download/v0.1/"
PRETRAINED = {"resnet50": RELEASE + "gluon_resnet50_v1s-1762acc0.pth",
              "resnet101": RELEASE + "gluon_resnet101_v1s-60fe0cc1.pth"}


def enlarge_aligned(x, like):
    """(B, C, m, n) -> (B, C, h, w), the size of `like`; corner pixels fall on corner pixels."""
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)       # (B, C, h, w)


def average_cells(x, bins):
    """(B, C, h, w) -> (B, C, bins, bins): the mean of each of bins x bins cells, which overlap by a pixel
    where bins does not divide h or w.
    """
    if not torch.onnx.is_in_onnx_export():
        return F.adaptive_avg_pool2d(x, bins)                                   # (B, C, bins, bins)

    # ONNX has no such pooling: there the means are two products with the shares that a cell has in each
    # row and column.
    down, across = cell_shares(x.shape[2], bins), cell_shares(x.shape[3], bins)
    return down @ x @ across.T


def cell_shares(length, bins):
    """-> (bins, length): row i says what share every pixel has in the mean of cell i."""
    i, pixel = torch.arange(bins)[:, None], torch.arange(length)[None]
    inside = (pixel >= i * length // bins) & (pixel < ((i + 1) * length + bins - 1) // bins)
    return inside.float() / inside.sum(1, keepdim=True)


class PyramidPooling(nn.Module):
    """A map and its averages over ever smaller cells, side by side: what a pixel is depends on its place."""

    def __init__(self, channels):
        super().__init__()
        width = channels // len(BINS)
        self.branches = nn.ModuleList()
        for bins in BINS:
            norm = PooledBatchNorm if bins == 1 else nn.BatchNorm2d
            self.branches.append(conv_norm_act(channels, width, 1, act=nn.ReLU(inplace=True), norm=norm))

    def forward(self, x):
        """x: (B, C, h, w) -> (B, 2C, h, w): the map itself and four branches of C/4 channels."""
        maps = [x]
        for bins, branch in zip(BINS, self.branches):
            cells = average_cells(x, bins)                                      # (B, C, bins, bins)
            cells = branch(cells)                                               # (B, C/4, bins, bins)
            wide = enlarge_aligned(cells, x)                                    # (B, C/4, h, w)
            maps.append(wide)
        return torch.cat(maps, dim=1)                                           # (B, 2*C, h, w)


class Classifier(nn.Module):
    """What a pixel and its neighbours say, then one number per class."""

    def __init__(self, c_in, width, c_out):
        super().__init__()
        self.gather = conv_norm_act(c_in, width, 3, act=nn.ReLU(inplace=True))
        self.dropout = nn.Dropout2d(DROPOUT)
        self.classify = nn.Conv2d(width, c_out, 1)

    def forward(self, x):
        """x: (B, C, h, w) -> (B, K, h, w)."""
        x = self.gather(x)                                                      # (B, D, h, w)
        return self.classify(self.dropout(x))                                   # (B, K, h, w)


class PSPNet(nn.Module):
    task = "segmentation"
    stride = 8
    recipe = SEGMENTATION_RECIPE

    def __init__(self, num_classes, input_shape=(512, 512), pretrained=False, backbone="resnet50",
                 downsample_factor=8, aux=True, deep_stem=True, loss=None, class_weights=None, sigmoid=False):
        """num_classes: K, background included.  pretrained: True fetches ImageNet weights of the backbone.
        backbone: "resnet50", "resnet101" or "mobilenet_v2".
        downsample_factor: 8, or 16 for a coarser map at a third of the cost.
        aux: with the auxiliary head.  deep_stem: the authors' ResNet, False: torchvision's.
        loss, class_weights, sigmoid: see utils/losses.py, SegmentationLoss.
        """
        super().__init__()
        if backbone not in BACKBONES:
            raise UserError(f'pspnet has no backbone "{backbone}".{did_you_mean(backbone, BACKBONES)} '
                            f'Known: {", ".join(BACKBONES)}.')
        if downsample_factor not in (8, 16):
            raise UserError(f"downsample_factor={downsample_factor}: pspnet knows 8 (the paper's) and 16.")
        self.criterion = SegmentationLoss(num_classes, loss, class_weights, sigmoid)

        # The authors' ResNet has a deep stem, and weights of its own; with a plain stem it is torchvision's.
        if backbone == "mobilenet_v2":
            self.backbone = mobilenet_v2(downsample_factor, pretrained)
        else:
            self.backbone = resnet(backbone, downsample_factor, pretrained and not deep_stem,
                                   dilate_first=True, deep_stem=deep_stem)
            if pretrained and deep_stem:
                print(load_weights(named_as_published(self.backbone), download(PRETRAINED[backbone])))

        # All widths follow from the backbone's.
        c4, c5 = self.backbone.channels[2:]
        self.pyramid = PyramidPooling(c5)
        self.head = Classifier(2 * c5, c5 // 4, self.criterion.channels)
        self.aux = Classifier(c4, c4 // 4, self.criterion.channels) if aux else None

    def forward(self, images, targets=None):
        """images: (B, 3, H, W) RGB 0-1 -> logits (B, K, H, W) (one channel with sigmoid), losses."""
        x = normalise(images)                                                   # (B, 3, H, W)
        _, _, c4, c5 = self.backbone(x)                                         # (B, C4, h, w), (B, C5, h, w)
        x = self.pyramid(c5)                                                    # (B, 2*C5, h, w)
        x = self.head(x)                                                        # (B, K, h, w)
        logits = enlarge_aligned(x, images)                                     # (B, K, H, W)
        losses = {} if targets is None else self.loss(logits, c4, targets)
        return logits, losses

    def decode(self, logits):
        """logits -> scores (B, K, H, W) in 0-1; K is 2 with sigmoid."""
        scores = class_scores(logits)                                           # (B, K, H, W)
        return scores

    def loss(self, logits, c4, targets):
        """logits: (B, K, H, W).  c4: (B, C4, h, w), the map of the auxiliary head.  -> dict of weighted 0-d
        losses.
        """
        losses = self.criterion(logits, targets)                                # () each
        if self.aux:
            aux = self.aux(c4)                                                  # (B, K, h, w)
            aux = enlarge_aligned(aux, logits)                                  # (B, K, H, W)
            losses |= self.criterion(aux, targets, weight=AUX_WEIGHT, prefix="aux_")            # () each
        return losses                                                           # () each


def named_as_published(backbone):
    """The same tensors under the names of the published files, whose deep stem is one `conv1`, its last
    BatchNorm `bn1`.
    """
    stem = nn.Sequential(backbone.conv1, backbone.bn1, backbone.relu,
                         backbone.conv2, backbone.bn2, backbone.relu,
                         backbone.conv3)
    return nn.ModuleDict({"conv1": stem, "bn1": backbone.bn3, "layer1": backbone.layer1,
                          "layer2": backbone.layer2, "layer3": backbone.layer3, "layer4": backbone.layer4})
