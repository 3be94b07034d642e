"""RetinaNet with ResNet-50 on PASCAL VOC 07+12, for a GPU: MMDetection's schedule.

Aims at 77.3 mAP (VOC07 test, VOC07 metric), the figure of MMDetection; we have not run it.

Unpack VOC2007 (trainval and test) and VOC2012 (trainval) into VOCdevkit, then
    python voc_annotation.py dataset="['VOCdevkit/VOC2007','VOCdevkit/VOC2012']" train_set=trainval
    python train.py recipes/voc0712_retinanet.py
    python get_map.py

What differs from that run: its images were at most 1000 x 600, so one of 500 x 375 had the same size as
here; its learning rate fell once, at 3/4 of the way, here twice, at 0.7 and 0.9; and it never trained the
stem and the first stage.
The validation images are training images too, as in that run: nothing is chosen by them.

Others: bubbliiiing/retinanet-pytorch reports 81.6 at 600 x 600, with a network of its own.
"""
dataset = "VOCdevkit/VOC2007"
net = "retinanet"
pretrained = True
input_shape = (800, 800)
epochs = 12
freeze_epochs = 0
batch_size = 16
optimizer = "sgd"
lr = 0.04
backbone_lr = 1.0
momentum = 0.9
weight_decay = 1e-4
schedule = "step"
warmup_epochs = 0.5
ema = False
scale = (1.0, 1.0)
aspect = 0.0
translate = 0.0
colours = (0.0, 0.0, 0.0)
eval_every = 4
