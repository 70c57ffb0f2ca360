"""What the metadata of a language model may say: stretched rotary embeddings, and keys that change the computation."""

import pytest
from codeclens.models.errors import InputError
from codeclens.models.qwen.config import read_vision_config
from codeclens.models.qwen.families import read_text_config
from codeclens.models.qwen.gguf import read_gguf
from codeclens.models.qwen.rope import Scaling
from support.gguf_files import TINY, write_mmproj, write_text


def read(folder, **metadata):
    written = {f"qwen3vl.{key}": value for key, value in metadata.items()}
    return read_text_config(read_gguf(write_text(folder / "model.gguf", TINY, metadata=written)))


@pytest.mark.parametrize(
    ("metadata", "scaling"),
    [
        ({}, None),
        ({"rope.scaling.type": "none"}, None),
        ({"rope.scaling.factor": 2.0}, Scaling("linear", 2.0, 1)),
        ({"rope.scale_linear": 3.0}, Scaling("linear", 3.0, 1)),
        (
            {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 262144},
            Scaling("yarn", 4.0, 262144),
        ),
    ],
)
def test_scaling_of_the_rotary_embedding(tmp_path, metadata, scaling):
    assert read(tmp_path, **metadata).rope_scaling == scaling


def test_attention_factor_of_the_published_1m_files():
    assert Scaling("yarn", 4.0, 262144).attention_factor == pytest.approx(1.1386, abs=1e-4)
    assert Scaling("linear", 4.0, 262144).attention_factor == 1


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"rope.scaling.type": "longrope"}, r"rope\.scaling\.type = longrope; 'none', 'linear' or 'yarn' is needed"),
        ({"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0}, r"lacks .*original_context_length"),
        ({"rope.scaling.factor": float("nan")}, r"rope\.scaling\.factor = nan; a positive number is needed"),
        ({"rope.scaling.factor": 1e30}, r"rope\.scaling\.factor = .*; a number from 1 to 10000 is needed"),
        ({"rope.freq_base": 1.0}, r"rope\.freq_base = 1\.0; a number above 1 is needed"),
        ({"rope.dimension_count": 32}, r"rope\.dimension_count = 32; 64 is needed"),
        ({"rope.scaling.yarn_log_multiplier": 0.1}, r"yarn_log_multiplier = 0\.1.*, which is not known here"),
        ({"rope.scaling.attn_factor": 1.5}, r"rope\.scaling\.attn_factor = 1\.5, which is not known here"),
        ({"final_logit_softcapping": 30.0}, r"final_logit_softcapping = 30\.0, which is not known here"),
        ({"attention.sliding_window": 4096}, r"attention\.sliding_window = 4096, which is not known here"),
        ({"pooling_type": 3}, r"pooling_type = 3, which is not known here"),
        ({"attention.scale": 0.2}, r"attention\.scale = 0\.2.*, which is not known here"),
    ],
)
def test_what_changes_the_computation_and_is_not_known_is_refused(tmp_path, metadata, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, **metadata)


def test_keys_that_change_nothing_are_accepted(tmp_path):
    read(tmp_path, **{"vocab_size": 512, "attention.causal": True, "rope.scaling.attn_factor": 1.0, "pooling_type": 0})


def read_tower(folder, **metadata):
    written = {f"clip.{key}": value for key, value in metadata.items()}
    return read_vision_config(read_gguf(write_mmproj(folder / "mmproj.gguf", TINY, metadata=written)))


@pytest.mark.parametrize(
    ("key", "value"),
    [("vision.window_size", 112), ("vision.n_wa_pattern", 8), ("use_silu", True), ("use_gelu", False), ("minicpmv", 3)],
)
def test_what_changes_the_tower_and_is_not_known_is_refused(tmp_path, key, value):
    with pytest.raises(InputError, match=rf"clip\.{key} = {value}, which is not known here"):
        read_tower(tmp_path, **{key: value})


def test_keys_that_change_nothing_of_the_tower_are_accepted(tmp_path):
    plain = read_tower(tmp_path)
    more = {"vision.image_size": 512, "vision.image_min_pixels": 1024, "has_audio_encoder": False, "use_silu": False}
    assert read_tower(tmp_path, **more) == plain
