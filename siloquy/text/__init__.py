"""Text as every party reads it: words, vocabulary, topics, vectors, ranking."""
