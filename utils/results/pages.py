"""The pictures that a training leaves behind to be looked at: what the network is fed,
and what it makes of the validation images."""
from pathlib import Path

import numpy as np

from utils.images import IGNORED
from utils.results.draw import draw_boxes, grid
from utils.results.masks import blend, legend, panels
from utils.settings import counted

READABLE = 200                  # px of a picture on the page, at least


def batch_page(data, epoch, most=16):
    """The first training samples of an epoch as the network gets them, with boxes or masks drawn.
    -> (H, W, 3) uint8."""
    pictures = []
    for image, target in (data[epoch, index] for index in range(min(most, len(data)))):
        image = image.permute(1, 2, 0).numpy()
        if data.task == "segmentation":
            pictures.append(blend(image, target["mask"].numpy(), data.class_names))
        else:
            pictures.append(draw_boxes(image, target["boxes"].numpy(), target["labels"].numpy(),
                                       data.class_names))
    return with_legend(grid(pictures, 4, max(READABLE, *data.input_shape)), data)


def prediction_page(data, found, confidence=0.3, most=12):
    """What was found in the first images of a list. found: as utils.evaluate.evaluate returns it.
    -> (H, W, 3) uint8.

    Segmentation: image, truth and prediction side by side.
    Detection: boxes with a score of `confidence` or more.
    """
    pictures, captions = [], []
    for index, one in enumerate(found[:most]):
        image = data.whole_image(index)
        if data.task == "segmentation":
            truth = data.truth(index)
            known = truth != IGNORED
            right = f"{(one == truth)[known].mean():.1%} right" if known.any() else "nothing labelled"
            pictures += panels(image, truth, one, data.class_names)[:3]
            captions += [Path(data.paths[index]).stem, "truth", f"network, {right}"]
        else:
            # Early in a training no box may be sure enough; the best score shows that there is progress.
            sure = one["scores"] >= confidence
            best = one["scores"].max(initial=0)
            captions.append(f"{counted(len(data.boxes[index]), 'object')}, {counted(sure.sum(), 'box')}, "
                            f"best score {best:.2f}")
            boxes, labels, scores = (one[name][sure] for name in ("boxes", "labels", "scores"))
            pictures.append(draw_boxes(image, boxes, labels, data.class_names, scores))

    # Segmentation: two images in a row, each with its truth and its prediction.
    columns, cell = (6, 240) if data.task == "segmentation" else (4, 320)
    return with_legend(grid(pictures, columns, cell, captions), data)


def with_legend(page, data):
    """Masks get a legend of their colours below them; boxes have their names on them."""
    return np.vstack([page, legend(page.shape[1], data.class_names)]) if data.task == "segmentation" else page
