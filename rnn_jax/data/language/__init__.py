"""Running text, as language models read it: stories become streams of tokens, streams windows."""
