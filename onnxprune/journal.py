"""A journal keeps what was finished, by key: a line that was written is there after any crash, and written once.

It is a file of JSON lines. The first says what it is; each other is `{"key": ..., "value": ...}`, and on disk before
`add` returns. The last line may be torn, by a crash in the middle of it: then it counts as never written. One run at a
time has the journal; the operating system frees it when that run ends, however it ends.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from onnxprune.errors import OutputNotWritten, UsageError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["Journal", "Memo", "key_of"]

FORMAT = 1
FIRST = {"onnxprune_journal": FORMAT}
FAR = 1 << 40  # the byte that is locked where locks keep others from reading


def key_of(**parts: Any) -> str:
    """What determines a result, as one short text: equal for equal parts, in any order."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Journal(Mapping[str, Any]):
    """What was finished, by key: JSON values, in the order in which they were added; open until `close`.

    Errors: `UsageError` for a file that is no journal, is damaged before its last line, or is in use by another run;
    `OutputNotWritten` where it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._known: dict[str, Any] = {}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = self.path.open("a+b")
        except OSError as error:
            raise OutputNotWritten(f"cannot write the journal {str(path)!r}: {error.strerror or error}") from error
        try:
            self._lock()
            self._read()
        except BaseException:
            self._file.close()
            raise

    def add(self, key: str, value: Any) -> None:
        """Note that `value` is the result of `key`; it is on disk when this returns."""
        self._write({"key": key, "value": value})
        self._known[key] = value

    def close(self) -> None:
        """Leave the journal to the next run."""
        self._file.close()

    def __getitem__(self, key: str) -> Any:
        return self._known[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            if sys.platform == "win32":
                self._file.seek(FAR)
                msvcrt.locking(self._file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"another run is at work with the journal {str(self.path)!r}; wait for its end, or choose another place"
            ) from error

    def _read(self) -> None:
        self._file.seek(0)
        data = self._file.read()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            if not whole and not (json.dumps(FIRST) + "\n").encode().startswith(data):
                raise self._damaged(1)  # not ours, so it is not cut
            self._file.truncate(len(whole))
        lines = whole.splitlines()
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise self._damaged(number) from error
            if number == 1:
                if entry != FIRST:
                    raise self._damaged(number)
                continue
            if not isinstance(entry, dict) or entry.keys() != {"key", "value"}:
                raise self._damaged(number)
            self._known[entry["key"]] = entry["value"]
        if not lines:
            self._write(FIRST)

    def _write(self, entry: Mapping[str, Any]) -> None:
        try:
            self._file.write((json.dumps(entry, ensure_ascii=False) + "\n").encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OutputNotWritten(f"cannot write the journal {str(self.path)!r}: {error.strerror or error}") from error

    def _damaged(self, number: int) -> UsageError:
        expected = json.dumps(FIRST) if number == 1 else "a key and a value"
        return UsageError(
            f"line {number} of {str(self.path)!r} is damaged, or the file is no journal of this version of onnxprune "
            f"(expected {expected}); choose another place, or remove it to begin anew"
        )


class Memo:
    """A number for each key, computed once: by this run, or by an earlier one that had the same journal.

    `about` is what all keys have in common: everything that the numbers depend on, and that a call does not say.
    `computed` and `remembered` count the keys that were asked for, by where their numbers came from.
    """

    def __init__(self, journal: Journal | None = None, about: Mapping[str, Any] | None = None) -> None:
        self._journal, self._about = journal, about or {}
        self._known: dict[str, float] = {}
        self.computed = self.remembered = 0

    def __call__(self, compute: Callable[[], float], **parts: Any) -> float:
        """The number of `parts`; `compute` is called where nobody has computed it yet."""
        key = key_of(**self._about, **parts)
        if key in self._known:
            return self._known[key]
        if self._journal is not None and key in self._journal:
            value = float(self._journal[key])
            self.remembered += 1
        else:
            value = compute()
            if self._journal is not None:
                self._journal.add(key, value)
            self.computed += 1
        self._known[key] = value
        return value
