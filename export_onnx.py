"""A trained network as one .onnx file, which runs without PyTorch: picture in, boxes and scores out.

    python export_onnx.py                                  the newest trained network
    python export_onnx.py model_path=logs/.../best.pth nms=True
    python export_onnx.py quantise=static
    python predict.py model_path=logs/.../best.onnx source=street.jpg

The file is compared with the network on pictures before it is kept. It is no export of data: that is
tools/export.py.
"""
import utils  # noqa: F401, I001  first: it says in a sentence which package is missing, and answers --help
from pathlib import Path

import numpy as np

import nets
from utils.dataset import DetectionData, SegmentationData
from utils.depth import saved_range
from utils.errors import UserError
from utils.evaluate import choose_input
from utils.formats.shapes import draw_picture
from utils.formats.sweep import range_of_set
from utils.images import open_image, round_up
from utils.lists import read_list, read_mask_list
from utils.prediction import onnx_file
from utils.prediction.engine import find_weights
from utils.prediction.onnx_compare import compare, measure
from utils.prediction.onnx_engine import OnnxEngine
from utils.prediction.onnx_graph import make_graph, write_file
from utils.prediction.onnx_int8 import KINDS, make_whole
from utils.results import media
from utils.results.report import choose_list
from utils.settings import Settings, check, counted, find, number, one_of, optional
from utils.settings import read_settings, shown, whole
from utils.system import signals
from utils.system.files import cannot_write, written_whole
from utils.weights import not_finite

# The network                                                                            网络
model_path = ""             # weights, or the folder of a run; "": the newest run           权重文件或训练文件夹，空为最新
net = ""                    # only for official weights: which network, like "ssd300"       仅官方权重：网络名称
net_options = {}            # only for official weights: the network's own options          仅官方权重：网络选项
input_shape = None          # height, width ("short_side": the short side, the longest)     输入尺寸，None 为训练时的
fit = None                  # "letterbox", "stretch", "short_side"; None: as trained        图像放入输入的方式

# The file                                                                               文件
output = ""                 # the new file; "": beside the weights, with the suffix .onnx   输出文件，空为权重旁边
opset = 17                  # version of ONNX's operations, 16 to 20                        ONNX 算子集版本
dynamic = True              # any batch, and any size that the network takes                批大小与输入尺寸可变
quantise = ""               # "", "dynamic" or "static": whole numbers of 8 bits            八位整数量化的方式

# The suppression                                                                        非极大抑制
nms = False                 # True: inside the file, with the three values below            是否放入文件
confidence = 0.3            # boxes with a lower score are left out                         置信度阈值
nms_iou = None              # more overlap than this: only the better box stays             非极大抑制阈值
max_boxes = 100             # boxes kept per image, the best ones                           每图最多框数

# What it is compared on                                                                 用来比较的图像
list_path = ""              # list of images; "": the test list of the training             图像列表，空为训练时的测试列表
pictures = 8                # so many of them                                               图像数量
language = "auto"           # what the scripts say: "auto" (as this computer), "en", "zh"   输出的语言

SEEN = 64                   # pictures of the training from which "static" learns its ranges


def main(s):
    """s: the settings above, with what a recipe or the command line changed."""
    # Every mistake in a setting or a path ends here, before anything is written.
    check(s, opset=whole(16, 20), quantise=one_of(KINDS), pictures=whole(1),
          confidence=number(0, 1), nms_iou=optional(number(0, 1)), max_boxes=whole(1))
    onnx_file.need("onnx", "onnxruntime")
    path = find_weights(s.model_path)
    model, info = load_model(s, path)
    target = choose_target(s, path)
    data = open_list(s, info, model.task)
    images = choose_pictures(s, data)

    # Written beside its place under another name: it gets its own when it was found to be right.
    try:
        with written_whole(target) as part:
            engine = write_network(s, model, info, part)
            tell_difference(model, engine, images)
            if s.quantise:
                make_smaller(s, engine, data, part)
    except OSError as error:
        raise cannot_write(target, error) from None
    print(f"{shown(target)}: {target.stat().st_size / 2**20:.1f} MiB\n"
          f'Use it:  python predict.py "model_path={shown(target)}" source=photo.jpg')


def load_model(s, path):
    """-> network, what was saved with it. input_shape, fit and nms_iou get their values.
    Error: a weight is missing, or is no number."""
    model, info = nets.load(path, "cpu", s.net, s.net_options)
    if ruined := not_finite(model.state_dict()):
        raise UserError(f"{shown(path)} is not exported: {ruined}.")
    choose_input(s, model, info)
    if s.nms and model.task == "segmentation":
        raise UserError(f"nms=True is for boxes; {info['net']} finds the class of every pixel.")
    if s.nms and s.quantise:
        raise UserError("nms=True and quantise exclude each other: how good a rounded network is can only be "
                        "measured with boxes of all scores.")
    return model, info


def choose_target(s, path):
    """-> Path of the new file. Nothing is made here, and nothing is ever overwritten."""
    if s.output:
        target = find(media.unquote(s.output))
        if target.suffix.lower() != ".onnx":
            raise UserError(f'output="{s.output}": expected the name of a file that ends in .onnx.')
        if target.exists():
            raise UserError(f"{shown(target)} is there already and is left as it is: choose another output.")
        return target
    return media.fresh(path.parent, path.stem + ("_int8" if s.quantise else ""), ".onnx")


def open_list(s, info, task):
    """-> the images of the list with what is true of them; None: there is none, as for official weights."""
    if not s.list_path and not s.quantise:
        listed = info["settings"].get("test_list") or ""
        if not listed or not find(listed).is_file():
            return None
    chosen = choose_list(s.list_path, info["settings"], "python export_onnx.py list_path=2007_test.txt")
    kind = {"detection": DetectionData, "segmentation": SegmentationData}[task]
    data = kind(chosen, info["class_names"], s.input_shape, cache=False)
    data.value_range = range_of_set(data.paths, saved_range(info["settings"]))
    return data


def choose_pictures(s, data):
    """-> pictures (h, w, 3) uint8 to compare on: the first ones of the list, else drawn ones."""
    if data is None:
        print(f"There is no test list: {counted(s.pictures, 'picture')} of the built-in Shapes are drawn "
              "for the comparison.")
        return [np.array(draw_picture(0, index)[0].convert("RGB")) for index in range(1, s.pictures + 1)]
    return [data.whole_image(index) for index in range(min(s.pictures, len(data)))]


def write_network(s, model, info, part):
    """The network into the file `part`. -> the engine that runs it"""
    # With "short_side" every picture has an input of its own size, so the graph must take each of them.
    height, width = s.input_shape
    if s.fit == "short_side":
        height, width = round_up(height), round_up(width)
    names = ("confidence", "nms_iou", "max_boxes")
    suppression = {name: getattr(s, name) for name in names} if s.nms else None
    content, free, limits = make_graph(model, (height, width), s.opset, suppression, s.dynamic)
    if s.fit == "short_side" and onnx_file.SIZE not in free:
        raise UserError(f'fit="short_side" gives every picture an input of its own size, and {info["net"]} '
                        f"can be exported for one size only: add  fit=letterbox input_shape={height},{width}")

    # What it says of itself, and the file.
    varies = ", ".join(free) or "nothing"
    print(f"{info['net']}, opset {s.opset}, input {width} x {height}; may vary: {varies}")
    about = info | {"input_shape": tuple(s.input_shape), "settings": info["settings"] | {"fit": s.fit}}
    about = onnx_file.about_network(model, about, free, suppression, s.opset, limits)
    write_file(content, onnx_file.as_properties(about), part)
    return open_as_written(part, s.fit)


def open_as_written(path, fit):
    """-> the engine of a file, with the fit of the training."""
    settings = {"device": "cpu", "input_shape": None, "fit": fit, "nms_iou": None}
    return OnnxEngine(path, Settings(settings, "as exported"))


def tell_difference(model, engine, images):
    """The largest differences between file and network. Error: they are too large."""
    found = compare(model, engine, images)
    where = f"compared with PyTorch on {counted(len(images), 'picture')}"
    if model.task == "segmentation":
        print(f"{where}: scores differ by at most {found.scores:.1e}, "
              f"{counted(found.found, 'pixel')} got another class")
        return
    print(f"{where}, {counted(found.found, 'box')} above {found.confidence:g}: the same classes; edges "
          f"differ by at most {found.boxes:.1e} px of the input, scores by {found.scores:.1e}")


def make_smaller(s, engine, data, part):
    """The file `part` becomes one of whole numbers; how good both are on the list is said.

    engine: what runs the file as it is.
    """
    images = pictures_of_the_training(engine.info, data) if s.quantise == "static" else ()
    smaller = Path(f"{part}.int8")
    try:
        make_whole(part, smaller, s.quantise, images, s.input_shape, s.fit)
        title, before = measure(engine, data)
        _, after = measure(open_as_written(smaller, s.fit), data)
        smaller.replace(part)
    finally:
        smaller.unlink(missing_ok=True)

    # A list whose classes never occur has no mean.
    if before is None or after is None:
        raise UserError(f"{data.list_path} holds nothing on which {title} can be measured.")
    print(f"{title} on {counted(len(data), 'image')} of {data.list_path}: float32 {before:.4f}, "
          f"{s.quantise} int8 {after:.4f}, lost {before - after:.4f}")


def pictures_of_the_training(info, data):
    """The pictures from which the ranges are learnt: never those on which the loss is measured."""
    seen = info["settings"].get("train_list") or ""
    if not seen or not find(seen).is_file():
        raise UserError('quantise="static" learns from pictures of the training, and its list '
                        f'("{seen}") is not here. quantise=dynamic needs none.')
    read = read_mask_list if data.task == "segmentation" else read_list
    return (open_image(find(path), data.value_range) for path in read(find(seen))[0][:SEEN])


if __name__ == "__main__":
    signals.run(main, read_settings(globals()))
