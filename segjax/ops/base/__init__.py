"""What several subjects of `segjax.ops` stand on."""
