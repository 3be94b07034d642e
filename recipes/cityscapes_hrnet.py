"""HRNet-W48 on Cityscapes, for a GPU: the schedule of the authors' code.

Aims at 80.9 mIoU, the authors' figure for W48 (81.6 with "ocr": True). We have not run it.

The masks are those of cityscapesscripts, *_gtFine_labelTrainIds.png. Bring images and masks into
VOCdevkit/Cityscapes (JPEGImages, SegmentationClass, ImageSets/Segmentation), then
    python train.py recipes/cityscapes_hrnet.py
    python get_miou.py

Four GPUs saw 3 pictures each: 12 a step.
"""
dataset = "VOCdevkit/Cityscapes"
net = "hrnet"
net_options = {"size": "w48"}
classes_path = "model_data/cityscapes_classes.txt"
pretrained = True
input_shape = (512, 1024)
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
