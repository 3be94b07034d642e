"""A dataset -> checked, split, written as list files, which train.py, get_map.py and get_miou.py read.

    python voc_annotation.py [name=value ...]

Expected: VOCdevkit/<name>/JPEGImages/a.jpg, and for detection Annotations/a.xml, for segmentation
SegmentationClass/a.png; if you have your own split, ImageSets/Main/train.txt ... (detection),
ImageSets/Segmentation/train.txt ... (segmentation).
Written beside this script: <name>_train.txt, <name>_val.txt, <name>_test.txt; for segmentation
<name>_segmentation_train.txt ...
Other formats -- YOLO (data.yaml), COCO, labelme, LabelImg, masks in colours -- are recognised by what
`dataset` is: docs/en/formats.md.
Every image and label is read first, and all problems are reported in one go (docs/en/data.md): what cannot be
used is skipped, and where that is not enough, nothing is written. Nothing of yours is changed or deleted.
"""
import utils  # noqa: F401, I001  first: it says in a sentence which package is missing, and answers --help

from utils.checks.prepare import prepare, tasks_of
from utils.errors import UserError
from utils.formats.voc_folder import LABELS
from utils.settings import check, find, keep_in, number, one_of, optional, read_settings, several_paths, shown
from utils.system.files import together, writable_folder

# The data                                                                               数据
dataset = "VOCdevkit/Shapes"    # VOC folder, data.yaml, COCO ...; or a list of them        数据集，或用列表合并多个
task = None                     # "detection", "segmentation"; None: what it has labels for 任务
classes_path = None             # one a line; None: model_data/<name>_classes.txt            类别文件
palette = None                  # segmentation: which colour is which class; None: its own  分割：调色板文件
ignore_labels = []              # segmentation: mask values to ignore, like [0]; 255 always 分割：忽略的标签值

# The lists                                                                              列表
train_set = "train"             # list in ImageSets/Main that becomes <name>_train.txt      训练用的列表
val_set = "val"                 # ... <name>_val.txt, on which the best weights are chosen  验证用的列表
test_set = "test"               # ... <name>_test.txt, for get_map.py only                  测试用的列表

output = ""                     # folder for the lists and class names; "": beside this script  列表的文件夹，空为脚本旁

# A new split, where there are no lists                                                  划分
trainval_percent = 0.9          # share of the images for train and val; the rest is test   训练集加验证集的比例
train_percent = 0.9             # share of those for train                                  其中训练集的比例
new_split = False               # True: split again; the old lists are kept as .bak         重新划分，旧列表另存为 .bak
seed = 0                        # another number is another split                           随机种子
stratify = False                # True: every class as evenly as possible in all the parts  划分时各类别按比例分配
language = "auto"               # "auto" (as this computer), "en", "zh"                     输出的语言


def main(s):
    """s: the settings above, with what a recipe or the command line changed."""
    check_values(s)
    keep_in(writable_folder(s.output))
    folders = several_paths(s.dataset)
    folders = folders[0] if len(folders) == 1 else folders
    tasks = [s.task] if s.task else tasks_of(folders)

    # The lists of both tasks appear together, or none does.
    with together():
        for position, name in enumerate(tasks):
            print(("\n" if position else "") + f"Lists for {name}:")
            prepare(folders, s.classes_path, s.trainval_percent, s.train_percent,
                    s.train_set, s.val_set, s.test_set, s.new_split, s.seed,
                    name, s.ignore_labels, s.stratify, s.palette)


def check_values(s):
    """What can be wrong with a setting by itself, before any data is read."""
    check(s, task=optional(one_of(LABELS)), trainval_percent=number(0, 1), train_percent=number(0, 1),
          dataset=(str.strip, "a path"),
          ignore_labels=(are_labels, "mask values from 0 to 255, like [0]"))
    if s.palette is not None and not find(s.palette).is_file():
        raise UserError(f"palette={s.palette!r}: there is no file {shown(find(s.palette))}.")


def are_labels(values):
    return all(type(value) is int and 0 <= value <= 255 for value in values)


if __name__ == "__main__":
    main(read_settings(globals()))
