"""Whether each value of a file matches its schema: lines of {"schema": text, "value": text}."""
import json
import sys

from jsonschema import Draft202012Validator


def once(pairs):
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError("a key comes twice")
    return dict(pairs)


def no_constant(name):
    raise ValueError(name + " is no JSON")


count = 0
for number, line in enumerate(open(sys.argv[1], encoding="utf-8"), 1):
    pair = json.loads(line)
    try:
        pair["value"].encode("utf-8")
        value = json.loads(pair["value"], object_pairs_hook=once, parse_constant=no_constant)
        Draft202012Validator(json.loads(pair["schema"])).validate(value)
    except Exception as error:
        sys.exit(f"line {number}: {type(error).__name__}: {str(error)[:300]}\n{pair['schema']}\n{pair['value']}")
    count += 1
print(f"{count} values are right")
