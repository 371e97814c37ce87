"""The page of experiments for machines: /api/experiments and /api/jobs. For admins only.

GET  /api/experiments                  every step: what it takes, whether it can run, what it found
POST /api/experiments/{step}           start one; with `dry_run` only say what it would do and cost
GET  /api/experiments/{step}/results   what it found, as its commands wrote it
GET  /api/jobs, /api/jobs/{id}         what was started, and what it has printed
POST /api/jobs/{id}/cancel             end it
"""

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar

import msgspec
from litestar import Request, Response, get, post
from litestar.params import FromPath, FromQuery
from litestar.types import ControllerRouterHandler

from proxy.errors import Conflict, Forbidden, InvalidRequest, NotFound, Unavailable
from proxy.experiments.jobs import MAX_JOBS, Job, JobRunning, Jobs
from proxy.experiments.planner import INSTALL_COMMAND, Estimate, Planner
from proxy.experiments.results import key_figure, read_results
from proxy.experiments.steps import STEPS, STEPS_BY_NAME, Step
from proxy.gateway.gateway import Gateway
from proxy.protocol.chat import read_request
from proxy.storage.database import StoreUnavailable
from proxy.web.service_api import read_small

T = TypeVar("T")

TAIL_CHARS: Final = 16_000  # of a log, for who has seen nothing of it yet


class _Start(msgspec.Struct):
    parameters: dict[str, Any] = {}
    accept_usd: Annotated[float, msgspec.Meta(ge=0, le=10_000)] | None = None
    dry_run: bool = False


_start = msgspec.json.Decoder(_Start)


def routes(
    gateway: Gateway, jobs: Jobs, pipeline: Callable[[], Planner]
) -> list[ControllerRouterHandler]:
    """The handlers.

    Args:
        pipeline: the steps, with the configuration of this moment.
    """

    @get("/api/experiments")
    async def list_steps(request: Request[Any, Any, Any]) -> Response[dict[str, object]]:
        gateway.need_admin(tuple(request.scope["headers"]))
        return Response(await _ask(lambda: _overview(pipeline(), jobs)))

    @post("/api/experiments/{name:str}", status_code=202)
    async def start_step(
        request: Request[Any, Any, Any], name: FromPath[str]
    ) -> Response[dict[str, object]]:
        gateway.need_admin(tuple(request.scope["headers"]))
        step = _step(name)
        asked = read_request(_start, await read_small(request) or b"{}")
        told = await _ask(lambda: _begin(pipeline(), jobs, step, asked))
        return Response(told, status_code=200 if asked.dry_run else 202)

    @get("/api/experiments/{name:str}/results")
    async def show_results(
        request: Request[Any, Any, Any], name: FromPath[str]
    ) -> Response[dict[str, object]]:
        gateway.need_admin(tuple(request.scope["headers"]))
        step = _step(name)
        found = await asyncio.to_thread(read_results, step, pipeline().folders)
        return Response({"step": step.name, "results": found})

    @get("/api/jobs")
    async def list_jobs(
        request: Request[Any, Any, Any],
        step: FromQuery[str | None] = None,
        limit: FromQuery[int] = 50,
    ) -> Response[dict[str, object]]:
        gateway.need_admin(tuple(request.scope["headers"]))
        if not 1 <= limit <= MAX_JOBS:
            raise InvalidRequest(f"limit is from 1 to {MAX_JOBS}.", param="limit")
        found = await _ask(lambda: jobs.newest(limit=limit, step=step))
        return Response({"now": time.time(), "jobs": found})

    @get("/api/jobs/{job_id:str}")
    async def show_job(
        request: Request[Any, Any, Any],
        job_id: FromPath[str],
        after: FromQuery[int | None] = None,
    ) -> Response[dict[str, object]]:
        gateway.need_admin(tuple(request.scope["headers"]))
        if after is not None and after < 0:
            raise InvalidRequest("after is 0 or more.", param="after")
        return Response(await _ask(lambda: _job(jobs, job_id, after)))

    @post("/api/jobs/{job_id:str}/cancel", status_code=202)
    async def cancel_job(
        request: Request[Any, Any, Any], job_id: FromPath[str]
    ) -> Response[dict[str, object]]:
        gateway.need_admin(tuple(request.scope["headers"]))
        job = await _ask(lambda: jobs.cancel(job_id))
        if job is None:
            raise _no_job(job_id)
        return Response({"job": job})

    return [list_steps, start_step, show_results, list_jobs, show_job, cancel_job]


async def _ask(question: Callable[[], T]) -> T:
    """What blocks, in a thread."""
    try:
        return await asyncio.to_thread(question)
    except StoreUnavailable as error:
        raise Unavailable(str(error)) from None


def _step(name: str) -> Step:
    if name not in STEPS_BY_NAME:
        raise NotFound(
            f"There is no step '{name}'; there are {', '.join(STEPS_BY_NAME)}.", param="step"
        )
    return STEPS_BY_NAME[name]


def _no_job(job_id: str) -> NotFound:
    return NotFound(f"There is no job '{job_id}'.", param="job_id")


def _overview(pipeline: Planner, jobs: Jobs) -> dict[str, object]:
    last = {step.name: jobs.newest(limit=1, step=step.name) for step in STEPS}
    return {
        "now": time.time(),
        "running": jobs.running(),
        "train": {"is_installed": not pipeline.lacks_extra, "command": INSTALL_COMMAND},
        "steps": [_told(pipeline, jobs, step, last[step.name]) for step in STEPS],
    }


def _told(pipeline: Planner, jobs: Jobs, step: Step, last: list[Job]) -> dict[str, object]:
    problems = pipeline.problems(step)
    parameters = pipeline.parameters(step)
    return {
        "name": step.name,
        "title": step.title,
        "about": step.about,
        "commands": [f"hybrid-llm-train {one}" for one in step.commands],
        "needs": step.needs,
        "parameters": parameters,
        "is_paid": step.is_paid,
        "results": [f"{name}.json" for name in step.results],
        "estimate": _estimate(pipeline, jobs, step, {one.name: one.default for one in parameters}),
        "problems": problems,
        "can_run": not problems,
        "last": last[0] if last else None,
        "headline": key_figure(step, read_results(step, pipeline.folders)),
    }


def _estimate(pipeline: Planner, jobs: Jobs, step: Step, chosen: dict[str, Any]) -> Estimate:
    """What a step takes; the time by the last run with the same choice, where there was one."""
    found = pipeline.estimate(step, chosen)
    for job in jobs.newest(limit=10, step=step.name):
        if job.state == "done" and job.arguments == chosen and job.ended_at and job.started_at:
            seconds = job.ended_at - job.started_at
            return msgspec.structs.replace(found, seconds=seconds, basis="last")
    return found


def _begin(pipeline: Planner, jobs: Jobs, step: Step, asked: _Start) -> dict[str, object]:
    chosen = pipeline.resolve(step, asked.parameters)
    estimate = _estimate(pipeline, jobs, step, chosen)
    if asked.dry_run:
        return {"estimate": estimate, "parameters": chosen, "problems": pipeline.problems(step)}
    for problem in pipeline.problems(step):
        message = problem.message + (f" Run: {problem.command}" if problem.command else "")
        if problem.code == "experiments_disabled":
            raise Forbidden(message, code=problem.code)
        raise Conflict(message, code=problem.code)
    if step.is_paid and estimate.most_usd and (asked.accept_usd or 0.0) < estimate.usd:
        raise InvalidRequest(
            f"{step.title} costs about ${estimate.usd:.4f}: say in accept_usd how much it may, at "
            "least that.",
            param="accept_usd",
            code="cost_not_accepted",
        )
    plan = pipeline.plan(step, chosen, max_usd=asked.accept_usd or 0.0)
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
    job = jobs.find(job_id)  # before its log: of one that has ended that is then whole
    if job is None:
        raise _no_job(job_id)
    log = jobs.read_log(job_id, after=after or 0)
    if after is None and len(log.text) > TAIL_CHARS:
        log = log._replace(text=log.text[-TAIL_CHARS:], start=log.end - TAIL_CHARS)
    return {
        "now": time.time(), "job": job,
        "log": log.text, "log_start": log.start, "log_end": log.end,
    }  # fmt: skip
