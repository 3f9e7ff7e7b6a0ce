"""Tab 'Runs': queue and history, and all about the run that is chosen."""

from __future__ import annotations

from ..widgets.parts import part


class RunsTab:
    """One part that looks after itself: it talks to the API with the page's own login."""

    def __init__(self) -> None:
        part("od-runs", elem_id="runs")
