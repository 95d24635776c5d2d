#!/usr/bin/env python3
"""llama.cpp and apr-qa-runner find the same perplexity, within --tolerance, on quantised GGUF files that we wrote.

  python oracle/interop/llama_perplexity.py target/release/apr-qa-runner LLAMA_PERPLEXITY SOURCE.gguf [--recipes q8_0,q4_k_m] [--text FILE]

Each recipe is written from SOURCE.gguf and read by both programs: chunks of 512 tokens, the second half scored. Ours
computes with the decoded weights and f32 activations; llama.cpp rounds activations to eight bits, so the two differ by
what that costs (with GGML_BLAS=ON it multiplies most prompts in float, and the difference is far smaller). How much that is shows the row `f32`: llama.cpp on the same weights, decoded to F32, where it rounds
nothing; there the two must agree within a tenth of the tolerance.
"""

import argparse
import os
import re
import subprocess
import tempfile

from checks import HERE, Table, end, runner

RECIPES = "f16,q8_0,q4_0,q6_k,q5_k_m,q4_k_m,q3_k_m,q2_k"


def theirs(program, file, text, threads):
    done = subprocess.run([program, "-m", file, "-f", text, "-c", "512", "-t", str(threads), "--no-warmup"], capture_output=True, text=True)
    found = re.search(r"Final estimate: PPL = ([0-9.]+)", done.stdout + done.stderr)
    if done.returncode or not found:
        raise RuntimeError(f"llama-perplexity exits {done.returncode}: {done.stderr.strip()[-300:]}")
    return float(found.group(1))


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("runner", help="the apr-qa-runner program")
    args.add_argument("llama_perplexity", help="llama.cpp's llama-perplexity")
    args.add_argument("file", help="an unquantised GGUF")
    args.add_argument("--recipes", default=RECIPES, help="default: %(default)s")
    args.add_argument("--text", default=os.path.join(HERE, "..", "text", "prose.txt"))
    args.add_argument("--characters", type=int, default=24000, help="score the beginning of the text (default: %(default)s)")
    args.add_argument("--tolerance", type=float, default=0.005, help="relative difference (default: %(default)s)")
    args.add_argument("--threads", type=int, default=2)
    a = args.parse_args()
    table = Table()
    with tempfile.TemporaryDirectory() as work:
        part = f"{work}/text.txt"
        with open(a.text, encoding="utf-8") as f, open(part, "w", encoding="utf-8") as g:
            g.write(f.read()[: a.characters])
        for recipe in a.recipes.split(","):
            file = f"{work}/{recipe}.gguf"
            runner(a.runner, "convert", a.file, file, "--quantize", recipe)
            ours = runner(a.runner, "perplexity", file, "--text-file", part, "--threads", str(a.threads))
            other = theirs(a.llama_perplexity, file, part, a.threads)
            difference = ours["perplexity"] / other - 1
            table.add(recipe, abs(difference) <= a.tolerance, f"ours {ours['perplexity']:.4f}, llama.cpp {other:.4f}, {difference:+.3%} over {ours['tokens_scored']} tokens")
            decoded = f"{work}/{recipe}-f32.gguf"
            runner(a.runner, "convert", file, decoded, "--quantize", "f32")
            other = theirs(a.llama_perplexity, decoded, part, a.threads)
            difference = ours["perplexity"] / other - 1
            table.add(f"{recipe} as f32", abs(difference) <= a.tolerance / 10, f"ours {ours['perplexity']:.4f}, llama.cpp {other:.4f}, {difference:+.4%}")
            os.remove(file), os.remove(decoded)
    return table.finish()


if __name__ == "__main__":
    end(main)
