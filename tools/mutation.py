"""Change the code in small ways, and report the changes that no test notices:

    python tools/mutation.py [MODULES ...] [--sample N] [--seed 0] [--folder DIR]

Each changed function is called a mutant; mutmut makes them. A test that fails kills the mutant. A mutant that survives
shows what no test checks, or is equivalent to the original. `tests/equivalent_mutants.yaml` explains the known
survivors. The command prints all others, and the exit code is 1 if the tests kill less than 85 % of the mutants of one
of the MODULES. Only the tests that mirror the modules run.
"""

if __name__ == "__main__":
    from ssd.startup import prepare_process

    prepare_process()  # before slow imports, so that Ctrl-C ends these cleanly

import argparse
import collections
import difflib
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from ssd.errors import UserError, exit_cleanly, require_range
from ssd.runtime.heartbeat import activity, report_silence

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path("examples/det/ssd")
EXPLANATIONS = ROOT / "tests" / "equivalent_mutants.yaml"
MIN_SCORE = 0.85  # killed mutants / all mutants
KILLED = ("killed", "endless", "crashed")  # results of mutants that tests notice


class Modules(NamedTuple):
    """Modules to change, as patterns below examples/det/ssd/ssd, and the tests that mirror them, below tests."""

    patterns: tuple[str, ...]
    tests: tuple[str, ...]


MODULES = {
    "boxes": Modules(("boxes/*.py",), ("boxes",)),
    "metrics": Modules(
        ("evaluation/average_precision.py", "evaluation/*_metrics.py"),
        tuple(f"evaluation/test_{name}.py" for name in ("average_precision", "coco_metrics", "voc_metrics")),
    ),
    "augmentation": Modules(
        ("data/augment.py", "data/transforms.py"), ("data/test_augment.py", "data/test_transforms.py")
    ),
    "losses": Modules(
        ("models/*loss*.py", "models/hard_negatives.py"),
        tuple(f"models/test_{name}_loss.py" for name in ("focal", "iou", "multibox", "task_aligned")),
    ),
    "postprocess": Modules(("models/postprocess.py",), ("models/test_postprocess.py",)),
}
# Tests do not compare sentences of messages. Plugins and tracebacks would cost more time than the tests.
SETTINGS = """\
[tool.pytest.ini_options]
pythonpath = ["examples/det/ssd", "tools"]
addopts = [
    "-q", "-pxdist", "-pmutation_loop", "-pno:cacheprovider", "-mnot slow", "--ignore-glob=*_properties.py",
    "--assert=plain", "--tb=native",
]
markers = ["slow"]
filterwarnings = ["ignore"]
tmp_path_retention_policy = "failed"

[tool.mutmut]
source_paths = ["examples/det/ssd"]
do_not_mutate_patterns = ['raise UserError\\(']
"""


class Mutant(NamedTuple):
    """A mutant of a file below examples/det/ssd. change: "function: changed lines -> lines in the mutant"."""

    file: str
    name: str
    change: str


@exit_cleanly
@report_silence
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", metavar="MODULES", help=f"what to change [all]: {', '.join(MODULES)}")
    parser.add_argument("--sample", type=int, help="number of mutants of each of the MODULES [all]")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the sample [0]")
    parser.add_argument("--folder", type=Path, help="working folder, emptied first [a temporary folder]")
    args = parser.parse_args()
    if unknown := set(args.modules) - set(MODULES):
        raise UserError(f"MODULES: {unknown.pop()!r} is unknown. Choose from {', '.join(MODULES)}.")
    if importlib.util.find_spec("mutmut") is None:
        raise UserError("mutmut: the package is not installed. Run `make mutation`, which installs it.")
    require_range("sample", args.sample)
    explanations = yaml.safe_load(EXPLANATIONS.read_text(encoding="utf-8"))
    explained = {(file, change) for file, rows in explanations.items() for row in rows for change in row["mutants"]}
    scores = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.modules or MODULES:
            start = time.monotonic()
            workspace = (args.folder or Path(temporary)).resolve() / name
            prepare_workspace(workspace)
            os.chdir(workspace)  # mutmut reads its settings from there
            mutants = [mutant for pattern in MODULES[name].patterns for mutant in replace_functions(pattern)]
            if args.sample is not None and args.sample < len(mutants):
                mutants = random.Random(args.seed).sample(mutants, args.sample)
            with activity(f"testing mutants of {name}"):
                results = run_mutants([mutant.name for mutant in mutants], MODULES[name].tests)
            print(f"\n{name}, {time.monotonic() - start:.0f} s")
            scores.append(print_results(mutants, results, explained))
            os.chdir(ROOT)
    sys.exit(min(scores) < MIN_SCORE)


def prepare_workspace(workspace: Path) -> None:
    """Copy the package, recipes, tests and tools to `workspace`, with settings for mutmut and pytest."""
    shutil.rmtree(workspace, ignore_errors=True)
    for folder in ("configs", "tests", "tools", PACKAGE / "ssd"):
        shutil.copytree(ROOT / folder, workspace / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for recipe in (ROOT / PACKAGE).glob("*.yaml"):
        shutil.copy(recipe, workspace / PACKAGE)
    (workspace / "pyproject.toml").write_text(SETTINGS)


def replace_functions(pattern: str) -> list[Mutant]:
    """Replace functions in the workspace by switches between the original and its mutants. Returns the mutants.

    pattern: files below examples/det/ssd/ssd
    """
    from mutmut.mutation.file_mutation import mutate_file_contents
    from mutmut.utils.format_utils import get_mutant_name, orig_function_and_class_names_from_key

    mutants = []
    for path in sorted((PACKAGE / "ssd").glob(pattern)):
        mutated = mutate_file_contents(str(path), path.read_text(encoding="utf-8"))
        path.write_text(mutated.code, encoding="utf-8")
        file, lines = path.relative_to(PACKAGE), mutated.code.splitlines()
        for name in mutated.mutant_names:
            function, class_name = orig_function_and_class_names_from_key(name)
            original, changed = (
                [line.strip().replace(copy, function) for line in lines[span.start - 1 : span.end]]
                for copy in (name.rpartition("_")[0] + "_orig", name)
                for span in [mutated.line_span_by_function_name[copy]]
            )
            difference = [" ".join(line.split()) for line in difflib.ndiff(original, changed) if line[0] in "-+"]
            before, after = (" ".join(line[2:] for line in difference if line[0] == sign) for sign in "-+")
            scope = f"{class_name}.{function}" if class_name else function
            mutants.append(Mutant(str(file), get_mutant_name(file, name), f"{scope}: {before} -> {after}"))
    return mutants


def run_mutants(names: Sequence[str], tests: Sequence[str]) -> dict[str, str]:
    """Run the tests for each mutant. Returns {name of a mutant: result}."""
    command = [sys.executable, "-m", "pytest", *(f"tests/{path}" for path in tests)]
    paths = [str(Path(folder).resolve()) for folder in ("tools", PACKAGE)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    env |= {"MUTATION_RUN": "names.json", "MUTANT_UNDER_TEST": ""}
    results: dict[str, str] = {}
    while remaining := [name for name in names if name not in results]:
        Path("names.json").write_text(json.dumps(remaining))
        result = subprocess.run(command, env=env, capture_output=True, text=True)
        rows = Path("names.results").read_text().splitlines() if Path("names.results").exists() else []
        results |= {row["name"]: row["status"] for row in map(json.loads, rows)}
        if result.returncode < 0:  # ended by a signal
            results[next(name for name in names if name not in results)] = "crashed"
        elif result.returncode:
            raise UserError(f"pytest: failed.\n{(result.stdout + result.stderr)[-3000:]}\nCorrect the tests first.")
    return results


def print_results(mutants: Sequence[Mutant], results: dict[str, str], explained: set[tuple[str, str]]) -> float:
    """Print a table of the files, and the survivors without explanation. Returns killed mutants / all mutants.

    results: {name of a mutant: result}; explained: (file, change) of mutants with an explanation
    """
    rows = collections.defaultdict(list)
    for mutant in mutants:
        rows[mutant.file].append(mutant)
    print(f"{'file':40} mutants  killed  equivalent  survived  score")
    for file, members in [*rows.items(), ("all", mutants)]:
        survivors = [mutant for mutant in members if results[mutant.name] not in KILLED]
        unexplained = [mutant for mutant in survivors if (mutant.file, mutant.change) not in explained]
        killed, equivalent = len(members) - len(survivors), len(survivors) - len(unexplained)
        score = killed / len(members)
        print(f"{file:40} {len(members):7} {killed:7} {equivalent:11} {len(unexplained):9}  {score:.1%}")
    print(*(f"{results[mutant.name]}: {mutant.file}: {mutant.change}" for mutant in unexplained), sep="\n")
    return score


if __name__ == "__main__":
    main()
