"""Medians, and ratios with their interval."""
import math
import random

# Student's t, two-sided 95%, for 1 to 30 degrees of freedom.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093,
       2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042)


def median(values):
    values = sorted(values)
    if not values:
        return None
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def paired_ratio(ours, theirs):
    """{trial: value} of both -> median ratio and the 95% interval of its geometric mean (t over the logarithms), from the trials that both have.

    None without a pair or with a value that is not positive; no interval with fewer than two pairs.
    """
    pairs = [(ours[trial], theirs[trial]) for trial in sorted(ours) if trial in theirs]
    if not pairs or any(a <= 0 or b <= 0 for a, b in pairs):
        return None
    ratios = [a / b for a, b in pairs]
    result = {"median": median(ratios), "low": None, "high": None, "pairs": len(ratios)}
    if len(ratios) > 1:
        logs = [math.log(ratio) for ratio in ratios]
        mean = sum(logs) / len(logs)
        deviation = math.sqrt(sum((x - mean) ** 2 for x in logs) / (len(logs) - 1))
        reach = T95[min(len(logs) - 2, len(T95) - 1)] * deviation / math.sqrt(len(logs))
        result["low"], result["high"] = math.exp(mean - reach), math.exp(mean + reach)
    return result


def ratio_of_medians(above, below, draws=10_000):
    """Of samples that may scatter beyond zero, as differences of two times do, with the 95% interval of a bootstrap over both (fixed seed).

    None when the median below is not positive; no interval with fewer than three samples; no upper end where draws of `below` are not positive.
    """
    above, below = list(above), list(below)
    if not above or not below or median(below) <= 0:
        return None
    result = {"median": median(above) / median(below), "low": None, "high": None, "pairs": min(len(above), len(below))}
    if result["pairs"] < 3:
        return result
    chance = random.Random(0)
    ratios = []
    for _ in range(draws):
        divisor = median(chance.choices(below, k=len(below)))
        ratios.append(median(chance.choices(above, k=len(above))) / divisor if divisor > 0 else math.inf)
    ratios.sort()
    low, high = ratios[int(0.025 * draws)], ratios[int(0.975 * draws)]
    result["low"], result["high"] = low, high if high < math.inf else None
    return result
