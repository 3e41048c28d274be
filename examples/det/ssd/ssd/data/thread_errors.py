"""Pass errors from MindSpore's data threads to the caller as UserError.

MindSpore replaces an exception in a data thread by a RuntimeError, whose text quotes a traceback. The original message
cannot be restored from this text in all cases, so the exception itself is kept.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mindspore.dataset as ds

from ..errors import UserError, mindspore_reason


class ErrorRecorder:
    """A `per_batch_map` function that keeps the first UserError of a transform until raise_thread_errors raises it.

    MindSpore copies datasets, but all copies share this object. Data threads must not be separate processes.

    transform: function of the columns of a batch and MindSpore's BatchInfo
    shard: path of the first shard. Messages start with its folder, because both splits may have the same image ids.
    """

    def __init__(self, transform: Callable[..., Any], shard: str):
        self.transform = transform
        self.shard = shard
        self.error: UserError | None = None
        self.__signature__ = inspect.signature(transform)  # MindSpore compares its length with the number of columns

    def __call__(self, *columns: Any) -> Any:
        try:
            return self.transform(*columns)
        except UserError as error:
            self.error = self.error or UserError(f"{Path(self.shard).parent}: {error}")
            raise


@contextlib.contextmanager
def raise_thread_errors(dataset: ds.Dataset) -> Iterator[None]:
    """Convert errors of the data threads of a dataset, which are raised inside the context, to UserError.

    dataset: dataset of create_dataset; other datasets are accepted, and their errors stay as they are
    """
    recorder = getattr(dataset, "per_batch_map", None)
    try:
        yield
    except RuntimeError as error:
        if not isinstance(recorder, ErrorRecorder):
            raise
        if recorder.error is not None:
            first, recorder.error = recorder.error, None
            raise first from None
        # Errors of Python code are bugs here, and errors of the network have nothing to do with the data.
        if "Dataset Pipeline Error Message" not in str(error) or "Python Call Stack" in str(error):
            raise
        raise _shard_error(recorder.shard, error) from None


@contextlib.contextmanager
def shard_errors(shard: str) -> Iterator[None]:
    """Convert errors of MindSpore inside the context to UserError. shard: path of the first shard"""
    try:
        yield
    except RuntimeError as error:
        raise _shard_error(shard, error) from None


def _shard_error(shard: str, error: RuntimeError) -> UserError:
    return UserError(
        f"{shard}: MindSpore cannot read the shards ({mindspore_reason(error)}). Copy the shards again or rerun "
        "create_data.py."
    )
