"""The steps of a run: what is saved, and when, and how a run ends."""

import time

import pytest
from codeclens.models.errors import InputError
from codeclens.models.progress import no_progress
from codeclens.models.training import checkpoints
from codeclens.models.training.checkpoints import CHECKPOINT, checkpoint_path, deadline_after, run_steps


class Counting:
    """Counts its steps, and says at which it was saved."""

    def __init__(self):
        self.step, self.saved = 0, []

    def advance(self):
        self.step += 1

    def save(self, path):
        self.saved.append(self.step)


def test_a_run_ends_at_its_last_step_and_is_saved_once(tmp_path):
    training, seen = Counting(), []
    run_steps(training, 5, training.advance, tmp_path, deadline_after(None), lambda *done: seen.append(done))
    assert training.step == 5 and training.saved == [5]
    assert seen == [(step, 5) for step in range(6)]


def test_a_run_is_saved_on_its_way(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SAVE_EVERY", -1)
    training = Counting()
    run_steps(training, 3, training.advance, tmp_path, deadline_after(None), no_progress)
    assert training.saved == [1, 2, 3, 3]


def test_a_run_past_its_deadline_takes_one_step_more(tmp_path):
    training = Counting()
    run_steps(training, 5, training.advance, tmp_path, time.monotonic() - 1, no_progress)
    assert training.step == 1 and training.saved == [1]
    run_steps(training, 5, training.advance, tmp_path, deadline_after(1), no_progress)
    assert training.step == 5


def test_what_raises_leaves_the_last_whole_step(tmp_path):
    training = Counting()

    def advance():
        if training.step == 2:
            raise KeyboardInterrupt
        training.advance()

    with pytest.raises(KeyboardInterrupt):
        run_steps(training, 5, advance, tmp_path, deadline_after(None), no_progress)
    assert training.saved == [2]


def test_a_checkpoint_is_resumed_or_refused(tmp_path):
    assert checkpoint_path(tmp_path, resume=False) == tmp_path / CHECKPOINT
    with pytest.raises(InputError, match="does not exist; there is nothing to resume"):
        checkpoint_path(tmp_path, resume=True)
    (tmp_path / CHECKPOINT).touch()
    assert checkpoint_path(tmp_path, resume=True) == tmp_path / CHECKPOINT
    with pytest.raises(InputError, match="exists; resume it"):
        checkpoint_path(tmp_path, resume=False)
