"""List file -> samples -> batches. One dataset for training and evaluation.

A sample is a pure function of (seed, epoch, index): the sampler hands out these keys, and the augmentation seeds itself from
them. Therefore the result does not depend on the number of workers, on where a run was resumed, or on what was drawn before.
"""
import mmap
import os
import random
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from utils import augment
from utils.errors import UserError
from utils.images import letterbox, open_shrunken, to_input
from utils.settings import find, shown
from utils.voc import check_classes, read_list

CACHE_SHARE = 0.25              # of the machine's memory may hold shrunken images; what does not fit is decoded anew each time
SEEN = 1                        # marks a filled slot of the cache


class DetectionData(Dataset):
    """Images and boxes of a list file.

    list_path: see utils/voc.py.  class_names: list of K names.  input_shape: (H, W) px.
    train: augment and drop difficult objects; else only letterbox.
    scale, aspect, translate, flip_chance, colours, mosaic_chance, mixup_chance: see utils/augment.py.
    plain_from: from this epoch on neither mosaic nor mixup (the last epochs see what the real pictures look like).
    cache: keep shrunken images in memory, as many as fit into CACHE_SHARE.
    """

    def __init__(self, list_path, class_names, input_shape, train=False, seed=0, scale=(0.5, 1.5), aspect=0.3, translate=0.1,
                 flip_chance=0.5, colours=(0.015, 0.7, 0.4), mosaic_chance=0.0, mixup_chance=0.0, plain_from=None, cache=True):
        self.list_path, self.class_names, self.input_shape = list_path, class_names, tuple(input_shape)
        self.train, self.seed = train, seed
        self.scale, self.aspect, self.translate, self.flip_chance, self.colours = scale, aspect, translate, flip_chance, colours
        self.mosaic_chance, self.mixup_chance, self.plain_from = mosaic_chance, mixup_chance, plain_from
        self.paths, self.boxes = read_list(find(list_path))
        check_list(self.paths, self.boxes, class_names, list_path)
        self.slot = self.input_shape[0] * self.input_shape[1] * 3 + 9       # 1 byte seen, 4 shorts sizes, the pixels
        self.slots = min(len(self), int(CACHE_SHARE * machine_memory()) // self.slot) if cache else 0
        # anonymous shared memory: pages are taken when filled, and forked workers fill it together
        self.cache = mmap.mmap(-1, self.slots * self.slot) if self.slots else None

    def __getstate__(self):
        return {**self.__dict__, "cache": None, "slots": 0}                 # a spawned worker cannot share it

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, key):
        """key: (epoch, index) -> image (3, H, W) uint8 tensor, target dict: boxes (G, 4) xyxy input px, labels (G,), index;
        and when not training transform and size (h, w), which lead back to the original picture."""
        epoch, index = key
        if self.train:
            image, boxes = self.augmented(random.Random(f"{self.seed} {epoch} {index}"), epoch, index)
            target = {}
        else:
            shrunken, boxes, size = self.picture(index)
            image, transform = letterbox(shrunken, self.input_shape, size)
            boxes[:, :4] = to_input(self.boxes[index][:, :4], transform)
            target = {"transform": transform, "size": size}
        boxes = boxes[boxes[:, 5] == 0]                                     # what is difficult for people is not taught
        target |= {"boxes": torch.from_numpy(boxes[:, :4].copy()), "labels": torch.from_numpy(boxes[:, 4].astype(np.int64)), "index": index}
        return torch.from_numpy(image).permute(2, 0, 1), target

    def augmented(self, rng, epoch, index):
        """One training picture. -> image (H, W, 3), boxes (G, 6)."""
        plain = self.plain_from is not None and epoch >= self.plain_from
        image, boxes = self.arranged(rng, index, not plain)
        if not plain and rng.random() < self.mixup_chance:
            image, boxes = augment.mixup(rng, image, boxes, *self.arranged(rng, rng.randrange(len(self)), True))
        if rng.random() < self.flip_chance:
            image, boxes = augment.flip(image, boxes)
        return augment.change_colours(rng, image, self.colours), boxes

    def arranged(self, rng, index, may_mosaic):
        """One picture, or four as a mosaic, at random places of the input."""
        if may_mosaic and rng.random() < self.mosaic_chance:
            pictures = [self.picture(i)[:2] for i in (index, *(rng.randrange(len(self)) for _ in range(3)))]
            rng.shuffle(pictures)
            return augment.mosaic(rng, self.input_shape, pictures, self.scale, self.aspect)
        return augment.scale_and_crop(rng, self.input_shape, *self.picture(index)[:2], self.scale, self.aspect, self.translate)

    def picture(self, index):
        """-> image, shrunken to what fits the input (never grown), boxes (G, 6) in its pixels, original size (h, w)."""
        image, size = self.cached(index)
        boxes = self.boxes[index].copy()
        boxes[:, 0:4:2] *= image.shape[1] / size[1]
        boxes[:, 1:4:2] *= image.shape[0] / size[0]
        return image, boxes, size

    def cached(self, index):
        """-> image as in `picture`, original size; from the memory when it was read before."""
        if index >= self.slots:
            return self.shrunken(index)
        start = index * self.slot
        header = np.frombuffer(self.cache, np.uint16, 4, start + 1)
        if self.cache[start] != SEEN:
            image, size = self.shrunken(index)
            if max(size) > 65535:
                return image, size
            header[:] = (*image.shape[:2], *size)
            np.frombuffer(self.cache, np.uint8, image.size, start + 9)[:] = image.ravel()
            self.cache[start] = SEEN                                        # last, so that nobody reads half an image
        height, width, *size = (int(v) for v in header)
        image = np.frombuffer(self.cache, np.uint8, height * width * 3, start + 9).reshape(height, width, 3)
        image.flags.writeable = False                                       # whoever augments works on a copy
        return image, tuple(size)

    def shrunken(self, index):
        return open_shrunken(find(self.paths[index]), self.input_shape, exact=not self.train)


def machine_memory():
    """Bytes of main memory, or what a container may use of it; where the system does not tell, 8 GiB."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 * 2**30
    limit = Path("/sys/fs/cgroup/memory.max")
    allowed = limit.read_text().strip() if limit.is_file() else "max"
    return min(memory, int(allowed)) if allowed.isdigit() else memory


def check_list(paths, boxes, class_names, list_path):
    """A list that cannot be used ends here: images gone, classes that do not exist."""
    missing = [p for p in paths if not find(p).is_file()]
    if missing:
        raise UserError(f"{list_path}: {len(missing)} of {len(paths)} images are not there, the first is {missing[0]}. "
                        "Was the folder moved, or the image deleted? Run voc_annotation.py again (new_split=True for a new choice of images).")
    check_classes(paths, boxes, class_names, list_path)


class KeySampler:
    """Yields (epoch, index) for one epoch; shuffled as a pure function of (seed, epoch)."""

    def __init__(self, count, seed=0, shuffle=False):
        self.count, self.seed, self.shuffle, self.epoch = count, seed, shuffle, 0

    def __len__(self):
        return self.count

    def __iter__(self):
        order = list(range(self.count))
        if self.shuffle:
            random.Random(f"{self.seed} {self.epoch} order").shuffle(order)
        return iter([(self.epoch, index) for index in order])


def collate(samples):
    """-> images (B, 3, H, W) uint8, targets list of B dicts. The memory stays pixel by pixel (channels last), so nothing is reordered."""
    images = torch.stack([image.permute(1, 2, 0) for image, _ in samples]).permute(0, 3, 1, 2)
    return images, [target for _, target in samples]


def make_loader(data, batch_size, num_workers=None, seed=0, device="cpu"):
    """DataLoader over a data set; shuffled when it is for training. loader.sampler.epoch = n chooses the epoch.

    A training set that is not a multiple of the batch keeps its last, smaller batch, unless that is a single image: the
    statistics of BatchNorm over one image are noise.  num_workers: None chooses; more than there are batches is never started.
    """
    batch_size = min(batch_size, len(data))
    batches = -(-len(data) // batch_size)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if num_workers is None:                             # beside a GPU; on a CPU the cores are busy training
        num_workers = min(8 if data.train else 2, cores // 2) if torch.device(device).type == "cuda" else 0
    num_workers = min(num_workers, batches)
    lonely = data.train and len(data) > batch_size > 1 and len(data) % batch_size == 1
    forked = num_workers and sys.platform == "linux"    # forked workers share the cache
    return DataLoader(data, batch_size, sampler=KeySampler(len(data), seed, shuffle=data.train), num_workers=num_workers, collate_fn=collate,
                      drop_last=lonely, persistent_workers=num_workers > 0, pin_memory=torch.device(device).type == "cuda",
                      worker_init_fn=one_thread, multiprocessing_context="fork" if forked else None)


def one_thread(_):
    """Workers are the parallel part; each one keeps to a single thread."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def class_counts(data):
    """-> {name: objects} of a data set."""
    labels = np.concatenate([rows[:, 4] for rows in data.boxes]).astype(int)
    return dict(zip(data.class_names, np.bincount(labels, minlength=len(data.class_names)).tolist()))


def describe(data):
    counts = ", ".join(f"{name} {count}" for name, count in class_counts(data).items())
    return f"{shown(find(data.list_path))}: {len(data)} images, {sum(len(b) for b in data.boxes)} objects ({counts})"
