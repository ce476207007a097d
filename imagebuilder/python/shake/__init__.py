"""What a program reaches of the library, and what can be left out."""
