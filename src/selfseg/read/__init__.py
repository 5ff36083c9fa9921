"""Reading: files and arrays in, images with axes and spacing out."""
