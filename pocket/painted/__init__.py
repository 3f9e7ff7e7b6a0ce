"""The painted world that the embedded model learned from: captioned pictures of emoji."""
