"""What runs inside JupyterHub: its configuration and spawner.

Imports JupyterHub, its proxy and spawners, traitlets and the standard library only: a chart mounts these files into a
Hub that has nothing else of ours.
"""
