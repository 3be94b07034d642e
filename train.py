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
from tools.make_shapes import make_shapes
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
from utils.settings import (
    ROOT,
    as_dict,
    as_table,
    check,
    fill_from_recipe,
    find,
    number,
    optional,
    override,
    several,
    shown,
    whole,
    yes_or_no,
)
from utils.voc import read_classes
from utils.weights import load_weights
from voc_annotation import current_lists

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
plain_share = 0.3               # share of the epochs, at the end, without mosaic and mixup             末尾不用马赛克的比例

device = "auto"                 # "auto", "cpu", "cuda", "cuda:1"                                       设备
amp = None                      # half precision; None: where the hardware has it                       混合精度
num_workers = None              # processes that prepare images; None: chosen                           数据加载进程数
cache = True                    # keep shrunken images in memory, as many as fit into a quarter of it   图像缓存
seed = 0                        # same seed, same run                                                   随机种子
eval_every = 5                  # epochs between evaluations                                            每几轮评估一次


def main():
    began = time.perf_counter()
    state = load_run()
    fill_from_recipe(globals(), nets.find_net(net).recipe, f"recipe of {net}")
    complete_settings()
    class_names = read_classes(find(classes_path))
    train_data, val_data = make_data(class_names)
    torch.manual_seed(seed)
    model, notes = make_model(len(class_names), state)          # what can be wrong was wrong by now: the run gets its folder
    run = find(resume) if state else new_folder(ROOT / "logs", net)
    say = log.logger(run)
    say(f"Settings\n{as_table(globals())}\nRun folder {shown(run)}\n{describe(train_data)}\n{describe(val_data)}\n{notes}")
    hardware = fit.choose_device(device, say)
    precision = fit.choose_precision(amp, hardware)
    model.to(hardware, memory_format=torch.channels_last)
    average, solver, scaler, full_lr = make_solver(model, hardware, precision, len(train_data), say)
    history, best, first = restore(state, class_names, model, average, solver, scaler, say) if state else ([], -1.0, 0)
    val_loader, loader = make_loader(val_data, 2 * batch_size, num_workers, device=hardware), None
    save_batches(train_data, first, class_names, run / "first_batches.png")
    log.write_settings(run, as_dict(globals()))
    board = log.open_board(run)

    for epoch in range(first, epochs):
        frozen = epoch < freeze_epochs
        if epoch in (first, freeze_epochs):
            loader = make_loader(train_data, freeze_batch_size if frozen else batch_size, num_workers, seed, hardware)
            if freeze_epochs:
                say("Backbone frozen: only neck and heads learn." if frozen else "Backbone unfrozen: everything learns.")
        fit.set_frozen(model, frozen)
        row = train_epoch(model, average, loader, solver, scaler, epoch, full_lr, hardware, precision)
        better = False
        if (epoch + 1) % eval_every == 0 or epoch + 1 == epochs:
            row |= evaluate_epoch(average.model if average else model, val_loader, hardware, epoch, run)
            better = row["map50"] > best or best <= 0           # as long as nothing is found the newest weights are the best
            best = max(best, row["map50"])
        history.append(row)
        ruined = [name for name, value in row.items() if not math.isfinite(value)]
        if ruined:
            raise UserError(f"After epoch {epoch + 1} {', '.join(ruined)} are not numbers any more: the weights are ruined and not saved. "
                            "Try a third of lr. last.pth, if there is one, is that of the epoch before.")
        save(run, model, average, solver, scaler, history, best, class_names, better)
        left = (time.perf_counter() - began) / (epoch + 1 - first) * (epochs - epoch - 1)
        say(log.epoch_line(row, epochs, len(train_data), left))
        report(run, history, board, say)

    say(f"Done in {log.duration(time.perf_counter() - began)}. Best mAP50 on the validation list {best:.4f}: {shown(run / 'best.pth')}")
    say("Now run\n  python get_map.py      to measure it on the test list\n  python predict.py      to see what it finds")


def complete_settings():
    """Check the values, then give those that are None theirs."""
    share = number(0, 1)
    check(globals(), epochs=whole(1), batch_size=whole(1), eval_every=whole(1), freeze_epochs=optional(whole(0)),
          freeze_batch_size=optional(whole(1)), num_workers=optional(whole(0)), seed=whole(0), amp=optional(yes_or_no()), cache=yes_or_no(),
          ema=yes_or_no(), input_shape=several(2, whole(1)), scale=several(2, number(0.01)), colours=several(3, share), aspect=number(0),
          translate=number(0), lr=number(0), min_lr=share, momentum=share, weight_decay=number(0), warmup_epochs=number(0), clip_norm=number(0),
          flip=share, mosaic=share, mixup=share, plain_share=share)
    fit.lr_factor(0, epochs, warmup_epochs, schedule, min_lr)           # a schedule that is not known ends here
    chosen = {"freeze_batch_size": 2 * batch_size, "freeze_epochs": epochs // 5 if model_path or pretrained else 0}
    given = {name: globals()[name] for name in ("classes_path", "train_list", "val_list", "test_list")}
    if None in given.values():
        if dataset == "VOCdevkit/Shapes" and not find(dataset).exists():
            print("Drawing the built-in data set VOCdevkit/Shapes ...")
            make_shapes(find(dataset))
        chosen |= current_lists(dataset, given)
    for name, value in chosen.items():
        if globals()[name] is None:
            globals()[name] = value
            globals()["_origin"][name] = "chosen"


def make_data(class_names):
    """-> training data, validation data."""
    train_data = DetectionData(
        train_list, class_names, input_shape, train=True, seed=seed, scale=scale, aspect=aspect, translate=translate, flip_chance=flip,
        colours=colours, mosaic_chance=mosaic, mixup_chance=mixup, plain_from=epochs - round(plain_share * epochs), cache=cache)
    val_data = DetectionData(val_list, class_names, input_shape, cache=cache)
    if not sum(len(rows) for rows in train_data.boxes):
        raise UserError(f"{train_list} holds no object at all. Are the names in {shown(find(classes_path))} those of the annotations?")
    for index in range(len(val_data)):                      # a broken image shows now, not after the first epochs
        val_data.picture(index)
    if not sum((rows[:, 5] == 0).sum() for rows in val_data.boxes):
        print(f"NOTE: {val_list} holds no object, so mAP cannot be measured while training: best.pth will be the newest epoch.")
    return train_data, val_data


def make_model(num_classes, state):
    """-> the network with its first weights, what is to be said about them."""
    begins = not state                                      # a resumed run gets its weights later
    options = net_options | {"pretrained": True} if pretrained and not model_path and begins else net_options
    model = nets.build(net, num_classes, input_shape, **options)
    notes = f"{net}: {sum(p.numel() for p in model.parameters()):,} parameters, {num_classes} classes, input {input_shape}"
    if model_path and begins:
        notes += f"\n{load_weights(model, find(model_path))}"
    elif not pretrained and begins:
        notes += "\nThe network starts from random weights" + (", so nothing is frozen." if not freeze_epochs else ".")
    return model, notes


def make_solver(model, hardware, precision, images, say):
    """-> moving average or None, optimizer, gradient scaler, learning rate for this batch size."""
    full_lr = fit.scaled_lr(lr, optimizer, batch_size)
    steps = math.ceil(images / batch_size)
    say(f"Learning rate {lr:g} is meant for {fit.NOMINAL_BATCH} images a step; with {batch_size} and {optimizer} it becomes {full_lr:.3g}.")
    usual = nets.NETS[net].recipe
    if optimizer != usual["optimizer"] and lr == usual["lr"]:
        say(f"NOTE: {lr:g} is the learning rate for {usual['optimizer']}; {optimizer} usually needs another one, set lr.")
    say(f"{images} images, {batch_size} a step: {steps} steps an epoch, about {steps * epochs} in {epochs} epochs; "
        + (f"mixed precision {str(precision)[6:]}." if precision else "float32."))
    return (fit.MovingAverage(model) if ema else None, fit.make_optimizer(model, optimizer, full_lr, momentum, weight_decay),
            torch.amp.GradScaler(hardware.type, enabled=precision == torch.float16), full_lr)


def train_epoch(model, average, loader, solver, scaler, epoch, full_lr, hardware, precision):
    """One pass over the training images. -> {"epoch", "lr", "train_<loss>" ..., "seconds"}, the losses as means over the images."""
    torch.manual_seed(seed * 100_003 + epoch)               # for networks with dropout: the same after a resume
    loader.sampler.epoch = epoch
    sums, seen, began = {}, 0, time.perf_counter()
    bar = tqdm(loader, desc=f"epoch {epoch + 1}/{epochs}", leave=False, disable=None, unit="step")
    for step, (images, targets) in enumerate(bar):
        progress = epoch + (step + 1) / len(loader)
        factor = fit.lr_factor(progress, epochs, warmup_epochs, schedule, min_lr)
        for group in solver.param_groups:
            group["lr"] = full_lr * factor * (fit.unfreeze_factor(progress, freeze_epochs) if group["part"] == "backbone" else 1.0)

        images, targets = to_device(images, targets, hardware)
        with fit.autocast(hardware, precision):
            outputs, losses = model(images, targets)
            loss = sum(losses.values())
        solver.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(solver)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm or math.inf)
        if not torch.isfinite(loss) or not (torch.isfinite(norm) or scaler.is_enabled()):
            stop_at_nan(losses, epoch, step, solver, loader.dataset, targets)
        scaler.step(solver)
        scaler.update()
        if average:
            average.update()

        seen += len(targets)
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value.detach() * len(targets)
        if not bar.disable and step % 10 == 0:
            memory = fit.memory_used(hardware)
            bar.set_postfix({k: f"{float(v) / seen:.3f}" for k, v in sums.items()} | ({"GiB": f"{memory:.1f}"} if memory else {}))
    losses = {f"train_{name}": float(value) / seen for name, value in sums.items()}
    return {"epoch": epoch + 1, "lr": full_lr * factor} | losses | {"seconds": time.perf_counter() - began}


def stop_at_nan(losses, epoch, step, solver, data, targets):
    parts = ", ".join(f"{name} {float(value):.4g}" for name, value in losses.items())
    files = ", ".join(data.paths[t["index"]] for t in targets[:8])
    raise UserError(f"The loss or its gradient is not a number any more (epoch {epoch + 1}, step {step + 1}: {parts}; "
                    f"learning rate {solver.param_groups[-1]['lr']:.3g}; images {files}). "
                    "Try a third of lr, a longer warmup_epochs, or amp=False. last.pth, if there is one, is that of the epoch before.")


def evaluate_epoch(model, loader, hardware, epoch, run):
    """-> validation losses and mAP, and a picture of predictions on the first validation images."""
    results, losses, detections = evaluate(model, loader, hardware)
    data, pictures, captions = loader.dataset, [], []
    for path, truth, found in list(zip(data.paths, data.boxes, detections))[:12]:
        sure = found["scores"] >= 0.3
        captions.append(f"{len(truth)} objects, {sure.sum()} boxes, best score {found['scores'].max(initial=0):.2f}")
        boxes, labels, scores = (found[name][sure] for name in ("boxes", "labels", "scores"))
        pictures.append(draw_boxes(open_image(find(path)), boxes, labels, data.class_names, scores))
    save_image(run / f"predictions_epoch_{epoch + 1:03d}.png", grid(pictures, 4, 320, captions))
    return {f"val_{name}": value for name, value in losses.items()} | {name: results[name] or 0.0 for name in ("map50", "map50_95")}


def save_batches(data, epoch, class_names, path):
    """A picture of what the network is fed first: look at it when training does not work."""
    pictures = []
    for image, target in (data[epoch, index] for index in range(min(16, len(data)))):
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


def report(run, history, board, say):
    """metrics.csv, curves and TensorBoard; a table that is open in Excel must not end a training."""
    try:
        log.write_history(run, history)
        log.write_board(board, history[-1])
        training_curves(run / "metrics.csv", run / "curves.png")
    except (OSError, UserError) as error:
        say(f"NOTE: {error}; the training goes on.")


def load_run():
    """The saved state of the run to resume, or None. Its settings come back, except those given on the command line."""
    if resume is None or resume is False:
        return None
    if not isinstance(resume, (bool, str)):
        raise UserError(f'resume={resume!r}: expected True for the newest run, or a folder like "logs/yolov4_tiny_...".')
    if resume is True:
        runs = sorted(ROOT.glob("logs/*/last.pth"), key=lambda p: p.stat().st_mtime)
        if not runs:
            raise UserError("resume=True, but logs/ holds no last.pth: there is no run to go on with.")
        globals()["resume"] = str(runs[-1].parent)
    elif resume.endswith(".pth"):
        globals()["resume"] = str(Path(resume).parent)
    state = read_checkpoint(find(resume) / "last.pth")
    if globals()["_origin"].get("dataset") == "command line":
        raise UserError("A resumed run keeps its data. For another dataset start a new run from its weights: "
                        f"model_path={shown(find(resume) / 'best.pth')}")
    if "training" not in state:
        raise UserError(f"{shown(find(resume) / 'last.pth')} is not what train.py saves: it cannot be resumed.")
    for name, value in state["settings"].items():
        if name != "resume" and name in globals() and globals()["_origin"].get(name) != "command line":
            globals()[name] = value
            globals()["_origin"][name] = "resumed run"
    if state["epoch"] >= epochs:
        raise UserError(f"{shown(find(resume))} has already done its {state['epoch']} epochs. To go on: epochs={state['epoch'] + 10}")
    return state


def restore(state, class_names, model, average, solver, scaler, say):
    """Put the saved state back. -> history, best mAP50, the next epoch. Error: the run was another one."""
    for name, then, now in (("net", state["net"], net), ("classes", state["class_names"], class_names), ("input_shape", state["input_shape"],
                            list(input_shape)), ("optimizer", state["settings"]["optimizer"], optimizer), ("ema", state["settings"]["ema"], ema)):
        if then != now:
            raise UserError(f"This run was begun with {name} {then}; now it is {now}, so it cannot be resumed. "
                            f"To start a new run from its weights: model_path={shown(find(resume) / 'last.pth')}")
    training = state["training"]
    model.load_state_dict(training["model"])
    if average:
        average.model.load_state_dict(state["model"])
        average.steps = training["ema_steps"]
    asked = [{key: group[key] for key in ("weight_decay", "momentum", "betas") if key in group} for group in solver.param_groups]
    solver.load_state_dict(training["optimizer"])
    for group, values in zip(solver.param_groups, asked):
        group.update(values)                                # what the command line changed counts
    if training["scaler"] and scaler.is_enabled():
        scaler.load_state_dict(training["scaler"])
    say(f"Resumed after epoch {state['epoch']}.")
    best = training["best"]
    try:
        if best >= 0:
            read_checkpoint(find(resume) / "best.pth")
    except UserError as error:
        say(f"NOTE: {error} The next evaluation writes a new one.")
        best = -1.0
    return training["history"], best, state["epoch"]


if __name__ == "__main__":
    override(globals())
    main()
