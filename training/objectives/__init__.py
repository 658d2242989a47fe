"""What is learned: the losses of each family."""
