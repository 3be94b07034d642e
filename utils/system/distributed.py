"""Several processes that train one network, each with its share of every batch.

    torchrun --nproc_per_node=4 train.py                                            one machine
    torchrun --nnodes=2 --nproc_per_node=4 --rdzv_backend=c10d \\
             --rdzv_endpoint=host:29500 train.py                                    on each of two machines

Here is all that differs from one process; alone, nothing does. PyTorch does the work:
DistributedDataParallel, NCCL between GPUs, gloo between CPUs. The sum of all shares is the batch that one
process would have taken, in the same order, with the same augmentation; losses are divided by numbers of the
whole batch (see `batch_mean`).
"""
import os
import sys
from contextlib import contextmanager, nullcontext
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from utils.errors import UserError
from utils.system import heartbeat

PATIENCE = timedelta(minutes=30)        # how long a process waits for others that are busy


def begin(device="auto"):
    """To be called first. -> the device for this process.

    Processes other than the first print nothing but errors.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) < 2:
        return device

    # Each process of this machine has a GPU of its own, or all share the CPU's cores.
    local = int(os.environ.get("LOCAL_RANK", 0))
    count = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    on_gpu = device not in ("cpu", "mps") and torch.cuda.is_available()
    if on_gpu and count > torch.cuda.device_count():
        gpus = torch.cuda.device_count()
        raise UserError(f"torchrun started {count} processes here, but there are {gpus} GPUs: "
                        f"--nproc_per_node={gpus}, or device=cpu.")
    if on_gpu:
        torch.cuda.set_device(local)

    # From here on the processes know each other. The same line four times helps nobody: the first prints.
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    heartbeat.start_counting(dist.get_rank(), dist.get_world_size())
    if dist.get_rank() > 0:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  open as long as the process
    return f"cuda:{local}" if on_gpu else "cpu"


def end():
    if dist.is_initialized():
        heartbeat.stop_counting()
        dist.destroy_process_group()


def world():
    """How many processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_follower():
    """Whether this is one of several processes and not the first, as torchrun says, also before `begin`."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1 and os.environ.get("RANK", "0") != "0"


def rank():
    """Which of them this one is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_alone(error):
    """Whether an error means that another of the processes has ended."""
    words = ("peer", "NCCL", "gloo", "Timed out", "Broken pipe")
    return world() > 1 and isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def wrap(model, device):
    """-> the network whose gradients are the mean over the processes."""
    if world() == 1:
        return model
    own_gpu = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=own_gpu)


def sync_norms(model, device):
    """BatchNorm over the whole batch instead of each process's share: only GPUs can. -> the network."""
    if world() == 1 or device.type != "cuda":
        return model
    return torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)


def share_of(count):
    """(first, last + 1) of a batch's `count` pictures that this process takes: its share of them.

    Where that would be a single picture, and BatchNorm would see it alone, every process takes them all: the
    mean of their gradients is then the gradient of that batch, and so are the statistics.
    """
    per = count // world()
    if per == 1 and norms_apart():
        return 0, world()
    return rank() * per, (rank() + 1) * per


def norms_apart():
    """Whether each process measures BatchNorm's statistics for itself: without GPUs, see `sync_norms`."""
    return world() > 1 and not (dist.is_initialized() and dist.get_backend() == "nccl")


# whether all processes are at the same batch: in a training step, but not in an evaluation
together = {"on": False}


@contextmanager
def one_batch(model, last=True):
    """with one_batch(model): what the processes compute are the shares of one batch.

    They are not if the network is not wrapped, as in a trial.
    last: False while more pieces of the same batch are to come; until then gradients stay in this process.
    """
    together["on"] = isinstance(model, DistributedDataParallel)
    wait = together["on"] and not last
    try:
        with model.no_sync() if wait else nullcontext():
            yield
    finally:
        together["on"] = False


@torch.no_grad()
def batch_mean(number, least=0.0):
    """What a loss is divided by, at least `least`. number: 0-d tensor.

    Of several processes it is the mean, at least their share of `least`. The mean of the processes' gradients
    is then the gradient of the whole batch: sum(S_i) / sum(N_i) = mean(S_i / mean(N_i)).
    """
    if not together["on"]:
        return number.clamp(min=least)
    number = number.detach().float().clone()
    dist.all_reduce(number)
    return (number / world()).clamp(min=least / world())


@torch.no_grad()
def added(numbers):
    """dict name -> 0-d tensor of each process -> dict name -> their sum. All have the same names."""
    if world() == 1:
        return numbers
    values = torch.stack([number.detach().float() for number in numbers.values()])
    dist.all_reduce(values)
    return dict(zip(numbers, values))


def gather(value):
    """A plain value or numpy arrays of each process -> list of all of them, in every process."""
    if world() == 1:
        return [value]
    values = [None] * world()
    dist.all_gather_object(values, value)
    return values


@contextmanager
def first_alone():
    """with first_alone(): the first process goes ahead, the others find the files it made."""
    if rank() > 0:
        dist.barrier()
    yield
    if world() > 1 and rank() == 0:
        dist.barrier()


def anywhere(flag):
    """Whether the flag is set in any process."""
    if world() == 1:
        return flag
    count = torch.tensor(float(flag), device=device_of_group())
    dist.all_reduce(count)
    return bool(count)


def first_says(value):
    """The first process's value, in every process."""
    if world() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


@torch.no_grad()
def same_buffers(model):
    """Every process gets the first one's BatchNorm statistics: without SyncBatchNorm each has its own."""
    if world() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def device_of_group():
    """Where a tensor must be to be sent to the other processes."""
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
