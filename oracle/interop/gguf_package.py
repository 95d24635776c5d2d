#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["gguf>=0.17", "numpy>=2"]
# ///
"""The `gguf` package reads a GGUF file: every tensor by the name, shape and type that apr-qa-runner lists, dequantised.

  python oracle/interop/gguf_package.py target/release/apr-qa-runner FILE.gguf [--reference SOURCE.gguf]

With --reference the values are compared with another file's, row by row: the same weights in another encoding.
"""

import argparse

import gguf
import numpy as np

from checks import Table, end, runner


def values(tensor):
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("runner", help="the apr-qa-runner program")
    args.add_argument("file", help="the GGUF to read")
    args.add_argument("--reference", metavar="GGUF", help="a file that holds the same tensors")
    args.add_argument("--min-sqnr", type=float, default=15.0, metavar="DB", help="the least signal-to-noise ratio against --reference (default: 15)")
    a = args.parse_args()
    theirs = {t.name: t for t in gguf.GGUFReader(a.file).tensors}
    ours = {t["name"]: t for t in runner(a.runner, "tensors", a.file, "--stats")["tensors"]}
    reference = {t.name: t for t in gguf.GGUFReader(a.reference).tensors} if a.reference else {}
    table = Table(quiet_passes=True)
    table.add("names", set(ours) == set(theirs), f"only ours {sorted(set(ours) - set(theirs))[:4]}, only theirs {sorted(set(theirs) - set(ours))[:4]}")
    for name in sorted(set(ours) & set(theirs)):
        mine, tensor = ours[name], theirs[name]
        x = values(tensor)
        faults = []
        if list(mine["shape"]) != list(x.shape):
            faults.append(f"shape {mine['shape']} against {list(x.shape)}")
        if mine["dtype"].upper() != tensor.tensor_type.name:
            faults.append(f"dtype {mine['dtype']} against {tensor.tensor_type.name}")
        if mine["size_bytes"] != tensor.n_bytes:
            faults.append(f"{mine['size_bytes']} bytes against {tensor.n_bytes}")
        if not np.isfinite(x).all():
            faults.append("not finite")
        for key, got in (("mean", x.mean(dtype=np.float64)), ("std", x.std(dtype=np.float64)), ("min", x.min()), ("max", x.max())):
            if abs(mine[key] - got) > 1e-5 * max(1.0, abs(float(got))):
                faults.append(f"{key} {mine[key]} against {got}")
        if reference:
            if name not in reference:
                faults.append("not in the reference")
            else:
                want = values(reference[name]).astype(np.float64)
                noise = ((want - x) ** 2).sum() if want.shape == x.shape else np.inf
                sqnr = np.inf if noise == 0 else 10 * np.log10((want**2).sum() / noise) if np.isfinite(noise) else -np.inf
                if sqnr < a.min_sqnr:
                    faults.append(f"signal-to-noise ratio {sqnr:.1f} dB")
        table.add(name, not faults, "; ".join(faults))
    return table.finish()


if __name__ == "__main__":
    end(main)
