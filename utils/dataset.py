"""List file -> samples -> batches. One dataset for training and evaluation.

A sample is a pure function of (seed, epoch, index): the sampler hands out these keys, and the augmentation seeds itself from
them. Therefore the result does not depend on the number of workers, on where a run was resumed, or on what was drawn before.
"""
import mmap
import random
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from utils import augment
from utils.errors import UserError
from utils.images import check_fit, fit_image, letterbox_mask, open_shrunken, resize_mask, stack, to_input
from utils.labels import describe_labels, label_table, read_labels
from utils.lists import check_classes, read_list, read_mask_list
from utils.settings import find, shown
from utils.system import distributed, signals
from utils.system.machine import SHARED_MEMORY, cores, machine_memory

CACHE_SHARE = 0.25              # of the machine's memory may hold shrunken images; what does not fit is decoded anew each time
SEEN = 1                        # marks a filled slot of the cache
ROTATED = 0.25                  # share of the training pictures that are turned, where a rotation is asked for
AHEAD = 3                       # batches of a worker that may be there at a time: two prefetched, one in use
SHARP = 2.0                     # where parts of the pictures are enlarged (iou_crop) they are kept that much larger than the input


class BrokenFile(UserError):
    """The image or mask of a sample cannot be read."""

    def __init__(self, index, sentence):
        super().__init__(index, sentence)
        self.index, self.sentence = index, sentence

    def __str__(self):
        return self.sentence


class ListData(Dataset):
    """The images of a list file: what both tasks share. Use DetectionData or SegmentationData.

    list_path: see utils/lists.py.  class_names: list of K names.  input_shape: (H, W) px.
    train: augment; else only fit the picture into the input.
    scale, aspect, translate, flip_chance, rotation, blur_chance, colours, distort_chance, mosaic_chance: see utils/augment.py.
    plain_from: from this epoch on no mosaic (and no mixup): the last epochs see what the real pictures look like.
    small_shape, small_until: up to this epoch the input is only that large, (H, W) px: the steps cost less, and shapes are learnt sooner.
    cache: keep shrunken images in memory, as many as fit into CACHE_SHARE.
    """

    bytes_per_pixel = 3
    fit = "letterbox"               # how a picture meets the input, see utils.images.fitted_size

    def __init__(self, list_path, class_names, input_shape, train=False, seed=0, scale=(0.5, 1.5), aspect=0.3, translate=0.1,
                 flip_chance=0.5, rotation=0.0, blur_chance=0.0, colours=(0.015, 0.7, 0.4), distort_chance=0.0, mosaic_chance=0.0,
                 plain_from=None, small_shape=None, small_until=0, cache=True):
        self.list_path, self.class_names, self.input_shape = list_path, class_names, tuple(input_shape)
        self.train, self.seed = train, seed
        self.scale, self.aspect, self.translate, self.flip_chance = scale, aspect, translate, flip_chance
        self.rotation, self.blur_chance, self.colours, self.distort_chance = rotation, blur_chance, colours, distort_chance
        self.mosaic_chance, self.plain_from = mosaic_chance, plain_from
        self.small_shape, self.small_until = small_shape, small_until
        self.broken = {}                                                    # training samples whose files turned out to be damaged: why
        self.read_list()
        missing = [p for p in self.paths if not find(p).is_file()]
        if missing:
            raise UserError(f"{list_path}: {len(missing)} of {len(self.paths)} images are not there, the first is {missing[0]}. Was the folder "
                            "moved, or the image deleted? Run voc_annotation.py again (new_split=True for a new choice of images).")
        height, width = self.largest()
        self.slot = height * width * self.bytes_per_pixel + 9               # 1 byte seen, 4 shorts sizes, the pixels
        self.slots = min(len(self), int(CACHE_SHARE * machine_memory()) // self.slot) if cache else 0
        # anonymous shared memory: pages are taken when filled, and forked workers fill it together
        self.cache = mmap.mmap(-1, self.slots * self.slot) if self.slots else None

    def __getstate__(self):
        return {**self.__dict__, "cache": None, "slots": 0}                 # a spawned worker cannot share it

    def __len__(self):
        return len(self.paths)

    def largest(self):
        """(H, W): no picture is kept larger than what fits into this. What training enlarges is kept larger, so that it stays sharp."""
        share = self.enlarged() if self.train else 1.0
        return tuple(round(side * share) for side in self.input_shape)

    def enlarged(self):
        """How many times larger than in the input a part of a picture can be shown in training."""
        return 1.0

    def cached(self, index):
        """-> picture (h, w, 3), shrunken to `largest` (never grown), its mask (h, w) or None, size (h, w) of the original; from the
        memory when it was read before. Error: BrokenFile."""
        index = self.stand_in(index)
        if index >= self.slots:
            return self.read_or_name(index)
        start = index * self.slot
        header = np.frombuffer(self.cache, np.uint16, 4, start + 1)
        if self.cache[start] != SEEN:
            image, mask, size = self.read_or_name(index)
            if max(size) > 65535:
                return image, mask, size
            header[:] = (*image.shape[:2], *size)
            np.frombuffer(self.cache, np.uint8, image.size, start + 9)[:] = image.ravel()
            if mask is not None:
                np.frombuffer(self.cache, np.uint8, mask.size, start + 9 + image.size)[:] = mask.ravel()
            self.cache[start] = SEEN                                        # last, so that nobody reads half an image
        height, width, *size = (int(v) for v in header)
        pixels = np.frombuffer(self.cache, np.uint8, height * width * self.bytes_per_pixel, start + 9)
        pixels.flags.writeable = False                                      # whoever augments works on a copy
        image, mask = pixels[:height * width * 3].reshape(height, width, 3), pixels[height * width * 3:]
        return image, mask.reshape(height, width) if self.bytes_per_pixel == 4 else None, tuple(size)

    def read_or_name(self, index):
        try:
            return self.read(index)
        except UserError as error:
            raise BrokenFile(index, str(error)) from None

    def stand_in(self, index):
        """The sample itself, or, for one that cannot be read, the next one that can."""
        if len(self.broken) == len(self):
            raise UserError(f"{self.list_path}: not one of its {len(self)} samples can be used: {next(iter(self.broken.values()))}")
        while index in self.broken:
            index = (index + 1) % len(self)
        return index

    def drawn(self, epoch, index):
        """-> what `augmented` makes of a training sample, list of sentences about files that turned out to be damaged.

        Whenever that is noticed, the result is the same: everything is drawn again from the same seed, without them.
        """
        told = []
        while True:
            try:
                return *self.augmented(random.Random(f"{self.seed} {epoch} {index}"), epoch, index), told
            except BrokenFile as error:
                self.broken[error.index] = str(error)
                told.append(str(error))

    def shape(self, epoch):
        """(H, W) of the training samples of an epoch."""
        return self.small_shape if epoch < self.small_until else self.input_shape

    def is_plain(self, epoch):
        return self.plain_from is not None and epoch >= self.plain_from

    def four(self, rng, index):
        """A picture and three others, for a mosaic, in any order."""
        chosen = [index, *(rng.randrange(len(self)) for _ in range(3))]
        rng.shuffle(chosen)
        return chosen

    def developed(self, rng, image):
        """What happens to the pixels wherever they lie: blur and colours."""
        if self.blur_chance and rng.random() < self.blur_chance:
            image = augment.blur(rng, image)
        if self.distort_chance and rng.random() < self.distort_chance:
            image = augment.distort(rng, image)
        return augment.change_colours(rng, image, self.colours)

    def read(self, index):
        """As `cached`, from the file."""
        image, size = open_shrunken(find(self.paths[index]), self.largest(), exact=not self.train, fit=self.fit)
        return image, None, size


class DetectionData(ListData):
    """Images and boxes of a list file. More than ListData:

    mixup_chance, zoom_out_chance, iou_crop_chance: see utils/augment.py.  fit: how a picture meets the input, see utils.images.fitted_size.
    Objects that are difficult for people are not taught.
    """

    task = "detection"

    def __init__(self, *arguments, mixup_chance=0.0, zoom_out_chance=0.0, iou_crop_chance=0.0, fit="letterbox", **settings):
        self.mixup_chance, self.zoom_out_chance, self.iou_crop_chance, self.fit = mixup_chance, zoom_out_chance, iou_crop_chance, fit
        check_fit(fit)
        if settings.get("train") and fit == "short_side":
            raise UserError('fit="short_side" makes an input of another size of every picture, and training needs one for all: train with '
                            'fit="letterbox" or "stretch". get_map.py and predict.py can use it with the trained network, '
                            "like  python get_map.py fit=short_side input_shape=800,1333")
        super().__init__(*arguments, **settings)

    def read_list(self):
        self.paths, self.boxes = read_list(find(self.list_path))
        check_classes(self.paths, self.boxes, self.class_names, self.list_path)

    def enlarged(self):
        return SHARP if self.iou_crop_chance else 1.0

    def __getitem__(self, key):
        """key: (epoch, index) -> image (3, H, W) uint8 tensor, target dict: boxes (G, 4) xyxy input px, labels (G,), index;
        and when not training transform and size (h, w), which lead back to the original picture."""
        epoch, index = key
        if self.train:
            image, boxes, told = self.drawn(epoch, index)
            target = {"damaged": told} if told else {}
        else:
            shrunken, boxes, size = self.picture(index)
            image, transform = fit_image(shrunken, self.input_shape, self.fit, size)
            boxes[:, :4] = to_input(self.boxes[index][:, :4], transform)
            target = {"transform": transform, "size": size}
        boxes = boxes[boxes[:, 5] == 0]                                     # what is difficult for people is not taught
        target |= {"boxes": torch.from_numpy(boxes[:, :4].copy()), "labels": torch.from_numpy(boxes[:, 4].astype(np.int64)), "index": index}
        return torch.from_numpy(image).permute(2, 0, 1), target

    def augmented(self, rng, epoch, index):
        """One training picture. -> image (H, W, 3), boxes (G, 6)."""
        plain, shape = self.is_plain(epoch), self.shape(epoch)
        image, boxes = self.arranged(rng, index, shape, not plain)
        if not plain and rng.random() < self.mixup_chance:
            image, boxes = augment.mixup(rng, image, boxes, *self.arranged(rng, rng.randrange(len(self)), shape, True))
        if rng.random() < self.flip_chance:
            image, boxes = augment.flip(image, boxes)
        if self.rotation and rng.random() < ROTATED:
            image, boxes, _ = augment.rotate(rng.uniform(-self.rotation, self.rotation), image, boxes)
        return self.developed(rng, image), boxes

    def arranged(self, rng, index, shape, may_mosaic):
        """One picture, or four as a mosaic, at random places of an input of `shape`; or what SSD's zoom-out and crop show of it."""
        if may_mosaic and rng.random() < self.mosaic_chance:
            pictures = [self.picture(i)[:2] for i in self.four(rng, index)]
            return augment.mosaic(rng, shape, pictures, self.scale, self.aspect, self.fit)
        image, boxes, _ = self.picture(index)
        zooms, crops = (chance and rng.random() < chance for chance in (self.zoom_out_chance, self.iou_crop_chance))
        if not zooms and not crops:
            return augment.scale_and_crop(rng, shape, image, boxes, self.scale, self.aspect, self.translate, self.fit)
        view = augment.zoom_out(rng, image.shape[:2]) if zooms else (0, 0, image.shape[1], image.shape[0])
        if crops:
            view, boxes = augment.iou_crop(rng, view, boxes)
        return augment.put_view(shape, image, boxes, view, self.fit)

    def picture(self, index):
        """-> image as in `cached`, boxes (G, 6) in its pixels, original size (h, w)."""
        index = self.stand_in(index)
        image, _, size = self.cached(index)
        boxes = self.boxes[index].copy()
        boxes[:, 0:4:2] *= image.shape[1] / size[1]
        boxes[:, 1:4:2] *= image.shape[0] / size[0]
        return image, boxes, size


class SegmentationData(ListData):
    """Images and masks of a list file. More than ListData:

    ignore_labels: values in the masks that are no class, see utils/labels.py.
    """

    task = "segmentation"
    bytes_per_pixel = 4

    def __init__(self, *arguments, ignore_labels=(), **settings):
        self.ignore_labels, self.pixels = ignore_labels, None
        super().__init__(*arguments, **settings)

    def read_list(self):
        self.paths, self.masks = read_mask_list(find(self.list_path))
        self.table = label_table(self.class_names, self.ignore_labels)

    def enlarged(self):
        return max(1.0, self.scale[1])

    def __getitem__(self, key):
        """key: (epoch, index) -> image (3, H, W) uint8 tensor, target dict: mask (H, W) uint8, index;
        and when not training transform and size (h, w), which lead back to the original picture."""
        epoch, index = key
        if self.train:
            image, mask, told = self.drawn(epoch, index)
            target = {"damaged": told} if told else {}
        else:
            shrunken, small, size = self.cached(index)
            image, transform = fit_image(shrunken, self.input_shape, size=size)
            mask = letterbox_mask(small, self.input_shape, size)
            target = {"transform": transform, "size": size}
        return torch.from_numpy(image).permute(2, 0, 1), target | {"mask": torch.from_numpy(mask), "index": index}

    def augmented(self, rng, epoch, index):
        """One training picture. -> image (H, W, 3), mask (H, W)."""
        if not self.is_plain(epoch) and rng.random() < self.mosaic_chance:
            pictures = [self.cached(i)[:2] for i in self.four(rng, index)]
            image, mask = augment.mosaic_mask(rng, self.shape(epoch), pictures, self.scale, self.aspect)
        else:
            image, mask = augment.scale_and_crop_mask(rng, self.shape(epoch), *self.cached(index)[:2], self.scale, self.aspect, self.translate)
        if rng.random() < self.flip_chance:
            image, mask = augment.flip_mask(image, mask)
        if self.rotation and rng.random() < ROTATED:
            image, _, mask = augment.rotate(rng.uniform(-self.rotation, self.rotation), image, mask=mask)
        return self.developed(rng, image), mask

    def read(self, index):
        image, _, size = super().read(index)
        return image, resize_mask(self.truth(index, size), *image.shape[:2]), size

    def truth(self, index, size=None):
        """The labels of an image at its own size: (h, w) uint8, 0 to K-1 and IGNORED. size: (h, w) that it must have."""
        return read_labels(find(self.masks[index]), self.table, size)


class KeySampler:
    """Yields the batches of one epoch, lists of keys (epoch, index); shuffled as a pure function of (seed, epoch).

    epoch, first: which epoch, and from which of its batches on; to be set before each pass.
    share: of several processes each gets its part of every training batch, and of an evaluation every so manieth whole batch.
    A training set that is not a multiple of the batch keeps its last, smaller batch, as far as it divides by the processes; but not a
    single image: the statistics of BatchNorm over one image are noise.
    """

    def __init__(self, count, batch_size, seed=0, train=False):
        self.count, self.batch_size, self.seed, self.train, self.epoch, self.first = count, batch_size, seed, train, 0, 0
        rest = count % batch_size
        self.dropped = rest % distributed.world() if train else 0
        if train and count > batch_size > 1 and rest - self.dropped == 1:
            self.dropped = rest

    def __len__(self):
        batches = -(-(self.count - self.dropped) // self.batch_size)
        return batches if self.train else len(range(distributed.rank(), batches, distributed.world()))

    def __iter__(self):
        order = list(range(self.count))
        if self.train:
            random.Random(f"{self.seed} {self.epoch} order").shuffle(order)
        keys = [(self.epoch, index) for index in order[:self.count - self.dropped]]
        batches = [keys[start:start + self.batch_size] for start in range(0, len(keys), self.batch_size)][self.first:]
        if self.train:
            return iter([batch[slice(*distributed.share_of(len(batch)))] for batch in batches])
        return iter(batches[distributed.rank()::distributed.world()])


def collate(samples):
    """-> images (B, 3, H, W) uint8, targets list of B dicts. The memory stays pixel by pixel (channels last), so nothing is reordered."""
    images = stack([image.permute(1, 2, 0).numpy() for image, _ in samples])
    return torch.from_numpy(images).permute(0, 3, 1, 2), [target for _, target in samples]


def make_loader(data, batch_size, num_workers=None, seed=0, device="cpu", start=None):
    """DataLoader over a data set; shuffled when it is for training. loader.batch_sampler (a KeySampler) chooses the epoch.

    num_workers: None chooses; more than there are batches is never started.  start: "fork" or "spawn" of them; None: fork on Linux.
    """
    batch_size = min(batch_size, len(data))
    sampler = KeySampler(len(data), batch_size, seed, data.train)
    on_gpu = torch.device(device).type == "cuda"
    if num_workers is None:                             # beside a GPU; on a CPU the cores are busy training
        num_workers = min(8 if data.train else 2, cores() // 2) if on_gpu else 0
    num_workers = enough_memory(min(num_workers, len(sampler)), data, batch_size)
    if num_workers and start is None and sys.platform == "linux":
        start = "fork"                                  # forked workers share the cache
    return DataLoader(data, batch_sampler=sampler, num_workers=num_workers, collate_fn=collate, persistent_workers=num_workers > 0,
                      pin_memory=on_gpu, worker_init_fn=prepare_worker, multiprocessing_context=start if num_workers else None)


def enough_memory(num_workers, data, batch_size):
    """So many workers that their batches fit into /dev/shm, through which they come; where it is too small they die of a bus error."""
    if not num_workers or not SHARED_MEMORY.is_dir():
        return num_workers
    batch = batch_size * (data.input_shape[0] * data.input_shape[1] * data.bytes_per_pixel + 2**12)
    fit = int(shutil.disk_usage(SHARED_MEMORY).free // (AHEAD * batch))
    if fit < num_workers:
        print(f"NOTE: {SHARED_MEMORY} has room for the batches of {fit} workers, not of {num_workers}, so there are {fit}. "
              "In docker: --shm-size=8g.")
    return min(num_workers, fit)


def prepare_worker(_):
    """Workers are the parallel part; each one keeps to a single thread. And it is the parent that decides about Ctrl-C."""
    signals.for_workers()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def class_counts(data, difficult=True):
    """-> {name: objects} of a data set for detection, {name: pixels} of one for segmentation, whose masks are all read and checked."""
    if data.task == "detection":
        rows = np.concatenate(data.boxes)
        counts = np.bincount(rows[difficult | (rows[:, 5] == 0), 4].astype(int), minlength=len(data.class_names))
        return dict(zip(data.class_names, counts.tolist()))
    if data.pixels is None:
        with ThreadPoolExecutor() as pool:                                  # decoding leaves Python's lock free
            counts = pool.map(lambda index: np.bincount(data.truth(index).ravel(), minlength=256), range(len(data)))
            data.pixels = dict(zip(data.class_names, sum(counts).tolist()))
    return data.pixels


def describe(data):
    """What is in a data set: images, and objects or share of the labelled pixels per class; for training masks what their values mean."""
    text, counts = f"{shown(find(data.list_path))}: {len(data)} images", class_counts(data)
    total = sum(counts.values())
    if data.task == "detection":
        return f"{text}, {total} objects (" + ", ".join(f"{name} {count}" for name, count in counts.items()) + ")"
    text += ", labelled pixels: " + ", ".join(f"{name} {count / max(total, 1):.1%}" for name, count in counts.items())
    return text + (f"\nWhat the values in the masks mean:\n{describe_labels(data.class_names, data.ignore_labels)}" if data.train else "")
