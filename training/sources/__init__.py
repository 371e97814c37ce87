"""One module per kind of data set. Each converts its records to rows of training.dataset."""
