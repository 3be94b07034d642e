"""What a detector does wrong: a page of its worst misses, and a diagnosis when nothing at all is right."""
import numpy as np

from utils.images import open_image
from utils.results import plots
from utils.settings import counted
from utils.voc_ap import FOUND, WRONG, best_objects, box_iou, flatten, voc_states

TRUTH, OTHER, FALSE = "#2ca02c", "#ff9900", "#e31a1c"       # colours of the page


def worst_misses(detections, truths, class_names, score_threshold=0.5, most=24, most_per_image=2):
    """The largest objects that were missed and the most confident false detections,
    half and half where there are enough.

    detections, truths: as in utils/metrics.py.  Result: list of dicts: image (index), box (4,) xyxy pixels,
    label, score (None: a missed object), reason (a few words), number (from 1, to speak about it).
    """
    rows, objects = flatten(detections, truths, len(class_names))
    states = voc_states(rows, objects)
    best, _ = best_objects(rows, objects)
    accepted = rows.score >= score_threshold

    # The most confident false detections.
    wrong = np.flatnonzero((states == WRONG) & accepted)
    wrong = few_per_image(wrong[np.argsort(-rows.score[wrong], kind="stable")], rows.image, most_per_image)

    # The largest objects that no accepted detection has found.
    found = np.isin(np.arange(len(objects.label)), best[(states == FOUND) & accepted])
    size = (objects.box[:, 2] - objects.box[:, 0]) * (objects.box[:, 3] - objects.box[:, 1])
    lost = np.flatnonzero(~objects.difficult & ~found)
    lost = few_per_image(lost[np.argsort(-size[lost], kind="stable")], objects.image, most_per_image)

    # Half of the page for each of them, or more where the others are few.
    lost = lost[:max(most - len(wrong), most // 2)]
    wrong = wrong[:most - len(lost)]
    cases = [one_case(objects, i) for i in lost] + [one_case(rows, i, float(rows.score[i])) for i in wrong]

    names = [plots.label(name, i) for i, name in enumerate(class_names)]
    for number, case in enumerate(cases, 1):
        case["number"] = number
        explain = why_missed if case["score"] is None else why_false
        case["reason"] = explain(case, detections[case["image"]], truths[case["image"]], names,
                                 score_threshold)
    return cases


def one_case(table, row, score=None):
    """A row of the objects (score None: missed) or of the detections (false) as a dict."""
    return {"image": int(table.image[row]), "box": table.box[row], "label": int(table.label[row]),
            "score": score}


def few_per_image(chosen, image, most):
    """Of row numbers in order, the first `most` of each image."""
    seen, kept = {}, []
    for i in chosen:
        seen[image[i]] = seen.get(image[i], 0) + 1
        if seen[image[i]] <= most:
            kept.append(i)
    return kept


def nearest(box, boxes, chosen):
    """Of the chosen boxes the one of highest IoU with the box: (index or None, IoU)."""
    iou = np.where(chosen, box_iou(np.asarray(box, float), np.asarray(boxes, float).reshape(-1, 4)), -1.0)
    if not len(iou) or iou.max() <= 0:
        return None, 0.0
    i = int(np.argmax(iou))
    return i, float(iou[i])


def why_false(case, found, truth, names, score_threshold):
    """A few words about a detection that is wrong: what is there in truth?"""
    labels = np.asarray(truth["labels"])
    _, same = nearest(case["box"], truth["boxes"], labels == case["label"])
    other, other_iou = nearest(case["box"], truth["boxes"], labels != case["label"])
    if same >= 0.5:
        return "a second box on one object"
    if other_iou >= 0.5:
        return f"the truth says {names[labels[other]]}"
    if same >= 0.1:
        return f"the box is off: IoU {same:.2f}"
    return "no such object here"


def why_missed(case, found, truth, names, score_threshold):
    """A few words about an object that was missed: what did the network say there?"""
    labels, scores = np.asarray(found["labels"]), np.asarray(found["scores"])
    same, same_iou = nearest(case["box"], found["boxes"], labels == case["label"])
    accepted = (labels != case["label"]) & (scores >= score_threshold)
    other, other_iou = nearest(case["box"], found["boxes"], accepted)

    # From nearly right to nothing there.
    if same_iou >= 0.5 and scores[same] < score_threshold:
        return f"only at score {scores[same]:.2f}" if scores[same] >= 0.01 else "only below score 0.01"
    if same_iou >= 0.5:
        return "its box was assigned to another object"
    if other_iou >= 0.5:
        return f"mistaken for {names[labels[other]]} {scores[other]:.2f}"
    if same_iou >= 0.1:
        return f"the nearest box is off: IoU {same_iou:.2f}"
    return "no box of its class near"


def misses_page(cases, image_paths, detections, truths, class_names, path, score_threshold=0.5,
                value_range=None):
    """Draw the cases of `worst_misses`, each with its surroundings, into one PNG file. No cases, no file.

    value_range: see utils.images.open_image.
    """
    if not cases:
        return
    from matplotlib.figure import Figure
    columns = min(4, len(cases))
    lines = -(-len(cases) // columns)
    with plots.drawing_style():
        figure = Figure(figsize=(3.1 * max(columns, 2), 3.5 * lines + 0.5), dpi=100, layout="constrained")
        figure.get_layout_engine().set(hspace=0.08)
        figure.suptitle(f"Worst misses. Green: the truth. Orange: detections at score ≥ {score_threshold:g}, "
                        "dotted the nearest below it; red: the false one.",
                        fontsize=10)
        for axes in figure.subplots(lines, columns, squeeze=False).flat:
            axes.axis("off")

        # One cell for each case, with the file's name below it.
        for axes, case in zip(figure.axes, cases):
            index = case["image"]
            image_path = image_paths[index]
            draw_case(axes, case, open_image(image_path, value_range), detections[index], truths[index],
                      class_names, score_threshold)
            axes.text(0.5, -0.02, plots.label(image_path.name), transform=axes.transAxes, ha="center",
                      va="top", fontsize=6)
        plots.save_figure(figure, path)


def draw_case(axes, case, image, found, truth, class_names, score_threshold):
    """One cell: the part of the image around the box, all truths and accepted detections,
    and the case drawn thick."""
    # A square around the box, moved so that it stays within the image. reach: half its side.
    x1, y1, x2, y2 = case["box"]
    reach = max(48, 0.9 * max(x2 - x1, y2 - y1))
    height, width = image.shape[:2]
    left = int(np.clip((x1 + x2) / 2 - reach, 0, max(0, width - 2 * reach)))
    top = int(np.clip((y1 + y2) / 2 - reach, 0, max(0, height - 2 * reach)))
    right = min(width, left + int(2 * reach))
    bottom = min(height, top + int(2 * reach))
    axes.imshow(image[top:bottom, left:right], extent=(left, right, bottom, top), interpolation="nearest")

    # All boxes thin, the one in question thick.
    for box in np.asarray(truth["boxes"], float).reshape(-1, 4):
        outline(axes, box, TRUTH, 1.0)
    accepted = np.asarray(found["scores"]) >= score_threshold
    for box in np.asarray(found["boxes"], float).reshape(-1, 4)[accepted]:
        outline(axes, box, OTHER, 1.0, "--")
    missed = case["score"] is None
    if missed:                                              # what comes nearest, though it does not count
        near, iou = nearest(case["box"], found["boxes"], np.asarray(found["labels"]) == case["label"])
        if near is not None and iou >= 0.1 and not accepted[near]:
            outline(axes, np.asarray(found["boxes"], float)[near], OTHER, 1.2, ":")
    outline(axes, case["box"], TRUTH if missed else FALSE, 2.5)
    axes.set(xlim=(left, right), ylim=(bottom, top))

    name = plots.label(class_names[case["label"]], case["label"])
    what = f"missed: {name}" if missed else f"false: {name} {case['score']:.2f}"
    axes.set_title(f"{case['number']}  {what}\n{case['reason']}", fontsize=8)


def outline(axes, box, colour, width, style="-"):
    x1, y1, x2, y2 = box
    axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=colour, linewidth=width, linestyle=style)


def diagnose(detections, truths, class_names):
    """Why is the mAP 0? Sentences: what was counted, and the likely cause."""
    rows, objects = flatten(detections, truths, len(class_names))
    _, same = best_objects(rows, objects)                   # best IoU with an object of the same class
    every = best_of_any_class(rows, objects, len(truths))
    true_counts = np.bincount(objects.label, minlength=len(class_names))
    found_counts = np.bincount(rows.label, minlength=len(class_names))
    highest = float(rows.score.max()) if len(rows.score) else 0.0

    # What a person would count to find out.
    confident = int((rows.score >= 0.5).sum())
    both = int(((true_counts > 0) & (found_counts > 0)).sum())
    lines = [f"objects in the list: {len(objects.label)} ({int(objects.difficult.sum())} difficult) "
             f"in {counted(len(truths), 'image')}",
             f"detections: {len(rows.score)}, {confident} at score 0.5 or more, highest score {highest:.3f}",
             f"best IoU with an object of the same class: {same.max(initial=0):.2f}, "
             f"of any class: {every.max(initial=0):.2f}",
             f"classes with objects: {int((true_counts > 0).sum())}, "
             f"with detections: {int((found_counts > 0).sum())}, with both: {both}"]
    return [*lines, "likely cause: " + likely_cause(rows, objects, same, every)]


def best_of_any_class(rows, objects, images):
    """(N,) for each detection its best IoU with any object of its image."""
    starts = np.searchsorted(objects.image, np.arange(images + 1))      # objects keep the order of images
    best = np.zeros(len(rows.score))
    for i, image in enumerate(rows.image):
        boxes = objects.box[starts[image]:starts[image + 1]]
        if len(boxes):
            best[i] = box_iou(rows.box[i], boxes).max()
    return best


def likely_cause(rows, objects, same, every):
    """A sentence. same, every: (N,) for each detection its best IoU with an object of its class,
    of any class."""
    # What makes everything else meaningless comes first.
    if rows.not_finite:
        return f"{counted(rows.not_finite, 'detection')} NaN or infinite: " \
               "the weights are broken, train again with a lower lr."
    if not len(objects.label):
        return "the list has no objects: " \
               "it names unlabelled images, or its class names are not those of the model."
    if objects.difficult.all():
        return "every object is marked difficult, and those are not counted."
    if not len(rows.score):
        return "the network finds nothing at all: it is hardly trained, or it was trained on other images; " \
               "look at the training's losses."

    # From boxes at random places to boxes that are nearly right.
    if every.max() < 0.3:
        return "boxes are nowhere near the objects: the training was too short, " \
               "or the list's boxes do not belong to its images (resized or renamed files)."
    if same.max() < 0.5 <= every.max():
        return "places are right and classes are wrong: " \
               "the class names of the list are in another order than those of the model."
    if same.max() < 0.5:
        return "boxes are near the objects but never closely enough (IoU 0.5): train longer."
    return "some boxes are right but most of the confident ones are wrong: train longer."
