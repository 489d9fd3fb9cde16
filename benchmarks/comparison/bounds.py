"""What a machine allows: bytes and operations of a step, divided by what machine-rates measured. docs/performance.md has each formula.

A shape is what `tqkv inspect --json` says of a checkpoint, cut down by shape_of(); rates are one document of machine-rates. Times are in
seconds, sizes in bytes.
"""
CHUNK = 2048           # tokens of one forward pass at prefill
DELTA_CHUNK = 64       # tokens of the chunked delta rule
GROUP = 64             # weights that share a scale and a bias
SCALE_OPERATIONS = 4   # for each group and token: convert, scale of the activation, scale and bias of the weight
UNPACK_OPERATIONS = 4  # for one vector of unpacked bytes: mask, shift, two of transposing a tile; loads and stores have ports of their own


def shape_of(inspection):
    """The figures that the bounds need, from `tqkv inspect MODEL --json`."""
    keys = {}
    for row in inspection["formats"]:
        keys.setdefault(row["backend"], row["bytes_per_token"])  # the default of each backend comes first
    return {"architecture": inspection["architecture"],
            "weight_bytes": {row["kind"]: row["bytes"] for row in inspection["weights"]},
            "state_bytes": {key: inspection["state_f32"][key] for key in ("recurrent", "convolution")},
            "cache_bytes_per_token": keys}


def expert_share(shape, tokens):
    """The expected share of the experts that `tokens` tokens choose, if they choose evenly."""
    a = shape["architecture"]
    if not a["num_experts"]:
        return 1.0
    return 1 - (1 - a["num_experts_per_tok"] / a["num_experts"]) ** tokens


def weights_read(shape, tokens):
    """Bytes of weights of one forward pass: one row of the embedding per token, the experts chosen, everything else once."""
    w = shape["weight_bytes"]
    rows = min(tokens, shape["architecture"]["vocab_size"])
    return (sum(w.values()) - w["embedding"] + rows * w["embedding"] / shape["architecture"]["vocab_size"]
            - w.get("experts", 0) * (1 - expert_share(shape, tokens)))


def decode_bytes(shape, backend, depth):
    """Bytes of one decode step: weights, keys and values of `depth` tokens, the state in f32 read and written."""
    return weights_read(shape, 1) + shape["cache_bytes_per_token"][backend] * depth + 2 * sum(shape["state_bytes"].values())


def prompt_work(shape, prompt, depth=0):
    """Counted work of a prompt, per token: multiplications, operations and bytes."""
    a = shape["architecture"]
    hidden, layers, linear, full = a["hidden_size"], a["layers"], a["linear_layers"], a["attention_layers"]
    query, key = a["num_attention_heads"] * a["head_dim"], a["num_key_value_heads"] * a["head_dim"]
    key_dim, value_dim = a["linear_num_key_heads"] * a["linear_key_head_dim"], a["linear_num_value_heads"] * a["linear_value_head_dim"]
    heads, dk, dv = a["linear_num_value_heads"], a["linear_key_head_dim"], a["linear_value_head_dim"]
    mixers = linear * hidden * (2 * key_dim + 2 * value_dim + 2 * heads + value_dim) + full * hidden * (2 * query + 2 * key + query)
    expert = 3 * hidden * a["moe_intermediate_size"]
    shared = 3 * hidden * a["shared_expert_intermediate_size"] + (hidden if a["shared_expert_intermediate_size"] else 0)
    routed = layers * expert * a["num_experts_per_tok"]
    dense = mixers + layers * (shared + 3 * hidden * a["intermediate_size"])
    chunk = min(prompt, CHUNK)
    chunks = -(-prompt // CHUNK)
    unpacked = dense + layers * expert * a["num_experts"] * expert_share(shape, chunk)
    c = DELTA_CHUNK
    products = c / 2 * (dk + dk) * a["linear_num_key_heads"] / heads  # k.k and q.k, shared by the value heads of a key head
    delta = linear * heads * (products + c / 2 * (dv + dk) + c / 2 * dv + 3 * dk * dv)
    visible = depth + (prompt + 1) / 2
    return {"integer_macs": dense + routed,
            "attention_macs": full * query * visible * 3,  # keys once, values twice: their weights have 16 bits
            "scale_operations": SCALE_OPERATIONS * (dense + routed) / GROUP,
            "delta_macs": delta,
            "router_macs": layers * hidden * a["num_experts"],
            "unpacked_weights": unpacked * chunks / prompt,
            "bytes": weights_read(shape, chunk) * chunks / prompt}


def prompt_seconds(shape, rates, isa, prompt, depth=0, planes=1):
    """Seconds per token by term; `planes` is the number of 8-bit planes of the activations."""
    work = prompt_work(shape, prompt, depth)
    row = next(row for row in rates["isas"] if row["isa"] == isa)
    macs, operations = row["int8_gmac_s"]["all_threads"] * 1e9, row["f32_gflop_s"]["all_threads"] / 2 * 1e9
    vectors = operations / row["f32_lanes"]
    return {"integer": planes * work["integer_macs"] / macs,
            "scales": planes * work["scale_operations"] / operations,
            "unpacking": work["unpacked_weights"] / (4 * row["f32_lanes"]) * UNPACK_OPERATIONS / vectors,
            "delta_rule": work["delta_macs"] / operations,
            "router": work["router_macs"] / operations,
            "attention": work["attention_macs"] / macs,
            "stream": work["bytes"] / (rates["read_gb_s"]["all_threads"] * 1e9)}


def prompt_tps(shape, rates, isa, prompt, depth=0, planes=1):
    return 1 / sum(prompt_seconds(shape, rates, isa, prompt, depth, planes).values())


def decode_tps(shape, rates, backend, depth):
    return rates["read_gb_s"]["all_threads"] * 1e9 / decode_bytes(shape, backend, depth)


def attention_seconds(shape, rates, backend, depth):
    """Seconds of one layer's attention at decode: its keys and values, read once."""
    layer = shape["cache_bytes_per_token"][backend] / shape["architecture"]["attention_layers"]
    return layer * depth / (rates["read_gb_s"]["all_threads"] * 1e9)


def median_rates(measurements):
    """One document of machine-rates with the median of each figure over several."""
    from comparison.statistics import median

    def middle(values):
        if isinstance(values[0], dict):
            return {key: middle([value[key] for value in values]) for key in values[0]}
        if isinstance(values[0], list):
            return [middle(list(rows)) for rows in zip(*values)]
        return median(values) if isinstance(values[0], float) else values[0]

    return middle(measurements)
