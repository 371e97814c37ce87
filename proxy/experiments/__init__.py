"""Training and evaluation jobs, started by the experiments page: a closed list of steps.

Nothing on a request's path imports this package.
"""

from proxy.experiments.jobs import MAX_JOBS, PIPELINE, Job, JobRunning, Jobs
from proxy.experiments.planner import INSTALL_COMMAND, Estimate, Planner
from proxy.experiments.results import key_figure, read_results
from proxy.experiments.steps import STEPS, STEPS_BY_NAME, Step
from proxy.experiments.supervisor import supervised

__all__ = [
    "INSTALL_COMMAND",
    "MAX_JOBS",
    "PIPELINE",
    "STEPS",
    "STEPS_BY_NAME",
    "Estimate",
    "Job",
    "JobRunning",
    "Jobs",
    "Planner",
    "Step",
    "key_figure",
    "read_results",
    "supervised",
]
