"""Make anchors that suit a data set, and say how well the network's own would do.

    python tools/kmeans_anchors.py [name=value ...]

The objects of a training list are grouped by their shape at the network's input, with 1 - IoU as the distance; the groups' median
sizes are the anchors. They are written to model_data/<dataset>_<count>_anchors.txt, from where the option `anchors` of YOLOv3, v4
and v4-tiny reads them. Source: YOLO9000, arXiv 1612.08242, section 2, "Dimension Clusters" (there with means).
"""
import inspect
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import nets  # noqa: E402
from utils.anchors import RATIO, find_anchors, suitability, write_anchors  # noqa: E402
from utils.augment import MIN_SIDE  # noqa: E402
from utils.boxes import size_iou  # noqa: E402
from utils.errors import UserError  # noqa: E402
from utils.images import check_fit, fitted_size, image_size  # noqa: E402
from utils.lists import folder_name, list_name, read_list  # noqa: E402
from utils.settings import check, find, number, optional, read_settings, several, shown, whole  # noqa: E402

dataset = "VOCdevkit/Shapes"    # the VOC folder, as in train.py    数据集文件夹，与 train.py 相同
train_list = None               # its training list; None: <dataset>_train.txt    训练集列表
net = "yolov4_tiny"             # the network that will use the anchors    使用先验框的网络
input_shape = (224, 224)        # height, width, as in train.py; None: the paper's    输入尺寸（高, 宽），与 train.py 相同
fit = None                      # how a picture meets the input; None: as the network's recipe says    图像放入输入的方式
count = None                    # how many; None: as many as the network has now    先验框个数
anchors_path = None             # the file; None: model_data/<dataset>_<count>_anchors.txt    输出文件
enough = 0.98                   # a best possible recall below this is warned of    召回率上限低于此值时警告
seed = 0                        # of the first guesses    随机种子

TRIES, ROUNDS = 10, 300         # first guesses; rounds of one of them at most
BLOCK = 500_000                 # objects compared with all anchors at a time


def main(s):
    check(s, input_shape=optional(several(2, whole(32))), count=optional(whole(1)), enough=number(0, 1), seed=whole(0))
    network = nets.find_net(s.net)
    own = inspect.signature(network).parameters.get("anchors")
    if own is None:
        raise UserError(f"{s.net} has no option anchors: it needs none, or they follow from its input. Those that have: "
                        f"{', '.join(name for name, one in nets.NETS.items() if 'anchors' in inspect.signature(one).parameters)}.")
    shape, way, heads = tuple(s.input_shape or network.recipe["input_shape"]), s.fit or network.recipe["fit"], len(network.strides)
    check_fit(way)
    now = find_anchors(own.default, shape, heads)
    many = s.count or now.shape[0] * now.shape[1]
    if many % heads:
        raise UserError(f"count={many}: {s.net} has {heads} heads with equally many anchors each, choose a multiple of {heads}.")
    source = s.train_list or list_name(s.dataset, "train")
    sizes = object_sizes(source, shape, way)
    print(f"{source}: {len(sizes)} objects at an input of {shape[0]} x {shape[1]} ({way})")
    made = kmeans(sizes, many, s.seed)

    recall = {}
    print(f"\n{'':<20}{'best possible recall':>22}{'mean IoU':>12}   anchors: width,height in px, head by head")
    for title, anchors in (("the network's own", now), ("k-means", made.view(heads, -1, 2))):
        recall[title], overlap = suitability(sizes, anchors.flatten(0, 1))
        listed = " | ".join(" ".join(f"{w:.0f},{h:.0f}" for w, h in level) for level in anchors.tolist())
        print(f"{title:<20}{recall[title]:>22.4f}{overlap:>12.4f}   {listed}")
    print(f"\nBest possible recall: the share of the objects that some anchor reaches, each side less than {RATIO:g} times that of the other.")
    if recall["k-means"] < s.enough:
        print(f"WARNING: {1 - recall['k-means']:.1%} of the objects are beyond every anchor. More anchors (count={many + heads}) or, if the smallest "
              "objects are a few pixels, a larger input_shape will help.")
    elif recall["the network's own"] >= s.enough:
        print("The network's own anchors reach enough of them as well; they also fit its official weights.")

    path = s.anchors_path or f"model_data/{folder_name(s.dataset).lower()}_{many}_anchors.txt"
    kept = write_anchors(path, made, shape, source)
    print(f"\nWritten: {path}" + (f" (the old one is now {shown(kept)})" if kept else "") + ". To train with it, in train.py:\n"
          f'  net, net_options = "{s.net}", {{"anchors": "{path}"}}')


def object_sizes(path, shape, way):
    """Every object of a list that training teaches. -> (N, 2) float32 width, height in px of the input of (H, W)."""
    paths, boxes = read_list(find(path))
    sizes = []
    for image, rows in zip(paths, boxes):
        rows = rows[rows[:, 5] == 0]                        # what is difficult for people is not taught
        if len(rows):
            width, height = image_size(find(image))
            new_height, new_width = fitted_size(height, width, shape, way)
            sizes.append(torch.from_numpy(rows[:, 2:4] - rows[:, :2]) * torch.tensor([new_width / width, new_height / height]))
    sizes = torch.cat(sizes) if sizes else torch.zeros(0, 2)
    solid = (sizes >= MIN_SIDE).all(1)
    if not solid.all():
        print(f"{int((~solid).sum())} objects are less than {MIN_SIDE:g} px wide or high at this input: training leaves them out, and so does this.")
    return sizes[solid]


def kmeans(sizes, count, seed=0):
    """The best of some groupings of sizes (N, 2) by IoU. -> (count, 2), by their area. Error: fewer different sizes than groups."""
    if len(sizes.unique(dim=0)) < count:
        raise UserError(f"There are only {len(sizes.unique(dim=0))} different sizes of objects, too few for {count} anchors.")
    best, best_fit = None, -1.0
    for attempt in range(TRIES):
        anchors = first_guess(sizes, count, torch.Generator().manual_seed(1000 * seed + attempt))
        for _ in range(ROUNDS):
            nearest = fits(sizes, anchors)[1]
            groups = [sizes[nearest == k] for k in range(count)]
            moved = torch.stack([group.median(0).values if len(group) else anchor for group, anchor in zip(groups, anchors)])
            if torch.equal(moved, anchors):
                break
            anchors = moved
        fit = float(fits(sizes, anchors)[0].mean())
        if fit > best_fit:
            best, best_fit = anchors, fit
    return best[best.prod(1).argsort(stable=True)]


def first_guess(sizes, count, rng):
    """k-means++: objects, each drawn with a chance that grows with its distance from those drawn before. -> (count, 2)."""
    chosen = sizes[torch.randint(len(sizes), (1,), generator=rng)]
    while len(chosen) < count:
        distance = (1 - fits(sizes, chosen)[0]).clamp(min=0).double().cumsum(0)
        drawn = torch.searchsorted(distance, torch.rand(1, generator=rng, dtype=torch.float64) * distance[-1], right=True)
        chosen = torch.cat([chosen, sizes[drawn.clamp(max=len(sizes) - 1)]])
    return chosen


def fits(sizes, anchors):
    """-> IoU (N,) of every size with its best anchor, row (N,) of that anchor."""
    best = [size_iou(block, anchors).max(1) for block in sizes.split(BLOCK)]
    return torch.cat([b.values for b in best]), torch.cat([b.indices for b in best])


if __name__ == "__main__":
    main(read_settings(globals()))
