"""PIDNet-S on Cityscapes, for a GPU: the schedule of MMSegmentation.

Aims at 78.7 mIoU, its figure for S. We have not run it. It begins from a stem and branches trained on
ImageNet, which have no file of their own here: from random weights expect less.

The masks are those of cityscapesscripts, *_gtFine_labelTrainIds.png. Bring images and masks into
VOCdevkit/Cityscapes (JPEGImages, SegmentationClass, ImageSets/Segmentation), then
    python train.py recipes/cityscapes_pidnet.py
    python get_miou.py

120,000 steps of 12 pictures are 484 epochs of 2,975. MMSegmentation counts the easy pixels differently: OHEM
with a probability of 0.9 there, of 0.7 here.
"""
dataset = "VOCdevkit/Cityscapes"
net = "pidnet"
classes_path = "model_data/cityscapes_classes.txt"
pretrained = False
loss = {"ohem": 1.0}
class_weights = "balanced"
input_shape = (1024, 1024)
epochs = 484
freeze_epochs = 0
batch_size = 12
optimizer = "sgd"
lr = 0.01
backbone_lr = 1.0
momentum = 0.9
weight_decay = 5e-4
schedule = "poly"
warmup_epochs = 0.0
ema = False
scale = (0.5, 2.0)
rotate = 0.0
blur = 0.0
colours = (0.0, 0.0, 0.0)
