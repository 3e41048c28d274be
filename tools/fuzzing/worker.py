"""Fuzz one target with atheris, in a process of its own: atheris ends the process.

    python -m fuzzing.worker TARGET SEEDS OUTPUT FILES SECONDS

FILES is an empty folder for the files that readers open. New inputs are written to OUTPUT/corpus, and the first input
of each fault to OUTPUT/faults. libFuzzer itself writes inputs that take too long or too much memory to OUTPUT/faults,
and ends.
"""

from __future__ import annotations

import hashlib
import random
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ssd", "rank_table_check", "yaml"]):
    import ssd  # noqa: F401  first, because it sets environment variables that MindSpore reads when it loads

    # isort: split
    from fuzzing.mutation import mutate_json
    from fuzzing.target import find_fault
    from fuzzing.targets import TARGETS

    # Readers import these when they are called, and only modules that are imported here are instrumented.
    from ssd.checkpoints import choice, loading, metadata, reading  # noqa: F401
    from ssd.deployment import model_metadata  # noqa: F401
    from ssd.evaluation import coco_metrics  # noqa: F401
    from ssd.training import resume  # noqa: F401

STOP_SECONDS = 60  # for one input, after which the process ends; target.MAX_SECONDS is the limit of CPU time
MAX_MEMORY = 2048  # MiB of the process
MAX_BYTES = 1 << 13  # of an input; larger inputs are slower, and find the same faults
JSON_SHARE = 0.8  # share of the mutations of JSON that change whole values


def main() -> None:
    name, seeds, output, files, seconds = sys.argv[1:6]
    target = TARGETS[name]
    faults, corpus = Path(output) / "faults", Path(output) / "corpus"
    for folder in (faults, corpus):
        folder.mkdir(parents=True, exist_ok=True)
    reader = target.create(Path(files))
    known: set[str] = set()

    def test_one_input(data: bytes) -> None:
        fault = find_fault(reader, data)
        if fault is not None and fault not in known:
            known.add(fault)
            path = faults / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
            path.write_bytes(data)
            print(f"FAULT {fault}: {path}", file=sys.stderr, flush=True)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        mutated = None
        if random.Random(seed).random() < JSON_SHARE:
            mutated = mutate_json(data, max_size, seed)
        return atheris.Mutate(data, max_size) if mutated is None else mutated

    options = [
        f"-max_total_time={seconds}",
        f"-timeout={STOP_SECONDS}",
        f"-report_slow_units={STOP_SECONDS}",
        f"-rss_limit_mb={MAX_MEMORY}",
        f"-max_len={MAX_BYTES}",
        f"-artifact_prefix={faults}/{name}-",
        "-print_final_stats=1",
        "-len_control=0",
    ]
    atheris.Setup(
        [sys.argv[0], *options, str(corpus), seeds],
        test_one_input,
        **({"custom_mutator": mutate} if target.is_json else {}),
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
