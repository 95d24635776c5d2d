#!/usr/bin/env python3
"""llama-perplexity --kl-divergence and apr-qa-runner find the same divergence of a quantised model from its original.

  python oracle/interop/llama_kld.py target/release/apr-qa-runner LLAMA_PERPLEXITY SOURCE.gguf [--recipes q8_0,q2_k] [--json OUT]

SOURCE.gguf (F16 or wider) is the base. Each recipe is written from it by us and read by both programs, on one text, with
one chunking. KL, same top-1 and perplexity ratio must agree within llama.cpp's printed uncertainty plus what its 16-bit
store of the base's log-probabilities costs: 5.5e-4 (its README: F16 against itself), for shares and ratios as for nats.

llama.cpp's plain build rounds activations to eight bits wherever a weight is quantised, which we do not. So that both
compute the same function, it is given the recipe's weights decoded to F32 (`--as-is` gives it the quantised file).
"""

import argparse
import json
import os
import re
import subprocess
import tempfile

from checks import HERE, Table, end, runner

FLOOR = 5.5e-4
PRINTED = {
    "kl": r"Mean\s+KLD:\s+(\S+)\s+±\s+(\S+)",
    "perplexity_ratio": r"Mean PPL\(Q\)/PPL\(base\)\s+:\s+(\S+)\s+±\s+(\S+)",
    "same_top": r"Same top p:\s+(\S+)\s+±\s+(\S+)\s+%",
}
PERCENT = {"same_top"}


def llama(program, arguments):
    done = subprocess.run([program, *arguments, "--no-warmup"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"llama-perplexity exits {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout + done.stderr


def figures(text):
    found = {}
    for name, pattern in PRINTED.items():
        match = re.search(pattern, text)
        if not match:
            raise RuntimeError(f"llama-perplexity printed no {name} (it prints none under 100 positions)")
        scale = 0.01 if name in PERCENT else 1.0
        found[name] = tuple(scale * float(part) for part in match.groups())
    return found


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("runner", help="the apr-qa-runner program")
    args.add_argument("llama_perplexity", help="llama.cpp's llama-perplexity")
    args.add_argument("file", help="an unquantised GGUF")
    args.add_argument("--recipes", default="q8_0,q6_k,q4_k_m,q2_k", help="default: %(default)s")
    args.add_argument("--text", default=os.path.join(HERE, "..", "text", "prose.txt"))
    args.add_argument("--characters", type=int, default=24000, help="score the beginning of the text (default: %(default)s)")
    args.add_argument("--ctx", type=int, default=512)
    args.add_argument("--as-is", action="store_true", help="give llama.cpp the quantised file itself")
    args.add_argument("--json", metavar="OUT", help="write the figures")
    args.add_argument("--threads", type=int, default=2)
    a = args.parse_args()
    table, record = Table(), []
    with tempfile.TemporaryDirectory() as work:
        part, base = f"{work}/text.txt", f"{work}/base.kld"
        with open(a.text, encoding="utf-8") as f, open(part, "w", encoding="utf-8") as g:
            g.write(f.read()[: a.characters])
        common = ["-f", part, "-c", str(a.ctx), "-t", str(a.threads)]
        llama(a.llama_perplexity, ["-m", a.file, *common, "--kl-divergence-base", base])
        for recipe in a.recipes.split(","):
            file, decoded = f"{work}/{recipe}.gguf", f"{work}/{recipe}-f32.gguf"
            runner(a.runner, "convert", a.file, file, "--quantize", recipe)
            given = file
            if not a.as_is:
                runner(a.runner, "convert", file, decoded, "--quantize", "f32")
                given = decoded
            theirs = figures(llama(a.llama_perplexity, ["-m", given, "-c", str(a.ctx), "-t", str(a.threads), "--kl-divergence-base", base, "--kl-divergence"]))
            ours = runner(a.runner, "perplexity", file, "--text-file", part, "--against", a.file, "--ctx", str(a.ctx), "--threads", str(a.threads))
            for name, (value, uncertainty) in theirs.items():
                mine = ours[name]["value"]
                allowed = uncertainty + FLOOR
                good = abs(mine - value) <= allowed
                table.add(f"{recipe} {name}", good, f"ours {mine:.6f} ± {ours[name]['uncertainty']:.6f}, llama.cpp {value:.6f} ± {uncertainty:.6f}, difference {mine - value:+.6f}, allowed {allowed:.6f}")
                record.append({"recipe": recipe, "metric": name, "ours": mine, "ours_uncertainty": ours[name]["uncertainty"], "llama_cpp": value, "llama_cpp_uncertainty": uncertainty, "allowed": allowed, "agrees": good})
            for left in {file, given}:
                os.remove(left)
        if a.json:
            about = {"base": os.path.basename(a.file), "text": os.path.basename(a.text), "characters": a.characters, "ctx": a.ctx, "positions": ours["tokens_scored"], "llama_cpp_reads": "the quantised file" if a.as_is else "its weights decoded to F32", "rows": record}
            with open(a.json, "w", encoding="utf-8") as f:
                json.dump(about, f, indent=1)
                f.write("\n")
    return table.finish()


if __name__ == "__main__":
    end(main)
