#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["torch>=2.6", "transformers>=5.1", "tokenizers>=0.22", "safetensors>=0.5"]
# ///
"""The `apr` command (crate apr-cli) loads what `convert --dialect aprender` writes: `apr check` passes, `apr run` answers.

  python oracle/interop/aprender.py RUNNER APR FOLDER [--encodings f32,int8,int4]

RUNNER is apr-qa-runner, APR is aprender's command, FOLDER a Hugging Face model folder. The control is aprender's own
`apr import` of the same weights (as float32): what aprender cannot do with its own file it need not do with ours, and
the table says so. `apr check` must pass as many stages on our file as on the control. The text of `apr run` must be,
white space aside, what HF transformers generates from the ids that aprender makes of the prompt (in float32), what
apr-qa-runner generates from the same file (quantised), or what aprender says with its control. Those ids follow
aprender's rules: an embedded chat template is applied to every prompt, and a SentencePiece vocabulary is segmented by
the sum of its scores, without a BOS and with blanks unknown. No prompt of words comes out right that way, so such a
model is asked a few characters, whose ids are beyond doubt: its numbers are judged, not its tokenizer.
"""

import argparse
import json
import os
import re
import subprocess
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from checks import Table, end, prompts, runner

TOKENS = 24
CHARACTERS = {t: t for t in ("W", "A", "2", "Wh", "If", "n8")}


def check(apr, file):
    """(passed, failed stages) of `apr check`. In JSON mode it exits 0 whatever it found, so its own count is read."""
    done = subprocess.run([apr, "check", file, "--no-gpu", "--json"], capture_output=True, text=True)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        raise RuntimeError(f"apr check {file} prints no JSON: {done.stderr.strip()[-200:]}") from None
    stages = report["stages"]
    bad = [s["name"] for s in stages if str(s["status"]).upper() != "PASS"]
    return len(stages) - len(bad), bad


def run(apr, file, prompt):
    done = subprocess.run([apr, "run", file, "-p", prompt, "-n", str(TOKENS), "--no-gpu", "--json"], capture_output=True, text=True)
    if done.returncode:
        return f"exit {done.returncode}: {done.stderr.strip()[-200:]}"
    return json.loads(done.stdout[done.stdout.index("{"):]).get("text") or ""


def plain(text):
    """aprender cleans the text that it prints: runs of blanks become one, the ends are cut."""
    return re.sub(r"\s+", " ", text).strip()


def same(said, expected):
    """Equal but for blanks; characters outside ASCII may stand as their byte-level glyphs, which aprender leaves so."""
    expected = plain(expected)
    return plain(said) in (expected, "".join(c if c.isascii() else glyphs(c) for c in expected))


def glyphs(text):
    """Byte-level BPE's spelling of a text: one printable character a byte (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    table = {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(rest)}
    return "".join(table[b] for b in text.encode())


class Expected:
    """What transformers says, in the way aprender asks and prints."""

    def __init__(self, folder, pieces, scores, eos):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.pieces, self.scores, self.eos = pieces, scores, eos

    def text(self, prompt):
        if self.scores:
            index = {p: i for i, p in enumerate(self.pieces)}
            ids = [index[c] for c in prompt]
        elif self.tokenizer.chat_template:
            rendered = self.tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False)
            ids = self.tokenizer(rendered, add_special_tokens=False)["input_ids"]
        else:
            ids = self.tokenizer(prompt)["input_ids"]
        with torch.no_grad():
            out = self.model.generate(torch.tensor([ids]), max_new_tokens=TOKENS, do_sample=False, eos_token_id=self.eos, pad_token_id=0)
        new = [t for t in out[0, len(ids):].tolist() if t not in self.eos]
        return "".join(self.pieces[t] for t in new) if self.scores else self.tokenizer.decode(new)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("runner", help="the apr-qa-runner program")
    args.add_argument("apr", help="aprender's apr command")
    args.add_argument("folder", help="a Hugging Face model folder")
    args.add_argument("--encodings", default="f32,int8,int4", help="what our file is written as (default: %(default)s)")
    a = args.parse_args()
    torch.set_num_threads(2)
    table = Table()
    with tempfile.TemporaryDirectory() as work:
        plain_folder, control = f"{work}/f32", f"{work}/control.apr"
        runner(a.runner, "convert", a.folder, plain_folder, "--quantize", "f32")
        done = subprocess.run([a.apr, "import", plain_folder + "/", "-o", control], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"apr import exits {done.returncode}: {done.stderr.strip()[-300:]}")
        control_passed, control_bad = check(a.apr, control)
        table.add("control: apr check", True, f"{control_passed} passed" + (f", fails {', '.join(control_bad)}: aprender does not run this family" if control_bad else ""))
        with open(f"{plain_folder}/tokenizer.json", encoding="utf-8") as f:
            model = json.load(f)["model"]
        with open(f"{plain_folder}/config.json", encoding="utf-8") as f:
            eos = json.load(f)["eos_token_id"]
        eos = eos if isinstance(eos, list) else [eos]
        scores = pieces = None
        expected = None
        for encoding in a.encodings.split(","):
            file = f"{work}/{encoding}.apr"
            runner(a.runner, "convert", a.folder, file, "--quantize", encoding, "--dialect", "aprender", "--allow-lossy")
            if expected is None:
                metadata = runner(a.runner, "inspect", file, "--full")["metadata"] if model.get("byte_fallback") else {}
                if metadata:
                    pieces, scores = metadata["tokenizer.vocabulary"], metadata["tokenizer.scores"]
                expected = Expected(plain_folder, pieces, scores, eos)
            passed, bad = check(a.apr, file)
            table.add(f"{encoding}: apr check", passed >= control_passed and set(bad) <= set(control_bad), f"{passed} passed" + (f", fails {', '.join(bad)}" if bad else ""))
            for name, prompt in (CHARACTERS if scores else prompts()).items():
                said = run(a.apr, file, prompt)
                candidates = {}
                if encoding == "f32":
                    candidates["as transformers"] = expected.text(prompt)
                elif not scores:
                    chat = ["--chat"] if expected.tokenizer.chat_template else []
                    candidates["as apr-qa-runner"] = runner(a.runner, "generate", file, "-p", prompt, "-n", str(TOKENS), *chat)["text"]
                if control_bad:
                    candidates["as its control"] = run(a.apr, control, prompt)
                if not candidates or (control_bad and encoding != "f32"):
                    table.add(f"{encoding}: apr run {name}", bool(said.strip()), f"text, not compared: {said[:40]!r}")
                    continue
                how = [k for k, v in candidates.items() if same(said, v)]
                table.add(f"{encoding}: apr run {name}", bool(how), how[0] if how else f"{plain(said)[:60]!r}, expected {[plain(v)[:60] for v in candidates.values()]!r}")
    return table.finish()


end(main)
