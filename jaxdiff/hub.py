"""Priors on the Hugging Face hub: ``hf:owner/repo[@revision][:file]``, fetched and converted once, kept in a cache.

Only weight files and JSON are fetched, by huggingface_hub with its own cache, its log-in and its offline mode. They are
read as any checkpoint is: nothing in them is executed.
"""

import contextlib
import hashlib
import os
import pathlib
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any, NamedTuple

from jaxdiff.files import one_sentence

__all__ = ["PREFIX", "Address", "Fetched", "cache_folder", "converted", "fetch", "is_address", "parse_address"]

PREFIX = "hf:"
FOLDER = "JAXDIFF_PRIORS"
"""Environment variable: the folder of converted priors; ``jaxdiff/priors`` in the user's cache folder by default."""
WEIGHTS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".pkl")
MODEL = "diffusion_pytorch_model"
PATIENCE = 5.0
"""Seconds in which the hub's server has to answer."""
LAYOUT = 1
"""Raised when a conversion changes, so that older results are made again."""


class Address(NamedTuple):
    """A repository of the hub; None for its main branch and for its usual files."""

    repo: str
    revision: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        """As the user writes it."""
        return f"{PREFIX}{self.repo}" + "".join(
            f"{sign}{part}" for sign, part in (("@", self.revision), (":", self.file)) if part is not None
        )


class Fetched(NamedTuple):
    """A file or folder on this machine, and the commit that it is of."""

    path: pathlib.Path
    commit: str


class _Hub(NamedTuple):
    """huggingface_hub, and why its server is not asked (None where it is)."""

    library: Any
    away: str | None


def is_address(text: str | os.PathLike[str]) -> bool:
    """Whether a prior is named by its place on the hub."""
    return isinstance(text, str) and text.startswith(PREFIX)


def parse_address(text: str) -> Address:
    """The parts of an address.

    Raises:
        ValueError: if it is of another form.

    >>> parse_address("hf:google/ddpm-cat-256@main").revision
    'main'
    """
    match = re.fullmatch(r"hf:([\w-][\w.-]*/[\w-][\w.-]*)(?:@([\w./-]+))?(?::([\w./ -]+))?", text)
    if match is None or ".." in text:
        raise ValueError(f"{one_sentence(text)} is no address on the hub: write hf:owner/repo[@revision][:file].")
    return Address(match[1], match[2], match[3])


def converted(text: str) -> pathlib.Path:
    """The folder of the converted prior; it is fetched and converted where that has not been done.

    Raises:
        ValueError: if it cannot be fetched, read or converted.
    """
    from weights_convert.checkpoint import convert_file  # the converter needs jaxdiff's own rooms above this one

    address = parse_address(text)
    found = fetch(address)
    part = "" if address.file is None else "-" + hashlib.sha256(address.file.encode()).hexdigest()[:8]
    owner, _, repo = address.repo.partition("/")
    folder = cache_folder() / f"{owner}--{repo}" / f"{found.commit[:16]}{part}-{LAYOUT}"
    if not (folder / "prior.json").is_file():
        convert_file(
            found.path, folder, name=address.file or repo, origin={"hub": str(address), "commit": found.commit}
        )
    return folder


def fetch(address: Address) -> Fetched:
    """The weights and configuration of a repository, from huggingface_hub's cache or the network.

    Raises:
        ValueError: if the library is not installed, or the hub does not give them; the sentence says why.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise ValueError(f"{address} needs the package huggingface_hub: pip install 'jaxdiff[hub]'.") from error
    hub = _Hub(huggingface_hub, _why_away())
    with _explained(hub, address):
        if address.file is not None:
            return _file(hub, address, address.file)
        for folder in ("unet/", ""):
            if (config := _optional(hub, address, f"{folder}config.json")) is not None:
                for name in ("model_index.json", "scheduler/scheduler_config.json", "scheduler_config.json"):
                    _optional(hub, address, name)
                _weights(hub, address, folder)
                root = config.parents[1] if folder else config.parent
                return Fetched(root, root.name)
        return _file(hub, address, _only_weights(hub, address))


def _file(hub: _Hub, address: Address, name: str) -> Fetched:
    if not name.endswith(WEIGHTS):
        raise ValueError(f"{address} is no weight file; one ends in {', '.join(WEIGHTS)}.")
    path = _download(hub, address, name)
    return Fetched(path, path.parents[name.count("/")].name)


def _weights(hub: _Hub, address: Address, folder: str) -> None:
    """The weights of a model: safetensors before bin, whole or in shards."""
    import json

    for ending in ("safetensors", "bin"):
        if _optional(hub, address, f"{folder}{MODEL}.{ending}") is not None:
            return
        if (index := _optional(hub, address, f"{folder}{MODEL}.{ending}.index.json")) is not None:
            places = json.loads(index.read_text("utf-8")).get("weight_map", {})
            for name in sorted(set(places.values())):
                if not re.fullmatch(r"[\w.-]+", str(name)) or not name.endswith(WEIGHTS):
                    raise ValueError(f"{address}: its index names {one_sentence(name, 80)}, which is no weight file.")
                _download(hub, address, f"{folder}{name}")
            return
    if hub.away:
        raise ValueError(f"{address} is not whole in the cache, and {hub.away}.")
    raise ValueError(f"{address} has no {MODEL}.safetensors or .bin; name its weight file: {address}:FILE.")


def _only_weights(hub: _Hub, address: Address) -> str:
    """The weight file of a repository without configuration, if it has just one."""
    if hub.away:
        raise ValueError(f"{address} is not in the cache, and {hub.away}.")
    names = hub.library.HfApi().list_repo_files(address.repo, revision=address.revision)
    weights = [name for name in names if name.endswith(WEIGHTS)]
    if len(weights) == 1:
        return str(weights[0])
    what = f"several weight files: {', '.join(weights[:6])}" if weights else "neither config.json nor a weight file"
    raise ValueError(f"{address} has {what}" + (f"; name one: {address}:FILE." if weights else ", and is not read."))


def _optional(hub: _Hub, address: Address, name: str) -> pathlib.Path | None:
    from huggingface_hub import errors

    try:
        return _download(hub, address, name)
    except errors.LocalEntryNotFoundError:
        if hub.away:
            return None  # what is not in the cache counts as not there
        raise
    except errors.EntryNotFoundError:
        return None


def _download(hub: _Hub, address: Address, name: str) -> pathlib.Path:
    found = hub.library.hf_hub_download(
        address.repo, name, revision=address.revision, local_files_only=hub.away is not None
    )
    return pathlib.Path(found)


def _why_away() -> str | None:
    """Why the hub is not to be asked: offline mode, or a server that does not answer; None where it is.

    huggingface_hub itself would try six times, for half a minute each file. Behind a proxy it is left to do so.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "offline mode (HF_HUB_OFFLINE) is on"
    place = urllib.parse.urlsplit(constants.ENDPOINT)
    if urllib.request.getproxies().get(place.scheme):
        return None
    try:
        port = place.port or (443 if place.scheme == "https" else 80)
        socket.create_connection((str(place.hostname), port), timeout=PATIENCE).close()
    except OSError:
        return "the hub cannot be reached: check the network"
    return None


@contextlib.contextmanager
def _explained(hub: _Hub, address: Address) -> Iterator[None]:
    """One sentence for each way in which the hub says no."""
    from huggingface_hub import errors

    page = f"https://huggingface.co/{address.repo}"
    reasons: dict[Any, str] = {
        errors.GatedRepoError: f"is gated: accept its terms at {page}, and log in with `hf auth login`",
        errors.RepositoryNotFoundError: "is no repository of the hub, or a private one: check the name, or log in",
        errors.RevisionNotFoundError: "has no such revision: check the name of the branch, tag or commit",
        errors.LocalEntryNotFoundError: f"is not in the cache, and {hub.away or 'the hub cannot be reached'}",
        errors.EntryNotFoundError: f"has no such file: see {page}/tree/main",
    }
    try:
        yield
    except ValueError as error:
        known = next((why for kind, why in reasons.items() if isinstance(error, kind)), None)
        if known is None:
            raise
        raise ValueError(f"{address} {known}.") from error
    except Exception as error:  # what the network's library raises is of many kinds
        known = next((why for kind, why in reasons.items() if isinstance(error, kind)), None)
        known = known or f"cannot be fetched ({one_sentence(error, 200) or type(error).__name__})"
        raise ValueError(f"{address} {known}.") from error


def cache_folder() -> pathlib.Path:
    """Where converted priors are kept: ``JAXDIFF_PRIORS``, or ``jaxdiff/priors`` in the user's cache folder."""
    if wish := os.environ.get(FOLDER):
        return pathlib.Path(os.path.expanduser(wish))
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (pathlib.Path(home) if os.path.isabs(home) else pathlib.Path.home() / ".cache") / "jaxdiff" / "priors"
