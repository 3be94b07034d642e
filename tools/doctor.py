"""Would training work here? Environment, data, weights: each with what is wrong, where, and what to do; and a page of pictures of the data.

    python tools/doctor.py [dataset=VOCdevkit/mydata] [model_path=logs/x/best.pth] [name=value ...]

Written: doctor_out/<data set>_<time>/report.txt and page.png. Nothing of yours is changed. The exit code is 0 if training would work, else 1.
Its whole output is what a question to others needs.
"""
import ast
import inspect
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import utils  # noqa: E402, F401, I001  first: it says in a sentence which package is missing
import nets  # noqa: E402
from utils.anchors import find_anchors  # noqa: E402
from utils.checks.folder import box_sizes, whole_findings  # noqa: E402
from utils.checks.lists import look_at_lists_of  # noqa: E402
from utils.checkpoint import is_darknet, read_checkpoint  # noqa: E402
from utils.checks.data_page import data_page  # noqa: E402
from utils.checks.environment import Check, check_environment  # noqa: E402
from utils.errors import UserError  # noqa: E402
from utils.findings import KINDS, MARKS, STOPS, WORKS, Finding, report, verdict  # noqa: E402
from utils.images import check_fit  # noqa: E402
from utils.formats.sweep import Sample  # noqa: E402
from utils.results.media import save_image  # noqa: E402
from utils.results.report import new_folder  # noqa: E402
from utils.settings import check, find, number, optional, read_settings, several, shown, whole  # noqa: E402
from utils.lists import folder_name, list_name, survey_classes  # noqa: E402
from utils.system.files import printable, write_text  # noqa: E402
from utils.weights import state_dict_of  # noqa: E402
from utils.checks.prepare import look_at, settle_classes, tasks_of  # noqa: E402

dataset = "VOCdevkit/Shapes"    # as in voc_annotation.py: a folder, a data.yaml, a .json, or a list of them    数据集
task = None                     # "detection", "segmentation"; None: what the data set holds    任务
train_list = None               # list files instead of a data set, as in train.py    训练集列表（代替 dataset）
val_list = None                 # ... for validation    验证集列表
test_list = None                # ... for testing    测试集列表
classes_path = None             # class names; None: model_data/<name>_classes.txt    类别文件
ignore_labels = []              # segmentation: mask values that are no class    分割：不参与的标签值
model_path = ""                 # weights to look at; "": none    权重路径
net = None                      # the network to train; None: yolov8 or deeplabv3plus    网络名称
input_shape = None              # height, width of its input; None: as its recipe says    输入尺寸（高, 宽）
samples = 12                    # pictures on the page    页面上的样本数
seed = 0                        # another number shows others    随机种子
out = "doctor_out"              # where report and page go    输出文件夹

WANTED = {"train": "train", "val": "val", "test": "test"}
MOST = 1000                     # files of a kind in the written report


def main(s):
    check(s, samples=whole(0), seed=whole(0), input_shape=optional(several(2, number(1))))
    began = time.perf_counter()
    folder = new_folder(find(s.out), folder_name(folders(s)[0]) if not s.train_list else Path(s.train_list).stem)
    sections, stopping = [], 0
    checks = check_environment()
    sections.append(("Environment", lines_of(checks), None))
    stopping += sum(one.effect == STOPS for one in checks)
    names = []
    kinds = kinds_of_data(s)
    for kind in kinds:
        findings, seen, splits, names, where = look_at_data(s, kind)
        title = verdict(findings, f"{len(seen)} usable images")
        sections.append((f"Data for {kind}: {where}", f"{title}\n{report(findings)}".rstrip(), f"{title}\n{report(findings, MOST)}".rstrip()))
        stopping += sum(KINDS[finding.kind][0] == STOPS for finding in findings)
        if seen and names and s.samples:
            name = f"page_{kind}.png" if len(kinds) > 1 else "page.png"
            draw(s, folder / name, kind, seen, splits, names)
    if s.model_path:
        checks = check_weights(find(s.model_path), names)
        sections.append(("Weights", lines_of(checks), None))
        stopping += sum(one.effect == STOPS for one in checks)
    print("\n\n".join(f"== {title}\n{text}" for title, text, _ in sections))
    last = f"Verdict: training would {f'not work: {stopping} to be put right first (✗ above)' if stopping else 'work'}."
    write_text(folder / "report.txt", "\n\n".join(f"== {title}\n{long or text}" for title, text, long in sections) + f"\n\n{last}\n")
    print(f"\nWritten: {', '.join(shown(path) for path in sorted(folder.iterdir()))} ({time.perf_counter() - began:.0f} s)\n{last}")
    if stopping:
        raise SystemExit(1)


def folders(s):
    return ast.literal_eval(s.dataset) if s.dataset.startswith("[") else [s.dataset]


def kinds_of_data(s):
    """The tasks to look at."""
    if s.task is not None:
        if s.task not in ("detection", "segmentation"):
            raise UserError(f'task={s.task!r}: expected None, "detection" or "segmentation".')
        return [s.task]
    if s.train_list:
        path = find(s.train_list)
        return ["segmentation" if path.is_file() and b"\t" in path.open("rb").readline() else "detection"]
    return [nets.find_net(s.net).task] if s.net else tasks_of(folders(s)) if find(folders(s)[0]).exists() else ["detection"]


def look_at_data(s, kind):
    """-> findings, list of Sample, list of the sets of lists they are in, class names, what was looked at."""
    network, shape = chosen(s, kind)
    fit, stride = network.recipe.get("fit", "letterbox"), strides_of(network)[0]
    if s.train_list:
        lists = {"train": s.train_list, "val": s.val_list or s.train_list, **({"test": s.test_list} if s.test_list else {})}
        return *from_lists(s, kind, lists, s.classes_path, shape, stride, fit), ", ".join(dict.fromkeys(lists.values()))
    if s.dataset == "VOCdevkit/Shapes" and not find(s.dataset).exists():
        return [], [], [], [], "VOCdevkit/Shapes is drawn when train.py needs it; give your own with dataset=..."
    findings, parts = [], []
    for folder in folders(s):
        try:
            part, found = look_at(find(folder), kind, WANTED, False)
        except UserError as error:
            part, found = None, [Finding("not_readable", find(folder), None, str(error))]
        parts += [part] if part else []
        findings += found
    path, names, derived, found = settle_classes(folders(s), s.classes_path, parts, kind, s.ignore_labels)
    findings += found
    if parts and not any(finding.kind == "list_missing" for finding in findings):
        findings += whole_findings(parts, None if found else names, find(path), kind, s.ignore_labels, derived)
    seen = [sample for part in parts for sample in part.samples.values()]
    splits = [part.splits.get(stem, set()) for part in parts for stem in part.samples]
    if kind == "detection":
        findings += box_sizes(seen, shape, stride, fit)
    lists = {split: list_name(folders(s), split, kind) for split in WANTED}
    if all(find(name).is_file() for name in lists.values()) and find(path).is_file():
        known = {(finding.kind, finding.file) for finding in findings}
        findings += [finding for finding in from_lists(s, kind, lists, path, shape, stride, fit)[0]
                     if finding.kind in ("list_line", "list_class", "listed_missing", "listed_unusable", "list_empty")
                     and (finding.kind, finding.file) not in known]
    return findings, seen, splits, names, ", ".join(shown(find(folder)) for folder in folders(s))


def from_lists(s, kind, lists, path, shape, stride, fit):
    """The same of list files."""
    if not path:
        raise UserError("train_list=... needs classes_path=...: the file of the class names of that list.")
    findings, rows, known = look_at_lists_of(kind, lists, path, shape, stride, fit, s.ignore_labels)
    names, splits, seen = survey_classes(find(path))[0], {}, {}
    for row, sample in known.items():
        splits.setdefault(row.image, set()).add(row.split)
        truth = sample.truth if kind == "segmentation" else [{"name": names[int(box[4])], "box": box[:4], "difficult": bool(box[5])}
                                                             for box in row.boxes if box[4] < len(names)]
        seen[row.image] = Sample(sample.image, sample.label, sample.size, sample.digest, truth)
    return findings, list(seen.values()), [splits[image] for image in seen], names


def chosen(s, kind):
    """The network whose grids and anchors the objects are compared with, and its input shape."""
    network = nets.find_net(s.net or {"detection": "yolov8", "segmentation": "deeplabv3plus"}[kind])
    check_fit(network.recipe.get("fit", "letterbox"))
    return network, tuple(int(side) for side in s.input_shape or network.recipe["input_shape"])


def strides_of(network):
    """Pixels of a cell of its grids, the finest first."""
    return tuple(getattr(network, "strides", (8, 16, 32)))


def draw(s, path, kind, seen, splits, names):
    network, shape = chosen(s, kind)
    own = inspect.signature(network).parameters.get("anchors")
    anchors = find_anchors(own.default, shape, len(network.strides)).flatten(0, 1).tolist() if own else ()
    fit = network.recipe.get("fit", "letterbox")
    save_image(path, data_page(kind, seen, splits, names, shape, strides_of(network), anchors, fit, s.ignore_labels, s.samples, s.seed))


def check_weights(path, names):
    """A weight file: can it be read, what is it, does it fit the data's classes. -> list of Check."""
    try:
        if is_darknet(path):
            if not path.is_file():
                raise UserError(f"There is no weight file {shown(path)}.")
            return [Check("", f"{shown(path)}: a darknet file of {path.stat().st_size / 2**20:.0f} MiB; whether it fits shows when it is loaded")]
        content = read_checkpoint(path)
        if not isinstance(content, dict) or "net" not in content or "class_names" not in content:
            count = len(state_dict_of(content, path))
            return [Check("", f"{shown(path)}: {count} tensors without a network's name: weights to start from (model_path of train.py)")]
        model, info = nets.load(path)
    except UserError as error:
        return [Check(STOPS, str(error), "Choose another file, or model_path=\"\" to do without.")]
    told = f"{shown(path)}: {info['net']}, {sum(p.numel() for p in model.parameters()):,} parameters, input {tuple(info['input_shape'])}, " \
           f"{len(info['class_names'])} classes, trained for {info.get('epoch')} epochs"
    bad = [name for name, tensor in model.state_dict().items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    checks = [Check(STOPS, f"{told}; but {len(bad)} tensors hold NaN or infinity, the first {bad[0]}", "Use an earlier checkpoint.") if bad
              else Check("", told)]
    if names and info["class_names"] != list(names):
        mine, theirs = (", ".join(map(printable, some[:6])) + " ..." * (len(some) > 6) for some in (list(names), info["class_names"]))
        order = sorted(names) == sorted(info["class_names"])
        checks.append(Check(WORKS, f"its classes are {'in another order than' if order else 'not'} those of the data ({theirs}; data: {mine})",
                            "For training the head then starts new. get_map.py and predict.py use the classes in the file."))
    return checks


def lines_of(checks):
    return "\n".join(f"{MARKS.get(one.effect, '✓')} {one.text}" + (f"\n    -> {one.remedy}" if one.remedy else "") for one in checks)


if __name__ == "__main__":
    main(read_settings(globals()))
