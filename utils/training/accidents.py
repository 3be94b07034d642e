"""What can go wrong while training, found early or explained.

Memory, mixed precision, NaN, dead workers, nothing learned.
"""
import contextlib
import math

import torch

from utils import steps
from utils.checkpoint import first_line
from utils.dataset import collate
from utils.errors import UserError, is_lack_of_memory
from utils.evaluate import to_device
from utils.system import distributed
from utils.system.device import autocast, memory_used, total_memory

AMP_TOLERANCE = 0.05            # mixed precision may change a batch's loss by this share; more is broken
AMP_PICTURES = 4
GAP = 5.0                       # the loss so many times larger in eval mode: BatchNorm's statistics are off
EARLY = 5                       # epochs after which something should be found
FAINT = 0.05                    # a score below this is nothing
WORKER_WORDS = ("DataLoader worker", "worker exited", "Bus error", "shared memory", "paging file",
                "Cannot allocate memory")


def is_out_of_memory(error):
    """Of a GPU, or of the machine as far as it refuses instead of killing the process."""
    return isinstance(error, torch.OutOfMemoryError) or is_lack_of_memory(error)


def is_dead_worker(error):
    """A process of the loader was killed, died, or could not be started."""
    return isinstance(error, (RuntimeError, OSError)) and any(word in str(error) for word in WORKER_WORDS)


def go_on_without_workers(error, s, training):
    """After a loader process died: from now on there are none.

    Every other error is raised again, as a sentence where its meaning is known.
    """
    if not is_dead_worker(error) or training.workers == 0:
        explain(error, training.progress, training.device, s.accumulate)
        raise error
    training.say(f"NOTE: a loader process died ({first_line(error)}): "
                 "continuing from the same image with num_workers=0. More: docs/en/faq.md#worker")
    s.put("num_workers", 0, "after a loader process died")      # a resumed run has none either
    training.workers = 0
    training.frozen = None                                      # not set: the loaders are made anew


def explain(error, progress, device, accumulate):
    """Raise a UserError that says what an error of the training loop means, if that is known."""
    where = f"epoch {progress.epoch + 1}, step {progress.step + 1}"
    if is_out_of_memory(error):
        raise UserError(f"Out of memory in {where}: {memory_used(device) or 0:.1f} GiB were in use. "
                        "The trial step before the first epoch fitted, so another program has taken memory "
                        "since then, or this batch has unusually many objects. last.pth is from before this "
                        f"step: go on with  resume=True accumulate={2 * accumulate}  "
                        "(more: docs/en/faq.md#oom-free)") from None
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        raise UserError(f"compile=True does not work here ({str(error).splitlines()[0][:160]}). "
                        "It needs a C compiler, and on a GPU Triton; "
                        "go on with  resume=True compile=False") from None


@contextlib.contextmanager
def unchanged(model):
    """with unchanged(model): steps that are only a trial. BatchNorm's statistics come back, gradients go."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        model.zero_grad(set_to_none=True)


def first_batch(data, count, device):
    """The first `count` samples of a list at full input size, on the device.

    A shorter list begins again.
    """
    samples = [data[data.small_until, index % len(data)] for index in range(count)]
    return to_device(*collate(samples), device)


def try_stages(model, data, stages, parts, device, precision, seed):
    """Try one step of every stage to come: what does not fit into the memory is found now.

    stages: list of (frozen, batch size of this process).  parts: into how many pieces a batch is cut.
    -> parts that fit into the memory, list of sentences.  Error: not even one picture at a time fits.
    """
    notes = []
    for frozen, batch_size in stages:
        batch = min(batch_size, len(data))
        while True:
            # All processes cut their batches alike, so one that is out of memory counts for all.
            fits = try_step(model, data, frozen, batch, parts, device, precision, seed)
            if not distributed.anywhere(not fits):
                break

            # Pieces of half the size, and again, until each is a single picture.
            memory = f" of {total_memory(device):.1f} GiB" if total_memory(device) else ""
            if parts >= batch:
                raise UserError(f"Even one picture at a time does not fit into the memory{memory} "
                                f"of {device}. Choose a smaller input_shape or another net, "
                                "or close other programs that use that memory. More: docs/en/faq.md#oom")
            tried = f"{math.ceil(batch / parts)} pictures" + (" with a frozen backbone" if frozen else "")
            parts *= 2
            notes.append(f"NOTE: a step of {tried} does not fit into the memory{memory}. Every batch is "
                         f"therefore cut into {parts} pieces, one after the other (accumulate={parts}); "
                         "their gradients add up, so the batch size stays the same. "
                         "BatchNorm sees one piece at a time.")
    return parts, notes


def try_step(model, data, frozen, batch, parts, device, precision, seed):
    """One forward and backward with the memory that the optimizer will take. -> whether it fits."""
    steps.set_frozen(model, frozen)
    try:
        with unchanged(model), torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)

            # What Adam will keep, two numbers for each weight, is held until the step is done.
            state = [torch.empty_like(p) for p in model.parameters() for _ in range(2)]
            for images, targets, share, last in steps.pieces(*first_batch(data, batch, device), parts):
                one_batch = distributed.one_batch(model, last)
                with one_batch, autocast(device, precision), steps.single_explained():
                    _, losses = model(images, targets)
                (sum(losses.values()) * share).backward()
            del state
        return True
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return False


def check_precision(model, data, device, precision, seed):
    """Compare the loss of the first pictures in this precision and in float32.

    -> the precision, or None where the losses differ; a sentence about that, or None.
    """
    if not precision:
        return None, None

    # The same pictures, the same dropout, once in each precision.
    batch = first_batch(data, min(AMP_PICTURES, len(data)), device)
    losses = []
    gpus = [device] if device.type == "cuda" else []
    for one in (None, precision):
        with unchanged(model), torch.no_grad(), torch.random.fork_rng(gpus):
            torch.manual_seed(seed)
            steps.set_frozen(model, False)
            with autocast(device, one):
                losses.append(float(sum(model(*batch)[1].values())))

    # Written so that NaN is refused as well.
    exact, mixed = losses
    off = abs(mixed - exact) / max(abs(exact), 1e-6)
    if distributed.anywhere(not off <= AMP_TOLERANCE):
        return None, (f"NOTE: mixed precision ({str(precision)[6:]}) gives a loss of {mixed:.4g} "
                      f"where float32 gives {exact:.4g}: it does not work well on this hardware "
                      "or for this network, so float32 is used.")
    return precision, None


def explain_nan(training, images, targets, losses, seed):
    """-> UserError about a NaN or infinite loss or gradient: where it began, in which files, what to do.

    To be called before the optimizer's step, so that the weights are still those that made it.
    """
    progress, paths = training.progress, training.train_data.paths
    where = f"epoch {progress.epoch + 1}, step {progress.step + 1}"
    rate = training.solver.param_groups[-1]["lr"]
    parts = ", ".join(f"{name} {float(value):.4g}" for name, value in losses.items())
    files = ", ".join(paths[target["index"]] for target in targets[:8])
    if len(targets) > 8:
        files += " ..."

    # The same step again, this time with an eye on every layer.
    culprit = first_bad_layer(training.model, images, targets, training.device, training.precision, seed)
    return UserError(f"The loss or its gradient became NaN or infinite ({where}; {parts}; "
                     f"learning rate {rate:.3g}). {culprit} Pictures of this step: {files}. "
                     "Weights, moving average and best.pth are unchanged from before this step. "
                     "Three things to try, in this order: (1) Try a third of lr: resume=True lr=... ; "
                     "(2) a longer warmup_epochs, or clip_norm=1; "
                     "(3) amp=False, and a look at the boxes or masks of the pictures named here. "
                     "More: docs/en/faq.md#nan")


@torch.no_grad()
def first_bad_layer(model, images, targets, device, precision, seed):
    """A sentence: which weights, or the output of which layer, are the first that are not finite."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            return f"The weights {name} are not finite."
    if not torch.isfinite(images).all():
        return "The pictures themselves are not finite."

    # A hook behind every layer that has no layers within; the first that is not finite leaves its name.
    found = []

    def watch(name):
        def hook(_, __, output):
            tensors = output if isinstance(output, (tuple, list)) else [output]
            numbers = [t for t in tensors if isinstance(t, torch.Tensor) and t.is_floating_point()]
            if not found and not all(torch.isfinite(t).all() for t in numbers):
                found.append(name)
        return hook

    leaves = [(name, module) for name, module in model.named_modules()
              if name and not list(module.children())]
    hooks = [module.register_forward_hook(watch(name)) for name, module in leaves]

    torch.manual_seed(seed)
    with autocast(device, precision):
        _, losses = model(images, targets)
    for hook in hooks:
        hook.remove()

    # Layers, then losses, then gradients: in this order a fault spreads.
    if found:
        return f"The first layer whose output is not finite is {found[0]}."
    bad = [name for name, value in losses.items() if not torch.isfinite(value)]
    if bad:
        return f"All layers are finite, the loss {bad[0]} is not."
    gradients = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
    bad = [name for name, gradient in gradients if not torch.isfinite(gradient).all()]
    if bad:
        return f"All layers and losses are finite; the gradient of {bad[-1]} is not."
    return "In a second try of the same step all was finite."


def look_for_trouble(training, found, data):
    """After an evaluation: nothing is found, or train and eval mode disagree. Each is said once.

    found: as utils.evaluate.evaluate returns it.
    """
    epoch = training.progress.epoch + 1
    notes = {"nothing": nothing_note(found, data.task, epoch, data.class_names)}
    if training.last and epoch >= EARLY:
        images, targets, loss = training.last
        where = training.device, training.precision
        notes["gap"] = gap_note(training.model, images, targets, float(loss), *where)
    for kind, text in notes.items():
        if text and kind not in training.told:
            training.told.add(kind)
            training.say(text)


@torch.no_grad()
def gap_note(model, images, targets, train_loss, device, precision):
    """A sentence when the pictures of the last step have a far larger loss in eval mode; else None."""
    # The mode of each module is kept: a frozen backbone is in eval mode all the time.
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    with autocast(device, precision):
        eval_loss = float(sum(model(images, targets)[1].values()))
    for module, mode in modes:
        module.training = mode

    # A little larger is usual, many times larger is not.
    if eval_loss <= GAP * train_loss:
        return None
    return (f"NOTE: on the same pictures the loss is {train_loss:.3g} in train mode "
            f"and {eval_loss:.3g} in eval mode. BatchNorm measures each batch while training "
            "and uses its running statistics afterwards, and these do not fit yet: after few steps "
            "that is normal and passes; if it stays, try a larger batch_size, a smaller lr, "
            "or weights with a frozen backbone.")


def nothing_note(found, task, epoch, class_names):
    """A sentence when after EARLY epochs nothing is found; else None.

    found: as utils.evaluate.evaluate returns it.
    """
    if epoch < EARLY or not found:
        return None

    # A detector finds nothing when no score is worth showing, a segmenter when all pixels have one class.
    answer = "map0" if task == "detection" else "black"
    if task == "detection":
        best = max(one["scores"].max(initial=0.0) for one in found)
        if best >= FAINT:
            return None
        what = f"After {epoch} epochs no box has a score above {FAINT}, the best is {best:.3f}"
    else:
        labels = set().union(*(set(one.reshape(-1)[::7].tolist()) for one in found))
        if len(labels) > 1 or len(class_names) < 2:
            return None
        what = f'After {epoch} epochs everything is "{class_names[labels.pop()]}"'
    return (f"NOTE: {what}. With few pictures or from random weights that can take longer. "
            "Otherwise look at first_batches.png in the run's folder: are the boxes or masks "
            "on the objects, and the class names right? Then try a larger lr, or pretrained weights. "
            f"More: docs/en/faq.md#{answer}")
