"""What is meant by a word that a script does not know: another program's name for it, or a slip."""
import difflib
from typing import TYPE_CHECKING

from utils.errors import UserError, shortened

if TYPE_CHECKING:
    from utils.settings import Settings

# What other programs call these things; of several names the first that a script has is meant.
PEERS = {
    **dict.fromkeys(("image", "images", "img_path", "input", "path", "file", "video"), "source"),
    **dict.fromkeys(("weights", "checkpoint", "ckpt"), "model_path"), "model": "net", "cfg": "net",
    "backbone": "net_options",
    "data": "dataset list_path", "nc": "classes_path", "num_classes": "classes_path",
    **dict.fromkeys(("imgsz", "img_size", "image_size", "img"), "input_shape"),
    **dict.fromkeys(("project", "name", "save_dir", "out_dir", "outdir"), "output out"),
    "freeze": "freeze_epochs", "batch": "batch_size", "bs": "batch_size", "warmup": "warmup_epochs",
    "optim": "optimizer", "lr0": "lr", "learning_rate": "lr", "lrf": "min_lr", "cos_lr": "schedule",
    "momentum_beta": "momentum", "fliplr": "flip", "degrees": "rotate", "close_mosaic": "plain_share",
    **dict.fromkeys(("conf", "conf_thres", "score_thr"), "confidence score_threshold"),
    **dict.fromkeys(("iou", "iou_thres", "iou_thr"), "nms_iou"), "max_det": "max_boxes",
    "agnostic": "agnostic_nms", "line_thickness": "line_width", "hide_labels": "show_labels",
    "save_txt": "save_labels save_json", "save_conf": "save_json", "save_crop": "crop", "view_img": "show",
    "augment": "tta flip", "cuda": "device", "gpu": "device", "half": "amp",
    **dict.fromkeys(("workers", "n_workers"), "num_workers")}
WEIGHTS = (".pth", ".pt", ".onnx", ".weights")          # how the names of weight files end


def check_name(name: str, s: "Settings", text: str = "") -> None:
    """Error: the script has no such variable. text: its value, for the advice."""
    if name not in s:
        raise UserError(f'There is no "{shortened(name)}"{what_is_meant(name, s, text)} '
                        f"python {s.script} --help lists all.")


def what_is_meant(name: str, s: "Settings", text: str = "") -> str:
    """': did you mean confidence=0.5?' for a name that a script does not have; '.' where none is near."""
    ours = [one for one in PEERS.get(name.lower(), "").split() if one in s]
    if name.lower() == "model" and ("net" not in s or text.endswith(WEIGHTS)):
        ours = ["model_path"] if "model_path" in s else []
    near = ours or difflib.get_close_matches(name[:100], list(s.origin), n=1, cutoff=0.5)
    if not near:
        return "."
    return f": did you mean {near[0]}={shortened(text)}?" if text else f": did you mean {near[0]}?"


def explain_word(word: str, s: "Settings") -> UserError:
    """A word that is neither name=value nor a recipe -> UserError that guesses what was meant."""
    first = next(iter(s.origin))
    word = shortened(word)

    # With spaces around the sign: epochs = 50.
    if word.replace(".", "", 1).isdigit():
        likely = next((name for name in ("epochs", "source", "num_classes") if name in s), first)
        return UserError(f'"{word}" is a number without a name. Write which variable it is for, '
                         f'without spaces around =, like  python {s.script} {likely}={word}')

    # A file name alone, or anything else.
    example = f"Example: python {s.script} {first}={getattr(s, first)}"
    meant = f'Did you mean source="{word}"?' if "source" in s else example
    return UserError(f'"{word}" is neither name=value nor a recipe file ending in .py. {meant}')
