"""Tests of tools/mutation.py: its choices, the mutants of a function, and the table of results."""

import runpy

import pytest
import yaml

import mutation
from mutation import Mutant


def test_modules_and_their_tests_exist():
    for modules in mutation.MODULES.values():
        for pattern in modules.patterns:
            assert list((mutation.ROOT / mutation.PACKAGE / "ssd").glob(pattern)), pattern
        assert all((mutation.ROOT / "tests" / path).exists() for path in modules.tests)


def test_explanations_name_files_and_functions_that_exist():
    for file, rows in yaml.safe_load(mutation.EXPLANATIONS.read_text(encoding="utf-8")).items():
        source = (mutation.ROOT / mutation.PACKAGE / file).read_text(encoding="utf-8")
        for row in rows:
            assert row["why"].endswith(".")
            for change in row["mutants"]:
                function, _, lines = change.partition(": ")
                assert f"def {function.rpartition('.')[2]}(" in source, change
                assert lines.partition(" -> ")[0] in " ".join(source.split()), change


def test_mutants_of_a_function(tmp_path, monkeypatch):
    pytest.importorskip("mutmut")
    path = tmp_path / mutation.PACKAGE / "ssd" / "double.py"
    path.parent.mkdir(parents=True)
    path.write_text("def double(value):\n    return value * 2\n")
    (tmp_path / "pyproject.toml").write_text(mutation.SETTINGS)
    monkeypatch.chdir(tmp_path)
    mutants = mutation.replace_functions("*.py")
    assert {(mutant.file, mutant.change) for mutant in mutants} == {
        ("ssd/double.py", "double: return value * 2 -> return value / 2"),
        ("ssd/double.py", "double: return value * 2 -> return value * 3"),
    }
    double = runpy.run_path(str(path), run_name="ssd.double")["double"]
    results = []
    for name in ("", *(mutant.name for mutant in sorted(mutants, key=lambda mutant: mutant.change))):
        monkeypatch.setenv("MUTANT_UNDER_TEST", name)
        results.append(double(4))
    assert results == [8, 12, 2]


def test_survivors_without_explanation_are_printed(capsys):
    mutants = [Mutant("ssd/boxes/ops.py", str(number), f"area: {number} -> 0") for number in range(4)]
    results = {"0": "killed", "1": "endless", "2": "survived", "3": "survived"}
    score = mutation.print_results(mutants, results, explained={("ssd/boxes/ops.py", "area: 2 -> 0")})
    lines = capsys.readouterr().out.splitlines()
    assert score == 0.5 and lines[1].split() == ["ssd/boxes/ops.py", "4", "2", "1", "1", "50.0%"]
    assert lines[3:] == ["survived: ssd/boxes/ops.py: area: 3 -> 0"]
