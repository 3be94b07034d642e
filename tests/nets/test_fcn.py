"""FCN is torchvision's: names, outputs of both heads, losses, its official files."""
import functools

import pytest
import torch
import torch.nn.functional as F
import torchvision
from recipe import difference, fill, image

import nets
from nets.fcn import BACKBONES, FCN
from nets.layers import normalise
from utils.errors import UserError
from utils.weights import load_weights

SIZE = (40, 56)


@functools.cache
def official(backbone="resnet50"):
    """torchvision's network in eval mode; its variances are small, so that a wrong eps is seen."""
    network = getattr(torchvision.models.segmentation, f"fcn_{backbone}")(weights=None, weights_backbone=None, aux_loss=True).eval()
    fill(network)
    return network


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("fcn") / "权重.pth"
    torch.save(official().state_dict(), path)
    return path


def test_parameters():
    counts = {("resnet50", True): 35_322_218, ("resnet50", False): 32_957_013, ("resnet101", True): 54_314_346,
              ("mobilenet_v3_large", False): 5_051_093}
    with torch.device("meta"):
        for (backbone, aux), count in counts.items():
            assert sum(p.numel() for p in FCN(21, backbone=backbone, aux=aux).parameters()) == count


@torch.no_grad()
def test_equal_to_torchvision(path):
    """The official file is read by name; with it both heads give torchvision's outputs, and the auxiliary loss counts half."""
    model = FCN(21)
    report = load_weights(model, path)
    assert report.backbone == 1.0 and not (report.different or report.missing or report.unused)
    images = torch.stack([torch.from_numpy(image(seed, *SIZE)) for seed in (1, 2)])
    masks = torch.randint(21, (2, *SIZE))
    masks[:, :5] = 255
    expected = official()(normalise(images))
    logits, losses = model.eval()(images, [{"mask": mask} for mask in masks])
    assert difference(logits, expected["out"]) <= 1e-5
    for name, weight, theirs in (("cross_entropy", 1.0, "out"), ("aux_cross_entropy", 0.5, "aux")):
        assert float(losses[name]) == pytest.approx(weight * float(F.cross_entropy(expected[theirs], masks, ignore_index=255)), rel=1e-5)

    # The auxiliary head rests without targets.
    model.aux_classifier = None
    assert torch.equal(model(images)[0], logits)


@pytest.mark.slow
@torch.no_grad()
def test_resnet101_is_torchvisions():
    model = FCN(21, backbone="resnet101").eval()
    model.load_state_dict(official("resnet101").state_dict())
    images = torch.from_numpy(image(1, *SIZE))[None]
    assert difference(model(images)[0], official("resnet101")(normalise(images))["out"]) <= 1e-5


@pytest.mark.slow
def test_official_file_at_once_and_for_other_classes(path):
    model, info = nets.load(path, net="fcn")
    assert info["class_names"][15] == "person" and len(info["class_names"]) == 21 and not model.training
    report = load_weights(FCN(5), path)
    assert {name.rsplit(".", 1)[0] for name, *_ in report.different} == {"classifier.4", "aux_classifier.4"} and not report.missing


def test_wrong_requests():
    with pytest.raises(UserError, match=f'Did you mean "resnet50".*{", ".join(BACKBONES)}'):
        FCN(3, backbone="resnet5")
