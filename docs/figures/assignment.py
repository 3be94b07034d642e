"""F15 to F19: one photo, seven rules that say which prediction learns which object.

A rule gives marks: what is drawn of a prediction that learns an object (its cell or its anchor, in px of the photo), and of which.
"""
from functools import cache
from typing import NamedTuple

import torch

import nets
from docs.figures.drawing import GREY, INK, Page, pale
from docs.figures.photo import BOXES, NAMES, PAINTS, as_input, photo
from nets.faster_rcnn import ANCHOR_SIZES, RPN_IOU, RPN_SAMPLES, RPN_SHARE, sample
from nets.layers import grid_anchors, make_cell_anchors
from nets.retinanet import OCTAVES, RATIOS, SIZES, RetinaNet
from nets.ssd import MATCH_IOU
from nets.yolov8 import pad_targets as pad_objects
from nets.yolox import pad_targets
from utils.boxes import BACKGROUND, NO_PART, cxcywh_to_xyxy, match, pairwise_iou, xyxy_to_cxcywh
from utils.images import from_input

STEPS = {"yolox": 100, "yolov8": 30}     # of training on this one photo, for the two rules that ask the network
HEIGHT, WIDTH = 270, 480            # of the photo
INPUT = (256, 416)                  # of the four YOLOs: the photo and little grey


class Mark(NamedTuple):
    """A prediction that learns an object."""
    box: tuple                      # its cell, xyxy px of the photo
    thing: int                      # the object
    anchor: tuple | None = None     # its anchor, where it has one


class Rule(NamedTuple):
    """What a rule says of the photo."""
    title: str
    words: str                      # the rule in one line
    marks: list
    aside: list = []                # centres of anchors between the thresholds: they take no part
    asked: list = []                # centres of the background anchors that were drawn by chance
    candidates: int = 0             # predictions in all

    def counts(self):
        return [sum(mark.thing == thing for mark in self.marks) for thing in range(len(NAMES))]


def in_photo(boxes, transform):
    """(N, 4) xyxy px of the input -> list of tuples, px of the photo."""
    return [tuple(box) for box in from_input(boxes.numpy().astype("float64"), transform).tolist()]


def yolo_rule(name, title, words):
    """YOLOv3, YOLOv4: by shape alone, in the cell of the centre."""
    _, target, transform = as_input(INPUT)
    with torch.device("meta"):                                                      # the anchors are all that is asked
        model = nets.build(name, 3, INPUT)
    maps = [(INPUT[0] // stride, INPUT[1] // stride) for stride in model.strides]
    truth, prediction = model.assign(target["boxes"], maps)                         # (P,), (P,)
    cell, stride, _, anchor = model.locate(maps)                                    # (N, 2), (N, 1), (N, 1), (N, 2)

    # The cell is a square of the input; the anchor is drawn around its middle.
    cell, stride, anchor = cell[prediction], stride[prediction], anchor[prediction]
    cells = torch.cat([cell * stride, (cell + 1) * stride], 1)                      # (P, 4)
    anchors = cxcywh_to_xyxy(torch.cat([(cell + 0.5) * stride, anchor], 1))         # (P, 4)
    marks = list(map(Mark, in_photo(cells, transform), truth.tolist(), in_photo(anchors, transform)))
    return Rule(title, words, marks, candidates=sum(3 * h * w for h, w in maps))


def around(anchors, side=6.0):
    """Small squares in the middle of anchors (N, 4)."""
    middle = xyxy_to_cxcywh(anchors)[:, :2]                                         # (N, 2)
    return torch.cat([middle - side / 2, middle + side / 2], 1)                     # (N, 4)


def anchor_marks(anchors, rows, transform):
    """Marks of anchors (N, 4) px of the input, rows (N,): of the objects, below 0 for none."""
    chosen = (rows >= 0).nonzero()[:, 0]                                            # (P,)
    cells, boxes = in_photo(around(anchors[chosen]), transform), in_photo(anchors[chosen], transform)
    return list(map(Mark, cells, rows[chosen].tolist(), boxes))


def centres(anchors, transform):
    """Middles of anchors (N, 4), px of the photo; those beyond its border are left out."""
    found = xyxy_to_cxcywh(torch.tensor(in_photo(anchors, transform)).view(-1, 4))[:, :2].tolist()
    return [(x, y) for x, y in found if 0 < x < WIDTH and 0 < y < HEIGHT]


@cache
def default_boxes():
    """SSD300 and its default boxes (N, 4) px. The maps are those of its forward."""
    model = nets.build("ssd300", 3)
    maps = [(side, side) for side in (38, 19, 10, 5, 3, 1)]
    return model, model.make_default_boxes(maps, (300, 300))


def pyramid_anchors(sizes, ratios, strides, input_shape=(512, 512)):
    """The anchors (N, 4) px of a pyramid of maps, as RetinaNet and Faster R-CNN lay them."""
    maps = [(-(-input_shape[0] // stride), -(-input_shape[1] // stride)) for stride in strides]
    levels = grid_anchors(make_cell_anchors(sizes, ratios), maps, [(stride, stride) for stride in strides])
    return torch.cat(levels)                                                        # (N, 4)


def ssd_rule(forced=True):
    """SSD300.  forced: also the best default box of each object, however little it overlaps."""
    _, target, transform = as_input((300, 300), "stretch")
    model, anchors = default_boxes()                                                # , (N, 4)
    if forced:
        numbers = torch.arange(len(NAMES))
        labels, boxes = model.assign(target["boxes"], numbers, anchors)             # (N,), (N, 4)
        rows = labels - 1                                                           # (N,)
    else:
        rows = match(pairwise_iou(target["boxes"], anchors), MATCH_IOU, MATCH_IOU, rescue=False)        # (N,)
    words = "every default box with IoU of 0.5 or more, and the best one of each object"
    return Rule("SSD300", words, anchor_marks(anchors, rows, transform), candidates=len(anchors))


def retinanet_rule():
    _, target, transform = as_input((512, 512))
    sizes = [[int(size * octave) for octave in OCTAVES] for size in SIZES]
    anchors = pyramid_anchors(sizes, RATIOS, (8, 16, 32, 64, 128))                  # (N, 4)
    rows = RetinaNet.assign(anchors, [target])[0]                                       # (N,)
    aside = centres(anchors[rows == NO_PART], transform)
    words = "anchors with IoU of 0.5 or more; grey: 0.4 to 0.5, left out of the loss"
    return Rule("RetinaNet", words, anchor_marks(anchors, rows, transform), aside, candidates=len(anchors))


def rpn_rule():
    """The first stage of Faster R-CNN: 256 anchors drawn by chance."""
    _, target, transform = as_input((512, 512))
    anchors = pyramid_anchors([[size] for size in ANCHOR_SIZES], RATIOS, (4, 8, 16, 32, 64))        # (N, 4)
    rows = match(pairwise_iou(target["boxes"], anchors), *RPN_IOU, rescue=True)     # (N,)
    torch.manual_seed(0)
    positive, negative = sample(rows, RPN_SAMPLES, RPN_SHARE)                       # (P,), (M,)

    # What was not drawn is left out, as is what is between the thresholds.
    drawn = torch.full_like(rows, BACKGROUND)
    drawn[positive] = rows[positive]
    words = "IoU of 0.7 or more, or the best; dots: background drawn by chance, 256 in all"
    return Rule("RPN of Faster R-CNN", words, anchor_marks(anchors, drawn, transform),
                asked=centres(anchors[negative], transform), candidates=len(anchors))


@cache
def trained(name, steps):
    """A small network after so many steps on the photo alone: its outputs, and its loss before and after."""
    images, target, transform = as_input(INPUT)
    size = {"yolox": "nano", "yolov8": "n"}[name]
    torch.manual_seed(0)
    model = nets.build(name, 3, INPUT, size=size)
    solver = torch.optim.AdamW(model.parameters(), 0.002)
    for _ in range(steps):
        losses = model(images, [target])[1]
        solver.zero_grad()
        sum(losses.values()).backward()
        solver.step()
    with torch.no_grad():
        outputs, _ = model(images)
    return model, outputs, target, transform


def yolox_rule(steps=STEPS["yolox"]):
    model, outputs, target, transform = trained("yolox", steps)
    raw, boxes, cells = model.predictions(outputs)                                  # (1, N, 5+K), (1, N, 4), (N, 4)
    rows = model.assign(raw, boxes, cells, *pad_targets([target], boxes))[0]        # (N,)
    chosen = (rows >= 0).nonzero()[:, 0]                                            # (P,)
    marks = list(map(Mark, in_photo(cells[chosen], transform), rows[chosen].tolist()))
    words = "near the centre, the cheapest k: k grows with the best IoUs"
    return Rule("YOLOX, SimOTA", words, marks, candidates=len(cells))


def yolov8_rule(steps=STEPS["yolov8"]):
    model, outputs, target, transform = trained("yolov8", steps)
    sides, classes, points, strides = model.predictions(outputs)                    # (1, N, 4, 16), (1, N, K), (N, 2), (N, 1)
    boxes = model.boxes(sides.softmax(-1), points) * strides                        # (1, N, 4)
    truth, wanted = model.assign(boxes, classes, points * strides, *pad_objects([target], points))      # (1, N), (1, N)
    chosen = (wanted[0] > 0).nonzero()[:, 0]                                        # (P,)
    points, strides = points[chosen], strides[chosen]                               # (P, 2), (P, 1)
    cells = torch.cat([(points - 0.5) * strides, (points + 0.5) * strides], 1)      # (P, 4)
    marks = list(map(Mark, in_photo(cells, transform), truth[0, chosen].tolist()))
    words = "inside the object, the 10 whose class and box fit best"
    return Rule("YOLOv8, TAL", words, marks, candidates=len(sides[0]))


def yolov3_rule():
    return yolo_rule("yolov3", "YOLOv3", "the one anchor of nine with the most similar shape, in the cell of the centre")


def yolov4_rule():
    return yolo_rule("yolov4", "YOLOv4", "all anchors whose shape has IoU above 0.213, in the cell of the centre")


RULES = (yolov3_rule, yolov4_rule, ssd_rule, retinanet_rule, rpn_rule, yolox_rule, yolov8_rule)


def draw_rule(page, rule, left, top, width):
    """A title, the photo with the marks, and how many each object has."""
    page.text(left, top + 14, rule.title, 16, bold=True)
    page.text(left, top + 32, rule.words, 12, GREY)
    place = (left, top + 40, width, width * HEIGHT / WIDTH)
    panel = page.panel(place, x=(0, WIDTH), y=(0, HEIGHT), clip=True)
    panel.image(pale(photo()))
    for x, y in rule.asked:
        panel.dot(x, y, INK, 1.6)
    for x, y in rule.aside:
        panel.dot(x, y, GREY, 2.0)
    for box, paint in zip(BOXES.tolist(), PAINTS):
        panel.rect(box, paint, width=1.2, dash="2 3")

    # Large marks first, so that small ones are seen on top of them.
    for mark in sorted(rule.marks, key=lambda mark: mark.box[0] - mark.box[2]):
        paint = PAINTS[mark.thing]
        if mark.anchor:
            panel.rect(mark.anchor, paint, width=1.1 if len(rule.marks) < 60 else 0.5)
        panel.rect(mark.box, paint, fill=paint, opacity=0.45, width=1)
    draw_counts(page, rule, left, left + width, place[1] + place[3] + 16)


def draw_counts(page, rule, left, right, y):
    for name, count, paint in zip(NAMES, rule.counts(), PAINTS):
        page.rect((left, y - 9, left + 10, y + 1), fill=paint)
        page.text(left + 14, y, f"{name} {count}", 12)
        left += 92
    page.text(right, y, f"of {rule.candidates:,}", 12, GREY, "end")


def assignment():
    """One photo under seven rules."""
    page = Page(1010, 1490, "One photo, seven rules: which predictions learn which object")
    rules = [make() for make in RULES]
    for place, rule in enumerate(rules):
        draw_rule(page, rule, 10 + place % 2 * 505, 6 + place // 2 * 372, 485)
        page.note(**{f"{rule.title.split(',')[0].split(' ')[0]} {name}": count for name, count in zip(NAMES, rule.counts())})
        page.note(**{rule.title.split(",")[0].split(" ")[0]: len(rule.marks)})

    # The eighth place says what the signs mean.
    left, top = 515, 6 + 3 * 372
    page.text(left, top + 14, "What is drawn", 16, bold=True)
    panel = page.panel((left, top + 40, 485, 273), x=(0, WIDTH), y=(0, HEIGHT), clip=True)
    panel.image(photo())
    for box, name, paint in zip(BOXES.tolist(), NAMES, PAINTS):
        panel.rect(box, paint, width=2.5)
        panel.text(box[0] + 3, box[1] + 13 if name != "picture" else box[1] - 4, name, 13, paint, bold=True, halo=True)
    page.text(left, top + 330, "filled square: a cell that learns the object; its side is the stride, 8, 16 or 32 px", 12)
    page.text(left, top + 347, "frame: its anchor (small squares mark the anchor's middle); dotted: the object", 12)
    return page


def pair(title, first, second, names):
    """Two panels side by side."""
    page = Page(1010, 356, title)
    for place, (rule, name) in enumerate(zip((first, second), names)):
        draw_rule(page, rule._replace(title=name), 10 + place * 505, 4, 485)
        page.note(**{f"{name} {word}": count for word, count in zip(NAMES, rule.counts())}, **{name: len(rule.marks)})
    return page


def assign_yolo():
    """F15: YOLOv3 and YOLOv4."""
    return pair("Assignment by shape", yolov3_rule(), yolov4_rule(), ("YOLOv3", "YOLOv4"))


def assign_ssd():
    """F16: SSD, without and with the best default box of each object."""
    first, second = ssd_rule(forced=False), ssd_rule()
    first = first._replace(words="IoU of 0.5 or more: small and narrow objects may get none")
    second = second._replace(words="and the best default box of every object")
    return pair("Assignment in SSD", first, second, ("SSD: IoU alone", "SSD: with the best one"))


def assign_retinanet():
    """F17: RetinaNet and the first stage of Faster R-CNN."""
    first, second = retinanet_rule(), rpn_rule()
    page = pair("Assignment by IoU of anchors", first, second, ("RetinaNet", "RPN of Faster R-CNN"))
    page.note(aside=len(first.aside), background=len(second.asked))
    return page


def assign_yolox():
    """F18: SimOTA asks the network: before the first step, and after some."""
    return pair("SimOTA of YOLOX", yolox_rule(0), yolox_rule(), ("before the first step", f"after {STEPS['yolox']} steps"))


def assign_yolov8():
    """F19: so does TAL."""
    return pair("TAL of YOLOv8", yolov8_rule(0), yolov8_rule(), ("before the first step", f"after {STEPS['yolov8']} steps"))
