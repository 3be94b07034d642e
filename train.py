"""Train a network: edit the variables, run  python train.py , read on.

Any variable can also be set on the command line or in a recipe:  python train.py recipes/x.py net=yolov4_tiny epochs=50
None means: as the network's recipe says (nets/<net>.py), or what the comment says.
"""
import utils  # noqa: F401, I001  first: it says in a sentence which package is missing
import math
import time
from pathlib import Path

import torch
from tqdm import tqdm

import nets
from utils import fit, log
from utils.checkpoint import read_checkpoint, save_checkpoint
from utils.dataset import DetectionData, describe, make_loader
from utils.draw import draw_boxes, grid
from utils.errors import UserError
from utils.evaluate import evaluate, to_device
from utils.images import open_image
from utils.media import save_image
from utils.plots import training_curves
from utils.report import new_folder
from utils.settings import ROOT, as_dict, as_table, fill_from_recipe, find, override, shown
from utils.voc import classes_name, list_name, read_classes
from utils.weights import load_weights

net = "yolov4_tiny"             # which network, see nets/__init__.py                                   网络名称
net_options = {}                # its own options, e.g. {"label_smoothing": 0.1}, see its file          网络自己的选项

dataset = "VOCdevkit/Shapes"    # a VOC folder; Shapes is drawn when it is missing                      数据集文件夹（VOC 格式）
classes_path = None             # class names, one a line; None: model_data/<dataset>_classes.txt       类别文件
train_list = None               # list files; None: <dataset>_train.txt and so on,                      训练集列表
val_list = None                 # made by voc_annotation.py when they are missing                       验证集列表
test_list = None                # never seen in training; get_map.py measures on it                     测试集列表

model_path = ""                 # weights to start from (.pth, .weights); "": none                      预训练权重路径
pretrained = False              # download the backbone's official weights (if no model_path)           下载主干预训练权重
resume = None                   # None: new run; True: go on with the newest run; "logs/...": that run  断点续训

input_shape = (224, 224)        # height, width of the network's input; None: the paper's               输入尺寸（高, 宽）
epochs = 30                     # passes over the training images                                       总训练轮数
freeze_epochs = None            # first epochs with a frozen backbone; None: a fifth, or 0 if it is new 冻结主干的轮数
batch_size = 8                  # images a step                                                         批大小
freeze_batch_size = None        # images a step while frozen; None: twice batch_size                    冻结阶段批大小

optimizer = None                # "sgd", "adam" or "adamw"                                              优化器
lr = None                       # learning rate for 64 images a step; scaled to batch_size              学习率（按批大小缩放）
min_lr = 0.01                   # the last learning rate as a share of the first                        最小学习率比例
momentum = None                 # momentum of SGD, beta1 of Adam                                        动量
weight_decay = None             # pull of the weights towards zero                                      权重衰减
schedule = None                 # "cosine", "step" or "constant"                                        学习率下降方式
warmup_epochs = None            # the learning rate rises slowly at first                               预热轮数
ema = True                      # evaluate and save the moving average of the weights                   权重滑动平均
clip_norm = 10.0                # longest gradient allowed; 0: any                                      梯度裁剪

scale = (0.5, 1.5)              # random size of a picture, times the fitting one                       随机缩放范围
aspect = 0.3                    # random stretch of one side                                            随机长宽比
translate = 0.1                 # random shift, share of the input                                      随机平移
flip = 0.5                      # chance of left-right flip                                             水平翻转概率
colours = (0.015, 0.7, 0.4)     # random hue, saturation, brightness                                    色调、饱和度、亮度抖动
mosaic = None                   # chance of four pictures in one                                        马赛克增强概率
mixup = None                    # chance of two pictures laid over each other                           混合增强概率
plain_epochs = 0.3              # share of the epochs, at the end, without mosaic and mixup             末尾不用马赛克的比例

device = "auto"                 # "auto", "cpu", "cuda", "cuda:1"                                       设备
amp = None                      # half precision; None: where the hardware has it                       混合精度
num_workers = None              # processes that prepare images; None: chosen                           数据加载进程数
cache = None                    # keep shrunken images in memory; None: if they fit                     图像缓存
seed = 0                        # same seed, same run                                                   随机种子
eval_every = 5                  # epochs between evaluations                                            每几轮评估一次


def main():
    began = time.perf_counter()
    state = load_run()
    fill_from_recipe(globals(), nets.find_net(net).recipe, f"recipe of {net}")
    prepare_lists()
    class_names = read_classes(find(classes_path))
    run = find(resume) if state else new_folder(ROOT / "logs", net)
    say = log.logger(run)
    say(f"Settings\n{as_table(globals())}\nRun folder {shown(run)}")
    log.write_settings(run, as_dict(globals()))
    board = log.open_board(run)
    place = fit.choose_device(device)
    precision = fit.choose_precision(amp, place)
    fit.seed_all(seed)

    train_data, val_data = make_data(class_names, say)
    model, frozen_epochs = make_model(len(class_names), state, say)
    model.to(place, memory_format=torch.channels_last)
    average, solver, scaler, full_lr = make_solver(model, place, precision, len(train_data), say)
    history, best, first = restore(state, model, average, solver, scaler, say) if state else ([], -1.0, 0)
    sizes = {False: batch_size, True: freeze_batch_size or 2 * batch_size}
    loaders = {frozen: make_loader(train_data, size, num_workers, seed, place) for frozen, size in sizes.items()}
    val_loader = make_loader(val_data, 2 * batch_size, num_workers, device=place)
    save_batches(train_data, loaders[False], first, class_names, run / "first_batches.png")

    for epoch in range(first, epochs):
        frozen = epoch < frozen_epochs
        if frozen_epochs and epoch in (first, frozen_epochs):
            say("Backbone frozen: only neck and heads learn." if frozen else "Backbone unfrozen: everything learns.")
        fit.set_frozen(model, frozen)
        row = train_epoch(model, average, loaders[frozen], solver, scaler, epoch, frozen_epochs, full_lr, place, precision)
        better = False
        if (epoch + 1) % eval_every == 0 or epoch + 1 == epochs:
            row |= evaluate_epoch(average.model if average else model, val_loader, place, epoch, run)
            better = row["map50"] > best or best <= 0           # as long as nothing is found the newest weights are the best
            best = max(best, row["map50"])
        history.append(row)
        left = (time.perf_counter() - began) / (epoch + 1 - first) * (epochs - epoch - 1)
        say(log.epoch_line(row, epochs, len(train_data), left))
        log.write_history(run, history)
        log.write_board(board, row)
        training_curves(run / "metrics.csv", run / "curves.png")
        save(run, model, average, solver, scaler, history, best, class_names, better)

    say(f"Done in {log.duration(time.perf_counter() - began)}. Best mAP50 on the validation list {best:.4f}: {shown(run / 'best.pth')}")
    say("Now run\n  python get_map.py      to measure it on the test list\n  python predict.py      to see what it finds")


def prepare_lists():
    """The list files and the classes file of the data set, made when they are missing; then the variables name them."""
    splits = [name for name in ("train", "val", "test") if globals()[f"{name}_list"] is None]
    lists = {name: list_name(dataset, name) for name in splits}
    classes = classes_path or classes_name(dataset)
    if not find(classes).is_file() or not all(find(path).is_file() for path in lists.values()):
        from tools.make_shapes import make_shapes
        from voc_annotation import prepare
        if dataset == "VOCdevkit/Shapes" and not find(dataset).exists():
            print("Drawing the built-in data set VOCdevkit/Shapes ...")
            make_shapes(find(dataset))
        prepare(dataset, classes_path)
    globals().update(classes_path=classes, **{f"{name}_list": path for name, path in lists.items()})


def make_data(class_names, say):
    """-> training data, validation data."""
    train_data = DetectionData(train_list, class_names, input_shape, True, seed, scale, aspect, translate, flip, colours, mosaic, mixup,
                               epochs - round(plain_epochs * epochs), cache)
    val_data = DetectionData(val_list, class_names, input_shape, cache=cache)
    say(f"{describe(train_data)}\n{describe(val_data)}")
    if not sum(len(rows) for rows in train_data.boxes):
        raise UserError(f"{train_list} holds no object at all. Are the names in {shown(find(classes_path))} those of the annotations?")
    return train_data, val_data


def make_model(num_classes, state, say):
    """-> the network with its first weights, how many epochs its backbone stays frozen."""
    options = dict(net_options, pretrained=True) if pretrained and not model_path and not state else net_options
    model = nets.build(net, num_classes, input_shape, **options)
    say(f"{net}: {sum(p.numel() for p in model.parameters()):,} parameters, {num_classes} classes, input {input_shape}")
    if model_path and not state:
        say(load_weights(model, find(model_path)))
    if freeze_epochs is not None:
        return model, freeze_epochs
    if not model_path and not pretrained:
        say("The backbone starts from random weights, so it is not frozen.")
        return model, 0
    return model, epochs // 5


def make_solver(model, place, precision, images, say):
    """-> moving average or None, optimizer, gradient scaler, learning rate for this batch size."""
    full_lr = fit.scaled_lr(lr, optimizer, batch_size)
    steps = math.ceil(images / batch_size)
    say(f"Learning rate {lr:g} is meant for {fit.NOMINAL_BATCH} images a step; with {batch_size} and {optimizer} it becomes {full_lr:.3g}.")
    say(f"{images} images, {batch_size} a step: {steps} steps an epoch, {steps * epochs} in {epochs} epochs; "
        + (f"mixed precision {str(precision)[6:]}." if precision else "float32."))
    return (fit.MovingAverage(model) if ema else None, fit.make_optimizer(model, optimizer, full_lr, momentum, weight_decay),
            torch.amp.GradScaler(place.type, enabled=precision == torch.float16), full_lr)


def train_epoch(model, average, loader, solver, scaler, epoch, frozen_epochs, full_lr, place, precision):
    """One pass over the training images. -> {"epoch", "lr", "train_<loss>" ..., "seconds"}, the losses as means over the images."""
    loader.sampler.epoch = epoch
    sums, seen, began = {}, 0, time.perf_counter()
    bar = tqdm(loader, desc=f"epoch {epoch + 1}/{epochs}", leave=False, disable=None, unit="step")
    for step, (images, targets) in enumerate(bar):
        progress = epoch + (step + 1) / len(loader)
        factor = fit.lr_factor(progress, epochs, warmup_epochs, schedule, min_lr)
        for group in solver.param_groups:
            group["lr"] = full_lr * factor * (fit.unfreeze_factor(progress, frozen_epochs) if group["part"] == "backbone" else 1.0)

        images, targets = to_device(images, targets, place)
        with fit.autocast(place, precision):
            outputs, losses = model(images, targets)
            loss = sum(losses.values())
        if not torch.isfinite(loss):
            stop_at_nan(losses, epoch, step, solver, loader.dataset, targets)
        solver.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(solver)
        if clip_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        scaler.step(solver)
        scaler.update()
        if average:
            average.update(model)

        seen += len(targets)
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value.detach() * len(targets)
        if not bar.disable and step % 10 == 0:
            memory = fit.memory_used(place)
            bar.set_postfix({k: f"{float(v) / seen:.3f}" for k, v in sums.items()} | ({"GiB": f"{memory:.1f}"} if memory else {}))
    losses = {f"train_{name}": float(value) / seen for name, value in sums.items()}
    return {"epoch": epoch + 1, "lr": full_lr * factor} | losses | {"seconds": time.perf_counter() - began}


def stop_at_nan(losses, epoch, step, solver, data, targets):
    parts = ", ".join(f"{name} {float(value):.4g}" for name, value in losses.items())
    files = ", ".join(data.paths[t["index"]] for t in targets[:8])
    raise UserError(f"The loss is not a number any more (epoch {epoch + 1}, step {step + 1}: {parts}; "
                    f"learning rate {solver.param_groups[-1]['lr']:.3g}; images {files}). "
                    "Try a third of lr, a longer warmup_epochs, or amp=False. The last good weights are in the run folder.")


def evaluate_epoch(model, loader, place, epoch, run):
    """-> validation losses and mAP, and a picture of predictions on the first validation images."""
    results, losses, detections = evaluate(model, loader, place)
    data, pictures = loader.dataset, []
    for path, found in list(zip(data.paths, detections))[:12]:
        sure = found["scores"] >= 0.3
        boxes, labels, scores = (found[name][sure] for name in ("boxes", "labels", "scores"))
        pictures.append(draw_boxes(open_image(find(path)), boxes, labels, data.class_names, scores))
    save_image(run / f"predictions_epoch_{epoch + 1:03d}.png", grid(pictures, 4, 320))
    return {f"val_{name}": value for name, value in losses.items()} | {name: results[name] or 0.0 for name in ("map50", "map50_95")}


def save_batches(data, loader, epoch, class_names, path):
    """A picture of what the network is fed first: look at it when training does not work."""
    loader.sampler.epoch = epoch
    pictures = []
    for image, target in (data[key] for key in list(loader.sampler)[:16]):
        pictures.append(draw_boxes(image.permute(1, 2, 0).numpy(), target["boxes"].numpy(), target["labels"].numpy(), class_names))
    save_image(path, grid(pictures, 4, max(input_shape)))


def save(run, model, average, solver, scaler, history, best, class_names, better):
    """last.pth: everything that resuming needs; best.pth, when this epoch is better than all before: what predicting needs."""
    about = {"net": net, "options": {k: v for k, v in net_options.items() if k != "pretrained"}, "class_names": class_names,
             "input_shape": list(input_shape), "settings": as_dict(globals()), "epoch": history[-1]["epoch"], "map50": history[-1].get("map50")}
    weights = (average.model if average else model).state_dict()
    if better:
        save_checkpoint(run / "best.pth", model=weights, **about)
    training = {"model": model.state_dict(), "optimizer": solver.state_dict(), "scaler": scaler.state_dict(), "history": history, "best": best,
                "ema_steps": average.steps if average else 0}
    save_checkpoint(run / "last.pth", model=weights, training=training, **about)


def load_run():
    """The saved state of the run to resume, or None. Its settings come back, except those given on the command line."""
    if resume is None or resume is False:
        return None
    if resume is True:
        runs = sorted(ROOT.glob("logs/*/last.pth"), key=lambda p: p.stat().st_mtime)
        if not runs:
            raise UserError("resume=True, but logs/ holds no last.pth: there is no run to go on with.")
        globals()["resume"] = str(runs[-1].parent)
    state = read_checkpoint(Path(find(resume)) / "last.pth")
    for name, value in state["settings"].items():
        if name != "resume" and name in globals() and globals()["_origin"].get(name) != "command line":
            globals()[name] = value
            globals()["_origin"][name] = "resumed run"
    if state["epoch"] >= epochs:
        raise UserError(f"{shown(find(resume))} has already done its {state['epoch']} epochs. To go on: epochs={state['epoch'] + 10}")
    return state


def restore(state, model, average, solver, scaler, say):
    """Put the saved state back. -> history, best mAP50, the next epoch."""
    training = state["training"]
    model.load_state_dict(training["model"])
    if average:
        average.model.load_state_dict(state["model"])
        average.steps = training["ema_steps"]
    solver.load_state_dict(training["optimizer"])
    scaler.load_state_dict(training["scaler"])
    say(f"Resumed after epoch {state['epoch']}.")
    return training["history"], training["best"], state["epoch"]


if __name__ == "__main__":
    override(globals())
    main()
