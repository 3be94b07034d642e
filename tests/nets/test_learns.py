"""Networks learn eight pictures by heart (python -m pytest -m slow)."""
import math

import pytest
import torch

import nets
from tools.make_shapes import CLASSES, make_shapes
from utils.dataset import DetectionData, SegmentationData, make_loader
from utils.evaluate import evaluate, to_device
from utils.formats.voc_folder import find_images
from utils.formats.voc_xml import read_annotation
from utils.lists import write_list, write_mask_list
from utils.miou import count_confusion, segmentation_results
from utils.steps import lr_factor, make_optimizer

# where a detector needs something else than an input of 224, a learning rate of 0.001, 150 steps and its usual options
SPECIAL = {"ssd300": {"side": 268, "lr": 5e-4, "steps": 30, "batch_norm": True},       # 1.0; VGG: eight minutes
           "ssd512": {"side": 268, "lr": 5e-4, "steps": 30, "batch_norm": True},
           "ssdlite320_mobilenet_v3": {"side": 128, "steps": 300},                     # BatchNorm with momentum 0.03 needs the steps
           "retinanet": {"side": 128, "lr": 3e-4, "steps": 120, "clip": 10.0, "anchor_sizes": (16, 32, 64, 128, 256)},      # 0.994, as train.py clips
           "faster_rcnn": {"side": 128, "lr": 3e-4, "steps": 100, "anchor_sizes": (8, 16, 32, 64, 128),          # 1.0
                           "proposals": (300, 100), "samples": 64},
           "centernet": {"side": 128},
           "efficientdet": {"side": 128, "lr": 3e-3, "steps": 300, "clip": 10.0},     # BatchNorm with momentum 0.01 needs the steps
           "yolov3": {"side": 128, "clip": 10.0},                                      # 1.0
           "yolov4": {"side": 96, "steps": 120, "clip": 10.0},                         # 0.989
           "yolox": {"side": 128, "lr": 3e-3, "steps": 300, "size": "nano"},       # 0.995; BatchNorm with momentum 0.03 needs the steps
           "yolo11": {"steps": 300}, "yolov8": {"steps": 300}}                                                                     # 1.0; the same
SLOW_LEARNERS = ("detr", "rtdetr")                          # thousands of steps, hours on one core: not in this test
DETECTORS = [name for name, network in nets.NETS.items() if network.task == "detection" and name not in SLOW_LEARNERS]


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    folder = make_shapes(tmp_path_factory.mktemp("set") / "Shapes", train=8, val=1, test=1)
    names = (folder / "ImageSets" / "Main" / "train.txt").read_text().split()
    images, records = find_images(folder / "JPEGImages"), []
    for name in names:
        things, _ = read_annotation(folder / "Annotations" / f"{name}.xml")
        records.append((images[name], [[*thing["box"], CLASSES.index(thing["name"]), thing["difficult"]] for thing in things]))
    write_list(folder / "list.txt", records)
    write_mask_list(folder / "masks.txt", [(images[name], folder / "SegmentationClass" / f"{name}.png") for name in names])
    return folder / "list.txt"


def learn(model, data, lr=1e-3, steps=150, clip=math.inf):
    """So many steps on the same eight pictures. -> images, targets, loader."""
    loader, solver = make_loader(data, 8), make_optimizer(model, "adamw", lr, 0.9, 0.0)
    images, targets = to_device(*next(iter(loader)), torch.device("cpu"))
    for step in range(steps):
        for group in solver.param_groups:
            group["lr"] = lr * lr_factor(step, steps, 10, "cosine", 0.01)
        loss = sum(model(images, targets)[1].values())
        solver.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        solver.step()
    return images, targets, loader


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_learns_eight_pictures(name, eight):
    torch.manual_seed(0)
    options = dict(SPECIAL.get(name, {}))
    side, lr, steps, clip = (options.pop(key, usual) for key, usual in (("side", 224), ("lr", 1e-3), ("steps", 150), ("clip", math.inf)))
    model = nets.build(name, len(CLASSES), (side, side), **options)
    _, _, loader = learn(model, DetectionData(eight, CLASSES, (side, side)), lr, steps, clip)     # letterbox only: the same pixels every time
    results, _, _ = evaluate(model, loader, torch.device("cpu"))
    assert results["map50"] >= 0.95


@pytest.mark.slow
def test_a_segmenter_learns_eight_pictures(eight):
    """Measured in the pixels of the input, which is what was learnt; 0.935 was seen."""
    torch.manual_seed(0)
    names = ["background", *CLASSES]
    model = nets.build("deeplabv3plus", len(names), (128, 128))
    images, targets, _ = learn(model, SegmentationData(eight.with_name("masks.txt"), names, (128, 128)))
    with torch.inference_mode():
        labels = model.eval().decode(model(images)[0]).argmax(1).byte().numpy()
    truths = torch.stack([target["mask"] for target in targets]).byte().numpy()
    matrix = sum(count_confusion(truth, found, len(names)) for truth, found in zip(truths, labels))
    assert segmentation_results(matrix, names)["miou"] >= 0.9
