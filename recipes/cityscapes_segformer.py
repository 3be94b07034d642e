"""SegFormer-B0 on Cityscapes, for a GPU: the schedule of the paper, section 4.1.

Aims at 76.2 mIoU, the paper's figure for B0 (table 1; 76.5 with MMSegmentation's weights). We have not run
it. Both begin from MiT-B0, trained on ImageNet, whose licence forbids commercial use: put pytorch_model.bin of
https://huggingface.co/nvidia/mit-b0 into model_data as mit_b0.bin. Both measure with a window of 1024 x 1024.

The masks are those of cityscapesscripts, *_gtFine_labelTrainIds.png. Bring images and masks into
VOCdevkit/Cityscapes (JPEGImages, SegmentationClass, ImageSets/Segmentation), then
    python train.py recipes/cityscapes_segformer.py
    python get_miou.py slide=True

160,000 steps of 8 pictures are 430 epochs of 2,975. The learning rate is 6e-4 for the head at 8 pictures, and a
tenth of it for the backbone; the paper lets it fall in a straight line, here it falls with the power 0.9.
"""
dataset = "VOCdevkit/Cityscapes"
net = "segformer"
net_options = {"size": "b0"}
classes_path = "model_data/cityscapes_classes.txt"
model_path = "model_data/mit_b0.bin"
input_shape = (1024, 1024)
epochs = 430
freeze_epochs = 0
batch_size = 8
optimizer = "adamw"
lr = 0.0017
backbone_lr = 0.1
momentum = 0.9
weight_decay = 1e-2
schedule = "poly"
warmup_epochs = 4.0
ema = False
scale = (0.5, 2.0)
rotate = 0.0
blur = 0.0
colours = (0.05, 0.5, 0.13)
