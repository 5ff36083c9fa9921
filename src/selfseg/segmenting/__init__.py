"""Segmenting: the one loop from a prepared image to labels, for images of any size, sequences and whole folders."""
