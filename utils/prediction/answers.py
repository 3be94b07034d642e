"""What an engine answers about a picture: asked for, put into the words of the .json, drawn."""
from collections import Counter, namedtuple

import numpy as np

from utils.prediction.tiles import detect_in_views, views_of
from utils.results import masks
from utils.results.draw import draw_boxes, grid
from utils.results.filters import class_number, thresholds_of

CELL = 640                      # px, the side of a picture on a page of heat maps

# Of a picture in which nothing was found, or one class only: how close did the next one come?
# score: of the best that was left out, 0.0 if there is none.  label: its class.
# only: the class that every pixel has, None with a detector.
Hint = namedtuple("Hint", "score label only")


def ask(s, engine, images, fitted=None, least=None):
    """-> for each image what the engine answers, see engine.py.

    fitted: see `Engine.fit_picture`.  least: boxes from this score on are wanted, None: as the variables say.
    """
    if engine.task == "segmentation":
        return engine.segment(images, s.threshold, s.scales, s.flip, s.slide)
    wanted = thresholds_of(s, engine.class_names)                                   # (K,)
    if least is not None:
        wanted = np.where(np.isfinite(wanted), np.minimum(wanted, least), wanted)

    # A scale is named only where there is one: not every engine knows it.
    def detect(some, scale=1.0, **more):
        more |= {} if scale == 1.0 else {"scale": scale}
        return engine.detect(some, wanted, s.nms_iou, s.max_boxes, kind=s.nms, agnostic=s.agnostic_nms,
                             most_per_class=s.max_per_class, **more)

    # Each image once, as it is; or in tiles, mirrored, at several sizes.
    views = [views_of(image, s.tiles, s.tile_overlap, s.scales, s.flip) for image in images]
    if all(len(some) == 1 and some[0][1:] == (1.0, False) for some in views):
        return detect(images, fitted=fitted)
    return [detect_in_views(detect, image, some, s.nms_iou, s.max_boxes, s.max_per_class, s.agnostic_nms,
                            engine.batch) for image, some in zip(images, views)]


def add_heat(s, engine, images, answers):
    """Add "heat" to the answers: label of the class, and two maps of it, see heat.py."""
    for image, answer in zip(images, answers):
        label = heat_label(s, engine, answer)
        answer["heat"] = (label, *engine.heat_maps(image, label))


def heat_label(s, engine, answer):
    """The class that the variable heat means; True: the surest one, or the one with the most pixels."""
    names = engine.class_names
    if s.heat is not True:
        return class_number(s.heat, names, "heat")
    if engine.task == "detection":
        return int(answer["labels"][0]) if len(answer["labels"]) else (answer.get("best") or (0, 0))[1]
    counts = np.bincount(answer["labels"].ravel(), minlength=len(names))[:len(names)]
    if masks.background_of(names) is not None and counts[1:].any():
        counts[0] = 0
    return int(counts.argmax())


def draw_heat(engine, image, drawn, answer):
    """-> a page of three pictures: the result, the score of the class, what has caused it."""
    label, score, cause, best = answer["heat"]
    name = engine.class_names[label]
    pictures = [drawn, masks.heat_overlay(image, score), masks.heat_overlay(image, cause)]
    return grid(pictures, 3, min(CELL, max(image.shape)),
                ["", f"score of {name}, at most {best:.2f}", f"what speaks for {name}"])


def found_in(engine, answer):
    """One answer -> what was found as the .json has it: {"boxes": [...]} or {"classes": [...]}."""
    names = engine.class_names
    if engine.task == "segmentation":
        return {"classes": masks.pixel_shares(answer["labels"], names)}
    rows = zip(answer["boxes"], answer["scores"], answer["labels"])
    boxes = [{"label": names[label], "score": round(float(score), 4),
              "xyxy": [round(float(edge), 2) for edge in box]} for box, score, label in rows]
    for box, track in zip(boxes, answer.get("tracks", ())):
        if track:
            box["track"] = int(track)
    return {"boxes": boxes}


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


def find_and_draw(s, engine, image, video=False, follow=None, moment=0.0, frames=1):
    """All of this for one image. follow: of follow.py, for a frame of a video at `moment` s, so many frames
    after the last one.
    -> picture to show, what was found as the .json has it"""
    (answer,) = ask(s, engine, [image], least=follow and follow.least())
    answer = follow.join(answer, frames) if follow else answer
    found = found_in(engine, answer)
    picture = draw_answer(s, engine, image, answer, found, video)
    return follow.add(picture, image, found, moment, frames) if follow else picture, found


def tally(found):
    """-> Counter of objects or of pixels by class name."""
    if "boxes" in found:
        return Counter(box["label"] for box in found["boxes"])
    return Counter({row["label"]: row["pixels"] for row in found["classes"]})
