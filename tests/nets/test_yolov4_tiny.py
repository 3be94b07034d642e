"""YOLOv4-tiny is the published network: parameters, darknet's outputs, darknet's files; its loss does what it says."""
from pathlib import Path

import darknet
import numpy as np
import pytest
import torch
from torchvision.ops import complete_box_iou_loss

import nets
from utils.errors import UserError
from utils.weights import load_weights

DATA = Path(__file__).parents[1] / "data" / "darknet"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("official") / "yolov4-tiny.weights"
    darknet.weight_file(path, nets.build("yolov4_tiny", 80), "yolov4_tiny")
    return path


@pytest.fixture(scope="module")
def outputs(weights):
    model = nets.build("yolov4_tiny", 80, (256, 320)).eval()
    load_weights(model, weights)
    images = torch.from_numpy(darknet.picture(256, 320)).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        heads, _ = model(images)
        return heads, *model.decode(heads)


def test_parameters():
    assert sum(p.numel() for p in nets.build("yolov4_tiny", 80).parameters()) == 6_056_606
    assert sum(p.numel() for p in nets.build("yolov4_tiny", 20).parameters()) == 6_056_606 - 180 * (512 + 1 + 256 + 1)


def test_objectness_begins_at_one_in_a_hundred():
    """In every head of the family; the other outputs begin near 0."""
    model = nets.build("yolov4_tiny", 3)
    for head in (model.head4, model.head5):
        bias = head[1].bias.detach().view(3, 8)
        assert torch.allclose(bias[:, 4].sigmoid(), torch.tensor(0.01)) and bias[:, [0, 1, 2, 3, 5, 6, 7]].abs().max() == 0
        assert 0 < head[1].weight.detach().std() < 0.02


def test_heads_equal_darknet(outputs):
    reference = np.load(DATA / "yolov4_tiny_256x320.npz")
    for head, name in zip(outputs[0], ("fine", "coarse")):
        assert reference[name].std() > 1
        assert np.abs(head.numpy().ravel()[::5] - reference[name]).max() <= 3e-5        # measured 2.0e-5; values spread over +-5


def test_decode_equals_darknet(outputs):
    """Each of darknet's detections (class, score, objectness, cx, cy, w, h relative) has a twin with the same class, score and box."""
    rows = np.load(DATA / "yolov4_tiny_256x320.npz")["detections"]
    boxes, scores = outputs[1][0].numpy() / [320, 256, 320, 256], outputs[2][0].numpy()
    layout = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
    assert (scores > rows[:, 1].min() - 5e-6).sum() == len(rows) == 2066
    for label, score, _, *box in rows:
        distance = np.abs(layout - box).max(1) + np.abs(scores[:, int(label)] - score)
        assert distance.min() < 5e-5          # a box of darknet is up to 6 pictures wide


def test_other_classes_keep_the_backbone(weights):
    model = nets.build("yolov4_tiny", 3)
    report = load_weights(model, weights)
    assert report.backbone == 1.0
    assert sorted({name.split(".")[0] for name, _, _ in report.different}) == ["head4", "head5"]
    assert "255, 512, 1, 1" in str(report) and "24, 512, 1, 1" in str(report)


def test_partial_file(tmp_path):
    """yolov4-tiny.conv.29 is the first 29 layers: 17 convolutions."""
    path = tmp_path / "yolov4-tiny.conv.29"
    model = nets.build("yolov4_tiny", 5)
    darknet.weight_file(path, model, "yolov4_tiny", stop=17)
    report = load_weights(model, path)
    assert report.backbone == 1.0 and not report.different
    assert {name.split(".")[0] for name in report.missing} == {"lateral", "head4", "head5"} and "head5.1.weight" in report.missing


@pytest.mark.parametrize("cut", [-4, -40_000, -2_000_000])
def test_broken_file(weights, tmp_path, cut):
    path = tmp_path / "broken.weights"
    path.write_bytes(weights.read_bytes()[:cut])
    with pytest.raises(UserError, match="does not fit this network"):
        load_weights(nets.build("yolov4_tiny", 80), path)


def targets(*boxes_and_labels):
    return [{"boxes": torch.tensor([row[:4] for row in rows], dtype=torch.float32).view(-1, 4),
             "labels": torch.tensor([row[4] for row in rows], dtype=torch.int64)} for rows in boxes_and_labels]


def test_assign():
    """A truth goes to its best anchor, in the cell of its centre: 30 x 30 fits 23,27 best (anchor 0 of the fine head)."""
    model = nets.build("yolov4_tiny", 2, (64, 96), assign_iou=1.0)
    maps = [(4, 6), (2, 3)]
    truth, prediction = model.assign(torch.tensor([[35.0, 17.0, 65.0, 47.0]]), maps)
    assert truth.tolist() == [0] and prediction.tolist() == [2 * 6 + 3]            # centre (50, 32): row 2, column 3
    truth, prediction = model.assign(torch.tensor([[0.0, 0.0, 81.0, 82.0]]), maps)  # the anchor that both heads have
    assert prediction.tolist() == [2 * 24 + 2 * 6 + 2, 3 * 24 + 0 * 6 + 1 * 3 + 1]
    model.assign_iou = 0.213
    assert len(model.assign(torch.tensor([[35.0, 17.0, 65.0, 47.0]]), maps)[0]) > 1


def test_right_predictions_cost_nothing():
    """Heads that say exactly what is there have (nearly) no loss; a wrong class, box or objectness costs in its own part only."""
    model = nets.build("yolov4_tiny", 3, (64, 64), assign_iou=1.0)
    heads = [torch.zeros(1, 24, 4, 4), torch.zeros(1, 24, 2, 2)]
    for head in heads:
        head.view(1, 3, 8, *head.shape[2:])[:, :, 4:] = -12.0
    cell = heads[0].view(3, 8, 4, 4)[0, :, 1, 2]                      # anchor 23,27, row 1, column 2: centre (40, 24)
    cell[:4] = 0.0
    cell[4], cell[7] = 12.0, 12.0
    truth = targets([[40 - 11.5, 24 - 13.5, 40 + 11.5, 24 + 13.5, 2]])
    losses = model.loss(heads, truth)
    assert all(0 <= float(v) < 1e-2 for v in losses.values()), losses
    for change, part in (((0, 2.0), "box"), ((4, -3.0), "objectness"), ((7, -3.0), "class")):
        wrong = [h.clone() for h in heads]
        wrong[0].view(3, 8, 4, 4)[0, change[0], 1, 2] = change[1]
        worse = {name for name, v in model.loss(wrong, truth).items() if float(v) > float(losses[name]) + 1e-2}
        assert worse == {part}


def test_neighbour_with_a_good_box_is_not_punished():
    model = nets.build("yolov4_tiny", 1, (64, 64), assign_iou=1.0)
    heads = [torch.full((1, 18, 4, 4), -12.0), torch.full((1, 18, 2, 2), -12.0)]
    for head in heads:
        head.view(1, 3, 6, *head.shape[2:])[:, :, :4] = 0.0
    truth = targets([[40 - 11.5, 24 - 13.5, 40 + 11.5, 24 + 13.5, 0]])
    heads[0].view(3, 6, 4, 4)[0, 4:, 1, 2] = 12.0
    before = float(model.loss(heads, truth)["objectness"])
    neighbour = heads[0].view(3, 6, 4, 4)[0, :, 1, 1]                 # the cell to the left, its box pushed onto the object
    neighbour[0], neighbour[4] = 20.0, 5.0                            # centre x = 16 + 16 (1.05 - 0.025) = 32.4: IoU 0.51
    assert float(model.loss(heads, truth)["objectness"]) > before + 4
    heads[0].view(3, 6, 4, 4)[1, 2:, 1, 2] = torch.tensor([np.log(23 / 37), np.log(27 / 58), 5.0, -12.0])    # another anchor, the same box
    both = float(model.loss(heads, truth)["objectness"])
    neighbour[4] = -12.0
    assert float(model.loss(heads, truth)["objectness"]) < before + 0.1 < both


def test_losses_are_means_over_the_images():
    torch.manual_seed(0)
    model = nets.build("yolov4_tiny", 3, (64, 64))
    heads = [torch.randn(1, 24, 4, 4), torch.randn(1, 24, 2, 2)]
    one = model.loss(heads, targets([[5, 5, 40, 40, 1]]))
    two = model.loss([h.repeat(2, 1, 1, 1) for h in heads], targets([[5, 5, 40, 40, 1]], [[5, 5, 40, 40, 1]]))
    assert all(float(one[name]) == pytest.approx(float(two[name]), rel=1e-5) for name in one)


def test_objects_on_the_border_stay_in_the_map():
    model = nets.build("yolov4_tiny", 1, (64, 64), assign_iou=1.0)
    truth, prediction = model.assign(torch.tensor([[50.0, 50, 78, 78], [-20, -20, 3, 7]]), [(4, 4), (2, 2)])      # centres 64, 64 and -8, -6
    assert prediction.tolist() == [15, 0]


def test_boxes_are_taught_by_ciou():
    """The box loss is YOLOv4's: 2 (1 - CIoU), here torchvision's, of the predictions that assign names."""
    torch.manual_seed(0)
    model, heads = nets.build("yolov4_tiny", 1, (64, 64)), [torch.randn(1, 18, 4, 4), torch.randn(1, 18, 2, 2)]
    truth = targets([[5, 5, 40, 36, 0], [30, 20, 60, 60, 0]])
    row, prediction = model.assign(truth[0]["boxes"], [(4, 4), (2, 2)])
    expected = complete_box_iou_loss(model.decode(heads)[0][0, prediction], truth[0]["boxes"][row], reduction="sum")
    assert len(row) > 2 and float(model.loss(heads, truth)["box"]) == pytest.approx(2 * float(expected), rel=1e-5)


def test_objectness_does_not_move_boxes():
    model = nets.build("yolov4_tiny", 1, (64, 64))
    heads = [torch.randn(1, 18, 4, 4, requires_grad=True), torch.randn(1, 18, 2, 2, requires_grad=True)]
    model.loss(heads, targets([[5, 5, 40, 40, 0]]))["objectness"].backward()
    for head in heads:
        gradient = head.grad.view(1, 3, 6, *head.shape[2:])
        assert gradient[:, :, :4].abs().max() == 0 and gradient[:, :, 4].abs().max() > 0


def test_focal_and_smoothing_by_hand():
    from utils.losses import sigmoid_focal, smooth_labels
    logits, truth = torch.tensor([0.0, 0.0, 2.0]), torch.tensor([1.0, 0.0, 1.0])
    p = 1 / (1 + np.exp(-2.0))
    expected = [0.25 * 0.25 * np.log(2), 0.75 * 0.25 * np.log(2), 0.25 * (1 - p) ** 2 * -np.log(p)]
    assert sigmoid_focal(logits, truth).tolist() == pytest.approx(expected)
    assert smooth_labels(torch.tensor([1.0, 0.0]), 0.1).tolist() == pytest.approx([0.95, 0.05])


def test_options_do_what_they_say():
    torch.manual_seed(0)
    heads = [torch.randn(2, 24, 4, 4), torch.randn(2, 24, 2, 2)]
    truth = targets([[5, 5, 40, 40, 1]], [])
    plain, smooth, focal = (nets.build("yolov4_tiny", 3, (64, 64), **o).loss(heads, truth) for o in ({}, {"label_smoothing": 0.1}, {"focal": True}))
    assert smooth["class"] != plain["class"] and smooth["objectness"] == plain["objectness"] and smooth["box"] == plain["box"]
    assert focal["objectness"] < plain["objectness"] and focal["class"] == plain["class"]
    hard = nets.build("yolov4_tiny", 3, (64, 64), focal=True, focal_gamma=0.0, focal_alpha=None).loss(heads, truth)
    assert hard["objectness"] == pytest.approx(float(plain["objectness"]), rel=1e-5)      # gamma 0 without weights is cross-entropy
    with pytest.raises(UserError, match="options"):
        nets.build("yolov4_tiny", 3, focl=True)
