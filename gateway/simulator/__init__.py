"""The simulator: launches replayed through the gateway's own rules, in virtual time.

What decides is what decides in production: :func:`gateway.core.decision.decide` and :mod:`gateway.core.transitions`.
Members are models (``model``), and what a launch does between attempts (``replay``) follows
:mod:`gateway.engines.journey`, but for a few simplifications (docs/simulator.md).  No clock is read here, and all
chance comes from a seed.

To be read in this order: ``trace`` (which launches), ``setup`` (which federation), ``model``, ``belief``, ``replay``,
``results``.
"""
