"""Layers that several networks share."""
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)      # of RGB 0-1, as torchvision's backbones were trained

# What the segmenters' recipes share: how the pictures are varied (random scale 0.5 to 2 and crop, as DeepLab and PSPNet do), and a
# training from random weights that fits the built-in Shapes. The papers' own, with SGD from ImageNet weights: recipes/.
SEGMENTATION_RECIPE = {
    "input_shape": (512, 512), "epochs": 13, "batch_size": 4, "optimizer": "adamw", "lr": 0.004, "momentum": 0.9, "weight_decay": 1e-2,
    "warmup_epochs": 1.0, "schedule": "poly", "backbone_lr": 0.1, "scale": (0.5, 2.0), "aspect": 0.0, "translate": 0.0,
    "colours": (0.015, 0.7, 0.4), "rotate": 10.0, "blur": 0.25, "mosaic": 0.0, "mixup": 0.0}


def normalise(images):
    """RGB 0-1 -> what a backbone with ImageNet weights expects: about mean 0 and deviation 1. (B, 3, H, W) -> the same shape."""
    mean, std = (torch.tensor(v, device=images.device, dtype=images.dtype).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (images - mean) / std


def conv_norm_act(c_in, c_out, kernel, stride=1, act=None, norm=nn.BatchNorm2d):
    """Convolution without bias, normalisation, activation; an odd kernel keeps h, w (or halves them at stride 2)."""
    return nn.Sequential(OrderedDict(
        conv=nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False),
        norm=norm(c_out),
        act=act or nn.LeakyReLU(0.1, inplace=True)))


class PooledBatchNorm(nn.BatchNorm2d):
    """BatchNorm behind a global pooling, where a batch of one image leaves one value per channel and no statistics.

    Then, and only then, it normalises with its running statistics, as in evaluation; they stay as they are.
    """

    def forward(self, x):
        """x: (B, C, h, w) -> (B, C, h, w)."""
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)
