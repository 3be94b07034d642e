"""Weights, or weights and activations, as whole numbers of 8 bits: a quarter of the file, nearly as good.

"dynamic": the weights are rounded once, the ranges of the activations are measured in every picture anew.
"static": the ranges were measured before, on some pictures of the training: faster, and it needs these.
What comes after the network itself, the decoding of boxes and scores, stays in float32: there a rounding
would move boxes by pixels.
"""
import logging

import numpy as np

from utils.errors import UserError
from utils.images import fit_image
from utils.prediction.onnx_file import first_words, need

KINDS = ("", "dynamic", "static")
LAYERS = ["Conv", "Gemm", "MatMul"]


class Pictures:
    """What ONNX Runtime's quantization asks for one picture after the other: a CalibrationDataReader."""

    def __init__(self, images, input_shape, fit):
        canvases = (fit_image(image, input_shape, fit)[0] for image in images)
        self.rows = ({"images": np.ascontiguousarray(canvas.transpose(2, 0, 1)[None], np.float32) / 255}
                     for canvas in canvases)

    def get_next(self):
        return next(self.rows, None)


def make_whole(source, target, kind, images, input_shape, fit):
    """source: path of a float32 .onnx file.  target: path of the new one, its metadata the same.

    kind: "dynamic" or "static".  images: only for "static", an iterable of pictures (h, w, 3) uint8.
    """
    onnx, quantization = need("onnx")[0], need("onnxruntime.quantization")[0]
    model = onnx.load(str(source))
    decoding = [node.name for node in model.graph.node if not node.name.startswith("/model/")]
    wanted = {"op_types_to_quantize": LAYERS, "nodes_to_exclude": decoding, "per_channel": kind == "static"}

    # It advises to prepare the file in a way that changes nothing here: BatchNorm is folded already.
    logging.disable(logging.WARNING)
    try:
        if kind == "dynamic":
            quantization.quantize_dynamic(str(source), str(target), weight_type=quantization.QuantType.QUInt8,
                                          **wanted)
        else:
            quantization.quantize_static(str(source), str(target), Pictures(images, input_shape, fit),
                                         activation_type=quantization.QuantType.QUInt8,
                                         weight_type=quantization.QuantType.QInt8, **wanted)
    except Exception as error:                              # it can fail on any graph
        raise UserError(f'quantise="{kind}" failed: {first_words(error)}') from None
    finally:
        logging.disable(logging.NOTSET)

    # What the file says of itself did not come along.
    smaller = onnx.load(str(target))
    about = {one.key: one.value for one in model.metadata_props} | {"quantised": f'"{kind}"'}
    onnx.helper.set_model_props(smaller, about)
    onnx.save(smaller, str(target))
