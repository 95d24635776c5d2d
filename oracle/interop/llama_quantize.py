#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["gguf>=0.17", "numpy>=2"]
# ///
"""Our quantised GGUF holds, tensor by tensor, the bytes that llama-quantize writes.

  python oracle/interop/llama_quantize.py target/release/apr-qa-runner LLAMA_QUANTIZE FILE.gguf [--recipes q4_k_m,q6_k] [--imatrix FILE]

FILE.gguf is an unquantised model (F16 or F32). Both programs quantise it under each recipe; types, shapes and bytes of
every tensor must be equal. The time of both is printed, at equal numbers of threads; a ratio to report wants more runs.
"""

import argparse
import os
import subprocess
import tempfile
import time

import gguf

from checks import Table, end

RECIPES = "q8_0,q4_0,q4_1,q5_0,q5_1,q4_k_m,q4_k_s,q6_k,q5_k_m,q5_k_s,q3_k_m,q3_k_s,q3_k_l,q2_k"


def timed(command):
    start = time.time()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{os.path.basename(command[0])} exits {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    return time.time() - start


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("runner", help="the apr-qa-runner program")
    args.add_argument("llama_quantize", help="llama.cpp's llama-quantize")
    args.add_argument("file", help="an unquantised GGUF")
    args.add_argument("--recipes", default=RECIPES, help="default: %(default)s")
    args.add_argument("--imatrix", metavar="FILE", help="an importance matrix for both")
    args.add_argument("--threads", type=int, default=2)
    a = args.parse_args()
    table = Table()
    with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(a.file))) as work:
        for recipe in a.recipes.split(","):
            ours, theirs = f"{work}/ours.gguf", f"{work}/theirs.gguf"
            importance = ["--imatrix", a.imatrix] if a.imatrix else []
            mine = timed([a.runner, "convert", a.file, ours, "--quantize", recipe, "--threads", str(a.threads), *importance])
            other = timed([a.llama_quantize, *importance, a.file, theirs, recipe.upper(), str(a.threads)])
            left = {t.name: t for t in gguf.GGUFReader(ours).tensors}
            right = {t.name: t for t in gguf.GGUFReader(theirs).tensors}
            faults = [f"{name}: only one has it" for name in sorted(set(left) ^ set(right))]
            for name in sorted(set(left) & set(right)):
                l, r = left[name], right[name]
                if l.tensor_type != r.tensor_type or list(l.shape) != list(r.shape):
                    faults.append(f"{name}: ours {l.tensor_type.name} {list(l.shape)}, theirs {r.tensor_type.name} {list(r.shape)}")
                elif l.data.tobytes() != r.data.tobytes():
                    faults.append(f"{name}: {int((l.data.view('u1') != r.data.view('u1')).sum())} of {l.data.nbytes} bytes differ ({l.tensor_type.name})")
            table.add(recipe, not faults, "; ".join(faults[:3]) or f"{len(left)} tensors equal; ours {mine:.1f} s, theirs {other:.1f} s")
            os.remove(ours), os.remove(theirs)
    return table.finish()


if __name__ == "__main__":
    end(main)
