"""Draw the built-in dataset: VOCdevkit/Shapes, a VOC folder of 600 pictures for detection and segmentation.

    python tools/make_shapes.py [name=value ...]

Six kinds of paper shapes lie on cluttered ground, turned, textured, partly hidden by one another, among other
things that are no class at all. A picture is a pure function of (seed, index): the same Pillow draws the same
bytes on every run.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from utils.formats.shapes import CLASSES, make_shapes  # noqa: E402
from utils.settings import read_settings, shown  # noqa: E402

folder = "VOCdevkit/Shapes"    # the VOC folder to draw; it must not exist yet    要生成的 VOC 文件夹（不能已存在）
seed = 0                       # another seed draws other pictures    随机种子
train = 400                    # pictures for training    训练图片数
val = 80                       # pictures for validation    验证图片数
test = 120                     # pictures for testing    测试图片数
language = "auto"              # "auto" (as this computer), "en", "zh"    输出的语言


def main(s):
    where = make_shapes(s.folder, s.seed, s.train, s.val, s.test)
    print(f"{shown(where)}: {s.train} train, {s.val} val and {s.test} test pictures "
          f"of {', '.join(CLASSES)}.")


if __name__ == "__main__":
    main(read_settings(globals()))
