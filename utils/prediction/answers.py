"""What an engine answers about a picture: asked for, put into the words of the .json, drawn."""
from collections import Counter, namedtuple

import numpy as np

from utils.results import masks
from utils.results.draw import draw_boxes
from utils.results.filters import thresholds_of

# Of a picture in which nothing was found, or one class only: how close did the next one come?
# score: of the best that was left out, 0.0 if there is none.  label: its class.
# only: the class that every pixel has, None with a detector.
Hint = namedtuple("Hint", "score label only")


def ask(s, engine, images, fitted=None):
    """-> for each image what the engine answers, see engine.py. fitted: see `Engine.fit_picture`."""
    if engine.task == "segmentation":
        return engine.segment(images, s.threshold, s.scales, s.flip, s.slide)
    return engine.detect(images, thresholds_of(s, engine.class_names), s.nms_iou, s.max_boxes, fitted=fitted,
                         kind=s.nms, agnostic=s.agnostic_nms, most_per_class=s.max_per_class)


def found_in(engine, answer):
    """One answer -> what was found as the .json has it: {"boxes": [...]} or {"classes": [...]}."""
    names = engine.class_names
    if engine.task == "segmentation":
        return {"classes": masks.pixel_shares(answer["labels"], names)}
    rows = zip(answer["boxes"], answer["scores"], answer["labels"])
    return {"boxes": [{"label": names[label], "score": round(float(score), 4),
                       "xyxy": [round(float(edge), 2) for edge in box]} for box, score, label in rows]}


def hint_of(engine, answer, found):
    """-> Hint, or None where something was found."""
    names = engine.class_names
    if engine.task == "detection":
        if found["boxes"]:
            return None
        score, label = answer.get("best") or (0.0, 0)
        return Hint(score, names[label], None)

    # One class alone is rarely what was hoped for.
    if len(found["classes"]) != 1 or len(names) == 1:
        return None
    only, best = names.index(found["classes"][0]["label"]), answer["best"]
    other = max((label for label in range(len(names)) if label != only), key=lambda label: best[label])
    return Hint(float(best[other]), names[other], names[only])


def draw_answer(s, engine, image, answer, found, video=False):
    """-> the picture to show, (h, w, 3) uint8; with masks it is higher than the image, by the legend."""
    names = engine.class_names
    if engine.task == "detection":
        return draw_boxes(image, answer["boxes"], answer["labels"], names, answer["scores"], s.line_width,
                          s.show_labels)

    # The legend of a picture names what is in it, that of a video every class: its frames are of one size.
    legend = masks.legend(image.shape[1], names, None if video else found["classes"])
    return np.vstack([masks.blend(image, answer["labels"], names, s.opacity), legend])


def find_and_draw(s, engine, image, video=False):
    """All of this for one image. -> picture to show, what was found as the .json has it"""
    (answer,) = ask(s, engine, [image])
    found = found_in(engine, answer)
    return draw_answer(s, engine, image, answer, found, video), found


def tally(found):
    """-> Counter of objects or of pixels by class name."""
    if "boxes" in found:
        return Counter(box["label"] for box in found["boxes"])
    return Counter({row["label"]: row["pixels"] for row in found["classes"]})
