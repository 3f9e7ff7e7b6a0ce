"""Tab 'Library': the adapters there are."""

from __future__ import annotations

from ..widgets.parts import part


class LibraryTab:
    """One part that looks after itself."""

    def __init__(self) -> None:
        part("od-library", elem_id="library")
