"""The trainings of the embedded model: autoencoder, text tower and scorer, UNet, segmenter."""
