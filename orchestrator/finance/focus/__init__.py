"""FOCUS: the books in the public format for cost data, so that other vendors' tools can load them.

Two files describe the same money and must not be loaded together: the *rental* file states the charge for each machine,
the *allocation* file divides it among payers. `columns` names the columns, `measures` counts hours and gigabytes
exactly, `rows` turns the books into rows, `writing` makes the files, and `conformance` checks FOCUS files of any
origin.
"""
