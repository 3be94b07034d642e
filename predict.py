"""Find the objects, or the class of every pixel, in images, folders, videos or what a camera sees:
as the network was trained.

    python predict.py                        some images of the test list, with the newest trained network
    python predict.py source=street.jpg
    python predict.py source=photos save_json=True confidence=0.5
    python predict.py source="photos/*.jpg" classes=person,dog
    python predict.py source=photos save_index=True
    python predict.py mode=camera
    python predict.py net=ssd300 model_path=model_data/ssd300_vgg16_coco-b556d3b4.pth source=street.jpg
"""
import utils  # noqa: F401, I001  first: it says in a sentence which package is missing, and answers --help
from pathlib import Path

from utils.errors import UserError
from utils.lists import read_list, read_mask_list
from utils.prediction.cameras import predict_camera
from utils.prediction.engine import open_engine
from utils.prediction.images import predict_images
from utils.prediction.options import check_options
from utils.prediction.videos import predict_video
from utils.prediction.window import SHOWS, choose_window
from utils.results import masks, media, sources
from utils.results.filters import check_filters
from utils.settings import (
    check,
    counted,
    find,
    number,
    one_of,
    optional,
    read_settings,
    shown,
    whole,
    yes_or_no,
)
from utils.system import signals

# What is looked at                                                                      来源
source = ""                 # path, pattern, list, address, camera; "": the test list       路径、通配符、列表、网址或摄像头
mode = "image"              # "image", "folder", "video" or "camera"; source decides        图片、文件夹、视频、摄像头

# The network                                                                            网络
model_path = ""             # weights, or the folder of a run; "": the newest run           权重文件或训练文件夹，空为最新
net = ""                    # only for official weights: which network, like "ssd300"       仅官方权重：网络名称
net_options = {}            # only for official weights: the network's own options          仅官方权重：网络选项
input_shape = None          # height, width ("short_side": the short side, the longest)     输入尺寸，None 为训练时的
fit = None                  # "letterbox", "rect", "stretch", "short_side"; None: fitting   图像放入输入的方式
device = "auto"             # "auto", "cpu", "cuda", "cuda:1"                               设备
amp = None                  # bfloat16; None: where a CPU has it and finds the same        bfloat16 计算，空为自动
batch_size = None           # images at once, of one input shape; None: 1 on a CPU, 16      每批图片数，None 为自动

# What it leaves                                                                         结果
output = "img_out"          # folder for the results; nothing is ever overwritten           结果文件夹
language = "auto"           # what the scripts say: "auto" (as this computer), "en", "zh"   输出的语言
save_json = False           # also write what was found as a .json file                     保存 JSON
save_csv = False            # also write it as a .csv table                                 保存 CSV
save_coco = False           # also write the boxes as results of COCO                       保存 COCO 结果
save_labels = ""            # "voc", "yolo", "coco", "mask": a dataset of what is found     保存为数据集：伪标签
heat = None                 # where a class is seen, and why: True, or its name             热力图，True 或类别名
count = False               # also count the objects, or the pixels, of each class          统计各类数量或像素比例
show = None                 # window: True, False, "page": browser; None: for cameras       弹窗，"page" 为网页
verbose = False             # print what was found in each of several images                逐张打印多张图片的结果

# Detection only                                                                         仅检测
confidence = None           # boxes with a lower score are left out; None: the training's   检测：置信度阈值，空为训练所得
class_confidence = {}       # another one for some classes, like {"cat": 0.6}               检测：某些类别另用的阈值
classes = None              # only these, names or numbers, like ["cat", "dog"]; None: all  检测：只要这些类别
nms = "hard"                # "hard", "diou" (kinder to neighbours), "soft" (lowers scores) 检测：非极大抑制的方式
nms_iou = None              # more overlap than this: only the better box stays             检测：非极大抑制阈值
agnostic_nms = False        # also between boxes of different classes                       检测：不同类别之间也抑制
max_boxes = 100             # boxes kept per image, the best ones                           检测：每图最多框数
max_per_class = None        # boxes kept per image and class; None: as many as there are    检测：每图每类最多框数
line_width = None           # of the boxes in pixels; None: fits the image                  检测：框线宽度
show_labels = True          # False: boxes without name and score                           检测：显示类别与得分
crop = False                # also save every found object as an image of its own           检测：保存裁剪的目标

# Segmentation only                                                                      仅分割
opacity = 0.6               # of the colours over the image, 0 to 1                         分割：叠加颜色的不透明度
save_index = False          # also save the class numbers as a palette .png, like VOC       分割：保存类别索引图
save_colour = False         # also save the colours alone                                   分割：保存纯色图
save_cut_out = False        # also save the image without its background                    分割：保存去除背景的图
threshold = None            # two classes: least score of the object; None: the training's  两类时的阈值，空为训练时的
slide = False               # look at large images through a window, at their own size      滑动窗口，不缩小大图

# Better, and slower                                                                     更好，更慢
scales = (1.0,)             # look at each image at these sizes, e.g. (0.75, 1.0, 1.25)     多尺度
flip = False                # and at its mirror image                                       翻转
tiles = None                # and in tiles of so many pixels, like 640: for small objects   检测：大图分块，适合小目标
tile_overlap = 0.2          # least share that neighbouring tiles have in common            检测：相邻块的重叠比例

# Counting                                                                               计数
track = False               # follow the objects of a video, each has its number            视频中跟踪目标
regions = None              # polygons, [[x,y],...] or {"door": [[x,y],...]}, px or shares  区域：多边形的顶点
lines = None                # count tracks that cross them: [[x,y],[x,y]]; see regions      越线计数：两个端点

SAMPLES = 8                 # images of the test list that are taken without a source
NMS = ("hard", "diou", "soft")


def main(s):
    """s: the settings above, with what a recipe or the command line changed."""
    # Every mistake in a setting or a path ends here, before anything is written.
    check(s, confidence=optional(number(0, 1)), nms_iou=optional(number(0, 1)), max_boxes=whole(1),
          nms=one_of(NMS), max_per_class=optional(whole(1)), line_width=optional(whole(1)),
          batch_size=optional(whole(1)), amp=optional(yes_or_no()), verbose=yes_or_no(), show=one_of(SHOWS))
    masks.check_settings(s)
    target = media.check_output(s.output)
    texts = sources.split_sources(s.source)
    items, left_out = sources.find_items(texts, s.mode, target) if texts or s.mode != "image" else ([], [])
    engine = open_engine(s)
    if engine.task == "detection":
        check_filters(s, engine.class_names)
    items = items or samples_of_the_test_list(engine)
    check_options(s, engine, items)

    # The folder for the results is made last: it holds something, or it is not there.
    groups = [item.group for item in items]
    with media.output_folder(target) as folder, media.group_folders(folder, groups) as folders:
        predict_all(s, engine, items, folders)
    sources.tell_left_out(left_out)


def predict_all(s, engine, items, folders):
    """Images first, then videos. folders: for the results of each group of items, and "" for all."""
    images = [item for item in items if item.kind == "image"]
    videos = [item for item in items if item.kind != "image"]

    # A window is closed whatever happens.
    window = choose_window(s.show, any(item.kind == "camera" for item in items))
    try:
        if images:
            predict_images(s, engine, images, folders, window)
        predict_videos(s, engine, videos, folders, window, len(items))
    finally:
        if window:
            window.close()


def predict_videos(s, engine, videos, folders, window, count):
    """A single video that cannot be read ends in its sentence, one of several is skipped. count: of all
    items, images too."""
    skipped = []
    for item in videos:
        look_at = predict_camera if item.kind == "camera" else predict_video
        try:
            look_at(s, engine, item, folders[item.group], window)
        except UserError as error:
            if count == 1:
                raise
            print(f"skipped: {error}")
            skipped.append(error)

    # What became of them all.
    if skipped and len(skipped) == count:
        raise UserError(f"None of the {count} videos could be read. The first: {skipped[0]}")
    if len(videos) > 1:
        read = counted(len(videos) - len(skipped), "video")
        print(f"{read}, {len(skipped)} skipped. Results: {shown(folders[''])}")


def samples_of_the_test_list(engine):
    """Without a source: -> items for the first images of the training's test list."""
    name = engine.info.get("settings", {}).get("test_list") or ""
    if not name:
        raise UserError(f"These weights of {engine.info['net']} name no test list to take images from: "
                        "set source to an image or a folder, like  python predict.py source=photo.jpg")
    # The list may have gone with the data of that training.
    if not find(name).is_file():
        raise UserError(f'source = "" takes images of the test list of the training run ("{name}"), '
                        'and there is no such file: set source to an image or a folder.')

    read = read_mask_list if engine.task == "segmentation" else read_list
    paths = [find(path) for path in read(find(name))[0][:SAMPLES]]
    print(f"source is not set: the first {counted(len(paths), 'image')} of {name}")
    return [sources.Item("image", path, Path(name).stem, Path(path.stem)) for path in paths]


if __name__ == "__main__":
    signals.run(main, read_settings(globals()))
