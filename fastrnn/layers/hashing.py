"""TensorFlow's hashes of text: FarmHash's Fingerprint64, and SipHash-2-4 with a key."""

import struct

_64 = (1 << 64) - 1
_K0, _K1, _K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F


def bucket(text: bytes, buckets: int, key=None) -> int:
    """tf.strings.to_hash_bucket_fast, or with a key of two numbers to_hash_bucket_strong."""
    return (fingerprint(text) if key is None else siphash(text, *key)) % buckets


def siphash(text: bytes, k0: int, k1: int) -> int:
    k0, k1 = k0 & _64, k1 & _64
    v0, v1 = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D
    v2, v3 = k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573
    end = len(text) % 8
    padded = text + bytes(7 - end) + bytes([len(text) & 255])
    words = [*struct.unpack(f"<{len(padded) // 8}Q", padded), None]
    for word in words:
        if word is None:
            v2 ^= 0xFF
        else:
            v3 ^= word
        for _ in range(4 if word is None else 2):
            v0, v2 = (v0 + v1) & _64, (v2 + v3) & _64
            v1, v3 = _left(v1, 13) ^ v0, _left(v3, 16) ^ v2
            v0 = (_left(v0, 32) + v3) & _64
            v2 = (v2 + v1) & _64
            v1, v3 = _left(v1, 17) ^ v2, _left(v3, 21) ^ v0
            v2 = _left(v2, 32)
        if word is not None:
            v0 ^= word
    return v0 ^ v1 ^ v2 ^ v3


def fingerprint(text: bytes) -> int:
    size = len(text)
    if size > 64:
        return _of_long(text)
    mul = (_K2 + 2 * size) & _64
    if size > 16:
        first = _word(text, 0) * (_K1 if size <= 32 else _K2) & _64
        second = _word(text, 8)
        third, fourth = _word(text, size - 8) * mul & _64, _word(text, size - 16) * _K2 & _64
        y = _right(first + second, 43) + _right(third, 30) + fourth
        z = first + _right(second + _K2, 18) + third
        if size <= 32:
            return _of_16(y, z, mul)
        z = _of_16(y, z, mul)
        e, f = _word(text, 16) * mul & _64, _word(text, 24)
        g = (y + _word(text, size - 32)) * mul & _64
        h = (z + _word(text, size - 24)) * mul & _64
        y = _right(e + f, 43) + _right(g, 30) + h
        return _of_16(y, e + _right(f + first, 18) + g, mul)
    if size >= 8:
        a, b = (_word(text, 0) + _K2) & _64, _word(text, size - 8)
        return _of_16(_right(b, 37) * mul + a, (_right(a, 25) + b) * mul, mul)
    if size >= 4:
        first, last = (struct.unpack_from("<I", text, at)[0] for at in (0, size - 4))
        return _of_16(size + (first << 3), last, mul)
    if size:
        y, z = text[0] + (text[size >> 1] << 8), size + (text[-1] << 2)
        return _mixed((y * _K2 ^ z * _K0) & _64) * _K2 & _64
    return _K2


def _of_long(text):
    x = (81 * _K2 + _word(text, 0)) & _64
    y = (81 * _K1 + 113) & _64
    z = _mixed((y * _K2 + 113) & _64) * _K2 & _64
    v, w = (0, 0), (0, 0)
    rest = (len(text) - 1) % 64
    for at in [*range(0, len(text) - 1 - rest, 64), len(text) - 64]:
        last = at == len(text) - 64
        mul = (_K1 + ((z & 0xFF) << 1)) & _64 if last else _K1
        if last:
            w = ((w[0] + rest) & _64, w[1])
            v = ((v[0] + w[0]) & _64, v[1])
            w = ((w[0] + v[0]) & _64, w[1])
        x = _right(x + y + v[0] + _word(text, at + 8), 37) * mul & _64
        y = _right(y + v[1] + _word(text, at + 48), 42) * mul & _64
        x ^= w[1] * (9 if last else 1) & _64
        y = (y + v[0] * (9 if last else 1) + _word(text, at + 40)) & _64
        z = _right(z + w[0], 33) * mul & _64
        v = _of_32(text, at, v[1] * mul, x + w[0])
        w = _of_32(text, at + 32, z + w[1], y + _word(text, at + 16))
        z, x = x, z
    low = _of_16(v[0], w[0], mul) + _mixed(y) * _K0 + z
    return _of_16(low, _of_16(v[1], w[1], mul) + x, mul)


def _word(text, at):
    return struct.unpack_from("<Q", text, at)[0]


def _left(x, bits):
    return (x << bits | x >> (64 - bits)) & _64


def _right(x, bits):
    return _left(x & _64, 64 - bits)


def _mixed(x):
    return x ^ x >> 47


def _of_16(u, v, mul):
    a = _mixed(((u ^ v) & _64) * mul & _64)
    return _mixed(((v ^ a) & _64) * mul & _64) * mul & _64


def _of_32(text, at, a, b):
    w, x, y, z = struct.unpack_from("<4Q", text, at)
    a = (a + w) & _64
    b = _right(b + a + z, 21)
    c = a
    a += x + y
    return (a + z) & _64, (b + _right(a, 44) + c) & _64
