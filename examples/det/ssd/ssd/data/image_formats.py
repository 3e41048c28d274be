"""Formats of image files that conversion and prediction read.

Importing this module registers the optional package pillow-heif, with which Pillow reads HEIC photographs of phones.
"""

from __future__ import annotations

try:
    import pillow_heif
except ImportError:
    pillow_heif = None
else:
    pillow_heif.register_heif_opener()

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .bmp .dib .tif .tiff .gif .avif .avifs .heic .heif .hif "
    ".jp2 .j2k .j2c .jpf .jpx .jpc .ppm .pgm .pbm .pnm .tga .qoi".split()
)
# Names of these formats in Pillow
PILLOW_FORMATS = tuple("JPEG MPO PNG BMP DIB GIF PPM WEBP TIFF AVIF HEIF JPEG2000 TGA QOI".split())
JPEG_SUFFIXES = frozenset((".jpg", ".jpeg", ".jpe", ".jfif"))

_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # ISO/IEC 23008-12, annex B


def unidentified_reason(encoded: bytes) -> str:
    """Return why Pillow cannot identify an image. encoded: bytes of the file"""
    if pillow_heif is None and encoded[4:8] == b"ftyp" and encoded[8:12] in _BRANDS:
        return "the image is HEIC, which only the package pillow-heif reads: install the extra heif, or convert to JPEG"
    return "the file is not an image of a supported format"
