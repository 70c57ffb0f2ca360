"""Pictures and a question in, text out: sizes, the reference's own prompt, and placing."""

import accelerate
import numpy as np
import pytest
import torch
from codeclens.models.errors import InputError
from codeclens.models.qwen3vl import load_qwen3vl
from codeclens.models.qwen3vl.cache import KVCache
from codeclens.models.qwen3vl.describe import SeenPicture, describe, fit_picture, fit_size, look
from codeclens.models.qwen3vl.generate import GREEDY, Context
from codeclens.models.qwen3vl.placement import cache_bytes, load_placed, place, reading_bytes, seeing_bytes
from codeclens.models.qwen3vl.prompt import split_reasoning
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def pair(qwen3vl_fixtures):
    folder = qwen3vl_fixtures / "tiny-tied"
    return folder / "tiny-tied-Q4_K_M.gguf", folder / "mmproj-tiny-tied-F16.gguf"


@pytest.fixture(scope="module")
def model(pair):
    return load_qwen3vl(*pair)


@settings(deadline=None)
@given(height=st.integers(1, 6000), width=st.integers(1, 6000), most=st.integers(128, 16384))
def test_a_picture_is_shown_in_whole_cells_and_within_its_tokens(height, width, most):
    if max(height, width) > 200 * min(height, width):
        with pytest.raises(InputError, match="factor of 200"):
            fit_size(height, width, most)
        return
    rows, columns = (side / 32 for side in fit_size(height, width, most))
    assert rows == int(rows) >= 1 and columns == int(columns) >= 1
    if max(height, width) < 20 * min(height, width):
        assert rows * columns <= most
        assert rows + 1 > height / width * (columns - 1) and columns + 1 > width / height * (rows - 1)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((512, 512), (512, 512)), ((400, 500), (384, 512)), ((1080, 1920), (768, 1344)), ((100, 100), (256, 256))],
)
def test_known_sizes(size, expected):
    """By hand: half a cell rounds to even; 1080 x 1920 goes down by 1.40625; 100 x 100 goes up to 8 x 8 cells."""
    assert fit_size(*size) == expected
    assert fit_picture(np.zeros((*size, 3), np.uint8)).shape == (*expected, 3)


def test_pictures_are_read_as_the_reference_reads_them(qwen3vl_fixtures):
    """The reference's image scenario: same pixels, same prompt; the first token's logits are the reference's."""
    folder = qwen3vl_fixtures / "tiny-tied"
    model = load_qwen3vl(folder / "tiny-tied-F16.gguf", folder / "mmproj-tiny-tied-F16.gguf")
    reference = np.load(folder / "ref-image.npz", allow_pickle=False)
    media = next(reference[name] for name in reference.files if name.startswith("media_") and name.endswith("_u8"))
    (seen,) = look(model, [media.reshape(media.shape[-3:])])
    expected = torch.from_numpy(reference["vis_merger"])
    torch.testing.assert_close(seen.embeds, expected, atol=1e-4, rtol=1e-4)
    for number, level in enumerate(seen.deepstack):
        torch.testing.assert_close(level, torch.from_numpy(reference[f"vis_deepstack_{number}"]), atol=1e-4, rtol=1e-4)
    ids = torch.from_numpy(reference["input_ids"]).flatten()
    embeds = model.text.embed(ids)
    index = (ids == model.tokenizer.image_pad).nonzero().flatten()
    embeds[index] = seen.embeds
    context = Context(model.text, KVCache(4))
    positions = torch.from_numpy(reference["position_ids"]).view(3, -1)
    context.read(embeds, positions, seen.deepstack, index, chunk=7)
    torch.testing.assert_close(
        context.logits, torch.from_numpy(reference["logits"]).flatten(0, -2)[-1], atol=1e-4, rtol=1e-4
    )


def test_progress_counts_and_the_order_of_pictures_matters(model):
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, size, np.uint8) for size in ((64, 96, 3), (128, 64, 3))]
    calls = []
    seen = look(model, pictures, lambda done, total: calls.append((done, total)))
    assert [(picture.rows, picture.columns) for picture in seen] == [(2, 3), (4, 2)]
    assert calls[0] == (0, 10) and calls[-1] == (10, 10)
    one, other = (describe(model, order, "Which?", sampling=GREEDY, max_tokens=6) for order in (seen, seen[::-1]))
    assert len(one.generation.ids) == 6 and one.truncated
    assert one.generation.logprobs != other.generation.logprobs


def test_what_does_not_fit_the_context_is_refused_before_reading(model):
    huge = SeenPicture(512, 512, torch.zeros(0, 256), [])
    with pytest.raises(InputError, match="262159 tokens .* holds 262144"):
        describe(model, [huge], "Well?", max_tokens=3)


@pytest.mark.parametrize(
    ("text", "reasons", "expected"),
    [
        ("plain", False, ("", "plain")),
        ("because\n</think>\n\nyes", True, ("because", "yes")),
        ("because it", True, ("because it", "")),
    ],
)
def test_reasoning_is_kept_apart(text, reasons, expected):
    assert split_reasoning(text, reasons) == expected


def test_packed_weights_keep_the_distribution(pair):
    """KL of the next token after packing and bfloat16, over the reference's image prompt: the fast path's own error."""
    exact, quick = load_qwen3vl(*pair), load_placed(*pair, device="cpu")
    ids = list(range(10, 60))
    logits = []
    for model in (exact, quick):
        context = Context(model.text, KVCache(4))
        context.read_ids(ids)
        logits.append(context.logits.log_softmax(0))
    assert float((logits[0].exp() * (logits[0] - logits[1])).sum()) < 6e-3


def test_offloaded_layers_compute_the_same(pair, monkeypatch):
    """No GPU: the CPU plays one that has room for the tower and a part of the layers; the rest travels by its hooks."""
    whole = load_qwen3vl(*pair)
    spread = load_qwen3vl(*pair)
    offered = []

    def plan(half, memory, no_split_module_classes):
        offered.append(memory[0])
        assert any(type(module).__name__ in no_split_module_classes for module in half.modules())
        names = [name for name, _ in half.named_children()]
        return {name: 0 if half is spread.vision or name == "norm" else "cpu" for name in names}

    def dispatch(half, chosen, main_device):
        for name, where in chosen.items():
            if where == "cpu":
                accelerate.cpu_offload(half.get_submodule(name), torch.device("cpu"))

    monkeypatch.setattr(accelerate, "infer_auto_device_map", plan)
    monkeypatch.setattr(accelerate, "dispatch_model", dispatch)
    place(spread, torch.device("cpu"), free_bytes=1 << 30, reserve_tokens=100)
    assert offered[0] - offered[1] == sum(parameter.nbytes for parameter in spread.vision.parameters())
    assert all(parameter.is_meta for parameter in spread.text.layers.parameters())
    logits = []
    for model in (whole, spread):
        context = Context(model.text, KVCache(4))
        context.read_ids([5, 6, 7, 8])
        logits.append(context.logits)
    assert torch.equal(*logits)


def test_memory_estimates_follow_their_parts(model):
    config = model.config.text
    assert cache_bytes(config, 1000, torch.bfloat16) == 1000 * 4 * 2 * 2 * 128 * 2
    cache = KVCache(config.layers, capacity=1024, int8=True)
    for layer in range(config.layers):
        cache.append(layer, torch.zeros(2, 1, 128), torch.zeros(2, 1, 128))
    assert cache.nbytes == cache_bytes(config, 1024, torch.bfloat16, int8=True)
    more = reading_bytes(config, 9000, torch.bfloat16) - reading_bytes(config, 8000, torch.bfloat16)
    assert more == cache_bytes(config, 1000, torch.bfloat16) + 1000 * 256 * 4 * 2
    assert seeing_bytes(model.config.vision, 2048, torch.float32) > seeing_bytes(
        model.config.vision, 1024, torch.float32
    )


def test_a_gpu_that_is_not_there_is_named(pair):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(InputError, match="'cuda'"):
        load_placed(*pair, device="cuda")
