"""Outputs that cannot be written are refused before the work."""

import pytest

from repq_fx import RepqError
from repq_fx.cli.outputs import report_path, require_writable, require_writable_with_report


def test_checking_leaves_nothing_behind(tmp_path):
    old = tmp_path / "old.repq"
    old.write_text("content")
    require_writable_with_report(old, "--out", ".repq")
    require_writable(tmp_path / "NEW.REPQ", "--out", ".repq")
    assert [path.name for path in tmp_path.iterdir()] == ["old.repq"]
    assert old.read_text() == "content"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("m.pt", r"--out must end in \.repq, got '.*m\.pt'"),
        ("m", r"--out must end in \.repq, got"),
        ("nowhere/m.repq", "--out: there is no folder '.*nowhere'"),
        ("file/m.repq", "--out: there is no folder '.*file'"),
        ("folder.repq", "--out: .*no regular file"),
        ("taken.repq", r"--out: .*taken\.repq\.json.*no regular file"),
    ],
    ids=lambda value: value.replace("/", "-"),
)
def test_bad_places_are_named(name, message, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.repq").mkdir()
    (tmp_path / "taken.repq.json").mkdir()
    with pytest.raises(RepqError, match=message):
        require_writable_with_report(tmp_path / name, "--out", ".repq")


def test_the_report_is_beside_the_file(tmp_path):
    assert report_path(tmp_path / "m.repq") == tmp_path / "m.repq.json"
