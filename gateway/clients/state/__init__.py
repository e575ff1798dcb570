"""What the replicas of a gateway share: one protocol, kept in this process's memory or in Redis.

Nothing here decides; every method is one atomic step, whoever else is at it.  What must not be read or forged by
whoever holds the store is sealed before it comes here (:mod:`gateway.clients.state.sealing`).
"""
