"""The demo checkpoint's tokenizer: CLIP's byte-level BPE with merges for the grammar's words."""

from collections import Counter
from itertools import pairwise

from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE

from demo import phrases
from models.tokenizer import BOS, EOS, assemble

END = "</w>"


def build() -> Tokenizer:
    """A tokenizer in which any text has ids, and every word of the grammar has one of its own.

    The ids are laid out as CLIP's: bytes, bytes that end a word, merges, start, end. The end must
    be the largest, because that is where the text tower pools.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = learn(phrases.vocabulary())
    symbols = [*alphabet, *(symbol + END for symbol in alphabet)]
    symbols += [left + right for left, right in merges]
    symbols += [BOS, EOS]
    vocabulary = {symbol: index for index, symbol in enumerate(dict.fromkeys(symbols))}
    tokenizer = assemble(
        BPE(vocabulary, merges, end_of_word_suffix=END, unk_token=EOS, continuing_subword_prefix="")
    )
    tokenizer.add_special_tokens([BOS, EOS])
    return tokenizer


def learn(words: set[str]) -> list[tuple[str, str]]:
    """Merges, most frequent pair first, until each of the lower-case words is one token.

    The library's own trainer breaks ties in another order at every run; this one does not.
    """
    pieces = [[*word[:-1], word[-1] + END] for word in sorted(words)]
    merges: list[tuple[str, str]] = []
    while True:
        pairs = Counter(pair for word in pieces for pair in pairwise(word))
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word in pieces:
            i = 0
            while i < len(word) - 1:
                if (word[i], word[i + 1]) == best:
                    word[i : i + 2] = ["".join(best)]
                i += 1
