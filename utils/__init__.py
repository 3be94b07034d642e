"""What the networks and scripts share; nothing here knows a network.

The scripts import this first: a package that is missing is then a sentence, not a traceback, and a script
that is only asked for --help answers before anything large is loaded.
"""
import importlib.util
import sys
from pathlib import Path

from utils.errors import is_lack_of_memory, lack_of_memory, speak_plainly

script = Path(getattr(sys.modules["__main__"], "__file__", None) or "")
is_ours = script.resolve().is_relative_to(Path(__file__).resolve().parent.parent)
if is_ours:
    speak_plainly()
if is_ours and {"-h", "--help", "help"} & set(sys.argv[1:]):
    from utils.help import print_help
    print_help(script)
    raise SystemExit(0)

# the name to import -> the name to install
PACKAGES = {"torch": "torch", "torchvision": "torchvision", "numpy": "numpy", "PIL": "pillow",
            "cv2": "opencv-python-headless", "matplotlib": "matplotlib", "tqdm": "tqdm", "yaml": "PyYAML"}

# A network in an .onnx file runs without PyTorch, and who imports this may mean to use such a file.
words = [word.lower() for word in sys.argv[1:] if word.startswith("model_path=")]
if not is_ours or any(word.endswith(".onnx") for word in words):
    for module in ("torch", "torchvision", "matplotlib"):
        PACKAGES.pop(module)

missing = [package for module, package in PACKAGES.items() if importlib.util.find_spec(module) is None]
if missing:
    raise SystemExit(f"Not installed for {sys.executable}: {', '.join(missing)}. In this folder run\n"
                     f'  "{sys.executable}" -m pip install -r requirements.txt\n'
                     "More: docs/en/faq.md#no-module")
try:
    import cv2  # noqa: F401
except ImportError as error:            # opencv-python on a server without graphics libraries
    if is_lack_of_memory(error):
        raise SystemExit(f"Stopped: {lack_of_memory()}") from None
    pip = f'"{sys.executable}" -m pip'
    raise SystemExit(f"OpenCV is installed but cannot be loaded ({error}). "
                     "On a computer without a screen use its headless edition:\n"
                     f"  {pip} uninstall -y opencv-python\n"
                     f"  {pip} install --force-reinstall opencv-python-headless") from None
