"""Evidence: what a test saw is printed even when it passes."""

import contextlib
import os
import random
import time

import pytest


def tell(request: pytest.FixtureRequest, *lines: str) -> None:
    """Print to the terminal, past pytest's capture."""
    plugins = request.config.pluginmanager
    capture, terminal = plugins.get_plugin("capturemanager"), plugins.get_plugin("terminalreporter")
    if terminal is None:
        return
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        terminal.ensure_newline()
        for line in lines:
            terminal.write_line(line)


def chance(request: pytest.FixtureRequest) -> random.Random:
    """Another course of events each time; CRASH_SEED repeats the test's own part of one."""
    seed = int(os.environ.get("CRASH_SEED") or time.time_ns() % 1_000_000)
    tell(request, f"CRASH_SEED={seed}")
    return random.Random(seed)
