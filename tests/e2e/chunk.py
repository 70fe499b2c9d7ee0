"""The name of a chunk and the checksum of a record, by the books (docs/formats/chunk.md)."""

import ctypes
import hashlib
import hmac
import struct

_xxhash = ctypes.CDLL("libxxhash.so.0")


class _Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


_xxhash.XXH3_128bits.restype = _Hash128
_xxhash.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]


def checksum(stored):
    value = _xxhash.XXH3_128bits(stored, len(stored))
    return struct.pack(">QQ", value.high, value.low)


def _hmac(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


def poly1305(key, message):
    """RFC 8439, 2.5."""
    r = int.from_bytes(key[:16], "little") & 0x0ffffffc0ffffffc0ffffffc0fffffff
    total = 0
    for at in range(0, len(message), 16):
        block = message[at:at + 16] + b"\x01"
        total = (total + int.from_bytes(block, "little")) * r % ((1 << 130) - 5)
    total += int.from_bytes(key[16:32], "little")
    return (total & ((1 << 128) - 1)).to_bytes(16, "little")


def id_of(k_dedup, plain):
    """The id under which a domain stores a chunk with this content."""
    x = poly1305(_hmac(k_dedup, b"holdfast/1 poly1305 key"), plain)
    secret = _hmac(k_dedup, hashlib.sha256(plain).digest(), struct.pack("<Q", len(plain)), x)
    return _hmac(secret, b"holdfast/1 chunk id")
