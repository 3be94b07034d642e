"""What a detector does wrong: a page of its worst misses, and a diagnosis when nothing at all is right."""
import numpy as np

from utils.results import plots
from utils.voc_ap import FOUND, WRONG, best_objects, box_iou, flatten, voc_states

TRUTH, OTHER, FALSE = "#2ca02c", "#ff9900", "#e31a1c"       # colours of the page: the truth, detections, the false one


def worst_misses(detections, truths, class_names, score_threshold=0.5, most=24, most_per_image=2):
    """The largest objects that were missed and the most confident false detections, half and half where there are enough.

    detections, truths: as in utils/metrics.py.  Result: list of dicts: image (index), box (4,) xyxy pixels, label,
    score (None: a missed object), reason (a few words).
    """
    rows, objects = flatten(detections, truths, len(class_names))
    states, (best, _) = voc_states(rows, objects), best_objects(rows, objects)
    accepted = rows.score >= score_threshold
    missed = ~objects.difficult & ~np.isin(np.arange(len(objects.label)), best[(states == FOUND) & accepted])
    size = (objects.box[:, 2] - objects.box[:, 0]) * (objects.box[:, 3] - objects.box[:, 1])
    wrong = np.flatnonzero((states == WRONG) & accepted)
    wrong = few_per_image(wrong[np.argsort(-rows.score[wrong], kind="stable")], rows.image, most_per_image)
    lost = np.flatnonzero(missed)
    lost = few_per_image(lost[np.argsort(-size[lost], kind="stable")], objects.image, most_per_image)
    take = max(most - len(wrong), most // 2)
    cases = [{"image": int(objects.image[i]), "box": objects.box[i], "label": int(objects.label[i]), "score": None} for i in lost[:take]]
    cases += [{"image": int(rows.image[i]), "box": rows.box[i], "label": int(rows.label[i]), "score": float(rows.score[i])}
              for i in wrong[:most - len(cases)]]
    names = [plots.label(name, i) for i, name in enumerate(class_names)]
    for case in cases:
        explain = why_missed if case["score"] is None else why_false
        case["reason"] = explain(case, detections[case["image"]], truths[case["image"]], names, score_threshold)
    return cases


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
    i = int(np.argmax(iou)) if len(iou) else None
    return (None, 0.0) if i is None or iou[i] <= 0 else (i, float(iou[i]))


def why_false(case, found, truth, names, score_threshold):
    labels = np.asarray(truth["labels"])
    _, same = nearest(case["box"], truth["boxes"], labels == case["label"])
    other, other_iou = nearest(case["box"], truth["boxes"], labels != case["label"])
    if same >= 0.5:
        return "a second box on one object"
    if other_iou >= 0.5:
        return f"the truth says {names[labels[other]]}"
    return f"the box is off: IoU {same:.2f}" if same >= 0.1 else "no such object here"


def why_missed(case, found, truth, names, score_threshold):
    labels, scores = np.asarray(found["labels"]), np.asarray(found["scores"])
    same, same_iou = nearest(case["box"], found["boxes"], labels == case["label"])
    other, other_iou = nearest(case["box"], found["boxes"], (labels != case["label"]) & (scores >= score_threshold))
    if same_iou >= 0.5:
        return f"only at score {scores[same]:.2f}" if scores[same] < score_threshold else "its box went to another object"
    if other_iou >= 0.5:
        return f"taken for {names[labels[other]]} {scores[other]:.2f}"
    return f"the nearest box is off: IoU {same_iou:.2f}" if same_iou >= 0.1 else "no box of its class near"


def misses_page(cases, image_paths, detections, truths, class_names, path, score_threshold=0.5):
    """Draw the cases of `worst_misses`, each with its surroundings, into one PNG file. No cases, no file."""
    from utils.images import open_image
    if not cases:
        return
    columns = min(4, len(cases))
    lines = -(-len(cases) // columns)
    with plots.look():
        figure = plots.Figure(figsize=(3.1 * max(columns, 2), 3.5 * lines + 0.5), dpi=100, layout="constrained")
        figure.get_layout_engine().set(hspace=0.08)
        figure.suptitle(f"Worst misses. Green: the truth. Orange: detections at score ≥ {score_threshold:g}, red: the false one.",
                        fontsize=10)
        for axes in figure.subplots(lines, columns, squeeze=False).flat:
            axes.axis("off")
        for axes, case in zip(figure.axes, cases):
            draw_case(axes, case, open_image(image_paths[case["image"]]), detections[case["image"]],
                      truths[case["image"]], class_names, score_threshold)
            axes.text(0.5, -0.02, plots.label(image_paths[case["image"]].name), transform=axes.transAxes, ha="center", va="top", fontsize=6)
        figure.savefig(path)


def draw_case(axes, case, image, found, truth, class_names, score_threshold):
    """One cell: the part of the image around the box, all truths and accepted detections, and the case drawn thick."""
    x1, y1, x2, y2 = case["box"]
    reach = max(48, 0.9 * max(x2 - x1, y2 - y1))                       # half the side of the square that is shown
    height, width = image.shape[:2]
    left, top = (int(np.clip((a + b) / 2 - reach, 0, max(0, limit - 2 * reach))) for a, b, limit in ((x1, x2, width), (y1, y2, height)))
    right, bottom = min(width, left + int(2 * reach)), min(height, top + int(2 * reach))
    axes.imshow(image[top:bottom, left:right], extent=(left, right, bottom, top), interpolation="nearest")
    for box in np.asarray(truth["boxes"], float).reshape(-1, 4):
        outline(axes, box, TRUTH, 1.0)
    for box in np.asarray(found["boxes"], float).reshape(-1, 4)[np.asarray(found["scores"]) >= score_threshold]:
        outline(axes, box, OTHER, 1.0, "--")
    missed = case["score"] is None
    outline(axes, case["box"], TRUTH if missed else FALSE, 2.5)
    axes.set(xlim=(left, right), ylim=(bottom, top))
    name = plots.label(class_names[case["label"]], case["label"])
    what = f"missed: {name}" if missed else f"false: {name} {case['score']:.2f}"
    axes.set_title(what + "\n" + case["reason"], fontsize=8)


def outline(axes, box, colour, width, style="-"):
    x1, y1, x2, y2 = box
    axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=colour, linewidth=width, linestyle=style)


def diagnose(detections, truths, class_names):
    """Why is the mAP 0? Sentences: what was counted, and the likely cause."""
    rows, objects = flatten(detections, truths, len(class_names))
    blind, same = np.zeros(len(rows.score)), best_objects(rows, objects)[1]
    by_image = np.searchsorted(objects.image, np.arange(len(truths) + 1))                  # objects keep the order of images
    for i, row in enumerate(rows.image):
        of_image = objects.box[by_image[row]:by_image[row + 1]]
        blind[i] = box_iou(rows.box[i], of_image).max() if len(of_image) else 0.0
    truth_count, found_count = (np.bincount(table.label, minlength=len(class_names)) for table in (objects, rows))
    top = float(rows.score.max()) if len(rows.score) else 0.0
    lines = [f"objects in the list: {len(objects.label)} ({int(objects.difficult.sum())} difficult) in {len(truths)} images",
             f"detections: {len(rows.score)}, of these at score 0.5 or more: {int((rows.score >= 0.5).sum())}, highest score {top:.3f}",
             f"best IoU with an object of the same class: {same.max(initial=0):.2f}, of any class: {blind.max(initial=0):.2f}",
             f"classes with objects: {int((truth_count > 0).sum())}, with detections: {int((found_count > 0).sum())}, "
             f"with both: {int(((truth_count > 0) & (found_count > 0)).sum())}"]
    if rows.not_finite:
        cause = f"{rows.not_finite} detections are not finite numbers: the weights are broken (NaN), train again with a lower lr."
    elif not len(objects.label):
        cause = "the list has no objects: it names unlabelled images, or its class names are not those of the model."
    elif objects.difficult.all():
        cause = "every object is marked difficult, and those are not counted."
    elif not len(rows.score):
        cause = "the network finds nothing at all: it is hardly trained, or it was trained on other images; look at the training's losses."
    elif blind.max() < 0.3:
        cause = ("boxes lie nowhere near the objects: the training was too short, or the list's boxes do not belong to its images "
                 "(resized or renamed files).")
    elif same.max() < 0.5 <= blind.max():
        cause = "places are right and classes are wrong: the class names of the list stand in another order than those of the model."
    elif same.max() < 0.5:
        cause = "boxes lie near the objects but never closely enough (IoU 0.5): train longer."
    else:
        cause = "some boxes are right but drown in wrong ones: train longer."
    return [*lines, "likely cause: " + cause]
