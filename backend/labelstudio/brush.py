"""Brush masks as Label Studio writes them: the bit-packed run lengths of thi.ng's rle-pack.

A stream is a header (the number of values, the word size, four count sizes) and then chunks until
all values are out: one bit "run?", two bits that choose a count size, the count less one, and then
one value for a run or `count` values for a literal. Bits come most significant first. The values
are RGBA, row by row; the editor draws alpha alone, and writes it four times.
See https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CHANNELS = 4
WORD_BITS = 8
COUNT_BITS = (3, 4, 8, 16)  # the sizes Label Studio writes; a reader takes them from the header
_SIZES_FROM = 32 + 5
_CHUNKS_FROM = _SIZES_FROM + 4 * len(COUNT_BITS)
_FLAG_BITS = 3  # "run?" and the choice of a count size

_Ints = NDArray[np.int64]


def encode(mask: NDArray[np.bool_]) -> bytes:
    """Pack a mask, (H, W), into brush RLE; `list(encode(mask))` is what goes into the JSON.

    Raises:
        ValueError: The mask is not boolean, not 2-D, empty, or beyond what the header can count.
    """
    if mask.dtype != np.bool_ or mask.ndim != 2:
        raise ValueError(
            f"a brush mask is a 2-D bool array, not {mask.ndim}-D {mask.dtype}; "
            "compare first, for example `probabilities > 0.5`"
        )
    if not 0 < CHANNELS * mask.size < 2**32:
        raise ValueError(f"a brush mask of shape {mask.shape} is empty or too large to encode")
    pixels = mask.ravel()
    starts = np.concatenate(([0], np.flatnonzero(pixels[1:] != pixels[:-1]) + 1))
    lengths = CHANNELS * np.diff(starts, append=pixels.size)
    counts, chunks_per_run = _split(lengths, 2 ** max(COUNT_BITS))
    values = np.repeat(np.where(pixels[starts], 255, 0), chunks_per_run)

    size = np.searchsorted([2**bits for bits in COUNT_BITS], counts)
    count_bits = np.take(COUNT_BITS, size)
    flags = 4 + size  # the encoder writes runs only: a pixel alone is a run of four
    chunks = (((flags << count_bits) + counts - 1) << WORD_BITS) + values
    header = [(CHANNELS * mask.size, 32), (WORD_BITS - 1, 5), *((n - 1, 4) for n in COUNT_BITS)]
    words, widths = np.array(header).T
    return _write_bits(
        np.concatenate((words, chunks)),
        np.concatenate((widths, _FLAG_BITS + count_bits + WORD_BITS)),
    )


def decode(rle: bytes | Sequence[int], height: int, width: int) -> NDArray[np.uint8]:
    """Unpack brush RLE into alpha, (H, W), 0 to 255; strokes drawn by hand have soft edges.

    Raises:
        ValueError: The stream is not brush RLE, is cut short, or belongs to another image size.
    """
    try:
        stream = rle if isinstance(rle, bytes) else bytes(list(rle))
    except (TypeError, ValueError) as error:
        raise ValueError("brush RLE is a list of whole numbers from 0 to 255") from error
    bits, count_bits = _read_header(stream, height, width)
    total = CHANNELS * height * width

    chunks, end = _follow(stream, bits, count_bits)
    flags = _read_bits(stream, chunks, _FLAG_BITS)
    is_run = flags >= 4
    size = np.take(count_bits, flags & 3)
    counts = _read_bits(stream, chunks + _FLAG_BITS, size) + 1
    complete = int(np.searchsorted(np.cumsum(counts), total)) + 1
    if complete > len(chunks) or (complete == len(chunks) and end > len(bits)):
        raise ValueError(f"brush RLE is cut short: {len(stream)} bytes do not hold {total} values")

    # A literal of n values becomes n runs of one. Alpha is every fourth value, the last of its
    # pixel, so of the values before `ends`, ends // 4 are alpha: RGB is never written out.
    is_run, counts = is_run[:complete], counts[:complete]
    values_from = (chunks + _FLAG_BITS + size)[:complete]
    parts = np.where(is_run, 1, counts)
    part = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    values = _read_bits(stream, np.repeat(values_from, parts) + WORD_BITS * part, WORD_BITS)
    ends = np.minimum(np.cumsum(np.repeat(np.where(is_run, counts, 1), parts)), total)
    pixels = np.diff(ends // CHANNELS, prepend=0)
    return np.repeat(values.astype(np.uint8), pixels).reshape(height, width)


def _split(lengths: _Ints, longest: int) -> tuple[_Ints, _Ints]:
    """Cut lengths into pieces of at most `longest`: all pieces, and how many each length gave."""
    pieces = -(-lengths // longest)
    counts = np.full(pieces.sum(), longest)
    counts[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * longest
    return counts, pieces


def _write_bits(words: _Ints, widths: _Ints) -> bytes:
    """Join the low `widths` bits of each word (32 at most), padded with zeros to whole bytes."""
    ends = np.cumsum(widths)
    starts = ends - widths
    # Each word falls into one or two 32-bit cells. Bits never overlap, so summing joins them, and
    # bincount sums in doubles, which hold 32 bits exactly.
    shifted = words.astype(np.uint64) << (64 - widths - starts % 32).astype(np.uint64)
    cell, cells = starts // 32, int(ends[-1]) // 32 + 2
    joined = np.bincount(cell, shifted >> np.uint64(32), cells)
    joined += np.bincount(cell + 1, shifted & np.uint64(2**32 - 1), cells)
    return joined.astype(">u4").tobytes()[: -(-int(ends[-1]) // 8)]


def _read_bits(stream: bytes, starts: _Ints, widths: _Ints | int) -> _Ints:
    """The number in `widths` bits (32 at most) from each start; zeros follow the stream."""
    padded = np.frombuffer(stream + bytes(8), np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 8)
    bytes_from = np.minimum(starts // 8, len(stream))
    words: NDArray[np.uint64] = windows[bytes_from].view(">u8").ravel().astype(np.uint64)
    aligned = words << (starts % 8).astype(np.uint64)
    return (aligned >> np.asarray(64 - widths, np.uint64)).astype(np.int64)


def _read_header(stream: bytes, height: int, width: int) -> tuple[NDArray[np.uint8], list[int]]:
    """The stream's bits and its four count sizes, once the header fits the image."""
    bits = np.unpackbits(np.frombuffer(stream, np.uint8))
    if len(bits) < _CHUNKS_FROM:
        raise ValueError(f"brush RLE is cut short: {len(stream)} bytes do not hold its header")
    total = int.from_bytes(stream[:4], "big")
    word_bits = (stream[4] >> 3) + 1
    if word_bits != WORD_BITS:
        raise ValueError(f"not brush RLE: its words have {word_bits} bits, not {WORD_BITS}")
    if height < 1 or width < 1 or total != CHANNELS * height * width:
        raise ValueError(
            f"brush RLE of {total / CHANNELS:g} pixels does not fit an image of width {width} and "
            f"height {height}; give the region's original_width and original_height"
        )
    sizes = np.arange(len(COUNT_BITS)) * 4 + _SIZES_FROM
    return bits, (_read_bits(stream, sizes, 4) + 1).tolist()


def _follow(stream: bytes, bits: NDArray[np.uint8], count_bits: list[int]) -> tuple[_Ints, int]:
    """Where each chunk starts, and where the last one ends, be that beyond the stream.

    A chunk's place is known only from the one before, so this is the one loop in Python. It is
    cheap because three bits tell a run's width; a literal alone must be read to be skipped.
    """
    flags = (4 * bits[:-2] + 2 * bits[1:-1] + bits[2:]).tobytes()
    run_bits = [_FLAG_BITS + size + WORD_BITS for size in count_bits]
    padded = stream + bytes(3)
    starts: list[int] = []
    at = _CHUNKS_FROM
    while at < len(flags):
        starts.append(at)
        flag = flags[at]
        if flag >= 4:
            at += run_bits[flag - 4]
        else:
            byte, bit = divmod(at + _FLAG_BITS, 8)
            size = count_bits[flag]
            window = int.from_bytes(padded[byte : byte + 3], "big") >> (24 - bit - size)
            at += _FLAG_BITS + size + WORD_BITS * (window % 2**size + 1)
    return np.array(starts, np.int64), at
