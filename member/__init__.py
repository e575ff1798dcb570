"""One cluster's build-and-serve stack: builds repositories, launches sessions through its JupyterHub, reports to gateways.

Knows nothing of the gateway but what :mod:`contract` says.  Imports run downward: ``app``, then ``web`` and ``engines``
(which do not import each other), then ``builders``, ``confine`` and ``clients``, then ``settings``, then ``core``.
"""
