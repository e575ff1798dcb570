"""The picture that social networks show of a link: three rings, drawn here, because no binary is kept in the sources.

Source: the PNG specification (W3C, third edition), sections 5 and 11.
"""

import functools
import math
import struct
import zlib

WIDTH, HEIGHT = 1334, 700

_PALETTE = bytes.fromhex("fbfaf8e66581579acaf5a252")
_RING = 34
_RADIUS = 150
_CENTRES = (((_CENTRE := WIDTH // 2) - 170, 300, 1), (_CENTRE + 170, 300, 2), (_CENTRE, 440, 3))


@functools.cache
def social_image() -> bytes:
    """The picture as PNG, with a palette."""
    rows = b"".join(b"\0" + _row(y) for y in range(HEIGHT))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", _PALETTE), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _row(y: int) -> bytes:
    row = bytearray(WIDTH)
    for x, centre_y, colour in _CENTRES:
        outer, inner = _half_chord(_RADIUS, y - centre_y), _half_chord(_RADIUS - _RING, y - centre_y)
        for start, end in ((x - outer, x - inner), (x + inner, x + outer)):
            row[start:end] = bytes([colour]) * (end - start)
    return bytes(row)


def _half_chord(radius: int, distance: int) -> int:
    """Half of a circle's width at a distance from its centre."""
    return math.isqrt(radius**2 - distance**2) if abs(distance) < radius else 0


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
