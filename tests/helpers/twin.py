"""What the tests share that run a detector and torchvision's network with the same weights side by side."""
import torch
from recipe import image


def picture(height, width):
    """Two pictures. -> (2, 3, H, W) 0-1."""
    return torch.stack([torch.from_numpy(image(seed, height, width)) for seed in (1, 2)])


def objects(counts, height, width, num_classes=90, least=0.1):
    """One target per image, its objects from `least` of the image's sides to nearly all of them; labels from 0."""
    torch.manual_seed(1)
    found = []
    for count in counts:
        size = torch.tensor([width, height]) * torch.linspace(least, 0.9, count)[:, None] * (0.7 + 0.3 * torch.rand(count, 2))
        corner = torch.rand(count, 2) * (torch.tensor([width, height]) - size)
        found.append({"boxes": torch.cat([corner, corner + size], 1), "labels": torch.randint(num_classes, (count,))})
    return found


def difference(found, expected):
    """The largest difference, relative to the largest value."""
    assert found.shape == expected.shape and expected.std() > 1e-5
    return float((found - expected).abs().max() / expected.abs().max())
