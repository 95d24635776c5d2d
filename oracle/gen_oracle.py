#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["torch>=2.6", "transformers>=5.1", "tokenizers>=0.22", "safetensors>=0.5", "huggingface_hub>=1.0", "gguf>=0.17", "accelerate>=1.0"]
# ///
"""Record what HF transformers says in float32: the oracle that every format and backend is compared with.

  uv run oracle/gen_oracle.py --all
  uv run oracle/gen_oracle.py --model tiny-llama

For each prompt in oracle/prompts it writes
  oracle/<slug>/<prompt>.json         32 greedy tokens and their text
  oracle/<slug>/<prompt>.logits.json  the prompt's ids, and for every step the log-sum-exp of the logits and the 20 best
                                      natural-log probabilities
and for the tiny models oracle/<slug>/score.logits.json, the log-probability of each next token of a held-out text.

The models that `make pull` takes from packages are GGUF files: transformers dequantises them, and that is the float32
model. They are recorded where the file is there, and `score_long` scores the ids recorded before: llama.cpp's, because
transformers reads one pre-tokenizer of these files in another way.
"""

import argparse
import glob
import hashlib
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
REGISTRY = {
    "smollm-135m": "HuggingFaceTB/SmolLM-135M",
    "qwen2-0.5b": "Qwen/Qwen2-0.5B",
    "gpt2-124m": "openai-community/gpt2",
    "tiny-llama": "oracle/models/tiny-llama",
    "tiny-qwen2": "oracle/models/tiny-qwen2",
    "tiny-gpt2": "oracle/models/tiny-gpt2",
    "tiny-qwen3": "oracle/models/tiny-qwen3",
    "tiny-gemma3": "oracle/models/tiny-gemma3",
    "tiny-mistral": "oracle/models/tiny-mistral",
    "tiny-llama3": "oracle/models/tiny-llama3",
    "tiny-phi3": "oracle/models/tiny-phi3",
}
GGUF = {
    "smollm2-135m-instruct": "models/smollm2-135m-instruct/smollm2-135m-instruct-q4_1.gguf",
    "gemma3-270m": "models/gemma3-270m/gemma-3-270m-q4_k_m.gguf",
    "qwen2.5-coder-0.5b-instruct": "models/qwen2.5-coder-0.5b-instruct/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
}
NEW_TOKENS, TOP, SCORED = 32, 20, 512


def write(path, record):
    with open(path, "w", encoding="utf-8") as f:
        f.write(json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def write_steps(path, record):
    """As `write`, with one line for each step or list of numbers: these files hold thousands."""
    lines = []
    for key, value in record.items():
        if key == "steps":
            rows = ",\n".join("    " + json.dumps(step) for step in value)
            lines.append(f'  "steps": [\n{rows}\n  ]')
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    with open(path, "w", encoding="utf-8") as f:
        f.write("{\n" + ",\n".join(lines) + "\n}\n")


def fetch(name):
    """The folder of a model: one of ours, or a snapshot of the hub's."""
    local = os.path.join(HERE, "..", name)
    if name.startswith("oracle/"):
        if not os.path.exists(os.path.join(local, "model.safetensors")):
            raise RuntimeError(f"{name} has no model.safetensors; oracle/train_tiny.py makes it")
        return local
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt"])
    except Exception as e:
        reason = str(e).strip().split("\n")[0] or type(e).__name__
        raise RuntimeError(f"{name} is neither on the Hugging Face hub as seen from here nor in the local cache: {reason}") from None


def sha256(paths):
    """Of the files one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as f:
            for block in iter(lambda: f.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def record(slug, out):
    name = REGISTRY.get(slug) or GGUF[slug]
    if slug in GGUF:
        folder, file = os.path.split(os.path.join(HERE, "..", name))
        weight_files, source = [os.path.join(folder, file)], {"gguf_file": file}
        if not os.path.exists(weight_files[0]):
            raise RuntimeError(f"{name} is not there; make pull gets it")
    else:
        folder = fetch(name)
        weight_files, source = sorted(glob.glob(os.path.join(folder, "*.safetensors"))), {}
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(min(2, os.cpu_count() or 1))
    tokenizer = AutoTokenizer.from_pretrained(folder, **source)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **source).eval()
    weights = sha256(weight_files)
    os.makedirs(os.path.join(out, slug), exist_ok=True)
    for path in sorted(glob.glob(os.path.join(HERE, "prompts", "*.txt"))):
        prompt_file = os.path.basename(path)
        stem = os.path.join(out, slug, prompt_file.removesuffix(".txt"))
        with open(path, encoding="utf-8") as f:
            prompt = f.read().strip()
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        with torch.no_grad():
            generated = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False,
                temperature=None, top_p=None, top_k=None, repetition_penalty=1.0, pad_token_id=0,
            )
            new = generated[0, ids.shape[1] :]
            logits = model(generated).logits[0, ids.shape[1] - 1 : -1].double()
        if logits.argmax(-1).tolist() != new.tolist():
            raise RuntimeError(f"{slug}, {prompt_file}: the tokens generated one by one are not the best ones when scored at once: a tie")
        logsumexp = torch.logsumexp(logits, -1)
        top = torch.topk(logits, TOP, dim=-1)
        logprobs = top.values - logsumexp[:, None]
        write(f"{stem}.json", {
            "model": name, "model_slug": slug, "prompt": prompt, "prompt_file": prompt_file, "runtime": "transformers", "format": "float32",
            "transformers_version": transformers.__version__, "torch_version": torch.__version__, "tokens": new.tolist(),
            "text": tokenizer.decode(new, skip_special_tokens=True), "token_count": new.numel(), "max_new_tokens": NEW_TOKENS, "do_sample": False,
        })
        gap = (top.values[:, 0] - top.values[:, 1]).min().item()
        write_steps(f"{stem}.logits.json", {
            "model_slug": slug, "prompt_file": prompt_file, "prompt_ids": ids[0].tolist(), "tokens": new.tolist(),
            "min_top1_gap": round(gap, 6), "weights_sha256": weights,
            "steps": [
                {"logsumexp": round(lse, 7), "top": [[i, round(v, 7)] for i, v in zip(row, values)]}
                for lse, row, values in zip(logsumexp.tolist(), top.indices.tolist(), logprobs.tolist())
            ],
        })
        print(f"{slug}: {prompt_file}: {new.numel()} tokens, smallest gap {gap:.3f}", flush=True)
    score = lambda ids: following(model, torch.tensor([ids]))
    if slug.startswith("tiny-"):
        with open(os.path.join(HERE, "text", "tiny.txt"), encoding="utf-8") as f:
            ids = tokenizer(f.read(), verbose=False).input_ids[:SCORED]
        write_score(os.path.join(out, slug, "score.logits.json"), slug, weights, ids, score(ids))
    recorded = os.path.join(HERE, slug, "score_long.logits.json")
    if os.path.exists(recorded):
        with open(recorded, encoding="utf-8") as f:
            ids = json.load(f)["prompt_ids"]
        write_score(os.path.join(out, slug, "score_long.logits.json"), slug, weights, ids, score(ids))


def following(model, ids):
    """The natural-log probability of every token after the first."""
    import torch

    with torch.no_grad():
        logprobs = torch.log_softmax(model(ids).logits[0].double(), -1)
    return logprobs[:-1].gather(1, ids[0, 1:, None])[:, 0].tolist()


def write_score(path, slug, weights, ids, logprobs):
    nll = -sum(logprobs) / len(logprobs)
    write_steps(path, {
        "model_slug": slug, "weights_sha256": weights, "prompt_ids": ids, "next_logprob": [round(v, 7) for v in logprobs],
        "mean_nll": round(nll, 7), "tokens_scored": len(logprobs),
    })
    print(f"{slug}: {os.path.basename(path)}: mean negative log-likelihood {nll:.4f} over {len(logprobs)} tokens", flush=True)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = args.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="every model of the registry, and the pulled GGUF models that are there")
    which.add_argument("--model", choices=[*REGISTRY, *GGUF], metavar="SLUG", help="one of " + ", ".join([*REGISTRY, *GGUF]))
    args.add_argument("--out", default=HERE, help="folder for <slug>/<prompt>.json (default: oracle)")
    a = args.parse_args()
    failed = []
    pulled = [slug for slug, path in GGUF.items() if os.path.exists(os.path.join(HERE, "..", path))]
    for slug in [*REGISTRY, *pulled] if a.all else [a.model]:
        try:
            record(slug, a.out)
        except (RuntimeError, OSError) as e:
            failed.append(slug)
            print(f"error: {slug}: {e}", file=sys.stderr, flush=True)
    if failed:
        print(f"error: no oracle recorded for {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
