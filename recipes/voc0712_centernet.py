"""CenterNet with ResNet-18 on PASCAL VOC 07+12, for a GPU: the paper's schedule.

Aims at 75.7 mAP (VOC07 test, VOC07 metric, with mirrored pictures), the paper's figure for its ResNet-18 with
deformable convolutions at 512 x 512; the net here has plain ones, so expect less. We have not run it.

Unpack VOC2007 (trainval and test) and VOC2012 (trainval) into VOCdevkit, then
    python voc_annotation.py dataset="['VOCdevkit/VOC2007','VOCdevkit/VOC2012']" train_set=trainval
    python train.py recipes/voc0712_centernet.py
    python get_map.py

What differs from that run: its learning rate fell at epochs 45 and 60 of 70, here at 49 and 63; there it was
the same for 32 pictures a step as here.
The validation images are training images too, as in that run: nothing is chosen by them.
"""
dataset = "VOCdevkit/VOC2007"
net = "centernet"
pretrained = True
input_shape = (512, 512)
epochs = 70
freeze_epochs = 0
batch_size = 32
optimizer = "adam"
lr = 0.00025
backbone_lr = 1.0
momentum = 0.9
weight_decay = 0.0
schedule = "step"
warmup_epochs = 0.0
ema = False
scale = (0.6, 1.4)
aspect = 0.0
mosaic = 0.0
colours = (0.0, 0.4, 0.4)
eval_every = 10
