"""Talks to the JupyterHub.  Decides nothing: every outcome is returned or raised as a type that says what it was."""
