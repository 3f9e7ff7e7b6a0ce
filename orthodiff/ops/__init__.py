"""Pure tensor maths: orthogonal maps and the group of rotations."""
