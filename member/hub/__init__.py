"""What runs inside JupyterHub: its configuration, spawner and routes.

Imports JupyterHub, its proxy and spawners, traitlets, bcrypt and the standard library only: a chart mounts these files
into a Hub that has nothing else of ours.
"""
