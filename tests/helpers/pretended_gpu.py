"""A pretended GPU, which shows a forgotten .to(device): its tensors name another device and compute on the CPU.

    with pretended_gpu() as device:
        model.to(device)(images.to(device))

The device is called "lazy": a name that PyTorch knows, with nothing behind it. So nothing is registered,
nothing stays in the process, and backward stays in its thread. What may meet is judged as CUDA judges it.

Why not a backend registered with PyTorch ("PrivateUse1"): autograd counts the devices once, at the first
backward of a process. One that is registered later ends in an internal error, and none can be taken back.
"""
from contextlib import contextmanager
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
NAME = "lazy"

# what may read from one device and write to the other
COPIES = {aten.copy_, aten._to_copy}

# what takes its indices (its second argument) from the CPU too, and a single value, as what is filled in
INDEXING = {aten.index, aten._unsafe_index, aten.index_put, aten.index_put_, aten._index_put_impl_}
FILLING = {aten.index_put, aten.index_put_, aten._index_put_impl_, aten.fill, aten.fill_,
           aten.masked_fill, aten.masked_fill_, aten.index_fill, aten.index_fill_}

# element by element, and yet CUDA does not take a single value of the CPU here
STRICT = {aten.clamp, aten.clamp_, aten.clamp_min, aten.clamp_min_, aten.clamp_max, aten.clamp_max_}


class OnGPU(torch.Tensor):
    """A tensor on the pretended GPU. inner: the same on the CPU."""

    @staticmethod
    def __new__(cls, inner):
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, device=f"{NAME}:0")
        tensor.inner = inner
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})

    def numpy(self, **_):
        raise TypeError("can't convert a tensor of the pretended GPU to numpy. Use Tensor.cpu() first.")

    def __array__(self, *_, **__):
        self.numpy()

    def tolist(self):
        return self.inner.tolist()

    def __format__(self, spec):
        return format(self.inner, spec)

    def __repr__(self, **_):
        return f"on the pretended GPU: {self.inner}"

    def new_tensor(self, data, dtype=None, device=None):
        return torch.tensor(data, dtype=dtype or self.dtype, device=device or self.device)


def run(func, args, kwargs):
    """One operation of PyTorch: judge what meets in it, compute it on the CPU, place the result."""
    own = any(isinstance(leaf, OnGPU) for leaf in tree_leaves((args, kwargs)))
    if own and func.overloadpacket not in COPIES:
        refuse_mixture(func, args, kwargs)

    # a device that is asked for decides where the result lives, else what goes in does
    asked = kwargs.get("device")
    to_gpu = own if asked is None else is_gpu(asked)
    inner_args, inner_kwargs = tree_map(lambda x: x.inner if isinstance(x, OnGPU) else x, (args, kwargs))
    if to_gpu and asked is not None:
        inner_kwargs["device"] = torch.device("cpu")
    result = func(*inner_args, **inner_kwargs)

    # what was written into stays the tensor it was, views stay views
    if func.overloadpacket is aten.copy_:
        return args[0]
    if not to_gpu:
        return result
    result = tree_map(lambda x: OnGPU(x) if isinstance(x, torch.Tensor) else x, result)
    return return_and_correct_aliasing(func, args, kwargs, result) if own and asked is None else result


def refuse_mixture(func, args, kwargs):
    """An error where CUDA has one: a CPU tensor meets one of the GPU, and is no index or single value."""
    packet = func.overloadpacket
    written = args[0] if func._schema.is_mutable and args else None
    takes_single = packet in FILLING or torch.Tag.pointwise in func.tags and packet not in STRICT
    indices = set()
    if packet in INDEXING and isinstance(args[0], OnGPU):
        indices = {id(index) for index in args[1]}

    # whatever else is of the CPU should not be here
    for leaf in tree_leaves((args, kwargs)):
        if not isinstance(leaf, torch.Tensor) or isinstance(leaf, OnGPU) or id(leaf) in indices:
            continue
        if leaf.ndim > 0 or not takes_single or leaf is written:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but {packet.__name__} got one of the "
                f"pretended GPU and one of the CPU, of shape {tuple(leaf.shape)}. "
                "Was .to(device) forgotten, or device= of a new tensor?")


def is_gpu(device):
    return torch.device(device).type == NAME


class EveryOperation(TorchDispatchMode):
    """Also those that no tensor of the GPU goes into, for one may come out: torch.zeros(3, device=device)."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


class NewTensors(TorchFunctionMode):
    """torch.tensor and its relatives work out of sight: what they make is made here, and moved."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func not in (torch.tensor, torch.as_tensor, torch.asarray):
            return func(*args, **kwargs)

        # from a tensor of the GPU, which stays there unless it is sent elsewhere; or from a list of such
        data, device = args[0], kwargs.pop("device", None)
        if isinstance(data, OnGPU):
            data, device = data.cpu(), device or data.device
        data = tree_map(lambda x: x.tolist() if isinstance(x, OnGPU) else x, data)
        made = func(data, *args[1:], **kwargs)
        return made if device is None else made.to(device)


@contextmanager
def pretended_gpu():
    """Within it there is the device it gives.

    torch.inference_mode is torch.no_grad there: its views cannot be of a kind of our own.
    """
    def enter(self):
        self.instead = torch.no_grad()
        self.instead.__enter__()

    def leave(self, *error):
        self.instead.__exit__(*error)

    without_inference = mock.patch.multiple(torch.inference_mode, __enter__=enter, __exit__=leave)
    with without_inference, NewTensors(), EveryOperation():
        yield torch.device(NAME)
