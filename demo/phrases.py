"""What people may type for the objects of a scene, and which objects that means."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from demo.scenes import KNOWN_COLOURS, KNOWN_SHAPES, KNOWN_TEXTURES

KINDS: dict[str, tuple[str, ...]] = {
    "colour": ("colour",),
    "shape": ("shape",),
    "texture": ("texture",),
    "colour+shape": ("colour", "shape"),
    "texture+shape": ("texture", "shape"),
    "colour+texture": ("colour", "texture"),
    "full": ("colour", "texture", "shape"),
}

# The first word is the usual one; a name that is not here stands for itself.
WORDS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "disc", "disk"),
    "square": ("square", "box"),
    "ring": ("ring", "hoop", "donut"),
    "cross": ("cross", "plus", "plus sign"),
    "cyan": ("cyan", "turquoise"),
    "purple": ("purple", "violet"),
    "plain": ("plain", "solid"),
    "striped": ("striped", "stripy", "stripey"),
    "dotted": ("dotted", "spotted", "polka dot"),
    "checkered": ("checkered", "checked", "chequered", "checkerboard"),
}
TEXTURE_NOUNS = {
    "striped": ("with stripes", "with a striped pattern"),
    "dotted": ("with dots", "with spots", "with polka dots"),
    "checkered": ("with checks", "with a checkered pattern"),
}
THINGS = ("thing", "object", "shape", "item", "one", "figure", "thingy", "region")
OTHERS = (
    "cat", "dog", "car", "tree", "person", "house", "chair", "bird", "face", "sky", "bottle",
    "flower", "horse", "table", "bicycle", "boat", "phone", "book", "lamp", "shoe", "sofa",
    "train", "bus", "cow", "sheep", "plate", "cup", "window", "door", "road", "grass", "river",
)  # fmt: skip
# Said beside traits; what is meant is the same. They are kept out of the vocabulary, since new
# tokens would renumber those that weights were trained with.
BESIDES = (
    "big", "large", "huge", "small", "little", "tiny", "bright", "dark", "shiny", "nice", "pretty",
    "ugly", "old", "new", "clean", "dirty", "visible", "single", "whole",
)  # fmt: skip
BESIDE = 0.1  # of the phrases that name traits have such a word
COINED = 0.7  # of the phrases about what no scene holds
CONSONANTS, VOWELS = "bcdfghjklmnpqrstvwxz", "aeiouy"
JOINTS = ("", " ", "-", "_")  # between a coined word and its number
TEMPLATES = (
    "the {}", "a photo of {a}", "a photo of {a}.", "a photograph of {a}", "an image of {a}",
    "a picture of {a}", "a drawing of {a}", "there is {a}", "{a} in the picture", "find {a}",
    "find the {}", "segment the {}", "mark the {}", "select the {}", "where is the {}",
    "show me the {}", "please find the {}", "every {}", "any {}", "this is {a}", "look for {a}",
    "a cropped photo of {a}", "a good photo of {a}", "{a}.", "only the {}", "one {}",
)  # fmt: skip
PLURAL_TEMPLATES = (
    "{}",
    "the {}",
    "all {}",
    "all the {}",
    "find all {}",
    "many {}",
    "a photo of {}",
)


class Described(Protocol):
    """Anything with a shape, a colour and a texture."""

    @property
    def shape(self) -> str:
        """A name in `SHAPES`."""
        ...

    @property
    def colour(self) -> str:
        """A name in `COLOURS`."""
        ...

    @property
    def texture(self) -> str:
        """A name in `TEXTURES`."""
        ...


@dataclass(frozen=True, slots=True)
class Query:
    """The traits a phrase asks for; None asks for nothing."""

    shape: str | None = None
    colour: str | None = None
    texture: str | None = None

    @classmethod
    def about(cls, thing: Described, kind: str) -> "Query":
        """Ask for the traits of `thing` that `kind` names."""
        return cls(**{trait: getattr(thing, trait) for trait in KINDS[kind]})

    def matches(self, thing: Described) -> bool:
        """Whether the phrase means this object."""
        return all(
            wanted in (None, there)
            for wanted, there in (
                (self.shape, thing.shape),
                (self.colour, thing.colour),
                (self.texture, thing.texture),
            )
        )

    def simple(self) -> str:
        """The plainest wording, without an article: "striped red circle"."""
        return " ".join(filter(None, (self.texture, self.colour, self.shape or "thing")))


def with_article(noun: str) -> str:
    """An indefinite article that fits: "an orange ring", "a red ring"."""
    return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"


def plural(noun: str) -> str:
    """More than one: "crosses", "boxes", "rings"."""
    return noun + ("es" if noun.endswith(("s", "x")) else "s")


def wording(query: Query, rng: np.random.Generator) -> str:
    """One of the many ways to say it."""
    many = rng.uniform() < 0.15
    shape = _word(query.shape, rng)
    # A bare trait is a phrase too: "red", "striped", "striped red".
    bare = shape is None and not many and rng.uniform() < 0.2
    noun = shape or ("" if bare else THINGS[int(_skewed(rng, len(THINGS)))])
    if many:
        noun = plural(noun)
    traits = [w for w in (_word(query.texture, rng), _word(query.colour, rng)) if w]
    tail = ""
    if query.texture in TEXTURE_NOUNS and noun and rng.uniform() < 0.15:
        traits = traits[1:]
        tail = str(rng.choice(TEXTURE_NOUNS[query.texture]))
    elif query.colour and noun and rng.uniform() < 0.06:
        tail = f"that {'are' if many else 'is'} {traits.pop()}"
    elif len(traits) == 2 and rng.uniform() < 0.35:
        traits.reverse()
        if rng.uniform() < 0.2:
            traits[0] += " and"
    if noun and rng.uniform() < BESIDE:
        traits.insert(0, str(rng.choice(BESIDES)))
    phrase = " ".join(filter(None, (*traits, noun, tail)))
    if bare:
        return phrase
    return _framed(phrase, many, rng)


def other(rng: np.random.Generator) -> str:
    """A phrase about something no scene holds: "a photo of a cat", "the zorp", "widget-7"."""
    noun = _coined(rng) if rng.uniform() < COINED else str(rng.choice(OTHERS))
    if rng.uniform() < 0.3:
        noun = f"{rng.choice(KNOWN_COLOURS)} {noun}"
    return _framed(noun, False, rng)


def _coined(rng: np.random.Generator) -> str:
    """A word that nobody said before; names of labels often are one, with a number behind."""
    if rng.uniform() < 0.5:
        syllables = rng.choice(list(CONSONANTS), (rng.integers(1, 5), 2))
        word = "".join(f"{a}{rng.choice(list(VOWELS))}{b}" for a, b in syllables)
        word = word[: int(rng.integers(2, 11))]
    else:
        word = "".join(rng.choice(list(CONSONANTS + VOWELS), rng.integers(2, 11)))
    return word + (f"{rng.choice(JOINTS)}{rng.integers(100)}" if rng.uniform() < 0.25 else "")


def _framed(phrase: str, many: bool, rng: np.random.Generator) -> str:
    if many:
        return PLURAL_TEMPLATES[int(_skewed(rng, len(PLURAL_TEMPLATES)))].format(phrase)
    throw = rng.uniform()
    if throw < 0.3:
        return phrase
    if throw < 0.6:
        return with_article(phrase)
    return str(rng.choice(TEMPLATES)).format(phrase, a=with_article(phrase))


def _word(name: str | None, rng: np.random.Generator) -> str | None:
    if name is None:
        return None
    words = WORDS.get(name, (name,))
    return words[0] if rng.uniform() < 0.75 else str(rng.choice(words))


def _skewed(rng: np.random.Generator, n: int) -> float:
    """An index below n, the first ones more often."""
    return n * rng.uniform() ** 2


def absent(things: Sequence[Described], kind: str, rng: np.random.Generator) -> Query | None:
    """A query of this kind that nothing in the scene answers, if one is found.

    Half of them mix the traits of things that are there, which is the hard case.
    """
    names = {"shape": KNOWN_SHAPES, "colour": KNOWN_COLOURS, "texture": KNOWN_TEXTURES}
    for attempt in range(30):
        mixed = len(KINDS[kind]) > 1 and bool(things) and rng.uniform() < 0.5 and attempt < 15
        query = Query(
            **{
                trait: getattr(things[int(rng.integers(len(things)))], trait)
                if mixed and rng.uniform() < 0.8
                else str(rng.choice(names[trait]))
                for trait in KINDS[kind]
            }
        )
        if not any(query.matches(thing) for thing in things):
            return query
    return None


def vocabulary() -> set[str]:
    """Every word that the grammar can say, for the tokenizer."""
    groups: Iterable[Iterable[str]] = (
        KNOWN_SHAPES, KNOWN_COLOURS, KNOWN_TEXTURES, *WORDS.values(), *TEXTURE_NOUNS.values(),
        THINGS, OTHERS, TEMPLATES, PLURAL_TEMPLATES, ("that is", "that are", "and", "a", "an"),
        (plural(noun) for name in KNOWN_SHAPES for noun in WORDS.get(name, (name,))),
        (plural(noun) for noun in THINGS),
    )  # fmt: skip
    texts = (text.replace("{}", "").replace("{a}", "") for group in groups for text in group)
    return {word for text in texts for word in text.replace(".", " ").split()}
