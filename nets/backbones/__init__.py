"""Backbones that several papers share: images -> feature maps.

Layers are named as in torchvision, so that its ImageNet files load.
"""
