"""Files that are either the old one or the new one, never a part."""

import contextlib
import os
import secrets


def write_file(path, data: bytes) -> None:
    """Put `data` in place of what `path` holds.

    Written under another name in the same folder, synced to the disk, then renamed: whoever opens
    `path`, even after the process was killed or the power failed, finds the old file or the new
    one, whole. A link is followed; the permissions of an old file are kept. Raises OSError.
    """
    path = os.path.realpath(path)
    folder, name = os.path.split(path)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"filepath: expected a folder that exists, received {folder!r}")
    with naming(path):
        _write_file(path, folder, name, data)


@contextlib.contextmanager
def naming(path):
    """Errors of files that stand for a while where `path` will be name `path` instead."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from None


def _write_file(path, folder, name, data):
    temporary = os.path.join(folder, f".{name}.{secrets.token_hex(6)}.tmp")
    mode = os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o666
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    if os.name == "posix":  # the renaming itself has to reach the disk
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
