"""Where a network sees a class, and what in the picture made it say so: two maps over the picture, 0 to 1.

* score: the score of the class at each place, as the network gives it. Of a detector each predicted box, the
  bad ones too, is a hill as high as its score in its middle.
* cause: Grad-CAM. How the score of the class would change with each value of the backbone's maps is their
  gradient; value times gradient, summed over the channels, is what a place has contributed. What lowers the
  score is left out.

Source: Grad-CAM, arXiv 1610.02391, section 3. What differs: a gradient stays at its place instead of being
averaged over the map (as in HiResCAM, arXiv 2011.08891), because a detector is asked about places; and a
network that takes several maps from its backbone is asked about all of them.
"""
import cv2
import torch
import torch.nn.functional as F

from utils.evaluate import to_device
from utils.images import fit_image, fitted_size

BEST = 10                       # of a detector so many predictions of the class are asked for their causes
HILLS = 300                     # and so many are drawn as hills
EDGE = 1e-6                     # scores are kept so far from 0 and 1, where the logit is infinite


def heat_maps(model, image, input_shape, label, fit="letterbox"):
    """One class in one picture. image: (h, w, 3) uint8.
    -> score, cause: maps (h, w) float32 in 0-1; how high the largest score of the class is."""
    canvas, transform = fit_image(image, input_shape, fit)
    batch = torch.from_numpy(canvas).permute(2, 0, 1)[None]                         # (1, 3, H, W)
    batch, _ = to_device(batch, [], next(model.parameters()).device)                # (1, 3, H, W)

    # One way forth that ends in scores, and one back to the maps of the backbone.
    with torch.enable_grad():
        maps, decoded = with_maps(model, batch)
        scores, asked = asked_scores(model, decoded, label, batch.shape[2:])           # (H, W), (P,)
        target = asked.clamp(EDGE, 1 - EDGE).logit().sum()
        gradients = torch.autograd.grad(target, maps, allow_unused=True)
    cause = contributions(maps, gradients, batch.shape[2:])                         # (H, W)
    cause = cause / cause.max() if cause.max() > 0 else cause                       # (H, W)

    return (of_picture(scores, transform, image.shape[:2], input_shape, fit),
            of_picture(cause, transform, image.shape[:2], input_shape, fit),
            float(asked.detach().max()))


def with_maps(model, batch):
    """-> the maps that the backbone hands on, as the leaves of a graph; what the network decodes."""
    maps = []

    # PyTorch calls it with what the backbone returns; what it returns goes on instead.
    def keep(module, inputs, outputs):
        alone = isinstance(outputs, torch.Tensor)
        leaves = [one.detach().requires_grad_() for one in ([outputs] if alone else outputs)]
        maps.extend(leaves)
        return leaves[0] if alone else type(outputs)(leaves)

    handle = model.backbone.register_forward_hook(keep)
    try:
        return maps, model.decode(model(batch)[0])
    finally:
        handle.remove()


def asked_scores(model, decoded, label, input_shape):
    """-> the map of the class's scores (H, W), the scores (P,) whose causes are asked for."""
    if model.task == "segmentation":
        scores = decoded[0, label].float()                                          # (H, W)
        there = scores[decoded[0].argmax(0) == label]                               # (P,)
        return scores.detach(), there if len(there) else scores.flatten().topk(BEST).values

    # A detector with a box for every class, or one for all.
    scores = decoded[1][0, :, label].float()                                        # (N,)
    boxes = decoded[0][0].detach()                                                  # (N, ...)
    boxes = boxes[:, label] if boxes.ndim == 3 else boxes                           # (N, 4)
    best, rows = scores.topk(min(HILLS, len(scores)))                               # (n,), (n,)
    return hills(boxes[rows], best.detach(), input_shape), best[:BEST]


def hills(boxes, scores, input_shape):
    """Boxes (n, 4) xyxy px with scores (n,) -> (H, W): each a bell over the middle of its box, the highest
    counts."""
    H, W = input_shape
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2                                      # (n, 2)
    size = (boxes[:, 2:] - boxes[:, :2]).clamp(min=4)                               # (n, 2)
    y = torch.arange(H, device=boxes.device) + 0.5                                  # (H,)
    x = torch.arange(W, device=boxes.device) + 0.5                                  # (W,)

    # A bell is a product of one along x and one along y, so no map of every box is needed at once.
    across = torch.exp(-8 * ((x - centre[:, :1]) / size[:, :1]) ** 2)               # (n, W)
    down = torch.exp(-8 * ((y - centre[:, 1:]) / size[:, 1:]) ** 2)                 # (n, H)
    result = torch.zeros(H, W, device=boxes.device)                                 # (H, W)
    for one, other, score in zip(down, across, scores):
        result = torch.maximum(result, score * one[:, None] * other)                # (H, W)
    return result


def contributions(maps, gradients, input_shape):
    """Value times gradient of maps (1, C, h, w), together at the size of the input. -> (H, W), at least 0"""
    total = torch.zeros(input_shape, device=maps[0].device)                         # (H, W)
    for one, gradient in zip(maps, gradients):
        if gradient is None:                                                        # a map that is not used
            continue
        part = (one * gradient).sum(1, keepdim=True).detach().float()               # (1, 1, h, w)
        # What a cell has contributed is spread over its pixels.
        share = part.numel() / total.numel()
        total += share * F.interpolate(part, tuple(input_shape), mode="bilinear")[0, 0]             # (H, W)
    return total.clamp(min=0)                                                       # (H, W)


def of_picture(heat, transform, size, input_shape, fit):
    """A map (H, W) of the input -> of the picture of this size (h, w): without padding, float32 numpy."""
    height, width = fitted_size(*size, input_shape, fit)
    _, _, left, top = transform
    part = heat[top:top + height, left:left + width].cpu().numpy()
    return cv2.resize(part, size[::-1], interpolation=cv2.INTER_LINEAR)
