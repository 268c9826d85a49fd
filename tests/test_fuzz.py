"""The short form of `make fuzz`, and that it would notice."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import repq_fx
from repq_fx import FileFormatError
from repq_fx.ops import has_extension

from .fuzz.mutations import CANARY
from .fuzz.sandbox import Outcome, try_file
from .fuzz.seeds import SeedFile

ROOT = Path(__file__).parents[1]


@pytest.mark.skipif(not has_extension(), reason="attacks are aimed at the compiled program")
def test_damaged_files_do_no_harm(tmp_path):
    """In a fresh process: it forks, which one with threads should not."""
    command = [sys.executable, "-m", "tests.fuzz", "--mutations", "100", "--seed", "0",
               "--failures", str(tmp_path)]  # fmt: skip
    # The package as this process found it, which may be a build with sanitizers.
    places = f"{Path(repq_fx.__file__).parents[1]}{os.pathsep}{ROOT}"
    environment = os.environ | {"PYTHONPATH": places, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "100 mutations" in done.stdout


def _refuse(_):
    raise FileFormatError("damaged")


def _escape(_):
    raise KeyError("nodes")


def _crash(_):
    os.kill(os.getpid(), signal.SIGKILL)  # Others would print a dump of pytest


def _execute(_):
    Path(CANARY).touch()


def _nothing(_):
    return None


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("load", "use", "outcome"),
    [
        (_nothing, _nothing, Outcome.RAN),
        (_refuse, _nothing, Outcome.REFUSED),
        (_nothing, _escape, Outcome.FAILED_IN_USE),
        (_escape, _nothing, Outcome.ESCAPED),
        (_crash, _nothing, Outcome.KILLED),
        (_nothing, _crash, Outcome.KILLED),
        (_execute, _nothing, Outcome.EXECUTED),
        (_nothing, _execute, Outcome.EXECUTED),
    ],
)
def test_every_outcome_is_noticed(load, use, outcome, tmp_path):
    assert try_file(SeedFile(b"", load, use), b"content", tmp_path).outcome is outcome


def test_outcomes_that_are_faults():
    faults = {each for each in Outcome if each.is_fault}
    assert faults == {Outcome.ESCAPED, Outcome.KILLED, Outcome.EXECUTED}
