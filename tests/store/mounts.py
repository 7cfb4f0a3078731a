"""Small file systems for a test: read-only ones, and ones that fill up. Modes do not stop root."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

HOW = "mounting is not allowed here: run as root, or under `unshare --map-root-user --mount`"


def _run(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=20).returncode == 0
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def mounted(folder: Path, options: str = "size=4m") -> Iterator[Path]:
    """A file system of its own on this folder during the block; else the test is skipped."""
    folder.mkdir(exist_ok=True)
    if not _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)):
        pytest.skip(HOW)
    try:
        yield folder
    finally:
        # Lazily: what a failing test has left open does not keep it.
        _run("umount", "-l", str(folder))


@contextlib.contextmanager
def read_only(place: Path) -> Iterator[Path]:
    """This file or folder as it is, read-only during the block; else the test is skipped."""
    if not _run("mount", "--bind", str(place), str(place)):
        pytest.skip(HOW)
    try:
        if not _run("mount", "-o", "remount,bind,ro", str(place)):
            pytest.skip(HOW)
        yield place
    finally:
        _run("umount", "-l", str(place))


@contextlib.contextmanager
def filled(folder: Path) -> Iterator[None]:
    """No space left in this folder's file system for the time of the block."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (65536, 4096, 512, 64, 1):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size):
                    pass
    try:
        yield
    finally:
        ballast.unlink()
