"""Images from folders and zips to batches: deterministic, shuffled, weighted, resumable anywhere.

Element i of the stream is a pure function of the seed and i: which image, which crop, whether flipped. It carries i
with it (``index``), and the step derives timestep and noise from that number. So a batch is the same on any number of
devices and hosts, and the place in the stream is one number.
"""

import io
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image as PILImage
from PIL import ImageOps

from jaxdiff.files import SUFFIXES, decode, one_sentence, quiet, to_rgb
from jaxdiff.training.config import DataConfig

__all__ = ["Dataset", "ImageSet", "Stream", "open_images", "prepare", "stream"]

MAX_FILE = 2**29
"""Bytes of a picture's file; a small zip can hold an entry that unpacks to far more than memory has."""

Report = Callable[[int, int], None]


class _Files(Protocol):
    """Named files that can be read from several threads."""

    names: list[str]

    def read(self, name: str) -> bytes: ...


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        found = (p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        self.names = sorted(p.relative_to(path).as_posix() for p in found)

    def read(self, name: str) -> bytes:
        _check_size(name, (self.path / name).stat().st_size)
        return (self.path / name).read_bytes()


class _Zip:
    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except Exception as error:  # zipfile raises many kinds for a damaged directory
            raise ValueError(f"{path} cannot be read as a zip ({one_sentence(error)}).") from None
        names = (n for n in self._zip.namelist() if not n.startswith("__MACOSX/"))
        self.names = sorted(n for n in names if Path(n).suffix.lower() in SUFFIXES)
        self._lock = threading.Lock()

    def read(self, name: str) -> bytes:
        with self._lock:
            _check_size(name, self._zip.getinfo(name).file_size)
            return self._zip.read(name)


def _check_size(name: str, count: int) -> None:
    if count > MAX_FILE:
        raise ValueError(f"{name} has {count} bytes; a picture of at most {MAX_FILE} is read.")


def _decode(data: bytes, size: int, random_crop: bool) -> np.ndarray:
    """RGB uint8 with the shorter side ``size``, antialiased; the longer side is cropped at the centre unless random."""
    picture, _ = to_rgb(decode(io.BytesIO(data))[0])
    if picture.size != (size, size):
        if random_crop:
            scale = size / min(picture.size)
            width, height = (max(size, round(side * scale)) for side in picture.size)
            picture = picture.resize((width, height), PILImage.Resampling.LANCZOS)
        else:
            picture = ImageOps.fit(picture, (size, size), PILImage.Resampling.LANCZOS)
    return np.asarray(picture)


class ImageSet:
    """The readable images of one folder or zip at one size; ``set[i]`` is uint8 [h, w, 3].

    Attributes:
        path: where they are.
        names: file names of the readable ones.
        skipped: file names that could not be decoded.
    """

    def __init__(self, path: str | Path, files: _Files, size: int, random_crop: bool) -> None:
        self.path, self._files, self._size, self._random_crop = str(path), files, size, random_crop
        self.names: list[str] = list(files.names)
        self.skipped: list[str] = []
        self._cache: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> np.ndarray:
        name = self.names[i]
        cached = self._cache.get(name)
        if cached is not None:
            return cached
        return _decode(self._files.read(name), self._size, self._random_crop)

    def scan(self, cache_bytes: float, workers: int, report: Report | None = None) -> float:
        """Decode every image once: note those that fail, keep the others while they fit. Returns bytes kept."""
        kept = 0.0

        def attempt(name: str) -> np.ndarray | None:
            try:
                return _decode(self._files.read(name), self._size, self._random_crop)
            except Exception:  # Pillow raises nearly anything on a damaged file
                return None

        names = list(self.names)
        with quiet(), ThreadPoolExecutor(workers) as pool:
            for i, (name, image) in enumerate(zip(names, pool.map(attempt, names), strict=True)):
                if image is None:
                    self.skipped.append(name)
                elif kept + image.nbytes <= cache_bytes:
                    self._cache[name] = image
                    kept += image.nbytes
                if report is not None:
                    report(i + 1, len(names))
        damaged = set(self.skipped)
        self.names = [name for name in names if name not in damaged]
        return kept

    def label(self, i: int) -> str:
        """The class of image i: the first folder in its name."""
        first, _, rest = self.names[i].partition("/")
        return first if rest else ""


def open_images(path: str | Path, size: int, *, random_crop: bool = False, option: str = "--data") -> ImageSet:
    """List the images of a folder or zip; errors ask to check ``option``.

    Raises:
        ValueError: it does not exist, is neither, or holds no image.
    """
    path = Path(path)
    if path.is_dir():
        files: _Files = _Folder(path)
    elif path.is_file():
        files = _Zip(path)
    else:
        raise ValueError(f"there is no folder or zip of images at {path}; check {option}.")
    if not files.names:
        raise ValueError(f"there is no image in {path}; expected files such as *.png or *.jpg.")
    return ImageSet(path, files, size, random_crop)


class Dataset(NamedTuple):
    """The images of a run.

    Attributes:
        train: for each source, the images and which of them are trained on.
        weights: for each source, how often one of its images is seen.
        holdout: [n, S, S, 3] uint8.
        holdout_labels: [n], classes of those images, or None.
        classes: names of the classes, where the network is class-conditional.
        skipped: images that could not be read.
    """

    train: list[tuple[ImageSet, np.ndarray]]
    weights: list[float]
    holdout: np.ndarray
    holdout_labels: np.ndarray | None
    classes: list[str] | None
    skipped: int

    def __len__(self) -> int:
        return sum(len(chosen) for _, chosen in self.train)


def prepare(config: DataConfig, size: int, *, num_classes: int | None = None, report: Report | None = None) -> Dataset:
    """Open and check every source and set the held-out images apart.

    Raises:
        ValueError: no source, a source without a readable image, classes that do not suit the network, or a held-out image
            of a class that is not trained on.
    """
    if not config.sources:
        raise ValueError("there is nothing to train on; name a folder or zip of images with --data.")
    sets = [open_images(source.path, size, random_crop=config.random_crop) for source in config.sources]
    budget, total, before = config.cache_gib * 2**30, sum(len(s) for s in sets), 0
    for images in sets:
        count = len(images)
        hook = None if report is None else _offset(report, before, total)
        budget -= images.scan(budget, config.workers, hook)
        before += count
        if not len(images):
            raise ValueError(f"none of the {count} images in {images.path} can be read; check --data.")
    classes = _classes(sets, num_classes)
    train, held, held_labels = _split(sets, config, size, classes)
    return Dataset(
        train=train,
        weights=[source.weight for source in config.sources],
        holdout=held,
        holdout_labels=None if classes is None else np.asarray(held_labels, np.int32),
        classes=classes,
        skipped=sum(len(s.skipped) for s in sets),
    )


def _offset(report: Report, before: int, total: int) -> Report:
    return lambda done, _: report(before + done, total)


def _classes(sets: Sequence[ImageSet], num_classes: int | None) -> list[str] | None:
    if num_classes is None:
        return None
    names = sorted({images.label(i) for images in sets for i in range(len(images))})
    if "" in names or len(names) > num_classes:
        raise ValueError(
            f"a network of {num_classes} classes needs every image in one of at most {num_classes} sub-folders, its "
            f"class; found {len(names)}{' and images outside any' if '' in names else ''}."
        )
    return names


def _split(
    sets: Sequence[ImageSet], config: DataConfig, size: int, classes: list[str] | None
) -> tuple[list[tuple[ImageSet, np.ndarray]], np.ndarray, list[int]]:
    """Keep evenly spaced images of each source apart, in proportion to its size and never more than a tenth."""
    held: list[np.ndarray] = []
    labels: list[int] = []
    train = []
    total = sum(len(s) for s in sets)
    for images in sets:
        count = 0 if config.holdout_path else min(len(images) // 10, -(-config.holdout * len(images) // total))
        apart = np.linspace(0, len(images) - 1, count + 2).round().astype(int)[1:-1] if count else np.array([], int)
        train.append((images, np.setdiff1d(np.arange(len(images)), apart)))
        held += [_centre(images[i], size) for i in apart]
        labels += _labels(images, apart, classes)
    if config.holdout_path and config.holdout:
        others = open_images(config.holdout_path, size, option="data.holdout_path")
        count = len(others)
        others.scan(float("inf"), config.workers)
        if not len(others):
            raise ValueError(f"none of the {count} images in {others.path} can be read; check data.holdout_path.")
        # Evenly spaced, as above: the first by name would be of one class.
        chosen = np.linspace(0, len(others) - 1, min(len(others), config.holdout)).round().astype(int).tolist()
        held, labels = [others[i] for i in chosen], _labels(others, chosen, classes)
    return train, np.stack(held) if held else np.zeros((0, size, size, 3), np.uint8), labels


def _labels(images: ImageSet, chosen: Iterable[int], classes: list[str] | None) -> list[int]:
    """The number of each chosen image's class; none where there are no classes."""
    if classes is None:
        return []
    names = [images.label(i) for i in chosen]
    for name in names:
        if name not in classes:
            place = f"in a sub-folder {name!r}" if name else "outside any sub-folder"
            raise ValueError(
                f"{images.path} has images {place}, which is no class that is trained on; data.holdout_path needs its "
                "images in sub-folders named as those of --data."
            )
    return [classes.index(name) for name in names]


def _centre(image: np.ndarray, size: int) -> np.ndarray:
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return image[top : top + size, left : left + size]


class Stream:
    """An endless iterator of batches (dicts of numpy arrays) whose place can be saved and taken up."""

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        return next(self._iterator)

    def get_state(self) -> dict[str, Any]:
        """The place in the stream, as plain JSON values."""
        return self._iterator.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a place that ``get_state`` gave."""
        self._iterator.set_state(state)


def stream(
    data: Dataset,
    size: int,
    batch_size: int,
    *,
    seed: int,
    flip: bool = True,
    workers: int = 4,
    shard: tuple[int, int] = (0, 1),
) -> Stream:
    """Endless batches ``{"image": uint8 [n, S, S, 3], "index": uint32 [n]}`` (and ``"label"``), n = batch_size / hosts.

    Args:
        data: from ``prepare``.
        size: S.
        batch_size: images of a batch over all hosts.
        seed: decides order, crops and flips.
        flip: mirror at random.
        workers: threads that decode ahead.
        shard: (host, number of hosts); each host takes its share of every batch.
    """
    import grain

    weights = [w * len(chosen) for w, (_, chosen) in zip(data.weights, data.train, strict=True)]
    sources = [
        grain.MapDataset.source(_Chosen(images, chosen, data.classes)).seed(seed + 7919 * i).shuffle().repeat()
        for i, (images, chosen) in enumerate(data.train)
    ]
    mixed = grain.MapDataset.mix(sources, [w / sum(weights) for w in weights]) if len(sources) > 1 else sources[0]
    numbered = mixed.map_with_index(lambda i, element: element | {"index": np.uint32(i % 2**32)})

    def augment(element: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        image = element["image"]
        top, left = (int(rng.integers(0, side - size + 1)) for side in image.shape[:2])
        image = image[top : top + size, left : left + size]
        mirrored = flip and rng.random() < 0.5
        return element | {"image": np.ascontiguousarray(image[:, ::-1] if mirrored else image)}

    host, hosts = shard
    augmented = numbered.seed(seed).random_map(augment).slice(slice(host, None, hosts))
    options = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=max(2, 2 * workers))
    return Stream(iter(augmented.batch(batch_size // hosts, drop_remainder=True).to_iter_dataset(options)))


class _Chosen:
    """The trained-on images of a source, for Grain."""

    def __init__(self, images: ImageSet, chosen: np.ndarray, classes: list[str] | None) -> None:
        self._images, self._chosen = images, chosen
        self._class = None if classes is None else {name: i for i, name in enumerate(classes)}

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, i: int) -> dict[str, Any]:
        which = int(self._chosen[i])
        element: dict[str, Any] = {"image": self._images[which]}
        if self._class is not None:
            element["label"] = np.int32(self._class[self._images.label(which)])
        return element
