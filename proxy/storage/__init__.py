"""The database behind `storage.url`: tables, migrations, the row writer, rollups and queries.

This package does not know prices, budgets or how the quality of an answer is estimated.
"""
