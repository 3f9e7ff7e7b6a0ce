"""The command line: one file per command. The only part of the library that prints."""
