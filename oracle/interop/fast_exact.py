#!/usr/bin/env python3
"""How far fast arithmetic is from exact arithmetic on the same weights: ours is no farther than llama.cpp's.

  python oracle/interop/fast_exact.py target/release/apr-qa-runner LLAMA_PERPLEXITY SOURCE.gguf [--recipes q8_0,q4_0] [--json OUT]

Every recipe is written from SOURCE by us, and once more with its weights decoded to F32. llama.cpp (a plain build, whose
kernels round activations; a BLAS build does not) runs over both files: the divergence of the two is what its arithmetic
costs. Ours is the divergence of `--backend FAST` from `--backend cpu` on the quantised file. Both means are over the same
tokens: KL of fast from exact in nats, and the share of equal most probable tokens.

llama.cpp's logits are read from the files that `--kl-divergence-base` writes: log-probabilities in 65536 steps over 16
nats. Both sides of its divergence are rounded alike, so that what is left of the rounding is about 1e-9 nats.
"""

import argparse
import json
import os
import subprocess
import tempfile

import numpy as np

from checks import HERE, Table, end, runner


def dump(program, model, text, out, a, *more):
    done = subprocess.run([program, *more, "-m", model, "-f", text, "-c", str(a.ctx), "-b", str(a.ctx), "-t", str(a.threads), "--no-warmup", "--kl-divergence-base", out], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"llama-perplexity exits {done.returncode}: {done.stderr.strip()[-300:]}")


class Dump:
    """Log-probabilities that llama-perplexity wrote: rows of the second half of every chunk."""

    def __init__(self, path):
        with open(path, "rb") as f:
            if f.read(8) != b"_logits_":
                raise RuntimeError(f"{path} holds no logits")
            self.ctx, self.vocab, chunks = (int(x) for x in np.fromfile(f, np.int32, 3))
            self.tokens = np.fromfile(f, np.int32, chunks * self.ctx)
            offset = f.tell()
        self.width = 2 * ((self.vocab + 1) // 2) + 4
        self.rows = np.memmap(path, np.uint16, "r", offset).reshape(-1, self.width)

    def log_probabilities(self, i):
        row = np.asarray(self.rows[i])
        scale, least = row[:4].view(np.float32).astype(np.float64)
        values = scale * row[4 : 4 + self.vocab].astype(np.float64) + least
        return values - np.log(np.exp(values).sum())


def distance(exact, fast):
    """Mean KL of fast from exact with its standard error over positions, and the share of equal best tokens."""
    exact, fast = Dump(exact), Dump(fast)
    if len(exact.rows) != len(fast.rows) or not np.array_equal(exact.tokens, fast.tokens):
        raise RuntimeError("the two runs did not score the same tokens")
    kl, same = [], []
    for i in range(len(exact.rows)):
        p, q = exact.log_probabilities(i), fast.log_probabilities(i)
        kl.append(float((np.exp(p) * (p - q)).sum()))
        same.append(int(p.argmax() == q.argmax()))
    return float(np.mean(kl)), float(np.std(kl) / len(kl) ** 0.5), float(np.mean(same)), len(kl)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("runner", help="the apr-qa-runner program")
    args.add_argument("llama_perplexity", help="llama-perplexity of a plain build")
    args.add_argument("file", help="a GGUF; a quantised one is quantised once more")
    args.add_argument("--recipes", default="f16,q8_0,q6_k,q5_1,q5_0,q5_k_s,q4_1,q4_0,q4_k_s,q3_k_s,q2_k", help="default: %(default)s")
    args.add_argument("--fast", default="cpu-fast", metavar="BACKEND", help="our fast backend (default: %(default)s); `none` measures llama.cpp alone")
    args.add_argument("--text", default=os.path.join(HERE, "..", "text", "prose.txt"))
    args.add_argument("--characters", type=int, default=12000, help="score the beginning of the text (default: %(default)s)")
    args.add_argument("--ctx", type=int, default=256)
    args.add_argument("--json", metavar="OUT", help="write the figures")
    args.add_argument("--threads", type=int, default=2)
    a = args.parse_args()
    table, record = Table(), []
    with tempfile.TemporaryDirectory() as work:
        part, logits = f"{work}/text.txt", (f"{work}/exact.kld", f"{work}/fast.kld")
        with open(a.text, encoding="utf-8") as f, open(part, "w", encoding="utf-8") as g:
            g.write(f.read()[: a.characters])
        for recipe in a.recipes.split(","):
            file, decoded = f"{work}/{recipe}.gguf", f"{work}/{recipe}-f32.gguf"
            runner(a.runner, "convert", a.file, file, "--quantize", recipe, "--allow-lossy")
            runner(a.runner, "convert", file, decoded, "--quantize", "f32")
            # Keys and values of the exact run in F32; those of the fast one as llama.cpp has them by default, in F16.
            dump(a.llama_perplexity, decoded, part, logits[0], a, "-ctk", "f32", "-ctv", "f32", "-fa", "off")
            dump(a.llama_perplexity, file, part, logits[1], a)
            kl, error, same, n = distance(*logits)
            row = {"recipe": recipe, "llama_cpp_kl": kl, "llama_cpp_kl_uncertainty": error, "llama_cpp_same_top": same, "positions": n}
            good, said = True, f"llama.cpp {kl:.3e} ± {error:.1e}, same top {same:.4f}"
            if a.fast != "none":
                ours = runner(a.runner, "perplexity", file, "--text-file", part, "--ctx", str(a.ctx), "--threads", str(a.threads), "--backend", a.fast, "--against", file, "--against-backend", "cpu")
                mine, unsure = ours["kl"]["value"], ours["kl"]["uncertainty"]
                # Larger only by what the two means are uncertain is not larger.
                good = mine <= kl + (error**2 + unsure**2) ** 0.5
                row |= {"ours_kl": mine, "ours_kl_uncertainty": unsure, "ours_same_top": ours["same_top"]["value"], "ratio": mine / kl, "not_larger": good}
                said = f"ours {mine:.3e} ± {unsure:.1e}, same top {ours['same_top']['value']:.4f}; " + said
            record.append(row)
            table.add(recipe, good, said)
            print(recipe, said, flush=True)
            for left in {file, decoded, *logits}:
                os.remove(left)
        if a.json:
            about = {"file": os.path.basename(a.file), "text": os.path.basename(a.text), "characters": a.characters, "ctx": a.ctx, "fast": a.fast, "rows": record}
            with open(a.json, "w", encoding="utf-8") as f:
                json.dump(about, f, indent=1)
                f.write("\n")
    return table.finish()


if __name__ == "__main__":
    end(main)
