"""YOLOv4-tiny on PASCAL VOC 2007 from the official COCO-trained backbone, for a GPU: a schedule of our own.

Aims at no published figure: it is a short training to begin with.

Unpack the VOCtrainval and VOCtest archives into VOCdevkit/VOC2007, then
    python train.py recipes/voc2007.py
    python get_map.py
"""
dataset = "VOCdevkit/VOC2007"
net = "yolov4_tiny"
pretrained = True
input_shape = (416, 416)
epochs = 150
freeze_epochs = 15
batch_size = 32
optimizer = "sgd"
lr = 0.01
momentum = 0.937
warmup_epochs = 3.0
eval_every = 10
