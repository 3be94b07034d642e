"""Small objects in a large picture: how many of them are found with the whole picture in the input, and in tiles.

    python benchmarks/tiles.py [model_path=logs/.../best.pth] [object=12] [tile=128]

The picture is laid out of the images of the training's test list, so far shrunk that the median object has
`object` px; what is found is compared with their boxes, of any class. CPU time of everything between picture
and boxes.
"""
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

import nets  # noqa: E402
from utils.evaluate import detect  # noqa: E402
from utils.images import open_image  # noqa: E402
from utils.lists import read_list  # noqa: E402
from utils.prediction.engine import find_weights  # noqa: E402
from utils.prediction.overlap import iou  # noqa: E402
from utils.prediction.tiles import detect_in_views, views_of  # noqa: E402
from utils.settings import find, read_settings, shown  # noqa: E402

model_path = ""         # of a detector; "": best.pth of the newest run             权重文件
list_path = ""          # with boxes; "": the test list of that training            列表文件
object = 12             # px, the median side of the objects in the picture         目标边长
tile = 128              # px, the side of a tile                                    分块边长
width = 3264            # of the picture in px                                      图片宽度
height = 2448           # of the picture in px                                      图片高度
confidence = 0.3        # least score                                               置信度阈值
GAP = 4                 # px between the small images
GREY = 114


def lay_out(s, paths, boxes):
    """-> picture (height, width, 3) uint8, boxes (N, 4) of all objects in it."""
    rng = random.Random(0)
    scale = s.object / np.median([side for some in boxes for side in np.sqrt(sizes(some).prod(1))])
    small = []
    for path, some in zip(paths, boxes):
        image = Image.fromarray(open_image(path))
        fitted = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        factors = np.array([fitted[0] / image.width, fitted[1] / image.height] * 2)
        small.append((np.array(image.resize(fitted, Image.Resampling.BOX)), some * factors))

    # Row by row; what does not fit at the right or below is left out.
    picture, found, x, y, high = np.full((s.height, s.width, 3), GREY, np.uint8), [], 0, 0, 0
    while y < s.height:
        image, some = rng.choice(small)
        h, w = image.shape[:2]
        if x + w > s.width:
            x, y, high = 0, y + high + GAP, 0
        if y + h > s.height:
            break
        picture[y:y + h, x:x + w] = image
        found.append(some + (x, y, x, y))
        x, high = x + w + GAP, max(high, h)
    return picture, np.concatenate(found)


def sizes(boxes):
    return boxes[:, 2:] - boxes[:, :2]


def main(s):
    path = find_weights(s.model_path)
    model, info = nets.load(path)
    settings = info["settings"]
    names, rows = read_list(find(s.list_path or settings["test_list"]))
    boxes = [np.array(some, np.float64).reshape(len(some), -1)[:, :4] for some in rows]
    picture, truth = lay_out(s, [find(name) for name in names], boxes)
    print(f"{shown(path)}: {info['net']}, input {tuple(info['input_shape'])}; picture of {s.width} x {s.height}, "
          f"{len(truth)} objects of {np.median(np.sqrt(sizes(truth).prod(1))):.1f} px")

    # The same network, once for the whole picture and once for each tile.
    def look(images, scale):
        shape, fit = tuple(info["input_shape"]), settings.get("fit", "letterbox")
        return detect(model, images, shape, s.confidence, None, len(truth), fit)

    for title, tiles in (("whole", None), (f"tiles of {s.tile}", (s.tile, s.tile))):
        began, views = time.process_time(), views_of(picture, tiles, 0.2, (1.0,), False)
        found = detect_in_views(look, picture, views, model.recipe["nms_iou"], 4 * len(truth), batch=8)
        seconds = time.process_time() - began
        overlap = iou(truth, found["boxes"]) >= 0.5
        right = overlap.any(0).mean() if overlap.size else 0
        recall = overlap.any(1).mean() if overlap.size else 0
        print(f"{title:<14} {len(views):>5} views  recall {recall:.3f}  precision {right:.3f}  {seconds:6.1f} s")


if __name__ == "__main__":
    main(read_settings(globals()))
