"""One small file per kind of data set: each turns its records into rows of training.dataset."""
