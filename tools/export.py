"""A dataset in one format -> a new folder in another: boxes of VOC, YOLO, COCO, labelme as VOC, YOLO, COCO.

    python tools/export.py dataset=VOCdevkit/Shapes to=yolo out=shapes_yolo

The dataset is only read. What is wrong with it is reported and skipped, as voc_annotation.py does it. `out`
must not exist yet (or be empty); it appears when all of it is written.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from utils.checks.prepare import look_at  # noqa: E402
from utils.errors import UserError  # noqa: E402
from utils.findings import STOPS, Finding, tell, worst  # noqa: E402
from utils.formats.foreign import deal  # noqa: E402
from utils.formats.recognise import home  # noqa: E402
from utils.formats.written import WRITERS, safe_names  # noqa: E402
from utils.lists import folder_name  # noqa: E402
from utils.settings import find, read_settings, shown  # noqa: E402
from utils.system.files import whole_folder  # noqa: E402

dataset = "VOCdevkit/Shapes"    # a VOC folder, a data.yaml, a COCO .json, a labelme folder ...    数据集
to = "yolo"                     # "voc", "yolo" or "coco"    目标格式
out = None                      # the new folder; None: ./<dataset>_<format>    输出文件夹
link = False                    # True: hard links instead of copies of the images, to save room    用硬链接代替复制
seed = 0                        # of the split, where the dataset has none    随机种子
language = "auto"               # "auto" (as this computer), "en", "zh"    输出的语言

SPLITS = ("train", "val", "test")


def main(s):
    folder = export(s.dataset, s.to, s.out, s.link, s.seed)
    print(f'Use it:  python voc_annotation.py "dataset={shown(folder)}"')


def export(dataset, to, out=None, link=False, seed=0):
    """Write the boxes of a dataset in another format. Arguments: the variables above. -> the new folder."""
    if to not in WRITERS:
        raise UserError(f'to={to!r}: expected "voc", "yolo" or "coco".')
    source = find(dataset)
    names, splits = usable(source, seed)
    target = new_target(out, source, to)

    # Written beside it under another name: what breaks off half way never looks like a dataset.
    with whole_folder(target) as part:
        counts = WRITERS[to](part, names, splits, safe_names(splits), link)

    # What the new format cannot express is said, not lost in silence.
    images = ", ".join(f"{split} {len(some)}" for split, some in splits.items()) + " images"
    boxes = f"{counts['boxes']} boxes of {len(names)} classes"
    print(f"Written: {shown(target)} ({to}), {images}, {boxes}")
    if counts["difficult"] and to == "yolo":
        print("NOTE: YOLO labels cannot say that an object is difficult: "
              f"{counts['difficult']} are written like the others.")
    return target


def usable(source, seed):
    """-> class names of a dataset, its usable samples: dict split -> list of (image path, size, objects).

    What is wrong is printed. Error: something must be fixed first.
    """
    wanted = dict(zip(SPLITS, SPLITS))
    part, findings = look_at(source, "detection", wanted, False, seed=seed)
    splits = {}
    if part and part.fixed:
        splits = {split: [part.samples[image] for image in ids] for split, ids in part.sets.items()}

    # A VOC folder with a train list alone: the val list is dealt from it, so it is not missing.
    elif part:
        lists = {"all": part.samples}
        if "train" in part.sets:
            findings = [finding for finding in findings if finding.kind != "list_missing"]
            lists = {name: ids for name, ids in part.sets.items() if name in SPLITS}
        usable_ones = {name: [part.samples[stem] for stem in ids if stem in part.samples]
                       for name, ids in lists.items()}
        splits = deal(usable_ones, source, wanted, findings, seed=seed)
    if part and not part.samples and worst(findings) != STOPS:
        findings.append(Finding("nothing_left", source))

    # This stops with an error when a finding is a serious one, or when there is nothing to export at all.
    count = len(part.samples) if part else 0
    tell(findings, f"{count} labelled images of {shown(source)}", "Nothing was written.")
    in_use = {thing["name"] for sample in part.samples.values() for thing in sample.truth}
    chosen = {split: [(one.image, one.size, one.truth) for one in some]
              for split, some in splits.items() if some}
    return part.names or sorted(in_use), chosen


def new_target(out, source, to):
    """The folder to write. Errors: it holds something; it and the dataset are inside one another."""
    target = Path(out).expanduser().absolute() if out else Path.cwd() / f"{folder_name(source)}_{to}"
    folder = home(source).resolve()
    is_empty = target.is_dir() and not any(target.iterdir())
    if target.is_symlink() or target.exists() and not is_empty:
        raise UserError(f"{shown(target)} is there already: nothing is ever overwritten. "
                        "Set out to a new folder.")

    # Inside one another, reading and writing would get mixed up: the next export would find its own images.
    place = target.resolve()
    if place == folder or place.is_relative_to(folder) or folder.is_relative_to(place):
        raise UserError(f"{shown(target)} and the dataset {shown(folder)} are inside one another. "
                        "Set out to a folder beside it.")
    return target


if __name__ == "__main__":
    main(read_settings(globals()))
