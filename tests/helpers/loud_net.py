"""A small detector with random weights that finds something, as a file of train.py."""
import torch
from small_nets import small

from utils.checkpoint import save_checkpoint


def save_loud(path, name="yolox"):
    """A small detector with random weights that finds something: no two boxes have the same score, as in a trained one."""
    model, shape = small(name)
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(4, 3, *shape))                 # its BatchNorms see pictures
        for part, parameter in model.named_parameters():
            if part.endswith("bias") and parameter.mean() < -2:
                parameter.zero_()                           # what speaks against every object at first
                dict(model.named_parameters())[part.replace("bias", "weight")].mul_(20)
    options = {"size": "nano"} if name == "yolox" else {}
    settings = {"fit": "letterbox", "value_range": None, "test_list": "", "epochs": 3}
    save_checkpoint(path, net=name, options=options, class_names=["猫", "a b", "c"], input_shape=list(shape), epoch=1, settings=settings,
                    model=model.state_dict())
    return path
