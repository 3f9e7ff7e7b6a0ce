"""What every route needs: who asks, and the studio that answers."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from ..state import Studio
from .answers import Answers


async def owner_of(request: Request) -> str:
    """Who asks, as the guard has found out."""
    return str(request.scope["state"]["owner"])


async def studio_of(request: Request) -> Studio:
    """The studio of this application."""
    studio: Studio = request.app.state.studio
    return studio


async def answers_of(request: Request) -> Answers:
    """What pages ask for again and again."""
    answers: Answers = request.app.state.answers
    return answers


# None of the three waits for anything: a plain function would cost a hop to a thread each.
Owner = Annotated[str, Depends(owner_of)]
TheStudio = Annotated[Studio, Depends(studio_of)]
TheAnswers = Annotated[Answers, Depends(answers_of)]
