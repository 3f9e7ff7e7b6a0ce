"""Tensors by key in sharded, memory-mapped safetensors files: a data set need not fit memory.

Each shard stacks rows of one layout (names, types and shapes of tensors), with their keys and sums.
It is written whole and renamed, and never changed, so that several runs may share a folder.
"""

from __future__ import annotations

import json
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from orthodiff.errors import UserError
from orthodiff.io.atomic import share_file
from orthodiff.io.hashing import content_key
from orthodiff.io.safetensors import read_tensors

KEYS, SUMS = "keys", "sums"
FORMAT = "1"
SHARD_BYTES = 1 << 27
"""128 MB: few files for a million images, and little to write again where one is damaged."""
MAX_OPEN = 256
"""Shards mapped at the same time."""
CHECKED_AT_ONCE = 1 << 28
"""Bytes of a folder that are checked when it is opened; further ones when they are first read."""
ROW_COST = 1 << 14
"""Bytes that take as long to check as it takes to come to the next row."""
MAX_UNLISTED = 200_000
"""Keys of rows written since the folder was last listed."""

Row = Mapping[str, Tensor]
Rows = tuple[np.ndarray, np.ndarray]
"""Numbers of shards, and of rows in them."""


def row_key(*parts: str | bytes) -> bytes:
    """16 bytes from everything that decides a row."""
    return bytes.fromhex(content_key(*parts))[:16]


class TensorStore:
    """The rows of a folder; with no folder they stay in memory.

    Rows that were added can be read when `flush` has written them, and by others from then on.
    """

    def __init__(self, folder: Path | None, *, shard_bytes: int = SHARD_BYTES) -> None:
        self.folder, self.shard_bytes = folder, shard_bytes
        self._names: list[str] = []
        self._whole_names: list[str] = []
        self._open: OrderedDict[str, dict[str, Tensor]] = OrderedDict()
        self._checked: dict[str, np.ndarray] = {}
        self._pending: dict[str, list[tuple[bytes, dict[str, Tensor]]]] = defaultdict(list)
        self._unlisted: set[bytes] = set()
        self._in_memory: dict[str, dict[str, Tensor]] = {}
        self._keys = np.zeros((0, 2), np.uint64)
        self._places = np.zeros((0, 2), np.int32)
        self.reload()

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: bytes) -> bool:
        return key in self._unlisted or self._find(key) is not None

    def __getitem__(self, key: bytes) -> dict[str, Tensor]:
        """The tensors of a row, mapped from its file.

        Raises:
            KeyError: there is no such row.
            UserError: its file was damaged since it was opened.
        """
        if key in self._unlisted:
            self.flush()
        place = self._find(key)
        if place is None:
            raise KeyError(key.hex())
        name, row = self._names[place[0]], place[1]
        tensors = self._tensors(name)
        values = {part: t[row] for part, t in tensors.items() if part not in (KEYS, SUMS)}
        if not self._checked[name][row]:
            if _sum(key, values) != int(tensors[SUMS][row]):
                raise UserError(
                    f"The cached file `{name}` in `{self.folder}` is damaged. Remove it and start "
                    "again: what it held is encoded anew."
                )
            self._checked[name][row] = True
        return values

    def add(self, key: bytes, values: Row) -> None:
        """Keep a row, unless there is one under this key."""
        if key in self:
            return
        row = {name: tensor.detach().cpu().contiguous() for name, tensor in values.items()}
        layout = json.dumps([[n, str(t.dtype), list(t.shape)] for n, t in sorted(row.items())])
        rows = self._pending[layout]
        rows.append((key, row))
        self._unlisted.add(key)
        if len(rows) * sum(tensor.nbytes for tensor in row.values()) >= self.shard_bytes:
            self._write(self._pending.pop(layout))

    def flush(self) -> None:
        """Write what was added, and see what others have added meanwhile."""
        for layout in list(self._pending):
            self._write(self._pending.pop(layout))
        self._unlisted.clear()
        self.reload()

    def reload(self) -> None:
        """List all rows there are; damaged files are passed over, so their rows are made again."""
        self._names = sorted(self._in_memory)
        if self.folder is not None and self.folder.is_dir():
            self._names = sorted(path.name for path in self.folder.glob("*.safetensors"))
        keys, places = [np.zeros((0, 2), np.uint64)], [np.zeros((0, 2), np.int32)]
        budget, self._whole_names = CHECKED_AT_ONCE, []
        for shard, name in enumerate(self._names):
            tensors = self._whole(name, check=budget > 0)
            if tensors is None:
                continue
            self._whole_names.append(name)
            count = len(tensors[KEYS])
            budget -= sum(tensor.nbytes for tensor in tensors.values()) + ROW_COST * count
            keys.append(tensors[KEYS].numpy().view(np.uint64).copy())
            places.append(np.stack([np.full(count, shard), np.arange(count)], 1).astype(np.int32))
        every = np.concatenate(keys)
        order = np.argsort(every[:, 0], kind="stable")
        self._keys, self._places = every[order], np.concatenate(places)[order]

    def shards(self) -> list[str]:
        """The names of the files that rows are read from."""
        return self._whole_names

    def _find(self, key: bytes) -> tuple[int, int] | None:
        first, second = np.frombuffer(key, np.uint64)
        place = int(np.searchsorted(self._keys[:, 0], first))
        while place < len(self._keys) and self._keys[place, 0] == first:
            if self._keys[place, 1] == second:
                shard, row = self._places[place].tolist()
                return shard, row
            place += 1
        return None

    def _whole(self, name: str, *, check: bool) -> dict[str, Tensor] | None:
        """The tensors of a shard; None where its file is not a whole one of ours."""
        try:
            tensors = self._tensors(name)
        except UserError:
            return None
        checked = self._checked[name]
        if check and not checked.all():
            if not all(_sums_agree(tensors)):
                del self._open[name], self._checked[name]
                return None
            checked[:] = True
        return tensors

    def _tensors(self, name: str) -> dict[str, Tensor]:
        """A shard, mapped.

        Raises:
            UserError: its file is not a whole one of ours.
        """
        if name not in self._open:
            tensors = _read(self.folder / name) if self.folder else self._in_memory[name]
            self._open[name] = tensors
            self._checked.setdefault(name, np.zeros(len(tensors[KEYS]), bool))
            if len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(name)
        return self._open[name]

    def _write(self, rows: Sequence[tuple[bytes, dict[str, Tensor]]]) -> None:
        """No need to force it to the disk: the sums tell what a power cut left half-written."""
        tensors = {name: torch.stack([row[name] for _, row in rows]) for name in rows[0][1]}
        keys = b"".join(key for key, _ in rows)
        tensors[KEYS] = torch.frombuffer(bytearray(keys), dtype=torch.uint8).view(-1, 16).clone()
        tensors[SUMS] = torch.tensor([_sum(key, row) for key, row in rows], dtype=torch.int64)
        name = f"{content_key(keys)[:32]}.safetensors"
        if self.folder is None:
            self._in_memory[name] = tensors
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            share_file(self.folder / name, save(tensors, metadata={"format": FORMAT}))
        if len(self._unlisted) > MAX_UNLISTED:
            self._unlisted = {key for rows in self._pending.values() for key, _ in rows}
            self.reload()


def _read(path: Path) -> dict[str, Tensor]:
    tensors, metadata = read_tensors(path)
    lengths = {len(tensor) if tensor.ndim else 0 for tensor in tensors.values()}
    if metadata.get("format") != FORMAT or not {KEYS, SUMS} < set(tensors) or len(lengths) != 1:
        raise UserError(f"{path} is not a file of this cache. Remove it.")
    return tensors


def _sums_agree(tensors: Mapping[str, Tensor]) -> Iterator[bool]:
    names = [name for name in tensors if name not in (KEYS, SUMS)]
    keys = tensors[KEYS].numpy()
    for row, expected in enumerate(tensors[SUMS].tolist()):
        yield _sum(keys[row].tobytes(), {name: tensors[name][row] for name in names}) == expected


def _sum(key: bytes, row: Row) -> int:
    total = zlib.crc32(key)
    for name in sorted(row):
        content = row[name].contiguous().view(-1).view(torch.uint8).numpy()
        total = zlib.crc32(content.data, total)
    return total
