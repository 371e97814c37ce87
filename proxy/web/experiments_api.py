"""The JSON API of the experiments page: /api/experiments and /api/jobs. Admins only.

GET  /api/experiments                  every step: cost, whether it can run, headline result
POST /api/experiments/{step}           start a step; with `dry_run` only estimate its cost
GET  /api/experiments/{step}/results   the result files of a step
GET  /api/jobs, /api/jobs/{id}         jobs and their logs
POST /api/jobs/{id}/cancel             cancel a job
"""

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar

import msgspec
from litestar import Request, Response, get, post
from litestar.params import FromPath, FromQuery
from litestar.types import ControllerRouterHandler

from proxy.errors import Conflict, Forbidden, InvalidRequest, NotFound
from proxy.experiments import (
    INSTALL_COMMAND,
    MAX_JOBS,
    STEPS,
    STEPS_BY_NAME,
    Estimate,
    Job,
    JobRunning,
    Jobs,
    Planner,
    Step,
    key_figure,
    read_results,
)
from proxy.gateway import Gateway
from proxy.protocol import read_request
from proxy.web.blocking import ask
from proxy.web.small_bodies import read_small_body

T = TypeVar("T")

TAIL_CHARS: Final = 16_000  # of a log, for the first request without `after`


class _Start(msgspec.Struct):
    parameters: dict[str, Any] = {}
    accept_usd: Annotated[float, msgspec.Meta(ge=0, le=10_000)] | None = None
    dry_run: bool = False


_start = msgspec.json.Decoder(_Start)


def routes(
    gateway: Gateway, jobs: Jobs, planner: Callable[[], Planner], *, body_seconds: float
) -> list[ControllerRouterHandler]:
    """The handlers.

    Args:
        planner: the planner of the configuration in use.
        body_seconds: how long a client may take to send a body.
    """

    @get("/api/experiments")
    async def list_steps(request: Request[Any, Any, Any]) -> Response[dict[str, object]]:
        gateway.snapshot.keys.require_admin(tuple(request.scope["headers"]))
        return Response(await ask(lambda: _overview(planner(), jobs)))

    @post("/api/experiments/{name:str}", status_code=202)
    async def start_step(
        request: Request[Any, Any, Any], name: FromPath[str]
    ) -> Response[dict[str, object]]:
        gateway.snapshot.keys.require_admin(tuple(request.scope["headers"]))
        step = _step(name)
        start = read_request(_start, await read_small_body(request, seconds=body_seconds) or b"{}")
        payload = await ask(lambda: _begin(planner(), jobs, step, start))
        return Response(payload, status_code=200 if start.dry_run else 202)

    @get("/api/experiments/{name:str}/results")
    async def show_results(
        request: Request[Any, Any, Any], name: FromPath[str]
    ) -> Response[dict[str, object]]:
        gateway.snapshot.keys.require_admin(tuple(request.scope["headers"]))
        step = _step(name)
        results = await asyncio.to_thread(read_results, step, planner().folders)
        return Response({"step": step.name, "results": results})

    @get("/api/jobs")
    async def list_jobs(
        request: Request[Any, Any, Any],
        step: FromQuery[str | None] = None,
        limit: FromQuery[int] = 50,
    ) -> Response[dict[str, object]]:
        gateway.snapshot.keys.require_admin(tuple(request.scope["headers"]))
        if not 1 <= limit <= MAX_JOBS:
            raise InvalidRequest(f"limit must be from 1 to {MAX_JOBS}.", param="limit")
        newest = await ask(lambda: jobs.newest(limit=limit, step=step))
        return Response({"now": time.time(), "jobs": newest})

    @get("/api/jobs/{job_id:str}")
    async def show_job(
        request: Request[Any, Any, Any],
        job_id: FromPath[str],
        after: FromQuery[int | None] = None,
    ) -> Response[dict[str, object]]:
        gateway.snapshot.keys.require_admin(tuple(request.scope["headers"]))
        if after is not None and after < 0:
            raise InvalidRequest("after must be 0 or more.", param="after")
        return Response(await ask(lambda: _job(jobs, job_id, after)))

    @post("/api/jobs/{job_id:str}/cancel", status_code=202)
    async def cancel_job(
        request: Request[Any, Any, Any], job_id: FromPath[str]
    ) -> Response[dict[str, object]]:
        gateway.snapshot.keys.require_admin(tuple(request.scope["headers"]))
        job = await ask(lambda: jobs.cancel(job_id))
        if job is None:
            raise _no_job(job_id)
        return Response({"job": job})

    return [list_steps, start_step, show_results, list_jobs, show_job, cancel_job]


def _step(name: str) -> Step:
    if name not in STEPS_BY_NAME:
        raise NotFound(f"Unknown step '{name}'. Steps: {', '.join(STEPS_BY_NAME)}.", param="step")
    return STEPS_BY_NAME[name]


def _no_job(job_id: str) -> NotFound:
    return NotFound(f"The job '{job_id}' does not exist.", param="job_id")


def _overview(planner: Planner, jobs: Jobs) -> dict[str, object]:
    last = {step.name: jobs.newest(limit=1, step=step.name) for step in STEPS}
    return {
        "now": time.time(),
        "running": jobs.running(),
        "train": {"is_installed": not planner.lacks_extra, "command": INSTALL_COMMAND},
        "steps": [_described(planner, jobs, step, last[step.name]) for step in STEPS],
    }


def _described(planner: Planner, jobs: Jobs, step: Step, last: list[Job]) -> dict[str, object]:
    problems = planner.problems(step)
    parameters = planner.parameters(step)
    return {
        "name": step.name,
        "title": step.title,
        "about": step.about,
        "commands": [f"hybrid-llm-train {command}" for command in step.commands],
        "needs": step.needs,
        "parameters": parameters,
        "is_paid": step.is_paid,
        "results": [f"{name}.json" for name in step.results],
        "estimate": _estimate(
            planner, jobs, step, {item.name: item.default for item in parameters}
        ),
        "problems": problems,
        "can_run": not problems,
        "last": last[0] if last else None,
        "headline": key_figure(step, read_results(step, planner.folders)),
    }


def _estimate(planner: Planner, jobs: Jobs, step: Step, chosen: dict[str, Any]) -> Estimate:
    """The estimate of a step, with the duration of the last run with the same parameters."""
    estimate = planner.estimate(step, chosen)
    for job in jobs.newest(limit=10, step=step.name):
        if job.state == "done" and job.arguments == chosen and job.ended_at and job.started_at:
            seconds = job.ended_at - job.started_at
            return msgspec.structs.replace(estimate, seconds=seconds, basis="last")
    return estimate


def _begin(planner: Planner, jobs: Jobs, step: Step, start: _Start) -> dict[str, object]:
    chosen = planner.resolve(step, start.parameters)
    estimate = _estimate(planner, jobs, step, chosen)
    if start.dry_run:
        return {"estimate": estimate, "parameters": chosen, "problems": planner.problems(step)}
    for problem in planner.problems(step):
        message = problem.message + (f" Run: {problem.command}" if problem.command else "")
        if problem.code == "experiments_disabled":
            raise Forbidden(message, code=problem.code)
        raise Conflict(message, code=problem.code)
    if step.is_paid and estimate.most_usd and (start.accept_usd or 0.0) < estimate.usd:
        raise InvalidRequest(
            f"{step.title} costs about ${estimate.usd:.4f}. Set accept_usd to at least that.",
            param="accept_usd",
            code="cost_not_accepted",
        )
    plan = planner.plan(step, chosen, max_usd=start.accept_usd or 0.0)
    try:
        job = jobs.start(step.name, plan.commands, arguments=chosen, environment=plan.environment)
    except JobRunning as busy:
        other = STEPS_BY_NAME.get(busy.job.step)
        raise Conflict(
            f"{other.title if other is not None else busy.job.step} is "
            f"running ({busy.job.id}); one step runs at a time.",
            code="job_running",
        ) from None
    return {"job": job, "estimate": estimate}


def _job(jobs: Jobs, job_id: str, after: int | None) -> dict[str, object]:
    job = jobs.find(job_id)  # before its log, so that the log of an ended job is complete
    if job is None:
        raise _no_job(job_id)
    log = jobs.read_log(job_id, after=after or 0)
    if after is None and len(log.text) > TAIL_CHARS:
        log = log._replace(text=log.text[-TAIL_CHARS:], start=log.end - TAIL_CHARS)
    return {
        "now": time.time(), "job": job,
        "log": log.text, "log_start": log.start, "log_end": log.end,
    }  # fmt: skip
