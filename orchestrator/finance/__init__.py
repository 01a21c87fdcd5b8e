"""Finance: turns the time that workers report into money, and shows every micro-dollar exactly once.

`prices` says what an hour costs, `allocation` divides a worker's time among the takes it worked on, `books` keeps the
postings, `invoices` reads providers' bills, and `report` and `focus` sum the books up for people and for their tools.
"""
