"""Fuzzing: inputs of the corpus are read or refused, harnesses notice faults, and results are read from a log."""

import json
from pathlib import Path

import pytest

import fuzz
from fuzzing import target
from fuzzing.mutation import mutate_json
from fuzzing.target import find_fault
from fuzzing.targets import TARGETS
from ssd.errors import UserError

CORPUS = Path(__file__).resolve().parents[1] / "fuzzing" / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_of_the_corpus_are_read_or_refused(name, tmp_path, monkeypatch):
    """The corpus has seeds, and inputs that once raised another error, hung, or took gigabytes."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "files"
    folder.mkdir()
    reader = TARGETS[name].create(folder)
    inputs = sorted((CORPUS / name).iterdir())
    assert inputs
    for path in inputs:
        assert find_fault(reader, path.read_bytes()) is None, path


def test_the_corpus_has_only_targets():
    assert sorted(path.name for path in CORPUS.iterdir()) == sorted(TARGETS)


def raise_error(error):
    raise error


@pytest.mark.parametrize(
    ("error", "start"),
    [
        (UserError("a: wrong."), None),
        (KeyError("a"), "KeyError at tests/tools/test_fuzz.py:"),
        (RecursionError(), "RecursionError at "),
        (MemoryError(), "MemoryError at "),
    ],
)
def test_other_errors_than_user_errors_are_faults(error, start):
    fault = find_fault(lambda data: raise_error(error), b"")
    assert fault is start is None or fault.startswith(start)


def test_a_message_of_several_lines_is_a_fault():
    error = UserError("a")
    error.args = ("a\nb",)
    assert "lines" in find_fault(lambda data: raise_error(error), b"")


def test_a_slow_input_is_a_fault(monkeypatch):
    monkeypatch.setattr(target, "MAX_SECONDS", 0)
    assert find_fault(lambda data: sum(range(10**6)), b"") == "more than 0 s of CPU time"


def test_mutations_of_json_are_json_and_reproducible():
    document = {"a": [1, {"b": "text"}], "c": None}
    data = json.dumps(document).encode()
    found = {mutate_json(data, 1000, seed) for seed in range(100)} - {None}  # None is too long
    assert len(found) > 50 and all(len(mutated) <= 1000 for mutated in found)
    for mutated in found:
        json.loads(mutated)
    assert mutate_json(data, 1000, 5) == mutate_json(data, 1000, 5)
    assert mutate_json(b"3=\n" + data, 1000, 5) == b"3=\n" + mutate_json(data, 1000, 5)
    assert mutate_json(b"{no JSON", 1000, 0) is None and mutate_json(data, 2, 0) is None
    assert mutate_json(b"[" * 50_000 + b"]" * 50_000, 200_000, 0) is None


def test_results_are_read_from_the_log_of_libfuzzer():
    log = "\n".join(
        [
            "#10\tNEW    cov: 120 ft: 130 corp: 5/1Kb",
            "FAULT KeyError at ssd/a.py:5: faults/coco-1",
            "#2000\tpulse  cov: 125 ft: 140 corp: 6/1Kb",
            "stat::number_of_executed_units: 2345",
        ]
    )
    assert fuzz.read_log(log, 0, Path("log.txt")) == (2345, 125, ["KeyError at ssd/a.py:5: faults/coco-1"])
    stopped = f"{log}\nSUMMARY: libFuzzer: timeout\n"
    assert fuzz.read_log(stopped, 70, Path("log.txt")).faults[1] == "timeout: see log.txt"
    assert fuzz.read_log("", -11, Path("log.txt")) == (0, 0, ["exit code -11: see log.txt"])
