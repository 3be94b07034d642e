"""Layers that several networks share."""
from collections import OrderedDict

from torch import nn


def conv_norm_act(c_in, c_out, kernel, stride=1, act=None, norm=nn.BatchNorm2d):
    """Convolution without bias, normalisation, activation; an odd kernel keeps h, w (or halves them at stride 2)."""
    return nn.Sequential(OrderedDict(
        conv=nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False),
        norm=norm(c_out),
        act=act or nn.LeakyReLU(0.1, inplace=True)))
