"""Keys in the data folder, and encryption with them."""
