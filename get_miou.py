"""Measure a trained segmentation network on a list of images: IoU, pixel accuracy, precision, F1, confusion,
the worst images.

    python get_miou.py [recipe.py] [name=value ...]
"""
import utils  # noqa: F401, I001  first: it says in a sentence which package is missing, and answers --help
import math
from pathlib import Path

import numpy as np

import nets
from utils.dataset import SegmentationData, make_loader
from utils.depth import saved_range
from utils.errors import UserError
from utils.evaluate import segment_list
from utils.formats.sweep import range_of_set
from utils.images import IGNORED, fitted_size, resize, resize_mask
from utils.miou import count_confusion, list_results, segmentation_results
from utils.prediction.engine import find_weights
from utils.results import masks, plots, report
from utils.results.draw import grid
from utils.results.media import fresh, save_image
from utils.results.report import choose_list, results_folder, tell_changes, write_csv, write_results
from utils.settings import as_listed, as_table, check, find, optional, read_settings, shown, whole, yes_or_no
from utils.system.device import choose_device
from utils.system.files import writable_folder

# The network                                                                            网络
model_path = ""             # weights, or the folder of a run; "": the newest run           权重文件或训练文件夹，空为最新
net = ""                    # only for official weights: which network, like "deeplabv3"    仅官方权重：网络名称
net_options = {}            # only for official weights: the network's own options          仅官方权重：网络选项

# What it is measured on, and how                                                        数据与方法
list_path = ""              # list of images; "": the test list of the training             测试列表，空为训练时指定的
threshold = None            # two classes: least score of the object; None: the training's  两类时的阈值，空为训练时的
slide = False               # look at large images through a window, at their own size      滑动窗口，不缩小大图
scales = (1.0,)             # mean of the scores at these sizes, e.g. (0.75, 1.0, 1.25)     多尺度测试，更慢更好
flip = False                # mean of the scores of the image and its mirror image          翻转测试

# What it leaves                                                                         结果
output = "miou_out"         # folder for the results, each time in a new one below it       结果文件夹
language = "auto"           # what the scripts say: "auto" (as this computer), "en", "zh"   输出的语言

# The pictures                                                                           图片
save_pictures = False       # also save image, truth, prediction, errors of every image     保存每张图的对比
opacity = 0.6               # of the colours over the images, 0 to 1                        叠加颜色的不透明度
worst = 12                  # so many of the worst images are shown on one page             最差图片页的张数

# The machine                                                                            机器
batch_size = 8              # images through the network at once                            批大小
num_workers = None          # processes that read images; None: chosen                      数据加载进程数
device = "auto"             # "auto", "cpu", "cuda", "cuda:1"                               设备


def main(s):
    """s: the settings above, with what a recipe or the command line changed."""
    # Every mistake in a setting or a path ends here, before anything is written.
    target = writable_folder(s.output)
    path, model, info = load_model(s)
    data = open_list(s, info)

    run_name = path.stem if info["epoch"] is None else path.parent.name
    with results_folder(target, run_name) as folder:
        tell_changes(s)
        matrix, per_image, losses, worst_ones = measure(s, model, data, folder)
        results = {"images": len(data)} | list_results(matrix, data.class_names)
        text = as_text(path, data, results, matrix, losses, info["epoch"])
        print("\n" + text)

        # Besides the numbers, what they depend on.
        circumstances = {"model": as_listed(path), "list": as_listed(find(data.list_path)),
                         "net": info["net"], "epoch": info["epoch"], "losses": losses,
                         "threshold": s.threshold, "slide": s.slide, "scales": list(s.scales), "flip": s.flip}
        results |= circumstances
        write_results(folder, results, text, as_table(s))
        write_csv(folder / "per_image.csv", [["file", "miou", "accuracy"], *per_image])
        save_plots(folder, results, matrix, data.class_names)
        save_worst(s, folder, worst_ones, data)
        print(f"\nResults are in {shown(folder)}: " + ", ".join(sorted(p.name for p in folder.iterdir())))


def load_model(s):
    """-> path of the weights, network on the device, what was saved with it. threshold gets its value."""
    masks.check_settings(s)
    check(s, save_pictures=yes_or_no(), worst=whole(0), batch_size=whole(1), num_workers=optional(whole(0)))
    path = find_weights(s.model_path)
    model, info = nets.load(path, choose_device(s.device), s.net, s.net_options)
    if model.task != "segmentation":
        raise UserError(f'{shown(path)} is "{info["net"]}", a network for {model.task}: '
                        'measure it with  python get_map.py')
    threshold = masks.choose_threshold(s.threshold, info)
    if s.threshold is None:
        s.put("threshold", threshold, "as trained")
    return path, model, info


def open_list(s, info):
    """The images of the list with their masks; values that the training ignored are ignored here as well."""
    settings = info["settings"]
    chosen = choose_list(s.list_path, settings, "python get_miou.py list_path=mydata_test.txt")
    ignored = settings.get("ignore_labels") or ()
    data = SegmentationData(chosen, info["class_names"], info["input_shape"], ignore_labels=ignored)
    data.value_range = range_of_set(data.paths, saved_range(settings))
    return data


def measure(s, model, data, folder):
    """Every image of the list: labels, counts, and its pictures if wanted.

    -> confusion matrix (K, K) pixels, rows for per_image.csv, losses: name -> mean,
    the worst images: (mIoU, index, labels).
    """
    device = next(model.parameters()).device
    loader = make_loader(data, s.batch_size, s.num_workers, device=device)
    names, rows, worst_ones, sums = data.class_names, [], [], {}
    matrix = np.zeros((len(names), len(names)), np.int64)
    for index, labels, losses in segment_list(model, loader, device, s.threshold, s.scales, s.flip, s.slide):
        # The matrices add up: the IoU of a list is that of all its pixels, not a mean over its images.
        truth = data.truth(index, labels.shape)
        one = count_confusion(truth, labels, len(names), data.masks[index])
        matrix += one
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value

        # Only the worst images are kept: the labels of a whole list would fill the memory.
        result = segmentation_results(one, names)
        rows.append([data.paths[index], result["miou"], result["accuracy"]])
        if one.sum() > np.trace(one):
            worst_ones.append((result["miou"], index, labels))
            worst_ones = sorted(worst_ones, key=lambda row: row[:2])[:s.worst]
        if s.save_pictures:
            save_comparison(s, folder / "pictures", data, index, truth, labels)

    means = {name: value / len(data) for name, value in sums.items()}
    means = {name: value if math.isfinite(value) else None for name, value in means.items()}
    return matrix, rows, means, worst_ones


def as_text(path, data, results, matrix, losses, epoch):
    """The numbers as text, and what looks wrong with them."""
    parts = [f"{shown(path)} on {shown(find(data.list_path))}", report.segmentation_report(results)]
    if None in losses.values():
        parts.append("NOTE: the losses are NaN or infinite: the weights are ruined.")
    suspicion = report.one_class_only(matrix, data.class_names, epoch)
    if suspicion:
        parts.append(suspicion)
    return "\n\n".join(parts)


def save_comparison(s, folder, data, index, truth, labels):
    """Image, truth, prediction and errors of one image side by side,
    with what the colours mean below them."""
    names, stem = data.class_names, Path(data.paths[index]).stem
    picture = masks.side_by_side(data.whole_image(index), truth, labels, names, s.opacity, errors=True)
    strip = masks.legend(picture.shape[1], names, errors=True)
    save_image(fresh(folder, stem, ".jpg"), np.vstack([picture, strip]))


def save_plots(folder, results, matrix, names):
    """The confusion matrix as a picture and as CSV, and the bars of the classes."""
    rows = ([name, *row] for name, row in zip(names, matrix.T.tolist()))            # as get_map.py has it
    write_csv(folder / "confusion_matrix.csv", [["network says / truth", *names], *rows])
    plots.pixel_confusion(matrix, names, folder / "confusion_matrix.png")
    plots.class_bars(results, folder / "per_class.png")


def save_worst(s, folder, worst_ones, data):
    """worst.png, if anything is wrong and worst is not 0."""
    if worst_ones:
        save_image(folder / "worst.png", worst_page(s, worst_ones, data))
    print("\nworst.png shows the worst images: look at it first." if worst_ones
          else "\nThere is no worst.png.")


def worst_page(s, worst_ones, data, cell=320):
    """Two images in a row, each: the image, the truth, what the network says, and where that is wrong; what
    the colours mean stands above. -> (h, w, 3) uint8"""
    pictures, captions = [], []
    for quality, index, labels in worst_ones:
        image, truth = data.whole_image(index), data.truth(index)
        known = truth != IGNORED
        wrong = (labels != truth)[known].mean()

        # Shrunken before they are drawn side by side: a large photo would make a page of gigabytes.
        size = fitted_size(*truth.shape, (cell, cell))
        small = resize(image, *size), resize_mask(truth, *size), resize_mask(labels, *size)
        pictures += masks.panels(*small, data.class_names, s.opacity)
        name = Path(data.paths[index]).name
        captions += [f"{name}  mIoU {quality:.3f}", "truth", "network", f"{masks.percent(wrong)} is wrong"]

    page = grid(pictures, 4 if len(worst_ones) == 1 else 8, cell, captions)
    return np.vstack([masks.legend(page.shape[1], data.class_names, errors=True, size=16), page])


if __name__ == "__main__":
    main(read_settings(globals()))
