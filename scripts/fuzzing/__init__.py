"""What is fuzzed, target by target; `scripts/fuzz.py` drives them."""
