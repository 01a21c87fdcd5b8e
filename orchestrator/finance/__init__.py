"""Finance: workers report time; here time becomes money, and every micro-dollar is shown exactly once.

`prices` says what an hour costs, `allocation` hands a worker's time to the takes it worked on, `books` keeps what was
posted, `invoices` reads what providers bill, `report` and `focus` sum all of it up for people and for their tools.
"""
