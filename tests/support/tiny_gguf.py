"""A GGUF file of a tiny Llama with a byte-level tokenizer."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

LAYERS, HIDDEN, FFN, HEADS, KV_HEADS = 2, 64, 96, 2, 1
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *"abcdefgh", "ab", "cd"]


def write_gguf(path: Path, seed: int = 0) -> Path:
    """Writes the model; another seed gives other weights of the same sizes."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(4096)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * 3 + [1] * (len(TOKENS) - 3))
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    random = np.random.default_rng(seed)
    head = HIDDEN // HEADS
    shapes = {"token_embd": (len(TOKENS), HIDDEN), "output_norm": (HIDDEN,)}
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        shapes |= {
            f"{block}attn_norm": (HIDDEN,),
            f"{block}ffn_norm": (HIDDEN,),
            f"{block}attn_q": (HIDDEN, HIDDEN),
            f"{block}attn_k": (KV_HEADS * head, HIDDEN),
            f"{block}attn_v": (KV_HEADS * head, HIDDEN),
            f"{block}attn_output": (HIDDEN, HIDDEN),
            f"{block}ffn_gate": (FFN, HIDDEN),
            f"{block}ffn_up": (FFN, HIDDEN),
            f"{block}ffn_down": (HIDDEN, FFN),
        }
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
