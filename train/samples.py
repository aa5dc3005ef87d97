"""The images of a data set as the trainer sees them: cropped at random to train on, from the centre to validate on.

The random crop and flip are torchvision's RandomResizedCrop and RandomHorizontalFlip on Pillow images: cut, then
resized bilinearly (https://github.com/pytorch/vision, torchvision/transforms/transforms.py). What is random about an
image follows from SEED, the epoch and the image's place alone, so that neither the number of processes or workers nor a
resumed run changes what is trained on.

Pixels stay uint8 until they are on the device, a quarter of the bytes between processes.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Union

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from yacs.config import CfgNode

from hrnet import datasets
from hrnet.cli import UserError, first_few
from hrnet.images import resize_and_crop
from train.distributed import DistributedContext

SEED = 0
RATIO = (3 / 4, 4 / 3)  # width over height of a random crop
ATTEMPTS = 10  # random crops that may fall outside the image before its centre is taken

Batch = tuple[torch.Tensor, torch.Tensor]  # uint8 [N, H, W, 3], int64 [N]
Key = tuple[int, int]  # epoch, place in the split


class Split(NamedTuple):
    """Images to train or to validate on, in a fixed order."""

    files: list[Path]
    labels: list[int]
    left_out: list[str]  # files that stand among them without a class
    absent: list[str]  # labels without a file: the folder holds a subset


def read_training(root: Path, config: CfgNode) -> Split:
    """The images of train/<class>/, the sorted folders being the classes. UserError where they are not the model's."""
    dataset = datasets.find_training_images(root)
    if dataset.class_folders != config.MODEL.NUM_CLASSES:
        _refuse_classes(dataset, config)
    return _split(dataset)


def read_held_out(root: Path, config: CfgNode) -> Split:
    """The images below val/, in any layout that preprocessing knows. UserError where the labels are not the model's."""
    dataset = datasets.find_images(root)
    classes = config.MODEL.NUM_CLASSES
    outside = [source for source, label in dataset.labels.items() if label >= classes]
    if outside:
        expected, found = f"labels below {classes}, MODEL.NUM_CLASSES", first_few(outside)
        raise UserError("label outside the classes", where=dataset.index, expected=expected, found=found)
    if dataset.class_folders not in (0, classes):
        _refuse_classes(dataset, config)
    return _split(dataset)


def _refuse_classes(dataset: datasets.Dataset, config: CfgNode) -> None:
    hint = f"give another --cfg, or set MODEL.NUM_CLASSES to {dataset.class_folders} in it"
    expected = f"{config.MODEL.NUM_CLASSES}, MODEL.NUM_CLASSES"
    raise UserError("class folders", where=dataset.index, expected=expected, found=dataset.class_folders, hint=hint)


def _split(dataset: datasets.Dataset) -> Split:
    files = [dataset.root / source for source in dataset.labels]
    return Split(files, list(dataset.labels.values()), dataset.unlabelled, dataset.absent)


def crop_box(width: int, height: int, scale: tuple[float, float], source: random.Random) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a random crop: its share of the area uniform in `scale`, its ratio log-uniform in
    RATIO; the widest crop from the centre where ATTEMPTS of these do not fit."""
    for _ in range(ATTEMPTS):
        area = width * height * source.uniform(*scale)
        ratio = math.exp(source.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = source.randint(0, width - w), source.randint(0, height - h)
            return left, top, left + w, top + h
    w, h = width, height
    if width / height < RATIO[0]:
        h = round(width / RATIO[0])
    elif width / height > RATIO[1]:
        w = round(height * RATIO[1])
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def augmented(image: Image.Image, config: CfgNode, source: random.Random) -> Image.Image:
    """A random crop at the network's size, mirrored in half of all cases unless DATASET.FLIP is off."""
    box = crop_box(image.width, image.height, config.TRAIN.CROP_SCALE, source)
    cut = image.crop(box).resize(tuple(config.MODEL.IMAGE_SIZE), Image.Resampling.BILINEAR)
    if config.DATASET.FLIP and source.random() < 0.5:
        return cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return cut


class Samples(Dataset):
    """Pixels uint8 [H, W, 3] and label of the image at a Key; an unreadable one is a UserError in their place, since
    what a worker process raises would come out with its traceback."""

    def __init__(self, split: Split, config: CfgNode, training: bool) -> None:
        self.split, self.config, self.training = split, config, training

    def __getitem__(self, key: Key) -> Union[tuple[torch.Tensor, int], UserError]:
        epoch, place = key
        path = self.split.files[place]
        try:
            with Image.open(path) as opened:
                image = opened.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            return UserError(f"is no readable image: {error}", where=path, hint="mend or remove the file")
        if self.training:
            pixels = np.asarray(augmented(image, self.config, random.Random(f"{SEED} {epoch} {place}")))
        else:
            pixels = resize_and_crop(np.asarray(image), self.config.INPUT.RESIZE, *self.config.MODEL.IMAGE_SIZE)
        return torch.from_numpy(np.array(pixels)), self.split.labels[place]


class TrainingKeys:
    """The keys of one process's batches of `epoch`. All processes cut one shuffled list: together they see the batches
    of a single process that takes as many images at once. What is over at the end of an epoch is left out, since batch
    norm and the mean of gradients want equal batches."""

    def __init__(self, images: int, batch: int, rank: int, processes: int) -> None:
        self.images, self.batch, self.rank, self.processes = images, batch, rank, processes
        self.epoch = 0

    def __len__(self) -> int:
        return self.images // (self.batch * self.processes)

    def __iter__(self) -> Iterator[list[Key]]:
        shuffled = np.random.default_rng((SEED, self.epoch)).permutation(self.images).tolist()
        together = self.batch * self.processes
        for start in range(0, len(self) * together, together):
            yield [(self.epoch, place) for place in shuffled[start + self.rank : start + together : self.processes]]


class HeldOutKeys:
    """The keys of one process's batches to validate on: among all processes each image once, none twice."""

    epoch = 0

    def __init__(self, images: int, batch: int, rank: int, processes: int) -> None:
        self.places, self.batch = range(rank, images, processes), batch

    def __len__(self) -> int:
        return math.ceil(len(self.places) / self.batch)

    def __iter__(self) -> Iterator[list[Key]]:
        for start in range(0, len(self.places), self.batch):
            yield [(self.epoch, place) for place in self.places[start : start + self.batch]]


def collate(samples: list[Union[tuple[torch.Tensor, int], UserError]]) -> Union[Batch, UserError]:
    """The samples as one batch, or the first fault among them."""
    for sample in samples:
        if isinstance(sample, UserError):
            return sample
    pixels, labels = zip(*samples)
    return torch.stack(pixels), torch.tensor(labels)


class Batches:
    """One process's batches, read ahead by `workers` processes, which stay from epoch to epoch; 0: by this one."""

    def __init__(
        self, samples: Samples, keys: Union[TrainingKeys, HeldOutKeys], workers: int, place: DistributedContext
    ) -> None:
        self.images, self.keys = len(samples.split.files), keys
        self.loader = DataLoader(
            samples,
            batch_sampler=keys,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=place.device.type != "cpu",
            persistent_workers=workers > 0,
        )

    def __len__(self) -> int:
        return len(self.keys)

    def of(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch. Raises UserError for an image that could not be read."""
        self.keys.epoch = epoch
        for batch in self.loader:
            if isinstance(batch, UserError):
                raise batch
            yield batch


def training(split: Split, config: CfgNode, place: DistributedContext) -> Batches:
    """One process's batches to train on. UserError where there is not one batch for all processes."""
    batch = config.TRAIN.BATCH_SIZE_PER_GPU
    keys = TrainingKeys(len(split.files), batch, place.rank, place.processes)
    if not len(keys):
        where, found = split.files[0].parent.parent, len(split.files)
        expected = f"at least {batch * place.processes}, {batch} for each process"
        raise UserError("too few images", where=where, expected=expected, found=found, hint="give a smaller --bs")
    return Batches(Samples(split, config, training=True), keys, config.WORKERS, place)


def held_out(split: Split, config: CfgNode, place: DistributedContext) -> Batches:
    """One process's batches to validate on."""
    keys = HeldOutKeys(len(split.files), config.TEST.BATCH_SIZE_PER_GPU, place.rank, place.processes)
    return Batches(Samples(split, config, training=False), keys, config.WORKERS, place)


@contextlib.contextmanager
def deaths_told() -> Iterator[None]:
    """Tell in a line that a process which read images was killed; torch raises that wherever the trainer just is."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        what = "a process that reads images was killed, most likely for want of memory (of /dev/shm, too)"
        raise UserError(what, hint="give fewer --workers; the same call goes on behind the last epoch") from None


def images_sha256(split: Split) -> str:
    """Hash of the names and labels, in their order."""
    lines = (f"{os.path.join(*path.parts[-3:])} {label}\n" for path, label in zip(split.files, split.labels))
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
