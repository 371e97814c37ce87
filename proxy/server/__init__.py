"""The running process: constructs every component, reloads the configuration, runs the workers.

Only `app` constructs things; everything else receives what it needs as arguments.
"""
