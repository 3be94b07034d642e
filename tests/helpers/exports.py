"""Whether a network can be exported: no decision in forward or decode depends on the data."""
import torch
from torch import nn


class Whole(nn.Module):
    """From the images to boxes and scores, or to scores."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model.decode(self.model(images)[0])


def assert_exports(model, height, width, atol):
    """The exported program gives what the network gives, up to atol."""
    model, images = Whole(model).eval(), torch.rand(1, 3, height, width)
    with torch.no_grad():
        program = torch.export.export(model, (images,))
        for one, other in zip(program.module()(images), model(images)):
            assert torch.allclose(one, other, atol=atol)
