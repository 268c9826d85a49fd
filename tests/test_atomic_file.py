"""A file appears whole or not at all."""

import os

import pytest

from repq_fx.export import require_writable, write_atomically


def test_replaces_the_old_content(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_file_behind_a_link_is_written(tmp_path):
    (tmp_path / "folder").mkdir()
    path, link = tmp_path / "folder" / "file", tmp_path / "link"
    for before in (None, b"old"):
        if before is not None:
            path.write_bytes(before)
        link.unlink(missing_ok=True)
        link.symlink_to(path)
        write_atomically(link, b"new")
        assert link.is_symlink()
        assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_an_existing_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o604)
    write_atomically(path, b"new")
    assert path.stat().st_mode & 0o777 == 0o604


def test_what_is_no_regular_file_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    link = tmp_path / "link"
    link.symlink_to(os.devnull)
    for path in (pipe, link, tmp_path):
        with pytest.raises(OSError, match=f"cannot write '{path}': it is no regular file"):
            write_atomically(path, b"new")
    assert pipe.is_fifo()
    assert sorted(tmp_path.iterdir()) == [link, pipe]


def test_what_killed_runs_left_is_removed_after_a_day(tmp_path):
    path = tmp_path / "file"
    stale, recent, other, foreign = (
        tmp_path / name
        for name in (
            ".file.abc.repq-part", ".file.def.repq-part", ".other.abc.repq-part", ".file.backup"
        )
    )  # fmt: skip
    for left in (stale, recent, other, foreign):
        left.write_bytes(b"part")
    for left in (stale, other, foreign):
        os.utime(left, (0, 0))
    write_atomically(path, b"new")
    assert sorted(tmp_path.iterdir()) == sorted([path, recent, other, foreign])


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127], ids=["letters", "accents"])
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path, name):
    write_atomically(tmp_path / name, b"new")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_asking_whether_a_file_could_be_written_leaves_nothing(tmp_path):
    kept = tmp_path / "kept"
    kept.write_bytes(b"old")
    require_writable(kept)
    require_writable(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert kept.read_bytes() == b"old"
    for place in (tmp_path, tmp_path / "nowhere" / "new", kept / "below"):
        with pytest.raises(OSError, match="cannot write"):
            require_writable(place)
