#!/usr/bin/env python3
"""Computes the vectors of independent.json from docs/formats alone, sharing no code with Holdfast.

Python's hashlib and hmac give the hashes, plain integers give Poly1305, floating point gives the
placement scores (the product compares in fixed point); only AES-256-GCM comes from the
`cryptography` package. Usage: independent.py > independent.json
"""
import hashlib
import hmac
import json
import math
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SUITE = 1
K_DEDUP = bytes(range(32))
CONTENT = b"Every contact leaves a trace. " * 40  # 1,200 bytes
# A stand-in for a zstd frame: the seal takes any bytes.
COMPRESSED = bytes.fromhex("28b52ffd") + bytes(range(200))


def mac(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


def poly1305(key, message):
    """RFC 8439, section 2.5."""
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    s = int.from_bytes(key[16:], "little")
    total = 0
    for i in range(0, len(message), 16):
        total = (total + int.from_bytes(message[i:i + 16] + b"\1", "little")) * r % (2**130 - 5)
    return ((total + s) % 2**128).to_bytes(16, "little")


def seal(h, identity, codec, payload):
    key = mac(h, b"holdfast/1 chunk key")
    message = b"nonce" + bytes([SUITE, codec])
    if codec:
        message += hashlib.sha256(payload).digest()
    nonce = mac(h, message)[:12]
    inner = bytes([codec]) + struct.pack("<Q", len(payload)) + payload
    unit = max(64, 2**(len(inner).bit_length() - 1) // 128)
    inner += bytes(-len(inner) % unit)
    return nonce, nonce + AESGCM(key).encrypt(nonce, inner, bytes([SUITE]) + identity)


def chunk():
    poly_key = mac(K_DEDUP, b"holdfast/1 poly1305 key")
    c = hashlib.sha256(CONTENT).digest()
    x = poly1305(poly_key, CONTENT)
    h = mac(K_DEDUP, c + struct.pack("<Q", len(CONTENT)) + x)
    identity = mac(h, b"holdfast/1 chunk id")
    nonce_raw, sealed_raw = seal(h, identity, 0, CONTENT)
    nonce_zstd, sealed_zstd = seal(h, identity, 1, COMPRESSED)
    values = {
        "k_dedup": K_DEDUP, "content": CONTENT, "compressed": COMPRESSED,
        "poly1305_key": poly_key, "cut_seed": mac(K_DEDUP, b"holdfast/1 cut seed"),
        "c": c, "x": x, "h": h, "id": identity, "key": mac(h, b"holdfast/1 chunk key"),
        "nonce_raw": nonce_raw, "sealed_raw": sealed_raw,
        "nonce_zstd": nonce_zstd, "sealed_zstd": sealed_zstd,
        "tag_sha256": mac(K_DEDUP, b"object tag" + bytes([1]) + c),
        "tag_sha1": mac(K_DEDUP, b"object tag" + bytes([2]) + hashlib.sha1(CONTENT).digest()),
        "tag_md5": mac(K_DEDUP, b"object tag" + bytes([3]) + hashlib.md5(CONTENT).digest()),
    }
    return {name: value.hex() for name, value in values.items()}


NODES = [(1.0, "a/1/h1/d1"), (2.0, "a/1/h1/d2"), (1.0, "a/2/h2/d1"), (1.5, "b/1/h3/d1"),
         (0.0, "b/1/h3/d2"), (0.5, "b/2/h4/d1")]


def shared(a, b):
    if a == b:
        return 1000
    depth = 0
    for left, right in zip(a.split("/"), b.split("/")):
        if left != right:
            break
        depth += 1
    return depth


def acting_set(pg, replicas):
    scores = []
    for number, (weight, domain) in enumerate(NODES):
        if weight == 0:
            continue
        node_id = bytes([number + 1]) * 16
        digest = hashlib.sha256(b"holdfast/1 placement" + node_id + struct.pack("<I", pg)).digest()
        u = int.from_bytes(digest[:8], "little")
        scores.append((-weight / math.log(u / 2**64), number))
    ranked = [number for _, number in sorted(scores, reverse=True)]
    chosen = []
    while ranked and len(chosen) < replicas:
        depth = {n: max([shared(NODES[n][1], NODES[m][1]) for m in chosen], default=0)
                 for n in ranked}
        chosen.append(min(ranked, key=lambda n: (depth[n], ranked.index(n))))
        ranked.remove(chosen[-1])
    return chosen


def placement():
    table = [acting_set(pg, 3) for pg in range(4096)]
    text = "\n".join(" ".join(map(str, row)) for row in table)
    return {"first": table[:8], "sha256": hashlib.sha256(text.encode()).hexdigest()}


def names():
    version = bytes(range(0x40, 0x50))
    vault = bytes(range(0x10, 0x20))
    part = hashlib.sha256(b"holdfast/1 manifest part" + version + struct.pack("<I", 7)).hexdigest()
    commit = hashlib.sha256(b"holdfast/1 commit record" + vault + struct.pack("<QQ", 2, 9))
    catalogue_key = bytes(range(0x80, 0xa0))
    return {"part_id": part, "commit_record_id": commit.hexdigest(),
            "catalogue_rows": mac(catalogue_key, b"holdfast/1 catalogue rows").hex(),
            "catalogue_commit": mac(catalogue_key, b"holdfast/1 commit records").hex(),
            "catalogue_parts": mac(catalogue_key, b"holdfast/1 manifest parts").hex(),
            "key_check": mac(catalogue_key, b"holdfast/1 key check" + vault)[:16].hex()}


print(json.dumps({"chunk": chunk(), "names": names(), "placement": placement()}, indent=1))
