"""What an .onnx file of export_onnx.py says about itself. It is written into the file's metadata, each value
as JSON, and read from there without PyTorch.

    net, options, class_names, input_shape, settings, epoch ...     as in best.pth; of the settings only KEPT
    task        "detection" or "segmentation"
    values      how the input "images" (B, 3, H, W) is made of pixels: RGB / 255; all else is inside
    dynamic     what may differ from the input that it was exported with: "batch", "height and width"
    stride, smallest    what height and width must divide by, and the least of them
    nms_iou, limits     of the suppression, when it is not inside: see utils.boxes.nms
    suppression confidence, nms_iou and max_boxes, when it is inside; else null
    opset, quantised, plainvision       of ONNX; "", "dynamic" or "static"; of this table
"""
import importlib
import importlib.util
import json
import os

from utils.errors import UserError
from utils.metadata import check_part, dictionary, names_of_classes, rows
from utils.settings import number, one_of, optional, printable, several, shown, text, whole

FORMAT = 1
VALUES = "RGB, 0 to 1: pixels / 255; the network does its own normalisation"
KEPT = ("fit", "value_range", "threshold", "confidence", "train_list", "test_list",
        "classes_path", "ignore_labels")
SIZE = "height and width"
TASKS = ("detection", "segmentation")

RULES = {"plainvision": whole(1), "net": text(), "class_names": names_of_classes(), "task": one_of(TASKS),
         "input_shape": several(2, whole(1)), "settings": dictionary(), "epoch": optional(whole(0)),
         "dynamic": rows(one_of(("batch", SIZE))), "stride": whole(1), "smallest": whole(1),
         "nms_iou": optional(number(0, 1)), "limits": dictionary(optional(whole(1))),
         "suppression": optional(dictionary(number(0))), "quantised": text()}


def need(*names):
    """The packages with these names, imported. Error: one is not installed."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        words = " ".join(missing)
        raise UserError(f"For .onnx files {' and '.join(missing)} must be installed as well, which nothing "
                        f"else here needs:  pip install {words}")
    return [importlib.import_module(name) for name in names]


def about_network(model, info, dynamic, suppression, opset, limits):
    """-> dict: what is to be written into the file of a network. See the table above."""
    about = {key: value for key, value in info.items() if key != "settings"}
    settings = {key: info["settings"][key] for key in KEPT if key in info["settings"]}
    step = info["options"].get("downsample_factor", model.stride)
    return about | {"plainvision": FORMAT, "task": model.task, "settings": settings, "values": VALUES,
                    "dynamic": list(dynamic), "stride": step, "smallest": getattr(model, "smallest", step),
                    "nms_iou": model.recipe.get("nms_iou"), "limits": limits, "suppression": suppression,
                    "opset": opset, "quantised": ""}


def as_properties(about):
    """dict -> name: text, as ONNX keeps it."""
    return {key: json.dumps(value, ensure_ascii=False, default=list) for key, value in about.items()}


def open_file(path, device="cpu"):
    """-> session of ONNX Runtime, what the file says. Errors: no such file, another's, no file of ONNX."""
    (runtime,) = need("onnxruntime")
    if not path.is_file():
        raise UserError(f"There is no weight file {shown(path)}.")

    # As many threads as PyTorch would take where a shell says so.
    options = quiet_options(runtime)
    options.intra_op_num_threads = threads()
    try:
        session = runtime.InferenceSession(str(path), options, providers=providers(runtime, device))
    except Exception as error:                              # a damaged file can make the reader fail anywhere
        raise UserError(f"{shown(path)} cannot be read as an .onnx file: cut off, damaged or of a kind that "
                        f"ONNX Runtime {runtime.__version__} does not know. ({first_words(error)})") from None
    return session, read_properties(session.get_modelmeta().custom_metadata_map, path)


def quiet_options(runtime):
    """Options of a session. What ONNX Runtime finds worth a warning is for its developers."""
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    return options


def first_words(error):
    """The first line of what another program says, as it can be printed."""
    return printable((str(error).strip() or type(error).__name__).splitlines()[0][:200])


def threads():
    """OMP_NUM_THREADS as PyTorch understands it; 0: all cores."""
    words = os.environ.get("OMP_NUM_THREADS", "")
    return int(words) if words.isdigit() and len(words) < 5 else 0


def providers(runtime, device):
    """What computes: the graphics card where it is wanted and there, else the processor."""
    there = "CUDAExecutionProvider" in runtime.get_available_providers()
    if device.startswith("cuda") and not there:
        raise UserError(f'device="{device}": this ONNX Runtime computes on the processor only. '
                        "pip install onnxruntime-gpu  instead of onnxruntime, or set device=cpu.")
    cuda = [("CUDAExecutionProvider", {"device_id": device.partition(":")[2] or "0"})]
    return [*(cuda if there and device != "cpu" else []), "CPUExecutionProvider"]


def read_properties(properties, path):
    """name: text -> dict. Error: not written by export_onnx.py, or not as that does it."""
    if "plainvision" not in properties:
        raise UserError(f"{shown(path)} was not written by export_onnx.py: it does not say which classes it "
                        "knows and what its numbers mean.")

    # Each value is JSON, and of the kind that it must be.
    try:
        about = {key: json.loads(value) for key, value in properties.items()}
    except (ValueError, RecursionError):
        raise UserError(f"{shown(path)}: what it says about itself is damaged. Export it again.") from None
    check_part(about, RULES, "", path)
    if about["plainvision"] > FORMAT:
        raise UserError(f"{shown(path)} was written by a newer version of this project: "
                        "update it, or export the network again.")
    return about | {"input_shape": tuple(about["input_shape"])}
