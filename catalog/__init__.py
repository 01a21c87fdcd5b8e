"""The shared language: everything that the control plane and the workers must agree on, and nothing else.

This package holds the nouns (specs, tracks, takes), the rules (seeds, buckets, tiers, object keys), the messages that
cross a queue, the store, the settings and the errors. It imports neither `orchestrator` nor `workers`, and no torch,
Celery or SQL.
"""
