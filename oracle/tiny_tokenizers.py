"""The tokenizers of the tiny models: GPT-2's, Qwen2's, Llama-3's, Llama-2's and Gemma's kind, each about a thousand tokens.

The llama one is what SentencePiece's BPE is once converted: merges are not the order of training but every split of
every token into two tokens, ordered by the rank of the whole. `spm_encode` is SentencePiece's own rule (join the
neighbours whose union has the best score, leftmost first), written out to prove that both give the same ids.
"""

import json
import re

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

# The splitting rule of Qwen2: contractions, words with one leading mark, single digits, marks, line breaks, blanks.
QWEN2_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# The splitting rule of Llama 3: as Qwen2's, with numbers in groups of three at most.
LLAMA3_SPLIT = QWEN2_SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
# How words are kept apart while the llama vocabulary is learnt; the finished tokenizer has no such rule.
LLAMA_SPLIT = r"▁+(?=▁)|▁?\p{L}+|\p{N}|▁?[^▁\s\p{L}\p{N}]+|▁|\s"
SPACE = "▁"
BLANKS = [SPACE * 2, SPACE * 4, SPACE * 8, SPACE * 16]


def byte_level(vocab_size, split, normalizer, specials, pieces):
    """Byte-level BPE; the special tokens get the ids after the learnt ones, as in GPT-2 and Qwen2."""
    tok = Tokenizer(models.BPE())
    if normalizer:
        tok.normalizer = normalizer
    tok.pre_tokenizer = split
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(
        pieces,
        trainers.BpeTrainer(vocab_size=vocab_size - len(specials), show_progress=False, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())),
    )
    tok.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    return tok


def gpt2(text, vocab_size=1024):
    return byte_level(vocab_size, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True), None, ["<|endoftext|>"], text.splitlines(keepends=True))


def qwen2(text, vocab_size=1003):
    split = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    # Qwen2 splits marks together with the line break after them. A token such as `):` + line break would make a prompt that
    # ends in `):` unlike any text that was learnt, so line breaks are learnt apart.
    pieces = re.findall(r"[^\n]+|\n+", text)
    return byte_level(vocab_size, split, normalizers.NFC(), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], pieces)


def llama3(text, vocab_size=1024):
    split = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    begin = "<|begin_of_text|>"
    tok = byte_level(vocab_size, split, None, [begin, "<|end_of_text|>", "<|eot_id|>"], re.findall(r"[^\n]+|\n+", text))
    tok.model.ignore_merges = True
    bos = tok.token_to_id(begin)
    tok.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(single=f"{begin} $A", pair=f"{begin} $A {begin}:1 $B:1", special_tokens=[(begin, bos)]),
    ])
    return tok


def gemma(text, vocab_size=1024):
    """As `llama`, with Gemma's special tokens in Gemma's order and no blank before a text."""
    head = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    return sentence_piece(text, vocab_size, head, normalizers.Replace(" ", SPACE), "<bos>")


def llama(text, vocab_size=1024):
    """Ids: <unk> <s> </s>, 256 bytes, merged pieces best first, then single characters."""
    spaces = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    return sentence_piece(text, vocab_size, ["<unk>", "<s>", "</s>"], spaces, "<s>")


def sentence_piece(text, vocab_size, specials, spaces, bos):
    head = specials + [f"<0x{b:02X}>" for b in range(256)]
    teacher = Tokenizer(models.BPE())
    teacher.normalizer = normalizers.Replace(" ", SPACE)
    teacher.pre_tokenizer = pre_tokenizers.Split(Regex(LLAMA_SPLIT), "isolated")
    teacher.train_from_iterator(
        (SPACE + line for line in text.split("\n")),
        trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False, limit_alphabet=96),
    )
    learnt = [t for t, _ in sorted(teacher.get_vocab().items(), key=lambda x: x[1])]
    chars = [t for t in learnt if len(t) == 1 and t != "\n"]
    # A piece that overlaps itself (as `--` + `-`) can be reached in two ways at equal score, where SentencePiece takes the
    # leftmost and a list of merges cannot say so; only runs of blanks are kept, of lengths that split in one way.
    pieces = [t for t in learnt if len(t) > 1 and not any(t[:k] == t[-k:] for k in range(1, len(t)))]
    pieces = (BLANKS + pieces)[: vocab_size - len(head) - len(chars)]
    vocab = {t: i for i, t in enumerate(head + pieces + chars)}
    merges = []
    for piece in pieces:
        splits = [(piece[:k], piece[k:]) for k in range(1, len(piece)) if piece[:k] in vocab and piece[k:] in vocab]
        merges += sorted(splits, key=lambda s: (vocab[s[0]], vocab[s[1]]))
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tok.normalizer = spaces
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if bos == "<s>":
        steps.append(decoders.Strip(" ", 1, 0))
    tok.decoder = decoders.Sequence(steps)
    tok.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    tok.post_processor = processors.TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, vocab[bos])])
    return tok


def spm_encode(vocab, text):
    """SentencePiece BPE over one text without special tokens: ids, no BOS."""
    parts = list(SPACE + text.replace(" ", SPACE)) if text else []
    while True:
        best = None
        for i in range(len(parts) - 1):
            rank = vocab.get(parts[i] + parts[i + 1])
            if rank is not None and (best is None or rank < best[0]):
                best = (rank, i)
        if best is None:
            break
        i = best[1]
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    ids = []
    for p in parts:
        ids += [vocab[p]] if p in vocab else [vocab[f"<0x{b:02X}>"] for b in p.encode()]
    return ids


def check_llama(tok, text):
    """Every line of `text`, and runs and mixtures made to confuse, by both rules."""
    vocab = tok.get_vocab()
    hard = ["", " ", "  ", "   a", "a     b", "-----", "--->", "......", "aaaaaaa", "=====", "\n\n\n", "\t\t x", "1234567", "日本語", "🙂🙂", "é e\u0301", "ananananas", "lalalala", "  lead", "trail   "]
    hard += [" " * n + "return" for n in range(1, 20)] + ["x" + " " * n for n in range(1, 20)] + [c * 7 for c in "abcdefghijklmnopqrstuvwxyz.,-\"'#0"]
    lines = text.split("\n")
    for line in hard + lines + [a + "\n" + b for a, b in zip(lines[::7], lines[3::7])]:
        want, got = spm_encode(vocab, line), tok.encode(line, add_special_tokens=False).ids
        if want != got:
            raise SystemExit(f"tiny-llama: the merges differ from SentencePiece on {line!r}: {got} against {want}")
    return len(hard) + len(lines)


def tokenizer_config(slug):
    """What stands beside tokenizer.json."""
    if slug == "tiny-gemma3":
        return {
            "add_bos_token": True, "add_eos_token": False, "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>",
            "additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"], "clean_up_tokenization_spaces": False, "model_max_length": 512,
            "tokenizer_class": "PreTrainedTokenizerFast",
        }
    if slug == "tiny-llama3":
        return {
            "bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>", "additional_special_tokens": ["<|eot_id|>"],
            "clean_up_tokenization_spaces": False, "model_max_length": 512, "tokenizer_class": "PreTrainedTokenizerFast",
        }
    if slug in ("tiny-llama", "tiny-mistral", "tiny-phi3"):
        return {
            "add_bos_token": True, "add_eos_token": False, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": None,
            "clean_up_tokenization_spaces": False, "model_max_length": 512,
            # Not LlamaTokenizerFast: transformers 5 rebuilds that one without the blank before a text that begins with a blank.
            "tokenizer_class": "PreTrainedTokenizerFast",
        }
    if slug == "tiny-gpt2":
        return {
            "add_prefix_space": False, "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
            "clean_up_tokenization_spaces": False, "model_max_length": 512, "tokenizer_class": "GPT2TokenizerFast",
        }
    return {
        "add_prefix_space": False, "bos_token": None, "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "unk_token": None,
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "clean_up_tokenization_spaces": False, "errors": "replace",
        "model_max_length": 512, "split_special_tokens": False, "tokenizer_class": "Qwen2TokenizerFast",
        "chat_template": "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    }


def dump(tok, slug, folder):
    tok.save(f"{folder}/tokenizer.json")
    with open(f"{folder}/tokenizer_config.json", "w", encoding="utf-8") as f:
        json.dump(tokenizer_config(slug), f, indent=2, ensure_ascii=False)
        f.write("\n")
