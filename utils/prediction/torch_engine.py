"""The engine that computes with PyTorch: what train.py saved, and the official weights. See engine.py."""
import nets
from utils.evaluate import choose_input, detect, segment
from utils.system.device import choose_device


class TorchEngine:
    """A network of nets/ on its device."""

    def __init__(self, path, s):
        """path: of the weights.  s: the settings of predict.py; input_shape, fit and nms_iou are filled in."""
        self.model, self.info = nets.load(path, choose_device(s.device), s.net, s.net_options)
        choose_input(s, self.model, self.info)
        self.task, self.class_names = self.model.task, self.info["class_names"]
        self.input_shape, self.fit = s.input_shape, s.fit

    def detect(self, images, confidence, nms_iou, max_boxes, **rules):
        return detect(self.model, images, self.input_shape, confidence, nms_iou, max_boxes, self.fit, **rules)

    def segment(self, images, threshold, scales, flip, slide):
        return segment(self.model, images, self.input_shape, threshold, scales, flip, slide)
