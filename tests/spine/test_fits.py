"""How a picture meets the network's input: letterboxed, stretched, or by its short side; and the way back."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from utils.augment import Augmentation
from utils.dataset import DetectionData, collate, make_loader
from utils.errors import UserError
from utils.evaluate import choose_input, collect, detect
from utils.images import FITS, GREY, MEAN, fit_image, fitted_size, from_input, resize, stack, to_input
from utils.lists import write_list
from utils.settings import Settings

SIZES = [(1, 1), (1, 1000), (2000, 1), (37, 53), (53, 37), (416, 416), (333, 500), (1200, 900), (120, 700)]     # (h, w)
SHAPES = [(416, 416), (224, 320)]


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", SIZES)
def test_there_and_back(size, shape, fit):
    """A box comes back exactly, the picture lies exactly where the transform says, and the padding's colour stands beside it."""
    canvas, transform = fit_image(np.full((*size, 3), 250, np.uint8), shape, fit)
    height, width = size
    boxes = np.array([[0, 0, width, height], [0.25 * width, 0.1 * height, 0.5 * width, 0.9 * height], [0, 0, 0.1 * width, 0.1 * height]], np.float32)
    inside = to_input(boxes, transform)
    assert np.abs(from_input(inside, transform, size) - boxes).max() <= 1e-3
    shown = np.nonzero((canvas == 250).all(2))
    edges = shown[1].min(), shown[0].min(), shown[1].max() + 1, shown[0].max() + 1
    assert edges == pytest.approx(tuple(inside[0]), abs=1e-3)
    beside = np.ones(canvas.shape[:2], bool)
    beside[edges[1]:edges[3], edges[0]:edges[2]] = False
    assert (canvas[beside] == (MEAN if fit == "short_side" else GREY)).all()
    if fit == "short_side":
        assert edges[:2] == (0, 0) and canvas.shape[0] % 32 == canvas.shape[1] % 32 == 0
        assert 0 <= canvas.shape[0] - edges[3] < 32 and 0 <= canvas.shape[1] - edges[2] < 32
        short, long = sorted(edges[2:])
        assert short in (shape[0] - 1, shape[0]) and long <= shape[1] or long in (shape[1] - 1, shape[1]) and short <= shape[0]
    elif fit == "rect":
        assert canvas.shape[0] % 32 == canvas.shape[1] % 32 == 0
        grey = canvas.shape[0] - edges[3] + edges[1], canvas.shape[1] - edges[2] + edges[0]
        assert max(grey) < 32 and edges[:2] == (grey[1] // 2, grey[0] // 2)
    else:
        assert canvas.shape == (*shape, 3) and (fit == "letterbox" or not beside.any())


@pytest.mark.parametrize("size", SIZES)
def test_rect_is_letterbox_with_less_grey(size):
    """1280 x 720 at 640 meets 640 x 384; the picture in it is the same to the pixel."""
    assert fit_image(np.zeros((720, 1280, 3), np.uint8), (640, 640), "rect")[0].shape == (384, 640, 3)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    whole, (*scale, left, top) = fit_image(image, (224, 320))
    tight, (*same, new_left, new_top) = fit_image(image, (224, 320), "rect")
    height, width = fitted_size(*size, (224, 320))
    assert scale == same and (whole[top:top + height, left:left + width] == tight[new_top:new_top + height, new_left:new_left + width]).all()


def test_stretched_twice_is_stretched_once():
    """A picture that was made smaller when it was read is not resized again, so evaluation sees what predict sees."""
    stream = np.random.RandomState(0)
    for size in ((300, 500), (500, 100), (60, 800)):
        image = stream.randint(0, 255, (*size, 3)).astype(np.uint8)
        for fit in FITS:
            direct, transform = fit_image(image, (224, 224), fit)
            small = resize(image, *fitted_size(*size, (224, 224), fit))
            canvas, same = fit_image(small, (224, 224), fit, size)
            assert (canvas == direct).all() and same == transform


def test_short_side_is_that_of_torchvision():
    """Sizes, padding and the way back, on many sizes."""
    assert fitted_size(480, 640, (800, 1333), "short_side") == (800, 1066)
    assert fitted_size(500, 334, (800, 1333), "short_side") == (1197, 799)
    assert fitted_size(500, 334, (1333, 800), "short_side") == (1197, 799)
    stream, theirs = np.random.RandomState(1), GeneralizedRCNNTransform(80, 133, [0.0] * 3, [1.0] * 3).eval()
    sizes = [(int(h), int(w)) for h, w in stream.randint(20, 400, (60, 2))]
    for size in sizes:
        images, _ = theirs([torch.zeros(3, *size)])
        canvas, transform = fit_image(np.zeros((*size, 3), np.uint8), (80, 133), "short_side")
        assert fitted_size(*size, (80, 133), "short_side") == tuple(images.image_sizes[0]) and canvas.shape[:2] == images.tensors.shape[2:]
        box = [[3.0, 5.0, 40.0, 60.0]]
        back = theirs.postprocess([{"boxes": torch.tensor(box)}], images.image_sizes, [size])[0]["boxes"]
        assert np.abs(from_input(np.array(box, np.float32), transform) - back.numpy()).max() < 1e-3
    batch, _ = theirs([torch.zeros(3, *size) for size in sizes[:7]])
    assert stack([fit_image(np.zeros((*size, 3), np.uint8), (80, 133), "short_side")[0] for size in sizes[:7]]).shape[1:3] == batch.tensors.shape[2:]


def test_stack_pads_to_the_right_and_below():
    first, second = np.full((32, 64, 3), 9, np.uint8), np.full((64, 32, 3), 7, np.uint8)
    assert (stack([first, second], GREY)[0, 32:] == GREY).all()
    batch = stack([first, second])
    assert batch.shape == (2, 64, 64, 3) and (batch[0, :32] == 9).all() and (batch[1, :, :32] == 7).all()
    assert (batch[0, 32:] == MEAN).all() and (batch[1, :, 32:] == MEAN).all()
    assert np.abs(np.array(MEAN) / 255 - (0.485, 0.456, 0.406)).max() < 0.003             # about 0 once normalised
    samples = [(torch.from_numpy(image).permute(2, 0, 1), {"index": i}) for i, image in enumerate((first, second))]
    images, targets = collate(samples)
    assert images.is_contiguous(memory_format=torch.channels_last) and (images.permute(0, 2, 3, 1).numpy() == batch).all()
    assert [t["index"] for t in targets] == [0, 1]


class Bright(nn.Module):
    """A detector without training: what is bright in a picture is one object; and the whole input is another."""

    task, stride, recipe = "detection", 32, {"nms_iou": 0.45}

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images, targets=None):
        self.shape = tuple(images.shape[2:])
        return images, {} if targets is None else {"box": (images.sum() * 0 + 2).float()}

    def decode(self, images):
        boxes = []
        for image in images:
            rows, columns = torch.nonzero(image[0] > 0.7, as_tuple=True)
            boxes.append([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], [0, 0, image.shape[2], image.shape[1]]])
        return torch.tensor(boxes).float(), torch.tensor([[[0.9, 0.0], [0.0, 0.8]]] * len(images))


PLACES = {"landscape": ((120, 300), (200, 30, 260, 80)), "portrait": ((300, 120), (30, 200, 80, 260)), "small": ((30, 44), (10, 6, 34, 20)),
          "top left": ((200, 260), (0, 0, 60, 50)), "bottom right": ((260, 200), (140, 200, 200, 260)), "a line": ((4, 400), (100, 0, 300, 4))}


def bright_picture(name):
    size, (x1, y1, x2, y2) = PLACES[name]
    image = np.full((*size, 3), 90, np.uint8)
    image[y1:y2, x1:x2] = 255
    return image


def check_found(name, found, transform):
    """The bright object at its place, to a pixel of the input; the other box is the whole picture, however the input looks."""
    size, box = PLACES[name]
    assert found["labels"].tolist() == [0, 1] and found["boxes"].dtype == np.float32
    pixel = np.maximum(1 / np.array([transform[0], transform[1]] * 2), 0.01)
    assert (np.abs(found["boxes"][0] - box) <= 1.01 * pixel).all()
    assert found["boxes"][1] == pytest.approx([0, 0, size[1], size[0]], abs=1e-3)


@pytest.mark.parametrize("fit", FITS)
def test_what_is_found_lies_where_it_is_in_the_picture(fit):
    """Pictures of all forms in one batch."""
    model = Bright()
    found = detect(model, [bright_picture(name) for name in PLACES], (96, 160), 0.1, fit=fit)
    for name, one in zip(PLACES, found):
        check_found(name, one, fit_image(bright_picture(name), (96, 160), fit)[1])
    assert model.shape == ((160, 160) if fit == "short_side" else (96, 160))


@pytest.fixture(scope="module")
def list_path(tmp_path_factory):
    folder, records = tmp_path_factory.mktemp("bright 亮"), []
    for name in PLACES:
        Image.fromarray(bright_picture(name)).save(folder / f"{name}.png")
        records.append((folder / f"{name}.png", [[*PLACES[name][1], 0, 0]]))
    write_list(folder / "list.txt", records)
    return folder / "list.txt"


@pytest.mark.parametrize("fit", FITS)
def test_evaluation_is_what_predict_sees(list_path, fit):
    """The same pixels, truths at the objects, detections back in the pictures, through the loader and its batches."""
    data = DetectionData(list_path, ["a", "b"], (96, 160), fit=fit)
    for index, name in enumerate(PLACES):
        image, target = data[0, index]
        expected, transform = fit_image(bright_picture(name), (96, 160), fit)
        assert (image.permute(1, 2, 0).numpy() == expected).all() and target["transform"] == transform
        assert np.abs(from_input(target["boxes"].numpy(), transform) - PLACES[name][1]).max() < 1e-3
    found, truths, losses = collect(Bright(), make_loader(data, 4, 0), "cpu", 0.1)
    for index, name in enumerate(PLACES):
        check_found(name, found[index], fit_image(bright_picture(name), (96, 160), fit)[1])
        assert truths[index]["boxes"].tolist() == [list(PLACES[name][1])]
    assert losses["box"] == 2


def test_the_recipe_says_which_boxes_are_one_object(list_path, monkeypatch):
    """Two boxes with an IoU of 0.47 are one object at 0.45, and two at 0.5; where nothing is said, the recipe's number counts."""
    data = DetectionData(list_path, ["a", "b"], (96, 160), fit="stretch")
    monkeypatch.setattr(Bright, "decode", lambda self, images: (torch.tensor([[[0.0, 0, 100, 96], [0, 0, 47, 96]]] * len(images)),
                                                                torch.tensor([[[0.9, 0.0], [0.8, 0.0]]] * len(images))))
    for recipe, count in ((0.45, 1), (0.5, 2)):
        monkeypatch.setitem(Bright.recipe, "nms_iou", recipe)
        for given, expected in ((None, count), (0.45, 1), (0.5, 2)):
            assert len(detect(Bright(), [bright_picture("small")], (96, 160), 0.1, given)[0]["boxes"]) == expected
            assert len(collect(Bright(), make_loader(data, 4, 0), "cpu", 0.1, given)[0][0]["boxes"]) == expected


def test_training_wants_one_size(list_path):
    with pytest.raises(UserError, match=r"training needs one for all.*get_map.py and predict.py"):
        DetectionData(list_path, ["a"], (800, 1333), augmentation=Augmentation(), fit="short_side")
    with pytest.raises(UserError, match='fit="rect" gives every picture'):
        DetectionData(list_path, ["a"], (96, 160), augmentation=Augmentation(), fit="rect")
    with pytest.raises(UserError, match='"strech" is not known. Did you mean "stretch"'):
        DetectionData(list_path, ["a"], (96, 96), fit="strech")


def choose(step=32, settings=None, tight=False, **variables):
    s = Settings({"input_shape": None, "fit": None, "nms_iou": None} | variables, "script")
    info = {"net": "bright", "options": {"downsample_factor": step}, "input_shape": [96, 160], "settings": settings or {}}
    choose_input(s, Bright(), info, tight)
    return s


def test_scripts_take_the_input_of_the_training():
    plain = choose()
    assert (plain.input_shape, plain.fit, plain.nms_iou) == ((96, 160), "letterbox", 0.45)
    assert plain.origin == {"input_shape": "as trained", "fit": "as trained", "nms_iou": "recipe of bright"}
    assert choose(settings={"fit": "stretch"}).fit == "stretch"
    other = choose(input_shape=64, fit="short_side", nms_iou=1, settings={"fit": "stretch"})
    assert (other.input_shape, other.fit, other.nms_iou) == ((64, 64), "short_side", 1.0)
    assert choose(input_shape=(800, 1333), fit="short_side").input_shape == (800, 1333)


def test_prediction_leaves_out_the_grey_where_it_can(monkeypatch):
    assert choose(tight=True).fit == "rect" and choose(tight=True, fit="letterbox").fit == "letterbox"
    assert choose(tight=True, settings={"fit": "stretch"}).fit == "stretch"
    monkeypatch.setattr(Bright, "stride", 1)                                    # as SSD, whose boxes are shares of the input
    assert choose(tight=True).fit == "letterbox"


@pytest.mark.parametrize("variables, sentence", [
    ({"input_shape": (100, 160)}, r"\(100, 160\): bright cannot take this size. The nearest is \(96, 160\)"),
    ({"input_shape": (0, 160)}, "1 or more"), ({"input_shape": (1, 2, 3)}, "2 values"),
    ({"fit": "short"}, 'Did you mean "short_side"'), ({"fit": 3}, "expected text"),
    ({"fit": "short_side", "step": 300}, r"cannot take all of these \(the smallest are 300 x 300\)")])
def test_inputs_that_cannot_be(variables, sentence):
    with pytest.raises(UserError, match=sentence):
        choose(**variables)
