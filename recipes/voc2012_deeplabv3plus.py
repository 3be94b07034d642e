"""DeepLabv3+ with ResNet-50 on PASCAL VOC 2012, for a GPU: the schedule of VainF/DeepLabV3Plus-Pytorch.

Aims at 77.2 mIoU, the figure of that repository; we have not run it. It had the 10,582 training masks of
"VOC 2012 aug" (SBD): put them into SegmentationClass and their names into ImageSets/Segmentation/train.txt.
With the 1,464 of VOC itself expect several points less, and set epochs = 300 for as many steps.

Unpack VOCtrainval_11-May-2012.tar into VOCdevkit/VOC2012, then
    python train.py recipes/voc2012_deeplabv3plus.py
    python get_miou.py

That run also updated the statistics of the backbone's BatchNorm ten times more slowly; there is no variable
for that.
"""
dataset = "VOCdevkit/VOC2012"
net = "deeplabv3plus"
net_options = {"backbone": "resnet50"}
classes_path = "model_data/voc_segmentation_classes.txt"
pretrained = True
input_shape = (512, 512)
epochs = 45
freeze_epochs = 0
batch_size = 16
optimizer = "sgd"
lr = 0.04
backbone_lr = 0.1
momentum = 0.9
weight_decay = 1e-4
schedule = "poly"
warmup_epochs = 0.0
ema = False
scale = (0.5, 2.0)
rotate = 0.0
blur = 0.0
colours = (0.0, 0.0, 0.0)
