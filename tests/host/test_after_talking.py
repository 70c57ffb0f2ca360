"""What describing, captioning and asking leave in the host: nothing, also when they are cancelled."""

import json
import os
import random
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from support.comfyui import ROOT, find_comfyui, host_environment, why_not
from support.gguf_files import TINY, write_pair
from support.process_state import process_state

TALKS = ("DescribeImage", "GenerateText", "CaptionVideo", "AskVideo", "AskImages")


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> dict:
    """What tests/support/talking_worker.py saw inside the host's executor, with a tiny pair of random weights."""
    if reason := why_not():
        pytest.skip(reason)
    base = tmp_path_factory.mktemp("talking")
    folder = base / "models" / "text_encoders"
    folder.mkdir(parents=True)
    model, _ = write_pair(folder, TINY, "Q8_0")
    worker = ROOT / "tests" / "support" / "talking_worker.py"
    run = subprocess.run(
        [sys.executable, worker, str(base), model.name],
        cwd=find_comfyui(),
        env=host_environment(tmp_path_factory.mktemp("site")),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.partition("RESULTS ")[2])


@pytest.fixture(scope="module")
def left(report) -> dict:
    return report["left"]


def test_every_talk_ran_and_repeats_itself(left):
    talks = left["talks"]
    assert [talk["node"] for talk in talks] == [*TALKS, *TALKS]
    assert all(talk["text"] and not talk["cancelled"] for talk in talks)
    assert [talk["text"] for talk in talks[:5]] == [talk["text"] for talk in talks[5:]]


def test_settings_threads_hooks_and_random_states_are_as_before(left):
    before, *later = left["states"]
    assert len(later) == 4
    for state in later:
        assert state == before


def test_a_following_sampler_takes_the_same_path_to_the_same_latents(left):
    """Operation by operation, shapes and dtypes included, beside the loaded model and once that was freed."""
    for runs in (left["loading"], left["sampling"]):
        first, *later = runs
        assert first["operations"] > 500 and first["finite"]
        assert later == [first] * 2


def test_only_the_reading_of_the_video_survives_its_prompt_and_no_tensor_the_button(left):
    assert left["caches made"] == 8, "four of each round: Caption Video and Ask Video have one reading"
    assert left["caches alive"] == [1, 0, 1, 0]
    before, after = left["bytes"]
    assert before > 1e6
    assert 0 <= after - before < 4096, "tables of constants, once"


def test_a_sampler_finds_the_memory_that_it_would_have_found_without_a_caption(report):
    memory = report["memory"]
    assert memory["loaded by talking"] == ["Reading", "TextModel", "VisionModel"]
    assert memory["free beside it"] < memory["capacity"]
    assert memory["loaded"] == [["WAN21"], ["WAN21"]]
    assert memory["free"] == [memory["capacity"] - memory["size"]] * 2
    assert memory["left"] == [0, 0]


MOMENTS = ("choosing", "reading", "prompt", "seeing")
BLIND = ("GenerateText", "seeing")


@pytest.mark.parametrize(
    ("name", "moment"), [(name, moment) for name in TALKS for moment in MOMENTS if (name, moment) != BLIND]
)
def test_cancelling_lets_at_most_one_more_step_begin(report, name, moment):
    """Steps are passes of the language model or of a layer of the tower, counted from the moment of the request."""
    (run,) = [run for run in report["cancelling"] if (run["node"], run["moment"]) == (name, moment)]
    assert run["pressed"] and run["cancelled"]
    assert run["after"] <= 1


def test_live_text_ends_with_the_answers_and_their_rate(report, left):
    for talk in left["talks"]:
        assert len(talk["live"]) >= 2
        last = talk["live"][-1]
        assert all(turn["tokens"] > 0 and turn["seconds"] > 0 and "writing" not in turn for turn in last)
        if talk["node"] == "AskVideo":
            assert [turn["question"] for turn in last] == ["Who?", "Where?"] and last[0]["text"] == talk["text"]
        else:
            assert last[-1]["text"] == talk["text"]
    shown = report["shown with it"]
    rate = json.loads(report["caption report"])["tokens_per_second"]
    # Seconds are shown to the millisecond, which is a tenth of what the tiny model takes for its few tokens.
    assert shown["seconds"] == pytest.approx(shown["tokens"] / rate, abs=0.0006)


def test_the_rate_counts_tokens_also_those_that_complete_no_character(report):
    """One token in half a second; then three in two seconds."""
    assert report["scripted"] == [["a", 1, 0.5], ["abc", 3, 2.0]]


def test_the_hosts_attention_is_sdpa_to_the_tower(report):
    assert len(report["attentions"]) == 12
    for shaped, error in report["attentions"].values():
        assert shaped and error < 1e-5
    assert report["tower"] < 1e-5
    assert report["through the host"] == [False, True]


def leak_a_thread():
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="left over", daemon=True)
    thread.start()

    def end():
        done.set()
        thread.join()

    return end


def leak_a_hook():
    return torch.nn.modules.module.register_module_forward_hook(lambda *_: None).remove


def leak(change, undo):
    """A leak that ``change`` makes and ``undo`` takes back."""

    def make():
        change()
        return undo

    return make


THREADS = torch.get_num_threads()
LEAKS = {
    "torch threads": leak(lambda: torch.set_num_threads(THREADS + 1), lambda: torch.set_num_threads(THREADS)),
    "python threads": leak_a_thread,
    "hooks of all modules": leak_a_hook,
    "default dtype and device": leak(
        lambda: torch.set_default_dtype(torch.bfloat16), lambda: torch.set_default_dtype(torch.float32)
    ),
    "matmul precision": leak(
        lambda: torch.set_float32_matmul_precision("medium"), lambda: torch.set_float32_matmul_precision("highest")
    ),
    "cuDNN": leak(
        lambda: setattr(torch.backends.cudnn, "benchmark", True),
        lambda: setattr(torch.backends.cudnn, "benchmark", False),
    ),
    "attention on CUDA": leak(
        lambda: torch.backends.cuda.enable_flash_sdp(False), lambda: torch.backends.cuda.enable_flash_sdp(True)
    ),
    "deterministic": leak(
        lambda: torch.use_deterministic_algorithms(True), lambda: torch.use_deterministic_algorithms(False)
    ),
    "denormals": leak(lambda: torch.set_flush_denormal(True), lambda: torch.set_flush_denormal(False)),
    "gradients": leak(lambda: torch.set_grad_enabled(False), lambda: torch.set_grad_enabled(True)),
    "random": leak(lambda: torch.rand(1), lambda: None),
    "environment": leak(
        lambda: os.environ.update(CODECLENS_LEAK="1"), lambda: os.environ.pop("CODECLENS_LEAK")
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LEAKS)
def test_the_state_of_the_process_shows_a_leak(name):
    before = process_state()
    assert process_state() == before
    undo = LEAKS[name]()
    try:
        after = process_state()
    finally:
        undo()
    assert after[name] != before[name]


@pytest.mark.parametrize("draw", [random.random, np.random.random])
def test_a_random_number_drawn_from_a_shared_generator_shows(draw):
    before = process_state()["random"]
    draw()
    assert process_state()["random"] != before
