"""The tiny models' tokenizers: byte-level BPEs learned from this world's own texts, to which no text is unknown."""

from __future__ import annotations

import random
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tpo_plugin.tiny import questions
from tpo_plugin.tiny.world import draw_scenes

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"


def learn_tokenizer(texts: Iterable[str], vocab_size: int, media: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of at most `vocab_size` tokens learned from `texts`; `media` are the special tokens around pictures."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[PAD, START, END, *media],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START, *media],
        padding_side="left",
        model_max_length=4096,
    )


def question_texts() -> list[str]:
    """Questions and answers of all forms, open and with options in both benchmarks' wordings."""
    rng = random.Random(0)
    texts = []
    for _ in range(2000):
        scenes = draw_scenes(rng, rng.randint(2, 8))
        for form in questions.FORMS:
            asked = questions.ask(form, scenes, rng)
            if asked is None:
                continue
            texts.append(f"{asked.text}\n{asked.answer}")
            if asked.has_options:
                style = rng.choice(["videomme", "mlvu"])
                texts.append(questions.with_options(asked.text, asked.choices, style))
                texts.append(questions.letter_answer(asked.choices, asked.answer))
    return texts
