"""Train a network: edit the variables, run  python train.py , read on.

Any variable can also be set on the command line or in a recipe:  python train.py recipes/x.py net=yolov4_tiny epochs=50
None means: as the network's recipe says (nets/<net>.py), or what the comment says.
"""
import utils  # noqa: F401, I001  first: it says in a sentence which package is missing
import math
import time
from types import SimpleNamespace

import torch
from tqdm import tqdm

import nets
from utils.formats.shapes import make_shapes
from utils.training import accidents, log
from utils.system import distributed, signals
from utils import steps
from utils.system.device import choose_device, choose_precision, make_repeatable, memory_used
from utils.checks.lists import check_before_training
from utils.checkpoint import first_line, save_checkpoint
from utils.dataset import DetectionData, SegmentationData, class_counts, describe, make_loader
from utils.checks.augmentation import check_augmentation
from utils.errors import UserError
from utils.evaluate import bar_off, evaluate, to_device
from utils.losses import balanced_weights
from utils.results.media import save_image
from utils.results.pages import batch_page, prediction_page
from utils.results.report import new_folder
from utils.training.resume import Progress, check_same_run, find_run, load_run, restore, split_settings, training_state
from utils.settings import ROOT, as_dict, as_table, check, fill_from_recipe, find, number, optional, override, several, shown, whole, yes_or_no
from utils.lists import read_classes
from utils.weights import load_weights
from utils.checks.prepare import current_lists

net = "yolov8"                  # which network, see nets/__init__.py                                   网络名称
net_options = {}                # its own options, e.g. {"label_smoothing": 0.1}, see its file          网络自己的选项

dataset = "VOCdevkit/Shapes"    # VOC folder, data.yaml, COCO ...; Shapes is drawn when missing         数据集（VOC、YOLO、COCO 等格式）
classes_path = None             # class names, one a line; None: model_data/<dataset>_classes.txt       类别文件
train_list = None               # list files; None: <dataset>_train.txt and so on,                      训练集列表
val_list = None                 # made by voc_annotation.py when they are missing                       验证集列表
test_list = None                # never seen in training; get_map.py measures on it                     测试集列表

model_path = ""                 # weights to start from (.pth, .weights); "": none                      预训练权重路径
pretrained = False              # download the backbone's official weights (if no model_path)           下载主干预训练权重
resume = None                   # None: new run; True: go on with the newest run; "logs/...": that run  断点续训

input_shape = None              # height, width of the network's input; None: the paper's; Shapes: 224  输入尺寸（高, 宽）
fit = None                      # a picture in it: "letterbox" (grey beside it) or "stretch" (warped)   图像放入输入的方式
epochs = None                   # passes over the training images; None: enough for Shapes              总训练轮数
freeze_epochs = None            # first epochs with a frozen backbone; None: a fifth, or 0 if it is new 冻结主干的轮数
batch_size = None               # images a step                                                         批大小
freeze_batch_size = None        # images a step while frozen; None: twice batch_size                    冻结阶段批大小

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
accumulate = 1                  # pieces a batch is cut into, one after the other: less memory, slower  梯度累积（一批分几份）
patience = 0                    # stop after so many evaluations without a better one; 0: never         早停

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
mosaic = None                   # chance of four pictures in one                                        马赛克增强概率
mixup = None                    # detection: chance of two pictures laid over each other                检测：混合增强概率
plain_share = 0.3               # share of the epochs, at the end, without mosaic and mixup             末尾不用马赛克的比例
small_share = None              # share of the epochs, at first, at half the input size: far quicker    前期用一半尺寸训练的比例

loss = None                     # segmentation: {"cross_entropy": 1.0}; also "focal", "ohem", "dice"    分割：损失及其权重
class_weights = None            # segmentation: a number per class, or "balanced": rare ones count more 分割：类别权重
binary_sigmoid = False          # segmentation, two classes: one channel instead of two                 分割：二分类用单通道
threshold = 0.5                 # segmentation, two classes: an object where its score is above this    分割：二分类阈值
ignore_labels = []              # segmentation: mask values that are no class, like [0]; 255 never is   分割：不参与的标签值

device = "auto"                 # "auto", "cpu", "cuda", "cuda:1"                                       设备
amp = None                      # half precision; None: where the hardware has it, once it is tested    混合精度
compile = False                 # torch.compile the backbone: slow at first, then faster on a GPU       编译主干
deterministic = False           # a GPU too gives the same bits each time, slower; a CPU always does    完全可复现
num_workers = None              # processes that prepare images; None: chosen                           数据加载进程数
save_minutes = 5.0              # last.pth is also written so often within an epoch                     轮内保存间隔（分钟）
cache = True                    # keep shrunken images in memory, as many as fit into a quarter of it   图像缓存
seed = 0                        # same seed, same run                                                   随机种子
eval_every = 5                  # epochs between evaluations                                            每几轮评估一次

SHAPES, SHAPES_INPUT = "VOCdevkit/Shapes", (224, 224)       # the built-in data set is small and quick to learn at this size
FOR_SHAPES = "chosen for Shapes"                            # where a setting came from
GOALS = {"detection": "map50", "segmentation": "miou"}      # what best.pth is chosen by


def main():
    began = time.perf_counter()
    machine = distributed.begin(device)
    folder = find_run(resume)
    state = load_run(globals(), folder) if folder else None
    network = nets.find_net(net)
    if dataset == SHAPES and train_list is None:
        fill_from_recipe(globals(), on_shapes(network), FOR_SHAPES)
    fill_from_recipe(globals(), network.recipe, f"recipe of {net}")
    with distributed.first_alone():
        complete_settings(network.task)
        check_before_training(network.task, {"train": train_list, "val": val_list, "test": test_list}, classes_path, input_shape,
                              min(getattr(network, "strides", (8,))), fit, ignore_labels)
    class_names = read_classes(find(classes_path))
    train_data, val_data = make_data(network.task, class_names)
    torch.manual_seed(seed)
    model, notes = make_model(len(class_names), state)          # what can be wrong was wrong by now: the run gets its folder
    run = folder or distributed.first_says(new_folder(ROOT / "logs", net) if distributed.rank() == 0 else None)
    say = log.logger(run)
    log.attempt(say, lambda: log.write_settings(run, as_dict(globals())))
    say(f"Settings\n{as_table(globals())}\nRun folder {shown(run)}\n{describe(train_data)}\n{describe(val_data)}\n{notes}")
    training = begin_training(run, model, state, class_names, train_data, machine, say)
    log.attempt(say, lambda: save_image(run / "first_batches.png", batch_page(train_data, training.progress.epoch)))
    tell_damaged(training, train_data.broken.values())
    try:
        fit_epochs(training, train_data, val_data)
    except signals.Stopped:
        save(training)
        say(f"Stopped and saved. To go on:  python train.py resume={shown(run)}")
        raise
    progress, goal = training.progress, GOALS[network.task]
    if not training.saved and not save(training):
        raise UserError("The last save failed, see above: make room and run  python train.py resume=True  again.")
    say(f"Done in {log.duration(time.perf_counter() - began)}. Best {goal} on the validation list {progress.best:.4f}: {shown(run / 'best.pth')}")
    measure = "get_miou.py" if network.task == "segmentation" else "get_map.py "
    say(f"Now run\n  python {measure}     to measure it on the test list\n  python predict.py      to see what it finds")
    distributed.end()


def on_shapes(network):
    """What suits the built-in data set better than the recipe: a smaller input; from random weights also what the network names itself."""
    small = {"input_shape": SHAPES_INPUT} if nets.nearest_shape(network, SHAPES_INPUT, net_options) == SHAPES_INPUT else {}
    return small | ({} if is_trained() else getattr(network, "shapes", {}))


def is_trained():
    """Whether the backbone, at least, begins with trained weights."""
    return bool(model_path or pretrained or net_options.get("pretrained"))


def fit_epochs(training, train_data, val_data):
    """All epochs that are still to do."""
    progress, say, goal = training.progress, training.say, GOALS[train_data.task]
    board, began, first = log.open_board(training.run), time.perf_counter(), progress.epoch
    stage, workers, loader, val_loader = None, num_workers, None, None
    while progress.epoch < epochs and not (patience and progress.waited >= patience):
        frozen, small_until = progress.epoch < freeze_epochs, train_data.small_until
        if small_until and progress.epoch in (first, small_until):
            until = f"up to epoch {small_until} (small_share)" if progress.epoch < small_until else "from now on"
            say("The input is {} x {} {}.".format(*train_data.shape(progress.epoch), until))
        steps.set_frozen(training.model, frozen)
        if frozen is not stage:
            if freeze_epochs:
                say("Backbone frozen: only neck and heads learn." if frozen else "Backbone unfrozen: everything learns.")
            training.step_model = distributed.wrap(training.model, training.device)
            with signals.undisturbed():                         # the old loaders end their processes
                loader = make_loader(train_data, freeze_batch_size if frozen else batch_size, workers, seed, training.device)
                val_loader = make_loader(val_data, 2 * batch_size, workers, device=training.device)
            stage = frozen
        better = False
        try:
            row = train_epoch(training, loader)
            if (progress.epoch + 1) % eval_every == 0 or progress.epoch + 1 == epochs:
                save(training)                                  # an evaluation may be long
                row |= evaluate_epoch(training, val_loader)
                better = row[goal] > progress.best or progress.best <= 0    # as long as nothing is found the newest weights are the best
        except (RuntimeError, OSError) as error:
            if not accidents.is_dead_worker(error) or workers == 0:
                accidents.explain(error, progress, training.device, accumulate)
                raise
            say(f"NOTE: a loader process died ({first_line(error)}); it goes on at the same picture without any (num_workers=0).")
            stage, workers = None, 0
            continue
        ruined = [name for name, value in row.items() if not math.isfinite(value)]
        if ruined:
            raise UserError(f"After epoch {progress.epoch + 1} {', '.join(ruined)} are not numbers any more: best.pth is that of an epoch before. "
                            "Try a third of lr.")
        with signals.undisturbed():
            progress.end_epoch(row, goal, better)
            log.report(training.run, progress.history, progress.seconds, board, say)        # before the save: a kill in between repeats both
            save(training, better)
        left = (time.perf_counter() - began) / (progress.epoch - first) * (epochs - progress.epoch)
        say(log.epoch_line(row, progress.seconds[-1], len(train_data), left))
    with signals.undisturbed():
        loader = val_loader = None
    if progress.epoch < epochs:
        say(f"The last {patience} evaluations were not better than the best: stopped early (patience={patience}).")


def complete_settings(task):
    """Check the values, then give those that are None theirs."""
    share = number(0, 1)
    check(globals(), epochs=whole(1), batch_size=whole(1), eval_every=whole(1), freeze_epochs=optional(whole(0)),
          accumulate=whole(1), patience=whole(0), save_minutes=number(0), compile=yes_or_no(), deterministic=yes_or_no(),
          freeze_batch_size=optional(whole(1)), num_workers=optional(whole(0)), seed=whole(0), amp=optional(yes_or_no()), cache=yes_or_no(),
          ema=yes_or_no(), input_shape=several(2, whole(1)), scale=several(2, number(0.01)), colours=several(3, share), aspect=number(0),
          translate=number(0), lr=number(0), min_lr=share, momentum=share, weight_decay=number(0), warmup_epochs=number(0), clip_norm=number(0),
          flip=share, distort=share, zoom_out=share, iou_crop=share, mosaic=share, mixup=share, plain_share=share, small_share=number(0, 0.9),
          backbone_lr=number(0), rotate=number(0, 180), blur=share, threshold=share, binary_sigmoid=yes_or_no())
    if batch_size % distributed.world() or (freeze_batch_size or 0) % distributed.world():
        raise UserError(f"batch_size={batch_size} and freeze_batch_size={freeze_batch_size} must divide by the {distributed.world()} processes, "
                        "each of which takes its share.")
    foreign = {"detection": {"loss": None, "class_weights": None, "binary_sigmoid": False, "ignore_labels": []},
               "segmentation": {"mixup": 0.0, "zoom_out": 0.0, "iou_crop": 0.0, "fit": "letterbox"}}[task]
    for name, value in foreign.items():
        if globals()[name] != value:
            print(f"NOTE: {name}={globals()[name]!r} means nothing to {net}, a network for {task}.")
    steps.lr_factor(0, epochs, warmup_epochs, schedule, min_lr)           # a schedule that is not known ends here
    chosen = {"freeze_batch_size": 2 * batch_size, "freeze_epochs": epochs // 5 if is_trained() else 0}
    given = {name: globals()[name] for name in ("classes_path", "train_list", "val_list", "test_list")}
    if None in given.values():
        if dataset == SHAPES and not find(dataset).exists():
            print(f"Drawing the built-in data set {SHAPES} ...")
            make_shapes(find(dataset))
        chosen |= current_lists(dataset, given, task, ignore_labels)
    for name, value in chosen.items():
        if globals()[name] is None:
            globals()[name] = value
            globals()["_origin"][name] = "chosen"
    if globals()["_origin"]["backbone_lr"].startswith("recipe") and not is_trained():
        globals()["backbone_lr"] = 1.0                      # nothing in it is worth keeping yet
        globals()["_origin"]["backbone_lr"] = "chosen"
    if globals()["_origin"]["small_share"] == FOR_SHAPES and smaller_input() == input_shape:
        globals()["small_share"] = 0.0                      # the user only set a small input
        globals()["_origin"]["small_share"] = "chosen"


def make_data(task, class_names):
    """-> training data, validation data."""
    ranges = {"scale": scale, "aspect": aspect, "translate": translate, "flip_chance": flip, "rotation": rotate, "blur_chance": blur,
              "colours": colours, "distort_chance": distort, "mosaic_chance": mosaic, "plain_from": epochs - round(plain_share * epochs),
              "seed": seed, "train": True}
    ranges |= small_input()
    if task == "segmentation":
        train_data, val_data = (SegmentationData(path, class_names, input_shape, ignore_labels=ignore_labels, cache=cache, **some)
                                for path, some in ((train_list, ranges), (val_list, {})))
    else:
        ranges |= {"mixup_chance": mixup, "zoom_out_chance": zoom_out, "iou_crop_chance": iou_crop}
        train_data, val_data = (DetectionData(path, class_names, input_shape, fit=fit, cache=cache, **some)
                                for path, some in ((train_list, ranges), (val_list, {})))
    if len(train_data) < distributed.world():
        raise UserError(f"{train_list} holds {len(train_data)} images, fewer than the {distributed.world()} processes. Start fewer.")
    if not sum(class_counts(val_data, difficult=False).values()):
        what = "object" if task == "detection" else "labelled pixel"
        print(f"NOTE: {val_list} holds no {what}, so {GOALS[task]} cannot be measured while training: best.pth will be the newest epoch.")
    check_augmentation(train_data)
    if class_weights == "balanced":
        globals()["class_weights"] = balanced_weights(list(class_counts(train_data).values()))
        globals()["_origin"]["class_weights"] = f"balanced, from {train_list}"
    return train_data, val_data


def small_input():
    """What small_share means for the training data: up to which epoch the input is how large."""
    if not small_share:
        return {}
    half = smaller_input()
    if half == tuple(input_shape):
        raise UserError(f"small_share={small_share}: {net} should not have a smaller input than {input_shape[0]} x {input_shape[1]}. Set it to 0.")
    return {"small_shape": half, "small_until": round(small_share * epochs)}


def smaller_input():
    """The (H, W) of the first epochs, about half; the input itself where it should not be smaller."""
    cells = 2 * nets.stride_of(nets.NETS[net], net_options)     # of a single cell and a single picture BatchNorm could make nothing
    return nets.nearest_shape(nets.NETS[net], [min(side, max(side / 2, cells)) for side in input_shape], net_options)


def network_options(task):
    """What the network is built with; travels in the checkpoint."""
    options = {k: v for k, v in net_options.items() if k != "pretrained"}
    if task == "segmentation":
        options |= {"loss": loss, "class_weights": class_weights, "sigmoid": binary_sigmoid}
    return options


def make_model(num_classes, state):
    """-> the network with its first weights, what is to be said about them."""
    begins = not state                                      # a resumed run gets its weights later
    fetch = begins and not model_path and (net_options.get("pretrained") or pretrained)
    options = (state["options"] if state else {}) | network_options(nets.NETS[net].task)
    model = nets.build(net, num_classes, input_shape, **options, **({"pretrained": fetch} if fetch else {}))
    notes = f"{net}: {sum(p.numel() for p in model.parameters()):,} parameters, {num_classes} classes, input {input_shape}"
    if model_path and begins:
        notes += f"\n{load_weights(model, find(model_path))}"
    elif begins and not fetch:
        notes += "\nThe network starts from random weights" + (", so nothing is frozen." if not freeze_epochs else ".")
    return model, notes


def begin_training(run, model, state, class_names, train_data, machine, say):
    """Everything that changes while training, and where it runs; restored when there is a saved state."""
    hardware = choose_device(machine, say)
    if deterministic:
        make_repeatable()
    model = model.to(hardware, memory_format=torch.channels_last)
    processes = distributed.world()
    if processes > 1:
        say(f"{processes} processes, each with its share of every batch" + ("." if hardware.type == "cuda" else
            "; on CPUs BatchNorm sees this share only (SyncBatchNorm needs GPUs), and the first process's statistics are saved."))
    precision, note = accidents.check_precision(model, train_data, hardware, choose_precision(amp, hardware), seed)
    stages = [(False, batch_size // processes)] + [(True, freeze_batch_size // processes)] * (freeze_epochs > 0)
    globals()["accumulate"], notes = accidents.try_stages(model, train_data, stages, accumulate, hardware, precision, seed)
    for text in [note, *notes]:
        if text:
            say(text)
    model = distributed.sync_norms(model, hardware)             # after the trial steps, which may fail in one process alone
    if compile:
        model.backbone.compile()                                # the rest depends on the number of objects: it would be compiled anew each step
    average, solver, scaler, full_lr = make_solver(model, hardware, precision, len(train_data), say)
    progress = Progress()
    if state:
        check_same_run(state, {"net": net, "classes": class_names, "input_shape": list(input_shape), "optimizer": optimizer, "ema": ema}, run)
        progress = restore(state, run, model, average, solver, scaler, say)
    return SimpleNamespace(run=run, say=say, model=model, average=average, solver=solver, scaler=scaler, full_lr=full_lr, device=hardware,
                           precision=precision, progress=progress, class_names=class_names, paths=train_data.paths, last=None, told=set(), saved=True)


def make_solver(model, hardware, precision, images, say):
    """-> moving average or None, optimizer, gradient scaler, learning rate for this batch size."""
    full_lr = steps.scaled_lr(lr, optimizer, batch_size)
    each = math.ceil(images / batch_size)
    if batch_size == 1:
        say("NOTE: with one image a step BatchNorm sees one image at a time (and behind a global pooling, where that would be a single value, "
            "uses its running mean): it works, but 4 or more train better. The weights stay usable at any batch size.")
    say(f"Learning rate {lr:g} is meant for {steps.NOMINAL_BATCH} images a step; with {batch_size} and {optimizer} it becomes {full_lr:.3g}.")
    usual = nets.NETS[net].recipe
    if optimizer != usual["optimizer"] and lr == usual["lr"]:
        say(f"NOTE: {lr:g} is the learning rate for {usual['optimizer']}; {optimizer} usually needs another one, set lr.")
    say(f"{images} images, {batch_size} a step: {each} steps an epoch, about {each * epochs} in {epochs} epochs; "
        + (f"mixed precision {str(precision)[6:]}." if precision else "float32."))
    return (steps.MovingAverage(model) if ema else None, steps.make_optimizer(model, optimizer, full_lr, momentum, weight_decay),
            torch.amp.GradScaler(hardware.type, enabled=precision == torch.float16), full_lr)


def train_epoch(training, loader):
    """The steps of an epoch that are still to do. -> {"epoch", "epochs", "lr", "train_<loss>" ...}, the losses as means over the images."""
    progress, sampler = training.progress, loader.batch_sampler
    sampler.epoch, sampler.first = progress.epoch, progress.first_step(sampler.batch_size)
    began = saved = time.perf_counter()
    before = progress.clock
    batches = iter(loader)
    signals.let_children_die()
    bar = tqdm(batches, desc=f"epoch {progress.epoch + 1}/{epochs}", initial=progress.step, total=len(sampler), leave=False,
               disable=bar_off(), unit="step")
    for images, targets in bar:
        with signals.undisturbed():
            take_step(training, images, targets, progress.epoch + (progress.step + 1) / len(sampler))
            progress.step += 1
            progress.clock = before + time.perf_counter() - began
            if time.perf_counter() - saved > 60 * save_minutes:
                save(training)
                saved = time.perf_counter()
        if distributed.world() > 1:
            signals.raise_if_asked()
        if not bar.disable and progress.step % 10 == 0:
            memory = memory_used(training.device)
            bar.set_postfix({k: f"{float(v) / progress.seen:.3f}" for k, v in progress.sums.items()} | ({"GiB": f"{memory:.1f}"} if memory else {}))
    losses = {f"train_{name}": float(value) / progress.seen for name, value in progress.sums.items()}
    factor = steps.lr_factor(progress.epoch + 1, epochs, warmup_epochs, schedule, min_lr)
    return {"epoch": progress.epoch + 1, "epochs": epochs, "lr": training.full_lr * factor} | losses


def take_step(training, images, targets, place):
    """One step. place: epochs done after it, with fraction: the learning rate is a function of that alone."""
    progress, solver, scaler = training.progress, training.solver, training.scaler
    factor = steps.lr_factor(place, epochs, warmup_epochs, schedule, min_lr)
    for group in solver.param_groups:
        group["lr"] = training.full_lr * factor
        if group["part"] == "backbone":
            group["lr"] *= backbone_lr * steps.unfreeze_factor(place, freeze_epochs)
    tell_damaged(training, [text for target in targets for text in target.get("damaged", [])])
    images, targets = to_device(images, targets, training.device)
    step_seed = steps.step_seed(seed, progress.epoch, progress.step)
    torch.manual_seed(step_seed)
    losses = steps.add_gradients(training.step_model, images, targets, scaler, training.device, training.precision, accumulate)
    loss = sum(losses.values())
    scaler.unscale_(solver)
    norm = torch.nn.utils.clip_grad_norm_(training.model.parameters(), clip_norm or math.inf)
    if not torch.isfinite(loss) or not (torch.isfinite(norm) or scaler.is_enabled()):
        raise accidents.explain_nan(training.model, images, targets, losses, f"epoch {progress.epoch + 1}, step {progress.step + 1}",
                                    training.paths, solver.param_groups[-1]["lr"], training.device, training.precision, step_seed)
    scaler.step(solver)
    scaler.update()
    solver.zero_grad()
    if training.average:
        training.average.update()
    progress.seen += len(targets) * distributed.world()
    for name, value in distributed.added({name: value * len(targets) for name, value in losses.items()}).items():
        progress.sums[name] = progress.sums.get(name, 0.0) + value
    training.last = images, targets, loss


def tell_damaged(training, sentences):
    """Training pictures that can be read no more: each is named once."""
    for text in sentences:
        if text not in training.told:
            training.told.add(text)
            training.say(f"NOTE: {text} The next picture of the list takes its place.")


def evaluate_epoch(training, loader):
    """-> validation losses and mAP or mIoU; draws the predictions on the first validation images, says what looks wrong."""
    data, epoch = loader.dataset, training.progress.epoch + 1
    model = training.average.model if training.average else training.model
    distributed.same_buffers(model)
    results, losses, found = evaluate(model, loader, training.device, **({"threshold": threshold} if data.task == "segmentation" else {}))
    notes = {"nothing": accidents.nothing_note(found, data.task, epoch, data.class_names)}
    if training.last and epoch >= accidents.EARLY:
        images, targets, loss = training.last
        notes["gap"] = accidents.gap_note(training.model, images, targets, float(loss), training.device, training.precision)
    for kind, text in notes.items():
        if text and kind not in training.told:
            training.told.add(kind)                         # once is enough
            training.say(text)
    page = training.run / f"predictions_epoch_{epoch:03d}.png"
    log.attempt(training.say, lambda: save_image(page, prediction_page(data, found)))
    kept = ("map50", "map50_95") if data.task == "detection" else ("miou", "mpa", "accuracy")
    return {f"val_{name}": value for name, value in losses.items()} | {name: results[name] or 0.0 for name in kept}


def save(training, better=False):
    """last.pth: all that resuming needs; best.pth, when this epoch is better than all before: what predicting needs. -> whether it worked.

    best.pth comes first: when it all ends in between, the resumed run does the epoch again and writes the same best.pth once more.
    """
    if distributed.rank() > 0:
        return True
    progress, model, task = training.progress, training.model, nets.NETS[net].task
    goal, options = GOALS[task], network_options(task) | getattr(model, "options", {})      # the latter: what its defaults became
    settings, machine = split_settings(as_dict(globals()))
    measured = progress.history[-1].get(goal) if progress.history else None
    about = {"net": net, "options": options, "class_names": training.class_names, "input_shape": list(input_shape), "settings": settings,
             "epoch": progress.epoch, goal: measured}
    weights = (training.average.model if training.average else model).state_dict()
    training.saved = True
    try:
        if better:
            save_checkpoint(training.run / "best.pth", model=weights, **about)
        state = training_state(progress, model, training.average, training.solver, training.scaler) | {"machine": machine}
        save_checkpoint(training.run / "last.pth", model=weights, training=state, **about)
    except UserError as error:
        training.say(f"NOTE: {error} The training goes on and tries again at the next save.")
        training.saved = False
    return training.saved


if __name__ == "__main__":
    override(globals())
    signals.run(main)
