"""Changes to the program that torture_server.py makes before a training, by name. What they do stands in their names and docstrings."""
import builtins
import errno
import itertools
import math
import os
import signal

import torch

import train
from utils import checkpoint, dataset, evaluate, steps
from utils.errors import UserError
from utils.training import accidents, begin, keep


def save_before_the_first_step():
    """last.pth as it is when the training begins, before the freeze stage."""
    begin = train.begin_training

    def begin_and_save(s, *arguments):
        training = begin(s, *arguments)
        keep.save(s, training)
        return training
    train.begin_training = begin_and_save


def save_back_to_back(path):
    """Instead of a training: save after save, each one's number printed when it is done."""
    def saves(_):
        for number in itertools.count(1):
            model = {f"layer{i}.weight": torch.full((200_000 + i,), float(number)) for i in range(3)}
            checkpoint.save_checkpoint(path, step=number, model=model)
            os.write(1, b"%d\n" % number)
    train.main = saves


def saves_fail(numbers):
    """These calls of save_checkpoint, counted from 1, find a full disk when they are nearly done."""
    seal, count = checkpoint.seal, [0]

    def fails(file):
        count[0] += 1
        if count[0] in numbers:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        seal(file)
    checkpoint.seal = fails


def nothing_else_can_be_written():
    """Every file below logs/ that is opened for writing and is no checkpoint."""
    real = builtins.open

    def refuse(path, mode="r", *arguments, **options):
        if "logs" in str(path) and set(mode) & set("wax") and ".pth." not in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return real(path, mode, *arguments, **options)
    builtins.open = refuse


def precision_by_weights():
    """Half precision is chosen, and it is good enough for the weights of torture.write_start alone: a decision that looks at the weights."""
    def judged(model, data, device, precision, seed):
        known = float(next(model.parameters()).flatten()[0]) == 0.125
        return (torch.bfloat16, None) if known else (None, "NOTE: float32, for these weights")
    accidents.check_precision = judged


def norms_frozen():
    """Every BatchNorm with its running statistics, in training too: what is left to differ between one process and two are the last bits."""
    set_frozen = steps.set_frozen

    def frozen(model, backbone):
        set_frozen(model, backbone)
        for module in model.modules():
            if isinstance(module, (torch.nn.modules.batchnorm._NormBase, torch.nn.modules.dropout._DropoutNd)):
                module.eval()
    steps.set_frozen = frozen


def at_step(number, act):
    """act(training, images, targets) before step `number` of this process, counted from 1."""
    step, count = train.step, [0]

    def counted(s, training, images, targets):
        count[0] += 1
        if count[0] == number:
            print("FAULT NOW", flush=True)
            changed = act(training, images, targets)
            images = images if changed is None else changed
        return step(s, training, images, targets)
    train.step = counted


def raises():
    def act(*_):
        raise ValueError("a bolt broke")
    at_step(3, act)


def dies():
    at_step(3, lambda *_: os.kill(os.getpid(), signal.SIGKILL))


def nan_in(what, number):
    """picture, weight, gradient or loss of step `number` is not a number."""
    def act(training, images, targets):
        model = training.model
        if what == "weight":
            with torch.no_grad():
                next(p for name, p in model.named_parameters() if name.startswith("backbone."))[0, 0, 0, 0] = math.nan
        if what == "gradient":
            parameter = next(p for p in model.parameters() if p.requires_grad)
            parameter.register_hook(lambda gradient: gradient * math.nan)
        if what == "picture":
            convert = train.to_device

            def spoiled(*arguments):
                train.to_device = convert
                images, targets = convert(*arguments)
                images[0, 0, 3, 3] = math.nan
                return images, targets
            train.to_device = spoiled
        if what == "loss":
            kind, forward = type(model), type(model).forward

            def bad(self, images, targets=None):
                outputs, losses = forward(self, images, targets)
                first = next(iter(losses))
                return outputs, losses | {first: losses[first] * math.nan}
            kind.forward = bad
    at_step(number, act)


def out_of_memory(most, first=0, last=10**9):
    """A forward pass in train mode with more than `most` pictures does not fit: calls `first` to `last` of them."""
    build, count = train.nets.build, [-1]

    def built(*arguments, **options):
        model = build(*arguments, **options)
        kind, forward = type(model), type(model).forward

        def limited(self, images, targets=None):
            count[0] += self.training
            if self.training and len(images) > most and first <= count[0] <= last:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return forward(self, images, targets)
        if forward.__name__ != "limited":                   # a network is built twice: once to try
            kind.forward = limited
        return model
    train.nets.build = built


def evaluation_out_of_memory():
    def evaluate(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    train.evaluate = evaluate


def worker_dies(train_too, epoch, index):
    """A loader's process is killed when it comes to this picture of this epoch, of the training set or (train_too false) in an evaluation."""
    for kind in (dataset.DetectionData, dataset.SegmentationData):
        get = kind.__getitem__

        def deadly(self, key, get=get):
            if torch.utils.data.get_worker_info() and self.train == train_too and tuple(key) == (epoch, index):
                os.kill(os.getpid(), signal.SIGKILL)
            return get(self, key)
        kind.__getitem__ = deadly


def picture_breaks(number, epoch):
    """From this epoch on the file of training picture `number` cannot be read."""
    for kind in (dataset.DetectionData, dataset.SegmentationData):
        training_sample, read = kind.training_sample, kind.read

        def noted(self, now, index, training_sample=training_sample):
            self.now = now
            return training_sample(self, now, index)

        def broken(self, index, read=read):
            if self.train and index == number and getattr(self, "now", 0) >= epoch:
                raise UserError(f"{self.paths[index]} is cut off after 600 bytes.")
            return read(self, index)
        kind.training_sample, kind.read = noted, broken


def nothing_found():
    """NMS leaves no box."""
    nms = evaluate.nms
    evaluate.nms = lambda boxes, scores, *_, **__: nms(boxes, torch.zeros_like(scores), 0.5, 0.5, 10)


def random_best():
    """Evaluations get worse and worse."""
    measure, count = train.evaluate_epoch, [0]

    def worse(*arguments):
        count[0] += 1
        row = measure(*arguments)
        return row | {"map50": 0.9 / count[0]}
    train.evaluate_epoch = worse


def workers_by(start):
    """"fork" or "spawn"."""
    make_loader = begin.make_loader
    begin.make_loader = lambda *arguments, **options: make_loader(*arguments, **options | {"start": start})
