"""A network of nets/ as a graph of ONNX: picture in, boxes and scores (or what NMS leaves of them) out.

PyTorch runs the network once and writes down every operation (torch.onnx.export, its tracing exporter). What
Python decides on the way is frozen: so the graph is run again on other batches and sizes, and only what gives
the network's own answers there is called dynamic.
"""
import contextlib
import io
import os
import sys
import warnings

import numpy as np
import torch
from torch import nn

from utils.errors import UserError, is_lack_of_memory
from utils.images import STEP
from utils.prediction.onnx_file import SIZE, first_words, need, quiet_options

# What is tried, the freest first.
FREEDOMS = (("batch", SIZE), ("batch",), ())
EQUAL = {"boxes": 0.02, "scores": 1e-4, "levels": 0, "labels": 0}     # px, 0 to 1; float32 in another order


class Graph(nn.Module):
    """Network and decode; for a detector the suppression too, if it is to be inside."""

    def __init__(self, model, suppression=None):
        super().__init__()
        self.model = model
        self.suppression = suppression

    def forward(self, images):
        """images: (B, 3, H, W) -> scores (B, K, H, W); of a detector boxes (B, N, 4) or (B, N, K, 4),
        scores (B, N, K), and where the suppression asks for it how many of N belong to each level."""
        outputs, _ = self.model(images)
        decoded = self.model.decode(outputs)
        if self.model.task == "segmentation":
            return (decoded.float(),)
        boxes, scores = (values.float() for values in decoded)
        if self.suppression:
            return suppressed(boxes, scores, **self.suppression)
        limits = self.model.candidates(outputs) if hasattr(self.model, "candidates") else {}
        if "parts" in limits:
            return boxes, scores, torch.stack([torch.as_tensor(part) for part in limits["parts"]])
        return boxes, scores


class Suppress(torch.autograd.Function):
    """ONNX's NonMaxSuppression. PyTorch has none of that form: it only hands the operation on."""

    @staticmethod
    def forward(ctx, boxes, scores, most, nms_iou, confidence):
        """-> rows (M, 3): image, class, prediction. Here some of the right form, of no meaning."""
        return torch.zeros((1, 3), dtype=torch.int64)

    @staticmethod
    def symbolic(g, boxes, scores, most, nms_iou, confidence):
        values = (torch.tensor([most]), torch.tensor([nms_iou]), torch.tensor([confidence]))
        constants = [g.op("Constant", value_t=value) for value in values]
        return g.op("NonMaxSuppression", boxes, scores, *constants)


def suppressed(boxes, scores, confidence, nms_iou, max_boxes):
    """NMS inside the graph. boxes: (B, N, 4) or (B, N, K, 4).  scores: (B, N, K).

    -> boxes (B, P, 4), scores (B, P) falling, labels (B, P); score 0 where an image has fewer than P.
    """
    # The classes are suppressed apart. Where each has boxes of its own, it counts as an image.
    scores = scores.transpose(1, 2)                                                 # (B, K, N)
    own = boxes.dim() == 4
    if own:
        boxes = boxes.transpose(1, 2)                                               # (B, K, N, 4)
        single = scores.flatten(0, 1)[:, None]                                      # (B*K, 1, N)
        rows = Suppress.apply(boxes.flatten(0, 1), single, max_boxes, nms_iou, confidence)      # (M, 3)
        flat = torch.zeros_like(scores.flatten(0, 1))                               # (B*K, N)
        flat[rows[:, 0], rows[:, 2]] = 1.0
        stays = flat.reshape_as(scores)                                             # (B, K, N)
    else:
        rows = Suppress.apply(boxes, scores, max_boxes, nms_iou, confidence)        # (M, 3)
        stays = torch.zeros_like(scores)                                            # (B, K, N)
        stays[rows[:, 0], rows[:, 1], rows[:, 2]] = 1.0

    # Of what stays the best ones. A box is found again by its place in the table of K times N.
    best, place = (scores * stays).flatten(1).topk(max_boxes)                       # (B, P), (B, P)
    predictions = scores.shape[2]
    labels = torch.div(place, predictions, rounding_mode="floor")                   # (B, P)
    row = place if own else place - labels * predictions                            # (B, P)
    flat = boxes.flatten(1, 2) if own else boxes                                    # (B, K*N, 4) or (B, N, 4)
    chosen = flat.gather(1, row[..., None].expand(-1, -1, 4))                       # (B, P, 4)
    return chosen, best, labels


def make_graph(model, input_shape, opset, suppression=None, dynamic=True):
    """-> the bytes of an .onnx file; what is dynamic in it, see FREEDOMS; the limits of the suppression.

    suppression: confidence, nms_iou and max_boxes of an NMS inside; None: without.
    dynamic: False: one picture of this size, nothing else.
    Error: the network cannot be written down, or the graph computes something else.
    """
    reason, limits = None, limits_of(model, input_shape)
    for freedom in FREEDOMS if dynamic else FREEDOMS[-1:]:
        try:
            names = names_of(model, limits)
            content = write_down(Graph(model).eval(), input_shape, opset, freedom, names)
            off = differences(model, content, shapes_of(model, input_shape, freedom))
        except Exception as error:                          # the exporter can fail in many ways
            if is_lack_of_memory(error):
                raise
            reason = first_words(error)                     # of the least free graph: it has to do the least
            continue
        if not all(value <= EQUAL[name] for name, value in off.items()):    # so that NaN is none
            reason = f"its answers differ from the network's by {max(off.values()):.3g}"
            continue

        # The suppression inside comes last: there is nothing in PyTorch to compare it with on noise.
        if suppression:
            graph = Graph(model, suppression).eval()
            content = write_down(graph, input_shape, opset, freedom, ["boxes", "scores", "labels"])
        return content, freedom, {name: limit for name, limit in limits.items() if name != "parts"}
    raise UserError(f"{type(model).__name__} cannot be exported with opset={opset}: {reason}")


@torch.inference_mode()
def limits_of(model, input_shape):
    """What the network says of the boxes that enter the suppression, see utils.boxes.nms."""
    if not hasattr(model, "candidates"):
        return {}
    outputs, _ = model.eval()(torch.zeros(1, 3, *input_shape))
    return model.candidates(outputs)


def names_of(model, limits):
    """The names of the outputs, without a suppression inside."""
    if model.task == "segmentation":
        return ["scores"]
    return ["boxes", "scores", *(["levels"] if "parts" in limits else [])]


def write_down(graph, input_shape, opset, freedom, names):
    """-> the bytes of the graph, traced once."""
    # Which axes of which output may have another length.
    axes = {name: {} for name in ("images", *names)}
    if "batch" in freedom:
        axes = {name: {0: "batch"} for name in axes if name != "levels"}
    if SIZE in freedom:
        sides = {2: "height", 3: "width"}
        axes["images"] |= sides
        for name in set(names) & {"boxes", "scores"}:
            if "labels" not in names:
                axes[name] |= sides if graph.model.task == "segmentation" else {1: "predictions"}

    # The exporter says much that is for those who work on it.
    example = torch.rand(2 if "batch" in freedom else 1, 3, *input_shape)
    file = io.BytesIO()
    with torch.no_grad(), silence(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(graph, (example,), file, dynamo=False, opset_version=opset, input_names=["images"],
                          output_names=names, dynamic_axes=axes)
    return file.getvalue()


@contextlib.contextmanager
def silence():
    """Nothing is printed, not even by C++, which knows nothing of sys.stdout."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if stream]
    for stream in streams:
        stream.flush()

    # The file descriptors themselves lead nowhere for a while.
    kept = [os.dup(number) for number in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number in (1, 2):
            os.dup2(nowhere, number)
        yield
    finally:
        for number, copy in zip((1, 2), kept):
            os.dup2(copy, number)
        for number in (*kept, nowhere):
            os.close(number)


def shapes_of(model, input_shape, freedom):
    """(B, H, W) of the inputs on which graph and network are compared."""
    step = max(model.stride, STEP)
    height, width = input_shape
    shapes = [(1, height, width)]
    if "batch" in freedom:
        shapes.append((3, height, width))
    if SIZE in freedom:
        less = max(step, height // 2 // step * step)
        shapes += [(1, less, width + step), (2, 2 * height, width + 3 * step)]
    return shapes


@torch.no_grad()
def differences(model, content, shapes):
    """The graph in ONNX Runtime against the network in PyTorch, on noise, before NMS.

    -> name of an output: the largest difference. An edge far outside counts in shares of how far it is.
    """
    (runtime,) = need("onnxruntime")
    session = runtime.InferenceSession(content, quiet_options(runtime), providers=["CPUExecutionProvider"])

    graph, chance = Graph(model).eval(), torch.Generator().manual_seed(0)
    names = [output.name for output in session.get_outputs()]
    worst = dict.fromkeys(names, 0.0)

    # Every output of every input. A NaN is kept, and is more than any limit.
    for count, height, width in shapes:
        images = torch.rand(count, 3, height, width, generator=chance)
        for name, ours, theirs in zip(names, graph(images), session.run(None, {"images": images.numpy()})):
            ours = ours.numpy()
            if ours.shape != theirs.shape:
                return worst | {name: np.inf}
            far = np.maximum(1, np.abs(ours) / max(height, width)) if name == "boxes" else 1
            worst[name] = float(np.maximum(worst[name], (np.abs(ours - theirs) / far).max(initial=0)))
    return worst


def write_file(content, properties, path):
    """The graph with its metadata into a file. properties: see onnx_file.as_properties."""
    (onnx,) = need("onnx")
    model = onnx.load_from_string(content)
    model.producer_name = "PlainVision"
    onnx.helper.set_model_props(model, properties)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
