"""Scenes with a red star beside a red square and a blue star: what "red star" alone tells apart."""

from demo.phrases import Query
from demo.scenes import Look, Scene, generate

LOOKS = [
    Look("star", "red", "plain"),
    Look("square", "red", "plain"),
    Look("star", "blue", "plain"),
]
RED_STAR = Query(shape="star", colour="red")


def scene(seed: int) -> Scene:
    """One of each."""
    return generate(40 + seed, 256, include=LOOKS, count=(3, 3))
