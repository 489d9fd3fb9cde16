"""The table of docs/serving.md from the samples of benchmarks/serve-figures. A ratio is made within a trial; the figure is the median over trials."""
import statistics

from serving.load import percentile


def of(values):
    """(median, least, largest)"""
    return statistics.median(values), min(values), max(values)


def ratio(values, digits=2):
    middle, least, most = of(values)
    return f"{middle:.{digits}f} ({least:.{digits}f} – {most:.{digits}f})"


def percents(values):
    middle, least, most = of(values)
    return f"{middle:.1%} ({least:.1%} – {most:.1%})"


def milliseconds(values):
    middle, least, most = of(values)
    return f"{middle * 1e3:.1f} ms ({least * 1e3:.1f} – {most * 1e3:.1f})"


def trials(samples):
    return sorted({sample["trial"] for sample in samples})


def together(samples):
    by = {(sample["trial"], sample["streams"]): sample["tps"] for sample in samples}
    alone = statistics.median(by[trial, 1] for trial in trials(samples))
    for streams, target in ((2, 1.2), (4, 1.5), (8, 1.8), (16, 2.1)):
        gains = [by[trial, streams] / by[trial, 1] for trial in trials(samples)]
        yield f"{streams} answers together, tokens/s of one's ({alone:.1f})", ratio(gains), f"{target}", of(gains)[0] >= target


def one_stream(samples):
    shares = [sample["server_tps"] / sample["benchmark_tps"] for sample in samples]
    middle = statistics.median(sample["server_tps"] for sample in samples)
    yield f"one answer ({middle:.1f} tok/s), of the decode speed of `tqkv benchmark`", ratio(shares), "0.97", of(shares)[0] >= 0.97


def first_token(samples):
    more = [sample["eight_s"] - sample["one_s"] for sample in samples]
    usual = statistics.median(sample["one_s"] for sample in samples)
    yield (f"first token of a prompt of 20, alone, `--parallel 8` against 1 ({usual * 1e3:.1f} ms)", milliseconds(more), "5 ms more", of(more)[0] <= 0.005)


def gap(samples):
    for piece in sorted({sample["piece"] for sample in samples}, reverse=True):
        some = [sample for sample in samples if sample["piece"] == piece]
        longest = [percentile(sample["gaps"], 0.99) / sample["piece_s"] for sample in some]
        length = some[0]["prompt"]
        usual = milliseconds([sample["piece_s"] for sample in some])
        yield (f"longest gap but 1% of a stream while a prompt of {length:,} is read, of one piece of {piece} alone ({usual})", ratio(longest), "1.2",
               of(longest)[0] <= 1.2)
        kept = [sample["alone_s"] / sample["beside_s"] for sample in some]
        yield f"speed that this prompt keeps next to the stream, pieces of {piece}", percents(kept), "45%", of(kept)[0] >= 0.45


def second_turn(samples):
    for model in ("shape", "pocket"):
        some = [sample for sample in samples if sample["model"] == model]
        if not some:
            continue
        beyond = [sample["computed"] - sample["new"] for sample in some]
        name = "the bundled model" if model == "pocket" else "the shape"
        length = f"{statistics.median(sample['first_tokens'] for sample in some):,.0f}"
        yield f"second turn after {length} tokens, {name}: computed beyond the new question", f"{of(beyond)[0]:.0f} tokens", "64", max(beyond) <= 64
        times = [sample["second_s"] / sample["first_s"] for sample in some]
        yield "its time to the first token, of the first turn's", percents(times), "5%", of(times)[0] <= 0.05


def shared_prompt(samples):
    for sample in samples:
        yield (f"16 conversations with a system message of {sample['system']:,}, {sample['case']}: times it was computed", f"{sample['times']:.2f}", "1",
               sample["times"] < 1.05)


def gone(samples):
    for case in dict.fromkeys(sample["case"] for sample in samples):
        some = [sample for sample in samples if sample["case"] == case]
        beyond = [sample["idle_s"] - sample["step_s"] for sample in some]
        step = statistics.median(sample["step_s"] for sample in some)
        names = {"streaming": "a streaming client leaves", "whole": "one that waits for the whole answer", "prompt": "one whose prompt is being read",
                 "queued": "one that is queued"}
        yield f"{names[case]}: until idle, beyond a step ({step * 1e3:.1f} ms)", milliseconds(beyond), "50 ms", of(beyond)[0] <= 0.05


def plan(samples):
    for sample in samples:
        name = "the bundled model" if sample["model"] == "pocket" else "the shape"
        more = sample["measured"] / sample["planned"] - 1
        yield (f"memory of 8 answers of {sample['context']:,} tokens, {name}, against `/plan` ({sample['planned'] / 1e6:.1f} MB)", f"{more:+.1%}", "5%",
               abs(more) <= 0.05)


def growth(samples):
    count = sum(sample["requests"] for sample in samples)
    settled = next(place for place in range(len(samples)) if 4 * sum(one["requests"] for one in samples[:place + 1]) >= count)  # caches are full
    first = sum(sample["requests"] for sample in samples[:settled + 1])
    most = [max(sample["memory"] for sample in some) for some in (samples[:settled + 1], samples[settled + 1:])]
    more = most[1] - most[0]
    yield f"memory that {count - first:,} requests add after the first {first:,}", f"{more / 1e6:+.1f} MB", "8 MB", more <= 8e6


ROWS = {"together": together, "one_stream": one_stream, "first_token": first_token, "gap": gap, "second_turn": second_turn,
        "shared_prompt": shared_prompt, "gone": gone, "plan": plan, "growth": growth}


def markdown(document):
    lines = ["| what | median (least – most) | target | reached |", "|---|---|---|---|"]
    for name, make in ROWS.items():
        if samples := document["samples"].get(name):
            lines += [f"| {what} | {figure} | {target} | {'yes' if reached else 'no'} |" for what, figure, target, reached in make(samples)]
    return lines
