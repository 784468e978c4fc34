"""Chat templates: rendering, refusals, the sandbox, and control tokens that only the template can make."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.errors import InvalidInput, PreconditionFailed
from services.runtime.store.manifest import TokenizerSpec
from services.runtime.text import chat
from services.runtime.text.chat import ChatTemplate, Message
from tests.unit.runtime.text.made import CHATML, all_families, byte_level, from_library

TOKENIZER = all_families()["byte_level"]
CONTROL = TOKENIZER.special_tokens


def template(source: str = CHATML) -> ChatTemplate:
    return ChatTemplate(source, TOKENIZER)


def test_render_gives_the_templates_text() -> None:
    messages = [Message("system", "Be brief."), Message("user", "hi")]
    opened = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
    assert template().render(messages, add_generation_prompt=False) == opened
    assert template().render(messages) == opened + "<|im_start|>assistant\n"


@given(content=st.text(max_size=30))
def test_ids_are_those_of_the_text_when_no_control_token_is_spelt(content: str) -> None:
    messages = [Message("user", content)]
    text = template().render(messages)
    assert template().encode(messages) == TOKENIZER.encode_ids(text)


@given(parts=st.lists(st.sampled_from([*CONTROL, "<|im_", "start|>", "0", "\ufdd0", " ", "a"]), max_size=8))
def test_content_never_becomes_a_control_token_and_loses_nothing(parts: list[str]) -> None:
    content = "".join(parts)
    ids = template().encode([Message("user", content)])
    expected = template().encode([Message("user", "a")])
    assert [i for i in ids if i in TOKENIZER.special_ids] == [i for i in expected if i in TOKENIZER.special_ids]
    assert TOKENIZER.decode(ids) == f"user\n{content}\nassistant\n"


def test_control_pieces_of_sentencepiece_come_from_the_template_alone() -> None:
    pieces = all_families()["pieces_bpe"]
    made = ChatTemplate("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", pieces)
    ids = made.encode([Message("user", "the</s>fox")])
    assert (ids[0], ids[-1]) == (pieces.bos_id, pieces.eos_id)
    assert not set(ids[1:-1]) & pieces.special_ids


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "chat.messages"),
        ([Message("user", "a"), Message("wizard", "b")], "chat.messages[1].role"),
        ([Message("", "a")], "chat.messages[0].role"),
    ],
)
def test_bad_conversations_name_their_field(messages: list[Message], field: str) -> None:
    for call in (template().render, template().encode):
        with pytest.raises(InvalidInput) as error:
            call(messages)
        assert error.value.violations[0].field == field


def test_a_templates_own_refusal_reaches_the_caller() -> None:
    made = template("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(InvalidInput, match="messages: roles must alternate"):
        made.render([Message("user", "a")], field="messages")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ missing.attribute }}",
        "{{ 1 / 0 }}",
        "{{ messages[0].content + 1 }}",
    ],
)
def test_what_goes_wrong_inside_a_template_stays_inside(source: str) -> None:
    with pytest.raises(InvalidInput, match="cannot render these messages"):
        template(source).render([Message("user", "a")])


def test_the_dialect_of_model_cards_is_understood() -> None:
    source = (
        "{%- for m in messages %}\n    {%- if loop.first %}{% continue %}{% endif %}\n"
        "{% generation %}{{ m.content | tojson }}{% endgeneration %}\n{%- endfor %}{{ strftime_now('%%') }}"
    )
    messages = [Message("system", "x"), Message("user", "é<b>")]
    assert template(source).render(messages) == '"é<b>"%'


def test_text_and_ids_are_those_of_transformers() -> None:
    from transformers import PreTrainedTokenizerFast

    reference = PreTrainedTokenizerFast(tokenizer_object=byte_level(), eos_token="<|im_end|>")
    source = (
        "{%- for m in messages %}\n  {%- if m.role == 'user' %}\nU: {{ m.content | trim }}\n  {% else %}\n"
        "A: {{ m['content'] | tojson }}{{ eos_token }}\n{% endif %}\n{%- endfor %}\n"
        "{% if add_generation_prompt %}A:{% endif %}"
    )
    named = from_library(byte_level(), eos_token="<|im_end|>")
    turns = [("system", "é\n"), ("user", " x "), ("assistant", "<b>\n"), ("user", " y")]
    messages = [Message(role, content) for role, content in turns]
    dicts = [{"role": role, "content": content} for role, content in turns]
    for chosen in (CHATML, source):
        made, options = ChatTemplate(chosen, named), {"chat_template": chosen, "add_generation_prompt": True}
        assert made.render(messages) == reference.apply_chat_template(dicts, tokenize=False, **options)
        ids = reference.apply_chat_template(dicts, tokenize=True, return_dict=False, **options)
        assert made.encode(messages) == list(ids)


def test_a_broken_template_is_refused_at_load() -> None:
    with pytest.raises(PreconditionFailed, match="chat template is broken"):
        template("{% for %}")


def test_a_model_without_a_template_has_none() -> None:
    assert chat.load(None, TOKENIZER) is None
    assert chat.load(TokenizerSpec(), TOKENIZER) is None
    assert chat.load(TokenizerSpec(chat_template=CHATML), TOKENIZER) is not None
