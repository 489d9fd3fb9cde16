"""A GGUF file with the shape of a Qwen3.5 mixture-of-experts config and random Q4_0 weights: 4.5 bits each, as MLX's 4 bits in groups of 64.

Needs the packages gguf and numpy.
"""
import math
import os

BLOCK, BLOCK_BYTES = 32, 18  # Q4_0: an f16 scale and 32 indices of 4 bits


def tensors(config, layers):
    """[(name, shape as numpy has it, deviation or kind)] in the order of the file. A number: Q4_0 with that deviation."""
    hidden, vocab = config["hidden_size"], config["vocab_size"]
    experts, width, shared = config["num_experts"], config["moe_intermediate_size"], config["shared_expert_intermediate_size"]
    head = config["head_dim"]
    query, key = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    heads, value = config["linear_num_value_heads"], config["linear_num_value_heads"] * config["linear_value_head_dim"]
    mixed = 2 * config["linear_num_key_heads"] * config["linear_key_head_dim"] + value
    write = 1 / math.sqrt(2 * layers)  # what adds to the residual stream
    out = [("token_embd", (vocab, hidden), 1.0), ("output_norm", (hidden,), "ones"), ("output", (vocab, hidden), hidden ** -0.5)]

    def matrix(name, rows, columns, factor=1.0, count=None):
        out.append((name, (rows, columns) if count is None else (count, rows, columns), factor * columns ** -0.5))

    for layer in range(layers):
        at = f"blk.{layer}."
        out += [(at + "attn_norm", (hidden,), "ones"), (at + "post_attention_norm", (hidden,), "ones")]
        if (layer + 1) % config["full_attention_interval"] == 0:
            matrix(at + "attn_q", 2 * query, hidden)
            matrix(at + "attn_k", key, hidden)
            matrix(at + "attn_v", key, hidden)
            matrix(at + "attn_output", hidden, query, write)
            out += [(at + "attn_q_norm", (head,), "ones"), (at + "attn_k_norm", (head,), "ones")]
        else:
            matrix(at + "attn_qkv", mixed, hidden)
            matrix(at + "attn_gate", value, hidden)
            matrix(at + "ssm_alpha", heads, hidden)
            matrix(at + "ssm_beta", heads, hidden)
            matrix(at + "ssm_out", hidden, value, write)
            out += [(at + "ssm_conv1d", (mixed, config["linear_conv_kernel_dim"]), "normal"), (at + "ssm_norm", (config["linear_value_head_dim"],), "ones"),
                    (at + "ssm_dt.bias", (heads,), "normal"), (at + "ssm_a", (heads,), "decay")]
        out += [(at + "ffn_gate_inp", (experts, hidden), "router"), (at + "ffn_gate_inp_shexp", (hidden,), "router")]
        for name, count, inner, gain in (("exps", experts, width, write), ("shexp", None, shared, write)):
            matrix(f"{at}ffn_gate_{name}", inner, hidden, 1.0, count)
            matrix(f"{at}ffn_up_{name}", inner, hidden, 1.0, count)
            matrix(f"{at}ffn_down_{name}", hidden, inner, gain, count)
    return [(name if name.endswith((".bias", ".ssm_a")) else name + ".weight", shape, kind) for name, shape, kind in out]


def file_bytes(config, layers):
    """Bytes of tensor data, within a fraction of a percent of the file."""
    return sum(math.prod(shape) // BLOCK * BLOCK_BYTES if isinstance(kind, float) else 4 * math.prod(shape) for _, shape, kind in tensors(config, layers))


def write(path, config, layers, progress=lambda done, total: None):
    """Writes `path`, through a file next to it that is renamed at the end; memory stays at the largest tensor."""
    import gguf
    import numpy as np

    part = path + ".part"
    writer = gguf.GGUFWriter(part, "qwen35moe")
    rope = config["rope_parameters"]
    head, value_head = config["head_dim"], config["linear_value_head_dim"]
    rotary = int(head * rope["partial_rotary_factor"])
    sections = list(rope.get("mrope_section") or [rotary // 2, 0, 0])
    writer.add_tokenizer_model("none")
    numbers = {"block_count": layers, "context_length": config["max_position_embeddings"], "embedding_length": config["hidden_size"],
               "feed_forward_length": config["moe_intermediate_size"], "vocab_size": config["vocab_size"],
               "attention.head_count": config["num_attention_heads"], "attention.head_count_kv": config["num_key_value_heads"],
               "attention.key_length": head, "attention.value_length": head, "full_attention_interval": config["full_attention_interval"],
               "rope.dimension_count": rotary, "expert_count": config["num_experts"], "expert_used_count": config["num_experts_per_tok"],
               "expert_feed_forward_length": config["moe_intermediate_size"],
               "expert_shared_feed_forward_length": config["shared_expert_intermediate_size"],
               "ssm.conv_kernel": config["linear_conv_kernel_dim"], "ssm.state_size": config["linear_key_head_dim"],
               "ssm.group_count": config["linear_num_key_heads"], "ssm.time_step_rank": config["linear_num_value_heads"],
               "ssm.inner_size": config["linear_num_value_heads"] * value_head}
    for name, value in numbers.items():
        writer.add_uint32(f"qwen35moe.{name}", value)
    writer.add_float32("qwen35moe.attention.layer_norm_rms_epsilon", config["rms_norm_eps"])
    writer.add_float32("qwen35moe.rope.freq_base", float(rope["rope_theta"]))
    writer.add_array("qwen35moe.rope.dimension_sections", sections + [0])

    plan = tensors(config, layers)
    for name, shape, kind in plan:
        if isinstance(kind, float):
            bytes_shape = (*shape[:-1], shape[-1] // BLOCK * BLOCK_BYTES)
            writer.add_tensor_info(name, bytes_shape, np.dtype(np.uint8), math.prod(bytes_shape), raw_dtype=gguf.GGMLQuantizationType.Q4_0)
        else:
            writer.add_tensor_info(name, shape, np.dtype(np.float32), 4 * math.prod(shape))
    random = np.random.default_rng(0)
    total, done = file_bytes(config, layers), 0
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, shape, kind in plan:
            data = values(random, shape, kind)
            writer.write_tensor_data(data)
            done += data.nbytes
            progress(done, total)
        writer.close()
        os.replace(part, path)
    finally:
        if os.path.exists(part):
            os.remove(part)


def values(random, shape, kind):
    import numpy as np
    if isinstance(kind, float):
        count = math.prod(shape) // BLOCK
        words = random.bit_generator.random_raw(-(-count * BLOCK_BYTES // 8))
        blocks = words.view(np.uint8)[:count * BLOCK_BYTES].reshape(count, BLOCK_BYTES)
        uniform = math.sqrt((16 ** 2 - 1) / 12)  # deviation of an index
        blocks[:, :2] = np.frombuffer(np.float16(kind / uniform).tobytes(), np.uint8)
        return blocks.reshape(*shape[:-1], shape[-1] // BLOCK * BLOCK_BYTES)
    if kind == "ones":
        return np.ones(shape, np.float32)
    if kind == "decay":  # -exp(A_log)
        return -random.uniform(1, 16, shape).astype(np.float32)
    scale = shape[-1] ** -0.5 if kind == "router" else 0.5
    return scale * random.standard_normal(shape, dtype=np.float32)
