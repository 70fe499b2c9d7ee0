"""A caller that speaks ZMTP and CurveZMQ by hand, to say what no library would.

ZeroMQ RFC 37 (ZMTP 3.1) and RFC 26 (CurveZMQ); the boxes are libsodium's, which libzmq brings along.
"""

import base64
import ctypes
import json
import os
import socket
import struct

_sodium = ctypes.CDLL("libsodium.so.23")
_MAC = 16

GREETING = (b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"CURVE".ljust(20, b"\0") + b"\0"
            + bytes(31))
LONG, COMMAND, MORE = 0x02, 0x04, 0x01


def new_keys():
    public, secret = ctypes.create_string_buffer(32), ctypes.create_string_buffer(32)
    assert _sodium.crypto_box_keypair(public, secret) == 0
    return public.raw, secret.raw


def seal(plain, nonce, public, secret):
    out = ctypes.create_string_buffer(len(plain) + _MAC)
    assert len(nonce) == 24
    assert _sodium.crypto_box_easy(out, plain, ctypes.c_ulonglong(len(plain)), nonce, public,
                                   secret) == 0
    return out.raw


def unseal(box, nonce, public, secret):
    out = ctypes.create_string_buffer(max(1, len(box) - _MAC))
    if _sodium.crypto_box_open_easy(out, box, ctypes.c_ulonglong(len(box)), nonce, public,
                                    secret) != 0:
        raise ConnectionError("a box that does not open")
    return out.raw[:len(box) - _MAC]


def keys_of(key_file):
    """(public, secret, the coordinator's public) of a key file of a cluster."""
    with open(key_file, encoding="utf-8") as file:
        keys = json.load(file)["keys"]
    return tuple(base64.b64decode(keys[name]) for name in
                 ("curve_public_key", "curve_secret_key", "coordinator_public_key"))


class Caller:
    """One connection. `keys` are (public, secret); `server` is whom it expects there."""

    def __init__(self, port, keys, server):
        self.keys, self.server = keys, server
        self.short = new_keys()
        self.nonce = 0
        self.buffer = b""
        self.sent = b""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._send(GREETING)
        self._take(len(GREETING))
        self._handshake()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def _handshake(self):
        nonce = self._next_nonce()
        self.send_frame(COMMAND, b"\x05HELLO\x01\x00" + bytes(72) + self.short[0] + nonce
                        + seal(bytes(64), b"CurveZMQHELLO---" + nonce, self.server, self.short[1]))
        welcome = self.receive_frame()
        if not welcome.startswith(b"\x07WELCOME"):
            raise ConnectionError(welcome[:20])
        plain = unseal(welcome[24:], b"WELCOME-" + welcome[8:24], self.server, self.short[1])
        self.there, cookie = plain[:32], plain[32:]
        vouch_nonce = os.urandom(16)
        vouch = seal(self.short[0] + self.server, b"VOUCH---" + vouch_nonce, self.there,
                     self.keys[1])
        metadata = b"\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
        nonce = self._next_nonce()
        self.send_frame(COMMAND, b"\x08INITIATE" + cookie + nonce + seal(
            self.keys[0] + vouch_nonce + vouch + metadata, b"CurveZMQINITIATE" + nonce, self.there,
            self.short[1]))
        ready = self.receive_frame()
        if not ready.startswith(b"\x05READY"):
            raise ConnectionError(ready[:20])

    def _next_nonce(self):
        self.nonce += 1
        return struct.pack(">Q", self.nonce)

    def message(self, body, more=False):
        """The frame that carries `body`, sealed under the next nonce."""
        nonce = self._next_nonce()
        return b"\x07MESSAGE" + nonce + seal(bytes([MORE if more else 0]) + body,
                                            b"CurveZMQMESSAGEC" + nonce, self.there, self.short[1])

    def send_frame(self, flags, body):
        if len(body) > 255:
            self._send(bytes([flags | LONG]) + struct.pack(">Q", len(body)) + body)
        else:
            self._send(bytes([flags, len(body)]) + body)

    def _send(self, some):
        if len(self.sent) < 1 << 16:  # For who wants to say it again.
            self.sent += some
        self.socket.sendall(some)

    def receive_frame(self):
        flags = self._take(1)[0]
        size = struct.unpack(">Q", self._take(8))[0] if flags & LONG else self._take(1)[0]
        return self._take(size)

    def receive(self):
        """The next part of a message: (its body, whether more follow)."""
        frame = self.receive_frame()
        if not frame.startswith(b"\x07MESSAGE"):
            raise ConnectionError(frame[:20])
        plain = unseal(frame[16:], b"CurveZMQMESSAGES" + frame[8:16], self.there, self.short[1])
        return plain[1:], bool(plain[0] & MORE)

    def _take(self, size):
        while len(self.buffer) < size:
            got = self.socket.recv(1 << 16)
            if not got:
                raise ConnectionError("hung up")
            self.buffer += got
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken


def ping():
    """The envelope of a ping (docs/formats/protocol.md)."""
    return (b"HFrpc\x01\x03" + struct.pack("<HQI", 0, 0, 0)
            + struct.pack("<IQBQQI", 0, 0, 0, 0, 0, 0))


def of_any_bytes(some):
    """(whom to, the parts of a message) as tests/sim/request_fuzz.h has it."""
    at = 0

    def take(size):
        nonlocal at
        taken = some[at:at + size]
        at += len(taken)
        return taken

    def number(size):
        nonlocal at
        if len(some) - at < size:
            at = len(some)
            return 0
        return int.from_bytes(take(size), "little")

    first = number(1)
    if first & 0x80:
        parts = [take(number(2)), take(number(2))]
        return first & 3, parts + [some[at:]]
    method = number(1)
    sizes = [number(2) for _ in range(number(1) & 7)]
    head = take(number(2))
    address = f"node/{(first & 3) - 1}" if first & 3 else "coordinator"
    return first & 3, request(method, address, head, [take(size) for size in sizes])


PING, PONG, REQUEST, REPLY = 3, 4, 1, 2


def request(method, address, head, payloads=()):
    """The parts of a request (docs/formats/protocol.md), under an id of its own.

    Drawn, since with one counted up a broken request may have the id of a whole one by chance.
    """
    envelope = (b"HFrpc\x01" + bytes([REQUEST])
                + struct.pack("<H8sI", method, os.urandom(8), len(address))
                + address.encode() + struct.pack("<IQBQQI", 30_000, 0, 0, 0, 0, len(payloads))
                + b"".join(struct.pack("<I", len(p)) for p in payloads))
    return [envelope, head] + ([b"".join(payloads)] if payloads else [])


def ask(caller, parts):
    """Sends a request; the status code and the head of its reply. Others before it are dropped."""
    for i, part in enumerate(parts):
        caller.send_frame(0, caller.message(part, more=i + 1 < len(parts)))
    while True:
        message = [caller.receive()]
        while message[-1][1]:
            message.append(caller.receive())
        envelope = message[0][0]
        if envelope[6] == REPLY and envelope[9:17] == parts[0][9:17]:
            address = struct.unpack_from("<I", envelope, 17)[0]
            return envelope[21 + address + 12], message[1][0]


def field(number, value):
    """A Protobuf field: bytes, or a number."""
    def varint(n):
        out = b""
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value
