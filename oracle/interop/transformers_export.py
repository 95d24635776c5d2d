#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["torch>=2.6", "transformers>=5.1", "tokenizers>=0.22", "safetensors>=0.5"]
# ///
"""HF transformers loads a folder that apr-qa-runner exported, and gives the same ids and the same 32 greedy tokens.

  python oracle/interop/transformers_export.py target/release/apr-qa-runner FOLDER [--model SOURCE] [--oracle oracle/SLUG]

--model has apr-qa-runner generate from another artifact (the GGUF or APR file the folder was made of).
--oracle compares with the recorded tokens besides.
"""

import argparse
import json
import os

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from checks import DECOMPOSED, HARD, Table, end, first_difference, prompts, runner


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("runner", help="the apr-qa-runner program")
    args.add_argument("folder", help="the exported HF folder")
    args.add_argument("--model", help="what apr-qa-runner loads (default: the folder)")
    args.add_argument("--oracle", metavar="DIR", help="folder of the recorded <prompt>.json")
    a = args.parse_args()
    torch.set_num_threads(2)
    tokenizer = AutoTokenizer.from_pretrained(a.folder)
    model, info = AutoModelForCausalLM.from_pretrained(a.folder, dtype=torch.float32, output_loading_info=True)
    model.eval()
    table = Table()
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        found = sorted(map(str, info.get(kind) or []))
        table.add(kind.replace("_", " "), not found, ", ".join(found[:4]))
    source = a.model or a.folder
    for text in HARD:
        difference = first_difference(runner(a.runner, "tokenize", source, f"--text={text}")["ids"], tokenizer(text).input_ids)
        table.add(f"ids of {text[:24]!r}", not difference, difference)
    # The one rule that is not followed: Qwen's NFC. transformers applies it to every model of type qwen2, whatever the
    # file says; llama.cpp has no place for it, and the ids of one model must not depend on its container. Without the
    # composition the ids are the same, so they are compared without it.
    backend = tokenizer.backend_tokenizer
    composes = backend.normalizer is not None and "NFC" in str(backend.normalizer)
    if composes:
        backend.normalizer = None
    for text in DECOMPOSED:
        difference = first_difference(runner(a.runner, "tokenize", source, f"--text={text}")["ids"], tokenizer(text).input_ids)
        table.add(f"ids of {text[:24]!r}", not difference, difference or ("not composed first, as in llama.cpp" if composes else ""))
    tokenizer = AutoTokenizer.from_pretrained(a.folder)
    for name, prompt in prompts().items():
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        with torch.no_grad():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=32, do_sample=False, pad_token_id=0, repetition_penalty=1.0)
        theirs = out[0, ids.shape[1] :].tolist()
        difference = first_difference(runner(a.runner, "generate", source, f"--prompt={prompt}", "-n", "32")["tokens"], theirs)
        table.add(f"greedy {name}", not difference, difference)
        if a.oracle:
            with open(os.path.join(a.oracle, f"{name}.json"), encoding="utf-8") as f:
                difference = first_difference(json.load(f)["tokens"], theirs)
            table.add(f"oracle {name}", not difference, difference.replace("ours", "oracle"))
    return table.finish()


if __name__ == "__main__":
    end(main)
