"""Picture bytes → an upright RGB or greyscale image, or InvalidInput. Knows no model and no proto."""

import io
from collections.abc import Mapping

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from services.runtime.errors import InvalidInput

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
MAX_BYTES = 20 * 1024 * 1024
MAX_PIXELS = 40_000_000
BACKGROUND = (255, 255, 255)
# Of a progressive JPEG; encoders write about ten. Each walks through the whole picture, and thirty bytes make one.
MOST_SCANS, SCAN = 100, 0xDAFF  # the marker FF DA, as a little-endian number
STRIP_PIXELS = 1 << 20

# EXIF orientation (CIPA DC-008, tag 0x0112) → what makes the picture upright
UPRIGHT: Mapping[int, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(encoded: bytes, channels: int, field: str, least_side: int = 0) -> Image.Image:
    """An upright picture of mode RGB (`channels` 3) or L (1), first frame, 8 bits a channel.

    EXIF orientation is applied; transparency is laid over white, as a page would show it; 16-bit samples keep
    their upper byte. Bytes and pixels are bounded from the header, before anything is decoded. Raises
    InvalidInput naming `field`.

    A JPEG whose short side stays `least_side` long or longer is decoded at a half, quarter or eighth of its size,
    which is cheaper by as much; 0 = never.
    """
    image = _opened(encoded, field)
    try:
        if least_side:
            image.draft(None, (least_side, least_side))
        image.load()
        return flatten(_upright(image), channels)
    except Exception as error:  # Pillow's decoders raise whatever a hostile stream leads them into
        raise InvalidInput(field, f"the {image.format} data is damaged or truncated: {error}") from error


def pixels(encoded: bytes, field: str) -> int:
    """Width × height as the header says; nothing is decoded. Raises InvalidInput naming `field`."""
    image = _opened(encoded, field)
    return image.width * image.height


def flatten(image: Image.Image, channels: int) -> Image.Image:
    """Any mode → RGB or L, transparency over white."""
    if image.mode.startswith("I;16"):
        image = _from_16_bit(image)
    mode = "RGB" if channels == 3 else "L"
    if image.has_transparency_data:
        return _over_background(image, mode)
    return image if image.mode == mode else image.convert(mode)


def _over_background(image: Image.Image, mode: str) -> Image.Image:
    """Strip by strip: what lies between takes little memory, however large the picture."""
    found = Image.new(mode, image.size)
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height))).convert("RGBA")
        page = Image.new("RGB", strip.size, BACKGROUND)
        page.paste(strip, mask=strip.getchannel("A"))
        found.paste(page.convert(mode), (0, top))
    return found


def _opened(encoded: bytes, field: str) -> Image.Image:
    """The header, within the limits."""
    _check_bytes(encoded, field)
    image = _open(encoded, field)
    _check_pixels(image.width, image.height, field)
    if image.format == "JPEG" and (found := scans(encoded)) > MOST_SCANS:
        raise InvalidInput(field, f"has {found} scans, at most {MOST_SCANS} are taken; save it anew")
    return image


def scans(encoded: bytes) -> int:
    """Markers of a JPEG's scans, at even and at odd places: seven times sooner than `bytes.count` finds them."""
    pairs = (np.frombuffer(encoded, "<u2", (len(encoded) - start) // 2, start) for start in (0, 1))
    return sum(int(np.count_nonzero(pair == SCAN)) for pair in pairs)


def _check_bytes(encoded: bytes, field: str) -> None:
    if not encoded:
        raise InvalidInput(field, "is empty; send a JPEG, PNG, WebP, BMP or GIF file")
    if len(encoded) > MAX_BYTES:
        raise InvalidInput(field, f"has {len(encoded)} bytes, at most {MAX_BYTES} are taken; send it smaller")


def _check_pixels(width: int, height: int, field: str) -> None:
    if width * height > MAX_PIXELS:
        limit = f"at most {MAX_PIXELS} pixels are taken"
        raise InvalidInput(field, f"is {width}×{height}, {limit}; scale it down")


def _open(encoded: bytes, field: str) -> Image.Image:
    """Reads the header only."""
    try:
        return Image.open(io.BytesIO(encoded), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise InvalidInput(field, f"is not a picture of a known format ({', '.join(FORMATS)})") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidInput(field, f"has too many pixels, at most {MAX_PIXELS} are taken") from error
    except Exception as error:
        raise InvalidInput(field, f"has a damaged header: {error}") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a broken EXIF block does not spoil a good picture
        return image
    method = UPRIGHT.get(orientation)
    return image if method is None else image.transpose(method)


def _from_16_bit(image: Image.Image) -> Image.Image:
    samples = np.asarray(image)
    return Image.fromarray((samples >> 8).astype(np.uint8))
