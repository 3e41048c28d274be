"""Check without an NPU whether an Ascend NPU can train and run the detectors of recipes.

    python tools/ascend_check.py [--config RECIPE …] [--soc 910A 910B] [--variants NAME …]

The command compiles each graph with MindSpore's front end, as for the NPU, and reads the result: primitives that an NPU
lacks, data types, shapes, control flow, number of kernels and memory. A graph takes one to five minutes. A graph
without faults may still fail on an NPU, because the NPU's own compiler does not run. The exit code is 1 if there is a
fault.
"""

from __future__ import annotations

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ascend_checks.ir import Graph, read_graph
from ascend_checks.memory import MemoryEstimate, estimate_memory
from ascend_checks.rules import Expected, Primitives, count_kernels, find_faults, is_network_kernel, read_primitives
from ssd.config.loading import load_config
from ssd.errors import UserError, count_noun, exit_cleanly, require_range
from ssd.runtime.heartbeat import report_silence

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = Path(__file__).with_name("ascend_checks") / "compile_graph.py"
# Recipe keys of each variant of a training step. A variant such as "accumulate+ema" combines several.
VARIANTS: dict[str, dict] = {
    "plain": {},
    "accumulate": {"accumulate_steps": 4},
    "ema": {"ema_decay": 0.9998},
    "clip": {"clip_grad_norm": 10.0},
    "dynamic": {"loss_scale_type": "dynamic"},
    "focal": {"loss": "focal"},
    "multibox": {"loss": "multibox", "prior_bias": None},
    "task_aligned": {"loss": "task_aligned", "prior_bias": 0.01, "box_loss": "ciou"},
    "adamw": {"optimizer": "adamw"},
}
INFERENCE = "inference"
# Bound of the number of kernels: a number for loss and target assignment, and numbers per parameter. About 3 kernels
# per parameter are forward, backward and update, and up to 2 are casts. A step whose gradients are not packed
# launches 10 kernels per parameter.
MAX_LOSS_KERNELS, MAX_KERNELS_PER_WEIGHT = 500, 5
MAX_ACCUMULATE_KERNELS_PER_WEIGHT, MAX_EMA_KERNELS_PER_WEIGHT, MAX_ADAMW_KERNELS_PER_WEIGHT = 3, 2, 1


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--config", nargs="+", metavar="RECIPE", help="recipes to check; by default, all recipes in examples/det/ssd"
    )
    parser.add_argument("--soc", nargs="+", choices=("910A", "910B"), default=["910A", "910B"], help="NPU generations")
    parser.add_argument(
        "--variants",
        nargs="+",
        metavar="NAME",
        default=["plain", "accumulate+ema+clip+dynamic", "focal", "multibox", INFERENCE],
        help=f"variants of the graph: {', '.join([*VARIANTS, INFERENCE])}, or several joined by +",
    )
    parser.add_argument("--max_gt", type=int, default=100, help="ground-truth boxes of an image [100]")
    return parser.parse_args()


def shipped_recipes() -> list[str]:
    """Return the paths of all recipes of this repository."""
    return sorted(str(path) for path in (ROOT / "examples" / "det" / "ssd").glob("*.yaml"))


@exit_cleanly
@report_silence
def main() -> None:
    arguments = parse_arguments()
    recipes = arguments.config or shipped_recipes()
    for variant in arguments.variants:
        variant_keys(variant)  # raises UserError
    require_range("max_gt", arguments.max_gt)
    graphs = list(list_graphs(recipes, arguments.soc, arguments.variants))  # raises UserError
    primitives = read_primitives()
    num_faults = 0
    print("| recipe | NPU | graph | kernels | small kernels | casts | inputs | memory | compilation | faults |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    details: list[str] = []
    for recipe, soc, variant in graphs:
        name = f"{Path(recipe).stem}, {soc}, {variant}"
        graph, expected, seconds = compile_graph(recipe, soc, variant=variant, max_gt=arguments.max_gt)
        faults = find_faults(graph, primitives, expected)
        memory = estimate_memory(graph, primitives.views)
        print(format_row(name, graph, primitives, memory=memory, seconds=seconds, num_faults=len(faults)), flush=True)
        details += [f"{name}: fault: {fault}" for fault in faults]
        details += [f"{name}: {line}" for line in describe_memory(memory)]
        counts = count_kernels(graph, primitives).most_common()
        details.append(f"{name}: primitives: {', '.join(f'{primitive} {count}' for primitive, count in counts)}")
        num_faults += len(faults)
    print("", *details, "", count_noun(num_faults, "fault"), sep="\n")
    sys.exit(1 if num_faults else 0)


def variant_keys(variant: str) -> dict:
    """Return the recipe keys of a variant such as "accumulate+ema". Raises UserError if a name is unknown."""
    keys: dict = {}
    for name in variant.split("+") if variant != INFERENCE else []:
        if name not in VARIANTS:
            raise UserError(f"--variants: {name!r} is not a variant. Choose from {', '.join([*VARIANTS, INFERENCE])}.")
        keys |= VARIANTS[name]
    return keys


def list_graphs(recipes: list[str], socs: list[str], variants: list[str]) -> Iterator[tuple[str, str, str]]:
    """Yield (recipe, NPU, variant) of each graph to check, without variants that equal the plain training step.

    The graph of inference is the same for all NPUs.
    """
    for recipe in recipes:
        cfg = load_config(recipe, {"device_target": "Ascend"})
        for soc in socs:
            for variant in variants:
                is_plain = variant == cfg.loss and "plain" in variants
                is_repeated = variant == INFERENCE and soc != socs[-1]
                if not is_plain and not is_repeated:
                    yield recipe, soc, variant


def compile_graph(recipe: str, soc: str, *, variant: str, max_gt: int) -> tuple[Graph, Expected, float]:
    """Compile a graph in a new process.

    recipe: path of a recipe
    soc: "910A" or "910B"
    variant: name of the variant
    max_gt: number of ground-truth boxes of an image
    Returns the graph, its expected properties, and the duration of the compilation in seconds.
    Raises UserError if the front end cannot compile the graph.
    """
    overrides = variant_keys(variant)
    kind = INFERENCE if variant == INFERENCE else "training"
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "MS_DEV_SAVE_GRAPHS": "1",
            "MS_DEV_SAVE_GRAPHS_PATH": folder,
            "MS_DEV_DUMP_IR_PASSES": "validate",  # writing the graph after each pass takes twice as long as compiling
        }
        process = subprocess.run(
            [sys.executable, str(SCRIPT), str(Path(recipe).resolve()), json.dumps(overrides), soc, kind, str(max_gt)],
            env={**os.environ, **environment},
            cwd=folder,  # MindSpore writes rank_0 to the working folder
            capture_output=True,
            text=True,
        )
        paths = sorted(Path(folder).rglob("*_validate_*.ir"))
        if process.returncode or not paths:
            refused = re.search(r"^error: (.*)$", process.stderr, re.MULTILINE)
            if refused:
                raise UserError(refused[1])
            reason = error_reason(process.stderr) or f"exit code {process.returncode}"
            raise UserError(
                f"{recipe}: MindSpore cannot compile the graph {variant} for {soc} ({reason}). Correct the code or the "
                "recipe."
            )
        graph = read_graph(max(paths, key=lambda path: path.stat().st_size))
    result = json.loads(process.stdout.splitlines()[-1])
    cfg = load_config(recipe, {**overrides, "device_target": "Ascend"})
    kernels_per_weight = MAX_KERNELS_PER_WEIGHT
    kernels_per_weight += MAX_ACCUMULATE_KERNELS_PER_WEIGHT if cfg.accumulate_steps > 1 else 0
    kernels_per_weight += MAX_EMA_KERNELS_PER_WEIGHT if cfg.ema_decay else 0
    kernels_per_weight += MAX_ADAMW_KERNELS_PER_WEIGHT if cfg.optimizer == "adamw" else 0
    expected = Expected(
        amp_level=cfg.amp_level,
        is_training=kind == "training",
        accumulates=cfg.accumulate_steps > 1,
        is_frozen=cfg.freeze is not None,
        max_kernels=MAX_LOSS_KERNELS + kernels_per_weight * result["weights"],
    )
    return graph, expected, result["seconds"]


def error_reason(stderr: str) -> str:
    """Return the first line of the last exception that a Python process printed, or an empty string."""
    reasons = re.findall(r"^(?:\w+\.)*\w*(?:Error|Exception): (.+)$", stderr, re.MULTILINE)
    return reasons[-1].rstrip(".") if reasons else ""


def format_row(
    name: str, graph: Graph, primitives: Primitives, *, memory: MemoryEstimate, seconds: float, num_faults: int
) -> str:
    """Return a row of the Markdown table.

    name: recipe, NPU and variant, separated by commas
    seconds: duration of the compilation by the front end
    """
    counts = count_kernels(graph, primitives)
    small = sum(count for primitive, count in counts.items() if not is_network_kernel(primitive))
    columns = [
        *name.split(", "),
        f"{counts.total():,}",
        f"{small:,}",
        f"{counts['Cast']:,}",
        f"{len(graph.parameters):,}",
        f"{memory.total_bytes / 1e9:.1f} GB",
        f"{seconds:.0f} s",
        str(num_faults),
    ]
    return f"| {' | '.join(columns)} |"


def describe_memory(memory: MemoryEstimate) -> list[str]:
    """Return one line for the estimate, and one line for each of the largest tensors."""
    lines = [
        f"memory: {memory.total_bytes / 1e9:.2f} GB: parameters and inputs {memory.parameter_bytes / 1e9:.2f} GB, "
        f"other tensors {memory.peak_bytes / 1e9:.2f} GB"
    ]
    for tensor in memory.largest:
        lines.append(
            f"memory: {tensor.type.num_bytes / 1e6:,.0f} MB: {tensor.type} of {tensor.primitive}, {tensor.source}"
        )
    return lines


if __name__ == "__main__":
    main()
