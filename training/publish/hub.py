"""The Hugging Face hub: create the repository, send what it lacks, and compare what it has."""

import hashlib
import os
from pathlib import Path
from typing import Any

from data.console import first_line
from data.errors import ConfigError, NetworkError, OutputError

TOKEN = "HF_TOKEN"  # noqa: S105
_AGAIN = "type the same command again: what has arrived is not sent again"


def token() -> str:
    """Return the token of the environment.

    Raises:
        ConfigError: there is none.
    """
    value = os.environ.get(TOKEN, "").strip()
    if not value:
        hint = "export it, or look at the files with --dry_run true"
        raise ConfigError(TOKEN, "a token of the hub with the right to write", "none", hint)
    return value


def license_of(base: str) -> str | None:
    """Ask the hub for the licence of a base; None: it does not say, or is not there."""
    import httpx
    from huggingface_hub import HfApi, errors

    try:
        card = HfApi(token=False).model_info(base, timeout=10).card_data
    except (errors.HfHubHTTPError, errors.OfflineModeIsEnabled, errors.HFValidationError,
            httpx.HTTPError, OSError):  # fmt: skip
        return None
    return str(card.license) if card and card.license else None


def upload(folder: Path, to: str, kind: str) -> dict[str, str]:
    """Send a folder as one commit; large files that the hub has already are not sent again.

    Args:
        folder: what the repository is to hold.
        to: user/name.
        kind: model or dataset; a dataset is private.

    Returns:
        ``url`` and ``commit``.

    Raises:
        ConfigError: there is no token, or the hub refuses it.
        NetworkError: the hub was not reached, or broke off.
        OutputError: what it holds afterwards is something else.
    """
    import httpx
    from huggingface_hub import HfApi, errors

    api = HfApi(token=token())
    try:
        api.create_repo(to, repo_type=kind, private=kind == "dataset", exist_ok=True)
        commit = api.upload_folder(
            repo_id=to, folder_path=folder, repo_type=kind,
            commit_message="Publish with title-to-description",
        )  # fmt: skip
        check(api, folder, to, kind)
    except errors.OfflineModeIsEnabled as error:
        raise NetworkError(to, "", "HF_HUB_OFFLINE is set", "unset it to publish") from error
    except errors.HfHubHTTPError as error:
        code = error.response.status_code if error.response is not None else 0
        if code in (401, 403):
            hint = "take one with the right to write there"
            raise ConfigError(TOKEN, f"a token for {to}", f"refused ({code})", hint) from error
        raise NetworkError(to, "", f"the hub says: {first_line(error)}", _AGAIN) from error
    except (httpx.HTTPError, RuntimeError, OSError) as error:
        if isinstance(error, OutputError):
            raise
        raise NetworkError(to, "", f"the upload broke off: {first_line(error)}", _AGAIN) from error
    return {"url": str(commit.repo_url), "commit": str(commit.oid)}


def check(api: Any, folder: Path, to: str, kind: str) -> None:
    """Compare the hub's files with ours by digest.

    Raises:
        OutputError: one is missing or another.
    """
    there = {
        entry.path: entry
        for entry in api.list_repo_tree(to, recursive=True, repo_type=kind)
        if hasattr(entry, "blob_id")
    }
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        if name not in there or not _is_same(file, there[name]):
            found = "another" if name in there else "none"
            raise OutputError(f"{to}/{name}", "the file that was sent", found, _AGAIN)


def _is_same(file: Path, entry: Any) -> bool:
    """Whether the hub's digest of a file is ours: SHA-256 of large ones, git's of others."""
    if entry.lfs:
        with file.open("rb") as opened:
            return bool(hashlib.file_digest(opened, "sha256").hexdigest() == entry.lfs.sha256)
    content = file.read_bytes()
    head = f"blob {len(content)}\0".encode()
    return bool(hashlib.sha1(head + content, usedforsecurity=False).hexdigest() == entry.blob_id)
