"""Every network learns eight pictures by heart (python -m pytest -m slow)."""
import pytest
import torch

import nets
from tools.make_shapes import CLASSES, make_shapes
from utils import fit
from utils.dataset import DetectionData, SegmentationData, make_loader
from utils.evaluate import evaluate, to_device
from utils.voc import find_images, parse_xml, write_list
from utils.voc_masks import write_mask_list

OPTIONS = {"deeplabv3": {"backbone": "mobilenet_v3_large"}, "pspnet": {"backbone": "mobilenet_v2"}}      # two cores, some minutes


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    folder = make_shapes(tmp_path_factory.mktemp("set") / "Shapes", train=8, val=1, test=1)
    names = (folder / "ImageSets" / "Main" / "train.txt").read_text().split()
    images, records = find_images(folder / "JPEGImages"), []
    for name in names:
        things = parse_xml(folder / "Annotations" / f"{name}.xml")
        records.append((images[name], [[*thing["box"], CLASSES.index(thing["name"]), thing["difficult"]] for thing in things]))
    write_list(folder / "list.txt", records)
    write_mask_list(folder / "masks.txt", [(images[name], folder / "SegmentationClass" / f"{name}.png") for name in names])
    return folder / "list.txt"


@pytest.mark.slow
@pytest.mark.parametrize("name", nets.NETS)
def test_overfits_eight_pictures(name, eight):
    torch.manual_seed(0)
    segments = nets.NETS[name].task == "segmentation"
    shape = (96, 96) if segments else (224, 224)                        # the paper's U-Net needs 48 times the work of YOLOv4-tiny
    names = ["background", *CLASSES] if segments else CLASSES
    model = nets.build(name, len(names), shape, **OPTIONS.get(name, {}))
    lists, kind = (eight.with_name("masks.txt"), SegmentationData) if segments else (eight, DetectionData)
    data = kind(lists, names, shape)                                    # letterbox only: the same eight pictures every time
    loader, solver = make_loader(data, 8), fit.make_optimizer(model, "adamw", 1e-3, 0.9, 0.0)
    images, targets = to_device(*next(iter(loader)), torch.device("cpu"))
    for step in range(150):
        for group in solver.param_groups:
            group["lr"] = 1e-3 * fit.lr_factor(step, 150, 10, "cosine", 0.01)
        loss = sum(model(images, targets)[1].values())
        solver.zero_grad()
        loss.backward()
        solver.step()
    results, _, _ = evaluate(model, loader, torch.device("cpu"))
    assert results["miou" if segments else "map50"] >= 0.95
