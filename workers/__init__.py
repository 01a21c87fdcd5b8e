"""The data plane: workers receive takes, put finished audio into the store, and send records of the work back.

A worker holds a broker URL and object-store rights, and never sees the database.
"""
