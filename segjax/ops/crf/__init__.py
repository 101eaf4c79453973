"""The fully connected CRF: energies, filters, inference."""
