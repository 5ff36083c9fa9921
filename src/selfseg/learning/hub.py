"""Models on a hub, in the manners of huggingface_hub (`selfseg[hub]`): what is downloaded, what is uploaded.

Only the files of a model travel: no checkpoint, journal or preview. What is uploaded does not name the training images.
"""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from selfseg.core.errors import InputError, OutputError, UsageError
from selfseg.results.model import CARD, CLASSES, CONFIG, WEIGHTS, FittedModel, selfseg_version

FILES = (CONFIG, WEIGHTS, CLASSES, CARD)
"""Files of a model."""

PRIVATE = ("inputs", "held_out", "masks", "superpixels")
"""Facts of the training that name files of the user's, or their content."""

SCHEME = re.compile(r"hf:/{1,2}")
"""Beginnings of the name of a model on a hub, where a folder may be given too: a path loses the second slash."""


def is_on_hub(place: Path | str) -> bool:
    """Return whether a place is written as ``hf://USER/NAME``."""
    return SCHEME.match(_plain(place)) is not None


def _plain(place: Path | str) -> str:
    """Return a name with plain slashes: on Windows, a path has turned them."""
    return place if isinstance(place, str) else place.as_posix()


def for_sharing(model: FittedModel) -> FittedModel:
    """Return a model whose facts do not name the training images."""
    return replace(model, facts={key: value for key, value in model.facts.items() if key not in PRIVATE})


@contextlib.contextmanager
def downloaded(name: Path | str, **options: Any) -> Iterator[Path]:
    """Yield a folder with the files of a model on a hub, for as long as the block runs.

    Parameters
    ----------
    name
        ``"USER/NAME"``, ``"hf://USER/NAME"``, either with ``@REVISION``.
    **options
        As for `huggingface_hub.snapshot_download`: ``revision``, ``token``, ``cache_dir``, ``local_files_only``, ``force_download``.

    Raises
    ------
    UsageError
        If huggingface_hub is not installed, or the name is none.
    InputError
        If there is no such model, or it cannot be reached.
    """
    hub = _hub()
    repo, _, revision = SCHEME.sub("", _plain(name)).partition("@")
    if revision:
        options["revision"] = revision
    library = {"library_name": "selfseg", "library_version": selfseg_version()}
    try:
        cached = hub.snapshot_download(repo, allow_patterns=list(FILES), **library, **options)
    except hub.errors.HFValidationError as error:
        raise UsageError(
            f"model {name}", expected="a folder that exists, or USER/NAME on a hub", got="neither", fix="check the name"
        ) from error
    except (OSError, ValueError, hub.errors.HfHubHTTPError) as error:
        message = str(error).strip().partition("\n")[0][:200]
        fix = "check name, network and access (`hf auth login`)"
        raise InputError(f"model {name}", expected="a model on a hub", got=message, fix=fix) from error
    with tempfile.TemporaryDirectory() as folder:
        for file in FILES:  # the cache is made of links, which a model folder may not hold
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(Path(cached) / file, Path(folder) / file)
        yield Path(folder)


def upload(model: FittedModel, name: str, private: bool | None, **options: Any) -> str:
    """Upload a model, and return the address of the commit; the repository is made if it is missing.

    Parameters
    ----------
    model
        A fitted model.
    name
        ``"USER/NAME"``.
    private
        Whether a new repository is private; None = the account's default.
    **options
        ``token``, ``commit_message``, ``revision``, ``create_pr``, as for `huggingface_hub.HfApi.upload_folder`.

    Raises
    ------
    UsageError
        If huggingface_hub is not installed.
    OutputError
        If the hub refuses it, or cannot be reached.
    """
    hub = _hub()
    api = hub.HfApi(token=options.pop("token", None), library_name="selfseg", library_version=selfseg_version())
    options.setdefault("commit_message", f"Model made with selfseg {selfseg_version()}")
    with tempfile.TemporaryDirectory() as folder:
        for_sharing(model).save(folder)
        try:
            repo = api.create_repo(name, private=private, exist_ok=True).repo_id
            commit = api.upload_folder(repo_id=repo, folder_path=folder, allow_patterns=list(FILES), **options)
        except (OSError, ValueError, hub.errors.HfHubHTTPError) as error:
            message = str(error).strip().partition("\n")[0][:200]
            fix = "check name, network and access (`hf auth login`)"
            raise OutputError(f"hub {name}", expected="a repository to write to", got=message, fix=fix) from error
    return str(commit.commit_url)


def _hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise UsageError(
            "models on a hub",
            expected="the package huggingface_hub",
            got="none installed",
            fix="pip install 'selfseg[hub]'",
        ) from error
    return huggingface_hub
