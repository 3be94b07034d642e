"""What predict.py asks of a network, whoever computes it: PyTorch, or another program that reads its file.

Nothing here imports PyTorch before an engine is opened that needs it.
"""
from utils.errors import UserError
from utils.images import fit_image
from utils.prediction.pipeline import Clock
from utils.results import masks, media
from utils.results.filters import choose_confidence
from utils.settings import ROOT, counted, find, shown


class Engine:
    """An engine has
        task            "detection" or "segmentation"
        class_names     list of str
        input_shape     (H, W) of the network's input
        fit             how a picture meets the input, see utils.images.fitted_size
        info            what the file says besides the weights: a dict with net, class_names, settings ...
        batch           pictures of one input shape that it likes to be asked about together
        on_cpu          whether the network takes the processor's cores for itself
    and, according to its task, one of two methods. Both take a list of pictures (h, w, 3) uint8 RGB of any
    size, and answer with a list of dicts of NumPy arrays:
        detect(images, confidence, nms_iou, max_boxes, fitted=None, **rules)
                        boxes (P, 4) float32 xyxy px of the picture, scores (P,) falling, labels (P,) int64;
                        where nothing is found also best: (score, label) of the highest score, or None.
                        confidence: a number, or one for each class.  fitted: what `fit_picture` gave for
                        them, None: not done yet.  rules: kind, agnostic, most_per_class of utils.boxes.nms.
                        scale: the sides of the input times so much, where takes_scales is True.
        segment(images, threshold, scales, flip, slide)
                        labels (h, w) uint8, best (K,) float32; see utils.evaluate.segment.
    heat_maps(image, label) is there where gradients are, see heat.py; else it is None.
    """

    batch, on_cpu, takes_scales, heat_maps = 1, True, False, None

    def __init__(self):
        self.clock = Clock()

    def fit_picture(self, image):
        """image: (h, w, 3) uint8, for `detect` -> see utils.images.fit_image. Any thread may do it."""
        with self.clock("fit"):
            return fit_image(image, self.input_shape, self.fit)


def open_engine(s):
    """The network of s.model_path, ready to be asked. Variables of s that are None get their values."""
    path = find_weights(s.model_path)
    if path.suffix.lower() == ".onnx":
        from utils.prediction.onnx_engine import OnnxEngine
        engine = OnnxEngine(path, s)
    else:
        from utils.prediction.torch_engine import TorchEngine
        engine = TorchEngine(path, s)

    # What it is, and what it says that nobody has set.
    size = {"short_side": "short side {}, at most {} long", "rect": "input at most {1} x {0}"}
    print(f"{shown(path)}: {engine.info['net']}, {counted(len(engine.class_names), 'class')}, "
          f"{size.get(s.fit, 'input {1} x {0}').format(*s.input_shape)}")
    choose_confidence(s, engine.info)
    if engine.task == "segmentation":
        s.threshold = masks.choose_threshold(s.threshold, engine.info)
    return engine


def find_weights(model_path):
    """The variable model_path -> Path of the weights. "": those of the newest run below logs/; the folder of
    a run: its best.pth, or its last.pth as long as that run was not evaluated."""
    folder = find(media.unquote(model_path)) if model_path else newest_run()
    if not folder.is_dir():
        return folder
    return folder / ("best.pth" if (folder / "best.pth").is_file() else "last.pth")


def newest_run():
    """The folder below logs/ whose weights are the youngest."""
    runs = {}
    for path in [*ROOT.glob("logs/*/last.pth"), *ROOT.glob("logs/*/best.pth")]:
        runs[path.parent] = max(runs.get(path.parent, 0), path.stat().st_mtime)
    if not runs:
        raise UserError("There is no trained network yet: logs/ holds no best.pth. "
                        "Run  python train.py  first, or set model_path.")
    return max(runs, key=runs.__getitem__)
