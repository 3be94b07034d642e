"""RT-DETRv2-S on COCO 2017, for a GPU: the authors' schedule.

Aims at 48.1 mAP (COCO val2017, mAP50:95), the authors' figure; we have not run it.

Unpack train2017, val2017 and annotations of COCO 2017 into coco, then
    python train.py recipes/coco_rtdetr.py
    python get_map.py

What differs from that run: its backbone began with ImageNet weights that are not fetched here; its pictures had
sizes from 480 to 800; it left out the strong changes of the pictures in the last epochs.
"""
dataset = "coco"
net = "rtdetr"
input_shape = (640, 640)
fit = "stretch"
epochs = 120
freeze_epochs = 0
batch_size = 16
optimizer = "adamw"
lr = 0.0004
backbone_lr = 1.0
momentum = 0.9
weight_decay = 1e-4
schedule = "constant"
warmup_epochs = 0.27
clip_norm = 0.1
scale = (1.0, 1.0)
aspect = 0.0
translate = 0.0
mosaic = 0.0
distort = 0.5
zoom_out = 0.5
iou_crop = 0.8
colours = (0.0, 0.0, 0.0)
eval_every = 5
