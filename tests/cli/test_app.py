"""The command group: version, help that fits a terminal, errors as one sentence."""

import re
import sys

import pytest
import torch
from typer.testing import CliRunner

import repq_fx
from repq_fx.cli.app import app

COMMANDS = ("demo", "quantize", "fuse", "predict", "val", "bench")


def test_version_and_kernels(repq):
    code, output, _ = repq("--version")
    assert code == 0
    assert output.startswith(f"repq_fx {repq_fx.__version__}, torch {torch.__version__}, ")
    assert ("compiled kernels for CPU" in output) == repq_fx.ops.has_extension()


def help_of(*arguments):
    found = CliRunner(env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).invoke(
        app, [*arguments, "--help"]
    )
    assert found.exit_code == 0
    return found.output


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_terminal_and_shows_defaults(command):
    text = help_of(command)
    assert max(map(len, text.splitlines())) <= 80
    # Words of the frame and of wrapped columns aside.
    flat = re.sub(r"[│\s]+", " ", text)
    for option in re.findall(r" --([a-z-]+) ", flat):
        entry = flat.split(f"--{option} ", 1)[1].split(" --", 1)[0]
        assert re.search(r"default:|required|Show this message", entry), option


def test_help_lists_the_commands():
    text = help_of()
    assert all(command in text for command in COMMANDS)
    assert "--version" in text


def test_a_system_error_is_one_sentence_with_its_file(repq, monkeypatch):
    def fail(*args, **options):
        raise OSError(28, "No space left on device", "/x/model.repq")

    monkeypatch.setattr("repq_fx.cli.quantize.require_writable_with_report", fail)
    code, _, error = repq("quantize", "a:b", "--data", "d", "--out", "m.repq")
    assert code == 1
    assert error == "repq: '/x/model.repq': No space left on device.\n"


def test_python_dash_m_is_the_command(monkeypatch, capsys):
    import runpy

    monkeypatch.setattr(sys, "argv", ["repq_fx", "--version"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("repq_fx", run_name="__main__")
    assert not stop.value.code
    assert "repq_fx" in capsys.readouterr().out
