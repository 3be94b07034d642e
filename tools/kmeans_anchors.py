"""Make anchors that suit a data set, and say how well the network's own would do.

    python tools/kmeans_anchors.py [name=value ...]

The objects of a training list are grouped by their shape at the network's input, with 1 - IoU as the
distance; the groups' median sizes are the anchors. They are written to
model_data/<dataset>_<count>_anchors.txt, where the option `anchors` of YOLOv3, v4 and v4-tiny reads them.
Source: YOLO9000, arXiv 1612.08242, section 2, "Dimension Clusters" (there with means).
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
input_shape = (224, 224)        # height, width, as in train.py; None: the recipe's    输入尺寸（高, 宽）
fit = None                      # how a picture meets the input; None: the recipe's    图像放入输入的方式
count = None                    # how many; None: as many as the network has now    先验框个数
anchors_path = None             # the file; None: model_data/<dataset>_<count>_anchors.txt    输出文件
enough = 0.98                   # a best possible recall below this is warned of    召回率上限低于此值时警告
seed = 0                        # of the first guesses    随机种子

TRIES, ROUNDS = 10, 300         # first guesses; rounds of one of them at most
BLOCK = 500_000                 # objects compared with all anchors at a time


def main(s):
    check(s, input_shape=optional(several(2, whole(32))), count=optional(whole(1)), enough=number(0, 1),
          seed=whole(0))

    # The network says how many anchors there are, how its heads share them, and how pictures are fitted.
    network, own = network_with_anchors(s.net)
    shape = tuple(s.input_shape or network.recipe["input_shape"])
    way = s.fit or network.recipe["fit"]
    check_fit(way)
    heads = len(network.strides)
    now = find_anchors(own, shape, heads)
    many = s.count or now.shape[0] * now.shape[1]
    if many % heads:
        raise UserError(f"count={many}: {s.net} has {heads} heads with equally many anchors each, "
                        f"choose a multiple of {heads}.")

    # Only at this input are the sizes those that the network sees; another input wants other anchors.
    source = s.train_list or list_name(s.dataset, "train")
    sizes = object_sizes(source, shape, way)
    print(f"{source}: {len(sizes)} objects at an input of {shape[0]} x {shape[1]} ({way})")
    made = kmeans(sizes, many, s.seed)
    compare(sizes, now, made.view(heads, -1, 2), s.enough)

    # Written to a file, with the input they are for: nobody has to copy eighteen numbers.
    path = s.anchors_path or f"model_data/{folder_name(s.dataset).lower()}_{many}_anchors.txt"
    kept = write_anchors(path, made, shape, source)
    renamed = f" (the old one is now {shown(kept)})" if kept else ""
    print(f"\nWritten: {path}{renamed}. To train with it, in train.py:\n"
          f'  net, net_options = "{s.net}", {{"anchors": "{path}"}}')


def network_with_anchors(name):
    """-> the network's class, its own anchors. Error: anchors are no option of it."""
    network = nets.find_net(name)
    own = inspect.signature(network).parameters.get("anchors")
    if own is None:
        others = [other for other, one in nets.NETS.items() if "anchors" in inspect.signature(one).parameters]
        raise UserError(f"{name} has no option anchors: it needs none, or they follow from its input. "
                        f"Those that have: {', '.join(others)}.")
    return network, own.default


def compare(sizes, now, made, enough):
    """Print how well both suit the objects. sizes: (N, 2).  now, made: (heads, A, 2)."""
    recall = {}
    print(f"\n{'':<20}{'best possible recall':>22}{'mean IoU':>12}   "
          "anchors: width,height in px, head by head")
    for title, anchors in (("the network's own", now), ("k-means", made)):
        recall[title], overlap = suitability(sizes, anchors.flatten(0, 1))
        listed = " | ".join(" ".join(f"{w:.0f},{h:.0f}" for w, h in level) for level in anchors.tolist())
        print(f"{title:<20}{recall[title]:>22.4f}{overlap:>12.4f}   {listed}")
    print("\nBest possible recall: the share of the objects that some anchor reaches, each side less than "
          f"{RATIO:g} times that of the other.")

    # An object that no anchor reaches is never learnt, however long the training. The network's own anchors,
    # if they are good enough, are the better choice with official weights, which were trained for them.
    if recall["k-means"] < enough:
        more = made.shape[0] * made.shape[1] + made.shape[0]
        print(f"WARNING: {1 - recall['k-means']:.1%} of the objects are beyond every anchor. More anchors "
              f"(count={more}) or, if the smallest objects are a few pixels, a larger input_shape will help.")
    elif recall["the network's own"] >= enough:
        print("The network's own anchors reach enough of them as well; they also fit its official weights.")


def object_sizes(path, shape, way):
    """Every object of a list that training uses. -> (N, 2) float32 width, height in px of the input."""
    paths, boxes = read_list(find(path))
    sizes = []
    for image, rows in zip(paths, boxes):
        rows = rows[rows[:, 5] == 0]                        # training skips what is difficult for people
        if len(rows):
            width, height = image_size(find(image))
            new_height, new_width = fitted_size(height, width, shape, way)
            factors = torch.tensor([new_width / width, new_height / height])
            sizes.append(torch.from_numpy(rows[:, 2:4] - rows[:, :2]) * factors)
    sizes = torch.cat(sizes) if sizes else torch.zeros(0, 2)

    # Specks would pull anchors to sizes that nothing is ever assigned to.
    solid = (sizes >= MIN_SIDE).all(1)
    if not solid.all():
        print(f"{int((~solid).sum())} objects are less than {MIN_SIDE:g} px wide or high at this input: "
              "training skips them, and so does this.")
    return sizes[solid]


def kmeans(sizes, count, seed=0):
    """The best of some groupings of sizes (N, 2) by IoU. -> (count, 2), by their area.

    Error: there are fewer different sizes than groups.
    """
    different = len(sizes.unique(dim=0))
    if different < count:
        raise UserError(f"There are only {different} different sizes of objects, "
                        f"too few for {count} anchors.")

    # Where it ends depends on where it begins, so it begins several times, and the best grouping is kept.
    best, best_fit = None, -1.0
    for attempt in range(TRIES):
        anchors = first_guess(sizes, count, torch.Generator().manual_seed(1000 * seed + attempt))

        # Each size joins its nearest anchor, each anchor moves to the middle of its sizes, until none moves.
        for _ in range(ROUNDS):
            nearest = fits(sizes, anchors)[1]
            groups = [sizes[nearest == k] for k in range(count)]
            moved = torch.stack([group.median(0).values if len(group) else anchor
                                 for group, anchor in zip(groups, anchors)])
            if torch.equal(moved, anchors):
                break
            anchors = moved
        fit = float(fits(sizes, anchors)[0].mean())
        if fit > best_fit:
            best, best_fit = anchors, fit
    return best[best.prod(1).argsort(stable=True)]


def first_guess(sizes, count, rng):
    """k-means++: objects, drawn with chances that grow with the distance from those before. -> (count, 2)."""
    chosen = sizes[torch.randint(len(sizes), (1,), generator=rng)]
    while len(chosen) < count:
        distance = (1 - fits(sizes, chosen)[0]).clamp(min=0).double().cumsum(0)
        place = torch.rand(1, generator=rng, dtype=torch.float64) * distance[-1]
        drawn = torch.searchsorted(distance, place, right=True)
        chosen = torch.cat([chosen, sizes[drawn.clamp(max=len(sizes) - 1)]])
    return chosen


def fits(sizes, anchors):
    """-> IoU (N,) of every size with its best anchor, row (N,) of that anchor. In blocks, to save memory."""
    best = [size_iou(block, anchors).max(1) for block in sizes.split(BLOCK)]
    return torch.cat([b.values for b in best]), torch.cat([b.indices for b in best])


if __name__ == "__main__":
    main(read_settings(globals()))
