"""LR-ASPP on COCO pictures with the 21 classes of VOC, for a GPU: the schedule of torchvision.

Aims at 57.9 mIoU on COCO val2017, torchvision's figure; we have not run it. It had the training
pictures of COCO 2017 that hold enough of VOC's classes, with masks of those 21 classes: bring them into
VOCdevkit/COCO (JPEGImages, SegmentationClass, ImageSets/Segmentation), then
    python train.py recipes/coco_lraspp.py
    python get_miou.py

Eight GPUs saw 4 pictures each: 32 a step. The backbone learns as fast as the head there.
"""
dataset = "VOCdevkit/COCO"
net = "lraspp"
classes_path = "model_data/voc_segmentation_classes.txt"
pretrained = True
input_shape = (480, 480)
epochs = 30
freeze_epochs = 0
batch_size = 32
optimizer = "sgd"
lr = 0.02
backbone_lr = 1.0
momentum = 0.9
weight_decay = 1e-6
schedule = "poly"
warmup_epochs = 0.0
ema = False
scale = (0.5, 2.0)
rotate = 0.0
blur = 0.0
colours = (0.0, 0.0, 0.0)
