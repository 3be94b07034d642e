"""The engine that computes with ONNX Runtime: a file of export_onnx.py, without PyTorch. See engine.py.

What utils/evaluate.py does with tensors is done here with NumPy: the same steps, the same answers.
"""
import cv2
import numpy as np

from utils.errors import UserError
from utils.images import GREY, MEAN, STEP, check_fit, fit_image, from_input, resize, stack
from utils.prediction.engine import Engine
from utils.prediction.onnx_file import SIZE, open_file
from utils.prediction.suppression import ranks_by_class, remove_duplicates
from utils.settings import check, fill, several, shown, whole
from utils.views import covered, scaled, window_starts

BATCH = 16                      # pictures that a GPU gets at once
VARYING = ("rect", "short_side")        # with these every picture has an input of its own size


class OnnxEngine(Engine):
    """A network in an .onnx file."""

    def __init__(self, path, s):
        """s: the settings of predict.py; input_shape, fit and nms_iou are filled in."""
        super().__init__()
        self.session, self.info = open_file(path, s.device)
        self.path, self.task, self.class_names = path, self.info["task"], self.info["class_names"]
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.choose_input(s)
        self.input_shape, self.fit = s.input_shape, s.fit
        self.on_cpu = self.session.get_providers()[0] == "CPUExecutionProvider"
        self.batch = 1 if self.on_cpu or self.task == "segmentation" or not self.takes_batches() else BATCH

    def choose_input(self, s):
        """See utils.evaluate.choose_input. Error: the file takes no such input."""
        info, inside = self.info, self.info["suppression"]
        fill(s, {"nms_iou": inside["nms_iou"] if inside else info["nms_iou"]}, "as exported")
        fit = info["settings"].get("fit") or "letterbox"
        fixed = SIZE not in info["dynamic"]
        rectangles = not fixed and self.task == "detection" and STEP % info["stride"] == 0
        if s.fit is None and fit == "letterbox" and rectangles and info["smallest"] <= STEP:
            s.put("fit", "rect", "as exported, with less grey")
        fill(s, {"fit": fit, "input_shape": info["input_shape"]}, "as exported")
        check(s, input_shape=several(2, whole(1)))
        check_fit(s.fit)

        # The file knows one size, or the network's stride divides it.
        asked, own = tuple(s.input_shape), info["input_shape"]
        if fixed and (s.fit in VARYING or asked != own):
            what = f'fit="{s.fit}"' if s.fit in VARYING else f"input_shape={asked}"
            raise UserError(f"{what}: {shown(self.path)} was exported for inputs of {own[1]} x {own[0]} "
                            "only. Export it for another one, or leave this setting out.")
        step, least = info["stride"], info["smallest"]
        near = tuple(max(-(-least // step), round(side / step)) * step for side in asked)
        if s.fit != "short_side" and near != asked:
            raise UserError(f"input_shape={asked}: {info['net']} cannot take this size. "
                            f"The nearest is {near}.")

    def takes_batches(self):
        return "batch" in self.info["dynamic"]

    def run(self, canvases):
        """canvases (B, H, W, 3) uint8 -> for each image a dict name -> array, as the file's outputs are
        called; "levels" is the same for all."""
        batch = np.ascontiguousarray(canvases.transpose(0, 3, 1, 2), np.float32) / 255     # (B, 3, H, W)
        step = len(batch) if self.takes_batches() else 1
        answers = []
        for first in range(0, len(batch), step):
            values = self.session.run(None, {"images": batch[first:first + step]})
            part = dict(zip(self.outputs, values))
            levels = {"levels": part.pop("levels")} if "levels" in part else {}
            answers += [{name: value[i] for name, value in part.items()} | levels for i in range(step)]
        return answers

    def detect(self, images, confidence, nms_iou, max_boxes, fitted=None, **rules):
        """See engine.py."""
        canvases, transforms = zip(*(fitted or [self.fit_picture(image) for image in images]))
        with self.clock("network"):
            answers = self.run(stack(canvases, GREY if self.fit == "rect" else MEAN))

        # What remains after NMS, back in pixels of the pictures. Boxes in the padding end up empty.
        keep = self.kept if self.info["suppression"] else self.suppressed
        results = []
        with self.clock("decode + NMS"):
            for answer, transform, image in zip(answers, transforms, images):
                found = keep(answer, confidence, nms_iou, max_boxes, **rules)
                found["boxes"] = from_input(found["boxes"], transform, image.shape[:2])
                inside = (found["boxes"][:, 2:] > found["boxes"][:, :2]).all(1)     # (P,)
                results.append({name: values[inside] for name, values in found.items()})
                if not inside.any():
                    results[-1]["best"] = self.highest(answer, confidence)
        return results

    def highest(self, answer, confidence):
        """-> (score, label) of the best of all predictions, None if there are none that are wanted."""
        if self.info["suppression"]:
            return None
        wanted = np.isfinite(np.broadcast_to(confidence, len(self.class_names)))    # (K,)
        scores = np.where(wanted, answer["scores"].max(0, initial=-1), -1)          # (K,)
        label = int(scores.argmax())
        return (float(scores[label]), label) if scores[label] >= 0 else None

    def suppressed(self, answer, confidence, nms_iou, max_boxes, **rules):
        """All predictions of one image -> what remains after NMS."""
        limits = {name: limit for name, limit in self.info["limits"].items() if limit}
        return remove_duplicates(answer["boxes"], answer["scores"], confidence, nms_iou, max_boxes,
                        parts=answer.get("levels"), **limits, **rules)

    def kept(self, answer, confidence, nms_iou, max_boxes, kind="hard", agnostic=False, most_per_class=None):
        """Of one image what the file itself has kept: boxes (P, 4), scores (P,) falling, 0 where there is
        none, labels (P,) -> those that are asked for."""
        inside = self.info["suppression"]
        if nms_iou != inside["nms_iou"] or kind != "hard" or agnostic:
            raise UserError(f"{shown(self.path)} has its suppression inside, with "
                            f"nms_iou={inside['nms_iou']:g}: nms, nms_iou and agnostic_nms cannot be chosen "
                            "here. Export it with nms=False.")

        # Filled up with scores of 0; what is asked for may be less than what was kept.
        least = np.broadcast_to(np.asarray(confidence, np.float32), len(self.class_names))      # (K,)
        sure = (answer["scores"] > 0) & (answer["scores"] > least[answer["labels"]])
        found = {name: answer[name][sure] for name in ("boxes", "scores", "labels")}
        if most_per_class:
            few = ranks_by_class(found["labels"]) < most_per_class
            found = {name: values[few] for name, values in found.items()}
        return {name: values[:max_boxes] for name, values in found.items()}

    def segment(self, images, threshold=0.5, scales=(1.0,), flip=False, slide=False):
        """See engine.py."""
        if not slide and tuple(scales) != (1.0,) and SIZE not in self.info["dynamic"]:
            raise UserError(f"scales={tuple(scales)}: {shown(self.path)} was exported for one size of the "
                            "input. Leave scales out, or set slide=True.")
        with self.clock("network"):
            return [self.regions(image, threshold, scales, flip, slide) for image in images]

    def regions(self, image, threshold, scales, flip, slide):
        """One image -> labels (h, w) uint8, best (K,)."""
        views = []
        for scale in scales:
            if slide:
                views.append(self.slide(resize(image, *scaled(image.shape[:2], scale)), flip))
            else:
                shape = scaled(self.input_shape, scale, self.info["stride"])
                views.append(self.whole(image, shape, flip))

        # Their mean, at the size of the first one.
        size = views[0].shape[1:]
        mean = sum(grow(view, size) for view in views) / len(views)                 # (K, n, m)
        return {"labels": label_pixels(mean, image.shape[:2], threshold), "best": mean.max((1, 2))}

    def scores(self, canvas, flip):
        """canvas: (H, W, 3) uint8 -> scores (K, H, W); flip: the mean with those of its mirror image."""
        scores = self.run(canvas[None])[0]["scores"]                                # (K, H, W)
        if not flip:
            return scores
        mirrored = self.run(canvas[None, :, ::-1])[0]["scores"]                     # (K, H, W)
        return (scores + mirrored[..., ::-1]) / 2

    def whole(self, image, shape, flip):
        """The whole image in an input of (H, W). -> scores (K, n, m) of the part that the image covers."""
        canvas, transform = fit_image(image, shape)
        return covered(self.scores(canvas, flip), transform, image.shape[:2], shape)

    def slide(self, image, flip):
        """Windows over an image. -> scores (K, h, w), the mean where windows overlap."""
        (h, w), (high, wide) = image.shape[:2], self.input_shape
        if h <= high and w <= wide:
            return grow(self.whole(image, self.input_shape, flip), (h, w))

        # An image that is narrower than a window is padded on both sides until one fits.
        padded, _ = fit_image(image, (max(h, high), max(w, wide)))
        sums = np.zeros((len(self.class_names), *padded.shape[:2]), np.float32)
        times = np.zeros(padded.shape[:2], np.float32)
        for y in window_starts(padded.shape[0], high):
            for x in window_starts(padded.shape[1], wide):
                rows, columns = slice(y, y + high), slice(x, x + wide)
                sums[:, rows, columns] += self.scores(padded[rows, columns], flip)
                times[rows, columns] += 1
        top, left = (padded.shape[0] - h) // 2, (padded.shape[1] - w) // 2
        return (sums / times)[:, top:top + h, left:left + w]


def grow(planes, size):
    """(K, n, m) -> (K, h, w), bilinear, as PyTorch does it. size: (h, w)."""
    if planes.shape[1:] == tuple(size):
        return planes
    return np.stack([grow_one(plane, size) for plane in planes])


def grow_one(plane, size):
    return cv2.resize(np.ascontiguousarray(plane), size[::-1], interpolation=cv2.INTER_LINEAR)


def label_pixels(scores, size, threshold):
    """scores: (K, n, m) -> labels (h, w) uint8, class by class. See utils.evaluate.classify."""
    labels, best = np.zeros(size, np.uint8), None
    for c, plane in enumerate(scores):
        plane = grow_one(plane, size)                                               # (h, w)
        if best is None:
            best = plane
            continue
        labels[plane > (threshold if len(scores) == 2 else best)] = c
        best = np.maximum(best, plane)
    return labels
