"""pretrained=None: a network that learns a user's own data begins from official weights, if they can be had.

Every file here is made on the spot in the official layout and served by this machine.
"""
import hashlib
import http.server
import threading
import time

import pytest
import torch
import torchvision

import nets
import train
from nets.backbones import mobilenet
from utils.errors import UserError
from utils.settings import read_settings
from utils.system import download
from utils.training import plan

OWN = ("net=deeplabv3plus", "dataset=VOCdevkit/mine")


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """A MobileNetV2 file as torchvision publishes it, with random weights."""
    path = tmp_path_factory.mktemp("official") / "file.pth"
    torch.save(torchvision.models.mobilenet_v2().state_dict(), path)
    return path.read_bytes()


@pytest.fixture
def site(content, tmp_path, monkeypatch):
    """A function: how the server behaves, the checksum in the file's name -> list of the addresses that are asked for."""
    asked, way = [], []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(404 if way == ["missing"] else 200)
            self.send_header("Content-Length", "nonsense" if way == ["header"] else str(len(content)))
            self.end_headers()
            if way == ["slow"]:
                for start in range(0, len(content), 100_000):
                    self.wfile.write(content[start:start + 100_000])
                    time.sleep(0.1)
            else:
                self.wfile.write(content[:1000] if way == ["broken"] else content)

        def log_message(self, *words):
            pass

    monkeypatch.delenv(download.OFFLINE, raising=False)
    monkeypatch.setattr(download, "ROOT", tmp_path)
    monkeypatch.setattr(download, "PAUSE", 0.01)
    (tmp_path / "model_data").mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()

        def behave(how, checksum=None):
            checksum = checksum or hashlib.sha256(content).hexdigest()[:8]
            way[:] = [how]
            port = 9 if how == "nobody" else running.server_port
            monkeypatch.setattr(mobilenet, "PRETRAINED_V2", f"http://127.0.0.1:{port}/mobilenet_v2-{checksum}.pth")
            return asked
        yield behave
        running.shutdown()


def complete(*words, state=None):
    s = read_settings(vars(train), [*OWN, *words])
    plan.complete(s, nets.find_net(s.net), state, nets.try_to_build)
    return s


def test_own_data_begins_from_official_weights(site, content, capsys):
    """One line says what, how large, from where, under which licence, how to turn it off; the backbone is frozen at first, later slow."""
    site("good")
    s = complete()
    line = capsys.readouterr().err
    assert f"{len(content) / 1e6:.0f} MB" in line and "http://127.0.0.1" in line and "licence" in line and "pretrained=False turns this off" in line
    assert s.pretrained is True and s.backbone_lr == nets.find_net(s.net).recipe["backbone_lr"]
    plan.choose_epochs(s, nets.find_net(s.net), 100)
    assert s.freeze_epochs > 0

    # The network has them, and the second time nothing is fetched.
    model = nets.build(s.net, 3, s.input_shape, **plan.build_options(s, nets.find_net(s.net), None))
    official = torch.load((download.ROOT / "model_data").glob("*.pth").__next__(), weights_only=True)
    first = next(tensor for tensor in official.values())
    assert any(torch.equal(first, tensor) for tensor in model.backbone.state_dict().values() if tensor.shape == first.shape)
    assert complete().pretrained is True and len(site("good")) == 1


@pytest.mark.parametrize("way", ["nobody", "missing", "broken", "slow", "header", "checksum"])
def test_what_does_not_arrive_costs_a_sentence(site, way, monkeypatch, capsys):
    monkeypatch.setattr(plan, "PATIENCE", 0.5)
    site(way, **({"checksum": "00000000"} if way == "checksum" else {}))
    began = time.monotonic()
    s = complete()
    assert time.monotonic() - began < 15
    assert s.pretrained is False and s.backbone_lr == 1.0
    assert capsys.readouterr().out.count("begins from random weights") == 1
    assert not list((download.ROOT / "model_data").glob("*.pth"))               # a beginning may be kept for the next try


@pytest.mark.parametrize("words, state", [
    (["dataset=VOCdevkit/Shapes"], None), (["pretrained=False"], None), (["net_options={'pretrained': False}"], None), ([], {"options": {}})])
def test_nothing_is_fetched(site, words, state, capsys):
    """Not for Shapes, not when it is turned off, and never by a resumed run."""
    asked = site("good")
    assert not complete(*words, state=state).pretrained
    assert not asked and "Fetching" not in capsys.readouterr().err


def test_offline(site, monkeypatch, capsys):
    asked = site("good")
    monkeypatch.setenv(download.OFFLINE, "1")
    assert complete().pretrained is False and not asked
    assert download.OFFLINE in capsys.readouterr().out


def test_a_network_without_official_weights_names_some_that_have(site, capsys):
    asked = site("good")
    assert complete("net=yolov8").pretrained is False and not asked
    said = capsys.readouterr().out
    assert "yolov8 begins from random weights" in said and "net=yolov4_tiny" in said


def test_who_asks_for_them_stops_without_them(site):
    site("nobody")
    with pytest.raises(UserError, match="by hand.*pretrained=False"):
        complete("pretrained=True")


@pytest.mark.parametrize("net", [name for name, network in nets.NETS.items() if network.task == "detection"])
def test_a_whole_detector_of_coco(net, monkeypatch):
    """Each names the file that it would fetch, or says why there is none."""
    monkeypatch.setenv(download.OFFLINE, "1")
    named = {"yolov3": "yolov3.weights", "yolov4": "yolov4.weights", "yolov4_tiny": "yolov4-tiny.weights", "yolox": "yolox_s.pth",
             "ssd300": "ssd300_vgg16_coco-", "ssdlite320_mobilenet_v3": "ssdlite320_mobilenet_v3_large_coco-",
             "faster_rcnn": "fasterrcnn_resnet50_fpn_coco-",
             "retinanet": "retinanet_resnet50_fpn_coco-", "yolov8": "no plain tensors", "yolo11": "no plain tensors",
             "ssd512": "no official COCO file", "centernet": "no official COCO file",
             "efficientdet": "tf_efficientdet_d0_34-", "detr": "detr-r50-", "rtdetr": "lyuwenyu/storage"}
    with pytest.raises(UserError, match=named[net]):
        nets.try_to_build(net, nets.NETS[net].recipe["input_shape"], pretrained="coco")
