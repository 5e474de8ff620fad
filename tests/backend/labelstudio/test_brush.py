import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from label_studio_sdk.converter import brush
from numpy.typing import NDArray

from backend.labelstudio.brush import decode, encode

sdk: Any = brush  # the reference, which has no types
RECORDED = Path(__file__).parents[2] / "recorded"

Mask = NDArray[np.bool_]
masks = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=40))
# Runs of all lengths, at edges of the count sizes and beyond the longest count.
stripes = st.lists(st.sampled_from([1, 2, 3, 4, 5, 63, 64, 65, 16383, 16384, 16385]), min_size=1)


def sdk_encode(mask: NDArray[Any]) -> bytes:
    return bytes(sdk.mask2rle(np.where(mask, 255, 0).astype(np.uint8)))


def sdk_decode(rle: bytes, height: int, width: int) -> NDArray[np.uint8]:
    flat: NDArray[np.uint8] = sdk.decode_rle(rle)
    return flat.reshape(height, width, 4)[..., 3]


def striped(lengths: list[int]) -> Mask:
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)[np.newaxis]


def pack(total: int, *fields: tuple[int, int], sizes: tuple[int, ...] = (3, 4, 8, 16)) -> bytes:
    """A stream by hand: `total` values, then (value, bits) fields."""
    header = [(total, 32), (7, 5), *((size - 1, 4) for size in sizes)]
    text = "".join(f"{value:0{bits}b}" for value, bits in [*header, *fields])
    text += "0" * (-len(text) % 8)
    return bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))


@given(masks)
def test_a_mask_survives_the_round_trip(mask: Mask) -> None:
    alpha = decode(encode(mask), *mask.shape)
    assert alpha.dtype == np.uint8
    np.testing.assert_array_equal(alpha, np.where(mask, 255, 0))


@settings(max_examples=40)
@given(stripes)
def test_runs_of_any_length_survive_the_round_trip(lengths: list[int]) -> None:
    mask = striped(lengths)
    np.testing.assert_array_equal(decode(encode(mask), *mask.shape) == 255, mask)


@given(masks)
def test_the_sdk_reads_what_we_write(mask: Mask) -> None:
    np.testing.assert_array_equal(sdk_decode(encode(mask), *mask.shape), np.where(mask, 255, 0))


@given(masks)
def test_we_read_what_the_sdk_writes(mask: Mask) -> None:
    np.testing.assert_array_equal(decode(sdk_encode(mask), *mask.shape), np.where(mask, 255, 0))


@given(masks)
def test_our_bytes_are_the_sdks_without_its_superfluous_zero(mask: Mask) -> None:
    ours, theirs = encode(mask), sdk_encode(mask)
    assert theirs in (ours, ours + b"\0")


@settings(max_examples=40)
@given(arrays(np.uint8, (7, 11), elements=st.sampled_from([0, 1, 100, 254, 255])))
def test_we_read_grey_masks_as_the_sdk_does(grey: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(decode(bytes(sdk.mask2rle(grey)), 7, 11), grey)


@given(arrays(np.uint8, (3, 5, 4), elements=st.integers(0, 3)))
def test_only_alpha_counts_where_the_channels_differ(rgba: NDArray[np.uint8]) -> None:
    rle = bytes(sdk.encode_rle(rgba.ravel()))
    np.testing.assert_array_equal(decode(rle, 3, 5), rgba[..., 3])


@given(st.binary(max_size=80), st.integers(0, 9), st.integers(0, 9))
def test_garbage_is_a_value_error_or_an_image(rle: bytes, height: int, width: int) -> None:
    try:
        alpha = decode(rle, height, width)
    except ValueError:
        return
    assert alpha.shape == (height, width)


@given(st.binary(max_size=60), st.lists(st.integers(1, 16), min_size=4, max_size=4))
def test_garbage_behind_a_good_header_reads_as_in_the_sdk(body: bytes, sizes: list[int]) -> None:
    rle = pack(64, *((byte, 8) for byte in body), sizes=tuple(sizes))
    try:
        alpha = decode(rle, 4, 4)
    except ValueError:  # cut short
        return
    try:
        expected = sdk_decode(rle, 4, 4)
    except IndexError:  # its last literal reaches beyond the image; the editor and we stop there
        return
    np.testing.assert_array_equal(alpha, expected)


@given(masks, st.data())
def test_a_stream_cut_anywhere_is_told_so(mask: Mask, data: st.DataObject) -> None:
    rle = encode(mask)
    cut = data.draw(st.integers(0, len(rle) - 1))
    with pytest.raises(ValueError, match="cut short"):
        decode(rle[:cut], *mask.shape)


def test_what_the_editor_wrote_decodes_as_in_the_sdk() -> None:
    path = RECORDED / "webhook-ANNOTATION_CREATED-from-editor.json"
    regions = json.loads(path.read_text())["json"]["annotation"]["result"]
    brushes = [region for region in regions if region["type"] == "brushlabels"]
    decoded = []
    for region in brushes:
        rle, size = region["value"]["rle"], (region["original_height"], region["original_width"])
        decoded.append(decode(rle, *size))
        np.testing.assert_array_equal(decoded[-1], sdk_decode(bytes(rle), *size))
    assert any(len(np.unique(alpha)) > 100 for alpha in decoded), "no stroke drawn by hand"


def test_literals_and_runs_mix_at_any_position() -> None:
    # A run of 5, a literal of 2, a run of 1: pixels end inside chunks.
    rle = pack(
        8,
        (1, 1),
        (0, 2),
        (4, 3),
        (9, 8),
        (0, 1),
        (1, 2),
        (1, 4),
        (7, 8),
        (8, 8),
        *[(4, 3), (0, 3), (6, 8)],
    )
    np.testing.assert_array_equal(decode(rle, 1, 2), [[9, 6]])
    np.testing.assert_array_equal(sdk_decode(rle, 1, 2), [[9, 6]])


def test_a_list_reads_like_bytes() -> None:
    mask = np.eye(9, dtype=np.bool_)
    np.testing.assert_array_equal(decode(list(encode(mask)), 9, 9), decode(encode(mask), 9, 9))


@pytest.mark.parametrize("values", [[0, 300], [-1], [1.5], ["a"], None, 5, "text", [None]])
def test_values_that_are_no_bytes_are_refused(values: Any) -> None:
    with pytest.raises(ValueError, match="whole numbers from 0 to 255"):
        decode(values, 1, 1)


def test_another_image_size_is_refused() -> None:
    rle = encode(np.ones((6, 4), np.bool_))
    with pytest.raises(ValueError, match="24 pixels does not fit an image of width 5 and height 6"):
        decode(rle, 6, 5)


@pytest.mark.parametrize("size", [(0, 0), (-1, -24), (24, 0)])
def test_sizes_below_one_pixel_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        decode(pack(4 * size[0] * size[1]), *size)


def test_other_word_sizes_are_refused() -> None:
    rle = bytearray(encode(np.ones((2, 2), np.bool_)))
    rle[4] = (15 << 3) | (rle[4] & 7)
    with pytest.raises(ValueError, match="16 bits"):
        decode(bytes(rle), 2, 2)


@pytest.mark.parametrize(
    "mask", [np.zeros((2, 2), np.uint8), np.zeros((2, 2)), np.zeros(4, np.bool_)]
)
def test_masks_that_are_not_boolean_images_are_refused(mask: Any) -> None:
    with pytest.raises(ValueError, match="compare first"):
        encode(mask)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
def test_an_empty_mask_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="empty"):
        encode(np.zeros(shape, np.bool_))


def test_a_mask_that_is_a_view_encodes_like_its_copy() -> None:
    mask = np.random.default_rng(0).random((20, 30)) < 0.3
    assert encode(mask.T[::2]) == encode(mask.T[::2].copy())
