"""What is to be made: rows out of files, templates and axes."""
