"""Training learns, repeats itself, and continues where it stopped."""

import json
from dataclasses import replace

import pytest
import torch
from codeclens.__main__ import main
from codeclens.models.errors import InputError
from codeclens.models.qwen import load_qwen3vl
from codeclens.models.synthetic.scenes import COLOURS, SPLITS
from codeclens.models.training.batches import forward
from codeclens.models.training.checkpoints import CHECKPOINT, LOG
from codeclens.models.training.examples import STILL, Mixture, make_example
from codeclens.models.training.export import export_pair
from codeclens.models.training.model_card import model_card
from codeclens.models.training.schedule import Stage, TrainingConfig
from codeclens.models.training.targets import COLUMN
from codeclens.models.training.trainer import StepBatches, Training, batches_of, train
from codeclens.models.training.validation import accuracy

BRIEF = Mixture(sizes={(64, 64): 1}, frames=(2, 4), questions=2, figures=(1, 2))
CONFIG = TrainingConfig(
    size="nano", steps=4, warmup=2, vocabulary=330, vocabulary_clips=20, whitening_clips=0,
    stages=(
        Stage("vision", 0.25, 3, replace(BRIEF, questions=0), vision=1, text=0),
        Stage("both", 0.25, 3, BRIEF, vision=1),
        Stage("text", 0.5, 2, BRIEF),
    ),
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def weights(training):
    return {name: parameter.detach().clone() for name, parameter in training.model.named_parameters()}


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(folder, weights) of a run without a stop."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, weights(train(folder, CONFIG))


@pytest.mark.slow
def test_the_same_config_gives_the_same_weights_with_workers(tmp_path, whole):
    assert_same_weights(weights(train(tmp_path, CONFIG, workers=1)), whole[1])


def test_a_resumed_run_gives_the_weights_of_one_without_a_stop(tmp_path, whole):
    class Enough(Exception):
        pass

    def stop(done, total):
        if done == 2:
            raise Enough

    with pytest.raises(Enough):
        train(tmp_path, CONFIG, progress=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CHECKPOINT, LOG]
    assert train(tmp_path, CONFIG, minutes=0, resume=True).step == 3
    training = train(tmp_path, CONFIG, resume=True)
    assert training.step == 4
    assert_same_weights(weights(training), whole[1])
    logs = [[json.loads(line) for line in (folder / LOG).read_text().splitlines()] for folder in (tmp_path, whole[0])]
    for log in logs:
        assert [row["stage"] for row in log] == ["vision", "both", "text", "text"]
        assert [row["step"] for row in log] == [1, 2, 3, 4]
    assert [row["answers"] for row in logs[0]] == [row["answers"] for row in logs[1]]
    assert [row["targets"] for row in logs[0]] == [row["targets"] for row in logs[1]]


def test_another_seed_gives_other_weights(tmp_path, whole):
    other = weights(train(tmp_path, replace(CONFIG, seed=1), minutes=0))
    assert not torch.equal(other["vision.patch_embedding.weight"], whole[1]["vision.patch_embedding.weight"])


def test_checkpoints_are_not_mistaken(tmp_path, whole):
    folder, _ = whole
    with pytest.raises(InputError, match="resume it"):
        train(folder, CONFIG)
    with pytest.raises(InputError, match="another config"):
        train(folder, replace(CONFIG, steps=5), resume=True)
    with pytest.raises(InputError, match="nothing to resume"):
        train(tmp_path, CONFIG, resume=True)
    (tmp_path / CHECKPOINT).write_bytes((folder / CHECKPOINT).read_bytes()[:5000])
    with pytest.raises(InputError, match="no checkpoint"):
        train(tmp_path, CONFIG, resume=True)


def test_a_loss_that_is_not_a_number_stops_the_run_and_spares_the_checkpoint(tmp_path, monkeypatch):
    before = Training.advance

    def overflowing(training, batches):
        if training.step == 2:
            training.heads["cell"].bias.data.fill_(float("nan"))
        return before(training, batches)

    monkeypatch.setattr(Training, "advance", overflowing)
    with pytest.raises(InputError, match="step 2: the loss is nan"):
        train(tmp_path, CONFIG)
    monkeypatch.undo()
    resumed = Training.resume(tmp_path / CHECKPOINT, CONFIG)
    assert resumed.step == 2
    assert all(parameter.isfinite().all() for parameter in resumed.model.parameters())


def test_a_run_can_start_from_a_pair(tmp_path, whole):
    training = Training.resume(whole[0] / CHECKPOINT, CONFIG)
    text, _ = export_pair(training.model, training.metadata, tmp_path, "Start", "F32")
    started = Training.begin(replace(CONFIG, start=str(text)))
    assert_same_weights(weights(started), whole[1])
    assert started.metadata == training.metadata and started.step == 0
    with pytest.raises(InputError, match="other layers or widths than size 'mini'"):
        Training.begin(replace(CONFIG, start=str(text), size="mini"))


def test_a_step_takes_clips_about_which_something_is_asked():
    mixture = replace(BRIEF, kinds={"order": 1, "direction": 1}, other_kinds=0, frames=(4, 8), contents={"moving": 1})
    config = replace(CONFIG, stages=(Stage("text", 1, 5, mixture),))
    examples = [make_example(seed, mixture) for seed in config.seeds(0)[:60]]
    assert None in examples[:5]
    asked = list(filter(None, examples))
    (batch,) = StepBatches(config, Training.begin(config).metadata)[0]
    assert batch.mask.shape[0] == 5 and batch.count == sum(len(example.questions) for example in asked[:5])


def test_what_a_stage_freezes_does_not_move(tmp_path):
    training = Training.begin(CONFIG)
    steps = StepBatches(CONFIG, training.metadata)
    states = [weights(training)]
    for step in range(3):
        training.advance(steps[step])
        states.append(weights(training))
    for name in states[0]:
        moved = [not torch.equal(one[name], other[name]) for one, other in zip(states, states[1:], strict=False)]
        assert moved[1] and moved[2] == (not name.startswith("vision.")), name
        assert name.startswith("vision.") or not moved[0], name


def test_targets_of_weight_0_neither_count_nor_move_the_heads():
    silent = replace(CONFIG, stages=tuple(replace(stage, targets=0.0) for stage in CONFIG.stages))
    halved = replace(CONFIG, stages=tuple(replace(stage, targets=0.5) for stage in CONFIG.stages))
    trainings = [Training.begin(config) for config in (CONFIG, silent, halved)]
    for training in trainings:
        training.step = 2
    batches = StepBatches(CONFIG, trainings[0].metadata)[2]
    before = [parameter.detach().clone() for parameter in trainings[1].heads.parameters()]
    full, none, half = (training.advance(batches) for training in trainings)
    assert full["answers"] == none["answers"] == half["answers"]
    assert none["targets"] == 0 and half["targets"] == pytest.approx(full["targets"] / 2) and full["targets"] > 0
    decay = 1 - CONFIG.lr * CONFIG.lr_factor(2) * CONFIG.weight_decay
    for was, now in zip(before, trainings[1].heads.parameters(), strict=True):
        torch.testing.assert_close(now.detach(), was * (decay if was.dim() > 1 else 1.0))
    assert not torch.equal(
        trainings[1].model.text.token_embedding.weight, Training.begin(CONFIG).model.text.token_embedding.weight
    )


def test_a_card_says_what_was_trained_and_measured():
    measured = {"order": (4, 4, 2.0), "colour": (30, 30, 7.5), "size": (16, 30, 15.0), "all": (50, 64, 24.5)}
    losses = [{"answers": 1.0, "targets": 3.0}, {"answers": 2.0, "targets": 3.5}]
    text = model_card("Name", Training.begin(CONFIG), measured, losses, 5, "validation")
    page = text.splitlines()
    assert "| order | 100.0 % | 4 | 50.0 % |" in page and "| all | 78.1 % | 64 | 38.3 % |" in page
    assert "| vision | 1 | 3 | vision |" in page and "| text | 2 | 2 | text |" in page
    assert "not finished" in text and "answers 1.500, targets 3.250" in text


@pytest.mark.slow
def test_command_trains_resumes_and_exports_a_pair_that_loads(tmp_path, capsys):
    words = ["train-tiny", str(tmp_path), "--size", "nano", "--steps", "2", "--check", "2"]
    assert main([*words, "--minutes", "0"]) == 0
    text, mmproj, card = capsys.readouterr().out.split()
    assert "not finished" in (tmp_path / card).read_text()
    assert main([*words, "--resume"]) == 0
    capsys.readouterr()
    page = (tmp_path / card).read_text()
    assert "not finished" not in page and "2 of 2 steps" in page and "| all |" in page
    model = load_qwen3vl(text)
    assert str(mmproj) == str(model.files[1].path)
    assert main(words) == 2
    assert "resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "0"], "0"),
        (["--seed", "256"], "256"),
        (["--device", "abacus"], "abacus"),
        (["--check", "0"], "--check"),
        (["--stages", "vision"], "what every token shows"),
        (["--start", "none.gguf"], "none.gguf"),
    ],
)
def test_wrong_words_are_one_line(tmp_path, capsys, words, message):
    assert main(["train-tiny", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_vision_tower_names_colours_of_figures_it_has_not_seen():
    mixture = Mixture(
        sizes={(64, 64): 1}, modes={"keyframes": 1}, contents={"static": 1}, figures=(1, 1), frames=(2, 3), questions=0
    )
    config = replace(
        CONFIG, lr=3e-3, warmup=10, whitening_clips=10, steps=120,
        stages=(Stage("vision", 1, 24, mixture, vision=1, text=0, cooldown=0.25),),
    )  # fmt: skip
    training = Training.begin(config)
    steps = StepBatches(config, training.metadata)
    losses = [training.advance(steps[step])["targets"] for step in range(config.steps)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    first, right = SPLITS["validation"][0], []
    for batch in batches_of([make_example(seed, mixture) for seed in range(first, first + 60)], training.tokenizer):
        with torch.no_grad():
            outputs = training.heads["vision"](forward(training.model, None, batch, text=False)[1]["vision"])
        values = batch.sites["vision"][1]
        figures = values[:, COLUMN["vision", "shape"]].isfinite()
        found = outputs[:, : len(COLOURS) + 1].argmax(1) == values[:, COLUMN["vision", "colour"]]
        right += found[figures].tolist()
    assert sum(right) > 0.5 * len(right) > 30


@pytest.mark.slow
def test_a_minute_of_training_reduces_the_loss_and_names_colours():
    """From scratch, on stills of one large figure: colours named on clips never seen beat a guesser by far."""
    mixture = Mixture(
        sizes={(64, 64): 1}, modes={STILL: 1}, contents={"static": 1}, kinds={"colour": 1, "size": 1}, other_kinds=0,
        figures=(1, 1), frames=(1, 2), questions=3,
    )  # fmt: skip
    config = replace(
        CONFIG, lr=4e-3, warmup=20, vocabulary_clips=60, whitening_clips=10, vocabulary=360, steps=90,
        stages=(Stage("both", 1, 32, mixture, vision=1),),
    )  # fmt: skip
    training = Training.begin(config)
    losses = [
        training.advance(batches_of(list(naming(config.seeds(step)[:32], mixture)), training.tokenizer))["answers"]
        for step in range(config.steps)
    ]
    first = SPLITS["validation"][0]
    examples = list(naming(range(first, first + 120), mixture))
    right, asked, chance = accuracy(training.model, training.attention, training.tokenizer, examples)["all"]
    assert sum(losses[-20:]) < 0.8 * sum(losses[20:40]) < 0.8 * 20 * losses[0]
    assert right > 0.7 * asked > 2 * chance


def naming(seeds, mixture):
    """Examples of large figures with only the question that names the colour: a minute does not suffice for more."""
    for example in filter(None, (make_example(seed, mixture) for seed in seeds)):
        if any(question.answer == "large" for question in example.questions):
            named = [q for q in example.questions if q.kind == "colour" and q.form != "yes/no"]
            yield replace(example, questions=named)
