"""Policies from and to a model hub (huggingface.co, or whatever serves the same calls).

Only data travels: weights as safetensors, JSON, tokenizer files, a README. Python files and pickles of a repository are
never downloaded, so nothing of it can run here.
"""

import difflib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage] - the base class of whichever HTTP library the client uses
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)
from huggingface_hub.utils import validate_repo_id

from cerebella.policies.layout import DATA_PATTERNS, WEIGHTS_PATTERN, publishable_files

RELEASED = tuple(
    f"XiaomiRobotics/Xiaomi-Robotics-0-{name}"
    for name in (
        "Pretrain",
        "LIBERO",
        "Calvin-ABCD_D",
        "Calvin-ABC_D",
        "SimplerEnv-Google-Robot",
        "SimplerEnv-WidowX",
    )
)
"""The six released checkpoints; offered when a name is close to one of them."""
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_logger = logging.getLogger(__name__)


def fetch(
    source: str | Path,
    revision: str | None = None,
    endpoint: str | None = None,
    token: str | None = None,
    weights: bool = True,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """A local directory: `source` itself, or a download of the repository of that name.

    Downloads go to the user's Hugging Face cache (HF_HOME) and show their progress; what is there already is not loaded
    again. Without a connection the cached revision is used, with a warning of the client.

    Args:
        source: an existing directory, or `owner/name`. A Path, and whatever else looks like one, is never sent to a hub.
        revision: branch, tag or commit; the default branch if left out. Only for a hub.
        endpoint: address of the hub; HF_ENDPOINT, else https://huggingface.co, if left out.
        token: access token; HF_TOKEN or the stored login if left out.
        weights: False leaves the weights where they are, for a look at the rest; nothing can be loaded from that.
        cache_dir: another cache than the user's. local_files_only: ask no hub, take what the cache has.

    Raises:
        FileNotFoundError: neither a directory nor a repository, or one without safetensors weights.
        ValueError: a file, a name that no hub can have, an unknown revision, or a revision of a local directory.
        PermissionError: the repository is gated, or the token is refused. ConnectionError: the hub is out of reach.
    """
    if not str(source):
        raise ValueError("an empty name is no policy: give a directory, or owner/name on a hub")
    if Path(source).expanduser().is_dir():
        if revision is not None:
            raise ValueError(f"{source} is a local directory; a revision ({revision!r}) exists only on a hub")
        return Path(source).expanduser()
    if Path(source).expanduser().exists():
        raise ValueError(f"{source} is a file; give the directory of a policy, or owner/name on a hub")
    if isinstance(source, Path) or _looks_like_a_path(source):
        raise FileNotFoundError(f"there is no directory {str(source)!r}.{_closest(str(source))}")
    _check_name(source)
    failed = f"there is no directory {source!r} here, nor a copy in the cache {constants.HF_HUB_CACHE}"
    with _explained(source, endpoint, failed, revision):
        api = HfApi(endpoint=endpoint, token=token)
        commit = api.resolve_revision(source, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only)
        folder = snapshot_download(
            source,
            revision=commit,
            endpoint=endpoint,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            allow_patterns=[name for name in DATA_PATTERNS if weights or name != WEIGHTS_PATTERN],
            ignore_patterns=["*/*"],
        )
    directory = Path(folder)
    if not (directory / "config.json").is_file() or (weights and not any(directory.glob(WEIGHTS_PATTERN))):
        raise FileNotFoundError(
            f"{source!r} at {_address(endpoint)} holds no model: config.json and *.safetensors are needed (other weight "
            "formats can contain programs and are not downloaded)"
        )
    _logger.info("%s at commit %s is in %s", source, directory.name[:12], directory)
    return directory


def push(
    directory: str | Path,
    repo_id: str,
    revision: str | None = None,
    private: bool = False,
    message: str = "Upload a policy",
    endpoint: str | None = None,
    token: str | None = None,
) -> str:
    """Upload a policy directory or a directory in the released layout as one commit; the address of that commit.

    Everything is checked before the first byte leaves. A repository that does not exist is created, and so is a branch.
    Weights of an earlier upload that are not part of this one are removed in the same commit.

    Args:
        repo_id: `owner/name`.
        revision: a branch; the default branch if left out.
        private: of a new repository, which is public otherwise. An existing public one is then an error, so that nothing
            becomes public by mistake.
        endpoint, token: as for `fetch`.

    Raises:
        FileNotFoundError: `directory` lacks a file of a policy, or the owner is unknown. ValueError: it holds foreign or
            damaged files, the name cannot exist, or the repository is public although `private` was asked for.
        PermissionError: not logged in, or no right to write. ConnectionError: the hub is out of reach.
    """
    folder = Path(directory).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no directory {str(directory)!r}")
    names = publishable_files(folder)
    _check_name(repo_id)
    with _explained(repo_id, endpoint, f"{repo_id} was not uploaded", revision):
        api = HfApi(endpoint=endpoint, token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        if private and not api.model_info(repo_id).private:
            raise ValueError(
                f"{repo_id} exists already and is public; private=True cannot hide it. Nothing was uploaded"
            )
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            revision=revision,
            commit_message=message,
            allow_patterns=names,
            delete_patterns=[WEIGHTS_PATTERN, f"{WEIGHTS_PATTERN}.index.json"],
        )
    return commit.commit_url


def _looks_like_a_path(source: str) -> bool:
    return source.count("/") != 1 or source.startswith((".", "~", "/")) or source.endswith("/") or "\\" in source


def _check_name(repo_id: str) -> None:
    """Refuse what no hub can hold, before anything is sent."""
    reason = "one slash between owner and name"
    if repo_id.count("/") == 1 and all(repo_id.split("/")):
        try:
            validate_repo_id(repo_id)
        except HFValidationError as error:
            reason = str(error)
        else:
            return
    raise ValueError(f"{repo_id!r} is no name on a hub (owner/name): {reason}")


@contextmanager
def _explained(repo_id: str, endpoint: str | None, failed: str, revision: str | None = None) -> Iterator[None]:
    """Turn what the client raises into one sentence: `failed`, what was tried, and what to do."""
    where = _address(endpoint)
    at = where if revision is None else f"{where} (revision {revision!r})"
    try:
        yield
    except GatedRepoError as error:
        raise PermissionError(
            f"{failed}: {repo_id} is gated; ask for access at {where}/{repo_id}, then {_LOG_IN}"
        ) from error
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{failed}, and {where} has no repository of that name that you may see.{_closest(repo_id)} If it is private, "
            f"{_LOG_IN}"
        ) from error
    except RevisionNotFoundError as error:
        raise ValueError(
            f"{failed}: {repo_id} at {where} has no revision {revision!r} (branch, tag, commit)"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise PermissionError(f"{failed}: {where} refuses access (HTTP {status}); {_LOG_IN}") from error
        raise ConnectionError(f"{failed}: {at} answered HTTP {status}: {error}") from error
    except (RevisionResolutionError, LocalEntryNotFoundError, OfflineModeIsEnabled, HTTPError) as error:
        reason = str(error.__cause__ or error).rstrip(".")
        raise ConnectionError(f"{failed}, and {at} is out of reach: {reason}.{_closest(repo_id)}") from error
    except RuntimeError as error:  # the client's wrapper around whatever stopped an upload
        raise ConnectionError(f"{failed}: {at}: {error} {error.__cause__ or ''}".rstrip()) from error


def _closest(source: str) -> str:
    """A sentence that offers what is most like `source`: a directory beside it, or a released checkpoint."""
    folder = Path(source).expanduser().parent
    near = [str(path) for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    matches = difflib.get_close_matches(source, [*near, *RELEASED], n=1, cutoff=0.8)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def _address(endpoint: str | None) -> str:
    return endpoint or constants.ENDPOINT
