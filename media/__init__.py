"""Films and pictures as files: opened safely, and read as a player shows them. Imports no other part of the package."""
