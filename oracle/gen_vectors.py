#!/usr/bin/env python3
"""Golden bytes of GGML's quantisers and dequantisers for oracle/vectors, through a built libggml-base.

usage: gen_vectors.py LIBGGML_BASE_SO [OUT_DIR]
       gen_vectors.py LIBGGML_BASE_SO --bench

Writes rows.f32 (little-endian, [rows, columns]), importance.f32 ([columns]), what ggml_quantize_chunk makes of them
(<type>.bin, <type>.weighted.bin), random blocks (<type>.blocks.bin) and vectors.json: names, shapes, and for each
eighth of the random blocks the FNV-1a hash of the f32 bytes that GGML decodes it to. The library must be built for plain x86-64, as
ggml-base is by default: with fused multiply-add the bytes would be others.

--bench prints what `cargo bench --bench quant` prints, for ggml_quantize_chunk.
"""

import ctypes
import json
import sys
import time
from pathlib import Path

import numpy as np

WRITTEN = {"F16": 1, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11, "Q4_K": 12,
           "Q5_K": 13, "Q6_K": 14, "BF16": 30}
READ = {"IQ2_XXS": 16, "IQ2_XS": 17, "IQ3_XXS": 18, "IQ1_S": 19, "IQ4_NL": 20, "IQ3_S": 21, "IQ2_S": 22, "IQ4_XS": 23,
        "IQ1_M": 29, "TQ1_0": 34, "TQ2_0": 35, "MXFP4": 39}
UNWEIGHTED = ("F16", "BF16", "Q8_0")
COLUMNS = 768


class Traits(ctypes.Structure):
    _fields_ = [("type_name", ctypes.c_char_p), ("blck_size", ctypes.c_int64), ("blck_size_interleave", ctypes.c_int64),
                ("type_size", ctypes.c_size_t), ("is_quantized", ctypes.c_bool),
                ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
                ("from_float_ref", ctypes.c_void_p)]


class Ggml:
    def __init__(self, path):
        self.lib = ctypes.CDLL(path)
        self.lib.ggml_quantize_chunk.restype = ctypes.c_size_t
        self.lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64,
                                                 ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
        self.lib.ggml_get_type_traits.restype = ctypes.POINTER(Traits)
        self.lib.ggml_get_type_traits.argtypes = [ctypes.c_int]

    def traits(self, number):
        return self.lib.ggml_get_type_traits(number).contents

    def encode(self, number, rows, importance=None):
        traits = self.traits(number)
        out = np.zeros(rows.size // traits.blck_size * traits.type_size, dtype=np.uint8)
        weights = None if importance is None else importance.ctypes.data
        written = self.lib.ggml_quantize_chunk(number, rows.ctypes.data, out.ctypes.data, 0, *rows.shape, weights)
        assert written == out.nbytes, (number, written, out.nbytes)
        return out

    def decode(self, number, blocks):
        traits = self.traits(number)
        out = np.zeros(blocks.size // traits.type_size * traits.blck_size, dtype=np.float32)
        traits.to_float(blocks.ctypes.data, out.ctypes.data, out.size)
        return out


def rows(rng):
    """Name and values of each row: what weights look like, and what breaks quantisers."""
    places = np.arange(COLUMNS)
    normal = rng.normal(0, 0.02, COLUMNS)
    yield "normal", normal
    yield "wide", rng.normal(0, 3.0, COLUMNS)
    yield "heavy_tail", rng.standard_t(2, COLUMNS) * 0.05
    yield "uniform", rng.uniform(-1, 1, COLUMNS)
    yield "zeros", np.zeros(COLUMNS)
    yield "signed_zeros", np.where(places % 3 == 1, -0.0, 0.0)
    yield "constant", np.full(COLUMNS, 0.125)
    yield "negative_constant", np.full(COLUMNS, -0.3)
    yield "one_outlier", np.where(places == 300, 40.0, rng.normal(0, 0.01, COLUMNS))
    # Of two equal magnitudes the first one's sign decides.
    yield "ties", np.where(places % 5 == 2, -0.5, np.where(places % 7 == 3, 0.5, rng.normal(0, 0.1, COLUMNS)))
    yield "steps", np.round(rng.normal(0, 4, COLUMNS)) / 8
    yield "positive", np.abs(rng.normal(0, 0.1, COLUMNS))
    yield "negative", -np.abs(rng.normal(0, 0.1, COLUMNS))
    yield "sparse", np.where(rng.random(COLUMNS) < 0.05, rng.normal(0, 1, COLUMNS), 0)
    # Sub-blocks so small beside their neighbours that their stored scale is zero.
    yield "uneven", normal * np.where(places // 16 % 3 == 0, 1e-4, 1.0)
    yield "tiny", rng.normal(0, 1e-7, COLUMNS)
    yield "huge", np.clip(rng.normal(0, 20000, COLUMNS), -65000, 65000)


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % (1 << 64)
    return f"{value:016x}"


def write(ggml, out):
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.Generator(np.random.PCG64(20260131))
    named = list(rows(rng))
    values = np.ascontiguousarray([row for _, row in named], dtype=np.float32)
    importance = rng.uniform(0.1, 4.0, COLUMNS).astype(np.float32)
    # Columns that no activation ever reached: single ones and a whole sub-block.
    importance[::16] = 0
    importance[512:544] = 0
    values.tofile(out / "rows.f32")
    importance.tofile(out / "importance.f32")
    for name, number in WRITTEN.items():
        ggml.encode(number, values).tofile(out / f"{name}.bin")
        if name not in UNWEIGHTED:
            ggml.encode(number, values, importance).tofile(out / f"{name}.weighted.bin")
    blocks = {}
    for name, number in {**WRITTEN, **READ}.items():
        traits = ggml.traits(number)
        count = 8 if traits.blck_size > 1 else 256
        raw = rng.integers(0, 256, count * traits.type_size, dtype=np.uint8)
        raw.tofile(out / f"{name}.blocks.bin")
        decoded = ggml.decode(number, raw)
        # Which NaN a NaN is, nobody promises: all are hashed as the same one.
        decoded[np.isnan(decoded)] = np.uint32(0x7FC00000).view(np.float32)
        blocks[name] = [fnv1a(part.tobytes()) for part in decoded.reshape(8, -1)]
    description = {"rows": [name for name, _ in named], "columns": COLUMNS, "blocks": blocks}
    (out / "vectors.json").write_text(json.dumps(description, indent=1) + "\n")


def bench(ggml):
    rng = np.random.Generator(np.random.PCG64(1))
    values = rng.normal(0, 0.02, (256, 2048)).astype(np.float32)
    importance = rng.uniform(0.1, 4.0, 2048).astype(np.float32)
    for name, number in WRITTEN.items():
        rates = []
        for weights in (None, importance):
            best = min(seconds(lambda: ggml.encode(number, values, weights)) for _ in range(5))
            rates.append(values.nbytes / best / 1e6)
        print(f"{name:8} {rates[0]:8.0f} MB/s   {rates[1]:8.0f} MB/s with importance")


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    ggml = Ggml(sys.argv[1])
    if sys.argv[2:] == ["--bench"]:
        bench(ggml)
    else:
        write(ggml, Path(sys.argv[2]) if sys.argv[2:] else Path(__file__).parent / "vectors")


if __name__ == "__main__":
    main()
