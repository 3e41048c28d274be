"""Train variants of a recipe with several random seeds each, and print a table of their AP:

    python tools/ablation.py STUDY OUT [--seeds 0 1 2] [--table_only] [--key value …]
    python tools/ablation.py configs/studies/accuracy.yaml output/accuracy --data_dir data/own --epoch_size 20

STUDY is a YAML file with two keys:
    recipe     path of a recipe, relative to the folder of STUDY
    variants   {name of a variant: {recipe key: value}}, the keys that each variant changes
Recipe keys on the command line apply to all variants. The table compares each variant with the first variant.

Each training run is stored in OUT/VARIANT/SEED, and the table in OUT/table.md. To continue an interrupted study, run
the same command again: finished training runs are kept, and an unfinished run is resumed. If you change STUDY or the
keys on the command line, choose another folder OUT.

If ema_decay is set, each training run is evaluated twice: with the last weights and with the averaged (EMA) weights.
One run is enough for both evaluations, because averaging does not change the training.
"""

from __future__ import annotations

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

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
from ssd.data.dataset_info import DATASET_INFO_NAME, read_dataset_info
from ssd.errors import UserError, exit_cleanly
from ssd.runtime.launch import leave_launch

SSD = Path(__file__).resolve().parents[1] / "examples" / "det" / "ssd"
WEIGHTS = {"last": ["--use_ema", "false"], "averaged": []}  # {name of the evaluation folder: options of eval.py}


@exit_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("study", type=Path, help="YAML file with the keys recipe and variants")
    parser.add_argument("out", type=Path, help="output folder for the training runs and the table")
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0, 1, 2],
        help="random seeds; every variant is trained once with each seed [0 1 2]",
    )
    parser.add_argument(
        "--table_only", action="store_true", help="print the table of existing results without training"
    )
    args, override_arguments = parser.parse_known_args()
    leave_launch()
    study = Study(args.study, args.out, override_arguments)
    if not args.table_only:
        for seed in args.seeds:  # outer loop over seeds, so that an interrupted study has results for every variant
            for name in study.variants:
                study.run(name, seed)
    table = make_table({name: study.read_results(name, args.seeds) for name in study.variants})
    (args.out / "table.md").write_text(table, encoding="utf-8")
    print(table, end="")


@dataclasses.dataclass(frozen=True)
class Variant:
    """One variant of a recipe.

    folder: folder of the variant's recipe.yaml, with a subfolder for each seed
    cfg: Config of the variant, including the recipe keys of the command line
    """

    folder: Path
    cfg: Config


class Study:
    """Variants of a study file, with methods to train, evaluate and compare the variants.

    path: path of the study file
    out: output folder for the training runs
    override_arguments: recipe keys from the command line, ["--key", "value", …], which apply to all variants
    Raises UserError if the study file has wrong keys or a variant is not a valid recipe.
    """

    def __init__(self, path: Path, out: Path, override_arguments: list[str]):
        content = read_recipe(path)
        for key in ("recipe", "variants"):
            if key not in content:
                raise UserError(f"{path}: the key {key!r} is missing. Add {key!r} to the study.")
        for key in content:
            if key not in ("recipe", "variants"):
                raise UserError(f"{path}: the key {key!r} is unknown. Use only the keys recipe and variants.")
        variants = content["variants"]
        if not isinstance(variants, dict) or not variants:
            raise UserError(
                f"{path}: the key variants is empty or not a mapping from names to recipe keys. "
                "Add an entry such as `GIoU: {box_loss: giou}` to variants."
            )
        self.override_arguments = override_arguments
        self.variants: dict[str, Variant] = {}
        base = str((path.parent / content["recipe"]).resolve())
        folders = {str(name): out / re.sub(r"[^\w.+-]", "_", str(name)) for name in variants}
        if len(set(folders.values())) < len(variants):
            raise UserError(
                f"{path}: at least 2 of the variants {', '.join(sorted(folders))} would be stored in the same folder. "
                "Choose variant names that differ in more than spaces and special characters."
            )
        new_recipes = [folder / "recipe.yaml" for folder in folders.values() if not (folder / "recipe.yaml").exists()]
        try:
            for (name, folder), keys in zip(folders.items(), variants.values()):
                self.variants[name] = self._create_variant(folder, {"__BASE__": base, **(keys or {})})
        except UserError:
            for recipe in new_recipes:  # otherwise old recipes would conflict with the corrected study
                recipe.unlink(missing_ok=True)
            raise

    def _create_variant(self, folder: Path, keys: dict[str, Any]) -> Variant:
        """Write the recipe of a variant and load it. Keep an existing recipe, which must be identical.

        folder: folder of the variant
        keys: content of the recipe
        Raises UserError if an existing recipe differs, if the new recipe is invalid or uses early stopping, or if the
        validation images have no boxes.
        """
        recipe = folder / "recipe.yaml"
        text = (
            f"# and {shlex.join(self.override_arguments)}\n{yaml.safe_dump(keys, sort_keys=False, allow_unicode=True)}"
        )
        if recipe.exists() and recipe.read_text(encoding="utf-8") != text:
            raise UserError(
                f"{recipe}: an earlier run with other settings wrote this file. Choose another output folder."
            )
        folder.mkdir(parents=True, exist_ok=True)
        recipe.write_text(text, encoding="utf-8")
        cfg = load_config(recipe, parse_overrides(self.override_arguments))
        if cfg.early_stop_patience:
            raise UserError(
                f"early_stop_patience: {cfg.early_stop_patience} is not allowed in a study, because training runs of "
                "different lengths are not comparable. Remove early_stop_patience from the recipe, the study and the "
                "command line."
            )
        info_path = Path(cfg.data_dir) / DATASET_INFO_NAME
        if info_path.is_file() and not read_dataset_info(info_path).val.boxes:
            raise UserError(
                f"data_dir: the validation images in {cfg.data_dir} have no ground-truth boxes, so no AP can be "
                "compared. Convert the data with other validation images."
            )
        return Variant(folder, cfg)

    def run(self, name: str, seed: int) -> None:
        """Train and evaluate a variant with one random seed. Finished training runs and evaluations are not repeated.

        name: name of the variant
        seed: random seed of the training
        Raises UserError if train.py or eval.py fails.
        """
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
        """Read the existing evaluation metrics of a variant.

        name: name of the variant
        seeds: random seeds of the training runs to read
        Returns {"last" or "averaged": {seed: {name of a metric: value}}} without missing evaluations.
        """
        results = {}
        for weights in WEIGHTS:
            paths = {seed: self.variants[name].folder / str(seed) / weights / "metrics.json" for seed in seeds}
            by_seed = {seed: json.loads(path.read_text()) for seed, path in paths.items() if path.is_file()}
            if by_seed:
                results[weights] = by_seed
        return results


def make_table(results: dict[str, dict[str, dict[int, dict[str, float]]]]) -> str:
    """Return a Markdown table of AP, with one row for each variant and each kind of weights.

    results: {name of a variant: {"last" or "averaged": {seed: {name of a metric: value}}}}
    AP is in percent, as mean and standard deviation over seeds. The column "difference" is the AP minus the AP of the
    first variant's last weights with the same seed.
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
    """Format the mean of AP values in percent.

    values: AP values in 0..1, or differences of AP values in -1..1; an AP of -1 means no ground-truth boxes
    sign: "+" to print the sign of positive differences
    with_spread: True to append the standard deviation if there are several values
    """
    if not sign and min(values) < 0:  # COCO's AP is -1 without ground-truth boxes of that size
        return "none"
    mean = f"{100 * statistics.fmean(values):{sign}.1f}"
    return f"{mean} ± {100 * statistics.stdev(values):.1f}" if with_spread and len(values) > 1 else mean


def run_script(script: str, *arguments: object) -> None:
    """Run a script in a child process. Raises UserError if the script fails, after the script has printed the reason.

    script: file name of the script in examples/det/ssd
    arguments: command-line arguments of the script
    """
    code = subprocess.run([sys.executable, str(SSD / script), *map(str, arguments)]).returncode
    if code:
        raise UserError(
            f"{script}: failed with exit code {code}. Fix the error above, then run ablation.py again with the same "
            "arguments."
        )


if __name__ == "__main__":
    main()
