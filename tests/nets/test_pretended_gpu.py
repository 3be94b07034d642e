"""Every network runs on a pretended GPU, from forward to NMS and through a step; what is forgotten shows."""
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from one_step import take_step
from pretended_gpu import OnGPU, pretended_gpu
from small_nets import every_day, make_targets, make_thin, small
from torch.overrides import TorchFunctionMode

import nets
from utils import steps
from utils.boxes import nms
from utils.checkpoint import save_checkpoint
from utils.dataset import DetectionData, SegmentationData, make_loader
from utils.evaluate import detect, evaluate, segment, to_device
from utils.formats.shapes import CLASSES, make_shapes
from utils.formats.voc_folder import find_images
from utils.formats.voc_xml import read_annotation
from utils.lists import write_list, write_mask_list

REFUSED = "Expected all tensors to be on the same device"


@pytest.fixture(autouse=True)
def thin(monkeypatch):
    make_thin(monkeypatch)


@pytest.fixture
def gpu():
    with pretended_gpu() as device:
        yield device


def on(device, model, shape, *counts):
    """A small network with pictures and targets, all on the device as train.py brings them there."""
    images = (torch.rand(len(counts), 3, *shape) * 255).byte()
    return model.to(device), *to_device(images, make_targets(model.task, shape, *counts), device)


def all_on_gpu(tensors):
    return all(isinstance(tensor, OnGPU) for tensor in tensors)


# Every network

@pytest.mark.parametrize("name", every_day(nets.NETS))
def test_a_training_step(name, gpu):
    """train.step itself: forward, losses, backward, clipping, optimizer, average. All stay there."""
    model, shape = small(name)
    model.to(gpu)
    steps.set_frozen(model, False)
    average = steps.MovingAverage(model)
    solver = steps.make_optimizer(model, model.recipe["optimizer"], 1e-3, 0.9, 1e-4)

    # pictures and targets come from the CPU, as a loader gives them
    before = [p.detach().cpu().clone() for p in model.parameters()]
    images = (torch.rand(2, 3, *shape) * 255).byte()
    off = torch.amp.GradScaler("cpu", enabled=False)
    gradients, losses = take_step(model, images, make_targets(model.task, shape, 3, 20), solver=solver, scaler=off, average=average, device=gpu)

    # where everything is, and that it moved
    assert losses and all_on_gpu(losses.values()) and all_on_gpu(gradients.values())
    assert all(math.isfinite(float(value)) for value in losses.values())
    assert all_on_gpu(model.state_dict().values()) and all_on_gpu(average.model.state_dict().values())
    assert any((old != new.detach().cpu()).any() for old, new in zip(before, model.parameters()))


@pytest.mark.parametrize("name", nets.NETS)
def test_validation_and_decoding(name, gpu):
    """In eval mode, with losses, with and without objects; then decoding and NMS."""
    model, images, targets = on(gpu, *small(name), 5)
    with torch.inference_mode():
        outputs, losses = model.eval()(images, targets)
        without = model(images, to_device(images, make_targets(model.task, images.shape[2:], 0), gpu)[1])[1]
        decoded = model.decode(outputs)
    assert all_on_gpu([*losses.values(), *without.values()])

    # a segmenter's scores are its result
    if model.task == "segmentation":
        assert all_on_gpu([decoded])
        return
    found = nms(*decoded, 0.0, 0.5, 10)
    assert all_on_gpu(decoded) and len(found) == 1 and all_on_gpu(found[0].values())


@pytest.mark.parametrize("name", ["yolov4_tiny", "deeplabv3"])
def test_the_same_numbers(name):
    """What is computed there is what the CPU computes, to the last bit."""
    model, shape = small(name)
    images, targets = torch.rand(2, 3, *shape), make_targets(model.task, shape, 3, 20)
    torch.manual_seed(2)                                    # for the dropout
    expected = model(images, targets)[1]
    sum(expected.values()).backward()
    with pretended_gpu() as device:
        other, _ = small(name)
        other.to(device)
        torch.manual_seed(2)
        losses = other(images.to(device), [{k: v.to(device) for k, v in t.items()} for t in targets])[1]
        sum(losses.values()).backward()
    assert {k: v.item() for k, v in losses.items()} == {k: v.item() for k, v in expected.items()}
    pairs = zip(model.parameters(), other.parameters())
    assert all(torch.equal(p.grad, q.grad.inner) for p, q in pairs if p.grad is not None)


# Evaluation and prediction

@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """List files of three drawn pictures: their boxes, their masks."""
    folder = make_shapes(tmp_path_factory.mktemp("set") / "Shapes", train=3, val=1, test=1)
    names = (folder / "ImageSets" / "Main" / "train.txt").read_text().split()
    images, records = find_images(folder / "JPEGImages"), []
    for name in names:
        things, _ = read_annotation(folder / "Annotations" / f"{name}.xml")
        boxes = [[*thing["box"], CLASSES.index(thing["name"]), thing["difficult"]] for thing in things]
        records.append((images[name], boxes))
    write_list(folder / "boxes.txt", records)
    masks = [(images[name], folder / "SegmentationClass" / f"{name}.png") for name in names]
    write_mask_list(folder / "masks.txt", masks)
    return {"detection": folder / "boxes.txt", "segmentation": folder / "masks.txt"}


@pytest.mark.parametrize("name", ["yolov4_tiny", "faster_rcnn", "deeplabv3"])
def test_evaluation(name, lists, gpu):
    """It gives the numbers that it gives on the CPU."""
    detection = nets.NETS[name].task == "detection"
    classes = list(CLASSES) if detection else ["background", *CLASSES]
    model, shape = small(name, len(classes))
    kind = DetectionData if detection else SegmentationData
    loader = make_loader(kind(lists[model.task], classes, shape), 2, 0)
    torch.manual_seed(2)                                    # for the samples of Faster R-CNN
    expected = evaluate(model, loader, torch.device("cpu"))
    torch.manual_seed(2)
    results, losses, _ = evaluate(model.to(gpu), loader, gpu)
    assert str(results) == str(expected[0]) and losses == expected[1]


@pytest.mark.parametrize("name", ["retinanet", "yolov8"])
def test_prediction(name, tmp_path, gpu):
    """As predict.py does it: a checkpoint, loaded onto the GPU."""
    model, shape = small(name)
    path = tmp_path / "best.pth"
    save_checkpoint(path, model=model.state_dict(), net=name, options={}, class_names=["a", "b", "c"],
                    input_shape=list(shape), settings={}, epoch=1)
    loaded, _ = nets.load(path, gpu)
    assert all_on_gpu(loaded.state_dict().values())
    found = detect(loaded, [np.zeros((50, 70, 3), np.uint8)], shape, 0.0, 0.5, 20)
    assert isinstance(found[0]["boxes"], np.ndarray)


@pytest.mark.parametrize("how", [{}, {"flip": True, "scales": (1.0, 0.5)}, {"slide": True}])
def test_prediction_of_masks(how, gpu):
    model, shape = small("deeplabv3")
    found = segment(model.eval().to(gpu), [np.zeros((90, 130, 3), np.uint8)], shape, **how)
    assert found[0]["labels"].shape == (90, 130) and isinstance(found[0]["best"], np.ndarray)


# What it sees: in a small network, and in the networks themselves

@pytest.mark.parametrize("forgotten", {
    "anchors of the CPU": lambda x: x + torch.rand(4),
    "arange without a device": lambda x: x * torch.arange(4),
    "the same, written into": lambda x: x.clone().add_(torch.ones(4)),
    "a mask of the CPU": lambda x: torch.where(torch.ones(3, 4, dtype=torch.bool), x, 0.0),
    "a mask, filled": lambda x: x.masked_fill(torch.ones(3, 4, dtype=torch.bool), 0.0),
    "a choice of the CPU": lambda x: torch.where(x > 0, x, torch.zeros(3, 4)),
    "joined": lambda x: torch.cat([x, torch.zeros(1, 4)]),
    "single values, joined": lambda x: torch.stack([x.sum(), torch.tensor(0.0)]),
    "gathered": lambda x: x.gather(1, torch.zeros(3, 1, dtype=torch.int64)),
    "scattered": lambda x: x.scatter(1, torch.zeros_like(x, dtype=torch.int64), torch.ones(3, 4)),
    "selected": lambda x: x.index_select(0, torch.tensor([0])),
    "values at indices": lambda x: x.clone().index_put_((torch.tensor([0, 1]),), torch.ones(2, 4)),
    "indices of the GPU into the CPU": lambda x: torch.zeros(3)[(x[0] * 0).long()],
    "weights of the CPU": lambda x: x @ torch.ones(4, 2),
    "a layer of the CPU": lambda x: torch.nn.Linear(4, 2)(x),
    "a target of the CPU": lambda x: F.binary_cross_entropy_with_logits(x, torch.ones(3, 4)),
    "labels of the CPU": lambda x: F.cross_entropy(x, torch.tensor([0, 1, 2])),
    "a single value as a limit": lambda x: x.clamp(max=torch.tensor(1.0)),
    "a sum that began on the CPU": lambda x: torch.zeros(()).add_(x.sum()),
}.items(), ids=lambda pair: pair[0])
def test_what_cuda_refuses(forgotten, gpu):
    x = torch.rand(3, 4).to(gpu).requires_grad_()
    with pytest.raises(RuntimeError, match=REFUSED):
        forgotten[1](x)


@pytest.mark.parametrize("allowed", {
    "a single value": lambda x: x * torch.tensor(2.0),
    "a single value first": lambda x: torch.tensor(2.0) - x,
    "a choice between": lambda x: torch.where(x > 0, x, torch.tensor(0.0)),
    "a single value, filled in": lambda x: x.masked_fill(x > 0, torch.tensor(0.0)),
    "indices of the CPU": lambda x: x[torch.tensor([2, 0])],
    "a mask of the CPU as an index": lambda x: x[torch.tensor([True, False, True])],
    "a single value at indices": lambda x: x.clone().index_put_((torch.tensor([0, 1]),), torch.tensor(1.0)),
    "a copy into a slice": lambda x: x.clone()[0].copy_(torch.ones(4)),
    "numbers": lambda x: x * float(x.detach().sum()) + int(x.sum() > 0) + x.tolist()[0][0],
    "a tensor made there": lambda x: x + torch.tensor([1.0, 2, 3, 4], device=x.device),
    "a tensor like it": lambda x: x + x.new_tensor([1.0, 2, 3, 4]),
    "made of its values": lambda x: x + torch.tensor([*x[0].detach()], device=x.device),
    "moved": lambda x: x + torch.ones(4).to(x),
}.items(), ids=lambda pair: pair[0])
def test_what_cuda_allows(allowed, gpu):
    result = allowed[1](torch.rand(3, 4).to(gpu).requires_grad_())
    assert isinstance(result, OnGPU) and result.device.type == gpu.type


def test_the_way_back(gpu):
    """.cpu() gives an ordinary tensor; without it NumPy is refused, as CUDA refuses it. Printing works."""
    x = torch.rand(3).to(gpu)
    assert type(x.cpu()) is torch.Tensor and x.cpu().numpy().tolist() == x.tolist()
    assert f"{x.sum():.3f}" == f"{x.sum().item():.3f}" and "GPU" in repr(x)
    for wrong in (lambda: x.numpy(), lambda: np.asarray(x), lambda: np.array(x), lambda: np.stack([x, x])):
        with pytest.raises(TypeError):
            wrong()


def test_nothing_stays_behind():
    before = torch.inference_mode.__enter__
    with pretended_gpu():
        pass
    assert torch.inference_mode.__enter__ is before
    with torch.inference_mode():
        assert torch.ones(1).is_inference()


class WithoutDevice(TorchFunctionMode):
    """Forgets device= in calls of one function."""

    def __init__(self, function):
        super().__init__()
        self.function, self.times = function, 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is self.function and kwargs.pop("device", None) is not None:
            self.times += 1
        return func(*args, **kwargs)


@pytest.mark.parametrize("name, function", [
    ("yolov4_tiny", "arange"), ("yolox", "arange"), ("yolov8", "arange"), ("retinanet", "arange"),
    ("faster_rcnn", "arange"), ("ssd300", "tensor"), ("deeplabv3", "tensor")])
def test_a_forgotten_device_is_seen(name, function, gpu):
    """device= left out in a network's file, or in what it uses: places of cells, the mean of the colours."""
    model, images, targets = on(gpu, *small(name), 3)
    with WithoutDevice(getattr(torch, function)) as forgetful, pytest.raises(RuntimeError, match=REFUSED):
        model.decode(model.eval()(images, targets)[0])
    assert forgetful.times


@pytest.mark.parametrize("name", ["deeplabv3", "pspnet"])
def test_masks_that_were_not_moved_are_seen(name, gpu):
    """The detectors bring their targets to the device themselves."""
    model, images, _ = on(gpu, *small(name), 3)
    with pytest.raises(RuntimeError, match=REFUSED):
        model(images, make_targets(model.task, tuple(images.shape[2:]), 3))


def test_buffers_that_were_not_moved_are_seen(gpu):
    """A plain attribute of a module does not follow .to(device), as a buffer does."""
    class Forgetful(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.anchors = torch.rand(4)

        def forward(self, x):
            return x + self.anchors

    with pytest.raises(RuntimeError, match=REFUSED):
        Forgetful().to(gpu)(torch.rand(3, 4).to(gpu))
