"""How many wrong lines do the tests notice? `python -m tests.mutation orthodiff/ops --sample 60`.

cosmic-ray makes the mutants; which tests can notice one is known from the lines that each test
runs. One process imports everything and collects all tests. For each mutant it forks, gives the
functions in the fork the wrong code, and runs only those tests there: a mutant takes as long as its
tests. What runs when a module is imported is tried in forks of a process that has imported nothing
of ours, one to two seconds each.
"""
