"""Costs: workers report time; here time becomes money, and every micro-dollar is shown exactly once.

`prices` says what an hour costs, `split` divides without losing a micro, `allocation` hands a worker's time
to the takes it worked on, `time_use` tells what the time was used for, `report` sums all of it up for people.
"""
