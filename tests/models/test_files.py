"""Files written whole or not at all."""

import pytest
from codeclens.models.errors import InputError
from codeclens.models.files import write_text, writing


def test_a_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "clip.mp4"
    with writing(path) as partial:
        partial.write_bytes(b"whole")
        assert partial.parent == path.parent and not path.exists()
    assert path.read_bytes() == b"whole"
    assert [entry.name for entry in tmp_path.iterdir()] == ["clip.mp4"]


def test_an_error_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "plan.json"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="stopped"), writing(path) as partial:
        partial.write_text("half of the ne")
        raise RuntimeError("stopped")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.json"]


def test_what_the_system_refuses_is_one_sentence_with_the_file(tmp_path):
    path = tmp_path / "missing" / "plan.json"
    with pytest.raises(InputError, match=r"plan\.json cannot be written: No such file or directory"):
        write_text(path, "new")


def test_text_is_utf8(tmp_path):
    write_text(tmp_path / "caption.txt", "caf\u00e9")
    assert (tmp_path / "caption.txt").read_bytes() == b"caf\xc3\xa9"
