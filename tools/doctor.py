"""Would training work here? Environment, data and weights: what is wrong, where, and the fix.

    python tools/doctor.py [dataset=VOCdevkit/mydata] [model_path=logs/x/best.pth] [name=value ...]

Written: doctor_out/<dataset>_<time>/report.txt and page.png. Nothing of yours is changed. The exit code is 0
if training would work, else 1. If you ask somebody for help, show them its whole output.
"""
import inspect
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import utils  # noqa: E402, F401, I001  first: it says in a sentence which package is missing
import nets  # noqa: E402
from utils.anchors import find_anchors  # noqa: E402
from utils.checks.folder import all_difficult, box_sizes, whole_findings  # noqa: E402
from utils.checks.lists import look_at_lists_of  # noqa: E402
from utils.checkpoint import is_darknet, read_checkpoint  # noqa: E402
from utils.checks.data_page import data_page  # noqa: E402
from utils.checks.environment import Check, check_environment  # noqa: E402
from utils.errors import UserError  # noqa: E402
from utils.findings import KINDS, MARKS, STOPS, WORKS, Finding, report, verdict  # noqa: E402
from utils.images import check_fit  # noqa: E402
from utils.formats.sweep import Sample  # noqa: E402
from utils.results.media import save_image  # noqa: E402
from utils.results.report import results_folder  # noqa: E402
from utils.settings import check, find, number, optional, read_settings, several, shown, whole  # noqa: E402
from utils.settings import several_paths  # noqa: E402
from utils.lists import folder_name, list_name, survey_classes  # noqa: E402
from utils.system.files import printable, write_text  # noqa: E402
from utils.training.plan import NET_OF  # noqa: E402
from utils.weights import state_dict_of  # noqa: E402
from utils.checks.prepare import look_at, settle_classes, tasks_of, dataset_words  # noqa: E402

dataset = "VOCdevkit/Shapes"    # a folder, a data.yaml, a .json, or a list of them    数据集
task = None                     # "detection", "segmentation"; None: what the dataset holds    任务
train_list = None               # list files instead of a dataset, as in train.py    训练集列表（代替 dataset）
val_list = None                 # ... for validation    验证集列表
test_list = None                # ... for testing    测试集列表
classes_path = None             # class names; None: model_data/<name>_classes.txt    类别文件
ignore_labels = []              # segmentation: mask values that are no class    分割：忽略的标签值
model_path = ""                 # weights to look at; "": none    权重路径
net = None                      # the network to train; None: the one train.py chooses    网络名称
input_shape = None              # height, width of its input; None: as its recipe says    输入尺寸（高, 宽）
samples = 12                    # pictures on the page    页面上的样本数
seed = 0                        # another number shows others    随机种子
out = "doctor_out"              # where report and page go    输出文件夹
language = "auto"               # "auto" (as this computer), "en", "zh"    输出的语言

WANTED = {"train": "train", "val": "val", "test": "test"}
MOST = 1000                     # files of a kind in the written report


def main(s):
    check(s, samples=whole(0), seed=whole(0), input_shape=optional(several(2, number(1))))
    name = Path(s.train_list).stem if s.train_list else folder_name(folders(s)[0])
    with results_folder(find(s.out), name) as folder:
        stopping = examine(s, folder)
    if stopping:
        raise SystemExit(1)


def examine(s, folder):
    """Look at everything, write report and pages into the folder, print. -> how much stops a training."""
    began = time.perf_counter()

    # A section: title, text for the screen, text with every file for the report, how much stops training.
    sections = [section("Environment", check_environment())]
    names = []
    kinds = kinds_of_data(s)
    for kind in kinds:
        findings, seen, splits, names, where = look_at_data(s, kind)
        title = verdict(findings, f"{len(seen)} usable images")
        dataset = None if s.train_list else dataset_words(s.dataset, kind, s.classes_path)
        short, long = (f"{title}\n{report(findings, most, dataset)}".rstrip() for most in (None, MOST))
        stopping = sum(KINDS[finding.kind][0] == STOPS for finding in findings)
        sections.append((f"Data for {kind}: {where}", short, long, stopping))

        # Numbers cannot say whether the boxes are around the right things: a page of pictures can.
        if seen and names and s.samples:
            page = f"page_{kind}.png" if len(kinds) > 1 else "page.png"
            draw(s, folder / page, kind, seen, splits, names)
    if s.model_path:
        sections.append(section("Weights", look_at_weights(find(s.model_path), names)))

    # The verdict is the last line of both, where nobody overlooks it.
    print("\n\n".join(f"== {title}\n{short}" for title, short, _, _ in sections))
    stopping = sum(count for *_, count in sections)
    last = "Verdict: training would work."
    if stopping:
        last = f"Verdict: training would not work: {stopping} must be fixed first (✗ above)."
    whole_report = "\n\n".join(f"== {title}\n{long}" for title, _, long, _ in sections)
    write_text(folder / "report.txt", f"{whole_report}\n\n{last}\n")
    written = ", ".join(shown(path) for path in sorted(folder.iterdir()))
    print(f"\nWritten: {written} ({time.perf_counter() - began:.0f} s)\n"
          'If you need help, paste all of this into a new issue, "Something does not work", or below your '
          "question.\n"
          f"{last}")
    return stopping


def section(title, checks):
    """-> title, text for the screen, text for the report, how many checks stop a training."""
    text = lines_of(checks)
    return title, text, text, sum(one.effect == STOPS for one in checks)


def folders(s):
    """The datasets to look at, one or several."""
    return several_paths(s.dataset)


def kinds_of_data(s):
    """The tasks to look at."""
    if s.task not in (None, "detection", "segmentation"):
        raise UserError(f'task={s.task!r}: expected None, "detection" or "segmentation".')
    if s.task is not None:
        return [s.task]

    # Not said, so ask: the list (the lines of masks have a tab), the network, or the dataset.
    if s.train_list:
        path = find(s.train_list)
        of_masks = path.is_file() and b"\t" in path.open("rb").readline()
        return ["segmentation" if of_masks else "detection"]
    if s.net:
        return [nets.find_net(s.net).task]
    if find(folders(s)[0]).exists():
        return tasks_of(folders(s))
    return ["detection"]


def look_at_data(s, kind):
    """-> findings, list of Sample, list of the sets of lists they are in, class names, what was looked at."""
    way = way_of(s, kind)
    if s.train_list:
        lists = {"train": s.train_list, "val": s.val_list or s.train_list}
        if s.test_list:
            lists["test"] = s.test_list
        return *from_lists(s, kind, lists, s.classes_path, way), ", ".join(dict.fromkeys(lists.values()))
    if s.dataset == "VOCdevkit/Shapes" and not find(s.dataset).exists():
        where = "VOCdevkit/Shapes is drawn when train.py needs it; give your own with dataset=..."
        return [], [], [], [], where

    # As voc_annotation.py reads it, but a folder that cannot be read is one finding among the others.
    findings, parts = [], []
    for folder in folders(s):
        try:
            part, found = look_at(find(folder), kind, WANTED, False)
            parts += [part] if part else []
        except UserError as error:
            found = [Finding("not_readable", find(folder), None, str(error))]
        findings += found
    path, names, derived, unsettled = settle_classes(folders(s), s.classes_path, parts, kind, s.ignore_labels)
    findings += unsettled

    # What only shows when all of it is known: duplicates, classes without objects, tiny objects.
    if parts and not any(finding.kind == "list_missing" for finding in findings):
        known_names = None if unsettled else names
        findings += whole_findings(parts, known_names, find(path), kind, s.ignore_labels, derived)
    seen = [sample for part in parts for sample in part.samples.values()]
    splits = [part.splits.get(stem, set()) for part in parts for stem in part.samples]
    if kind == "detection":
        findings += box_sizes(seen, *way)
        marks = [one["difficult"] for sample, mine in zip(seen, splits)
                 for one in sample.truth if "train" in mine or not mine]
        findings += all_difficult(marks, find(folders(s)[0]))
    findings += stale_lists(s, kind, path, findings, way)
    return findings, seen, splits, names, ", ".join(shown(find(folder)) for folder in folders(s))


def stale_lists(s, kind, path, findings, way):
    """Findings of list files written before: training reads them, and the data may have changed since."""
    lists = {split: list_name(folders(s), split, kind) for split in WANTED}
    if not find(path).is_file() or not all(find(name).is_file() for name in lists.values()):
        return []
    of_lists = ("list_line", "list_class", "listed_missing", "listed_unusable", "list_empty")
    known = {(finding.kind, finding.file) for finding in findings}
    return [finding for finding in from_lists(s, kind, lists, path, way)[0]
            if finding.kind in of_lists and (finding.kind, finding.file) not in known]


def from_lists(s, kind, lists, path, way):
    """The same as `look_at_data`, of list files. way: that of `way_of`."""
    if not path:
        raise UserError("train_list=... needs classes_path=...: the file of the class names of that list.")
    findings, rows, known = look_at_lists_of(kind, lists, path, *way, s.ignore_labels)
    names = survey_classes(find(path))[0]
    splits, seen = {}, {}
    for row, sample in known.items():
        splits.setdefault(row.image, set()).add(row.split)
        truth = sample.truth if kind == "segmentation" else objects_of(row, names)
        seen[row.image] = Sample(sample.image, sample.label, sample.size, sample.digest, truth)
    return findings, list(seen.values()), [splits[image] for image in seen], names


def objects_of(row, names):
    """The boxes of a line of a list as the objects of an annotation, without those of unknown classes."""
    return [{"name": names[int(box[4])], "box": box[:4], "difficult": bool(box[5])}
            for box in row.boxes if box[4] < len(names)]


def way_of(s, kind):
    """How a picture meets the network: input (H, W), stride of its finest grid, the way it is fitted."""
    network, shape = chosen(s, kind)
    return shape, strides_of(network)[0], network.recipe.get("fit", "letterbox")


def chosen(s, kind):
    """The network whose grids and anchors the objects are compared with, and its input shape."""
    network = nets.find_net(s.net or NET_OF[kind])
    check_fit(network.recipe.get("fit", "letterbox"))
    return network, tuple(int(side) for side in s.input_shape or network.recipe["input_shape"])


def strides_of(network):
    """Pixels of a cell of its grids, the finest first."""
    return tuple(getattr(network, "strides", (8, 16, 32)))


def draw(s, path, kind, seen, splits, names):
    """The page of pictures, with the objects, and what the network's grids and anchors make of them."""
    network, shape = chosen(s, kind)
    fit = network.recipe.get("fit", "letterbox")
    own = inspect.signature(network).parameters.get("anchors")
    anchors = ()
    if own:
        anchors = find_anchors(own.default, shape, len(network.strides)).flatten(0, 1).tolist()
    save_image(path, data_page(kind, seen, splits, names, shape, strides_of(network), anchors, fit,
                               s.ignore_labels, s.samples, s.seed))


def look_at_weights(path, names):
    """A weight file: can it be read, what is it, does it fit the data's classes. -> list of Check."""
    try:
        if is_darknet(path):
            return [check_darknet(path)]
        content = read_checkpoint(path)
        if not isinstance(content, dict) or "net" not in content or "class_names" not in content:
            count = len(state_dict_of(content, path))
            return [Check("", f"{shown(path)}: {count} tensors without a network's name: weights to start "
                              "from (model_path of train.py)")]
        model, info = nets.load(path)
    except UserError as error:
        return [Check(STOPS, str(error), "Choose another file, or model_path=\"\" to do without.")]

    # A checkpoint of ours. NaN in it spoils whatever is trained from it, and no later step repairs that.
    count = sum(p.numel() for p in model.parameters())
    told = f"{shown(path)}: {info['net']}, {count:,} parameters, input {tuple(info['input_shape'])}, " \
           f"{len(info['class_names'])} classes, trained for {info.get('epoch')} epochs"
    bad = [name for name, tensor in model.state_dict().items()
           if tensor.is_floating_point() and not tensor.isfinite().all()]
    checks = [Check("", told)]
    if bad:
        spoilt = f"{told}; but {len(bad)} tensors hold NaN or infinity, the first {bad[0]}"
        checks = [Check(STOPS, spoilt, "Use an earlier checkpoint.")]
    if names and info["class_names"] != list(names):
        checks.append(other_classes(list(names), info["class_names"]))
    return checks


def check_darknet(path):
    """Of such a file only its being there can be told: it holds numbers without names."""
    if not path.is_file():
        raise UserError(f"There is no weight file {shown(path)}.")
    size = path.stat().st_size / 2**20
    return Check("", f"{shown(path)}: a darknet file of {size:.0f} MiB; loading it shows whether it fits")


def other_classes(mine, theirs):
    """The check of weights that were trained for other classes than the data has."""
    said = [", ".join(map(printable, some[:6])) + " ..." * (len(some) > 6) for some in (theirs, mine)]
    how = "in another order than" if sorted(mine) == sorted(theirs) else "not"
    return Check(WORKS, f"its classes are {how} those of the data ({said[0]}; data: {said[1]})",
                 "The head is then initialised from scratch for training. "
                 "get_map.py and predict.py use the classes in the file.")


def lines_of(checks):
    """Checks for people: a mark, what was found, and below it what to do."""
    lines = []
    for one in checks:
        lines.append(f"{MARKS.get(one.effect, '✓')} {one.text}")
        if one.remedy:
            lines.append(f"    -> {one.remedy}")
    return "\n".join(lines)


if __name__ == "__main__":
    main(read_settings(globals()))
