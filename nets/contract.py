"""What every network offers. Nobody inherits from it: you read it, and a type checker compares NETS with it.

B batch, H W the network's input, K classes, N predictions per image, G ground-truth boxes.
"""
from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn

# For each image "boxes" (G, 4) xyxy in input pixels and "labels" (G,); or "mask" (H, W), 255 is ignored.
Targets = list[dict[str, Tensor]]


class Network(Protocol):
    task: str                           # "detection" or "segmentation"
    stride: int                         # height and width of the input must be divisible by it
    recipe: dict[str, Any]              # the defaults for a user's own data: input_shape, optimizer, lr ...
    backbone: nn.Module                 # what the first epochs freeze

    def __init__(self, num_classes: int, input_shape: tuple[int, int], **options: Any) -> None:
        """num_classes: without background in detection, with it in segmentation."""

    def __call__(self, images: Tensor, targets: Targets | None = None) -> tuple[Any, dict[str, Tensor]]:
        """images: (B, 3, H, W) RGB, float 0-1 -> raw outputs, losses; without targets the losses are {}."""

    def decode(self, outputs: Any) -> Any:
        """Raw outputs -> boxes (B, N, 4) xyxy in input pixels, scores (B, N, K) in 0-1.

        In segmentation: raw outputs -> scores (B, K, H, W).
        """

    # What torch gives to every network.
    def to(self, device: Any) -> "Network": ...
    def eval(self) -> "Network": ...
    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True,
                        assign: bool = False) -> Any: ...
