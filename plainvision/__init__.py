"""A trained network in three lines, in any program and any folder:

    from plainvision import PlainVision
    found = PlainVision("best.pth")("cat.jpg")
    found.show()

docs/en/python.md has the rest. An .onnx file of export_onnx.py runs without PyTorch.
"""
from plainvision import inside

inside.install()
from plainvision.found import Found  # noqa: E402
from plainvision.model import PlainVision  # noqa: E402
from plainvision.utils.errors import UserError  # noqa: E402

__all__ = ["Found", "PlainVision", "UserError"]
