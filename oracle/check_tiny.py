#!/usr/bin/env python3
"""Measure the tiny models: how safe their greedy answers are, and what Q8_0 and Q4_0 do to them.

`int8` means every matrix in Q8_0; `int4` means Q4_0, with embeddings and head in Q8_0. Norms, biases and position
embeddings stay as they are. Prints a table and exits 1 where a model is not what the playbooks rely on.
"""

import argparse
import os
import sys

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import corpus

HERE = os.path.dirname(os.path.abspath(__file__))
SLUGS = ["tiny-llama", "tiny-qwen2", "tiny-gpt2", "tiny-qwen3", "tiny-gemma3", "tiny-mistral", "tiny-llama3", "tiny-phi3"]


def q8_0(rows):
    x = rows.reshape(-1, 32).astype(np.float32)
    amax = np.abs(x).max(1, keepdims=True)
    d = amax / np.float32(127)
    inverse = np.where(d > 0, 1 / np.where(d > 0, d, 1), 0).astype(np.float32)
    q = np.trunc(x * inverse + np.copysign(np.float32(0.5), x))
    return (q * d.astype(np.float16).astype(np.float32)).reshape(rows.shape)


def q4_0(rows):
    x = rows.reshape(-1, 32).astype(np.float32)
    extreme = np.take_along_axis(x, np.abs(x).argmax(1, keepdims=True), 1)
    d = extreme / np.float32(-8)
    inverse = np.where(d != 0, 1 / np.where(d != 0, d, 1), 0).astype(np.float32)
    q = np.minimum(15, (x * inverse + np.float32(8.5)).astype(np.int8)) - 8
    return (q * d.astype(np.float16).astype(np.float32)).reshape(rows.shape)


def quantize(model, encode, encode_tables):
    """In place; Conv1D weights are stored [in, out] and quantised along `in`, as every other."""
    for name, p in model.named_parameters():
        if p.dim() != 2 or "wpe" in name:
            continue
        table = "wte" in name or "embed_tokens" in name or "lm_head" in name
        conv1d = name.startswith("transformer.h.")
        w = p.data.numpy().T if conv1d else p.data.numpy()
        w = (encode_tables if table else encode)(np.ascontiguousarray(w))
        p.data.copy_(torch.from_numpy(np.ascontiguousarray(w.T if conv1d else w)))


def greedy(model, ids, n=32):
    with torch.no_grad():
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=n, do_sample=False, pad_token_id=0)
        logits = model(out).logits[0, ids.shape[1] - 1 : -1]
    best = logits.topk(2, -1).values
    return out[0, ids.shape[1] :].tolist(), (best[:, 0] - best[:, 1]).min().item()


def perplexity(model, ids, bos, ctx=512):
    """llama.cpp's rule: whole chunks of `ctx` tokens, each begun with BOS where the model has one; the second half is scored."""
    total, count = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(ids) - ctx + 1, ctx):
            chunk = torch.tensor([ids[start : start + ctx]])
            if bos is not None:
                chunk[0, 0] = bos
            lp = torch.log_softmax(model(chunk).logits[0].double(), -1)
            nll = -lp[:-1].gather(1, chunk[0, 1:, None])[ctx // 2 :, 0]
            total, count = total + nll.sum().item(), count + nll.numel()
    return float(np.exp(total / count))


def measure(folder):
    load = lambda: AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tok = AutoTokenizer.from_pretrained(folder)
    with open(os.path.join(HERE, "text", "tiny.txt"), encoding="utf-8") as f:
        text_ids = tok(f.read(), verbose=False).input_ids
    bos = text_ids[0] if text_ids[0] == tok.bos_token_id else None
    models = {"f32": load(), "int8": load(), "int4": load()}
    quantize(models["int8"], q8_0, q8_0)
    quantize(models["int4"], q4_0, q8_0)
    faults = []
    ppl = {k: perplexity(m, text_ids, bos) for k, m in models.items()}
    print(f"{os.path.basename(folder)}: {sum(p.numel() for p in models['f32'].parameters()):,} weights, {os.path.getsize(folder + '/model.safetensors'):,} bytes, "
          f"held-out tokens {len(text_ids)}, perplexity " + " ".join(f"{k} {v:.4f}" for k, v in ppl.items()))
    if abs(ppl["int4"] - ppl["int8"]) >= 0.4:
        faults.append("perplexity drift")
    for name, prompt in corpus.PROMPTS.items():
        ids = tok(prompt, return_tensors="pt").input_ids
        got = {k: greedy(m, ids) for k, m in models.items()}
        want = got["f32"][0]
        off = {k: sum(a != b for a, b in zip(want, got[k][0])) + abs(len(want) - len(got[k][0])) for k in ("int8", "int4")}
        print(f"  {name:<10} {len(want)} tokens, gap f32 {got['f32'][1]:.3f} int8 {got['int8'][1]:.3f} int4 {got['int4'][1]:.3f}, "
              f"mismatches int8 {off['int8']} int4 {off['int4']}: {tok.decode(want)!r}")
        if len(want) != 32 or got["f32"][1] < 0.3 or off["int8"] or off["int4"] > 5:
            faults.append(name)
    return faults


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--models", default=os.path.join(HERE, "models"), help="folder of the model folders")
    args.add_argument("slugs", nargs="*", metavar="SLUG", help="all unless named")
    a = args.parse_args()
    torch.set_num_threads(1)
    faults = {slug: measure(os.path.join(a.models, slug)) for slug in a.slugs or SLUGS}
    for slug, names in faults.items():
        if names:
            print(f"error: {slug}: {', '.join(names)}", file=sys.stderr)
    return 1 if any(faults.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
