"""What gateway and member are both made with, and that knows nothing of Binder.

Settings from YAML, errors as problem+json, journals as event streams, guarded background tasks, the lifeline to a
supervisor, logging.  Imports ``contract`` and libraries only.
"""
