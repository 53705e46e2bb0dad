"""The NumPy BN+ReLU network: data, training and what its units become."""
