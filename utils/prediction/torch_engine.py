"""The engine that computes with PyTorch: what train.py saved, and the official weights. See engine.py."""
import torch

import nets
from utils.evaluate import choose_input, detect, segment, to_device
from utils.images import fit_image, nearest_shape, stack
from utils.prediction.engine import Engine
from utils.prediction.fuse import fuse_norms
from utils.prediction.heat import heat_maps
from utils.system.device import autocast, choose_device, choose_precision

BATCH = 16                      # pictures that a GPU gets at once; a processor is fastest with one
TRIAL = (64, 64)                # an input, or the nearest that the network takes
DIFFERENCE = 0.05               # of two scores that are the same but for their precision


class TorchEngine(Engine):
    """A network of nets/ on its device."""

    takes_scales = True

    def __init__(self, path, s):
        """path: of the weights.  s: the settings of predict.py; input_shape, fit, nms_iou are filled in."""
        super().__init__()
        self.device = torch.device(choose_device(s.device))
        self.model, self.info = nets.load(path, self.device, s.net, s.net_options)
        choose_input(s, self.model, self.info, tight=True)
        self.task, self.class_names = self.model.task, self.info["class_names"]
        self.input_shape, self.fit = s.input_shape, s.fit

        # What makes no difference but to the time.
        fuse_norms(self.model, nearest_shape(type(self.model), TRIAL, self.info["options"]))
        self.model.to(memory_format=torch.channels_last)
        self.on_cpu = self.device.type == "cpu"
        self.batch = 1 if self.on_cpu or self.task == "segmentation" else BATCH
        self.precision = choose_precision(s.amp, self.device) if self.on_cpu or s.amp else None
        self.doubted = self.precision is not None and s.amp is None

    def detect(self, images, confidence, nms_iou, max_boxes, fitted=None, scale=1.0, **rules):
        if scale != 1.0:
            fitted = [fit_image(image, self.scaled_input(scale), self.fit) for image in images]
        fitted = fitted or [self.fit_picture(image) for image in images]
        if self.doubted:
            self.try_precision([canvas for canvas, _ in fitted])
        return detect(self.model, images, self.input_shape, confidence, nms_iou, max_boxes, self.fit,
                      fitted=fitted, precision=self.precision, clock=self.clock, **rules)

    def scaled_input(self, scale):
        """The (H, W) nearest to the input's times scale that the network takes."""
        sides = tuple(round(side * scale) for side in self.input_shape)
        return nearest_shape(type(self.model), sides, self.info["options"])

    def heat_maps(self, image, label):
        return heat_maps(self.model, image, self.input_shape, label, self.fit)

    def segment(self, images, threshold, scales, flip, slide):
        if self.doubted:
            self.try_precision([fit_image(images[0], self.input_shape)[0]])
        with self.clock("network"), autocast(self.device, self.precision):
            return segment(self.model, images, self.input_shape, threshold, scales, flip, slide)

    @torch.inference_mode()
    def try_precision(self, canvases):
        """Whether the scores of these inputs stay the same in bfloat16, or it is not used."""
        batch = torch.from_numpy(stack(canvases)).permute(0, 3, 1, 2)                   # (B, 3, H, W)
        batch, _ = to_device(batch, [], self.device)                                    # (B, 3, H, W)
        exact = self.scores(self.model(batch)[0])
        with autocast(self.device, self.precision):
            outputs, _ = self.model(batch)
        quick = self.scores(outputs)

        # A second stage may look at other places, so that there are other scores.
        if exact.shape != quick.shape or (exact - quick).abs().max() > DIFFERENCE:
            self.precision = None
        self.doubted = False

    def scores(self, outputs):
        """-> float32 (B, N, K) of a detector, (B, K, H, W) of a network for segmentation."""
        decoded = self.model.decode(outputs)
        return (decoded[1] if self.task == "detection" else decoded).float()
