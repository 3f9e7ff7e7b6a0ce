"""What each kind of job needs: settings in, a filled folder and the words of a command out."""
