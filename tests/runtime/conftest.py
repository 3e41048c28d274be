"""Fixtures for tests of jobs of several ranks."""

import pytest

from msrun_job import Job


@pytest.fixture
def start(tmp_path):
    """start(command, **arguments of Job) starts a job. Its processes are killed after the test."""
    jobs = []

    def start_job(command, name="logs", **arguments):
        jobs.append(Job(tmp_path / name, command, **arguments))
        return jobs[-1]

    yield start_job
    for job in jobs:
        job.kill()
