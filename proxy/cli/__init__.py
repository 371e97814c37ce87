"""The `hybrid-llm` command: its subcommands, their tables, first-time setup and the demo.

Nothing imports this package.
"""
