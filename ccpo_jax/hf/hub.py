"""Resolve a model folder: local path, cache, or download from the Hugging Face Hub."""

import os
import pathlib

from ccpo_jax.errors import InputError, first_line

# Seconds until the Hub counts as unreachable.
_NETWORK_TIMEOUT = 5.0


def fetch(name: str | os.PathLike, *, revision: str | None = None, weights: bool) -> pathlib.Path:
    """The folder of a model: `name` itself if it is one, else its files from the cache or the Hub.

    Args:
      name: a folder, ``~`` expanded, or a name on the Hub such as ``"Qwen/Qwen2.5-0.5B-Instruct"``.
      revision: branch, tag or commit of a Hub name; None = its main branch.
      weights: whether the safetensors files are needed too, and not only config and tokenizer.

    Raises:
      InputError: neither a folder nor a model that can be downloaded.
    """
    # Unlike Path.expanduser, this leaves a "~" that stands for no home folder as it is.
    folder = pathlib.Path(os.path.expanduser(name))
    if str(name) and folder.is_dir():
        return folder
    if not is_hub_name(str(name)):
        raise InputError(
            "model", f"no folder {str(name)!r}; type a folder with config.json, or a Hub name"
        )

    # Imported late: it is slow, and local folders do not need it.
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.jinja"]
    if weights:
        patterns.append("*.safetensors")
    cached = _cached_folder(str(name), revision, patterns, required=patterns[-1 if weights else 0])
    if cached is not None:
        return cached

    require_network(
        "model",
        str(name),
        "the folder of a model or of a run that is there",
        missing="no folder here, is not cached,",
    )
    try:
        downloaded = snapshot_download(str(name), revision=revision, allow_patterns=patterns)
    except Exception as error:
        # An unknown name, a gated model, a lost connection: each has a type of its own.
        raise InputError(
            "model",
            f"there is no folder {str(name)!r} here, and it could not be downloaded from the Hub "
            f"({first_line(error)}); type a folder that is there",
        ) from error
    return pathlib.Path(downloaded)


def _cached_folder(
    name: str, revision: str | None, patterns: list[str], *, required: str
) -> pathlib.Path | None:
    """The cached files of a model; None without one that matches `required`."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            name, revision=revision, allow_patterns=patterns, local_files_only=True
        )
    except LocalEntryNotFoundError:
        return None
    # An earlier download may have left the weights out.
    is_complete = any(pathlib.Path(folder).glob(required))
    return pathlib.Path(folder) if is_complete else None


def is_hub_name(name: str) -> bool:
    """Whether `name` can be a repository on the Hub: ``owner/name`` or ``name``, and not a path."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def require_network(
    field: str, name: str, alternative: str, *, missing: str = "not cached"
) -> None:
    """Checks that the Hub answers: one short request without retries.

    Args:
      field: the configuration field that named what is needed.
      name: what is needed from the Hub.
      alternative: what the user can type where there is no network.
      missing: where it was looked for before.

    Raises:
      InputError: one line, when nothing answers.
    """
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=_NETWORK_TIMEOUT)
    except Exception as error:
        # Offline mode, no route, no answer, an untrusted certificate.
        raise InputError(
            field,
            f"{name!r} is {missing} and {constants.ENDPOINT} is unreachable "
            f"({type(error).__name__}); type {alternative}",
        ) from error
