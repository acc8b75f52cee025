"""Tests that need an interpreter of their own."""

from __future__ import annotations

import os
import subprocess
import sys


def run_python(text: str, **environment: str) -> str:
    """What a fresh interpreter prints, which must end well and in time."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", text],
        env={**os.environ, **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
