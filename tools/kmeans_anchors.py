"""Make anchors that suit a dataset, and say how well the network's own would do.

    python tools/kmeans_anchors.py [name=value ...]

The objects of a training list are grouped by their shape at the network's input, with 1 - IoU as the
distance; the groups' median sizes are the anchors. They are written to
model_data/<dataset>_<count>_anchors.txt, from where the option `anchors` of YOLOv3, v4 and v4-tiny reads
them. Source: YOLO9000, arXiv 1612.08242, section 2, "Dimension Clusters" (there with means).
"""
import inspect
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import utils  # noqa: E402, F401, I001  first: it says in a sentence which package is missing, and answers --help
import torch  # noqa: E402

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
input_shape = (224, 224)        # height, width, as in train.py; None: the recipe's    输入尺寸（高, 宽）；None：网络默认值
fit = None                      # how a picture meets the input; None: the recipe's    图像放入输入的方式
count = None                    # how many; None: as many as the network has now    先验框个数
anchors_path = None             # the file; None: model_data/<dataset>_<count>_anchors.txt    输出文件
enough = 0.98                   # a best possible recall below this is warned of    召回率上限低于此值时警告
seed = 0                        # of the first guesses    随机种子
language = "auto"               # "auto" (as this computer), "en", "zh"    输出的语言

TRIES, ROUNDS = 10, 300         # first guesses; rounds of one of them at most
BLOCK = 500_000                 # objects compared with all anchors at a time


def main(s):
    check(s, input_shape=optional(several(2, whole(32))), count=optional(whole(1)), enough=number(0, 1),
          seed=whole(0))
    network = nets.find_net(s.net)
    usual = usual_anchors(s.net, network)
    shape = tuple(s.input_shape or network.recipe["input_shape"])
    way = s.fit or network.recipe["fit"]
    check_fit(way)
    heads = len(network.strides)
    own = find_anchors(usual, shape, heads)                 # (heads, A, 2) px
    count = s.count or own.shape[0] * own.shape[1]
    if count % heads:
        raise UserError(f"count={count}: {s.net} has {heads} heads with equally many anchors each, "
                        f"choose a multiple of {heads}.")

    # The objects as the network will see them, in groups by their shape.
    source = s.train_list or list_name(s.dataset, "train")
    sizes = object_sizes(source, shape, way)
    print(f"{source}: {len(sizes)} objects at an input of {shape[0]} x {shape[1]} ({way})")
    made = kmeans(sizes, count, s.seed)
    compare(s, sizes, own, made.view(heads, -1, 2))

    path = s.anchors_path or f"model_data/{folder_name(s.dataset).lower()}_{count}_anchors.txt"
    kept = write_anchors(path, made, shape, source)
    before = f" (the old one is now {shown(kept)})" if kept else ""
    print(f"\nWritten: {path}{before}. To train with it, in train.py:\n"
          f'  net, net_options = "{s.net}", {{"anchors": "{path}"}}')


def usual_anchors(name, network):
    """The default of the network's option `anchors`. Error: it has no such option."""
    option = inspect.signature(network).parameters.get("anchors")
    if option is None:
        others = [other for other, one in nets.NETS.items() if "anchors" in inspect.signature(one).parameters]
        raise UserError(f"{name} has no option anchors: it needs none, or they follow from its input. "
                        f"Those that have: {', '.join(others)}.")
    return option.default


def compare(s, sizes, own, made):
    """Print how well both sets of anchors suit the objects. sizes: (N, 2).  own, made: (heads, A, 2) px."""
    recall = {}
    title = f"{'':<20}{'best possible recall':>22}{'mean IoU':>12}"
    print(f"\n{title}   anchors: width,height in px, head by head")
    for title, anchors in (("the network's own", own), ("k-means", made)):
        recall[title], overlap = suitability(sizes, anchors.flatten(0, 1))
        listed = " | ".join(" ".join(f"{w:.0f},{h:.0f}" for w, h in level) for level in anchors.tolist())
        print(f"{title:<20}{recall[title]:>22.4f}{overlap:>12.4f}   {listed}")

    # What follows from it.
    print("\nBest possible recall: the share of the objects that some anchor reaches, "
          f"each side less than {RATIO:g} times that of the other.")
    if recall["k-means"] < s.enough:
        heads, each = made.shape[:2]
        print(f"WARNING: {1 - recall['k-means']:.1%} of the objects are beyond every anchor. More anchors "
              f"(count={heads * each + heads}) or, if the smallest objects are a few pixels, "
              "a larger input_shape will help.")
    elif recall["the network's own"] >= s.enough:
        print("The network's own anchors reach enough of them as well; they also fit its official weights.")


def object_sizes(path, shape, way):
    """-> (N, 2) float32 width, height in px of the input of (H, W): every object that training uses."""
    paths, boxes = read_list(find(path))
    sizes = [torch.zeros(0, 2)]
    for image, rows in zip(paths, boxes):
        rows = rows[rows[:, 5] == 0]                        # training leaves out what is marked as difficult
        if not len(rows):
            continue
        width, height = image_size(find(image))
        new_height, new_width = fitted_size(height, width, shape, way)
        scale = torch.tensor([new_width / width, new_height / height])
        sizes.append(torch.from_numpy(rows[:, 2:4] - rows[:, :2]) * scale)

    sizes = torch.cat(sizes)
    solid = (sizes >= MIN_SIDE).all(1)
    if not solid.all():
        print(f"{int((~solid).sum())} objects are less than {MIN_SIDE:g} px wide or high at this input: "
              "training leaves them out, and so does this.")
    return sizes[solid]


def kmeans(sizes, count, seed=0):
    """The best of some groupings of sizes (N, 2) by IoU.

    -> (count, 2), by their area. Error: fewer different sizes than groups.
    """
    different = len(sizes.unique(dim=0))
    if different < count:
        raise UserError(f"There are only {different} different sizes of objects, "
                        f"too few for {count} anchors.")

    # Several first guesses, for where one ends depends on where it began.
    best, best_overlap = None, -1.0
    for attempt in range(TRIES):
        anchors = first_guess(sizes, count, torch.Generator().manual_seed(1000 * seed + attempt))
        anchors = settle(sizes, anchors)
        overlap = float(compare_sizes(sizes, anchors)[0].mean())
        if overlap > best_overlap:
            best, best_overlap = anchors, overlap
    return best[best.prod(1).argsort(stable=True)]


def settle(sizes, anchors):
    """Objects join their best anchor, anchors become their group's median, again and again. -> (count, 2)."""
    for _ in range(ROUNDS):
        nearest = compare_sizes(sizes, anchors)[1]
        groups = [sizes[nearest == k] for k in range(len(anchors))]
        moved = torch.stack([group.median(0).values if len(group) else anchor
                             for group, anchor in zip(groups, anchors)])
        if torch.equal(moved, anchors):
            break
        anchors = moved
    return anchors


def first_guess(sizes, count, rng):
    """k-means++: objects, each more likely the further it is from those drawn before. -> (count, 2)."""
    chosen = sizes[torch.randint(len(sizes), (1,), generator=rng)]
    while len(chosen) < count:
        distance = (1 - compare_sizes(sizes, chosen)[0]).clamp(min=0).double().cumsum(0)
        point = torch.rand(1, generator=rng, dtype=torch.float64) * distance[-1]
        drawn = torch.searchsorted(distance, point, right=True)
        chosen = torch.cat([chosen, sizes[drawn.clamp(max=len(sizes) - 1)]])
    return chosen


def compare_sizes(sizes, anchors):
    """-> IoU (N,) of every size with its best anchor, row (N,) of that anchor."""
    best = [size_iou(block, anchors).max(1) for block in sizes.split(BLOCK)]
    return torch.cat([b.values for b in best]), torch.cat([b.indices for b in best])


if __name__ == "__main__":
    main(read_settings(globals()))
