"""The data plane: takes in, finished audio in the store, facts back on the record queue.

A worker holds a broker URL and object-store rights, and never sees the database.
"""
