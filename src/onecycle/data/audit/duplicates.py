"""Which pictures are copies of one another: the same pixels, saved anew, resized, slightly cropped, turned.

1. **Exact** copies have the same size and pixels: equal digests.
2. **Candidates** are the 13 nearest of each picture, by a descriptor that the eight symmetries of the square do not
   change (``nearest``): their number and the time grow with the number of pictures, not with its square.
3. Each pair is turned the way that fits best and brought into **register** (``registration``). Only what saving anew,
   resizing or a slight crop would explain goes on.
4. **The other neighbours judge**: in a set of look-alikes (clothes, cells, skies) different pictures come as near by
   chance. How many pairs of the whole set would is extrapolated from the distances of the neighbours that are no
   copies, and copies are those nearer than where a tenth of a pair is expected.
5. What is left is **looked at all over**, in the pixels: pages of one form, frames of one scene differ in a few places
   alone (``registration.same_all_over``). The rest **look alike**, no more.

Measured on 60,000 pictures of Fashion-MNIST: thousands of pairs are as near as a slight crop or JPEG would leave them,
and those called copies are one and the same picture by eye. See ``benchmarks/trust.py`` for how many, and for time and
memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from threadpoolctl import threadpool_limits

from onecycle.data.audit.files import THREADS
from onecycle.data.audit.findings import CopyKind
from onecycle.data.audit.fingerprints import TURNS, UPRIGHT, Fingerprints, Turn, descriptors, edges, unoriented
from onecycle.data.audit.nearest import nearest_rows
from onecycle.data.audit.registration import IDENTICAL, UNRELATED, compare, same_all_over
from onecycle.data.progress import work_through

_ROWS_AT_ONCE = 4096  # 16 MB of thumbnails
_PAIRS_AT_ONCE = 128  # what the registration needs of them stays in a core's cache
_MOST_COPIES = 7  # of one picture, as in the other positions of a square; farther neighbours show how near others come
_REFERENCE = 6  # how many of those are looked at
_NEIGHBOURS = _MOST_COPIES + _REFERENCE
_FALSE_PAIRS = 0.1  # expected among all pictures
# Distances of unrelated pictures hardly differ, as in a space of very many dimensions; more would make the bar useless.
_MOST_DIMENSIONS = 24.0
# Of two descriptors: 4 standard deviations of unrelated pictures; 99 of 100 crops of 5 % a side have at least 0.74.
_LEAST_ALIKE = 0.5
_MOST_REFUSED = 2  # pairs of one picture: then it is one of a crowd of look-alikes, and the time stays bounded
_PICTURES_HELD = 64  # of 50 kB
_UPRIGHT_FIRST = 0.01  # by how much another position has to fit better
_COLOUR_WITHIN = 16.0  # of mean red, green, blue
# Grey levels a cell; a picture with less is of one colour, and its noise would be like that of any other.
_LEAST_STRUCTURE = 0.15
_POSITIONS = (UPRIGHT, *TURNS)
Look = Callable[[int], np.ndarray | None]
"""Returns the pixels of a picture by its position, uint8 ``(H, W, 3)`` of about ``SIDE`` pixels; None: it is gone."""


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
    groups_by_kind: dict[CopyKind, np.ndarray]  # as ``groups``, of copies up to that kind; the closest first
    plain: np.ndarray  # positions of pictures of one colour, of which only exact copies are found
    lookalikes: list[tuple[int, int]]  # pairs as near as copies that are none; the nearest first

    @property
    def groups(self) -> np.ndarray:
        """The first picture of each one's group, itself where it has no copy, int64 ``(N,)``."""
        return self.groups_by_kind["turned"]


def find_copies(prints: Fingerprints, *, look: Look | None = None, silent: bool = True) -> Copies:
    """Find all copies among pictures.

    Args:
        prints: of N pictures; those without a digest are left out.
        look: returns the pixels of a picture, so that it can be looked at all over; None: thumbnails decide.
        silent: draw no bar.
    """
    groups = np.arange(len(prints.digests), dtype=np.int64)
    by_kind: dict[CopyKind, np.ndarray] = {"same file": groups.copy()}
    links = _exact_links(prints, groups)
    by_kind["exact"] = groups.copy()
    readable = np.array([bool(d) for d in prints.digests], dtype=bool)
    rows = np.flatnonzero(readable & (groups == np.arange(len(groups))))
    structure = _structure(prints.thumbs, rows)
    plain, rows = rows[structure < _LEAST_STRUCTURE], rows[structure >= _LEAST_STRUCTURE]
    a, b, position = _candidates(prints.thumbs, rows)
    differs, explained = _compared(prints, rows[a], rows[b], position, silent)
    bar = np.maximum(IDENTICAL, _bar(a, b, differs, explained, len(rows)))
    colours = prints.colours[rows]
    near = explained & (np.abs(colours[a] - colours[b]).max(axis=1, initial=0) <= _COLOUR_WITHIN)
    nearest_first = np.argsort(differs, kind="stable")
    likely = nearest_first[(near & (differs <= bar))[nearest_first]]
    parts: tuple[tuple[CopyKind, np.ndarray], ...] = (
        ("near", likely[position[likely] == 0]),
        ("turned", likely[position[likely] > 0]),
    )
    for kind, these in parts:
        links += _join(kind, rows[a[these]], rows[b[these]], position[these], groups, look, silent)
        by_kind[kind] = groups.copy()
    pairs = np.stack([rows[a], rows[b]], axis=1)[nearest_first[near[nearest_first]]]
    lookalikes = [(int(one), int(other)) for one, other in pairs if groups[one] != groups[other]]
    return Copies(links, by_kind, plain, lookalikes)


def _exact_links(prints: Fingerprints, groups: np.ndarray) -> list[Link]:
    first: dict[bytes, int] = {}
    links = []
    for i, digest in enumerate(prints.digests):
        if digest and first.setdefault(digest, i) != i:
            groups[i] = first[digest]
            links.append(Link(first[digest], i, "exact"))
    return links


def _join(
    kind: CopyKind,
    a: np.ndarray,
    b: np.ndarray,
    position: np.ndarray,
    groups: np.ndarray,
    look: Look | None,
    silent: bool,
) -> list[Link]:
    """Join the groups of likely copies that fit all over, in place, and return the links that did it."""
    links: list[Link] = []
    refused = np.zeros(len(groups), dtype=np.int64)  # pairs of each picture
    seen = None if look is None else lru_cache(_PICTURES_HELD)(look)

    def judge(i: int) -> None:
        one, other = int(a[i]), int(b[i])
        if groups[one] == groups[other] or max(refused[one], refused[other]) >= _MOST_REFUSED:
            return
        if seen is not None and not _same(seen(one), seen(other), _POSITIONS[position[i]]):
            refused[[one, other]] += 1
            return
        links.extend(_joined(one, other, kind, groups))

    title = "looking closely at likely copies"
    with threadpool_limits(1):  # measured: two threads of BLAS take 14 times as long over matrices as small as these
        work_through(title, range(len(a)), judge, threads=1, silent=silent or look is None or not len(a))
    return links


def _same(a: np.ndarray | None, b: np.ndarray | None, turn: Turn) -> bool:
    """Say whether two pictures ``(H, W, 3)`` are the same all over; what cannot be looked at is taken for it."""
    return a is None or b is None or same_all_over(turn(a.transpose(2, 0, 1)), b.transpose(2, 0, 1))


def _joined(a: int, b: int, kind: CopyKind, groups: np.ndarray) -> list[Link]:
    """Join the groups of two pictures in place; returns the new link, none if they were in one already."""
    low, high = sorted((int(groups[a]), int(groups[b])))
    if low == high:
        return []
    groups[groups == high] = low
    return [Link(a, b, kind)]


def _by_blocks(function: Callable[[np.ndarray], np.ndarray], thumbs: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Apply a function to the thumbnails of these rows, so many at a time, and join the results."""
    starts = range(0, max(1, len(rows)), _ROWS_AT_ONCE)
    return np.concatenate([function(thumbs[rows[start : start + _ROWS_AT_ONCE]]) for start in starts])


def _structure(thumbs: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the root mean square of each picture's edges, ``(len(rows),)``."""
    return _by_blocks(lambda block: np.sqrt(np.square(edges(block)).mean(axis=(1, 2, 3))), thumbs, rows)


def _candidates(thumbs: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pair each picture with its nearest ones.

    Returns:
        positions in ``rows``, ``a < b``, each pair once; and which of ``_POSITIONS`` of ``a`` fits ``b`` best, −1 where
        none does.
    """
    upright = _by_blocks(descriptors, thumbs, rows)
    nearest = nearest_rows(unoriented(upright), _NEIGHBOURS)
    one = np.repeat(np.arange(len(rows)), _NEIGHBOURS)
    pairs = np.sort(np.stack([one, nearest.reshape(-1)], axis=1)[nearest.reshape(-1) >= 0], axis=1)
    a, b = np.unique(pairs, axis=0).T
    alike = np.empty((len(_POSITIONS), len(a)), dtype=np.float32)
    for start in range(0, len(a), _ROWS_AT_ONCE):
        block = slice(start, start + _ROWS_AT_ONCE)
        for i, turn in enumerate(_POSITIONS):
            alike[i, block] = (turn.of_descriptors(upright[a[block]]) * upright[b[block]]).sum(axis=1)
    alike[0] += _UPRIGHT_FIRST
    return a, b, np.where(alike.max(axis=0, initial=0) >= _LEAST_ALIKE, alike.argmax(axis=0), -1)


def _compared(
    prints: Fingerprints, a: np.ndarray, b: np.ndarray, position: np.ndarray, silent: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Look closely at pairs of pictures: how much each differs, and whether a copy may, as ``compare`` says."""
    differs, explained = np.full(len(a), UNRELATED, dtype=np.float32), np.zeros(len(a), dtype=bool)
    batches = []
    for i in range(len(_POSITIONS)):
        same = np.flatnonzero(position == i)
        batches += [same[start : start + _PAIRS_AT_ONCE] for start in range(0, len(same), _PAIRS_AT_ONCE)]

    def look(batch: int) -> None:
        pairs = batches[batch]
        turn = _POSITIONS[position[pairs[0]]]
        differs[pairs], explained[pairs] = compare(turn(prints.thumbs[a[pairs]]), prints.thumbs[b[pairs]])

    title = f"comparing pairs of pictures, {_PAIRS_AT_ONCE} at a time"
    work_through(title, range(len(batches)), look, threads=THREADS, silent=silent or not batches)
    return differs, explained


def _bar(a: np.ndarray, b: np.ndarray, differs: np.ndarray, explained: np.ndarray, n: int) -> np.ndarray:
    """Say how little each pair has to differ for unrelated pictures not to come as near by chance.

    Around a picture whose k-th unrelated neighbour lies at the distance r, k (x / r)^d are expected within x, in a
    space of d dimensions; over all n pictures that is to be ``_FALSE_PAIRS``. The dimension is that of the set itself.

    Args:
        a, b: pairs among ``n`` pictures.
        differs, explained: of each pair; the few nearest of a picture's neighbours may be copies where that is
            explained. All others count as unrelated, so that one in a crowd of look-alikes is held to the crowd.

    Returns:
        float ``(len(a),)``.

    Source: Levina and Bickel, "Maximum likelihood estimation of intrinsic dimension", NIPS 2004, pooled over pictures.
    """
    who, explains = np.concatenate([a, b]), np.concatenate([explained, explained])
    distance = np.concatenate([differs, differs])
    maybe_copies = np.flatnonzero(explains)
    distance[maybe_copies[_rank(who[maybe_copies], distance[maybe_copies]) < _MOST_COPIES]] = np.inf
    rank = _rank(who, distance)
    first = (rank < _REFERENCE) & np.isfinite(distance)
    unrelated = np.full((n, _REFERENCE), UNRELATED)  # of a handful of pictures, too
    unrelated[who[first], rank[first]] = np.maximum(distance[first], IDENTICAL)
    logs = np.log(unrelated[:, -1:] / unrelated[:, :-1]).sum()
    dimension = min(_MOST_DIMENSIONS, (_REFERENCE - 1) * n / logs) if logs > 0 else _MOST_DIMENSIONS
    reference = unrelated[:, -1]
    nearer = np.minimum(reference[a], reference[b])
    return np.asarray(nearer * (_FALSE_PAIRS / (_REFERENCE * max(n, 1))) ** (1 / dimension))


def _rank(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the rank of each value within its group, from 0."""
    order = np.lexsort((values, groups))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - np.searchsorted(groups[order], groups[order])
    return rank
