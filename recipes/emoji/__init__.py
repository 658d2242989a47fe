"""The small models: animated emoji in front of a coloured background, with captions."""
