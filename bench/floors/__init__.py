"""What the product is held against: the least that does the same work. Each file is a program of its own."""
