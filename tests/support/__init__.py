"""What the tests share: real servers and processes, small models, load."""
