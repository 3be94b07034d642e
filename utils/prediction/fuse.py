"""A convolution and the BatchNorm behind it are one convolution: once the training is over both only scale
and shift.

    y = (conv(x) - mean) / sqrt(var + eps) * gamma + beta
      = x * (kernel * g) + (bias - mean) * g + beta      with  g = gamma / sqrt(var + eps)
Source: Batch Normalization, arXiv 1502.03167, section 3.1 (what it is at inference).
"""
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


@torch.no_grad()
def fuse_norms(model, input_shape):
    """Fuse every BatchNorm into the convolution before it. model: in eval mode, changed.

    input_shape: (H, W) that it can take. Which layer is followed by which is not written anywhere, so it
    is watched: once with an empty picture. -> how many were fused.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return 0
    made, pairs, spoilt, hooks = {}, {}, set(), []

    def convolved(module, inputs, output):
        made[id(output)] = module, output               # kept, so that no other tensor gets its number

    def normed(module, inputs):
        conv = made.get(id(inputs[0]), (None, None))[0]
        if pairs.setdefault(module, conv) is not conv:
            spoilt.add(module)                          # one norm behind two convolutions

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(convolved))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(normed))
    like = next(model.parameters())
    model(torch.zeros(1, 3, *input_shape, device=like.device, dtype=like.dtype))            # (1, 3, H, W)
    for hook in hooks:
        hook.remove()

    # A convolution with two norms has to stay as it is.
    convs = list(pairs.values())
    good = {norm: conv for norm, conv in pairs.items()
            if conv is not None and norm not in spoilt and convs.count(conv) == 1}
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child in good:
                setattr(parent, name, nn.Identity())
    for norm, conv in good.items():
        fused = fuse_conv_bn_eval(conv, norm)
        conv.weight, conv.bias = fused.weight, fused.bias
    return len(good)
