"""How the embedded pocket model is made: a painted world, an autoencoder, a CLIP and a UNet."""
