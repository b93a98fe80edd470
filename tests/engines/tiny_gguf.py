"""Writes a tiny model of random weights, for servers that read GGUF: `tiny_gguf.py FILE`. Needs PyPI's gguf.

It knows every byte and every printable ASCII character, so any text is a prompt and a token is about a byte.
What it says is printable.
"""

import sys

import gguf
import numpy

LAYERS, WIDTH, HEADS, FEED, CONTEXT = 2, 64, 4, 128, 32_768
UNKNOWN, BEGIN, END = 0, 1, 2
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}<assistant>"
)


def vocabulary():
    kinds = gguf.TokenType
    words = [(b"<unk>", kinds.UNKNOWN), (b"<s>", kinds.CONTROL), (b"</s>", kinds.CONTROL)]
    words += [(f"<0x{byte:02X}>".encode(), kinds.BYTE) for byte in range(256)]
    # U+2581 is how this kind of vocabulary writes a blank.
    words += [(text.encode(), kinds.NORMAL) for text in ["\u2581", *map(chr, range(33, 127))]]
    return words


def describe(out, words):
    out.add_context_length(CONTEXT)
    out.add_embedding_length(WIDTH)
    out.add_block_count(LAYERS)
    out.add_feed_forward_length(FEED)
    out.add_head_count(HEADS)
    out.add_head_count_kv(HEADS)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_dimension_count(WIDTH // HEADS)
    out.add_vocab_size(len(words))
    out.add_tokenizer_model("llama")
    out.add_tokenizer_pre("default")
    out.add_token_list([text for text, _ in words])
    out.add_token_scores([0.0] * len(words))
    out.add_token_types([kind for _, kind in words])
    out.add_unk_token_id(UNKNOWN)
    out.add_bos_token_id(BEGIN)
    out.add_eos_token_id(END)
    out.add_add_bos_token(True)
    out.add_add_space_prefix(False)
    out.add_chat_template(TEMPLATE)


def weigh(out, words):
    random = numpy.random.default_rng(7)

    def matrix(name, *shape, scale=0.05):
        weights = (random.standard_normal(shape) * scale).astype(numpy.float32)
        out.add_tensor(f"{name}.weight", weights)
        return weights

    def norm(name):
        out.add_tensor(f"{name}.weight", numpy.ones(WIDTH, dtype=numpy.float32))

    matrix("token_embd", len(words), WIDTH)
    # Far apart, so that some character is always far likelier than what is none.
    ends = matrix("output", len(words), WIDTH, scale=1.0)
    ends[[kind != gguf.TokenType.NORMAL for _, kind in words]] = 0
    norm("output_norm")
    for layer in (f"blk.{number}" for number in range(LAYERS)):
        norm(f"{layer}.attn_norm")
        norm(f"{layer}.ffn_norm")
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"{layer}.{part}", WIDTH, WIDTH)
        matrix(f"{layer}.ffn_gate", FEED, WIDTH)
        matrix(f"{layer}.ffn_up", FEED, WIDTH)
        matrix(f"{layer}.ffn_down", WIDTH, FEED)


def write(file):
    out = gguf.GGUFWriter(str(file), "llama")
    words = vocabulary()
    describe(out, words)
    weigh(out, words)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


if __name__ == "__main__":
    write(sys.argv[1])
