"""Releases in a Kubernetes cluster, with kubectl.

cluster.py     the steps: check access, migrate, one canary pod, smoke, the rest, rollback
manifests.py   the canary Deployment and the migration Job, made from what the cluster and the overlay have
"""
