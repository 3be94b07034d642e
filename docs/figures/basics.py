"""Small figures: how a picture is fitted, anchors on their maps, NMS step by step, the focal loss, the learning rate."""
import torch

from docs.figures.drawing import COLOURS, GREY, INK, Page, pale
from docs.figures.photo import BOXES, PAINTS, photo
from nets.yolov3 import ANCHORS
from utils.boxes import nms, pairwise_iou
from utils.images import fit_image, to_input
from utils.losses import sigmoid_focal
from utils.steps import lr_factor, unfreeze_factor

# What a detector might say of the photo: boxes xyxy px and their scores, all of the class person.
GUESSES = ((240, 62, 318, 236, 0.92), (246, 74, 322, 230, 0.81), (228, 55, 310, 244, 0.63), (344, 66, 394, 266, 0.88),
           (338, 72, 402, 258, 0.74), (350, 96, 392, 268, 0.55), (286, 70, 372, 250, 0.41))
OVERLAP = 0.45                      # a box that overlaps a better one by more is removed


def letterbox():
    """F3: the three ways to fit a picture into the input."""
    page = Page(1010, 400, "A photo of 480 x 270 becomes the network's input")
    left = 10
    for fit, shape, words in (("letterbox", (416, 416), "whole, undistorted, grey beside it"),
                              ("stretch", (300, 300), "warped to the input"),
                              ("short_side", (288, 544), "its short side as long as wanted")):
        canvas, transform = fit_image(photo(), shape, fit)
        height, width = canvas.shape[:2]
        page.text(left, 22, f'fit="{fit}"', 16, bold=True)
        page.text(left, 40, words, 12, GREY)
        page.text(left, 58, f"input {height} x {width}", 12, GREY)
        panel = page.panel((left, 68, width * 0.72, height * 0.72), x=(0, width), y=(0, height), clip=True)
        panel.image(canvas)
        for box, paint in zip(to_input(BOXES, transform).tolist(), PAINTS):
            panel.rect(box, paint, width=2)
        page.note(**{f"{fit} height": height, f"{fit} width": width, f"{fit} top": round(transform[3])})
        left += width * 0.72 + 20
    return page


def anchors_yolov3():
    """F12: the three anchors of one cell on each map, at 416 x 416."""
    page = Page(1010, 400, "The anchors of YOLOv3")
    canvas = pale(fit_image(photo(), (416, 416))[0], 0.3)
    for place, (stride, anchors) in enumerate(zip((8, 16, 32), ANCHORS)):
        left, cells = 10 + place * 335, 416 // stride
        page.text(left, 22, f"stride {stride}: {cells} x {cells} cells", 16, bold=True)
        page.text(left, 40, " · ".join(f"{width} x {height}" for width, height in anchors), 12, GREY)
        panel = page.panel((left, 50, 320, 320), x=(0, 416), y=(0, 416), clip=True)
        panel.image(canvas)
        for line in range(stride, 416, stride):
            panel.line([(line, 0), (line, 416)], "white", 0.7)
            panel.line([(0, line), (416, line)], "white", 0.7)

        # The cell in the middle, and its anchors around its middle.
        corner = cells // 2 * stride
        middle = corner + stride / 2
        panel.rect((corner, corner, corner + stride, corner + stride), INK, fill=INK, opacity=0.5)
        for (width, height), paint in zip(anchors, COLOURS):
            panel.rect((middle - width / 2, middle - height / 2, middle + width / 2, middle + height / 2), paint, width=2.5)
        page.note(**{f"stride {stride}": stride, f"cells {stride}": cells})
    page.note(anchors=3, largest=ANCHORS[2][2][0], smallest=ANCHORS[0][0][0])
    return page


def nms_steps():
    """F25: greedy non-maximum suppression, one kept box a frame."""
    page = Page(1010, 512, "Non-maximum suppression, step by step")
    boxes, scores = torch.tensor(GUESSES)[:, :4], torch.tensor(GUESSES)[:, 4]
    overlap = pairwise_iou(boxes, boxes)
    waiting, kept, removed = list(range(len(boxes))), [], []
    frames = [("what the network says", list(waiting), [], [])]
    while waiting:
        best = max(waiting, key=lambda row: scores[row])
        gone = [row for row in waiting if row != best and overlap[best, row] > OVERLAP]
        kept.append(best)
        removed += gone
        waiting = [row for row in waiting if row != best and row not in gone]
        words = f"keep {scores[best]:.2f}, remove " + (", ".join(f"{scores[row]:.2f}" for row in gone) or "nothing")
        frames.append((words, list(waiting), list(kept), gone))
    (answer,) = nms(boxes[None], scores[None, :, None], 0.05, OVERLAP, 100)
    assert answer["scores"].tolist() == scores[kept].tolist()
    frames.append(("the result", [], kept, []))

    for place, (words, left, taken, gone) in enumerate(frames):
        across, down = 10 + place % 3 * 335, 4 + place // 3 * 252
        page.text(across, down + 16, f"{place + 1}. {words}", 14, bold=True)
        panel = page.panel((across, down + 24, 320, 220), x=(130, 450), y=(50, 270), clip=True)
        panel.image(pale(photo(), 0.35), (0, 0, 480, 270))
        for rows, paint, dash, width in ((left, INK, None, 1.5), (gone, COLOURS[0], "5 3", 1.5), (taken, COLOURS[2], None, 3)):
            for row in rows:
                box = boxes[row].tolist()
                panel.rect(box, paint, width=width, dash=dash)
                panel.text(box[0] + 3, box[1] + 13, f"{scores[row]:.2f}", 12, paint, bold=True, halo=True)
    page.note(said=len(boxes), kept=len(kept), removed=len(removed), overlap=OVERLAP)
    return page


def focal_loss():
    """F20: what one prediction costs, by how sure it is of the truth."""
    page = Page(620, 400, "The focal loss")
    sure = torch.linspace(0.02, 0.999, 120)
    logits = torch.log(sure / (1 - sure))
    panel = page.panel((60, 40, 420, 290), x=(0, 1), y=(4, 0), clip=False)
    panel.axes((0, 0.2, 0.4, 0.6, 0.8, 1), (0, 1, 2, 3, 4), "p: how sure it is of the right answer", "loss")
    for place, gamma in enumerate((0.0, 1.0, 2.0, 5.0)):
        loss = sigmoid_focal(logits, torch.ones_like(logits), None, gamma)
        panel.line(list(zip(sure.tolist(), loss.tolist())), COLOURS[place], 2.5)
        y = 60 + place * 24
        page.line([(500, y - 4), (525, y - 4)], COLOURS[place], 3)
        page.text(532, y, f"gamma {gamma:g}" + (" (plain)" if not gamma else ""), 12)

    # The two examples of the text: sure, and not sure.
    for p in (0.9, 0.5):
        logit = torch.log(torch.tensor([p / (1 - p)]))
        plain, focal = (float(sigmoid_focal(logit, torch.ones(1), None, gamma)) for gamma in (0.0, 2.0))
        page.note(**{f"at {p}": p, f"times less at {p}": round(plain / focal)})
    page.note(gamma=2)
    return page


def lr_schedules():
    """F21: the share of the learning rate over 100 epochs, and that of the backbone after unfreezing."""
    page = Page(1010, 380, "The learning rate over a training")
    epochs, warmup, freeze = 100, 5, 30
    places = [epoch / 4 for epoch in range(4 * epochs + 1)]
    panel = page.panel((50, 50, 420, 260), x=(0, epochs), y=(1.05, 0))
    panel.axes((0, 20, 40, 60, 80, 100), (0, 0.25, 0.5, 0.75, 1), "epoch", "share of lr, the heads")
    for place, schedule in enumerate(("cosine", "poly", "step", "constant")):
        panel.line([(at, lr_factor(at, epochs, warmup, schedule, 0.01)) for at in places], COLOURS[place], 2.5)
        page.line([(70 + place * 105, 14), (92 + place * 105, 14)], COLOURS[place], 3)
        page.text(97 + place * 105, 18, schedule, 13)

    # The backbone rests, then has a warm-up of its own.
    panel = page.panel((560, 50, 420, 260), x=(0, epochs), y=(1.05, 0))
    panel.axes((0, 20, 40, 60, 80, 100), (0, 0.25, 0.5, 0.75, 1), "epoch", f"share of lr, cosine, freeze_epochs={freeze}")
    cosine = [lr_factor(at, epochs, warmup, "cosine", 0.01) for at in places]
    panel.line(list(zip(places, cosine)), COLOURS[0], 2, dash="5 4")
    panel.line([(at, share * unfreeze_factor(at, freeze)) for at, share in zip(places, cosine)], COLOURS[1], 2.5)
    page.text(790, 75, "dashed: heads", 12, COLOURS[0])
    page.text(790, 92, "line: backbone", 12, COLOURS[1])
    page.note(epochs=epochs, warmup=warmup, freeze=freeze, own=1)
    return page
