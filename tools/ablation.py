"""Train a recipe with one thing changed at a time, each with several seeds, and table what it gives:

    python tools/ablation.py STUDY OUT [--seeds 0 1 2] [--table_only] [--key value …]
    python tools/ablation.py configs/studies/accuracy.yaml output/accuracy --data_dir data/own --epoch_size 20

STUDY is a YAML file: `recipe`, a path from there, and `variants`, {name: recipe keys}, the first of which the others
are compared with. Keys on the command line hold for all of them. A training goes to OUT/NAME/SEED. What is there
already is not made again, and a training that was cut off goes on, so that the same line can be given again; other keys
need another OUT. The table goes to OUT/table.md. With ema_decay among the keys each training is evaluated twice, by its
last and by its averaged weights, since averaging changes nothing in the training itself.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

import yaml

SSD = Path(__file__).resolve().parents[1] / "examples" / "det" / "ssd"
sys.path.insert(0, str(SSD))

from ssd.config.command_line import parse_overrides  # noqa: E402
from ssd.config.loading import (
    load_config,  # noqa: E402
    read_recipe,  # noqa: E402
)
from ssd.config.schema import Config  # noqa: E402
from ssd.errors import UserError, exit_cleanly  # noqa: E402

WEIGHTS = {"last": ["--use_ema", "false"], "averaged": []}  # {folder of its evaluation: how to ask for it}


@exit_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("study", type=Path, help="YAML file of a recipe and variants of it")
    parser.add_argument("out", type=Path, help="folder of trainings and table")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--table_only", action="store_true", help="of what is there, without training")
    args, words = parser.parse_known_args()
    study = Study(args.study, args.out, words)
    if not args.table_only:
        for seed in args.seeds:  # outside, so that a study that is cut off has something on every variant
            for name in study.variants:
                study.run(name, seed)
    table = make_table({name: study.results(name, args.seeds) for name in study.variants})
    (args.out / "table.md").write_text(table, encoding="utf-8")
    print(table, end="")


class Study:
    """The trainings of a study. path: its file; out: where they go; words: of the command line, for all of them.
    Raises UserError on what is no study, and on a variant that is no recipe."""

    def __init__(self, path: Path, out: Path, words: list[str]):
        content = read_recipe(path)
        variants = content.get("variants")
        if set(content) != {"recipe", "variants"} or not isinstance(variants, dict) or not variants:
            raise UserError(f"{path}: got keys {sorted(content)}, expected `recipe` and `variants`; mend the file")
        self.words, self.variants = words, {}
        base = str((path.parent / content["recipe"]).resolve())
        folders = {str(name): out / re.sub(r"[^\w.+-]", "_", str(name)) for name in variants}
        if len(set(folders.values())) < len(variants):
            raise UserError(
                f"{path}: got names of variants with one folder, expected others; {sorted(folders)}: rename one"
            )
        for (name, folder), values in zip(folders.items(), variants.values()):
            self.variants[name] = folder, self._write_recipe(folder, {"__BASE__": base, **(values or {})})

    def _write_recipe(self, folder: Path, values: dict) -> Config:
        """The recipe of a variant, which is kept beside its trainings and must be that of those that are there."""
        recipe = folder / "recipe.yaml"
        text = f"# and {shlex.join(self.words)}\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}"
        if recipe.exists() and recipe.read_text(encoding="utf-8") != text:
            raise UserError(f"{recipe}: got a study with other keys, expected this one's; choose another folder for it")
        folder.mkdir(parents=True, exist_ok=True)
        recipe.write_text(text, encoding="utf-8")
        cfg = load_config(recipe, parse_overrides(self.words))
        if cfg.early_stop_patience:
            raise UserError(
                "early_stop_patience: got a number, expected none in a study, whose trainings are compared whole"
            )
        return cfg

    def run(self, name: str, seed: int) -> None:
        """Train and evaluate what of it is missing. Raises UserError if a command fails."""
        folder, cfg = self.variants[name]
        run = folder / str(seed)
        words = ["--config", folder / "recipe.yaml", *self.words, "--seed", seed, "--ckpt_save_dir", run]
        checkpoint = run / f"ssd-{cfg.epoch_size}.ckpt"
        if not checkpoint.exists():
            _call("train.py", *words, *(["--resume"] if (run / "last.ckpt").exists() else []))
        for weights in WEIGHTS if cfg.ema_decay else ("last",):
            if not (run / weights / "metrics.json").exists():
                where = ["--ckpt_path", checkpoint, "--output_dir", run / weights]
                _call("eval.py", *words, *where, *WEIGHTS[weights])

    def results(self, name: str, seeds: list[int]) -> dict[str, dict[int, dict]]:
        """{"last" or "averaged": {seed: metrics}} of what is there."""
        found = {}
        for weights in WEIGHTS:
            paths = {seed: self.variants[name][0] / str(seed) / weights / "metrics.json" for seed in seeds}
            read = {seed: json.loads(path.read_text()) for seed, path in paths.items() if path.is_file()}
            if read:
                found[weights] = read
        return found


def make_table(results: dict[str, dict[str, dict[int, dict]]]) -> str:
    """A Markdown table, a row for each variant and kind of weights. results: {variant: Study.results}

    Differences are from the last weights of the first variant, seed by seed, mean and standard deviation; AP in points.
    """
    lines = ["| variant | seeds | AP | difference | AP50 | AP small, medium, large |", "|---|---|---|---|---|---|"]
    reference = next(iter(results.values()), {}).get("last", {})
    for name, found in results.items():
        for weights, by_seed in found.items():
            same = reference.keys() & by_seed.keys()
            differences = [by_seed[seed]["mAP"] - reference[seed]["mAP"] for seed in sorted(same)]
            values = {
                key: [metrics[key] for metrics in by_seed.values()]
                for key in ("mAP", "AP50", "AP_small", "AP_medium", "AP_large")
            }
            sizes = ", ".join(_points(values[f"AP_{size}"]) for size in ("small", "medium", "large"))
            change = "" if by_seed is reference or not differences else _points(differences, "+", with_spread=True)
            lines.append(
                f"| {name}{', averaged weights' if weights == 'averaged' else ''} | {len(by_seed)} | "
                f"{_points(values['mAP'], with_spread=True)} | {change} | {_points(values['AP50'])} | {sizes} |"
            )
    return "\n".join(lines) + "\n"


def _points(values: list[float], sign: str = "", with_spread: bool = False) -> str:
    """The mean of shares of 1 in points of 100, with their standard deviation if there are several."""
    if not sign and min(values) < 0:  # COCO's -1: there are no objects of that size
        return "none"
    mean = f"{100 * statistics.fmean(values):{sign}.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if with_spread and len(values) > 1 else mean


def _call(script: str, *words) -> None:
    """Raises UserError if it fails; it has said why."""
    code = subprocess.run([sys.executable, str(SSD / script), *map(str, words)]).returncode
    if code:
        raise UserError(f"{script}: got exit code {code}, expected 0; mend what it says above and give the line again")


if __name__ == "__main__":
    main()
