"""One cluster's build-and-serve stack: it builds repositories, launches sessions at its JupyterHub, and reports.

Knows nothing of the gateway but what :mod:`contract` says.  Imports run downward: ``app``, then ``web`` and ``engines``
(which do not import each other), then ``builders``, ``confine`` and ``clients``, then ``settings``, then ``core``.
"""
