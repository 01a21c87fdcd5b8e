"""FOCUS: the books in the public format of cost data, for tools that are not ours.

Two files describe the same money and are never loaded together: *rental* says what was charged for which machine,
*allocation* says for whom. `columns` names what they hold, `measures` counts hours and gigabytes exactly, `rows` maps
the books to rows, `writing` makes the files and `conformance` checks them, ours or anybody's.
"""
