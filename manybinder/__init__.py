"""The command line, and ``up``: a whole federation on this machine.

The only package that sees both gateway and member, and it holds the logic of neither: it reads settings, runs processes
under a supervisor, and speaks to a gateway through its public API alone.  People read standard error; standard output
is for what a script wants.
"""
