"""Talks to members over HTTP.  Decides nothing: every outcome is returned or raised as a type that says what it was."""
