"""Small pieces of HTML. Whatever a person or a file wrote is escaped here and nowhere else."""

from __future__ import annotations

from html import escape

from orthodiff.training.data.check import DataReport
from orthodiff.training.data.report import cropping, summary

from ..services.jobs.status import Status
from .loss_plot import loss_curve

WORDS = {
    "starting": "Getting ready",
    "running": "Training",
    "stopping": "Stopping",
    "finished": "Finished",
    "stopped": "Stopped",
    "failed": "Failed",
}
EMPTY = (
    '<div class="card empty"><b>No run yet</b><p>Choose a subject and press '
    "<em>Start training</em>. You can close this page meanwhile: the training goes on by itself, "
    "and the page finds it again.</p></div>"
)


def header() -> str:
    """The name of the page and what it is for."""
    return (
        '<header class="masthead"><h1>orthodiff <span>studio</span></h1><p>Teach a model your '
        "subject from a handful of photos, then picture it anywhere.</p></header>"
    )


def heading(number: int, title: str, hint: str = "") -> str:
    """The heading of one step of a form."""
    more = f"<small>{escape(hint)}</small>" if hint else ""
    return f'<h2 class="step"><i>{number}</i>{escape(title)}{more}</h2>'


def problem(sentence: str) -> str:
    """A sentence that says what is wrong, beside the form."""
    return f'<div class="message problem" role="alert">{escape(sentence)}</div>' if sentence else ""


def note(sentence: str) -> str:
    """A sentence that says what was done."""
    return f'<div class="message note" role="status">{escape(sentence)}</div>' if sentence else ""


def photo_report(report: DataReport) -> str:
    """What a look at the photos has told: first what cannot be used, then what could be better."""
    problems = "".join(f"<li>{escape(str(problem))}</li>" for problem in report.problems)
    advice = "".join(f"<li>{escape(told.plain)}</li>" for told in report.advice)
    count = len(report.problems)
    heading = f"{count} photo{'s' if count > 1 else ''} cannot be used"
    lists = f'<b class="bad">{heading}</b><ul>{problems}</ul>' if problems else ""
    lists += f"<b>Advice</b><ul>{advice}</ul>" if advice else ""
    state = "bad" if problems else "advice" if advice else "good"
    return (
        f'<div class="message report {state}" role="status">'
        f"<p>{escape(_seen(report))}</p>{lists}</div>"
    )


def _seen(report: DataReport) -> str:
    if not report.images:
        return "No photo can be used."
    fine = "" if report.problems or report.advice else " All is well."
    cut = f"at {report.resolution} pixels {cropping(report)}"
    return f"{summary(report)}; {cut}.{fine}"


def run_card(status: Status) -> str:
    """All that is known about a run."""
    return (
        f'<div class="card run" data-state="{status.state}" data-run="{escape(status.name)}">'
        f"<div class=top><b>{escape(status.name)}</b>"
        f'<span class="pill {status.state}">{WORDS[status.state]}</span></div>'
        f"{_subtitle(status)}{_bar(status)}{_facts(status)}{_curve(status)}{_end(status)}</div>"
    )


def duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _subtitle(status: Status) -> str:
    if not status.started:
        text = "Loading the base model and preparing the photos …" if status.is_alive else ""
    else:
        method, count = str(status.started["method"]).upper(), int(status.started["parameters"])
        method = "LoRA" if method == "LORA" else method
        prompt = status.started["instance_prompt"]
        named = f"“{prompt}” · " if prompt else ""
        text = f"{named}{method} · {count:,} trainable numbers"
    return f'<p class="subtitle">{escape(text)}</p>' if text else ""


def _bar(status: Status) -> str:
    share = 100 * status.step / status.total if status.total else 0
    busy = " busy" if status.state in ("starting", "stopping") else ""
    return (
        f'<div class="bar{busy}" role="progressbar" aria-valuenow="{share:.0f}" aria-valuemin="0" '
        f'aria-valuemax="100" aria-label="Training progress">'
        f'<div style="width:{share:.1f}%"></div></div>'
    )


def _facts(status: Status) -> str:
    facts = []
    if status.total:
        facts.append(("Step", f"{status.step} / {status.total}"))
    if status.steps:
        last = status.steps[-1]
        facts += [("Loss", f"{last['loss']:.4f}"), ("Pace", _pace(last["seconds_per_step"]))]
    if status.eta is not None:
        facts.append(("Time left", duration(status.eta)))
    elif status.seconds is not None:
        facts.append(("Took", duration(status.seconds)))
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    return f"<dl>{cells}</dl>" if cells else ""


def _pace(seconds_per_step: float) -> str:
    if seconds_per_step < 1:
        return f"{1 / max(seconds_per_step, 1e-9):.1f} steps/s"
    return f"{seconds_per_step:.1f} s/step"


def _curve(status: Status) -> str:
    losses = [(int(event["step"]), float(event["loss"])) for event in status.steps]
    curve = loss_curve(losses, total=status.total)
    return f"<figure><figcaption>Loss</figcaption>{curve}</figure>" if curve else ""


def _end(status: Status) -> str:
    if status.state == "stopped":
        return note(f"{status.reason[:1].upper()}{status.reason[1:].partition(';')[0]}.")
    if status.state != "failed":
        return ""
    log = f"<details open><summary>Last lines of its log</summary><pre>{escape(status.log)}</pre>"
    return problem(status.reason) + (f"{log}</details>" if status.log else "")
