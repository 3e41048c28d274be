"""Prepare the process of a command before slow modules load: Ctrl-C ends it cleanly, and lost output does not end it.

The module imports only modules that are part of the interpreter, because Ctrl-C before `prepare_process` prints a
traceback.
"""

from __future__ import annotations

import errno
import io
import os
import sys

TYPE_CHECKING = False  # type checkers take it for True; the module `typing` loads slowly
if TYPE_CHECKING:
    import signal
    from types import FrameType
    from typing import Any
else:
    import _signal as signal  # without the enums of `signal`, which take 3 ms or more to load

INTERRUPTED_EXIT_CODE = 130
# SIGTERM is the signal of `kill`, and SIGHUP that of a closed terminal. Also, MindSpore 2.10 turns Ctrl-C into SIGTERM
# after the first graph was compiled, and installs its handler again each time a graph runs.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_stdout_error: OSError | None = None  # first error at which output to stdout was lost


def prepare_process() -> None:
    """Let Ctrl-C end this process with one line and code 130, and let print() survive streams that cannot be written.

    Call the function before the other imports of a script, only if the script is the main module. `interruptible`
    replaces the handling of Ctrl-C while `main()` runs.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # otherwise the parent process ignores Ctrl-C
        signal.signal(signal.SIGINT, exit_at_once)
    _open_closed_descriptors()
    if sys.stdout is sys.__stdout__:  # not replaced by a program that calls the command
        sys.stdout = _create_stream(sys.stdout, 1)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _create_stream(sys.stderr, 2)


def exit_at_once(*_: object) -> None:
    """Handle a signal: print one line and exit, without exit handlers, which half-loaded modules would break."""
    try:
        sys.stdout.flush()
    except (AttributeError, OSError, RuntimeError, ValueError):  # closed, or interrupted by the signal in a write
        pass
    _write_to_stderr("interrupted")
    os._exit(INTERRUPTED_EXIT_CODE)


def stop_signals() -> list[int]:
    """Return the signals that ask a process to stop. SIGHUP is left out if `nohup` has started the process."""
    is_nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [number for number in SIGNALS if not (is_nohup and number == signal.SIGHUP)]


def is_launched() -> bool:
    """Return True if a launcher has started this process as one of several, or has left its variables in the shell."""
    return bool(os.environ.get("MS_ROLE")) or os.environ.get("RANK_SIZE", "") not in ("", "1")


class interruptible:
    """Context manager in which Ctrl-C, SIGTERM and SIGHUP raise KeyboardInterrupt. Only the main thread is affected.

    During an import, and while MindSpore compiles or runs a graph, the signals end the process at once. A
    KeyboardInterrupt there makes MindSpore 2.10 print up to hundreds of lines, and abort or raise another error. The
    same holds while an object is freed, because Python would print the KeyboardInterrupt there and go on. MindRecord
    files are an exception, because their writer removes unfinished files.

    In a launched process, SIGTERM and SIGHUP kill the process, also while it waits in C++ code for other ranks.
    """

    def __enter__(self) -> None:
        self.previous: dict[int, Any] = {}
        self.unraisable_hook = sys.unraisablehook
        for number in [signal.SIGINT] if is_launched() else stop_signals():
            handler = signal.getsignal(number)
            if handler in (signal.default_int_handler, exit_at_once, signal.SIG_DFL):
                try:
                    self.previous[number] = signal.signal(number, _interrupt)
                except ValueError:  # not in the main thread
                    return
        sys.unraisablehook = _exit_if_interrupted

    def __exit__(self, *error: object) -> None:
        for number, handler in self.previous.items():
            if signal.getsignal(number) is _interrupt:
                signal.signal(number, handler)
        sys.unraisablehook = self.unraisable_hook


def exit_silently_on_signals() -> None:
    """Let further signals end a process that is exiting, without a traceback of a function that frees a network."""
    for number in stop_signals():
        try:
            signal.signal(number, lambda *_: os._exit(INTERRUPTED_EXIT_CODE))
        except ValueError:  # not in the main thread
            return


def stdout_error() -> OSError | None:
    """Return the first error at which output to stdout was lost, or None. A reader that went away is no error."""
    if sys.stdout is not None:
        sys.stdout.flush()
    return None if _stdout_error is None or _stdout_error.errno == errno.EPIPE else _stdout_error


# Escapes of control characters except line ends and tabs, and of characters that change the direction of writing. \r is
# left to _EscapingStream.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n\r"}
_ESCAPES |= {code: f"\\u{code:04x}" for code in (0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))}


class _LossyFile(io.FileIO):
    """Output file that drops what cannot be written, so that no print() fails. The first loss of stdout is reported.

    Later text is written again if, for example, the disk has space again.

    descriptor: 1 for stdout, 2 for stderr
    """

    def __init__(self, descriptor: int):
        super().__init__(descriptor, "w", closefd=False)

    def write(self, data: Any) -> int:
        global _stdout_error
        try:
            while (written := super().write(data)) is None:  # full, and made non-blocking by another process
                import select  # rarely needed

                select.select([], [self], [])
            return written
        except OSError as error:
            if self.fileno() == 1 and _stdout_error is None:
                _stdout_error = error
                reason = (error.strerror or str(error)).lower()
                _write_to_stderr(f"stdout: cannot be written ({reason}). The command continues without this output.")
            return memoryview(data).nbytes


class _EscapingStream(io.TextIOWrapper):
    """Text stream that writes control characters as backslash escapes.

    Names of classes and files of other people could otherwise clear the terminal, change its title or overwrite lines.
    """

    def write(self, text: str) -> int:
        if not text.replace("\x1b[A", "").strip("\n"):  # tqdm writes this to move between two progress bars
            super().write(text)
            return len(text)
        start, rest = text[:1], text[1:]  # progress bars start with \r
        if "\r" in rest:
            rest = "\r\n".join(line.replace("\r", "\\r") for line in rest.split("\r\n"))
        super().write((start + rest).translate(_ESCAPES))
        return len(text)


def _create_stream(stream: Any, descriptor: int) -> io.TextIOWrapper:
    """Return a text stream like sys.stdout or sys.stderr that never raises OSError.

    stream: stream that Python has opened; None if the descriptor was closed when Python started
    descriptor: 1 for stdout, 2 for stderr
    """
    if stream is not None:
        stream.flush()
    raw = _LossyFile(descriptor)
    is_unbuffered = stream is not None and isinstance(stream.buffer, io.RawIOBase)  # `python -u`
    return _EscapingStream(
        raw if is_unbuffered else io.BufferedWriter(raw),
        encoding=stream.encoding if stream else "utf-8",
        errors="backslashreplace",  # for file names that are not UTF-8, which print() would otherwise refuse
        line_buffering=stream.line_buffering if stream else descriptor == 2,
        write_through=stream.write_through if stream else False,
    )


def _open_closed_descriptors() -> None:
    """Open the null device for each closed standard stream.

    Otherwise the next file that is opened gets the number of stdout, and MindSpore's C++ code would print into it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is `descriptor`
            os.set_inheritable(descriptor, True)


def _write_to_stderr(line: str) -> None:
    try:
        os.write(2, f"{line}\n".encode())  # not print(), which a signal may have interrupted
    except OSError:
        pass


def _interrupt(number: int, frame: FrameType | None) -> None:
    caller = frame
    while caller:
        module = caller.f_globals.get("__name__") or ""
        is_graph_code = module.startswith("mindspore.") and not module.startswith("mindspore.mindrecord")
        if is_graph_code or caller.f_code.co_filename == "<frozen importlib._bootstrap>":
            exit_at_once()
        caller = caller.f_back
    raise KeyboardInterrupt


def _exit_if_interrupted(unraisable: sys.UnraisableHookArgs) -> None:
    """Handle an exception of a function that frees an object, or of a signal that arrived with another one.

    If the handler of the first signal sets the default action of the second signal, Python drops the second one, and
    reports an OSError. The first signal already stops the command.
    """
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        exit_at_once()
    if "ignored due to race condition" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)
