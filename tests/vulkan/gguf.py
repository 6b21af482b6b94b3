# SPDX-License-Identifier: MIT
"""A language model of random weights as a GGUF file: llama architecture, q4_0,
a vocabulary of bytes. Its output is noise; its cost is real."""
import random
import struct

F32, Q4_0 = 0, 2
U32, FLOAT, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def entry(key, kind, value):
    forms = {U32: lambda v: struct.pack("<I", v), I32: lambda v: struct.pack("<i", v),
             FLOAT: lambda v: struct.pack("<f", v),
             BOOL: lambda v: struct.pack("<?", v), STRING: text}
    if isinstance(value, list):
        body = struct.pack("<IQ", kind, len(value)) + b"".join(forms[kind](v) for v in value)
        return text(key) + struct.pack("<I", ARRAY) + body
    return text(key) + struct.pack("<I", kind) + forms[kind](value)


def quantized(generator, rows, columns, scale):
    """Blocks of 32: a half-precision scale, 16 bytes of two weights each."""
    blocks = rows * columns // 32
    noise = generator.randbytes(16 * blocks)
    half = struct.pack("<e", scale)
    return b"".join(half + noise[16 * i:16 * i + 16] for i in range(blocks))


def write(path, layers=4, width=256, hidden=768, heads=8, context=4096, seed=1):
    generator = random.Random(seed)
    words = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    words += [f"word{i}" for i in range(288 - len(words))]
    kinds = [2, 3, 3] + [6] * 256 + [1] * (len(words) - 259)
    head = width // heads
    keys = [entry("general.architecture", STRING, "llama"), entry("general.name", STRING, "noise"),
            entry("general.file_type", U32, 2), entry("general.quantization_version", U32, 2),
            entry("llama.context_length", U32, context), entry("llama.embedding_length", U32, width),
            entry("llama.block_count", U32, layers), entry("llama.feed_forward_length", U32, hidden),
            entry("llama.attention.head_count", U32, heads), entry("llama.attention.head_count_kv", U32, heads),
            entry("llama.attention.layer_norm_rms_epsilon", FLOAT, 1e-5),
            entry("llama.rope.dimension_count", U32, head),
            entry("llama.vocab_size", U32, len(words)),
            entry("tokenizer.ggml.model", STRING, "llama"), entry("tokenizer.ggml.tokens", STRING, words),
            entry("tokenizer.ggml.scores", FLOAT, [0.0] * len(words)), entry("tokenizer.ggml.token_type", I32, kinds),
            entry("tokenizer.ggml.bos_token_id", U32, 1), entry("tokenizer.ggml.eos_token_id", U32, 2),
            entry("tokenizer.ggml.unknown_token_id", U32, 0)]
    tensors = []

    def matrix(name, rows, columns):
        tensors.append((name, [columns, rows], Q4_0, quantized(generator, rows, columns, 0.02)))

    def ones(name):
        tensors.append((name, [width], F32, struct.pack(f"<{width}f", *[1.0] * width)))

    matrix("token_embd.weight", len(words), width)
    for i in range(layers):
        ones(f"blk.{i}.attn_norm.weight")
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"blk.{i}.{part}.weight", width, width)
        ones(f"blk.{i}.ffn_norm.weight")
        matrix(f"blk.{i}.ffn_gate.weight", hidden, width)
        matrix(f"blk.{i}.ffn_up.weight", hidden, width)
        matrix(f"blk.{i}.ffn_down.weight", width, hidden)
    ones("output_norm.weight")
    matrix("output.weight", len(words), width)

    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys)
    offset, body = 0, b""
    for name, shape, kind, data in tensors:
        header += text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in shape)
        header += struct.pack("<IQ", kind, offset)
        padded = data + bytes(-len(data) % 32)
        body += padded
        offset += len(padded)
    with open(path, "wb") as file:
        file.write(header + bytes(-len(header) % 32) + body)
