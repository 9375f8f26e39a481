"""Reloads as the admin API asks for them: documents as text, errors as answers."""

from collections.abc import Awaitable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from gateway.config.folder import FILES_MAX, FOLDER_BYTES_MAX
from gateway.control.policy_routes import No
from gateway.refused import in_words
from gateway.reload.documents import Documents, NotOurs, Unreadable, name_trouble, ours
from gateway.reload.history import Unknown
from gateway.reload.reloader import REFUSED, Reloader, Stale, etag

T = TypeVar("T")


class Asking:
    """The port Policies of the admin API, on a reloader."""

    def __init__(self, reloader: Reloader) -> None:
        self._reloader = reloader

    async def shown(self) -> tuple[str, dict[str, Any]]:
        """The etag of the documents in the folder, and what there is to say. Raises No."""
        reloader = self._reloader
        documents = await _or_no(reloader.read())
        owner = None
        try:
            ours(reloader.folder)
        except NotOurs as error:
            owner = str(error)
        body = {
            **reloader.standing(),
            "folder": str(reloader.folder),
            "writable": owner is None,
            "owner": owner,
            "documents": {name: data.decode("utf-8", "replace") for name, data in documents.items()},
        }
        return etag(documents), body

    async def tried(self, documents: Mapping[str, str]) -> tuple[bool, dict[str, Any]]:
        """Whether these documents may serve, and what there is to say. Raises No."""
        problems, judged = await _or_no(self._reloader.check(_bytes(documents)))
        claims = [verdict.as_record() for verdict in judged.verdicts]
        found = {"problems": problems, "warnings": judged.warnings, "claims": claims, "failed_cases": judged.failed_cases}
        return not problems, {**found, "cases": judged.cases}

    async def changed(self, documents: Mapping[str, str], seen: str, by: str) -> tuple[bool, dict[str, Any]]:
        """Whether these documents serve from now on, and what there is to say. Raises No."""
        change = await _or_no(self._reloader.put(_bytes(documents), seen, by))
        return change.result != REFUSED, change.as_record()

    async def gone_back(self, to: str | None, seen: str, by: str) -> tuple[bool, dict[str, Any]]:
        """Whether what served before does so from now on, and what there is to say. Raises No."""
        _, change = await _or_no(self._reloader.roll_back(to, seen, by))
        return change.result != REFUSED, change.as_record()

    def past(self) -> list[dict[str, Any]]:
        """Every switch, the newest first."""
        return [asdict(entry) for entry in reversed(self._reloader.history.entries())]


def _bytes(documents: Mapping[str, str]) -> Documents:
    troubles = [trouble for name in documents if (trouble := name_trouble(name))]
    if troubles:
        raise No(400, "invalid_document_name", "; ".join(troubles[:3]))
    found = {name: text.encode("utf-8", "surrogatepass") for name, text in documents.items()}
    if not found or len(found) > 2 * FILES_MAX or sum(map(len, found.values())) > 2 * FOLDER_BYTES_MAX:
        limits = f"a folder has 1 to {FILES_MAX} documents of {FOLDER_BYTES_MAX} bytes in all, and its cases"
        raise No(413, "policy_too_large", limits)
    return found


async def _or_no(asked: Awaitable[T]) -> T:
    try:
        return await asked
    except Stale as error:
        raise No(412, "etag_mismatch", str(error)) from error
    except NotOurs as error:
        raise No(409, "folder_not_ours", str(error)) from error
    except Unreadable as error:
        raise No(409, "folder_unreadable", str(error)) from error
    except Unknown as error:
        raise No(404, "unknown_snapshot", str(error)) from error
    except OSError as error:
        raise No(507, "not_written", f"the change could not be written, and nothing has changed: {in_words(error)}") from error
