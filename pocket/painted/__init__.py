"""The painted world that the embedded model learned from: captioned images of emoji."""
