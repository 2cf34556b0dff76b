"""`/metrics`: numbers for Prometheus, of this gateway and of its host."""
