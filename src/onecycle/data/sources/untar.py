"""Data sets by name: find them on this machine, else have them downloaded, checked and unpacked.

The path of an archive: `untar_data` → downloads.`download` (resume, retries, mirrors, check) → archives.`unpack`
→ one rename to the final name. A file or folder under its final name is therefore always whole.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from onecycle import settings
from onecycle.data.sources.archives import Budget, is_there, name_flaw, unpack_into
from onecycle.data.sources.downloads import Check, download
from onecycle.errors import ArchiveError, ArgumentError, DownloadError
from onecycle.files import NO_LOCK, locked, remove
from onecycle.text import safe_text

if sys.platform == "win32":
    from pathlib import WindowsPath as _NativePath
else:
    from pathlib import PosixPath as _NativePath

_EXAMPLES = "https://files.fast.ai/data/examples/"


class DataPath(_NativePath):
    """A pathlib.Path that also has `ls()`; what is made from it with "/" has it too."""

    def ls(self) -> list[DataPath]:
        """The entries of this folder, sorted."""
        return sorted(self.iterdir())


class _WorkingFolder:
    """The working directory of the moment, so that a notebook that changes it finds its own ./data."""

    def __get__(self, instance: object, owner: type) -> Path:
        return Path.cwd()


class URLs:
    """Addresses of well-known data sets and models, for `untar_data`.

    Each is a plain string without the ending ".tgz", which `untar_data` adds. LOCAL_PATH is the working
    directory at the time of asking: data sets are looked for in LOCAL_PATH/data first.
    """

    LOCAL_PATH = _WorkingFolder()
    S3 = "https://s3.amazonaws.com/fast-ai-"
    S3_IMAGE = S3 + "imageclas/"
    S3_IMAGELOC = S3 + "imagelocal/"
    S3_NLP = S3 + "nlp/"
    S3_COCO = S3 + "coco/"
    S3_MODEL = S3 + "modelzoo/"

    # samples
    ADULT_SAMPLE = _EXAMPLES + "adult_sample"
    BIWI_SAMPLE = _EXAMPLES + "biwi_sample"
    CAMVID_TINY = _EXAMPLES + "camvid_tiny"
    CIFAR = _EXAMPLES + "cifar10"
    COCO_SAMPLE = S3_COCO + "coco_sample"
    COCO_TINY = _EXAMPLES + "coco_tiny"
    DOGS = _EXAMPLES + "dogscats"
    HUMAN_NUMBERS = _EXAMPLES + "human_numbers"
    IMDB_SAMPLE = _EXAMPLES + "imdb_sample"
    ML_SAMPLE = _EXAMPLES + "movie_lens_sample"
    MNIST_SAMPLE = _EXAMPLES + "mnist_sample"
    MNIST_TINY = _EXAMPLES + "mnist_tiny"
    MNIST_VAR_SIZE_TINY = S3_IMAGE + "mnist_var_size_tiny"
    PLANET_SAMPLE = _EXAMPLES + "planet_sample"
    PLANET_TINY = _EXAMPLES + "planet_tiny"

    # image classification
    CALTECH_101 = S3_IMAGE + "caltech_101"
    CARS = S3_IMAGE + "stanford-cars"
    CIFAR_100 = S3_IMAGE + "cifar100"
    CUB_200_2011 = S3_IMAGE + "CUB_200_2011"
    FLOWERS = S3_IMAGE + "oxford-102-flowers"
    FOOD = S3_IMAGE + "food-101"
    IMAGENETTE = S3_IMAGE + "imagenette2"
    IMAGENETTE_160 = S3_IMAGE + "imagenette2-160"
    IMAGENETTE_320 = S3_IMAGE + "imagenette2-320"
    IMAGEWOOF = S3_IMAGE + "imagewoof2"
    IMAGEWOOF_160 = S3_IMAGE + "imagewoof2-160"
    IMAGEWOOF_320 = S3_IMAGE + "imagewoof2-320"
    LSUN_BEDROOMS = S3_IMAGE + "bedroom"
    MNIST = S3_IMAGE + "mnist_png"
    PETS = S3_IMAGE + "oxford-iiit-pet"

    # things in images
    BIWI_HEAD_POSE = S3_IMAGELOC + "biwi_head_pose"
    CAMVID = S3_IMAGELOC + "camvid"
    PASCAL_2007 = S3_IMAGELOC + "pascal_2007"
    PASCAL_2012 = S3_IMAGELOC + "pascal_2012"
    SKIN_LESION = S3_IMAGELOC + "skin_lesion"

    # text
    AG_NEWS = S3_NLP + "ag_news_csv"
    AMAZON_REVIEWS = S3_NLP + "amazon_review_full_csv"
    AMAZON_REVIEWS_POLARITY = S3_NLP + "amazon_review_polarity_csv"
    DBPEDIA = S3_NLP + "dbpedia_csv"
    IMDB = S3_NLP + "imdb"
    MT_ENG_FRA = S3_NLP + "giga-fren"
    SOGOU_NEWS = S3_NLP + "sogou_news_csv"
    WIKITEXT = S3_NLP + "wikitext-103"
    WIKITEXT_TINY = S3_NLP + "wikitext-2"
    YAHOO_ANSWERS = S3_NLP + "yahoo_answers_csv"
    YELP_REVIEWS = S3_NLP + "yelp_review_full_csv"
    YELP_REVIEWS_POLARITY = S3_NLP + "yelp_review_polarity_csv"

    # models
    OPENAI_TRANSFORMER = S3_MODEL + "transformer"
    WT103 = S3_MODEL + "wt103"
    WT103_1 = S3_MODEL + "wt103-1"
    WT103_FWD = S3_MODEL + "wt103-fwd"
    WT103_BWD = S3_MODEL + "wt103-bwd"


# Source: the lengths and first-MiB md5s that fastai v1 carries for its archives (fastai/datasets.py).
_CHECKS = {
    URLs.CIFAR: Check(168_168_549, "a5f8c31371b63a406b23368042812d3c"),
    URLs.DOGS: Check(839_285_364, "3e483c8d6ef2175e9d395a6027eb92b7"),
    URLs.MNIST: Check(15_683_414, "03639f83c4e3d19e0a3a53a8a997c487"),
    URLs.MNIST_SAMPLE: Check(3_214_948, "2dbc7ec6f9259b583af0072c55816a88"),
    URLs.MNIST_TINY: Check(342_207, "56143e8f24db90d925d82a5a74141875"),
    URLs.PETS: Check(811_706_944, "e4db5c768afd933bb91f5f594d7417a4"),
    URLs.PLANET_SAMPLE: Check(15_523_994, "8bfb174b3162f07fbde09b54555bdb00"),
    URLs.PLANET_TINY: Check(997_569, "490873c5683454d4b2611fb1f00a68a9"),
}


def untar_data(
    url: str,
    fname: str | Path | None = None,
    dest: str | Path | None = None,
    data: bool = True,
    force_download: bool = False,
    verbose: bool = False,
    *,
    known_hash: str | None = None,
) -> DataPath:
    """Give the folder of a data set; download and unpack it only if it is not on this machine yet.

    With <name> the last part of `url`, it looks for the folder <name>, then for the archive <name>.tgz, in
    LOCAL_PATH/data; without either, in the data folder (ONECYCLE_DATA, else `data` in config.toml, else
    ~/.onecycle/data). A folder that is there is used as it is, with no network. Otherwise the archive is fetched
    from the configured mirrors in turn, then from `url` itself, checked, and unpacked; it is kept beside.

    Args:
        url: address without ".tgz", such as URLs.PLANET_SAMPLE. Where it already ends in .tgz, .tar, .tar.gz,
            .tar.bz2, .tar.xz or .zip, nothing is added.
        fname: the archive's file, if not <name>.tgz in the folder above.
        dest: the folder to hold <name>, if not the one above.
        data: False for weights: looks in LOCAL_PATH/models and the weights folder instead.
        force_download: fetch and unpack anew. The folder that is there is replaced once the new one is
            whole; if it holds files that the new one lacks, it is kept under a name that is printed.
        verbose: also print which folder is used.
        known_hash: sha256 of the archive in hex, with or without "sha256:" before it; checked when unpacking.

    Returns:
        The folder of the data set, as a Path that has `ls()`.

    Raises:
        ArgumentError: `url` or `known_hash` cannot be used.
        DataError: a file stands where the folder should be.
        DownloadError: no server gave the file, or it is not the expected one.
        ArchiveError: the archive is damaged, too large, or tries to write outside its folder.
    """
    source = _Source.of(url, known_hash)
    base = settings.data_folder() if data else settings.weights_folder()
    local = Path(URLs.LOCAL_PATH) / ("data" if data else "models")
    if (local / source.name).exists() or (local / source.file).exists():
        base = local
    folder = Path(dest).expanduser() / source.name if dest is not None else base / source.name
    archive = Path(fname).expanduser() if fname is not None else base / source.file
    if not is_there(folder) or force_download:
        _bring(source, archive, folder, force=force_download)
    if verbose:
        print(safe_text(f"{source.name} is in {folder}"))
    return DataPath(folder)


@dataclass(frozen=True)
class _Source:
    """One data set: its name, its archive's file name and address, and what the archive must be."""

    name: str
    file: str
    url: str
    check: Check

    @classmethod
    def of(cls, url: str, known_hash: str | None) -> _Source:
        parts = urlsplit(url)
        last = parts.path.rsplit("/", 1)[-1]
        ending = re.search(r"\.(tgz|tar|tar\.(gz|bz2|xz)|zip)$", last)
        name = last[: ending.start()] if ending else last
        usable = name not in ("", ".") and not name_flaw([name])
        if parts.scheme not in ("http", "https") or not parts.netloc or not usable:
            raise ArgumentError(f"untar_data needs a URL such as URLs.PLANET_SAMPLE, received {url!r}")
        file = last if ending else f"{name}.tgz"
        known = _CHECKS.get(_over_tls(url).removesuffix(".tgz"), Check())
        digits = None if known_hash is None else known_hash.removeprefix("sha256:").lower()
        if digits is not None and not re.fullmatch("[0-9a-f]{64}", digits):
            raise ArgumentError(f"known_hash must be a sha256 of 64 hex digits, received {known_hash!r}")
        check = replace(known, sha256=digits)
        parts = urlsplit(_over_tls(url))
        full = parts._replace(path=parts.path[: len(parts.path) - len(last)] + file).geturl()
        return cls(name, file, full, check)


def _over_tls(url: str) -> str:
    """Return the https address of what fastai v1's notebooks have by http."""
    return url.replace("http://files.fast.ai/", "https://files.fast.ai/", 1) if url.startswith("http://") else url


def _bring(source: _Source, archive: Path, folder: Path, *, force: bool) -> None:
    if archive.is_file() and not force:
        _unpack_archive(source, archive, folder)
        return
    archive.parent.mkdir(parents=True, exist_ok=True)
    with _alone(archive):
        # Another process may have finished some or all of it while this one waited for the lock.
        if force or not (archive.is_file() or is_there(folder)):
            _unpack_new(source, archive, folder, force=force)
        elif not is_there(folder):
            _unpack_archive(source, archive, folder)


def _unpack_archive(source: _Source, archive: Path, folder: Path) -> None:
    """Unpack an archive that was here before. It may be the user's own, so it is never deleted."""
    if problem := source.check.problem(archive):
        raise DownloadError(
            f"{archive} is not the known archive of {source.name}: {problem}. "
            "Move it away, or fetch it anew with untar_data(..., force_download=True)"
        )
    unpack_into(archive, folder, Budget(), replace=False)


def _unpack_new(source: _Source, archive: Path, folder: Path, *, force: bool) -> None:
    fetched = archive.with_name(f"{archive.name}.new") if force else archive
    hint = (
        f"To go on without the network, put the unpacked folder at {folder} or the archive at {archive}. "
        "(The environment variable ONECYCLE_DATA names the folder that holds data sets, ONECYCLE_WEIGHTS the "
        f"one for weights.) To ask another server, add it to `mirrors` in {settings.config_file()}"
    )
    urls = [*(mirror + source.file for mirror in settings.mirrors()), source.url]
    download(urls, fetched, check=source.check, hint=hint)
    try:
        unpack_into(fetched, folder, Budget(), replace=force)
    except (ArchiveError, OSError) as err:
        if force or isinstance(err, ArchiveError):
            fetched.unlink()  # of no use: the next call shall ask the servers again
        raise
    if force:
        fetched.replace(archive)


@contextmanager
def _alone(archive: Path) -> Iterator[None]:
    """Keep every other thread and process that fetches this archive out until the block ends."""
    lock = archive.with_name(f".{archive.name}.lock")
    text = f"Waiting for another process that is fetching the same data ({lock})"
    with ExitStack() as held:
        with suppress(*NO_LOCK):  # without locks, two processes at once may spoil a download, which the check tells
            held.enter_context(locked(lock, waiting=lambda: print(safe_text(text))))
        held.callback(remove, lock)  # before it is released: who waited then locks the new file
        yield
