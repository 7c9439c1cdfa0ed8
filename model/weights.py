"""Files of pretrained weights: safetensors, kept in one folder, each called by the hash of its content. No torch here."""

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from depth_loss_sweep.files import naming, write_whole
from depth_loss_sweep.model.errors import ModelError
from depth_loss_sweep.model.settings import DIGEST

SUFFIX = ".safetensors"
PUBLISHED = "published.json"
"""Which file holds the published weights of which network, as far as they were fetched."""


def weights_file(folder: Path, known_as: str) -> Path:
    """The file of weights "sha256:...". ModelError where it isn't there."""
    path = folder / f"{known_as.removeprefix(DIGEST)}{SUFFIX}"
    if not path.is_file():
        raise ModelError(
            f"the pretrained weights {known_as[:19]}... are not in {folder}: copy {path.name} there from where the study was "
            f"started, or start anew with model.pretrained = true or 'file:PATH'"
        )
    return path


def keep_weights(content: bytes, folder: Path) -> str:
    """Keep a file's content in the folder, where it isn't there yet; returns what it is known as."""
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{digest}{SUFFIX}"
    if not path.is_file():
        with naming(path):
            folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    return f"{DIGEST}{digest}"


def read_weights(path: Path) -> bytes:
    """The content of a safetensors file. ModelError where it is none: others may hold code."""
    try:
        content = path.read_bytes()
        with safe_open(path, "np"):
            return content
    except OSError as error:
        raise ModelError(f"the weights file {path} cannot be read ({error.strerror or error})") from error
    except SafetensorError as error:
        raise ModelError(
            f"the weights file {path} is no safetensors file: of one by torch.save, make one with: sweep weights convert {path}"
        ) from error


def fetched_before(folder: Path, network: str) -> str | None:
    """What the published weights of a network are known as, where they were fetched before and are still there."""
    known_as = _published(folder).get(network)
    return known_as if known_as and (folder / f"{known_as.removeprefix(DIGEST)}{SUFFIX}").is_file() else None


def remember_fetched(folder: Path, network: str, known_as: str) -> None:
    """Have `fetched_before` know them."""
    content = json.dumps(_published(folder) | {network: known_as}, indent=1, sort_keys=True)
    write_whole(folder / PUBLISHED, content.encode())


def _published(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / PUBLISHED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}
