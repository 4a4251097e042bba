from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from data_makers import encoded, picture
from PIL import Image
from torchvision.transforms import functional

from kdstats.data.sources import decoding, pixels
from kdstats.data.sources.layout import Wanted
from kdstats.data.sources.pixels import Geometry, decode
from kdstats.errors import MissingError, UsageError

NATIVE = Geometry(native=(32, 32))


def saved(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_pixels_of_lossless_formats(form):
    found, resized = decode(encoded(picture(3), form), "here", NATIVE)
    assert np.array_equal(found, picture(3).transpose(2, 0, 1))
    assert not resized


def test_other_modes_become_rgb_as_pillow_does():
    rgb = Image.fromarray(picture(1))
    palette = rgb.quantize(16)
    alpha = rgb.copy()
    alpha.putalpha(77)
    clear = rgb.quantize(16)
    clear.info["transparency"] = bytes(range(16))
    for image, form in (
        (rgb.convert("L"), "PNG"),
        (rgb.convert("L"), "JPEG"),
        (rgb.convert("1"), "PNG"),
        (rgb.convert("LA"), "PNG"),
        (palette, "PNG"),
        (clear, "PNG"),
        (alpha, "PNG"),
        (rgb.convert("CMYK"), "JPEG"),
    ):
        blob = saved(image, form)
        found, _ = decode(blob, "here", NATIVE)
        expected = Image.open(io.BytesIO(blob))
        if expected.mode == "P" and "transparency" in expected.info:
            expected = expected.convert("RGBA")
        assert np.array_equal(found.transpose(1, 2, 0), np.asarray(expected.convert("RGB"))), image.mode
    grey, _ = decode(saved(rgb.convert("L")), "here", NATIVE)
    assert (grey[0] == grey[1]).all()
    assert (grey[0] == grey[2]).all()


def test_sixteen_bits_are_refused():
    deep = Image.fromarray(np.full((32, 32), 40_000, dtype=np.uint16))
    with pytest.raises(MissingError, match="here: an image of mode I;16; only 8 bits"):
        decode(saved(deep), "here", NATIVE)


@pytest.mark.parametrize("form", ["BMP", "GIF", "TIFF", "PPM"])
def test_other_image_formats_are_not_tried(form):
    with pytest.raises(MissingError, match="here: not a readable image .none of PNG, WEBP, JPEG"):
        decode(encoded(picture(), form), "here", NATIVE)


@pytest.mark.parametrize("blob", [None, b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"])
def test_what_is_no_image(blob):
    with pytest.raises(MissingError, match="here: not a readable image"):
        decode(blob, "here", NATIVE)


def bomb(side: int) -> bytes:
    blob = bytearray(encoded(picture()))
    blob[16:24] = side.to_bytes(4, "big") * 2
    blob[29:33] = zlib.crc32(blob[12:29]).to_bytes(4, "big")
    return bytes(blob)


def test_a_header_that_promises_gigabytes_is_not_decoded(monkeypatch):
    with pytest.raises(MissingError, match="8000x8000"):
        decode(bomb(8000), "here", NATIVE)
    # Where any size would do, there is a limit too; above Pillow's own it warns, which must not matter.
    for side in (9000, 12_000, 60_000):
        for geometry in (Geometry(), Geometry(resize=32)):
            with pytest.raises(MissingError, match=rf"here: .*({side}x{side}|exceeds limit)"):
                decode(bomb(side), "here", geometry)


def test_a_damaged_chunk_behind_the_pixels_is_the_images_fault():
    """Pillow leaves an empty colour profile by IndexError."""
    good = encoded(picture())
    end = good.rindex(b"IEND") - 4
    chunk = bytes(4) + b"iCCP" + zlib.crc32(b"iCCP").to_bytes(4, "big")
    with pytest.raises(MissingError, match=r"here: not a readable image \(index out of range\)"):
        decode(good[:end] + chunk + good[end:], "here", NATIVE)


def test_what_is_not_the_images_fault_passes(monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    with pytest.raises(ZeroDivisionError):
        pixels.decoded(encoded(picture()), "here", NATIVE, lambda image: 1 // 0)
    monkeypatch.setattr(Image, "open", full)
    with pytest.raises(MemoryError):
        decode(encoded(picture()), "here", NATIVE)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG"])
def test_damaged_images_never_end_in_a_traceback(form):
    rng = np.random.default_rng(1)
    refused = 0
    good = encoded(picture(), form)
    for i in range(300):
        damaged = bytearray(good[: rng.integers(1, len(good))] if i % 4 == 0 else good)
        for at in rng.integers(0, len(damaged) if i % 2 else min(60, len(damaged)), 3):
            damaged[at] = rng.integers(256)
        try:
            assert decode(bytes(damaged), "here", NATIVE)[0].shape == (3, 32, 32)
        except MissingError as error:
            assert str(error).startswith("here: ")
            assert "0x" not in str(error)
            refused += 1
    assert refused > 80


@pytest.mark.parametrize(
    "size", [(32, 32), (64, 64), (40, 61), (61, 40), (33, 32), (20, 20), (90, 31), (7, 5)]
)
@pytest.mark.parametrize("to", [16, 32, 31])
def test_resizing_is_torchvisions(size, to):
    image = Image.fromarray(picture(5, size))
    expected = functional.center_crop(functional.resize(image, [to]), [to])
    found, resized = decode(saved(image), "here", Geometry(resize=to))
    assert np.array_equal(found.transpose(1, 2, 0), np.asarray(expected))
    assert resized == (size != (to, to))


def test_resizing_is_antialiased():
    """A chessboard of single pixels becomes grey, not black or white."""
    board = np.indices((64, 64)).sum(0) % 2 * 255
    found, _ = decode(saved(Image.fromarray(board.astype(np.uint8))), "here", Geometry(resize=16))
    assert found.min() > 120
    assert found.max() < 135


def test_a_thread_of_pixels_is_not_blown_up(monkeypatch):
    monkeypatch.setattr(pixels, "PIXEL_LIMIT", 100_000)
    strip = Image.fromarray(picture(0, (5000, 1)))
    with pytest.raises(MissingError, match="5000x1 pixels is too narrow"):
        decode(saved(strip), "here", Geometry(resize=30))


@pytest.mark.parametrize("size", [0, -4, 1025, 32.0, "32", True])
def test_senseless_sizes(size):
    with pytest.raises(UsageError, match=r"--img-size is a whole number of pixels, 1…1024"):
        pixels.check_img_size(size)


def test_of_several_bad_images_the_first_is_named(monkeypatch):
    monkeypatch.setattr(decoding, "_CHUNK", 2)
    blobs = [encoded(picture(i)) for i in range(40)]
    for bad in ([39, 5], [6], [7, 38, 12]):
        broken = [b"no" if i in bad else blob for i, blob in enumerate(blobs)]
        with (
            pytest.raises(MissingError, match=f"^image {min(bad)}: "),
            decoding.Decoder(40, Wanted("x", "train")) as d,
        ):
            d.add(0, 40, broken.__getitem__, lambda i: f"image {i}")
    with decoding.Decoder(40, Wanted("x", "train")) as d:
        for start in (20, 0):
            d.add(start, 20, lambda i, s=start: blobs[s + i], str)
    assert np.array_equal(d.images, np.stack([picture(i).transpose(2, 0, 1) for i in range(40)]))


def test_more_images_than_memory(monkeypatch):
    monkeypatch.setattr(decoding, "_physical_memory", lambda: 10_000)
    with (
        pytest.raises(UsageError, match=r"40 images of 32x32 pixels need 0.0 GB .*--img-size N"),
        decoding.Decoder(40, Wanted("x", "train")) as d,
    ):
        d.add(0, 40, lambda i: encoded(picture(i)), str)
    assert decoding._physical_memory() is not None
