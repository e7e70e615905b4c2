"""Keys that the data folder holds, and what is sealed with them."""
