"""The Kubernetes builder: repo2docker in pods of the cluster, and what room the cluster has for sessions.

All state is the cluster's own.  A build is a pod whose name says what it builds, so that a member that restarts, and
each of several replicas, finds the builds that run; annotations say who follows them.
"""
