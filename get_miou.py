"""Measure a trained segmentation network on a list of images: IoU, pixel accuracy, precision, F1, confusion, the worst images.

    python get_miou.py [recipe.py] [name=value ...]
"""
import utils  # noqa: F401, I001  first: it says in a sentence which package is missing
import math
from pathlib import Path

import numpy as np

import nets
from utils.results import masks, plots
from utils.checkpoint import newest_best
from utils.dataset import SegmentationData, make_loader
from utils.results.draw import grid
from utils.errors import UserError
from utils.evaluate import segment_list
from utils.system.device import choose_device
from utils.images import IGNORED, fitted_size, open_image, resize
from utils.results.media import fresh, save_image
from utils.miou import count_confusion, segmentation_results
from utils.results.report import segmentation_report
from utils.results.report import choose_list, new_folder, one_class_only, write_csv, write_results
from utils.settings import ROOT, as_table, check, find, optional, read_settings, shown, whole, yes_or_no

model_path = ""             # weights that train.py saved; "": best.pth of the newest run               权值文件，空为最新一次训练的最佳
net = ""                    # only for official weights (.pth): which network, like "deeplabv3"          仅官方权重：网络名称
net_options = {}            # the same: the network's own options                                       仅官方权重：网络选项
list_path = ""              # images to measure on; "": the test list that the training named           测试列表，空为训练时指定的
threshold = None            # with two classes: the object's score must be higher; None: the training's 两类时的门限，空为训练时的
slide = False               # look at large images through a moving window, at their own size           滑动窗口，不缩小大图
scales = (1.0,)             # mean of the scores at these sizes, e.g. (0.75, 1.0, 1.25): slower, better 多尺度测试
flip = False                # mean of the scores of the image and its mirror image                      翻转测试
save_pictures = False       # also save image, truth, prediction and errors of every image              保存每张图的对比
opacity = 0.6               # of the colours over the images, 0 to 1                                    叠加颜色的不透明度
worst = 12                  # so many of the worst images are shown on one page                         最差图片页的张数
batch_size = 8              # images through the network at once                                        批大小
num_workers = None          # processes that read images; None: chosen                                  数据加载进程数
device = "auto"             # "auto", "cpu", "cuda", "cuda:1"                                           设备


def main(s):
    path, model, info = load_model(s)
    names, settings, where = info["class_names"], info["settings"], next(model.parameters()).device
    chosen = choose_list(s.list_path, settings, "python get_miou.py list_path=mydata_test.txt")
    data = SegmentationData(chosen, names, info["input_shape"], ignore_labels=settings.get("ignore_labels") or ())
    limit = masks.choose_threshold(s.threshold, info)
    folder = new_folder(ROOT / "miou_out", path.stem if info["epoch"] is None else path.parent.name)
    print(as_table(s))
    matrix, rows, losses, worst_ones = measure(s, model, make_loader(data, s.batch_size, s.num_workers, device=where), where, limit, folder)
    results = {"images": len(data)} | segmentation_results(matrix, names)
    text = f"{shown(path)} on {shown(find(chosen))}\n\n{segmentation_report(results)}"
    notes = ["NOTE: the losses are not numbers (NaN): the weights are ruined."] if None in losses.values() else []
    text = "\n\n".join([text, *filter(None, [*notes, one_class_only(matrix, names, info["epoch"])])])
    print("\n" + text)
    results |= {"model": shown(path), "list": shown(find(chosen)), "net": info["net"], "epoch": info["epoch"], "losses": losses,
                "threshold": limit, "slide": s.slide, "scales": list(s.scales), "flip": s.flip}
    write_results(folder, results, text)
    write_csv(folder / "per_image.csv", [["file", "miou", "accuracy"], *rows])
    write_csv(folder / "confusion_matrix.csv", [["truth / network says", *names], *([n, *row] for n, row in zip(names, matrix.tolist()))])
    plots.pixel_confusion(matrix, names, folder / "confusion_matrix.png")
    for key, title in (("iou", "IoU"), ("pa", "Pixel accuracy (recall)"), ("precision", "Precision")):
        plots.class_bars(results, key, title, folder / f"{key}.png")
    if worst_ones:
        worst_page(s, worst_ones, data, folder / "worst.png")
    print("\nworst.png shows the worst images: look at it first." if worst_ones else "\nThere is no worst.png.")
    print(f"\nAll of it lies in {shown(folder)}: " + ", ".join(sorted(p.name for p in folder.iterdir())))


def measure(s, model, loader, device, limit, folder):
    """Every image of the list: labels, counts, and its pictures if wanted.

    -> confusion matrix (K, K) pixels, rows for per_image.csv, losses: name -> mean, the worst images: (mIoU, index, labels).
    """
    data = loader.dataset
    names, rows, worst_ones, sums = data.class_names, [], [], {}
    matrix = np.zeros((len(names), len(names)), np.int64)
    for index, labels, losses in segment_list(model, loader, device, limit, s.scales, s.flip, s.slide):
        truth = data.truth(index, labels.shape)
        one = count_confusion(truth, labels, len(names), data.masks[index])
        matrix += one
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value
        result = segmentation_results(one, names)
        rows.append([data.paths[index], result["miou"], result["accuracy"]])
        if one.sum() > np.trace(one):
            worst_ones.append((result["miou"], index, labels))
            worst_ones = sorted(worst_ones, key=lambda row: row[:2])[:s.worst]
        if s.save_pictures:
            picture = masks.side_by_side(open_image(find(data.paths[index])), truth, labels, names, s.opacity, errors=True)
            strip = masks.legend(picture.shape[1], names, errors=True)
            save_image(fresh(folder / "pictures", Path(data.paths[index]).stem, ".jpg"), np.vstack([picture, strip]))
    means = {name: value / len(data) for name, value in sums.items()}
    return matrix, rows, {name: value if math.isfinite(value) else None for name, value in means.items()}, worst_ones


def worst_page(s, worst_ones, data, path, cell=320):
    """One row per image: the image, the truth, what the network says, and where that is wrong."""
    pictures, captions = [], []
    for quality, index, labels in worst_ones:
        image, truth = open_image(find(data.paths[index])), data.truth(index)
        known = truth != IGNORED
        wrong = (labels != truth)[known].mean()
        size = fitted_size(*truth.shape, (cell, cell))
        pictures += [resize(picture, *size) for picture in masks.panels(image, truth, labels, data.class_names, s.opacity)]
        captions += [f"{Path(data.paths[index]).name}  mIoU {quality:.3f}", "truth", "network", f"{masks.percent(wrong)} is wrong"]
    page = grid(pictures, 4, cell, captions)
    save_image(path, np.vstack([page, masks.legend(page.shape[1], data.class_names, errors=True, size=16)]))


def load_model(s):
    """-> path of the weights, network on the device, what was saved with it."""
    masks.check_settings(s)
    check(s, save_pictures=yes_or_no(), worst=whole(0), batch_size=whole(1), num_workers=optional(whole(0)))
    path = find(s.model_path) if s.model_path else newest_best()
    model, info = nets.load(path, choose_device(s.device), s.net, s.net_options)
    if model.task != "segmentation":
        raise UserError(f'{shown(path)} is "{info["net"]}", a network for {model.task}: measure it with  python get_map.py')
    return path, model, info


if __name__ == "__main__":
    main(read_settings(globals()))
