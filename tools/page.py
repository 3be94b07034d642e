"""Try a network in the browser: drop a picture, or switch the camera on, and move the sliders.

    python tools/page.py
    python tools/page.py model_path=logs/yolov8_2026_05_01_12_00_00/best.pth

The page is only for this computer, and no picture leaves it. Ctrl-C ends it.
"""
import signal
import sys
import webbrowser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import utils  # noqa: E402, F401, I001  first: it says in a sentence which package is missing
from utils.prediction.engine import find_weights, open_engine  # noqa: E402
from utils.prediction.page import LOWEST, Page  # noqa: E402
from utils.prediction.window import has_screen  # noqa: E402
from utils.settings import check, number, optional, read_settings, whole, yes_or_no  # noqa: E402
from utils.system import signals  # noqa: E402
from utils.system.web import open_server  # noqa: E402

# The network                                                                            网络
model_path = ""             # weights, or the folder of a run; "": the newest run           权重文件或训练文件夹，空为最新
net = ""                    # only for official weights: which network, like "ssd300"       仅官方权重：网络名称
net_options = {}            # only for official weights: the network's own options          仅官方权重：网络选项
input_shape = None          # height, width of the input; None: as trained                  输入尺寸，None 为训练时的
fit = None                  # "letterbox", "stretch", "short_side"; None: as trained        图像放入输入的方式
device = "auto"             # "auto", "cpu", "cuda", "cuda:1"                               设备
amp = None                  # bfloat16; None: where a CPU has it and finds the same        bfloat16 计算，空为自动

# Where the sliders begin                                                                滑块的初始值
confidence = None           # boxes with a lower score are left out; None: the training's   检测：置信度阈值，空为训练所得
nms_iou = None              # more overlap than this: only the better box stays             检测：非极大抑制阈值
max_boxes = 100             # boxes shown at most, the best ones                            检测：最多框数
opacity = 0.6               # of the colours over the image, 0 to 1                         分割：叠加颜色的不透明度
threshold = None            # two classes: least score of the object; None: the training's  分割：两类时的阈值

# The page                                                                               网页
port = 8000                 # of the address; the next free one when it is taken            端口，被占用时用下一个
browser = True              # also open it in the browser, where there is a display         自动打开浏览器
language = "auto"           # what the scripts say: "auto" (as this computer), "en", "zh"   输出的语言


def main(s):
    check(s, confidence=optional(number(LOWEST, 1)), nms_iou=optional(number(0, 1)), max_boxes=whole(1),
          opacity=number(0, 1), threshold=optional(number(0, 1)), port=whole(0, 65535), browser=yes_or_no())
    s.model_path = str(find_weights(s.model_path))
    engine = open_engine(s)
    server = open_server(Page(engine, s).routes(), s.port)
    print(f"The page is open, for the browser of this computer: {server.url}    Ctrl-C ends it.", flush=True)
    if s.browser and has_screen():
        webbrowser.open(server.url)

    # Ctrl-C is how it ends. Another signal ends the program too.
    try:
        server.serve_forever()
    except (KeyboardInterrupt, signals.Stopped) as stop:
        print("\nThe page is closed.")
        if getattr(stop, "number", signal.SIGINT) != signal.SIGINT:
            raise
    finally:
        server.server_close()


if __name__ == "__main__":
    signals.run(main, read_settings(globals()))
