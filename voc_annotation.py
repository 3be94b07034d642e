"""A data set -> checked, split, written as list files, which train.py, get_map.py and get_miou.py read.

    python voc_annotation.py [name=value ...]

Expected: VOCdevkit/<name>/JPEGImages/a.jpg, and for detection Annotations/a.xml, for segmentation SegmentationClass/a.png; if you
have your own split, ImageSets/Main/train.txt ... (detection), ImageSets/Segmentation/train.txt ... (segmentation).
Written beside this script: <name>_train.txt, <name>_val.txt, <name>_test.txt; for segmentation <name>_segmentation_train.txt ...
Other formats -- YOLO (data.yaml), COCO, labelme, LabelImg, masks in colours -- are recognised by what `dataset` is: docs/en/formats.md.
Every image and label is read first, and all that is wrong is told at once (docs/en/data.md): what cannot be used is left out, and where that
would not do, nothing is written. Nothing of yours is changed or deleted.
"""
import utils  # noqa: F401, I001  first: it says in a sentence which package is missing
import ast

from utils.checks.prepare import prepare, tasks_of
from utils.errors import UserError
from utils.formats.voc_folder import LABELS
from utils.settings import read_settings

dataset = "VOCdevkit/Shapes"    # VOC folder, data.yaml, COCO .json ..., or a list: ["VOCdevkit/VOC2007", "VOCdevkit/VOC2012"]    数据集，或多个合并
task = None                     # "detection", "segmentation"; None: what the folder holds, Annotations, SegmentationClass or both    任务
classes_path = None             # class names, one per line; None: model_data/<name>_classes.txt, made if missing    类别文件
trainval_percent = 0.9          # share of the images for training and validation, the rest is test    训练集加验证集的比例
train_percent = 0.9             # share of those for training    其中训练集的比例
train_set = "train"             # list in ImageSets/Main that becomes <name>_train.txt    训练用的列表
val_set = "val"                 # ... <name>_val.txt, on which the best weights are chosen    验证用的列表
test_set = "test"               # ... <name>_test.txt, for get_map.py only    测试用的列表
new_split = False               # True: split anew; the old lists are kept as .bak    重新划分，旧列表另存为 .bak
seed = 0                        # another number is another split    随机种子
stratify = False                # True: a new split has every class as evenly as possible in all its parts    新划分时各类别按比例分配
ignore_labels = []              # segmentation: mask values that are no class, like [0]; 255 never is    分割：不参与的标签值
palette = None                  # segmentation: file that says which colour or number is which class; None: palette.txt in the folder    调色板文件


def main(s):
    folders = ast.literal_eval(s.dataset) if s.dataset.startswith("[") else s.dataset
    if s.task not in (None, *LABELS):
        raise UserError(f"task={s.task!r}: expected None, " + " or ".join(f'"{name}"' for name in LABELS) + ".")
    for number, name in enumerate([s.task] if s.task else tasks_of(folders)):
        print(("\n" if number else "") + f"Lists for {name}:")
        prepare(folders, s.classes_path, s.trainval_percent, s.train_percent, s.train_set, s.val_set, s.test_set, s.new_split, s.seed,
                name, s.ignore_labels, s.stratify, s.palette)


if __name__ == "__main__":
    main(read_settings(globals()))
