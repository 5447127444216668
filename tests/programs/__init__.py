"""Programs that tests run in processes of their own: `python -m tests.programs.NAME`."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def start_program(name, *arguments, **environment):
    """A process that runs a program of tests/programs."""
    command = [sys.executable, "-m", f"tests.programs.{name}", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, **environment}, cwd=ROOT, **pipes)


def run_program(name, *arguments, **environment):
    """Runs a program of tests/programs in a fresh process and returns its standard output; fails the test with its errors."""
    process = start_program(name, *arguments, **environment)
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, output + errors
    return output
