"""Files in and out: images, atomic writes, hashes, metadata, the hub."""
