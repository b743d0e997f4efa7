"""All or nothing: what lies in the output folder after success, failure and a full disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from salve_audit.audit.publish import check_writable, publishing
from salve_audit.errors import OutputError


def test_a_new_folder_appears_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "report"
    with publishing(out) as stage:
        (stage / "audit.json").write_text("{}")
        assert not out.exists()
    assert [p.name for p in out.iterdir()] == ["audit.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["deep"]


def test_an_existing_folder_keeps_strangers_and_loses_stale_results(tmp_path: Path) -> None:
    for name in ("mine.txt", "report.pdf", "audit.json"):
        (tmp_path / name).write_text("old")
    with publishing(tmp_path) as stage:
        (stage / "audit.json").write_text("new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["audit.json", "mine.txt"]
    assert (tmp_path / "audit.json").read_text() == "new"


@pytest.mark.parametrize("existing", [True, False])
def test_an_error_leaves_everything_as_it_was(tmp_path: Path, existing: bool) -> None:
    out = tmp_path / "out"
    if existing:
        out.mkdir()
        (out / "audit.json").write_text("old")

    def interrupted() -> None:
        with publishing(out) as stage:
            (stage / "audit.json").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert out.exists() == existing
    assert [p.name for p in tmp_path.iterdir()] == (["out"] if existing else [])
    if existing:
        assert [(p.name, p.read_text()) for p in out.iterdir()] == [("audit.json", "old")]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OutputError, match=r"out: cannot be written \(No space left on device\)"), publishing(out):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        check_writable(file)
    with pytest.raises(OutputError, match=r"cannot be written|is not a folder"):
        check_writable(file / "below")


def test_a_folder_that_can_be_made_is_not_made_yet(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


PUBLISHER = """
import sys, time
from pathlib import Path
from salve_audit.audit.publish import publishing
with publishing(Path(sys.argv[1])) as stage:
    (stage / "audit.json").write_text("half")
    print("writing", flush=True)
    time.sleep(3600)
"""


@pytest.mark.skipif(os.name == "nt", reason="folders cannot be locked")
def test_what_a_killed_process_was_writing_is_removed_by_the_next(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PUBLISHER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (stage,) = tmp_path.iterdir()
        os.utime(stage, (0, 0))
        check_writable(tmp_path)
        assert (stage / "audit.json").read_text() == "half", "its owner lives"
        process.kill()
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []
