"""The settings of every kind of job: one model each, from which form, API and checks follow."""
