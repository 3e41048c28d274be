"""Train variants of a recipe, each with several seeds, and print a table of their AP:

    python tools/ablation.py STUDY OUT [--seeds 0 1 2] [--table_only] [--key value …]
    python tools/ablation.py configs/studies/accuracy.yaml output/accuracy --data_dir data/own --epoch_size 20

STUDY is a YAML file with two keys. `recipe` is a path relative to the file. `variants` maps the name of each variant to
the recipe keys that it changes. Variants are compared with the first one. Keys on the command line apply to all.

Each training is stored in OUT/VARIANT/SEED, the table in OUT/table.md. Run the same command again to continue an
interrupted study: finished trainings are kept, and an unfinished one is resumed. Other keys need another OUT.

With ema_decay, each training is evaluated twice, with its last weights and with its averaged (EMA) weights. That shows
the effect of averaging without another training, because averaging does not change the training itself.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import shlex
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from ssd.config.command_line import parse_overrides
from ssd.config.loading import load_config, read_recipe
from ssd.config.schema import Config
from ssd.errors import UserError, exit_cleanly

SSD = Path(__file__).resolve().parents[1] / "examples" / "det" / "ssd"
WEIGHTS = {"last": ["--use_ema", "false"], "averaged": []}  # {folder of the evaluation: options of eval.py}


@exit_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("study", type=Path, help="YAML file with a recipe and its variants")
    parser.add_argument("out", type=Path, help="folder for trainings and the table")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds of the trainings [0 1 2]")
    parser.add_argument("--table_only", action="store_true", help="print the table of existing results; do not train")
    args, override_arguments = parser.parse_known_args()
    study = Study(args.study, args.out, override_arguments)
    if not args.table_only:
        for seed in args.seeds:  # the outer loop, so that an interrupted study has results of every variant
            for name in study.variants:
                study.run(name, seed)
    table = make_table({name: study.read_results(name, args.seeds) for name in study.variants})
    (args.out / "table.md").write_text(table, encoding="utf-8")
    print(table, end="")


@dataclasses.dataclass(frozen=True)
class Variant:
    """One variant of a recipe.

    folder: contains recipe.yaml, and a folder for each seed
    cfg: the variant's recipe with the keys of the command line
    """

    folder: Path
    cfg: Config


class Study:
    """The variants of a study file, their trainings and results.

    path: study file; out: folder of the trainings
    override_arguments: recipe keys from the command line, ["--key", "value", …], for all variants
    Raises UserError if the file is not a study, or a variant is not a valid recipe.
    """

    def __init__(self, path: Path, out: Path, override_arguments: list[str]):
        content = read_recipe(path)
        for key in ("recipe", "variants"):
            if key not in content:
                raise UserError(f"{path}: the key {key!r} is missing. A study has the keys recipe and variants.")
        for key in content:
            if key not in ("recipe", "variants"):
                raise UserError(f"{path}: the key {key!r} is unknown. A study has only the keys recipe and variants.")
        variants = content["variants"]
        if not isinstance(variants, dict) or not variants:
            raise UserError(
                f"{path}: variants does not map names to recipe keys. Write it like `GIoU: {{box_loss: giou}}`."
            )
        self.override_arguments = override_arguments
        self.variants: dict[str, Variant] = {}
        base = str((path.parent / content["recipe"]).resolve())
        folders = {str(name): out / re.sub(r"[^\w.+-]", "_", str(name)) for name in variants}
        if len(set(folders.values())) < len(variants):
            raise UserError(
                f"{path}: several of the variants {', '.join(sorted(folders))} would be stored in the same folder. "
                "Rename them."
            )
        new_recipes = [folder / "recipe.yaml" for folder in folders.values() if not (folder / "recipe.yaml").exists()]
        try:
            for (name, folder), keys in zip(folders.items(), variants.values()):
                self.variants[name] = self._create_variant(folder, {"__BASE__": base, **(keys or {})})
        except UserError:
            for recipe in new_recipes:  # otherwise they would not match the corrected study
                recipe.unlink(missing_ok=True)
            raise

    def _create_variant(self, folder: Path, keys: dict[str, Any]) -> Variant:
        """Write the recipe of a variant, or check that it is the one of the existing trainings. Raises UserError."""
        recipe = folder / "recipe.yaml"
        text = (
            f"# and {shlex.join(self.override_arguments)}\n{yaml.safe_dump(keys, sort_keys=False, allow_unicode=True)}"
        )
        if recipe.exists() and recipe.read_text(encoding="utf-8") != text:
            raise UserError(f"{recipe}: belongs to a study with other recipe keys. Choose another output folder.")
        folder.mkdir(parents=True, exist_ok=True)
        recipe.write_text(text, encoding="utf-8")
        cfg = load_config(recipe, parse_overrides(self.override_arguments))
        if cfg.early_stop_patience:
            raise UserError(
                f"early_stop_patience: {cfg.early_stop_patience} may end the trainings of a study at different epochs, "
                "which makes them incomparable. Remove the key."
            )
        return Variant(folder, cfg)

    def run(self, name: str, seed: int) -> None:
        """Train and evaluate a variant, as far as that is not done yet. Raises UserError if a command fails."""
        folder, cfg = self.variants[name].folder, self.variants[name].cfg
        run = folder / str(seed)
        recipe = folder / "recipe.yaml"
        arguments = ["--config", recipe, *self.override_arguments, "--seed", seed, "--ckpt_save_dir", run]
        checkpoint = run / f"ssd-{cfg.epoch_size}.ckpt"
        if not checkpoint.exists():
            run_script("train.py", *arguments, *(["--resume"] if (run / "last.ckpt").exists() else []))
        for weights in WEIGHTS if cfg.ema_decay else ("last",):
            if not (run / weights / "metrics.json").exists():
                paths = ["--ckpt_path", checkpoint, "--output_dir", run / weights]
                run_script("eval.py", *arguments, *paths, *WEIGHTS[weights])

    def read_results(self, name: str, seeds: list[int]) -> dict[str, dict[int, dict[str, float]]]:
        """Read the existing results of a variant: {"last" or "averaged": {seed: metrics}}."""
        results = {}
        for weights in WEIGHTS:
            paths = {seed: self.variants[name].folder / str(seed) / weights / "metrics.json" for seed in seeds}
            by_seed = {seed: json.loads(path.read_text()) for seed, path in paths.items() if path.is_file()}
            if by_seed:
                results[weights] = by_seed
        return results


def make_table(results: dict[str, dict[str, dict[int, dict[str, float]]]]) -> str:
    """Make a Markdown table with a row for each variant and kind of weights.

    results: {name of the variant: result of Study.read_results}
    Differences are to the last weights of the first variant with the same seed, as mean and standard deviation over
    seeds. AP is in points of 100.
    """
    lines = ["| variant | seeds | AP | difference | AP50 | AP small, medium, large |", "|---|---|---|---|---|---|"]
    reference = next(iter(results.values()), {}).get("last", {})
    for name, by_weights in results.items():
        for weights, by_seed in by_weights.items():
            common_seeds = sorted(reference.keys() & by_seed.keys())
            differences = [by_seed[seed]["mAP"] - reference[seed]["mAP"] for seed in common_seeds]
            values = {
                key: [metrics[key] for metrics in by_seed.values()]
                for key in ("mAP", "AP50", "AP_small", "AP_medium", "AP_large")
            }
            sizes = ", ".join(_format_points(values[f"AP_{size}"]) for size in ("small", "medium", "large"))
            has_difference = bool(differences) and by_seed is not reference
            change = _format_points(differences, sign="+", with_spread=True) if has_difference else ""
            lines.append(
                f"| {name}{', averaged weights' if weights == 'averaged' else ''} | {len(by_seed)} | "
                f"{_format_points(values['mAP'], with_spread=True)} | {change} | {_format_points(values['AP50'])} | "
                f"{sizes} |"
            )
    return "\n".join(lines) + "\n"


def _format_points(values: list[float], sign: str = "", with_spread: bool = False) -> str:
    """Format the mean of values in 0..1 as points of 100.

    sign: "+" to show the sign of differences; with_spread: add the standard deviation if there are several values
    """
    if not sign and min(values) < 0:  # COCO's -1: no ground-truth boxes of that size
        return "none"
    mean = f"{100 * statistics.fmean(values):{sign}.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if with_spread and len(values) > 1 else mean


def run_script(script: str, *arguments: object) -> None:
    """Run a script of the project. Raises UserError if it fails; the script has printed the reason."""
    code = subprocess.run([sys.executable, str(SSD / script), *map(str, arguments)]).returncode
    if code:
        raise UserError(f"{script}: failed with exit code {code}. Fix the error above and run the same command again.")


if __name__ == "__main__":
    main()
