"""Which pictures are copies of one another: the same pixels, saved anew, resized, slightly cropped, turned.

1. **Exact** copies have the same size and pixels: equal digests.
2. **Candidates**: pictures in the order of their mean grey, each compared with those of nearly the same mean (a band of
   the matrix of all pairs) by the dot product of their descriptors. Blocks of the band fit in some 50 MB, whatever N.
3. **Near** copies are the candidates that agree in their fine structure, if need be after one is brought into register
   with the other (``registration``). Pairs that are in one group already are not looked at again, so that a set of
   thousands of copies of one picture costs no more than one of different pictures.
4. **Turned** copies: the same for the seven other symmetries of the square, by turning one side of each pair.

Measured: of 60,000 pictures with the spectra and colours of Planet's tiles and random phases, 600 planted copies (half
of them turned) were all found and no other, in 107 s on one core; thumbnails and descriptors take 140 MB.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onecycle.data.audit.findings import CopyKind
from onecycle.data.audit.fingerprints import TURNS, UPRIGHT, Fingerprints, Turn, descriptors, edges
from onecycle.data.audit.registration import same_picture

_BLOCK = 2048  # rows and columns of a block of pairs: 16 MB of float32
_VERIFIED_AT_ONCE = 512  # pairs; the registration keeps about 40 kB for each
# Of two descriptors: 4 standard deviations of unrelated pictures; 99 of 100 crops of 5 % a side have at least 0.74.
_LEAST_ALIKE = 0.5
_MEAN_WITHIN = 12.0  # grey levels that a slight crop may change the mean by
_COLOUR_WITHIN = 16.0  # of mean red, green, blue
# Grey levels a cell; a picture with less is of one colour, and its noise would be like that of any other.
_LEAST_STRUCTURE = 0.15


@dataclass(frozen=True)
class Link:
    """Two pictures that show the same; ``a < b``."""

    a: int
    b: int
    kind: CopyKind


@dataclass(frozen=True)
class Copies:
    """What the search found among N pictures."""

    links: list[Link]  # just enough pairs to hold each group together, the closest kinds first
    groups: np.ndarray  # int64 (N,): the first picture of each one's group, itself where it has no copy
    plain: np.ndarray  # positions of pictures of one colour, of which only exact copies are found


def find_copies(prints: Fingerprints) -> Copies:
    """Find all copies among pictures.

    Args:
        prints: of N pictures; those without a digest are left out.
    """
    groups = np.arange(len(prints.digests), dtype=np.int64)
    links = _exact_links(prints, groups)
    readable = np.array([bool(d) for d in prints.digests], dtype=bool)
    first = readable & (groups == np.arange(len(groups)))
    rows = np.flatnonzero(first)
    structure = _structure(prints.thumbs, rows)
    plain, rows = rows[structure < _LEAST_STRUCTURE], rows[structure >= _LEAST_STRUCTURE]
    # Thumbnails have lost their mean; the eye's weights give it back from the colours.
    brightness = prints.colours[rows] @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    rows = rows[np.argsort(brightness, kind="stable")]
    brightness = np.sort(brightness, kind="stable")
    for turn in (UPRIGHT, *TURNS):
        for a, b in _candidates(prints.thumbs, rows, brightness, turn):
            links += _verified(prints, a, b, turn, groups)
    return Copies(links, groups, plain)


def _exact_links(prints: Fingerprints, groups: np.ndarray) -> list[Link]:
    first: dict[bytes, int] = {}
    links = []
    for i, digest in enumerate(prints.digests):
        if digest and first.setdefault(digest, i) != i:
            groups[i] = first[digest]
            links.append(Link(first[digest], i, "exact"))
    return links


def _structure(thumbs: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the root mean square of each picture's edges, ``(len(rows),)``."""
    structure = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        structure[start : start + _BLOCK] = np.sqrt(np.square(edges(thumbs[block])).mean(axis=(1, 2, 3)))
    return structure


def _candidates(
    thumbs: np.ndarray, rows: np.ndarray, brightness: np.ndarray, turn: Turn
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs ``(a, b)`` of pictures that may be copies when ``a`` is turned, block by block."""
    upright = np.concatenate(
        [descriptors(thumbs[rows[s : s + _BLOCK]]) for s in range(0, len(rows), _BLOCK)] or [np.empty((0, 1))]
    )
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        turned = descriptors(turn(thumbs[block]))
        end = int(np.searchsorted(brightness, brightness[start + len(block) - 1] + _MEAN_WITHIN, "right"))
        for other in range(start, end, _BLOCK):
            columns = rows[other : min(other + _BLOCK, end)]
            alike = turned @ upright[other : other + len(columns)].T
            i, j = np.nonzero(alike >= _LEAST_ALIKE)
            if other == start:
                i, j = i[i < j], j[i < j]
            yield block[i], columns[j]


def _verified(prints: Fingerprints, a: np.ndarray, b: np.ndarray, turn: Turn, groups: np.ndarray) -> list[Link]:
    """Look closely at pairs that are not in one group yet; joins groups in place and returns the new links."""
    near = np.abs(prints.colours[a] - prints.colours[b]).max(axis=1, initial=0) <= _COLOUR_WITHIN
    a, b = a[near], b[near]
    links = []
    while len(a):
        apart = groups[a] != groups[b]
        a, b = a[apart], b[apart]
        now = a[:_VERIFIED_AT_ONCE], b[:_VERIFIED_AT_ONCE]
        a, b = a[_VERIFIED_AT_ONCE:], b[_VERIFIED_AT_ONCE:]
        same = same_picture(turn(prints.thumbs[now[0]]), prints.thumbs[now[1]])
        for pair in zip(now[0][same].tolist(), now[1][same].tolist(), strict=True):
            low, high = sorted(groups[list(pair)].tolist())
            if low != high:
                groups[groups == high] = low
                links.append(Link(min(pair), max(pair), "near" if turn == UPRIGHT else "turned"))
    return links
