#!/usr/bin/env python3
"""Bounds against figures counted by hand, and tables against samples whose ratios are known: selftest.py TQKV MACHINE_RATES"""
import importlib.machinery
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import types
import unittest

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from comparison import bounds, children, llama, shape_gguf, table, tqkv
from comparison.statistics import median, paired_ratio, ratio_of_medians

CONFIG = os.path.join(HERE, "..", "..", "models", "configs", "qwen3.5-35b-a3b-4bit.json")
PROGRAM, MACHINE_RATES = sys.argv[1:3]
RATES = {"threads": 2, "read_gb_s": {"one_thread": 20.0, "all_threads": 33.0},
         "isas": [{"isa": "avx512", "int8_instruction": "", "f32_lanes": 16, "int8_gmac_s": {"one_thread": 240.0, "all_threads": 480.0},
                   "f32_gflop_s": {"one_thread": 118.0, "all_threads": 236.0}},
                  {"isa": "avx2", "int8_instruction": "", "f32_lanes": 8, "int8_gmac_s": {"one_thread": 180.0, "all_threads": 360.0},
                   "f32_gflop_s": {"one_thread": 118.0, "all_threads": 236.0}}]}

SETTING = {"flash": "on", "load": "none", "repack": 1, "ubatch": 512}


def run_of(program, samples, row="main", build="native", thrown=False, trial=0, layers=40):
    return {"program": program, "row": row, "layers": layers, "build": build, "trial": trial, "order": 0, "attempt": 0, "wall_s": 1, "major_faults": int(thrown),
            "minor_faults": 0, "thrown_away": thrown, "samples": [{"trial": trial, **sample} for sample in samples]}


def sample(cache, prompt, generation, depth=0, prompt_tps=None, generation_tps=None, **more):
    return {"cache": cache, "prompt": prompt, "generation": generation, "depth": depth, "prompt_tps": prompt_tps, "generation_tps": generation_tps, **more}


def document_of(shape, runs, cut=None):
    return {"schema": 1, "kind": "comparison with llama.cpp", "tool": {}, "machine": {"cpu": "some", "cores": 2, "memory": 25 * 10**9, "rates": [RATES]},
            "model": {"name": "35b", "layers": 40, "all_layers": 40, "shape": shape},
            "settings": {"trials": 3, "threads": 2, "generation_tokens": 128, "attention_depth": 16384, "depths": [2048, 32768],
                         "depth_backends": ["turboquant"], "major_faults": 0},
            "peer": {"name": "llama.cpp", "package": "p", "version": "v", "system": "s"},
            "chosen": {"native": {"decode": dict(SETTING, ubatch=2048), "prompt_512": SETTING}, "avx2": {"decode": SETTING}},
            "sweep": {"layers": 4, "samples": {}}, "cut": cut, "problems": [], "runs": runs}


class Shape(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shape = bounds.shape_of(tqkv.inspect(PROGRAM, CONFIG))

    def test_a_decode_step_of_the_35b_model_reads_1_66_gb_of_weights_and_moves_its_state_twice(self):
        experts = 18119393280 * 8 / 256
        others = 286064640 / 248320 + 286064640 + 331776 + 570422400 + 11796480 + 70824960 + 153364480
        self.assertAlmostEqual(bounds.weights_read(self.shape, 1), experts + others, delta=1)
        self.assertAlmostEqual(bounds.decode_bytes(self.shape, "turboquant", 1000), experts + others + 5200 * 1000 + 2 * 64389120, delta=1)
        self.assertAlmostEqual(bounds.decode_tps(self.shape, RATES, "baseline", 0), 18.45, delta=0.05)

    def test_a_token_of_prompt_is_2_44_gmac_of_matrices_the_router_included(self):
        work = bounds.prompt_work(self.shape, 2048)
        linear = 8192 * 2048 + 4096 * 2048 + 2 * 32 * 2048 + 2048 * 4096
        full = 8192 * 2048 + 2 * 512 * 2048 + 2048 * 4096
        expert = 3 * 2048 * 512
        self.assertEqual(work["integer_macs"], 30 * linear + 10 * full + 40 * (9 * expert + 2048))
        self.assertEqual(work["router_macs"], 40 * 256 * 2048)
        self.assertAlmostEqual((work["integer_macs"] + work["router_macs"]) / 1e9, 2.44, delta=0.005)
        self.assertEqual(work["scale_operations"], work["integer_macs"] / 16)

    def test_longer_prompts_spread_the_stream_and_depth_adds_attention(self):
        short, long = (bounds.prompt_seconds(self.shape, RATES, "avx512", tokens) for tokens in (512, 2048))
        self.assertGreater(short["stream"], 3.9 * long["stream"])
        self.assertAlmostEqual(short["integer"], long["integer"])
        self.assertGreater(bounds.prompt_seconds(self.shape, RATES, "avx512", 2048, 32768)["attention"], 30 * long["attention"])
        two = bounds.prompt_seconds(self.shape, RATES, "avx512", 2048, planes=2)
        self.assertEqual((two["integer"], two["stream"]), (2 * long["integer"], long["stream"]))

    def test_the_gguf_file_has_the_weights_of_the_checkpoint(self):
        with open(CONFIG) as file:
            config = json.load(file)["text_config"]
        ours = sum(self.shape["weight_bytes"].values())
        self.assertLess(abs(shape_gguf.file_bytes(config, 40) / ours - 1), 0.005)
        names = [name for name, _, _ in shape_gguf.tensors(config, 4)]
        self.assertEqual(len(names), len(set(names)))

    def test_ratios_shares_and_targets_follow_from_the_samples(self):
        runs = []
        for trial, (ours, theirs) in enumerate(((15.0, 10.0), (16.0, 8.0), (20.0, 10.0))):
            runs += [run_of("tqkv", [sample("turboquant", 1, 128, generation_tps=ours, peak_anonymous_gb=0.1)], trial=trial),
                     run_of("tqkv", [sample("turboquant", 512, 1, prompt_tps=50 + trial)], trial=trial),
                     run_of("llama.cpp", [sample("f16", 0, 128, generation_tps=theirs), sample("f16", 512, 0, prompt_tps=25)], trial=trial)]
        runs.append(run_of("tqkv", [sample("turboquant", 1, 128, generation_tps=99.0)], trial=0, thrown=True))
        document = document_of(self.shape, runs)
        decode, prompt, encode = table.rows(document)
        self.assertEqual((decode["ours"], decode["theirs"], decode["ratio"]["median"]), (16.0, 10.0, 2.0))
        self.assertAlmostEqual(decode["share"], 16.0 / bounds.decode_tps(self.shape, RATES, "turboquant", 64))
        self.assertTrue(decode["reached"])
        self.assertFalse(prompt["reached"], "51 tok/s are below 55% of the bound, whatever the ratio")
        self.assertIsNone(encode["ours"])
        text = "\n".join(table.markdown(document))
        self.assertIn("thrown away and repeated: 1 of 10", text)
        self.assertIn("| 2.00 (", text)
        self.assertIn("; prompt 512, avx2 decode: flash attention on, weights not mapped, repacked, ubatch 512.", text)

    def test_attention_of_a_layer_is_the_step_at_depth_less_the_step_at_zero(self):
        cut_shape = {**self.shape, "architecture": {**self.shape["architecture"], "attention_layers": 1},
                     "cache_bytes_per_token": {key: value / 10 for key, value in self.shape["cache_bytes_per_token"].items()}}
        runs = []
        for program, cache, added in (("tqkv", "turboquant", 0.001), ("tqkv", "baseline", 0.004), ("llama.cpp", "f16", 0.010), ("llama.cpp", "q8_0", 0.006),
                                      ("llama.cpp", "q4_0", 0.032)):
            samples = [sample(cache, 1 if program == "tqkv" else 0, 128, depth, generation_tps=1 / (0.02 + (added if depth else 0))) for depth in (0, 16384)]
            runs.append(run_of(program, samples, row="attention", layers=4))
        fastest, q4 = table.attention_rows(document_of(self.shape, runs, {"layers": 4, "shape": cut_shape}), RATES)
        self.assertIn("(q8_0)", fastest["what"])
        self.assertAlmostEqual(fastest["ours"], 1.0)
        self.assertAlmostEqual(fastest["ratio"]["median"], 6.0)
        self.assertAlmostEqual(q4["ratio"]["median"], 32.0)
        self.assertAlmostEqual(fastest["bound"], 16384 * 520 / 33e6, places=6)

    def test_differences_that_scatter_beyond_zero_still_have_a_ratio_of_medians(self):
        ratio = ratio_of_medians([10.0, 12.0, 11.0, 9.0, 10.0], [2.0, -1.0, 2.5, 2.0, 1.5])
        self.assertAlmostEqual(ratio["median"], 5.0)
        self.assertLess(ratio["low"], 5.0)
        self.assertGreater(ratio["low"], 3.5)
        self.assertEqual(ratio, ratio_of_medians([10.0, 12.0, 11.0, 9.0, 10.0], [2.0, -1.0, 2.5, 2.0, 1.5]), "the seed is fixed")
        self.assertIsNone(ratio_of_medians([10.0], [-1.0]))
        self.assertIsNone(ratio_of_medians([10.0, 9.0, 8.0], [-1.0, 2.0, 3.0])["high"], "many draws are not positive")

    def test_a_backend_is_set_against_the_baseline_of_its_own_trial(self):
        samples = []
        for trial, speed in enumerate((10.0, 12.0, 8.0)):
            for cache, factor in (("baseline", 1.0), ("turboquant", 1.2)):
                for depth in (2048, 32768):
                    samples.append(sample(cache, 1, 128, depth, generation_tps=speed * factor, trial=trial))
        rows = table.depth_rows(document_of(self.shape, [run_of("tqkv", samples, row="depth")]))
        self.assertEqual(len(rows), 2)
        for row in rows:
            self.assertAlmostEqual(row["ratio"]["median"], 1.2)
            self.assertAlmostEqual(row["ratio"]["low"], 1.2)
        self.assertGreater(rows[1]["bound"], rows[0]["bound"])


class Figures(unittest.TestCase):
    def test_the_interval_of_a_ratio_is_students(self):
        ratio = paired_ratio({0: 2.0, 1: 8.0, 2: 4.0}, {0: 2.0, 1: 4.0, 2: 1.0, 3: 5.0})
        logs = [math.log(x) for x in (1.0, 2.0, 4.0)]
        reach = 4.303 * math.log(2) / math.sqrt(3)
        self.assertEqual((ratio["median"], ratio["pairs"]), (2.0, 3))
        self.assertAlmostEqual(ratio["low"], math.exp(sum(logs) / 3 - reach))
        self.assertAlmostEqual(ratio["high"], math.exp(sum(logs) / 3 + reach))
        self.assertIsNone(paired_ratio({0: 1.0}, {1: 1.0}))
        self.assertIsNone(paired_ratio({0: 1.0}, {0: -1.0}))
        self.assertIsNone(paired_ratio({0: 3.0}, {0: 2.0})["low"])

    def test_rates_of_several_measurements_are_their_medians(self):
        faster = json.loads(json.dumps(RATES))
        faster["read_gb_s"]["all_threads"] = 43.0
        self.assertEqual(bounds.median_rates([RATES, faster])["read_gb_s"]["all_threads"], 38.0)
        self.assertEqual(median([3, 1, 2]), 2)
        document = {"machine": {"rates": [RATES, {"row": "avx2", **faster}]}}
        for row, expected in (("main", 33.0), ("avx2", 43.0)):
            self.assertEqual(table.rates_of(document, row)["read_gb_s"]["all_threads"], expected)

    def test_the_best_setting_of_each_test_is_taken_from_the_sweep(self):
        slow, fast = {"flash": "off", "load": "none", "repack": 0, "ubatch": 512}, {"flash": "on", "load": "mmap", "repack": 1, "ubatch": 2048}
        sweep = [{**sample("f16", 512, 0, prompt_tps=20), "setting": slow}, {**sample("f16", 512, 0, prompt_tps=30), "setting": fast},
                 {**sample("f16", 0, 64, generation_tps=9), "setting": slow}, {**sample("f16", 0, 64, generation_tps=8), "setting": fast},
                 {**sample("f16", 0, 64, 16384, generation_tps=4), "setting": fast}]
        self.assertEqual(llama.best(sweep, "prompt_512"), fast)
        self.assertEqual(llama.best(sweep, "prompt_512", lambda setting: setting["load"] != "mmap"), slow)
        self.assertEqual(llama.best(sweep, "decode"), slow)
        self.assertEqual(llama.best(sweep, "decode_at_depth"), fast)

    def test_machine_rates_prints_every_figure_that_the_bounds_use(self):
        out = subprocess.run([MACHINE_RATES, "--seconds", "0.005", "--megabytes", "32", "--threads", "2"], capture_output=True, text=True, check=True).stdout
        rates = json.loads(out)
        self.assertEqual((rates["kind"], rates["threads"]), ("machine rates", 2))
        for row in rates["isas"]:
            for key in ("int8_gmac_s", "f32_gflop_s"):
                self.assertGreater(row[key]["one_thread"], 0)
                self.assertGreater(row[key]["all_threads"], 0)
        self.assertEqual(rates["isas"][-1]["isa"], "portable")
        self.assertGreater(rates["read_gb_s"]["all_threads"], 0)

    def test_files_are_held_in_memory_or_left_alone(self):
        with children.Held([CONFIG]) as held:
            self.assertIn(held.bytes, (0, os.path.getsize(CONFIG)))
        children.warm([CONFIG])

    def test_a_child_that_fails_is_one_line(self):
        with self.assertRaisesRegex(children.Refusal, "^sh ended with 3: broken$"):
            children.run(["/bin/sh", "-c", "echo broken >&2; exit 3"])
        out, usage = children.run(["/bin/sh", "-c", "echo good"])
        self.assertEqual((out, usage["major_faults"] >= 0), ("good\n", True))


class Resuming(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        path = os.path.join(HERE, "..", "compare-llama-cpp")
        loader = importlib.machinery.SourceFileLoader("compare_llama_cpp", path)
        cls.script = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
        loader.exec_module(cls.script)

    def test_a_step_is_measured_once_and_again_where_it_was_cut_off_or_failed(self):
        with tempfile.TemporaryDirectory() as folder:
            document = document_of({}, [run_of("tqkv", [], trial=1), run_of("tqkv", [], trial=0), run_of("tqkv", [], row="avx2", trial=1)])
            document["done"] = ["main 1"]
            comparison = self.script.Comparison(types.SimpleNamespace(output=os.path.join(folder, "out.json")), document, None, None)
            comparison.rates = lambda row: None
            done = []
            for trial in (0, 1, 1):
                comparison.step("main", lambda: done.append(trial), trial)
            self.assertEqual(done, [1])
            self.assertEqual([(run["row"], run["trial"]) for run in document["runs"]], [("main", 0), ("avx2", 1)])
            document["problems"] = ["main of tqkv, trial 2: major page faults in each of 5 runs", "main of tqkv, trial 12: another"]
            comparison.step("main", lambda: done.append("again"), 1)
            self.assertEqual((done, len(document["problems"])), ([1, "again"], 1))
            with open(comparison.given.output) as file:
                self.assertEqual(json.load(file)["done"], ["main 1", "main 2"])

    def test_only_the_same_comparison_goes_on(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "out.json")
            fresh = document_of({}, [])
            fresh["machine"].update(system="Linux")
            fresh["settings"].update(rows=["main"], threads=2, depth_backends=[], attention_depth=16384, major_faults=0)
            fresh.update(done=[], peer={"package": "x 1"}, model={"name": "a", "layers": 40})
            self.assertIs(self.script.resumed(path, fresh), fresh)
            for part, key in (("machine", "cpu"), ("model", "layers"), ("settings", "threads"), ("peer", "package")):
                other = json.loads(json.dumps(fresh))
                other[part][key] = "another"
                with open(path, "w") as file:
                    json.dump(other, file)
                with self.assertRaisesRegex(children.Refusal, f"has {part} {key} another, not"):
                    self.script.resumed(path, fresh)
            with open(path, "w") as file:
                file.write("{}")
            with self.assertRaisesRegex(children.Refusal, "has no comparison"):
                self.script.resumed(path, fresh)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
