"""A segmenter that needs no training: the class of a pixel is the nearest of a few colours. With it the scripts have right answers."""
import numpy as np
import torch
from PIL import Image
from torch import nn

from utils.checkpoint import save_checkpoint
from utils.losses import SegmentationLoss, class_scores
from utils.results.masks import voc_palette

COLOURS = np.array([[60, 60, 60], [220, 40, 40], [40, 190, 60], [40, 60, 220]], np.uint8)      # of classes 0 to 3
NAMES = ["background", "红 花", "a/b tree", "_$x$"]


class ColourNet(nn.Module):
    """options: dull: this many logits less for every class but the first, so that a high value sees background only."""

    task, stride = "segmentation", 8
    recipe = {"input_shape": (48, 64)}

    def __init__(self, num_classes, input_shape=(48, 64), pretrained=False, dull=0.0):
        super().__init__()
        self.criterion = SegmentationLoss(num_classes)
        self.backbone = nn.Conv2d(3, num_classes, 1)
        colours = torch.tensor(COLOURS[:num_classes] / 255, dtype=torch.float32)
        self.backbone.weight.data = 40 * colours[:, :, None, None]
        self.backbone.bias.data = -20 * (colours**2).sum(1)                 # so that the nearest colour has the highest logit
        self.backbone.bias.data[1:] -= dull

    def forward(self, images, targets=None):
        logits = self.backbone(images)
        return logits, self.criterion(logits, targets) if targets else {}

    def decode(self, logits):
        return class_scores(logits)


def save_weights(path, names=NAMES, settings=None, **options):
    """What train.py would save. The test registers the network: monkeypatch.setitem(nets.NETS, "colour_net", ColourNet)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, net="colour_net", options=options, class_names=list(names), input_shape=[48, 64], epoch=3,
                    settings=settings or {}, model=ColourNet(len(names), **options).state_dict())
    return path


def draw(path, mask_path=None, size=(90, 120), labels=(1, 2), wrong=None, ignored=False):
    """A picture with one bright square per label and its mask. wrong: the label that the mask says instead of the last one.
    ignored: around the squares is a ring of 255. -> the mask (h, w) uint8."""
    mask = np.zeros(size, np.uint8)
    for i, label in enumerate(labels):
        y, x = 8 + 20 * (i // 3), 8 + 36 * (i % 3)
        if ignored:
            mask[y - 2:y + 32, x - 2:x + 30] = 255
        mask[y:y + 30, x:x + 28] = label
    image = COLOURS[np.where(mask == 255, 0, mask)]
    if wrong is not None:
        mask[mask == labels[-1]] = wrong
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    if mask_path:
        mask_path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(mask)
        picture.putpalette(voc_palette().ravel().tolist())
        picture.save(mask_path)
    return mask
