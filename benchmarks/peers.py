"""What benchmarks/accuracy.py runs in the Python of the peers: nothing of ours is imported here.

    /peers/bin/python benchmarks/peers.py job.json

A job says what to train on what; see `run_peers` in accuracy.py. A peer writes, into the job's folder:
curve.json, a list of [optimizer steps, CPU seconds, its own validation metric], one an epoch; and found.npz,
what its best epoch says about the test images: boxes, scores, labels, or a map of class numbers.
"""
import json
import sys
import time
from pathlib import Path

import numpy as np


def main(job):
    folder = Path(job["folder"])
    peer = {"ultralytics": train_ultralytics, "smp": train_smp}[job["peer"]]
    curve, found = peer(job, folder)
    (folder / "curve.json").write_text(json.dumps(curve))
    np.savez(folder / "found.npz", **found)


def train_ultralytics(job, folder):
    """YOLOv8-n from scratch with Ultralytics' defaults, but for what the job's options say."""
    from ultralytics import YOLO

    # Steps of the optimizer, counted by the optimizer: how many batches make one is the peer's affair.
    curve, count = [], [0]

    def begin(trainer):
        def stepped(*_):
            count[0] += 1
        trainer.optimizer.register_step_post_hook(stepped)

    def epoch_ends(trainer):
        value = trainer.metrics.get("metrics/mAP50(B)")
        if value is not None:
            curve.append([count[0], time.process_time(), float(value)])

    model = YOLO("yolov8n.yaml")
    model.add_callback("on_pretrain_routine_end", begin)
    model.add_callback("on_fit_epoch_end", epoch_ends)
    model.train(data=str(folder / "data.yaml"), imgsz=job["size"], batch=job["batch"], epochs=job["epochs"],
                seed=job["seed"], pretrained=False, workers=0, plots=False, device="cpu", verbose=False,
                project=str(folder / "runs"), **job["options"])

    # The boxes of its best epoch on the test images, as many as AP needs.
    best = YOLO(str(next((folder / "runs").rglob("best.pt"))))
    found = {}
    for number, path in enumerate(job["test"]):
        boxes = best.predict(path, imgsz=job["size"], conf=0.001, iou=0.7, max_det=300, verbose=False)[0].boxes
        found[f"boxes_{number}"] = boxes.xyxy.numpy()
        found[f"scores_{number}"] = boxes.conf.numpy()
        found[f"labels_{number}"] = boxes.cls.numpy().astype(int)
    return curve[:job["epochs"]], found


def train_smp(job, folder):
    """The plain loop that most people write: segmentation_models_pytorch's DeepLabV3Plus on MobileNetV2.

    AdamW 0.001 with a cosine, cross-entropy; random scale 0.5 to 1.5, place and flip, brightness by a fifth.
    """
    import segmentation_models_pytorch as smp
    import torch
    import torch.nn.functional as F

    torch.manual_seed(job["seed"])
    rng = np.random.default_rng(job["seed"])
    pairs = {part: [(np.load(image), np.load(mask)) for image, mask in job[part]] for part in ("train", "val")}
    model = smp.DeepLabV3Plus("mobilenet_v2", encoder_weights=None, classes=job["classes"])
    model = model.to(memory_format=torch.channels_last)
    batches = len(pairs["train"]) // job["batch"]
    solver = torch.optim.AdamW(model.parameters(), lr=job["options"].get("lr", 1e-3))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(solver, batches * job["epochs"])

    # The best epoch by validation mIoU is kept, as on our side.
    curve, best = [], (-1.0, None)
    for epoch in range(job["epochs"]):
        model.train()
        order = rng.permutation(len(pairs["train"]))[:batches * job["batch"]].reshape(batches, -1)
        for numbers in order:
            drawn = [augment(*pairs["train"][i], job["size"], rng) for i in numbers]
            images = to_tensor(np.stack([image for image, _ in drawn]))                 # (B, 3, H, W)
            masks = torch.from_numpy(np.stack([mask for _, mask in drawn])).long()      # (B, H, W)
            loss = F.cross_entropy(model(images), masks, ignore_index=255)
            solver.zero_grad()
            loss.backward()
            solver.step()
            schedule.step()
        if (epoch + 1) % job["every"] == 0 or epoch + 1 == job["epochs"]:
            value = mean_iou(model, pairs["val"], job)
            curve.append([(epoch + 1) * batches, time.process_time(), value])
            if value > best[0]:
                best = value, {name: tensor.clone() for name, tensor in model.state_dict().items()}

    model.load_state_dict(best[1])
    return curve, {f"map_{number}": predict(model, np.load(image), job)
                   for number, (image, _) in enumerate(job["test"])}


def letterbox(image, size):
    """The whole picture in the middle of a grey square -> the square, (top, left, height, width) of it."""
    import cv2
    height, width = image.shape[:2]
    ratio = size / max(height, width)
    h, w = max(1, round(height * ratio)), max(1, round(width * ratio))
    small = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)
    top, left = (size - h) // 2, (size - w) // 2
    square = np.full((size, size, 3), 128, np.uint8)
    square[top:top + h, left:left + w] = small
    return square, (top, left, h, w)


def augment(image, mask, size, rng):
    """A random size and place in the square, half of them mirrored, brighter or darker."""
    import cv2
    ratio = rng.uniform(0.5, 1.5) * size / max(image.shape[:2])
    h, w = (max(1, round(side * ratio)) for side in image.shape[:2])
    image = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    mask = cv2.resize(mask, (w, h), interpolation=cv2.INTER_NEAREST)

    # Its corner anywhere, so that picture and square overlap as far as they can.
    y, x = (int(rng.integers(min(0, size - side), max(0, size - side) + 1)) for side in (h, w))
    square, truth = np.full((size, size, 3), 128, np.uint8), np.full((size, size), 255, np.uint8)
    into = np.s_[max(0, y):y + h, max(0, x):x + w]
    out = np.s_[max(0, -y):max(0, -y) + size, max(0, -x):max(0, -x) + size]
    square[into], truth[into] = image[out][:size - max(0, y)], mask[out][:size - max(0, y)]
    if rng.random() < 0.5:
        square, truth = square[:, ::-1], truth[:, ::-1]
    square = np.clip(square * rng.uniform(0.8, 1.2), 0, 255)
    return square.astype(np.uint8), np.ascontiguousarray(truth)


def to_tensor(images):
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float, with ImageNet's mean and deviation."""
    import torch
    mean, deviation = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    batch = (images.astype(np.float32) / 255 - mean) / deviation
    return torch.from_numpy(batch).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def predict(model, image, job):
    """-> the class of each pixel of the original picture (h, w) uint8."""
    import cv2
    import torch
    model.eval()
    square, (top, left, h, w) = letterbox(image, job["size"])
    with torch.inference_mode():
        scores = model(to_tensor(square[None]))[0].numpy()                              # (K, H, W)
    scores = np.ascontiguousarray(scores[:, top:top + h, left:left + w].transpose(1, 2, 0))
    full = cv2.resize(scores, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return full.argmax(-1).astype(np.uint8)


def mean_iou(model, pairs, job):
    """Of the classes that occur, at the original size."""
    classes = job["classes"]
    counts = np.zeros((classes, classes), int)
    for image, mask in pairs:
        guess, known = predict(model, image, job), mask < classes
        pairs_of = classes * mask[known].astype(int) + guess[known]
        counts += np.bincount(pairs_of, minlength=classes ** 2).reshape(classes, classes)
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    iou = counts.diagonal() / np.maximum(union, 1)
    return float(iou[union > 0].mean())


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
