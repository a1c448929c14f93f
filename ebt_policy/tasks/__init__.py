"""What `fit` trains: modules with `loss(batch)`."""
