"""Text and tokens: the tokenizer, incremental detokenising, stop strings."""
