"""CLIP's byte-level BPE, on the `tokenizers` library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import torch
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from torch import Tensor

from models.checkpoint import CheckpointError

BOS = "<|startoftext|>"
EOS = "<|endoftext|>"
CONTEXT = 77
LONGEST, CUTTING = (True, "longest"), (True, "longest_first", "only_first")
PADDING = (*LONGEST, "max_length", False, "do_not_pad")
TRUNCATION = (*CUTTING, False, None, "do_not_truncate")
WORD_END = "</w>"  # of a token that ends a word

# The split of OpenAI's simple_tokenizer.py (MIT): contractions, words, single digits, the rest.
WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def assemble(model: BPE) -> Tokenizer:
    """The pipeline around a BPE model: lower case, words, bytes, start and end of text."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    add_ends(tokenizer)
    return tokenizer


def add_ends(tokenizer: Tokenizer) -> None:
    """Put start and end of text around every text, once the vocabulary has them."""
    bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    if bos is not None and eos is not None:
        tokenizer.add_special_tokens([BOS, EOS])
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $0 {EOS}", special_tokens=[(BOS, bos), (EOS, eos)]
        )


class CLIPTokenizer:
    """Texts to token ids, each between start and end of text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        end = tokenizer.token_to_id(EOS)
        if end is None:
            raise ValueError(f"The vocabulary has no {EOS} token.")
        # Lengths are ours to judge: a saved file may carry its own truncation and padding.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._end = end

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Read `tokenizer.json`, else `vocab.json` with `merges.txt`."""
        folder = Path(folder)
        whole, vocab, merges = (
            folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt")
        )
        try:
            if whole.is_file():
                saved = Tokenizer.from_file(str(whole))
                if saved.post_processor is None:
                    add_ends(saved)
                return cls(saved)
            if vocab.is_file() and merges.is_file():
                bpe = BPE.from_file(
                    str(vocab), str(merges), end_of_word_suffix=WORD_END, unk_token=EOS
                )
                return cls(assemble(bpe))
        except Exception as error:  # the library raises bare Exceptions
            raise CheckpointError(f"The tokenizer in {folder} is damaged: {error}") from error
        raise CheckpointError(
            f"Checkpoint {folder} has no tokenizer.json and no vocab.json with merges.txt."
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `tokenizer.json`."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._tokenizer.save(str(Path(folder) / "tokenizer.json"))

    def words(self) -> list[str]:
        """The words of three letters and more that are one token, in the order of the vocabulary.

        That is the order in which they were merged: the commonest first.
        """
        whole = (
            (index, token.removesuffix(WORD_END))
            for token, index in self._tokenizer.get_vocab().items()
            if token.endswith(WORD_END)
        )
        return [
            word for _, word in sorted(whole) if len(word) > 2 and word.isascii() and word.isalpha()
        ]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids per text, with start and end of text, of any length.

        A half of a character that stands alone is read as one that is not known.
        """
        whole = [text.encode("utf-8", "replace").decode() for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch(whole)]

    def padded(
        self,
        texts: Sequence[str],
        padding: bool | str = False,
        truncation: bool | str | None = False,
        max_length: int | None = None,
    ) -> dict[str, list[list[int]]]:
        """`input_ids` and `attention_mask` as lists.

        `padding` is True or "longest", "max_length", or False or "do_not_pad"; `truncation` (True
        or "longest_first") cuts to `max_length` (77 unless given) and keeps the end of text; False
        or "do_not_truncate" does not.

        Raises:
            ValueError: one of them is none of these.
        """
        if padding not in PADDING or truncation not in TRUNCATION:
            raise ValueError(
                f"padding={padding!r} with truncation={truncation!r} is unknown: give "
                f"one of {PADDING}, and of {TRUNCATION}."
            )
        limit = CONTEXT if max_length is None else max_length
        rows = self.encode(texts)
        if truncation in CUTTING:
            rows = [row if len(row) <= limit else [*row[: limit - 1], row[-1]] for row in rows]
        length = 0
        if padding == "max_length":
            length = limit
        elif padding in LONGEST:
            length = max((len(row) for row in rows), default=0)
        return self._filled(rows, length)

    def _filled(self, rows: Sequence[list[int]], length: int) -> dict[str, list[list[int]]]:
        return {
            "input_ids": [row + [self._end] * (length - len(row)) for row in rows],
            "attention_mask": [[1] * len(row) + [0] * (length - len(row)) for row in rows],
        }

    def size(self) -> int:
        """How many tokens a model has to know for every text."""
        return max(self._tokenizer.get_vocab().values()) + 1

    def reads(self, texts: Sequence[str], context: int = CONTEXT) -> list[bool]:
        """Whether each text is no longer than the model reads."""
        return [len(row) <= context for row in self.encode(texts)]

    def readable(self, texts: Sequence[str], context: int = CONTEXT) -> list[list[int]]:
        """As `encode`, of texts that the model can read.

        Raises:
            ValueError: a text is longer than the model reads.
        """
        rows = self.encode(texts)
        for text, row in zip(texts, rows, strict=True):
            if len(row) > context:
                shown = text if len(text) <= 40 else text[:40] + "…"
                raise ValueError(
                    f"The text {shown!r} has {len(row) - 2} tokens; "
                    f"the model reads at most {context - 2}: shorten it."
                )
        return rows

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask`, (N, L) int64, padded to the longest text.

        Raises:
            ValueError: no text, or one longer than the model reads.
        """
        if not texts:
            raise ValueError("There is no text to tokenize.")
        rows = self.readable(texts)
        filled = self._filled(rows, max(map(len, rows)))
        return {name: torch.tensor(value) for name, value in filled.items()}

    def decode(self, token_ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        """The text of token ids, lower-case as the model reads it."""
        ids = [int(token) for token in token_ids]
        text: str = self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)
        return text.replace(WORD_END, " ").strip()
