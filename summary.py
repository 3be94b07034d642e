"""A walk through a network: every stage with its output shape, parameters and cost.

    python summary.py net=yolov4_tiny num_classes=80
"""
import utils  # noqa: F401, I001  first: it says in a sentence which package is missing, and answers --help
import torch
from torch import nn

import nets
from utils.settings import counted
from utils.settings import check, fill, read_settings, whole

# The network                                                                            网络
net = "yolov4_tiny"         # which network, see nets/__init__.py                           网络名称
net_options = {}            # its own options                                               网络自己的选项
num_classes = 80            # classes                                                       类别数
input_shape = None          # height, width; None: the network's default                    输入尺寸（高, 宽）

# The table                                                                              表格
depth = 2                   # how far to look inside: 1 parts, 2 stages, 9 all layers       展开的层数
language = "auto"           # what the scripts say: "auto" (as this computer), "en", "zh"   输出的语言


def main(s):
    """s: the settings above, with what a recipe or the command line changed."""
    check(s, num_classes=whole(1), depth=whole(1))
    fill(s, nets.find_net(s.net).recipe, f"recipe of {s.net}")
    model = nets.build(s.net, s.num_classes, s.input_shape, **s.net_options).eval()
    rows = walk(model, s.input_shape)

    print(f"{s.net}, {counted(s.num_classes, 'class')}, "
          f"one image of {s.input_shape[0]} x {s.input_shape[1]}\n")
    print_stages(rows, s.depth)
    print_total(model, rows)


def print_stages(rows, depth):
    """A line for every part of the network, indented by how deep inside it is."""
    print(f"{'stage':<34}{'output (channels, height, width)':<40}{'parameters':>12}{'GFLOPs':>9}")
    for name, shapes, parameters, flops in rows:
        level = name.count(".")
        if level < depth:
            title = "  " * level + name.rsplit(".", 1)[-1]
            print(f"{title:<34}{'  '.join(shapes):<40}{parameters:>12,}{flops / 1e9:>9.3f}")


def print_total(model, rows):
    """Parameters and FLOPs of the whole network."""
    # The outermost parts that ran: a ModuleList never runs, only what is in it.
    names = {name for name, *_ in rows}
    flops = sum(flops for name, _, _, flops in rows if not parents(name) & names)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"\n{parameters:,} parameters ({parameters * 4 / 2**20:.1f} MiB as float32), "
          f"{flops / 1e9:.2f} GFLOPs")
    print("A FLOP is one multiplication or one addition of a convolution or linear layer; "
          "papers that count both as one say half.")


def parents(name):
    """"head.0.conv" -> {"head", "head.0"}."""
    return {name[:i] for i, letter in enumerate(name) if letter == "."}


@torch.inference_mode()
def walk(model, shape):
    """Run one empty image of shape (H, W) through the model.

    -> list of (name, output shapes as text, parameters, FLOPs of everything inside),
    in the order of the run, a part before its insides.
    """
    flops, shapes, order = {}, {}, []

    def before(name):
        def hook(module, inputs):
            if name not in shapes:
                order.append(name)
                shapes[name] = ()
        return hook

    def after(name):
        def hook(module, inputs, output):
            tensors = output if isinstance(output, (list, tuple)) else [output]
            shapes[name] = [" x ".join(map(str, t.shape[1:])) for t in tensors if isinstance(t, torch.Tensor)]
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
                flops[name] = flops.get(name, 0) + layer_flops(module, inputs[0], output)
        return hook

    # PyTorch calls the one hook when a part begins and the other one when it has its output.
    hooks = []
    for name, module in model.named_modules():
        if name:
            hooks += [module.register_forward_pre_hook(before(name)),
                      module.register_forward_hook(after(name))]
    model(torch.zeros(1, 3, *shape))
    for hook in hooks:
        hook.remove()

    # A part costs what the layers in it cost.
    rows = []
    modules = dict(model.named_modules())
    for name in order:
        parameters = sum(p.numel() for p in modules[name].parameters())
        inside = sum(cost for layer, cost in flops.items() if (layer + ".").startswith(name + "."))
        rows.append((name, shapes[name], parameters, inside))
    return rows


def layer_flops(module, image, output):
    """Multiplications and additions of a convolution or linear layer for one image."""
    if isinstance(module, nn.ConvTranspose2d):              # every input value is spread over a kernel
        return 2 * image.numel() * module.weight.shape[1:].numel()
    return 2 * output.numel() * module.weight[0].numel()    # every output value is gathered from a kernel


if __name__ == "__main__":
    main(read_settings(globals()))
