"""One encoded image → uint8 pixels, with nothing believed that the file says about itself."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from kdstats.data.messages import reason
from kdstats.errors import MissingError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

Found = TypeVar("Found")

# Nothing else is tried: some of Pillow's decoders start other programs.
FORMATS = ("PNG", "WEBP", "JPEG")
# The largest file that is read as one image, in bytes; an archive's member that promises more is refused.
FILE_LIMIT = 50_000_000
# The largest image that is decoded, in pixels: below Pillow's own warning, above any camera's photograph.
PIXEL_LIMIT = 64 * 1024 * 1024
SIZE_LIMIT = 1024


def check_img_size(size: int | None) -> int | None:
    """``size`` if images can be brought to it; raises ``UsageError`` otherwise."""
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= SIZE_LIMIT:
        raise UsageError(f"--img-size is a whole number of pixels, 1…{SIZE_LIMIT}, not {size!r}")
    return size


@dataclass(frozen=True)
class Geometry:
    """The size that images must have and the size they are brought to.

    Attributes:
        native: ``(width, height)`` that every image must have; None admits all.
        why: Why they must, the end of the error's sentence.
        resize: Height and width of the result; None keeps the native size.
    """

    native: tuple[int, int] | None = None
    why: str = field(default="", compare=False)
    resize: int | None = None


def decode(blob: bytes | None, where: str, geometry: Geometry) -> tuple[NDArray[np.uint8], bool]:
    """``[3, H, W]`` uint8, and whether resizing changed the image; see :func:`decoded`."""
    return decoded(blob, where, geometry, lambda image: resized(image, where, geometry.resize))


def decoded(blob: bytes | None, where: str, geometry: Geometry, finish: Callable[[Image], Found]) -> Found:
    """What ``finish`` makes of the RGB image in ``blob``.

    Grey, palette and CMYK images become RGB and transparency is dropped, as Pillow's ``convert`` does.

    Args:
        blob: An encoded PNG, WebP or JPEG.
        where: What to call it in an error.
        geometry: Checked against the header before any pixel is decoded: a damaged header may promise gigabytes.
        finish: Given the image.

    Raises:
        MissingError: Not an image, damaged, of another size, too large, or of more than 8 bits per channel.
    """
    return finish(_colour(blob, where, geometry))


def _colour(blob: bytes | None, where: str, geometry: Geometry) -> Image:
    from PIL import Image as pillow
    from PIL import UnidentifiedImageError

    if not blob:
        raise MissingError(f"{where}: not a readable image (it is empty)")
    try:
        with pillow.open(io.BytesIO(blob), formats=FORMATS) as image:
            _check(image.size, where, geometry)
            if image.mode[0] in "IF":
                raise MissingError(
                    f"{where}: an image of mode {image.mode}; only 8 bits per channel are read"
                )
            palette = image.mode == "P" and "transparency" in image.info  # the direct way warns
            return (image.convert("RGBA") if palette else image).convert("RGB")
    except (MissingError, MemoryError):
        raise
    except UnidentifiedImageError:  # its own text names a memory address
        kinds = ", ".join(FORMATS)
        raise MissingError(f"{where}: not a readable image (none of {kinds})") from None
    except Exception as error:
        # Pillow's decoders leave damaged files by any exception: OSError, IndexError, struct.error, its own, …
        raise MissingError(f"{where}: not a readable image ({reason(error)})") from None


def resized(
    image: Image, where: str, size: int | None, shorter: int | None = None
) -> tuple[NDArray[np.uint8], bool]:
    """Pixels of an RGB or grey image: shorter side to ``shorter``, antialiased, then the centre square of ``size``.

    Sides, filter (bilinear over the whole footprint of a pixel) and offsets are those of torchvision's
    ``Resize(shorter)`` and ``CenterCrop(size)`` on Pillow images.

    Args:
        image: RGB or grey.
        where: What to call it in an error.
        size: Height and width of the result; None leaves the image as it is.
        shorter: Of the resized image, at least ``size``; ``size`` by default.

    Returns:
        ``[channels, H, W]`` uint8, and whether anything changed.
    """
    from PIL.Image import Resampling

    width, height = image.size
    side = shorter or size
    changed = size is not None and ((width, height) != (size, size) or side != size)
    if size is not None and side is not None and changed:
        short, long = min(width, height), max(width, height)
        longer = int(side * long / short)
        if longer * side > PIXEL_LIMIT:
            raise MissingError(f"{where}: an image of {width}x{height} pixels is too narrow to be resized")
        box = (side, longer) if width <= height else (longer, side)
        if box != image.size:
            image = image.resize(box, Resampling.BILINEAR)
        left, top = round((box[0] - size) / 2), round((box[1] - size) / 2)
        image = image.crop((left, top, left + size, top + size))
    return pixels_of(image), changed


def pixels_of(image: Image) -> NDArray[np.uint8]:
    """``[channels, H, W]`` of an RGB or grey image."""
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _check(size: tuple[int, int], where: str, geometry: Geometry) -> None:
    width, height = size
    if geometry.native is not None and size != geometry.native:
        expected = "x".join(map(str, geometry.native))
        raise MissingError(f"{where}: an image of {width}x{height} pixels, expected {expected}{geometry.why}")
    if width * height > PIXEL_LIMIT:
        raise MissingError(
            f"{where}: an image of {width}x{height} pixels, more than the {PIXEL_LIMIT:,} that are read"
        )
