"""Training learns, repeats itself, and goes on where it stopped."""

import json
from dataclasses import replace

import pytest
import torch
from codeclens.__main__ import main
from codeclens.models.errors import InputError
from codeclens.models.qwen import load_qwen3vl
from codeclens.models.qwen.vision import patches_of
from codeclens.models.synthetic.scenes import SPLITS, split_of
from codeclens.models.training.examples import Course, make_example
from codeclens.models.training.model_card import model_card
from codeclens.models.training.trainer import (
    CHECKPOINT,
    LOG,
    Stage,
    Training,
    TrainingPlan,
    batches_of,
    default_stages,
    lesson,
    shortened,
    train,
)
from codeclens.models.training.validation import accuracy
from codeclens.models.training.vision_targets import KINDS, CellCourse, cell_batches

BRIEF = Course(sizes={(64, 64): 1}, frames=(2, 4), questions=2, most_figures=2)
PLAN = TrainingPlan(
    size="nano", warmup=2, vocabulary=330, corpus_clips=20, stem_clips=2,
    stages=(Stage(1, 3, CellCourse(sizes={(64, 64): 1})), Stage(1, 3, BRIEF), Stage(2, 2, BRIEF)),
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
    """(folder, weights) of one sitting."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, weights(train(folder, PLAN))


@pytest.mark.slow
def test_the_same_plan_gives_the_same_weights(tmp_path, whole):
    assert_same_weights(weights(train(tmp_path, PLAN, workers=1)), whole[1])


def test_sittings_give_what_one_sitting_gives(tmp_path, whole):
    class Enough(Exception):
        pass

    def stop(done, total):
        if done == 2:
            raise Enough

    with pytest.raises(Enough):
        train(tmp_path, PLAN, progress=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CHECKPOINT, LOG]
    assert train(tmp_path, PLAN, minutes=0, resume=True).step == 3
    training = train(tmp_path, PLAN, resume=True)
    assert training.step == 4
    assert_same_weights(weights(training), whole[1])
    logs = [
        [json.loads(line)["loss"] for line in (folder / LOG).read_text().splitlines()]
        for folder in (tmp_path, whole[0])
    ]
    assert logs[0] == logs[1] and len(logs[0]) == 4


def test_another_seed_gives_other_weights(tmp_path, whole):
    other = weights(train(tmp_path, shortened(replace(PLAN, seed=1), 1)))
    assert not torch.equal(other["vision.patch_embedding.weight"], whole[1]["vision.patch_embedding.weight"])


def test_checkpoints_are_not_mistaken(tmp_path, whole):
    folder, _ = whole
    with pytest.raises(InputError, match="resume it"):
        train(folder, PLAN)
    with pytest.raises(InputError, match="another plan"):
        train(folder, shortened(PLAN, 5), resume=True)
    with pytest.raises(InputError, match="nothing to resume"):
        train(tmp_path, PLAN, resume=True)
    (tmp_path / CHECKPOINT).write_bytes((folder / CHECKPOINT).read_bytes()[:5000])
    with pytest.raises(InputError, match="not a checkpoint"):
        train(tmp_path, PLAN, resume=True)


def test_the_default_plan_draws_only_training_seeds_once_each():
    plan = TrainingPlan()
    seen = [plan.seeds_at(step) for step in range(0, plan.steps, 500)] + [plan.seeds_at(plan.steps - 1)]
    assert all(split_of(seeds[0]) == split_of(seeds[-1]) == "train" for seeds in seen)
    assert all(one[-1] < other[0] for one, other in zip(seen, seen[1:], strict=False))
    assert plan.seeds_at(0)[0] == SPLITS["train"][0]
    stages, first = default_stages(), 0
    for stage in stages:
        assert plan.stage_at(first) == plan.stage_at(first + stage.steps - 1) == stage
        first += stage.steps
    assert plan.steps == first and plan.stage_at(first) == stages[-1]


def test_a_step_takes_clips_of_which_something_is_asked():
    course = replace(BRIEF, kinds=("order", "direction"), frames=(4, 8), contents={"moving": 1})
    plan = replace(PLAN, stages=(Stage(1, 5, course),))
    examples = [make_example(seed, course) for seed in plan.seeds_at(0)[:60]]
    asked = [example for example in examples if example.questions]
    assert len(asked) < len(examples) and not all(example.questions for example in examples[:5])
    tokenizer = Training.begin(plan).tokenizer
    (batch,) = lesson(plan, 0, tokenizer)
    assert batch.mask.shape[0] == 5 and batch.count == sum(len(example.questions) for example in asked[:5])


def test_rates_rise_after_each_fall_and_each_change_of_what_moves():
    tower, whole = CellCourse(), BRIEF
    stages = (
        Stage(6, 1, tower, fall=3),
        Stage(3, 1, whole),
        Stage(2, 1, whole),
        Stage(4, 1, tower),
        Stage(4, 1, whole, fall=2),
        Stage(4, 1, whole, fall=8),
    )
    plan = TrainingPlan(warmup=2, stages=stages)
    paces = [plan.pace_at(step) for step in range(plan.steps)]
    expected = [0.5, 1, 1, 1, 2 / 3, 1 / 3, 0.5, 1, 1, 1, 1, 0.5, 1, 1, 1, 0.5, 1, 1, 0.5, 0.5, 3 / 8, 2 / 8, 1 / 8]
    assert paces == pytest.approx(expected) and plan.steps_alone == 10
    assert 0 < TrainingPlan().pace_at(TrainingPlan().steps - 1) < 0.01


def test_a_resting_tower_does_not_move(tmp_path):
    stages = tuple(replace(stage, tower=0.0) if isinstance(stage.course, Course) else stage for stage in PLAN.stages)
    alone = weights(train(tmp_path / "alone", replace(PLAN, stages=stages[:1])))
    whole = weights(train(tmp_path / "whole", replace(PLAN, stages=stages)))
    for name in whole:
        assert torch.equal(whole[name], alone[name]) == name.startswith("vision."), name


@pytest.mark.parametrize("steps", [1, 2, 7, 400])
def test_a_shortened_plan_keeps_its_proportions(steps):
    plan = shortened(TrainingPlan(), steps)
    assert plan.steps == steps and len(plan.stages) == len(default_stages())
    for short, whole in zip(plan.stages, default_stages(), strict=True):
        assert short.steps == pytest.approx(whole.steps * steps / TrainingPlan().steps, abs=1)
    assert all(0 < plan.pace_at(step) <= 1 for step in range(steps))


def test_a_card_judges_only_kinds_that_were_asked_often_enough():
    measured = {"order": (4, 4, 2.0), "colour": (30, 30, 7.5), "size": (16, 30, 15.0), "all": (50, 64, 24.5)}
    page = model_card("Name", Training.begin(PLAN), measured, [1.0], 5, "validation").splitlines()
    assert "Learned well (nine of ten or better): colour." in page
    assert "Not learned (within a tenth of a guesser): size." in page
    assert "Asked too seldom to tell (fewer than 20 times): order." in page
    assert "| order | 100.0 % | 4 | 50.0 % |" in page and "| all | 78.1 % | 64 | 38.3 % |" in page


@pytest.mark.slow
def test_command_trains_resumes_and_exports_a_pair_that_loads(tmp_path, capsys):
    words = ["train-tiny", str(tmp_path), "--size", "nano", "--steps", "2", "--check", "2"]
    assert main([*words, "--minutes", "0"]) == 0
    text, mmproj, card = capsys.readouterr().out.split()
    assert "not finished" in (tmp_path / card).read_text()
    assert main([*words, "--resume"]) == 0
    capsys.readouterr()
    page = (tmp_path / card).read_text()
    assert "not finished" not in page and "Steps: 2 of 2" in page and "| all |" in page
    assert ", all." not in page and "Asked too seldom" in page
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
    ],
)
def test_wrong_words_are_one_line(tmp_path, capsys, words, message):
    assert main(["train-tiny", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_tower_taught_by_cells_names_colours_of_figures_it_has_not_seen():
    course = CellCourse(sizes={(64, 64): 1}, contents={"static": 1}, most_figures=1)
    plan = TrainingPlan(
        size="nano", rate=3e-3, warmup=10, corpus_clips=20, stem_clips=10, vocabulary=330,
        stages=(Stage(160, 24, course, fall=40),),
    )  # fmt: skip
    training = Training.begin(plan)
    losses = [training.advance(cell_batches(plan.seeds_at(step)[:24], course)) for step in range(plan.steps)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    vision, first, right = training.model.vision, SPLITS["validation"][0], []
    for batch in cell_batches(range(first, first + 60), course):
        if batch.pictures.shape[2] == 64:
            still = batch.pictures.shape[1] == 1
            with torch.no_grad():
                told = training.heads["tower"](
                    vision(*patches_of(batch.pictures.flatten(0, 1), vision.config, still))[0]
                )
            figures = batch.words[:, 1] >= 0
            right += (told[:, : len(KINDS["colour"])].argmax(1) == batch.words[:, 0])[figures].tolist()
    assert sum(right) > 0.5 * len(right) > 30


@pytest.mark.slow
def test_a_minute_of_training_reduces_the_loss_and_sees_colours():
    """From scratch, on stills of one large figure: colours named on clips never seen beat a guesser by far."""
    course = Course(
        sizes={(64, 64): 1}, forms={"still": 1}, contents={"static": 1}, kinds=("colour", "size"), most_figures=1,
        frames=(1, 2), questions=3,
    )  # fmt: skip
    plan = TrainingPlan(
        size="nano",
        rate=3e-3,
        warmup=20,
        corpus_clips=60,
        stem_clips=10,
        vocabulary=360,
        stages=(Stage(150, 32, course),),
    )
    training = Training.begin(plan)
    losses = [
        training.advance(batches_of(list(naming(plan.seeds_at(step)[:32], course)), training.tokenizer))
        for step in range(plan.steps)
    ]
    examples = list(naming(range(SPLITS["validation"][0], SPLITS["validation"][0] + 120), course))
    right, asked, chance = accuracy(training.model, training.attention, training.tokenizer, examples)["all"]
    assert sum(losses[-20:]) < 0.8 * sum(losses[20:40]) < 0.8 * 20 * losses[0]
    assert right > 0.7 * asked > 2 * chance


def naming(seeds, course):
    """Examples of large figures with only the question that names the colour: a minute does not suffice for more."""
    for seed in seeds:
        example = make_example(seed, course)
        if any(question.answer == "large" for question in example.questions):
            named = [q for q in example.questions if q.kind == "colour" and q.form != "yes/no"]
            yield replace(example, questions=named)
