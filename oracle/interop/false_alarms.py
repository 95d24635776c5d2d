#!/usr/bin/env python3
"""`compare` flags no sound conversion: neither ours nor llama-quantize's, with or without an importance matrix.

  python oracle/interop/false_alarms.py target/release/apr-qa-runner LLAMA_QUANTIZE MODEL… [--recipes q8_0,q4_k_m] [--text FILE] [--json OUT]

Each MODEL (HF folder or unquantised GGUF) is quantised under each recipe by both programs, plainly and with importance
matrices of two texts, ours with one to four threads. Every file is held against the MODEL; a verdict that is not `pass`
is a false alarm, an inconclusive one among them.
"""

import argparse
import json
import os
import subprocess
import tempfile

from checks import HERE, Table, end, runner

RECIPES = "f16,q8_0,q4_0,q4_1,q5_0,q5_1,q2_k,q3_k_m,q4_k_s,q4_k_m,q5_k_m,q6_k"


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{os.path.basename(command[0])} exits {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")


def compare(binary, reference, files, text, folder):
    """All candidates of one reference in one run."""
    given = ["--text-file", text] if text else []
    done = subprocess.run([binary, "compare", reference, *files, *given, "--json", "--no-progress", "--report-dir", folder], capture_output=True, text=True)
    if not done.stdout:
        raise RuntimeError(f"compare exits {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def conversions(a, model, work):
    """Every sound file of one model: ours and llama-quantize's, plain and by each importance matrix."""
    source = f"{work}/source-f32.gguf"
    runner(a.runner, "convert", model, source, "--quantize", "f32")
    matrices = {"plain": []}
    for name in ("prose", "tiny"):
        file = f"{work}/{name}.imatrix.gguf"
        runner(a.runner, "imatrix", model, "--text-file", os.path.join(HERE, "..", "text", f"{name}.txt"), "--ctx", "128", "--chunks", "16", "--output", file)
        matrices[name] = ["--imatrix", file]
    for recipe in a.recipes.split(","):
        for i, (name, given) in enumerate(matrices.items()):
            if given and recipe in ("f16", "q8_0"):
                continue
            ours = f"{work}/ours-{recipe}-{name}.gguf"
            runner(a.runner, "convert", source, ours, "--quantize", recipe, "--threads", str(1 + (len(recipe) + i) % 4), *given)
            theirs = f"{work}/llama-{recipe}-{name}.gguf"
            run([a.llama_quantize, *given, source, theirs, recipe.upper(), "2"])
            yield from (ours, theirs)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("runner", help="the apr-qa-runner program")
    args.add_argument("llama_quantize", help="llama.cpp's llama-quantize")
    args.add_argument("models", nargs="+", help="HF folders or unquantised GGUF files")
    args.add_argument("--recipes", default=RECIPES, help="default: %(default)s")
    args.add_argument("--text", help="a text to score instead of the built-in one")
    args.add_argument("--json", metavar="OUT", help="write the counts")
    a = args.parse_args()
    table, counts = Table(quiet_passes=True), {}
    for model in a.models:
        slug = os.path.basename(os.path.normpath(model))
        with tempfile.TemporaryDirectory() as work:
            files = list(conversions(a, model, work))
            summary = compare(a.runner, model, files, a.text, f"{work}/report")
            for candidate in summary["candidates"]:
                told = [f"{f['gate']} {f['verdict']}: {f['message']}" for f in summary["failures"] if f["candidate"] == candidate["name"]]
                table.add(f"{slug} {candidate['name']}", candidate["verdict"] == "pass", "; ".join(told))
                key = f"{slug} {candidate['verdict']}"
                counts[key] = counts.get(key, 0) + 1
        print(f"{slug}: {len(files)} files", flush=True)
    if a.json:
        with open(a.json, "w", encoding="utf-8") as f:
            json.dump({"recipes": a.recipes.split(","), "verdicts": counts}, f, indent=2)
    return table.finish()


if __name__ == "__main__":
    end(main)
