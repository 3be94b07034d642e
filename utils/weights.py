"""Weight files -> our networks: our checkpoints, plain PyTorch state dicts, darknet .weights.

What was loaded and what was not is told in a report a person can act on.
"""
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from utils.checkpoint import is_darknet, read_checkpoint, refuse_web_page
from utils.errors import UserError
from utils.settings import printable, shown
from utils.system.download import download as download  # what a network's file calls beside load_weights


@dataclass
class Report:
    """What load_weights did. Names are those of the network's state dict."""
    path: str
    loaded: list            # names
    different: list         # (name, shape in the file, shape in the network)
    missing: list           # names the file does not have
    unused: list            # names only the file has
    backbone: float         # share of the backbone's parameters that were loaded, 0-1
    ruined: str = ""        # see `not_finite`

    def __str__(self):
        loaded = len(self.loaded)
        total = loaded + len(self.different) + len(self.missing)
        lines = [f"{self.path}: {loaded} of {total} tensors loaded, {self.backbone:.0%} of the backbone."]

        # Whatever was not loaded is said, with the likely reason: silence here costs a night of training.
        if self.different:
            names = [name for name, _, _ in self.different]
            first, theirs, ours = self.different[0]
            lines.append(f"  {len(names)} initialised from scratch: shapes differ "
                         f"(different number of classes?): {some(names)}; "
                         f"{printable(first)} is {theirs} in the file, {ours} here.")
        if self.missing:
            lines.append(f"  {len(self.missing)} initialised from scratch (the file has none): "
                         f"{some(self.missing)}")
        if self.unused:
            lines.append(f"  {len(self.unused)} of the file not used: {some(self.unused)}")
        if self.ruined:
            lines.append(f"  NOTE: {self.ruined}: nothing can be learnt from there. Choose another file.")
        return "\n".join(lines)


def some(names):
    return ", ".join(map(printable, names[:6])) + (" ..." if len(names) > 6 else "")


def not_finite(tensors):
    """A sentence about the tensors that hold NaN or infinity, "" where there are none.

    tensors: dict name -> tensor. One is enough to spoil whatever is computed with it.
    """
    bad = [name for name, tensor in tensors.items()
           if tensor.is_floating_point() and not tensor.float().isfinite().all()]
    if not bad:
        return ""
    return f"{len(bad)} of {len(tensors)} tensors hold NaN or infinity, the first {printable(bad[0])}"


def load_weights(model, path, allow_partial=False):
    """Copy every tensor whose name and shape fit from a file into the model, in place.

    path: a checkpoint of ours, a state dict (.pth), also of the backbone alone, or a darknet file (.weights,
    .conv.N).
    -> Report.  Error: less than half of the backbone's parameters fit (allow_partial=True accepts that).
    """
    path = Path(path)
    found = read_darknet(model, path) if is_darknet(path) else state_dict_of(read_checkpoint(path), path)
    found = cut_apart(found, getattr(model, "official_parts", ()))
    found = without_rows(found, getattr(model, "official_rows", ()))
    rules = getattr(model, "official_names", ())
    found = {our_name(name, rules): tensor for name, tensor in found.items()}
    own = {name: tensor for name, tensor in model.state_dict().items() if not is_counter(name)}

    # A file of a classifier, as torchvision's ImageNet files are, knows no "backbone.": all of it is one.
    within = {f"backbone.{name}": tensor for name, tensor in found.items()}
    if len(own.keys() & within.keys()) > len(own.keys() & found.keys()):
        found = within

    # A tensor is loaded if name and shape are the same; every other one is told, on whichever side it is.
    fits = {}
    different = []
    for name, tensor in own.items():
        if name in found and found[name].shape == tensor.shape:
            fits[name] = found[name]
        elif name in found:
            different.append((name, tuple(found[name].shape), tuple(tensor.shape)))
    missing = [name for name in own if name not in found]
    unused = [name for name in found if name not in own and not is_counter(name)]

    # The heads depend on the classes, so they may differ. A backbone that differs is that of another network.
    share = backbone_share(model, fits)
    report = Report(shown(path), list(fits), different, missing, unused, share, not_finite(fits))
    if share < 0.5 and not allow_partial:
        raise UserError(f"{report}\nThese weights belong to a different network: only {share:.0%} of the "
                        "backbone matches. Choose the file that belongs to this network, or none. "
                        "More: docs/en/faq.md#shape-train")
    model.load_state_dict(fits, strict=False)
    return report


def is_counter(name):
    """Whether a tensor is how many batches a BatchNorm has seen: no weight, and missing in many files."""
    return name.endswith("num_batches_tracked")


def backbone_share(model, names):
    """The share of the backbone's parameters with these names, 0-1; without a backbone, of all parameters."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    backbone = {name: size for name, size in sizes.items() if name.startswith("backbone.")} or sizes
    return sum(size for name, size in backbone.items() if name in names) / sum(backbone.values())


def check_weights(path):
    """Error: there is no such weight file, or it cannot be read. Whether it fits, `load_weights` says.

    -> the name of the network for which train.py saved them; None: the file does not say.
    """
    if is_darknet(path):
        if not path.is_file():
            raise UserError(f"There is no weight file {shown(path)}.")
        return None
    content = read_checkpoint(path)
    state_dict_of(content, path)
    net = content.get("net")
    return net if isinstance(net, str) else None


def our_name(name, rules):
    """A tensor's name in an official file -> its name in the network.

    rules: (regular expression, replacement) pairs; all are applied.
    """
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def cut_apart(tensors, rules):
    """Tensors of an official file that hold several of ours side by side, like key and value, become these.

    rules: (regular expression, dimension, replacements), as many replacements as there are equal parts.
    """
    found = {}
    for name, tensor in tensors.items():
        rule = next((rule for rule in rules if re.search(rule[0], name) and tensor.ndim > rule[1]), None)
        if rule is None:
            found[name] = tensor
            continue
        pattern, dim, replacements = rule
        for part, replacement in zip(tensor.chunk(len(replacements), dim), replacements):
            found[re.sub(pattern, replacement, name)] = part
    return found


def without_rows(tensors, rules):
    """Tensors of an official file with rows for a class that is none lose them.

    rules: (regular expression, rows of the whole tensor, which rows remain).
    """
    found = dict(tensors)
    for pattern, count, remaining in rules:
        for name, tensor in tensors.items():
            if re.search(pattern, name) and len(tensor) == count:
                found[name] = tensor[remaining]
    return found


def state_dict_of(content, path):
    """The name -> tensor part of what a .pth file holds, without the wrappers' prefixes."""
    for key in ("ema", "module", "model", "state_dict", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]

    # What else is in it does not matter.
    tensors = {}
    if isinstance(content, dict):
        tensors = {name: value for name, value in content.items()
                   if isinstance(name, str) and isinstance(value, torch.Tensor)}
    if not tensors:
        raise UserError(f"{shown(path)} holds no weights (no named tensors).")
    for prefix in ("module.", "_orig_mod."):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def read_darknet(model, path):
    """A darknet weight file -> state dict with the model's names.

    The file: int32 major, minor, revision; then the images seen (uint64, or uint32 before version 0.2); then
    float32, for every convolution in the order of the cfg: with BatchNorm beta, gamma, mean, variance and
    weight; without it bias and weight. The model registers its convolutions in that order. A file may end
    early (yolov4-tiny.conv.29), at the end of a convolution. Its heads may have another number of classes
    than the model: that number follows from the length of the file.
    """
    values = darknet_numbers(path)
    convs = convolutions(model)
    outputs = head_outputs(model, convs, len(values))
    state = {}
    at = 0

    def take(*shape):
        nonlocal at
        count = int(np.prod(shape))
        at += count
        return values[at - count:at].reshape(shape)

    for name, conv, norm in convs:
        if at == len(values):
            break

        # Nothing in the file says where a convolution begins: only its length tells another network's file.
        rows = conv.out_channels if norm else outputs
        needed = rows * (conv.weight[0].numel() + (4 if norm else 1))
        if at + needed > len(values):
            raise UserError(f"{shown(path)} does not fit this network: it ends inside the convolution {name} "
                            f"({len(values)} numbers). Is it the file of another network, or a broken "
                            "download?")

        # The order is darknet's: what is added or multiplied afterwards comes first, the weight last.
        if norm:
            for part in ("bias", "weight", "running_mean", "running_var"):
                state[f"{norm}.{part}"] = take(rows)
        else:
            state[f"{name}.bias"] = take(rows)
        state[f"{name}.weight"] = take(rows, *conv.weight.shape[1:])
    if at != len(values):
        raise UserError(f"{shown(path)} does not fit this network: {len(values) - at} numbers are left over. "
                        "Is it the file of another network?")
    return state


def darknet_numbers(path):
    """All float32 of a darknet weight file, without its header."""
    if not path.is_file():
        raise UserError(f"There is no weight file {shown(path)}.")
    refuse_web_page(path)
    raw = path.read_bytes()
    if len(raw) < 20:
        raise UserError(f"{shown(path)} is not a darknet weight file ({len(raw)} bytes): download it again.")
    major, minor = np.frombuffer(raw, "<i4", 2)
    start = 20 if major * 10 + minor >= 2 else 16
    whole = (len(raw) - start) // 4 * 4                 # a cut file may end within a number
    return torch.from_numpy(np.frombuffer(raw[start:start + whole], "<f4").copy())


def convolutions(model):
    """-> list of (name, convolution, name of the BatchNorm right behind it or None), in the model's order."""
    modules = [(name, m) for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
    convs = []
    for (name, module), (following, after) in zip(modules, [*modules[1:], ("", None)]):
        if isinstance(module, nn.Conv2d):
            convs.append((name, module, following if isinstance(after, nn.BatchNorm2d) else None))
    return convs


def head_outputs(model, convs, count):
    """Output channels of the heads in a darknet file of `count` numbers.

    They are A(5 + K'), with the number of classes K' that makes the length fit; if none does, the model's.
    """
    heads = [conv for _, conv, norm in convs if norm is None]
    per_output = sum(conv.weight[0].numel() + 1 for conv in heads)
    body = sum(conv.out_channels * (conv.weight[0].numel() + 4) for _, conv, norm in convs if norm)
    anchors = heads[0].out_channels // (5 + model.num_classes)
    outputs, rest = divmod(count - body, per_output)
    possible = rest == 0 and outputs > 0 and outputs % anchors == 0
    return outputs if possible else heads[0].out_channels
