"""Messages of this project: which are printed, where, and by which process of a launch."""

import logging

import pytest

from ssd.runtime.log import set_up_logging


@pytest.fixture(autouse=True)
def default_settings():
    yield
    set_up_logging()


@pytest.fixture
def log():
    return logging.getLogger("ssd.somewhere.deep")


def log_all(log):
    log.debug("details")
    log.info("result")
    log.warning("doubt")


def test_information_goes_to_stdout_and_warnings_to_stderr(log, capsys):
    set_up_logging()
    log_all(log)
    assert capsys.readouterr() == ("result\n", "doubt\n")


def test_verbose_adds_details_and_their_module(log, capsys):
    set_up_logging(verbose=True)
    log_all(log)
    out, err = capsys.readouterr()
    assert "ssd.somewhere.deep: details" in out and "result" in out and "doubt" in err


@pytest.mark.parametrize("rank, expected", [("0", ("result\n", "doubt\n")), ("3", ("", "doubt\n"))])
def test_other_ranks_print_warnings_only(rank, expected, log, capsys, monkeypatch):
    monkeypatch.setenv("RANK_SIZE", "8")
    monkeypatch.setenv("RANK_ID", rank)
    set_up_logging()
    log_all(log)
    assert capsys.readouterr() == expected


@pytest.mark.parametrize("rank", ["3", "text", ""])
def test_a_rank_left_in_the_shell_hides_nothing(rank, log, capsys, monkeypatch):
    for name in ("MS_ROLE", "RANK_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK_ID", rank)
    set_up_logging()
    log_all(log)
    assert capsys.readouterr() == ("result\n", "doubt\n")


def test_a_second_call_replaces_the_first(log, capsys):
    set_up_logging(verbose=True)
    set_up_logging()
    log_all(log)
    assert capsys.readouterr() == ("result\n", "doubt\n")


def test_loggers_of_other_packages_are_left_alone(capsys):
    set_up_logging()
    logging.getLogger("someone.else").info("chatter")
    assert capsys.readouterr() == ("", "")
