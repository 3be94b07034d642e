"""BiSeNetV2 on Cityscapes, for a GPU: the schedule of MMSegmentation.

Aims at 73.2 mIoU, its figure for 16 pictures a step (75.8 with 32). We have not run it.

The masks are those of cityscapesscripts, *_gtFine_labelTrainIds.png. Bring images and masks into
VOCdevkit/Cityscapes (JPEGImages, SegmentationClass, ImageSets/Segmentation), then
    python train.py recipes/cityscapes_bisenetv2.py
    python get_miou.py

160,000 steps of 16 pictures are 860 epochs of 2,975; the rate rises over the first 1,000 steps.
"""
dataset = "VOCdevkit/Cityscapes"
net = "bisenetv2"
classes_path = "model_data/cityscapes_classes.txt"
pretrained = False
input_shape = (1024, 1024)
epochs = 860
freeze_epochs = 0
batch_size = 16
optimizer = "sgd"
lr = 0.05
backbone_lr = 1.0
momentum = 0.9
weight_decay = 5e-4
schedule = "poly"
warmup_epochs = 5.0
ema = False
scale = (0.5, 2.0)
rotate = 0.0
blur = 0.0
colours = (0.05, 0.5, 0.13)
