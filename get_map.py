"""Measure a trained detector on a list of images: AP by the rules of VOC and COCO, precision, recall, F1,
curves, worst misses.

    python get_map.py [recipe.py] [name=value ...]
"""
import utils  # noqa: F401, I001  first: it says in a sentence which package is missing, and answers --help

import nets
from utils.dataset import DetectionData, make_loader
from utils.depth import saved_range
from utils.errors import UserError
from utils.evaluate import choose_input, collect
from utils.formats.sweep import range_of_set
from utils.metrics import confusion_matrix, detection_curves, detection_results
from utils.prediction.engine import find_weights
from utils.results import misses, plots
from utils.results.filters import choose_confidence
from utils.results.report import (
    choose_list,
    detection_report,
    results_folder,
    tell_changes,
    write_csv,
    write_results,
)
from utils.settings import as_listed, as_table, check, find, number, optional, read_settings, shown, whole
from utils.system.device import choose_device
from utils.system.files import writable_folder

# The network                                                                            网络
model_path = ""             # weights, or the folder of a run; "": the newest run           权重文件或训练文件夹，空为最新
net = ""                    # only for official weights: which network, like "ssd300"       仅官方权重：网络名称
net_options = {}            # only for official weights: the network's own options          仅官方权重：网络选项

# What it is measured on                                                                 数据
list_path = ""              # list of images; "": the test list of the training             测试列表，空为训练时指定的
input_shape = None          # height, width ("short_side": the short side, the longest)     输入尺寸，None 为训练时的
fit = None                  # "letterbox", "rect", "stretch", "short_side"; None: trained   图像放入输入的方式

# What it leaves                                                                         结果
output = "map_out"          # folder for the results, each time in a new one below it       结果文件夹
language = "auto"           # what the scripts say: "auto" (as this computer), "en", "zh"   输出的语言

# Which boxes count; AP needs almost all of them, so a confidence above 0.01 is ignored  检测框
score_threshold = None      # for all but AP; None: predict.py's, the training's best F1    精确率、召回率等的得分阈值
confidence = 0.001          # boxes below this are dropped                                  置信度阈值，低于它的框丢弃
nms_iou = None              # same class, more overlap: only the better box stays           非极大抑制阈值，空为网络推荐值
max_boxes = 300             # boxes kept per image, the best ones                           每图最多框数

# The machine                                                                            机器
batch_size = 16             # images through the network at once                            批大小
num_workers = None          # processes that read images; None: chosen                      数据加载进程数
device = "auto"             # "auto", "cpu", "cuda", "cuda:1"                               设备


def main(s):
    """s: the settings above, with what a recipe or the command line changed."""
    # Every mistake in a setting or a path ends here, before anything is written.
    target = writable_folder(s.output)
    path, model, info = load_model(s)
    data = open_list(s, info)
    lowest = lowest_score(s)

    run_name = path.stem if info["epoch"] is None else path.parent.name
    with results_folder(target, run_name) as folder:
        tell_changes(s)
        detections, truths, losses = find_objects(s, model, data, lowest)
        results = detection_results(detections, truths, data.class_names, s.score_threshold)
        text = report(path, data, results, detections, truths)
        print("\n" + text)

        # Besides the numbers, what they depend on.
        circumstances = {"model": as_listed(path), "list": as_listed(find(data.list_path)),
                         "net": info["net"], "epoch": info["epoch"], "losses": losses,
                         "confidence": lowest, "nms_iou": s.nms_iou, "max_boxes": s.max_boxes,
                         "input_shape": list(s.input_shape), "fit": s.fit}
        results |= circumstances
        write_results(folder, results, text, as_table(s))
        save_pictures(s, folder, results, data, detections, truths)
        print(f"\nResults are in {shown(folder)}: " + ", ".join(sorted(p.name for p in folder.iterdir())))


def load_model(s):
    """-> path of the weights, network on the device, what was saved with it.
    Variables that are None get their values."""
    share = number(0, 1)
    check(s, score_threshold=optional(share), confidence=share, nms_iou=optional(share), max_boxes=whole(1),
          batch_size=whole(1), num_workers=optional(whole(0)))
    path = find_weights(s.model_path)
    model, info = nets.load(path, choose_device(s.device), s.net, s.net_options)
    if model.task != "detection":
        raise UserError(f'{shown(path)} is "{info["net"]}", a network for {model.task}: '
                        'measure it with  python get_miou.py')
    choose_input(s, model, info)
    choose_confidence(s, info, "score_threshold")
    return path, model, info


def open_list(s, info):
    """The images of the list with their true boxes."""
    names = info["class_names"]
    chosen = choose_list(s.list_path, info["settings"], "python get_map.py list_path=2007_test.txt")
    data = DetectionData(chosen, names, s.input_shape, fit=s.fit, cache=False)
    data.value_range = range_of_set(data.paths, saved_range(info["settings"]))
    if info["epoch"] is None:
        print(f'NOTE: these weights know {len(names)} classes, from "{names[0]}" to "{names[-1]}": '
              "the class numbers of the list must mean the same.")
    return data


def lowest_score(s):
    """confidence, but not above 0.01: AP is the area under the whole curve,
    and a higher one would cut its end off."""
    if s.confidence <= 0.01:
        return s.confidence
    print(f"NOTE: confidence={s.confidence} would cut the curves off; 0.001 is used. "
          "The threshold for precision, recall and F1 is score_threshold.")
    return 0.001


def find_objects(s, model, data, lowest):
    """Every image through the network. -> detections, truths: one dict per image, see utils/metrics.py;
    losses: name -> mean."""
    device = next(model.parameters()).device
    loader = make_loader(data, s.batch_size, s.num_workers, device=device)
    return collect(model, loader, device, lowest, s.nms_iou, s.max_boxes)


def report(path, data, results, detections, truths):
    """The numbers as text; when not a single box is right, also what was counted and the likely cause."""
    text = f"{shown(path)} on {shown(find(data.list_path))}\n\n{detection_report(results)}"
    if results["map50"] == 0:
        diagnosis = misses.diagnose(detections, truths, data.class_names)
        text += "\n\nThe mAP is 0. What was counted:\n  " + "\n  ".join(diagnosis)
        text += "\nMore: docs/en/faq.md#map0"
    return text


def save_pictures(s, folder, results, data, detections, truths):
    """Curves, bars, the confusion matrix (also as CSV) and the page of the worst misses."""
    names = data.class_names
    curves = detection_curves(detections, truths, names)
    plots.precision_recall(curves, folder / "precision_recall.png", s.score_threshold)
    plots.score_curves(curves, folder / "score_curves.png", s.score_threshold)
    plots.ap_bars(results, folder / "ap.png")

    # Which class is mistaken for which, as a picture for the eye and as a table for other programs.
    matrix = confusion_matrix(detections, truths, len(names), s.score_threshold)
    plots.confusion(matrix, names, folder / "confusion_matrix.png", s.score_threshold)
    rows = ([name, *row] for name, row in zip([*names, "missed"], matrix.tolist()))
    write_csv(folder / "confusion_matrix.csv", [["network says / truth", *names, "background"], *rows])

    worst = misses.worst_misses(detections, truths, names, s.score_threshold)
    misses.misses_page(worst, [find(path) for path in data.paths], detections, truths, names,
                       folder / "misses.png", s.score_threshold, data.value_range)
    print("\nmisses.png shows the worst misses: look at it first." if worst
          else "\nNothing was missed: there is no misses.png.")


if __name__ == "__main__":
    main(read_settings(globals()))
