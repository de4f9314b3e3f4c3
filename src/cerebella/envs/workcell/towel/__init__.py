"""Six towels, one at a time: fold it, flatten it, or go on folding for half an hour."""
