"""How a step is computed: eagerly, or on a CPU from a recording."""
