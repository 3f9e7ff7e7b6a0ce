"""Samplers by the names that people use, as schedulers of diffusers.

Each is diffusers' own class, made from the base's configuration, so that images equal those of its
pipelines with the same scheduler. Bases trained by flow matching have classes of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orthodiff.errors import UserError, first_line
from orthodiff.models import Base
from orthodiff.models.objective import FlowMatching, Objective

CLIPPING = ("DDIMScheduler", "DDPMScheduler", "LCMScheduler")
"""These clip to [-1, 1] by default, which is meant for pixels and ruins latents."""


@dataclass(frozen=True)
class Sampler:
    """A scheduler class of diffusers, what it needs set, and the name that web interfaces show."""

    scheduler: str
    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)


def _multistep(title: str, *, karras: bool = False, sde: bool = False) -> Sampler:
    """DPM-Solver++ of second order (arXiv:2211.01095), with noise added at each step if `sde`."""
    algorithm = "sde-dpmsolver++" if sde else "dpmsolver++"
    changes = {"algorithm_type": algorithm, "use_karras_sigmas": karras, "solver_order": 2}
    return Sampler("DPMSolverMultistepScheduler", title, changes)


SAMPLERS = {
    "ddim": Sampler("DDIMScheduler", "DDIM"),
    "ddpm": Sampler("DDPMScheduler", "DDPM"),
    "euler": Sampler("EulerDiscreteScheduler", "Euler", {"use_karras_sigmas": False}),
    "euler_a": Sampler("EulerAncestralDiscreteScheduler", "Euler a"),
    "heun": Sampler("HeunDiscreteScheduler", "Heun", {"use_karras_sigmas": False}),
    "dpm++_2m": _multistep("DPM++ 2M"),
    "dpm++_2m_karras": _multistep("DPM++ 2M Karras", karras=True),
    "dpm++_2m_sde": _multistep("DPM++ 2M SDE", sde=True),
    "dpm++_2m_sde_karras": _multistep("DPM++ 2M SDE Karras", karras=True, sde=True),
    "unipc": Sampler("UniPCMultistepScheduler", "UniPC"),
    "lcm": Sampler("LCMScheduler", "LCM"),
}


def _flow(name: str) -> Sampler:
    """A solver for diffusion, told to solve rectified flow (arXiv:2403.03206)."""
    sampler = SAMPLERS[name]
    changes = {**sampler.changes, "use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    return Sampler(sampler.scheduler, sampler.title, changes)


FLOW_SAMPLERS = {
    "euler": Sampler("FlowMatchEulerDiscreteScheduler", "Euler"),
    "heun": Sampler("FlowMatchHeunDiscreteScheduler", "Heun"),
    "dpm++_2m": _flow("dpm++_2m"),
    "dpm++_2m_sde": _flow("dpm++_2m_sde"),
    "unipc": _flow("unipc"),
}
"""The same names where the base was trained by flow matching; the others have no such form."""


def sampler_name(written: str) -> str:
    """The name in `SAMPLERS` that is meant: "DPM++ 2M Karras" and "dpm++-2m-karras" are the same.

    Raises:
        UserError: there is no such sampler.
    """
    plain = "_".join(written.lower().replace("-", " ").replace("_", " ").split())
    if plain not in SAMPLERS:
        raise UserError(
            f"`sampler` is {written!r}, which is not known. Use one of {', '.join(SAMPLERS)}."
        )
    return plain


def sampler_title(name: str | None, scheduler: Any) -> str:
    """What web interfaces call a sampler: that of a name, or else that of the base's scheduler."""
    if name:
        return SAMPLERS[sampler_name(name)].title
    kind = type(scheduler).__name__
    known = [*FLOW_SAMPLERS.values(), *reversed(SAMPLERS.values())]
    titles = {sampler.scheduler: sampler.title for sampler in known}
    return titles.get(kind, kind.removesuffix("Scheduler"))


def new_scheduler(base: Base, steps: int, size: tuple[int, int], name: str | None = None) -> Any:
    """A scheduler set to `steps` for images of `size` (height, width): the base's, or a sampler.

    Raises:
        UserError: there is no such sampler, or it does not fit this base or so many steps.
    """
    try:
        if name is None:
            return base.new_scheduler(steps, size=size)
        scheduler = _of_sampler(base, sampler_name(name))
        scheduler.set_timesteps(steps, device=base.device)
    except (ValueError, NotImplementedError) as error:
        if isinstance(error, UserError):
            raise
        what = f"`sampler` {name}" if name else "The base's own scheduler"
        raise UserError(
            f"{what} cannot make {steps} steps with this base ({first_line(error)}). "
            "Choose another sampler or number of steps."
        ) from error
    return scheduler


def scheduler_class(objective: Objective, name: str) -> str:
    """The class of diffusers that a sampler is, for bases of that objective.

    Raises:
        UserError: the sampler has no form for flow matching.
    """
    return _sampler(objective, name).scheduler


def _sampler(objective: Objective, name: str) -> Sampler:
    known = FLOW_SAMPLERS if isinstance(objective, FlowMatching) else SAMPLERS
    if name not in known:
        raise UserError(
            f"`sampler` is {name}, which is for diffusion, but this base was trained by flow "
            f"matching. Use one of {', '.join(known)}, or leave it out."
        )
    return known[name]


def _shift(name: str, scheduler: str, config: Mapping[str, Any]) -> dict[str, float]:
    """How far the base shifts its noise levels, by the name that the scheduler has for it."""
    if config.get("use_dynamic_shifting"):
        raise UserError(
            f"`sampler` is {name}, but how far this base shifts its noise depends on the image's "
            "size, which its own sampler alone knows. Leave `sampler` out."
        )
    shift = float(config.get("shift") or config.get("flow_shift") or 1.0)
    return {"shift" if scheduler.startswith("FlowMatch") else "flow_shift": shift}


def _of_sampler(base: Base, name: str) -> Any:
    import diffusers

    config, sampler = base.scheduler.config, _sampler(base.objective, name)
    changes = {**sampler.changes}
    if sampler.scheduler in CLIPPING:
        changes["clip_sample"] = False
    if isinstance(base.objective, FlowMatching):
        changes |= _shift(name, sampler.scheduler, config)
    return getattr(diffusers, sampler.scheduler).from_config(config, **changes)
