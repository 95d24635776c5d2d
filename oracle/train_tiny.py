#!/usr/bin/env python3
# /// script
# requires-python = ">=3.10"
# dependencies = ["torch>=2.6", "transformers>=5.1", "tokenizers>=0.22", "safetensors>=0.5", "numpy>=2"]
# ///
"""Train the tiny models of the project from nothing, into oracle/models/<slug>/.

Two runs on one machine are meant to write the same bytes: fixed seeds, one thread, deterministic kernels. On another processor
the last bits of the sums differ, so the weights do too; the committed ones are the truth that the oracles belong to.
Weights are rounded to the stored type (BF16 or F16) at the end; whatever is recorded later uses the rounded ones.
"""

import argparse
import json
import math
import os
import time

os.environ.setdefault("MKL_CBWR", "AUTO")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import (
    Gemma3ForCausalLM, Gemma3TextConfig, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM,
    Phi3Config, Phi3ForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM,
)

import corpus
import tiny_tokenizers

HERE = os.path.dirname(os.path.abspath(__file__))
THREADS = 1
CONTEXT = 512
TOKENIZER_SEED, TRAIN_SEED, WEIGHT_SEED = 1, 2, 3
BATCH, LEARNING_RATE, WARMUP, WEIGHT_DECAY = 2, 3e-3, 100, 0.1
STEPS = {"tiny-llama": 2000, "tiny-qwen2": 1200, "tiny-gpt2": 2000}
OTHER_STEPS = 1000

LLAMA = dict(
    architectures=["LlamaForCausalLM"], attention_bias=False, attention_dropout=0.0, bos_token_id=1, eos_token_id=2, head_dim=32, hidden_act="silu",
    hidden_size=128, initializer_range=0.04, intermediate_size=352, max_position_embeddings=CONTEXT, mlp_bias=False, model_type="llama",
    num_attention_heads=4, num_hidden_layers=4, num_key_value_heads=2, pretraining_tp=1, rms_norm_eps=1e-5, rope_scaling=None, rope_theta=10000.0,
    tie_word_embeddings=False, torch_dtype="bfloat16", use_cache=True, vocab_size=1024,
)
# As transformers 5 writes it: `rope_parameters` in place of `rope_theta`, `dtype` in place of `torch_dtype`.
QWEN2 = dict(
    architectures=["Qwen2ForCausalLM"], attention_dropout=0.0, bos_token_id=1000, dtype="bfloat16", eos_token_id=1000, hidden_act="silu",
    hidden_size=128, initializer_range=0.04, intermediate_size=384, layer_types=["full_attention"] * 4, max_position_embeddings=CONTEXT, max_window_layers=4,
    model_type="qwen2", num_attention_heads=4, num_hidden_layers=4, num_key_value_heads=2, rms_norm_eps=1e-6,
    rope_parameters=dict(rope_theta=1000000.0, rope_type="default"), sliding_window=None, tie_word_embeddings=True, use_cache=True,
    use_sliding_window=False, vocab_size=1024,
)
GPT2 = dict(
    activation_function="gelu_new", architectures=["GPT2LMHeadModel"], attn_pdrop=0.0, bos_token_id=1023, embd_pdrop=0.0, eos_token_id=1023,
    initializer_range=0.04, layer_norm_epsilon=1e-5, model_type="gpt2", n_ctx=CONTEXT, n_embd=128, n_head=4, n_inner=None, n_layer=4, n_positions=CONTEXT,
    reorder_and_upcast_attn=False, resid_pdrop=0.0, scale_attn_by_inverse_layer_idx=False, scale_attn_weights=True, tie_word_embeddings=True,
    torch_dtype="float16", use_cache=True, vocab_size=1024,
)
SMALL = dict(
    attention_dropout=0.0, dtype="bfloat16", hidden_size=128, initializer_range=0.04, intermediate_size=320, max_position_embeddings=CONTEXT,
    num_attention_heads=4, num_hidden_layers=4, num_key_value_heads=2, use_cache=True, vocab_size=1024,
)
# A head width that does not follow from the others, and a norm on every head.
QWEN3 = dict(
    SMALL, architectures=["Qwen3ForCausalLM"], attention_bias=False, bos_token_id=1000, eos_token_id=1000, head_dim=48, hidden_act="silu",
    layer_types=["full_attention"] * 4, max_window_layers=4, model_type="qwen3", rms_norm_eps=1e-6,
    rope_parameters=dict(rope_theta=1000000.0, rope_type="default"), sliding_window=None, tie_word_embeddings=True, use_sliding_window=False,
)
# Windows far shorter than the context, so that a long text goes past them; one full layer in two.
GEMMA3 = dict(
    SMALL, architectures=["Gemma3ForCausalLM"], attention_bias=False, attn_logit_softcapping=None, bos_token_id=2, eos_token_id=1, final_logit_softcapping=None,
    head_dim=32, hidden_activation="gelu_pytorch_tanh", layer_types=["sliding_attention", "full_attention"] * 2, model_type="gemma3_text", pad_token_id=0,
    query_pre_attn_scalar=32, rms_norm_eps=1e-6, sliding_window=96, tie_word_embeddings=True, use_bidirectional_attention=False,
    rope_parameters=dict(full_attention=dict(rope_theta=1000000.0, rope_type="default"), sliding_attention=dict(rope_theta=10000.0, rope_type="default")),
)
MISTRAL = dict(
    SMALL, architectures=["MistralForCausalLM"], bos_token_id=1, eos_token_id=2, head_dim=32, hidden_act="silu", model_type="mistral", rms_norm_eps=1e-5,
    rope_parameters=dict(rope_theta=10000.0, rope_type="default"), sliding_window=128, tie_word_embeddings=False,
)
# The scaling of Llama 3.1, from a quarter of the context on.
LLAMA3 = dict(
    SMALL, architectures=["LlamaForCausalLM"], attention_bias=False, bos_token_id=1021, eos_token_id=[1022, 1023], head_dim=32, hidden_act="silu", mlp_bias=False,
    model_type="llama", pretraining_tp=1, rms_norm_eps=1e-5, tie_word_embeddings=True,
    rope_parameters=dict(factor=8.0, high_freq_factor=4.0, low_freq_factor=1.0, original_max_position_embeddings=128, rope_theta=500000.0, rope_type="llama3"),
)
PHI3 = dict(
    SMALL, architectures=["Phi3ForCausalLM"], bos_token_id=1, embd_pdrop=0.0, eos_token_id=2, hidden_act="silu", model_type="phi3",
    original_max_position_embeddings=CONTEXT, pad_token_id=0, resid_pdrop=0.0, rms_norm_eps=1e-5,
    rope_parameters=dict(partial_rotary_factor=1.0, rope_theta=10000.0, rope_type="default"), sliding_window=256, tie_word_embeddings=False,
)
# slug: config, its class, the model's class, the tokenizer's maker, stored type, generation_config
MODELS = {
    "tiny-llama": (LLAMA, LlamaConfig, LlamaForCausalLM, tiny_tokenizers.llama, torch.bfloat16, dict(bos_token_id=1, eos_token_id=2, do_sample=False)),
    "tiny-qwen2": (QWEN2, Qwen2Config, Qwen2ForCausalLM, tiny_tokenizers.qwen2, torch.bfloat16, dict(bos_token_id=1000, eos_token_id=[1000, 1002], pad_token_id=1000, do_sample=False)),
    "tiny-gpt2": (GPT2, GPT2Config, GPT2LMHeadModel, tiny_tokenizers.gpt2, torch.float16, dict(bos_token_id=1023, eos_token_id=1023, do_sample=False)),
    "tiny-qwen3": (QWEN3, Qwen3Config, Qwen3ForCausalLM, tiny_tokenizers.qwen2, torch.bfloat16, dict(bos_token_id=1000, eos_token_id=[1000, 1002], pad_token_id=1000, do_sample=False)),
    "tiny-gemma3": (GEMMA3, Gemma3TextConfig, Gemma3ForCausalLM, tiny_tokenizers.gemma, torch.bfloat16, dict(bos_token_id=2, eos_token_id=[1, 5], pad_token_id=0, do_sample=False)),
    "tiny-mistral": (MISTRAL, MistralConfig, MistralForCausalLM, tiny_tokenizers.llama, torch.bfloat16, dict(bos_token_id=1, eos_token_id=2, do_sample=False)),
    "tiny-llama3": (LLAMA3, LlamaConfig, LlamaForCausalLM, tiny_tokenizers.llama3, torch.bfloat16, dict(bos_token_id=1021, eos_token_id=[1022, 1023], do_sample=False)),
    "tiny-phi3": (PHI3, Phi3Config, Phi3ForCausalLM, tiny_tokenizers.llama, torch.bfloat16, dict(bos_token_id=1, eos_token_id=2, do_sample=False)),
}


class Batches:
    """Sequences of 512 tokens that begin with a document, as a prompt does; one in ten joints is an end-of-text token."""

    def __init__(self, tok, slug):
        self.tok, self.slug, self.corpus = tok, slug, corpus.Corpus(TRAIN_SEED)
        ends = ("</s>", "<eos>", "<|end_of_text|>", "<|endoftext|>")
        self.eos = next(i for i in map(tok.token_to_id, ends) if i is not None)
        # Sequences of the first three models begin without the BOS that their prompts have.
        self.bos = [tok.encode("").ids[0]] if slug not in STEPS and tok.encode("").ids else []

    def encode(self, text):
        if self.bos:
            return self.tok.encode(text, add_special_tokens=False).ids
        return self.tok.encode(text).ids

    def sequence(self):
        ids, joined = list(self.bos), []
        while len(ids) <= CONTEXT:
            joined.append(self.document())
            if self.corpus.r.random() < 0.1 or sum(map(len, joined)) > 5 * CONTEXT:
                ids += self.encode("\n".join(joined)) + [self.eos]
                joined = []
        return ids[: CONTEXT + 1]

    def document(self):
        text = self.corpus.document()
        if self.slug in ("tiny-qwen2", "tiny-qwen3") and self.corpus.r.random() < 0.05:
            question, answer = self.corpus.name(), self.corpus.sentence()
            return f"<|im_start|>user\nTell me about {question}.<|im_end|>\n<|im_start|>assistant\n{question}? {answer}<|im_end|>"
        return text

    def next(self):
        rows = torch.tensor([self.sequence() for _ in range(BATCH)])
        return rows[:, :-1], rows[:, 1:]


def learning_rate(step, steps):
    if step < WARMUP:
        return LEARNING_RATE * (step + 1) / WARMUP
    return LEARNING_RATE * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (steps - WARMUP))))


def train(slug, out, steps):
    config, config_class, model_class, make_tokenizer, stored, generation = MODELS[slug]
    folder = os.path.join(out, slug)
    os.makedirs(folder, exist_ok=True)
    text = corpus.text(TOKENIZER_SEED, 1_500_000)
    tok = make_tokenizer(text)
    if make_tokenizer is tiny_tokenizers.llama:
        print(f"{slug}: {tiny_tokenizers.check_llama(tok, text[:400_000])} texts have SentencePiece's ids", flush=True)
    tiny_tokenizers.dump(tok, slug, folder)
    tok = Tokenizer.from_file(f"{folder}/tokenizer.json")
    for name, value in (("config.json", config), ("generation_config.json", generation)):
        with open(f"{folder}/{name}", "w") as f:
            json.dump(dict(sorted(value.items())), f, indent=2)
            f.write("\n")

    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(WEIGHT_SEED)
    model = model_class(config_class(**config)).float()
    for name, p in model.named_parameters():
        if name.endswith("bias"):  # not zero, so that a lost bias is seen
            torch.nn.init.normal_(p, std=0.2 if "attn" in name else 0.02)
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [dict(params=matrices, weight_decay=WEIGHT_DECAY), dict(params=vectors, weight_decay=0.0)], lr=LEARNING_RATE, betas=(0.9, 0.98), foreach=False
    )
    batches, start, mean = Batches(tok, slug), time.time(), None
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        x, y = batches.next()
        logits = model(x, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=False)
        optimizer.step()
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if step % 100 == 0 or step == steps - 1:
            print(f"{slug}: step {step} loss {mean:.4f}, {time.time() - start:.0f} s", flush=True)

    tied = config["tie_word_embeddings"]
    tensors = {n: t.detach().to(stored).contiguous() for n, t in model.state_dict().items() if not (tied and n == "lm_head.weight")}
    save_file(tensors, f"{folder}/model.safetensors", metadata={"format": "pt"})


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = args.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="train all of them")
    which.add_argument("--model", choices=list(MODELS), help="train one")
    args.add_argument("--out", default=os.path.join(HERE, "models"), help="folder for the model folders")
    args.add_argument("--steps", type=int, help="fewer steps, to try the script out")
    a = args.parse_args()
    for slug in MODELS if a.all else [a.model]:
        train(slug, a.out, a.steps or STEPS.get(slug, OTHER_STEPS))


if __name__ == "__main__":
    main()
