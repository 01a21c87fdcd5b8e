"""The shared language: what the control plane and the workers must agree on, and nothing else.

Nouns (specs, tracks, takes), rules (seeds, buckets, tiers, object keys), the messages that cross a queue,
the store, settings and errors. It imports neither side, no torch, no Celery and no SQL.
"""
