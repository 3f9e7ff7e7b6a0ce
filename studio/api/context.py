"""What every route needs: who asks, and the studio that answers."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from ..state import Studio


def owner_of(request: Request) -> str:
    """Who asks, as the guard has found out."""
    return str(request.scope["state"]["owner"])


def studio_of(request: Request) -> Studio:
    """The studio of this application."""
    studio: Studio = request.app.state.studio
    return studio


Owner = Annotated[str, Depends(owner_of)]
TheStudio = Annotated[Studio, Depends(studio_of)]
