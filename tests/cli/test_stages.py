"""What is said while a command works."""

import re
import time

from repq_fx.cli.stages import Stages


def test_stages_are_said_before_and_kept_after(capsys):
    stages = Stages()
    with stages.stage("first", "do the first thing"):
        assert re.search(r"^ +0\.\d s  do the first thing$", capsys.readouterr().out)
        time.sleep(0.02)
    assert 0.02 <= stages.seconds["first"] < 10


def test_warnings_are_said_at_the_end(capsys, tmp_path):
    stages = Stages()
    stages.warn("mind this.")
    assert capsys.readouterr().err == ""
    stages.end(tmp_path / "a", tmp_path / "b")
    captured = capsys.readouterr()
    assert captured.err == "warning: mind this.\n"
    assert captured.out.endswith(f"wrote {tmp_path / 'a'} and {tmp_path / 'b'}\n")
    assert stages.warnings == ["mind this."]
