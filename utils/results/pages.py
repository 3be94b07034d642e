"""The pictures that a training leaves behind to be looked at: what the network is fed,
and what it makes of the validation images."""
from pathlib import Path

import numpy as np

from utils.images import fitted_size, resize, resize_mask
from utils.miou import count_confusion, segmentation_results
from utils.results.draw import draw_boxes, grid, open_font
from utils.results.masks import background_of, blend, legend, panels, strip_of
from utils.settings import counted

CELL = 320                      # px of a picture on a page, at least: names are readable and small beside it
CROWD = 6                       # boxes of a sample: of more, each has the number of its class
BEST = 3                        # boxes that are drawn where none is sure
LETTERS = 16                    # px, of what is said below a page
SIGNS = ("Dashes: the truth.", "Coloured: what the network says at score {0:.2f} or more.",
         "Dots: its best boxes where none is as sure.")


def batch_page(data, epoch, most=16):
    """The first training samples of an epoch as the network gets them, with boxes or masks drawn.
    -> (H, W, 3) uint8."""
    pictures, captions, numbered = [], [], False
    for image, target in (data[epoch, index] for index in range(min(most, len(data)))):
        image = image.permute(1, 2, 0).numpy()
        height, width = fitted_size(*image.shape[:2], (max(CELL, *data.input_shape),) * 2)
        name = Path(data.paths[target["index"]]).name
        if data.task == "segmentation":
            mask = resize_mask(target["mask"].numpy(), height, width)
            pictures.append(blend(resize(image, height, width), mask, data.class_names))
            captions.append(name)
            continue

        # Drawn at the size of the page: letters of the input's size would be as large as the objects.
        boxes, labels = target["boxes"].numpy(), target["labels"].numpy()
        crowd = len(boxes) > CROWD
        pictures.append(draw_boxes(resize(image, height, width), boxes * (width / image.shape[1]), labels,
                                   data.class_names, numbers=crowd))
        captions.append(f"{name}: {counted(len(boxes), 'object')}")
        numbered = numbered or crowd

    page = grid(pictures, 4, max(CELL, *data.input_shape), captions)
    if data.task == "segmentation" or numbered:
        page = np.vstack([page, legend(page.shape[1], data.class_names, numbers=numbered)])
    return page


def prediction_page(data, found, confidence=0.3, most=12):
    """What was found in the first images of a list. found: as utils.evaluate.evaluate returns it.
    -> (H, W, 3) uint8.

    Segmentation: image, truth and prediction side by side.
    Detection: the truth, and boxes with a score of `confidence` or more.
    """
    if data.task == "segmentation":
        rows = [mask_row(data, index, labels) for index, labels in enumerate(found[:most])]
        pictures, captions = ([one for row in rows for one in row[part]] for part in (0, 1))
        page = grid(pictures, 6, 240, captions)             # two images in a row, each with its two masks
        return np.vstack([page, legend(page.shape[1], data.class_names)])

    rows = [box_cell(data, index, one, confidence) for index, one in enumerate(found[:most])]
    page = grid([picture for picture, _ in rows], 4, CELL, [caption for _, caption in rows])
    signs = [(text.format(confidence), open_font(None, LETTERS), None) for text in SIGNS]
    return np.vstack([page, strip_of(signs, page.shape[1], LETTERS)])


def box_cell(data, index, found, confidence):
    """One image of the page of a detector -> picture, caption."""
    # Early in a training no box may be sure; the best ones show that there is progress.
    order = np.argsort(-found["scores"], kind="stable")
    sure = order[found["scores"][order] >= confidence]
    kept = sure if len(sure) else order[:BEST]
    best = f"{found['scores'].max():.2f}" if len(order) else "none"

    # Drawn at the size of the page, where letters are readable.
    image, truth = data.whole_image(index), data.boxes[index][:, :4]
    height, width = fitted_size(*image.shape[:2], (CELL, CELL))
    scale = np.array([width / image.shape[1], height / image.shape[0]] * 2)
    picture = draw_boxes(resize(image, height, width), found["boxes"][kept] * scale, found["labels"][kept],
                         data.class_names, found["scores"][kept], truth=truth * scale, dotted=not len(sure))
    return picture, (f"{Path(data.paths[index]).name}\n"
                     f"{counted(len(truth), 'object')}, {counted(len(sure), 'box')}, best score {best}")


def mask_row(data, index, labels):
    """One image of the page of a segmenter -> its image, truth and prediction, three captions."""
    names, truth = data.class_names, data.truth(index)
    matrix = count_confusion(truth, labels, len(names))
    miou = segmentation_results(matrix, names)["miou"]

    # Most of a picture is background: a share of right pixels would make nothing look like success.
    said = "nothing is labelled" if miou is None else f"mean IoU {miou:.2f}"
    only = np.flatnonzero(matrix.sum(0))
    if len(only) == 1 and only[0] == background_of(names) and np.count_nonzero(matrix.sum(1)) > 1:
        said = "finds only background"
    height, width = fitted_size(*truth.shape, (CELL, CELL))
    picture = resize(data.whole_image(index), height, width)
    masks = [resize_mask(mask, height, width) for mask in (truth, labels)]
    name = Path(data.paths[index]).name
    return panels(picture, *masks, names)[:3], [name, "truth", f"network, errors red: {said}"]
