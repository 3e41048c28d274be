"""Parse command lines with the parsers of the scripts that they run, without doing the work of the scripts."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import io
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest
import yaml

from markdown_pages import ROOT
from ssd.__main__ import SCRIPTS
from ssd.config.command_line import parse_overrides
from ssd.config.loading import load_config
from ssd.errors import UserError

# Programs whose options are not checked.
OTHER_PROGRAMS = set(
    ". cat cd conda converter_lite cp curl df docker export free git hccn_tool head jupyter kill ls lscpu mkdir msit "
    "mv nproc npu-smi pip pre-commit ps rm source ss tail tar tensorboard ulimit uname unset unzip wget".split()
)
WRAPPERS = {"nohup", "sudo", "taskset", "time"}  # programs that run the command in their arguments
PYTHON = re.compile(r"(\.venv/bin/)?python3?(\.\d+)?")
MODULES = {"pip", "pytest", "venv", "mypy", "ruff"}  # for python -m
REDIRECTIONS = {">", ">>"}
OPERATORS = {"&&", "||", "|", ";", "&"}
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)


class Parsed(BaseException):
    """Raised instead of doing work, once the arguments are parsed. Not an Exception, so that scripts do not catch it.

    result: what the parser returned
    """

    def __init__(self, result: object):
        self.result = result


def check_line(line: str) -> None:
    """Check one line of a shell. Raises UserError if the line cannot run as written."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, "#"
    command: list[str] = []
    for word in [*lexer, ";"]:
        if word in OPERATORS:
            if command:
                check_command(command)
            command = []
        elif word and set(word) <= set("<>()|&;") and word not in REDIRECTIONS:
            raise UserError(f"{line}: {word!r} is not an operator that pages may use. Rewrite the command.")
        else:
            command.append(word)


def check_command(words: list[str]) -> None:
    """Check one command. words: its words, after assignments of variables. Raises UserError if it cannot run."""
    while words and ASSIGNMENT.fullmatch(words[0]):
        words = words[1:]
    if not words:
        return
    program, arguments = words[0], words[1:]
    end = next((index for index, word in enumerate(arguments) if word in REDIRECTIONS), len(arguments))
    arguments = arguments[:end]
    if PYTHON.fullmatch(program):
        _check_python(arguments)
    elif program == "ssd":
        if arguments and arguments[0] not in ("--help", "--version"):
            if arguments[0] not in SCRIPTS:
                _refuse(f"ssd {arguments[0]}", "not a command of ssd")
            check_script(SCRIPTS[arguments[0]], arguments[1:])
    elif program == "make":
        _check_make(arguments)
    elif program == "msrun":
        _check_msrun(arguments)
    elif program == "bash":
        if arguments[:1] != ["ascend8p.sh"]:
            _refuse(" ".join(words), "not a script of this repository")
        rest = arguments[1:]
        recipe = rest.pop(0) if rest and not rest[0].startswith("--") else "examples/det/ssd/ssd_mobilenetv2.yaml"
        check_script("examples/det/ssd/train.py", ["--config", recipe, *rest])  # as ascend8p.sh does
    elif program in WRAPPERS or (program == "docker" and arguments[:1] == ["run"]):
        starts = [i for i, word in enumerate(arguments) if PYTHON.fullmatch(word) or word in ("msrun", "make", "bash")]
        if starts:
            check_command(arguments[starts[0] :])
    elif program not in OTHER_PROGRAMS:
        _refuse(program, "not a program that pages may use")


def _refuse(place: str, problem: str) -> NoReturn:
    raise UserError(f"{place}: {problem}. Correct the command.")


def _check_python(arguments: list[str]) -> None:
    while arguments and arguments[0] in ("-u", "-X", "-W"):
        arguments = arguments[1:]
    if not arguments:
        _refuse("python", "no script")
    if arguments[0] == "-c":
        compile(arguments[1], "command", "exec")
    elif arguments[0] == "-m":
        if arguments[1] not in MODULES:
            _refuse(f"python -m {arguments[1]}", "not a module that pages may run")
    else:
        check_script(arguments[0], arguments[1:])


@functools.cache
def read_makefile() -> tuple[set[str], set[str]]:
    """Return the targets of the Makefile, and the variables that a command may set."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {name for line in re.findall(r"^\.PHONY: (.+)$", text, re.MULTILINE) for name in line.split()}
    return targets, {
        name for names in re.findall(r"^(\w+) \?=|^ifdef (\w+)|\$\(if \$\((\w+)", text, re.M) for name in names
    }


def _check_make(arguments: list[str]) -> None:
    targets, variables = read_makefile()
    for word in arguments:
        name, equals, value = word.partition("=")
        if name not in (variables if equals else targets):
            _refuse(f"make {word}", "the Makefile has no such target or variable")
        if name == "CONFIG":
            load_recipe(value, {})


def _check_msrun(arguments: list[str]) -> None:
    from mindspore.parallel.cluster.run import get_args

    args = call_parser(get_args, "msrun", arguments)
    if args is None:  # --help
        return
    if args.task_script.endswith(".py"):
        check_script(args.task_script, args.task_script_args)
    else:
        check_command([args.task_script, *args.task_script_args])


def load_recipe(path: str, overrides: dict) -> None:
    """Load a recipe that a command names, with its overrides. Data on this machine has no influence."""
    load_config(ROOT / path, {**overrides, "data_dir": "/nowhere"})


def check_script(script: str, arguments: list[str]) -> None:
    """Parse the arguments of a script with its own parser, and load the recipe with the overrides.

    script: path below the root of the repository
    Raises UserError if the script does not exist, or an option, a recipe or a key is wrong.
    """
    if not re.fullmatch(r"(examples/det/ssd|tools)/\w+\.py", script) or not (ROOT / script).is_file():
        _refuse(script, "no such script")
    args, rest = parse_arguments(script, arguments)
    if args is None:  # --help
        return
    recipe = getattr(args, "config", None)
    study = getattr(args, "study", None)
    if study is not None:  # its recipe is a path relative to the study
        if not (ROOT / study).is_file():
            _refuse(str(study), "no such file")
        recipe = study.parent / yaml.safe_load((ROOT / study).read_text(encoding="utf-8"))["recipe"]
    if recipe is None and rest:
        _refuse(script, f"unknown argument {rest[0]}")
    for path in [recipe] if isinstance(recipe, (str, Path)) else recipe or []:
        load_recipe(str(path), parse_overrides(rest))


def parse_arguments(script: str, arguments: list[str]) -> tuple[argparse.Namespace | None, list[str]]:
    """Return the options of a script and the remaining arguments, which are recipe keys. (None, []) for --help.

    A script with a function parse_args or parse_arguments is parsed by it. Any other script runs until its parser
    has returned.

    Raises UserError with the message of the parser.
    """
    module = load_script(script)
    parse = getattr(module, "parse_args", None) or getattr(module, "parse_arguments", None) or module.main
    with stop_after_parsing(active=parse is module.main):
        result = call_parser(parse, script, arguments)
    return result if isinstance(result, tuple) else (result, [])


def call_parser(parse: Callable[[], Any], program: str, arguments: list[str]) -> Any:
    """Return the result of a function that parses sys.argv, or None for --help. Raises UserError with its message."""
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages), contextlib.redirect_stdout(io.StringIO()):
            with command_line(program, arguments):
                return parse()
    except Parsed as parsed:
        return parsed.result
    except SystemExit as end:
        if end.code == 0:
            return None
        reason = messages.getvalue().strip().splitlines()[-1:] or [str(end.code)]
        raise UserError(f"{program} {shlex.join(arguments)}: {reason[0]}. Correct the command.") from None


@functools.cache
def load_script(script: str) -> ModuleType:
    """Import a script under a name of its own, so that it does not run."""
    spec = importlib.util.spec_from_file_location(f"script_{Path(script).stem}", ROOT / script)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)  # dataclasses look for their module there
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def command_line(program: str, arguments: list[str]) -> Iterator[None]:
    """Make these arguments those of the process, in the root of the repository, and not under a launcher."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [program, *arguments])
        patch.delenv("MS_ROLE", raising=False)
        patch.chdir(ROOT)
        yield


@contextlib.contextmanager
def stop_after_parsing(active: bool) -> Iterator[None]:
    """Raise Parsed when an argument parser has parsed a command line. active: False changes nothing"""
    parse_args, parse_known_args = argparse.ArgumentParser.parse_args, argparse.ArgumentParser.parse_known_args

    def parse_all_and_stop(parser, args=None, namespace=None):
        result, rest = parse_known_args(parser, args, namespace)
        if rest:
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        raise Parsed(result)

    def parse_known_and_stop(parser, args=None, namespace=None):
        raise Parsed(parse_known_args(parser, args, namespace))

    with pytest.MonkeyPatch.context() as patch:
        if active:
            patch.setattr(argparse.ArgumentParser, "parse_args", parse_all_and_stop)
            patch.setattr(argparse.ArgumentParser, "parse_known_args", parse_known_and_stop)
        yield
    assert argparse.ArgumentParser.parse_args is parse_args
