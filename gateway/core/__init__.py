"""The federation's rules: what is believed of each member, and who takes a launch.

Pure: nothing below does I/O, reads a clock or draws a random number; times and draws are passed in.  To be read in this
order: ``settings`` (what an operator may tune), ``outcomes`` (what becomes of a member's launches), ``fleet`` (what is
believed), ``transitions`` (how belief changes), ``rules`` and ``policies`` (who may, and who should), ``decision`` (who
takes a launch), ``retries`` (and how soon it goes on).

Beside them: ``launch`` and ``launch_records`` (a launch, and as text for other replicas), ``facts`` (what replicas tell
each other), ``admission``, ``addresses`` and ``records`` (who may launch, and what operators have decided),
``launch_events`` and ``redaction`` (what of a launch everybody may see), and small ones that say themselves what they
are.
"""
