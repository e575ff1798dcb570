"""``/api/v1/admin``: what operators decide while the gateway runs.

:mod:`routes` declares every call with the scope that it needs; who lacks it is refused there, and nowhere else.  Each
act is written down for all replicas, together with who has done so.
"""
