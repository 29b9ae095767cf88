"""What the chat template makes of prompts and answers."""

from __future__ import annotations

import pytest

from tpo_plugin.errors import TPOError
from tpo_plugin.integrations.huggingface import prompt_text, response_text
from tpo_plugin.tiny.model import build_processor
from tpo_plugin.training.policies.hf import response_ids

# As LLaVA-OneVision's: a space stands after the role of a rendered answer, none in the prompt for one.
ONEVISION = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for part in message['content'] if part['type'] == 'video' %}{{ '<video>' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ '\\n' + part['text'] }}{% endfor %}"
    "{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# As Qwen2-VL's: the turn ends with a line break, which no model writes.
QWEN = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<video>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize("template", [None, ONEVISION, QWEN], ids=["tiny", "onevision", "qwen"])
def test_an_answer_is_the_text_and_the_end_of_its_turn(template: str | None) -> None:
    processor = build_processor()
    processor.chat_template = template or processor.chat_template
    assert prompt_text(processor, "Who?").endswith(
        "Who?<|im_end|><|im_start|>assistant\n" if template == ONEVISION else "assistant\n"
    )
    assert response_text(processor, "a star\nor two ") == "a star\nor two <|im_end|>"
    ids = response_ids(processor, "star")
    assert processor.tokenizer.convert_ids_to_tokens(ids.tolist())[-1] == "<|im_end|>"
    assert (ids == processor.tokenizer.eos_token_id).sum() == 1


def test_a_template_without_answers_is_refused() -> None:
    processor = build_processor()
    processor.chat_template = "{% for message in messages if message['role'] == 'user' %}<video>{% endfor %}"
    with pytest.raises(TPOError, match="leaves out what the assistant says"):
        response_text(processor, "a star")
