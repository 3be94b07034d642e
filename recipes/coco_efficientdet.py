"""EfficientDet-D0 on COCO 2017, for a GPU: the paper's schedule, as effdet's author and Google's code have it.

Aims at 34.2 mAP (COCO val2017, mAP50:95), the figure of the official weights; we have not run it.

Unpack train2017, val2017 and annotations of COCO 2017 into coco, then
    python train.py recipes/coco_efficientdet.py
    python get_map.py

What differs from that run: its pictures were up to twice as large as the input, here up to 1.5 times, and it
filled the rest with the mean colour. The classes are COCO's 80, there 90 with holes.
"""
dataset = "coco"
net = "efficientdet"
pretrained = True
input_shape = (512, 512)
epochs = 300
freeze_epochs = 0
batch_size = 64
optimizer = "sgd"
lr = 0.08
backbone_lr = 1.0
momentum = 0.9
weight_decay = 4e-5
schedule = "cosine"
warmup_epochs = 1.0
scale = (0.1, 1.5)
aspect = 0.0
mosaic = 0.0
colours = (0.0, 0.0, 0.0)
eval_every = 10
