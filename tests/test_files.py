"""Writing files: a reader finds all old entries or all new ones, whenever the writer is interrupted."""

from pathlib import Path

import pytest
from conftest import interrupted_renaming

from ddpm_demo.files import find_newest, replace_together

NAMES = ("a.txt", "b", "c")  # a file and two folders


def write(folder: Path, text: str, names=NAMES) -> None:
    with replace_together(folder) as place:
        for name in names:
            path = place / name / "inside.txt" if "." not in name else place / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)


def read(folder: Path) -> list[str]:
    places = [find_newest(folder, name) for name in NAMES]
    return [(path / "inside.txt" if path.is_dir() else path).read_text() for path in places]


@pytest.mark.parametrize("k", range(8))
def test_an_interruption_at_any_time_leaves_all_old_entries_or_all_new_ones(tmp_path, k):
    """The replacement has seven renamings: one of the whole, and for each entry the old one aside and the new one in."""
    write(tmp_path, "old")
    (tmp_path / "other").write_text("kept")
    with interrupted_renaming(k):
        try:
            write(tmp_path, "new")
            assert k == 7
        except KeyboardInterrupt:
            assert k < 7
    assert read(tmp_path) == (["new"] if k else ["old"]) * 3
    write(tmp_path, "third", ["b"])  # another part alone
    first = "new" if k else "old"
    assert read(tmp_path) == [first, "third", first]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*NAMES, "other"]


def test_a_failure_while_writing_leaves_the_old_entries(tmp_path):
    write(tmp_path, "old")
    with pytest.raises(FileNotFoundError):
        write(tmp_path, "new", ["b", "no/such/folder"])
    assert read(tmp_path) == ["old"] * 3
