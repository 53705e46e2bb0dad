"""The torch backend: the papers' convolutional networks under the simulator's configuration."""
