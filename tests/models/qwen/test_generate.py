"""Reading and writing, against a model small enough to recompute everything at every token."""

import itertools

import pytest
import torch
from codeclens.models.errors import InputError
from codeclens.models.qwen.cache import Cache
from codeclens.models.qwen.generate import GREEDY, Context, Sampler, SamplingParams, TextStream, generate
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

VOCABULARY, WIDTH, LAYERS, HEADS, HEAD_DIM = 50, 32, 2, 2, 32
VARIED = SamplingParams(temperature=0, presence_penalty=1000)


class SmallTextModel(torch.nn.Module):
    """Two attention layers with the interface of the text model; positions enter as sines, DeepStack as an addition."""

    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.randn(VOCABULARY, WIDTH, generator=generator)
        self.weights = torch.randn(LAYERS, 4, HEADS * HEAD_DIM, WIDTH, generator=generator) / WIDTH**0.5

    def embed(self, ids):
        return self.table[ids]

    def logits(self, hidden):
        return hidden @ self.table.T

    def forward(self, embeds, positions, cache, deepstack=None, visual_index=None):
        x = embeds + torch.sin(positions.float() * torch.tensor([[1.0], [0.3], [0.1]])).sum(0)[:, None]
        for layer, (wq, wk, wv, wo) in enumerate(self.weights):
            q, k, v = ((x @ w.T).unflatten(-1, (HEADS, HEAD_DIM)).transpose(0, 1) for w in (wq, wk, wv))
            keys, values = cache.append(layer, k, v)
            n, length = q.shape[1], keys.shape[1]
            mask = torch.ones(n, length, dtype=torch.bool).tril(length - n)
            attended = scaled_dot_product_attention(q, keys, values, attn_mask=mask)
            x = x + attended.transpose(0, 1).flatten(1) @ wo
            if deepstack is not None:
                x = x.index_add(0, visual_index, deepstack[layer])
        cache.advance(n)
        return x


def decode(ids):
    return bytes(32 + i for i in ids).decode()


def new_context(model=None):
    return Context(model or SmallTextModel(), Cache(LAYERS))


def prompt(n, visual, seed=1):
    generator = torch.Generator().manual_seed(seed)
    positions = torch.arange(n).expand(3, -1) + torch.randint(0, 3, (3, n), generator=generator)
    index = torch.tensor(sorted(visual), dtype=torch.int64)
    return (
        torch.randn(n, WIDTH, generator=generator),
        positions,
        torch.randn(LAYERS, len(visual), WIDTH, generator=generator),
        index,
    )


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 24), chunk=st.integers(1, 30), data=st.data())
def test_chunked_prefill_equals_one_pass(n, chunk, data):
    visual = data.draw(st.sets(st.integers(0, n - 1), max_size=n))
    whole, parts = new_context(), new_context()
    whole.read(*prompt(n, visual), chunk=n)
    seen = []
    parts.read(*prompt(n, visual), chunk=chunk, progress=lambda done, total: seen.append((done, total)))
    torch.testing.assert_close(parts.logits, whole.logits, atol=1e-4, rtol=1e-4)
    assert parts.position == whole.position == int(prompt(n, visual)[1].max()) + 1
    assert seen == [(done, n) for done in range(0, n, chunk)] + [(n, n)]


@pytest.mark.parametrize("chunk", range(1, 9))
def test_text_continues_after_the_largest_position_of_a_picture(chunk):
    """A picture of 2 x 3 tokens at positions 2 to 4, read in chunks that may end within its last row."""
    positions = torch.tensor([[0, 1, 2, 2, 2, 2, 2, 2], [0, 1, 2, 2, 2, 3, 3, 3], [0, 1, 2, 3, 4, 2, 3, 4]])
    context = new_context()
    context.read(torch.zeros(7, WIDTH), positions[:, :7], chunk=chunk)
    assert context.position == 5


def test_cached_decoding_equals_recomputing_everything():
    model = SmallTextModel()
    context = new_context(model)
    embeds, positions, deepstack, index = prompt(9, {2, 3, 4})
    context.read(embeds, positions, deepstack, index)
    written = generate(context, decode, stop={7}, sampling=GREEDY, max_tokens=12)
    ids = []
    for _ in range(12):
        text = torch.arange(len(ids)) + int(positions.max()) + 1
        naive = new_context(model)
        naive.read(
            torch.cat((embeds, model.embed(torch.tensor(ids, dtype=torch.int64)))),
            torch.cat((positions, text.expand(3, -1)), 1),
            deepstack,
            index,
            chunk=100,
        )
        token = int(naive.logits.argmax())
        if token == 7:
            break
        torch.testing.assert_close(
            torch.tensor(written.logprobs[len(ids)]), naive.logits.log_softmax(0)[token], atol=1e-4, rtol=1e-4
        )
        ids.append(token)
    assert written.ids == tuple(ids) and len(ids) > 3
    assert written.text == decode(ids)


def test_questions_on_one_prefill_answer_as_if_read_alone():
    video = new_context()
    video.read(*prompt(12, {1, 2}))
    answers = []
    for question in ([3, 4, 5], [9], [8, 8, 1, 2]):
        context = video.fork()
        context.read_ids(question)
        answers.append(generate(context, decode, stop=(), sampling=VARIED, max_tokens=6))
        alone = new_context()
        alone.read(*prompt(12, {1, 2}))
        alone.read_ids(question)
        assert generate(alone, decode, stop=(), sampling=VARIED, max_tokens=6).ids == answers[-1].ids
    assert video.cache.length == 12 and video.ids == []
    assert len({answer.ids for answer in answers}) == 3


def test_a_second_turn_follows_what_was_written():
    context, alone = new_context(), new_context()
    context.read_ids([1, 2, 3])
    first = generate(context, decode, stop=(), sampling=GREEDY, max_tokens=4)
    context.read_ids([6])
    alone.read_ids([1, 2, 3, *first.ids, 6])
    assert context.ids == alone.ids and context.position == alone.position == 8
    torch.testing.assert_close(context.logits, alone.logits, atol=1e-5, rtol=1e-4)


def test_same_seed_same_text_and_the_global_generator_is_left_alone():
    def write(seed):
        context = new_context()
        context.read_ids([1, 2, 3])
        sampling = SamplingParams(temperature=8.0, top_k=0, top_p=1.0, presence_penalty=0.0, seed=seed)
        return generate(context, decode, stop=(), sampling=sampling, max_tokens=20).ids

    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = write(5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert write(5) == first
    assert write(2**64 - 1) != first


def test_stop_token_ends_and_the_limit_truncates():
    context = new_context()
    context.read_ids([1, 2, 3])
    free = generate(context.fork(), decode, stop=(), sampling=GREEDY, max_tokens=8)
    assert free.truncated and len(free.ids) == 8
    stop = free.ids[5]
    stopped = generate(context, decode, stop={stop}, sampling=GREEDY, max_tokens=8)
    assert stopped.ids == free.ids[: free.ids.index(stop)] and not stopped.truncated
    assert context.ids == [1, 2, 3, *stopped.ids]


def test_cancelling_stops_within_one_token_and_the_context_stays_usable():
    context = new_context()
    context.read_ids([1, 2, 3])

    def cancel_at_third(done, total):
        if done == 3:
            raise KeyboardInterrupt

    pieces = []
    with pytest.raises(KeyboardInterrupt):
        generate(context, decode, (), GREEDY, 100, on_text=pieces.append, progress=cancel_at_third)
    assert len(pieces) == 3 and context.cache.length == 6
    assert len(generate(context, decode, (), GREEDY, 2).ids) == 2


def test_constraint_sees_what_was_written_and_rules_what_comes():
    calls = []

    def alternate(ids, logits):
        calls.append(list(ids))
        allowed = torch.full_like(logits, -torch.inf)
        allowed[len(ids) % 2] = logits[len(ids) % 2]
        return allowed

    context = new_context()
    context.read_ids([1, 2, 3])
    written = generate(context, decode, stop=(), max_tokens=4, constrain=alternate)
    assert written.ids == (0, 1, 0, 1) and calls == [[], [0], [0, 1], [0, 1, 0]]
    assert all(logprob < -1e-4 for logprob in written.logprobs)


def reference_weights(logits, sampling):
    """The candidates by the definitions, one at a time."""
    probabilities = (logits / sampling.temperature).softmax(0).tolist()
    order = sorted(range(len(probabilities)), key=lambda i: -probabilities[i])
    order = order[: sampling.top_k or None]
    total = sum(probabilities[i] for i in order)
    kept, mass = [], 0.0
    for i in order:
        fraction = probabilities[i] / total
        if kept and (mass >= sampling.top_p or fraction < sampling.min_p * probabilities[order[0]] / total):
            break
        kept.append(i)
        mass += fraction
    return {i: probabilities[i] for i in kept}


@settings(deadline=None, max_examples=80)
@given(
    seed=st.integers(0, 10**6),
    temperature=st.floats(0.2, 3),
    top_k=st.integers(0, 60),
    top_p=st.floats(0.05, 1),
    min_p=st.floats(0, 1),
)
def test_candidates_are_those_of_the_definitions(seed, temperature, top_k, top_p, min_p):
    logits = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3
    sampling = SamplingParams(temperature, top_k, top_p, min_p, presence_penalty=0.0)
    ids, weights = Sampler(sampling).candidates(logits)
    expected = reference_weights(logits.double(), sampling)
    if set(ids.tolist()) != set(expected):  # only where a threshold falls on a rounding error
        near = SamplingParams(temperature, top_k, min(1, top_p + 1e-5), max(0, min_p - 1e-5))
        assert set(ids.tolist()) <= set(reference_weights(logits.double(), near))
    else:
        total = sum(expected.values())
        torch.testing.assert_close(
            (weights / weights.sum()).double(),
            torch.tensor([expected[i] / total for i in ids.tolist()], dtype=torch.float64),
            atol=1e-5,
            rtol=1e-4,
        )


def test_choices_follow_the_weights():
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    sampler = Sampler(SamplingParams(1.0, 0, 1.0, presence_penalty=0.0, seed=3))
    counts = torch.bincount(torch.tensor([sampler.choose(logits) for _ in range(8000)]), minlength=4)
    expected = logits.softmax(0) * 8000
    assert float(((counts - expected) ** 2 / expected).sum()) < 16.3  # chi square, 3 degrees, p = 0.001


def test_penalties():
    logits = torch.tensor([2.0, -1.0, 3.0, 0.5])
    sampler = Sampler(SamplingParams(0, repetition_penalty=2.0, presence_penalty=0.25), read_ids=[0, 1])
    assert sampler._penalised(logits).tolist() == [1.0, -2.0, 3.0, 0.5]
    assert sampler.choose(logits) == 2
    assert sampler._penalised(logits).tolist() == [1.0, -2.0, 1.25, 0.5]
    assert logits.tolist() == [2.0, -1.0, 3.0, 0.5]


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", -0.1), ("top_p", 1.5), ("min_p", -1), ("top_k", -1), ("seed", 2**64), ("repetition_penalty", 0)],
)
def test_impossible_sampling_is_refused(name, value):
    with pytest.raises(InputError, match=name):
        SamplingParams(**{name: value})


@settings(deadline=None, max_examples=100)
@given(text=st.text(max_size=30), cuts=st.lists(st.integers(1, 3), min_size=1, max_size=10))
def test_pieces_join_to_the_text_and_never_split_a_character(text, cuts):
    """Tokens of one to three bytes, as byte-level BPE may cut anywhere."""
    data, tokens = text.encode(), []
    for size in itertools.cycle(cuts):
        if not data:
            break
        tokens.append(data[:size])
        data = data[size:]
    pieces = []
    stream = TextStream(lambda ids: b"".join(tokens[i] for i in ids).decode(errors="replace"), pieces.append)
    for index in range(len(tokens)):
        stream.write(index)
    stream.close()
    assert "".join(pieces) == stream.text == text
    assert "\N{REPLACEMENT CHARACTER}" in text or not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


def test_bytes_that_are_no_text_do_not_hold_up_the_stream():
    tokens = [b"a", b"\xff", b"\xff", b"b", b"\xe2\x82", b"\xac\xe2", b"\x82", b"\xac"]
    seen = []
    stream = TextStream(lambda ids: b"".join(tokens[i] for i in ids).decode(errors="replace"), seen.append)
    for index in range(len(tokens)):
        stream.write(index)
    assert seen == ["a", "\ufffd", "\ufffdb", "\u20ac", "\u20ac"]
