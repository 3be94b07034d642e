"""SSD300 on PASCAL VOC 07+12, for a GPU: the paper's schedule.

Aims at 77.2 mAP (VOC07 test, VOC07 metric), the figure of the paper; we have not run it.

Unpack VOC2007 (trainval and test) and VOC2012 (trainval) into VOCdevkit, then
    python voc_annotation.py dataset="['VOCdevkit/VOC2007','VOCdevkit/VOC2012']" train_set=trainval
    python train.py recipes/voc0712_ssd300.py
    python get_map.py

120,000 steps of 32 images, as in the codes below. Their learning rate fell after 80,000 and 100,000 steps,
here after 0.7 and 0.9 of the way. The augmentation is the network's own recipe, all of it the paper's
(zoom_out, iou_crop, distort). fc6 and fc7 start from random weights, not from VGG's fully connected layers.
The validation images are training images too, as in those codes: nothing is chosen by them.

Others with this schedule: amdegroot/ssd.pytorch 77.4 (58.1 without augmentation), lufficc/SSD 77.7.
"""
dataset = "VOCdevkit/VOC2007"
net = "ssd300"
pretrained = True
input_shape = (300, 300)
epochs = 232
freeze_epochs = 0
batch_size = 32
optimizer = "sgd"
lr = 0.002
backbone_lr = 1.0
momentum = 0.9
weight_decay = 5e-4
schedule = "step"
warmup_epochs = 1.0
ema = False
eval_every = 29
