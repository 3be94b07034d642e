"""Train a network: edit the variables, run  python train.py , read on.

Variables are also set by a recipe or the command line:  python train.py recipes/x.py net=ssd300 epochs=50
None means: the network's default (`recipe` and, for Shapes, `shapes` in its file), or what the comment says.
"""
import utils  # noqa: F401, I001  first: it says in a sentence which package is missing, and answers --help
import math
import time

import torch
from tqdm import tqdm

import nets
from utils import steps
from utils.evaluate import bar_off, evaluate, to_device
from utils.settings import read_settings
from utils.system import distributed, signals
from utils.system.device import autocast
from utils.training import accidents, keep, threads
from utils.training.begin import begin_training, make_data, set_stage
from utils.training.plan import build_options, choose_net, complete
from utils.training.resume import find_run, hold_run

# The network                                                                                          网络
net = None                      # which network, see nets/__init__.py; None: the data chooses           网络名称
net_options = {}                # its own options, e.g. {"label_smoothing": 0.1}, see its file          网络自己的选项

# What it learns from                                                                                  数据
dataset = "VOCdevkit/Shapes"    # VOC folder, data.yaml, COCO ...; Shapes is drawn when missing         数据集（VOC、YOLO、COCO 等格式）
classes_path = None             # class names, one a line; None: model_data/<dataset>_classes.txt       类别文件
train_list = None               # list files; None: <dataset>_train.txt and so on,                      训练集列表
val_list = None                 # made by voc_annotation.py when they are missing                       验证集列表
test_list = None                # never seen in training; get_map.py measures on it                     测试集列表
value_range = None              # above 8 bits: which values are black, white                          高位图黑白范围

# What it begins with                                                                                  起点
model_path = ""                 # weights to start from (.pth, .weights); "": none                      预训练权重路径
pretrained = None               # download official weights; None: for your own data, where it has some 下载官方预训练权重
resume = None                   # None: new run; True: resume the newest run; "logs/...": that run      断点续训

# How long, how much at once                                                                           规模
input_shape = None              # height, width of the network's input; None: its default; Shapes: 224  输入尺寸（高, 宽）
fit = None                      # a picture in it: "letterbox" (grey beside it) or "stretch" (warped)   图像放入输入的方式
epochs = None                   # passes over the training images; None: from the recipe's steps        总训练轮数
freeze_epochs = None            # first epochs with a frozen backbone; None: a fifth, or 0 if it is new 冻结主干的轮数
batch_size = None               # images a step                                                         批大小
freeze_batch_size = None        # images a step while frozen; None: twice batch_size                    冻结阶段批大小

# How the weights change                                                                               优化
optimizer = None                # "sgd", "adam" or "adamw"                                              优化器
lr = None                       # learning rate for 64 images a step; scaled to batch_size              学习率（按批大小缩放）
min_lr = 0.01                   # the last learning rate as a share of the first                        最小学习率比例
momentum = None                 # momentum of SGD, beta1 of Adam                                        动量
weight_decay = None             # pull of the weights towards zero                                      权重衰减
backbone_lr = None              # learning rate of the backbone as a share of lr; 1 if it is new        主干学习率倍率
schedule = None                 # "cosine", "poly", "step" or "constant"                                学习率下降方式
warmup_epochs = None            # the learning rate rises slowly at first                               预热轮数
ema = True                      # evaluate and save the moving average of the weights: mostly better    权重滑动平均
clip_norm = 10.0                # longest gradient allowed: an odd batch does little harm; 0: any       梯度裁剪
accumulate = 1                  # pieces a batch is cut into, one after the other: less memory, slower  梯度累积步数
patience = 0                    # stop after so many evaluations without a better one; 0: never         早停

# How the pictures are varied                                                                          数据增强
scale = None                    # random size of a picture, times the fitting one, like (0.5, 1.5)      随机缩放范围
aspect = None                   # random stretch of one side                                            随机长宽比
translate = None                # random shift, share of the input                                      随机平移
flip = 0.5                      # chance of left-right flip                                             水平翻转概率
rotate = None                   # a quarter of the pictures is turned by up to so many degrees          随机旋转角度
blur = None                     # chance of a blurred picture                                           随机模糊概率
colours = None                  # random hue, saturation, brightness, like (0.015, 0.7, 0.4)            色调、饱和度、亮度抖动
distort = None                  # chance of SSD's changes of brightness, contrast and colours           SSD 光度变换概率
zoom_out = None                 # detection: chance of a small picture somewhere in the input           检测：缩小放置概率
iou_crop = None                 # detection: chance of a patch chosen by its IoU with an object         检测：按 IoU 裁剪概率
mosaic = None                   # chance of four pictures in one                                        Mosaic 概率
mixup = None                    # detection: chance of two pictures laid over each other                检测：MixUp 概率
plain_share = 0.3               # share of the epochs, at the end, without mosaic and mixup             末尾不用 Mosaic 和 MixUp 的比例
small_share = None              # share of the epochs, at first, at half the input size: far quicker    前期用一半尺寸训练的比例

# Segmentation only                                                                                    仅分割
loss = None                     # segmentation: {"cross_entropy": 1.0}; others: docs/en/training.md   分割：损失及其权重
class_weights = None            # segmentation: a number per class, or "balanced": rare ones count more 分割：类别权重
binary_sigmoid = False          # segmentation, two classes: one channel instead of two                 分割：二分类用单通道
threshold = 0.5                 # segmentation, two classes: an object where its score is above this    分割：二分类阈值
ignore_labels = []              # segmentation: mask values that are no class, like [0]; 255 never is   分割：忽略的标签值

# The machine                                                                                          机器
device = "auto"                 # "auto", "cpu", "cuda", "cuda:1"                                       设备
amp = None                      # half precision; None: where the hardware has it, once it is tested    混合精度
compile = False                 # torch.compile the backbone: slow at first, then faster on a GPU       编译主干
deterministic = False           # a GPU too gives the same bits each time, slower; a CPU always does    完全可复现
num_workers = None              # processes that prepare images; None: chosen                           数据加载进程数
save_minutes = 5.0              # last.pth is also written so often within an epoch                     轮内保存间隔（分钟）
cache = True                    # keep shrunken images in memory, as many as fit into a quarter of it   图像缓存
seed = 0                        # same seed, same run                                                   随机种子
output = "logs"                 # folder for the runs; one elsewhere also holds lists and class names   结果文件夹
language = "auto"               # what the scripts say: "auto" (as this computer), "en", "zh"           输出的语言
eval_every = 5                  # epochs between evaluations                                            每几轮评估一次


def main(s):
    """s: the settings above, with what recipes and the command line changed."""
    began = time.perf_counter()

    # Mistakes end here: in the settings, in the size of the input, in any file of the data.
    run, state = find_run(s)                                    # of a resumed run; else None, None
    machine = distributed.begin(s.device)
    hold_run(run)                                               # nobody else may train in its folder
    network = nets.find_net(choose_net(s, state))
    complete(s, network, state, nets.try_to_build)              # every None gets its value
    train_data, val_data = make_data(s, network)

    # From now on everything random follows from the seed.
    torch.manual_seed(s.seed)
    model = nets.build(s.net, len(train_data.class_names), s.input_shape, **build_options(s, network, state))
    training = begin_training(s, run, model, state, train_data, val_data, machine)

    try:
        train(s, training)
    except signals.Stopped:
        keep.save(s, training)
        training.say(f"Stopped and saved. To go on:  python train.py resume={training.folder}")
        raise
    keep.end_training(s, training, time.perf_counter() - began)


def train(s, training):
    """All epochs that are still to do: learn, evaluate now and then, save."""
    progress = training.progress
    while progress.epoch < s.epochs and not (s.patience and progress.waited >= s.patience):
        set_stage(s, training)                                  # backbone frozen or not, and its loaders

        # A dead loader process costs nothing: the same epoch goes on behind the last image it learned from.
        try:
            row = train_epoch(s, training)
            if (progress.epoch + 1) % s.eval_every == 0 or progress.epoch + 1 == s.epochs:
                keep.save(s, training)                          # an evaluation may be long
                row |= evaluate_epoch(s, training)
        except (RuntimeError, OSError) as error:
            accidents.go_on_without_workers(error, s, training)     # every other error ends here
            continue
        keep.end_epoch(s, training, row)                        # history, curves, best.pth, last.pth


def train_epoch(s, training):
    """The steps of an epoch still to do -> {"epoch", "epochs", "lr", "train_<loss>": mean over images}."""
    # A resumed epoch skips the steps that were done.
    progress, sampler = training.progress, training.loader.batch_sampler
    sampler.epoch, sampler.first = progress.epoch, progress.first_step(sampler.batch_size)
    began = saved = time.perf_counter()
    before = progress.clock
    batches = iter(training.loader)
    signals.let_children_die()

    # Each turn is one step; what is saved in between lets a killed run go on from there.
    bar = tqdm(batches, desc=f"epoch {progress.epoch + 1}/{s.epochs}", initial=progress.step,
               total=len(sampler), leave=False, disable=bar_off(), unit="step")
    for images, targets in bar:
        with signals.undisturbed():                             # Ctrl-C waits for the end of the step
            step(s, training, images, targets)
            threads.keep_pace(s, training, images, targets)     # a busy machine needs fewer of them
            progress.clock = before + time.perf_counter() - began
            if time.perf_counter() - saved > 60 * s.save_minutes:
                keep.save(s, training)
                saved = time.perf_counter()
        if distributed.world() > 1:
            signals.raise_if_asked()
        keep.show_progress(bar, s, training)

    losses = {f"train_{name}": float(value) / progress.seen for name, value in progress.sums.items()}
    lr = training.full_lr * steps.lr_at(progress.epoch + 1, s)
    return {"epoch": progress.epoch + 1, "epochs": s.epochs, "lr": lr} | losses


def step(s, training, images, targets):
    """One step: forward, loss, backward, optimizer. images: (B, 3, H, W) uint8.  targets: list of B dicts."""
    progress, model, solver, scaler = training.progress, training.step_model, training.solver, training.scaler
    keep.tell_damaged(training, targets)
    images, targets = to_device(images, targets, training.device)       # (B, 3, H, W) float 0-1
    place = progress.epoch + (progress.step + 1) / len(training.loader.batch_sampler)       # in epochs
    steps.set_lr(solver, training.full_lr, place, s)
    seed = steps.step_seed(s.seed, progress.epoch, progress.step)
    torch.manual_seed(seed)                                     # for dropout and all that is random in it

    # Forward and backward; of a batch in pieces the gradients add up.
    sums = {}
    for some_images, some_targets, share, last in steps.pieces(images, targets, s.accumulate):
        with distributed.one_batch(model, last):
            with autocast(training.device, training.precision), steps.single_explained():
                outputs, losses = model(some_images, some_targets)
            scaler.scale(sum(losses.values()) * share).backward()
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value.detach() * share
    loss = sum(sums.values())

    # A gradient that is too long is cut; a NaN or infinite one ends the training before it changes anything.
    scaler.unscale_(solver)
    norm = torch.nn.utils.clip_grad_norm_(training.model.parameters(), s.clip_norm or math.inf)
    if not torch.isfinite(loss) or not (torch.isfinite(norm) or scaler.is_enabled()):
        raise accidents.explain_nan(training, images, targets, sums, seed)

    scaler.step(solver)
    scaler.update()
    solver.zero_grad()
    if training.average:
        training.average.update()
    progress.end_step(sums, training.loader.batch_sampler.share(progress.step))
    training.last = images, targets, loss


def evaluate_epoch(s, training):
    """-> validation losses and mAP or mIoU of the moving average. It also saves a page of predictions."""
    model = training.average.model if training.average else training.model
    data = training.val_loader.dataset
    distributed.same_buffers(model)
    options = {"threshold": s.threshold} if data.task == "segmentation" else {}
    results, losses, found = evaluate(model, training.val_loader, training.device, **options)

    training.progress.confidence = results.get("best_threshold")        # travels with the weights
    accidents.look_for_trouble(training, found, data)
    keep.save_predictions(training, found, data)
    measures = {name: results[name] or 0.0 for name in keep.MEASURES[data.task]}
    return {f"val_{name}": value for name, value in losses.items()} | measures


if __name__ == "__main__":
    signals.run(main, read_settings(globals()))
