"""The nine stages. They do not import each other; they meet in files below `data/`."""
