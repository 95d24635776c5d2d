#!/usr/bin/env python3
"""Writes the attack corpus beside this script: seeds that are sound, and files that attack their parser.

    python3 tests/attacks/make.py          # writes seeds/, files/ and manifest.json
    python3 tests/attacks/make.py --check  # fails where they are not what it would write

Every attack is a seed with one thing changed; what lies around it stays valid (counts, offsets, checksums), so that
the refusal can only come from the check that is meant. Python's standard library only; equal bytes on every run.
"""

import json
import struct
import sys
import zlib
from pathlib import Path

HERE = Path(__file__).parent
SEEDS, ATTACKS = {}, {}
MANIFEST = []


def seed(name, parser, data):
    SEEDS[name] = data
    MANIFEST.append({"file": f"seeds/{name}", "parser": parser})


def attack(name, parser, data, says, at=None):
    """`says` stands in the error, `at` in its location."""
    assert name not in ATTACKS, name
    ATTACKS[name] = data.encode() if isinstance(data, str) else data
    MANIFEST.append({"file": f"files/{name}", "parser": parser, "says": says, **({"at": at} if at else {})})


def folder(name, files, says, at=None):
    """A model folder; `files` are name to contents."""
    for file, data in files.items():
        ATTACKS[f"{name}/{file}"] = data.encode() if isinstance(data, str) else data
    MANIFEST.append({"file": f"files/{name}", "parser": "folder", "says": says, **({"at": at} if at else {})})


def u16(n): return struct.pack("<H", n)
def u32(n): return struct.pack("<I", n)
def u64(n): return struct.pack("<Q", n)
def f32(*values): return struct.pack(f"<{len(values)}f", *values)


NAN, INF = float("nan"), float("inf")
# A block of Q8_0: f16 scale, 32 signed bytes.
Q8_0 = struct.pack("<e", 0.5) + bytes(range(32))


# ---------------------------------------------------------------------------------------------------------------- GGUF

def text(s):
    s = s.encode() if isinstance(s, str) else s
    return u64(len(s)) + s


def pair(key, type_id, value):
    return text(key) + u32(type_id) + value


def info(name, dims, dtype, offset):
    return text(name) + u32(len(dims)) + b"".join(map(u64, dims)) + u32(dtype) + u64(offset)


KEYS = [
    pair("general.architecture", 8, text("llama")),
    pair("llama.block_count", 4, u32(1)),
    pair("tokenizer.ggml.model", 8, text("gpt2")),
    pair("tokenizer.ggml.tokens", 9, u32(8) + u64(3) + text("a") + text("b") + text("ab")),
    pair("tokenizer.ggml.merges", 9, u32(8) + u64(1) + text("a b")),
]
INFOS = [info("a.weight", [8, 4], 0, 0), info("b.weight", [32, 1], 8, 128)]
DATA = f32(*[i / 8 for i in range(32)]) + Q8_0


def gguf(keys=KEYS, infos=INFOS, data=DATA, magic=b"GGUF", version=u32(3), n_tensors=None, n_keys=None, alignment=32):
    head = magic + version + u64(len(infos) if n_tensors is None else n_tensors)
    head += u64(len(keys) if n_keys is None else n_keys) + b"".join(keys) + b"".join(infos)
    head += bytes(-len(head) % alignment)
    return head + data + bytes(-len(data) % alignment)


def with_key(key, type_id, value):
    return gguf(keys=KEYS + [pair(key, type_id, value)])


def with_infos(*infos):
    return gguf(infos=list(infos))


seed("model.gguf", "gguf", gguf())
whole = gguf()
first_info = 24 + len(b"".join(KEYS))
data_start = len(whole) - len(DATA) - (-len(DATA) % 32)
for name, cut in [
    ("magic", 3), ("version", 6), ("counts", 20), ("key-length", 28), ("key", 40), ("value", 52),
    ("array", first_info - 30), ("description", first_info + 12), ("dimensions", first_info + 24),
    ("padding", data_start - 1), ("data", data_start + 40), ("last-tensor", data_start + 140),
]:
    says = "out of bounds" if cut >= data_start - 1 else "cut short"
    if cut == first_info + 12 or cut == first_info + 24:
        says = "fit in the rest"
    if 24 < cut < first_info:
        says = "fit in the rest" if cut < 100 else "cut short"
    attack(f"cut-{name}.gguf", "gguf", whole[:cut], says)
for power in (32, 63):
    attack(f"tensors-2^{power}.gguf", "gguf", gguf(n_tensors=1 << power), "tensors declared", "byte")
    attack(f"pairs-2^{power}.gguf", "gguf", gguf(n_keys=1 << power), "metadata pairs declared", "byte")
    attack(f"key-2^{power}.gguf", "gguf", gguf(keys=[u64(1 << power) + KEYS[0][8:]]), "a metadata key declares", "byte")
    attack(f"string-2^{power}.gguf", "gguf", with_key("k", 8, u64(1 << power) + b"x"), "cut short", "byte")
    attack(f"strings-2^{power}.gguf", "gguf", with_key("k", 9, u32(8) + u64(1 << power)), "elements of metadata `k`", "byte")
    attack(f"numbers-2^{power}.gguf", "gguf", with_key("k", 9, u32(12) + u64(1 << power)), "elements of metadata `k`", "byte")
    attack(f"offset-2^{power}.gguf", "gguf", with_infos(INFOS[0], info("b.weight", [32, 1], 8, 1 << power)),
           "out of bounds", "`b.weight`")
    attack(f"dimension-2^{power}.gguf", "gguf", with_infos(info("a.weight", [1 << power, 4], 0, 0)),
           "overflow" if power == 63 else "out of bounds", "`a.weight`")
attack("dimensions-product.gguf", "gguf", with_infos(info("a.weight", [1 << 32, 1 << 32], 0, 0)), "overflow", "`a.weight`")
attack("no-elements-2^63.gguf", "gguf", with_infos(info("a.weight", [0, 1 << 63], 0, 0)), "no elements", "`a.weight`")
attack("offset-wraps.gguf", "gguf", with_infos(info("a.weight", [8, 4], 0, (1 << 64) - 32)), "out of bounds", "`a.weight`")
attack("unaligned.gguf", "gguf", with_infos(INFOS[0], info("b.weight", [32, 1], 8, 129)), "no multiple of the alignment", "`b.weight`")
attack("overlap.gguf", "gguf", with_infos(INFOS[0], info("b.weight", [32, 1], 8, 96)), "overlaps", "`b.weight`")
attack("same-place.gguf", "gguf", with_infos(INFOS[0], info("b.weight", [8, 4], 0, 0)), "overlaps", "tensor")
attack("duplicate-tensor.gguf", "gguf", with_infos(INFOS[0], info("a.weight", [32, 1], 8, 128)), "duplicate name", "`a.weight`")
attack("duplicate-key.gguf", "gguf", gguf(keys=KEYS + [KEYS[1]]), "duplicate name", "`llama.block_count`")
attack("alignment-0.gguf", "gguf", with_key("general.alignment", 4, u32(0)), "no power of two", "`general.alignment`")
attack("alignment-48.gguf", "gguf", with_key("general.alignment", 4, u32(48)), "no power of two", "`general.alignment`")
attack("alignment-2^63.gguf", "gguf", with_key("general.alignment", 10, u64(1 << 63)), "no power of two", "`general.alignment`")
attack("five-dimensions.gguf", "gguf", with_infos(info("a.weight", [2] * 5, 0, 0)), "5 dimensions", "byte")
attack("dimensions-2^32.gguf", "gguf", with_infos(text("a.weight") + u32(0xFFFFFFFF) + bytes(64)), "4294967295 dimensions", "byte")
attack("dtype.gguf", "gguf", with_infos(info("a.weight", [8, 4], 250, 0)), "unknown dtype 250", "`a.weight`")
attack("partial-block.gguf", "gguf", with_infos(info("b.weight", [31, 1], 8, 128)), "no whole number of blocks", "`b.weight`")
attack("nested.gguf", "gguf", with_key("k", 9, (u32(9) + u64(1)) * 2000), "deeper than 4", "byte")
attack("value-type.gguf", "gguf", with_key("k", 13, b"\0"), "unknown value type 13", "byte")
attack("bool.gguf", "gguf", with_key("k", 7, b"\2"), "a bool that is 2", "byte")
attack("name-not-utf8.gguf", "gguf", with_infos(info(b"\xff\xfe", [8, 4], 0, 0)), "not UTF-8", "byte")
attack("v1.gguf", "gguf", gguf(version=u32(1)), "version 1 is not read", "byte 4")
attack("v4.gguf", "gguf", gguf(version=u32(4)), "version 4 is unknown", "byte 4")
attack("big-endian.gguf", "gguf", gguf(version=struct.pack(">I", 3)), "big-endian", "byte 4")
SPLIT = [pair("split.no", 2, u16(0)), pair("split.count", 2, u16(3)), pair("split.tensors.count", 5, u32(9))]
attack("split-alone.gguf", "gguf", gguf(keys=KEYS + SPLIT), "one of 3 parts", "`split.count`")
attack("split-no-beyond.gguf", "gguf", gguf(keys=KEYS + [pair("split.no", 2, u16(3))] + SPLIT[1:]), "cannot be", "`split.no`")
attack("split-count-2^63.gguf", "gguf", gguf(keys=KEYS + SPLIT[:1] + [pair("split.count", 10, u64(1 << 63))] + SPLIT[2:]),
       "cannot be", "`split.no`")
attack("split-keys-missing.gguf", "gguf", gguf(keys=KEYS + SPLIT[1:2]), "must have this key", "`split.no`")
# Sound files whose weights are no numbers: refused where a model is checked.
attack("nan-weight.gguf", "gguf-weights", gguf(data=f32(NAN) + DATA[4:]), "the weight is NaN", "`a.weight`[0]")
attack("infinite-weight.gguf", "gguf-weights", gguf(data=DATA[:8] + f32(-INF) + DATA[12:]), "the weight is -inf", "`a.weight`[2]")
attack("nan-scale.gguf", "gguf-weights", gguf(data=DATA[:128] + struct.pack("<e", NAN) + DATA[130:]), "the weight is NaN", "`b.weight`")
attack("infinite-scale.gguf", "gguf-weights", gguf(data=DATA[:128] + struct.pack("<e", INF) + DATA[130:]), "the weight is", "`b.weight`")


# --------------------------------------------------------------------------------------------------------- safetensors

def safetensors(header, data=b"", length=None):
    header = header if isinstance(header, (bytes, str)) else json.dumps(header)
    header = header.encode() if isinstance(header, str) else header
    return u64(len(header) if length is None else length) + header + data


def entry(dtype, shape, start, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


ONE = {"__metadata__": {"format": "pt"}, "a": entry("F32", [2, 4], 0, 32), "b": entry("BF16", [4], 32, 40)}
FLOATS = f32(*range(8)) + bytes(8)
SHARD = safetensors(ONE, FLOATS)


def changed(**fields):
    return safetensors({**ONE, "b": {**ONE["b"], **fields}}, FLOATS)


seed("model.safetensors", "safetensors", SHARD)
for name, cut, says in [("length", 5, "cut short"), ("header", 40, "cut short"), ("first-tensor", len(SHARD) - 30, "out of bounds"),
                        ("last-tensor", len(SHARD) - 1, "out of bounds")]:
    attack(f"cut-{name}.safetensors", "safetensors", SHARD[:cut], says)
for power in (32, 63):
    attack(f"header-2^{power}.safetensors", "safetensors", safetensors(ONE, FLOATS, 1 << power), "header length", "byte 0")
    attack(f"dimension-2^{power}.safetensors", "safetensors", changed(shape=[1 << power]), "overflows" if power == 63 else "do not hold", "`b`")
    attack(f"offset-2^{power}.safetensors", "safetensors", changed(data_offsets=[1 << power, (1 << power) + 8]), "out of bounds", "`b`")
attack("header-beyond.safetensors", "safetensors", safetensors(ONE, FLOATS, 4000), "cut short", "byte 8")
attack("dimensions-product.safetensors", "safetensors", changed(shape=[1 << 32, 1 << 32]), "overflows", "`b`")
attack("no-elements-2^63.safetensors", "safetensors",
       safetensors({**ONE, "c": entry("F32", [1 << 63, 0], 40, 40)}, FLOATS), "no elements", "`c`")
attack("offset-2^64.safetensors", "safetensors", changed(data_offsets=[1 << 64, (1 << 64) + 8]), "no pair of offsets", "`b`")
attack("offsets-reversed.safetensors", "safetensors", changed(data_offsets=[40, 32]), "do not hold", "`b`")
attack("overlap.safetensors", "safetensors", changed(data_offsets=[24, 32]), "overlaps", "`b`")
attack("hole.safetensors", "safetensors", safetensors({**ONE, "b": entry("BF16", [4], 36, 44)}, FLOATS + bytes(4)), "a hole", "`b`")
attack("trailing.safetensors", "safetensors", SHARD + b"more", "4 bytes follow", "byte")
attack("negative.safetensors", "safetensors", changed(shape=[-4]), "no list of sizes", "`b`")
attack("fraction.safetensors", "safetensors", changed(shape=[4.5]), "no list of sizes", "`b`")
attack("dtype.safetensors", "safetensors", changed(dtype="F33"), "unknown dtype `F33`", "`b`")
attack("dtype-number.safetensors", "safetensors", changed(dtype=7), "`dtype` is missing or no string", "`b`")
attack("duplicate-tensor.safetensors", "safetensors", safetensors(json.dumps(ONE)[:-1] + ', "a": 1}', FLOATS), "duplicate name `a`", "line")
attack("duplicate-field.safetensors", "safetensors", safetensors(json.dumps(ONE).replace('"shape"', '"dtype": "F32", "shape"'), FLOATS),
       "duplicate name `dtype`", "line")
attack("deep.safetensors", "safetensors", safetensors('{"a":' + "[" * 3000 + "]" * 3000 + "}", FLOATS), "recursion limit", "line")
attack("deep-objects.safetensors", "safetensors", safetensors('{"a":' * 1000 + "1" + "}" * 1000, FLOATS), "recursion limit", "line")
attack("header-not-utf8.safetensors", "safetensors", safetensors(b'{"\xff\xfe": 1}', FLOATS), "invalid JSON", "line")
attack("header-array.safetensors", "safetensors", safetensors("[1]"), "does not begin with", "byte 8")
attack("metadata-number.safetensors", "safetensors", safetensors({**ONE, "__metadata__": {"format": 1}}, FLOATS), "no object of strings", "header")
attack("nan-weight.safetensors", "safetensors-weights", safetensors(ONE, f32(NAN) + FLOATS[4:]), "the weight is NaN", "`a`[0]")


# ----------------------------------------------------------------------------------------------------------------- APR

def apr_entry(name, dtype, dims, offset, size):
    name = name.encode() if isinstance(name, str) else name
    return u16(len(name)) + name + bytes([dtype, len(dims)]) + b"".join(map(u64, dims)) + u64(offset) + u64(size)


ENTRIES = [apr_entry("a.weight", 0, [4, 8], 0, 128), apr_entry("b.weight", 8, [1, 32], 128, 34)]
META = b'{"architecture":"llama","num_layers":1}'


def apr(entries=ENTRIES, meta=META, data=DATA, magic=b"APR\0", version=2, flags=0x0400, count=None, footer=None,
        header_crc=None, **offsets):
    index = b"".join(entries)
    index_at = (64 + len(meta) + 63) // 64 * 64
    data_at = (index_at + len(index) + 63) // 64 * 64
    head = magic + bytes([version, 0]) + u16(flags) + u32(len(entries) if count is None else count)
    head += u64(offsets.get("meta_at", 64)) + u32(offsets.get("meta_size", len(meta)))
    head += u64(offsets.get("index_at", index_at)) + u64(offsets.get("data_at", data_at))
    crc = zlib.crc32(head + bytes(20)) if header_crc is None else header_crc
    out = head + u32(crc) + bytes(20) + meta
    out = out + bytes(index_at - len(out)) + index
    out = out + bytes(data_at - len(out)) + data + bytes(-len(data) % 64)
    return out + u32(zlib.crc32(out) if footer is None else footer)


def with_b(*fields):
    return apr(entries=[ENTRIES[0], apr_entry("b.weight", *fields)])


APR = apr()
seed("model.apr", "apr", APR)
# aprender's own int4 and int8, by old and new bytes: 18 bytes for 32 elements, and 4 + n.
seed("aprender.apr", "apr", apr(entries=[apr_entry("a", 128, [32], 0, 18), apr_entry("b", 9, [2, 32], 64, 68), apr_entry("c", 2, [4], 192, 8)],
                                data=struct.pack("<e", 1.0) + bytes(16) + bytes(46) + f32(0.5) + bytes(64) + bytes(60) + bytes(8)))
for name, cut in [("magic", 2), ("header", 30), ("metadata", 80), ("index", 150), ("data", 330), ("padding", len(APR) - 10), ("footer", len(APR) - 2)]:
    says = {"magic": "cut short", "header": "cut short", "padding": "cut short", "footer": "follow the last tensor", "data": "out of bounds"}
    attack(f"cut-{name}.apr", "apr", APR[:cut], says.get(name, "do not follow each other"), "byte" if name != "data" else "tensor")
attack("header-crc.apr", "apr", apr(header_crc=0xDEADBEEF), "header CRC", "byte 40")
attack("footer-crc.apr", "apr", apr(footer=0xDEADBEEF), "footer CRC", "byte")
attack("data-changed.apr", "apr", APR[:-100] + bytes([APR[-100] ^ 1]) + APR[-99:], "footer CRC", "byte")
attack("version-9.apr", "apr", apr(version=9), "APR version 9.0", "byte 4")
attack("v1.apr", "apr", apr(magic=b"APRN"), "APR version 1", "byte 0")
attack("whisper.apr", "apr", apr(magic=b"APR1"), "APR version 1", "byte 0")
for flag, name, says in [(1, "lz4", "LZ4-compressed"), (2, "zstd", "ZSTD-compressed"), (4, "encrypted", "decrypt it"), (16, "shard", "one shard of several"),
                         (0x800, "column-major", "column-major"), (0x8000, "unknown-flag", "no version of the format")]:
    attack(f"{name}.apr", "apr", apr(flags=0x0400 | flag), says, "byte 6")
attack("sharded-by-metadata.apr", "apr", apr(meta=b'{"sharding":{"shard_count":3,"shard_index":0}}'), "one shard of 3", "`sharding`")
for power in (32, 63):
    for section in ("meta_at", "index_at", "data_at"):
        attack(f"{section.replace('_at', '')}-2^{power}.apr", "apr", apr(**{section: 1 << power}), "do not follow each other", "byte 12")
    attack(f"offset-2^{power}.apr", "apr", with_b(8, [1, 32], 1 << power, 34), "out of bounds", "`b.weight`")
    attack(f"dimension-2^{power}.apr", "apr", with_b(8, [1 << power, 32], 128, 34), "does not fit", "`b.weight`")
    attack(f"size-2^{power}.apr", "apr", with_b(8, [1, 32], 128, 1 << power), "does not fit", "`b.weight`")
attack("count-2^32.apr", "apr", apr(count=0xFFFFFFFF), "tensors declared", "byte")
attack("metadata-2^32.apr", "apr", apr(meta_size=0xFFFFFFFF), "do not follow each other", "byte 12")
attack("no-elements-2^63.apr", "apr", with_b(0, [1 << 63, 0], 128, 0), "no elements", "`b.weight`")
attack("name-beyond.apr", "apr", apr(entries=[u16(65535) + b"a" * 30]), "cut short", "byte")
attack("name-not-utf8.apr", "apr", apr(entries=[apr_entry(b"\xff\xfe", 0, [1], 0, 4)]), "not UTF-8", "byte")
attack("dimensions-255.apr", "apr", apr(entries=[u16(1) + b"a\0\xff" + bytes(30)]), "cut short", "byte")
attack("duplicate-tensor.apr", "apr", apr(entries=[ENTRIES[0], ENTRIES[0]]), "duplicate name", "`a.weight`")
attack("unsorted.apr", "apr", apr(entries=ENTRIES[::-1]), "not sorted", "`a.weight`")
attack("overlap.apr", "apr", with_b(8, [1, 32], 64, 34), "overlaps", "`b.weight`")
attack("unaligned.apr", "apr", with_b(8, [1, 32], 129, 34), "no multiple of 64", "`b.weight`")
attack("size.apr", "apr", with_b(8, [1, 32], 128, 35), "does not fit", "`b.weight`")
attack("dtype.apr", "apr", with_b(200, [1, 32], 128, 34), "unknown dtype byte 200", "`b.weight`")
attack("ambiguous.apr", "apr", with_b(9, [1, 32], 128, 36), "settles it", "`b.weight`")
attack("dialect.apr", "apr", apr(meta=b'{"format_dialect":"contract-v9"}'), "contract-v9", "`format_dialect`")
attack("dialect-number.apr", "apr", apr(meta=b'{"format_dialect":1}'), "dialect 1 is unknown", "`format_dialect`")
attack("metadata-list.apr", "apr", apr(meta=b"[]"), "no object", "metadata")
attack("metadata-twice.apr", "apr", apr(meta=b'{"a":1,"a":2}'), "duplicate name `a`", "line 1")
attack("metadata-deep.apr", "apr", apr(meta=b'{"a":' + b"[" * 2000 + b"]" * 2000 + b"}"), "recursion limit", "line 1")
# Row tiles: 544 bytes for 16 rows of one Q8_0 block, however few of them are there.
TILED = lambda fields, **how: apr(entries=[ENTRIES[0], apr_entry("b.weight", *fields)], data=DATA[:128] + bytes(i % 251 for i in range(544)), **how)
seed("tiled.apr", "apr", TILED((0xA8, [3, 32], 128, 544)))
attack("tiled-plain-size.apr", "apr", TILED((0xA8, [3, 32], 128, 102)), "tiled Q8_0 needs 544 bytes", "`b.weight`")
attack("tiled-vector.apr", "apr", TILED((0xA8, [512], 128, 544)), "needs two dimensions", "`b.weight`")
attack("tiled-partial-row.apr", "apr", TILED((0xA8, [16, 33], 128, 544)), "no whole number of blocks", "`b.weight`")
attack("tiled-rows-2^63.apr", "apr", TILED((0xA8, [1 << 63, 32], 128, 544)), "does not fit", "`b.weight`")
attack("tiled-rows-2^64.apr", "apr", TILED((0xA8, [(1 << 64) - 5, 32], 128, 544)), "does not fit", "`b.weight`")
attack("tiled-cut.apr", "apr", TILED((0xA8, [17, 32], 128, 1088)), "out of bounds", "`b.weight`")
attack("tiled-aprender.apr", "apr", TILED((0xA8, [3, 32], 128, 544), meta=b'{"format_dialect":"aprender"}'), "declares aprender's table", "`b.weight`")
attack("tiled-unknown.apr", "apr", TILED((0xA1, [3, 32], 128, 544)), "unknown dtype byte 161", "`b.weight`")
attack("nan-scale.apr", "apr-weights", apr(data=DATA[:128] + struct.pack("<e", NAN) + DATA[130:]), "the weight is NaN", "`b.weight`")


# ------------------------------------------------------------------------------------------------------ tokenizer.json

def tokenizer(**changes):
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3}, "merges": [["a", "b"]], **changes.pop("model", {})}
    return json.dumps({
        "added_tokens": [{"id": 4, "content": "<|end|>", "special": True}],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel"},
        "model": model,
        **changes,
    }, ensure_ascii=False)


def vocab(**tokens):
    return tokenizer(model={"vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3, **tokens}})


def merges(*pairs):
    return tokenizer(model={"merges": list(pairs)})


def token(name, data, says, at):
    attack(f"{name}.tokenizer.json", "tokenizer_json", data, says, at)


SOUND = tokenizer()
seed("bytes.tokenizer.json", "tokenizer_json", SOUND.encode())
SPM = json.dumps({
    "added_tokens": [{"id": 0, "content": "<unk>", "special": True}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
                                                       {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
    "pre_tokenizer": None, "post_processor": None, "decoder": None,
    "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": True,
              "vocab": {"<unk>": 0, "<0x41>": 1, "▁": 2, "a": 3, "b": 4, "▁a": 5, "ab": 6},
              "merges": ["▁ a", "a b"]},
}, ensure_ascii=False)
seed("pieces.tokenizer.json", "tokenizer_json", SPM.encode())
token("cut", SOUND[:100], "invalid JSON", "line 1")
token("cut-vocab", SOUND[:SOUND.index('"ab"') + 6], "invalid JSON", "line 1")
token("no-model", tokenizer()[:20] + "}]}", "invalid JSON", "line 1")
token("deep", '{"model":' + "[" * 3000 + "]" * 3000 + "}", "recursion limit", "line 1")
token("deep-normalizer", tokenizer(normalizer=0).replace('"normalizer": 0', '"normalizer": ' + '{"type":"Sequence","normalizers":[' * 500 + "]}" * 500),
      "recursion limit", "line 1")
token("id-2^60", vocab(x=1 << 60), "at most can be", "model.vocab")
token("id-2^64", vocab(x=1 << 64), "has the id", "model.vocab")
token("id-sparse", vocab(x=4_000_000), "ids go up to", "model.vocab")
token("id-negative", vocab(x=-1), "has the id -1", "model.vocab")
token("id-text", vocab(x="5"), "has the id \"5\"", "model.vocab")
token("id-fraction", vocab(x=5.5), "has the id 5.5", "model.vocab")
token("id-twice", vocab(x=2), "share the id 2", "model.vocab")
token("text-twice", SOUND.replace('"b": 1', '"b": 1, "b": 5'), "duplicate name `b`", "line 1")
token("text-long", vocab(**{"x" * 3000: 5}), "a token of 3000 bytes", "x")
token("vocab-list", tokenizer(model={"vocab": ["a", "b"]}), "not an object", "model.vocab")
token("vocab-empty", tokenizer(model={"vocab": {}, "merges": []}, added_tokens=[]), "no tokens", "token 0")
token("merges-text", tokenizer(model={"merges": "a b"}), "not a list", "model.merges")
token("merge-dangling", merges(["a", "b"], ["ab", "x"]), "is not in the vocabulary", "merge 1")
token("merge-of-nothing", merges(["b", "a"]), "`ba` is not in the vocabulary", "merge 0")
token("merge-into-itself", merges(["ab", ""]), "is not two parts", "merge 0")
token("merge-cycle", merges(["a", "b"], ["", "ab"]), "is not two parts", "merge 1")
token("merge-three", merges(["a", "b", "ab"]), "is not two parts", "merge 0")
token("merge-number", merges(1), "is not two parts", "merge 0")
token("added-without-id", tokenizer(added_tokens=[{"content": "x"}]), "no id", "added_tokens")
token("added-without-text", tokenizer(added_tokens=[{"id": 4}]), "no content", "added_tokens")
token("added-id-taken", tokenizer(added_tokens=[{"id": 0, "content": "x"}]), "share the id 0", "model.vocab")
token("added-id-2^60", tokenizer(added_tokens=[{"id": 1 << 60, "content": "x"}]), "at most can be", "model.vocab")
token("added-number", tokenizer(added_tokens=7), "not a list", "added_tokens")
token("unigram", tokenizer(model={"type": "Unigram", "vocab": [["a", -1.5]]}), "type Unigram", "model")
token("dropout", tokenizer(model={"dropout": 0.5}), "dropout 0.5", "model")
token("regex-bomb", tokenizer(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(((((a{99}){99}){99}){99}){99})*"}, "behavior": "Isolated",
                                             "invert": False}), "neither byte-level BPE", "pre_tokenizer")
token("template-id-2^60", tokenizer(post_processor={
    "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "s", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "special_tokens": {"s": {"id": "s", "ids": [1 << 60], "tokens": ["s"]}}}), "gives `s` the id", "post_processor")
token("template-id-beyond", tokenizer(post_processor={
    "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "s", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "special_tokens": {"s": {"id": "s", "ids": [999], "tokens": ["s"]}}}), "the bos token is 999", "bos")
token("pieces-not-by-score", SPM.replace('"a b"', '"b a"'), "is not in the vocabulary", "model.merges")


# ------------------------------------------------------------------------------------------------------------ playbook

BOOK = """version: 1
name: p
models:
  m: {source: a}
prompts:
  hello: {text: Hello}
artifacts:
  one: {from: source, format: apr, quantize: int8}
suites:
  s:
    - gate: gate
      artifacts: [one]
      limits: {limit: 3, choice: b}
"""


def book(name, data, says, at="line"):
    attack(f"{name}.yaml", "playbook", data, says, at)


seed("playbook.yaml", "playbook", BOOK.encode())
book("cut-key", BOOK[:20], "expected ':'")
book("cut-flow", BOOK[:BOOK.index("source: a}") + 6], "unclosed bracket")
book("from-itself", BOOK.replace("from: source", "from: one"), "one")
book("from-circle", BOOK.replace("  one: {from: source", "  two: {from: one, format: gguf}\n  one: {from: two"), "circle")
book("from-nowhere", BOOK.replace("from: source", "from: nowhere"), "nowhere")
book("alias-bomb", "x-a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"x-{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)) + BOOK,
     "aliases expand")
book("alias-cycle", BOOK.replace("m: {source: a}", "m: &m {m: *m}"), "contains itself")
book("alias-unknown", BOOK.replace("{source: a}", "*nobody"), "alias without an anchor")
book("deep-flow", "x-a: " + "[" * 2000 + "]" * 2000 + "\n" + BOOK, "larger or deeper")
book("deep-block", "x-a:\n" + "".join(" " * i + "a:\n" for i in range(1, 60)) + BOOK, "larger or deeper")
book("many-nodes", "x-a: [" + ",".join("[]" for _ in range(1500)) + "]\n" + BOOK.replace("gate: gate", "gate: [gate]"), "expected text")
book("bracket-unclosed", BOOK.replace("limit: 3", "limit: [3"), "mismatched bracket")
book("duplicate-key", BOOK + "name: q\n", "stands twice")
book("two-documents", BOOK + "---\n" + BOOK, "second YAML document")
book("unknown-key", BOOK + "sweets: 1\n", "unknown key `sweets`")
book("unknown-gate", BOOK.replace("gate: gate", "gate: gaet"), "gaet")
book("name-with-slash", BOOK.replace("  one:", "  a/../../b:"), "cannot be a name")
book("name-huge", BOOK.replace("  one:", f"  {'n' * 200}:"), "cannot be a name")
book("limit-nan", BOOK.replace("limit: 3", "limit: .nan"), "number")
book("limit-infinite", BOOK.replace("limit: 3", "limit: 1e999"), "number")
book("timeout-overflow", BOOK.replace("      artifacts", "      timeout: 99999999999999999999h\n      artifacts"), "timeout")
book("tokens-2^63", BOOK.replace("      artifacts", f"      tokens: {1 << 63}\n      artifacts"), "tokens")
book("tokens-negative", BOOK.replace("      artifacts", "      tokens: -1\n      artifacts"), "tokens")
book("version-2^64", BOOK.replace("version: 1", f"version: {1 << 64}"), "version")
book("not-utf8", BOOK.encode().replace(b"Hello", b"H\xff\xfe"), "UTF-8")
book("null-bytes", BOOK.replace("Hello", "He\0llo"), "unexpected character")
book("binary", bytes(range(256)) * 4, "byte 128 is not UTF-8")
book("merge-key", BOOK.replace("m: {source: a}", "m: {<<: 7, source: b}"), "merge value must be mapping")
book("tag", BOOK.replace("Hello", "!!binary zzzz"), "not valid UTF-8")


# --------------------------------------------------------------------------------------------------------- oracle JSON

ORACLE = {"model": "m", "model_slug": "tiny", "prompt": "Hi", "prompt_file": "greeting.txt", "runtime": "transformers", "format": "float32",
          "transformers_version": "5", "torch_version": "2", "tokens": [5, 2], "text": " you", "token_count": 2, "max_new_tokens": 32,
          "do_sample": False}
LOGITS = {"model_slug": "tiny", "prompt_file": "greeting.txt", "prompt_ids": [1], "tokens": [5], "min_top1_gap": 0.5, "weights_sha256": "00",
          "steps": [{"logsumexp": 9.5, "top": [[5, -0.1], [7, -2.5]]}]}


def recording(name, base, says, at="key", **changes):
    attack(f"{name}.oracle.json", "oracle_json", json.dumps({**base, **changes}), says, at)


seed("greeting.oracle.json", "oracle_json", json.dumps(ORACLE).encode())
seed("greeting.logits.oracle.json", "oracle_json", json.dumps(LOGITS).encode())
attack("cut.oracle.json", "oracle_json", json.dumps(ORACLE)[:200], "EOF", "line 1")
attack("deep.oracle.json", "oracle_json", '{"model":' + "[" * 3000, "invalid type", "line 1")
attack("deep-steps.oracle.json", "oracle_json", '{"steps":' + "[" * 3000, "line", "line 1")
attack("twice.oracle.json", "oracle_json", json.dumps(ORACLE)[:-1] + ', "tokens": [1]}', "duplicate field", "line 1")
recording("count", ORACLE, "token_count is 3", token_count=3)
recording("count-2^63", ORACLE, "token_count is", token_count=1 << 63)
recording("count-2^64", ORACLE, "invalid", "line 1", token_count=1 << 64)
recording("no-tokens", ORACLE, "no tokens", tokens=[], token_count=0)
recording("too-many", ORACLE, "max_new_tokens is 1", max_new_tokens=1)
recording("sampled", ORACLE, "greedy", do_sample=True)
recording("id-2^60", ORACLE, "invalid value", "line 1", tokens=[1 << 60, 1])
recording("id-negative", ORACLE, "invalid value", "line 1", tokens=[-1, 1])
recording("id-text", ORACLE, "invalid type", "line 1", tokens=["5", 1])
recording("unknown-field", ORACLE, "unknown field", "line 1", surprise=1)
recording("steps-fewer", LOGITS, "but 0 steps", steps=[])
recording("steps-more", LOGITS, "but 2 steps", steps=LOGITS["steps"] * 2)
recording("no-prompt", LOGITS, "no ids", prompt_ids=[])
recording("probability-above-1", LOGITS, "step 0", steps=[{"logsumexp": 1, "top": [[5, 0.7]]}])
recording("no-alternatives", LOGITS, "step 0", steps=[{"logsumexp": 1, "top": []}])
attack("probability-1e999.oracle.json", "oracle_json", json.dumps(LOGITS).replace("-0.1", "-1e999"), "out of range", "line 1")
attack("probability-nan.oracle.json", "oracle_json", json.dumps(LOGITS).replace("-0.1", "NaN"), "expected", "line 1")


# ------------------------------------------------------------------------------------------------------------- imatrix

MATRIX_KEYS = [pair("general.type", 8, text("imatrix")), pair("imatrix.datasets", 9, u32(8) + u64(1) + text("a.txt")),
               pair("imatrix.chunk_count", 4, u32(2)), pair("imatrix.chunk_size", 4, u32(512))]


def matrix(sums=(1.0, 2.0, 3.0, 4.0), counts=(2.0, 0.0), keys=MATRIX_KEYS, names=("w.in_sum2", "w.counts"), dtype=0, shapes=None):
    shapes = shapes or ([len(sums) // max(len(counts), 1), len(counts)], [1, len(counts)])
    infos = [info(names[0], shapes[0], dtype, 0), info(names[1], shapes[1], 0, 64)]
    return gguf(keys=keys, infos=infos, data=f32(*sums).ljust(64, b"\0") + f32(*counts).ljust(32, b"\0"))


def of_matrix(name, says, at, **changes):
    attack(f"{name}.imatrix.gguf", "imatrix", matrix(**changes), says, at)


seed("imatrix.gguf", "imatrix", matrix())
of_matrix("counts-not-dividing", "4 sums cannot belong to 3 counts", "`w.in_sum2`", counts=(1.0, 1.0, 1.0), shapes=([4], [3]))
of_matrix("counts-none", "cannot belong to 0 counts", "`w.in_sum2`", counts=(), shapes=([4], [0]))
of_matrix("sums-none", "0 sums", "`w.in_sum2`", sums=(), shapes=([0], [2]))
of_matrix("sums-nan", "element 1 is NaN", "`w.in_sum2`", sums=(1.0, NAN, 1.0, 1.0))
of_matrix("sums-infinite", "element 0 is inf", "`w.in_sum2`", sums=(INF, 1.0, 1.0, 1.0))
of_matrix("sums-negative", "element 3 is -1", "`w.in_sum2`", sums=(1.0, 1.0, 1.0, -1.0))
of_matrix("counts-nan", "NaN is no count", "`w.counts`", counts=(NAN, 1.0))
of_matrix("counts-negative", "-2 is no count", "`w.counts`", counts=(-2.0, 1.0))
of_matrix("counts-fraction", "0.5 is no count", "`w.counts`", counts=(1.0, 0.5))
of_matrix("counts-infinite", "inf is no count", "`w.counts`", counts=(INF, 1.0))
of_matrix("pair-broken", "beside it", "`w.in_sum2`", names=("w.in_sum2", "v.counts"))
of_matrix("counts-alone", "beside it", "`w.counts`", names=("v.in_sum", "w.counts"))
of_matrix("no-entries", "empty", "byte", names=("v.in_sum", "w.count"))
of_matrix("dtype", "an importance matrix holds F32", "`w.in_sum2`", dtype=26)
of_matrix("type-model", "this GGUF is model", "`general.type`", keys=[pair("general.type", 8, text("model"))] + MATRIX_KEYS[1:])
of_matrix("type-missing", "no importance matrix", "`general.type`", keys=MATRIX_KEYS[1:])
of_matrix("chunks-missing", "missing", "`imatrix.chunk_count`", keys=MATRIX_KEYS[:2] + MATRIX_KEYS[3:])
of_matrix("chunks-text", "holds string", "`imatrix.chunk_size`", keys=MATRIX_KEYS[:3] + [pair("imatrix.chunk_size", 8, text("512"))])
of_matrix("datasets-numbers", "no array of strings", "`imatrix.datasets`",
          keys=MATRIX_KEYS[:1] + [pair("imatrix.datasets", 9, u32(4) + u64(1) + u32(7))] + MATRIX_KEYS[2:])
attack("old.imatrix.dat", "imatrix", u32(1) + u32(5) + b"blk.0" + u32(1) + u32(2) + f32(1, 2), "old .dat form", "byte 0")
attack("old-2^31.imatrix.dat", "imatrix", u32(0x7FFFFFFF) + u32(0x7FFFFFFF) + b"blk.0", "no importance matrix begins", "byte 0")
attack("cut.imatrix.gguf", "imatrix", matrix()[:-90], "out of bounds", "tensor")


# ------------------------------------------------------------------------------------------------------------- folders

SINGLE = {"model_type": "llama"}
OTHER = safetensors({"c": entry("F32", [2], 0, 8)}, f32(1, 2))


def shards(name, weight_map, says, at=None, **files):
    folder(name, {"config.json": json.dumps(SINGLE), "one.safetensors": SHARD, "two.safetensors": OTHER,
                  "model.safetensors.index.json": weight_map if isinstance(weight_map, str) else json.dumps({"weight_map": weight_map}),
                  **files}, says, at)


MAP = {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}
for name, shard in [("parent", "../one.safetensors"), ("absolute", "/etc/passwd"), ("nested", "sub/one.safetensors"), ("dots", ".."),
                    ("dot-segment", "./one.safetensors"), ("nul", "one\0.safetensors"), ("empty", "")]:
    shards(f"shard-{name}", {**MAP, "c": shard}, "no file of this folder", "`c`")
shards("shard-missing", {**MAP, "c": "three.safetensors"}, "there is no such file", "`c`")
shards("shard-wrong", {**MAP, "b": "two.safetensors"}, "it stands in one.safetensors", "`b`")
shards("shard-unlisted", {"a": "one.safetensors", "c": "two.safetensors"}, "not in the index", "`b`")
shards("shard-absent-tensor", {**MAP, "d": "two.safetensors"}, "which does not have it", "`d`")
shards("shard-number", {**MAP, "c": 7}, "no file name", "`c`")
shards("index-empty", {}, "is empty", "`weight_map`")
shards("index-list", '{"weight_map": []}', "no object", "`weight_map`")
shards("index-twice", '{"weight_map": {"a": "one.safetensors", "a": "two.safetensors"}}', "duplicate name `a`", "line 1")
shards("index-deep", '{"weight_map":' + "[" * 2000 + "]" * 2000 + "}", "recursion limit", "line 1")
folder("config-list", {"config.json": "[]", "model.safetensors": SHARD}, "no object", "config.json")
folder("config-deep", {"config.json": '{"a":' * 1000 + "1" + "}" * 1000, "model.safetensors": SHARD}, "recursion limit", "line 1")
folder("config-cut", {"config.json": '{"model_type": "ll', "model.safetensors": SHARD}, "invalid JSON", "line 1")
folder("template-not-utf8", {"config.json": "{}", "model.safetensors": SHARD, "chat_template.jinja": b"a\xff"}, "not UTF-8", "byte 1")


def main():
    wanted = {f"seeds/{name}": data for name, data in SEEDS.items()} | {f"files/{name}": data for name, data in ATTACKS.items()}
    lines = ",\n".join("  " + json.dumps(row, ensure_ascii=False) for row in MANIFEST)
    wanted["manifest.json"] = f"[\n{lines}\n]\n".encode()
    found = {str(p.relative_to(HERE)) for part in ("seeds", "files") for p in (HERE / part).rglob("*") if p.is_file()}
    if "--check" in sys.argv[1:]:
        stale = [name for name, data in wanted.items() if not (HERE / name).is_file() or (HERE / name).read_bytes() != data]
        stale += sorted(found - set(wanted))
        sys.exit(f"not what this script writes: {', '.join(stale)}" if stale else 0)
    for name in found - set(wanted):
        (HERE / name).unlink()
    for name, data in wanted.items():
        (HERE / name).parent.mkdir(parents=True, exist_ok=True)
        (HERE / name).write_bytes(data)
    print(f"{len(SEEDS)} seeds, {len(MANIFEST) - len(SEEDS)} attacks, {sum(map(len, wanted.values()))} bytes")


main()
