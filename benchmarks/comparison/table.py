"""The table of a comparison, made from its raw samples alone: rows() computes, markdown() prints."""
from comparison import bounds
from comparison.statistics import median, paired_ratio, ratio_of_medians

ATTENTION_DEPTH = 16384
DEEP = 32768
PEER_CACHES = ("f16", "q8_0", "q4_0")


def pick(document, value, **wanted):
    """{trial: value(sample)} of the samples that are not thrown away and have every field as `wanted` says."""
    found = {}
    for run in document["runs"]:
        if run["thrown_away"]:
            continue
        for sample in run["samples"]:
            fields = {**{key: run[key] for key in ("program", "layers", "build", "row")}, **sample}
            if all(fields.get(key) == wanted[key] for key in wanted):
                number = value(fields)
                if number is not None:
                    found[fields["trial"]] = number
    return found


def decode(document, **wanted):
    return pick(document, lambda s: s["generation_tps"] if s["generation"] > 1 else None, **wanted)


def prompt(document, **wanted):
    return pick(document, lambda s: s["prompt_tps"], **wanted)


def rates_of(document, row):
    """What the machine gave while `row` was measured: a shared machine may give half of it an hour later."""
    rates = document["machine"]["rates"]
    own = [one for one in rates if one.get("row") == row] or [one for one in rates if "row" not in one] or rates
    return bounds.median_rates(own)


def layer_milliseconds(at_depth, at_zero, attention_layers):
    """{trial: milliseconds of one attention layer}: the time of a step at the depth less that of a step at 0 in the same trial."""
    return {trial: 1e3 * (1 / at_depth[trial] - 1 / at_zero[trial]) / attention_layers for trial in at_depth if trial in at_zero}


def against_peer(name, unit, ours, theirs, bound, least, aim):
    """Higher is better."""
    ratio = paired_ratio(ours, theirs)
    figure = median(ours.values())
    share = figure / bound if figure and bound else None
    return {"what": name, "unit": unit, "ours": figure, "theirs": median(theirs.values()), "ratio": ratio, "bound": bound, "share": share,
            "at_least": least, "aim": aim, "reached": verdict(share, least.get("share")) if share is not None else verdict(ratio, least["ratio"])}


def verdict(value, least):
    if value is None or least is None:
        return None
    return (value["median"] if isinstance(value, dict) else value) >= least


def main_rows(document, row, build, isa, rates):
    """Decode at depth 0 and prompts, against llama.cpp with an f16 cache."""
    layers, shape = document["model"]["layers"], document["model"]["shape"]
    ours = {"program": "tqkv", "layers": layers, "build": build, "cache": "turboquant", "depth": 0}
    theirs = {"program": "llama.cpp", "layers": layers, "build": build, "cache": "f16", "depth": 0}
    generation = document["settings"]["generation_tokens"]
    forced = row == "avx2"
    label = "AVX2: " if forced else ""
    targets = {"decode": ({"ratio": 1.3}, {"ratio": 1.8}) if forced else ({"share": 0.80, "ratio": 1.5}, {"share": 0.92, "ratio": 1.8}),
               512: ({"ratio": 1.5}, {"ratio": 2.5}) if forced else ({"share": 0.55, "ratio": 2.5}, {"share": 0.75, "ratio": 3.5}),
               2048: ({"share": 0.60, "ratio": 3}, {"share": 0.80, "ratio": 4.5})}
    made = []
    samples = decode(document, row=row, **ours)
    if samples:
        made.append(against_peer(f"{label}decode, depth 0, turboquant", "tok/s", samples, decode(document, row=row, prompt=0, **theirs),
                                 bounds.decode_tps(shape, rates, "turboquant", generation / 2), *targets["decode"]))
    for length in (512,) if forced else (512, 2048):
        samples = prompt(document, row=row, prompt=length, **ours)
        if samples:
            made.append(against_peer(f"{label}prompt {length:,}", "tok/s", samples, prompt(document, row=row, prompt=length, **theirs),
                                     bounds.prompt_tps(shape, rates, isa, length), *targets[length]))
            made[-1]["bound_two_planes"] = bounds.prompt_tps(shape, rates, isa, length, planes=2)
            made[-1]["bound_parts"] = bounds.prompt_seconds(shape, rates, isa, length)
    if forced:
        for entry in made:
            entry["reached"] = verdict(entry["ratio"], entry["at_least"]["ratio"])
    return made


def attention_rows(document, rates):
    """One layer's attention at decode, in milliseconds: lower is better, ratios are theirs over ours."""
    cut = document["cut"]
    if not cut:
        return []
    count = cut["shape"]["architecture"]["attention_layers"]
    depth = document["settings"]["attention_depth"]

    def layer(**wanted):
        wanted.update(row="attention", layers=cut["layers"])
        return layer_milliseconds(decode(document, depth=depth, **wanted), decode(document, depth=0, **wanted), count)

    ours = {cache: layer(program="tqkv", cache=cache) for cache in ("turboquant", "baseline")}
    theirs = {cache: layer(program="llama.cpp", cache=cache) for cache in PEER_CACHES}
    if not ours["turboquant"]:
        return []
    measured = {cache: median(values.values()) for cache, values in theirs.items() if values}
    fastest = min(measured, key=measured.get, default=None)
    figure = median(ours["turboquant"].values())
    bound = 1e3 * bounds.attention_seconds(cut["shape"], rates, "turboquant", depth)
    made = []
    for rival, least, aim in ((fastest, 3, 8), ("q4_0", 10, 28)):
        if rival is None or not theirs[rival]:
            continue
        ratio = ratio_of_medians(theirs[rival].values(), ours["turboquant"].values())
        name = f"decode attention of one layer at depth {depth:,}, turboquant, against " + ("the fastest" if least == 3 else "q4_0")
        made.append({"what": name + (f" ({rival})" if least == 3 else ""), "unit": "ms", "ours": figure, "theirs": measured[rival], "ratio": ratio,
                     "bound": bound, "share": bound / figure if figure > 0 else None, "at_least": {"ratio": least}, "aim": {"ratio": aim},
                     "reached": verdict(ratio, least)})
    if made:
        made[0]["all_caches_ms"] = {**{f"llama.cpp {cache}": value for cache, value in measured.items()},
                                    **{f"tqkv {cache}": median(values.values()) for cache, values in ours.items() if values}}
    return made


def depth_rows(document):
    """Our backends against our own baseline, trial by trial."""
    layers, shape = document["model"]["layers"], document["model"]["shape"]
    made = []

    def compare(value, name, depth, backend, bound, least, aim, **wanted):
        wanted.update(program="tqkv", row="depth", layers=layers, depth=depth)
        ours, baseline = value(document, cache=backend, **wanted), value(document, cache="baseline", **wanted)
        if not ours or not baseline:
            return
        ratio = paired_ratio(ours, baseline)
        reached = verdict(ratio, least["ratio"])
        if least.get("interval") and ratio and ratio["high"] is not None:  # not significantly slower
            reached = ratio["high"] >= least["ratio"]
        made.append({"what": name, "unit": "tok/s", "ours": median(ours.values()), "theirs": median(baseline.values()), "ratio": ratio,
                     "bound": bound, "bound_is_ratio": True, "share": None, "at_least": least, "aim": aim, "reached": reached})

    for depth in document["settings"]["depths"]:
        for backend in document["settings"]["depth_backends"]:
            step = {name: bounds.decode_bytes(shape, name, depth + document["settings"]["generation_tokens"] / 2) for name in (backend, "baseline")}
            bound = step["baseline"] / step[backend]
            deep = depth >= DEEP
            least = {"ratio": 1.15} if deep and backend == "turboquant" else {"ratio": 1.0, "interval": True}
            compare(decode, f"decode at depth {depth:,}, {backend} against baseline", depth, backend, bound, least, {"ratio": bound if deep else 1.0},
                    prompt=1)
    deepest = max(document["settings"]["depths"], default=0)
    compare(prompt, f"prefill of {bounds.CHUNK:,} at depth {deepest:,}, turboquant against baseline", deepest, "turboquant", None, {"ratio": 0.97},
            {"ratio": 1.0}, prompt=bounds.CHUNK)
    return made


def encode_share(document):
    """Share of prefill that rotating, quantizing and packing keys and values takes, where the program measured it."""
    shares = pick(document, lambda s: s["encode_s"] / s["prompt_s"] if s.get("encode_s") is not None else None, program="tqkv", row="main",
                  layers=document["model"]["layers"], cache="turboquant", prompt=2048)
    return median(shares.values())


def peaks(document):
    """Peak anonymous memory in 1e9 bytes of our runs with one session open."""
    found = {}
    for prompt_tokens in (1, 512, 2048):
        values = pick(document, lambda s: s.get("peak_anonymous_gb"), program="tqkv", row="main", layers=document["model"]["layers"],
                      cache="turboquant", prompt=prompt_tokens, depth=0)
        if values:
            found[prompt_tokens] = max(values.values())
    return found


def rows(document):
    rates = rates_of(document, "main")
    isas = [row["isa"] for row in rates["isas"]]
    made = main_rows(document, "main", "native", isas[0], rates)
    made += attention_rows(document, rates_of(document, "attention")) + depth_rows(document)
    share = encode_share(document)
    made.append({"what": "encode of K and V, share of prefill time", "unit": "%", "ours": None if share is None else 100 * share, "theirs": None,
                 "ratio": None, "bound": None, "share": None, "at_least": {"below": 2}, "aim": {"below": 1},
                 "reached": None if share is None else 100 * share < 2})
    if "avx2" in isas:
        made += main_rows(document, "avx2", "avx2", "avx2", rates_of(document, "avx2"))
    return made


def number(value, unit=""):
    if value is None:
        return "-"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def ratio_text(ratio):
    if not ratio:
        return "-"
    text = f"{ratio['median']:.2f}"
    if ratio["low"] is None:
        return text
    return f"{text} ({ratio['low']:.2f} – {ratio['high']:.2f})" if ratio["high"] is not None else f"{text} ({ratio['low']:.2f} or more)"


def target(entry):
    parts = []
    if "share" in entry:
        parts.append(f"{100 * entry['share']:.0f}%")
    if "ratio" in entry:
        parts.append(f"{entry['ratio']:.3g}x" + (" in the interval" if entry.get("interval") else ""))
    if "below" in entry:
        parts.append(f"below {entry['below']}%")
    return " / ".join(parts)


def bound_text(row):
    if row["bound"] is None:
        return "-"
    return f"{row['bound']:.2f}x" if row.get("bound_is_ratio") else number(row["bound"])


def markdown(document):
    """The table and what stands around it, as lines of Markdown."""
    rates, machine, model = rates_of(document, "main"), document["machine"], document["model"]
    peer, made = document["peer"], rows(document)
    best = rates["isas"][0]
    all_layers = model["layers"] == model["all_layers"]
    thrown = sum(run["thrown_away"] for run in document["runs"])
    lines = [f"**{machine['cpu']}**, {machine['cores']} cores, {machine['memory'] / 1e9:.1f} GB of memory, {document['settings']['threads']} threads. "
             f"{model['name']}, {model['layers']} of {model['all_layers']} layers" + ("" if all_layers else " and the full head") + ", random weights. "
             f"Medians of {document['settings']['trials']} interleaved trials; in brackets the 95% interval of the paired ratio."]
    if not all_layers:
        lines.append("")
        lines.append(f"A cut of {model['layers']} layers is for everyday runs: the head weighs {model['all_layers'] // model['layers']} times too much in it, "
                     "and the figures to reach are those of all layers.")
    if document["settings"]["generation_tokens"] < 128:
        lines += ["", f"{document['settings']['generation_tokens']} generated tokens: not a decode figure."]
    lines += ["", f"Measured in the same run: {rates['read_gb_s']['all_threads']:.1f} GB/s of reads ({rates['read_gb_s']['one_thread']:.1f} on one thread); "
              f"{best['isa']}: {best['int8_gmac_s']['all_threads']:.0f} GMAC/s of int8, {best['f32_gflop_s']['all_threads']:.0f} GFLOP/s of f32"
              + "".join(f"; {row['isa']}: {row['int8_gmac_s']['all_threads']:.0f} and {row['f32_gflop_s']['all_threads']:.0f}"
                        for row in rates["isas"][1:]) + ".", ""]
    lines += ["| what | ours | against | ratio | bound | share of it | at least | aim | reached |", "|---|---|---|---|---|---|---|---|---|"]
    for row in made:
        unit = row["unit"]
        share = "-" if row["share"] is None else f"{100 * row['share']:.0f}%"
        reached = {None: "-", True: "yes", False: "no"}[row["reached"]]
        ours = "not measured" if row["ours"] is None else f"{number(row['ours'])} {unit}"
        theirs = "-" if row["theirs"] is None else f"{number(row['theirs'])} {unit}"
        lines.append(f"| {row['what']} | {ours} | {theirs} | {ratio_text(row['ratio'])} | {bound_text(row)} | {share} | "
                     f"{target(row['at_least'])} | {target(row['aim'])} | {reached} |")
    lines.append("")
    for row in made:
        if "bound_parts" in row:
            parts = ", ".join(f"{name.replace('_', ' ')} {1e3 * value:.2f}" for name, value in row["bound_parts"].items())
            lines.append(f"- {row['what']}, counted milliseconds per token: {parts}. With activations in two 8-bit planes the bound is "
                         f"{number(row['bound_two_planes'])} tok/s.")
        if "all_caches_ms" in row:
            lines.append("- One layer's attention at that depth, milliseconds: " +
                         ", ".join(f"{name} {number(value)}" for name, value in row["all_caches_ms"].items()) + ".")
    memory = peaks(document)
    if memory:
        lines.append("- Peak anonymous memory of tqkv: " + ", ".join(f"{1e3 * value:,.0f} MB with a prompt of {length:,}" for length, value in memory.items())
                     + ".")
    if document["chosen"]:
        how = "at the setting given" if "given" in document["sweep"] else f"at its best of a sweep over {document['sweep']['layers']} layers"
        lines.append(f"- Against {peer['name']} (package {peer['package']}, {peer['version']}), {how}: {chosen_text(document['chosen'])}. "
                     f"System line: {peer['system']}")
    allowed = document["settings"]["major_faults"]
    lines.append(f"- Runs with {f'more than {allowed} ' if allowed else ''}major page faults, thrown away and repeated: {thrown} of {len(document['runs'])}.")
    for problem in document.get("problems", []):
        lines.append(f"- Not measured: {problem}.")
    return lines


def chosen_text(chosen):
    """Settings with the tests that run at them."""
    groups = {}
    for build, tests in chosen.items():
        for test, setting in tests.items():
            groups.setdefault(setting_text(setting), []).append(("" if build == "native" else f"{build} ") + test.replace("_", " "))
    return "; ".join(f"{', '.join(tests)}: {setting}" for setting, tests in groups.items())


def setting_text(setting):
    return (f"flash attention {setting['flash']}, weights {'mapped' if setting['load'] == 'mmap' else 'not mapped'}, "
            f"{'repacked' if setting['repack'] else 'not repacked'}, ubatch {setting['ubatch']}")
