"""The container builder: repo2docker makes images with Docker or Podman, and DockerSpawner starts sessions from them.

repo2docker reads the repository in the sandbox of :mod:`member.confine`, where nothing of this machine is but the
engine's socket; what the repository says to run, runs in the engine's build containers.
"""
