"""How much memory of a GPU a run takes, counted on any machine, by a stand-in for the device."""
