"""Runs what cannot be trusted: in a sandbox of bubblewrap where that works, within limits, and gone without a trace.

Knows nothing of repositories, images or notebooks.  Nothing here runs a command of a repository outside a sandbox
unless the operator allowed that (``confine: off``) or the machine cannot do better (``confine: auto``), and then it
says so.
"""
