"""List file -> samples -> batches. One dataset for training and evaluation.

A sample is a pure function of (seed, epoch, index): the sampler hands out these keys, and the augmentation
seeds itself from them. Therefore the result does not depend on the number of workers, on where a run was
resumed, or on what was drawn before.
"""
import random
import shutil
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from utils import augment
from utils.augment import Sample
from utils.cache import PictureCache
from utils.errors import UserError
from utils.images import (
    check_fit,
    fit_image,
    letterbox_mask,
    open_image,
    open_shrunken,
    resize_mask,
    stack,
    to_input,
)
from utils.labels import describe_labels, label_table, read_labels
from utils.lists import check_classes, read_list, read_mask_list
from utils.settings import find, shown
from utils.system import distributed, signals
from utils.system.machine import SHARED_MEMORY, cores, usual_start

ROTATED = 0.25                  # share of the training pictures that are turned, where `rotate` is set
AHEAD = 3                       # batches of a worker that may be there at a time: two prefetched, one in use
SHARP = 2.0                     # where iou_crop enlarges parts of the pictures they are kept that much larger


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
    augmentation: a utils.augment.Augmentation for training; None: evaluation, no change.
    small_shape, small_until: up to this epoch the input is only that large, (H, W) px: steps cost less.
    cache: keep shrunken images in memory, see utils/cache.py.
    value_range: what is black and white in pictures of more than 8 bits, see utils/depth.py.
    """

    bytes_per_pixel = 3
    fit = "letterbox"               # how a picture meets the input, see utils.images.fitted_size

    def __init__(self, list_path, class_names, input_shape, augmentation=None, seed=0, small_shape=None,
                 small_until=0, cache=True, value_range=None):
        self.list_path, self.class_names, self.input_shape = list_path, class_names, tuple(input_shape)
        self.augmentation, self.seed = augmentation, seed
        self.small_shape, self.small_until = small_shape, small_until
        self.value_range = value_range
        self.broken = {}                            # index of a training sample whose file is damaged -> why

        # A file that is missing is found now, not after an hour.
        self.read_list()
        missing = [path for path in self.paths if not find(path).is_file()]
        if missing:
            count = f"{len(missing)} of {len(self.paths)}"
            raise UserError(f"{list_path}: {count} images are missing, the first is {missing[0]}. "
                            "Was the dataset moved, or the image deleted? New lists are written by  "
                            'python voc_annotation.py "dataset=..."')

        self.cache = PictureCache(len(self) if cache else 0, self.largest(), self.bytes_per_pixel)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, key):
        """key: (epoch, index) -> image (3, H, W) uint8 tensor, target dict: index and truth (`make_target`).

        When evaluating also transform and size (h, w), which lead back to the original picture.
        """
        epoch, index = key
        if self.train:
            sample, told = self.training_sample(epoch, index)
            target = {"damaged": told} if told else {}
        else:
            sample, transform, size = self.evaluation_sample(index)
            target = {"transform": transform, "size": size}
        target |= self.make_target(sample)
        target["index"] = index
        return torch.from_numpy(sample.image).permute(2, 0, 1), target

    @property
    def train(self):
        """Whether this is a training set."""
        return self.augmentation is not None

    def shape(self, epoch):
        """(H, W) of the training samples of an epoch."""
        return self.small_shape if epoch < self.small_until else self.input_shape

    # What is read, and what happens when that fails

    def load(self, index):
        """-> Sample as it is kept (see `largest`), size (h, w) of the original. Error: BrokenFile."""
        index = self.stand_in(index)
        try:
            image, mask, size = self.cache.get(index, self.read)
        except UserError as error:
            raise BrokenFile(index, str(error)) from None
        return Sample(image, mask=mask), size

    def read(self, index):
        """From the file: -> picture (h, w, 3), its mask (h, w) or None, size (h, w) of the original."""
        path = find(self.paths[index])
        image, size = open_shrunken(path, self.largest(), not self.train, self.fit, self.value_range)
        return image, None, size

    def largest(self):
        """(H, W) into which every picture fits as it is kept; larger for what training enlarges."""
        share = self.enlarged() if self.train else 1.0
        return tuple(round(side * share) for side in self.input_shape)

    def whole_image(self, index):
        """The picture of a sample at its own size: (h, w, 3) uint8."""
        return open_image(find(self.paths[index]), self.value_range)

    def stand_in(self, index):
        """The index itself, or, when that sample cannot be read, the next one that can."""
        if len(self.broken) == len(self):
            reason = next(iter(self.broken.values()))
            raise UserError(f"{self.list_path}: none of its {len(self)} samples can be used: {reason}")
        while index in self.broken:
            index = (index + 1) % len(self)
        return index

    # How a training sample is varied

    def training_sample(self, epoch, index):
        """-> Sample, list of sentences about files that turned out to be damaged.

        Whenever it is noticed, the result is the same: all is drawn again from the same seed, without them.
        """
        told = []
        while True:
            try:
                return self.vary(random.Random(f"{self.seed} {epoch} {index}"), epoch, index), told
            except BrokenFile as error:
                self.broken[error.index] = str(error)
                told.append(str(error))

    def vary(self, rng, epoch, index):
        """One training sample, everything random in it drawn from rng. -> Sample."""
        how = self.augmentation
        sample = self.place_on_canvas(rng, index, self.shape(epoch), how.is_plain(epoch))
        if rng.random() < how.flip:
            sample = augment.flip(sample)
        if how.rotate and rng.random() < ROTATED:
            sample = augment.rotate(rng.uniform(-how.rotate, how.rotate), sample)
        image = self.change_pixels(rng, sample.image)
        return Sample(image, sample.boxes, sample.mask)

    def place_on_canvas(self, rng, index, shape, plain):
        """Four pictures as a mosaic, or one alone, on a canvas of `shape`. plain: no mosaic. -> Sample."""
        how = self.augmentation
        if not plain and rng.random() < how.mosaic:
            samples = [self.load(chosen)[0] for chosen in self.pick_four(rng, index)]
            return augment.mosaic(rng, shape, samples, how.scale, how.aspect, self.fit)
        return self.place_one(rng, self.load(index)[0], shape)

    def place_one(self, rng, sample, shape):
        """One picture at a random place of a canvas of `shape`. -> Sample."""
        how = self.augmentation
        return augment.scale_and_crop(rng, shape, sample, how.scale, how.aspect, how.translate, self.fit)

    def pick_four(self, rng, index):
        """-> this index and three others, for a mosaic, in any order."""
        chosen = [index, *(rng.randrange(len(self)) for _ in range(3))]
        rng.shuffle(chosen)
        return chosen

    def change_pixels(self, rng, image):
        """What moves nothing: blur and colours."""
        how = self.augmentation
        if how.blur and rng.random() < how.blur:
            image = augment.blur(rng, image)
        if how.distort and rng.random() < how.distort:
            image = augment.distort(rng, image)
        return augment.change_colours(rng, image, how.colours)

    # What a task says

    def read_list(self):
        """Read the list file into `paths` and the truth."""
        raise NotImplementedError

    def enlarged(self):
        """How many times larger than in the input a part of a picture can be shown in training."""
        raise NotImplementedError

    def evaluation_sample(self, index):
        """-> Sample fitted into the input, transform (see `fit_image`), size (h, w) of the original."""
        raise NotImplementedError

    def make_target(self, sample):
        """-> the truth of a sample as a part of its target."""
        raise NotImplementedError


class DetectionData(ListData):
    """Images and boxes of a list file. What it takes more than ListData:

    fit: how a picture meets the input, see utils.images.fitted_size.
    Objects that are marked as difficult are known (`boxes`), but no target holds them.
    """

    task = "detection"

    def __init__(self, list_path, class_names, input_shape, fit="letterbox", augmentation=None, **options):
        check_fit(fit)
        if augmentation and fit in ("rect", "short_side"):
            raise UserError(f'fit="{fit}" gives every picture an input of its own size, and '
                            'training needs one for all: train with fit="letterbox" or "stretch". '
                            "get_map.py and predict.py can use it with the trained network, like  "
                            "python get_map.py fit=short_side input_shape=800,1333")
        self.fit = fit
        super().__init__(list_path, class_names, input_shape, augmentation, **options)

    def read_list(self):
        self.paths, self.boxes = read_list(find(self.list_path))            # boxes: a (G, 6) for each image
        check_classes(self.paths, self.boxes, self.class_names, self.list_path)

    def truths(self):
        """What is true of each image, in px of the original: a list of dicts, see utils/metrics.py."""
        truths = []
        for boxes in self.boxes:
            labels = boxes[:, 4].astype(np.int64)
            truths.append({"boxes": boxes[:, :4], "labels": labels, "difficult": boxes[:, 5] > 0})
        return truths

    def enlarged(self):
        return SHARP if self.augmentation.iou_crop else 1.0

    def load(self, index):
        """As ListData does, with boxes (G, 6) in the pixels of the picture as it is kept."""
        (image, _, _), size = super().load(index)
        boxes = self.boxes[self.stand_in(index)].copy()
        boxes[:, 0:4:2] *= image.shape[1] / size[1]
        boxes[:, 1:4:2] *= image.shape[0] / size[0]
        return Sample(image, boxes), size

    def place_on_canvas(self, rng, index, shape, plain):
        """As ListData does, at times two of them as one (mixup). plain: neither mosaic nor mixup."""
        sample = super().place_on_canvas(rng, index, shape, plain)
        if plain or rng.random() >= self.augmentation.mixup:
            return sample
        other = super().place_on_canvas(rng, rng.randrange(len(self)), shape, plain)
        return augment.mixup(rng, sample, other)

    def place_one(self, rng, sample, shape):
        """One picture at a random place; or, in its stead, what SSD's zoom-out and crop show of it."""
        how = self.augmentation
        zooms = how.zoom_out and rng.random() < how.zoom_out
        crops = how.iou_crop and rng.random() < how.iou_crop
        if not zooms and not crops:
            return super().place_one(rng, sample, shape)

        height, width = sample.image.shape[:2]
        view = augment.zoom_out(rng, (height, width)) if zooms else (0, 0, width, height)
        if crops:
            view, boxes = augment.iou_crop(rng, view, sample.boxes)
            sample = Sample(sample.image, boxes)
        return augment.put_view(shape, sample, view, self.fit)

    def evaluation_sample(self, index):
        sample, size = self.load(index)
        image, transform = fit_image(sample.image, self.input_shape, self.fit, size)
        boxes = self.boxes[index].copy()                    # in pixels of the original: nothing is rounded
        boxes[:, :4] = to_input(boxes[:, :4], transform)
        return Sample(image, boxes), transform, size

    def make_target(self, sample):
        """-> boxes (G, 4) xyxy input px, labels (G,) int64, without the objects marked as difficult."""
        boxes = sample.boxes[sample.boxes[:, 5] == 0]
        labels = boxes[:, 4].astype(np.int64)
        return {"boxes": torch.from_numpy(boxes[:, :4].copy()), "labels": torch.from_numpy(labels)}


class SegmentationData(ListData):
    """Images and masks of a list file. What it takes more than ListData:

    ignore_labels: values in the masks that are no class, see utils/labels.py.
    Of the augmentation, zoom_out, iou_crop and mixup are for boxes: they have no effect here.
    """

    task = "segmentation"
    bytes_per_pixel = 4

    def __init__(self, list_path, class_names, input_shape, ignore_labels=(), **options):
        self.ignore_labels = ignore_labels
        self.pixels = None                                  # of `class_counts`, once they are counted
        super().__init__(list_path, class_names, input_shape, **options)

    def read_list(self):
        self.paths, self.masks = read_mask_list(find(self.list_path))
        self.table = label_table(self.class_names, self.ignore_labels)

    def enlarged(self):
        return max(1.0, self.augmentation.scale[1])

    def read(self, index):
        """As ListData does, with the mask shrunken like the picture."""
        image, _, size = super().read(index)
        mask = resize_mask(self.truth(index, size), *image.shape[:2])
        return image, mask, size

    def truth(self, index, size=None):
        """The labels of an image: (h, w) uint8, 0 to K-1 and IGNORED. size: (h, w) they must have."""
        return read_labels(find(self.masks[index]), self.table, size)

    def evaluation_sample(self, index):
        sample, size = self.load(index)
        image, transform = fit_image(sample.image, self.input_shape, self.fit, size)
        mask = letterbox_mask(sample.mask, self.input_shape, size)
        return Sample(image, mask=mask), transform, size

    def make_target(self, sample):
        """-> mask (H, W) uint8."""
        return {"mask": torch.from_numpy(sample.mask)}


class KeySampler:
    """Yields the batches of one epoch, lists of keys (epoch, index); shuffled as a pure function of
    (seed, epoch).

    epoch, first: which epoch, and from which of its batches on; to be set before each pass. Of several
    processes each gets its share of every training batch, and in an evaluation every so manieth whole batch.
    A training set that is not a multiple of the batch keeps its last, smaller batch, as far as it divides by
    the processes; but not a single image: the statistics of BatchNorm over one image are noise.
    """

    def __init__(self, count, batch_size, seed=0, train=False):
        self.count, self.batch_size, self.seed, self.train = count, batch_size, seed, train
        self.epoch = self.first = 0

        # How many images of the shuffled list an epoch leaves out, from its end.
        rest = count % batch_size
        self.dropped = rest % distributed.world() if train else 0
        if train and count > batch_size > 1 and rest - self.dropped == 1:
            self.dropped = rest

    def share(self, step):
        """How many of the images of this training step, counted from 0 in an epoch, are this process's."""
        left = self.count - self.dropped - step * self.batch_size
        return min(self.batch_size, left) // distributed.world()

    def __len__(self):
        batches = -(-(self.count - self.dropped) // self.batch_size)
        return batches if self.train else len(range(distributed.rank(), batches, distributed.world()))

    def __iter__(self):
        # The order of the whole epoch, the same in every process.
        order = list(range(self.count))
        if self.train:
            random.Random(f"{self.seed} {self.epoch} order").shuffle(order)

        # Cut into batches; a resumed run begins in the middle.
        keys = [(self.epoch, index) for index in order[:self.count - self.dropped]]
        batches = [keys[start:start + self.batch_size] for start in range(0, len(keys), self.batch_size)]
        batches = batches[self.first:]

        # Several processes: whole batches in turn when evaluating, in training a part of each batch.
        if not self.train:
            return iter(batches[distributed.rank()::distributed.world()])
        shares = []
        for batch in batches:
            first, end = distributed.share_of(len(batch))
            shares.append(batch[first:end])
        return iter(shares)


def collate(samples):
    """-> images (B, 3, H, W) uint8, in memory channels last, targets list of B dicts."""
    images = stack([image.permute(1, 2, 0).numpy() for image, _ in samples])
    return torch.from_numpy(images).permute(0, 3, 1, 2), [target for _, target in samples]


def make_loader(data, batch_size, num_workers=None, seed=0, device="cpu", start=None):
    """DataLoader over a dataset; shuffled when it is for training. loader.batch_sampler (a KeySampler)
    chooses the epoch.

    num_workers: None chooses; more than there are batches are never started.
    start: how workers start, "fork" or "spawn"; None: see utils.system.machine.usual_start.
    """
    batch_size = min(batch_size, len(data))
    sampler = KeySampler(len(data), batch_size, seed, data.train)

    # Workers pay beside a GPU; on a CPU the cores are busy training.
    on_gpu = torch.device(device).type == "cuda"
    if num_workers is None:
        most = 8 if data.train else 2
        num_workers = min(most, cores() // 2) if on_gpu else 0
    num_workers = enough_memory(min(num_workers, len(sampler)), data, batch_size)

    return DataLoader(data, batch_sampler=sampler, num_workers=num_workers, collate_fn=collate,
                      pin_memory=on_gpu, persistent_workers=num_workers > 0, worker_init_fn=prepare_worker,
                      multiprocessing_context=(start or usual_start()) if num_workers else None)


def enough_memory(num_workers, data, batch_size):
    """-> so many workers that their batches fit into /dev/shm; when it is full they die of a bus error."""
    if not num_workers or not SHARED_MEMORY.is_dir():
        return num_workers
    batch = batch_size * (data.input_shape[0] * data.input_shape[1] * data.bytes_per_pixel + 2**12)
    room = int(shutil.disk_usage(SHARED_MEMORY).free // (AHEAD * batch))
    if room < num_workers:
        print(f"NOTE: {SHARED_MEMORY} has room for the batches of {room} workers, not of {num_workers}, "
              f"so there are {room}. In docker: --shm-size=8g.")
    return min(num_workers, room)


def prepare_worker(_):
    """Workers are the parallel part, so each keeps to a single thread; the parent decides about Ctrl-C."""
    signals.for_workers()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def class_counts(data, difficult=True):
    """-> {name: objects}, with the difficult ones or without; {name: pixels} of masks, all of them read."""
    if data.task == "detection":
        rows = np.concatenate(data.boxes)
        counted = rows if difficult else rows[rows[:, 5] == 0]
        counts = np.bincount(counted[:, 4].astype(int), minlength=len(data.class_names))
        return dict(zip(data.class_names, counts.tolist()))

    # Decoding leaves Python's lock free, so threads are enough; the result is kept, for it takes a while.
    if data.pixels is None:
        with ThreadPoolExecutor() as pool:
            counts = sum(pool.map(lambda index: count_labels(data.truth(index)), range(len(data))))
        data.pixels = dict(zip(data.class_names, counts.tolist()))
    return data.pixels


def count_labels(mask):
    """mask: (H, W) uint8 -> (256,) pixels of each value."""
    return np.bincount(mask.ravel(), minlength=256)


def describe(data):
    """What is in a dataset: images, objects or pixels per class; for training also what mask values mean."""
    counts = class_counts(data)
    total = sum(counts.values())
    text = f"{shown(find(data.list_path))}: {len(data)} images, "
    if data.task == "detection":
        each = ", ".join(f"{name} {count}" for name, count in counts.items())
        return f"{text}{total} objects ({each})"

    each = ", ".join(f"{name} {count / max(total, 1):.1%}" for name, count in counts.items())
    text += f"labelled pixels: {each}"
    if data.train:
        meanings = describe_labels(data.class_names, data.ignore_labels)
        text += f"\nWhat the values in the masks mean:\n{meanings}"
    return text
