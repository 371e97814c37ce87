"""Training and evaluation jobs, started by the experiments page: a closed list of steps.

Nothing on a request's path imports this package.
"""
