"""The federation's rules: what is believed of each member, and who takes a launch.

Pure: nothing below does I/O, reads a clock or draws a random number; times and draws are passed in.  To be read in this
order: ``settings`` (what an operator may tune), ``outcomes`` (what becomes of a member's launches), ``fleet`` (what is
believed), ``transitions`` (how belief changes), ``rules`` and ``policies`` (who may, and who should), ``decision`` (who
takes a launch), ``retries`` (and how soon it goes on).
"""
