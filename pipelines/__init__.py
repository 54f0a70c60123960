"""When and where: the command line, DVC, Ray clusters. No model code."""
