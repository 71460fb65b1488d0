"""The Hugging Face Hub, asked once: what is cached is used, and without a network there is one clear line."""

import os
import pathlib

from ccpo_jax.errors import first_line

_PATIENCE = 5.0  # seconds until the Hub counts as out of reach


def fetch(name: str | os.PathLike, *, revision: str | None = None, weights: bool) -> pathlib.Path:
    """The folder of a model: `name` itself if it is one, else its files from the cache or the Hub.

    Args:
      name: a folder, or a name on the Hub such as ``"Qwen/Qwen2.5-0.5B-Instruct"``.
      revision: branch, tag or commit of a Hub name; None = its main branch.
      weights: the safetensors files as well, not only what describes them.

    Raises:
      ValueError: neither a folder nor a model that the Hub can give.
    """
    folder = pathlib.Path(name).expanduser()
    if str(name) and folder.is_dir():
        return folder
    if not is_hub_name(str(name)):
        raise ValueError(
            f"model: there is no folder {str(name)!r}; type a folder with config.json, or a Hub name"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    patterns = ["*.json", "*.jinja"] + ["*.safetensors"] * weights
    options = {"revision": revision, "allow_patterns": patterns}
    try:
        cached = pathlib.Path(snapshot_download(str(name), local_files_only=True, **options))
        if any(
            cached.glob(patterns[-1] if weights else patterns[0])
        ):  # an earlier fetch may have wanted less
            return cached
    except LocalEntryNotFoundError:
        pass
    require_network("model", str(name), "a folder with config.json, tokenizer.json and safetensors")
    try:
        return pathlib.Path(snapshot_download(str(name), **options))
    except Exception as error:  # no such name, no access: each comes with its own type
        raise ValueError(
            f"model: the Hub did not give {str(name)!r} ({first_line(error)}); type a folder instead"
        ) from error


def is_hub_name(name: str) -> bool:
    """Whether `name` could be a repository on the Hub: ``owner/name`` or ``name``, and no path."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def require_network(field: str, name: str, instead: str) -> None:
    """Asks the Hub for a sign of life, once and without retries.

    Args:
      field: the configuration field that named it.
      name: what is wanted.
      instead: what the user can give where there is no network.

    Raises:
      ValueError: one line, when nothing answers.
    """
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=_PATIENCE)
    except Exception as error:  # offline mode, no route, no answer, no trusted certificate
        raise ValueError(
            f"{field}: {name!r} is wanted and {constants.ENDPOINT} cannot be reached ({type(error).__name__}); "
            f"type {instead}"
        ) from error
