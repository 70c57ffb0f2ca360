"""A caption is the preset's question, asked of the code that the configuration makes."""

from codeclens.models.code.captions import Writing, caption, caption_code, caption_reserve
from codeclens.models.code.conversation import converse
from codeclens.models.code.layout import prompt_tokens
from codeclens.models.code.pipeline import CodeConfig, watch
from codeclens.models.code.presets import Preset
from codeclens.models.qwen.generate import GREEDY
from codeclens.models.source.reading import FrameSampling, VideoSource
from support.frames import noise

PRESET = Preset("plain", "Plain", "Describe this video.", 7, None)
CONFIG = CodeConfig(area=64 * 96, sampling=FrameSampling.all(), rule={"gamma": 1e6})


def test_a_caption_is_the_answer_to_the_presets_question(tiny_model):
    source = VideoSource.from_images(noise(4, 64, 96), 2.0)
    found = caption(source, tiny_model, CONFIG, PRESET, Writing(GREEDY))
    asked = converse(tiny_model, watch(source, tiny_model, CONFIG)).ask(
        "Describe this video.", sampling=GREEDY, max_tokens=7
    )
    assert found.answer.generation.ids == asked.generation.ids and len(asked.generation.ids) == 7
    assert found.to_json() == {**found.answer.to_json(found.code), "text": found.text}
    assert caption_code(found.code, tiny_model, PRESET, Writing(GREEDY)).text == found.text


def test_instructions_and_length_are_the_users(tiny_model):
    source = VideoSource.from_images(noise(2, 64, 96), 2.0)
    writing = Writing(GREEDY, max_tokens=3, instructions="In one word.")
    found = caption(source, tiny_model, CONFIG, PRESET, writing)
    assert len(found.answer.generation.ids) == 3
    question = "Describe this video.\nIn one word."
    assert found.answer.prompt_tokens == prompt_tokens(found.code, tiny_model.tokenizer, question)
    shown = prompt_tokens(found.code, tiny_model.tokenizer)
    assert caption_reserve(tiny_model.tokenizer, PRESET, writing) == found.answer.prompt_tokens - shown + 3
