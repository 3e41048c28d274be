"""Read the files of a folder, to compare them before and after a command."""


def read_files(out):
    """Return {relative path: bytes} of every file under a folder."""
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
