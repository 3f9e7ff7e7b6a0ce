"""How many wrong lines do the tests notice? `python -m tests.mutation orthodiff/ops`.

cosmic-ray makes the mutants; which tests can notice one is known from the lines that each test
runs. Only those are run, in a fork of a process that has torch loaded, so a mutant takes a second.
"""
