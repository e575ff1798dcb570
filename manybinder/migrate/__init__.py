"""Leaving a BinderHub: its configuration as settings of ours (``manybinder migrate``).

What BinderHub knows is in tables (:mod:`~manybinder.migrate.traits`, :mod:`~manybinder.migrate.chart_values`): one row
for each trait and each value of its chart.  The rest reads files, applies rows, checks what has come of them with the
settings' own parser, and writes it.
"""
