"""A small tokenizer that says what Qwen's says, in fewer pieces for the text it learned."""

import pytest
from codeclens.models.errors import InputError
from codeclens.models.training.examples import corpus
from codeclens.models.training.vocabulary import CONTROLS, DEFINED, learn_vocabulary, tokenizer_of
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def metadata():
    return learn_vocabulary(corpus(80), 480)


@pytest.fixture(scope="module")
def tokenizer(metadata):
    return tokenizer_of(metadata)


@settings(deadline=None, max_examples=60)
@given(text=st.text())
def test_any_text_comes_back(tokenizer, text):
    import unicodedata

    assert tokenizer.decode(tokenizer.encode(text), skip_special=False) == unicodedata.normalize("NFC", text)


def test_special_tokens_stand_last_and_are_one_token_each(metadata, tokenizer):
    tokens = metadata["tokenizer.ggml.tokens"]
    assert len(tokens) == len(set(tokens)) == tokenizer.size == 480
    assert tokens[-len(CONTROLS) - len(DEFINED) :] == [*CONTROLS, *DEFINED]
    for token in (*CONTROLS, *DEFINED):
        assert tokenizer.encode(f"a{token}b").count(tokenizer.token_id(token)) == 1
    assert tokenizer.token_id("<|im_end|>") in tokenizer.end_ids


def test_words_of_the_corpus_are_short(tokenizer):
    words = "What does the red circle do? Choose: it moves and stops or it keeps moving."
    assert len(tokenizer.encode(words)) <= len(words.split()) + 10


def test_the_same_texts_give_the_same_tokenizer(metadata):
    assert learn_vocabulary(corpus(80), 480) == metadata


def test_no_room_is_refused():
    with pytest.raises(InputError, match="vocabulary of 256"):
        learn_vocabulary(["a"], 256)
